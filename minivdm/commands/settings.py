"""The settings of a run of `python -m minivdm train text2video`, and what its folder tells about it.

A run goes on from its folder, and only with the settings it was begun with: the `settings.json` there is compared with
those asked for.
"""

import json
import math
import os

import torch

from ..training.checkpoint import latest_checkpoint, load_checkpoint

# Clips of `frames` x `size` x `size`; `channels` and `mults` of the network, `shift` of its noise schedule; `batch`
# clips per step, in `parts` one after the other (which takes less memory) or on several GPUs; `pool` clips in all.
# Before the `steps`, so many steps on single frames as `stills` says, `pictures` frames in each.
BUDGETS = {
    "smoke": dict(
        frames=4,
        size=16,
        channels=32,
        mults=[1, 1],
        shift=2.0,
        image_steps=0,
        image_batch=96,
        batch=8,
        micro_batches=2,
        steps=8,
        lr=1e-3,
        pool=64,
        seed=0,
    ),
    "cpu": dict(
        frames=8,
        size=16,
        channels=32,
        mults=[1, 2],
        shift=2.0,
        image_steps=1500,
        image_batch=96,
        batch=16,
        micro_batches=1,
        steps=3000,
        lr=2e-3,
        pool=16_384,
        seed=0,
    ),
    "gpu": dict(
        frames=16,
        size=32,
        channels=32,
        mults=[2, 3],
        shift=2.0,
        image_steps=0,
        image_batch=96,
        batch=64,
        micro_batches=1,
        steps=4_500,
        lr=1e-3,
        pool=32_768,
        seed=0,
    ),
}


def settings_of(budget=None, **changes):
    """The numbers of a budget, by default of `MINIVDM_BUDGET`, else `gpu` where there is CUDA, else `cpu`.

    Args:
        budget: a name in `BUDGETS`.
        changes: other values for some of its numbers; None leaves one as it is.

    Returns:
        The budget's name, and a dict like those in `BUDGETS`.

    Raises:
        ValueError: if there is no such budget or no such number, or a number makes no sense.
    """
    name = (
        budget
        or os.environ.get("MINIVDM_BUDGET")
        or ("gpu" if torch.cuda.is_available() else "cpu")
    )
    if name not in BUDGETS:
        source = "budget" if budget else "MINIVDM_BUDGET"
        raise ValueError(f"{source} must be one of {', '.join(BUDGETS)}; got {name!r}")
    unknown = [key for key in changes if key not in BUDGETS[name]]
    if unknown:
        raise ValueError(
            f"a budget has no {', '.join(unknown)}; its numbers are {', '.join(BUDGETS[name])}"
        )
    given = {key: value for key, value in changes.items() if value is not None}
    settings = BUDGETS[name] | given
    settings["mults"] = list(settings["mults"])  # a tuple, too, comes back from JSON as a list
    for key in ("channels", "image_batch", "batch", "micro_batches", "steps", "pool"):
        if settings[key] < 1:
            raise ValueError(f"{key} must be at least 1, got {settings[key]}")
    if settings["image_steps"] < 0:
        raise ValueError(f"stills must be at least 0, got {settings['stills']}")
    if not 0 < settings["lr"] < math.inf:
        raise ValueError(f"lr must be a positive number, got {settings['lr']}")
    if not 0 <= settings["seed"] < 2**32:
        raise ValueError(f"seed must lie in 0..2^32 - 1, got {settings['seed']}")
    if settings["channels"] % 32:
        raise ValueError(f"channels must be a multiple of 32, got {settings['channels']}")
    if settings["size"] % 4:
        raise ValueError(f"size must be a multiple of 4, got {settings['size']}")
    return name, settings


def steps_done(path):
    """At which step a checkpoint is, 0 if there is none; a ValueError if it is broken or something else."""
    found = latest_checkpoint(path)
    saved = load_checkpoint(found) if found else {"step": 0}
    if not isinstance(saved, dict) or not isinstance(saved.get("step"), int):
        raise ValueError(f"{found} is no training checkpoint: choose another --out")
    return saved["step"]


def what_is_saved(out):
    """From where the run in a folder will go on, in words."""
    for file, name in (("checkpoint.pt", "step"), ("stills.pt", "still")):
        reached = steps_done(out / file)
        if reached:
            return f"{out} holds {name} {reached}, and the same command goes on from there"
    return "nothing saved"


def saved_settings(out):
    """The settings a run was begun with; a ValueError if they cannot be read."""
    path = out / "settings.json"
    try:
        settings = {"image_steps": 0, "image_batch": 96} | json.loads(
            path.read_text()
        )  # older runs knew neither
        return {key: settings[key] for key in BUDGETS["smoke"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not tell what the run in {out} was begun with: choose another --out, or delete "
            f"that folder to start again"
        ) from error


def require_same(out, settings):
    """A ValueError that names the first setting in which the run in `out` differs."""
    for key, value in saved_settings(out).items():
        if value != settings[key]:
            raise ValueError(
                f"{out} holds a run with {key}={value}, not {key}={settings[key]}: choose another --out, "
                f"or delete that folder to start again"
            )
