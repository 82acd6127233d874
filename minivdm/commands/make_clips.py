r"""Make data/clips from nothing: forty captioned clips as files, in the layout of WebVid-10M.

    python -m minivdm.commands.make_clips --out data/clips

A stand-in for the learner's own clips: `MovingSprites` of 64 x 64 pixels and 32 frames, as MP4 at 16 and at 24 frames
per second and as GIF at 12.5. So one and the same number of frames lasts for 2, 1.33 and 2.56 seconds.
"""

import argparse
import csv
import io
from pathlib import Path

import torch

from ..datasets.sprites import MovingSprites
from ..datasets.video_files import write_video
from ..files import replacing

COLUMNS = ("videoid", "contentUrl", "duration", "page_dir", "name")  # those of WebVid-10M
KINDS = ((".mp4", 16.0), (".mp4", 24.0), (".mp4", 16.0), (".gif", 12.5))  # taken in turn
PER_FOLDER = 20


def draw_clips(n=40, frames=32, size=64, seed=0):
    """n clips (n, 3, F, H, W) in [-1, 1], and a list of n captions in random wordings; the same for the same seed."""
    sprites, generator = MovingSprites(frames, size), torch.Generator().manual_seed(seed)
    clips, attributes = sprites.sample(n, generator)
    return clips, sprites.captions(attributes, generator)


def write_clips(out, clips, captions):
    """Write the table clips.csv and the folder videos; files of the same names are replaced.

    Args:
        out: folder, made if need be.
        clips: (n, 3, F, H, W) in [-1, 1].
        captions: n strings.

    Returns:
        The path of the table.
    """
    out, rows = Path(out), []
    for i, (clip, caption) in enumerate(zip(clips, captions)):
        ending, fps = KINDS[i % len(KINDS)]
        first = i // PER_FOLDER * PER_FOLDER + 1001
        videoid, page_dir = f"{i + 1001}", f"{first:06d}_{first + PER_FOLDER - 1:06d}"
        write_video(clip, out / "videos" / page_dir / f"{videoid}{ending}", fps)
        seconds = round(clip.shape[1] / fps)
        duration = f"PT{seconds // 3600:02d}H{seconds // 60 % 60:02d}M{seconds % 60:02d}S"  # ISO 8601
        rows.append((videoid, "", duration, page_dir, caption))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
    with replacing(out / "clips.csv") as file:
        file.write(text.getvalue().encode())
    return out / "clips.csv"


def main():
    """Read the command line, then draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="data/clips", help="folder for clips.csv and videos/")
    out = Path(parser.parse_args().out)
    table = write_clips(out, *draw_clips())
    files = [path for path in out.rglob("*") if path.is_file()]
    print(f"{table}: {len(files) - 1} videos, {sum(path.stat().st_size for path in files) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
