r"""The denoiser for images: a U-Net (Ronneberger et al., MICCAI 2015) that is told the level of noise.

Going down, the picture shrinks and the channels grow; going up, it is put together again. Each block on the way up also
sees the features of its partner on the way down (the skip connections), so fine detail need not pass the bottom.

    (B, C, H, W) --> [ResBlock x2, Downsample] --> ... --> middle --> ... --> [ResBlock x3, Upsample] --> (B, C, H, W)
                        `-------- skip connections, concatenated ---------------^
"""

import torch
from torch import nn

from .layers import CrossAttention, Downsample, ResBlock, SelfAttention, Upsample, norm, timestep_embedding, zero_module


class UNet(nn.Module):
    r"""eps_theta(x_t, t): an estimate of the noise in x_t (Ho et al., NeurIPS 2020, appendix B, on a small scale).

    Args:
        in_channels: channels of the image, 1 or 3.
        channels: channels at full resolution.
        mults: one factor per resolution; each further one halves height and width.
        blocks: residual blocks per resolution.
        attention: the factors' indices at which self-attention follows each block, for example (1,).
        dropout: passed to the residual blocks.
        context_dim: size D of a condition's vectors (chapter 05); None: the network has no condition.
        patch: each patch x patch square of pixels enters as one position with patch^2 times the channels, and leaves so
            (Hoogeboom et al., "simple diffusion", ICML 2023, section 3.3): a quarter of the positions at patch = 2.

    `forward(x, t, cond=None)` takes (B, in_channels, H, W), (B,) levels and the condition, (B, L, context_dim) or None
    as the network was built, and returns a tensor like x. Height and width must be multiples of
    patch * 2^(len(mults) - 1). Anything else is a ValueError.
    """

    def __init__(self, in_channels=1, channels=48, mults=(1, 2), blocks=2, attention=(1,), dropout=0.0,
                 context_dim=None, patch=1):
        super().__init__()
        self.channels, self.context_dim = channels, context_dim
        self.shrink = patch * 2 ** (len(mults) - 1)
        emb_dim = 4 * channels
        self.embed = nn.Sequential(nn.Linear(channels, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim))
        self.summary = nn.Linear(context_dim, emb_dim) if context_dim else None
        self.stem = nn.Sequential(nn.PixelUnshuffle(patch), nn.Conv2d(in_channels * patch**2, channels, 3, padding=1))

        def stage(in_channels, out_channels, attends):
            return Stage(in_channels, out_channels, emb_dim, dropout, attends, context_dim)

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = channels, [channels]
        for i, mult in enumerate(mults):
            for _ in range(blocks):
                self.down.append(stage(width, channels * mult, i in attention))
                width = channels * mult
                skips.append(width)
            if i < len(mults) - 1:
                self.down.append(Downsample(width))
                skips.append(width)
        self.middle = stage(width, width, True)
        for i, mult in reversed(list(enumerate(mults))):
            for _ in range(blocks + 1):
                self.up.append(stage(width + skips.pop(), channels * mult, i in attention))
                width = channels * mult
            if i > 0:
                self.up.append(Upsample(width))
        self.norm = norm(width)
        out = zero_module(nn.Conv2d(width, in_channels * patch**2, 3, padding=1))
        self.head = nn.Sequential(nn.SiLU(), out, nn.PixelShuffle(patch))

    def forward(self, x, t, cond=None):
        emb = self.embedding(x, t, cond)  # (B, emb_dim)
        h = self.stem(x)  # (B, channels, H, W)
        skips = [h]
        for layer in self.down:
            h = layer(h) if isinstance(layer, Downsample) else layer(h, emb, cond)
            skips.append(h)
        h = self.middle(h, emb, cond)
        for layer in self.up:
            h = layer(h) if isinstance(layer, Upsample) else layer(torch.cat([h, skips.pop()], dim=1), emb, cond)
        return self.head(self.norm(h))  # (B, in_channels, H, W)

    def embedding(self, x, t, cond):
        """What every block is told: the level, and the mean of the condition; (B, emb_dim). Checks all arguments."""
        if x.shape[2] % self.shrink or x.shape[3] % self.shrink:
            raise ValueError(f"height and width must be multiples of {self.shrink}, got {tuple(x.shape[2:])}")
        emb = self.embed(timestep_embedding(t, self.channels))  # (B, emb_dim)
        if self.context_dim is None:
            if cond is not None:
                raise ValueError("this U-Net takes no condition: expected cond=None")
            return emb
        if cond is None or cond.ndim != 3 or cond.shape[::2] != (len(x), self.context_dim):
            came = None if cond is None else tuple(cond.shape)
            raise ValueError(f"expected a condition of shape ({len(x)}, L, {self.context_dim}), got {came}")
        return emb + self.summary(cond.mean(dim=1))


class Stage(nn.Module):
    """A residual block, followed where `attends` by self-attention and, given a `context_dim`, by cross-attention."""

    def __init__(self, in_channels, out_channels, emb_dim, dropout=0.0, attends=False, context_dim=None):
        super().__init__()
        self.block = ResBlock(in_channels, out_channels, emb_dim, dropout)
        self.attention = SelfAttention(out_channels) if attends else nn.Identity()
        self.words = CrossAttention(out_channels, context_dim) if attends and context_dim else None

    def forward(self, x, emb, cond=None):
        x = self.attention(self.block(x, emb))
        return x if self.words is None else self.words(x, cond)


class Conditioned(nn.Module):
    """A denoiser that reads tokens: an encoder turns them into the context that its U-Net looks at.

    Args:
        net: a `UNet` with a `context_dim`.
        encoder: `encoder(tokens)` turns (B, L) long into (B, L, D): a `TextEncoder`, or an `nn.Embedding` for labels.
        length: L, tokens per condition.

    `forward(x, t, cond=None)` takes images, levels, and as the condition (B, L) long tokens, or None for the null
    condition (all tokens 0), or a ready context, (B, L, D) float; it returns a tensor like x.
    """

    def __init__(self, net, encoder, length):
        super().__init__()
        self.net, self.encoder, self.length = net, encoder, length

    def forward(self, x, t, cond=None):
        if cond is None:
            cond = torch.zeros(len(x), self.length, dtype=torch.long, device=x.device)
        return self.net(x, t, cond if cond.is_floating_point() else self.encoder(cond))
