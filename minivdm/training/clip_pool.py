"""A pool of drawn clips to train on, kept on the device as bytes: drawing them costs more than a training step."""

import torch

from ..datasets.captions import Tokenizer, caption_table, random_captions
from ..datasets.pixels import to_model_range
from ..diffusion.guidance import drop_condition

CLIPS_AT_A_TIME = 1024  # as float32 they take four times the memory of bytes


def render_clips(sprites, n, generator):
    """n training clips as bytes, (n, 3, F, H, W) uint8, and their attributes, (n, 3) long.

    Only `CLIPS_AT_A_TIME` of them exist as float32 at a time.
    """
    clips, attributes = [], []
    for i in range(0, n, CLIPS_AT_A_TIME):
        drawn, kinds = sprites.sample(min(CLIPS_AT_A_TIME, n - i), generator)
        clips.append(drawn.add_(1).mul_(127.5).round_().byte())
        attributes.append(kinds)
        del drawn
    return torch.cat(clips), torch.cat(attributes)


class ClipPool:
    """Drawn clips in memory, to draw batches from: clean data in [-1, 1], and tokens of random wordings.

    One caption in ten is dropped, so that the model also learns to do without.

    Args:
        sprites: a `MovingSprites`.
        n: number of clips.
        generator: `torch.Generator`; the clips are drawn on its device and stay there.
    """

    def __init__(self, sprites, n, generator):
        self.drawn, self.attributes = render_clips(sprites, n, generator)  # (N, 3, F, H, W), (N, 3)
        self.table = caption_table(Tokenizer()).to(generator.device)  # (6, 8, 8, W, L)

    def clips(self, generator, size):
        """`size` random clips, (size, 3, F, H, W), and tokens (size, L)."""
        pick = random_numbers(len(self.drawn), size, generator)
        return to_model_range(self.drawn[pick]), self.tokens(pick, generator)

    def pictures(self, generator, size):
        """`size` random frames as clips of one frame, (size, 3, 1, H, W), and tokens (size, L)."""
        pick = random_numbers(len(self.drawn), size, generator)
        frame = random_numbers(self.drawn.shape[2], size, generator)
        return to_model_range(self.drawn[pick, :, frame])[:, :, None], self.tokens(pick, generator)

    def tokens(self, pick, generator):
        """Tokens of the clips with these numbers."""
        tokens = random_captions(self.table, self.attributes[pick], generator)
        return drop_condition(tokens, 0.1, generator)


def random_numbers(below, size, generator):
    """(size,) random whole numbers in 0..below - 1, on the generator's device."""
    return torch.randint(below, (size,), generator=generator, device=generator.device)
