"""minivdm: a text-to-video diffusion model small enough to read in one sitting.

Folders of short modules, one concept each; imports run downwards only. Images are `(B, C, H, W)` and videos
`(B, C, F, H, W)` in [-1, 1]. Levels of noise are counted as the papers count them: 0 is clean data, 1..T carry noise.

What people use most can be had from here, and is imported when it is asked for:

    from minivdm import load_pretrained, text_to_video
"""

import importlib
import os

__version__ = "0.1.0"

SHORT_NAMES = {
    "NoiseSchedule": "diffusion.schedules",
    "cosine_betas": "diffusion.schedules",
    "linear_betas": "diffusion.schedules",
    "ddpm_sample": "diffusion.samplers",
    "ddim_sample": "diffusion.samplers",
    "UNet": "models.unet",
    "UNet3D": "models.unet3d",
    "load_pretrained": "pipelines.pretrained",
    "text_to_image": "pipelines.text2image",
    "text_to_video": "pipelines.text2video",
}


def share_cores() -> None:
    """Let threads that wait for each other sleep soon instead of spinning; to be called before PyTorch is imported.

    While they spin, nobody else gets the core: with two other programs on two cores, training a small network took 6 to
    34 s instead of 1.8, and so 4.6 to 7.3 (alone 1.9). It is GNU's OpenMP, PyTorch's on Linux, that reads the setting.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def __getattr__(name: str) -> object:
    """One of `SHORT_NAMES`, from the module where it is written."""
    if name not in SHORT_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{SHORT_NAMES[name]}"), name)


def __dir__() -> list[str]:
    """What is here, and `SHORT_NAMES`."""
    return sorted([*globals(), *SHORT_NAMES])
