r"""The denoiser for images: a U-Net (Ronneberger et al., MICCAI 2015) that is told the level of noise.

Going down, the picture shrinks and the channels grow; going up, it is put together again. Each block on the way up also
sees the features of its partner on the way down (the skip connections), so fine detail need not pass the bottom.

    (B, C, H, W) --> [ResBlock x2, Downsample] --> ... --> middle --> ... --> [ResBlock x3, Upsample] --> (B, C, H, W)
                        `-------- skip connections, concatenated ---------------^
"""

import torch
from torch import nn
from torch.nn import functional as F

from .layers import Downsample, ResBlock, SelfAttention, Upsample, norm, timestep_embedding, zero_module


class UNet(nn.Module):
    r"""eps_theta(x_t, t): an estimate of the noise in x_t (Ho et al., NeurIPS 2020, appendix B, on a small scale).

    Args:
        in_channels: channels of the image, 1 or 3.
        channels: channels at full resolution.
        mults: one factor per resolution; each further one halves height and width.
        blocks: residual blocks per resolution.
        attention: the factors' indices at which self-attention follows each block, for example (1,).
        dropout: passed to the residual blocks.

    `forward(x, t, cond=None)` takes (B, in_channels, H, W) and (B,) levels, and returns a tensor like x. This network
    has no condition, so `cond` must be None. Height and width must be multiples of 2^(len(mults) - 1).
    """

    def __init__(self, in_channels=1, channels=48, mults=(1, 2), blocks=2, attention=(1,), dropout=0.0):
        super().__init__()
        self.channels = channels
        self.shrink = 2 ** (len(mults) - 1)
        emb_dim = 4 * channels
        self.embed = nn.Sequential(nn.Linear(channels, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim))
        self.stem = nn.Conv2d(in_channels, channels, 3, padding=1)

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = channels, [channels]
        for i, mult in enumerate(mults):
            for _ in range(blocks):
                self.down.append(Stage(width, channels * mult, emb_dim, dropout, i in attention))
                width = channels * mult
                skips.append(width)
            if i < len(mults) - 1:
                self.down.append(Downsample(width))
                skips.append(width)
        self.middle = Stage(width, width, emb_dim, dropout, attends=True)
        for i, mult in reversed(list(enumerate(mults))):
            for _ in range(blocks + 1):
                self.up.append(Stage(width + skips.pop(), channels * mult, emb_dim, dropout, i in attention))
                width = channels * mult
            if i > 0:
                self.up.append(Upsample(width))
        self.norm = norm(width)
        self.head = zero_module(nn.Conv2d(width, in_channels, 3, padding=1))

    def forward(self, x, t, cond=None):
        if cond is not None:
            raise ValueError("this U-Net takes no condition: expected cond=None")
        if x.shape[2] % self.shrink or x.shape[3] % self.shrink:
            raise ValueError(f"height and width must be multiples of {self.shrink}, got {tuple(x.shape[2:])}")
        emb = self.embed(timestep_embedding(t, self.channels))  # (B, emb_dim)
        h = self.stem(x)  # (B, channels, H, W)
        skips = [h]
        for layer in self.down:
            h = layer(h) if isinstance(layer, Downsample) else layer(h, emb)
            skips.append(h)
        h = self.middle(h, emb)
        for layer in self.up:
            h = layer(h) if isinstance(layer, Upsample) else layer(torch.cat([h, skips.pop()], dim=1), emb)
        return self.head(F.silu(self.norm(h)))  # (B, in_channels, H, W)


class Stage(nn.Module):
    """A residual block, followed by self-attention where `attends` is set."""

    def __init__(self, in_channels, out_channels, emb_dim, dropout, attends):
        super().__init__()
        self.block = ResBlock(in_channels, out_channels, emb_dim, dropout)
        self.attention = SelfAttention(out_channels) if attends else nn.Identity()

    def forward(self, x, emb):
        return self.attention(self.block(x, emb))
