"""The optimisers that a network is trained with, by name."""

import torch
from torch import nn

from .adamw import AdamW
from .muon import Muon, hidden_weights
from .optimizer import Optimizer

OPTIMIZERS = "muon", "adamw", "adam"
MUON_LR_RATIO = 10.0  # AdamW moves each entry by about lr; Muon moves the longest vector by lr
MUON_MOMENTUM = 0.9  # better than 0.95 in runs of about a thousand steps


def build_optimizer(model: nn.Module, name: str = "muon", momentum: float = MUON_MOMENTUM) -> Optimizer:
    """An optimiser for all parameters of a model.

    Args:
        model: the network, on its device.
        name: "adamw", with a weight decay of 0.01; "adam", without; or "muon": `Muon` for the `hidden_weights`, and
            AdamW for everything else.
        momentum: Muon's.

    Returns:
        An optimiser whose groups say in "lr_ratio" by what their learning rate differs from that of AdamW.

    Raises:
        ValueError: if the name is another one.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {name!r}")
    hidden = hidden_weights(model) if name == "muon" else []
    if not hidden:
        return AdamW(model.parameters(), weight_decay=0.0 if name == "adam" else 0.01)
    known = {id(weight) for weight in hidden}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
    muon = Muon([dict(params=hidden, lr_ratio=MUON_LR_RATIO)], momentum=momentum)
    return Together(muon, AdamW(rest)) if rest else muon


class Together(Optimizer):
    """Several optimisers, each with parameters of its own, that step together or, under a `GradScaler`, not at all.

    Args:
        optimizers: they keep their groups and options, and share one state, which `state_dict` holds.
    """

    def __init__(self, *optimizers: Optimizer):
        self.optimizers = optimizers
        super().__init__([group for each in optimizers for group in each.param_groups], {})
        groups = iter(self.param_groups)
        for each in optimizers:
            each.param_groups = [next(groups) for _ in each.param_groups]
            each.state = self.state

    @torch.no_grad()
    def step(self) -> None:
        """One step of each."""
        for each in self.optimizers:
            each.found_inf = self.found_inf
            each.step()
