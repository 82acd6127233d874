r"""Make data/concepts_classifier.pt from nothing: the judge that knows the new shapes and the new colour, too.

    python -m minivdm.commands.make_concepts_classifier --out data/concepts_classifier.pt

Some minutes on two cores. It sees drawn pictures alone, of all triples. Half of them are as large and as far
off as sprites are in clips, so that it can name the shape and the colour in a frame. Prints how often the judge as
written is right on fresh stills, and on fresh frames.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.concepts import ConceptClips, ConceptStills
from ..evaluation.attribute_classifier import correct_attributes, train_classifier
from ..pipelines.pretrained import build_concepts_classifier, load_weights, save_pretrained
from ..training.precision import best_device
from .provenance import making, record_made

JUDGED = 2048
BLINKING = 7  # of the motions: the one in whose frames there may be nothing to see


class AnySize(ConceptStills):
    """`ConceptStills`, half of them as in clips: of any size, and anywhere; each has the name of the nearest place."""

    def spots(self, place: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """As `SpriteStills.spots`."""
        x, y, radius = super().spots(place, generator)
        rand = torch.rand(4, *radius.shape, generator=generator, device=radius.device)
        as_in_clips, further = (
            rand[0] < 0.5,
            0.35 * (rand[1:3] - 0.5),
        )  # at most 0.275, half of the way to the next place
        x, y = (torch.where(as_in_clips, at + off, at) for at, off in zip((x, y), further))
        return x, y, torch.where(as_in_clips, 0.17 + 0.48 * rand[3], radius)


def main() -> None:
    """Read the command line, then train, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="data/concepts_classifier.pt", help="file to write; the manifest beside it")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=96)
    args = parser.parse_args()
    with making(args.out):
        make(parser, args)


def make(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Train, judge and write, as the command line says."""
    device = best_device()
    torch.manual_seed(0)
    start, generator = time.perf_counter(), torch.Generator(device).manual_seed(0)
    classifier = train_classifier(AnySize(), generator, args.steps, args.batch)
    seconds = time.perf_counter() - start
    save_pretrained(args.out, classifier, {})

    classifier, generator = load_weights(Path(args.out), build_concepts_classifier).to(device), generator.manual_seed(1)
    stills, attributes = ConceptStills().sample(JUDGED, generator, split="all")
    right = correct_attributes(classifier, stills, attributes).float()
    judged = dict(zip(ConceptStills.attributes, right.mean(dim=0).tolist()))
    clips, attributes = ConceptClips(4).sample(JUDGED // 4, generator, split="all")
    frames, attributes = clips.transpose(1, 2).flatten(0, 1), attributes.repeat_interleave(4, dim=0)
    shown = attributes[:, 2] != BLINKING
    guesses = [logits.argmax(dim=1) for logits in classifier(frames[shown])[:2]]
    for kind, guess, truth in zip(("shape", "colour"), guesses, attributes[shown].unbind(1)):
        judged[f"{kind}_in_frames"] = (guess == truth).float().mean().item()
    judged = {name: round(share, 4) for name, share in judged.items()}
    print(f"{seconds:.0f} s; right on fresh pictures: {judged}", flush=True)
    facts = dict(seconds=round(seconds), size=32, classifier_accuracy=judged)
    record_made(args.out, classifier, "make_concepts_classifier", parser, args, **facts)


if __name__ == "__main__":
    main()
