"""Video files: MP4 and GIF in, MP4 and GIF out.

PyAV (the FFmpeg libraries) decodes videos and encodes MP4. It is optional, `pip install "minivdm[video]"`, and not
needed to write a GIF.
"""

import io
import math
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from ..files import replacing
from .decoding import MAX_BYTES, MAX_FRAMES, MAX_PIXELS, MISSING, pyav, read_film
from .file_structure import VideoError, cut_short
from .gif_files import save_gif
from .pixels import frames_of, to_uint8

__all__ = ["MISSING", "VideoError", "cut_short", "pyav", "read_video", "require_fits", "write_video"]


def read_video(path: str | Path, each: Callable | None = None) -> tuple[Tensor, float]:
    """All frames of a video file, decoded by PyAV: upright, not mirrored, and with square pixels.

    The frames come as they are stored, and the rate is their average. But a GIF says of each picture how long it
    stays. If these are the rounded ticks of a steady clock, as 7, 6 and 7 hundredths are, the pictures come as they are
    stored, too; otherwise the shortest stay is the tick of the clock, and a picture that stays for three ticks comes
    three times in a row. As in browsers, a stay of 0 or 1 hundredth counts as 10.

    What is read, but not as one might think, is told by a warning: interlaced frames (a frame holds two moments, in
    every other line); high dynamic range, whose colours come as they are coded; a WebM that is transparent in places
    (elsewhere white shows through); a recording that was cut out of a longer one, whose first frames need an earlier
    one, and are left out; frames without a time.

    Args:
        path: an MP4 or GIF file (also MOV, MKV, WebM or AVI).
        each: what to make of each frame, (H, W, 3) uint8 tensor, as soon as it is decoded, for instance a smaller one:
            a minute of high definition takes 11 GB.

    Returns:
        frames, (F, H, W, 3) uint8 (what `each` returns, stacked), and frames per second, a float.

    Raises:
        FileNotFoundError: if there is no such file.
        VideoError: if it is no whole video, with one of the reasons "empty file", "truncated" (the file ends before
            its own structure does), "not a video" (a song with a cover picture is none, either), "unknown codec",
            "broken" (a frame cannot be decoded), "several sizes" (the frames' size changes midway), "too long" (more
            frames than `MAX_FRAMES`) or "too large" (more pixels than `MAX_PIXELS`, or more than `MAX_BYTES` in all).
        ImportError: if PyAV is not installed.
    """
    film = read_film(path, each)
    for note in film.notes:
        warnings.warn(f"{path}: {note}", stacklevel=2)
    if film.pictures[0].nbytes * len(film.shown) > MAX_BYTES:
        raise VideoError("too large", path, f"{len(film.shown)} frames take more than {MAX_BYTES / 2**30:.3g} GiB")
    return torch.stack([film.pictures[i] for i in film.shown.tolist()]), film.fps


def require_fits(path: str | Path, frames: int, height: int, width: int, scale: int = 1, fps: float = 8) -> None:
    """A ValueError unless `write_video` can write such a clip to such a file: ask before hours of computing.

    Args:
        path: the file; its ending says the format.
        frames, height, width: F, H, W of the clip.
        scale, fps: as for `write_video`.

    Raises:
        ValueError: if the ending is unknown, the rate or the scale makes no sense, or the format holds no such size.
        ImportError: if it is an MP4 and PyAV is not installed.
    """
    ending, name = Path(path).suffix.lower(), Path(path).name
    if ending not in WRITERS:
        raise ValueError(f"a video file ends in {' or '.join(WRITERS)}, got {name!r}")
    if scale not in range(1, 65_536):
        raise ValueError(f"scale must be a whole number from 1 on, got {scale}")
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps must be positive, got {fps}")
    if not MIN_FPS <= fps <= MAX_FPS[ending]:
        raise ValueError(
            f"{ending} shows at least {MIN_FPS}, at most {MAX_FPS[ending]} frames per second, got fps={fps}"
        )
    height, width = height * scale, width * scale
    side = 65_535 if ending == ".gif" else 16_384 if mp4_codec() == "libx264" else 8_190
    if max(height, width) > side:
        raise ValueError(f"{ending} has at most {side:,} pixels on a side, got {height:,} x {width:,} for {name}")
    if ending == ".mp4" and (height % 2 or width % 2):
        raise ValueError(f"MP4 needs an even height and width, got {height} x {width}; a GIF takes any")
    if height * width > MAX_PIXELS or frames > MAX_FRAMES or 3 * frames * height * width > MAX_BYTES:
        raise ValueError(
            f"a video has at most {MAX_FRAMES:,} frames, {MAX_PIXELS:,} pixels in each, and "
            f"{MAX_BYTES / 2**30:.3g} GiB in all, got {frames:,} frames of {height:,} x {width:,} for {name}"
        )


def write_video(clip: Tensor, path: str | Path, fps: float = 8, scale: int = 1) -> Path:
    """Write a clip to a video file, whole or not at all.

    MP4 is H.264 (MPEG-4 Part 2 where PyAV comes without libx264) with colours at half the resolution, which every
    player understands. A GIF is exact in space but has at most 256 colours per frame and a clock of 1/100 s, so its
    frame rate is 100 divided by a whole number.

    Args:
        clip: (C, F, H, W) in [-1, 1], C = 1 or 3. H and W must be even for MP4.
        path: ends in .mp4 or .gif; the folder is made if need be.
        fps: frames per second, from 0.01 to 50 for GIF and to 1000 for MP4.
        scale: how many times each pixel is repeated in a row and in a column.

    Returns:
        The path.

    Raises:
        ValueError: if the ending, the rate or the size does not fit (`require_fits` asks the same), if the clip holds
            no floats or NaN, or if a picture of a GIF would stay for longer than 655 s.
        OSError: if the file cannot be written; what was there before is still there.
        ImportError: if it is an MP4 and PyAV is not installed.
    """
    path = Path(path)
    frames_of(clip)  # one clip
    if clip.shape[0] not in (1, 3) or 0 in clip.shape:
        raise ValueError(f"expected a clip of shape (C, F, H, W) with C = 1 or 3, got {tuple(clip.shape)}")
    require_fits(path, *clip.shape[1:], scale, fps)
    WRITERS[path.suffix.lower()](clip, path, fps, int(scale))
    return path


def mp4_codec() -> str:
    """How PyAV can write MP4 here; an ImportError if it is not installed."""
    return "libx264" if "libx264" in pyav().codecs_available else "mpeg4"


def write_mp4(clip: Tensor, path: str | Path, fps: float, scale: int) -> None:
    """Write a clip (C, F, H, W) as an MP4.

    The same frames are to give the same file: hence one thread, and x264 without its look at how blocks depend on each
    other ("mbtree"), which for frames of 32 pixels gave another file every now and then. It is made in memory first: on
    a full disk, the library would end in an error of its own that hides the cause.
    """
    av, codec, made = pyav(), mp4_codec(), io.BytesIO()
    options = {"libx264": {"crf": "16", "threads": "1", "mbtree": "0"}, "mpeg4": {"qscale": "2", "threads": "1"}}[codec]
    with av.open(made, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width = (scale * side for side in clip.shape[2:])
        stream.pix_fmt = "yuv420p"
        for frame in to_uint8(frames_of(clip)):
            frame = frame.repeat(scale, axis=0).repeat(scale, axis=1)  # (H', W', 3)
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=stream.pix_fmt, threads=1)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())  # what the encoder still holds back
    with replacing(path) as file:
        file.write(made.getbuffer())


WRITERS = {".mp4": write_mp4, ".gif": save_gif}
MIN_FPS, MAX_FPS = 0.01, {".mp4": 1000, ".gif": 50}
