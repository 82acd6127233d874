"""Training fast on a GPU without losing precision: 16-bit arithmetic with 32-bit weights, and recorded kernels."""

import copy

import torch
from torch import Tensor, nn


class LowPrecisionCopy:
    """A copy of a network to compute in, wholly in a 16-bit type, while the network keeps its weights in float32.

    An optimiser's steps are too small for 16 bits: added to a weight they would be rounded away (Micikevicius et al.,
    "Mixed Precision Training", ICLR 2018, section 3.1). So each step goes: forward and backward through the copy, its
    gradients to the network, the optimiser's step there, and the new weights, rounded, to the copy. What the forward
    passes leave in the copy's buffers goes to the network, too. Layers with running statistics, such as `BatchNorm2d`,
    stay in float32: their averages move by a tenth of a difference, which 16 bits would round away.

    Args:
        model: the network in training.
        dtype: torch.bfloat16 or torch.float16; with torch.float32 it is a copy and no more.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype):
        self.model, self.dtype, self.network = model, dtype, copy.deepcopy(model).to(dtype)
        for layer in layers_with_statistics(self.network):
            layer.float()
        self.weights, self.rounded = list(model.parameters()), list(self.network.parameters())
        self.before = [buffer.clone() for buffer in self.network.buffers()]

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """What the copy estimates from float32, in float32."""
        x, cond = x.to(self.dtype), in_dtype(cond, self.dtype)
        return (self.network(x, t) if cond is None else self.network(x, t, cond)).float()

    @torch.no_grad()
    def move_gradients(self) -> None:
        """Add the copy's gradients to the network's, in float32, and clear the copy's.

        To be called after every backward pass. The sum is not left to `.grad` of the copy: it would be rounded to 16
        bits.
        """
        pairs = [(e, r) for e, r in zip(self.weights, self.rounded) if r.grad is not None]
        terms = [torch.empty_like(exact) for exact, _ in pairs]
        torch._foreach_copy_(terms, [rounded.grad for _, rounded in pairs])
        sums = [(exact, term) for (exact, _), term in zip(pairs, terms) if exact.grad is not None]
        if sums:
            torch._foreach_add_([exact.grad for exact, _ in sums], [term for _, term in sums])
        for (exact, rounded), term in zip(pairs, terms):
            exact.grad = term if exact.grad is None else exact.grad
            rounded.grad = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the network's weights and buffers into the copy."""
        torch._foreach_copy_(self.rounded, self.weights)
        for rounded, exact, before in zip(self.network.buffers(), self.model.buffers(), self.before):
            before.copy_(rounded.copy_(exact))

    @torch.no_grad()
    def move_buffers(self) -> None:
        """Take over what has changed in the copy's buffers; a table that stays as it is keeps its 32 bits."""
        for rounded, exact, before in zip(self.network.buffers(), self.model.buffers(), self.before):
            exact.copy_(torch.where(rounded == before, exact, rounded.to(exact.dtype)))


class InLowPrecision(nn.Module):
    """A network as it is, computed in a `LowPrecisionCopy`: for samples on the way, where speed counts.

    Args:
        model: `model(x, t, cond)`, in float32; `refresh` takes over what has changed in it.
        dtype: of the copy.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.model, self.copies = model, (LowPrecisionCopy(model, dtype),)  # a tuple, as it holds no weights of its own

    def refresh(self) -> None:
        """Round the network's present weights."""
        self.copies[0].refresh()

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        return self.copies[0](x, t, cond)


def layers_with_statistics(model: nn.Module) -> list[nn.Module]:
    """The layers of a network that keep averages of what they see in training, such as `BatchNorm2d`."""
    return [layer for layer in model.modules() if getattr(layer, "running_mean", None) is not None]


def in_dtype(value: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A tensor of floats in another type; long tensors, such as tokens, and None as they are."""
    return value.to(dtype) if value is not None and value.is_floating_point() else value


def best_device() -> torch.device:
    """Where to compute: on the CUDA card if there is one, else on the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_dtype(device: torch.device) -> torch.dtype:
    """The type to train in on a device: bfloat16 where a CUDA card has it, else float16 on CUDA, else float32."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
