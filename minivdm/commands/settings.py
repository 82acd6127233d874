"""The settings of a run of `minivdm train text2video`, and what its folder tells about it.

A run goes on from its folder, and only with the settings it was begun with: the `settings.json` there is compared with
those asked for.
"""

import dataclasses
import json
import math
import os
from pathlib import Path

import torch

from ..training.checkpoint import latest_checkpoint, load_checkpoint

# A run's checkpoint says in which of its phases it is; what a step of that phase is called.
PHASES = {"images": "image step", "clips": "step"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is made with. The defaults are those of the budget `gpu`; see `BUDGETS`."""

    # The clips
    frames: int = 16  # at least 4
    size: int = 32  # height and width in pixels, a multiple of 4, at least 16
    pool: int = 32_768  # clips drawn before the first step; batches are drawn from them

    # The model
    channels: int = 32  # width of the network at full resolution, a multiple of 32
    mults: tuple[int, ...] = (2, 3)  # width at each resolution, in multiples of `channels`
    shift: float = 2.0  # of the noise schedule: so many times the noise (see `shifted_betas`)

    # Single frames first, where time is short
    image_steps: int = 0  # optimiser steps on single frames, before those on clips
    image_batch: int = 96  # frames in each of them

    # Clips
    steps: int = 4_500  # optimiser steps
    batch: int = 64  # clips in each of them
    micro_batches: int = 1  # parts of each batch, one after the other (less memory) or on several GPUs
    lr: float = 1e-3  # learning rate of AdamW after the warm-up; it falls to 0 along half a cosine
    seed: int = 0  # of weights, clips, batches, levels and noise

    def __post_init__(self) -> None:
        """A ValueError that names the first number that makes no sense."""
        object.__setattr__(self, "mults", tuple(self.mults))  # JSON gives tuples back as lists
        for name in ("channels", "image_batch", "batch", "micro_batches", "steps", "pool"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        require(self.image_steps >= 0, self, "image_steps", "at least 0")
        require(0 < self.lr < math.inf, self, "lr", "a positive number")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0..2^32 - 1, got {self.seed}")
        require(self.channels % 32 == 0, self, "channels", "a multiple of 32")
        require(self.size % 4 == 0, self, "size", "a multiple of 4")

    @property
    def model(self) -> dict[str, object]:
        """The arguments of `build_text2video`."""
        return {name: getattr(self, name) for name in ("channels", "mults", "frames", "size", "shift")}

    def as_text(self) -> str:
        """All settings in one line."""
        return ", ".join(f"{name}={value}" for name, value in dataclasses.asdict(self).items())


def require(holds: bool, settings: Settings, name: str, wanted: str) -> None:
    """A ValueError that says what a setting must be, unless it holds."""
    if not holds:
        raise ValueError(f"{name} must be {wanted}, got {getattr(settings, name)}")


BUDGETS = {
    # every line of code runs, in seconds
    "smoke": Settings(
        frames=4,
        size=16,
        mults=(1, 1),
        pool=64,
        batch=8,
        micro_batches=2,
        steps=8,
    ),
    # two CPU cores, about a quarter of an hour
    "cpu": Settings(
        frames=8,
        size=16,
        mults=(1, 2),
        pool=16_384,
        image_steps=1500,
        batch=16,
        steps=3000,
        lr=2e-3,
    ),
    # any CUDA card with 8 GB
    "gpu": Settings(),
}
# Settings and files of runs that were begun before they had their present names.
FORMER_NAMES = {"stills": "image_steps", "pictures": "image_batch", "parts": "micro_batches"}
FORMER_CHECKPOINT = "stills.pt"


def settings_of(budget: str | None = None, **changes: object) -> tuple[str, Settings]:
    """The numbers of a budget, by default of `MINIVDM_BUDGET`, else `gpu` where there is CUDA, else `cpu`.

    Args:
        budget: a name in `BUDGETS`.
        changes: other values for some of its numbers; None leaves one as it is.

    Returns:
        The budget's name, and a `Settings`.

    Raises:
        ValueError: if there is no such budget or no such number, or a number makes no sense.
    """
    name = budget or os.environ.get("MINIVDM_BUDGET") or ("gpu" if torch.cuda.is_available() else "cpu")
    if name not in BUDGETS:
        source = "budget" if budget else "MINIVDM_BUDGET"
        raise ValueError(f"{source} must be one of {', '.join(BUDGETS)}; got {name!r}")
    known = [field.name for field in dataclasses.fields(Settings)]
    unknown = [key for key in changes if key not in known]
    if unknown:
        renamed = [f"{key} is called {FORMER_NAMES[key]} now" for key in unknown if key in FORMER_NAMES]
        raise ValueError(
            "; ".join(renamed) or f"a budget has no {', '.join(unknown)}; its numbers are {', '.join(known)}"
        )
    given = {key: value for key, value in changes.items() if value is not None}
    return name, dataclasses.replace(BUDGETS[name], **given)


def progress_of(out: Path) -> tuple[str | None, int]:
    """How far the run in a folder has come: its phase and the steps done in it; (None, 0) if there is no checkpoint.

    Raises:
        ValueError: if the checkpoint is broken, something else, or from before a run had a single one.
    """
    found = latest_checkpoint(out / "checkpoint.pt")
    if found is None:
        if (out / FORMER_CHECKPOINT).exists():
            raise ValueError(
                f"{out / FORMER_CHECKPOINT} was made by an earlier version, whose runs on single frames this one "
                f"cannot go on with: choose another --out, or delete that folder to start again"
            )
        return None, 0
    saved = load_checkpoint(found)
    if not isinstance(saved, dict) or not isinstance(saved.get("step"), int):
        raise ValueError(f"{found} is no training checkpoint: choose another --out")
    return saved.get("phase", "clips"), saved["step"]  # before there were phases, this file was for clips


def what_is_saved(out: Path) -> str:
    """From where the run in a folder will go on, in words."""
    phase, step = progress_of(out)
    return f"{out} holds {PHASES[phase]} {step}, and the same command goes on from there" if phase else "nothing saved"


def write_settings(settings: Settings) -> bytes:
    """The content of a `settings.json`."""
    return (json.dumps(dataclasses.asdict(settings), indent=2) + "\n").encode()


def saved_settings(out: Path) -> Settings:
    """The `Settings` that a run was begun with; a ValueError if they cannot be read."""
    path = out / "settings.json"
    try:
        saved = {FORMER_NAMES.get(name, name): value for name, value in json.loads(path.read_text()).items()}
        saved = {"image_steps": 0, "image_batch": 96} | saved  # older runs knew neither
        return Settings(**{field.name: saved[field.name] for field in dataclasses.fields(Settings)})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} does not tell what the run in {out} was begun with: choose another --out, or delete "
            f"that folder to start again"
        ) from error


def require_same(out: Path, settings: Settings) -> None:
    """A ValueError that names the first setting in which the run in `out` differs."""
    for name, value in dataclasses.asdict(saved_settings(out)).items():
        asked = getattr(settings, name)
        if value != asked:
            raise ValueError(
                f"{out} holds a run with {name}={value}, not {name}={asked}: choose another --out, "
                f"or delete that folder to start again"
            )
