r"""What `read_video` does with damaged files, beside what PyAV alone decodes.

    python tests/benchmarks/fuzz_video.py --files 2000

Whole files of each format are cut, get wrong bits, a stretch of zeros, a stretch of another place or file, or bytes at
the end. Each is read in a child process with a limit for memory. The right outcomes: the pictures that PyAV alone
gives, in order, or a `VideoError`. Wrong ones: a crash, another error, more than two seconds, fewer or other pictures.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

SECONDS = 2  # of one core, for a file of 24 small frames
PATIENCE = 60  # seconds until a child counts as hanging, on a machine that does other things, too
MEMORY = 1 << 30  # bytes that a child may take beyond what it has once everything is imported
KINDS = ("cut", "flipped", "zeroed", "spliced", "appended")
MADE = (  # ending, codec, options
    ("mp4", "libx264", {"bf": "2", "g": "8"}),
    ("mp4", "libx264", {"g": "8", "movflags": "faststart"}),
    ("mp4", "mpeg4", {"bf": "2", "g": "8"}),
    ("mp4", "libx265", {"x265-params": "log-level=none"}),
    ("mkv", "libx264", {"x264-params": "open-gop=1:keyint=8:bframes=2"}),
    ("mkv", "mpeg2video", {"bf": "2", "g": "8"}),
    ("webm", "libvpx", {"g": "8", "deadline": "realtime"}),
    ("webm", "libvpx-vp9", {"g": "8", "deadline": "realtime"}),
    ("avi", "mpeg4", {"g": "8"}),
    ("avi", "mjpeg", {}),
    ("mov", "libx264", {"bf": "2", "g": "8"}),
    ("mov", "mjpeg", {}),
    ("gif", "gif", {}),
    ("gif", "ours", {}),
)


def drawn(frames: int = 24, height: int = 64, width: int = 96) -> list[np.ndarray]:
    """Frames (H, W, 3) uint8: a bright disc that moves over a still texture."""
    y, x = np.mgrid[:height, :width]
    texture = np.random.default_rng(0).integers(0, 100, (height // 8, width // 8, 3), np.uint8)
    texture = texture.repeat(8, axis=0).repeat(8, axis=1)
    discs = [((x - 10 - 3 * k) ** 2 + (y - 32) ** 2 < 150)[..., None] for k in range(frames)]
    return [np.where(disc, np.uint8(230), texture) for disc in discs]


def whole_files(folder: str) -> list[tuple[str, str, bytes]]:
    """Ending, codec and content of one file for each row of `MADE` that PyAV can write here."""
    import av
    import torch

    from minivdm.datasets.gif_files import gif_bytes

    made = []
    for ending, codec, options in MADE:
        if codec == "ours":
            clip = torch.from_numpy(np.stack(drawn())).movedim(-1, 0) / 127.5 - 1
            made.append((ending, codec, gif_bytes(clip, 10)))
        elif codec in av.codecs_available:
            path = Path(folder, f"made.{ending}")
            first = {"fflags": "+bitexact", **{k: v for k, v in options.items() if k == "movflags"}}  # nothing random
            with av.open(str(path), "w", container_options=first) as container:
                stream = container.add_stream(codec, rate=10, options={"threads": "1", **options})
                stream.width, stream.height = 96, 64
                stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
                for frame in drawn():
                    container.mux(
                        stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24").reformat(format=stream.pix_fmt))
                    )
                container.mux(stream.encode())
            made.append((ending, codec, path.read_bytes()))
    return made


def damaged(content: bytes, other: bytes, kind: str, rng: np.random.Generator) -> bytes:
    """A file's bytes after an accident of the given kind."""
    data, size = bytearray(content), len(content)
    start = int(rng.integers(size))
    length = int(rng.integers(1, 1 + max(size // 10, 2)))
    if kind == "cut":
        return content[: max(start, 1)]
    if kind == "flipped":
        for at in rng.integers(size if rng.random() < 0.5 else min(size, 600), size=rng.integers(1, 9)):
            data[at] ^= 1 << rng.integers(8)
    elif kind == "zeroed":
        data[start : start + length] = bytes(len(data[start : start + length]))
    elif kind == "spliced":
        source = content if rng.random() < 0.5 else other
        at = int(rng.integers(len(source)))
        data[start : start + length * int(rng.integers(2))] = source[at : at + length]
    else:
        data += rng.bytes(length) if rng.random() < 0.5 else other[:length]
    return bytes(data)


def alone(path: str) -> list[np.ndarray]:
    """The pictures that PyAV gives by itself, until its first error."""
    import av

    pictures = []
    try:
        with av.open(path, metadata_errors="replace") as container:
            covers = av.stream.Disposition.attached_pic
            streams = [s for s in container.streams.video if s.codec_context and not s.disposition & covers]
            for frame in container.decode(max(streams, key=lambda stream: stream.frames)):
                if frame.width * frame.height > 2**20 or len(pictures) > 1000:
                    break
                pictures.append(frame.to_ndarray(format="rgb24", threads=1))
    except (av.FFmpegError, ValueError, OSError):
        pass
    return pictures


def outcome(path: str, right: str) -> tuple[str, float]:
    """What became of a file, in a word or two, and the seconds of processor time of `read_video`.

    `right` is the file whose pictures PyAV has to find: the same, or the whole one if bytes were appended to it, since
    PyAV takes what stands behind a GIF's end for a picture.
    """
    from minivdm.datasets.decoding import read_film
    from minivdm.datasets.video_files import VideoError, read_video

    start = time.process_time()
    try:
        read_video(path)
        word = "read"
    except VideoError as error:
        word = f"refused: {error.reason}"
    except Exception as error:
        word = f"WRONG: {type(error).__name__}: {error}"[:100]
    seconds = time.process_time() - start
    if word == "read":
        ours, theirs = [picture.numpy() for picture in read_film(path).pictures], alone(right)
        if len(ours) < len(theirs):
            word = f"WRONG: {len(ours)} of {len(theirs)} pictures"
        elif any(a.shape == b.shape and (a != b).any() for a, b in zip(ours, theirs)):
            word = "WRONG: other pictures"
        elif len(ours) > len(theirs):
            word = "read, more than PyAV"
    return word, seconds


def child(connection) -> None:
    """Answer paths with outcomes until there are no more."""
    warnings.simplefilter("ignore")
    import av  # noqa: F401
    import torch

    from minivdm.datasets import video_files  # noqa: F401

    torch.set_num_threads(1)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    for paths in iter(connection.recv, None):
        connection.send(outcome(*paths))


class Child:
    """A process that reads files; after a crash or a hang, the next one takes its place."""

    def __init__(self):
        self.here, there = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=child, args=(there,), daemon=True)
        self.process.start()
        there.close()

    def ask(self, path: Path, right: Path) -> tuple[str, float]:
        """The `outcome` for one file."""
        self.here.send((str(path), str(right)))
        try:
            if self.here.poll(PATIENCE):
                return self.here.recv()
            word, seconds = "WRONG: hangs", float(PATIENCE)
        except EOFError:
            word, seconds = "WRONG: crash", 0.0
        self.process.kill()
        self.process.join()
        self.__init__()
        return word, seconds


def main() -> None:
    """Damage, read, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000, help="damaged files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", help="a folder for the files with a wrong outcome")
    args = parser.parse_args()
    multiprocessing.set_start_method("spawn")
    rng, counts, slowest, wrong, reader = np.random.default_rng(args.seed), Counter(), 0.0, [], Child()
    with tempfile.TemporaryDirectory() as folder:
        whole = whole_files(folder)
        for number, (ending, codec, content) in enumerate(whole):
            path = Path(folder, f"whole{number}.{ending}")
            path.write_bytes(content)
            word, _ = reader.ask(path, path)
            assert word == "read", f"the whole {ending} with {codec}: {word}"
        for i in range(args.files):
            ending, codec, content = whole[i % len(whole)]
            kind = KINDS[i // len(whole) % len(KINDS)]
            path = Path(folder, f"{i}.{ending}")
            path.write_bytes(damaged(content, whole[rng.integers(len(whole))][2], kind, rng))
            word, seconds = reader.ask(
                path, Path(folder, f"whole{i % len(whole)}.{ending}") if kind == "appended" else path
            )
            slowest = max(slowest, seconds)
            if seconds > SECONDS and "WRONG" not in word:
                word = f"WRONG: {seconds:.1f} seconds"
            counts[ending, kind, word.split(":")[0]] += 1
            if word.startswith("WRONG"):
                wrong.append(f"{path.name}, {codec}, {kind}: {word}")
                if args.keep:
                    Path(args.keep).mkdir(parents=True, exist_ok=True)
                    Path(args.keep, path.name).write_bytes(path.read_bytes())
            path.unlink()
    reader.here.send(None)
    words = sorted({word for _, _, word in counts})
    print(f"| {args.files} files, seed {args.seed} | " + " | ".join(KINDS) + " |\n|---" * 1 + "|---" * len(KINDS) + "|")
    for ending in dict.fromkeys(ending for ending, _, _ in whole):
        cells = [", ".join(f"{counts[ending, k, w]} {w}" for w in words if counts[ending, k, w]) for k in KINDS]
        print(f"| {ending} | " + " | ".join(cells) + " |")
    totals = Counter(word for _, _, word in counts.elements())
    print(f"\n{dict(totals)}; the slowest took {slowest:.2f} s of one core")
    print("\n".join(wrong))


if __name__ == "__main__":
    main()
