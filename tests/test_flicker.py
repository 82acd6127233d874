"""An error that stays is no flicker; features of a judge see what pixels do not tell."""

import pytest
import torch
from torch.nn import functional as F

from minivdm.datasets.sprites import MovingSprites
from minivdm.evaluation.flicker import flicker
from minivdm.evaluation.perceptual import perceptual_distance
from minivdm.pipelines.pretrained import load_pretrained


def test_a_constant_error_is_no_flicker_and_a_changing_one_is():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(2, 3, 5, 4, 4, generator=generator)
    stays = torch.randn(2, 3, 1, 4, 4, generator=generator)
    assert torch.allclose(flicker(truth + stays, truth), torch.zeros(2), atol=1e-6)
    noise = torch.randn(2, 3, 400, 8, 8, generator=generator)
    assert flicker(noise, torch.zeros_like(noise)).tolist() == pytest.approx([2**0.5] * 2, rel=0.02)
    with pytest.raises(ValueError, match="two frames or more"):
        flicker(truth[:, :, :1], truth[:, :, :1])


def test_blur_costs_more_than_another_brightness_of_the_same_error():
    judge = load_pretrained("video_classifier")
    clips, _ = MovingSprites(4, 32).sample(8, torch.Generator().manual_seed(0))
    frames = clips.transpose(1, 2).flatten(0, 1)
    blurred = F.interpolate(F.avg_pool2d(frames, 4), scale_factor=4.0, mode="bicubic")
    blurred = blurred.unflatten(0, (8, 4)).transpose(1, 2)
    error = (blurred - clips).square().mean().sqrt()
    brighter = clips + error
    distances = [perceptual_distance(judge, each, clips).mean().item() for each in (clips, brighter, blurred)]
    assert distances[0] == 0 and distances[2] > 2 * distances[1] > 0, distances
    assert perceptual_distance(judge, blurred[:, :, 0], clips[:, :, 0]).shape == (8,)
    with pytest.raises(ValueError, match="one shape"):
        perceptual_distance(judge, clips, clips[:4])
