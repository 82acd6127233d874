"""Exercise 10.2: attention over the frames of a clip."""

import torch
from einops import rearrange
from torch.nn import functional as F

from minivdm.course.exercise import close, exercise

from .ch04_common import fresh, normed
from .ch04_embedding import waves
from .ch10_common import BACK, LAYOUT, TURNED


def attended(layer, x, frames, d, independent_frames=None):
    """The layer's equations clip by clip, head by head and frame by frame, in float64."""
    channels = x.shape[1]
    weights, biases = layer.qkv.weight.double().split(channels), layer.qkv.bias.double().split(channels)
    h, p = normed(x, layer.norm).flatten(2), waves(range(frames), channels)  # (BF, C, HW), (F, C)
    found = torch.zeros_like(h)
    for first in range(0, len(x), frames):
        told = h[first : first + frames].transpose(1, 2)  # (F, HW, C)
        at = told + p[:, None]
        q, k, v = (part @ weight.T + bias for part, weight, bias in zip([at, at, told], weights, biases))
        for head in torch.arange(channels).split(d):
            for f in range(frames):
                seen = (
                    [f]
                    if independent_frames is not None and independent_frames[first // frames]
                    else list(range(frames))
                )
                scores = (k[seen][..., head] * q[f][:, head]).sum(2) / d**0.5  # (seen, HW)
                share = torch.exp(scores - scores.amax(0))
                found[first + f, head] = torch.einsum("sp,spd->dp", share / share.sum(0), v[seen][..., head])
    out = torch.einsum("oc,ncp->nop", layer.out.weight.double(), found) + layer.out.bias.double()[:, None]
    return x + out.reshape(x.shape)


@exercise("unet3d.TemporalAttention")
def temporal_attention(f, draw):
    like = dict(atol=3e-4, rtol=1e-3, dtype=torch.float32)
    x, layer = draw.normal(2 * 4, 8, 2, 3), fresh(f(8, head_dim=8), draw)
    yield close("one head, 2 clips of 4 frames", layer(x, 4), attended(layer, x, 4, 8), **like)
    x, layer = draw.normal(3 * 3, 16, 2, 1), fresh(f(16, head_dim=4), draw)
    yield close("four heads, 3 clips of 3 frames", layer(x, 3), attended(layer, x, 3, 4), **like)
    independent_frames = torch.tensor([True, False, False])
    want = attended(layer, x, 3, 4, independent_frames)
    yield close("3 clips, the first one made of stills", layer(x, 3, independent_frames), want, **like)
    yield close("a new layer, whose `out` is zero, returns x", f(16, head_dim=4)(x, 3), x)
    x, layer = draw.normal(4, 8, 1, 2), fresh(f(8, head_dim=8), draw)
    with torch.no_grad():
        layer.qkv.weight[:16] *= 20
    want = attended(layer, x, 4, 8)
    yield close("scores in the hundreds: softmax must not overflow", layer(x, 4), want, **like)
    x, layer = draw.normal(4, 8, 1, 2), fresh(f(8, head_dim=8), draw)
    want, short = attended(layer, x, 4, 8), torch.bfloat16
    yield close("layer and x in bfloat16", layer.to(short)(x.to(short), 4), want, 0.15, 0.05, short)


def positions(mistake, frames, channels):
    """The waves of the frames' numbers, float32, or what a mistake makes of them."""
    if mistake == "backwards":
        return waves(range(frames), channels).flip(0).float()
    return waves(range(1, frames + 1) if mistake == "from 1" else range(frames), channels).float()


def attend_with(mistake, layer, x, frames, independent_frames):
    """The layer with room for one mistake."""
    channels, height, width = x.shape[1:]
    heads = 1 if mistake == "one head" else layer.heads
    d = channels // heads
    h = x if mistake == "no norm" else layer.norm(x)
    if mistake == "norm of clips":
        rows = rearrange(x, "(b f) c h w -> b c f h w", f=frames)
        h = rearrange(layer.norm(rows), "b c f h w -> (b f) c h w")
    if mistake == "before norm":
        p = positions(mistake, frames, channels).repeat(len(x) // frames, 1)
        h = layer.norm(x + p[:, :, None, None].to(x.dtype))
    batch = "(f b)" if mistake == "layout" else "(b f)"
    if mistake == "spatial":
        rows = rearrange(h, "n c h w -> n 1 (h w) c")
    else:
        rows = rearrange(h, f"{batch} c h w -> b (h w) f c", f=frames)  # (B, HW, F, C)
    p = positions(mistake, rows.shape[2], channels)
    p = p if mistake == "float32" else p.to(x.dtype)
    if mistake == "doubled bias":
        moved = layer.qkv(p)
    else:
        moved = F.linear(p, layer.qkv.weight)
    q_, k_, v_ = moved.chunk(3, dim=-1)
    none = torch.zeros_like(q_)
    told = {
        "no position": (none, none, none),
        "before norm": (none, none, none),
        "on v": (q_, k_, v_),
        "only q": (q_, none, none),
        "only k": (none, k_, none),
        "unmapped": (p, p, none),
    }.get(mistake, (q_, k_, none))
    qkv = layer.qkv(rows) + torch.cat(told, dim=-1)
    woven = "(d n)" if mistake == "woven" else "(n d)"
    q, k, v = (rearrange(part, f"b p f {woven} -> b p n f d", n=heads) for part in qkv.chunk(3, dim=-1))
    q, k, v = (q, v, k) if mistake == "v second" else (k, q, v) if mistake == "k first" else (q, k, v)
    scores = q @ k.transpose(-1, -2) / {"no root": 1, "d": d, "all channels": channels**0.5}.get(mistake, d**0.5)
    if independent_frames is not None and mistake not in ("ignored", "spatial", "after softmax"):
        own = torch.eye(frames, dtype=torch.bool)
        rows_ = (~independent_frames if mistake == "inverted" else independent_frames)[:, None, None, None, None]
        others = own if mistake == "own hidden" else ~own
        scores = scores.masked_fill(rows_ & others, 0.0 if mistake == "zero scores" else -torch.inf)
    if mistake == "overflow":
        weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    else:
        weights = scores if mistake == "no softmax" else scores.softmax(dim=-2 if mistake == "asking" else -1)
    if independent_frames is not None and mistake == "after softmax":
        weights = weights * (~independent_frames[:, None, None, None, None] | torch.eye(frames, dtype=torch.bool))
    found = rearrange(weights @ v, f"b p n f d -> b p f {woven}")
    found = found if mistake == "no out" else layer.out(found)
    if mistake == "spatial":
        return x + rearrange(found, "n 1 (h w) c -> n c h w", h=height)
    found = rearrange(found, f"b {'(w h)' if mistake == 'turned' else '(h w)'} f c -> {batch} c h w", h=height)
    if mistake == "back":
        found = rearrange(found, "(b f) c h w -> (f b) c h w", f=frames)
    return found if mistake == "no x" else (h if mistake == "norm added" else x) + found


def wrong(mistake, label, hint):
    """Add a misconception: the layer above with one mistake in it."""

    class Wrong:
        def forward(self, x, frames, independent_frames=None):
            return attend_with(mistake, self, x, frames, independent_frames)

    temporal_attention.misconception(label, hint)(Wrong)


wrong("no x", "nothing added", "The input is not added: the result is x *plus* what the frames found.")
wrong("norm added", "norm(x) added", "norm(x) is added instead of x itself.")
wrong("no norm", "no norm", "Q, K and V are made of x as it is. They are linear maps of norm(x).")
wrong(
    "norm of clips",
    "normed over the frames, too",
    "norm is applied to whole clips (B, C, F, H, W), so its mean and variance mix the frames. Apply it to x as it "
    "comes: each frame by itself.",
)
wrong(
    "spatial",
    "places look at places",
    "Each frame's places look at each other: that is the attention of chapter 04. Here each *place* is a sequence "
    "of F frames: (B, H W, F, C).",
)
wrong("layout", *LAYOUT)
wrong("back", *BACK)
wrong("turned", *TURNED)
wrong(
    "before norm",
    "position before the norm",
    "p is added to x, before the norm, and so reaches V as well. Add it to h = norm(x), for Q and K.",
)
wrong("k first", "Q and K swapped", "Q and K are swapped. The thirds of `qkv` are Q, then K, then V.")
wrong(
    "after softmax",
    "hidden after the softmax",
    "The weights of hidden frames are set to 0 after the softmax, and the others no longer add up to 1. Hide the "
    "scores before it, with -inf.",
)
wrong(
    "no position",
    "position missing",
    "The position is missing, so the layer cannot tell a clip from its reverse. Add p to h in Q and K.",
)
wrong(
    "on v",
    "position in V, too",
    "The position is in V, too. Only Q and K know it: V is a linear map of h alone, so that a frame finds the same "
    "wherever it stands.",
)
wrong(
    "only q",
    "position in Q alone",
    "Only Q knows the position. K needs it, too, or nobody can be looked for by place.",
)
wrong("only k", "position in K alone", "Only K knows the position. Q needs it, too: a frame must know where it stands.")
wrong("unmapped", "position after W", "p is added to Q and K as it is. It goes through W_q and W_k like h: W (h + p).")
wrong(
    "doubled bias",
    "the bias twice",
    "self.qkv(h) + self.qkv(p) adds the bias twice. Add p to h first, or use the weight alone: F.linear(p, "
    "self.qkv.weight).",
)
wrong("from 1", "frames counted from 1", "The positions begin at 1 here. The first frame is number 0.")
wrong("backwards", "positions backwards", "The positions run backwards. The first frame is number 0.")
wrong("v second", "K and V swapped", "K and V are swapped. The thirds of `qkv` are Q, then K, then V.")
wrong(
    "no root",
    "scores not divided",
    "The scores are not divided by sqrt(d). A sum of d products grows like sqrt(d), and softmax sees one frame alone.",
)
wrong("d", "divided by d", "The scores are divided by d. Divide by its root, sqrt(d).")
wrong("all channels", "root of all channels", "Right for one head. With several, d is the size of *one* head.")
wrong(
    "asking",
    "softmax over those who ask",
    "The softmax runs over the frames that ask. For each of them, the weights of the frames looked *at* add up to "
    "1: the last axis of Q K^T.",
)
wrong("no softmax", "no softmax", "The scores are used as weights as they are: put a softmax over them.")
wrong("one head", "one head", "Right for one head, but all heads are taken as one: split the channels into self.heads.")
wrong(
    "woven",
    "heads take turns",
    'Heads take channels in turns, "(d n)". A head\'s d channels lie together: "(n d)".',
)
wrong("no out", "`out` missing", "The last linear map, W_o, is missing: add self.out(...) of what the heads found.")
wrong("ignored", "stills ignored", "`independent_frames` has no effect: unrelated pictures look at each other.")
wrong(
    "inverted",
    "clips for stills",
    "Where `independent_frames` is True frames see each other, and elsewhere only themselves.",
)
wrong(
    "own hidden",
    "the own frame hidden",
    "In rows of stills each picture is hidden from *itself* and sees the others. Hide the others: ~torch.eye(F).",
)
wrong(
    "zero scores",
    "hidden with a score of 0",
    "A score of 0 hides nothing: exp(0) = 1. A frame that is not to be seen has the score -inf.",
)
wrong(
    "float32",
    "positions of another type",
    "timestep_embedding returns float32. In training on a GPU layer and x are bfloat16, and the two do not mix: "
    ".to(h.dtype).",
)
wrong(
    "overflow",
    "softmax by hand",
    "exp of a large score is infinite. Subtract the largest score first, or let torch.softmax do it.",
)
