"""Exercise 4.6: down, through the middle, and up."""

from types import MethodType

import torch
from torch import nn

from minivdm.course.exercise import close, equal, exercise, raises

from .ch04_common import fresh
from .ch04_embedding import waves


@exercise("unet.UNet")
def unet(f, draw):
    for blocks in (1, 2):
        down, up = recorded(f(channels=8, mults=(1, 4), blocks=blocks), draw.normal(2, 1, 4, 4))
        name = f"blocks = {blocks}, what each layer was given"
        yield equal(f"{name}, down to the middle", down, expected(blocks)[0])
        yield equal(f"{name}, on the way up", up, expected(blocks)[1])
    like = dict(atol=1e-3, rtol=1e-3, dtype=torch.float32)
    net = fresh(f(channels=8, mults=(1, 4), blocks=1), draw)
    x, t = draw.normal(2, 1, 4, 8), draw.integers(1, 500, 2)
    yield close("the output, with random weights", net(x, t), by_index(net, x, t), **like)
    yield raises("a picture of 5 x 8 pixels", ValueError, lambda: net(draw.normal(2, 1, 5, 8), t))
    net = fresh(f(in_channels=3, channels=8, mults=(1, 4, 4), blocks=1, context_dim=4, patch=2), draw)
    x, t, cond = draw.normal(2, 3, 8, 16), torch.tensor([0, 7]), draw.normal(2, 3, 4)
    yield close(
        "the output, with a condition and three resolutions, at level 0 too",
        net(x, t, cond),
        by_index(net, x, t, cond),
        **like,
    )


@unet.promises("samples", "dtype", "layout", "device", "gradients")
def small_net(f, draw):
    net = fresh(f(in_channels=3, channels=8, mults=(1, 4), blocks=1, attention=(), context_dim=4), draw)
    return net, dict(x=draw.normal(3, 3, 4, 2), t=torch.tensor([1, 40, 900]), cond=draw.normal(3, 5, 4))


def by_index(net, x, t, cond=None):
    """The output worked out without a stack: the k-th Stage on the way up takes the k-th kept map from the end."""
    emb = net.embed(waves(t.tolist(), 8).float())
    emb = emb if cond is None else emb + net.summary(cond.mean(1))
    kept = [net.stem(x)]
    for layer in net.down:
        kept.append(layer(kept[-1], emb, cond) if hasattr(layer, "block") else layer(kept[-1]))
    h, k = net.middle(kept[-1], emb, cond), 0
    for layer in net.up:
        if hasattr(layer, "block"):
            k += 1
            h = layer(torch.cat([h, kept[-k]], 1), emb, cond)
        else:
            h = layer(h)
    return net.head(net.norm(h))


def expected(blocks):
    """What each layer should be given, for two resolutions: the calls down to the middle, and those on the way up."""
    names = ["stem", *(f"down[{i}]" for i in range(2 * blocks + 1))]
    down = [f"{new}({old})" for old, new in zip(["x", *names], [*names, "middle"])]
    up, last = [], "middle"
    for i in range(2 * blocks + 3):
        alone = i == blocks + 1  # the Upsample
        up.append(f"up[{i}]({last})" if alone else f"up[{i}]({last} + {names.pop()})")
        last = f"up[{i}]"
    return down, [*up, f"norm({last})", "head(norm)"]


def recorded(net, image):
    """Run the network with layers that only note what they are given, and return a number of their own in its place.

    Returns:
        Two lists of texts such as "up[0](middle + down[2])": down to the middle, and from there on.
    """
    calls, names = [], {}

    def note(layer, name):
        number = float(3 ** len(names))  # no sum of two is the number of another
        names[number] = name
        alone = not hasattr(layer, "block")

        def forward(self, x, *rest, **named):
            if alone and (rest or named):
                raise TypeError(f"{name} takes a feature map alone")
            calls.append(f"{name}({given(x)})")
            return torch.full((2, 1, 2, 2), number)

        layer.forward = MethodType(forward, layer)
        if isinstance(layer, nn.Sequential):  # somebody may call its parts one by one: the last answers for all
            for part in layer[:-1]:
                part.forward = MethodType(lambda self, x: x, part)
            layer[-1].forward = MethodType(forward, layer[-1])

    def given(h):
        if h is image:
            return "x"
        if h.ndim != 4 or h.shape[0] != 2 or h.shape[2:] != (2, 2):
            return f"joined along the wrong axis: {tuple(h.shape)}"
        parts = [names.get(value, "something else") for value in h[0, :, 0, 0].tolist()]
        return " + ".join(parts)

    for name in ("stem", "middle", "norm", "head"):
        note(getattr(net, name), name)
    for side in ("down", "up"):
        for i, layer in enumerate(getattr(net, side)):
            note(layer, f"{side}[{i}]")
    try:
        net(image, torch.ones(2, dtype=torch.long))
    except IndexError as error:
        calls.append(f"{type(error).__name__}: {error}")
    ends = [i for i, call in enumerate(calls) if call.startswith(("up", "norm", "head"))] + [len(calls)]
    return calls[: ends[0]], calls[ends[0] :]


unet.edit(
    "first in, first out",
    {"[h, skips.pop()]": "[h, skips.pop(0)]"},
    "The kept maps are used in the order in which they were made. The *latest* comes first: skips.pop(), without a 0.",
)
unet.edit(
    "the same map again and again",
    {"[h, skips.pop()]": "[h, skips[-1]]"},
    "skips[-1] stays in the list. skips.pop() takes it out.",
)
unet.edit(
    "stem not kept",
    {"skips = [h]": "skips = []"},
    "The stem's map is not kept: begin with skips = [h], after the stem.",
)
unet.edit(
    "Downsample not kept",
    {"skips.append(h)": "skips += [h] * isinstance(layer, Stage)"},
    "The maps that the Downsamples make are not kept. All maps on the way down are.",
)
unet.edit(
    "kept too early",
    {"self.middle(h,": "self.middle(skips.pop(),"},  # kept is what the last layer was given, but not what it made
    "Maps are kept *before* each layer, so the last is missing: append after the layer.",
)
unet.edit(
    "the middle kept",
    {"h = self.middle(h, emb, cond)": "h = self.middle(h, emb, cond)\n        skips.append(h)"},
    "The middle's map is kept, too. Only the maps made on the way down are.",
)
unet.edit(
    "kept map first",
    {"[h, skips.pop()]": "[skips.pop(), h]"},
    "The two maps are joined in the other order: h first, then the kept one.",
)
unet.edit(
    "added instead of joined",
    {"torch.cat([h, skips.pop()], dim=1)": "h + skips.pop()"},
    "The kept map is added to h. Concatenate along the channels: torch.cat.",
)
unet.edit(
    "joined along the batch",
    {"skips.pop()], dim=1": "skips.pop()]"},
    "The two maps are joined along the batch, the default of torch.cat. Channels are dim=1.",
)
unet.edit("norm left out", {"self.norm(h)": "h"}, "self.norm is left out: the last lines are norm, then head.")
unet.edit("cond forgotten", {"emb, cond)": "emb)"}, "The condition does not reach the Stages: layer(h, emb, cond).")
