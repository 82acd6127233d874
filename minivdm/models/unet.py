r"""The denoiser for images: a U-Net (Ronneberger et al., MICCAI 2015) that is told the level of noise.

Going down, the picture shrinks and the channels grow; going up, it is put together again. Each block on the way up also
sees the features of its partner on the way down (the skip connections), so fine detail need not pass the bottom.

    (B, C, H, W) --> [Stage x2, Downsample] --> ... --> middle --> ... --> [Stage x3, Upsample] --> (B, C, H, W)
                        `------ skip connections, concatenated, last in first out ----^
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .layers import CrossAttention, Downsample, ResBlock, SelfAttention, Upsample, norm, timestep_embedding, zero_module


class Stage(nn.Module):
    """A residual block; where it `attends`, self-attention and, given a context, cross-attention.

    `forward(x, emb, cond=None)` takes (B, in_channels, H, W), the level's embedding (B, emb_dim)
    and, given a context_dim, a condition (B, L, D); it returns (B, out_channels, H, W).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_dim: int,
        dropout: float = 0.0,
        attends: bool = False,
        context_dim: int | None = None,
    ):
        super().__init__()
        self.block = ResBlock(in_channels, out_channels, emb_dim, dropout)
        self.attention = SelfAttention(out_channels) if attends else nn.Identity()
        self.words = CrossAttention(out_channels, context_dim) if attends and context_dim else None

    def forward(self, x: Tensor, emb: Tensor, cond: Tensor | None = None) -> Tensor:
        x = self.attention(self.block(x, emb))
        return x if self.words is None else self.words(x, cond)


def require_resolutions(attention: Sequence[int], count: int) -> None:
    """Raise a ValueError unless these are indices of `count` resolutions: another one would never be met."""
    if not all(0 <= i < count for i in attention):
        raise ValueError(f"attention must name resolutions in 0..{count - 1}, got {tuple(attention)}")


class UNet(nn.Module):
    r"""eps_theta(x_t, t): an estimate of the noise in x_t.

    Ronneberger et al., "U-Net", MICCAI 2015; as a denoiser: Ho et al., NeurIPS 2020, appendix B.

    Args:
        in_channels: channels of the image, 1 or 3.
        channels: channels at full resolution.
        mults: one factor per resolution; each further one halves height and width.
        blocks: stages per resolution on the way down; one more on the way up.
        attention: indices of the factors at which stages attend; the middle always does. None: (1,)
            if there are two or more. Another index raises a ValueError.
        dropout: passed to the residual blocks.
        context_dim: size D of a condition's vectors (chapter 05); None: there is no condition.
        patch: each patch x patch square of pixels enters as one position with patch^2 times the
            channels, and leaves so (Hoogeboom et al., "simple diffusion", ICML 2023, section 3.3).

    Attributes:
        stem: (B, in_channels, H, W) -> (B, channels, H', W'), H' = H / patch.
        down: `Stage`s, called as stage(h, emb, cond), and `Downsample`s, called as layer(h).
        middle: a `Stage`.
        up: `Stage`s, whose input is two feature maps in one, and `Upsample`s.
        norm, head: from the last feature map to the output.
    """

    def __init__(
        self,
        in_channels: int = 1,
        channels: int = 48,
        mults: "Sequence[int]" = (1, 2),
        blocks: int = 2,
        attention: "Sequence[int] | None" = None,
        dropout: float = 0.0,
        context_dim: int | None = None,
        patch: int = 1,
    ):
        super().__init__()
        attention = (1,)[: len(mults) - 1] if attention is None else tuple(attention)
        require_resolutions(attention, len(mults))
        self.channels, self.context_dim = channels, context_dim
        self.shrink = patch * 2 ** (len(mults) - 1)
        emb_dim = 4 * channels
        self.embed = nn.Sequential(
            nn.Linear(channels, emb_dim),
            nn.SiLU(),
            nn.Linear(emb_dim, emb_dim),
        )
        self.summary = nn.Linear(context_dim, emb_dim) if context_dim else None
        first = nn.Conv2d(in_channels * patch**2, channels, 3, padding=1)
        self.stem = nn.Sequential(nn.PixelUnshuffle(patch), first)

        def stage(in_channels: int, out_channels: int, attends: bool) -> "Stage":
            return Stage(in_channels, out_channels, emb_dim, dropout, attends, context_dim)

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = channels, [channels]  # skips: the channels of each map that is kept
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
        last = zero_module(nn.Conv2d(width, in_channels * patch**2, 3, padding=1))
        self.head = nn.Sequential(nn.SiLU(), last, nn.PixelShuffle(patch))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Down, through the middle, up; what was made on the way down is used again on the way up.

            emb = embedding(x, t, cond)
            h = stem(x); each layer of `down` makes the next h.             All these maps are kept.
            h = middle(h)
            Each Stage of `up` gets h and the kept map that is the latest not yet used, as one map:
            concatenated along the channels, h first. An Upsample gets h alone and uses none.
            out = head(norm(h))

        Args:
            x: (B, in_channels, H, W) noisy images.
            t: (B,) levels.
            cond: (B, L, context_dim), or None where the network has no condition.

        Returns:
            A tensor like x.

        Raises:
            ValueError: from `embedding`, if H or W is no multiple of `shrink` or cond does not fit.
        """
        emb = self.embedding(x, t, cond)  # (B, emb_dim)
        h = self.stem(x)  # (B, channels, H', W')
        skips = [h]
        for layer in self.down:
            h = layer(h, emb, cond) if isinstance(layer, Stage) else layer(h)
            skips.append(h)
        h = self.middle(h, emb, cond)
        for layer in self.up:
            if isinstance(layer, Stage):
                h = layer(torch.cat([h, skips.pop()], dim=1), emb, cond)
            else:
                h = layer(h)
        return self.head(self.norm(h))  # (B, in_channels, H, W)

    def embedding(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """What every block is told, (B, emb_dim): the level, and the mean of a condition."""
        if x.ndim != 4:
            raise ValueError(f"expected pictures (B, C, H, W), got shape {tuple(x.shape)}")
        if x.shape[2] % self.shrink or x.shape[3] % self.shrink:
            came = tuple(x.shape[2:])
            raise ValueError(f"height and width must be multiples of {self.shrink}, got {came}")
        if not x.is_floating_point() or t.shape != x.shape[:1]:
            wanted = f"floats and one level for each of {len(x)} pictures"
            came = f"{x.dtype} and levels of shape {tuple(t.shape)}"
            raise ValueError(f"expected {wanted}, got {came}")
        emb = self.embed(timestep_embedding(t, self.channels).to(x.dtype))  # (B, emb_dim)
        if self.context_dim is None:
            if cond is not None:
                raise ValueError("this U-Net takes no condition: expected cond=None")
            return emb
        shape = None if cond is None else tuple(cond.shape)
        if shape is None or len(shape) != 3 or shape[::2] != (len(x), self.context_dim) or not shape[1]:
            wanted = f"({len(x)}, L, {self.context_dim})"
            raise ValueError(f"expected a condition of shape {wanted}, got {shape}")
        return emb + self.summary(cond.mean(dim=1))


class Conditioned(nn.Module):
    """A denoiser that reads tokens: an encoder turns them into the context its U-Net looks at.

    Args:
        net: a `UNet` with a `context_dim`.
        encoder: `encoder(tokens)` turns (B, L) long into (B, L, D): a `TextEncoder`, or an
            `nn.Embedding` for labels.
        length: L, tokens per condition.

    `forward(x, t, cond=None)` takes images, levels, and as the condition (B, L) long tokens, or
    None for the null condition (all tokens 0), or a ready context, (B, L, D) float; it returns a
    tensor like x.
    """

    def __init__(self, net: nn.Module, encoder: nn.Module, length: int):
        super().__init__()
        self.net, self.encoder, self.length = net, encoder, length

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        if cond is None:
            cond = torch.zeros(len(x), self.length, dtype=torch.long, device=x.device)
        return self.net(x, t, cond if cond.is_floating_point() else self.encoder(cond))
