r"""The learner's own pictures: a folder of PNG and JPEG files, and a table of captions, where they need some.

    captions.csv        file,caption
    moon1.png           "a red moon at the top left" is the caption of that row

They are few, and each counts, so nothing is left out: whatever is wrong with one of them is an error that names it. The
middle square of a picture is taken and scaled. What is transparent becomes black.
"""

import warnings
from pathlib import Path, PureWindowsPath

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from .clip_table import read_table
from .pixels import to_model_range

TABLE, COLUMNS = "captions.csv", ("file", "caption")
FORMATS, ENDINGS = ("PNG", "JPEG"), (".png", ".jpg", ".jpeg")
MAX_PICTURES = 1000
MAX_PIXELS = 50_000_000  # of one picture: larger than any camera's here, and small enough for memory


def read_picture_folder(folder: str | Path, size: int = 32) -> tuple[Tensor, list[str]]:
    """All pictures of a folder, with their captions.

    Args:
        folder: with `captions.csv` in it.
        size: H = W of the result.

    Returns:
        (N, 3, size, size) float32 in [-1, 1], in the order of the table, and N captions.

    Raises:
        OSError: if the table or a picture is not there, or cannot be read.
        ValueError: if the table is broken (see `read_rows`) or lacks a file or caption, a file is listed twice, lies
            outside the folder, or is no whole PNG or JPEG with 8 bits, or there are too many.
    """
    folder = Path(folder)
    table = folder / TABLE
    names, _, rows = read_table(table, COLUMNS, "pictures")
    if len(rows) > MAX_PICTURES:
        raise ValueError(f"{table} has {len(rows)} rows, more than the {MAX_PICTURES} that are meant to be learnt from")
    pictures, captions, seen = [], [], set()
    for line, cells in rows:
        where = f"{table}, line {line}"
        if any(cell.strip() for cell in cells[len(names) :]):
            raise ValueError(f"{where}: more cells than columns; put a caption with commas in quotes")
        file, caption = (dict(zip(names, cells)).get(name, "").strip() for name in COLUMNS)
        if not file or not caption:
            raise ValueError(f"{where}: no {'caption' if file else 'file'}")
        inside = PureWindowsPath(file)  # knows both kinds of slash
        if inside.root or inside.drive or Path(file).anchor or ".." in inside.parts:
            raise ValueError(f"{where}: {file} lies outside the folder")
        if file in seen:
            raise ValueError(f"{where}: {file} is listed twice")
        seen.add(file)
        pictures.append(shrunk(read_picture(folder / file), size))
        captions.append(caption)
    return torch.stack(pictures), captions


def read_pictures(folder: str | Path, size: int = 32) -> tuple[Tensor, list[str]]:
    """Pictures that need no captions: as `read_picture_folder`, or without a table all of the folder, by their names.

    Returns:
        (N, 3, size, size) float32 in [-1, 1], and N captions, "" for all where there is no table.

    Raises:
        OSError, ValueError: as `read_picture_folder`; or if the folder holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}")
    if (folder / TABLE).exists():
        return read_picture_folder(folder, size)
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not 1 <= len(paths) <= MAX_PICTURES:
        raise ValueError(f"expected 1 to {MAX_PICTURES} pictures ({', '.join(ENDINGS)}) in {folder}, got {len(paths)}")
    return torch.stack([shrunk(read_picture(path), size) for path in paths]), [""] * len(paths)


def read_picture(path: Path) -> Tensor:
    """A picture as it is to be seen, (3, H, W) uint8; see `read_picture_folder`."""
    if not path.is_file():
        raise FileNotFoundError(f"no picture at {path}")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS:,}")
            if image.mode[0] in "IF":
                raise ValueError(f"its pixels have more than 8 bits ({image.mode})")
            image.load()
            image = ImageOps.exif_transpose(image)  # as cameras mean it
            if "A" in image.getbands() or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
            pixels = np.array(image.convert("RGB"))
    except Image.UnidentifiedImageError:
        raise ValueError(f"{path} is no PNG or JPEG picture") from None
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be used: {reason}") from error
    return torch.from_numpy(pixels).movedim(-1, 0)


def shrunk(picture: Tensor, size: int) -> Tensor:
    """The middle square of a picture (3, H, W) uint8, scaled to (3, size, size) float32 in [-1, 1]."""
    _, height, width = picture.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[None, :, top : top + side, left : left + side].float()
    small = F.interpolate(square, size=(size, size), mode="bilinear", antialias=True)[0]
    return to_model_range(small.round().clamp(0, 255).byte())
