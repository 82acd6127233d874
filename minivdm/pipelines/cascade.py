r"""From a prompt to a clip by a cascade, after Make-A-Video (Singer et al., ICLR 2023):

    prompt --CLIP--> text embedding --prior--> image embedding --decoder--> 8 key frames of 16 x 16 pixels
           --interpolation--> 16 frames --spatio-temporal super-resolution--> 32 x 32 --spatial--> 64 x 64

Only CLIP and the prior have seen captions, those of pictures. Whatever moves was learnt from clips without any.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..datasets.captions import Tokenizer
from ..datasets.degradation import known_frames
from ..diffusion.predictions import EpsModel
from ..models.clip import CLIP
from .decoder import sample_key_frames
from .interpolation import interpolate_frames
from .prior import sample_prior
from .super_resolution import upscale
from .text2video import VideoModel


@dataclass(frozen=True)
class Walk:
    """How each stage is sampled: DDIM steps, guidance scales, frame rate, and noise over the small clips."""

    prior_steps: int = 20
    key_frame_steps: int = 20
    steps: int = 8  # of the interpolation, which is shown most of what it makes
    upscale_steps: int = 4  # of the two stages of super-resolution, which are shown still more
    prior_guidance: float = 2.0
    guidance: float = 1.5  # of the decoder
    skip: int = 2  # frames of the clip from one key frame to the next
    level: int = 50  # of noise over small clips


class TextToVideo(nn.Module):
    """The whole cascade as one object: prompts in, clips out.

    Args:
        clip: a trained `CLIP` of pictures and captions.
        prior: from `build_prior`.
        key_frames: from `animate`, tuned on clips.
        interpolation: from `interpolator`.
        spatiotemporal, spatial: from `build_upscaler`, of clips and of frames.

    `cascade(prompts, walk, generator)` returns the clips, (B, 3, F, H, W) in [-1, 1];
    `cascade.stages(...)`, with the same arguments, what each stage has made.
    """

    def __init__(
        self,
        clip: "CLIP",
        prior: "EpsModel",
        key_frames: "VideoModel",
        interpolation: "VideoModel",
        spatiotemporal: "VideoModel",
        spatial: "VideoModel",
    ):
        super().__init__()
        self.clip, self.prior, self.key_frames = clip, prior, key_frames
        self.interpolation, self.spatiotemporal = interpolation, spatiotemporal
        self.spatial = spatial
        require_fits(key_frames, interpolation, spatiotemporal, spatial)
        self.frames, self.size = interpolation.frames, spatial.size

    def forward(
        self,
        prompts: "str | Sequence[str]",
        walk: "Walk | None" = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """One clip for each prompt, (B, 3, F, H, W) in [-1, 1]; see `stages`."""
        return self.stages(prompts, walk, generator)["spatial"]

    @torch.no_grad()
    def stages(
        self,
        prompts: "str | Sequence[str]",
        walk: "Walk | None" = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """What each stage makes, one after the other.

        Args:
            prompts: a string or a list of B strings, in the words of `MovingSprites`.
            walk: a `Walk`; default: `Walk()`.
            generator: `torch.Generator` on the cascade's device.

        Returns:
            A dict in the order of the work: "text" (B, E) and "image" (B, E), unit vectors;
            "key_frames" (B, 3, K, h, h), "interpolation" (B, 3, F, h, h), "spatiotemporal"
            (B, 3, F, 2 h, 2 h) and "spatial" (B, 3, F, 4 h, 4 h), all in [-1, 1].

        Raises:
            ValueError: if a word is unknown, or the key frames do not reach to the end of a clip
                at this frame rate.
        """
        walk = walk or Walk()
        require_skip(walk.skip, self.key_frames.frames, self.frames)
        skip, n = walk.skip, walk.upscale_steps
        tokens = Tokenizer().encode(prompts).to(self.clip.log_scale.device)  # (B, L)
        text = self.clip.embed_texts(tokens)  # (B, E)
        how = (walk.prior_steps, walk.prior_guidance, generator)
        image = sample_prior(self.prior, text, *how)  # (B, E)
        how = (skip, walk.key_frame_steps, walk.guidance, generator)
        keys = sample_key_frames(self.key_frames, image, *how)  # (B, 3, K, h, h)
        known = keys[:, :, : known_frames(self.frames, skip)]
        clip = interpolate_frames(self.interpolation, known, skip, walk.steps, generator)
        middle = upscale(self.spatiotemporal, clip, walk.level, n, generator)
        large = upscale(self.spatial, middle, walk.level, n, generator)
        made = {"text": text, "image": image, "key_frames": keys, "interpolation": clip}
        return {**made, "spatiotemporal": middle, "spatial": large}


def require_skip(skip: int, key_frames: int, frames: int) -> None:
    """A ValueError unless so many key frames, `skip` frames apart, reach to the end of a clip."""
    fits = [n for n in range(2, frames) if known_frames(frames, n) <= key_frames]
    if skip not in fits:
        raise ValueError(
            f"{key_frames} key frames reach through {frames} frames if skip is {fits[0]} or more, got {skip}"
        )


def require_fits(key_frames: VideoModel, interpolation: VideoModel, first: VideoModel, second: VideoModel) -> None:
    """A ValueError unless each of the four makes what the next one takes."""
    sizes = [key_frames.size, interpolation.size, first.size, second.size]
    frames = [interpolation.frames, first.frames]
    if sizes != [sizes[0], sizes[0], 2 * sizes[0], 4 * sizes[0]] or frames[0] != frames[1] or second.frames != 1:
        came = f"sizes {sizes}, frames {frames} and {second.frames}"
        raise ValueError(f"expected sizes h, h, 2 h, 4 h, the same frames in two stages and 1 in the last, got {came}")
