r"""Train the text-to-video model from nothing: `python -m minivdm train text2video`.

Draws a pool of captioned clips, trains on it, and writes into a folder of its own, `runs/text2video/<budget>` if no
other is named:

    settings.json               the numbers of this run, before the first step
    stills.pt                   the same as checkpoint.pt, while the run is still at single frames
    checkpoint.pt               everything the next step depends on: the same command goes on from here
    samples/step_000500.gif     clips for the eight `PROMPTS` by the averaged weights, about eight times in a run
    model.pt                    the averaged weights, at the end

Under `torchrun -m minivdm train text2video` several processes share the `parts` of each step. With the same parts the
losses are the same for any number of processes; if `parts` is not given, there is one for each.

Where time is short, single frames come first: what a square is can be learnt from one frame as well as from eight of
the same clip, at an eighth of the price, and the layers along time start as the identity (compare Singer et al.,
"Make-A-Video", ICLR 2023, which begins with pictures alone, since there are more of them).
"""

import json
import math
import time
from pathlib import Path

import torch
from einops import rearrange
from torch import distributed
from tqdm import tqdm

from .checkpoints import save_pretrained
from .data import to_model_range
from .files import replacing
from .guidance import drop_condition
from .kernels import accelerate
from .parallel import connect, rank, world
from .precision import best_dtype
from .predictions import prediction_loss
from .run_folder import require_same, saved_settings, settings_of, steps_done, what_is_saved
from .sprites import MovingSprites
from .text import Tokenizer, caption_table, random_captions
from .text2video import build_text2video, text_to_video
from .training import EMA, train
from .viz import save_gif

PROMPTS = ("a red circle moving left", "a white cross moving right", "a yellow triangle moving up",
           "a green diamond moving down", "a cyan square growing", "a purple ring shrinking",
           "an orange circle bouncing", "a blue square blinking")


def train_text2video(budget=None, out=None, progress=False, **changes):
    """Train, or go on with a run that was interrupted.

    Args:
        budget: a name in `BUDGETS` of `run_folder`; see `settings_of` there.
        out: the run's folder; default runs/text2video/<budget>.
        progress: show a tqdm bar.
        changes: other values for numbers of the budget, such as steps=100.

    Returns:
        The path of the trained model, `model.pt` in the run's folder.

    Raises:
        ValueError: if a setting makes no sense, or `out` holds a run with other settings or a broken checkpoint.
        NotFinite: if the trained weights are not finite in the float16 that `model.pt` stores.
        FloatingPointError: if the loss or the gradient is not finite.
        KeyboardInterrupt: when interrupted; its text says what was saved.
    """
    name, settings = settings_of(budget, **changes)
    out = Path(out or Path("runs", "text2video", name))
    sprites = MovingSprites(settings["frames"], settings["size"])
    device = connect()
    done = steps_done(out / "checkpoint.pt")
    seen = settings["stills"] if done else steps_done(out / "stills.pt")
    begun = done or seen
    if changes.get("parts") is None:  # what the run was begun with; else enough for every process
        settings["parts"] = saved_settings(out)["parts"] if begun else math.lcm(settings["parts"], world())
    if settings["batch"] % settings["parts"]:
        raise ValueError(f"a batch of {settings['batch']} cannot be cut into {settings['parts']} equal parts")
    if begun:
        require_same(out, settings)
    elif (out / "model.pt").exists():
        raise ValueError(f"{out} holds a model.pt, but no checkpoint to go on from: choose another --out, or delete "
                         f"that folder to start again")
    if settings["parts"] % world():
        advice = f"{out} was begun with them" if begun else f"use a multiple of {world()}"
        raise ValueError(f"{settings['parts']} parts cannot be shared out among {world()} processes: {advice}")
    if done == settings["steps"] and (out / "model.pt").exists():
        say(f"{out} is finished: all {done} steps are done, and the model is {out / 'model.pt'}")
        return out / "model.pt"
    if rank() == 0:
        with replacing(out / "settings.json") as file:
            file.write((json.dumps(settings, indent=2) + "\n").encode())

    torch.manual_seed(settings["seed"])
    config = {key: settings[key] for key in ("channels", "mults", "frames", "size", "shift")}
    model = accelerate(build_text2video(**config).to(device))
    averaged = accelerate(build_text2video(**config).to(device)).eval()  # to sample from, and to keep
    model.schedule.to(device)
    say(f"{sum(p.numel() for p in model.parameters()):,} parameters on {world()} x {device.type}; "
        + ", ".join(f"{key}={value}" for key, value in settings.items()))
    at = f"step {done} of {settings['steps']}" if done else f"still {seen} of {settings['stills']}"
    say(f"going on from {at} in {out}" if begun else f"writing to {out}")
    pool = Pool(sprites, settings, device)

    start = time.perf_counter()
    options = dict(lr=settings["lr"], dtype=best_dtype(device), parts=settings["parts"], progress=progress,
                   loss=prediction_loss, replay=True)
    try:
        if settings["stills"] and not done:
            steps = train(model.net, EMA(model.net), pool.pictures, model.schedule, settings["stills"],
                          seed=settings["seed"] + 2 * 10**6, checkpoint=out / "stills.pt",
                          save_every=max(1, settings["stills"] // 20), **options)
            for _ in told(steps, "still", settings["stills"], start):
                pass
        ema = EMA(model.net)
        averaged.net = ema.model
        films, saves = (max(1, settings["steps"] // n) for n in (8, 20))
        steps = train(model.net, ema, pool.clips, model.schedule, settings["steps"], seed=settings["seed"],
                      checkpoint=out / "checkpoint.pt", save_every=saves, decay=True, **options)
        for step in told(steps, "step", settings["steps"], start):
            if rank() == 0 and (step % films == 0 or step == settings["steps"]):
                write_film(averaged, out / "samples" / f"step_{step:06d}.gif")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped: {what_is_saved(out)}") from None
    if rank() == 0:
        save_pretrained(out / "model.pt", averaged, config)
    say(f"{time.perf_counter() - start:6.0f} s  finished: {out / 'model.pt'}")
    if distributed.is_initialized():
        distributed.destroy_process_group()
    return out / "model.pt"


def told(steps, name, total, start):
    """Hand on the steps of `train`; twenty times there is a line about the seconds since `start` and the mean loss."""
    losses = []
    for step, loss in steps:
        losses.append(loss)
        if step % max(1, total // 20) == 0 or step == total:
            mean = torch.stack(losses).mean().item()
            say(f"{time.perf_counter() - start:6.0f} s  {name} {step:6d} of {total}  loss {mean:.5f}")
            losses = []
        yield step


def draw_pool(sprites, n, generator):
    """n training clips as bytes, (n, 3, F, H, W) uint8, and their attributes, (n, 3) long.

    Only 1,024 of them exist as float32 at a time: four times the memory of bytes.
    """
    clips, attributes = [], []
    for i in range(0, n, 1024):
        drawn, kinds = sprites.sample(min(1024, n - i), generator)
        clips.append(drawn.add_(1).mul_(127.5).round_().byte())
        attributes.append(kinds)
        del drawn
    return torch.cat(clips), torch.cat(attributes)


class Pool:
    """Drawn clips in memory, the same in all processes and whenever a run goes on.

    `clips` and `pictures` are what `train` calls as `batch(generator)`: one part of a batch, in [-1, 1], and tokens of
    random wordings. A picture is a clip of one frame, a random one. One caption in ten is dropped.

    Args:
        sprites: a `MovingSprites`.
        settings: with `seed`, `pool` (number of clips), `batch`, `pictures` and `parts`.
        device: where the clips are drawn and stay.
    """

    def __init__(self, sprites, settings, device):
        start = time.perf_counter()
        generator = torch.Generator(device).manual_seed(settings["seed"] + 10**6)  # far from the seeds of the parts
        self.drawn, self.attributes = draw_pool(sprites, settings["pool"], generator)  # (N, 3, F, H, W), (N, 3)
        self.table = caption_table(Tokenizer()).to(device)  # (6, 8, 8, W, L)
        self.settings = settings
        say(f"{settings['pool']:,} clips drawn in {time.perf_counter() - start:.1f} s")

    def clips(self, generator):
        """Some clips, (B, 3, F, H, W), and tokens (B, L)."""
        pick = self.numbers(len(self.drawn), "batch", generator)
        return to_model_range(self.drawn[pick]), self.tokens(pick, generator)

    def pictures(self, generator):
        """Some frames, (B, 3, 1, H, W), and tokens (B, L)."""
        pick = self.numbers(len(self.drawn), "pictures", generator)
        frame = self.numbers(self.drawn.shape[2], "pictures", generator)
        return to_model_range(self.drawn[pick, :, frame])[:, :, None], self.tokens(pick, generator)

    def numbers(self, below, what, generator):
        """Random whole numbers, as many as a part has of what the settings call `what`."""
        size = math.ceil(self.settings[what] / self.settings["parts"])
        return torch.randint(below, (size,), generator=generator, device=generator.device)

    def tokens(self, pick, generator):
        """Tokens of the clips with these numbers."""
        return drop_condition(random_captions(self.table, self.attributes[pick], generator), 0.1, generator)


def write_film(model, path, steps=10):
    """Sample `PROMPTS`, always from the same noise, and write all eight clips into one GIF; returns (8, 3, F, H, W)."""
    generator = torch.Generator(next(model.parameters()).device).manual_seed(0)
    clips = text_to_video(PROMPTS, model, steps, generator=generator).cpu()
    save_gif(rearrange(clips, "(a b) c f h w -> c f (a h) (b w)", a=2), path, scale=3)
    return clips


def say(line):
    """Print a line, on rank 0 only, above the progress bar if there is one."""
    if rank() == 0:
        tqdm.write(line)
