"""Exercise 10.2: attention over the frames of a clip."""

import torch

from minivdm.course.exercise import close, exercise

from .attention import LIKE, attended, attention_mistakes, attention_probes
from .ch04_common import fresh, normed
from .ch04_embedding import waves
from .ch10_common import LAYOUT, on_clips


def expected(layer, d, x, frames, independent_frames=None):
    """The layer's equations clip by clip and place by place, in float64; a frame that sees itself alone finds its V.

    And what `norm` is given. The other parts may be given clips laid out in several ways.
    """
    channels = x.shape[1]
    weights, biases = layer.qkv.weight.double().split(channels), layer.qkv.bias.double().split(channels)
    h, p = normed(x, layer.norm).flatten(2), waves(range(frames), channels)  # (BF, C, HW), (F, C)
    found = torch.zeros_like(h)
    for clip, rows in enumerate(torch.arange(len(x)).split(frames)):
        for place in range(h.shape[2]):
            told = h[rows, :, place]  # (F, C)
            parts = zip([told + p, told + p, told], weights, biases)
            q, k, v = (part @ weight.T + bias for part, weight, bias in parts)
            alone = independent_frames is not None and independent_frames[clip]
            found[rows, :, place] = v if alone else attended(q, k, v, d)
    out = torch.einsum("oc,ncp->nop", layer.out.weight.double(), found) + layer.out.bias.double()[:, None]
    return x + out.reshape(x.shape), dict(norm=x.double())


@exercise("unet3d.TemporalAttention")
def temporal_attention(f, draw):
    x, layer = draw.normal(2 * 4, 8, 3, 2), fresh(f(8, head_dim=8), draw)
    with torch.no_grad():
        layer.qkv.weight[:16], layer.qkv.bias[:16] = 0, 0
    want, _ = expected(layer, 8, x, 4)
    yield close("W_q = W_k = 0: a frame finds the mean of V over its clip, at each place", layer(x, 4), want, **LIKE)
    stills, x = torch.tensor([True, False, False]), draw.normal(3 * 3, 16, 2, 1)
    cases = [
        ["one head, 2 clips of 4 frames", [8], 8, draw.normal(2 * 4, 8, 3, 2), 4],
        ["clips of one frame", [8], 8, draw.normal(2, 8, 1, 3), 1],
        ["four heads, 3 clips of 3 frames", [16], 4, x, 3],
        ["3 clips, the last two made of stills", [16], 4, x, 3, ~stills],
        ["3 clips, the first one made of stills", [16], 4, x, 3, stills],
    ]
    yield from attention_probes(f, draw, expected, cases, lambda layer: [layer.qkv.weight[:16]])
    x, layer, short = draw.normal(4, 8, 1, 2), fresh(f(8, head_dim=8), draw), torch.bfloat16
    want, _ = expected(layer, 8, x, 4)
    yield close("layer and x in bfloat16", layer.to(short)(x.to(short), 4), want, 0.15, 0.05, short)


@temporal_attention.promises("samples", "dtype", "layout", "device", "gradients")
def ordinary(f, draw):
    return on_clips(fresh(f(16, head_dim=8), draw), draw.normal(3, 4, 16, 5, 2), [False, True, False])


attention_mistakes(temporal_attention, "frame", unfused={})
ADDED = " + F.pad(position, (0, h.shape[-1]))"
temporal_attention.edit(LAYOUT[0], {"(b f)": "(f b)"}, LAYOUT[1])
temporal_attention.edit(
    "position before the norm",
    {
        ADDED: "",
        "h = rearrange(self.norm(x),": """p = timestep_embedding(torch.arange(len(x)) % frames, x.shape[1]).to(x.dtype)
        h = rearrange(self.norm(x + p[:, :, None, None]),""",
    },
    "p is added to x, before the norm, and so reaches V as well. Add it to h = norm(x), for Q and K.",
)
temporal_attention.edit(
    "position before the norm, in Q and K",
    {
        "qkv = self.qkv(h)" + ADDED: """moved = self.norm(x + p.repeat(len(x) // frames, 1)[:, :, None, None])
        moved = rearrange(moved, "(b f) c h w -> b (h w) f c", f=frames)
        qkv = torch.cat([self.qkv(moved)[..., : 2 * h.shape[-1]], self.qkv(h)[..., 2 * h.shape[-1] :]], -1)"""
    },
    "p is added to x, before the norm. Add it to h = norm(x).",
)
temporal_attention.edit(
    "attention over space",
    {
        "b (h w) f c": "b f (h w) c",
        "F.pad(position, (0, h.shape[-1]))": "F.pad(position, (0, h.shape[-1]))[:, None]",
    },
    "Here the places of one frame look at each other. A place looks along time, at itself in the F frames: "
    '"b (h w) f c".',
)
temporal_attention.edit(
    "Q, K and V head by head",
    {"(three n d)": "(n three d)"},
    'The channels of `qkv` are taken apart head by head, each with its Q, K and V, as by "(n three d)". All of Q comes '
    'first, then all of K, then all of V: "(three n d)".',
)
temporal_attention.edit("no norm", {"self.norm(x)": "x"}, "Q, K and V are made of x as it is, not of norm(x).")
temporal_attention.edit(
    "one norm for a clip",
    {"self.norm(x)": "self.norm(x.unflatten(0, (-1, frames)).transpose(1, 2)).transpose(1, 2).flatten(0, 1)"},
    "The norm takes the mean over all frames of a clip. Each frame is normed by itself: self.norm(x).",
)
temporal_attention.edit(
    "K without position",
    {"F.pad(position, (0, h.shape[-1]))": "F.pad(position[:, : h.shape[-1]], (0, 2 * h.shape[-1]))"},
    "The queries know the position, the keys do not. Add p to h in both.",
)
temporal_attention.edit(
    "frames from 1 on",
    {"torch.arange(frames,": "torch.arange(1, frames + 1,"},
    "The frames are counted from 1. The first frame is number 0.",
)
temporal_attention.edit(
    "Q and K exchanged", {"q, k, v =": "k, q, v ="}, "Q and K are exchanged: `qkv` holds W_q first, then W_k and W_v."
)
temporal_attention.edit(
    "a mask for all rows",
    {"independent_frames[:, None, None, None, None]": "independent_frames.any()"},
    "One row of stills hides the frames of all rows. Each row has a mask of its own.",
)
temporal_attention.edit(
    "clips for stills",
    {"hidden = independent_frames": "hidden = ~independent_frames"},
    "The mask is the wrong way round: where `independent_frames` is False, a frame sees all frames of its clip.",
)
temporal_attention.edit(
    "position missing",
    {ADDED: ""},
    "The position is missing, so the layer cannot tell a clip from its reverse. Add p to h in Q and K.",
)
temporal_attention.edit(
    "position in V, too",
    {"self.qkv(h)" + ADDED: "self.qkv(h + p)"},
    "The position is in V, too. Only Q and K know it: V is a linear map of h alone, so that a frame finds the same "
    "wherever it stands.",
)
temporal_attention.edit(
    "the bias twice",
    {"F.linear(p, self.qkv.weight[: 2 * h.shape[-1]])": "self.qkv(p)[:, : 2 * h.shape[-1]]"},
    "self.qkv(h) + self.qkv(p) adds the bias twice. Add p to h first, or use the weight alone: F.linear(p, "
    "self.qkv.weight).",
)
temporal_attention.edit(
    "stills ignored",
    {"independent_frames is not None": "False"},
    "`independent_frames` has no effect: unrelated pictures look at each other.",
)
temporal_attention.edit(
    "hidden with a score of 0",
    {"-math.inf": "0.0"},
    "A score of 0 hides nothing: exp(0) = 1. A frame that is not to be seen has the score -inf.",
)
temporal_attention.edit(
    "positions of another type",
    {".to(h.dtype)": ""},
    "timestep_embedding returns float32. In training on a GPU layer and x are bfloat16, and the two do not mix: "
    ".to(h.dtype).",
)
