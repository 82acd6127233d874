"""The learner's own pictures: a folder of PNG and JPEG files and, if there is one, a table of captions.

    captions.csv        file,caption
    holiday/sea.jpg     (or .png, .jpeg)

The middle square of each picture is scaled to the size of a model. A file that cannot be read is left out and counted.
"""

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .pixels import to_model_range

ENDINGS = (".png", ".jpg", ".jpeg")
TABLE = "captions.csv"


def read_pictures(folder: str | Path, size: int) -> tuple[Tensor, list[str], dict[str, str]]:
    """All pictures below a folder, in the order of their names.

    Args:
        folder: where they are; folders in it are looked through, too.
        size: H = W in pixels.

    Returns:
        pictures (N, 3, size, size) float32 in [-1, 1]; their N captions, "" where the table names none; and a dict from
        each file that was left out to the reason.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if no file is usable, or the table lacks a column or names a file that is not there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at {folder}")
    captions, pictures, texts, skipped = read_captions(folder / TABLE), [], [], {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS):
        name = path.relative_to(folder).as_posix()
        try:
            with Image.open(path) as file:
                upright = ImageOps.exif_transpose(file).convert("RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # whatever Pillow may raise
            skipped[name] = " ".join(str(error).split())[:80]
            continue
        small = ImageOps.fit(upright, (size, size), Image.Resampling.BOX if size > upright.width else Image.LANCZOS)
        pictures.append(torch.from_numpy(np.array(small)))  # (size, size, 3)
        texts.append(captions.pop(name, ""))
    if not pictures:
        raise ValueError(f"no usable picture in {folder}: expected {', '.join(ENDINGS)}, {len(skipped)} were left out")
    missing = [name for name in captions if name not in skipped]
    if missing:
        raise ValueError(f"{folder / TABLE} names {missing[0]!r}, which is not there")
    return to_model_range(torch.stack(pictures)).permute(0, 3, 1, 2).contiguous(), texts, skipped


def read_captions(path: Path) -> dict[str, str]:
    """The captions of a table by file; none if there is no table. A ValueError if it lacks a column."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if rows and not {"file", "caption"} <= set(rows[0]):
        raise ValueError(f"{path} must have the columns file and caption, got {', '.join(map(str, rows[0]))}")
    return {(row["file"] or "").strip(): (row["caption"] or "").strip() for row in rows}
