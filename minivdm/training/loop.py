"""The training loop as a generator, the averaged weights to sample from, and checkpoints that survive a crash.

A run that is killed and started again with the same arguments goes on from its last checkpoint, and on a CPU ends in
the same weights, bit for bit: a checkpoint holds everything that the next step depends on.
"""

import math

import torch
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from ..diffusion.forward_process import diffusion_loss
from .checkpoint import latest_checkpoint, restore, rng_state, save_checkpoint
from .parallel import all_gather, all_reduce_mean, broadcast, rank, world_size
from .precision import LowPrecisionCopy, capture_cuda_graph, in_dtype


def batches_of(images, labels=None, batch_size=128):
    """A `batch(generator)` that draws `batch_size` random images, with their labels as the condition if given."""

    def batch(generator):
        i = torch.randint(len(images), (batch_size,), generator=generator, device=images.device)
        return images[i], None if labels is None else labels[i]

    return batch


def train(
    model,
    ema,
    batch,
    schedule,
    steps,
    lr=1e-3,
    dtype=torch.float32,
    seed=0,
    checkpoint=None,
    save_every=500,
    progress=True,
    loss=None,
    decay=False,
    micro_batches=1,
    cuda_graph=False,
):
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
        dtype: what the network computes in (see `LowPrecisionCopy`); float16 adds a gradient scaler.
        seed: seed of levels, noise and batches.
        checkpoint: file to save to and, if it exists, to go on from.
        save_every: steps between checkpoints; the last step is always saved.
        progress: show a tqdm bar.
        loss: `loss(model, x0, schedule, cond, generator)` returns a scalar tensor; default `diffusion_loss`.
        decay: let the learning rate fall to 0 over the `steps`, along half a cosine.
        micro_batches: gradient accumulation (micro-batches): each step averages the gradients of so many calls of `batch`; part
            i has a generator of its own, seeded seed + i. Several processes (see `parallel`) share them out: their
            number changes nothing but the speed.
        cuda_graph: on CUDA, record the kernels of a step once and launch them as one graph (see `capture_cuda_graph`): every batch
            must have the same size, and `loss` call the model once.

    Yields:
        (step, loss): steps done, from 1, and the loss as a detached scalar tensor.

    Raises:
        ValueError: if the checkpoint is broken or belongs to another model; if the micro_batches cannot be shared out evenly.
        FloatingPointError: if the loss or the gradient is not finite; nothing is saved then.
    """
    if micro_batches % world_size():
        raise ValueError(
            f"{micro_batches} micro_batches cannot be shared out among {world_size()} processes: use a multiple of {world_size()}"
        )
    device = next(model.parameters()).device
    mine = range(rank(), micro_batches, world_size())
    generators = [torch.Generator(device).manual_seed(seed + i) for i in range(micro_batches)]
    cuda = device.type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=cuda, foreach=not cuda)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    found = latest_checkpoint(checkpoint)
    step = restore(found, model, ema, optimizer, scaler, generators) if found else 0

    broadcast(model.train())
    cuda_graph = cuda_graph and cuda and step < steps
    rounded = (
        LowPrecisionCopy(model, dtype) if dtype != torch.float32 or cuda_graph else None
    )  # `model` itself is never recorded
    net = compute = rounded.copy if rounded else model
    if cuda_graph:
        x0, cond = batch(torch.Generator(device).manual_seed(seed))
        capture_cuda_graph(net, x0.to(dtype), in_dtype(cond, dtype))
    if world_size() > 1:
        compute = DistributedDataParallel(net, device_ids=[device.index] if cuda else None)

    def forward(x, t, cond=None):
        return compute(x.to(dtype), t, in_dtype(cond, dtype)).float()

    with tqdm(
        total=steps, initial=step, disable=not progress or rank() > 0, mininterval=1.0, unit="step"
    ) as bar:
        while step < steps:
            for group in optimizer.param_groups:
                falling = (1 + math.cos(math.pi * step / steps)) / 2 if decay else 1.0
                group["lr"] = lr * min(1.0, (step + 1) / 100) * falling
            optimizer.zero_grad(set_to_none=True)
            total = torch.zeros((), device=device)
            for i in mine:
                x0, cond = batch(generators[i])
                value = (loss or diffusion_loss)(
                    forward if rounded else compute, x0, schedule, cond, generators[i]
                )
                scaler.scale(
                    value / len(mine)
                ).backward()  # several processes average it here, part by part
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
            total = all_reduce_mean(total)
            saving = checkpoint and (step % save_every == 0 or step == steps)
            if saving or step % 50 == 0:  # reading the loss waits for the device, so do it rarely
                if not torch.isfinite(total):
                    raise FloatingPointError(
                        f"the loss is {total.item()} at step {step}: try a smaller lr than {lr}"
                    )
                if not scaler.is_enabled() and not torch.isfinite(
                    norm
                ):  # a scaler skips such a step
                    came = f"{norm.item()} at step {step}"
                    raise FloatingPointError(f"the gradient is {came}: try a smaller lr than {lr}")
                bar.set_postfix(loss=f"{total.item():.4f}")
            if saving:
                held = all_gather({i: generators[i].get_state() for i in mine})
                states = {i: state for some in held for i, state in some.items()}
                if rank() == 0:
                    save_checkpoint(
                        checkpoint,
                        step=step,
                        model=model.state_dict(),
                        ema=ema.model.state_dict(),
                        ema_updates=ema.updates,
                        optimizer=optimizer.state_dict(),
                        rng=rng_state(device),
                        scaler=scaler.state_dict(),
                        generators=[states[i] for i in range(micro_batches)],
                        device=device.type,
                    )
            yield step, total
