"""Diffusion in latents: shapes, seeds, the walk from part of the way up, and files."""

import math

import pytest
import torch

from minivdm.diffusion.samplers import sampling_levels
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas
from minivdm.pipelines.latent import build_latent, image_to_image, latent_text_to_image, strength_levels, to_pictures
from minivdm.pipelines.pretrained import NotFinite, load_pretrained, record, save_pretrained
from minivdm.pipelines.text2image import build_text2image
from tests.helpers import with_random_weights

CONFIG = {
    "autoencoder": {"latent_channels": 2, "channels": 8, "mults": (1, 2), "patch": 2},
    "denoiser": {"channels": 32, "mults": (1,)},
    "size": 16,
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model():
    made = with_random_weights(build_latent(**CONFIG)).eval()
    made.autoencoder.measure_scale(pictures(40))
    return made


def pictures(n, seed=0):
    return torch.rand(n, 3, 16, 16, generator=seeded(seed)) * 2 - 1


def test_pictures_for_prompts_depend_on_the_generator_alone(model):
    prompts = ["a red circle at the top left", "a blue ring in the centre", "a green cross at the top"]
    assert model.shape == (2, 4, 4)
    drawn = latent_text_to_image(prompts, model, steps=3, generator=seeded())
    assert drawn.shape == (3, 3, 16, 16) and drawn.isfinite().all() and drawn.abs().max() <= 1
    assert torch.equal(drawn, latent_text_to_image(prompts, model, steps=3, generator=seeded()))
    parts = latent_text_to_image(prompts, model, steps=3, generator=seeded(), batch_size=2)
    assert torch.allclose(drawn, parts, atol=1e-4)
    assert not torch.allclose(drawn, latent_text_to_image(prompts, model, steps=3, generator=seeded(1)), atol=0.01)
    with pytest.raises(ValueError, match="did you mean 'circle'"):
        latent_text_to_image("a red cirle at the top", model)


def test_latents_are_not_clamped_on_the_way(model):
    """Data of unit variance lies beyond 1 for a third of its numbers."""
    seen = []
    latent_text_to_image("a red ring", model, steps=4, generator=seeded(), callback=lambda s, x, x0: seen.append(x0))
    assert max(x0.abs().max() for x0 in seen) > 1.01


@pytest.mark.parametrize("T, n", [(1000, 20), (1000, 1000), (1000, 30), (7, 7), (10, 3)])
def test_the_levels_of_a_strength(T, n):
    assert strength_levels(T, n, 1.0) == sampling_levels(T, n)
    for strength in (1e-9, 0.29, 0.3, 0.58, 0.61, 0.999):
        levels = strength_levels(T, n, strength)
        assert levels[0] == max(1, round(strength * T)) and levels[-1] == 0
        assert all(a > b for a, b in zip(levels, levels[1:]))
        steps = len(levels) - 1
        assert steps * T >= n * levels[0] > (steps - 1) * T
    for strength in (0, -0.1, 1.01, math.nan, math.inf):
        with pytest.raises(ValueError, match="strength must lie above 0 and be at most 1"):
            strength_levels(T, n, strength)
    with pytest.raises(ValueError, match="number of steps"):
        strength_levels(T, T + 1, 0.5)


def test_towards_strength_0_the_reconstruction_comes_back_and_at_1_nothing_does(model):
    x = pictures(2)
    with torch.no_grad():
        latents = model.autoencoder.to_latents(x)
    again = to_pictures(model.autoencoder, latents)
    options = dict(generator=seeded(), steps=5)
    near = image_to_image(x, "a red ring", model, 1e-6, **options)
    assert near.shape == x.shape and (near - again).abs().mean() < 0.02
    far = image_to_image(x, ["a red ring", "a blue cross"], model, 0.9, **options)
    assert (far - again).abs().mean() > 2 * (near - again).abs().mean() and far.abs().max() <= 1
    first, second = (image_to_image(x, "a red ring", model, 0.5, steps=5, generator=seeded()) for _ in range(2))
    assert torch.equal(first, second)
    with pytest.raises(ValueError, match="one prompt for each picture, got 3 for 2"):
        image_to_image(x, ["a red ring"] * 3, model)


def test_a_saved_model_draws_the_same_and_a_broken_one_is_refused(model, tmp_path):
    file = tmp_path / "latent.pt"
    save_pretrained(file, model, CONFIG)
    record(file, command="python -m minivdm.commands.make_latent --out data/latent.pt")
    again = load_pretrained("latent", tmp_path)
    assert not again.training and again.size == 16
    assert again.autoencoder.scale.item() == pytest.approx(model.autoencoder.scale.item(), rel=1e-3)
    one, two = (latent_text_to_image("a red ring", m, steps=3, generator=seeded()) for m in (model, again))
    assert (one - two).abs().mean() < 0.05
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="broken or another file"):
        load_pretrained("latent", tmp_path)
    model = with_random_weights(build_latent(**CONFIG))
    model.autoencoder.scale.fill_(math.nan)
    with pytest.raises(NotFinite, match="autoencoder.scale"):
        save_pretrained(file, model, CONFIG)


def test_the_schedule_is_that_of_before_unless_shifted_and_other_channels_are_taken():
    plain, shifted = build_text2image(32, (1,)), build_text2image(32, (1,), patch=1, in_channels=5, shift=2.0)
    want = NoiseSchedule(cosine_betas(1000)).alpha_bar
    assert torch.equal(plain.schedule.alpha_bar, want)
    odds = shifted.schedule.alpha_bar[500] / (1 - shifted.schedule.alpha_bar[500])
    assert odds.item() == pytest.approx((want[500] / (1 - want[500])).item() / 4, rel=1e-3)
    x = torch.zeros(2, 5, 4, 4)
    assert shifted(x, torch.ones(2, dtype=torch.long), torch.zeros(2, 12, dtype=torch.long)).shape == x.shape


def test_a_size_that_the_autoencoder_cannot_halve_is_refused():
    with pytest.raises(ValueError, match="size must be a multiple of 4, got 18"):
        build_latent(**{**CONFIG, "size": 18})
