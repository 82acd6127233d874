"""Video files: MP4 and GIF in, MP4 and GIF out.

PyAV (the FFmpeg libraries) decodes videos and encodes MP4. It is optional, `pip install "minivdm[video]"`, and not
needed to write a GIF.

A decoder is made to show something whatever happens, so it fills what is missing with grey or with the frame before.
Here a file is read whole or not at all: what its structure or its decoder gives away is a `VideoError` that says why.
(A few wrong bytes in the middle may give away nothing, in a GIF above all. They show as a smear.)
"""

import io
import math
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..files import replacing
from .gif_files import DURATION_COMMENT, save_gif
from .pixels import frames_of, to_uint8

MISSING = 'reading videos and writing MP4 needs PyAV, which is not installed: pip install "minivdm[video]"'
FORMATS = "mov,gif,matroska,avi"  # nothing else is tried: FFmpeg would also take a playlist for a video, and follow it
MAX_FRAMES = 36_000  # frames in one recording: 20 minutes at 30 frames per second
MAX_PIXELS = 8192 * 4320  # pixels in one frame; ten bytes are enough to announce a GIF of 100 million


class VideoError(ValueError):
    """A file that is no whole video. `reason` is short and the same for all such files, `path` is the file."""

    def __init__(self, reason: str, path: str | Path, detail: object = ""):
        """`detail` is for the message alone."""
        super().__init__(f"{path}: {reason}" + (f" ({detail})" if detail else ""))
        self.reason, self.path = reason, Path(path)


def pyav() -> ModuleType:
    """The module `av`; an ImportError that says how to install it if it is not there."""
    try:
        import av
    except ImportError as error:
        raise ImportError(MISSING) from error
    return av


def read_video(path: str | Path, each: Callable | None = None) -> tuple[Tensor, float]:
    """All frames of a video file, decoded by PyAV and turned upright if the camera was held sideways.

    A GIF has no frame rate: it says of each frame how long it stays. So the shortest stay is the tick of the clock
    here, and a frame that stays for three ticks comes three times in a row. In other files the frames come as they are
    stored, and the rate is their average.

    Args:
        path: an MP4 or GIF file (also MOV, MKV, WebM or AVI).
        each: what to make of each frame, (H, W, 3) uint8 tensor, as soon as it is decoded, for instance a smaller one:
            a minute of high definition takes 11 GB.

    Returns:
        frames, (F, H, W, 3) uint8 (what `each` returns, stacked), and frames per second, a float.

    Raises:
        FileNotFoundError: if there is no such file.
        VideoError: if it is no whole video, with one of the reasons "empty file", "truncated" (the file ends before
            its own structure does), "not a video", "unknown codec", "broken" (a frame cannot be decoded) and "too long"
            (more frames than `MAX_FRAMES`) or "too large" (more pixels than `MAX_PIXELS`).
        ImportError: if PyAV is not installed.
    """
    av = pyav()
    if Path(path).stat().st_size == 0:
        raise VideoError("empty file", path)
    if cut_short(path):
        raise VideoError("truncated", path, "it ends before its own structure does")
    try:
        container = av.open(str(path), options={"format_whitelist": FORMATS})
    except (av.FFmpegError, UnicodeDecodeError) as error:
        raise VideoError("not a video", path, error) from error
    with container:
        if not container.streams.video:
            raise VideoError("not a video", path, "it has no picture")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise VideoError("unknown codec", path)
        if stream.width * stream.height > MAX_PIXELS:
            raise VideoError("too large", path, f"{stream.width} x {stream.height} pixels")
        stream.codec_context.options = {"err_detect": "explode"}  # no repairs
        frames, stays = [], []
        try:
            for frame in container.decode(stream):
                if frame.is_corrupt or len(frames) == MAX_FRAMES:
                    raise VideoError("broken" if frame.is_corrupt else "too long", path, f"frame {len(frames)}")
                pixels = frame.to_ndarray(format="rgb24", threads=1)  # starting more for each frame takes longer
                pixels = np.rot90(pixels, round(frame.rotation / 90))  # (H, W, 3)
                pixels = torch.from_numpy(pixels.copy())
                frames.append(pixels if each is None else each(pixels))
                stays.append(frame.duration or 0)
        except av.FFmpegError as error:
            raise VideoError("broken", path, f"frame {len(frames)} cannot be decoded: {error}") from error
        if not frames or len({frame.shape for frame in frames}) > 1:
            raise VideoError("broken", path, "frames of several sizes" if frames else "it has no frame")
        if container.format.name == "gif":
            return repeat_by_duration(frames, stays, container.metadata.get("comment", ""), path)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
    if fps <= 0:
        raise VideoError("broken", path, "it has no frame rate")
    return torch.stack(frames), fps


def repeat_by_duration(frames: list[Tensor], stays: list[int], comment: str, path: str | Path) -> tuple[Tensor, float]:
    """A GIF's frames, each as often as its stay in 1/100 s asks for, and the frames per second."""
    tick = max(min(stays), 1)
    comment_says = re.fullmatch(DURATION_COMMENT.format(r"(\d{1,5})"), comment)
    if comment_says:  # one of ours: equal neighbours have become one frame, perhaps all of them
        tick = min(max(int(comment_says[1]), 1), tick)
    counts = torch.tensor([max(round(stay / tick), 1) for stay in stays])
    if counts.sum() > MAX_FRAMES:
        raise VideoError("too long", path, f"{counts.sum()} frames")
    return torch.stack(frames).repeat_interleave(counts, dim=0), 100 / tick


def cut_short(path: str | Path) -> bool:
    """Whether an MP4 or GIF file ends before its own structure does; False for every other file."""
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] == b"GIF8":
            return gif_cut_short(head + file.read())
        return head[4:8] == b"ftyp" and mp4_cut_short(file, Path(path).stat().st_size)


def mp4_cut_short(file: BinaryIO, size: int) -> bool:
    """Walk over the outermost boxes: 4 bytes of length, 4 of type; length 1 means 8 more bytes, 0 means to the end."""
    start = 0
    while start + 8 <= size:
        file.seek(start)
        length, _ = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8:
            return False  # the last box, or nonsense that the decoder will refuse
        start += length
    return start > size


def gif_cut_short(data: bytes) -> bool:
    """Walk over the blocks of a GIF up to its last byte, ";"."""

    def table(flags: int) -> int:  # bytes of the colour table
        return 3 * 2 ** (flags % 8 + 1) if flags & 128 else 0

    def after_parts(at: int) -> int:  # parts of up to 255 bytes, each with its length before it; 0 ends them
        while at < len(data) and data[at]:
            at += 1 + data[at]
        return at + 1

    at = 13 + table(data[10]) if len(data) > 10 else 13
    while at + 10 <= len(data) or data[at : at + 1] == b";":
        if data[at : at + 1] == b";":
            return False
        elif data[at : at + 1] == b"!":
            at = after_parts(at + 2)
        elif data[at : at + 1] == b",":
            at = after_parts(at + 10 + table(data[at + 9]) + 1)
        else:
            return False  # nonsense that the decoder will refuse
    return True


def require_fits(path: str | Path, frames: int, height: int, width: int, scale: int = 1, fps: float = 8) -> None:
    """A ValueError unless the format of `path` holds frames of H x W pixels, each repeated `scale` times."""
    side = 65_535 if Path(path).suffix.lower() == ".gif" else 16_384
    height, width = height * scale, width * scale
    if max(height, width) > side:
        came = f"got {height:,} x {width:,} for {Path(path).name}"
        raise ValueError(f"{Path(path).suffix} has at most {side:,} pixels on a side, {came}")


def write_video(clip: Tensor, path: str | Path, fps: float = 8, scale: int = 1) -> Path:
    """Write a clip to a video file, whole or not at all.

    MP4 is H.264 (MPEG-4 Part 2 where PyAV comes without libx264) with colours at half the resolution, which every
    player understands. A GIF is exact in space but has at most 256 colours per frame and a clock of 1/100 s, so its
    frame rate is 100 divided by a whole number.

    Args:
        clip: (C, F, H, W) in [-1, 1], C = 1 or 3. H and W must be even for MP4.
        path: ends in .mp4 or .gif; the folder is made if need be.
        fps: frames per second, at most 50 for GIF.
        scale: how many times each pixel is repeated in a row and in a column.

    Returns:
        The path.

    Raises:
        ValueError: if the clip, the ending or the rate does not fit.
        ImportError: if it is an MP4 and PyAV is not installed.
    """
    path = Path(path)
    frames_of(clip)  # one clip
    if clip.shape[0] not in (1, 3) or 0 in clip.shape:
        raise ValueError(f"expected a clip of shape (C, F, H, W) with C = 1 or 3, got {tuple(clip.shape)}")
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps must be positive, got {fps}")
    writers = {".mp4": write_mp4, ".gif": save_gif}
    if path.suffix.lower() not in writers:
        raise ValueError(f"a video file ends in .mp4 or .gif, got {path.name!r}")
    writers[path.suffix.lower()](clip, path, fps, scale)
    return path


def write_mp4(clip: Tensor, path: str | Path, fps: float, scale: int) -> None:
    """Write a clip (C, F, H, W) as an MP4.

    The same frames are to give the same file: hence one thread, and x264 without its look at how blocks depend on each
    other ("mbtree"), which for frames of 32 pixels gave another file every now and then.
    """
    av = pyav()
    frames = to_uint8(frames_of(clip)).repeat(scale, axis=1).repeat(scale, axis=2)  # (F, H', W', 3)
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"MP4 needs an even height and width, got {height} x {width}; a GIF takes any")
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    options = {"libx264": {"crf": "16", "threads": "1", "mbtree": "0"}, "mpeg4": {"qscale": "2", "threads": "1"}}[codec]
    made = io.BytesIO()  # on a full disk, the library would end in an error of its own that hides the cause
    with av.open(made, "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=stream.pix_fmt, threads=1)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())  # what the encoder still holds back
    with replacing(path) as file:
        file.write(made.getbuffer())
