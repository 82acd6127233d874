r"""The learner's own clips: a folder of video files and a table of captions, laid out as WebVid-10M is.

    clips.csv                            videoid,contentUrl,duration,page_dir,name
    videos/<page_dir>/<videoid>.mp4      (or .gif, .mov, .m4v, .mkv, .webm, .avi)

(Bain et al., "Frozen in Time", ICCV 2021.) A recording is longer than a clip and has a frame rate of its own, so a clip
is a choice of its frames. A file that cannot give a whole clip is left out and counted; nothing is padded.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from .clip_files import ClipFiles
from .clip_table import EMPTY, read_rows
from .decoding import MAX_BYTES, MAX_FRAMES, Film, pyav, read_film, seen_at
from .file_structure import VideoError
from .pixels import to_model_range

SAME_RATE = 0.01  # 29.97 frames per second are 30


def frame_indices(available: int, frames: int, step: float = 1.0, start: float = 0.0) -> Tensor:
    r"""Which frames of a recording make a clip: evenly spaced ones, each the last that has begun.

        index_k = floor( start + k * step ),   k = 0..frames-1          (in float64)

    A step of 2 takes every other frame. To see a recording of `fps` frames per second at `rate`
    frames per second, take step = fps / rate, which need not be whole. No frame is taken twice,
    so the step is at least 1: a recording of 12 frames per second cannot be seen at 24.

    Args:
        available: number of frames in the recording (int).
        frames: number of frames in the clip, at least 1 (int).
        step: frames of the recording from one frame of the clip to the next, at least 1.
        start: where in the recording the clip begins, in frames, at least 0; need not be whole.

    Returns:
        (frames,) long, increasing, within 0..available-1.

    Raises:
        ValueError: if the last index lies beyond the recording (the message says how many frames
            are needed, which is the last index + 1, and how many there are), or if frames, step or
            start is too small.
    """
    if frames < 1:
        raise ValueError(f"a clip has at least 1 frame, got frames={frames}")
    if not step >= 1:
        raise ValueError(f"step must be at least 1, or frames would be repeated, got {step}")
    if not start >= 0:
        raise ValueError(f"start must be at least 0, got {start}")
    k = torch.arange(frames, dtype=torch.float64)
    indices = (start + k * step).floor().long()  # (frames,)
    needed = indices[-1].item() + 1
    if needed > available:
        wanted = f"{frames} frames at step {step:g} from {start:g} on"
        raise ValueError(f"{wanted} need {needed} frames, the recording has {available}")
    return indices


def step_for(fps: float, rate: float) -> float:
    """fps / rate, as the fraction that is meant: 16 frames per second seen at 12 are 4/3, at 8 they are 2.

    A float just below 4/3 may miss the next whole frame after many steps, so what is no float is rounded up.
    """
    ratio = Fraction(fps / rate).limit_denominator(10**6)
    step = float(ratio)
    return step if step >= ratio else math.nextafter(step, math.inf)


@dataclass
class Recording:
    """One usable file: all its frames, small. A clip takes every `step`-th of them."""

    path: Path
    caption: str
    fps: float
    step: float
    pictures: Tensor  # (N, size, size, 3) uint8, each once
    shown: Tensor  # (available,) long: frame k is pictures[shown[k]]


class VideoFolder:
    r"""Captioned clips from video files, in the form in which `MovingSprites` gives its drawings.

        folder = VideoFolder("data/clips/clips.csv", frames=16, size=32, rate=12)
        print(folder.summary())
        clips, captions = folder.sample(8, torch.Generator().manual_seed(0))

    Whether a file is whole shows only when it is decoded. So every file is decoded once, from end to end, when the
    folder is made, and its frames stay in memory as bytes at the size that was asked for: 1,000 frames of 32 x 32 take
    3 MB. That is right for hundreds of short clips, and wrong for WebVid-10M itself; beyond `MAX_BYTES` it is refused.

    Attributes:
        clips: list of `Recording`, the usable files in the order of the table.
        skipped: dict from a reason to the files it befell, as "page_dir/videoid". Reasons of the table: "no videoid or
            caption", "more cells than columns" (an unquoted comma), "a quote spans rows", "listed twice", "path leaves
            the folder"; of the file: "not there" and those of `read_video`; of the clip: "too short" (fewer frames than
            a clip needs), "too few frames per second" (fewer than `rate`).
        noted: dict from what is told of usable files (interlaced, for one) to their names; see `read_video`.
        files: where the files are looked for, `ClipFiles`.
    """

    def __init__(
        self,
        csv: str | Path,
        folder: str | Path | None = None,
        frames: int = 16,
        size: int = 32,
        stride: float = 1,
        rate: float | None = None,
    ):
        """Read the table, decode every file, and keep what is usable.

        Args:
            csv: the table, a CSV file with at least the columns videoid, page_dir and name (the caption).
            folder: where the videos are; the default is the folder `videos` beside the table, or else beside the table.
            frames: F, frames per clip.
            size: H = W in pixels. The middle square of each frame is scaled to it, antialiased.
            stride: take every so many frames, at least 1. Or:
            rate: frames per second of the clips, whatever the rate of the file. (A file within 1% of it, or of a
                multiple, counts as that.) Where frames come at irregular times, a clip shows what is seen at each
                multiple of 1 / rate, which may be the same frame twice. Not both.

        Raises:
            FileNotFoundError: if there is no such table.
            ValueError: if a setting makes no sense, the table is empty or lacks a column, no file is usable, or the
                frames do not fit into memory.
            ImportError: if PyAV is not installed.
        """
        whole = all(number >= 1 and number % 1 == 0 for number in (frames, size))
        if not whole or not 1 <= stride < math.inf or not (rate is None or 0 < rate < math.inf):
            raise ValueError(
                "frames and size must be whole numbers from 1 on, stride at least 1 and rate above 0, got "
                f"frames={frames}, size={size}, stride={stride}, rate={rate}"
            )
        if rate is not None and stride != 1:
            raise ValueError(f"give a stride or a rate, not both: got stride={stride} and rate={rate}")
        if 12 * frames * size**2 > MAX_BYTES:  # 3 colours of 4 bytes
            raise ValueError(
                f"one clip of {frames} frames of {size} x {size} pixels takes more than {MAX_BYTES / 2**30:.3g} GiB"
            )
        self.frames, self.size, self.stride, self.rate = frames, size, stride, rate
        self.csv = Path(csv)
        beside = self.csv.parent
        self.files = ClipFiles([beside / "videos", beside] if folder is None else [Path(folder)])
        self.clips, self.skipped, self.noted = [], {}, {}
        rows, seen, kept = read_rows(self.csv), set(), 0
        pyav()  # without it every file would seem broken
        bar = tqdm(rows, desc="reading videos", unit="file", delay=5, leave=False)
        for number, row in enumerate(bar, start=1):
            name = f"{row.page_dir}/{row.videoid}" if row.videoid else f"row {number}"
            reason = row.fault
            if reason and reason != EMPTY:
                name = f"{name} (line {row.line})"
            self.bytes = kept  # `shrink` adds each frame, of files that turn out to be unusable, too
            try:
                path = None if reason else self.files.find(row.page_dir, row.videoid)
                if path in seen:
                    reason = "listed twice"
                elif path:
                    self.clips.append(self.load(path, row.caption, name))
                    kept += self.clips[-1].pictures.nbytes
                    seen.add(path)
            except VideoError as error:
                reason = error.reason
            if reason:
                self.skipped.setdefault(reason, []).append(name)
        if not self.clips:
            raise ValueError(f"no usable clip: {self.summary()}")

    def load(self, path: Path, caption: str, name: str) -> Recording:
        """Decode a file and look whether a clip fits into it: a `Recording`, or a `VideoError`."""
        try:
            film = read_film(path, each=self.shrink)
        except OSError as error:
            raise VideoError("not there", path, error) from error
        shown, step = self.pace(film, path)
        try:
            if (self.frames - 1) * step >= len(shown):  # before a list of all places is made
                raise ValueError(f"{self.frames} frames at step {step:g}, the recording has {len(shown)}")
            frame_indices(len(shown), self.frames, step)
        except ValueError as error:
            raise VideoError("too short", path, error) from error
        for note in film.notes:
            self.noted.setdefault(note, []).append(name)
        return Recording(path, caption, film.fps, step, torch.stack(film.pictures), shown)

    def pace(self, film: Film, path: Path) -> tuple[Tensor, float]:
        """Which pictures follow each other in a film, (F,) long, and the step in which a clip goes through them."""
        if self.rate is None:
            return film.shown, self.stride
        ratio = min(film.fps / self.rate, MAX_FRAMES)  # no recording has as many frames
        if ratio < 1 - SAME_RATE:
            raise VideoError("too few frames per second", path, f"{film.fps:g} where {self.rate:g} are asked for")
        if film.times is not None:
            if film.times[-1] * self.rate > MAX_FRAMES:
                raise VideoError("too long", path, f"{film.times[-1]:g} seconds at {self.rate:g} frames per second")
            return film.shown[seen_at(film.times, film.fps, self.rate)], 1
        whole = max(round(ratio), 1)
        return film.shown, whole if abs(ratio / whole - 1) <= SAME_RATE else step_for(ratio, 1)

    def shrink(self, frame: Tensor) -> Tensor:
        """The middle square of a frame (H, W, 3) uint8, scaled to (size, size, 3)."""
        height, width, _ = frame.shape
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        square = frame[top : top + side, left : left + side].movedim(-1, 0)[None]  # (1, 3, side, side)
        square = F.interpolate(square.float(), size=(self.size, self.size), mode="bilinear", antialias=True)
        small = square[0].movedim(0, -1).round().clamp(0, 255).byte()  # (size, size, 3)
        self.bytes += small.nbytes
        if self.bytes > MAX_BYTES:
            raise ValueError(
                f"after {len(self)} usable files the frames take more than {MAX_BYTES / 2**30:.3g} GiB at "
                f"{self.size} x {self.size} pixels: ask for a smaller size, or split {self.csv}"
            )
        return small

    def extract_clip(self, recording: Recording, chance: int | None = None) -> Tensor:
        """One clip (3, F, H, W) of a recording: its middle, or the start that the whole number `chance` picks."""
        available = len(recording.shown)
        needed = frame_indices(available, self.frames, recording.step)[-1].item() + 1
        start = (available - needed) // 2 if chance is None else chance % (available - needed + 1)
        chosen = recording.shown[frame_indices(available, self.frames, recording.step, start)]  # (F,)
        return to_model_range(recording.pictures[chosen].movedim(-1, 0))  # (3, F, H, W)

    def __len__(self) -> int:
        """Number of usable clips."""
        return len(self.clips)

    def __getitem__(self, i: int) -> tuple[Tensor, str]:
        """The middle of recording i as a clip (3, F, H, W) float32 in [-1, 1], and its caption."""
        return self.extract_clip(self.clips[i]), self.clips[i].caption

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, list[str]]:
        """Draw n clips, any recording as often as any other, each from a random start.

        Args:
            n: number of clips.
            generator: `torch.Generator`; the clips come on its device.

        Returns:
            clips (n, 3, F, H, W) float32 in [-1, 1], and a list of n captions.
        """
        pick, chance = torch.randint(2**31, (2, n), generator=generator, device=generator.device).tolist()
        chosen = [self.clips[p % len(self)] for p in pick]
        clips = torch.stack([self.extract_clip(recording, c) for recording, c in zip(chosen, chance)])
        return clips.to(generator.device), [recording.caption for recording in chosen]

    def summary(self) -> str:
        """One line: how many clips there are, how many files were left out for which reason, and what is noted."""
        total = len(self) + sum(map(len, self.skipped.values()))
        line = f"{len(self)} clips from {total} rows of {self.csv}; skipped: {counted(self.skipped) or 'none'}"
        if "not there" in self.skipped:
            line += f"; looked in {self.files}"
        return line + (f"; noted: {counted(self.noted)}" if self.noted else "")


def counted(names: dict[str, list[str]]) -> str:
    """How often each thing befell a file, the most frequent first, and the first file: "2 truncated (first a/1)"."""
    rows = sorted(names.items(), key=lambda item: -len(item[1]))
    return ", ".join(f"{len(files)} {what} (first {' '.join(files[0].split())[:80]})" for what, files in rows)
