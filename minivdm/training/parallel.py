"""Several processes, one GPU each, under `torchrun`: who am I, and what do the others say?

Without `torchrun` there is one process, and all of this does nothing.
"""

import os

import torch
from torch import Tensor, distributed, nn


def init_distributed() -> torch.device:
    """Join the other processes, if `torchrun` started any, and choose this process's device.

    Returns:
        A `torch.device`: the GPU with the number of this process on its machine, or the CPU.

    Raises:
        ValueError: if there are more processes than GPUs, or the variables that `torchrun` sets make no sense.
    """
    cuda = torch.cuda.is_available()
    local, number, total = (
        from_environment(name, default) for name, default in (("LOCAL_RANK", 0), ("RANK", 0), ("WORLD_SIZE", 1))
    )
    if number >= total:
        raise ValueError(f"process RANK={number} of WORLD_SIZE={total}: processes are numbered from 0")
    if total > 1 and "RANK" not in os.environ:
        raise ValueError(f"WORLD_SIZE={total}, but no RANK: start with torchrun, or unset WORLD_SIZE")
    if cuda and local >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise ValueError(f"each process needs a GPU of its own: process {local} finds {there}, numbered from 0")
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if total > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
    return device


def from_environment(name: str, default: int) -> int:
    """A whole number, at least 0, that `torchrun` has set, or the default; a ValueError if it is something else."""
    text = os.environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"the variable {name} must be a whole number, as torchrun sets it, got {text!r}")
    return int(text)


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def all_gather(value: object) -> list:
    """What each process holds, as a list in the order of their ranks; on all of them."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def all_reduce_mean(tensor: Tensor) -> Tensor:
    """The mean of a tensor over all processes; on all of them."""
    if world_size() > 1:
        distributed.all_reduce(tensor)
        tensor /= world_size()
    return tensor


def all_reduce_gradients(module: nn.Module) -> None:
    """The mean of a module's gradients over all processes, as one message; on all of them.

    All have computed gradients for the same parameters.
    """
    grads = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    if world_size() > 1 and grads:
        message = all_reduce_mean(torch.cat([grad.flatten() for grad in grads]))
        parts = message.split([grad.numel() for grad in grads])
        torch._foreach_copy_(grads, [part.view_as(grad) for part, grad in zip(parts, grads)])


def broadcast(module: nn.Module) -> nn.Module:
    """A broadcast from rank 0: give every process the weights and buffers that it has."""
    if world_size() > 1:
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, 0)
    return module
