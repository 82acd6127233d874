r"""What a stage of a cascade starts from, made of *real* clips: fewer pixels, fewer frames.

Each stage is trained apart (Ho et al., "Cascaded Diffusion Models", JMLR 2022): the clip that it is to make is taken
from the data, and the clip that it is given is the same with something left out. What an earlier stage would have made
is not needed, and would not fit: it shows another sprite than any clip of the data.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F


def shrink(x: Tensor, factor: int) -> Tensor:
    """Pictures (B, C, H, W) or clips (B, C, F, H, W) with each factor x factor square of pixels as one, its mean.

    Raises:
        ValueError: if height or width is no multiple of the factor.
    """
    if x.shape[-2] % factor or x.shape[-1] % factor:
        raise ValueError(f"height and width must be multiples of {factor}, got {tuple(x.shape[-2:])}")
    return F.avg_pool2d(x.flatten(0, -4), factor).unflatten(0, x.shape[:-3])


def enlarge(x: Tensor, factor: int) -> Tensor:
    """Pictures or clips with `factor` times the height and width, bicubic, frame by frame; may overshoot a little."""
    flat = x.transpose(1, 2).flatten(0, 1) if x.ndim == 5 else x  # (B F, C, H, W)
    flat = F.interpolate(flat, scale_factor=float(factor), mode="bicubic")
    return rearrange(flat, "(b f) c h w -> b c f h w", b=len(x)) if x.ndim == 5 else flat


def known_frames(frames: int, skip: int) -> int:
    """How many of so many frames are known if those in the places 0, skip, 2 skip, .. are."""
    return (frames - 1) // skip + 1


def spread_frames(known: Tensor, skip: int, frames: int) -> Tensor:
    """A clip (B, C, F, H, W) with the known frames (B, C, K, H, W) in the places 0, skip, 2 skip, ..; 0 elsewhere.

    Raises:
        ValueError: if K is not the number of known frames, (F - 1) // skip + 1.
    """
    needed = known_frames(frames, skip)
    if known.ndim != 5 or known.shape[2] != needed:
        came = f"got shape {tuple(known.shape)}"
        raise ValueError(f"every frame in {skip} of {frames} are {needed} frames, (B, C, {needed}, H, W), {came}")
    clip = known.new_zeros(*known.shape[:2], frames, *known.shape[3:])
    clip[:, :, ::skip] = known
    return clip


def guessed_frames(clip: Tensor, skip: Tensor) -> Tensor:
    r"""What an interpolation starts from: known frames, a first guess of the others, and a mask.

    Singer et al., "Make-A-Video", ICLR 2023, section 3.3, have zeros in the place of the guess.

    Equation:
        p = skip floor(f / skip),  the last known place up to f;    w = (f - p) / skip
        guess_f = (1 - w) clip_p + w clip_{p + skip};   clip_p where p + skip >= F
        mask_f = 1 where w = 0, else 0
        out = [ guess; mask ],        along the channels

    Frames in the places 0, skip, 2 skip, .. are known, and stay as they are. A frame between two
    known ones is guessed as their mean, the nearer one counting more: in proportion to the way.
    Behind the last known frame, it is guessed that nothing changes. Whatever the clip holds in the
    places that are not known, NaN included, has no effect. The mask tells what is known from what
    is guessed.

    Args:
        clip: (B, C, F, H, W).
        skip: (B,) long, at least 1: for each clip, frames from one known frame to the next.

    Returns:
        (B, C + 1, F, H, W), like clip: C channels of pictures, then the mask.

    Raises:
        ValueError: if clip is no clip, or there is no skip for each.
    """
    if clip.ndim != 5 or skip.shape != clip.shape[:1]:
        came = f"{tuple(clip.shape)} and {tuple(skip.shape)}"
        raise ValueError(f"expected clips (B, C, F, H, W) and a skip for each, got shapes {came}")
    place, skip = torch.arange(clip.shape[2], device=clip.device), skip[:, None]  # (F,), (B, 1)
    before = place - place % skip  # (B, F)
    after = torch.where(before + skip < len(place), before + skip, before)
    share = ((place - before) / skip).to(clip)[:, :, None, None, None]  # (B, F, 1, 1, 1)
    frames, rows = clip.transpose(1, 2), torch.arange(len(clip), device=clip.device)[:, None]
    guess = torch.lerp(frames[rows, before], frames[rows, after], share)  # (B, F, C, H, W)
    mask = (share == 0).to(clip).expand_as(guess[:, :, :1])
    return torch.cat([guess, mask], dim=2).transpose(1, 2)


def linear_frames(known: Tensor, skip: int, frames: int) -> Tensor:
    """The frames between known ones as weighted means of their two neighbours; the last known one stays to the end.

    Args:
        known, skip, frames: as for `spread_frames`.

    Returns:
        (B, C, F, H, W), like known: what an interpolation has to be better than.
    """
    clip = spread_frames(known, skip, frames)
    return guessed_frames(clip, torch.full(clip.shape[:1], skip, device=clip.device))[:, :-1]
