"""The best linear code against a search, and what a price is."""

import pytest
import torch

from minivdm.evaluation.rate_distortion import design_code, linear_code


def variances(n=12, seed=0):
    return torch.rand(n, generator=torch.Generator().manual_seed(seed)).mul(6).sub(3).exp()


def test_one_number_by_hand():
    rate, distortion = linear_code(torch.tensor([4.0]), 2.0)
    assert distortion == 1 and rate == pytest.approx(0.5 * torch.tensor(4.0).log().item())
    assert linear_code(torch.tensor([4.0]), 8.0) == (0, 4) == linear_code(torch.tensor([4.0]), 100.0)


def test_no_other_code_is_cheaper_at_this_price():
    v, price = variances().double(), 0.7
    rate, distortion = linear_code(v, price)
    best = distortion + price * rate
    torch.manual_seed(0)
    for _ in range(300):
        lost = v * torch.rand(12, dtype=torch.float64)
        assert lost.sum() + price * (v / lost).log().sum() / 2 >= best - 1e-9


def test_the_price_is_the_slope_of_the_curve():
    v = variances()
    for price in (0.02, 0.3, 3.0):
        (r0, d0), (r1, d1) = linear_code(v, price * 0.999), linear_code(v, price * 1.001)
        assert (d1 - d0) / (r0 - r1) == pytest.approx(price, rel=1e-3)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_designed_code_loses_what_is_allowed(share):
    for v in (variances(), variances(1), torch.ones(5), variances(300, seed=1)):
        allowed = share * v.double().sum().item()
        price, channels = design_code(v, allowed)
        assert linear_code(v, price)[1] == pytest.approx(allowed, rel=1e-6)
        assert channels == int((v.double() > price / 2 * (1 + 1e-12)).sum())


def test_an_error_that_cannot_be_is_refused():
    for wrong in (0.0, -1.0, 7.0, 8.0, float("nan")):
        with pytest.raises(ValueError, match="must lie above 0 and below the sum of the variances, 7"):
            design_code(torch.tensor([3.0, 4.0]), wrong)
