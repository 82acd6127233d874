"""Chapter 08 written in other ways: loops, matrices, recursion, rebuilt layers, interpolation."""

import copy
import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from minivdm.course.exercise import edited
from minivdm.datasets.hints import sobel
from minivdm.models.controlnet import require_hint
from minivdm.models.unet3d import UNet3D
from tests.checks.collected import alternative, with_method


@alternative("hints.edges")
def edges_by_rolling(images, threshold=0.1):
    right, down = sobel(images)
    length = (right**2 + down**2).sqrt()
    m = length.amax(1, keepdim=True)
    first = length.argmax(1, keepdim=True)
    flat = right.abs() >= down.abs()
    across = torch.take_along_dim(flat, first, 1)
    ring = torch.zeros(len(m), 1, m.shape[2] + 2, m.shape[3] + 2, dtype=m.dtype, device=m.device)
    ring[:, :, 1:-1, 1:-1] = m
    neighbours = {(i, j): ring.roll((i, j), (2, 3))[:, :, 1:-1, 1:-1] for i, j in ((0, 1), (0, -1), (1, 0), (-1, 0))}
    thin = torch.where(
        across,
        (m > neighbours[0, 1]) & (m >= neighbours[0, -1]),
        (m > neighbours[1, 0]) & (m >= neighbours[-1, 0]),
    )
    return (thin * (m >= threshold)).to(images.dtype)


# the other one of two equal neighbours
alternative("hints.edges")(edited("hints.edges", {"(m > before) & (m >= after)": "(m >= before) & (m > after)"}))


@alternative("controlnet.zero_conv_gradients")
def gradients_as_matrices(x, weight, upstream):
    rows, g = x.movedim(1, -1).flatten(0, -2), upstream.movedim(1, -1).flatten(0, -2)  # (N, C), (N, D)
    by_input = (g @ weight).unflatten(0, (len(x), *x.shape[2:])).movedim(-1, 1)
    return g.T @ rows, g.sum(0), by_input


@alternative("controlnet.zero_conv_gradients")
def gradients_by_convolution(x, weight, upstream):
    by_weight = sum(torch.outer(g, v) for g, v in zip(places(upstream), places(x)))
    return by_weight, sum(places(upstream)), F.conv2d(upstream, weight.T[:, :, None, None])


def places(maps):
    """The vectors of all places of all samples, one after the other."""
    return [maps[i, :, j, k] for i, j, k in itertools.product(*map(range, (len(maps), *maps.shape[2:])))]


@alternative("controlnet.trainable_copy")
def copy_part_by_part(base):
    made = copy.deepcopy(base)
    for owner in (made, made.image) if isinstance(made, UNet3D) else (made,):
        for part in ("up", "norm", "head"):
            if hasattr(owner, part):
                delattr(owner, part)
    for parameter in made.parameters():
        parameter.requires_grad = True
    return made


alternative("controlnet.trainable_copy")(
    edited(
        "controlnet.trainable_copy",
        {"copy.deepcopy(base).requires_grad_(True)": "copy.deepcopy(base).requires_grad_()"},
    )
)


@with_method("controlnet.ControlNet", "forward")
def control_on_the_way(self, x, t, cond, hint):
    """Each zero convolution right where its map is made."""
    require_hint(hint, x, self.hint_channels)
    net, exits = self.encoder, iter(self.skips)
    emb, h = net.embedding(x, t, cond), self.hint(hint) + net.stem(x)
    out = [next(exits)(h)]
    for layer in net.down:
        h = layer(h, emb, cond) if hasattr(layer, "block") else layer(h)
        out.append(next(exits)(h))
    return out, self.middle(net.middle(h, emb, cond))


@with_method("controlnet.ControlNet", "forward")
def control_by_accumulation(self, x, t, cond, hint):
    if hint.shape != (x.shape[0], self.hint_channels, *x.shape[2:]) or hint.dtype != x.dtype:
        raise ValueError(f"a hint that fits {tuple(x.shape)}, please, not {tuple(hint.shape)}")
    emb = self.encoder.embedding(x, t, cond)

    def through(h, layer):
        return layer(h, emb, cond) if hasattr(layer, "attention") else layer(h)

    maps = list(itertools.accumulate(self.encoder.down, through, initial=self.encoder.stem(x) + self.hint(hint)))
    return [self.skips[i](maps[i]) for i in range(len(maps))], self.middle(through(maps[-1], self.encoder.middle))


@alternative("controlnet.HintEncoder")
class ZeroedByHand(nn.Module):
    def __init__(self, hint_channels, channels, patch=1, width=16):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(hint_channels, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 2 * patch - 1, stride=patch, padding=patch - 1),
            nn.SiLU(),
        )
        self.out = nn.Conv2d(2 * width, channels, 3, padding=1)
        with torch.no_grad():
            self.out.weight.zero_()
            self.out.bias.zero_()

    def forward(self, hint):
        return self.out(self.layers(hint))


@alternative("controlnet.HintEncoder")
class TheFirstOfTwoIsRandom(nn.Module):
    def __init__(self, hint_channels, channels, patch=1, width=16):
        super().__init__()
        self.shrink = nn.Sequential(nn.PixelUnshuffle(patch), nn.Conv2d(hint_channels * patch**2, width, 3, padding=1))
        self.out = nn.Sequential(nn.Conv2d(width, channels, 1), nn.Conv2d(channels, channels, 1))
        nn.init.zeros_(self.out[1].weight), nn.init.zeros_(self.out[1].bias)

    def forward(self, hint):
        return self.out(F.silu(self.shrink(hint)))


@alternative("soundness.control_faults")
def faults_by_gradients(net, x, t, cond, hint):
    """The hint gets in if, with open exits and a hint's encoder that has made one step, its gradient is not zero."""
    faults, control = [], net.controls[0]
    if any(parameter.requires_grad for parameter in net.base.parameters()):
        faults.append("base")
    theirs = dict(net.base.named_parameters())
    if any(p is theirs[name] or (p != theirs[name]).any() for name, p in control.encoder.named_parameters()):
        faults.append("copy")
    if (net(x, t, cond, [hint]) != net.base(x, t, cond)).any():
        faults.append("start")
    opened = copy.deepcopy(control)
    with torch.no_grad():
        for parameter in (*opened.skips.parameters(), *opened.middle.parameters()):
            parameter += 0.1 * torch.randn(parameter.shape)
    weights = [parameter for name, parameter in opened.hint.named_parameters()]
    for _ in range(2):
        skips, middle = opened(x, t, cond, hint)
        total = sum((each * torch.randn_like(each)).sum() for each in (*skips, middle))
        grads = torch.autograd.grad(total, weights, allow_unused=True)
        with torch.no_grad():
            for weight, grad in zip(weights, grads):
                weight -= 1e-3 * grad if grad is not None else 0
    given = hint.clone().requires_grad_()
    skips, middle = opened(x, t, cond, given)
    (slope,) = torch.autograd.grad(sum(each.square().sum() for each in (*skips, middle)), given, allow_unused=True)
    if slope is None or not slope.any():
        faults.append("hint")
    return set(faults)


alternative("soundness.control_faults")(
    edited(
        "soundness.control_faults",
        {"torch.optim.Adam(": "torch.optim.SGD(", "lr=1e-2": "lr=0.5", "range(4)": "range(8)"},
    )
)


@alternative("hints.paths")
def path_by_interpolation(points, frames):
    corners = np.array(list(points), dtype=float)
    if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all() or frames < 2:
        raise ValueError("pairs of finite numbers, please")
    s = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    keep = np.concatenate([[True], np.diff(s) > 0])
    walked = np.linspace(0, s[-1], frames)
    return torch.tensor(np.stack([np.interp(walked, s[keep], c[keep]) for c in corners.T], axis=1), dtype=torch.float32)


@alternative("hints.paths")
def path_step_by_step(points, frames):
    rows = [[float(value) for value in point] for point in points]
    flat = torch.tensor(rows, dtype=torch.float64)
    if not rows or frames < 2 or any(len(row) != 2 for row in rows) or not flat.isfinite().all():
        raise ValueError("pairs of finite numbers, please")
    whole, places = sum(float((b - a).norm()) for a, b in itertools.pairwise(flat)), []
    for frame in range(frames):
        left, place = whole * frame / (frames - 1), flat[0]
        for a, b in itertools.pairwise(flat):
            length = float((b - a).norm())
            if length:
                place = a + min(left / length, 1.0) * (b - a)
                if left <= length:
                    break
                left -= length
        places.append(place)
    return torch.stack(places).float()
