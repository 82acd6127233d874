"""Exercise 5.5: places look at words."""

import torch

from minivdm.course.exercise import exercise

from .attention import UNFUSED, attended, attention_mistakes, attention_probes, map_attention_mistakes
from .ch04_common import convolved, fresh, normed


def expected(layer, d, x, context):
    """The layer's equations in float64, on the weights of this very layer; and what each part is given."""
    parts = dict(norm=x.double(), q=normed(x, layer.norm), kv=context.double())
    q = convolved(parts["q"], layer.q).flatten(2).transpose(1, 2)  # (B, HW, C)
    k_and_v = parts["kv"] @ layer.kv.weight.double().T + layer.kv.bias.double()  # (B, L, 2C)
    found = torch.stack([attended(one, *two.split(x.shape[1], dim=1), d) for one, two in zip(q, k_and_v)])
    parts["out"] = found.transpose(1, 2).reshape(x.shape)
    return x + convolved(parts["out"], layer.out), parts


@exercise("layers.CrossAttention")
def cross_attention(f, draw):
    words = draw.normal(3, 5, 7)
    words[0, 1:], words[2] = 0, 0  # as good a context as any: `kv` has a bias
    cases = [
        ["one head, 6 places, 6 words", [8, 8], 8, draw.normal(2, 8, 3, 2), draw.normal(2, 6, 8)],
        ["four heads, 8 places, 5 words", [16, 7], 4, draw.normal(3, 16, 4, 2), draw.normal(3, 5, 7)],
        ["four heads, some words are vectors of zeros", [16, 7], 4, draw.normal(3, 16, 3, 2), words],
        ["a single word", [16, 7], 4, draw.normal(3, 16, 3, 2), draw.normal(3, 1, 7)],
    ]
    yield from attention_probes(f, draw, expected, cases, lambda layer: [layer.q.weight, layer.kv.weight[:8]])


@cross_attention.promises("samples", "dtype", "layout", "device", "gradients")
def maps_and_words(f, draw):
    return fresh(f(16, 7, head_dim=4), draw), dict(x=draw.normal(3, 16, 3, 2), context=draw.normal(3, 5, 7))


attention_mistakes(cross_attention, "word")
map_attention_mistakes(cross_attention, "Q is")
cross_attention.edit(
    "the words ignored",
    {"self.kv(context)": "self.kv(self.norm(x).flatten(2).transpose(1, 2))"},
    "K and V are made of the picture, so the places look at each other and never at a word. K and V come from the "
    "context.",
)
cross_attention.edit(
    "K and V swapped",
    {"k, v = rearrange": "v, k = rearrange"},
    "K and V are swapped. In `kv` the first half of the channels is K, the second V.",
)
cross_attention.edit(
    "K and V of each head side by side",
    {"(two n d)": "(n two d)"},
    "The channels of `kv` are cut into heads first. They hold all of K, then all of V: halve them, then cut each half.",
)
cross_attention.edit(
    "root of the context's size",
    {**UNFUSED, "math.sqrt(q.shape[-1])": "math.sqrt(context.shape[-1])"},
    "The scores are divided by the root of D, the size of a word's vector. d is the size of one head.",
)
