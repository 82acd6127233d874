"""Checkpoints that survive a crash: everything the next step depends on, in one file, written whole or not at all.

step, phase                 where the run is
settings                    what the run was made with, as its caller tells it
seed, micro_batches         what the draws of each step follow from
model, ema, ema_updates     the weights, their average and how often it was updated
optimizer, scaler, skipped  the engine's state
rng                         PyTorch's own random state, which dropout draws from
device                      "cpu" or "cuda", whose random numbers differ

What is not finite is neither written nor gone on from.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from ..files import followed
from .ema import EMA
from .engine import Engine
from .torch_files import load_torch, save_torch

# What loading a file raises that was made by something else.
HOLDS_SOMETHING_ELSE = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)


def save_run(path: str | Path, step: int, model: nn.Module, ema: EMA, engine: Engine, **facts: object) -> None:
    """Write what a run's next step depends on.

    Args:
        path: the file; see `save_checkpoint`.
        step: steps done.
        model, ema, engine: the parts of the run.
        facts: its phase, settings, seed and micro_batches.

    Raises:
        FloatingPointError: if a weight, an average or the optimiser's state is not finite; nothing is written then.
    """
    device = next(model.parameters()).device
    state = dict(
        step=step,
        **facts,
        model=model.state_dict(),
        ema=ema.model.state_dict(),
        ema_updates=ema.updates,
        **engine.state_dict(),
        rng=rng_state(device),
        device=device.type,
    )
    broken = not_finite(state, model)
    if broken:
        raise FloatingPointError(f"{broken} is not finite at step {step}, which was not saved: try a smaller lr")
    save_checkpoint(path, **state)


def find_checkpoint(path: str | Path | None) -> dict[str, object] | None:
    """The checkpoint at `path`, or the previous one beside it, with the file's name as "path"; None if there is none.

    Raises:
        ValueError: if the file is broken, or no training checkpoint; OSError if it cannot be read.
    """
    found = latest_checkpoint(path)
    if found is None:
        return None
    saved = load_checkpoint(found)
    if not isinstance(saved, dict) or type(saved.get("step")) is not int or saved["step"] < 0:
        raise something_else(found, TypeError("it does not tell the steps that were done"))
    return {**saved, "path": found}


def restore_weights(
    saved: dict[str, object], model: nn.Module, ema: EMA, seed: int, micro_batches: int, device: torch.device
) -> int:
    """Load a checkpoint's weights, and their average; returns its step.

    Raises:
        ValueError: if it belongs to another model, is no training checkpoint, holds NaN or infinity, or was made with
            another seed, another number of micro-batches or on another kind of device.
    """
    path = saved["path"]
    try:
        # before there was a seed in it, there was a generator for each micro-batch
        made_with = saved["micro_batches"] if "micro_batches" in saved else len(saved["generators"])
        made_of, made_on, step = saved.get("seed", seed), saved["device"], saved["step"]
        missing = [key for key in ("ema_updates", "scaler", "rng", "optimizer") if key not in saved]
        if missing:
            raise KeyError(missing[0])
        broken = not_finite(saved, model)
        if not broken and (made_of, made_with, made_on) == (seed, micro_batches, device.type):  # else told below
            model.load_state_dict(saved["model"])
            ema.model.load_state_dict(saved["ema"])
            ema.updates = saved["ema_updates"]
    except HOLDS_SOMETHING_ELSE as error:
        raise something_else(path, error) from error
    if made_with != micro_batches:
        raise ValueError(f"{path} was made with micro_batches={made_with}, not micro_batches={micro_batches}")
    if made_of != seed:
        raise ValueError(f"{path} was made with seed={made_of}, not seed={seed}")
    if made_on != device.type:
        raise ValueError(
            f"{path} was made on {made_on}, where the random numbers are others than on {device.type}: "
            f"go on there, or start again in another place"
        )
    if broken:
        raise ValueError(f"{path} is of no use, since {broken} is not finite: {way_out(path)}")
    return step


def restore_engine(saved: dict[str, object], engine: Engine, device: torch.device) -> None:
    """Load the engine's state and PyTorch's random states: what is left when the weights are in place.

    Raises:
        ValueError: if the file is no training checkpoint.
    """
    try:
        engine.load_state_dict(saved)
        torch.set_rng_state(saved["rng"]["cpu"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(saved["rng"]["cuda"], device)
    except HOLDS_SOMETHING_ELSE as error:
        raise something_else(saved["path"], error) from error


def something_else(path: str | Path, error: Exception) -> ValueError:
    """The ValueError for a file that holds something else."""
    reason = str(error).splitlines()[0]
    return ValueError(f"{path} belongs to another model or is no training checkpoint: {reason}")


def not_finite(state: dict[str, object], model: nn.Module) -> str | None:
    """Which part of a checkpoint's state has spoilt a run, such as "ema.weight"; None if there is none.

    That is NaN or infinity in weights, averages or the optimiser's state. A buffer may hold infinity, as masks do.
    """
    weights = {name for name, _ in model.named_parameters()}
    fine = {}
    for part in ("model", "ema"):
        for name, value in state[part].items():
            fine[f"{part}.{name}"] = (value.isfinite() if name in weights else ~value.isnan()).all()
    for number, of_one in state["optimizer"]["state"].items():
        for name, value in of_one.items():
            fine[f"optimizer.{number}.{name}"] = value.isfinite().all()
    if not fine:
        return None
    device = next(iter(fine.values())).device
    answers = torch.stack([each.to(device) for each in fine.values()]).tolist()  # waits for the device once
    return next((name for name, is_fine in zip(fine, answers) if not is_fine), None)


def rng_state(device: torch.device) -> dict[str, Tensor | None]:
    """The global random states, which dropout draws from: of the CPU, and of `device` if it is a CUDA card."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def save_checkpoint(path: str | Path, **state: object) -> None:
    """Write `state` to `path` whole or not at all; the file that was there before becomes `<name>.previous`."""
    save_torch(path, state, older=previous(path))


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
        raise ValueError(f"{error}: {way_out(path)}") from error


def latest_checkpoint(path: str | Path | None) -> Path | None:
    """`path` if it exists, else the previous checkpoint beside it, else None."""
    if path is None:
        return None
    return next((p for p in (Path(path), previous(path)) if p.exists()), None)


def previous(path: str | Path) -> Path:
    """Where `save_checkpoint` puts the file that it replaces: beside it, also if `path` is a link to it."""
    target = followed(path)
    return target.with_name(target.name + ".previous")


def way_out(path: Path) -> str:
    """How to go on with a run whose checkpoint is of no use."""
    older = previous(path)
    return f"delete it to go on from {older.name}" if older.exists() else "delete it to start again"


def written_at(path: str | Path | None) -> tuple[int, int] | None:
    """When a file was written, and its size: what tells whether somebody else has written it since."""
    if path is None or not Path(path).exists():
        return None
    found = Path(path).stat()
    return found.st_mtime_ns, found.st_size
