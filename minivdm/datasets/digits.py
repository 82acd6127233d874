"""Data that needs no download: the 1,797 handwritten digits that scikit-learn carries.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998: 8 x 8
pixels, 17 grey levels. scikit-learn carries the test part, written by 13 of the 43 people.
"""

import torch
from torch import Tensor


def digits(held_out: bool = False) -> tuple[Tensor, Tensor]:
    """Real handwritten digits.

    Args:
        held_out: False for the 1,498 training images, True for every sixth image, on which no model here is trained.

    Returns:
        images (N, 1, 8, 8) float32 in [-1, 1], ink = 1, and labels (N,) long, 0..9.
    """
    from sklearn.datasets import load_digits  # takes a second, and most of the library needs no digits

    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 8 - 1  # grey levels 0..16 -> [-1, 1]
    labels = torch.from_numpy(data.target).long()
    part = (torch.arange(len(images)) % 6 == 5) == held_out  # (1797,) bool; neighbours come from the same writer
    return images[part], labels[part]
