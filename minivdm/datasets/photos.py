r"""Pictures with the captions of what goes on in them, as people write them: "a red circle moving left".

Each shows one moment of a moving sprite. It has a shape and a colour, which the caption names; but where the sprite
goes, no single picture shows. Whoever learns from such pairs learns what the words for things mean, and can learn
little of the words for motions.
"""

import torch
from torch import Tensor

from .shapes import paint
from .sprites import MovingSprites


class SpritePhotos(MovingSprites):
    r"""A source of captioned pictures, endless and repeatable: a moment of `MovingSprites` at which the sprite is seen.

    photos = SpritePhotos(size=32)
    pictures, attributes = photos.sample(64, torch.Generator().manual_seed(0))
    captions = photos.captions(attributes)
    """

    def __init__(self, size: int = 32, frames: int = 16):
        """`size` H = W >= 16 pixels; the moment is one of `frames`, equally spaced in the motion."""
        super().__init__(frames, size)

    def draw(self, attributes: Tensor, generator: torch.Generator) -> Tensor:
        """Draw pictures of given attributes; moment, place, size and ground are random.

        Args:
            attributes: (B, 3) long: shape, colour, motion.
            generator: `torch.Generator`; the pictures are drawn on its device.

        Returns:
            (B, 3, H, W) float in [-1, 1].

        Raises:
            ValueError: if `attributes` is not (B, 3) or an index has no name.
        """
        shape, colour, motion = self.checked(attributes, generator.device).unbind(-1)
        x, y, radius, _ = self.paths(motion, generator)  # (B, F) each
        moment = torch.randint(self.frames, (len(x), 1), generator=generator, device=x.device)  # (B, 1)
        x, y, radius = (path.gather(1, moment) for path in (x, y, radius))  # (B, 1) each
        drawn = (shape, colour, x, y, radius, torch.ones_like(x), self.size, generator)  # nobody keeps a dark picture
        return paint(*drawn, self.shapes, self.colours)[:, :, 0]  # the only frame
