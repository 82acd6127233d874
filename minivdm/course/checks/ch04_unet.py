"""Exercise 4.6: down, through the middle, and up."""

from types import MethodType

import torch

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
    net = fresh(f(in_channels=3, channels=8, mults=(1, 4), blocks=1, context_dim=4, patch=2), draw)
    x, cond = draw.normal(2, 3, 4, 8), draw.normal(2, 3, 4)
    yield close("the output, with a condition", net(x, t, cond), by_index(net, x, t, cond), **like)


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


def net_with(mistake, net, x, t, cond):
    """A forward pass with room for one mistake."""
    if mistake == "own embedding":
        emb = net.embed(waves(t.tolist(), net.channels).float())
        emb = emb if cond is None else emb + net.summary(cond.mean(1))
    else:
        emb = net.embedding(x, t, cond)
    cond = None if mistake == "no cond" else cond
    h = net.stem(x)
    kept = [] if mistake in ("no stem", "early") else [h]
    for layer in net.down:
        if mistake == "early":
            kept.append(h)
        stage = hasattr(layer, "block")
        h = layer(h, emb, cond) if stage else layer(h)
        if mistake != "early" and (stage or mistake != "stages only"):
            kept.append(h)
    if mistake != "no middle":
        h = net.middle(h, emb, cond)
    if mistake == "middle kept":
        kept.append(h)
    for layer in net.up:
        if not hasattr(layer, "block"):
            if mistake == "pops always":
                kept.pop()
            h = layer(h)
            continue
        skip = kept.pop({"first": 0}.get(mistake, -1)) if mistake != "no pop" else kept[-1]
        both = [skip, h] if mistake == "skip first" else [h, skip]
        both = [h, h] if mistake == "itself" else both
        h = h + skip if mistake == "added" else torch.cat(both, dim=0 if mistake == "batch" else 1)
        h = layer(h, emb, cond)
    if mistake in ("no norm", "no head"):
        return net.head(h) if mistake == "no norm" else net.norm(h)
    return None if mistake == "nothing" else net.head(net.norm(h))


def wrong(mistake, label, hint):
    """Add a misconception: the forward pass above with one mistake in it."""

    class Wrong:
        def forward(self, x, t, cond=None):
            return net_with(mistake, self, x, t, cond)

    unet.misconception(label, hint)(Wrong)


wrong(
    "first",
    "first in, first out",
    "The kept maps are used in the order in which they were made. The *latest* comes first: skips.pop(), without a 0.",
)
wrong("no pop", "the same map again and again", "skips[-1] stays in the list. skips.pop() takes it out.")
wrong("no stem", "stem not kept", "The stem's map is not kept: begin with skips = [h], after the stem.")
wrong(
    "stages only",
    "Downsample not kept",
    "The maps that the Downsamples make are not kept. All maps on the way down are.",
)
wrong("early", "kept too early", "Maps are kept *before* each layer, so the last is missing: append after the layer.")
wrong("middle kept", "the middle kept", "The middle's map is kept, too. Only the maps made on the way down are.")
wrong("pops always", "Upsample uses one", "An Upsample takes a kept map away. Only the Stages on the way up use them.")
wrong("no middle", "the middle left out", "self.middle is never called: it stands between the way down and the way up.")
wrong("skip first", "kept map first", "The two maps are joined in the other order: h first, then the kept one.")
wrong("added", "added instead of joined", "The kept map is added to h. Concatenate along the channels: torch.cat.")
wrong("itself", "joined with itself", "Each Stage on the way up gets h twice. The second map is the kept one.")
wrong(
    "batch",
    "joined along the batch",
    "The two maps are joined along the batch, the default of torch.cat. Channels are dim=1.",
)
wrong("no norm", "norm left out", "self.norm is left out: the last lines are norm, then head.")
wrong("no head", "head left out", "self.head is left out: it turns the last feature map into a picture.")
wrong("nothing", "no return", "The method returns nothing: is a `return` missing?")
wrong(
    "own embedding",
    "arguments not checked",
    "The output is right, but a picture of the wrong size is taken. self.embedding(x, t, cond) checks it.",
)
wrong("no cond", "cond forgotten", "The condition does not reach the Stages: layer(h, emb, cond).")
