"""Exercise 8.6: a test that tells a right ControlNet from broken ones."""

import copy

import torch
from torch import nn

from minivdm.course.exercise import equal, exercise, holds
from minivdm.models.controlnet import ControlledUNet, ControlNet, zero_conv

from .ch04_common import fresh
from .ch10_unet3d import picture_net


def a_net(draw, hint_channels=1):
    """A right one, and a batch for it."""
    base = fresh(picture_net(context_dim=6, patch=2), draw)
    batch = (
        draw.normal(3, 2, 8, 8),
        draw.integers(1, 900, 3),
        draw.normal(3, 4, 6),
        draw.uniform(3, hint_channels, 8, 8),
    )
    return ControlledUNet(base, ControlNet(base, hint_channels)), batch


def unlock_one(net, draw):
    list(net.base.parameters())[draw.integers(0, 5)].requires_grad_(True)


def other_weights(net, draw):
    fresh(net.controls[0].encoder, draw)


def one_other_weight(net, draw):
    with torch.no_grad():
        net.controls[0].encoder.down[0].block.conv1.weight[0, 0, 0, 0] += 0.01


def shared(net, draw):
    net.controls[0].encoder.down[0] = net.base.down[0]


def exit_open(net, draw):
    with torch.no_grad():
        net.controls[0].skips[draw.integers(0, 1)].weight[0, 0] = 0.01


def barely_open(net, draw):
    """The output differs by a few units in the last place."""
    with torch.no_grad():
        net.controls[0].middle.bias[:] = 1e-6


def middle_open(net, draw):
    with torch.no_grad():
        net.controls[0].middle.bias[0] = 0.01


def zero_behind_zero(net, draw):
    hint = net.controls[0].hint
    hint.out = nn.Sequential(hint.out, zero_conv(hint.out.out_channels))


def zero_before_zero(net, draw):
    for parameter in net.controls[0].hint.layers[4].parameters():
        nn.init.zeros_(parameter)


class Deaf(nn.Module):
    """A hint's encoder that looks at nothing."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, hint):
        return self.encoder(torch.zeros_like(hint))


def hint_lost(net, draw):
    net.controls[0].hint = Deaf(net.controls[0].hint)


BROKEN = {
    "a parameter of the base asks for a gradient": ("base", unlock_one),
    "the copy has other weights": ("copy", other_weights),
    "one weight of the copy is another": ("copy", one_other_weight),
    "a zero convolution has a weight that is not 0": ("start", exit_open),
    "the middle's zero convolution has a bias that is not 0": ("start", middle_open),
    "the middle's zero convolution has biases of a millionth": ("start", barely_open),
    "a zero convolution behind the hint's zero convolution": ("hint", zero_behind_zero),
    "the layer before the hint's zero convolution is zero, too": ("hint", zero_before_zero),
    "the hint is replaced by zeros": ("hint", hint_lost),
}


DEAF = (
    ". In a right one the hint gets in after a few steps of training: its zeros open one after the other. And the "
    "steps must be large enough for the output to change in float32: a larger learning rate, or more of them"
)


@exercise("soundness.control_faults")
def control_faults(f, draw):
    for channels in (1, 3):
        net, batch = a_net(draw, channels)
        kept = copy.deepcopy(net.state_dict())
        found = sorted(f(net, *batch))
        told = f"it is right, and you find {found}{DEAF if 'hint' in found else ''}"
        yield holds(f"a right one, {channels} channel{'s' * (channels > 1)} of hints", not found, told)
        same = all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
        yield holds("the net stays as it is", same, "its weights were changed: look at a copy of it")
        clean = all(parameter.grad is None for parameter in net.parameters())
        yield holds("its gradients stay as they are", clean, "it has gradients now: look at a copy of it")
    for what, (name, spoil) in BROKEN.items():
        net, batch = a_net(draw)
        spoil(net, draw)
        yield equal(what, sorted(f(net, *batch)), [name])
    net, batch = a_net(draw)
    shared(net, draw)
    found = f(net, *batch)
    yield holds("a layer of the copy is the base's own", "copy" in found, f"got {sorted(found)}, without 'copy'")
    net, batch = a_net(draw)
    unlock_one(net, draw), middle_open(net, draw), zero_behind_zero(net, draw)
    yield equal("three faults at once", sorted(f(net, *batch)), ["base", "hint", "start"])


SET = "it returns a set of names"


@control_faults.promises(samples=SET, dtype=SET, layout=SET, device=SET, gradients=SET)
def ordinary(f, draw):
    net, (x, t, cond, hint) = a_net(draw)
    return f, dict(net=net, x=x, t=t, cond=cond, hint=hint)


control_faults.edit(
    "nothing is ever wrong",
    {"    return found": "    return set()"},
    "Every net is right for this test. Break one by hand, and look whether you find it.",
)
control_faults.edit(
    "the base is not looked at",
    {'        found.add("base")': "        pass"},
    "An unlocked base goes unnoticed: does one of its parameters ask for a gradient?",
)
control_faults.edit(
    "names instead of weights",
    {"not torch.equal(value, weights[name])": "name not in weights"},
    "Other weights in the copy go unnoticed: compare each with the base's weight of the same name.",
)
control_faults.edit(
    "shared weights go unnoticed",
    {" or value.data_ptr() == weights[name].data_ptr()": ""},
    "A layer that is the base's own has equal weights, and training it changes the base. Compare where both lie.",
)
control_faults.edit(
    "a rough comparison at the start",
    {"torch.equal(net(": "torch.allclose(atol=10, input=net(", "), base(x, t, cond))": "), other=base(x, t, cond))"},
    "A small difference at the start goes unnoticed. At first it is the base, bit for bit: compare with torch.equal.",
)
control_faults.edit(
    "almost the base",
    {
        "torch.equal(net(": "torch.allclose(atol=1e-5, input=net(",
        "), base(x, t, cond))": "), other=base(x, t, cond))",
    },
    "A very small difference at the start goes unnoticed. Bit for bit means torch.equal, not torch.allclose.",
)
control_faults.edit(
    "the hint's gradient in the first step",
    {"range(4)": "range(1)"},
    "You find a right net deaf. Either you look too early: in the first step no gradient reaches the hint's encoder "
    "of a *right* net either, since the exits are still zero. Or your steps are too small: what they change is lost in "
    "float32. Train it for a few steps, and large ones.",
)
control_faults.edit(
    "does anything move?",
    {
        "trained(x, t, cond, [each]) for each in (hint, torch.zeros_like(hint))": "torch.cat([p.flatten() for p in "
        "each.controls[0].hint.parameters()]) for each in (net, trained)"
    },
    "A deaf net goes unnoticed. That something moves, or has a gradient, or that the output changes in training, does "
    "not tell: behind two zero layers the last *bias* still moves, since its gradient is g alone, and a deaf net "
    "learns from the picture. Ask whether the output differs between two *hints*.",
)
control_faults.edit(
    "the net itself is trained",
    {"trained = copy.deepcopy(net)": "trained = net"},
    "The test trains the net that it looks at. Train a copy: copy.deepcopy(net).",
)
