"""DreamBooth's loss: each kind counts by its own mean, whatever their numbers."""

from functools import partial

import pytest
import torch

from minivdm.diffusion.dreambooth import prior_preservation_loss
from minivdm.diffusion.forward_process import q_sample
from minivdm.diffusion.predictions import prediction_loss, to_v
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas
from minivdm.models.unet import UNet
from minivdm.training.ema import EMA
from minivdm.training.loop import train

SCHEDULE = NoiseSchedule(cosine_betas(50))


def net(x, t, cond=None):
    return torch.sin(3 * x) * (1 + t.to(x) / 50).view(-1, *[1] * (x.ndim - 1))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (4, 3, 4, 4), (3, 1, 2, 2, 3)])
@pytest.mark.parametrize("prior", [1, 2])
@pytest.mark.parametrize("weight", [0.0, 1.0, 0.3])
def test_it_is_the_sum_of_two_means(shape, prior, weight):
    x0 = torch.randn(shape, generator=seeded(1), dtype=torch.float64)
    got = prior_preservation_loss(net, x0, SCHEDULE, None, seeded(2), prior, weight)
    generator = seeded(2)
    t = torch.randint(1, 51, shape[:1], generator=generator)
    eps = torch.randn(shape, generator=generator, dtype=torch.float64)
    errors = []
    for b in range(shape[0]):
        one = slice(b, b + 1)
        x_t = q_sample(x0[one], t[one], eps[one], SCHEDULE)
        errors.append((net(x_t, t[one]) - to_v(x0[one], t[one], eps[one], SCHEDULE)).square().mean().item())
    new, old = errors[: shape[0] - prior], errors[shape[0] - prior :]
    assert got.item() == pytest.approx(sum(new) / len(new) + weight * sum(old) / len(old), rel=1e-12)


def test_without_prior_pictures_it_is_the_loss_of_v():
    x0 = torch.randn(3, 2, 4, 4, generator=seeded())
    got = prior_preservation_loss(net, x0, SCHEDULE, generator=seeded(1), weight=7.0)
    torch.testing.assert_close(got, prediction_loss(net, x0, SCHEDULE, generator=seeded(1)))


@pytest.mark.parametrize("batch, prior", [(1, 1), (4, 4), (4, 5), (4, -1)])
def test_a_batch_without_the_new_thing_is_refused(batch, prior):
    with pytest.raises(ValueError, match=f"prior must lie in 0..{batch - 1}"):
        prior_preservation_loss(net, torch.zeros(batch, 1, 2, 2), SCHEDULE, prior=prior)


def test_the_training_loop_takes_it():
    torch.manual_seed(0)
    model = UNet(1, 32, (1,), 1)
    x0 = torch.randn(4, 1, 4, 4)
    loss = partial(prior_preservation_loss, prior=2, weight=0.5)
    steps = train(model, EMA(model), lambda generator: (x0, None), SCHEDULE, 3, loss=loss, progress=False)
    assert all(value.isfinite() for _, value in steps)
