r"""LoRA: a small correction beside a frozen layer (Hu et al., "LoRA", ICLR 2022, section 4.1).

    y = W x + b  +  s (alpha / r) B A x,        A: (r, d_in),  B: (d_out, r),  r much smaller than both

W stays as it is, bit for bit; A and B are trained: r (d_in + d_out) numbers instead of d_in d_out. B starts at zero, so
the corrected model starts as the model. s is how strongly an *adapter* (A and B of all its layers) is felt: 1 as it was
trained, 0 not at all. A layer may carry several adapters, whose corrections are added.

A correction is itself a matrix, so it can be *merged* into W, and costs nothing then. The weights as they were are kept
beside it: to subtract the correction again would round twice, and not give back the same bits.
"""

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ATTENTION = r"\.(qkv|q|kv|out)$"  # the projections of attention: over places, words, frames, and in the text encoder
CROSS_ATTENTION = r"words\.(q|kv|out)$"  # those of attention to words alone


class Adapter(nn.Module):
    r"""What one adapter adds to one layer: A, B and how they are scaled.

        delta = s (alpha / r) B A

    A is drawn as `nn.Linear` draws its weights, uniformly within 1 / sqrt(d_in) (Kaiming with
    a = sqrt(5)), and B starts at zero.

    Args:
        d_in, d_out: features of the layer's input and output.
        rank: r, from 1 to the smaller of the two.
        alpha: how much the correction counts; where r changes, alpha / r keeps its size alike.
        generator: `torch.Generator` on the CPU, for A.

    Attributes:
        A, B: (r, d_in) and (d_out, r), trained.
        alpha, rank: as above.
        scale: s, a number; 1 at first.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        rank: int,
        alpha: float,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if not 1 <= rank <= min(d_in, d_out) or not 0 < alpha < math.inf:
            wanted = f"expected a rank from 1 to {min(d_in, d_out)} and a positive alpha"
            raise ValueError(f"{wanted}, got rank {rank} and alpha {alpha}")
        self.A = nn.Parameter(torch.empty(rank, d_in))
        self.B = nn.Parameter(torch.zeros(d_out, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5), generator=generator)
        self.rank, self.alpha, self.scale = rank, float(alpha), 1.0

    def delta(self) -> Tensor:
        """The correction of the layer's weights as a matrix, (d_out, d_in)."""
        return self.scale * self.alpha / self.rank * self.B @ self.A


class LoRALinear(nn.Module):
    r"""A frozen linear layer and the corrections beside it.

    Hu et al., "LoRA", ICLR 2022, section 4.1. A 1 x 1 convolution is the same linear map at each
    place, so it may be one, too.

    Args:
        base: an `nn.Linear`, or an `nn.Conv2d` with a 1 x 1 kernel; `add_lora`
            freezes it.

    Attributes:
        base: that layer.
        adapters: list of `Adapter`s, each with its `A` (r, d_in), `B` (d_out, r), `rank`, `alpha`
            and `scale`.
        axis: where the features are in x: 1 for a convolution, -1 else.
        kept: while merged, the base's weights as they were; else None.

    Raises:
        ValueError: if base is another layer.
    """

    def __init__(self, base: nn.Module):
        super().__init__()
        ones = [base.kernel_size, base.stride] if isinstance(base, nn.Conv2d) else []
        plain = ones == [(1, 1)] * 2 and base.groups == 1 and base.padding == (0, 0)
        if not isinstance(base, nn.Linear) and not plain:
            raise ValueError(f"expected a linear layer or a 1 x 1 convolution, got {base}")
        self.base, self.adapters = base, nn.ModuleList()
        self.register_buffer("kept", None, persistent=False)
        self.axis = 1 if plain else -1

    def forward(self, x: Tensor) -> Tensor:
        r"""What the base returns, and each adapter's correction added to it.

        Every adapter corrects the same x. B (A x) takes r (d_in + d_out) products for each place,
        (B A) x as many as the base itself; the result is the same. While merged, the base's
        weights hold the corrections already. Adapters whose `scale` is 0 change nothing.

        Equation:
            y = base(x) + sum over adapters of  scale (alpha / r) B A x

        Args:
            x: (..., d_in), or (N, d_in, H, W) for a convolution.

        Returns:
            (..., d_out), or (N, d_out, H, W).
        """
        y = self.base(x)
        if self.kept is not None:
            return y
        features = x.movedim(self.axis, -1)  # (..., d_in)
        for each in self.adapters:
            correction = F.linear(F.linear(features, each.A), each.B)  # (..., d_out)
            y = y + each.scale * each.alpha / each.rank * correction.movedim(-1, self.axis)
        return y

    @property
    def weight(self) -> Tensor:
        """The weights as they act, corrections included, shaped like the base's."""
        weight = self.base.weight
        if self.kept is None:
            for each in self.adapters:
                weight = weight + each.delta().view_as(weight)
        return weight

    @property
    def bias(self) -> Tensor | None:
        """The base's bias."""
        return self.base.bias


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The corrected layers of a model, by the names that they have there."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, LoRALinear)}


def linear_layers(model: nn.Module, pattern: str = ATTENTION) -> dict[str, nn.Module]:
    """The layers that an adapter can correct and whose names the pattern, a regular expression, finds.

    Linear layers, 1 x 1 convolutions and what is corrected already; not the parts of the latter.
    """
    taken, found = lora_layers(model), {}
    for name, layer in model.named_modules():
        inside = any(name.startswith(f"{each}.") for each in taken)
        fits = isinstance(layer, (nn.Linear, LoRALinear)) or getattr(layer, "kernel_size", None) == (1, 1)
        if fits and not inside and re.search(pattern, f".{name}"):
            found[name] = layer
    return found


def add_lora(
    model: nn.Module,
    pattern: "str | Sequence[str]" = ATTENTION,
    rank: int = 4,
    alpha: float = 4.0,
    generator: torch.Generator | None = None,
) -> "dict[str, Adapter]":
    """Freeze a model and give it a new adapter, which starts as no change at all.

    Each layer that is named is replaced, at its place in the model, by a `LoRALinear` around it; a
    layer that is one already gets one adapter more.

    Args:
        model: changed in place; nothing but the new adapter is trained from now on.
        pattern: a regular expression that finds the layers' names (see `linear_layers`), or a list
            of whole names.
        rank, alpha: see `Adapter`.
        generator: `torch.Generator` on the CPU, for the matrices A.

    Returns:
        The new `Adapter`s, by the names of their layers.

    Raises:
        ValueError: if there is no such layer, the rank does not fit, or a layer is merged.
    """
    known = linear_layers(model, pattern if isinstance(pattern, str) else "")
    names = list(known) if isinstance(pattern, str) else list(pattern)
    missing = [name for name in names if name not in known]
    if missing or not names:
        raise ValueError(f"there is no linear layer {missing[0] if missing else pattern!r} to correct in this model")
    require_unmerged(model)
    model.requires_grad_(False)
    added = {}
    for name in names:
        layer = known[name]
        weight = layer.weight
        adapter = Adapter(weight.shape[1], weight.shape[0], rank, alpha, generator).to(weight)
        if not isinstance(layer, LoRALinear):
            layer = LoRALinear(layer)
            replace_module(model, name, layer)
        layer.adapters.append(adapter)
        added[name] = adapter
    return added


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place that has this name in the model."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def remove_lora(model: nn.Module) -> nn.Module:
    """Take all adapters away, in place: the base's layers stand where they were, bit for bit; returns the model."""
    unmerge_lora(model)
    for name, layer in lora_layers(model).items():
        replace_module(model, name, layer.base)
    return model


@torch.no_grad()
def merge_lora(model: nn.Module) -> nn.Module:
    """Write the corrections of all adapters into the weights that they correct, in place.

    The model computes the same as before, up to rounding, and as fast as without adapters; so it
    does however often this is called. `unmerge_lora` gives back the weights from before the first
    call, bit for bit.

        W <- W + sum over adapters of s (alpha / r) B A

    Args:
        model: a model with `LoRALinear` layers, of which some may be merged already; without any,
            nothing happens.

    Returns:
        The model.
    """
    for layer in lora_layers(model).values():
        if layer.kept is None:
            layer.kept = layer.base.weight.clone()
            for each in layer.adapters:
                layer.base.weight += each.delta().view_as(layer.base.weight)
    return model


@torch.no_grad()
def unmerge_lora(model: nn.Module) -> nn.Module:
    """Give all layers of a model the weights back from before merging, bit for bit."""
    for layer in lora_layers(model).values():
        if layer.kept is not None:
            layer.base.weight.copy_(layer.kept)
            layer.kept = None
    return model


def require_unmerged(model: nn.Module) -> None:
    """A ValueError if an adapter is merged: what is changed or trained then would not be felt."""
    merged = [name for name, layer in lora_layers(model).items() if layer.kept is not None]
    if merged:
        raise ValueError(f"expected adapters that are not merged, but {merged[0]} is: call unmerge_lora first")


def set_scale(adapters: "dict[str, Adapter]", scale: float) -> None:
    """How strongly an adapter, as from `add_lora`, is felt: 1 as it was trained, 0 not at all.

    Raises:
        ValueError: if the scale is not a finite number.
    """
    if not math.isfinite(scale):
        raise ValueError(f"expected a finite scale, got {scale}")
    for adapter in adapters.values():
        adapter.scale = float(scale)


def trained_parameters(model: nn.Module) -> int:
    """How many numbers of a model are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
