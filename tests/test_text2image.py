"""The small networks that are shipped for pictures: as described, small, and doing what they are told."""

import json
import math

import pytest
import torch

from minivdm.datasets.sprites import all_triples, held_out
from minivdm.datasets.stills import STILL_ATTRIBUTES, SpriteStills
from minivdm.diffusion.guidance import ClassifierFreeGuidance, NullTextGuidance, null_text_inversion
from minivdm.diffusion.samplers import ddim_invert, ddim_sample, sampling_levels
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas, linear_betas
from minivdm.evaluation.attribute_classifier import correct_attributes
from minivdm.evaluation.metrics import psnr
from minivdm.models.clip import CLIP
from minivdm.pipelines import pretrained
from minivdm.pipelines.text2image import build_text2image, still_tokenizer, text_to_image
from tests.helpers import with_random_weights

MANIFEST = json.loads((pretrained.DATA / "manifest.json").read_text())


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def shipped():
    return pretrained.load_pretrained("text2image")


@pytest.fixture(scope="module")
def classifier():
    return pretrained.load_pretrained("stills_classifier")


@pytest.mark.parametrize("name", ["clip", "digits", "text2image", "stills_classifier", "concepts_classifier"])
def test_a_shipped_checkpoint_is_small_and_as_described(name):
    entry, model = MANIFEST[name], pretrained.load_pretrained(name)
    described = pretrained.describe(pretrained.DATA / f"{name}.pt")
    assert {**entry, **described} == entry and entry["bytes"] <= 5_000_000
    assert entry["command"].startswith("python -m minivdm.commands.make_") and not model.training
    count = sum(p.numel() for p in model.parameters())
    assert entry.get("parameters", count) == count
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in model.parameters())


def test_what_was_measured_is_good_enough():
    accuracy = MANIFEST["text2image"]["prompt_accuracy"]
    assert accuracy["seen"] >= 0.95 and accuracy["held_out"] >= 0.85
    assert min(MANIFEST["stills_classifier"]["classifier_accuracy"].values()) >= 0.99
    judged = MANIFEST["concepts_classifier"]["classifier_accuracy"]
    assert min(judged[kind] for kind in ("shape", "colour", "place", "colour_in_frames")) >= 0.99
    assert judged["shape_in_frames"] >= 0.95
    assert min(MANIFEST["clip"]["shape_and_colour"].values()) >= 0.99
    judged = MANIFEST["digits"]["judged"]
    assert judged["right_class"] >= 0.95 and judged["mini_fid_by_class"] < judged["mini_fid_of_unseen_real"]


def test_the_shipped_model_draws_what_the_prompt_says(shipped):
    """Judged here by hand: where the red and the blue are, and how much of them."""
    prompts = ["a red square at the top left", "a blue circle in the lower right", "there is a red ring in the middle"]
    images = text_to_image(prompts, shipped, steps=8, generator=seeded())
    assert images.shape == (3, 3, 32, 32) and images.isfinite().all() and images.abs().max() <= 1
    red, _, blue = ((images + 1) / 2).unbind(1)  # (3, H, W) each
    grid = (torch.arange(32) + 0.5) / 16 - 1
    for colour, x, y in (
        ((red - blue)[0], -0.55, -0.55),
        ((blue - red)[1], 0.55, 0.55),
        ((red - blue)[2], 0, 0),
    ):
        colour = (colour - 0.2).clamp(min=0)  # (H, W)
        assert colour.sum() > 20
        assert abs((colour.sum(0) * grid).sum() / colour.sum() - x) < 0.25
        assert abs((colour.sum(1) * grid).sum() / colour.sum() - y) < 0.25
    hole, rim = (red - blue)[2, 15:17, 15:17].mean(), (red - blue)[2].max()
    assert hole < 0.3 * rim, "a ring has a hole"


def test_the_probe_agrees_about_prompts_that_were_held_out(shipped, classifier):
    triples = all_triples("held_out", STILL_ATTRIBUTES)[::5]  # 9 of 43
    assert held_out(triples).all()
    prompts = SpriteStills().captions(triples, seeded(1))
    images = text_to_image(prompts, shipped, steps=8, generator=seeded())
    assert correct_attributes(classifier, images, triples).all(dim=1).float().mean() >= 0.85


def test_the_probe_reads_drawn_stills(classifier):
    images, attributes = SpriteStills().sample(128, seeded(), "all")
    assert correct_attributes(classifier, images, attributes).float().mean() >= 0.99
    assert [len(names) for names in STILL_ATTRIBUTES.values()] == [logits.shape[1] for logits in classifier(images[:2])]


def test_sampling_is_repeatable_and_checks_the_prompt(shipped):
    first, again = (text_to_image("a green ring on the left side", shipped, 1, generator=seeded(7)) for _ in range(2))
    assert first.shape == (1, 3, 32, 32) and torch.equal(first, again)
    for prompt, message in (("a green teapot", "'teapot'"), ("a red circle moving", "'moving'")):
        with pytest.raises(ValueError, match=message):
            text_to_image(prompt, shipped)


def test_null_text_inversion_keeps_a_picture_under_guidance(shipped):
    schedule, tokens = NoiseSchedule(cosine_betas(1000)), still_tokenizer().encode("a red circle at the top")
    image = SpriteStills().draw(torch.tensor([[0, 0, 1]]), seeded())
    with torch.no_grad():
        cond, null = (shipped.net.encoder(part) for part in (tokens, torch.zeros_like(tokens)))
    levels, path = sampling_levels(1000, 6), {0: image}
    ddim_invert(shipped, image, schedule, levels, cond, callback=lambda t, x, guess: path.update({t: x}))
    nulls = null_text_inversion(shipped, path, cond, null, schedule, scale=5.0, inner_steps=6)
    plain, mended = (
        psnr(*((x.clamp(-1, 1) + 1) / 2 for x in (ddim_sample(guided, path[1000], schedule, levels, cond), image)))
        for guided in (ClassifierFreeGuidance(shipped, 5.0, null), NullTextGuidance(shipped, 5.0, nulls))
    )
    assert mended > plain + 3, (plain, mended)


def test_the_digits_follow_their_labels():
    """Judged by hand: ones are narrow and zeros have a hole."""
    model, schedule = pretrained.load_pretrained("digits"), NoiseSchedule(linear_betas(1000))
    labels = torch.tensor([0, 1]).repeat_interleave(8)
    x = torch.randn(16, 1, 8, 8, generator=seeded())
    digits = ddim_sample(model, x, schedule, sampling_levels(1000, 20), labels[:, None] + 1, clip_x0=True)
    ink = (digits[:, 0] + 1) / 2  # (16, 8, 8)
    middle = ink[:, 3:5, 3:5].mean(dim=(1, 2))
    assert middle[:8].mean() < 0.3 < 0.6 < middle[8:].mean()


def test_an_untrained_model_takes_over_clips_text_encoder():
    clip, model = CLIP(len(still_tokenizer())), build_text2image(channels=32)
    model.net.encoder.load_state_dict(clip.text.state_dict())
    tokens = still_tokenizer().encode(["a red circle at the top", ""])
    assert torch.equal(model.net.encoder(tokens), clip.text(tokens))
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([3, 800])
    assert model(x, t, tokens).shape == x.shape
    assert torch.allclose(model(x, t), model(x, t, torch.zeros_like(tokens)))


def test_psnr_by_hand():
    x = torch.rand(2, 3, 4, 4, generator=seeded())
    assert psnr(x, x) == math.inf
    assert psnr(torch.zeros(5), torch.ones(5)) == 0
    assert psnr(x, x + 0.1) == pytest.approx(20, abs=1e-4) and psnr(x + 0.1, x) == pytest.approx(20, abs=1e-4)
    two = torch.stack([torch.full((4,), 0.1), torch.full((4,), 0.3)])
    assert psnr(torch.zeros(2, 4), two) == pytest.approx(-10 * math.log10(0.05)), "pooled error, not the mean of two"
    with pytest.raises(ValueError, match=r"one shape, got \(2, 3, 4, 4\) and \(3, 4, 4\)"):
        psnr(x, x[0])


@pytest.mark.parametrize("batch_size", [1, 2, 5, 32])
def test_a_generator_gives_the_same_pictures_in_parts_of_any_size(batch_size):
    model, sizes = with_random_weights(build_text2image(channels=32, mults=(1,), context_dim=32)).eval(), []
    model.register_forward_pre_hook(lambda model, inputs: sizes.append(len(inputs[0])))
    prompts = ["a red square at the top left", "a blue circle in the lower right", "there is a red ring in the middle"]
    prompts = [*prompts, *prompts[:2]]
    generator, steps = seeded(), []
    options = dict(steps=3, size=8, callback=lambda s, x, x0: steps.append(s))
    images = text_to_image(prompts, model, generator=generator, batch_size=batch_size, **options)
    assert max(sizes) == 2 * min(batch_size, 5) and sum(sizes) == 2 * 5 * 3
    assert len(steps) == 3 * -(-5 // batch_size)
    whole = text_to_image(prompts, model, steps=3, size=8, generator=(again := seeded()), batch_size=5)
    assert images.shape == (5, 3, 8, 8) and torch.allclose(images, whole, atol=1e-4)
    assert torch.equal(generator.get_state(), again.get_state())


@pytest.mark.parametrize("changes", [dict(batch_size=0), dict(size=0), dict(prompts=[])])
def test_no_sample_at_all_is_refused(changes):
    with pytest.raises(ValueError, match="expected at least one prompt, one sample at a time and one pixel"):
        text_to_image(**{"prompts": "a red square at the top left", "model": build_text2image(32, (1,)), **changes})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_that_would_not_take_the_noise_say_so(dtype):
    with pytest.raises(ValueError, match="float32 weights"):
        text_to_image("a red circle", build_text2image(32, (1,)).to(dtype), 1)


def test_counters_are_stored_as_whole_numbers(tmp_path):
    layer = torch.nn.BatchNorm1d(2)
    layer.num_batches_tracked.fill_(70_001)  # more than float16 can hold
    pretrained.save_pretrained(tmp_path / "a.pt", layer, {})
    assert (
        pretrained.load_weights(tmp_path / "a.pt", lambda config: torch.nn.BatchNorm1d(2)).num_batches_tracked == 70_001
    )
