"""Exercise 5.5: places look at words."""

import torch

from minivdm.course.exercise import exercise

from .attention import attended, attention_mistakes, attention_probes, map_attention_mistakes
from .ch04_common import convolved, normed


def expected(layer, d, x, context):
    """The layer's equations in float64, on the weights of this very layer."""
    q = convolved(normed(x, layer.norm), layer.q).flatten(2).transpose(1, 2)  # (B, HW, C)
    k_and_v = context.double() @ layer.kv.weight.double().T + layer.kv.bias.double()  # (B, L, 2C)
    found = torch.stack([attended(one, *two.split(x.shape[1], dim=1), d) for one, two in zip(q, k_and_v)])
    return x + convolved(found.transpose(1, 2).reshape(x.shape), layer.out)


@exercise("layers.CrossAttention")
def cross_attention(f, draw):
    one_head = ["one head, 6 places, 6 words", [8, 8], 8, draw.normal(2, 8, 2, 3), draw.normal(2, 6, 8)]
    four_heads = ["four heads, 8 places, 5 words", [16, 7], 4, draw.normal(3, 16, 2, 4), draw.normal(3, 5, 7)]
    yield from attention_probes(
        f, draw, expected, [one_head, four_heads], lambda layer: [layer.q.weight, layer.kv.weight[:8]]
    )


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
