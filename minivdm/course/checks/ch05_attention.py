"""Exercise 5.5: places look at words."""

import torch
from torch.nn import functional as F

from minivdm.course.exercise import close, exercise

from .ch04_common import convolved, fresh, normed


def attended(layer, x, context, d):
    """The layer's equations place by place and head by head, in float64, on the weights of this very layer."""
    batch, channels, height, width = x.shape
    q = convolved(normed(x, layer.norm), layer.q).flatten(2)  # (B, C, HW)
    kv = context.double() @ layer.kv.weight.double().T + layer.kv.bias.double()  # (B, L, 2C)
    k, v = kv[:, :, :channels], kv[:, :, channels:]
    found = torch.zeros_like(q)
    for b in range(batch):
        for first in range(0, channels, d):
            head = slice(first, first + d)
            for place in range(height * width):
                scores = (k[b, :, head] * q[b, head, place]).sum(1) / d**0.5  # (L,)
                weights = torch.exp(scores - scores.max())
                found[b, head, place] = (weights / weights.sum()) @ v[b, :, head]
    return x + convolved(found.reshape(x.shape), layer.out)


@exercise("layers.CrossAttention")
def cross_attention(f, draw):
    like = dict(atol=3e-4, rtol=1e-3, dtype=torch.float32)
    x, context = draw.normal(2, 8, 2, 3), draw.normal(2, 6, 8)
    layer = fresh(f(8, 8, head_dim=8), draw)
    yield close("one head, 6 places, 6 words", layer(x, context), attended(layer, x, context, 8), **like)
    x, context = draw.normal(3, 16, 2, 4), draw.normal(3, 5, 7)
    layer = fresh(f(16, 7, head_dim=4), draw)
    yield close("four heads, 8 places, 5 words", layer(x, context), attended(layer, x, context, 4), **like)
    layer = f(16, 7, head_dim=4)
    yield close("a new layer, whose `out` is zero, returns x", layer(x, context), x)
    x, context = draw.normal(1, 8, 2, 3), draw.normal(1, 5, 7)
    layer = fresh(f(8, 7, head_dim=8), draw)
    with torch.no_grad():
        layer.q.weight *= 20
        layer.kv.weight[:8] *= 20
    want = attended(layer, x, context, 8)
    yield close("scores in the hundreds: softmax must not overflow", layer(x, context), want, **like)


def attend_with(mistake, layer, x, context):
    """An attention layer with room for one mistake."""
    batch, channels, height, width = x.shape
    heads = 1 if mistake == "one head" else layer.heads
    d = channels // heads
    features = x if mistake == "no norm" else layer.norm(x)
    words = F.layer_norm(context, context.shape[-1:]) if mistake == "words normed" else context
    words = words.mean(dim=1, keepdim=True) if mistake == "mean word" else words
    asking = words.transpose(1, 2)[:, :, :, None] if mistake == "roles" else features
    known = features.flatten(2).transpose(1, 2) if mistake in ("roles", "self") else words
    q, kv = layer.q(asking).flatten(2), layer.kv(known)  # (B, C, HW), (B, L, 2C)
    turns = {"woven": "q kv", "woven all": "q kv back", "woven q": "q", "woven kv": "kv", "woven back": "back"}
    woven = turns.get(mistake, "").split()
    if "q" in woven:
        q = q.reshape(batch, d, heads, -1).transpose(1, 2)  # (B, heads, d, HW)
    else:
        q = q.reshape(batch, heads, d, -1)
    if "kv" in woven:
        k, v = (part.unflatten(-1, (d, heads)).permute(0, 3, 1, 2) for part in kv.chunk(2, dim=-1))
    elif mistake == "head by head":
        k, v = kv.unflatten(-1, (heads, 2, d)).permute(3, 0, 2, 1, 4)
    elif mistake == "take turns":
        k, v = kv.unflatten(-1, (heads, d, 2)).permute(4, 0, 2, 1, 3)
    else:
        k, v = (part.unflatten(-1, (heads, d)).transpose(1, 2) for part in kv.chunk(2, dim=-1))  # (B, heads, L, d)
    k, v = (v, k) if mistake == "v first" else (k, v)
    scores = q.transpose(2, 3) @ k.transpose(2, 3)  # (B, heads, HW, L)
    scores = scores / {"no root": 1, "d": d, "all channels": channels**0.5}.get(mistake, d**0.5)
    if mistake == "overflow":
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    else:
        weights = scores if mistake == "no softmax" else scores.softmax(-2 if mistake == "places" else -1)
    found = weights @ v  # (B, heads, HW, d)
    if mistake != "jumbled":
        found = found.transpose(2, 3)
    if "back" in woven:
        found = found.transpose(1, 2)
    if mistake == "turned":
        found = found.reshape(batch, channels, width, height).transpose(2, 3)
    found = found.reshape(batch, channels, height, width)
    found = found if mistake == "no out" else layer.out(found)
    return found if mistake == "no x" else (features if mistake == "norm added" else x) + found


def wrong(mistake, label, hint):
    """Add a misconception: the layer above with one mistake in it."""

    class Wrong:
        def forward(self, x, context):
            return attend_with(mistake, self, x, context)

    cross_attention.misconception(label, hint)(Wrong)


wrong("no x", "nothing added", "The input is not added: the result is x *plus* what the places found among the words.")
wrong("norm added", "norm(x) added", "norm(x) is added instead of x itself. Only Q is made of norm(x).")
wrong("no norm", "no norm", "Q is made of x as it is. It is a linear map of norm(x).")
wrong("words normed", "the words normalised", "The context is normalised here. It comes normalised from its encoder.")
wrong(
    "roles",
    "places and words swapped",
    "Here the words look at the places. The places of the picture ask, so Q is made of norm(x), K and V of the "
    "context.",
)
wrong(
    "self",
    "the words ignored",
    "K and V are made of the picture, so the places look at each other and never at a word. K and V come from the "
    "context.",
)
wrong(
    "mean word",
    "all words averaged",
    "The words are averaged before the places look, so there is nothing left to choose from. Keep all L of them.",
)
wrong("v first", "K and V swapped", "K and V are swapped. In `kv` the first half of the channels is K, the second V.")
wrong(
    "no root",
    "scores not divided",
    "The scores are not divided by sqrt(d). A sum of d products grows like sqrt(d), and softmax sees one word alone.",
)
wrong("d", "divided by d", "The scores are divided by d. Divide by its root, sqrt(d).")
wrong(
    "all channels",
    "root of all channels",
    "Right for one head. With several, d is the size of *one* head, not the number of all channels.",
)
wrong(
    "places",
    "softmax over the places",
    "The softmax runs over the places, so they compete for a word. For each place, the weights of the L *words* add up "
    "to 1: the last axis of (.., H W, L).",
)
wrong("no softmax", "no softmax", "The scores are used as weights as they are: put a softmax over them.")
wrong("one head", "one head", "Right for one head, but all heads are taken as one: split the channels into self.heads.")
wrong("woven", "heads take turns", 'Heads take channels in turns, "(d n)". A head\'s d channels lie together: "(n d)".')
wrong(
    "woven all",
    "heads take turns everywhere",
    'Heads take channels in turns, "(d n)", also on the way back. A head\'s d channels lie together: "(n d)".',
)
wrong(
    "woven q",
    "heads take turns in Q",
    'In Q the heads take channels in turns, "(d n)", in K and V they do not, so a query meets the keys of others. A '
    'head\'s d channels lie together in all three: "(n d)".',
)
wrong(
    "woven kv",
    "heads take turns in K and V",
    'In K and V the heads take channels in turns, "(d n)", in Q they do not. A head\'s d channels lie together in all '
    'three: "(n d)".',
)
wrong(
    "woven back",
    "heads take turns on the way back",
    'Heads are cut out rightly and put back in turns, "(d n)". What head i found goes to the channels i d and on: '
    '"(n d)".',
)
wrong(
    "head by head",
    "K and V of each head side by side",
    "The channels of `kv` are cut into heads first. They hold all of K, then all of V: halve them, then cut each half.",
)
wrong(
    "take turns",
    "K and V take turns",
    'K and V take turns along the channels of `kv`. The first half is K, the second V: "(two n d)".',
)
wrong("turned", "height and width swapped", "On the way back to (B, C, H, W), height and width are swapped.")
wrong(
    "jumbled",
    "places and channels jumbled",
    "The result, (.., H W, d), was reshaped straight to (B, C, H, W), which jumbles it. Put the channels first again.",
)
wrong("no out", "`out` missing", "The last linear map, W_o, is missing: add self.out(...) of what the heads found.")
wrong(
    "overflow",
    "softmax by hand",
    "exp of a large score is infinite. Subtract the largest score first, or let torch.softmax do it.",
)
