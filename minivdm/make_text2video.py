r"""Make data/text2video.pt from nothing: draw the data, train, judge, write.

    python -m minivdm.make_text2video --out data/text2video.pt --minutes 6

Needs a CUDA card for anything useful; without one it runs, slowly. Prints the loss, then the judge's own accuracy, then
the prompt accuracy of the model as it was written to the file: overall, on triples seen in training, and on held-out
ones. Writes the file, `manifest.json` and samples (a GIF and a PNG of film strips) beside it.
"""

import argparse
import copy
import math
import time
from pathlib import Path

import torch
from einops import rearrange
from PIL import Image

from .attribute_probe import recognised, train_probe
from .checkpoints import build_text2video, load_weights, record, save_pretrained
from .data import to_model_range
from .guidance import drop_condition
from .predictions import prediction_loss
from .sprites import ATTRIBUTES, MovingSprites, all_triples, held_out
from .text import Tokenizer, caption_table
from .text2video import text_to_video
from .training import EMA
from .viz import save_gif, sheet

CONFIG = {"widths": (64, 96), "blocks": 1, "patch": 2}
PROMPTS = ("a red circle moving left", "a white cross moving right", "a yellow triangle moving up",
           "a green diamond moving down", "a cyan square growing", "a purple ring shrinking",
           "an orange circle bouncing", "a blue square blinking")


def draw_pool(sprites, n, generator):
    """n training clips as bytes, (n, 3, F, H, W) uint8, and their attributes, (n, 3) long."""
    clips, attributes = zip(*(sprites.sample(min(1024, n - i), generator) for i in range(0, n, 1024)))
    return torch.cat([((c + 1) * 127.5).round().byte() for c in clips]), torch.cat(attributes)


def train(model, ema, sprites, generator, seconds, pool, batch, lr, dtype, every, save):
    """Train `model.net` to predict v, for a given time; the learning rate rises for 100 steps, then falls to 0.

    A copy of the network computes wholly in `dtype`, while `model.net` keeps the weights in float32: the optimiser's
    steps are too small for bfloat16. On CUDA the copy's kernels are recorded once and then replayed as a graph.
    Calls `save()` and prints the mean loss each `every` seconds. Returns the number of steps.
    """
    start = time.perf_counter()
    device = generator.device
    clips, attributes = draw_pool(sprites, pool, generator)
    table = caption_table(Tokenizer()).to(device)
    print(f"{pool:,} clips drawn in {time.perf_counter() - start:.1f} s", flush=True)
    rounded = copy.deepcopy(model.net).to(dtype)
    weights, rounded_weights = list(model.net.parameters()), list(rounded.parameters())
    if device.type == "cuda":
        t, tokens = torch.ones(batch, dtype=torch.long, device=device), table[0, 0, 0, :1].repeat(batch, 1)
        rounded = torch.cuda.make_graphed_callables(rounded, (clips[:batch].to(dtype), t, tokens))

    def net(x, t, cond):
        return rounded(x.to(dtype), t, cond).float()

    optimizer = torch.optim.AdamW(weights, lr=lr, weight_decay=0.01)
    start, step, losses, printed = time.perf_counter(), 0, [], 0.0
    while (elapsed := time.perf_counter() - start) < seconds:
        falling = (1 + math.cos(math.pi * elapsed / seconds)) / 2
        optimizer.param_groups[0]["lr"] = lr * min(1, (step + 1) / 100) * falling
        pick = torch.randint(pool, (batch,), generator=generator, device=device)  # (batch,)
        wording = torch.randint(table.shape[3], (batch,), generator=generator, device=device)  # (batch,)
        tokens = drop_condition(table[(*attributes[pick].unbind(1), wording)], 0.1, generator)  # (batch, L)
        x0 = to_model_range(clips[pick])  # (batch, 3, F, H, W)
        loss = prediction_loss(net, x0, model.schedule, tokens, generator)
        loss.backward()
        for exact, copied in zip(weights, rounded_weights):
            exact.grad, copied.grad = copied.grad.float(), None
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(rounded_weights, weights)
        ema.update(model)
        step += 1
        losses.append(loss.detach())
        if elapsed - printed > every:
            printed = elapsed
            print(f"{elapsed:5.0f} s  step {step:6d}  v loss {torch.stack(losses).mean().item():.4f}", flush=True)
            losses = []
            save()
    return step


def judge(model, probe, sprites, generator, copies, **sampling):
    """Prompt accuracy over all triples, `copies` clips each with random wordings: a dict of shares in 0..1."""
    triples = all_triples().repeat(copies, 1)  # (N, 3)
    prompts = sprites.captions(triples, torch.Generator().manual_seed(1))
    clips = [text_to_video(prompts[i : i + 256], model, frames=sprites.frames, size=sprites.size, generator=generator,
                           **sampling) for i in range(0, len(prompts), 256)]
    right = recognised(probe, torch.cat(clips), triples).cpu()  # (N, 3)
    new, all_right = held_out(triples), right.all(dim=1).float()
    shares = {"overall": all_right.mean(), "seen": all_right[~new].mean(), "held_out": all_right[new].mean()}
    shares |= {kind: right[:, i].float().mean() for i, kind in enumerate(ATTRIBUTES)}
    return {name: round(share.item(), 4) for name, share in shares.items()}


def write_samples(model, sprites, out):
    """Sample `PROMPTS` and write them beside the checkpoint `out`: all in one GIF, and as film strips in a PNG."""
    generator = torch.Generator(next(model.parameters()).device).manual_seed(0)
    clips = text_to_video(PROMPTS, model, frames=sprites.frames, size=sprites.size, generator=generator).cpu()
    save_gif(rearrange(clips, "(a b) c f h w -> c f (a h) (b w)", a=2), out.with_suffix(".gif"), scale=3)
    strips = Image.fromarray(sheet(rearrange(clips, "b c f h w -> (b f) c h w"), cols=sprites.frames))
    strips.resize((2 * strips.width, 2 * strips.height), Image.NEAREST).save(out.with_suffix(".png"))


def main():
    """Read the command line, then train, judge and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="data/text2video.pt", help="file to write; samples and manifest go beside it")
    parser.add_argument("--minutes", type=float, default=6.0, help="training time")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pool", type=int, default=65536, help="number of training clips")
    parser.add_argument("--probe-steps", type=int, default=500)
    parser.add_argument("--copies", type=int, default=2, help="clips per triple to judge")
    args = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    generator = torch.Generator(device).manual_seed(0)
    torch.manual_seed(0)
    sprites = MovingSprites(args.frames, args.size)
    model = build_text2video(CONFIG).to(device)
    model.schedule.to(device)
    ema = EMA(model)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters:,} parameters on {device}, {args.frames} frames of {args.size} pixels", flush=True)

    out = Path(args.out)
    steps = train(model, ema, sprites, generator, 60 * args.minutes, args.pool, args.batch, 1e-3, dtype,
                  every=3 * args.minutes, save=lambda: save_pretrained(out, ema.model, CONFIG))
    save_pretrained(out, ema.model, CONFIG)
    print(f"{steps} steps, {steps * args.batch / 60 / args.minutes:.0f} clips per second", flush=True)

    start = time.perf_counter()
    probe = train_probe(sprites, generator, args.probe_steps, dtype=dtype)
    clips, attributes = sprites.sample(2048, generator, split="all")
    trust = recognised(probe, clips, attributes).float().mean(dim=0).tolist()
    trust = {kind: round(share, 4) for kind, share in zip(ATTRIBUTES, trust)}
    print(f"probe, {time.perf_counter() - start:.0f} s: right on drawn clips {trust}", flush=True)

    model = load_weights(out, build_text2video).to(device)
    accuracy = judge(model, probe, sprites, generator, args.copies)
    print(f"prompt accuracy {accuracy}", flush=True)
    given = {name: value for name, value in vars(args).items() if name != "out" and value != parser.get_default(name)}
    options = "".join(f" --{name.replace('_', '-')} {value:g}" for name, value in given.items())
    command = f"python -m minivdm.make_text2video --out data/{out.name}{options}"
    made_on = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    record(out, command=command, made_on=made_on, steps=steps, parameters=parameters,
           frames=args.frames, size=args.size, probe_accuracy=trust,
           clips_judged=args.copies * len(all_triples()), prompt_accuracy=accuracy)
    write_samples(model, sprites, out)


if __name__ == "__main__":
    main()
