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

from ..datasets.captions import Tokenizer, caption_table, random_captions
from ..datasets.gif_files import save_gif
from ..datasets.pixels import to_model_range
from ..datasets.sprites import MovingSprites
from ..diffusion.guidance import drop_condition
from ..diffusion.predictions import prediction_loss
from ..files import replacing
from ..models.kernels import accelerate
from ..pipelines.pretrained import save_pretrained
from ..pipelines.text2video import build_text2video, text_to_video
from ..training.ema import EMA
from ..training.loop import train
from ..training.parallel import init_distributed, rank, world_size
from ..training.precision import best_dtype
from .settings import require_same, saved_settings, settings_of, steps_done, what_is_saved

PROMPTS = (
    "a red circle moving left",
    "a white cross moving right",
    "a yellow triangle moving up",
    "a green diamond moving down",
    "a cyan square growing",
    "a purple ring shrinking",
    "an orange circle bouncing",
    "a blue square blinking",
)


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
    device = init_distributed()
    done = steps_done(out / "checkpoint.pt")
    seen = settings["image_steps"] if done else steps_done(out / "stills.pt")
    begun = done or seen
    if (
        changes.get("micro_batches") is None
    ):  # what the run was begun with; else enough for every process
        settings["micro_batches"] = (
            saved_settings(out)["micro_batches"]
            if begun
            else math.lcm(settings["micro_batches"], world_size())
        )
    if settings["batch"] % settings["micro_batches"]:
        raise ValueError(
            f"a batch of {settings['batch']} cannot be cut into {settings['micro_batches']} equal parts"
        )
    if begun:
        require_same(out, settings)
    elif (out / "model.pt").exists():
        raise ValueError(
            f"{out} holds a model.pt, but no checkpoint to go on from: choose another --out, or delete "
            f"that folder to start again"
        )
    if settings["micro_batches"] % world_size():
        advice = f"{out} was begun with them" if begun else f"use a multiple of {world_size()}"
        raise ValueError(
            f"{settings['micro_batches']} parts cannot be shared out among {world_size()} processes: {advice}"
        )
    if done == settings["steps"] and (out / "model.pt").exists():
        log(f"{out} is finished: all {done} steps are done, and the model is {out / 'model.pt'}")
        return out / "model.pt"
    if rank() == 0:
        with replacing(out / "settings.json") as file:
            file.write((json.dumps(settings, indent=2) + "\n").encode())

    torch.manual_seed(settings["seed"])
    config = {key: settings[key] for key in ("channels", "mults", "frames", "size", "shift")}
    model = accelerate(build_text2video(**config).to(device))
    averaged = accelerate(
        build_text2video(**config).to(device)
    ).eval()  # to sample from, and to keep
    model.schedule.to(device)
    log(
        f"{sum(p.numel() for p in model.parameters()):,} parameters on {world_size()} x {device.type}; "
        + ", ".join(f"{key}={value}" for key, value in settings.items())
    )
    at = f"step {done} of {settings['steps']}" if done else f"still {seen} of {settings['stills']}"
    log(f"going on from {at} in {out}" if begun else f"writing to {out}")
    pool = ClipPool(sprites, settings, device)

    start = time.perf_counter()
    options = dict(
        lr=settings["lr"],
        dtype=best_dtype(device),
        micro_batches=settings["micro_batches"],
        progress=progress,
        loss=prediction_loss,
        cuda_graph=True,
    )
    try:
        if settings["image_steps"] and not done:
            steps = train(
                model.net,
                EMA(model.net),
                pool.pictures,
                model.schedule,
                settings["image_steps"],
                seed=settings["seed"] + 2 * 10**6,
                checkpoint=out / "stills.pt",
                save_every=max(1, settings["image_steps"] // 20),
                **options,
            )
            for _ in log_progress(steps, "still", settings["image_steps"], start):
                pass
        ema = EMA(model.net)
        averaged.net = ema.model
        sample_every, save_every = (max(1, settings["steps"] // n) for n in (8, 20))
        steps = train(
            model.net,
            ema,
            pool.clips,
            model.schedule,
            settings["steps"],
            seed=settings["seed"],
            checkpoint=out / "checkpoint.pt",
            save_every=save_every,
            decay=True,
            **options,
        )
        for step in log_progress(steps, "step", settings["steps"], start):
            if rank() == 0 and (step % sample_every == 0 or step == settings["steps"]):
                write_samples(averaged, out / "samples" / f"step_{step:06d}.gif")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped: {what_is_saved(out)}") from None
    if rank() == 0:
        save_pretrained(out / "model.pt", averaged, config)
    log(f"{time.perf_counter() - start:6.0f} s  finished: {out / 'model.pt'}")
    if distributed.is_initialized():
        distributed.destroy_process_group()
    return out / "model.pt"


def log_progress(steps, name, total, start):
    """Hand on the steps of `train`; twenty times there is a line about the seconds since `start` and the mean loss."""
    losses = []
    for step, loss in steps:
        losses.append(loss)
        if step % max(1, total // 20) == 0 or step == total:
            mean = torch.stack(losses).mean().item()
            log(
                f"{time.perf_counter() - start:6.0f} s  {name} {step:6d} of {total}  loss {mean:.5f}"
            )
            losses = []
        yield step


def render_clips(sprites, n, generator):
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


class ClipPool:
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
        generator = torch.Generator(device).manual_seed(
            settings["seed"] + 10**6
        )  # far from the seeds of the parts
        self.drawn, self.attributes = render_clips(
            sprites, settings["pool"], generator
        )  # (N, 3, F, H, W), (N, 3)
        self.table = caption_table(Tokenizer()).to(device)  # (6, 8, 8, W, L)
        self.settings = settings
        log(f"{settings['pool']:,} clips drawn in {time.perf_counter() - start:.1f} s")

    def clips(self, generator):
        """Some clips, (B, 3, F, H, W), and tokens (B, L)."""
        pick = self.numbers(len(self.drawn), "batch", generator)
        return to_model_range(self.drawn[pick]), self.tokens(pick, generator)

    def pictures(self, generator):
        """Some frames, (B, 3, 1, H, W), and tokens (B, L)."""
        pick = self.numbers(len(self.drawn), "image_batch", generator)
        frame = self.numbers(self.drawn.shape[2], "image_batch", generator)
        return to_model_range(self.drawn[pick, :, frame])[:, :, None], self.tokens(pick, generator)

    def numbers(self, below, what, generator):
        """Random whole numbers, as many as a part has of what the settings call `what`."""
        size = math.ceil(self.settings[what] / self.settings["micro_batches"])
        return torch.randint(below, (size,), generator=generator, device=generator.device)

    def tokens(self, pick, generator):
        """Tokens of the clips with these numbers."""
        return drop_condition(
            random_captions(self.table, self.attributes[pick], generator), 0.1, generator
        )


def write_samples(model, path, steps=10):
    """Sample `PROMPTS`, always from the same noise, and write all eight clips into one GIF; returns (8, 3, F, H, W)."""
    generator = torch.Generator(next(model.parameters()).device).manual_seed(0)
    clips = text_to_video(PROMPTS, model, steps, generator=generator).cpu()
    save_gif(rearrange(clips, "(a b) c f h w -> c f (a h) (b w)", a=2), path, scale=3)
    return clips


def log(line):
    """Print a line, on rank 0 only, above the progress bar if there is one."""
    if rank() == 0:
        tqdm.write(line)
