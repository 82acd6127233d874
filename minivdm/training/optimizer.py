"""What all optimisers share: parameters in groups, a state for each, and both in a checkpoint."""

from collections.abc import Iterable

import torch
from torch import Tensor


class Optimizer:
    """Parameters in groups, with the options and the state that an optimiser keeps for them.

    It has the groups and the state dict of `torch.optim.Optimizer`, and works with a `GradScaler`. But importing that
    one's methods at their first call loads PyTorch's compiler, and takes three to four seconds: a tenth of a short run.

    Args:
        params: parameters; or groups of them, dicts with "params" and options of their own.
        defaults: the options of a group that does not give them; among them lr, a number or a tensor of one.

    Raises:
        ValueError: if there are no parameters, or one of them is in two groups.
    """

    _step_supports_amp_scaling = True  # GradScaler leaves it to `step` to look at `found_inf`, on the device
    found_inf: Tensor | None = None  # set by a GradScaler for the length of a step: 1 if it is to be left out, else 0

    def __init__(self, params: Iterable[Tensor] | Iterable[dict], defaults: dict[str, object]):
        params = list(params)
        groups = params if params and isinstance(params[0], dict) else [dict(params=params)]
        self.param_groups = [defaults | group | dict(params=list(group["params"])) for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        every = self.parameters()
        if not every or len({id(parameter) for parameter in every}) < len(every):
            raise ValueError(f"expected parameters, each of them once, got {len(every)}")

    def parameters(self) -> list[Tensor]:
        """All parameters, group by group."""
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def with_gradients(self, group: dict, **fills: Tensor | None) -> list[list[Tensor]]:
        """The parameters of a group that have a gradient, their gradients, and of each name the state of each.

        Args:
            fills: what to call a state, and what it holds before the first step: None for zeros like the parameter.
        """
        weights = [weight for weight in group["params"] if weight.grad is not None]
        for weight in weights:
            if weight not in self.state:
                self.state[weight] = {
                    name: torch.zeros_like(weight) if fill is None else fill.to(weight.device, copy=True)
                    for name, fill in fills.items()
                }
        states = [[self.state[weight][name] for weight in weights] for name in fills]
        return [weights, [weight.grad for weight in weights], *states]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Take the gradients away, or fill them with zeros where they are."""
        if set_to_none:
            for parameter in self.parameters():
                parameter.grad = None
        else:
            grads = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
            if grads:
                torch._foreach_zero_(grads)

    def step(self) -> None:
        """One step with the gradients in `.grad`; parameters without one stay as they are."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, object]:
        """Options and states, with numbers in the place of parameters."""
        numbers = {id(parameter): i for i, parameter in enumerate(self.parameters())}
        groups = [
            group | dict(params=[numbers[id(parameter)] for parameter in group["params"]])
            for group in self.param_groups
        ]
        state = {numbers[id(parameter)]: dict(of_one) for parameter, of_one in self.state.items()}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, saved: dict[str, object]) -> None:
        """Take over options, as far as they are known, and states, into the same dict; or, with an error, nothing.

        Raises:
            ValueError: if it belongs to other groups, or to parameters of other shapes.
        """
        shapes = [[len(group["params"]) for group in groups] for groups in (self.param_groups, saved["param_groups"])]
        if shapes[0] != shapes[1]:
            raise ValueError(f"expected groups of {shapes[0]} parameters, got {shapes[1]}")
        every = self.parameters()
        state = {}
        for number, of_one in saved["state"].items():
            parameter = every[number]
            for name, value in of_one.items():
                if value.ndim and value.shape != parameter.shape:
                    came = f"{tuple(value.shape)} for {name}"
                    raise ValueError(f"expected a state of shape {tuple(parameter.shape)}, got {came}")
            state[parameter] = {name: value.to(parameter.device, copy=True) for name, value in of_one.items()}
        for group, known in zip(self.param_groups, saved["param_groups"]):
            group.update({name: known[name] for name in group if name in known and name != "params"})
        self.state.clear()
        self.state.update(state)
