"""What the checks of chapter 11 share: tiny stages, and stages whose answers are known."""

import torch
from torch import nn

from minivdm.pipelines.stages import stage_schedule
from minivdm.pipelines.text2video import VideoModel

LEVELS = 1000


class Listening(nn.Module):
    """A network that notes what it is told, and answers with a known x_0."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.heard, self.embedding_dim = answer, [], 0

    def forward(self, x, t, cond):
        self.heard.append((x.detach().clone(), t.clone(), cond.detach().clone()))
        return self.answer(x, t, cond)


def known_stage(answer, frames=1, size=8):
    """A `VideoModel` that estimates x_0 by `answer(x, t, cond)`; its `.net.heard` lists its calls."""
    return VideoModel(Listening(answer), stage_schedule(), frames, size, "x0")


def unit_rows(draw, *shape):
    """Random unit vectors."""
    return nn.functional.normalize(draw.normal(*shape), dim=-1)


def share_of_noise(level):
    """Standard deviation of the noise over that of the data at a level of the stages' schedule, in closed form."""
    angle = lambda t: (t / LEVELS + 0.008) / 1.008 * torch.pi / 2  # noqa: E731
    alpha_bar = (torch.cos(torch.tensor(angle(level))) / torch.cos(torch.tensor(angle(0)))) ** 2
    return (1 / alpha_bar - 1).clamp(min=0).sqrt().item()
