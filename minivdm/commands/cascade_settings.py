"""The settings of `minivdm train cascade`: how large the networks are, and how long each stage learns."""

import dataclasses
import math
import os

import torch

from ..pipelines.cascade_files import Sizes, require_stage


@dataclasses.dataclass(frozen=True)
class StageSettings:
    """How one stage is trained."""

    steps: int  # of the optimiser
    batch: int  # pictures, clips or frames in each
    lr: float = 1e-3  # the highest learning rate of AdamW; Muon's is ten times as large
    seed: int = 0

    def __post_init__(self) -> None:
        """A ValueError that names the first number that makes no sense."""
        for name in ("steps", "batch"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number, at least 1, got {value}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be a positive number, got {self.lr}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must lie in 0..2^32 - 1, got {self.seed}")


@dataclasses.dataclass(frozen=True)
class CascadeSettings:
    """What a cascade is made with."""

    sizes: Sizes
    photos: int  # captioned pictures, drawn before the first step
    clips: int  # clips without captions
    stages: dict[str, StageSettings]


SMALL = Sizes(mults=(1, 2))
ON_A_CARD = {
    "clip": StageSettings(1_000, 256, 2e-3),
    "prior": StageSettings(3_000, 512),
    "decoder": StageSettings(2_500, 256),
    "key_frames": StageSettings(2_000, 64),
    "interpolation": StageSettings(1_000, 48),
    "spatiotemporal": StageSettings(800, 32, 2e-3),
    "spatial": StageSettings(1_000, 128, 2e-3),
}
BUDGETS = {
    # every line of code runs, in seconds
    "smoke": CascadeSettings(
        Sizes(4, 8, 8, mults=(1, 1), up_mults=(1, 1), clip_width=16, prior_width=64),
        photos=64,
        clips=16,
        stages={
            "clip": StageSettings(3, 8),
            "prior": StageSettings(3, 8),
            "decoder": StageSettings(3, 4),
            "key_frames": StageSettings(3, 2),
            "interpolation": StageSettings(3, 2),
            "spatiotemporal": StageSettings(3, 2),
            "spatial": StageSettings(3, 4),
        },
    ),
    # two CPU cores
    "cpu": CascadeSettings(
        SMALL,
        photos=8_192,
        clips=1_024,
        stages={
            "clip": StageSettings(400, 96, 2e-3),
            "prior": StageSettings(1_000, 128),
            "decoder": StageSettings(2_500, 64, 1.5e-3),
            "key_frames": StageSettings(600, 12),
            "interpolation": StageSettings(300, 8),
            "spatiotemporal": StageSettings(600, 2, 2e-3),
            "spatial": StageSettings(1_000, 8, 2e-3),
        },
    ),
    # any CUDA card with 8 GB
    "gpu": CascadeSettings(Sizes(), photos=32_768, clips=8_192, stages=ON_A_CARD),
    # the networks of `cpu`, trained on a card: those that come with the course
    "gpu-small": CascadeSettings(SMALL, photos=32_768, clips=8_192, stages=ON_A_CARD),
}


def cascade_settings(
    budget: str | None = None, stage: str | None = None, seed: int | None = None, **changes: object
) -> tuple[str, CascadeSettings]:
    """The settings of a budget, by default of `MINIVDM_BUDGET`, else `gpu` where there is CUDA, else `cpu`.

    Args:
        budget: a name in `BUDGETS`.
        stage: the stage for which there are changes.
        seed: of all stages.
        changes: other values for steps, batch or lr of that stage; None leaves one as it is.

    Returns:
        The budget's name, and its settings.

    Raises:
        ValueError: if there is no such budget or stage, a number makes no sense, or there are changes without a stage.
    """
    name = budget or os.environ.get("MINIVDM_BUDGET") or ("gpu" if torch.cuda.is_available() else "cpu")
    if name not in BUDGETS:
        source = "budget" if budget else "MINIVDM_BUDGET"
        raise ValueError(f"{source} must be one of {', '.join(BUDGETS)} for a cascade; got {name!r}")
    changes = {key: value for key, value in changes.items() if value is not None}
    if stage is None and changes:
        raise ValueError(f"{next(iter(changes))} differs from stage to stage: give --stage, too")
    if stage is not None:
        require_stage(stage)
    stages = dict(BUDGETS[name].stages)
    if stage:
        stages[stage] = dataclasses.replace(stages[stage], **changes)
    if seed is not None:
        stages = {key: dataclasses.replace(each, seed=seed) for key, each in stages.items()}
    return name, dataclasses.replace(BUDGETS[name], stages=stages)
