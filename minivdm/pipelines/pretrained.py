"""The small networks that come with the course: find, check, build.

Half precision is for storage: weights are rounded to float16 in the file, and computed with in float32. `manifest.json`
says for each file its size, its SHA-256, the command that made it and how good it was measured to be.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ..datasets.captions import Tokenizer
from ..datasets.concepts import ConceptStills
from ..datasets.stills import STILL_ATTRIBUTES
from ..evaluation.attribute_classifier import AttributeClassifier
from ..files import replacing, shipped
from ..models.clip import CLIP
from ..models.unet import Conditioned, UNet
from ..training.torch_files import load_torch, save_torch
from .latent import build_latent
from .text2image import build_text2image
from .text2video import build_text2video

DATA = shipped("data")


def build_digits(config: dict[str, object]) -> Conditioned:
    """An untrained model of digits by class (it estimates eps): label + 1 is the condition, 0 stands for none."""
    return Conditioned(UNet(**config), nn.Embedding(11, config["context_dim"]), length=1)


def build_stills_classifier(config: dict[str, object]) -> AttributeClassifier:
    """An untrained `AttributeClassifier` for `SpriteStills`."""
    return AttributeClassifier(STILL_ATTRIBUTES, **config)


def build_concepts_classifier(config: dict[str, object]) -> AttributeClassifier:
    """An untrained `AttributeClassifier` for `ConceptStills`."""
    return AttributeClassifier(ConceptStills.attributes, **config)


def build_video_classifier(config: dict[str, object]) -> AttributeClassifier:
    """An untrained `AttributeClassifier` for `MovingSprites`."""
    return AttributeClassifier(**config)


BUILDERS = {
    "clip": lambda config: CLIP(len(Tokenizer()), **config),
    "concepts_classifier": build_concepts_classifier,
    "digits": build_digits,
    "latent": lambda config: build_latent(**config),
    "stills_classifier": build_stills_classifier,
    "text2image": lambda config: build_text2image(**config),
    "text2video": lambda config: build_text2video(**{"shift": 1.0, **config}),  # the first files name no shift
    "video_classifier": build_video_classifier,
}


class NotFinite(ValueError):
    """Weights among which there is NaN or infinity."""


def require_finite(weights: dict[str, Tensor], what: str) -> None:
    """A `NotFinite` that names the first of these weights that is not finite; `what` begins its sentence."""
    broken = [name for name, value in weights.items() if not value.isfinite().all()]
    if broken:
        raise NotFinite(f"{what} weights that are not finite, the first in {broken[0]}: train the model again")


def save_pretrained(path: str | Path, model: nn.Module, config: dict[str, object]) -> None:
    """Write a model's weights as float16, with the settings that `BUILDERS` need, whole or not at all.

    Buffers of whole numbers stay as they are.

    Raises:
        NotFinite: if a weight is not finite in float16, whose largest number is 65,504; nothing is written then.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    require_finite(weights, f"{path} was not written: in float16 the model has")
    save_torch(path, {"config": config, "weights": weights})


def describe(path: str | Path, **facts: object) -> dict[str, object]:
    """The manifest's entry for a file: name, bytes and SHA-256, and whatever else is known."""
    content = Path(path).read_bytes()
    return {"file": Path(path).name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **facts}


def record(path: str | Path, **facts: object) -> None:
    """Describe a checkpoint in the `manifest.json` beside it, under its name without the ending."""
    path = Path(path)
    manifest = path.parent / "manifest.json"
    entries = json.loads(manifest.read_text()) if manifest.exists() else {}
    with replacing(manifest) as file:
        file.write((json.dumps({**entries, path.stem: describe(path, **facts)}, indent=2) + "\n").encode())


def load_pretrained(name: str, folder: str | Path = DATA) -> nn.Module:
    """A network that comes with the course, in evaluation mode on the CPU.

    Args:
        name: "clip": a `CLIP` of frames (B, 3, 32, 32) and captions of `MovingSprites`, tokens (B, 12).
            "digits": `model(x, t, cond)` estimates eps of digits (B, 1, 8, 8) at the levels of `linear_betas(1000)`;
            cond is (B, 1) long, the digit + 1, or 0 or None for any digit.
            "text2image": the same for `SpriteStills` (B, 3, 32, 32), `cosine_betas(1000)` and tokens (B, 12).
            "text2video": the same for clips (B, 3, 16, 32, 32); its levels, `model.schedule`, are those of
                `shifted_betas(cosine_betas(1000), 2)`.
            "stills_classifier": an `AttributeClassifier` for `SpriteStills`.
            "concepts_classifier": the same for `ConceptStills`; it reads shape and colour in frames of clips, too.
            "video_classifier": an `AttributeClassifier` for `MovingSprites` of 16 frames and 32 x 32 pixels.
        folder: where the files and `manifest.json` are.

    Raises:
        ValueError: if the name is unknown, or the file is not the one that the manifest describes.
        FileNotFoundError: if the manifest or the file is missing.
    """
    if name not in BUILDERS:
        raise ValueError(f"there is no checkpoint {name!r}; choose from {', '.join(BUILDERS)}")
    folder = Path(folder)
    manifest = folder / "manifest.json"
    if not manifest.exists():
        raise FileNotFoundError(f"no manifest at {manifest}: the checkpoints are in the folder data/ of the repository")
    entry = json.loads(manifest.read_text()).get(name)
    if entry is None:
        raise ValueError(f"{manifest} does not describe {name!r}")
    path = folder / entry["file"]
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}; make it with: {entry['command']}")
    found = describe(path)
    if found["sha256"] != entry["sha256"]:
        sizes = f"{found['bytes']:,} bytes where {entry['bytes']:,} were expected"
        raise ValueError(f"{path} is broken or another file: {sizes}, SHA-256 {found['sha256'][:12]}...")
    return load_weights(path, BUILDERS[name])


@torch.inference_mode(False)
def load_weights(path: str | Path, build: Callable) -> nn.Module:
    """Build a model from a file of `save_pretrained` and load its weights, in float32 and evaluation mode.

    Also where this is called in inference mode, its weights are ordinary ones, which gradients may pass.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is truncated or of another kind; `NotFinite` if a weight is not finite.
    """
    saved = load_torch(path)
    try:
        if not isinstance(saved, dict):
            raise TypeError(f"expected a dict, got a {type(saved).__name__}")
        model, weights = build(saved["config"]), saved["weights"]
        model.load_state_dict(
            {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
        )
    except Exception as error:  # whatever else a file may hold
        raise ValueError(f"{path} holds no model of this kind: {' '.join(str(error).split())[:200]}") from error
    require_finite(saved["weights"], f"{path} holds")
    return model.eval()
