"""Make clips from prompts: `python -m minivdm sample "a red circle moving left" -o clip.gif`.

Everything that may be wrong with the prompts, the file or the model is found before any computing.
"""

import math
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..datasets.captions import Tokenizer
from ..datasets.video_files import pyav, require_fits, write_video
from ..files import runs_folder
from ..models.lora import merge_lora
from ..pipelines.adapters import load_concept
from ..pipelines.controlled import with_hints
from ..pipelines.pretrained import BUILDERS, NotFinite, load_pretrained, load_weights
from ..pipelines.text2video import VideoModel, text_to_video
from ..training.precision import best_device
from .control import for_pictures, loaded_with_hint, sample_pictures

GAP_PIXELS = 2  # pixels between clips side by side; even, as MP4 needs
COLUMNS = 4  # clips in a row
CLIPS_AT_A_TIME = 32  # in one call of the model, for memory's sake
ENDINGS = (".gif", ".mp4")


def sample_text2video(
    prompts: Sequence[str],
    out: str | Path,
    steps: int = 20,
    guidance_scale: float = 2.0,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    fps: float = 8,
    scale: int = 4,
    lora: Sequence[str] = (),
    control: str | Path | None = None,
    hint: str | Path | None = None,
    strength: float = 1.0,
) -> list[Path]:
    """Sample one clip per prompt and write them.

    Args:
        prompts: a list of strings, or one string.
        out: a file (.gif or .mp4), in which several clips stand side by side, or a folder, for one .gif per prompt.
        steps, guidance_scale: as for `text_to_video`.
        seed: of the noise.
        checkpoint: a `model.pt`; see `find_model` for the default.
        fps: frames per second; in a GIF each frame stays for 1 / fps, rounded to 1/100 s.
        scale: how many times each pixel is repeated in a row and in a column.
        lora: adapters for the model, each a file of `save_concept`, or "file:scale"; see `with_adapters`.
        control, hint, strength: the file of a ControlNet, a drawing or clip that it follows, and how closely, 0 to 2.

    Returns:
        The paths of the files written.

    Raises:
        ValueError: if a word is unknown, a number makes no sense, the format of the file cannot hold so many pixels, or
            a file's ending or content is not what it must be.
        OSError: if there is no such checkpoint, or `out` cannot be written.
        ImportError: if it is an MP4 and PyAV is not installed.
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not prompts:
        raise ValueError("expected at least one prompt, got none")
    if control is None and hint is not None:
        raise ValueError("a hint needs a ControlNet that reads it: give --control, too")
    if control is not None and for_pictures(control):
        if lora:
            raise ValueError("this ControlNet steers pictures, and --lora is for clips")
        return sample_pictures(prompts, out, control, hint, strength, steps, guidance_scale, seed, scale)
    if not lora:  # else it takes the adapters' words to say more
        Tokenizer().encode(prompts)
    paths = output_paths(out, prompts)
    check_sampling(steps, guidance_scale, seed)
    check_playing(fps, scale)
    model, source = find_model(checkpoint)
    steering = control and loaded_with_hint(control, hint, model, model.frames, model.size)  # made for the model alone
    tokenizer, source = with_adapters(model, lora, source)
    tokenizer.encode(prompts)
    if steering:
        network, drawn = steering
        model, source = with_hints(model, [network], [drawn], [strength]), f"{source}, steered by {control}"
    together = len(paths) < len(prompts)
    height, width = size_side_by_side(len(prompts) if together else 1, model.size, model.size)
    require_fits(paths[0], model.frames, height, width, scale, fps)
    device = best_device()
    model.to(device)
    print(f"model: {source}", flush=True)

    start, generator = time.perf_counter(), torch.Generator(device).manual_seed(seed)
    with tqdm(total=steps * math.ceil(len(prompts) / CLIPS_AT_A_TIME), disable=None, unit="step", leave=False) as bar:
        clips = text_to_video(
            prompts,
            model,
            steps,
            guidance_scale,
            generator=generator,
            callback=lambda s, x, x0: bar.update(),
            batch_size=CLIPS_AT_A_TIME,
            tokenizer=tokenizer,
        )  # (B, 3, F, H, W)
    seconds, written = time.perf_counter() - start, []
    try:
        for path, film in zip(paths, [side_by_side(clips)] if together else clips):
            written.append(write_video(film.cpu(), path, fps, scale))
    finally:  # files first, then words: whoever listens may have gone
        for path in written:
            beside = f", {len(prompts)} clips in the order of their prompts" if together else ""
            print(f"{path}: {model.frames} frames of {model.size} x {model.size} pixels{beside}")
    print(f"{len(prompts)} clips in {seconds:.1f} s, {steps} steps on {device.type}")
    return paths


def check_playing(fps: float, scale: int) -> None:
    """A ValueError unless clips can be shown so: frames per second, and how large a pixel becomes."""
    if not 0.1 <= fps <= 50:
        raise ValueError(f"fps must lie in 0.1..50, got {fps:g}")
    if not 1 <= scale <= 64:
        raise ValueError(f"scale must lie in 1..64, got {scale}")


def check_sampling(steps: int, guidance_scale: float, seed: int) -> None:
    """A ValueError if one of these numbers makes no sense."""
    if not 1 <= steps <= 1000:
        raise ValueError(f"steps must lie in 1..1000, got {steps}")
    if not abs(guidance_scale) <= 100:  # catches NaN, too
        raise ValueError(f"guidance scale must lie in -100..100, got {guidance_scale:g}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must lie in 0..2^32 - 1, got {seed}")


def side_by_side(clips: Tensor) -> Tensor:
    """Clips (B, 3, F, H, W) in rows of up to `COLUMNS`, with white between them: one clip (3, F, H', W')."""
    columns = min(len(clips), COLUMNS)
    missing = -len(clips) % columns
    clips = F.pad(clips, (0, GAP_PIXELS, 0, GAP_PIXELS), value=1.0)
    clips = torch.cat([clips, torch.ones_like(clips[:1]).expand(missing, -1, -1, -1, -1)])
    rows = rearrange(clips, "(a b) c f h w -> c f (a h) (b w)", b=columns)
    return rows[..., :-GAP_PIXELS, :-GAP_PIXELS]


def size_side_by_side(n: int, height: int, width: int) -> tuple[int, int]:
    """The height and width of `side_by_side` for n clips of this size."""
    columns = min(n, COLUMNS)
    rows = math.ceil(n / columns)
    return rows * (height + GAP_PIXELS) - GAP_PIXELS, columns * (width + GAP_PIXELS) - GAP_PIXELS


def output_paths(out: str | Path, prompts: Sequence[str]) -> list[Path]:
    """Where the clips go: `[out]` if that is a file, else one path per prompt in the folder `out`.

    What has a dot in its name means a file, unless a folder of this name is there, or a slash ends it.

    Raises:
        ValueError: if a file's ending is neither .gif nor .mp4, or the name is empty or "-".
        OSError: if it cannot be written there.
        ImportError: if it is an MP4 and PyAV is not installed.
    """
    if not str(out).strip() or str(out) == "-":
        came = "'-', but clips are not written to stdout" if str(out) == "-" else "an empty name"
        raise ValueError(f"expected a file or a folder to write to, got {came}")
    path = Path(out)
    means_file = "." in path.name.lstrip(".") or path.name.lower() in ENDINGS
    if path.is_dir() or str(out).endswith(("/", os.sep)) or not means_file:
        names = ["_".join("".join(c if c.isalnum() else " " for c in p.lower()).split()) or "no_words" for p in prompts]
        require_writable(path)
        return [
            path / f"{name}{f'_{names[:i].count(name) + 1}' if name in names[:i] else ''}.gif"
            for i, name in enumerate(names)
        ]
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"a video file has a name that ends in .gif or .mp4, got {path.name!r}")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is there, and no file")
    if path.suffix.lower() == ".mp4":
        pyav()
    require_writable(path.parent)
    return [path]


def require_writable(folder: Path) -> None:
    """An OSError unless files can be written in this folder, or it can be made; a file without name is the trial."""
    there = next(each for each in (folder, *folder.parents, Path(".")) if each.exists())
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is a file, so nothing can be written into {folder}")
    try:
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(there)) from error


def find_model(checkpoint: str | Path | None = None) -> tuple[VideoModel, str]:
    """A text-to-video model in evaluation mode on the CPU, and where it comes from.

    Args:
        checkpoint: a file of `save_pretrained`; default: the newest `model.pt` in a folder of `runs/text2video`, else
            the model that comes with the course.

    Returns:
        The model and a line about its origin.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no text-to-video model, or one with weights that are not finite.
    """
    runs = runs_folder() / "text2video"
    found = sorted(runs.glob("*/model.pt"), key=lambda path: path.stat().st_mtime)
    if checkpoint is None and not found:
        return load_pretrained("text2video"), "the one that comes with the course, data/text2video.pt"
    if checkpoint == "":
        raise ValueError("expected the name of a model.pt, got an empty one")
    path = Path(found[-1] if checkpoint is None else checkpoint)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; expected a file, such as {path / 'model.pt'}")
    if not path.exists():
        raise FileNotFoundError(f"no model at {path}")
    try:
        model = load_weights(path, BUILDERS["text2video"])
    except NotFinite:
        raise
    except ValueError as error:
        size = f"{path.stat().st_size:,} bytes"
        raise ValueError(f"{path} ({size}) is truncated, or no model.pt of a text-to-video run") from error
    return model, f"{path}" + ("" if checkpoint else f", the newest of {len(found)} in {runs}")


def with_adapters(model: VideoModel, lora: Sequence[str], source: str) -> tuple[Tokenizer, str]:
    """Load adapters into a model, and merge them; returns a tokenizer that knows their words, and the longer `source`.

    Each is a file of `save_concept`, which may be followed by a colon and how strongly it is felt, 1 by default.

    Raises:
        OSError: if there is no such file.
        ValueError: if one does not fit the model, see `load_concept`, or what follows the colon is no number.
    """
    tokenizer = Tokenizer()
    for text in lora:
        path, colon, strength = text.rpartition(":")
        if not colon or Path(text).exists():
            path, strength = text, "1"
        try:
            number = float(strength)
        except ValueError:
            raise ValueError(f"expected FILE or FILE:SCALE, such as moon.pt:0.5; got {text!r}") from None
        if not Path(path).is_file():
            raise FileNotFoundError(f"no adapter at {path}")
        concept, tokenizer = load_concept(path, model, tokenizer, number)
        source += f", with {path} at {number:g}" + (f" ({', '.join(concept.words)})" if concept.words else "")
    merge_lora(model)
    return tokenizer, source
