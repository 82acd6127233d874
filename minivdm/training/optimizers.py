"""The optimisers that a network is trained with, by name."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .muon import Muon, hidden_weights

OPTIMIZERS = "muon", "adamw"
MUON_LR_RATIO = 10.0  # AdamW moves each entry by about lr; Muon moves the longest vector by lr
MUON_MOMENTUM = 0.9  # better than 0.95 in runs of about a thousand steps


def build_optimizer(model: nn.Module, name: str = "muon") -> torch.optim.Optimizer:
    """An optimiser for all parameters of a model.

    Args:
        model: the network, on its device.
        name: "adamw", with PyTorch's weight decay of 0.01; or "muon": `Muon` for the `hidden_weights`, and AdamW for
            everything else.

    Returns:
        An optimiser whose groups say in "lr_ratio" by what their learning rate differs from that of AdamW.

    Raises:
        ValueError: if the name is another one.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {name!r}")
    cuda = next(model.parameters()).is_cuda
    hidden = hidden_weights(model) if name == "muon" else []
    if not hidden:
        return torch.optim.AdamW(model.parameters(), fused=cuda, foreach=not cuda, capturable=cuda)
    known = {id(weight) for weight in hidden}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
    parts = [Muon([dict(params=hidden, lr_ratio=MUON_LR_RATIO)], momentum=MUON_MOMENTUM)]
    if rest:
        parts.append(torch.optim.AdamW(rest, fused=True, capturable=cuda))
    return Together(*parts)


class Together(torch.optim.Optimizer):
    """Several optimisers, each with parameters of its own, that step together or, under a `GradScaler`, not at all.

    Args:
        optimizers: they keep their groups and options, and share one state, which `state_dict` holds.
    """

    _step_supports_amp_scaling = True

    def __init__(self, *optimizers: torch.optim.Optimizer):
        self.optimizers = optimizers
        super().__init__([group for each in optimizers for group in each.param_groups], {})
        self.share()

    def share(self) -> None:
        """Give each optimiser its own groups of all, and the state of all."""
        groups = iter(self.param_groups)
        for each in self.optimizers:
            each.param_groups = [next(groups) for _ in each.param_groups]
            each.state = self.state

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Take over a state of as many groups."""
        super().load_state_dict(state_dict)
        self.share()

    def step(self, closure: Callable | None = None) -> Tensor | None:
        """One step of each."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for each in self.optimizers:
            if hasattr(self, "found_inf"):  # from a GradScaler, for the length of this step
                each.found_inf = self.found_inf
            elif hasattr(each, "found_inf"):
                del each.found_inf
            each.step()
        return loss
