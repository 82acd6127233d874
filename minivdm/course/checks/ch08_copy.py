"""Exercise 8.3: the trainable copy."""

import copy

import torch

from minivdm.course.exercise import equal, exercise, holds
from minivdm.models.unet3d import UNet3D

from .ch04_common import fresh
from .ch10_unet3d import picture_net


def names_that_differ(got, want):
    """The first of the weights that are too many, and of those that are missing, in words; "" if none is."""
    said = []
    for what, names in (("too many", sorted(got - want)), ("missing", sorted(want - got))):
        parts = dict.fromkeys(".".join(name.split(".")[: 2 if name.startswith("image.") else 1]) for name in names)
        said += [f"{what}: those of {', '.join(f'`{part}`' for part in parts)}"] if names else []
    return "; ".join(said)


@exercise("controlnet.trainable_copy")
def trainable_copy(f, draw):
    image = fresh(picture_net(context_dim=6), draw)
    for kind, base in {"UNet": image, "UNet3D": fresh(UNet3D(copy.deepcopy(image), ()), draw)}.items():
        base.requires_grad_(False)
        before, encoder = copy.deepcopy(base.state_dict()), f(base)
        weights = encoder.state_dict()
        kept = [name for name in before if name.removeprefix("image.").split(".")[0] not in ("up", "norm", "head")]
        differs = names_that_differ(set(weights), set(kept))
        yield holds(f"{kind}: which weights it has", not differs, differs, usable=set(weights) >= set(kept))
        other = [name for name in kept if not torch.equal(weights[name], before[name])]
        yield holds(f"{kind}: it starts with the base's weights", not other, f"another one is {other[:1]}")
        same = [name for name in kept if weights[name].data_ptr() == base.state_dict()[name].data_ptr()]
        yield holds(f"{kind}: it shares no weight with the base", not same, f"{same[:1]} is the base's own")
        asks = all(parameter.requires_grad for parameter in encoder.parameters())
        yield holds(f"{kind}: all its weights can learn", asks, "some do not ask for a gradient")
        left = not any(parameter.requires_grad for parameter in base.parameters())
        yield holds(f"{kind}: a locked base stays locked", left, "its weights ask for gradients now")
        now = base.state_dict()
        whole = list(now) == list(before) and all(torch.equal(now[name], before[name]) for name in before)
        yield holds(f"{kind}: the base is whole, and as it was", whole, "it has lost or changed a part")
        for mode in (True, False):
            yield equal(f"{kind}: its mode, if training is {mode} in the base", f(base.train(mode)).training, mode)


NO_TENSOR = "it returns a network"


@trainable_copy.promises(
    samples=NO_TENSOR, dtype=NO_TENSOR, layout=NO_TENSOR, device=NO_TENSOR, gradients="they are looked at above"
)
def ordinary(f, draw):
    return f, dict(base=picture_net())


trainable_copy.edit(
    "a second name for the base",
    {"copy.deepcopy(base)": "base"},
    "This is no copy: the base itself lost its way up, and would be trained. Copy it first, with copy.deepcopy: "
    "copy.copy copies the box and not what is in it.",
)
trainable_copy.edit(
    "still locked",
    {".requires_grad_(True)": ""},
    "The copy of a locked base is locked, too: its weights must ask for gradients, requires_grad_(True).",
)
trainable_copy.edit(
    "the way up is still there",
    {"del image.up, image.norm, image.head": "pass", "        del encoder.up\n": "        pass\n"},
    "The copy has a way up, which is never used: about half of its weights would be trained and saved for nothing.",
)
trainable_copy.edit(
    "the layers along time forgotten",
    {"        del encoder.up\n": "        pass\n"},
    "A UNet3D has two ways up: that of `image`, and the layers along time of its own `up`. Both must go.",
)


trainable_copy.edit(
    "image forgotten",
    {
        "image = encoder if isinstance(encoder, UNet) else encoder.image": "image = encoder",
    },
    "A UNet3D has no `norm` and no `head` of its own: they are in its `image`, which is a whole UNet, with a way up.",
)
trainable_copy.edit(
    "image forgotten, whatever is there",
    {
        "del image.up, image.norm, image.head": "for part in ('up', 'norm', 'head'):\n"
        "        if hasattr(encoder, part):\n            delattr(encoder, part)",
        "        del encoder.up\n": "        pass\n",
    },
    "A UNet3D holds a whole UNet, its `image`: take `up`, `norm` and `head` away there, and its own `up` besides.",
)


@trainable_copy.misconception(
    "new weights",
    "Its weights are new ones. The copy starts with those of the base: what it knows is what makes it learn fast.",
)
def with_new_weights(base):
    encoder = copy.deepcopy(base).requires_grad_(True)
    image = getattr(encoder, "image", encoder)
    for layer in encoder.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    del image.up, image.norm, image.head
    if image is not encoder:
        del encoder.up
    return encoder
