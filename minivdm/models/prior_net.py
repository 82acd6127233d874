r"""The denoiser of an embedding: from a vector of noise to the image embedding that fits a text embedding.

An embedding has no rows and columns, so there is nothing to convolve: a residual network of linear layers (Ramesh et
al., "Hierarchical Text-Conditional Image Generation with CLIP Latents", 2022, section 2.2, has a transformer, for
vectors of 768 numbers).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import timestep_embedding, zero_module


class PriorBlock(nn.Module):
    """A residual layer that is told the level and the text: (B, width), and (B, width) -> (B, width)."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.emb = nn.Linear(width, 2 * width)
        self.inner = nn.Linear(width, width)
        self.out = zero_module(nn.Linear(width, width))

    def forward(self, h: Tensor, emb: Tensor) -> Tensor:
        scale, shift = self.emb(F.silu(emb)).chunk(2, dim=-1)
        return h + self.out(F.silu(self.inner(self.norm(h) * (1 + scale) + shift)))


class PriorNet(nn.Module):
    """An estimate of an image embedding, from a noisy one, its level and a text embedding.

    Args:
        dim: E, size of both embeddings.
        width: of the hidden layers, even.
        blocks: number of residual layers.

    `forward(x, t, cond)` takes (B, E) noisy embeddings, (B,) levels and (B, E) text embeddings of
    entries about 1 in size, all 0 where the text was dropped; it returns a tensor like x.
    """

    def __init__(self, dim: int = 64, width: int = 192, blocks: int = 4):
        super().__init__()
        self.width = width
        self.stem, self.text = nn.Linear(dim, width), nn.Linear(dim, width)
        self.level = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(PriorBlock(width) for _ in range(blocks))
        self.head = nn.Sequential(nn.LayerNorm(width), zero_module(nn.Linear(width, dim)))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        if cond is None or cond.shape != x.shape:
            came = None if cond is None else tuple(cond.shape)
            raise ValueError(f"expected a text embedding for each of the embeddings, {tuple(x.shape)}, got {came}")
        emb = self.level(timestep_embedding(t, self.width).to(x.dtype)) + self.text(cond)  # (B, width)
        h = self.stem(x)  # (B, width)
        for block in self.blocks:
            h = block(h, emb)
        return self.head(h)  # (B, E)


def drop_embedding(
    cond: Tensor,
    size: int,
    probability: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Replace the first `size` entries of some rows by 0, all or none of a row, by chance.

    As `drop_condition` for tokens: the network learns to do without, which guidance needs. What
    follows the embedding, such as the frame rate, is told all the same.

    Args:
        cond: (B, E + n) float, embeddings and what is told beside them.
        size: E.
        probability: of dropping, 0..1, for each row by itself.
        generator: `torch.Generator` on the condition's device.

    Returns:
        A tensor like cond; cond itself stays as it is.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"the probability must lie in 0..1, got {probability}")
    coins = torch.rand(len(cond), 1, generator=generator, device=cond.device)  # (B, 1)
    embedding, rest = cond[:, :size], cond[:, size:]
    return torch.cat([torch.where(coins < probability, 0.0, embedding), rest], dim=1)
