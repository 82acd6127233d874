"""A judge for generated digits: a small classifier of real digits, and its features.

It is trained on real images only, so it can say how sure it is that a sample shows *some* digit, which one, and how far
a set of samples lies from the real ones in the space of its features (a small FID: Heusel et al., NeurIPS 2017).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..datasets.digits import digits
from .metrics import require_pictures


class DigitClassifier(nn.Module):
    """Two convolutions and two linear layers. Images are (B, 1, 8, 8) in [-1, 1].

    Others are a ValueError; so are NaN and infinity, where they can be seen without waiting for a GPU.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * 16, 64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (B, 10)."""
        return self.head(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """What the last layer sees, (B, 64), non-negative: the features for a Frechet distance."""
        if images.shape[1:] != (1, 8, 8):
            raise ValueError(f"expected images (B, 1, 8, 8), got shape {tuple(images.shape)}")
        require_pictures(images, look=images.device.type == "cpu")
        return self.body(images)


def train_digit_classifier(device: str | torch.device = "cpu", epochs: int = 20, seed: int = 0) -> DigitClassifier:
    """Train a `DigitClassifier` on the real training digits (some seconds) and return it in evaluation mode."""
    images, labels = (part.to(device) for part in digits())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = DigitClassifier().to(device)
        optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=0.01)
        for _ in range(epochs):
            for i in torch.randperm(len(images)).split(64):
                loss = F.cross_entropy(classifier(images[i.to(device)]), labels[i.to(device)])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
    return classifier.eval().requires_grad_(False)
