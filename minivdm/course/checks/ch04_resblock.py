"""Exercise 4.2: the residual block."""

import torch

from minivdm.course.exercise import close, exercise, holds, near

from .ch04_common import convolved, fresh, normed, silu
from .common import layer_probes


def block_output(block, x, e):
    """The block's equations in float64, on the weights of this very block; and what each part is given."""
    parts = dict(norm1=x.double(), conv1=silu(normed(x, block.norm1)), emb=silu(e.double()))
    both = parts["emb"] @ block.emb.weight.double().T + block.emb.bias.double()  # (B, 2 out)
    half = both.shape[1] // 2
    parts["norm2"] = convolved(parts["conv1"], block.conv1)
    h = normed(parts["norm2"], block.norm2) * (1 + both[:, :half, None, None]) + both[:, half:, None, None]
    parts["dropout"] = parts["conv2"] = silu(h)
    straight = convolved(x, block.skip) if hasattr(block.skip, "weight") else x.double()
    return straight + convolved(parts["conv2"], block.conv2), parts


@exercise("layers.ResBlock")
def res_block(f, draw):
    like = dict(atol=1e-4, dtype=torch.float32)
    x, e = draw.normal(3, 16, 4, 6), draw.normal(3, 12)
    block = fresh(f(16, 16, 12), draw)
    yield from layer_probes("16 channels in, 16 out", block, (x, e), *block_output(block, x, e), **like)
    block = fresh(f(16, 24, 12), draw)
    yield from layer_probes("16 channels in, 24 out", block, (x, e), *block_output(block, x, e), **like)
    block = f(16, 16, 12)
    yield close("a new block, whose conv2 is zero, returns x", block(x, e), x)
    block = fresh(f(16, 16, 12, dropout=0.5), draw).eval()
    yield from layer_probes("no dropout in evaluation", block, (x, e), *block_output(block, x, e), **like)
    block = fresh(f(16, 16, 12, dropout=1.0), draw).train()
    nothing = convolved(torch.zeros_like(x), block.conv2)
    yield close("in training, dropout = 1 empties the branch before conv2", block(x, e), x + nothing, **like)
    block = fresh(f(8, 8, 12, dropout=0.5), draw)
    x_8, e_8 = draw.normal(40, 8, 6, 6), draw.normal(40, 12)
    made = given_to_conv2(block.train(), x_8, e_8)
    yield near("share of zeros in what conv2 is given, dropout = 0.5", (made == 0).double().mean().item(), 0.5, 0.03)
    want = torch.where(made == 0, 0, 2 * block_output(block, x_8, e_8)[1]["conv2"]).float()
    yield close("what dropout = 0.5 leaves is doubled, and dropout comes after the SiLU", made, want, 1e-4)
    block = f(16, 24, 12)
    (block(x, e) ** 2).sum().backward()
    learns = block.conv2.weight.grad is not None and block.conv2.weight.grad.any()
    yield holds("conv2 of a new block, which is zero, gets a gradient", learns, "it never learns: is it left out?")


def given_to_conv2(block, x, e):
    """What conv2 is given, on the way from x."""
    seen = []

    def note(layer, given, named, result):
        seen.extend(each.detach() for each in (*given, *named.values()))

    hook = block.conv2.register_forward_hook(note, with_kwargs=True)
    block(x, e)
    hook.remove()
    return seen[0] if seen else torch.full((len(x), 8, *x.shape[2:]), torch.nan)


@res_block.promises("samples", "dtype", "layout", "device", "gradients")
def block_on_maps(f, draw):
    return fresh(f(8, 16, 12), draw), dict(x=draw.normal(4, 8, 3, 2), emb=draw.normal(4, 12))


res_block.edit(
    "nothing added",
    {"self.skip(x) + ": ""},
    "The input is not added. This block's output is skip(x) *plus* what the branch makes: a new block does nothing.",
)
res_block.edit(
    "x without its 1 x 1 convolution",
    {"self.skip(x) + ": "x + "},
    "x is added as it is, which fits only where the channels stay the same. Add self.skip(x), which makes them fit.",
)
res_block.edit(
    "scale without the 1",
    {"(1 + scale)": "scale"},
    "norm(h) is multiplied by scale alone. The factor is 1 + scale: at scale = 0 the features pass unchanged.",
)
res_block.edit(
    "scale and shift swapped",
    {"scale, shift =": "shift, scale ="},
    "Scale and shift are swapped: the first half of the channels is the scale.",
)
res_block.edit(
    "scale and shift before the norm",
    {"self.norm2(h) * (1 + scale) + shift": "self.norm2(h * (1 + scale) + shift)"},
    "The level comes in before norm2, which then wipes most of it out again. Normalise first, then scale and shift.",
)
res_block.edit(
    "no shape for broadcasting",
    {"[:, :, None, None]": ""},
    "The linear layer returns (B, 2 out), which does not fit (B, out, H, W). Add two axes: [:, :, None, None].",
)
res_block.edit(
    "first SiLU missing",
    {"F.silu(self.norm1(x))": "self.norm1(x)"},
    "Between norm1 and conv1 there is a SiLU; without it, this half is linear.",
)
res_block.edit(
    "second SiLU missing", {"F.silu(h)": "h"}, "After scale and shift there is a SiLU, before dropout and conv2."
)
res_block.edit(
    "the order turned round",
    {"self.conv1(F.silu(self.norm1(x)))": "F.silu(self.norm1(self.conv1(x)))"},
    "Here conv1 comes first. The order is norm, SiLU, convolution, twice.",
)
res_block.edit(
    "no dropout",
    {"self.dropout(F.silu(h))": "F.silu(h)"},
    "self.dropout is not used. It stands between the second SiLU and conv2.",
)
