r"""The files of a cascade: a folder with one for each stage, and a manifest.

    cascade.json         the sizes of the networks, and for each stage its file, bytes, SHA-256 and settings
    clip.pt, prior.pt, decoder.pt, key_frames.pt, interpolation.pt, spatiotemporal.pt, spatial.pt

Stages are trained one by one, perhaps on different days. A prior that was trained with another CLIP points to places in
another space, and nobody would see it; so each file that reads embeddings says, by a hash, of which CLIP they are.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..datasets.captions import Tokenizer
from ..files import replacing
from ..models.clip import CLIP
from ..training.torch_files import load_torch, save_torch
from .cascade import TextToVideo
from .cascade_training import STAGES
from .control_files import hash_of_weights
from .decoder import animate, build_decoder
from .interpolation import interpolator
from .pretrained import describe, require_finite
from .prior import build_prior
from .super_resolution import build_upscaler
from .text2video import VideoModel

MANIFEST = "cascade.json"
READ_EMBEDDINGS = "prior", "decoder", "key_frames", "interpolation"


@dataclass(frozen=True)
class Sizes:
    """What decides about the shapes of all networks of a cascade."""

    key_frames: int = 8
    frames: int = 16
    size: int = 16  # of key frames; CLIP sees 2 x, the last stage makes 4 x as many pixels in a row
    channels: int = 32  # of the decoder and of what is made of it
    mults: tuple[int, ...] = (2, 3)
    shift: float = 1.75  # of their noise schedule (see `shifted_betas`)
    up_channels: int = 32  # of the two stages of super-resolution
    up_mults: tuple[int, ...] = (1, 2)
    up_patches: tuple[int, int] = (2, 2)  # squares of so many pixels in a row are one position there
    clip_width: int = 32
    prior_width: int = 192
    embedding: int = 64

    def __post_init__(self) -> None:
        """Tuples for the lists that files hold."""
        for name in ("mults", "up_mults", "up_patches"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


def build_stage(stage: str, sizes: Sizes) -> CLIP | nn.Module:
    """An untrained stage; a ValueError if there is none of this name."""
    require_stage(stage)
    s = sizes
    if stage == "clip":
        return CLIP(len(Tokenizer()), Tokenizer().length, s.embedding, s.clip_width, 2 * s.size)
    if stage == "prior":
        return build_prior(s.embedding, s.prior_width)
    if stage == "spatiotemporal":
        return build_upscaler(s.frames, 2 * s.size, s.up_channels, s.up_mults, s.up_patches[0], s.embedding)
    if stage == "spatial":
        return build_upscaler(1, 4 * s.size, s.up_channels, s.up_mults, s.up_patches[1], s.embedding)
    decoder = build_decoder(s.channels, s.mults, embedding_dim=s.embedding, size=s.size, shift=s.shift)
    if stage == "decoder":
        return decoder
    key_frames = animate(decoder, s.key_frames)
    return key_frames if stage == "key_frames" else interpolator(key_frames, s.frames)


def require_stage(stage: str) -> None:
    """Raise a ValueError unless this is a stage's name."""
    if stage not in STAGES:
        raise ValueError(f"a stage is one of {', '.join(STAGES)}; got {stage!r}")


def read_manifest(folder: str | Path) -> dict[str, object]:
    """The manifest of a folder, {"sizes": .., "stages": {..}}; an empty one if there is none.

    Raises:
        ValueError: if it is none.
    """
    path = Path(folder) / MANIFEST
    if not path.exists():
        return {"sizes": None, "stages": {}}
    try:
        manifest = json.loads(path.read_text())
        Sizes(**manifest["sizes"])
        if not all(entry["sha256"] and name in STAGES for name, entry in manifest["stages"].items()):
            raise ValueError("it describes something else")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no manifest of a cascade: {' '.join(str(error).split())[:100]}") from error
    return manifest


def save_stage(folder: str | Path, stage: str, model: nn.Module, sizes: Sizes, clip: CLIP, **facts: object) -> Path:
    """Write a stage's weights in float16, and then its entry in the manifest, each whole or not at all.

    Args:
        folder: the cascade's.
        stage: a name in `STAGES`.
        model: the stage.
        sizes: those of the cascade; all stages in a folder have the same.
        clip: the CLIP whose embeddings it reads, if it reads any.
        facts: more for the manifest, such as the settings it was trained with.

    Returns:
        The path of its file.

    Raises:
        ValueError: if the folder holds a cascade of other sizes; `NotFinite` if a weight is not finite in float16.
    """
    require_stage(stage)
    path, manifest = Path(folder) / f"{stage}.pt", read_manifest(folder)
    require_sizes(folder, manifest, sizes)
    weights = {name: value.detach().cpu().half().contiguous() for name, value in model.state_dict().items()}
    require_finite(weights, f"{path} was not written: in float16 the {stage} has")
    made_for = hash_of_weights(clip) if stage in READ_EMBEDDINGS else None
    save_torch(path, {"kind": "cascade", "stage": stage, "clip": made_for, "weights": weights})
    stages = {**manifest["stages"], stage: describe(path, **facts)}
    stages = {name: stages[name] for name in STAGES if name in stages}
    with replacing(Path(folder) / MANIFEST) as file:
        file.write((json.dumps({"sizes": dataclasses.asdict(sizes), "stages": stages}, indent=2) + "\n").encode())
    return path


def require_sizes(folder: str | Path, manifest: dict[str, object], sizes: Sizes) -> None:
    """A ValueError that names the first size in which a folder's cascade differs."""
    if manifest["sizes"] is None:
        return
    there = Sizes(**manifest["sizes"])
    for name, value in dataclasses.asdict(there).items():
        if value != getattr(sizes, name):
            raise ValueError(f"{folder} holds a cascade with {name}={value}, not {name}={getattr(sizes, name)}")


@torch.inference_mode(False)
def load_stage(folder: str | Path, stage: str, clip: CLIP | None = None) -> VideoModel | CLIP | nn.Module:
    """A trained stage, on the CPU and in evaluation mode.

    Args:
        folder: the cascade's.
        stage: a name in `STAGES`.
        clip: the CLIP whose embeddings it will read; it is compared with that of its training.

    Raises:
        FileNotFoundError: if the folder has no such stage.
        ValueError: if its file is not the one that the manifest describes, or something else, or was trained with
            another CLIP; `NotFinite` if a weight is not finite.
    """
    require_stage(stage)
    manifest, path = read_manifest(folder), Path(folder) / f"{stage}.pt"
    entry = manifest["stages"].get(stage)
    if entry is None or not path.exists():
        where = f"no {stage} in {folder}" if entry is None else f"{path} is gone"
        raise FileNotFoundError(f"{where}: train it with `train cascade --stage {stage}`")
    found = describe(path)
    if found["sha256"] != entry["sha256"]:
        sizes = f"{found['bytes']:,} bytes where {entry['bytes']:,} were expected"
        raise ValueError(f"{path} is broken or another file: {sizes}, SHA-256 {found['sha256'][:12]}...")
    saved = load_torch(path)
    if not isinstance(saved, dict) or saved.get("kind") != "cascade" or saved.get("stage") != stage:
        raise ValueError(f"{path} holds no {stage} of a cascade")
    if clip is not None and stage in READ_EMBEDDINGS and saved["clip"] != hash_of_weights(clip):
        its = f"{str(saved['clip'])[:12]}... than {hash_of_weights(clip)[:12]}..."
        raise ValueError(f"{path} was trained with another CLIP, {its}: delete it, and train it again")
    model = build_stage(stage, Sizes(**manifest["sizes"]))
    load_weights_into(model, saved["weights"], path)
    return model.requires_grad_(False).eval()


def load_weights_into(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load a file's weights; a ValueError if they are those of a network of other shapes, or not finite."""
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    came = {name: tuple(value.shape) for name, value in weights.items()}
    other = [name for name in {**expected, **came} if expected.get(name) != came.get(name)]
    if other:
        shapes = f"{other[0]} is {came.get(other[0], 'missing')}, not {expected.get(other[0], 'known')}"
        raise ValueError(f"{path} holds a network of other shapes: {shapes}")
    require_finite(weights, f"{path} holds")
    model.load_state_dict({name: value.float() for name, value in weights.items()})


def load_cascade(folder: str | Path, without: Sequence[str] = ("decoder",)) -> TextToVideo:
    """The whole cascade of a folder, on the CPU.

    Args:
        folder: the cascade's.
        without: stages that are not needed for clips, such as the decoder of pictures alone.

    Raises:
        FileNotFoundError, ValueError: as for `load_stage`, for the first stage that is missing or does not fit.
    """
    missing = [stage for stage in STAGES if stage not in read_manifest(folder)["stages"] and stage not in without]
    if missing:
        raise FileNotFoundError(f"{folder} holds no whole cascade: {', '.join(missing)} missing; train cascade goes on")
    clip = load_stage(folder, "clip")
    rest = {stage: load_stage(folder, stage, clip) for stage in STAGES if stage not in ("clip", *without)}
    return TextToVideo(clip, **rest).eval()
