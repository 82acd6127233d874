r"""The denoiser for videos: an image U-Net whose blocks also look along time.

A 3-D convolution over (frame, row, column) is costly and cannot reuse an image model. So the work is *factorised* (Ho
et al., "Video Diffusion Models", NeurIPS 2022, section 3; Singer et al., "Make-A-Video", ICLR 2023, section 3.2):

    spatial layers    see each frame alone:     (B F, C, H, W)        as in the image model
    temporal layers   see each place alone:     (B, C, F, H W)        kernel 3 x 1, or attention over F frames

Both shapes are *views of the same bytes* where the memory is channels_last, because the order there is B F H W C. A
temporal convolution is then an ordinary `Conv2d` on a view, and nothing is copied.

Every temporal layer starts as the identity. The video model starts as the image model, applied to each frame.
"""

import math

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from .layers import (
    CrossAttention,
    Downsample,
    ResBlock,
    SelfAttention,
    Upsample,
    norm,
    timestep_embedding,
    zero_module,
)
from .text import TextEncoder


class TemporalConv(nn.Module):
    """Convolution over 3 neighbouring frames, place by place; starts as the identity (a Dirac kernel, bias 0).

    `forward(x, frames)` takes and returns (B F, C, H, W).
    """

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        nn.init.dirac_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x, frames):
        h = self.conv(rearrange(x, "(b f) c h w -> b c f (h w)", f=frames))  # (B, C, F, H W)
        return rearrange(h, "b c f (h w) -> (b f) c h w", h=x.shape[2])


class TemporalAttention(nn.Module):
    r"""Every frame looks at every other frame, place by place, added to the input.

        out = x + W_o softmax( Q K^T / sqrt(d) ) V,    Q, K, V = linear maps of norm(x) + position(f);  W_o = 0 at first

    Without the position of the frame, attention could not tell a clip from its reverse. There are B H W sequences but
    each is only F long: the F x F weights are small, and computing them openly avoids the limit on the number of rows
    that fused attention kernels have (65,535 on CUDA).

    Args:
        channels: channels of input and output.
        head_dim: size d of one head.

    `forward(x, frames)` takes and returns (B F, C, H, W).
    """

    def __init__(self, channels, head_dim=32):
        super().__init__()
        self.heads = channels // head_dim
        self.norm = norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero_module(nn.Linear(channels, channels))

    def forward(self, x, frames):
        h = rearrange(self.norm(x), "(b f) c h w -> b (h w) f c", f=frames)  # (B, HW, F, C)
        h = h + timestep_embedding(torch.arange(frames, device=x.device), h.shape[-1]).to(h.dtype)
        q, k, v = rearrange(self.qkv(h), "b p f (three n d) -> three b p n f d", three=3, n=self.heads)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)  # (B, HW, heads, F, F)
        h = self.out(rearrange(weights.to(v.dtype) @ v, "b p n f d -> b p f (n d)"))  # (B, HW, F, C)
        return x + rearrange(h, "b (h w) f c -> (b f) c h w", h=x.shape[2])


class VideoStage(nn.Module):
    """Residual block, temporal convolution and, where `attends`, attention over space, over words and over time.

    `forward(x, emb, context, frames)` takes (B F, in_channels, H, W), (B, emb_dim) and (B, L, D).
    """

    def __init__(self, in_channels, out_channels, emb_dim, context_dim, attends):
        super().__init__()
        self.block = ResBlock(in_channels, out_channels, emb_dim)
        self.temporal = TemporalConv(out_channels)
        self.attends = attends
        if attends:
            self.space = SelfAttention(out_channels)
            self.words = CrossAttention(out_channels, context_dim)
            self.time = TemporalAttention(out_channels)

    def forward(self, x, emb, context, frames):
        x = self.block(x, emb.repeat_interleave(frames, dim=0))  # (B F, out, H, W)
        x = self.temporal(x, frames)
        if self.attends:
            x = self.words(self.space(x), context.repeat_interleave(frames, dim=0))
            x = self.time(x, frames)
        return x


class UNet3D(nn.Module):
    r"""eps_theta(x_t, t, prompt) for videos: an estimate of the noise in x_t.

    Args:
        words: size of the vocabulary, padding included.
        widths: channels per resolution; each further one halves height and width. Attention works at the last one.
        blocks: stages per resolution on the way down; one more on the way up.
        patch: each patch x patch square of pixels becomes one position with patch^2 times the channels before the first
            layer, and back after the last (Hoogeboom et al., "simple diffusion", ICML 2023, section 3.3): a
            quarter of the positions at patch = 2.
        context_dim: size D of the text context.
        length: L, tokens per prompt.

    `forward(x, t, cond=None)` takes (B, 3, F, H, W), (B,) long levels and (B, L) long tokens, or None for the null
    prompt, and returns a tensor like x. H and W must be multiples of patch * 2^(len(widths) - 1) (else a ValueError).
    """

    def __init__(self, words, widths=(64, 96), blocks=2, patch=1, context_dim=64, length=12):
        super().__init__()
        self.length, self.patch = length, patch
        self.shrink = patch * 2 ** (len(widths) - 1)
        self.text = TextEncoder(words, length, context_dim)
        width, emb_dim = widths[0], 3 * widths[0]
        self.embed = nn.Sequential(nn.Linear(width, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim))
        self.summary = nn.Linear(context_dim, emb_dim)
        self.stem = nn.Conv2d(3 * patch**2, width, 3, padding=1)

        def stage(in_channels, out_channels, level):
            return VideoStage(in_channels, out_channels, emb_dim, context_dim, level == len(widths) - 1)

        self.down, self.up, skips = nn.ModuleList(), nn.ModuleList(), [width]
        for level, channels in enumerate(widths):
            for _ in range(blocks):
                self.down.append(stage(width, channels, level))
                width = channels
                skips.append(width)
            if level < len(widths) - 1:
                self.down.append(Downsample(width))
                skips.append(width)
        self.middle = stage(width, width, len(widths) - 1)
        for level, channels in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                self.up.append(stage(width + skips.pop(), channels, level))
                width = channels
            if level > 0:
                self.up.append(Upsample(width))
        self.norm = norm(width)
        self.head = zero_module(nn.Conv2d(width, 3 * patch**2, 3, padding=1))
        self.to(memory_format=torch.channels_last)

    def forward(self, x, t, cond=None):
        if x.ndim != 5 or x.shape[1] != 3 or x.shape[3] % self.shrink or x.shape[4] % self.shrink:
            expected = f"clips (B, 3, F, H, W), H and W multiples of {self.shrink}"
            raise ValueError(f"expected {expected}; got shape {tuple(x.shape)}")
        frames = x.shape[2]
        tokens = torch.zeros(len(x), self.length, dtype=torch.long, device=x.device) if cond is None else cond
        context = self.text(tokens)  # (B, L, D)
        waves = timestep_embedding(t, self.embed[0].in_features).to(x.dtype)  # (B, widths[0])
        emb = self.embed(waves) + self.summary(context.mean(dim=1))  # (B, emb_dim)

        h = F.pixel_unshuffle(rearrange(x, "b c f h w -> (b f) c h w"), self.patch)  # (B F, 3 patch^2, H', W')
        h = self.stem(h.contiguous(memory_format=torch.channels_last))
        skips = [h]
        for layer in self.down:
            h = layer(h) if isinstance(layer, Downsample) else layer(h, emb, context, frames)
            skips.append(h)
        h = self.middle(h, emb, context, frames)
        for layer in self.up:
            up = isinstance(layer, Upsample)
            h = layer(h) if up else layer(torch.cat([h, skips.pop()], dim=1), emb, context, frames)
        h = F.pixel_shuffle(self.head(F.silu(self.norm(h))), self.patch)  # (B F, 3, H, W)
        return rearrange(h, "(b f) c h w -> b c f h w", f=frames)
