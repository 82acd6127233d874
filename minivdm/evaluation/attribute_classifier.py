r"""A judge of generated clips and pictures: which shape, which colour, which motion or place is this?

The judge is trained on drawn sprites only, never on generated ones, so it cannot learn to excuse them. *Prompt
accuracy* is the share of generated clips in which it recognises all three attributes that the prompt asked for.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..datasets.sprites import ATTRIBUTES, Sprites, held_out
from ..models.layers import norm
from .metrics import require_pictures


class AttributeClassifier(nn.Module):
    """Frames are read one by one, on a 4 x 4 grid that keeps the place; then convolutions over time follow the motion.

    Args:
        attributes: a dict of kinds with their names; default: shape, colour and motion.
        width: channels of the first convolution.

    `forward(clips)` takes (B, 3, F, H, W) in [-1, 1], H and W multiples of 16, or pictures (B, 3, H, W), and returns
    a list of logits, (B, names) for each kind. `features(clips)` returns the (B, 256) vectors they are read from. Both
    raise a ValueError if these are no clips or pictures, or, where that can be seen without waiting for a GPU, not
    finite.
    """

    def __init__(self, attributes: dict[str, Sequence[str]] = ATTRIBUTES, width: int = 48):
        super().__init__()
        widths = [3, width, 2 * width, 2 * width, 2 * width]
        layers = []
        for i, (a, b) in enumerate(zip(widths[:-1], widths[1:])):
            layers += [nn.Conv2d(a, b, 3, padding=1, stride=2 if i in (1, 2) else 1), norm(b), nn.SiLU()]
        self.frame = nn.Sequential(*layers, nn.AdaptiveMaxPool2d(4), nn.Flatten(), nn.Linear(16 * 2 * width, 128))
        self.time = nn.Sequential(
            nn.SiLU(), nn.Conv1d(128, 128, 3, padding=1), nn.SiLU(), nn.Conv1d(128, 128, 3, padding=1), nn.SiLU()
        )
        self.heads = nn.ModuleDict({kind: nn.Linear(256, len(names)) for kind, names in attributes.items()})

    def features(self, clips: Tensor) -> Tensor:
        if clips.ndim not in (4, 5) or clips.shape[1] != 3:
            came = tuple(clips.shape)
            raise ValueError(f"expected clips (B, 3, F, H, W) or pictures (B, 3, H, W), got shape {came}")
        require_pictures(clips, look=clips.device.type == "cpu")
        clips = clips[:, :, None] if clips.ndim == 4 else clips  # a picture is a clip of one frame
        h = self.frame(rearrange(clips, "b c f h w -> (b f) c h w"))  # (B F, 128)
        h = self.time(rearrange(h, "(b f) c -> b c f", b=len(clips)))  # (B, 128, F)
        return torch.cat([h.mean(dim=2), h.amax(dim=2)], dim=1)  # (B, 256)

    def forward(self, clips: Tensor) -> list[Tensor]:
        features = self.features(clips)
        return [head(features) for head in self.heads.values()]


def train_classifier(
    sprites: Sprites,
    generator: torch.Generator,
    steps: int = 1500,
    batch: int = 256,
    lr: float = 2e-3,
    dtype: torch.dtype = torch.float32,
) -> AttributeClassifier:
    """Train a classifier on fresh clips of all triples, with a little noise so that it tolerates small blemishes.

    Args:
        sprites: a `MovingSprites` or `SpriteStills`.
        generator: `torch.Generator`; the classifier is trained on its device.
        steps, batch, lr: optimiser steps, clips per step, peak learning rate (it rises for a tenth of the steps, then
            falls to 0).
        dtype: autocast type.

    Returns:
        An `AttributeClassifier` in evaluation mode.
    """
    device = generator.device
    classifier = AttributeClassifier(sprites.attributes).to(device)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=lr)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        clips, attributes = sprites.sample(batch, generator, split="all")
        strength = 0.2 * torch.rand(batch, *[1] * (clips.ndim - 1), generator=generator, device=device)
        clips = clips + strength * torch.randn(clips.shape, generator=generator, device=device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = classifier(clips)
            loss = sum(F.cross_entropy(guess, truth) for guess, truth in zip(logits, attributes.unbind(1)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()
    return classifier.eval()


@torch.no_grad()
def correct_attributes(classifier: AttributeClassifier, clips: Tensor, attributes: Tensor, batch: int = 256) -> Tensor:
    """Which attributes the classifier finds as asked for.

    Args:
        classifier: a trained `AttributeClassifier`.
        clips: (N, 3, F, H, W) in [-1, 1], or pictures (N, 3, H, W).
        attributes: (N, 3) long, what was asked for.
        batch: clips per call.

    Returns:
        (N, 3) bool: shape right, colour right, motion or place right. Prompt accuracy is `.all(dim=1).float().mean()`.

    Raises:
        ValueError: if the clips hold NaN or infinity, for which there is no right or wrong, or the attributes' shape
            is another.
    """
    if attributes.shape[:1] != clips.shape[:1]:
        raise ValueError(f"expected attributes for each of {len(clips)} clips, got {tuple(attributes.shape)}")
    require_pictures(clips)
    parts = [torch.stack([g.argmax(dim=1) for g in classifier(part)], dim=1) for part in clips.split(batch)]
    guesses = torch.cat(parts)  # (N, 3)
    if attributes.shape != guesses.shape:
        raise ValueError(f"expected attributes of shape {tuple(guesses.shape)}, got {tuple(attributes.shape)}")
    return guesses == attributes.to(clips.device)


def accuracy_table(
    right: Tensor, triples: Tensor, attributes: dict[str, Sequence[str]] = ATTRIBUTES
) -> dict[str, float]:
    """Prompt accuracy as a dict of shares in 0..1: overall, of seen triples, of held-out ones, and by attribute.

    Args:
        right: (N, 3) bool, as from `correct_attributes`, on the CPU.
        triples: (N, 3) long, what was asked for.
        attributes: a dict of the three kinds with their names.
    """
    new, all_right = held_out(triples), right.all(dim=1).float()
    parts = {"overall": all_right, "seen": all_right[~new], "held_out": all_right[new]}
    parts |= {kind: right[:, i].float() for i, kind in enumerate(attributes)}
    return {name: round(part.mean().item(), 4) for name, part in parts.items()}
