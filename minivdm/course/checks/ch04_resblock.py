"""Exercise 4.2: the residual block."""

import torch
from torch.nn import functional as F

from minivdm.course.exercise import close, exercise

from .ch04_common import convolved, fresh, normed, silu


def block_output(block, x, e):
    """The block's equations in float64, on the weights of this very block."""
    both = silu(e.double()) @ block.emb.weight.double().T + block.emb.bias.double()  # (B, 2 out)
    half = both.shape[1] // 2
    h = normed(convolved(silu(normed(x, block.norm1)), block.conv1), block.norm2)
    h = h * (1 + both[:, :half, None, None]) + both[:, half:, None, None]
    straight = convolved(x, block.skip) if hasattr(block.skip, "weight") else x.double()
    return straight + convolved(silu(h), block.conv2)


@exercise("layers.ResBlock")
def res_block(f, draw):
    like = dict(atol=1e-4, dtype=torch.float32)
    x, e = draw.normal(3, 16, 4, 6), draw.normal(3, 12)
    block = fresh(f(16, 16, 12), draw)
    yield close("16 channels in, 16 out", block(x, e), block_output(block, x, e), **like)
    block = fresh(f(16, 24, 12), draw)
    yield close("16 channels in, 24 out", block(x, e), block_output(block, x, e), **like)
    block = f(16, 16, 12)
    yield close("a new block, whose conv2 is zero, returns x", block(x, e), x)
    block = fresh(f(16, 16, 12, dropout=0.5), draw).eval()
    yield close("no dropout in evaluation", block(x, e), block_output(block, x, e), **like)
    block = fresh(f(16, 16, 12, dropout=1.0), draw).train()
    nothing = convolved(torch.zeros_like(x), block.conv2)
    yield close("in training, dropout = 1 empties the branch before conv2", block(x, e), x + nothing, **like)


def block_with(mistake, block, x, e):
    """A block with room for one mistake."""
    if mistake == "conv first":
        h = F.silu(block.norm1(block.conv1(x)))
    elif mistake == "no silu":
        h = block.conv1(block.norm1(x))
    else:
        h = block.conv1(F.silu(x if mistake == "no norm" else block.norm1(x)))
    both = block.emb(e if mistake == "raw" else F.silu(e))
    both = both if mistake == "no shape" else both[:, :, None, None]
    scale, shift = both.chunk(2, dim=1)
    scale, shift = (shift, scale) if mistake == "swapped" else (scale, shift)
    if mistake == "early":
        h = block.norm2(h * (1 + scale) + shift)
    elif mistake == "one for all":
        h = block.norm2(h) * (1 + scale[:1]) + shift[:1]
    else:
        h = block.norm2(h) * (scale if mistake == "no one" else 1 + scale) + shift
    h = block.norm2(block.conv1(F.silu(block.norm1(x)))) if mistake == "no level" else h
    h = h if mistake == "no second silu" else F.silu(h)
    h = F.dropout(h, block.dropout.p) if mistake == "always" else h if mistake == "none" else block.dropout(h)
    h = block.conv2(h)
    if mistake in ("no skip", "bare", "silu last"):
        return h if mistake == "no skip" else x + h if mistake == "bare" else F.silu(block.skip(x) + h)
    return block.skip(x) + h


def wrong(mistake, label, hint):
    """Add a misconception: the block above with one mistake in it."""

    class Wrong:
        def forward(self, x, emb):
            return block_with(mistake, self, x, emb)

    res_block.misconception(label, hint)(Wrong)


wrong(
    "no skip",
    "nothing added",
    "The input is not added. This block's output is skip(x) *plus* what the branch makes: a new block does nothing.",
)
wrong(
    "bare",
    "x without its 1 x 1 convolution",
    "x is added as it is, which fits only where the channels stay the same. Add self.skip(x), which makes them fit.",
)
wrong(
    "no one",
    "scale without the 1",
    "norm(h) is multiplied by scale alone. The factor is 1 + scale: at scale = 0 the features pass unchanged.",
)
wrong("swapped", "scale and shift swapped", "Scale and shift are swapped: the first half of the channels is the scale.")
wrong(
    "early",
    "scale and shift before the norm",
    "The level comes in before norm2, which then wipes most of it out again. Normalise first, then scale and shift.",
)
wrong("no level", "the level ignored", "The level has no effect: scale and shift are missing.")
wrong("one for all", "one level for the batch", "All samples get the first one's scale and shift. Each has its own.")
wrong(
    "no shape",
    "no shape for broadcasting",
    "The linear layer returns (B, 2 out), which does not fit (B, out, H, W). Add two axes: [:, :, None, None].",
)
wrong("raw", "no SiLU on the embedding", "The embedding goes into the linear layer as it is: put a SiLU before it.")
wrong("no silu", "first SiLU missing", "Between norm1 and conv1 there is a SiLU; without it, this half is linear.")
wrong("no second silu", "second SiLU missing", "After scale and shift there is a SiLU, before dropout and conv2.")
wrong("no norm", "norm1 missing", "x goes into the branch as it is. norm1 comes first.")
wrong("conv first", "the order turned round", "Here conv1 comes first. The order is norm, SiLU, convolution, twice.")
wrong("silu last", "SiLU over the sum", "A SiLU over the sum: then the straight path is no longer the identity.")
wrong("none", "no dropout", "self.dropout is not used. It stands between the second SiLU and conv2.")
wrong(
    "always",
    "dropout in evaluation, too",
    "F.dropout drops in evaluation, too, unless told otherwise. self.dropout knows when to stop.",
)
