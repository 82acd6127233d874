r"""Train the text-to-video model from nothing: `minivdm train text2video`.

Draws a pool of captioned clips, trains on it, and writes into a folder of its own, `runs/text2video/<budget>` if no
other is named:

    settings.json               the numbers of this run, before the first step
    checkpoint.pt               the same numbers, and all that the next step depends on: the same command goes on here
    samples/step_000500.gif     clips for the eight `PROMPTS` by the averaged weights, about four times in a run
    model.pt                    the averaged weights, at the end
    lock                        who is training here, as long as it lasts: a folder belongs to one run at a time

Under `torchrun -m minivdm train text2video` several processes share the micro-batches of each step. With as many
micro-batches the losses are the same for any number of processes; if their number is not given, there is one for each.

Where time is short, single frames come first: what a square is can be learnt from one frame as well as from eight of
the same clip, at an eighth of the price, and the layers along time start as the identity (compare Singer et al.,
"Make-A-Video", ICLR 2023, which begins with pictures alone, since there are more of them).
"""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, distributed
from tqdm import tqdm

from ..datasets.gif_files import save_gif
from ..datasets.sprites import MovingSprites
from ..diffusion.predictions import prediction_loss
from ..files import runs_folder
from ..models.kernels import use_fused_kernels
from ..pipelines.pretrained import save_pretrained
from ..pipelines.text2video import VideoModel, build_text2video, text_to_video
from ..training.clip_pool import ClipPool
from ..training.ema import EMA
from ..training.loop import train
from ..training.parallel import init_distributed, rank, world_size
from ..training.precision import InLowPrecision, best_dtype
from ..training.seeds import mixed_seed
from .run_folder import (
    CHECKPOINT,
    PHASES,
    claimed,
    find_run,
    require_same,
    saved_settings,
    telling_what_is_saved,
    write_settings,
)
from .sample import require_writable
from .settings import Settings, fit_to_processes, settings_of

PROMPTS = (
    "a red circle moving left",
    "a white cross moving right",
    "a yellow triangle moving up",
    "a green diamond moving down",
    "a cyan square growing",
    "a purple ring shrinking",
    "an orange circle bouncing",
    "a blue square blinking",
)
SAMPLES, SAVES, LINES = 4, 8, 20  # in a run: files of samples, checkpoints, lines about the loss
FUSED_FROM = 5e8  # pixels trained on: for fewer, compiling the fused kernels takes longer than they save


def train_text2video(
    budget: str | None = None, out: str | Path | None = None, progress: bool = False, **changes: object
) -> Path:
    """Train, or go on with a run that was interrupted.

    Args:
        budget: a name in `BUDGETS` of `settings`; see `settings_of` there.
        out: the run's folder; default runs/text2video/<budget>.
        progress: show a tqdm bar.
        changes: other values for numbers of the budget, such as steps=100.

    Returns:
        The path of the trained model, `model.pt` in the run's folder.

    Raises:
        ValueError: if a setting makes no sense, `out` holds a run with other settings or a broken checkpoint, or
            somebody moves it while this run lasts.
        OSError: if `out` cannot be written, or another run is writing there (`BlockingIOError`).
        NotFinite: if the trained weights are not finite in the float16 that `model.pt` stores.
        FloatingPointError: if the loss or the gradient is not finite.
        KeyboardInterrupt: when interrupted, `Terminated` by SIGTERM; its text says what was saved.
    """
    name, settings = settings_of(budget, **changes)
    if out is not None and not str(out):
        raise ValueError("expected a folder to write to, got an empty name")
    out = runs_folder() / "text2video" / name if out is None else Path(out)
    require_writable(out)
    sprites = MovingSprites(settings.frames, settings.size)  # refuses clips that are too small or too short
    device = init_distributed()
    with telling_what_is_saved(out), claimed(out) as still_there:
        return train_in(out, settings, changes.get("micro_batches"), sprites, device, progress, still_there)


def train_in(
    out: Path,
    settings: Settings,
    asked: int | None,
    sprites: MovingSprites,
    device: torch.device,
    progress: bool,
    still_there: Callable,
) -> Path:
    """What `train_text2video` does in a folder that belongs to this run.

    Args:
        out: the folder.
        settings: those that were asked for.
        asked: micro-batches, if their number was asked for.
        sprites: what is drawn.
        device: where to compute.
        progress: show a tqdm bar.
        still_there: raises an error if the folder does not belong to this run any more.
    """
    saved = find_run(out)
    phase, done = (saved["phase"], saved["step"]) if saved else (None, 0)
    begun_with = saved_settings(out, saved) if saved else None
    settings = fit_to_processes(settings, world_size(), asked, begun_with and begun_with.micro_batches)
    if saved:
        require_same(out, begun_with, settings)
    elif (out / "model.pt").exists():
        raise ValueError(
            f"{out} holds a model.pt, but no checkpoint to go on from: choose another --out, or delete "
            f"that folder to start again"
        )
    if rank() == 0 and write_settings(out, settings) and saved:
        log(f"{out / 'settings.json'} did not say what the checkpoint says, and was written again")
    if (phase, done) == ("clips", settings.steps) and (out / "model.pt").exists():
        log(f"{out} is finished: all {done} steps are done, and the model is {out / 'model.pt'}")
        return out / "model.pt"

    torch.manual_seed(mixed_seed(settings.seed, "weights"))
    model = build_text2video(**settings.model).to(device)
    if settings.pixels >= FUSED_FROM:
        model = use_fused_kernels(model)
    parameters = sum(p.numel() for p in model.parameters())
    log(f"{parameters:,} parameters on {world_size()} x {device.type}; {settings.as_text()}")
    total = settings.image_steps if phase == "images" else settings.steps
    log(f"going on from {PHASES[phase]} {done} of {total} in {out}" if phase else f"writing to {out}")
    if saved and "seed" not in saved:
        log(
            "begun by an earlier version, which drew other clips and noise from the same seed: it goes on with new ones"
        )
    start = time.perf_counter()
    pool = ClipPool(sprites, settings.pool, torch.Generator(device).manual_seed(mixed_seed(settings.seed, "pool")))
    log(f"{settings.pool:,} clips drawn in {time.perf_counter() - start:.1f} s")

    run = TrainingRun(model, pool, settings, out, device, progress, saved, still_there)
    if settings.image_steps and phase != "clips":
        run.train_on_images()
    averaged = run.train_on_clips()
    if rank() == 0:
        save_pretrained(out / "model.pt", averaged, {**settings.model, "mults": list(settings.mults)})
    log(f"{time.perf_counter() - start:6.0f} s  finished: {out / 'model.pt'}")
    if distributed.is_initialized():
        distributed.destroy_process_group()
    return out / "model.pt"


class TrainingRun:
    """The two phases of a run; each goes on from `checkpoint.pt` if that is its own, and leaves its state there."""

    def __init__(
        self,
        model: VideoModel,
        pool: ClipPool,
        settings: Settings,
        out: Path,
        device: torch.device,
        progress: bool,
        saved: dict[str, object] | None,
        still_there: Callable,
    ):
        self.model, self.pool, self.settings, self.out, self.saved = model, pool, settings, out, saved or {}
        self.still_there = still_there
        self.start = time.perf_counter()
        self.options = dict(
            schedule=model.schedule.to(device),
            lr=settings.lr,
            dtype=best_dtype(device),
            checkpoint=out / CHECKPOINT,
            settings=dataclasses.asdict(settings),
            seed=settings.seed,
            micro_batches=settings.micro_batches,
            progress=progress,
            loss=prediction_loss,
            cuda_graph=True,
            optimizer=settings.optimizer,
            momentum=settings.momentum,
            warm_up=settings.warm_up,
        )

    def steps(self, phase: str, total: int, draw: Callable, batch: int, ema: EMA, **options: object) -> Iterator[int]:
        """The steps of a phase, one after the other; now and then there is a line about seconds and the mean loss.

        Args:
            phase: one of `PHASES`.
            total: number of steps.
            draw: `draw(generator, size)` gives clean data and a condition.
            batch: samples in each step, all micro-batches together.
            ema: the `EMA` to update.
        """
        size = math.ceil(batch / self.settings.micro_batches)
        every = max(1, total // SAVES)
        saved = self.saved if self.saved.get("phase") == phase else {}
        options = dict(steps=total, save_every=every, phase=phase, saved=saved) | self.options | options
        losses = []
        for step, loss in train(self.model.net, ema, partial(draw, size=size), **options):
            self.still_there()
            losses.append(loss)
            if step % max(1, total // LINES) == 0 or step == total:
                mean = torch.stack(losses).mean().item()
                seconds = time.perf_counter() - self.start
                log(f"{seconds:6.0f} s  {PHASES[phase]} {step:6d} of {total}  loss {mean:.5f}")
                losses = []
            yield step

    def train_on_images(self) -> None:
        """The first phase: single frames of the pool's clips."""
        s, ema = self.settings, EMA(self.model.net)
        for _ in self.steps("images", s.image_steps, self.pool.pictures, s.image_batch, ema):
            pass

    def train_on_clips(self) -> VideoModel:
        """The second phase, with samples on the way; returns the model with the averaged weights."""
        s, ema = self.settings, EMA(self.model.net)
        rounded = InLowPrecision(ema.model, self.options["dtype"])
        quick = self.model.around(rounded).eval()
        every = max(1, s.steps // SAMPLES)
        for step in self.steps("clips", s.steps, self.pool.clips, s.batch, ema, decay=s.decay):
            if rank() == 0 and (step % every == 0 or step == s.steps):
                rounded.refresh()
                write_samples(quick, self.out / "samples" / f"step_{step:06d}.gif")
        return self.model.around(ema.model).eval()


def write_samples(model: VideoModel, path: str | Path, steps: int = 10) -> Tensor:
    """Sample `PROMPTS`, always from the same noise, and write all eight clips into one GIF; returns (8, 3, F, H, W).

    Clips with NaN in them are not written: soon the loss will say what is wrong.
    """
    generator = torch.Generator(next(model.parameters()).device).manual_seed(0)
    clips = text_to_video(PROMPTS, model, steps, generator=generator, cuda_graph=True).cpu()
    if clips.isnan().any():
        log(f"no {path}: there is NaN in its clips")
        return clips
    save_gif(rearrange(clips, "(a b) c f h w -> c f (a h) (b w)", a=2), path, scale=3, quick=True)
    return clips


def log(line: str) -> None:
    """Print a line, on rank 0 only, above the progress bar if there is one."""
    if rank() == 0:
        tqdm.write(line)
