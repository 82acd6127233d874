r"""The prior: which picture fits this sentence? From CLIP's embedding of a text to one of a picture.

CLIP puts the two near each other, but not at the same place: all texts lie in one region, all pictures in another
(Liang et al., "Mind the Gap", NeurIPS 2022). And many pictures fit one sentence. So the way is learnt by a diffusion
model of embeddings (Ramesh et al., "Hierarchical Text-Conditional Image Generation with CLIP Latents", 2022), and the
networks that come after it never need a text: this is what allows them to learn from pictures and clips alone.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ..diffusion.predictions import EpsModel
from ..models.prior_net import PriorNet
from .stages import sample_stage, stage_schedule


def build_prior(dim: int = 64, width: int = 192, blocks: int = 4) -> EpsModel:
    """An untrained prior for embeddings of `dim` numbers: an `EpsModel` whose net, a `PriorNet`, predicts x_0."""
    return EpsModel(PriorNet(dim, width, blocks), "x0", stage_schedule())


def to_unit_variance(embeddings: Tensor) -> Tensor:
    r"""Unit vectors as a diffusion model needs its data: entries about as large as the noise.

    A unit vector of E entries has a mean square of 1 / E, the noise one of 1.

    Equation:
        out = sqrt(E) u / |u|

    Args:
        embeddings: (B, E), of any length but 0.

    Returns:
        (B, E), like embeddings; the mean of the squares of each row is 1.
    """
    return math.sqrt(embeddings.shape[-1]) * F.normalize(embeddings, dim=-1)


def sample_prior(
    model: "EpsModel",
    texts: Tensor,
    steps: int = 20,
    guidance_scale: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """An image embedding for each text embedding.

    The model has learnt from embeddings of images, and been told those of texts, both with entries
    about as large as those of the noise (`to_unit_variance`): many lie beyond -1 and 1.

    Args:
        model: as from `build_prior`.
        texts: (B, E) text embeddings, unit vectors, of the CLIP that it was trained with.
        steps: DDIM steps.
        guidance_scale: how closely to follow the text; 1 = off.
        generator: `torch.Generator` on the texts' device; the start is drawn from it.

    Returns:
        (B, E) unit vectors.
    """
    noise = torch.randn(texts.shape, generator=generator, device=texts.device)
    cond = to_unit_variance(texts)
    how = (steps, guidance_scale, texts.shape[1])
    made = sample_stage(model, noise, cond, *how, clip_x0=False)
    return F.normalize(made, dim=-1)
