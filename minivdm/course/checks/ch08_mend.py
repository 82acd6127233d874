"""Exercise 8.5: a zero behind a zero."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds

from .ch04_common import fresh


@exercise("controlnet.HintEncoder")
def hint_encoder(f, draw):
    for patch in (1, 2, 3):
        encoder = f(2, 8, patch)
        hint = draw.uniform(3, 2, 6 * patch, 4 * patch)
        out = encoder(hint)
        yield equal(f"patch = {patch}: the shape of the map", tuple(out.shape), (3, 8, 6, 4))
        yield holds(f"patch = {patch}: at first there is nothing in it", not out.any(), "a new encoder's map is not 0")
    locked = [name for name, parameter in encoder.named_parameters() if not parameter.requires_grad]
    yield holds("all its weights can learn", not locked, "one of them asks for no gradient")
    target = draw.normal(*out.shape)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1)
    start = [parameter.detach().clone() for parameter in encoder.parameters()]
    for _ in range(3):
        optimizer.zero_grad()
        (encoder(hint) - target).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        told = (encoder(hint) - encoder(torch.zeros_like(hint))).abs().max().item()
    yield holds(
        "after three steps of training the map depends on the hint",
        told > 0,
        "it is the same for every hint. Look at which gradients are 0 in the first step, and in all others",
    )
    still = sum(torch.equal(before, now) for before, now in zip(start, encoder.parameters()))
    yield holds("after three steps all weights have moved", still == 0, f"{still} of {len(start)} have never moved")
    one = fresh(f(1, 8, 1), draw)
    far = draw.uniform(1, 1, 9, 9)
    near = far.clone()
    near[..., 8, 8] += 1
    difference = (one(near) - one(far)).abs().amax(dim=(0, 1))
    yield holds(
        "what is far away from a change stays",
        not difference[:3, :3].any(),
        "the map at (0, 0) depends on pixel (8, 8)",
    )
    yield holds("what is there changes", difference[8, 8] > 0, "the map at (8, 8) does not depend on pixel (8, 8)")
    yield close("at any scale of the weights it is finite", one(near).isfinite().all(), torch.tensor(True))


@hint_encoder.promises("samples", "dtype", "layout", "device", "gradients")
def ordinary(f, draw):
    return fresh(f(2, 8, 2), draw), dict(hint=draw.uniform(3, 2, 6, 8))


hint_encoder.edit(
    "a zero behind a zero",
    {
        "self.out = zero_module(nn.Conv2d(2 * width, channels, 3, padding=1))": "self.out = nn.Sequential(\n"
        "            zero_module(nn.Conv2d(2 * width, channels, 3, padding=1)), zero_conv(channels)\n        )"
    },
    "Two layers in a row are zero. The gradient of the second's weight is a product with what comes in, which is 0; "
    "that of the first goes through the second's weight, which is 0. Neither weight ever moves. The second's bias "
    "does, and knows nothing of the hint. One of the two must go.",
)
hint_encoder.edit(
    "no zero at all",
    {"zero_module(nn.Conv2d(2 * width, channels, 3, padding=1))": "nn.Conv2d(2 * width, channels, 3, padding=1)"},
    "Now no layer is zero: a new encoder sends noise into the copy. The last layer must start at zero, just not two.",
)
hint_encoder.edit(
    "the last layer is locked",
    {
        "self.out = zero_module(nn.Conv2d(2 * width, channels, 3, padding=1))": "self.out = zero_module("
        "nn.Conv2d(2 * width, channels, 3, padding=1)).requires_grad_(False)"
    },
    "The last layer is zero and does not ask for a gradient: it stays zero for ever.",
)
