"""The training loop, as a generator.

A run that is killed and started again with the same arguments goes on from its last checkpoint, and on a CPU ends in
the same weights, bit for bit: a checkpoint holds everything that the next step depends on.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..diffusion.forward_process import diffusion_loss
from ..diffusion.schedules import NoiseSchedule
from .checkpoint import find_checkpoint, restore_engine, restore_weights, save_run
from .ema import EMA
from .engine import Engine
from .parallel import all_reduce_mean, rank, world_size

WARM_UP_STEPS = 100
STEPS_BETWEEN_LOOKS = 50  # reading the loss waits for the device, so do it rarely


def batches_of(images: Tensor, labels: Tensor | None = None, batch_size: int = 128) -> Callable:
    """A `batch(generator)` that draws `batch_size` random images, with their labels as the condition if given."""

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        i = torch.randint(len(images), (batch_size,), generator=generator, device=images.device)
        return images[i], None if labels is None else labels[i]

    return batch


def train(
    model: nn.Module,
    ema: EMA,
    batch: Callable,
    schedule: NoiseSchedule,
    steps: int,
    lr: float = 1e-3,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    save_every: int = 500,
    progress: bool = True,
    loss: Callable = diffusion_loss,
    decay: bool = False,
    micro_batches: int = 1,
    cuda_graph: bool = False,
    phase: str = "",
) -> Iterator[tuple[int, Tensor]]:
    """Train `model` with a diffusion loss; a generator, so the caller looks on and may stop at any step.

        for step, loss in train(model, ema, batch, schedule, steps=2000):
            ...

    On a GPU the loop waits for the device only to look at the loss, every `STEPS_BETWEEN_LOOKS` steps, and to save.

    Args:
        model: `model(x, t, cond)`, on its device.
        ema: an `EMA` of the model, updated after each step.
        batch: `batch(generator)` returns clean data (B, ...) on the model's device and a condition or None.
        schedule: a `NoiseSchedule`, on the model's device.
        steps: number of optimiser steps in all, those of an interrupted run included.
        lr: learning rate of AdamW, after a linear warm-up over `WARM_UP_STEPS`.
        dtype: what the network computes in (see `Engine`); float16 adds a gradient scaler.
        seed: seed of levels, noise and batches.
        checkpoint: file to save to and, if it exists, to go on from.
        save_every: steps between checkpoints; the last step is always saved.
        progress: show a tqdm bar.
        loss: `loss(model, x0, schedule, cond, generator)` returns a scalar tensor.
        decay: let the learning rate fall to 0 over the `steps`, along half a cosine.
        micro_batches: gradient accumulation: each step averages the gradients of so many calls of `batch`; the i-th has
            a generator of its own, seeded seed + i. Several processes (see `parallel`) divide them among themselves:
            their number changes nothing but the speed.
        cuda_graph: on CUDA, record the kernels of a step once and launch them as one graph: every batch must have the
            same size, and `loss` call the model once.
        phase: name of this stretch of a run that has several. A checkpoint of another phase is not gone on from, and
            the first save of this one overwrites it.

    Yields:
        (step, loss): steps done, from 1, and the loss as a detached scalar tensor.

    Raises:
        ValueError: if the checkpoint is broken or belongs to another model; if the micro-batches cannot be divided
            evenly among the processes.
        FloatingPointError: if the loss or the gradient is not finite; nothing is saved then.
    """
    if micro_batches % world_size():
        processes = f"{world_size()} processes: use a multiple of {world_size()}"
        raise ValueError(f"{micro_batches} micro-batches cannot be divided among {processes}")
    device = next(model.parameters()).device
    own = range(rank(), micro_batches, world_size())
    generators = [torch.Generator(device).manual_seed(seed + i) for i in range(micro_batches)]
    example = batch(torch.Generator(device).manual_seed(seed)) if cuda_graph and device.type == "cuda" else None

    step, saved = 0, find_checkpoint(checkpoint, phase)
    if saved:
        step = restore_weights(saved, model, ema, len(generators), device)
    engine = Engine(model, dtype, example)  # copies and records the weights, so they are in place by now
    if saved:
        restore_engine(saved, engine, generators)

    with tqdm(total=steps, initial=step, disable=not progress or rank() > 0, mininterval=1.0, unit="step") as bar:
        while step < steps:
            total = torch.zeros((), device=device)
            for i in own:
                x0, cond = batch(generators[i])
                value = loss(engine.forward, x0, schedule, cond, generators[i]) / len(own)
                engine.backward(value)
                total += value.detach()
            norm = engine.step(learning_rate(step, steps, lr, decay))
            ema.update(model)
            step += 1

            bar.update()
            total = all_reduce_mean(total)
            saving = checkpoint and (step % save_every == 0 or step == steps)
            if saving or step % STEPS_BETWEEN_LOOKS == 0:
                require_finite(total, norm, engine, step, lr)
                bar.set_postfix(loss=f"{total.item():.4f}")
            if saving:
                save_run(checkpoint, step, model, ema, engine, generators, own, phase)
            yield step, total


def learning_rate(step: int, steps: int, lr: float, decay: bool = False) -> float:
    """The learning rate of a step, counted from 0: a linear warm-up to `lr`; with `decay`, times half a cosine."""
    falling = (1 + math.cos(math.pi * step / steps)) / 2 if decay else 1.0
    return lr * min(1.0, (step + 1) / WARM_UP_STEPS) * falling


def require_finite(loss: Tensor, norm: Tensor, engine: Engine, step: int, lr: float) -> None:
    """A FloatingPointError if the loss is not finite or, without a scaler, which skips such a step, the gradient."""
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss.item()} at step {step}: try a smaller lr than {lr}")
    if not engine.scaler.is_enabled() and not torch.isfinite(norm):
        came = f"{norm.item()} at step {step}"
        raise FloatingPointError(f"the gradient is {came}: try a smaller lr than {lr}")
