"""From a video file to its pictures, decoded by PyAV: upright, with square pixels, each at its time.

A decoder is made to show something whatever happens, so it fills what is missing with grey or with the frame before.
Here a file is read whole or not at all: what its structure or its decoder gives away is a `VideoError` that says why.
(A few wrong bytes in the middle may give away nothing, in VP8 and HEVC above all. They show as a smear.)
"""

import contextlib
import io
import math
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from .file_structure import GIF, VideoError, cut_short, whole_gif
from .gif_files import steady_clock

MISSING = 'reading videos and writing MP4 needs PyAV, which is not installed: pip install "minivdm[video]"'
FORMATS = "mov,gif,matroska,avi"  # nothing else is tried: FFmpeg would also take a playlist for a video, and follow it
MAX_FRAMES = 36_000  # frames in one recording: 20 minutes at 30 frames per second
MAX_PIXELS = 8192 * 4320  # pixels in one frame; ten bytes are enough to announce a GIF of 100 million
MAX_BYTES = 2 * 2**30  # bytes of pixels that are kept at most
UPRIGHT = [1, 0, 0, 1]  # no turn, no mirror
HIGH_RANGE = (16, 18)  # H.273's numbers for PQ and HLG, by which recordings of high dynamic range code brightness
LIMITS = {"max_pixels": str(MAX_PIXELS)}  # for decoders: also the first frames, which are decoded to open a file


@dataclass
class Film:
    """What a video file shows. Frame k of the film is `pictures[shown[k]]`."""

    pictures: list[Tensor]  # each once, in the order of the file, all of one shape
    shown: Tensor  # (F,) long; only in a GIF may a picture be seen for more than one frame
    fps: float  # frames per second, in the mean if `times` are given
    times: Tensor | None = None  # (F + 1,) float64: when each begins, in seconds, and when the last ends; None: evenly
    notes: list[str] = field(default_factory=list)  # what else whoever uses it should know


def pyav() -> ModuleType:
    """The module `av`; an ImportError that says how to install it if it is not there."""
    try:
        import av
    except ImportError as error:
        raise ImportError(MISSING) from error
    return av


def read_film(path: str | Path, each: Callable | None = None) -> Film:
    """Decode a video file from end to end; arguments and errors are those of `read_video`."""
    path, gif = Path(path), None
    pyav()
    if path.stat().st_size == 0:
        raise VideoError("empty file", path)
    if cut_short(path):
        raise VideoError("truncated", path, "it ends before its own structure does")
    with open(path, "rb") as file:
        if file.read(4) == GIF:
            gif, stays = whole_gif(GIF + file.read(), path)
            require_small(*struct.unpack("<HH", gif[6:10]), path)
    source = str(path.absolute()) if gif is None else io.BytesIO(gif)  # "a:b.mp4" would be taken for an address
    matrix = display_matrix(source, path) if gif is None else UPRIGHT
    with opened(source, path) as container:
        film = decoded(container, matrix, path, each)
        comment = container.metadata.get("comment", "")
    if gif is None:
        return film
    if len(film.pictures) != len(stays):
        raise VideoError("broken", path, f"{len(film.pictures)} of its {len(stays)} pictures can be decoded")
    tick, counts = steady_clock(stays, comment)
    if counts.sum() > MAX_FRAMES:
        raise VideoError("too long", path, f"{counts.sum()} frames at {100 / tick:.3g} per second")
    return Film(film.pictures, torch.arange(len(counts)).repeat_interleave(torch.from_numpy(counts)), 100 / tick)


def opened(source: str | BinaryIO, path: Path) -> Any:
    """A container of PyAV, or a `VideoError`."""
    av = pyav()
    try:
        return av.open(source, options={"format_whitelist": FORMATS, **LIMITS}, metadata_errors="replace")
    except av.FFmpegError as error:
        raise VideoError("not a video", path, error) from error


def decoded(container: Any, matrix: list[int], path: Path, each: Callable | None) -> Film:
    """The film of an open container, on the clock that the container has."""
    stream, packets = moving_pictures(container, path), []
    pictures, frames, kept_bytes = [], [], 0
    for frame in checked_frames(container, stream, path, packets):
        picture = torch.from_numpy(upright(frame, stream.sample_aspect_ratio, matrix, path))  # (H, W, 3)
        pictures.append(picture if each is None else each(picture))
        kept_bytes += pictures[-1].nbytes
        if kept_bytes > MAX_BYTES:
            raise VideoError("too large", path, f"its frames take more than {MAX_BYTES / 2**30:.3g} GiB")
        frames.append((frame.pts, frame.duration or 0, frame.interlaced_frame))
    if not frames:
        raise VideoError("broken", path, "it has no frame")
    begins, lengths, interlaced = zip(*frames)
    fps, notes = float(stream.average_rate or stream.guessed_rate or 0), []
    if fps <= 0:
        raise VideoError("broken", path, "it has no frame rate")
    if any(interlaced):
        notes.append("interlaced: a frame holds two moments, in every other line")
    if stream.codec_context.color_trc in HIGH_RANGE:
        notes.append("high dynamic range: colours come as they are coded, paler than players show them")
    if stream.metadata.get("alpha_mode") == "1":  # VP8 and VP9 in WebM: FFmpeg's decoders leave it out
        notes.append("transparent in places: what lies hidden there is seen")
    times = None
    if None not in begins:
        lost = sum(begin is not None and begin < begins[0] for begin in packets)
        if lost:
            notes.append(f"cut from a longer one: its first {lost} frames need an earlier one, and are left out")
        length = lengths[-1] or (begins[-1] - begins[0]) / max(len(frames) - 1, 1)  # Matroska may not say it
        times = np.subtract([*begins, begins[-1] + length], begins[0]) * float(stream.time_base)  # (F + 1,)
    if times is None or (np.diff(times[:-1]) <= 0).any():
        notes.append("frames without a time, or not in the order of their times: taken as evenly spaced")
        times = None
    elif np.abs(times[:-1] - np.arange(len(frames)) / fps).max() <= jitter(fps):
        times = None
    else:  # what Matroska calls the rate may be that of a part
        fps, times = float(len(frames) / times[-1]), torch.from_numpy(times)
    return Film(pictures, torch.arange(len(pictures)), fps, times, notes)


def moving_pictures(container: Any, path: Path) -> Any:
    """The stream to decode: of several, the one with the most frames, or else FFmpeg's choice; never a cover."""
    kinds = pyav().stream.Disposition
    still = kinds.attached_pic | kinds.timed_thumbnails | kinds.still_image
    streams = [stream for stream in container.streams.video if not stream.disposition & still]
    if not streams:
        found = "a cover picture, but no moving ones" if container.streams.video else "no picture"
        raise VideoError("not a video", path, f"it has {found}")
    counts, best = {stream.index: stream.frames for stream in streams}, container.streams.best("video")
    if len(streams) > 1 and 0 in counts.values():  # Matroska announces no frames
        counts = packets_by_stream(path)
    stream = max(streams, key=lambda stream: (counts[stream.index], stream == best))
    if stream.codec_context is None:
        raise VideoError("unknown codec", path)
    require_small(stream.width, stream.height, path)
    return stream


def packets_by_stream(path: Path) -> Counter:
    """How many packets each stream of a file has, as far as it can be read; a frame is a packet."""
    counts = Counter()
    with opened(str(path.absolute()), path) as container, contextlib.suppress(pyav().FFmpegError):
        for packet in container.demux(video=list(range(len(container.streams.video)))):
            counts[packet.stream_index] += packet.size > 0
    return counts


def require_small(width: int, height: int, path: Path) -> None:
    """A `VideoError` if a picture of this size is too large."""
    if width * height > MAX_PIXELS:
        raise VideoError("too large", path, f"{width} x {height} pixels")


def checked_frames(container: Any, stream: Any, path: Path, packets: list[int | None]) -> Iterator[Any]:
    """The frames of a stream, all of one size, and into `packets` the times for which it has any; or a `VideoError`.

    Decoders mark what they have repaired. Those of HEVC and MJPEG do not, and are told to fail. (Others are not: what
    the pictures of a recording that was cut out of a longer one tell of lost ones would be an error, too.)
    """
    careful = {"err_detect": "explode"} if stream.codec_context.name in ("hevc", "mjpeg") else {}
    stream.codec_context.options = {**LIMITS, **careful}
    count, found, size = 0, 0, None
    try:
        for packet in container.demux(stream):
            found += packet.size > 0
            packets += [packet.pts] if packet.size and not packet.is_discard else []
            for frame in packet.decode():
                size = size or (frame.width, frame.height)
                if frame.is_corrupt:
                    raise VideoError("broken", path, f"frame {count} is damaged")
                if (frame.width, frame.height) != size:
                    raise VideoError("several sizes", path, f"{size}, but {frame.width, frame.height} at frame {count}")
                if count == MAX_FRAMES:
                    raise VideoError("too long", path, f"more than {MAX_FRAMES} frames")
                yield frame
                count += 1
    except pyav().FFmpegError as error:
        raise VideoError("broken", path, f"frame {count} cannot be decoded: {error}") from error
    if found < len(stream.index_entries):
        raise VideoError("truncated", path, f"{found} frames where {len(stream.index_entries)} are announced")


def display_matrix(source: str, path: Path) -> list[int]:
    """How pictures are to be turned and mirrored, [a, b, c, d]: for points (x, y), with y downwards,

        x' = a x + c y,   y' = b x + d y

    as a camera says that was held sideways, or shows its owner a mirror image. The first frame is asked, and not in the
    container that is read: PyAV keeps a frame that was asked, and so its memory from the decoder.
    """
    with opened(source, path) as container:
        stream = moving_pictures(container, path)
        frame = next(checked_frames(container, stream, path, []), None)
        matrix = frame and frame.side_data.get("DISPLAYMATRIX")
        return np.frombuffer(matrix, np.int32)[[0, 1, 3, 4]].tolist() if matrix else UPRIGHT


def upright(frame: Any, ratio: Any, matrix: list[int], path: Path) -> np.ndarray:
    """The pixels of a frame as they are meant to be seen: (H, W, 3) uint8; white shows where it is transparent.

    Args:
        ratio: width of a pixel by its height, or None; one side of the frame is enlarged until pixels are square.
        matrix: that of `display_matrix`.
        path: for the message.
    """
    ratio = float(ratio or 1)
    width, height = round(frame.width * max(ratio, 1)), round(frame.height / min(ratio, 1))
    require_small(width, height, path)
    # Starting more threads for each frame takes longer.
    kind = "rgba" if any(part.is_alpha for part in frame.format.components) else "rgb24"
    pixels = frame.to_ndarray(format=kind, width=width, height=height, threads=1)
    if kind == "rgba":
        colours, alpha = pixels[..., :3].astype(np.uint16), pixels[..., 3:].astype(np.uint16)
        pixels = ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    a, b, c, d = matrix
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1].copy()


def jitter(fps: float) -> float:
    """By how many seconds a frame may begin beside its place: Matroska counts milliseconds, phones are less exact."""
    return min(0.005, 0.25 / fps)


def seen_at(times: Tensor, fps: float, rate: float) -> Tensor:
    """Which frame is seen at each multiple of 1 / rate: the last that has begun.

    Args:
        times: (F + 1,) float64 seconds, increasing: when each frame begins, and when the last ends.
        fps: frames per second in the mean.
        rate: moments per second.

    Returns:
        (moments,) long; from the beginning of the first frame to the end of the last.
    """
    moments = torch.arange(math.ceil(times[-1].item() * rate - 1e-6), dtype=torch.float64) / rate
    return torch.searchsorted(times[:-1], moments + jitter(fps), right=True) - 1
