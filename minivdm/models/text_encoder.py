"""A small transformer that turns the numbers of words into a context for a denoiser: (B, L) -> (B, L, D).

Number 0 is padding, with an embedding like any word: what the encoder makes of L paddings is the learned *null* context
that guidance needs (Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022, section 3.2).
"""

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from .layers import zero_module


class TextLayer(nn.Module):
    """One transformer layer, norms first (Vaswani et al., NeurIPS 2017; Xiong et al., ICML 2020): (B, L, D) -> same."""

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = zero_module(nn.Linear(dim, dim))
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), zero_module(nn.Linear(4 * dim, dim)))

    def forward(self, x):
        q, k, v = rearrange(self.qkv(self.norm1(x)), "b l (three n d) -> three b n l d", three=3, n=self.heads)
        h = F.scaled_dot_product_attention(q, k, v)  # (B, heads, L, d)
        x = x + self.out(rearrange(h, "b n l d -> b l (n d)"))  # (B, L, D)
        return x + self.mlp(self.norm2(x))


class TextEncoder(nn.Module):
    """A small transformer over word embeddings and learned positions.

    Args:
        words: size of the vocabulary, padding included.
        length: L, tokens per prompt.
        dim: D, size of the context vectors.
        layers, heads: transformer layers, and attention heads in each.

    `forward(tokens)` takes (B, L) long and returns (B, L, D). Other lengths or types raise a ValueError.
    """

    def __init__(self, words, length=12, dim=64, layers=2, heads=2):
        super().__init__()
        self.words = nn.Embedding(words, dim)
        self.positions = nn.Parameter(0.02 * torch.randn(length, dim))  # (L, D)
        self.layers = nn.Sequential(*(TextLayer(dim, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens):
        if tokens.ndim != 2 or tokens.shape[1] != len(self.positions) or tokens.is_floating_point():
            expected = f"(B, {len(self.positions)}) long tokens"
            raise ValueError(f"expected {expected}, got {tokens.dtype} of shape {tuple(tokens.shape)}")
        return self.norm(self.layers(self.words(tokens) + self.positions))  # (B, L, D)
