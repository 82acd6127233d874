r"""What the stages of a cascade learn from: captioned pictures, and clips that nobody described.

Both are kept as bytes on the device, since drawing them costs more than a training step. They come from pools of their
own: no clip is ever seen beside its caption.
"""

import torch
from torch import Tensor

from ..datasets.captions import Tokenizer, caption_table, random_captions
from ..datasets.photos import SpritePhotos
from ..datasets.pixels import to_model_range
from ..datasets.sprites import MovingSprites
from ..datasets.video_folder import VideoFolder

AT_A_TIME = 256  # clips or pictures; as float32 they take four times the memory of bytes


class PhotoPool:
    """Captioned pictures: `pairs(generator, n)` gives (n, 3, H, W) in [-1, 1] and tokens (n, L).

    Args:
        n: number of pictures.
        generator: `torch.Generator`; they are drawn on its device and stay there.
        size: H = W.
    """

    def __init__(self, n: int, generator: torch.Generator, size: int = 32):
        photos, drawn, kinds = SpritePhotos(size), [], []
        for i in range(0, n, AT_A_TIME):
            pictures, attributes = photos.sample(min(AT_A_TIME, n - i), generator)
            drawn.append(as_bytes(pictures))
            kinds.append(attributes)
        self.drawn, self.attributes = torch.cat(drawn), torch.cat(kinds)
        self.table = caption_table(Tokenizer()).to(generator.device)  # (6, 8, 8, W, L)

    def pairs(self, generator: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        pick = picks(len(self.drawn), n, generator)
        return to_model_range(self.drawn[pick]), random_captions(self.table, self.attributes[pick], generator)

    def pictures(self, generator: torch.Generator, n: int) -> Tensor:
        """(n, 3, H, W) in [-1, 1], without a word."""
        return to_model_range(self.drawn[picks(len(self.drawn), n, generator)])


class QuietClips:
    """Clips without captions: from `MovingSprites`, or the learner's own, from a `VideoFolder`.

    Args:
        source: has `sample(n, generator)`, which returns clips (n, 3, F, H, W) in [-1, 1], and something else that
            is thrown away.
        n: number of clips.
        generator: `torch.Generator`; the clips stay on its device.
    """

    def __init__(self, source: MovingSprites | VideoFolder, n: int, generator: torch.Generator):
        self.drawn = None  # (N, F, 3, H, W) uint8, made once: two of them might not fit into the memory
        for i in range(0, n, AT_A_TIME):
            clips = as_bytes(source.sample(min(AT_A_TIME, n - i), generator)[0]).transpose(1, 2)
            self.drawn = clips.new_empty(n, *clips.shape[1:]) if self.drawn is None else self.drawn
            self.drawn[i : i + len(clips)] = clips

    def clips(self, generator: torch.Generator, n: int) -> Tensor:
        """n random clips, whole: (n, 3, F, H, W) in [-1, 1]."""
        return to_model_range(self.drawn[picks(len(self.drawn), n, generator)]).transpose(1, 2)

    def frames(self, generator: torch.Generator, n: int) -> Tensor:
        """n random frames, (n, 3, H, W) in [-1, 1]."""
        pick, frame = picks(len(self.drawn), n, generator), picks(self.drawn.shape[1], n, generator)
        return to_model_range(self.drawn[pick, frame])

    def stretches(self, generator: torch.Generator, n: int, frames: int, skip: Tensor) -> Tensor:
        """n random stretches of clips, of which every so many-th frame is taken.

        Args:
            generator: `torch.Generator` on the clips' device.
            n: how many.
            frames: F of each.
            skip: (n,) long, frames of the recording from one to the next; it has (F - 1) skip + 1 frames or more.

        Returns:
            (n, 3, F, H, W) in [-1, 1].
        """
        room = self.drawn.shape[1] - (frames - 1) * skip  # (n,) where it may begin
        chance = torch.rand(n, generator=generator, device=skip.device)
        start = (chance * room).floor().long()  # (n,)
        places = start[:, None] + skip[:, None] * torch.arange(frames, device=skip.device)  # (n, F)
        pick = picks(len(self.drawn), n, generator)[:, None]
        return to_model_range(self.drawn[pick, places]).transpose(1, 2)


def as_bytes(x: Tensor) -> Tensor:
    """Pictures or clips in [-1, 1] as bytes."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().byte()


def picks(below: int, n: int, generator: torch.Generator) -> Tensor:
    """(n,) random whole numbers in 0..below - 1, on the generator's device."""
    return torch.randint(below, (n,), generator=generator, device=generator.device)


def one_of(choices: range, n: int, generator: torch.Generator) -> Tensor:
    """(n,) long, each one of the choices."""
    return choices.start + picks(len(choices), n, generator)
