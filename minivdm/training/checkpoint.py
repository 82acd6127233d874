"""Checkpoints that survive a crash: everything the next step depends on, in one file, written whole or not at all.

step, phase                 where the run is
model, ema, ema_updates     the weights, their average and how often it was updated
optimizer, scaler           the engine's state
rng, generators             random states: PyTorch's own, and one for each micro-batch
device                      "cpu" or "cuda", whose random numbers differ
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..files import load_torch, save_torch
from .ema import EMA
from .engine import Engine
from .parallel import all_gather, rank

# What loading a file raises that was made by something else.
HOLDS_SOMETHING_ELSE = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)


def save_run(
    path: str | Path,
    step: int,
    model: nn.Module,
    ema: EMA,
    engine: Engine,
    generators: list[torch.Generator],
    own: Iterable[int],
    phase: str = "",
) -> None:
    """Write what a run's next step depends on; all processes must call it, and rank 0 writes.

    Args:
        path: the file; see `save_checkpoint`.
        step: steps done.
        model, ema, engine: the parts of the run.
        generators: one for each micro-batch.
        own: the numbers of those generators that this process has used; the others are another process's.
        phase: name of the stretch of the run.
    """
    of_each_process = all_gather({i: generators[i].get_state() for i in own})
    states = {i: state for of_one in of_each_process for i, state in of_one.items()}
    if rank() > 0:
        return
    device = next(model.parameters()).device
    save_checkpoint(
        path,
        step=step,
        phase=phase,
        model=model.state_dict(),
        ema=ema.model.state_dict(),
        ema_updates=ema.updates,
        **engine.state_dict(),
        rng=rng_state(device),
        generators=[states[i] for i in range(len(generators))],
        device=device.type,
    )


def find_checkpoint(path: str | Path | None, phase: str = "") -> dict[str, object] | None:
    """The checkpoint at `path`, or the previous one beside it, with the file's name as "path"; else None.

    One of another phase counts as none; one from before there were phases counts as of this one.

    Raises:
        ValueError: if the file is broken, or holds something else than a dict; OSError if it cannot be read.
    """
    found = latest_checkpoint(path)
    if found is None:
        return None
    saved = load_checkpoint(found)
    if not isinstance(saved, dict):
        raise something_else(found, TypeError(f"expected a dict, got a {type(saved).__name__}"))
    return {**saved, "path": found} if saved.get("phase", phase) == phase else None


def restore_weights(
    saved: dict[str, object], model: nn.Module, ema: EMA, micro_batches: int, device: torch.device
) -> int:
    """Load a checkpoint's weights, and their average; returns its step.

    Raises:
        ValueError: if it belongs to another model, is no training checkpoint, or was made with another number of
            micro-batches or on another kind of device.
    """
    path = saved["path"]
    try:
        made_with, made_on, step = len(saved["generators"]), saved["device"], saved["step"]
        missing = [key for key in ("ema_updates", "scaler", "rng", "optimizer") if key not in saved]
        if missing:
            raise KeyError(missing[0])
        if (made_with, made_on) == (micro_batches, device.type):  # else the reason is told below
            model.load_state_dict(saved["model"])
            ema.model.load_state_dict(saved["ema"])
            ema.updates = saved["ema_updates"]
    except HOLDS_SOMETHING_ELSE as error:
        raise something_else(path, error) from error
    if made_with != micro_batches:
        raise ValueError(f"{path} was made with micro_batches={made_with}, not micro_batches={micro_batches}")
    if made_on != device.type:
        raise ValueError(
            f"{path} was made on {made_on}, where the random numbers are others than on {device.type}: "
            f"go on there, or start again in another place"
        )
    return step


def restore_engine(saved: dict[str, object], engine: Engine, generators: list[torch.Generator]) -> None:
    """Load the engine's state and all random states: what is left when the weights are in place.

    Raises:
        ValueError: if the file is no training checkpoint.
    """
    device = generators[0].device
    try:
        engine.load_state_dict(saved)
        for generator, state in zip(generators, saved["generators"]):
            generator.set_state(state)
        torch.set_rng_state(saved["rng"]["cpu"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(saved["rng"]["cuda"], device)
    except HOLDS_SOMETHING_ELSE as error:
        raise something_else(saved["path"], error) from error


def something_else(path: str | Path, error: Exception) -> ValueError:
    """The ValueError for a file that holds something else."""
    reason = str(error).splitlines()[0]
    return ValueError(f"{path} belongs to another model or is no training checkpoint: {reason}")


def rng_state(device: torch.device) -> dict[str, Tensor | None]:
    """The global random states, which dropout draws from: of the CPU, and of `device` if it is a CUDA card."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def save_checkpoint(path: str | Path, **state: object) -> None:
    """Write `state` to `path` whole or not at all; the file that was there before becomes `<name>.previous`."""
    save_torch(path, state, older=previous(Path(path)))


def load_checkpoint(path: str | Path) -> object:
    """Read a checkpoint written by `save_checkpoint`, to the CPU.

    Raises:
        FileNotFoundError: if there is no such file. OSError: if it cannot be read.
        ValueError: if the file is truncated or no checkpoint; the message names the previous one if there is one.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        return load_torch(path)
    except ValueError as error:
        older = previous(path)
        way_out = f"delete it to go on from {older.name}" if older.exists() else "delete it to start again"
        raise ValueError(f"{error}: {way_out}") from error


def latest_checkpoint(path: str | Path | None) -> Path | None:
    """`path` if it exists, else the previous checkpoint beside it, else None."""
    if path is None:
        return None
    return next((p for p in (Path(path), previous(Path(path))) if p.exists()), None)


def previous(path: Path) -> Path:
    """Where `save_checkpoint` puts the file that it replaces."""
    return path.with_name(path.name + ".previous")
