"""Make data/text2image.pt and data/stills_classifier.pt from nothing: mini-CLIP, the judge, the text-to-image model.

    python -m minivdm.commands.make_text2image --out data/text2image.pt

A few minutes on a CUDA card. Trains a CLIP on drawn stills, starts the text encoder of the denoiser from CLIP's, trains
the denoiser, and prints the prompt accuracy of the model as written: seen in training, and held out.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.captions import caption_table, random_captions
from ..datasets.sprites import all_triples
from ..datasets.stills import STILL_ATTRIBUTES, SpriteStills
from ..diffusion.guidance import drop_condition
from ..diffusion.predictions import EpsModel, prediction_loss
from ..evaluation.attribute_classifier import AttributeClassifier, accuracy_table, correct_attributes, train_classifier
from ..models.clip import CLIP, clip_loss
from ..pipelines.pretrained import load_weights, save_pretrained
from ..pipelines.text2image import build_text2image, still_tokenizer, text_to_image
from ..training.ema import EMA
from ..training.loop import train
from ..training.precision import best_device
from .provenance import making, record_made

CONFIG = {"channels": 48, "mults": (1, 2), "blocks": 1, "patch": 2, "context_dim": 64}


def train_clip(
    stills: SpriteStills, generator: torch.Generator, steps: int = 600, batch: int = 256, lr: float = 2e-3
) -> CLIP:
    """A `CLIP` trained on drawn stills of the training triples, each triple at most once in a batch."""
    device, tokenizer = generator.device, still_tokenizer()
    triples = all_triples("train", STILL_ATTRIBUTES).to(device)
    table = caption_table(tokenizer, stills).to(device)
    clip = CLIP(len(tokenizer)).to(device)
    optimizer = torch.optim.AdamW(clip.parameters(), lr=lr, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        pick = triples[torch.randperm(len(triples), generator=generator, device=device)[:batch]]  # (batch, 3)
        texts = clip.embed_texts(random_captions(table, pick, generator))
        loss = clip_loss(clip.embed_images(stills.draw(pick, generator)), texts, clip.scale())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()
    return clip


@torch.no_grad()
def zero_shot(clip: CLIP, stills: SpriteStills, generator: torch.Generator, split: str, n: int = 2000) -> float:
    """Share of stills for which CLIP finds the right one among the plain captions of all triples."""
    triples = all_triples("all", STILL_ATTRIBUTES)
    texts = clip.embed_texts(still_tokenizer().encode(stills.captions(triples)).to(generator.device))
    images, attributes = stills.sample(n, generator, split)
    chosen = triples.to(generator.device)[(clip.embed_images(images) @ texts.T).argmax(dim=1)]
    return (chosen == attributes).all(dim=1).float().mean().item()


def evaluate_pictures(
    model: EpsModel,
    classifier: AttributeClassifier,
    stills: SpriteStills,
    generator: torch.Generator,
    copies: int,
    **sampling: float,
) -> dict[str, float]:
    """Prompt accuracy over all triples, `copies` pictures each with random wordings: a dict of shares in 0..1."""
    triples = all_triples("all", STILL_ATTRIBUTES).repeat(copies, 1)  # (N, 3)
    prompts = stills.captions(triples, torch.Generator().manual_seed(1))
    images = text_to_image(prompts, model, generator=generator, **sampling)
    return accuracy_table(correct_attributes(classifier, images, triples).cpu(), triples, STILL_ATTRIBUTES)


def main() -> None:
    """Read the command line, then train, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="data/text2image.pt", help="file to write; the rest goes beside it")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--pool", type=int, default=40_000, help="number of training pictures")
    parser.add_argument("--classifier-steps", type=int, default=1000)
    parser.add_argument("--clip-steps", type=int, default=600)
    args = parser.parse_args()
    with making(args.out, Path(args.out).with_name("stills_classifier.pt")):
        make(parser, args)


def make(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Train, judge and write, as the command line says."""
    device = best_device()
    generator = torch.Generator(device).manual_seed(0)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    stills, out, start = SpriteStills(), Path(args.out), time.perf_counter()

    def say(*facts: object) -> None:
        print(f"{time.perf_counter() - start:5.0f} s", *facts, flush=True)

    clip = train_clip(stills, generator, args.clip_steps)
    say({split: zero_shot(clip, stills, generator, split) for split in ("train", "held_out")})

    classifier = train_classifier(stills, generator, args.classifier_steps)
    images, attributes = stills.sample(4096, generator, split="all")
    trust = dict(zip(STILL_ATTRIBUTES, correct_attributes(classifier, images, attributes).float().mean(dim=0).tolist()))
    say("classifier", trust)

    model = build_text2image(**CONFIG).to(device)
    model.net.encoder.load_state_dict(clip.text.state_dict())
    ema = EMA(model.net)
    table = caption_table(still_tokenizer(), stills).to(device)
    images, attributes = stills.sample(args.pool, generator)

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        i = torch.randint(len(images), (args.batch,), generator=generator, device=device)
        return images[i], drop_condition(random_captions(table, attributes[i], generator), 0.1, generator)

    options = dict(loss=prediction_loss, cuda_graph=True)
    for step, loss in train(model.net, ema, batch, model.schedule.to(device), args.steps, **options):
        if step % 1000 == 0 or step == 500:
            averaged = EpsModel(ema.model, "v", model.schedule).eval()
            say(f"step {step}: loss {loss.item():.4f}", evaluate_pictures(averaged, classifier, stills, generator, 1))
    model.net = ema.model
    save_pretrained(out, model, CONFIG)
    save_pretrained(out.with_name("stills_classifier.pt"), classifier, {})
    model = load_weights(out, lambda config: build_text2image(**config)).to(device)
    accuracy = evaluate_pictures(model, classifier, stills, generator, 2)
    say("prompt accuracy", accuracy)
    made = ("make_text2image", parser, args)
    record_made(out, model, *made, prompt_accuracy=accuracy)
    record_made(out.with_name("stills_classifier.pt"), classifier, *made, classifier_accuracy=trust)


if __name__ == "__main__":
    main()
