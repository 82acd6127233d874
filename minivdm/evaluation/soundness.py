"""Is a new ControlNet built as it must be? Four things go wrong for people, and the loss shows none of them."""

import copy

import torch
from torch import Tensor
from torch.nn import functional as F

from ..models.controlnet import ControlledUNet

FAULTS = "base", "copy", "start", "hint"


def control_faults(
    net: "ControlledUNet",
    x: Tensor,
    t: Tensor,
    cond: Tensor | None,
    hint: Tensor,
) -> set[str]:
    """What is wrong with a `ControlledUNet` whose one ControlNet is new: a set of names.

        "base"   a parameter of the base asks for a gradient, so training would change it
        "copy"   a weight of the ControlNet's encoder is not that of the base, or is the base's
                 own: the same memory, so that training would change the base
        "start"  at strength 1 its output is not the base's, bit for bit
        "hint"   the hint never gets in: however long it is trained, the output is the same for
                 any two hints

    The net stays as it is, and so do its gradients.

    Args:
        net: a `ControlledUNet` with its `base` and one `controls[0]`, which was never trained.
        x, t, cond, hint: a batch for it. Its outputs are differentiable.

    Returns:
        The names of all faults that it has; an empty set if it has none.
    """
    found, base = set(), net.base
    encoder, weights = net.controls[0].encoder.state_dict(), base.state_dict()
    if any(parameter.requires_grad for parameter in base.parameters()):
        found.add("base")
    for name, value in encoder.items():
        if not torch.equal(value, weights[name]) or value.data_ptr() == weights[name].data_ptr():
            found.add("copy")
    with torch.no_grad():
        if not torch.equal(net(x, t, cond, [hint]), base(x, t, cond)):
            found.add("start")
    trained = copy.deepcopy(net)
    target = x.roll(1, dims=-1)  # anything but what it says already
    optimizer = torch.optim.Adam(trained.controls.parameters(), lr=1e-2)
    for _ in range(4):  # the zeros at the exits move first, then the one behind the hint
        optimizer.zero_grad()
        F.mse_loss(trained(x, t, cond, [hint]), target).backward()
        optimizer.step()
    with torch.no_grad():
        outputs = [trained(x, t, cond, [each]) for each in (hint, torch.zeros_like(hint))]
    if torch.equal(*outputs):
        found.add("hint")
    return found
