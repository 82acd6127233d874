"""Exercise 4.3: self-attention."""

import torch

from minivdm.course.exercise import close, exercise

from .ch04_common import convolved, fresh, normed


def attended(layer, x, d):
    """The layer's equations place by place and head by head, in float64, on the weights of this very layer."""
    batch, channels, height, width = x.shape
    q, k, v = convolved(normed(x, layer.norm), layer.qkv).flatten(2).split(channels, dim=1)  # (B, C, HW) each
    found = torch.zeros_like(v)
    for b in range(batch):
        for first in range(0, channels, d):
            head = slice(first, first + d)
            for place in range(height * width):
                scores = (q[b, head, place, None] * k[b, head]).sum(0) / d**0.5  # (HW,)
                weights = torch.exp(scores - scores.max())
                found[b, head, place] = (weights / weights.sum() * v[b, head]).sum(1)
    return x + convolved(found.reshape(x.shape), layer.out)


@exercise("layers.SelfAttention")
def self_attention(f, draw):
    like = dict(atol=2e-4, dtype=torch.float32)
    x = draw.normal(2, 8, 2, 3)
    layer = fresh(f(8, head_dim=8), draw)
    yield close("one head", layer(x), attended(layer, x, 8), **like)
    x = draw.normal(2, 16, 2, 3)
    layer = fresh(f(16, head_dim=4), draw)
    yield close("four heads", layer(x), attended(layer, x, 4), **like)
    layer = f(16, head_dim=4)
    yield close("a new layer, whose `out` is zero, returns x", layer(x), x)
    layer = fresh(f(8, head_dim=8), draw)
    with torch.no_grad():
        layer.qkv.weight[:16] *= 20
    x = draw.normal(1, 8, 2, 3)
    yield close("scores in the hundreds: softmax must not overflow", layer(x), attended(layer, x, 8), **like)


def attend_with(mistake, layer, x):
    """An attention layer with room for one mistake."""
    batch, channels, height, width = x.shape
    heads = 1 if mistake == "one head" else layer.heads
    d = channels // heads
    qkv = layer.qkv(x if mistake == "no norm" else layer.norm(x)).flatten(2)  # (B, 3C, HW)
    if mistake == "head by head":
        q, k, v = qkv.reshape(batch, heads, 3, d, -1).unbind(2)
    elif mistake == "woven":
        q, k, v = (part.reshape(batch, d, heads, -1).transpose(1, 2) for part in qkv.chunk(3, dim=1))
    else:
        q, k, v = (part.reshape(batch, heads, d, -1) for part in qkv.chunk(3, dim=1))
    q, k, v = {"q and k": (k, q, v), "v first": (v, q, k)}.get(mistake, (q, k, v))
    if mistake == "channels":
        weights = (q @ k.transpose(2, 3) / d**0.5).softmax(-1)  # over channels
        found = weights @ v
    else:
        scores = q.transpose(2, 3) @ k  # (B, heads, HW, HW)
        scores = scores / {"no root": 1, "d": d, "all channels": channels**0.5}.get(mistake, d**0.5)
        if mistake == "overflow":
            weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
        else:
            weights = scores if mistake == "no softmax" else scores.softmax(-2 if mistake == "columns" else -1)
        found = v @ weights.transpose(2, 3)  # (B, heads, d, HW)
    if mistake == "turned":
        found = found.reshape(batch, channels, width, height).transpose(2, 3)
    if mistake == "jumbled":
        found = found.permute(0, 1, 3, 2)
    found = found.reshape(batch, channels, height, width)
    found = found if mistake == "no out" else layer.out(found)
    return found if mistake == "no x" else (layer.norm(x) if mistake == "norm added" else x) + found


def wrong(mistake, label, hint):
    """Add a misconception: the layer above with one mistake in it."""

    class Wrong:
        def forward(self, x):
            return attend_with(mistake, self, x)

    self_attention.misconception(label, hint)(Wrong)


wrong("no x", "nothing added", "The input is not added: the result is x *plus* what attention finds.")
wrong("norm added", "norm(x) added", "norm(x) is added instead of x itself. Only Q, K and V are made of norm(x).")
wrong("no norm", "no norm", "Q, K and V are made of x as it is. They are linear maps of norm(x).")
wrong(
    "no root",
    "scores not divided",
    "The scores are not divided by sqrt(d). A sum of d products grows like sqrt(d), and softmax sees one place alone.",
)
wrong("d", "divided by d", "The scores are divided by d. Divide by its root, sqrt(d).")
wrong(
    "all channels",
    "root of all channels",
    "Right for one head. With several, d is the size of *one* head, not the number of all channels.",
)
wrong(
    "columns",
    "softmax over the wrong axis",
    "The softmax runs over the places that look. For each of them, the weights of all places looked *at* add up to 1.",
)
wrong("no softmax", "no softmax", "The scores are used as weights as they are: put a softmax over them.")
wrong("q and k", "Q and K swapped", "Q and K are swapped. In `qkv` the order is Q, K, V, and the places of Q look.")
wrong("v first", "another order of Q, K, V", "The thirds of `qkv` are in the wrong order. They are Q, then K, then V.")
wrong("one head", "one head", "Right for one head, but all heads are taken as one: split the channels into self.heads.")
wrong(
    "head by head",
    "Q, K, V of each head side by side",
    "The channels of `qkv` are cut into heads first. They hold all of Q, then all of K, then all of V; cut each third.",
)
wrong("woven", "heads take turns", "The heads take channels in turns. A head has d channels that lie together.")
wrong(
    "channels",
    "channels look at channels",
    "Here channels look at channels. Places should look at places: the scores have the shape (.., H W, H W).",
)
wrong("turned", "height and width swapped", "On the way back to (B, C, H, W), height and width are swapped.")
wrong(
    "jumbled",
    "places and channels jumbled",
    "The result, (.., H W, d), was reshaped straight to (B, C, H, W), which jumbles it. Put the channels first again.",
)
wrong("no out", "`out` missing", "The last linear map is missing: add self.out(...) of what the heads found.")
wrong(
    "overflow",
    "softmax by hand",
    "exp of a large score is infinite. Subtract the largest score first, or let torch.softmax do it.",
)
