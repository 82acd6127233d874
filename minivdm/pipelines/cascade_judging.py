r"""How good is each stage of a cascade? On real clips with something left out, and on prompts.

On real clips the truth is known, so each stage stands beside what needs no network: weighted means of the known frames,
and bicubic enlargement. On prompts a judge, trained on drawn clips alone, says what it sees.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..datasets.degradation import enlarge, linear_frames, shrink
from ..datasets.sprites import ATTRIBUTES, MovingSprites
from ..evaluation.attribute_classifier import AttributeClassifier
from ..evaluation.flicker import flicker
from ..evaluation.metrics import psnr
from ..evaluation.perceptual import perceptual_distance
from .cascade import TextToVideo, Walk
from .interpolation import interpolate_frames
from .super_resolution import FACTOR, upscale
from .text2video import VideoModel

SIDES = 32, 64  # pixels in a row at which the judge looks for mini-FVD


def compared(made: Tensor, plain: Tensor, truth: Tensor, judge: AttributeClassifier) -> dict[str, float]:
    """PSNR in dB, perceptual distance and flicker of what a stage made, and of what needs no network.

    Args:
        made, plain, truth: (B, 3, F, H, W) in [-1, 1].
        judge: see `perceptual_distance`.

    Returns:
        A dict: "psnr", "psnr_plain", "perceptual", "perceptual_plain", "flicker", "flicker_plain".
    """
    facts = {}
    for name, clips in (("", made), ("_plain", plain)):
        facts[f"psnr{name}"] = psnr((clips + 1) / 2, (truth + 1) / 2)
        facts[f"perceptual{name}"] = perceptual_distance(judge, clips, truth).mean().item()
        facts[f"flicker{name}"] = flicker(clips, truth).mean().item() if truth.shape[2] > 1 else 0.0
    return facts


def judge_interpolation(
    model: VideoModel,
    clips: Tensor,
    judge: AttributeClassifier,
    skip: int = 2,
    steps: int = 8,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """`compared` with weighted means, on the frames that were not known, of real clips (B, 3, F, H, W)."""
    truth = shrink(clips, clips.shape[-1] // model.size)
    known = truth[:, :, ::skip]
    hidden = torch.arange(truth.shape[2]) % skip != 0
    made = interpolate_frames(model, known, skip, steps, generator)[:, :, hidden]
    return compared(made, linear_frames(known, skip, truth.shape[2])[:, :, hidden], truth[:, :, hidden], judge)


def judge_upscaling(
    model: VideoModel,
    clips: Tensor,
    judge: AttributeClassifier,
    level: int = 0,
    steps: int = 8,
    generator: torch.Generator | None = None,
) -> dict[str, float]:
    """`compared` with bicubic enlargement, for real clips (B, 3, F, H, W) of at least the size of what is made."""
    truth = shrink(clips, clips.shape[-1] // model.size)
    low = shrink(truth, FACTOR)
    made = upscale(model, low, level, steps, generator)
    return compared(made, enlarge(low, FACTOR).clamp(-1, 1), truth, judge)


def hears_its_level(
    model: "VideoModel",
    clips: Tensor,
    levels: "Sequence[int]" = (0, 200),
    generator: torch.Generator | None = None,
) -> bool:
    """Whether a stage of super-resolution makes use of the level that it is told.

    It does if, under noise of each of two levels, its clips are nearer to the truth when it is told
    the true level than when it is told the other one: by more than chance, and for both levels.

    Args:
        model: the stage. `upscale(model, low, level, steps, generator, told_level=...)` runs it on
            small clips under noise of one level, and tells it another.
        clips: (B, 3, F, H, W) real ones in [-1, 1], as large as those that it makes, B >= 8.
        levels: two levels of noise.
        generator: `torch.Generator` on the clips' device.

    Returns:
        True or False.
    """
    low = shrink(clips, FACTOR)
    for level, other in (levels, levels[::-1]):
        seed = torch.randint(2**31, (), generator=generator, device=clips.device).item()
        errors = []
        for told_level in (level, other):
            again = torch.Generator(clips.device).manual_seed(seed)  # the same noise for both
            made = upscale(model, low, level, 1, again, told_level=told_level)
            errors.append((made - clips).square().flatten(1).mean(dim=1))
        gain = errors[1] - errors[0]  # (B,)
        if not gain.mean() > 2 * gain.std() / len(gain) ** 0.5:
            return False
    return True


@torch.no_grad()
def judge_prompts(
    cascade: TextToVideo,
    triples: Tensor,
    judge: AttributeClassifier,
    walk: Walk | None = None,
    generator: torch.Generator | None = None,
    batch: int = 8,
) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
    """What the judge sees in the clips of each stage.

    Args:
        cascade: the cascade, on the judge's device.
        triples: (N, 3) long, which shape, colour and motion the prompts ask for.
        judge: the `AttributeClassifier` from `load_pretrained("video_classifier")`.
        walk: see `TextToVideo`.
        generator: `torch.Generator` on that device.
        batch: clips at a time.

    Returns:
        A dict from "key_frames", "interpolation", "spatiotemporal" and "spatial" to (N, 3) long attributes that were
        seen, on the CPU; compare with `triples`. And the judge's features (N, D) of the last stage's clips, on the CPU,
        when it looks at `SIDES` pixels in a row.
    """
    prompts, seen, features = MovingSprites.captions(MovingSprites(), triples), {}, {side: [] for side in SIDES}
    for i in range(0, len(prompts), batch):
        made = cascade.stages(prompts[i : i + batch], walk, generator)
        for stage, clips in made.items():
            if clips.ndim == 5:
                seen.setdefault(stage, []).append(attributes_in(clips, judge).cpu())
        for side in SIDES:
            features[side].append(features_of(made["spatial"], judge, side))
    return tuple({name: torch.cat(parts) for name, parts in each.items()} for each in (seen, features))


@torch.no_grad()
def attributes_in(clips: Tensor, judge: AttributeClassifier, batch: int = 32) -> Tensor:
    """The attributes (N, 3) long that the judge sees in clips of any size (see `as_judged`), so many at a time."""
    parts = [judge(as_judged(part)) for part in clips.split(batch)]
    return torch.cat([torch.stack([logits.argmax(dim=1) for logits in each], dim=1) for each in parts])


@torch.no_grad()
def features_of(clips: Tensor, judge: AttributeClassifier, side: int = 32, batch: int = 16) -> Tensor:
    """The judge's features (N, D) of clips of any size (see `as_judged`), on the CPU: what mini-FVD compares.

    It was trained on 32 pixels in a row. With 64 it looks at each edge more closely, and at no sprite as a whole.
    """
    return torch.cat([judge.features(as_judged(part, side)).cpu() for part in clips.split(batch)])


def as_judged(clips: Tensor, size: int = 32, frames: int = 16) -> Tensor:
    """Clips of any size as the judge was trained to see them: large ones are averaged, small ones enlarged, and frames
    repeated."""
    if clips.shape[-1] > size:
        clips = shrink(clips, clips.shape[-1] // size)
    elif clips.shape[-1] < size:
        clips = enlarge(clips, size // clips.shape[-1]).clamp(-1, 1)
    return F.interpolate(clips, (frames, size, size))  # the nearest frame in time


def shares_right(seen: Tensor, triples: Tensor) -> dict[str, float]:
    """Which share of clips shows what was asked for: each attribute, and shape and colour together."""
    right = seen == triples.cpu()
    shares = {kind: right[:, i].float().mean().item() for i, kind in enumerate(ATTRIBUTES)}
    return {**shares, "shape and colour": right[:, :2].all(dim=1).float().mean().item()}
