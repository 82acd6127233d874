"""GIF files: exact in space, 256 colours a frame, and a clock of 1/100 s."""

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ..files import replacing
from .pixels import frames_of, to_uint8

DURATION_COMMENT = "each frame stays for {}/100 s"  # the comment in a GIF


def in_256_colours(frame: np.ndarray, quick: bool = False) -> Image.Image:
    """An (H, W, 3) uint8 array as an image with a palette, as GIF needs it; no rare colour is given up.

    `quick` takes the colours as first chosen, in a third of the time; in a noisy frame they are 1 dB further off.
    """
    kmeans = 0 if quick else 4
    return Image.fromarray(frame).quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=kmeans, dither=Image.Dither.NONE)


def gif_bytes(video: Tensor, fps: float = 8, scale: int = 1, quick: bool = False) -> bytes:
    """A clip (C, F, H, W) as the bytes of an endless GIF, each pixel repeated `scale` times in a row and in a column.

    A GIF's clock ticks in 1/100 s, so its frame rate is 100 divided by a whole number, at least 2. Its comment tells
    the tick, for Pillow merges equal neighbours. A ValueError for an `fps` above 50, or equal ones for over 655 s.
    """
    tick = round(100 / fps)
    if tick < 2:
        raise ValueError(f"a GIF shows at most 50 frames per second, got fps={fps}")
    frames = [in_256_colours(frame, quick) for frame in to_uint8(frames_of(video))]
    frames = [frame.resize((frame.width * scale, frame.height * scale), Image.NEAREST) for frame in frames]
    file = io.BytesIO()
    try:
        frames[0].save(
            file,
            "GIF",
            save_all=True,
            append_images=frames[1:],
            duration=10 * tick,
            loop=0,
            comment=DURATION_COMMENT.format(tick).encode(),
        )
    except OverflowError as error:
        still = "equal frames one after the other are one picture, and a GIF's picture stays for at most 655 s"
        raise ValueError(f"{still}: more frames per second than fps={fps:g}, or an MP4, can show this clip") from error
    return file.getvalue()


def save_gif(video: Tensor, path: str | Path, fps: float = 8, scale: int = 1, quick: bool = False) -> Path:
    """Write a clip (C, F, H, W) to a GIF file and return its path; see `gif_bytes` and `in_256_colours`."""
    with replacing(path) as file:
        file.write(gif_bytes(video, fps, scale, quick))
    return Path(path)


def steady_clock(stays: list[int], comment: str = "") -> tuple[float, np.ndarray]:
    """A clock on which each picture of a GIF is seen for whole ticks: its tick in 1/100 s, and the ticks of each.

    Stays of 7, 6, 7 are a tick of 20/3, rounded: if all pictures end within 1/100 s of the ticks of a steady clock, it
    is meant. (But for the last, which many programs let stay as they like.) Otherwise the shortest stay is the tick.
    The comment of `gif_bytes` goes before both: there, equal neighbours have become one picture, perhaps all of them.

    Args:
        stays: for how many 1/100 s each picture stays, all at least 1.

    Returns:
        tick: a float; pictures per second are 100 / tick.
        counts: (len(stays),) int64, all at least 1.
    """
    stays = np.array(stays)
    ends, inner = np.cumsum(stays), stays[:-1] if len(stays) > 1 else stays
    comment_says = re.fullmatch(DURATION_COMMENT.format(r"(\d{1,5})"), comment)
    if comment_says and 0 < int(comment_says[1]) <= stays.min():
        tick = float(comment_says[1])
    else:
        for counts in (np.ones_like(inner), np.round(inner / inner.min())):
            ticks = np.cumsum(counts)
            tick = ends[len(inner) - 1] / ticks[-1]
            if np.abs(ends[: len(inner)] - ticks * tick).max() <= 1:
                last = max(round(stays[-1] / tick), 1)
                return float(tick), np.append(counts, [last] * (len(stays) - len(inner))).astype(np.int64)
        tick = float(inner.min())
    counts = np.diff(np.floor(ends / tick + 0.5), prepend=0)
    return tick, np.maximum(counts, 1).astype(np.int64)
