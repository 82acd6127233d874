"""Chapter 04 written in other ways: loops, einsum, explicit softmax, other layers of the library, recursion."""

import copy
import math

import torch
from einops import rearrange, repeat
from torch import nn
from torch.nn import functional as F

from minivdm.models.layers import norm, zero_module
from tests.checks.collected import alternative
from tests.helpers import rewritten


@alternative("layers.timestep_embedding")
def embedding_by_numbers(t, dim, max_period=10_000):
    if dim % 2 == 1:
        raise ValueError(f"an even dim, please, not {dim}")
    rows = []
    for level in t.tolist():
        angles = [level / max_period ** (2 * k / dim) for k in range(dim // 2)]
        rows.append([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    return torch.tensor(rows, dtype=torch.float32, device=t.device)


@alternative("layers.timestep_embedding")
def embedding_by_phase(t, dim, max_period=10_000):
    assert_even(dim)
    k = torch.linspace(0, 1, dim // 2 + 1, dtype=torch.float64, device=t.device)[:-1]
    angle = torch.outer(t.double(), max_period**-k)
    return torch.hstack([torch.sin(angle + math.pi / 2), torch.sin(angle)]).float()


@alternative("layers.timestep_embedding")
def embedding_of_complex_numbers(t, dim, max_period=10_000):
    assert_even(dim)
    w = max_period ** (-torch.arange(0, dim, 2).to(t.device) / dim)
    turn = torch.polar(torch.ones(1, device=t.device), torch.einsum("b,k->bk", t.to(torch.float32), w))
    return torch.view_as_real(turn).movedim(-1, 1).flatten(1)


def assert_even(dim):
    if dim & 1:
        raise ValueError("odd")


class ResBlockLayers(nn.Module):
    def __init__(self, in_channels, out_channels, emb_dim, dropout=0.0):
        super().__init__()
        self.norm1 = norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.emb = nn.Linear(emb_dim, 2 * out_channels)
        self.norm2 = norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_module(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)


@alternative("layers.ResBlock")
class ResBlockStepByStep(ResBlockLayers):
    def forward(self, x, emb):
        h = self.norm1(x)
        h = h * torch.sigmoid(h)
        h = self.conv1(h)
        both = self.emb(nn.SiLU()(emb))
        half = both.shape[-1] // 2
        scale, shift = both[:, :half], both[:, half:]
        h = self.norm2(h)
        h = torch.addcmul(shift[..., None, None], h, 1 + scale[..., None, None])
        h = self.dropout(F.silu(h, inplace=False))
        return self.conv2(h).add_(self.skip(x))


@alternative("layers.ResBlock")
class ResBlockSampleBySample(ResBlockLayers):
    def forward(self, x, emb):
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        rows = []
        for one, e in zip(h, self.emb(F.silu(emb))):
            scale, shift = e.reshape(2, -1)
            rows.append(torch.einsum("chw,c->chw", one, scale + 1.0) + shift.view(-1, 1, 1))
        h = F.dropout(F.silu(torch.stack(rows)), self.dropout.p, self.training)
        return self.conv2(h) + self.skip(x)


class AttentionLayers(nn.Module):
    def __init__(self, channels, head_dim=32):
        super().__init__()
        if channels % head_dim:
            raise ValueError("head_dim")
        self.heads = channels // head_dim
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_module(nn.Conv2d(channels, channels, 1))


@alternative("layers.SelfAttention")
class AttentionByEinsum(AttentionLayers):
    def forward(self, x):
        parts = rearrange(self.qkv(self.norm(x)), "b (three n d) h w -> three b n d h w", three=3, n=self.heads)
        q, k, v = parts
        scores = torch.einsum("bndij,bndkl->bnijkl", q, k) / math.sqrt(q.shape[2])
        weights = scores.flatten(-2).softmax(-1).unflatten(-1, x.shape[2:])
        found = torch.einsum("bnijkl,bndkl->bndij", weights, v).flatten(1, 2)
        return self.out(found) + x


@alternative("layers.SelfAttention")
class AttentionHeadByHead(AttentionLayers):
    def forward(self, x):
        b, c, h, w = x.shape
        d = c // self.heads
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, d, h * w)
        heads = []
        for i in range(self.heads):
            q, k, v = qkv[:, 0, i], qkv[:, 1, i], qkv[:, 2, i]  # (B, d, HW)
            scores = torch.bmm(q.transpose(1, 2) * d**-0.5, k)
            scores = scores - scores.amax(dim=2, keepdim=True)
            weights = scores.exp() / scores.exp().sum(dim=2, keepdim=True)
            heads.append(torch.bmm(weights, v.transpose(1, 2)).transpose(1, 2))
        return x + self.out(torch.cat(heads, dim=1).view(b, c, h, w))


@alternative("layers.Downsample")
class DownsampleSpelledOut(nn.Module):
    def __init__(self, channels):
        nn.Module.__init__(self)
        self.conv = nn.Conv2d(channels, channels, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), bias=True)

    def forward(self, x):
        out = self.conv(x)
        return out


@alternative("layers.Downsample")
class DownsampleByHand(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3)

    def forward(self, x):
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.conv.weight, self.conv.bias, stride=2)


@alternative("layers.Downsample")
class DownsampleEverySecond(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding="same")

    def forward(self, x):
        return self.conv(x)[:, :, ::2, ::2]


class UpsampleLayers(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)


@alternative("layers.Upsample")
class UpsampleByRepeating(UpsampleLayers):
    def forward(self, x):
        return self.conv(x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2))


@alternative("layers.Upsample")
class UpsampleByEinops(UpsampleLayers):
    def forward(self, x):
        return self.conv(repeat(x, "b c h w -> b c (h two) (w deux)", two=2, deux=2))


def with_method(name, method):
    """Register the class `name`, written anew, with a method of another making."""

    def add(function):
        made = rewritten(name)
        setattr(made, method, function)
        made.__name__ = function.__name__
        alternative(name)(made)
        return function

    return add


@with_method("unet.UNet", "forward")
def unet_by_recursion(self, x, t, cond=None):
    """Each Stage on the way down calls what lies below it, and hands its map to its partner afterwards."""
    emb = self.embedding(x, t, cond)
    up = list(self.up)

    def below(h, layers):
        if layers:
            made = layers[0](h, emb, cond) if hasattr(layers[0], "block") else layers[0](h)
            result = below(made, layers[1:])
        else:
            result = self.middle(h, emb, cond)
        if not hasattr(up[0], "block"):
            result = up.pop(0)(result)
        return up.pop(0)(torch.concat((result, h), dim=1), emb, cond)

    return self.head(self.norm(below(self.stem(x), list(self.down))))


@with_method("unet.UNet", "forward")
def unet_by_number(self, x, t, cond=None):
    emb, maps = self.embedding(x, t, cond), [self.stem(x)]
    for layer in self.down:
        maps.append(layer(maps[-1]) if "Downsample" in type(layer).__name__ else layer(maps[-1], emb, cond))
    used, h = len(maps), self.middle(maps[-1], emb=emb, cond=cond)
    for layer in self.up:
        if "Upsample" in type(layer).__name__:
            h = layer(h)
            continue
        used -= 1
        both = h.new_empty(len(h), h.shape[1] + maps[used].shape[1], *h.shape[2:])
        both[:, : h.shape[1]], both[:, h.shape[1] :] = h, maps[used]
        h = layer(both, emb, cond)
    return nn.Sequential(self.norm, self.head)(h)


@alternative("ema.EMA")
class EMAByStateDict:
    def __init__(self, model, decay=0.999):
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        n, self.updates = self.updates, self.updates + 1
        d = (1 + n) / (10 + n) if (1 + n) / (10 + n) < self.decay else self.decay
        weights = {name for name, _ in model.named_parameters()}
        mine = self.model.state_dict()
        for name, value in model.state_dict().items():
            mine[name].copy_(d * mine[name] + (1 - d) * value if name in weights else value)


@alternative("ema.EMA")
class EMAInPlace:
    def __init__(self, model, decay=0.999):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    def update(self, model):
        new = 1.0 - min(self.decay, (self.updates + 1) / (self.updates + 10))
        for average, weights in zip(self.model.parameters(), model.parameters()):
            average.mul_(1 - new).add_(weights.detach(), alpha=new)
        for average, buffer in zip(self.model.buffers(), model.buffers()):
            average.data = buffer.detach().clone()
        self.updates += 1
