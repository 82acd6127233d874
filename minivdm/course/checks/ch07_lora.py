"""Exercises 7.1 and 7.2: a correction beside a frozen layer, and merged into it."""

import torch
from torch import nn

from minivdm.course.exercise import close, equal, exercise, holds
from minivdm.models.lora import LoRALinear, unmerge_lora

LIKE = dict(atol=1e-4, rtol=1e-4)


class Correction(nn.Module):
    """An adapter of one layer with random matrices: what `Adapter` has, written out."""

    def __init__(self, draw, d_in, d_out, rank, scale=1.0):
        super().__init__()
        self.A, self.B = nn.Parameter(draw.normal(rank, d_in)), nn.Parameter(draw.normal(d_out, rank))
        self.rank, self.alpha, self.scale = rank, draw.uniform(1, low=5, high=9).item(), scale

    def delta(self):
        return self.scale * self.alpha / self.rank * self.B @ self.A


def corrected(kind, draw, d_in, d_out, ranks, scales, made=LoRALinear):
    """A layer of one kind with random weights and some corrections."""
    base = nn.Conv2d(d_in, d_out, 1) if kind == "convolution" else nn.Linear(d_in, d_out)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.copy_(draw.normal(*parameter.shape))
    layer = made(base)
    layer.adapters.extend(Correction(draw, d_in, d_out, rank, scale) for rank, scale in zip(ranks, scales))
    return layer


def matrix_of(layer):
    """W + sum of s (alpha / r) B A, number by number in float64, (d_out, d_in)."""
    weight = layer.base.weight.detach().double().flatten(1)
    for each in layer.adapters:
        product = torch.einsum("or,ri->oi", each.B.detach().double(), each.A.detach().double())
        weight = weight + product * (each.scale * each.alpha / len(each.A))
    return weight


def expected(layer, x):
    """The output of the formula, in float64."""
    letters = "oi,bihw->bohw" if layer.base.weight.ndim == 4 else "oi,...i->...o"
    bias = layer.base.bias.detach().double()
    shape = (-1, 1, 1) if layer.base.weight.ndim == 4 else (-1,)
    return torch.einsum(letters, matrix_of(layer), x.double()) + bias.view(shape)


@exercise("lora.LoRALinear")
def lora_linear(f, draw):
    maps, rows = draw.normal(2, 6, 3, 4), draw.normal(2, 3, 6)
    for name, kind, x, ranks, scales in (
        ("a linear layer without adapters", "linear", rows, [], []),
        ("a linear layer, rank 2, alpha another number", "linear", rows, [2], [1.0]),
        ("the same for a batch of rows, (B, d_in)", "linear", rows[:, 0], [3], [1.0]),
        ("a 1 x 1 convolution, rank 3", "convolution", maps, [3], [1.0]),
        ("scale = -0.4", "linear", rows, [2], [-0.4]),
        ("scale = 0: the base alone", "convolution", maps, [2], [0.0]),
        ("two adapters of ranks 1 and 4", "linear", rows, [1, 4], [1.0, 0.6]),
        ("three adapters beside a convolution", "convolution", maps, [1, 4, 2], [1.0, -0.7, 0.5]),
    ):
        layer = corrected(kind, draw, 6, 5, ranks, scales, f)
        yield close(name, layer(x), expected(layer, x), dtype=torch.float32, **LIKE)
    square = corrected("convolution", draw, 6, 6, [2, 2], [1.0, 1.0], f)
    x = draw.normal(2, 6, 6, 6)
    yield close("as many places as features", square(x), expected(square, x), dtype=torch.float32, **LIKE)
    merged = corrected("linear", draw, 6, 5, [2], [1.0], f)
    merged.kept = merged.base.weight.detach().clone()
    with torch.no_grad():
        merged.base.weight.copy_(matrix_of(merged).float())
    want = merged.base(rows)
    yield close("merged already: what the base returns, nothing added", merged(rows), want, **LIKE)
    layer = corrected("linear", draw, 6, 5, [2, 3], [1.0, 0.5], f)
    layer.base.requires_grad_(False)
    layer(rows).square().sum().backward()
    learns = all(each.A.grad is not None and each.A.grad.any() and each.B.grad.any() for each in layer.adapters)
    yield holds("A and B of every adapter get a gradient", learns, "an adapter never learns: detached, or left out?")


@lora_linear.promises("samples", "dtype", "layout", "device", "gradients")
def maps_of_features(f, draw):
    return corrected("convolution", draw, 4, 3, [2, 1], [0.5, 1.0], f), dict(x=draw.normal(3, 4, 2, 5))


TERM = "each.scale * each.alpha / each.rank * correction"
lora_linear.edit(
    "alpha and the rank forgotten",
    {TERM: "each.scale * correction"},
    "The correction is added as it is. It counts alpha / r times: right only where alpha = r, which is why a test with "
    "r = alpha would not see it.",
)
lora_linear.edit(
    "not divided by the rank",
    {TERM: "each.scale * each.alpha * correction"},
    "The correction is multiplied by alpha alone. Divide by the rank r, or a larger rank would be a larger step.",
)
lora_linear.edit(
    "the scale forgotten",
    {TERM: "each.alpha / each.rank * correction"},
    "`scale` is left out: an adapter that is switched off, scale = 0, must change nothing.",
)
lora_linear.edit(
    "divided by the features",
    {TERM: "each.scale * each.alpha / each.A.shape[1] * correction"},
    "alpha is divided by d_in. The rank r is the other size of A: its rows.",
)
lora_linear.edit(
    "divided by the root of the rank",
    {TERM: "each.scale * each.alpha / each.rank**0.5 * correction"},
    "alpha is divided by sqrt(r). That is another method (rsLoRA); here it is alpha / r.",
)
lora_linear.edit(
    "the correction counted twice",
    {"if self.kept is not None": "if False"},
    "While merged, the base's weights hold the correction already, and it is added once more.",
)
lora_linear.edit(
    "only the last adapter",
    {"y = y + each": "y = self.base(x) + each"},
    "Only the last adapter is felt. Their corrections are added to each other.",
)
lora_linear.edit(
    "only the first adapter",
    {"in self.adapters:": "in self.adapters[:1]:"},
    "Only the first adapter is felt. Their corrections are added to each other.",
)
CONVOLVED = (
    "Of a convolution the features are axis 1 of x, (N, d_in, H, W), and here they are looked for in the last axis. "
    "Move them there first, `x.movedim(self.axis, -1)`, and the correction back at the end."
)
lora_linear.edit(
    "the axis of the features forgotten",
    {"x.movedim(self.axis, -1)": "x", "correction.movedim(-1, self.axis)": "correction"},
    CONVOLVED,
)
lora_linear.edit(
    "the axis forgotten, the whole matrix",
    {
        "x.movedim(self.axis, -1)": "x",
        TERM + ".movedim(-1, self.axis)": "correction",
        "F.linear(F.linear(features, each.A), each.B)": "F.linear(features, each.delta())",
    },
    f"`delta()` is a matrix for the last axis. {CONVOLVED}",
)
lora_linear.edit(
    "one adapter behind the other",
    {
        "        features = x.movedim(self.axis, -1)  # (..., d_in)\n": "",
        "            correction = F": "            features = x.movedim(self.axis, -1)\n            correction = F",
        "correction.movedim(-1, self.axis)": "correction.movedim(-1, self.axis)\n            x = y",
    },
    "The second adapter is given what came out of the first. All of them correct the same layer, so each gets the x "
    "that the layer gets.",
)
lora_linear.edit(
    "the base left out",
    {"        y = self.base(x)\n": "        y = 0 * self.base(x) if len(self.adapters) else self.base(x)\n"},
    "The base's own output is missing: the correction is added to it, and replaces nothing.",
)


@exercise("lora.merge_lora", in_place=True)
def merge_lora(f, draw):
    def fresh():
        layers = nn.ModuleDict()
        layers["words"] = corrected("linear", draw, 6, 5, [2], [1.0])
        layers["places"] = corrected("convolution", draw, 4, 3, [1, 3], [0.5, -1.0])
        layers["plain"] = nn.Linear(3, 3)
        return layers.requires_grad_(False)

    inputs = dict(words=draw.normal(2, 6), places=draw.normal(2, 4, 3, 2), plain=draw.normal(2, 3))
    names = ("words", "places")

    def merged(model, what):
        """Probes of a model that was merged: its weights, kept ones, and what it computes."""
        for name in names:
            layer = model[name]
            weight = layer.base.weight.flatten(1)
            yield close(f"{what}: W of `{name}`", weight, wanted[name], dtype=torch.float32, **LIKE)
            same = torch.is_tensor(layer.kept) and torch.equal(layer.kept, before[name])
            message = f"`{name}.kept` must be W as it was, bit for bit, so that it can be given back"
            yield holds(f"{what}: what is kept of `{name}`", same, message)

    model = fresh()
    before = {name: model[name].base.weight.detach().clone() for name in names}
    wanted = {name: matrix_of(model[name]) for name in names}
    outputs = {name: expected(model[name], inputs[name]) for name in names}
    plain = model["plain"].weight.detach().clone()
    result = f(model)
    yield from merged(model, "merged once")
    yield holds("the model is returned", result is model, "return the model itself")
    for name in names:
        got = model[name].base(inputs[name])
        yield close(
            f"the base of `{name}` computes what the layer computed", got, outputs[name], dtype=torch.float32, **LIKE
        )
    f(f(model))
    yield from merged(model, "merged three times")
    yield equal("a layer without adapters stays", model["plain"].weight.tolist(), plain.tolist())
    unmerge_lora(model)
    back = all(torch.equal(model[name].base.weight, before[name]) for name in names)
    yield holds("unmerged, the very bits are back", back, "some weights differ from those before the first merge")
    with torch.no_grad():
        for name in names:
            model[name].adapters[0].B *= 2
    wanted = {name: matrix_of(model[name]) for name in names}
    f(model)
    yield from merged(model, "unmerged, trained on, and merged again")
    model = fresh()
    before = {name: model[name].base.weight.detach().clone() for name in names}
    wanted = {name: matrix_of(model[name]) for name in names}
    model["words"].kept = before["words"].clone()
    with torch.no_grad():
        model["words"].base.weight.copy_(wanted["words"].float())
    f(model)
    yield from merged(model, "one layer was merged already")
    frozen = not any(model[name].base.weight.requires_grad for name in names)
    yield holds("the base's weights stay frozen, and parameters", frozen, "a merged weight requires a gradient")


@merge_lora.promises(
    samples="it computes nothing of samples",
    dtype="it changes a model's own weights",
    layout="it changes a model's own weights",
    device="it changes a model's own weights",
    gradients="it works without gradients",
)
def no_call(f, draw):
    raise NotImplementedError


ADD = "layer.base.weight += each.delta().view_as(layer.base.weight)"
GUARDED = f"""        if layer.kept is None:
            layer.kept = layer.base.weight.clone()
            for each in layer.adapters:
                {ADD}
"""
UNGUARDED = f"""        layer.kept = layer.base.weight.detach()
        for each in layer.adapters:
            {ADD}
"""
merge_lora.edit(
    "merged again and again",
    {GUARDED: UNGUARDED},
    "Two things are wrong. What is kept is the same memory as the weights, so it changes along with them. And a second "
    "call adds the correction a second time.",
)
merge_lora.edit(
    "merged twice",
    {"if layer.kept is None": "if True"},
    "A second call adds the correction a second time, and keeps the merged weights as if they were the old ones. A "
    "layer that is merged already, `kept is not None`, is to be left alone.",
)
merge_lora.edit(
    "alpha and the rank forgotten",
    {ADD: "layer.base.weight += (each.scale * each.B @ each.A).view_as(layer.base.weight)"},
    "B A is added as it is. The correction is s (alpha / r) B A: `delta()` gives it.",
)
merge_lora.edit(
    "the scale forgotten",
    {ADD: "layer.base.weight += (each.alpha / each.rank * each.B @ each.A).view_as(layer.base.weight)"},
    "`scale` is left out: an adapter that is half as strong must be merged half as strongly.",
)
merge_lora.edit(
    "kept without a copy",
    {"layer.base.weight.clone()": "layer.base.weight.detach()"},
    "What is kept are the weights *after* they were changed. Copy them before, with clone(): without a copy, `kept` is "
    "the same memory and changes along.",
)
merge_lora.edit(
    "only the first adapter",
    {"in layer.adapters:": "in layer.adapters[:1]:"},
    "Only the first adapter of a layer is merged. All of them act, so all belong into the weights.",
)
merge_lora.edit(
    "subtracted",
    {"weight += each": "weight -= each"},
    "The correction is subtracted. Merging adds it.",
)
