"""Checkpoints that survive a crash: everything the next step depends on, in one file, written whole or not at all."""

from pathlib import Path

import torch

from ..files import load_torch, save_torch
from .parallel import all_gather, rank


def save_run(path, step, model, ema, engine, generators, mine, phase=""):
    """Write what a run's next step depends on; all processes must call it, and rank 0 writes.

    Args:
        path: the file; see `save_checkpoint`.
        step: steps done.
        model, ema, engine: the parts of the run.
        generators: one for each micro-batch.
        mine: the numbers of those generators that this process has used.
        phase: name of the stretch of the run.
    """
    held = all_gather({i: generators[i].get_state() for i in mine})
    states = {i: state for some in held for i, state in some.items()}
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


def find_checkpoint(path, phase=""):
    """The checkpoint at `path`, or the previous one beside it, with the file's name as "path"; else None.

    One of another phase counts as none. Raises what `load_checkpoint` raises.
    """
    found = latest_checkpoint(path)
    saved = load_checkpoint(found) if found else None
    if saved is None or phase_of(saved, phase) != phase:
        return None
    return {**saved, "path": found} if isinstance(saved, dict) else {"path": found}


def phase_of(saved, default=""):
    """The phase that a checkpoint was saved in; `default` for files from before there were phases."""
    return saved.get("phase", default) if isinstance(saved, dict) else default


def restore_weights(saved, model, ema, micro_batches, device):
    """Load a checkpoint's weights, and their average; returns its step.

    Raises:
        ValueError: if it belongs to another model, is no training checkpoint, or was made with another number of
            micro-batches or on another kind of device.
    """
    path = saved["path"]
    try:
        made_with, made_on, step = len(saved["generators"]), saved["device"], saved["step"]
        for key in ("ema_updates", "scaler", "rng", "optimizer"):
            saved[key]
        if (made_with, made_on) == (micro_batches, device.type):
            model.load_state_dict(saved["model"])
            ema.model.load_state_dict(saved["ema"])
            ema.updates = saved["ema_updates"]
    except UNREADABLE as error:
        raise no_checkpoint_of(path, error) from error
    if made_with != micro_batches:
        raise ValueError(f"{path} was made with micro_batches={made_with}, not micro_batches={micro_batches}")
    if made_on != device.type:
        raise ValueError(
            f"{path} was made on {made_on}, where the random numbers are others than on {device.type}: "
            f"go on there, or start again in another place"
        )
    return step


def restore_random_states(saved, engine, generators):
    """Load the states of optimiser, scaler and random numbers: what is left when the weights are in place.

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
    except UNREADABLE as error:
        raise no_checkpoint_of(saved["path"], error) from error


UNREADABLE = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)


def no_checkpoint_of(path, error):
    """The ValueError for a file that holds something else."""
    reason = str(error).splitlines()[0]
    return ValueError(f"{path} belongs to another model or is no training checkpoint: {reason}")


def rng_state(device):
    """The global random states, which dropout draws from: of the CPU, and of `device` if it is a CUDA card."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def save_checkpoint(path, **state):
    """Write `state` to `path` whole or not at all; the file that was there before becomes `<name>.previous`."""
    save_torch(path, state, older=previous(Path(path)))


def load_checkpoint(path):
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


def latest_checkpoint(path):
    """`path` if it exists, else the previous checkpoint beside it, else None."""
    if path is None:
        return None
    return next((p for p in (Path(path), previous(Path(path))) if p.exists()), None)


def previous(path):
    """Where `save_checkpoint` puts the file that it replaces."""
    return path.with_name(path.name + ".previous")
