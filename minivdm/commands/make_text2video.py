r"""Make data/text2video.pt from nothing: `python -m minivdm train text2video`, then judge, record and show the model.

    python -m minivdm.commands.make_text2video --out data/text2video.pt

Writes the file, its entry in `manifest.json`, and samples beside it: a GIF, as `python -m minivdm sample` makes it of
the eight `PROMPTS`, and a PNG of the same clips as film strips. The run itself stays in `runs/text2video/shipped`; a
second call goes on from there.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..datasets.video_files import write_video
from ..evaluation.viz import sheet
from ..files import replacing
from ..pipelines.pretrained import BUILDERS, load_pretrained, load_weights
from ..pipelines.text2video import text_to_video
from ..training.precision import best_device
from .evaluate import evaluate_clips, triples_to_judge
from .provenance import making, record_made
from .run_folder import find_run, saved_settings
from .sample import side_by_side
from .train import PROMPTS, train_text2video


def write_strips(clips: Tensor, path: str | Path) -> None:
    """Write clips (B, 3, F, H, W) as film strips, one below the other, to a PNG file."""
    strips = Image.fromarray(sheet(rearrange(clips, "b c f h w -> (b f) c h w"), cols=clips.shape[2]))
    with replacing(path) as file:
        strips.resize((2 * strips.width, 2 * strips.height), Image.NEAREST).save(file, "PNG")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, then train, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="data/text2video.pt", help="file to write; samples and manifest go beside it")
    parser.add_argument("--budget", default="gpu", help="smoke, cpu or gpu")
    parser.add_argument("--run", default="runs/text2video/shipped", help="folder of the run")
    parser.add_argument("--copies", type=int, default=2, help="clips per triple to judge")
    args = parser.parse_args(arguments)
    with making(args.out):
        make(parser, args)


def make(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Train, judge and write, as the command line says."""
    trained, out = train_text2video(args.budget, args.run), Path(args.out)
    with replacing(out) as file:
        file.write(trained.read_bytes())
    device = best_device()
    model = load_weights(out, BUILDERS["text2video"]).to(device)
    generator = torch.Generator(device).manual_seed(0)
    classifier = load_pretrained("video_classifier").to(device)
    measured = evaluate_clips(model, classifier, triples_to_judge(args.copies, device), generator)
    print(measured, flush=True)
    settings = saved_settings(Path(args.run), find_run(Path(args.run)))
    record_made(out, model, "make_text2video", parser, args, **dataclasses.asdict(settings), **measured)
    generator = torch.Generator(device).manual_seed(0)
    clips = text_to_video(PROMPTS, model, steps=50, generator=generator).cpu()
    write_video(side_by_side(clips), out.with_suffix(".gif"), scale=4)
    write_strips(clips, out.with_suffix(".png"))


if __name__ == "__main__":
    main()
