"""The training loop, as a generator.

A run that is killed and started again with the same arguments goes on from its last checkpoint, and on a CPU ends in
the same weights, bit for bit: a checkpoint holds everything that the next step depends on.
"""

import math
import operator
from collections.abc import Callable, Iterator
from numbers import Integral
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..diffusion.forward_process import diffusion_loss
from ..diffusion.schedules import NoiseSchedule
from .checkpoint import find_checkpoint, restore_engine, restore_weights, save_run, written_at
from .ema import EMA, update_average
from .engine import Engine
from .optimizers import MUON_MOMENTUM
from .parallel import all_reduce_mean, rank, world_size
from .seeds import mixed_seed
from .torch_files import torch_bytes

STEPS_BETWEEN_LOOKS = 50  # reading the loss waits for the device, so do it rarely
CURVES = "cosine", "linear"  # along which the learning rate falls
DECAYS = False, True, *CURVES
MAX_SKIPPED_STEPS = 20  # one after the other in float16: by then the scale has fallen from 65,536 to 1/16


def batches_of(images: Tensor, labels: Tensor | None = None, batch_size: int = 128) -> Callable:
    """A `batch(generator)` that draws `batch_size` random images, with their labels as the condition if given.

    Raises:
        ValueError: if there is nothing to draw, or the labels are not as many as the images.
    """
    if len(images) < 1 or batch_size < 1 or (labels is not None and len(labels) != len(images)):
        came = f"{len(images)} images, {'no' if labels is None else len(labels)} labels, batches of {batch_size}"
        raise ValueError(f"expected images, as many labels if any, and batches of 1 or more; got {came}")

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
    decay: bool | str = False,
    micro_batches: int = 1,
    cuda_graph: bool = False,
    phase: str = "",
    settings: dict[str, object] | None = None,
    saved: dict[str, object] | None = None,
    optimizer: str = "adamw",
    warm_up: int = 100,
    momentum: float = MUON_MOMENTUM,
) -> Iterator[tuple[int, Tensor]]:
    """Train `model` with a diffusion loss; a generator, so the caller looks on and may stop at any step.

        for step, loss in train(model, ema, batch, schedule, steps=2000):
            ...

    On a GPU the loop waits for the device only to look at the loss, every `STEPS_BETWEEN_LOOKS` steps and at the last
    one, and to save.

    Args:
        model: `model(x, t, cond)`, on its device.
        ema: an `EMA` of the model, updated after each step.
        batch: `batch(generator)` returns clean data (B, ...) on the model's device and a condition or None.
        schedule: a `NoiseSchedule`, on the model's device.
        steps: number of optimiser steps in all, those of an interrupted run included.
        lr: learning rate of AdamW, after the warm-up; Muon's is ten times as large.
        dtype: what the network computes in (see `Engine`); float16 adds a gradient scaler.
        seed: seed of levels, noise and batches; what is drawn in a step depends on it, on the phase and on the number
            of the step alone (see `seeds`).
        checkpoint: file to save to and, if it exists, to go on from; it belongs to one run at a time.
        save_every: steps between checkpoints; the last step is always saved.
        progress: show a tqdm bar.
        loss: `loss(model, x0, schedule, cond, generator)` returns a scalar tensor.
        decay: let the learning rate fall to 0 over the `steps`: "linear", along a straight line; "cosine" or True,
            along half a cosine.
        micro_batches: gradient accumulation: each step averages the gradients of so many calls of `batch`, each with a
            seed of its own. Several processes (see `parallel`) divide them among themselves: their number changes
            nothing but the speed.
        cuda_graph: on CUDA, record the kernels of a step once, and launch them as graphs (see `Recorded`): every batch
            must have the same size, and `loss` do the same each time, with nothing but tensors on the device.
        phase: name of this stretch of a run that has several. A checkpoint of another phase is not gone on from, and
            the first save of this one overwrites it.
        settings: what the run is made with, in the caller's words; kept in the checkpoint, and compared.
        saved: what `find_checkpoint` has found, or {} if that is of no use; by default it is read here.
        optimizer, momentum: "adamw", "adam", or "muon" and its momentum; see `build_optimizer`.
        warm_up: in so many steps the learning rate grows to `lr`, along a straight line.

    Yields:
        (step, loss): steps done, from 1, and the loss as a detached scalar tensor.

    Raises:
        ValueError: if a number makes no sense; if the EMA is that of another model; if the settings hold what no file
            could give back, such as a NumPy number; if the checkpoint is broken, belongs to another model or was made
            with other settings, or another run writes it, too; if the micro-batches cannot be divided evenly among the
            processes.
        FloatingPointError: if the loss or the gradient is not finite, or in float16 was not for `MAX_SKIPPED_STEPS`
            steps; nothing is saved then.
    """
    require_numbers(lr, steps, save_every, micro_batches, warm_up)
    if decay not in DECAYS:
        raise ValueError(f"decay must be one of {', '.join(map(repr, DECAYS))}; got {decay!r}")
    require_same_shapes(model, ema)
    seed, micro_batches = operator.index(seed), operator.index(micro_batches)  # Python's own, as files hold them
    facts = dict(phase=phase, settings=settings, seed=seed, micro_batches=micro_batches)
    if checkpoint is not None:
        torch_bytes(facts, checkpoint)
    device = next(model.parameters()).device
    own, generator = range(rank(), micro_batches, world_size()), torch.Generator(device)

    step, saved = 0, find_checkpoint(checkpoint) if saved is None else saved
    if saved and saved.get("phase", phase) != phase:  # one from before there were phases counts as of this one
        saved = None
    if saved:
        if saved.get("settings") not in (None, settings):
            raise ValueError(f"{saved['path']} was made with settings={saved['settings']}, not settings={settings}")
        step = restore_weights(saved, model, ema, seed, micro_batches, device)
        if step > steps:
            raise ValueError(f"{saved['path']} holds step {step}, more than steps={steps}")
    # it copies the weights, which are in place now
    engine = Engine(model, loss, schedule, dtype, optimizer, cuda_graph, momentum)
    if saved:
        restore_engine(saved, engine, device)
    saved, known = None, written_at(checkpoint)

    with tqdm(total=steps, initial=step, disable=not progress or rank() > 0, mininterval=1.0, unit="step") as bar:
        while step < steps:
            total = torch.zeros((), device=device)
            for i in own:
                generator.manual_seed(mixed_seed(seed, phase, step, i))
                x0, cond = batch(generator)
                total += engine.add_gradients(x0, cond, generator, 1 / len(own))
            norm = engine.step(learning_rate(step, steps, lr, decay, warm_up))
            update_average(ema, model)
            step += 1

            bar.update()
            total = all_reduce_mean(total)
            saving = checkpoint is not None and (step % save_every == 0 or step == steps)
            if saving or step % STEPS_BETWEEN_LOOKS == 0 or step == steps:
                require_finite(total, norm, engine, step, steps, lr)
                bar.set_postfix(loss=f"{total.item():.4f}")
            if saving and rank() == 0:
                if written_at(checkpoint) != known:
                    reason = "another run uses it, too, or somebody removed it"
                    raise ValueError(f"{checkpoint} is not as this run left it: {reason}; step {step} was not saved")
                save_run(checkpoint, step, model, ema, engine, **facts)
                known = written_at(checkpoint)
            yield step, total


def require_numbers(lr: float, steps: int, save_every: int, micro_batches: int, warm_up: int) -> None:
    """A ValueError that names the first of `train`'s numbers that makes no sense."""
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be a positive number, got {lr}")
    numbers = dict(steps=(steps, 0), save_every=(save_every, 1), micro_batches=(micro_batches, 1), warm_up=(warm_up, 0))
    for name, (value, least) in numbers.items():
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be a whole number, at least {least}, got {value}")
    if micro_batches % world_size():
        processes = f"{world_size()} processes: use a multiple of {world_size()}"
        raise ValueError(f"{micro_batches} micro-batches cannot be divided among {processes}")


def require_same_shapes(model: nn.Module, ema: EMA) -> None:
    """A ValueError unless the EMA has the model's weights and buffers, by name and shape."""
    trained, averaged = ({name: tuple(v.shape) for name, v in m.state_dict().items()} for m in (model, ema.model))
    other = [name for name in {**trained, **averaged} if trained.get(name) != averaged.get(name)]
    if other:
        came = f"{other[0]} is {trained.get(other[0], 'missing')} and {averaged.get(other[0], 'missing')}"
        raise ValueError(f"expected an EMA of this model, got that of another one: {came}")


def learning_rate(step: int, steps: int, lr: float, decay: bool | str = False, warm_up: int = 100) -> float:
    """The learning rate of a step, counted from 0: a linear warm-up to `lr`, times what `decay` leaves of it."""
    done = step / steps
    left = {False: 1.0, True: (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done}
    return lr * min(1.0, (step + 1) / max(1, warm_up)) * left[decay == "cosine" or decay]


def require_finite(loss: Tensor, norm: Tensor, engine: Engine, step: int, steps: int, lr: float) -> None:
    """A FloatingPointError if the loss is not finite, or the gradient.

    In float16 a scaler skips a step without a finite gradient, and scales less. That must not go on for ever: neither
    for `MAX_SKIPPED_STEPS` or all steps, nor until the scale makes gradients smaller instead of larger.
    """
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss.item()} at step {step}: try a smaller lr than {lr}")
    if not engine.scaler.is_enabled():
        if not torch.isfinite(norm):
            raise FloatingPointError(f"the gradient is {norm.item()} at step {step}: try a smaller lr than {lr}")
        return
    skipped, scale = engine.skipped.item(), engine.scaler.get_scale()
    if skipped >= min(MAX_SKIPPED_STEPS, steps) or scale < 1:
        raise FloatingPointError(
            f"the gradient is {norm.item()} at step {step}, was not finite in the last {skipped} steps, and its scale "
            f"for float16 fell to {scale:g}: try another dtype, or a smaller lr than {lr}"
        )
