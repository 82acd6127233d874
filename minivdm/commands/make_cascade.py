r"""Make data/cascade from nothing: `python -m minivdm train cascade`, then judge each stage, and record it.

    python -m minivdm.commands.make_cascade --out data/cascade

Writes one file for each stage and their manifest, `cascade.json`, with how good each was measured to be; beside them
samples as film strips. The run itself stays in `runs/cascade/shipped`; a second call goes on from there.
"""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ..datasets.sprites import MovingSprites, all_triples
from ..files import locked, replacing
from ..pipelines.cascade import TextToVideo
from ..pipelines.cascade_files import MANIFEST, load_cascade, read_manifest
from ..pipelines.cascade_judging import judge_interpolation, judge_prompts, judge_upscaling, shares_right
from ..pipelines.pretrained import load_pretrained
from ..training.precision import best_device
from .make_text2video import write_strips
from .provenance import options_given
from .train import PROMPTS
from .train_cascade import train_cascade

FRESH_SEED = 77  # of clips that no stage has seen


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, then train, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="data/cascade", help="folder to write")
    parser.add_argument("--budget", default="gpu-small", help="smoke, cpu, gpu-small or gpu")
    parser.add_argument("--run", default="runs/cascade/shipped", help="folder of the run")
    parser.add_argument("--clips", type=int, default=64, help="real clips to judge each stage with")
    parser.add_argument("--prompts", type=int, default=384, help="prompts to judge the whole with, out of all triples")
    args = parser.parse_args(arguments)
    with locked(f"{args.out}.lock", args.out):
        make(parser, args)


def make(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Train, judge and write, as the command line says."""
    run, out, device = train_cascade(budget=args.budget, out=args.run), Path(args.out), best_device()
    out.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(run)
    for entry in manifest["stages"].values():
        shutil.copy(run / entry["file"], out / entry["file"])
    shutil.copy(run / MANIFEST, out / MANIFEST)
    cascade = load_cascade(out).to(device)
    manifest["measured"] = measured(cascade, args.clips, args.prompts, device)
    command = f"python -m minivdm.commands.make_cascade --out data/{out.name}{options_given(parser, args)}"
    made_on = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    with replacing(out / MANIFEST) as file:
        file.write((json.dumps({**manifest, "command": command, "made_on": made_on}, indent=2) + "\n").encode())
    print(json.dumps(manifest["measured"], indent=2), flush=True)
    clips = cascade(PROMPTS, generator=torch.Generator(device).manual_seed(0)).cpu()
    write_strips(clips, out / "cascade.png")


def measured(cascade: TextToVideo, clips: int, prompts: int, device: torch.device) -> dict[str, object]:
    """Each stage on real clips that it has not seen, and the whole on prompts: numbers rounded for the manifest."""
    judge = load_pretrained("video_classifier").to(device)
    generator = torch.Generator(device).manual_seed(FRESH_SEED)
    real = MovingSprites(cascade.frames, cascade.size).sample(clips, generator)[0]
    facts = {
        "interpolation": judge_interpolation(cascade.interpolation, real, judge, generator=generator),
        "spatiotemporal": judge_upscaling(cascade.spatiotemporal, real, judge, generator=generator),
        "spatial": judge_upscaling(cascade.spatial, real, judge, generator=generator),
    }
    triples = all_triples()
    triples = triples[torch.randperm(len(triples), generator=torch.Generator().manual_seed(0))[:prompts]]
    start = time.perf_counter()
    seen = judge_prompts(cascade, triples, judge, generator=generator)
    seconds = (time.perf_counter() - start) / len(triples)
    facts["prompts"] = {stage: shares_right(each, triples) for stage, each in seen.items()} | {
        "clips": len(triples),
        "seconds per clip": seconds,
    }
    return rounded(facts)


def rounded(facts: object) -> object:
    """Floats of a nested dict with four digits."""
    if isinstance(facts, dict):
        return {name: rounded(value) for name, value in facts.items()}
    return round(facts, 4) if isinstance(facts, float) else facts


if __name__ == "__main__":
    main()
