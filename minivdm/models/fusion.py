r"""Gradient fusion: one set of weights that does what several adapters do, each on its own subject.

Gu et al., "Mix-of-Show", NeurIPS 2023, section 3.3. Adapters that were trained apart disturb each other when they are
added: each was never told to keep still on the other's prompts. So look at what goes *into* each layer while concept i
is drawn with its own adapter, X_i (one column for each place and word), and find the weights that give each concept's
outputs there:

    min over W of   sum_i || (W_0 + D_i) X_i - W X_i ||^2  +  ridge || W - W_0 ||^2

D_i is adapter i's correction. The paper descends along the gradient, whence the name; but the sum is a quadratic
function of W, so its minimum has a closed form. No training picture is needed, only prompts. What the model knew counts
as one more concept, with D = 0 and the inputs of old prompts.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .lora import LoRALinear, lora_layers, remove_lora


def fused_weight(
    weight: Tensor,
    deltas: "Sequence[Tensor]",
    grams: "Sequence[Tensor]",
    ridge: float = 0.0,
) -> Tensor:
    r"""The weights of one layer that come closest to each concept's outputs, on its own inputs.

    Gu et al., "Mix-of-Show", NeurIPS 2023, section 3.3; in closed form.

    The result W makes this as small as possible, with W_0 = weight and D_i = deltas[i]:

        sum_i || (W_0 + D_i) X_i - W X_i ||^2  +  ridge || W - W_0 ||^2

    The inputs X_i, one column for each, are told by their Gram matrices alone, X_i X_i^T: that is
    all that matters of them, however many there are. Where several W do equally well (ridge 0, and
    directions in which no input points), it is the one nearest to W_0. Inputs differ much in size
    from one direction to another, so it is computed in float64.

    Equation:
        W = W_0 + ( sum_i D_i G_i ) ( sum_i G_i + ridge I )^-1,        G_i = X_i X_i^T

    Args:
        weight: (d_out, d_in), W_0.
        deltas: (d_out, d_in) each, the corrections D_i.
        grams: (d_in, d_in) each, X_i X_i^T, as many as deltas.
        ridge: 0 or more; how much it counts that W stays near W_0.

    Returns:
        W, like weight.

    Raises:
        ValueError: if there are no deltas, or not as many grams.
    """
    if not deltas or len(deltas) != len(grams):
        came = f"got {len(grams)} and {len(deltas)}"
        raise ValueError(f"expected as many Gram matrices as corrections, {came}")
    total = sum(gram.double() for gram in grams)  # (d_in, d_in)
    total = total + ridge * torch.eye(len(total), dtype=total.dtype, device=total.device)
    wanted = sum(delta.double() @ gram.double() for delta, gram in zip(deltas, grams))
    change = wanted @ torch.linalg.pinv(total, hermitian=True)  # (d_out, d_in)
    return (weight.double() + change).to(weight.dtype)


@torch.no_grad()
def input_grams(model: nn.Module, run: Callable) -> dict[str, Tensor]:
    """The Gram matrices X X^T of what goes into each corrected layer of a model while it works.

    Args:
        model: a model with `LoRALinear` layers, each of which must be called.
        run: called once, without arguments; should make the model draw what a concept's prompts ask for.

    Returns:
        (d_in, d_in) float64 for each layer, by its name, divided by the number of inputs.

    Raises:
        ValueError: if a layer was not called.
    """
    layers, grams, counts = lora_layers(model), {}, {}

    def note(name: str) -> Callable:
        def hook(layer: LoRALinear, inputs: tuple[Tensor]) -> None:
            x = inputs[0].movedim(layer.axis, -1).flatten(0, -2).double()  # (N, d_in)
            grams[name] = grams.get(name, 0) + x.T @ x
            counts[name] = counts.get(name, 0) + len(x)

        return hook

    handles = [layer.register_forward_pre_hook(note(name)) for name, layer in layers.items()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    missing = [name for name in layers if name not in grams]
    if missing or not layers:
        raise ValueError(f"{missing[0] if missing else 'no layer'} was corrected and called: run the whole model")
    return {name: gram / counts[name] for name, gram in grams.items()}


@torch.no_grad()
def fuse(
    model: nn.Module, deltas: Sequence[dict[str, Tensor]], grams: Sequence[dict[str, Tensor]], ridge: float = 1e-3
) -> nn.Module:
    """Write the fused weights of all corrected layers into a model, in place of its adapters.

    Args:
        model: has a `LoRALinear` at each layer to be fused; changed in place.
        deltas: of each concept, the corrections (d_out, d_in) by the names of the layers; a layer that it does not
            correct may be missing.
        grams: of each concept, as from `input_grams`, of the same layers.
        ridge: in units of the mean square of a layer's inputs.

    Returns:
        The model, without adapters.

    Raises:
        ValueError: if `deltas` and `grams` are not of as many concepts.
    """
    layers = lora_layers(model)
    weights = {}
    for name, layer in layers.items():
        base = layer.base.weight if layer.kept is None else layer.kept
        flat = base.flatten(1)
        changes = [each.get(name, torch.zeros_like(flat)) for each in deltas]
        size = sum(each[name].diagonal().mean() for each in grams).item()
        weights[name] = fused_weight(flat, changes, [each[name] for each in grams], ridge * size).view_as(base)
    remove_lora(model)
    for name, weight in weights.items():
        model.get_submodule(name).weight.copy_(weight)
    return model
