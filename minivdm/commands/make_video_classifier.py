r"""Make data/video_classifier.pt from nothing: the judge of clips, trained on drawn ones.

    python -m minivdm.commands.make_video_classifier --out data/video_classifier.pt

Half a minute on one H200; on a CPU a quarter of an hour or more. Prints how often the judge as written is right on
fresh clips.

What takes long to learn are the shapes, and those show in any frame. So most steps are taken with clips of 4 frames,
which cost a quarter; the last ones with clips of 16 frames, as the judge will see them.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.sprites import ATTRIBUTES, MovingSprites
from ..evaluation.attribute_classifier import AttributeClassifier, correct_attributes, train_classifier
from ..pipelines.pretrained import build_video_classifier, load_weights, save_pretrained
from ..training.precision import best_device
from .provenance import making, record_made


class ShortThenLong:
    """A source of clips for `train_classifier`: for the first `steps` batches short ones, then long ones."""

    attributes = ATTRIBUTES

    def __init__(self, short: MovingSprites, long: MovingSprites, steps: int):
        self.short, self.long, self.left = short, long, steps

    def sample(self, n: int, generator: torch.Generator, split: str) -> tuple[Tensor, Tensor]:
        """As `MovingSprites.sample`."""
        self.left -= 1
        return (self.short if self.left >= 0 else self.long).sample(n, generator, split)


def accuracy(
    classifier: AttributeClassifier, sprites: MovingSprites, generator: torch.Generator, n: int = 4096, part: int = 64
) -> dict[str, float]:
    """Share of n fresh clips on which the classifier is right, by attribute, and in all three."""
    right = []
    for _ in range(n // part):
        clips, attributes = sprites.sample(part, generator, split="all")
        right.append(correct_attributes(classifier, clips, attributes))
    right = torch.cat(right).float()  # (n, 3)
    shares = dict(zip(ATTRIBUTES, right.mean(dim=0).tolist())) | {"all": right.amin(dim=1).mean().item()}
    return {name: round(share, 4) for name, share in shares.items()}


def main() -> None:
    """Read the command line, then train, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="data/video_classifier.pt", help="file to write; the manifest goes beside it")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--short-steps", type=int, default=1600, help="steps with clips of 4 frames")
    parser.add_argument("--steps", type=int, default=450, help="steps with clips of all frames, after those")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--bfloat16", action="store_true", help="compute in bfloat16, where the machine is fast in it")
    args = parser.parse_args()
    with making(args.out):
        make(parser, args)


def make(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Train, judge and write, as the command line says."""
    device = best_device()
    torch.manual_seed(0)
    generator = torch.Generator(device).manual_seed(0)
    sprites, start = MovingSprites(args.frames, args.size), time.perf_counter()
    source = ShortThenLong(MovingSprites(4, args.size), sprites, args.short_steps)
    dtype = torch.bfloat16 if args.bfloat16 else torch.float32
    classifier = train_classifier(source, generator, args.short_steps + args.steps, args.batch, dtype=dtype)
    seconds = time.perf_counter() - start
    save_pretrained(args.out, classifier, {})

    classifier = load_weights(Path(args.out), build_video_classifier).to(device)
    judged = accuracy(classifier, sprites, torch.Generator(device).manual_seed(1))
    print(f"{seconds:.0f} s; right on fresh clips: {judged}", flush=True)
    facts = dict(seconds=round(seconds), frames=args.frames, size=args.size, classifier_accuracy=judged)
    record_made(args.out, classifier, "make_video_classifier", parser, args, **facts)


if __name__ == "__main__":
    main()
