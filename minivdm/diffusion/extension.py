r"""Going on from frames that are there already: a longer clip, from a model that was never trained for it.

A model of whole clips knows how frames belong together. To go on from K given frames, sample a clip of F frames and see
to it that its first K come out as given. Putting them in is easy. The others must also *take notice* of them, and that
is what the gradient is for (Ho et al., "Video Diffusion Models", NeurIPS 2022, section 3.1).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .forward_process import to_x0
from .gradients import outside_inference_mode
from .predictions import to_eps
from .samplers import ddim_sample
from .schedules import NoiseSchedule, per_sample, require_data


class ReconstructionGuidance:
    r"""A model of clips whose first K frames are known.

    Ho et al., "Video Diffusion Models", NeurIPS 2022, section 3.1, eq. 7. With a for the known
    frames, b for all later ones, and x0 the clean clip that the model's eps implies (`to_x0`):

        e_i = || known - x0_a ||^2            the sum over all known elements of clip i
        x0_b <- x0_b - weight alpha_t / 2  grad e_i,        the gradient is that by x_t's frames b
        x0_a <- known
        eps = what x_t and this new x0 imply (`to_eps`),      alpha_t = sqrt(alpha_bar_t)

    So if the later frames could make the model see the known ones better, they move that way. With
    weight 0 they do not: that is the "replacement method". The known frames have the known noise
    at each step of a DDIM walk (eta = 0) and end as they were given. Each clip has a level of its
    own: `per_sample(table, t, x)` reads the table at those levels, ready to multiply with x.

    Args:
        model: `model(x, t, cond)` returns an estimate of eps, like x; differentiable in x. May be
            guided by a prompt.
        schedule: the `NoiseSchedule` of the model.
        known: (B, C, K, H, W), the first K frames of each of the B clips, clean.
        weight: w_r of the paper, 0 or more.

    Called as `guided(x, t, cond)` with x (B, C, F, H, W) and levels t (B,) in 1..T, also where
    gradients are switched off; returns eps, like x, without a gradient. The gradients of the
    model's weights are left as they are.
    Raises a ValueError unless known holds floats and has the B, C, H and W of x, K < F, and weight
    is 0 or more.
    """

    def __init__(self, model: "Callable", schedule: "NoiseSchedule", known: Tensor, weight: float):
        require_data(known, schedule)
        if not 0 <= weight < float("inf"):
            raise ValueError(f"the weight must be a finite number, 0 or more; got {weight}")
        self.model, self.schedule, self.known, self.weight = model, schedule, known, weight

    @outside_inference_mode
    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        k = self.known.shape[2]
        if self.known.shape != x[:, :, :k].shape or k >= x.shape[2]:
            came = f"{tuple(self.known.shape)} for clips {tuple(x.shape)}"
            raise ValueError(f"expected the first K of F > K frames, got {came}")
        with torch.enable_grad():  # samplers switch gradients off
            x = x.detach().requires_grad_()
            x0 = to_x0(x, t, self.model(x, t, cond), self.schedule)
            error = (self.known - x0[:, :, :k]).square().sum()
            (slope,) = torch.autograd.grad(error, x)
        alpha = per_sample(self.schedule.alpha_bar, t, x).sqrt()  # (B, 1, 1, 1, 1)
        later = (x0 - self.weight * alpha / 2 * slope)[:, :, k:]
        x0 = torch.cat([self.known, later], dim=2).detach()
        return to_eps(x.detach(), t, x0, self.schedule)


def extend(
    video: Tensor,
    model: "Callable",
    noise: Tensor,
    schedule: "NoiseSchedule",
    overlap: int,
    levels: "Sequence[int] | None" = None,
    cond: Tensor | None = None,
    weight: float = 10.0,
) -> Tensor:
    """A longer clip: sample one that begins with a video's last frames, and put the rest behind it.

    Ho et al., "Video Diffusion Models", NeurIPS 2022, section 3.1.

    Args:
        video: (B, C, N, H, W) in [-1, 1], N >= overlap.
        model: `model(x, t, cond)` returns an estimate of eps; differentiable in x.
        noise: (B, C, F, H, W) standard normal; F is the number of frames that the model samples.
        schedule: a `NoiseSchedule`.
        overlap: K, how many of the F frames are the last ones of the video, 1..F - 1.
        levels, cond: as for `ddim_sample`, which clips each estimate of x_0 here.
        weight: of `ReconstructionGuidance`.

    Returns:
        (B, C, N + F - overlap, H, W): the video as it was, up to rounding, and F - overlap new
            frames.

    Raises:
        ValueError: if overlap is not in 1..min(N, F - 1).
    """
    most = min(video.shape[2], noise.shape[2] - 1)
    if not 1 <= overlap <= most:
        raise ValueError(f"overlap must lie in 1..{most}, got {overlap}")
    guided = ReconstructionGuidance(model, schedule, video[:, :, -overlap:], weight)
    new = ddim_sample(guided, noise, schedule, levels, cond, clip_x0=True)
    return torch.cat([video, new[:, :, overlap:]], dim=2)
