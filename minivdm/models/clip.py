r"""Pictures and captions in one space (Radford et al., "Learning Transferable Visual Models From Natural Language
Supervision", ICML 2021): CLIP, on a small scale.

    u_i = normalised embedding of picture i,      w_j = normalised embedding of caption j
    logits_ij = scale u_i . w_j                   row i must choose caption i, column j must choose picture j

Nobody tells the encoders what a shape or a colour is. They only learn to tell which caption goes with which picture; to
do that among many, they must read all that the captions mention.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import norm
from .text_encoder import TextEncoder


def pool_words(h: Tensor, tokens: Tensor) -> Tensor:
    r"""One vector for a prompt: the mean over its words, without the padding.

        out_b = sum_l [tokens_bl != 0] h_bl / max( 1, number of words )

    Args:
        h: (B, L, D) what the text encoder makes of the tokens.
        tokens: (B, L) long; 0 is padding, wherever it stands.

    Returns:
        (B, D), of h's dtype; zero for the empty prompt.
    """
    words = (tokens != 0)[:, :, None]  # (B, L, 1)
    return (h * words).sum(dim=1) / words.sum(dim=1).clamp(min=1)  # (B, D)


class ImageEncoder(nn.Module):
    """Convolutions down to a grid of H/8 x W/8, then one linear map of the whole grid.

    The map `out` takes all numbers of a picture's grid in one row: channel, row, column. A mean
    over the grid would forget *where* things are.

    Args:
        dim: D, size of the embedding.
        width: channels of the first convolution.
        size: H = W of the pictures, a multiple of 8.

    `forward(images)` takes (B, 3, size, size) in [-1, 1] and returns (B, D), of any length.
    """

    def __init__(self, dim: int = 64, width: int = 32, size: int = 32):
        super().__init__()
        widths, layers = (3, width, 2 * width, 2 * width, 2 * width), []
        for i, (a, b) in enumerate(zip(widths[:-1], widths[1:])):
            layers += [nn.Conv2d(a, b, 3, padding=1, stride=1 if i == 0 else 2), norm(b), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(2 * width * (size // 8) ** 2, dim)

    def forward(self, images: Tensor) -> Tensor:
        grid = self.layers(images)  # (B, C, H/8, W/8)
        return self.out(grid.flatten(1))  # (B, D)


class CLIP(nn.Module):
    r"""Two encoders and a temperature.

    Args:
        words: size of the vocabulary, padding included.
        length: L, tokens per prompt.
        dim: D, size of the shared space.
        width, size: of the `ImageEncoder`.

    `embed_images(images)` and `embed_texts(tokens)` return unit vectors, (B, D). `scale()` is what
    their products are multiplied by: exp of a learned number that starts at ln(1 / 0.07), at most
    100 (Radford et al., section 2.5).
    """

    def __init__(
        self,
        words: int,
        length: int = 12,
        dim: int = 64,
        width: int = 32,
        size: int = 32,
    ):
        super().__init__()
        self.size = size
        self.image = ImageEncoder(dim, width, size)
        self.text = TextEncoder(words, length, dim)
        self.project = nn.Linear(dim, dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, size, size) in [-1, 1] -> (B, D) unit vectors; another shape is a ValueError."""
        if images.shape[1:] != (3, self.size, self.size):
            expected = f"(B, 3, {self.size}, {self.size})"
            raise ValueError(f"expected pictures {expected}, got shape {tuple(images.shape)}")
        return F.normalize(self.image(images), dim=-1)

    def embed_texts(self, tokens: Tensor) -> Tensor:
        """(B, L) long -> (B, D) unit vectors."""
        return F.normalize(self.project(pool_words(self.text(tokens), tokens)), dim=-1)

    def scale(self) -> Tensor:
        """The factor in front of the cosines, at most 100.

        A `log_scale` above ln 100 is set back to it first: beyond a clamp alone there is no slope,
        and training could not bring it back.
        """
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(100))
        scale = self.log_scale.exp()
        return scale - (scale - 100).clamp(min=0).detach()  # its last digit may round above 100


def clip_loss(images: Tensor, texts: Tensor, scale: float | Tensor) -> Tensor:
    r"""Which caption belongs to which picture, asked both ways.

    Radford et al., 2021, figure 3.

        logits_ij = scale (u_i . w_j) / ( |u_i| |w_j| )
        L = 1/2 ( mean_i -log softmax_j(logits_ij)[i]  +  mean_j -log softmax_i(logits_ij)[j] )

    Args:
        images, texts: (B, D) embeddings u and w, of any length; row i of one belongs to row i of
            the other.
        scale: the inverse temperature, a number or a scalar tensor that learns.

    Returns:
        Scalar tensor; ln B where the embeddings say nothing.
    """
    logits = scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T  # (B, B)
    pairs = torch.arange(len(logits), device=logits.device)  # (B,)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
