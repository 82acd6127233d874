"""Make data/digits.pt from nothing: a small model of real handwritten digits by class, for chapters that only sample.

    python -m minivdm.commands.make_digits --out data/digits.pt

About a minute on a CUDA card, ten on two CPU cores. Prints how the samples of the model as written are judged.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from ..datasets.digits import digits
from ..diffusion.guidance import drop_condition
from ..diffusion.samplers import ddim_sample, sampling_levels
from ..diffusion.schedules import NoiseSchedule, linear_betas
from ..evaluation.digit_classifier import train_digit_classifier
from ..evaluation.metrics import frechet_distance
from ..pipelines.pretrained import build_digits, load_weights, save_pretrained
from ..training.ema import EMA
from ..training.loop import train
from ..training.precision import best_device
from .provenance import making, record_made

CONFIG = {
    "in_channels": 1,
    "channels": 32,
    "mults": (1, 2),
    "blocks": 2,
    "attention": (1,),
    "dropout": 0.1,
    "context_dim": 32,
}


def evaluate_digits(model: nn.Module, schedule: NoiseSchedule, n: int = 1000) -> dict[str, float]:
    """How samples with given classes are judged: share of the right class, sureness, and mini-FID of 299 of them."""
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(0)
    labels = torch.arange(n, device=device) % 10
    x = torch.randn(n, 1, 8, 8, generator=generator, device=device)
    levels = sampling_levels(schedule.T, 200)
    classifier, (real, _), (unseen, _) = train_digit_classifier(), digits(), digits(held_out=True)
    by_class = ddim_sample(model, x, schedule, levels, labels[:, None] + 1, clip_x0=True).cpu()
    free = ddim_sample(model, x, schedule, levels, clip_x0=True).cpu()
    probability = classifier(by_class).softmax(dim=1)
    features = classifier.features(real)
    fids = [frechet_distance(classifier.features(part[: len(unseen)]), features) for part in (by_class, free, unseen)]
    facts = {
        "right_class": (probability.argmax(1) == labels.cpu()).float().mean().item(),
        "sureness": probability.amax(dim=1).mean().item(),
    }
    facts |= dict(zip(("mini_fid_by_class", "mini_fid_free", "mini_fid_of_unseen_real"), fids))
    return {name: round(value, 3) for name, value in facts.items()}


def main() -> None:
    """Read the command line, then train, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="data/digits.pt", help="file to write; the manifest goes beside it")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=256)
    args = parser.parse_args()
    with making(args.out):
        make(parser, args)


def make(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Train, judge and write, as the command line says."""
    device = best_device()
    torch.manual_seed(0)
    schedule = NoiseSchedule(linear_betas(1000)).to(device)
    model = build_digits(CONFIG).to(device)
    ema = EMA(model)
    images, labels = (part.to(device) for part in digits())

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        i = torch.randint(len(images), (args.batch,), generator=generator, device=device)
        return images[i], drop_condition(labels[i, None] + 1, 0.1, generator)

    for step, loss in train(model, ema, batch, schedule, args.steps, lr=1e-3, cuda_graph=True):
        if step % 500 == 0:
            print(f"step {step}: loss {loss.item():.4f}", flush=True)
    save_pretrained(args.out, ema.model, CONFIG)
    judged = evaluate_digits(load_weights(Path(args.out), build_digits).to(device), schedule)
    print(judged, flush=True)
    record_made(args.out, ema.model, "make_digits", parser, args, judged=judged)


if __name__ == "__main__":
    main()
