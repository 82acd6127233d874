r"""One network for whole clips at their final size, 16 x 64 x 64 at once: what a cascade is held against.

It learns from the same clips without captions, is told the same (the embedding of one of their frames), and gets its
embeddings from the same prior. Only the way from there to pixels differs: one stage instead of four.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..datasets.degradation import shrink
from ..models.clip import CLIP
from ..models.prior_net import drop_embedding
from .cascade_data import QuietClips, picks
from .cascade_files import Sizes
from .cascade_training import DROPPED, train_stage
from .decoder import animate, build_decoder
from .stages import told
from .text2video import VideoModel

MULTS = 1, 2, 3
TRIED = 20  # steps to see how long one takes; the first of them are slow


def build_single(sizes: Sizes) -> VideoModel:
    """An untrained `VideoModel` of clips as large as those that the cascade of these sizes makes.

    Its schedule has twice the shift of the decoder: in larger pictures the same noise hides less.
    """
    decoder = build_decoder(
        sizes.channels, MULTS, embedding_dim=sizes.embedding, size=4 * sizes.size, shift=2 * sizes.shift
    )
    return animate(decoder, sizes.frames)


@torch.no_grad()
def single_batch(clip: CLIP, quiet: QuietClips, generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
    """n whole clips (n, 3, F, H, W), and what is told: the embedding of a random frame, or of none; and skip 1."""
    clips = quiet.clips(generator, n)
    rows, chosen = torch.arange(n, device=clips.device), picks(clips.shape[2], n, generator)
    embeddings = clip.embed_images(shrink(clips[rows, :, chosen], clips.shape[-1] // clip.size))
    return clips, drop_embedding(told(embeddings, 1), embeddings.shape[1], DROPPED, generator)


def train_for(
    seconds: float, build: Callable[[], VideoModel], batch: Callable, **options: object
) -> tuple[VideoModel, int]:
    """Train a stage for about so many seconds.

    Args:
        seconds: the time for all of it, the trial of `TRIED` steps included that tells how long a step takes.
        build: makes the untrained model, on its device.
        batch: `batch(generator)`.
        options: of `train`, such as lr.

    Returns:
        The model, and the number of its steps: 1 or more.
    """
    began = time.perf_counter()
    trial = build()
    for step, _ in train_stage("single", trial, batch, TRIED, **options):
        if step == TRIED // 2:
            synchronise(trial)
            half = time.perf_counter()
    synchronise(trial)
    a_step = (time.perf_counter() - half) / (TRIED - TRIED // 2)
    steps = max(1, int((seconds - (time.perf_counter() - began)) / a_step))
    model = build()
    for _ in train_stage("single", model, batch, steps, **options):
        pass
    synchronise(model)
    return model, steps


def synchronise(model: nn.Module) -> None:
    """Wait for the model's device."""
    device = next(model.parameters()).device
    if device.type == "cuda":
        torch.cuda.synchronize(device)
