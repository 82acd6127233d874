r"""Train the cascade of chapter 11, one stage after the other: `minivdm train cascade [FOLDER] [--stage NAME]`.

It writes into a folder of its own, `runs/cascade/<budget>` if no other is named:

    <stage>.checkpoint.pt      all that the next step of this stage depends on: the same command goes on here
    <stage>.pt                 a stage that is finished, in float16
    cascade.json               which stages are finished; see `cascade_files`
    lock                       who is training here, as long as it lasts

A stage that starts from an earlier one, or looks through it, reads that one's file. So it makes no difference whether
all are trained in one go, or killed and begun again in between: on a CPU the weights end up the same, bit for bit.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..datasets.sprites import MovingSprites
from ..datasets.video_folder import VideoFolder
from ..files import locked, runs_folder
from ..models.clip import CLIP
from ..models.kernels import use_fused_kernels
from ..pipelines import cascade_training as batches
from ..pipelines.cascade_data import PhotoPool, QuietClips
from ..pipelines.cascade_files import build_stage, load_stage, read_manifest, require_sizes, save_stage
from ..pipelines.cascade_training import STAGES, train_stage
from ..pipelines.decoder import animate
from ..pipelines.interpolation import interpolator
from ..training.checkpoint import find_checkpoint, previous
from ..training.precision import best_device, best_dtype
from ..training.seeds import mixed_seed
from .cascade_settings import CascadeSettings, StageSettings, cascade_settings
from .sample import require_writable

LINES, SAVES = 8, 8  # in a stage: lines about the loss, checkpoints
NEEDS = {
    "clip": (),
    "prior": ("clip",),
    "decoder": ("clip",),
    "key_frames": ("clip", "decoder"),
    "interpolation": ("clip", "key_frames"),
    "spatiotemporal": (),
    "spatial": (),
}
IN_FLOAT32 = "clip", "prior"  # too small for 16 bits to pay
FROM_PICTURES = "clip", "prior", "decoder"


def train_cascade(
    folder: str | Path | None = None,
    stage: str | None = None,
    budget: str | None = None,
    out: str | Path | None = None,
    progress: bool = False,
    **changes: object,
) -> Path:
    """Train a cascade, or one stage of it, or go on with a run that was interrupted.

    Args:
        folder: the learner's own clips, as `VideoFolder` reads them: a folder with a clips.csv, or that file. Their
            captions are not read. Default: clips of `MovingSprites`. Captioned pictures are always drawn.
        stage: a name in `STAGES`; default: all that are not finished, in their order.
        budget: smoke, cpu or gpu; see `cascade_settings`.
        out: the cascade's folder; default runs/cascade/<budget>.
        progress: show a tqdm bar.
        changes: steps, batch or lr of the stage; seed of all.

    Returns:
        The folder.

    Raises:
        ValueError: if a setting makes no sense, or `out` holds what was made with others, or is broken.
        OSError: if something is missing or cannot be read or written, or another run is writing there.
        FloatingPointError: if the loss or the gradient is not finite.
        KeyboardInterrupt: when interrupted; its text says what was saved.
    """
    name, settings = cascade_settings(budget, stage, **changes)
    if out is not None and not str(out):
        raise ValueError("expected a folder to write to, got an empty name")
    out = runs_folder() / "cascade" / name if out is None else Path(out)
    require_writable(out)
    source = clips_from(folder, settings)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out / "lock", out):
            run, working = Training(out, settings, source, folder, progress), None
            try:
                for working in [stage] if stage else STAGES:
                    run.train(working, asked=stage is not None)
            except KeyboardInterrupt as stop:
                raise type(stop)(f"stopped: {run.what_is_saved(working)}") from None
    finally:
        with contextlib.suppress(OSError):  # a folder in which nothing was written
            out.rmdir()
    return out


def clips_from(folder: str | Path | None, settings: CascadeSettings) -> MovingSprites | VideoFolder:
    """Where clips come from; what is wrong with a folder is said before anything is computed."""
    frames, size = settings.sizes.frames, 4 * settings.sizes.size
    if folder is None:
        return MovingSprites(frames, size)
    path = Path(folder)
    if path.is_dir():
        path = path / "clips.csv"
    if not path.exists():
        raise FileNotFoundError(f"no table of clips at {path}: expected a folder with a clips.csv")
    source = VideoFolder(path, frames=frames, size=size)
    print(source.summary(), flush=True)
    return source


class Training:
    """The stages of a cascade in one folder; each goes on from its own checkpoint."""

    def __init__(
        self,
        out: Path,
        settings: CascadeSettings,
        source: MovingSprites | VideoFolder,
        folder: str | Path | None,
        progress: bool,
    ):
        self.out, self.settings, self.source, self.progress = out, settings, source, progress
        self.folder = None if folder is None else str(Path(folder).resolve())
        self.device, self.pools, self.start = best_device(), {}, time.perf_counter()
        require_sizes(out, read_manifest(out), settings.sizes)

    def train(self, stage: str, asked: bool) -> None:
        """Train a stage, unless it is finished; if it was `asked` for by name, it must have been made so."""
        chosen = self.settings.stages[stage]
        told = self.told(stage, chosen)
        entry = read_manifest(self.out)["stages"].get(stage)
        if entry:
            if asked and entry["settings"] != told:
                name = next(key for key in told if told[key] != entry["settings"].get(key))
                was = f"{name}={entry['settings'].get(name)}, not {name}={told[name]}"
                raise ValueError(
                    f"{self.out} holds a {stage} made with {was}: choose another --out, or delete its file"
                )
            self.load(stage)  # a ValueError if it is not as the manifest says
            print(f"{stage} is finished: {self.out / entry['file']}", flush=True)
            self.tidy(stage)
            return
        for needed in NEEDS[stage]:
            if needed not in read_manifest(self.out)["stages"]:
                raise FileNotFoundError(f"{stage} needs {needed}, which is not in {self.out}: train that stage first")
        clip = self.load("clip").to(self.device) if "clip" in NEEDS[stage] else None
        torch.manual_seed(mixed_seed(chosen.seed, "weights", stage))
        model = use_fused_kernels(self.begin(stage).to(self.device))
        found = find_checkpoint(self.checkpoint(stage))
        at = f"going on from step {found['step']}" if found else f"{parameters(model):,} parameters on {self.device}"
        print(f"{stage}: {at}, {chosen.steps} steps of {chosen.batch}", flush=True)
        every, losses, began = max(1, chosen.steps // LINES), [], time.perf_counter()
        options = dict(lr=chosen.lr, seed=chosen.seed, save_every=max(1, chosen.steps // SAVES), settings=told)
        options |= dict(dtype=torch.float32 if stage in IN_FLOAT32 else best_dtype(self.device))
        options |= dict(progress=self.progress, warm_up=min(100, chosen.steps // 10), saved=found or {})
        run = train_stage(
            stage, model, self.batch(stage, model, clip, chosen), chosen.steps, self.checkpoint(stage), **options
        )
        for step, loss in run:
            losses.append(loss)
            if step % every == 0 or step == chosen.steps:
                mean, seconds = torch.stack(losses).mean().item(), time.perf_counter() - self.start
                tqdm.write(f"{seconds:6.0f} s  {stage} step {step:6d} of {chosen.steps}  loss {mean:.5f}")
                losses = []
        seconds = round(time.perf_counter() - began, 1)
        path = save_stage(
            self.out,
            stage,
            model,
            self.settings.sizes,
            clip,
            settings=told,
            parameters=parameters(model),
            seconds=seconds,
        )
        self.tidy(stage)
        print(f"{path}: {path.stat().st_size:,} bytes, {seconds:.0f} s", flush=True)

    def begin(self, stage: str) -> nn.Module:
        """A stage before its first step: new, or made of an earlier one."""
        if stage == "key_frames":
            return animate(self.load("decoder"), self.settings.sizes.key_frames).requires_grad_()
        if stage == "interpolation":
            return interpolator(self.load("key_frames"), self.settings.sizes.frames).requires_grad_()
        return build_stage(stage, self.settings.sizes)

    def load(self, stage: str) -> nn.Module:
        """A finished stage; if it reads embeddings, of the CLIP that is here."""
        return load_stage(self.out, stage, None if stage == "clip" else load_stage(self.out, "clip"))

    def batch(self, stage: str, model: nn.Module, clip: CLIP | None, chosen: StageSettings) -> Callable:
        """`batch(generator)` of a stage."""
        n = chosen.batch
        pool = self.pool("photos" if stage in FROM_PICTURES else "clips", chosen.seed)
        if stage == "clip":
            return lambda generator: batches.clip_batch(pool, generator, n)
        if stage in ("prior", "decoder"):
            draw = batches.prior_batch if stage == "prior" else batches.decoder_batch
            return lambda generator: draw(clip, pool, generator, n)
        if stage == "key_frames":
            frames = self.settings.sizes.key_frames
            return lambda generator: batches.key_frame_batch(clip, pool, generator, n, frames)
        if stage == "interpolation":
            sizes = self.settings.sizes
            return lambda generator: batches.interpolation_batch(pool, generator, n, sizes.size, sizes.embedding)
        draw = batches.spatiotemporal_batch if stage == "spatiotemporal" else batches.spatial_batch
        return partial(in_order, draw, model, pool, n)

    def pool(self, kind: str, seed: int) -> PhotoPool | QuietClips:
        """The captioned pictures or the quiet clips, drawn when they are first needed."""
        if kind not in self.pools:
            generator = torch.Generator(self.device).manual_seed(mixed_seed(seed, kind))
            if kind == "photos":
                self.pools[kind] = PhotoPool(self.settings.photos, generator, 2 * self.settings.sizes.size)
            else:
                self.pools[kind] = QuietClips(self.source, self.settings.clips, generator)
        return self.pools[kind]

    def told(self, stage: str, chosen: StageSettings) -> dict[str, object]:
        """What a stage is made with, as its checkpoint and the manifest hold it."""
        data = {"photos": self.settings.photos}
        if stage not in FROM_PICTURES:
            data = {"clips": self.settings.clips, "folder": self.folder}
        return {**dataclasses.asdict(chosen), **data}

    def checkpoint(self, stage: str) -> Path:
        """Where a stage is saved on its way."""
        return self.out / f"{stage}.checkpoint.pt"

    def tidy(self, stage: str) -> None:
        """Remove the checkpoints of a stage that is finished."""
        for path in (self.checkpoint(stage), previous(self.checkpoint(stage))):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def what_is_saved(self, stage: str | None) -> str:
        """From where the run will go on, in words."""
        finished = [name for name in STAGES if name in read_manifest(self.out)["stages"]]
        found = find_checkpoint(self.checkpoint(stage)) if stage and stage not in finished else None
        parts = [f"{', '.join(finished)} finished"] if finished else []
        parts += [f"{stage} at step {found['step']}"] if found else []
        if not parts:
            return "nothing is saved yet, and the same command begins again"
        return f"{self.out} holds {'; '.join(parts)}, and the same command goes on from there"


def in_order(
    draw: Callable, model: nn.Module, pool: QuietClips, n: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A batch for a stage of super-resolution."""
    return draw(model, pool, generator, n)


def parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(each.numel() for each in model.parameters())
