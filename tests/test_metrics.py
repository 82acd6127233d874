"""Metrics against scipy and brute force."""

import numpy as np
import pytest
import scipy.linalg
import torch

from minivdm.evaluation.attribute_classifier import AttributeClassifier, correct_attributes
from minivdm.evaluation.digit_classifier import DigitClassifier
from minivdm.evaluation.metrics import frechet_distance, gaussian_mmd, psnr


def test_frechet_distance_agrees_with_scipy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 12)) @ rng.normal(size=(12, 12)) + 1
    y = rng.normal(size=(300, 12)) @ rng.normal(size=(12, 12))
    s_x, s_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    want = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s_x + s_y - 2 * scipy.linalg.sqrtm(s_x @ s_y).real)
    assert frechet_distance(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(want, rel=1e-6)


def test_frechet_distance_of_known_gaussians():
    x = torch.tensor([[-1.0], [1.0]])  # mean 0, variance 2 (with N - 1)
    assert frechet_distance(x, 3 * x + 5) == pytest.approx(25 + (3 * 2**0.5 - 2**0.5) ** 2)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_with_fewer_samples_than_dimensions():
    x = torch.randn(5, 64)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    "x, y, message",
    [
        (torch.zeros(1, 3), torch.zeros(5, 3), "at least 2 samples in each set, got 1 and 5"),
        (torch.zeros(4, 3), torch.zeros(5, 2), "got (4, 3) and (5, 2)"),
        (torch.full((4, 3), torch.nan), torch.zeros(5, 3), "finite"),
    ],
)
def test_bad_features(x, y, message):
    for metric in (frechet_distance, gaussian_mmd):
        with pytest.raises(ValueError) as error:
            metric(x, y)
        assert message in str(error.value)


def test_mmd_by_two_loops():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(7, 3, generator=generator), torch.randn(5, 3, generator=generator) + 1

    def k(a, b):
        return float(torch.exp(-((a - b) ** 2).sum() / (2 * 0.7**2)))

    xx = [k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    yy = [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    xy = [k(a, b) for a in x for b in y]
    want = np.mean(xx) + np.mean(yy) - 2 * np.mean(xy)
    assert gaussian_mmd(x, y, 0.7) == pytest.approx(want, abs=1e-7)


def test_mmd_is_unbiased():
    """The mean over many pairs of equal distributions is zero; single values fall on both sides."""
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(2, 50, 2, generator=generator) for _ in range(300)]
    values = [gaussian_mmd(x, y) for x, y in draws]
    assert abs(np.mean(values)) < 3 * np.std(values) / 300**0.5
    assert min(values) < 0 < max(values)


BAD = [float("nan"), float("inf"), -float("inf")]


@pytest.mark.parametrize("value", BAD)
def test_nan_and_infinity_are_refused(value):
    good, bad = torch.rand(4, 3), torch.rand(4, 3)
    bad[1, 2] = value
    for metric in (frechet_distance, gaussian_mmd, psnr):
        for pair in ((good, bad), (bad, good)):
            with pytest.raises(ValueError, match="NaN or infinity"):
                metric(*pair)


def test_the_peak_of_psnr_is_1_so_bytes_are_refused():
    x = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"expected pictures as floats in \[0, 1\], got torch.uint8"):
        psnr(x, x)
    with pytest.raises(ValueError, match="expected pictures"):
        psnr(torch.zeros(0, 3), torch.zeros(0, 3))


@pytest.mark.parametrize("bandwidth", [0, -1, *BAD[:2]])
def test_bad_bandwidths(bandwidth):
    with pytest.raises(ValueError, match="the bandwidth must be a positive number"):
        gaussian_mmd(torch.rand(4, 3), torch.rand(4, 3), bandwidth)


JUDGES = {"digits": (DigitClassifier, (2, 1, 8, 8)), "clips": (lambda: AttributeClassifier(width=8), (2, 3, 4, 16, 16))}


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_takes_finite_pictures_alone(name):
    build, shape = JUDGES[name]
    judge, x = build().eval(), torch.rand(shape)
    for call in (judge, judge.features):
        call(x)
        for value in BAD:
            broken = x.clone()
            broken[1, ..., 2, 3] = value
            with pytest.raises(ValueError, match="got NaN or infinity"):
                call(broken)
        for wrong in (x.byte(), x.long()):
            with pytest.raises(ValueError, match=r"expected pictures as floats in \[-1, 1\], got torch"):
                call(wrong)
        with pytest.raises(ValueError, match="got shape"):
            call(x.repeat(1, 2, *[1] * (x.ndim - 2)))


def test_clips_that_cannot_be_judged_have_no_share_of_right_ones():
    judge, clips, asked = AttributeClassifier(width=8).eval(), torch.rand(3, 3, 4, 16, 16), torch.zeros(3, 3).long()
    clips[2, 0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="got NaN or infinity"):
        correct_attributes(judge, clips, asked)
    with pytest.raises(ValueError, match="expected attributes for each of 3 clips"):
        correct_attributes(judge, clips.nan_to_num(), asked[:1])


@pytest.mark.parametrize("distance", [frechet_distance, gaussian_mmd])
def test_features_are_real_numbers_and_not_none(distance):
    for x, message in ((torch.zeros(5, 0), "features"), (torch.randn(5, 2, dtype=torch.complex64), "real numbers")):
        with pytest.raises(ValueError, match=message):
            distance(x, x)


def test_mmd_does_not_depend_on_where_the_origin_is_nor_fail_at_extreme_bandwidths():
    x, y = torch.randn(60, 4, dtype=torch.float64), torch.randn(60, 4, dtype=torch.float64) + 0.3
    # features near 1e8 are rounded to 1e-8
    assert gaussian_mmd(x + 1e8, y + 1e8) == pytest.approx(gaussian_mmd(x, y), abs=1e-6)
    assert gaussian_mmd(x, y, 1e-200) == 0 and gaussian_mmd(x, y, 1e200) == pytest.approx(0, abs=1e-12)


def test_psnr_of_pictures_in_another_range_is_refused():
    for x in (torch.linspace(-1, 1, 9), torch.linspace(0, 255, 9)):
        with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
            psnr(x, x)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 2)])
def test_attributes_of_another_shape_are_not_stretched(shape):
    classifier = AttributeClassifier(width=8).eval()
    with pytest.raises(ValueError, match=r"attributes of shape \(3, 3\)"):
        correct_attributes(classifier, torch.zeros(3, 3, 2, 16, 16), torch.zeros(shape).long())
