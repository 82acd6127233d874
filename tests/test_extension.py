"""Going on from known frames: what reconstruction guidance must do, and what a longer clip is made of."""

import pytest
import torch

from minivdm.diffusion.extension import ReconstructionGuidance, extend
from minivdm.diffusion.guidance import ClassifierFreeGuidance
from minivdm.diffusion.samplers import ddim_sample, sampling_levels
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas
from minivdm.pipelines.text2video import build_text2video
from tests.helpers import with_random_weights

SCHEDULE = NoiseSchedule(cosine_betas(1000))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(covariance):
    """The perfect model of clips (B, 1, F, 1, 1) from N(0, covariance)."""

    def model(x, t, cond=None):
        keep = SCHEDULE.alpha_bar[t[0]]
        noisy = keep * covariance + (1 - keep) * torch.eye(len(covariance))
        return (1 - keep).sqrt() * (x.flatten(1) @ torch.linalg.inv(noisy)).reshape(x.shape)

    return model


def test_the_known_frames_come_out_as_they_were():
    model = with_random_weights(build_text2video(mults=(1,), frames=4, size=8))
    known, noise = torch.rand(2, 3, 2, 8, 8) * 2 - 1, torch.randn(2, 3, 4, 8, 8)
    tokens = torch.randint(1, 30, (2, 12))
    path = []
    for guide in (model, ClassifierFreeGuidance(model, 3.0)):
        guided = ReconstructionGuidance(guide, SCHEDULE, known, 2.0)
        out = ddim_sample(
            guided,
            noise,
            SCHEDULE,
            sampling_levels(1000, 5),
            tokens,
            clip_x0=True,
            callback=lambda s, x, x0: path.append((s, x)),
        )
        assert torch.allclose(out[:, :, :2], known, atol=1e-4)
        assert not out.requires_grad and all(p.grad is None for p in model.parameters())
    s, x = path[2]
    keep = SCHEDULE.alpha_bar[s]
    assert 0 < s < 1000, "on the way they carry the noise that they began with"
    assert torch.allclose(x[:, :, :2], keep.sqrt() * known + (1 - keep).sqrt() * noise[:, :, :2], atol=1e-3)


def test_the_gradient_brings_the_answer_closer_to_the_truth():
    """Two frames, correlated by 0.9: given that the first is 2, the second has mean 1.8."""
    model = gaussian(torch.tensor([[1, 0.9], [0.9, 1]]))
    noise, known = torch.randn(2000, 1, 2, 1, 1, generator=seeded()), torch.full((2000, 1, 1, 1, 1), 2.0)
    mean = {}
    for weight in (0.0, 3.0):
        guided = ReconstructionGuidance(model, SCHEDULE, known, weight)
        out = ddim_sample(guided, noise, SCHEDULE, sampling_levels(1000, 50))
        mean[weight] = out[:, 0, 1].mean().item()
    assert abs(mean[3.0] - 1.8) < 0.5 * abs(mean[0.0] - 1.8)


def test_a_longer_clip():
    model = gaussian(torch.eye(4))
    video, noise = torch.rand(3, 1, 6, 1, 1) * 2 - 1, torch.randn(3, 1, 4, 1, 1)
    longer = extend(video, model, noise, SCHEDULE, overlap=3, levels=sampling_levels(1000, 10), weight=1.0)
    assert longer.shape == (3, 1, 7, 1, 1) and torch.equal(longer[:, :, :6], video)
    assert longer[:, :, 6:].abs().max() <= 1
    again = extend(video, model, noise, SCHEDULE, overlap=3, levels=sampling_levels(1000, 10), weight=1.0)
    assert torch.equal(longer, again)


def test_bad_input():
    model, x, t = gaussian(torch.eye(4)), torch.randn(3, 1, 4, 1, 1), torch.full((3,), 5)
    for known in (x, x[:2, :, :1], torch.randn(3, 2, 1, 1, 1)):
        with pytest.raises(ValueError, match="first K of F > K frames, got"):
            ReconstructionGuidance(model, SCHEDULE, known, 1.0)(x, t)
    for overlap in (0, 4):
        with pytest.raises(ValueError, match=f"must lie in 1..3, got {overlap}"):
            extend(x, model, x, SCHEDULE, overlap)
    with pytest.raises(ValueError, match="must lie in 1..2, got 3"):
        extend(x[:, :, :2], model, x, SCHEDULE, 3)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(mode):
    model = with_random_weights(build_text2video(mults=(1,), frames=4, size=8))

    def longer():
        video, noise = torch.randn(2, 1, 3, 3, 8, 8, generator=seeded())[:, 0].unbind()
        noise = torch.cat([noise, noise], dim=1)[None, :, :4]
        tokens = torch.randint(1, 30, (1, 12), generator=seeded())
        guided = ClassifierFreeGuidance(model, 3.0)
        return extend(video[None], guided, noise, SCHEDULE, 2, sampling_levels(1000, 3), tokens)

    want = longer()
    with mode():
        got = longer()
        assert not torch.is_grad_enabled()
    assert torch.equal(got, want) and all(p.grad is None for p in model.parameters())


def test_known_frames_in_bytes_are_refused():
    """Beside new frames in [-1, 1] they would stand as numbers up to 255."""
    clip = torch.zeros(1, 3, 2, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="expected float32 or more, got torch.uint8"):
        extend(clip, gaussian(torch.eye(4)), torch.randn(1, 3, 4, 8, 8), SCHEDULE, 1)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_is_a_finite_number_of_0_or_more(weight):
    with pytest.raises(ValueError, match="weight"):
        ReconstructionGuidance(lambda x, t, cond: x, SCHEDULE, torch.zeros(1, 3, 2, 4, 4), weight)
