"""Writing GIF files: exact in space, 256 colours a frame, and a clock of 1/100 s."""

import io
from pathlib import Path

from PIL import Image

from ..files import replacing
from .pixels import frames_of, to_uint8

DURATION_COMMENT = "each frame stays for {}/100 s"  # the comment in a GIF


def in_256_colours(frame):
    """An (H, W, 3) uint8 array as an image with a palette, as GIF needs it; no rare colour is given up."""
    return Image.fromarray(frame).quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=4, dither=Image.Dither.NONE)


def gif_bytes(video, fps=8, scale=1):
    """A clip (C, F, H, W) as the bytes of an endless GIF, each pixel repeated `scale` times in a row and in a column.

    A GIF's clock ticks in 1/100 s, so its frame rate is 100 divided by a whole number, at least 2; a ValueError for an
    `fps` above 50. Its comment tells the tick, for Pillow merges equal neighbours.
    """
    tick = round(100 / fps)
    if tick < 2:
        raise ValueError(f"a GIF shows at most 50 frames per second, got fps={fps}")
    frames = [in_256_colours(frame) for frame in to_uint8(frames_of(video))]
    frames = [frame.resize((frame.width * scale, frame.height * scale), Image.NEAREST) for frame in frames]
    file = io.BytesIO()
    frames[0].save(
        file,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=10 * tick,
        loop=0,
        comment=DURATION_COMMENT.format(tick).encode(),
    )
    return file.getvalue()


def save_gif(video, path, fps=8, scale=1):
    """Write a clip (C, F, H, W) to a GIF file and return its path."""
    with replacing(path) as file:
        file.write(gif_bytes(video, fps, scale))
    return Path(path)
