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

from ..datasets.captions import Tokenizer
from ..datasets.sprites import MovingSprites, all_triples
from ..evaluation.attribute_classifier import AttributeClassifier
from ..evaluation.metrics import frechet_distance
from ..files import locked, replacing
from ..models.kernels import use_fused_kernels
from ..pipelines.cascade import TextToVideo, Walk
from ..pipelines.cascade_data import QuietClips
from ..pipelines.cascade_files import MANIFEST, Sizes, load_cascade, read_manifest
from ..pipelines.cascade_judging import (
    SIDES,
    attributes_in,
    features_of,
    judge_interpolation,
    judge_prompts,
    judge_upscaling,
    shares_right,
)
from ..pipelines.decoder import sample_key_frames
from ..pipelines.pretrained import load_pretrained
from ..pipelines.prior import sample_prior
from ..pipelines.single_stage import build_single, single_batch, train_for
from ..pipelines.text2video import VideoModel
from ..training.precision import best_device, best_dtype
from .cascade_settings import cascade_settings
from .make_text2video import write_strips
from .provenance import options_given
from .train import PROMPTS
from .train_cascade import parameters, train_cascade

FRESH_SEED = 77  # of clips that no stage has seen
TO_PIXELS = "decoder", "key_frames", "interpolation", "spatiotemporal", "spatial"  # CLIP and the prior serve both


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, then train, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="data/cascade", help="folder to write")
    parser.add_argument("--budget", default="gpu-small", help="smoke, cpu, gpu-small or gpu")
    parser.add_argument("--run", default="runs/cascade/shipped", help="folder of the run")
    parser.add_argument("--clips", type=int, default=64, help="real clips to judge each stage with")
    parser.add_argument("--single-batch", type=int, default=16, help="clips in a step of the single stage beside it")
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
    seconds = sum(manifest["stages"][stage]["seconds"] for stage in TO_PIXELS)
    manifest["measured"]["single stage"] = measured_single(cascade, manifest, seconds, args, device)
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
    triples = chosen_triples(prompts)
    start = time.perf_counter()
    seen, made = judge_prompts(cascade, triples, judge, generator=generator)
    seconds = (time.perf_counter() - start) / len(triples)
    drawn, others = (features_of_drawn(cascade, triples, judge, generator) for _ in range(2))
    for name, features in (("cascade", made), ("drawn", others)):
        facts.setdefault("mini-FVD", {})[name] = distances(features, drawn)
    facts["prompts"] = {stage: shares_right(each, triples) for stage, each in seen.items()} | {
        "clips": len(triples),
        "seconds per clip": seconds,
    }
    return rounded(facts)


@torch.no_grad()
def measured_single(
    cascade: TextToVideo, manifest: dict, seconds: float, args: argparse.Namespace, device: torch.device
) -> dict[str, object]:
    """One network of whole clips, trained for as many seconds as the stages of pixels together, on the same prompts."""
    sizes, judge = Sizes(**manifest["sizes"]), load_pretrained("video_classifier").to(device)
    _, settings = cascade_settings(args.budget)
    generator = torch.Generator(device).manual_seed(0)
    quiet = QuietClips(MovingSprites(cascade.frames, cascade.size), settings.clips, generator)

    def batch(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        return single_batch(cascade.clip, quiet, generator, args.single_batch)

    def build() -> VideoModel:
        torch.manual_seed(0)
        return use_fused_kernels(build_single(sizes).to(device))

    with torch.enable_grad():
        model, steps = train_for(seconds, build, batch, dtype=best_dtype(device))
    triples, generator = chosen_triples(args.prompts), torch.Generator(device).manual_seed(FRESH_SEED)
    prompts, walk, seen, made = MovingSprites().captions(triples), Walk(), [], {side: [] for side in SIDES}
    for i in range(0, len(prompts), 8):
        texts = cascade.clip.embed_texts(Tokenizer().encode(prompts[i : i + 8]).to(device))
        images = sample_prior(cascade.prior, texts, walk.prior_steps, walk.prior_guidance, generator)
        clips = sample_key_frames(model, images, 1, walk.key_frame_steps, walk.guidance, generator)
        seen.append(attributes_in(clips, judge).cpu())
        for side in SIDES:
            made[side].append(features_of(clips, judge, side))
    drawn = features_of_drawn(cascade, triples, judge, generator)
    facts = {"seconds": seconds, "steps": steps, "parameters": parameters(model), "batch": args.single_batch}
    facts["mini-FVD"] = distances({side: torch.cat(parts) for side, parts in made.items()}, drawn)
    return rounded({**facts, **shares_right(torch.cat(seen), triples)})


def chosen_triples(n: int) -> torch.Tensor:
    """n random ones of all triples, (n, 3), always the same."""
    triples = all_triples()
    return triples[torch.randperm(len(triples), generator=torch.Generator().manual_seed(0))[:n]]


def features_of_drawn(
    cascade: TextToVideo, triples: torch.Tensor, judge: AttributeClassifier, generator: torch.Generator
) -> dict[int, torch.Tensor]:
    """The judge's features of drawn clips of these triples, (N, D) for each of `SIDES`."""
    source = MovingSprites(cascade.frames, cascade.size)
    clips = [source.draw(part, generator) for part in triples.split(64)]
    return {side: torch.cat([features_of(part, judge, side) for part in clips]) for side in SIDES}


def distances(made: dict[int, torch.Tensor], drawn: dict[int, torch.Tensor]) -> dict[str, float]:
    """mini-FVD, the judge looking at each of `SIDES` pixels in a row."""
    return {str(side): frechet_distance(made[side], drawn[side]) for side in SIDES}


def rounded(facts: object) -> object:
    """Floats of a nested dict with four digits."""
    if isinstance(facts, dict):
        return {name: rounded(value) for name, value in facts.items()}
    return round(facts, 4) if isinstance(facts, float) else facts


if __name__ == "__main__":
    main()
