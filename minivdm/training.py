"""The training loop as a generator, the averaged weights to sample from, and checkpoints that survive a crash.

A run that is killed and started again with the same arguments goes on from its last checkpoint, and on a CPU ends in
the same weights, bit for bit: a checkpoint holds everything that the next step depends on.
"""

import copy
import pickle
import zipfile
from pathlib import Path

import torch
from tqdm import tqdm

from .diffusion import diffusion_loss
from .files import replacing


class EMA:
    r"""Exponential moving average of a model's weights, for sampling.

    Ho et al., NeurIPS 2020, appendix B, where d = 0.9999 throughout; the warm-up is TensorFlow's.

        average <- d * average + (1 - d) * weights
        d = min( decay, (1 + n) / (10 + n) ),           n = 0, 1, 2, .. updates made before this one

    The early, smaller d lets the average forget the random start.

    Args:
        model: the network in training; `ema.model` is the averaged copy.
        decay: the final d, below 1.
    """

    def __init__(self, model, decay=0.999):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        """Take in the present weights of `model`, which stay as they are; buffers are copied."""
        d = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for average, weights in zip(self.model.parameters(), model.parameters()):
            average.lerp_(weights, 1 - d)
        for average, buffer in zip(self.model.buffers(), model.buffers()):
            average.copy_(buffer)


def batches_of(images, labels=None, batch_size=128):
    """A `batch(generator)` that draws `batch_size` random images, with their labels as the condition if given."""

    def batch(generator):
        i = torch.randint(len(images), (batch_size,), generator=generator, device=images.device)
        return images[i], None if labels is None else labels[i]

    return batch


def train(model, ema, batch, schedule, steps, lr=1e-3, dtype=torch.float32, seed=0, checkpoint=None, save_every=500,
          progress=True, loss=None):
    """Train `model` with a diffusion loss; a generator, so the caller looks on and may stop at any step.

        for step, loss in train(model, ema, batch, schedule, steps=2000):
            ...

    Args:
        model: `model(x, t, cond)`, on its device.
        ema: an `EMA` of the model, updated after each step.
        batch: `batch(generator)` returns clean data (B, ...) on the model's device and a condition or None.
        schedule: a `NoiseSchedule`.
        steps: number of optimiser steps in all, those of an interrupted run included.
        lr: learning rate of AdamW, after a linear warm-up over 100 steps.
        dtype: autocast type; float16 adds a gradient scaler.
        seed: seed of levels, noise and batches.
        checkpoint: file to save to and, if it exists, to go on from.
        save_every: steps between checkpoints; the last step is always saved.
        progress: show a tqdm bar.
        loss: `loss(model, x0, schedule, cond, generator)` returns a scalar tensor; default `diffusion_loss`.

    Yields:
        (step, loss): steps done, from 1, and the loss as a detached scalar tensor.

    Raises:
        ValueError: if the checkpoint is broken or belongs to another model.
        FloatingPointError: if the loss is not finite; nothing is saved then.
    """
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=device.type == "cuda")
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    found = latest_checkpoint(checkpoint)
    step = restore(found, model, ema, optimizer, scaler, generator) if found else 0

    model.train()
    with tqdm(total=steps, initial=step, disable=not progress, mininterval=1.0, unit="step") as bar:
        while step < steps:
            for group in optimizer.param_groups:
                group["lr"] = lr * min(1.0, (step + 1) / 100)
            x0, cond = batch(generator)
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                value = (loss or diffusion_loss)(model, x0, schedule, cond, generator)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(value).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            ema.update(model)
            step += 1

            bar.update()
            saving = checkpoint and (step % save_every == 0 or step == steps)
            if saving or step % 50 == 0:  # reading the loss waits for the device, so do it rarely
                if not torch.isfinite(value):
                    raise FloatingPointError(f"the loss is {value.item()} at step {step}: try a smaller lr than {lr}")
                bar.set_postfix(loss=f"{value.item():.4f}")
            if saving:
                save_checkpoint(checkpoint, step=step, model=model.state_dict(), ema=ema.model.state_dict(),
                                ema_updates=ema.updates, optimizer=optimizer.state_dict(), scaler=scaler.state_dict(),
                                generator=generator.get_state(), rng=rng_state())
            yield step, value.detach()


def replayed(model, x0, cond):
    """On CUDA, record the kernels of `model` (forward and backward) once as a graph, to be replayed in training.

    Small networks spend most of a step on launching kernels one by one; a graph launches them all at once. It holds for
    this batch size and for training mode only. Make the `EMA` first, since a copy of a recorded model is none. On other
    devices this does nothing.

    Args:
        model: `model(x, t, cond)` in training mode, on its device.
        x0, cond: a batch as it will come: (B, ...) data and (B, ...) condition.

    Returns:
        The model.
    """
    if x0.device.type == "cuda":
        t = torch.ones(len(x0), dtype=torch.long, device=x0.device)
        torch.cuda.make_graphed_callables(model, (torch.zeros_like(x0), t, cond.clone()))
    return model


def restore(path, model, ema, optimizer, scaler, generator):
    """Load a checkpoint into all parts of a run and return its step."""
    saved = load_checkpoint(path, map_location="cpu")
    try:
        model.load_state_dict(saved["model"])
        ema.model.load_state_dict(saved["ema"])
        optimizer.load_state_dict(saved["optimizer"])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} belongs to another model or is no training checkpoint: {reason}") from error
    ema.updates = saved["ema_updates"]
    scaler.load_state_dict(saved["scaler"])
    generator.set_state(saved["generator"])
    torch.set_rng_state(saved["rng"]["cpu"])
    if torch.cuda.is_available() and saved["rng"]["cuda"]:
        torch.cuda.set_rng_state_all(saved["rng"]["cuda"])
    return saved["step"]


def rng_state():
    """The global random states, which dropout draws from."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def save_checkpoint(path, **state):
    """Write `state` to `path` whole or not at all; the file that was there before becomes `<name>.previous`."""
    path = Path(path)
    with replacing(path, older=previous(path)) as file:
        torch.save(state, file)


def load_checkpoint(path, map_location="cpu"):
    """Read a checkpoint written by `save_checkpoint`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is truncated or no checkpoint; the message names the previous one if there is one.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        older = previous(path)
        way_out = f"delete it to go on from {older.name}" if older.exists() else "delete it to start again"
        size = path.stat().st_size
        raise ValueError(f"{path} ({size:,} bytes) is truncated or not a checkpoint: {way_out}") from error


def latest_checkpoint(path):
    """`path` if it exists, else the previous checkpoint beside it, else None."""
    if path is None:
        return None
    return next((p for p in (Path(path), previous(Path(path))) if p.exists()), None)


def previous(path):
    """Where `save_checkpoint` puts the file that it replaces."""
    return path.with_name(path.name + ".previous")
