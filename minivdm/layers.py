r"""The parts of a denoiser: where the level enters, how features are mixed, how the resolution changes.

Feature maps are (B, C, H, W). The level t enters every block through an embedding of sines and cosines (Vaswani et al.,
"Attention Is All You Need", NeurIPS 2017, section 3.5; used for t by Ho et al., NeurIPS 2020, appendix B).
"""

import math

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F


def timestep_embedding(t, dim, max_period=10_000):
    r"""Sines and cosines of the level at `dim / 2` frequencies (Vaswani et al., 2017, section 3.5).

        w_k = max_period^( -k / (dim/2) ),  k = 0..dim/2 - 1,        emb = [ cos(t w_0), .., sin(t w_0), .. ]

    Args:
        t: (B,) levels, long or float.
        dim: size of the embedding, even.
        max_period: bound on the period of the slowest wave, in levels / (2 pi).

    Returns:
        (B, dim) float32 tensor.
    """
    half = dim // 2
    w = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device) / half)  # (dim/2,)
    angle = t.float()[:, None] * w  # (B, dim/2)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)  # (B, dim)


def zero_module(module):
    """Set all parameters of `module` to zero and return it: a block that ends in one starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def norm(channels):
    """GroupNorm with groups of 8 channels (Wu and He, ECCV 2018): statistics of one sample, never of the batch."""
    return nn.GroupNorm(max(channels // 8, 1), channels)


class ResBlock(nn.Module):
    r"""Residual block that is told the level (He et al., CVPR 2016; scale and shift as in Dhariwal and Nichol, 2021).

        h = conv(silu(norm(x)));     scale, shift = linear(silu(emb));     h = norm(h) (1 + scale) + shift
        out = skip(x) + conv(dropout(silu(h)))                             the last convolution starts at zero

    Args:
        in_channels, out_channels: channels of input and output; `skip` is the identity where they agree.
        emb_dim: size of the level's embedding.
        dropout: probability of dropping a feature in training.

    `forward(x, emb)` takes (B, in_channels, H, W) and (B, emb_dim), and returns (B, out_channels, H, W).
    """

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

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out, H, W)
        scale, shift = self.emb(F.silu(emb))[:, :, None, None].chunk(2, dim=1)  # 2 x (B, out, 1, 1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.skip(x) + self.conv2(self.dropout(F.silu(h)))  # (B, out, H, W)


class SelfAttention(nn.Module):
    r"""Every position looks at every other position (Vaswani et al., 2017, eq. 1), added to the input.

        out = x + W_o softmax( Q K^T / sqrt(d) ) V,        Q, K, V = linear maps of norm(x);  W_o starts at zero

    Args:
        channels: channels of input and output.
        head_dim: size d of one head; there are `channels / head_dim` heads.

    `forward(x)` takes and returns (B, channels, H, W).
    """

    def __init__(self, channels, head_dim=32):
        super().__init__()
        if channels % head_dim:
            raise ValueError(f"channels must be a multiple of head_dim = {head_dim}, got {channels}")
        self.heads = channels // head_dim
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_module(nn.Conv2d(channels, channels, 1))

    def forward(self, x):
        height = x.shape[2]
        qkv = self.qkv(self.norm(x))  # (B, 3C, H, W)
        q, k, v = rearrange(qkv, "b (three n d) h w -> three b n (h w) d", three=3, n=self.heads)
        h = F.scaled_dot_product_attention(q, k, v)  # (B, heads, H W, d)
        return x + self.out(rearrange(h, "b n (h w) d -> b (n d) h w", h=height))  # (B, C, H, W)


class CrossAttention(nn.Module):
    r"""Every place of an image looks at the words (Rombach et al., CVPR 2022, section 3.3), added to the input.

        out = x + W_o softmax( Q K^T / sqrt(d) ) V,   Q = linear map of norm(x), K, V = of the context; W_o = 0 at first

    Args:
        channels: channels of input and output.
        context_dim: size D of the context's vectors.
        head_dim: size d of one head.

    `forward(x, context)` takes (B, channels, H, W) and (B, L, context_dim), and returns a tensor like x.
    """

    def __init__(self, channels, context_dim, head_dim=32):
        super().__init__()
        if channels % head_dim:
            raise ValueError(f"channels must be a multiple of head_dim = {head_dim}, got {channels}")
        self.heads = channels // head_dim
        self.norm = norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.kv = nn.Linear(context_dim, 2 * channels)
        self.out = zero_module(nn.Conv2d(channels, channels, 1))

    def forward(self, x, context):
        height = x.shape[2]
        q = rearrange(self.q(self.norm(x)), "b (n d) h w -> b n (h w) d", n=self.heads)
        k, v = rearrange(self.kv(context), "b l (two n d) -> two b n l d", two=2, n=self.heads)
        h = F.scaled_dot_product_attention(q, k, v)  # (B, heads, H W, d)
        return x + self.out(rearrange(h, "b n (h w) d -> b (n d) h w", h=height))  # (B, C, H, W)


class Downsample(nn.Module):
    """Halve height and width by a convolution of stride 2: (B, C, H, W) -> (B, C, H/2, W/2)."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x):
        return self.conv(x)


class Upsample(nn.Module):
    """Double height and width by repeating pixels, then smooth by a convolution: (B, C, H, W) -> (B, C, 2H, 2W)."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
