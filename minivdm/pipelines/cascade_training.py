r"""How each stage of a cascade is trained: apart from the others, on real data with something left out.

    stage            is to make              and is given
    clip             which caption belongs to which picture
    prior            an image embedding      the embedding of a caption of that picture
    decoder          a picture of 16 x 16    the embedding of that picture
    key_frames       8 frames                the embedding of one of them, and the frame rate
    interpolation    16 frames               some of them in their places, and a guess of the others
    spatiotemporal   a clip of 32 x 32       the same clip of 16 x 16 under noise, and how much
    spatial          a frame of 64 x 64      the same frame of 32 x 32 under noise, and how much

Each batch is drawn by a function of its own; the loss is that of chapters 02 and 08.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..datasets.degradation import guessed_frames, shrink
from ..diffusion.predictions import EpsModel, prediction_loss
from ..models.clip import CLIP, clip_loss
from ..models.prior_net import drop_embedding
from ..training.ema import EMA
from ..training.loop import train
from .cascade_data import PhotoPool, QuietClips, one_of, picks
from .control_training import hinted_loss
from .decoder import STILL
from .interpolation import GUESSED_CHANNELS
from .prior import to_unit_variance
from .stages import told
from .super_resolution import FACTOR, MAX_LEVEL, augmented

STAGES = "clip", "prior", "decoder", "key_frames", "interpolation", "spatiotemporal", "spatial"
KEY_FRAME_SKIPS = range(1, 3)  # of key frames: frames of the recording from one to the next
KNOWN_SKIPS = range(2, 5)  # of known frames, when the others are to be found
DROPPED = 0.1  # share of embeddings that are taken away


class Matching(nn.Module):
    """A `CLIP` in the form in which `train` calls a network: `forward(pictures, t, tokens)` is its loss on a batch."""

    def __init__(self, clip: CLIP):
        super().__init__()
        self.clip = clip

    def forward(self, x: Tensor, t: Tensor | None, cond: Tensor) -> Tensor:
        return clip_loss(self.clip.embed_images(x), self.clip.embed_texts(cond), self.clip.scale())


def matching_loss(net: Callable, x0: Tensor, schedule: object, cond: Tensor, generator: torch.Generator) -> Tensor:
    """The loss of `Matching`, in the form in which `train` asks for one; there is no noise in it."""
    return net(x0, torch.zeros(len(x0), device=x0.device), cond)


def clip_batch(photos: PhotoPool, generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
    """n pictures (n, 3, 32, 32) and their captions' tokens, (n, L)."""
    return photos.pairs(generator, n)


@torch.no_grad()
def prior_batch(clip: CLIP, photos: PhotoPool, generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
    """n image embeddings (n, E), and the text embeddings of their captions, some of them dropped; of unit variance."""
    pictures, tokens = photos.pairs(generator, n)
    texts = to_unit_variance(clip.embed_texts(tokens))
    return to_unit_variance(clip.embed_images(pictures)), drop_embedding(texts, texts.shape[1], DROPPED, generator)


@torch.no_grad()
def decoder_batch(clip: CLIP, photos: PhotoPool, generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
    """n pictures (n, 3, 16, 16), and what the decoder is told: their embeddings and that nothing moves."""
    pictures = photos.pictures(generator, n)
    embeddings = clip.embed_images(pictures)
    cond = drop_embedding(told(embeddings, STILL), embeddings.shape[1], DROPPED, generator)
    return shrink(pictures, 2), cond


@torch.no_grad()
def key_frame_batch(
    clip: "CLIP",
    quiet: "QuietClips",
    generator: torch.Generator,
    n: int,
    frames: int = 8,
) -> tuple[Tensor, Tensor]:
    """What the decoder of key frames learns from: clips, and nothing that a person said of them.

    Args:
        clip: a trained `CLIP` for pictures of twice the height and width.
        quiet: clips without captions.
        generator: `torch.Generator` on their device.
        n: how many.
        frames: F, key frames in each.

    Returns:
        (n, 3, F, h, h) stretches of clips, each with a skip out of `KEY_FRAME_SKIPS`; and what is
        told, (n, E + 1): the embedding of a random one of these frames, dropped in one row of
        ten, and the skip, which is never dropped.
    """
    skip = one_of(KEY_FRAME_SKIPS, n, generator)
    clips = shrink(quiet.stretches(generator, n, frames, skip), quiet.drawn.shape[-1] // clip.size)
    rows, chosen = torch.arange(n, device=clips.device), picks(frames, n, generator)  # (n,) each
    embeddings = clip.embed_images(clips[rows, :, chosen])  # (n, E)
    cond = drop_embedding(told(embeddings, skip), embeddings.shape[1], DROPPED, generator)
    return shrink(clips, 2), cond


def interpolation_batch(
    quiet: QuietClips, generator: torch.Generator, n: int, size: int = 16, embedding_dim: int = 64
) -> tuple[Tensor, Tensor]:
    """n clips, behind them what is known and guessed of them and a mask, (n, 3 + 4, F, 16, 16); and the frame rate."""
    clips = quiet.clips(generator, n)
    clips = shrink(clips, clips.shape[-1] // size)
    skip = one_of(KNOWN_SKIPS, n, generator)
    cond = told(clips.new_zeros(n, embedding_dim), skip)
    return torch.cat([clips, guessed_frames(clips, skip)], dim=1), cond


def upscaling_batch(
    model: "EpsModel",
    x0: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """What a stage of super-resolution learns from: real data, and beside them their degraded copy.

    The copy is shrunk by `FACTOR` (`shrink`), gets noise of a random level, and is enlarged
    (`augmented`). The stage is told the level that this sample got.

    Args:
        model: the stage, with its `schedule`.
        x0: (n, 3, ...) real ones, as large as those that are to be made.
        generator: `torch.Generator` on their device.

    Returns:
        (n, 6, ...): x0, the copy behind its channels; and (n, 1) float, the levels, whole numbers
        out of 0..`MAX_LEVEL`, low ones more often, each sample's its own.
    """
    low = shrink(x0, FACTOR)
    chance = torch.rand(len(x0), generator=generator, device=x0.device)  # (n,)
    level = (chance.square() * (MAX_LEVEL + 1)).long().clamp(max=MAX_LEVEL)
    noise = torch.randn(low.shape, generator=generator, device=low.device)
    beside = augmented(low, level, noise, model.schedule.to(low.device))
    return torch.cat([x0, beside], dim=1), level.float()[:, None]


def spatiotemporal_batch(
    model: EpsModel, quiet: QuietClips, generator: torch.Generator, n: int
) -> tuple[Tensor, Tensor]:
    """`upscaling_batch` of clips."""
    clips = quiet.clips(generator, n)
    return upscaling_batch(model, shrink(clips, clips.shape[-1] // model.size), generator)


def spatial_batch(model: EpsModel, quiet: QuietClips, generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
    """`upscaling_batch` of frames."""
    frames = quiet.frames(generator, n)
    return upscaling_batch(model, shrink(frames, frames.shape[-1] // model.size), generator)


def train_stage(
    stage: str,
    model: CLIP | EpsModel,
    batch: Callable,
    steps: int,
    checkpoint: str | Path | None = None,
    **options: object,
) -> Iterator[tuple[int, Tensor]]:
    """Train one stage; a generator, as `train` is.

    Args:
        stage: a name in `STAGES`; it is the phase of the checkpoint.
        model: the stage, on its device; changed in place. At the end its weights are the averaged ones.
        batch: `batch(generator)`, one of the functions above.
        steps: number of optimiser steps.
        checkpoint: where to save, and to go on from.
        options: more of `train`'s.

    Yields:
        (step, loss), as `train`.
    """
    if stage == "clip":
        net, schedule, loss = Matching(model), None, matching_loss
    else:
        net, schedule = model.net, model.schedule.to(next(model.parameters()).device)
        beside = {"interpolation": GUESSED_CHANNELS, "spatiotemporal": 3, "spatial": 3}.get(stage)
        if beside:
            loss = partial(hinted_loss, hint_channels=beside, prediction_type=model.prediction_type)
        else:
            loss = partial(prediction_loss, prediction_type=model.prediction_type)
    ema = EMA(net)
    chosen = dict(optimizer="muon", decay="cosine", cuda_graph=True, progress=False)
    options = dict(loss=loss, phase=stage, checkpoint=checkpoint) | chosen | options
    yield from train(net, ema, batch, schedule, steps, **options)
    net.load_state_dict(ema.model.state_dict())
    model.eval()
