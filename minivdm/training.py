"""The training loop as a generator, the averaged weights to sample from, and checkpoints that survive a crash.

A run that is killed and started again with the same arguments goes on from its last checkpoint, and on a CPU ends in
the same weights, bit for bit: a checkpoint holds everything that the next step depends on.
"""

import copy
import math
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from .diffusion import diffusion_loss
from .files import load_torch, save_torch
from .parallel import gather, mean, rank, share, world
from .precision import Rounded, in_dtype, replayed


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
          progress=True, loss=None, decay=False, parts=1, replay=False):
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
        dtype: what the network computes in (see `Rounded`); float16 adds a gradient scaler.
        seed: seed of levels, noise and batches.
        checkpoint: file to save to and, if it exists, to go on from.
        save_every: steps between checkpoints; the last step is always saved.
        progress: show a tqdm bar.
        loss: `loss(model, x0, schedule, cond, generator)` returns a scalar tensor; default `diffusion_loss`.
        decay: let the learning rate fall to 0 over the `steps`, along half a cosine.
        parts: gradient accumulation (micro-batches): each step averages the gradients of so many calls of `batch`; part
            i has a generator of its own, seeded seed + i. Several processes (see `parallel`) share them out: their
            number changes nothing but the speed.
        replay: on CUDA, record the kernels of a step once and launch them as one graph (see `replayed`): every batch
            must have the same size, and `loss` call the model once.

    Yields:
        (step, loss): steps done, from 1, and the loss as a detached scalar tensor.

    Raises:
        ValueError: if the checkpoint is broken or belongs to another model; if the parts cannot be shared out evenly.
        FloatingPointError: if the loss or the gradient is not finite; nothing is saved then.
    """
    if parts % world():
        raise ValueError(f"{parts} parts cannot be shared out among {world()} processes: use a multiple of {world()}")
    device = next(model.parameters()).device
    mine = range(rank(), parts, world())
    generators = [torch.Generator(device).manual_seed(seed + i) for i in range(parts)]
    cuda = device.type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=cuda, foreach=not cuda)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    found = latest_checkpoint(checkpoint)
    step = restore(found, model, ema, optimizer, scaler, generators) if found else 0

    share(model.train())
    replay = replay and cuda and step < steps
    rounded = Rounded(model, dtype) if dtype != torch.float32 or replay else None  # `model` itself is never recorded
    net = compute = rounded.copy if rounded else model
    if replay:
        x0, cond = batch(torch.Generator(device).manual_seed(seed))
        replayed(net, x0.to(dtype), in_dtype(cond, dtype))
    if world() > 1:
        compute = DistributedDataParallel(net, device_ids=[device.index] if cuda else None)

    def forward(x, t, cond=None):
        return compute(x.to(dtype), t, in_dtype(cond, dtype)).float()

    with tqdm(total=steps, initial=step, disable=not progress or rank() > 0, mininterval=1.0, unit="step") as bar:
        while step < steps:
            for group in optimizer.param_groups:
                falling = (1 + math.cos(math.pi * step / steps)) / 2 if decay else 1.0
                group["lr"] = lr * min(1.0, (step + 1) / 100) * falling
            optimizer.zero_grad(set_to_none=True)
            total = torch.zeros((), device=device)
            for i in mine:
                x0, cond = batch(generators[i])
                value = (loss or diffusion_loss)(forward if rounded else compute, x0, schedule, cond, generators[i])
                scaler.scale(value / len(mine)).backward()  # several processes average it here, part by part
                if rounded:
                    rounded.gradients()
                total += value.detach() / len(mine)
            scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
            if rounded:
                rounded.refresh()
            ema.update(model)
            step += 1

            bar.update()
            total = mean(total)
            saving = checkpoint and (step % save_every == 0 or step == steps)
            if saving or step % 50 == 0:  # reading the loss waits for the device, so do it rarely
                if not torch.isfinite(total):
                    raise FloatingPointError(f"the loss is {total.item()} at step {step}: try a smaller lr than {lr}")
                if not scaler.is_enabled() and not torch.isfinite(norm):  # a scaler skips such a step
                    came = f"{norm.item()} at step {step}"
                    raise FloatingPointError(f"the gradient is {came}: try a smaller lr than {lr}")
                bar.set_postfix(loss=f"{total.item():.4f}")
            if saving:
                held = gather({i: generators[i].get_state() for i in mine})
                states = {i: state for some in held for i, state in some.items()}
                if rank() == 0:
                    save_checkpoint(checkpoint, step=step, model=model.state_dict(), ema=ema.model.state_dict(),
                                    ema_updates=ema.updates, optimizer=optimizer.state_dict(), rng=rng_state(device),
                                    scaler=scaler.state_dict(), generators=[states[i] for i in range(parts)],
                                    device=device.type)
            yield step, total


def restore(path, model, ema, optimizer, scaler, generators):
    """Load a checkpoint into all parts of a run and return its step."""
    saved, device = load_checkpoint(path), generators[0].device
    try:
        states, made_on = saved["generators"], saved["device"]
        if (len(states), made_on) == (len(generators), device.type):
            model.load_state_dict(saved["model"])
            ema.model.load_state_dict(saved["ema"])
            ema.updates = saved["ema_updates"]
            optimizer.load_state_dict(saved["optimizer"])
            if saved["scaler"]:  # empty where no float16 is in play
                scaler.load_state_dict(saved["scaler"])
            for generator, state in zip(generators, states):
                generator.set_state(state)
            torch.set_rng_state(saved["rng"]["cpu"])
            if device.type == "cuda":
                torch.cuda.set_rng_state(saved["rng"]["cuda"], device)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} belongs to another model or is no training checkpoint: {reason}") from error
    if len(states) != len(generators):
        raise ValueError(f"{path} was made with parts={len(states)}, not parts={len(generators)}")
    if made_on != device.type:
        raise ValueError(f"{path} was made on {made_on}, where the random numbers are others than on {device.type}: "
                         f"go on there, or start again in another place")
    return saved["step"]


def rng_state(device):
    """The global random states, which dropout draws from: of the CPU, and of `device` if it is a CUDA card."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def save_checkpoint(path, **state):
    """Write `state` to `path` whole or not at all; the file that was there before becomes `<name>.previous`."""
    save_torch(path, state, older=previous(Path(path)))


def load_checkpoint(path):
    """Read a checkpoint written by `save_checkpoint`, to the CPU.

    Raises:
        FileNotFoundError: if there is no such file. OSError: if it cannot be read.
        ValueError: if the file is truncated or no checkpoint; the message names the previous one if there is one.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        return load_torch(path)
    except ValueError as error:
        older = previous(path)
        way_out = f"delete it to go on from {older.name}" if older.exists() else "delete it to start again"
        raise ValueError(f"{error}: {way_out}") from error


def latest_checkpoint(path):
    """`path` if it exists, else the previous checkpoint beside it, else None."""
    if path is None:
        return None
    return next((p for p in (Path(path), previous(Path(path))) if p.exists()), None)


def previous(path):
    """Where `save_checkpoint` puts the file that it replaces."""
    return path.with_name(path.name + ".previous")
