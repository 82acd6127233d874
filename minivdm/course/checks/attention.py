"""What the checks of self-, cross- and temporal attention share: the heads in float64, probes, and mistakes."""

import torch

from minivdm.course.exercise import close, holds

from .ch04_common import fresh
from .common import layer_probes

LIKE = dict(atol=3e-4, rtol=1e-3, dtype=torch.float32)


def attended(q, k, v, d):
    """softmax(Q K^T / sqrt(d)) V, one head at a time: the rows of q, (N, C), look at those of k, v, (L, C)."""
    found = torch.zeros_like(q)
    for head in torch.arange(q.shape[1]).split(d):
        scores = q[:, head] @ k[:, head].T / d**0.5  # (N, L)
        weights = torch.exp(scores - scores.amax(1, keepdim=True))
        found[:, head] = weights / weights.sum(1, keepdim=True) @ v[:, head]
    return found


def attention_probes(f, draw, expected, cases, asking):
    """Probes of an attention layer with random weights, with new ones, and with scores in the hundreds.

    Args:
        expected: `expected(layer, d, *inputs)` is the output in float64, where heads have the size d; and what each
            part of the layer is given, as `layer_probes` takes it.
        cases: for each case what it is, `f`'s sizes, d, and the inputs. The first has one head.
        asking: `asking(layer)` lists the weights of Q and K in the layer of the first case.
    """
    for name, sizes, d, *inputs in cases:
        layer = fresh(f(*sizes, head_dim=d), draw)
        yield from layer_probes(name, layer, inputs, *expected(layer, d, *inputs), **LIKE)
    new = f(*sizes, head_dim=d)
    yield close("a new layer, whose `out` is zero, returns x", new(*inputs), inputs[0])
    total = (new(*inputs) ** 2).sum()
    if total.requires_grad:
        total.backward()
    learns = all(weight.grad is not None and weight.grad.any() for weight in new.out.parameters())
    yield holds("`out` of a new layer, which is zero, gets a gradient", learns, "it never learns: is it left out?")
    _, sizes, d, *inputs = cases[0]
    layer = fresh(f(*sizes, head_dim=d), draw)
    with torch.no_grad():
        for weight in asking(layer):
            weight *= 20
    want, _ = expected(layer, d, *inputs)
    name = "scores in the hundreds: nothing may overflow, and none is cut off"
    yield close(name, layer(*inputs), want, **LIKE)


# A fused attention in the words of the unfused one, so that a mistake is the same edit of both.
UNFUSED = {
    "h = F.scaled_dot_product_attention(q, k, v)": """scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        h = scores.softmax(dim=-1) @ v"""
}


def attention_mistakes(exercise, looked_at, unfused=UNFUSED):
    """Add the mistakes that every attention invites; `looked_at` is what a softmax chooses from, such as "place"."""
    exercise.edit(
        "nothing added",
        {"return x + ": "return "},
        f"The input is not added: the result is x *plus* what was found among the {looked_at}s.",
    )
    exercise.edit(
        "scores not divided",
        {**unfused, " / math.sqrt(q.shape[-1])": ""},
        "The scores are not divided by sqrt(d). A sum of d products grows like sqrt(d), and softmax sees one "
        f"{looked_at} alone.",
    )
    exercise.edit(
        "divided by d",
        {**unfused, " / math.sqrt(q.shape[-1])": " / q.shape[-1]"},
        "The scores are divided by d. Divide them by its root, sqrt(d).",
    )
    exercise.edit(
        "root of all channels",
        {**unfused, "math.sqrt(q.shape[-1])": "math.sqrt(x.shape[1])"},
        "Right for one head. With several, d is the size of *one* head, not the number of all channels.",
    )
    exercise.edit(
        "softmax over the wrong axis",
        {**unfused, ".softmax(dim=-1)": ".softmax(dim=-2)"},
        f"The softmax runs over those who look. For each of them, the weights of the {looked_at}s looked *at* add up "
        "to 1: the last axis of Q K^T.",
    )
    exercise.edit(
        "heads take turns",
        {"n d)": "d n)"},
        'Heads take channels in turns, "(d n)". A head\'s d channels lie together: "(n d)".',
    )
    exercise.edit(
        "softmax by hand",
        {**unfused, "scores.softmax(dim=-1)": "(scores.exp() / scores.exp().sum(-1, keepdim=True))"},
        "exp of a large score is infinite. Subtract the largest score first, or let torch.softmax do it.",
    )


def map_attention_mistakes(exercise, of_norm):
    """Add those that the two attentions of images invite besides; `of_norm` says what is made of norm(x)."""
    exercise.edit(
        "norm(x) added",
        {"return x + ": "return self.norm(x) + "},
        f"norm(x) is added instead of x itself. Only {of_norm} made of norm(x).",
    )
    exercise.edit(
        "softmax over the heads",
        {**UNFUSED, ".softmax(dim=-1)": ".softmax(dim=1)"},
        "The softmax runs over the heads. Each head has weights of its own, which add up to 1 over those looked at.",
    )
    exercise.edit(
        "the first head's K for all",
        {**UNFUSED, "q @ k.": "q @ k[:, :1]."},
        "All heads use the K of the first one. Each has a K of its own.",
    )
    exercise.edit(
        "one head",
        {"n=self.heads": "n=1"},
        "Right for one head, but all heads are taken as one: split the channels into self.heads.",
    )
    exercise.edit(
        "places and channels jumbled",
        {'rearrange(h, "b n (h w) d -> b (n d) h w", h=height)': "h.reshape(x.shape)"},
        "The result, (.., H W, d), was reshaped straight to (B, C, H, W), which jumbles it. Put the channels first.",
    )
    exercise.edit(
        "`out` missing",
        {"self.out(rearrange": "(rearrange"},
        "The last linear map, W_o, is missing: add self.out(...) of what the heads found.",
    )
