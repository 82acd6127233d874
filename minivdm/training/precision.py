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
        self.model, self.network = model, copy.deepcopy(model).to(dtype)
        for layer in layers_with_statistics(self.network):
            layer.float()
        self.weights, self.rounded = list(model.parameters()), list(self.network.parameters())
        self.before = [buffer.clone() for buffer in self.network.buffers()]

    @torch.no_grad()
    def move_gradients(self) -> None:
        """Add the copy's gradients to the network's, in float32, and clear the copy's.

        To be called after every backward pass. The sum is not left to `.grad` of the copy: it would be rounded to 16
        bits, and wrong for a recorded network, which returns its gradients in the same memory each time
        (https://github.com/pytorch/pytorch/issues/181723).
        """
        first, more = ([], []), ([], [])
        for exact, rounded in zip(self.weights, self.rounded):
            if rounded.grad is not None:
                sums, terms = first if exact.grad is None else more
                exact.grad = torch.empty_like(exact) if exact.grad is None else exact.grad
                sums.append(exact.grad)
                terms.append(rounded.grad)
                rounded.grad = None
        if first[0]:
            torch._foreach_copy_(*first)
        if more[0]:
            torch._foreach_add_(*more)

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


def capture_cuda_graph(model: nn.Module, x0: Tensor, cond: Tensor | None) -> None:
    """On CUDA, record the kernels of `model` (forward and backward) once as a graph, to be replayed in training.

    Small networks spend most of a step on launching kernels one by one; a graph launches them all at once. It holds for
    this batch size and for training mode only; each backward pass must come before the next forward one, since both use
    the same memory again; and a `copy.deepcopy` of a recorded model would compute with the weights of the original. So
    record a network that nobody else holds, as `Engine` does.

    Args:
        model: an `nn.Module` in training mode, on a CUDA device; from now on it is called with tensors alone, as
            `model(x, t)` or `model(x, t, cond)`.
        x0, cond: a batch as it will come: (B, ...) data and (B, ...) condition, or None for a model without one.
    """
    t = torch.ones(len(x0), dtype=torch.long, device=x0.device)
    inputs = (torch.zeros_like(x0), t) if cond is None else (torch.zeros_like(x0), t, cond.clone())
    if hasattr(torch.autograd.graph, "set_warn_on_accumulate_grad_stream_mismatch"):  # newer torch
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)  # a graph has a stream of its own
    torch.cuda.make_graphed_callables(model, inputs)
