"""Exercise 11.5: more input channels for a trained network."""

import copy

import torch

from minivdm.course.exercise import close, equal, exercise, holds

from .ch04_common import fresh
from .ch10_unet3d import picture_net


@exercise("conditioning.widen_stem", in_place=True)
def widen_stem(f, draw):
    for patch, extra in ((2, 4), (1, 1), (3, 2)):
        net = fresh(picture_net(context_dim=6, patch=patch), draw)
        trained = copy.deepcopy(net)
        batch = draw.normal(2, 2, 6 * patch, 4 * patch), draw.integers(1, 900, 2), draw.normal(2, 3, 6)
        x, level, cond = batch
        before = net(*batch)
        wide = f(net, extra)
        name = f"patch {patch}, {extra} more"
        yield holds(f"{name}: it returns the same network", wide is net, "another object came back")
        if wide is not net:
            return
        for size in (1, 100):
            beside = size * draw.normal(2, extra, 6 * patch, 4 * patch)
            after = net(torch.cat([x, beside], dim=1), level, cond)
            what = f"{name}: the answer is as before, with numbers of size {size} in the new channels"
            yield close(what, after, before, atol=1e-4, rtol=1e-3)
        conv = net.stem[1]
        old = trained.stem[1].weight
        yield close(f"{name}: the old weights lead", conv.weight[:, : old.shape[1]], old)
        yield close(f"{name}: the bias is the old one", conv.bias, trained.stem[1].bias)
        yield equal(f"{name}: input channels of the convolution", conv.in_channels, old.shape[1] + extra * patch**2)
        learns = all(parameter.requires_grad for parameter in conv.parameters())
        yield holds(f"{name}: the new weights can learn", learns, "they ask for no gradient")
        if not learns:
            return
        (after - after.detach() - draw.normal(*after.shape)).square().sum().backward()
        new = conv.weight.grad[:, old.shape[1] :]
        moves = new.numel() > 0 and (new != 0).any(dim=0).flatten(1).any(dim=1).all()
        yield holds(f"{name}: each new channel gets a gradient", moves, "some get none")
        others = {key: value for key, value in net.state_dict().items() if not key.startswith("stem")}
        kept = all(torch.equal(value, trained.state_dict()[key]) for key, value in others.items())
        yield holds(f"{name}: all other weights are as they were", kept, "one of them has changed")
    net = fresh(picture_net(context_dim=6), draw)
    before = net(*(batch := (draw.normal(2, 2, 6, 4), draw.integers(1, 900, 2), draw.normal(2, 3, 6))))
    yield close("0 more channels change nothing", f(net, 0)(*batch), before, atol=1e-4)
    half = f(fresh(picture_net(context_dim=6), draw).double(), 3)
    yield equal("a float64 network stays one", half.stem[1].weight.dtype, torch.float64)


NETWORK = "it changes a network"


@widen_stem.promises(samples=NETWORK, dtype=NETWORK, layout=NETWORK, device=NETWORK, gradients=NETWORK)
def ordinary(f, draw):
    return f, dict(net=picture_net(context_dim=6), extra=2)


OLD = "wider.weight.copy_(torch.cat([conv.weight, more], dim=1))"
widen_stem.edit(
    "new weights by chance",
    {OLD: "wider.weight[:, : conv.in_channels].copy_(conv.weight)"},
    "The weights of the new channels are random, as PyTorch makes them: whatever stands there disturbs the trained "
    "network. They must start at 0.",
)
widen_stem.edit(
    "all weights new",
    {OLD: "wider.weight.zero_()"},
    "The old weights are gone, too. Those of the first channels stay as they were.",
)
widen_stem.edit(
    "new channels in front",
    {OLD: "wider.weight.copy_(torch.cat([more, conv.weight], dim=1))"},
    "The zeros stand in front, so the old weights read the new channels. The new ones are behind.",
)
widen_stem.edit(
    "scaled by the fan-in",
    {OLD: "wider.weight.copy_(torch.cat([conv.weight * (wider.in_channels / conv.in_channels) ** -0.5, more], dim=1))"},
    "The old weights are scaled for the larger number of inputs. That is for new weights; trained ones stay.",
)
widen_stem.edit(
    "the bias forgotten",
    {"    wider.bias.copy_(conv.bias)\n": ""},
    "The bias is a new, random one. It belongs to what was learnt: copy it.",
)
widen_stem.edit(
    "the patch forgotten",
    {"extra * unshuffle.downscale_factor**2": "extra"},
    "`PixelUnshuffle` makes patch^2 channels of each one: the convolution gets extra * patch^2 more.",
)
widen_stem.edit(
    "in float32",
    {"    wider.to(conv.weight)  # device and dtype\n": ""},
    "The new convolution is float32 on the CPU. It must be where the old one is, and of its dtype: `.to(conv.weight)`.",
)
