r"""The parts of a denoiser: where the level enters, how features are mixed, how the resolution changes.

Feature maps are (B, C, H, W). The level t enters every block through an embedding of sines and cosines (Vaswani et al.,
"Attention Is All You Need", NeurIPS 2017, section 3.5; used for t by Ho et al., NeurIPS 2020, appendix B).
"""

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


def timestep_embedding(t: Tensor, dim: int, max_period: float = 10_000) -> Tensor:
    r"""Sines and cosines of the level at n = dim / 2 frequencies.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.5, with the level in the
    place of a word's position.

        w_k = max_period^(-k / n),    k = 0, 1, .., n - 1                  from 1 downwards
        emb = [ cos(t w_0), .., cos(t w_{n-1}),  sin(t w_0), .., sin(t w_{n-1}) ]

    Args:
        t: (B,) levels, long or float.
        dim: size of the embedding, even.
        max_period: the slowest wave takes 2 pi max_period^((n - 1) / n) levels for one turn, which
            nears 2 pi max_period as dim grows.

    Returns:
        (B, dim) float32 tensor: all cosines first, then all sines.

    Raises:
        ValueError: if dim is odd.
    """
    if dim % 2:
        raise ValueError(f"dim must be even, one sine for each cosine; got {dim}")
    half = dim // 2
    w = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device) / half)  # (dim/2,)
    angle = t.float()[:, None] * w  # (B, dim/2)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)  # (B, dim)


def zero_module(module: nn.Module) -> nn.Module:
    """Set all parameters of `module` to zero and return it: a block that ends in one starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with groups of 8 channels (Wu and He, ECCV 2018): statistics of one sample, never of the batch."""
    return nn.GroupNorm(max(channels // 8, 1), channels)


class ResBlock(nn.Module):
    r"""Residual block that is told the level.

    He et al., "Deep Residual Learning", CVPR 2016; the level enters by scale and shift, as in
    Dhariwal and Nichol, "Diffusion Models Beat GANs", NeurIPS 2021, section 3.

        h = conv1( silu( norm1(x) ) )
        scale, shift = the two halves of  emb( silu(e) ),  one number per sample and channel
        h = norm2(h) (1 + scale) + shift
        out = skip(x) + conv2( dropout( silu(h) ) )              conv2 starts at zero

    Args:
        in_channels, out_channels: channels of input and output; where they agree, `skip` is the
            identity, else a 1 x 1 convolution.
        emb_dim: size of the level's embedding.
        dropout: probability of dropping a feature in training.
    """

    def __init__(self, in_channels: int, out_channels: int, emb_dim: int, dropout: float = 0.0):
        super().__init__()
        self.norm1 = norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.emb = nn.Linear(emb_dim, 2 * out_channels)
        self.norm2 = norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zero_module(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x is (B, in_channels, H, W), emb is e, (B, emb_dim); returns (B, out_channels, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))  # (B, out, H, W)
        scale, shift = self.emb(F.silu(emb))[:, :, None, None].chunk(2, dim=1)  # 2 x (B, out, 1, 1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.skip(x) + self.conv2(self.dropout(F.silu(h)))  # (B, out, H, W)


ResBlock.forward.has_fused_kernel = True  # a faster way to these numbers is in `kernels`


class SelfAttention(nn.Module):
    r"""Every place looks at every place, and what it finds is added to the input.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, eq. 1, over the H W places.

        Q, K, V = the three thirds of  qkv( norm(x) ),  in this order, along the channels
        a head  = softmax( Q K^T / sqrt(d) ) V       each softmax runs over the places looked at
        out     = x + out( all heads, one after the other )         `out` starts at zero

    Head i works on the channels i d .. (i + 1) d - 1 of Q, K and V.

    Args:
        channels: channels of input and output.
        head_dim: size d of one head; there are `heads` = channels / d of them.

    Raises:
        ValueError: if channels is not a multiple of head_dim.
    """

    def __init__(self, channels: int, head_dim: int = 32):
        super().__init__()
        if channels % head_dim:
            came = f"head_dim = {head_dim}, got {channels}"
            raise ValueError(f"channels must be a multiple of {came}")
        self.heads = channels // head_dim
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero_module(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x is (B, channels, H, W); returns a tensor like x."""
        height = x.shape[2]
        qkv = self.qkv(self.norm(x))  # (B, 3C, H, W)
        q, k, v = rearrange(qkv, "b (three n d) h w -> three b n (h w) d", three=3, n=self.heads)
        h = F.scaled_dot_product_attention(q, k, v)  # (B, heads, HW, d)
        return x + self.out(rearrange(h, "b n (h w) d -> b (n d) h w", h=height))  # (B, C, H, W)


SelfAttention.forward.has_fused_kernel = True


class CrossAttention(nn.Module):
    r"""Every place of an image looks at the words, added to the input.

    Rombach et al., CVPR 2022, section 3.3.

        out = x + W_o softmax( Q K^T / sqrt(d) ) V,        the softmax runs over the L words
        Q = linear map of norm(x),    K, V = linear maps of the context,    W_o starts at zero

    `kv` makes K and V at once: the first half of its channels is K, the second V. Head i owns the
    channels i d .. (i + 1) d - 1 of Q, K, V and of what goes into W_o.

    Args:
        channels: channels of input and output.
        context_dim: size D of the context's vectors.
        head_dim: size d of one head; there are `channels / head_dim` heads.

    `forward(x, context)` takes (B, channels, H, W) and (B, L, context_dim), and returns a tensor
    like x.
    """

    def __init__(self, channels: int, context_dim: int, head_dim: int = 32):
        super().__init__()
        if channels % head_dim:
            raise ValueError(f"channels must be a multiple of {head_dim}, got {channels}")
        self.heads = channels // head_dim
        self.norm = norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.kv = nn.Linear(context_dim, 2 * channels)
        self.out = zero_module(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        height = x.shape[2]
        q = rearrange(self.q(self.norm(x)), "b (n d) h w -> b n (h w) d", n=self.heads)
        k, v = rearrange(self.kv(context), "b l (two n d) -> two b n l d", two=2, n=self.heads)
        h = F.scaled_dot_product_attention(q, k, v)  # (B, heads, H W, d)
        return x + self.out(rearrange(h, "b n (h w) d -> b (n d) h w", h=height))  # (B, C, H, W)


CrossAttention.forward.has_fused_kernel = True


class Downsample(nn.Module):
    """Halve height and width by a 3 x 3 convolution that moves two pixels at a time.

    (B, C, H, W) -> (B, C, H/2, W/2). The window of output pixel (i, j) is centred on input pixel
    (2i, 2j); beyond the edge there are zeros. The layer is called `conv` and has a bias.

    Args:
        channels: C.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Double height and width: every pixel becomes a 2 x 2 square, then `conv` smooths the edges.

    (B, C, H, W) -> (B, C, 2H, 2W).

    Args:
        channels: C.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
