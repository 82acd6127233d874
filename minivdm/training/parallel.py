"""Several processes, one GPU each, under `torchrun`: who am I, and what do the others say?

Without `torchrun` there is one process, and all of this does nothing.
"""

import os

import torch
from torch import distributed


def init_distributed():
    """Join the other processes, if `torchrun` started any, and choose this process's device.

    Returns:
        A `torch.device`: the GPU with the number of this process on its machine, or the CPU.

    Raises:
        ValueError: if there are more processes than GPUs.
    """
    cuda = torch.cuda.is_available()
    local = int(os.environ.get("LOCAL_RANK", 0))
    if cuda and local >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise ValueError(f"each process needs a GPU of its own: process {local} finds {there}, numbered from 0")
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if cuda else "gloo", device_id=device if cuda else None)
    return device


def rank():
    """The number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size():
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def all_gather(value):
    """What each process holds, as a list in the order of their ranks; on all of them."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def all_reduce_mean(tensor):
    """The mean of a tensor over all processes; on all of them."""
    if world_size() > 1:
        distributed.all_reduce(tensor)
        tensor /= world_size()
    return tensor


def broadcast(module):
    """A broadcast from rank 0: give every process the weights and buffers that it has."""
    if world_size() > 1:
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, 0)
    return module
