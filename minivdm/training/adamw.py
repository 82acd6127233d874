"""AdamW: the optimiser for what is no matrix, and the usual one for all."""

from collections.abc import Iterable

import torch
from torch import Tensor

from .optimizer import Optimizer


class AdamW(Optimizer):
    r"""Adam with decoupled weight decay.

    Kingma and Ba, "Adam", ICLR 2015; Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019:

        m <- b1 m + (1 - b1) g,    v <- b2 v + (1 - b2) g^2
        W <- W - lr weight_decay W - lr  (m / (1 - b1^n)) / ( sqrt(v / (1 - b2^n)) + eps )         in step n = 1, 2, ..

    `torch.optim.AdamW` computes the same, by the same kernel of PyTorch's if `fused=True`.

    Args:
        params: see `Optimizer`.
        lr: learning rate, a number or a tensor of one.
        betas: b1 and b2.
        eps: against a division by 0.
        weight_decay: how much of a weight is lost in a step, in units of lr.

    Raises:
        ValueError: if a number makes no sense.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        if not (lr >= 0 and all(0 <= beta < 1 for beta in betas) and eps >= 0 and weight_decay >= 0):
            came = f"lr={lr}, betas={betas}, eps={eps}, weight_decay={weight_decay}"
            raise ValueError(f"expected lr, eps, weight_decay >= 0 and betas in [0, 1), got {came}")
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self) -> None:
        """One step with the gradients in `.grad`; parameters without one stay as they are."""
        for group in self.param_groups:
            fills = dict(step=torch.zeros(()), exp_avg=None, exp_avg_sq=None)
            weights, grads, steps, means, squares = self.with_gradients(group, **fills)
            if not weights:
                continue
            torch._foreach_add_(steps, 1)
            if self.found_inf is not None:
                torch._foreach_sub_(steps, [self.found_inf] * len(steps))
            torch._fused_adamw_(
                weights,
                grads,
                means,
                squares,
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
                found_inf=self.found_inf,
            )
