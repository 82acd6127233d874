"""Random weights for every parameter: layers that start at zero would hide mistakes."""

import torch


def shaken(module, seed=0):
    """The module with all parameters drawn at random."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.15 * torch.randn_like(parameter))
    return module
