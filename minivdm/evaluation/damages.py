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


def warped(clips: Tensor, generator: torch.Generator, trembling: bool = False, strength: float = 0.15) -> Tensor:
    """Clips seen through uneven glass: the same glass for all frames of a clip, or, `trembling`, another for each.

    A frame by itself looks alike in both; what differs is whether it stands still. `strength` is the standard deviation
    of the shift at 5 x 5 places, in half widths of a frame; smooth in between.
    """
    b, _, f, h, w = clips.shape
    glasses = torch.randn(b, 2, f if trembling else 1, 5, 5, generator=generator, device=clips.device)
    glasses = rearrange(glasses.expand(-1, -1, f, -1, -1), "b c f h w -> (b f) c h w")
    shift = F.interpolate(strength * glasses, (h, w), mode="bicubic", align_corners=True)
    here = F.affine_grid(torch.eye(2, 3).to(clips).expand(b * f, -1, -1), (b * f, 3, h, w), align_corners=False)
    flat = rearrange(clips, "b c f h w -> (b f) c h w")
    seen = F.grid_sample(flat, here + shift.movedim(1, 3), padding_mode="border", align_corners=False)
    return rearrange(seen, "(b f) c h w -> b c f h w", b=b)


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
