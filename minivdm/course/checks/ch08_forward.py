"""Exercise 8.4: the ControlNet's way."""

import torch

from minivdm.course.exercise import close, equal, exercise, raises
from minivdm.models.unet import Stage

from .ch04_common import fresh
from .ch10_unet3d import picture_net


def expected(net, x, t, cond, hint):
    """What is added to the maps, one after the other, each worked out from the hint on; and to the middle."""
    emb = net.encoder.embedding(x, t, cond)
    maps = [net.encoder.stem(x) + net.hint(hint)]
    for layer in net.encoder.down:
        maps.append(layer(maps[-1], emb, cond) if isinstance(layer, Stage) else layer(maps[-1]))
    deep = net.encoder.middle(maps[-1], emb, cond)
    return [net.skips[i](each) for i, each in enumerate(maps)], net.middle(deep)


@exercise("controlnet.ControlNet")
def control_net(f, draw):
    like = dict(atol=1e-3, rtol=1e-3, dtype=torch.float32)
    for name, settings, channels in (
        ("one resolution, one channel", dict(channels=32, mults=(1,)), 1),
        ("two resolutions, 2 x 2 pixels as one, with a condition", dict(context_dim=6, patch=2), 2),
        ("three resolutions", dict(mults=(1, 2, 4), blocks=2), 3),
    ):
        base = picture_net(**settings)
        net = fresh(f(base, channels), draw)
        x, t, hint = draw.normal(2, 2, 8, 12), draw.integers(1, 900, 2), draw.uniform(2, channels, 8, 12)
        cond = draw.normal(2, 3, 6) if base.context_dim else None
        (skips, middle), (want, deep) = net(x, t, cond, hint), expected(net, x, t, cond, hint)
        yield equal(f"{name}: how many maps", len(skips), len(want))
        for i, (got, each) in enumerate(zip(skips, want)):
            yield close(f"{name}: what is added to map {i}", got, each, **like)
        yield close(f"{name}: what is added to the middle", middle, deep, **like)
    new = f(base, 1)
    skips, middle = new(x, t, None, hint[:, :1])
    biggest = max(each.abs().max().item() for each in (*skips, middle))
    yield equal("a new one adds nothing: the largest number", biggest, 0.0)
    yield raises(
        "a hint of another size (`require_hint` raises the error)", ValueError, lambda: new(x, t, None, hint[:, :1, :4])
    )
    yield raises(
        "a hint of too many channels (`require_hint` raises the error)", ValueError, lambda: new(x, t, None, hint)
    )


@control_net.promises("samples", "dtype", "layout", "device", "gradients")
def small_net(f, draw):
    net = fresh(f(picture_net(context_dim=6), 1), draw)
    inputs = dict(x=draw.normal(3, 2, 8, 4), t=torch.tensor([1, 40, 900]), cond=draw.normal(3, 5, 6))
    return net, dict(**inputs, hint=draw.uniform(3, 1, 8, 4))


control_net.edit(
    "the hint is forgotten",
    {"self.encoder.stem(x) + self.hint(hint)": "self.encoder.stem(x)"},
    "The hint is never looked at: the map of the stem and that of the hint's encoder are added up.",
)
control_net.edit(
    "a hint that does not fit",
    {"require_hint(hint, x, self.hint_channels)": "pass"},
    "A hint that does not fit the picture goes in unnoticed, or stops somewhere inside with a message that nobody "
    "understands. Call require_hint(hint, x, self.hint_channels) first.",
)
control_net.edit(
    "the hint in the place of the picture",
    {"self.encoder.stem(x) + self.hint(hint)": "self.hint(hint)"},
    "The copy sees the hint alone. It was trained on noisy pictures: give it the stem's map, *plus* the hint's.",
)
control_net.edit(
    "the hint only behind the stem's map",
    {"kept = [h]": "kept = [self.encoder.stem(x)]"},
    "The first map that you keep has no hint in it. Add the hint first, then keep the map.",
)
control_net.edit(
    "the stem's map forgotten",
    {"kept = [h]": "kept = []", "strict=True": "strict=False"},
    "The stem's map is missing: the base keeps it, too, as the first one.",
)
control_net.edit(
    "the hint at each layer",
    {
        "            kept.append(h)": "            h = h + (self.hint(hint) if h.shape == kept[0].shape else 0)\n"
        "            kept.append(h)"
    },
    "The hint is added again and again. Once is enough: the layers carry it on.",
)
control_net.edit(
    "no middle",
    {"h = self.encoder.middle(h, emb, cond)": "pass"},
    "The copy's middle is never called: what is added to the base's middle comes from behind the copy's.",
)
control_net.edit(
    "no zero convolution in the middle",
    {", self.middle(h)": ", h"},
    "The middle's map goes out as it is. It needs its zero convolution, self.middle: a new ControlNet adds nothing.",
)
control_net.edit(
    "no zero convolutions",
    {"[zero(each) for zero, each in zip(self.skips, kept, strict=True)]": "kept"},
    "The kept maps go out as they are. Each goes through its own zero convolution: a new ControlNet adds nothing.",
)
control_net.edit(
    "the deepest first",
    {"zip(self.skips, kept, strict=True)]": "zip(self.skips, kept, strict=True)][::-1]"},
    "The list begins with the deepest map. Whoever adds them expects the order in which the base keeps its maps.",
)
control_net.edit(
    "the level forgotten",
    {"layer(h, emb, cond) if": "layer(h, emb * 0, cond) if"},
    "The stages on the way down are not told the level: each is called as layer(h, emb, cond).",
)
