"""Damaged clips: each as it says; blind spots and worthless clips."""

import math

import pytest
import torch

from minivdm.evaluation.blind_spots import notices
from minivdm.evaluation.damages import DAMAGES, warped
from minivdm.evaluation.fooling import same_moments, worthless
from minivdm.evaluation.metrics import frechet_distance, polynomial_mmd
from minivdm.evaluation.texture import flicker, grain


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clips(n=3):
    return torch.rand(n, 3, 8, 12, 12, generator=seeded()) * 2 - 1


@pytest.mark.parametrize("name", [*DAMAGES, "warped"])
def test_a_damage_leaves_its_input_alone_and_draws_from_its_generator(name):
    damage, x = {**DAMAGES, "warped": warped}[name], clips()
    kept = x.clone()
    made, again = damage(x, seeded(1)), damage(x, seeded(1))
    assert made.shape == x.shape and torch.equal(x, kept) and torch.equal(made, again) and not torch.equal(made, x)
    if name not in ("blur", "reversed", "cut"):
        assert not torch.equal(made, damage(x, seeded(2)))


def test_what_damages_do_to_frames():
    x = clips()
    mixed = DAMAGES["shuffled"](x, seeded())
    for a, b in zip(x, mixed):
        assert sorted(a.sum((0, 2, 3)).tolist()) == pytest.approx(sorted(b.sum((0, 2, 3)).tolist()), abs=1e-4)
    frozen = DAMAGES["frozen"](x, seeded())
    assert all(torch.equal(frozen[:, :, f], frozen[:, :, 0]) for f in range(8))
    assert all(any(torch.equal(b[:, 0], a[:, f]) for f in range(8)) for a, b in zip(x, frozen))
    assert torch.equal(DAMAGES["reversed"](x, seeded())[:, :, 0], x[:, :, 7])
    cut = DAMAGES["cut"](x, seeded())
    assert torch.equal(cut[1, :, :4], x[1, :, :4]) and torch.equal(cut[1, :, 4:], x[0, :, 4:])


def test_grain_flicker_and_glass():
    even = torch.zeros(2, 3, 8, 16, 16)
    for name, sigma in (("grain", 0.05), ("noise", 0.3)):
        assert grain(DAMAGES[name](even, seeded())) == pytest.approx(sigma, rel=0.1)
    lamp = DAMAGES["flicker"](even, seeded())
    assert grain(lamp) < 1e-6 and flicker(lamp) > 0.02
    assert torch.allclose(warped(even + 0.5, seeded()), even + 0.5, atol=1e-6), "an even picture looks as ever"
    still = torch.rand(2, 3, 1, 16, 16, generator=seeded()).expand(-1, -1, 8, -1, -1)
    glass, trembling = warped(still, seeded()), warped(still, seeded(), trembling=True)
    assert torch.allclose(glass[:, :, 0], glass[:, :, 7]) and not torch.allclose(trembling[:, :, 0], trembling[:, :, 7])
    assert torch.allclose(warped(still, seeded(), strength=0.0), still, atol=1e-5)


def test_what_is_noticed():
    def draw(generator):
        return torch.randn(20, 3, generator=generator)

    def moved(x, generator):
        return x + 2

    z = notices(frechet_distance, draw, moved, seeded())
    assert z > 4 and z == notices(frechet_distance, draw, moved, seeded())
    assert abs(notices(frechet_distance, draw, lambda x, generator: x, seeded())) < 4
    assert notices(lambda x, y: 1.0, draw, moved, seeded()) == 0
    assert notices(lambda x, y: float(y.mean() > 1), draw, moved, seeded()) == math.inf
    with pytest.raises(ValueError, match="at least 2 rounds, to know what varies; got 1"):
        notices(frechet_distance, draw, moved, seeded(), rounds=1)


def test_two_moments_are_all_that_the_frechet_distance_sees():
    x = torch.randn(200, 3, generator=seeded()).exp()
    assert frechet_distance(x, same_moments(x)) < 1e-5 * frechet_distance(x, 2 * x)
    assert polynomial_mmd(x, same_moments(x)) > 3 * abs(polynomial_mmd(x[:100], x[100:]))


def test_worthless_clips():
    x, labels = clips(8), torch.tensor([3, 3, 3, 5, 5, 3, 9, 3])
    ghost = worthless("psnr", x, labels)
    error = (x - ghost).square().mean()
    assert all(error < (x - other).square().mean() for other in x)
    assert not worthless("frame consistency", x, labels).diff(dim=2).any()
    few = worthless("inception score", x, labels)
    assert len(few.unique(dim=0)) == 3 and few.shape == x.shape
    with pytest.raises(ValueError, match="got 'beauty'"):
        worthless("beauty", x, labels)
