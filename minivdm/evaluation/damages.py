"""Eight ways to damage clips, to find out which metric notices: clips (B, 3, F, H, W) in [-1, 1] in and out.

None changes its input. What is random is drawn from a generator on the clips' device.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


def blur(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Each pixel becomes the mean of 3 x 3, twice."""
    flat = rearrange(clips, "b c f h w -> (b f) c h w")
    for _ in range(2):
        flat = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return rearrange(flat, "(b f) c h w -> b c f h w", b=len(clips))


def noise(clips: Tensor, generator: torch.Generator, strength: float = 0.3) -> Tensor:
    """Gaussian noise that nobody can overlook."""
    return clips + strength * torch.randn(clips.shape, generator=generator, device=clips.device)


def grain(clips: Tensor, generator: torch.Generator) -> Tensor:
    """The same, six times weaker."""
    return noise(clips, generator, 0.05)


def flicker(clips: Tensor, generator: torch.Generator) -> Tensor:
    """The brightness of each whole frame goes up or down, as if a lamp had a loose contact."""
    b, _, f = clips.shape[:3]
    return clips + 0.08 * torch.randn(b, 1, f, 1, 1, generator=generator, device=clips.device)


def shuffled(clips: Tensor, generator: torch.Generator) -> Tensor:
    """The frames of each clip in an order of its own."""
    b, _, f = clips.shape[:3]
    order = torch.rand(b, f, generator=generator, device=clips.device).argsort(dim=1)  # (B, F)
    return clips.gather(2, order[:, None, :, None, None].expand_as(clips))


def frozen(clips: Tensor, generator: torch.Generator) -> Tensor:
    """One frame of each clip, all the time."""
    b, _, f = clips.shape[:3]
    pick = torch.randint(f, (b,), generator=generator, device=clips.device)
    index = pick[:, None, None, None, None].expand(-1, clips.shape[1], f, *clips.shape[3:])
    return clips.gather(2, index)


def reversed_(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Each clip backwards."""
    return clips.flip(2)


def cut(clips: Tensor, generator: torch.Generator) -> Tensor:
    """From its middle on, each clip is another one of the batch."""
    half = clips.shape[2] // 2
    return torch.cat([clips[:, :, :half], clips.roll(1, dims=0)[:, :, half:]], dim=2)


DAMAGES = {
    "blur": blur,
    "noise": noise,
    "grain": grain,
    "flicker": flicker,
    "shuffled": shuffled,
    "frozen": frozen,
    "reversed": reversed_,
    "cut": cut,
}
