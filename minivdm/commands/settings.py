"""The settings of a run of `minivdm train text2video`. A run goes on only with those that it was begun with."""

import dataclasses
import math
import os
from numbers import Integral, Real

import torch

from ..training.loop import CURVES
from ..training.optimizers import OPTIMIZERS


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
    shift: float = 2.5  # of the noise schedule: so many times the noise (see `shifted_betas`)

    # Single frames first, where time is short
    image_steps: int = 0  # optimiser steps on single frames, before those on clips
    image_batch: int = 96  # frames in each of them, rounded up to a multiple of `micro_batches`

    # Clips
    steps: int = 2_400  # optimiser steps
    batch: int = 64  # clips in each of them
    micro_batches: int = 1  # parts of each batch, one after the other (less memory) or on several GPUs
    optimizer: str = "muon"  # or "adamw" (see `build_optimizer`)
    momentum: float = 0.9  # of Muon
    lr: float = 1e-3  # of AdamW after the warm-up, ten times that of Muon
    warm_up: int = 100  # steps in which it grows
    decay: str = "cosine"  # on clips it falls to 0 along half a cosine, or along a straight line: "linear"
    seed: int = 0  # of weights, clips, batches, levels and noise

    def __post_init__(self) -> None:
        """A ValueError that names the first number that makes no sense."""
        if isinstance(self.mults, list):  # as JSON gives tuples back
            object.__setattr__(self, "mults", tuple(self.mults))
        for name in (*AT_LEAST_1, *AT_LEAST_0, "seed"):
            require(isinstance(getattr(self, name), Integral), self, name, "a whole number")
            object.__setattr__(self, name, int(getattr(self, name)))  # not NumPy's, which files cannot hold
        for name in AT_LEAST_1:
            require(getattr(self, name) >= 1, self, name, "at least 1")
        for name in AT_LEAST_0:
            require(getattr(self, name) >= 0, self, name, "at least 0")
        require(self.optimizer in OPTIMIZERS, self, "optimizer", f"one of {', '.join(OPTIMIZERS)}")
        require(self.decay in CURVES, self, "decay", f"one of {', '.join(CURVES)}")
        momentum = self.momentum
        require(isinstance(momentum, Real) and 0 <= momentum < 1, self, "momentum", "a number from 0 on, below 1")
        object.__setattr__(self, "momentum", float(momentum))
        for name in ("lr", "shift"):
            value = getattr(self, name)
            require(isinstance(value, Real) and 0 < value < math.inf, self, name, "a positive number")
            object.__setattr__(self, name, float(value))
        widths = self.mults if isinstance(self.mults, tuple) else ()
        fit = widths and all(isinstance(each, Integral) and each >= 1 for each in widths)
        require(fit, self, "mults", "one or more whole numbers, each at least 1")
        object.__setattr__(self, "mults", tuple(map(int, widths)))
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0..2^32 - 1, got {self.seed}")
        require(self.channels % 32 == 0, self, "channels", "a multiple of 32")
        require(self.size % 4 == 0, self, "size", "a multiple of 4")
        if self.batch % self.micro_batches:
            raise ValueError(f"a batch of {self.batch} cannot be cut into {self.micro_batches} equal micro-batches")

    @property
    def model(self) -> dict[str, object]:
        """The arguments of `build_text2video`."""
        return {name: getattr(self, name) for name in ("channels", "mults", "frames", "size", "shift")}

    @property
    def pixels(self) -> int:
        """Pixels of all clips that the run trains on."""
        return self.steps * self.batch * self.frames * self.size**2

    def as_text(self) -> str:
        """All settings in one line."""
        return ", ".join(f"{name}={value}" for name, value in dataclasses.asdict(self).items())


AT_LEAST_1 = ("frames", "size", "pool", "channels", "image_batch", "steps", "batch", "micro_batches")
AT_LEAST_0 = ("image_steps", "warm_up")


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
    # two CPU cores, nine minutes
    "cpu": Settings(
        frames=8,
        size=16,
        mults=(1, 2),
        shift=1.75,
        pool=16_384,
        image_steps=1_000,
        image_batch=64,
        batch=16,
        steps=1_700,
        momentum=0.8,
        lr=1.5e-3,
        warm_up=20,
        decay="linear",
    ),
    # any CUDA card with 8 GB; on a fast one less than a minute
    "gpu": Settings(),
    # the same in fewer steps: clips obey, but are less clean
    "gpu-quick": Settings(
        steps=800,
        lr=1.2e-3,
    ),
    # the same network for small clips, the fastest
    "gpu-small": Settings(
        frames=8,
        size=16,
        shift=1.0,
        steps=700,
        lr=1.5e-3,
        warm_up=20,
    ),
}
# Settings of runs that were begun before they had their present names.
FORMER_NAMES = {"stills": "image_steps", "pictures": "image_batch", "parts": "micro_batches"}


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


def fit_to_processes(settings: Settings, n: int, asked: int | None, begun_with: int | None) -> Settings:
    """The settings for n processes, with as many micro-batches as asked for, or as begun with, or a multiple of n.

    Raises:
        ValueError: if they cannot be divided among the processes, or the batch not among them.
    """
    parts = asked or begun_with or math.lcm(settings.micro_batches, n)
    if parts % n:
        advice = f"the run was begun with {parts}" if parts == begun_with else f"use a multiple of {n}"
        raise ValueError(f"{parts} micro-batches cannot be divided among {n} processes: {advice}")
    if settings.batch % parts and parts != begun_with:
        less, fits = settings.batch // parts * parts, settings.batch // parts * parts + parts
        batches = f"--batch {less} or {fits}" if less else f"--batch {fits}"
        raise ValueError(
            f"a batch of {settings.batch} cannot be divided among {n} processes, in {parts} equal micro-batches: "
            f"use {batches}, or another number of processes"
        )
    return dataclasses.replace(settings, micro_batches=parts)
