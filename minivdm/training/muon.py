r"""Muon: an optimiser whose steps change a weight matrix by the same amount in every direction.

The gradient of a weight matrix is, as a rule, dominated by a few of its directions: its first singular values are much
larger than the others. A step along it is mostly a step in those, and what the rare directions would teach has to wait.
Muon takes the same directions, and makes all singular values about 1: from U S V^T to about U V^T.

GPUs are made for products of matrices, and a singular value decomposition takes them many times as long. Newton and
Schulz' iteration needs products alone. It begins with X / ||X||_F, which has no singular value above 1, and goes on

    X <- a X + (b A + c A^2) X,    A = X X^T         each singular value s becomes  p(s) = a s + b s^3 + c s^5

since A X = U S^3 V^T, and the singular vectors stay.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from .optimizer import Optimizer
from .precision import best_dtype

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # a, b, c: as steep at 0 as can be, and within 0.68..1.21 from there on
EPS = 1e-7  # for a gradient of 0
LEAST_OUTPUTS = 16  # of a layer before the last one
LEAST_SIDE = 128  # of a matrix on a GPU: smaller ones take as long


def orthogonalized(matrices: Tensor, iterations: int = 5) -> Tensor:
    r"""Matrices with the same singular vectors, and singular values near 1: U S V^T to about U V^T.

    Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024
    (https://kellerjordan.github.io/posts/muon/). Each matrix is divided by its Frobenius norm, and
    so are its singular values. Then each iteration sends every one of these values, s, through

        p(s) = a s + b s^3 + c s^5,        a, b, c = COEFFICIENTS

    After 5, those that began at 0.003 or more lie in 0.68..1.21.

    Args:
        matrices: (..., R, C), wide or tall; several of one shape go through together, each by
            itself. They may have 16 bits (bfloat16), and a matrix of zeros stays one.
        iterations: how often, 1 or more.

    Returns:
        (..., R, C), like matrices.
    """
    a, b, c = COEFFICIENTS
    rows, columns = matrices.shape[-2:]
    x = matrices.reshape(-1, rows, columns)
    x = x.mT if rows > columns else x  # then A = X X^T is the smaller one of X X^T and X^T X
    x = x / (x.norm(dim=(1, 2), keepdim=True) + EPS)
    for _ in range(iterations):
        gram = x @ x.mT
        powers = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # b A + c A^2
        x = torch.baddbmm(x, powers, x, beta=a)
    return (x.mT if rows > columns else x).reshape(matrices.shape)


class Muon(Optimizer):
    r"""Momentum, orthogonalised.

    Keller Jordan et al., "Muon", 2024, with Nesterov's momentum:

        m <- mu m + (1 - mu) g
        u  = mu m + (1 - mu) g
        W <- W - lr sqrt( max(1, R / C) ) orthogonalized(u)        R x C: a weight's shape, flattened to (out, the rest)

    `torch.optim.Muon` (PyTorch 2.9) is the same for weights of two axes and weight_decay=0.

    Args:
        weights: parameters with two axes or more. Those of an embedding and of the last layer are better left to
            another optimiser, and so is all that has one axis (see `hidden_weights`).
        lr: learning rate, a number or a tensor of one; about ten times that of AdamW.
        momentum: mu.
        iterations: see `orthogonalized`.

    Raises:
        ValueError: if a parameter has fewer than two axes, or a number makes no sense.
    """

    def __init__(
        self,
        weights: Iterable[Tensor] | Iterable[dict],
        lr: float | Tensor = 1e-2,
        momentum: float = 0.95,
        iterations: int = 5,
    ):
        if not 0 <= momentum < 1 or iterations < 1 or not lr >= 0:
            came = f"lr={lr}, momentum={momentum}, iterations={iterations}"
            raise ValueError(f"expected lr >= 0, momentum in [0, 1) and iterations >= 1, got {came}")
        super().__init__(weights, dict(lr=lr, momentum=momentum, iterations=iterations))
        for weight in self.parameters():
            if weight.ndim < 2:
                raise ValueError(f"expected weights with two axes or more, got one of shape {tuple(weight.shape)}")

    @torch.no_grad()
    def step(self) -> None:
        """One step with the gradients in `.grad`; weights without one stay as they are."""
        found_inf = self.found_inf
        for group in self.param_groups:
            weights, grads, momenta = self.with_gradients(group, momentum=None)
            if not weights:
                continue
            mu, lr = group["momentum"], group["lr"]
            if found_inf is not None:  # then let nothing of the gradient through, and the momentum as it is
                grads, lr = [torch.where(found_inf > 0, m, g) for m, g in zip(momenta, grads)], lr * (1 - found_inf)
            torch._foreach_lerp_(momenta, grads, 1 - mu)
            updates = torch._foreach_lerp(grads, momenta, mu)
            for numbers, stack in stacks(updates):
                moves = orthogonalized(stack, group["iterations"]) * lr
                for number, move in zip(numbers, moves):
                    weight = weights[number]
                    rows, columns = weight.flatten(1).shape
                    move = move[:columns, :rows].T if rows > columns else move[:rows, :columns]
                    weight.sub_(move.reshape(weight.shape), alpha=max(1, rows / columns) ** 0.5)


def stacks(updates: list[Tensor]) -> Iterator[tuple[list[int], Tensor]]:
    """Several matrices as few stacks: their numbers in the list, and (N, R, C) with R <= C, in `best_dtype`.

    On a GPU, where many small products are a matter of launching them, sides are filled with zeros up to a power of
    two, at least `LEAST_SIDE`. That changes nothing: the products have zeros there, too.
    """
    alike = {}
    for number, update in enumerate(updates):
        sides = sorted(update.flatten(1).shape)
        if update.is_cuda:
            sides = [max(LEAST_SIDE, 2 ** math.ceil(math.log2(side))) for side in sides]
        alike.setdefault(tuple(sides), []).append(number)
    for sides, numbers in alike.items():
        like = updates[numbers[0]]
        stack = torch.zeros(len(numbers), *sides, dtype=best_dtype(like.device), device=like.device)
        for number, place in zip(numbers, stack):
            matrix = updates[number].flatten(1)
            matrix = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
            place[: matrix.shape[0], : matrix.shape[1]] = matrix
        yield numbers, stack


def hidden_weights(model: nn.Module) -> list[Tensor]:
    """The parameters for Muon: the weights of all layers but embeddings and the last one.

    That is all that are called "weight" and have two axes or more, but for layers with fewer than `LEAST_OUTPUTS`
    outputs, such as those that give pixels: there are not enough directions to move them all by the same amount.
    """
    layers = (layer for layer in model.modules() if not isinstance(layer, nn.Embedding))
    found = [getattr(layer, "weight", None) for layer in layers]
    weights = {id(weight): weight for weight in found if isinstance(weight, nn.Parameter) and weight.ndim > 1}
    return [weight for weight in weights.values() if len(weight) >= LEAST_OUTPUTS]
