"""What several checks of chapter 10 share: hints, and a model whose gradients are found by differences."""

from itertools import pairwise

import torch
from torch.func import functional_call

from .common import column

FRAMES = 4

# Mistakes that all layers along time invite: a label and a hint each.
LAYOUT = (
    "frames and clips mixed up",
    'The batch is taken apart as "(f b)". The frames of a clip lie one after the other: "(b f)", both on the '
    "way in and back.",
)
BACK = ("mixed up on the way back", 'On the way back the batch is put together as "(f b)". It was "(b f)".')


def on_clips(layer, clips, independent):
    """A layer along time as a function of clips (B, F, C, H, W), with its weights among the arguments."""

    def call(clips, independent_frames, **weights):
        given = clips.flatten(0, 1), clips.shape[1], independent_frames
        return functional_call(layer, weights, given).unflatten(0, clips.shape[:2])

    weights = {key: weight.detach() for key, weight in layer.named_parameters()}
    return call, dict(clips=clips, independent_frames=torch.tensor(independent), **weights)


class Smooth(torch.nn.Module):
    """An estimate of eps in which every frame and pixel depends on all others, on the level and on the condition."""

    def __init__(self, draw):
        super().__init__()
        self.mix = torch.nn.Parameter(0.6 * draw.normal(2 * FRAMES, 2 * FRAMES))
        self.table = draw.normal(20, 2 * FRAMES)

    def forward(self, x, t, cond=None):
        told = 0 if cond is None else self.table.to(x.dtype)[cond[:, 0]]
        h = torch.tanh(x.flatten(1) @ self.mix.to(x.dtype) + told + 0.1 * t[:, None].to(x.dtype))
        return h.reshape(x.shape)


@torch.no_grad()
def by_differences(model, x, t, cond, ab, known, weight, h=1e-4):
    """Eq. 7 with the gradient by central differences, one element after the other, in float64: the new x0, and eps."""
    x, known, keep, k = x.double(), known.double(), column(ab, t, x), known.shape[2]

    def clean(x):
        return (x - (1 - keep).sqrt() * model(x, t, cond)) / keep.sqrt()

    def error(x):
        return (known - clean(x)[:, :, :k]).square().flatten(1).sum(1)  # (B,)

    slope = torch.zeros_like(x)
    for element in torch.eye(x[0].numel(), dtype=torch.float64).reshape(-1, 1, *x.shape[1:]):
        rise = (error(x + h * element) - error(x - h * element)) / (2 * h)
        slope += element * rise[:, None, None, None, None]
    x0 = clean(x) - weight * keep.sqrt() / 2 * slope
    x0[:, :, :k] = known
    return x0, (x - keep.sqrt() * x0) / (1 - keep).sqrt()


def walk(model, x, levels, cond, ab, known, weight):
    """A clipped DDIM walk with reconstruction guidance by differences, float64."""
    x = x.double()
    for t, s in pairwise(levels):
        x0 = by_differences(model, x, torch.full((len(x),), t), cond, ab, known, weight)[0].clamp(-1, 1)
        x = ab[s] ** 0.5 * x0 + (1 - ab[s]) ** 0.5 * (x - ab[t] ** 0.5 * x0) / (1 - ab[t]) ** 0.5
    return x
