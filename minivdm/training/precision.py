"""Training fast on a GPU without losing precision: 16-bit arithmetic with 32-bit weights, and recorded kernels."""

import copy

import torch


class LowPrecisionCopy:
    """A copy of a network to compute in, wholly in a 16-bit type, while the network keeps its weights in float32.

    An optimiser's steps are too small for 16 bits: added to a weight they would be rounded away (Micikevicius et al.,
    "Mixed Precision Training", ICLR 2018, section 3.1). So each step goes: forward and backward through the copy, its
    gradients to the network, the optimiser's step there, and the new weights, rounded, to the copy.

    Args:
        model: the network in training.
        dtype: torch.bfloat16 or torch.float16; with torch.float32 it is a copy and no more.
    """

    def __init__(self, model, dtype):
        self.network = copy.deepcopy(model).to(dtype)
        self.weights, self.rounded = list(model.parameters()), list(self.network.parameters())

    @torch.no_grad()
    def move_gradients(self):
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
    def refresh(self):
        """Round the network's weights into the copy."""
        torch._foreach_copy_(self.rounded, self.weights)


def in_dtype(value, dtype):
    """A tensor of floats in another type; long tensors, such as tokens, and None as they are."""
    return value.to(dtype) if value is not None and value.is_floating_point() else value


def best_device():
    """Where to compute: on the CUDA card if there is one, else on the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_dtype(device):
    """The type to train in on a device: bfloat16 where a CUDA card has it, else float16 on CUDA, else float32."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def capture_cuda_graph(model, x0, cond):
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
