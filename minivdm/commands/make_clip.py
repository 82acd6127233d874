r"""Make data/clip.pt from nothing: a mini-CLIP of single frames of drawn clips and the clips' captions, for CLIPSIM.

    python -m minivdm.commands.make_clip --out data/clip.pt

A few minutes on a CPU. Prints for how many frames of fresh clips the file as written finds the shape and the colour.

It sees one frame, and the caption tells of a motion: so it learns what a frame shows, and where motions begin and end.
"""

import argparse
import time
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.captions import Tokenizer, caption_table, random_captions
from ..datasets.sprites import MovingSprites, all_triples
from ..models.clip import CLIP, clip_loss
from ..pipelines.pretrained import BUILDERS, load_weights, save_pretrained
from ..training.precision import best_device
from .provenance import making, record_made


def frames(sprites: MovingSprites, triples: Tensor, generator: torch.Generator) -> Tensor:
    """One random frame of a fresh clip for each of B triples, (B, 3, H, W)."""
    clips = sprites.draw(triples, generator)  # (B, 3, F, H, W)
    pick = torch.randint(clips.shape[2], (len(clips),), generator=generator, device=clips.device)
    return clips[torch.arange(len(clips), device=clips.device), :, pick]


def train_clip(sprites: MovingSprites, generator: torch.Generator, steps: int, batch: int, lr: float = 2e-3) -> CLIP:
    """A `CLIP` trained on frames of drawn clips of the training triples, each triple at most once in a batch."""
    device, triples = generator.device, all_triples("train").to(generator.device)
    table = caption_table(Tokenizer(), sprites).to(device)
    clip = CLIP(len(Tokenizer())).to(device)
    optimizer = torch.optim.AdamW(clip.parameters(), lr=lr, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        pick = triples[torch.randperm(len(triples), generator=generator, device=device)[:batch]]  # (batch, 3)
        texts = clip.embed_texts(random_captions(table, pick, generator))
        loss = clip_loss(clip.embed_images(frames(sprites, pick, generator)), texts, clip.scale())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()
    return clip


@torch.no_grad()
def zero_shot(clip: CLIP, sprites: MovingSprites, generator: torch.Generator, split: str, copies: int = 6) -> float:
    """Share of the frames in which the caption that fits best, of all triples, names the right shape and colour.

    Clips that blink are left out: half of their frames are empty.
    """
    everything = all_triples().to(generator.device)
    texts = clip.embed_texts(Tokenizer().encode(sprites.captions(everything)).to(generator.device))
    asked = all_triples(split).to(generator.device).repeat(copies, 1)
    asked = asked[asked[:, 2] != 7]
    chosen = everything[(clip.embed_images(frames(sprites, asked, generator)) @ texts.T).argmax(dim=1)]
    return round((chosen == asked)[:, :2].all(dim=1).float().mean().item(), 4)


def main() -> None:
    """Read the command line, then train, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="data/clip.pt", help="file to write; the manifest goes beside it")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=128)
    args = parser.parse_args()
    with making(args.out):
        make(parser, args)


def make(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Train, judge and write, as the command line says."""
    device = best_device()
    torch.manual_seed(0)
    start = time.perf_counter()
    clip = train_clip(MovingSprites(4), torch.Generator(device).manual_seed(0), args.steps, args.batch)
    seconds = time.perf_counter() - start
    save_pretrained(args.out, clip, {})
    clip, generator = load_weights(Path(args.out), BUILDERS["clip"]).to(device), torch.Generator(device).manual_seed(1)
    found = {split: zero_shot(clip, MovingSprites(16), generator, split) for split in ("train", "held_out")}
    print(f"{seconds:.0f} s; shape and colour of a frame found: {found}", flush=True)
    record_made(args.out, clip, "make_clip", parser, args, seconds=round(seconds), shape_and_colour=found)


if __name__ == "__main__":
    main()
