"""Checkpoints that survive a crash: everything the next step depends on, in one file, written whole or not at all."""

from pathlib import Path

import torch

from ..files import load_torch, save_torch


def restore(path, model, ema, optimizer, scaler, generators):
    """Load a checkpoint into all parts of a run and return its step."""
    saved, device = load_checkpoint(path), generators[0].device
    try:
        states, made_on = saved["generators"], saved["device"]
        if (len(states), made_on) == (len(generators), device.type):
            model.load_state_dict(saved["model"])
            ema.model.load_state_dict(saved["ema"])
            ema.updates = saved["ema_updates"]
            optimizer.load_state_dict(saved["optimizer"])
            if saved["scaler"]:  # empty where no float16 is in play
                scaler.load_state_dict(saved["scaler"])
            for generator, state in zip(generators, states):
                generator.set_state(state)
            torch.set_rng_state(saved["rng"]["cpu"])
            if device.type == "cuda":
                torch.cuda.set_rng_state(saved["rng"]["cuda"], device)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} belongs to another model or is no training checkpoint: {reason}"
        ) from error
    if len(states) != len(generators):
        raise ValueError(
            f"{path} was made with micro_batches={len(states)}, not micro_batches={len(generators)}"
        )
    if made_on != device.type:
        raise ValueError(
            f"{path} was made on {made_on}, where the random numbers are others than on {device.type}: "
            f"go on there, or start again in another place"
        )
    return saved["step"]


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
        way_out = (
            f"delete it to go on from {older.name}"
            if older.exists()
            else "delete it to start again"
        )
        raise ValueError(f"{error}: {way_out}") from error


def latest_checkpoint(path):
    """`path` if it exists, else the previous checkpoint beside it, else None."""
    if path is None:
        return None
    return next((p for p in (Path(path), previous(Path(path))) if p.exists()), None)


def previous(path):
    """Where `save_checkpoint` puts the file that it replaces."""
    return path.with_name(path.name + ".previous")
