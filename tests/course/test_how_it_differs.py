"""General hints: what was made of the expected result is said in a sentence, or nothing is."""

from types import SimpleNamespace

import pytest
import torch

from minivdm.course.how_it_differs import how_it_differs, of_error

torch.manual_seed(0)
A, B = torch.randn(2, 4, 3, 5)
T = torch.tensor([3, 0, 7, 0])
FACTORS = torch.tensor([0.3, 0.5, 0.7, 0.9]).reshape(4, 1, 1)
WANT = FACTORS * A + (1 - FACTORS**2).sqrt() * B
GIVEN = dict(a=A, b=B, t=T)
EITHER = torch.where(T.reshape(4, 1, 1) == 0, 0, WANT)


@pytest.mark.parametrize(
    "got, said",
    [
        (-WANT, "Every number has the wrong sign."),
        (2 * WANT, "Every number is 2 times what is expected."),
        (WANT / 15, "constant factor"),
        (WANT / 3, "Every number is 1/3 (the size of axis 1) times what is expected."),
        (WANT + 0.5, "Every number is 0.5 too large."),
        (WANT + torch.randn(3, 1), "Along axis 1, each place is off by a number of its own"),
        (A, "What comes back is `a`, unchanged."),
        (torch.zeros(4, 3, 5), "The result is 0 everywhere."),
        (WANT.flip(2), "run backwards along axis 2"),
        (WANT.roll(1, 2), "one place too late along axis 2"),
        (WANT.transpose(1, 2), "the axes are exchanged: they stand in the order [0, 2, 1]"),
        (WANT.transpose(1, 2).reshape(4, 3, 5), "in the wrong places"),
        (WANT.flatten(1), "their shape is (4, 15), not (4, 3, 5)"),
        (WANT.mean(0), "This is the mean along axis 0"),
        (WANT[:, 1:], "One place too few at the beginning of axis 1"),
        (WANT[:1].expand(4, 3, 5), "All samples get the answer of the first one."),
        (WANT.mean(0).expand(4, 3, 5), "All samples get the mean of the batch."),
        (WANT[0].flip(0).expand(4, 3, 5), "All samples get the answer of none."),
        (EITHER, "Wrong only where `t` is 0."),
        (WANT.clamp(-0.4, 0.6), "The result is cut off below -0.4 and above 0.6."),
        (WANT.abs(), "the absolute value"),
        (torch.nn.functional.silu(WANT), "with a SiLU after it"),
        (FACTORS**2 * A + (1 - FACTORS**2).sqrt() * B, "The factor of `a` is the square of the right one"),
        (FACTORS * A + (1 - FACTORS**2) * B, "The factor of `b` is the square of the right one"),
        (FACTORS * A - (1 - FACTORS**2).sqrt() * B, "The sign of `b` is wrong."),
        (FACTORS * A, "`b` is missing."),
        (FACTORS * B + (1 - FACTORS**2).sqrt() * A, "`a` and `b` are exchanged: each has the factor of the other."),
        (FACTORS * A + 0.8 * B, "All samples have one factor of `b`, 0.8; each needs its own."),
        (WANT + A + B, "The factor of `a` is wrong"),
        (torch.cat([WANT[:, :2], WANT[:, 2:] ** 3], dim=1), "Along axis 1, only the last is wrong"),
        (WANT + 0.1 * torch.randn(4, 3, 5), ""),
        (WANT.double(), ""),
        (WANT * torch.nan, ""),
        (None, ""),
    ],
)
def test_a_tensor(got, said):
    found = how_it_differs(got, WANT, GIVEN)
    assert said in found if said else found == ""


@pytest.mark.parametrize(
    "got, want, said",
    [
        ([3, 2, 1], [1, 2, 3], "backwards"),
        ([3, 2], [3, 2, 1], "The list misses its last item, 1."),
        ([4, 3, 2], [3, 2, 1], "Every number in the list is 1 too large."),
        (["a", "c", "b"], ["a", "b", "c"], "another order"),
        ((B, A), (A, B), "The two results come in the wrong order."),
        ((A, -B), (A, B), "Result 2 of 2: Every number has the wrong sign."),
        (T[2].double().expand(4), T.double(), "All numbers are the same, that of number 2."),
        (torch.full((4,), 2.5), T.float(), "the mean of the batch"),
        (16.0, 1.0, "This is 16 times what is expected."),
        (0.5, 1.0, "This is 1/2 of what is expected."),
        (-3.0, 3.0, "The sign is wrong."),
        (0.71, 1.0, ""),
        (None, 1.0, ""),
    ],
)
def test_other_results(got, want, said):
    found = how_it_differs(got, want, {})
    assert said in found if said else found == ""


C, D = torch.randn(2, 5, 3, 5)
LEVELS = torch.tensor([3, 1, 7, 4, 2])
SCHEDULE = SimpleNamespace(alpha_bar=torch.linspace(1, 0.1, 9), beta=torch.linspace(0, 0.6, 9) ** 2)


def noisy(keep, noise):
    """A sum with these factors, one for each sample."""
    return keep.reshape(-1, 1, 1) * C + noise.reshape(-1, 1, 1) * D


def table(t):
    return SCHEDULE.alpha_bar[t]


KEEP, NOISE = table(LEVELS).sqrt(), (1 - table(LEVELS)).sqrt()


@pytest.mark.parametrize(
    "got, said",
    [
        (
            noisy(table(LEVELS - 1).sqrt(), NOISE),
            "`c` has the factor sqrt(alpha_bar_(t - 1)); it should be sqrt(alpha_bar_t).",
        ),
        (noisy(table(8 - LEVELS).sqrt(), NOISE), "`c` has the factor sqrt(alpha_bar_(T - t))"),
        (noisy(KEEP, 1 - KEEP), "`d` has the factor (1 - sqrt(alpha_bar_t)); it should be sqrt(1 - alpha_bar_t)."),
        (
            noisy(KEEP, SCHEDULE.beta[LEVELS].sqrt()),
            "`d` has the factor sqrt(beta_t); it should be sqrt(1 - alpha_bar_t).",
        ),
        (noisy(KEEP, NOISE / KEEP), "`d` has the factor sqrt(1 - alpha_bar_t) / sqrt(alpha_bar_t)"),
        (noisy(KEEP, KEEP + NOISE), "The factor of `d` is wrong"),
        (KEEP * C + NOISE * D, "The samples' factors lie along axis 2"),
        (noisy(KEEP, NOISE) + KEEP.reshape(-1, 1, 1) * (C.clamp(-1, 1) - C), "`c` is clamped to [-1, 1]."),
        (noisy(KEEP, NOISE) + NOISE.reshape(-1, 1, 1) * (D[:1] - D), "All samples get the `d` of the first one."),
    ],
)
def test_factors_of_a_schedule(got, said):
    assert said in how_it_differs(got, noisy(KEEP, NOISE), dict(c=C, t=LEVELS, d=D, schedule=SCHEDULE))


def test_an_error_about_sizes():
    with pytest.raises(RuntimeError) as caught:
        table(LEVELS) * C[..., :2]
    assert "one number for each of the 5 samples" in of_error(caught.value, dict(c=C[..., :2]))
    assert (
        of_error(caught.value, dict(c=C[:3]))
        == of_error(caught.value, dict(c=C[:, :, :1]))
        == of_error(ValueError("no"), dict(c=C))
        == ""
    )
