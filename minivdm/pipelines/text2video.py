"""From prompts to clips: the parts of a text-to-video model put together, and how to sample from it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..datasets.captions import Tokenizer
from ..diffusion.predictions import EpsModel
from ..diffusion.schedules import NoiseSchedule, cosine_betas, shifted_betas
from ..models.text_encoder import TextEncoder
from ..models.unet import Conditioned, UNet
from ..models.unet3d import UNet3D
from .text2image import sample_tokens


class VideoModel(EpsModel):
    """An `EpsModel` of clips that knows for which clips it is.

    Args:
        net: predicts v, or what `prediction_type` says.
        schedule: its `NoiseSchedule`.
        frames, size: F and H = W of the clips.
        prediction_type: as for `EpsModel`.
    """

    def __init__(self, net: nn.Module, schedule: NoiseSchedule, frames: int, size: int, prediction_type: str = "v"):
        super().__init__(net, prediction_type, schedule)
        self.frames, self.size = frames, size

    def around(self, net: nn.Module) -> "VideoModel":
        """The same model around another network, such as the average of its weights."""
        return VideoModel(net, self.schedule, self.frames, self.size, self.prediction_type)


def build_text2video(
    channels: int = 32,
    mults: Sequence[int] = (2, 3),
    blocks: int = 1,
    patch: int = 2,
    context_dim: int = 64,
    frames: int = 16,
    size: int = 32,
    shift: float = 2.0,
) -> VideoModel:
    """An untrained `VideoModel` for `MovingSprites`, shifted cosine schedule with T = 1000: it estimates eps.

    Inside, a `UNet3D` predicts v (see `predictions`), and a `TextEncoder` turns tokens into its context; `.net` is both
    together, to be trained with `prediction_loss`. The first arguments are those of `UNet`, `context_dim` is D.
    `frames` and `size` are F and H = W of the clips it is for, and `shift` is the factor of `shifted_betas`.
    """
    tokenizer = Tokenizer()
    attention = (len(mults) - 1,)
    image = UNet(3, channels, mults, blocks, attention, context_dim=context_dim, patch=patch)
    encoder = TextEncoder(len(tokenizer), tokenizer.length, context_dim)
    net = Conditioned(UNet3D(image, attention), encoder, tokenizer.length)
    schedule = NoiseSchedule(shifted_betas(cosine_betas(1000), shift))
    return VideoModel(net, schedule, frames, size)


def text_to_video(
    prompts: str | Sequence[str],
    model: VideoModel,
    steps: int = 20,
    guidance_scale: float = 2.0,
    frames: int | None = None,
    size: int | None = None,
    generator: torch.Generator | None = None,
    callback: Callable | None = None,
    batch_size: int = 32,
    cuda_graph: bool = False,
    tokenizer: Tokenizer | None = None,
) -> Tensor:
    """Sample one clip per prompt.

    Args:
        prompts: a string or a list of B strings, for instance "a red circle moving left".
        model: `model(x, t, cond)` that estimates eps, as from `build_text2video`.
        steps: DDIM steps; each is one call of the model on 2 B clips (see `batch_size`).
        guidance_scale: how closely to follow the prompt; 1 = off.
        frames, size: F and H = W of the clips; by default those that the model was made for.
        generator: `torch.Generator` on the model's device; the same one in the same state gives the same clips.
        callback: called as `callback(s, x, x0)` after each step of each part.
        batch_size: at most so many clips go through the model together. All noise is drawn first, so a generator
            gives the same clips for any number, up to rounding.
        cuda_graph: on CUDA, record the kernels of the model's second call, and launch them all at once from then on
            (see `Recorded`); then nothing of its Python runs again.
        tokenizer: what reads the prompts, by default that of the captions of `MovingSprites`.

    Returns:
        (B, 3, F, H, W) float32 in [-1, 1] on the model's device.

    Raises:
        ValueError: if a word is outside the vocabulary, there is no prompt, or a number makes no sense.
    """
    tokens = (tokenizer or Tokenizer()).encode(prompts)  # (B, L)
    frames = model.frames if frames is None else frames
    size = model.size if size is None else size
    shape = (3, frames, size, size)
    return sample_tokens(tokens, shape, model, steps, guidance_scale, generator, callback, batch_size, cuda_graph)
