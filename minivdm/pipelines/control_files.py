"""The file of a ControlNet.

It holds the ControlNet alone, and says for which base it was trained, by a hash of the base's weights, and for which
kind of hint: beside another base its numbers mean nothing, and nobody would be told.
"""

from pathlib import Path

from torch import Tensor, nn

from ..datasets.hints import HINTS
from ..diffusion.predictions import EpsModel
from ..models.controlnet import ControlNet, control_for
from ..training.torch_files import hash_of_tensors, load_torch, save_torch
from .pretrained import require_finite
from .text2video import VideoModel


def hash_of_weights(net: nn.Module) -> str:
    """The SHA-256 of a network's weights as float16, as files hold them: the same for a model and its file."""
    return hash_of_tensors({name: value.half() for name, value in net.state_dict().items()})


def save_control(path: str | Path, control: ControlNet, model: EpsModel, hint: str) -> None:
    """Write a ControlNet in float16, with what it was trained for, whole or not at all.

    Args:
        path: the file.
        control: the `ControlNet`.
        model: the model that it was trained beside.
        hint: the kind of hint, a name in `HINTS`.

    Raises:
        ValueError: if there is no such kind of hint; `NotFinite` if a weight is not finite in float16.
    """
    require_kind(hint)
    weights = {name: value.detach().cpu().half().contiguous() for name, value in control.state_dict().items()}
    require_finite(weights, f"{path} was not written: in float16 the ControlNet has")
    facts = dict(hint=hint, channels=control.hint_channels, base=hash_of_weights(model.net.net))
    save_torch(path, {"kind": "controlnet", "model": name_of(model), **facts, "weights": weights})


def name_of(model: EpsModel) -> str:
    """Which of the course's models this is: "text2video" or "text2image"."""
    return "text2video" if isinstance(model, VideoModel) else "text2image"


def read_control(path: str | Path) -> dict[str, object]:
    """What `save_control` wrote; a ValueError if it is broken or something else."""
    saved = load_torch(path)
    if not isinstance(saved, dict) or saved.get("kind") != "controlnet":
        raise ValueError(f"{path} holds no ControlNet")
    missing = {"model", "hint", "channels", "base", "weights"} - set(saved)
    if missing or not all(isinstance(value, Tensor) for value in saved["weights"].values()):
        raise ValueError(f"{path} is no whole ControlNet: {', '.join(sorted(missing)) or 'a weight'} is missing")
    return saved


def made_for(path: str | Path) -> str:
    """Which model the ControlNet of a file steers: "text2image" or "text2video"."""
    return read_control(path)["model"]


def load_control(path: str | Path, model: EpsModel) -> tuple[ControlNet, str]:
    """A ControlNet from a file of `save_control`, on the model's device, and its kind of hint.

    Args:
        path: the file.
        model: the model that it is to steer.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is broken, holds something else, or was made for another base or other shapes; `NotFinite` if
            a weight is not finite.
    """
    saved, base = read_control(path), model.net.net
    found = hash_of_weights(base)
    if saved["base"] != found:
        its = f"{saved['model']}, {str(saved['base'])[:12]}..."
        raise ValueError(f"{path} was trained beside another model ({its}) than this one ({found[:12]}...)")
    require_kind(saved["hint"])
    control = control_for(base, saved["channels"])
    expected = {name: tuple(value.shape) for name, value in control.state_dict().items()}
    came = {name: tuple(value.shape) for name, value in saved["weights"].items()}
    other = [name for name in {**expected, **came} if expected.get(name) != came.get(name)]
    if other:
        shapes = f"{other[0]} is {came.get(other[0], 'missing')}, not {expected.get(other[0], 'known')}"
        raise ValueError(f"{path} holds a ControlNet of other shapes: {shapes}")
    require_finite(saved["weights"], f"{path} holds")
    control.load_state_dict({name: value.float() for name, value in saved["weights"].items()})
    return control.requires_grad_(False).eval(), saved["hint"]


def require_kind(hint: object) -> None:
    """Raise a ValueError unless this is a name in `HINTS`."""
    if hint not in HINTS:
        raise ValueError(f"the kind of hint must be one of {', '.join(HINTS)}; got {hint!r}")
