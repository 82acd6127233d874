r"""New words for a trained text encoder: rows below its table of words, the only ones that are trained.

DreamBooth needs a word that means nothing yet (Ruiz et al., CVPR 2023, section 3.2: a "rare token"); Mix-of-Show trains
new ones (Gu et al., NeurIPS 2023, section 3.2). The vocabulary here is closed, so any word outside it is new. The table
is not made anew: old words keep their numbers and, bit for bit, their vectors.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NewWords(nn.Module):
    """A frozen table of words with new rows below it: (B, L) numbers -> (B, L, D).

    Args:
        base: an `nn.Embedding`; its rows are frozen.

    Attributes:
        rows: list of (D,) parameters, in the order of the words' numbers.
    """

    def __init__(self, base: nn.Embedding):
        super().__init__()
        self.base, self.rows = base.requires_grad_(False), nn.ParameterList()

    @property
    def weight(self) -> Tensor:
        """The whole table, (words, D)."""
        return torch.cat([self.base.weight, *(row[None] for row in self.rows)])

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.weight)


def add_word(encoder: nn.Module, like: Sequence[int]) -> nn.Parameter:
    """Give a text encoder one more word, after all others.

    Args:
        encoder: a `TextEncoder`, changed in place; its table becomes a `NewWords`.
        like: numbers of known words; the new row starts as the mean of theirs.

    Returns:
        The new row, (D,), to be trained.

    Raises:
        ValueError: if `like` is empty or has a number that is no word's.
    """
    table = encoder.words if isinstance(encoder.words, NewWords) else NewWords(encoder.words)
    count = len(table.weight)
    if not len(like) or not all(0 <= number < count for number in like):
        raise ValueError(f"expected numbers of words in 0..{count - 1} that the new one starts from, got {list(like)}")
    row = table.weight[list(like)].mean(dim=0).detach().clone()
    encoder.words = table
    table.rows.append(nn.Parameter(row))
    return table.rows[-1]
