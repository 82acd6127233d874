"""Exercise 4.3: self-attention."""

import torch

from minivdm.course.exercise import exercise

from .attention import attended, attention_mistakes, attention_probes, map_attention_mistakes
from .ch04_common import convolved, fresh, normed


def expected(layer, d, x):
    """The layer's equations in float64, on the weights of this very layer; and what each part is given."""
    parts = dict(norm=x.double(), qkv=normed(x, layer.norm))
    qkv = convolved(parts["qkv"], layer.qkv).flatten(2).transpose(1, 2)  # (B, HW, 3C)
    found = torch.stack([attended(*one.split(x.shape[1], dim=1), d) for one in qkv])  # (B, HW, C)
    parts["out"] = found.transpose(1, 2).reshape(x.shape)
    return x + convolved(parts["out"], layer.out), parts


@exercise("layers.SelfAttention")
def self_attention(f, draw):
    one_head = ["one head", [8], 8, draw.normal(2, 8, 3, 2)]
    four_heads = ["four heads", [16], 4, draw.normal(2, 16, 3, 2)]
    yield from attention_probes(f, draw, expected, [one_head, four_heads], lambda layer: [layer.qkv.weight[:16]])


@self_attention.promises("samples", "dtype", "layout", "device", "gradients")
def layer_on_maps(f, draw):
    return fresh(f(16, head_dim=4), draw), dict(x=draw.normal(3, 16, 3, 2))


attention_mistakes(self_attention, "place")
map_attention_mistakes(self_attention, "Q, K and V are")
self_attention.edit(
    "Q and K swapped",
    {"q, k, v = rearrange": "k, q, v = rearrange"},
    "Q and K are swapped. In `qkv` the order is Q, K, V, and the places of Q look.",
)
self_attention.edit(
    "Q, K, V of each head side by side",
    {"(three n d)": "(n three d)"},
    "The channels of `qkv` are cut into heads first. They hold all of Q, then all of K, then all of V; cut each third.",
)
