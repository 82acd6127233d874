"""Every metric against an independent library, on random and on extreme inputs, to 1e-6 relative."""

import math
import warnings

import numpy as np
import pytest
import scipy.linalg
import torch

from minivdm.evaluation.intervals import wilson_interval
from minivdm.evaluation.metrics import frechet_distance, polynomial_mmd, psnr
from minivdm.evaluation.picture_metrics import C1, C2, psnr_per_picture, ssim, ssim_of_moments
from minivdm.evaluation.scores import clipsim, frame_consistency, inception_score
from minivdm.evaluation.texture import flicker, grain

skimage = pytest.importorskip("skimage.metrics")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torchmetrics = pytest.importorskip("torchmetrics")
    from torchmetrics.image import kid
    from torchmetrics.image.inception import InceptionScore

NEARLY = 1e-6


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


# Pictures


def pairs():
    x = torch.rand(2, 3, 17, 23, generator=seeded(1), dtype=torch.float64)
    half, one = torch.full_like(x, 0.5), torch.ones_like(x)
    return {
        "random": (x, torch.rand(x.shape, generator=seeded(2), dtype=torch.float64)),
        "nearly equal": (x, (x + 1e-3 * torch.randn(x.shape, generator=seeded(3), dtype=torch.float64)).clamp(0, 1)),
        "equal": (x, x.clone()),
        "negative": (x, 1 - x),
        "zeros and ones": (torch.zeros_like(x), one),
        "constants": (half, 0.25 * one),
        "constant and random": (half, x),
        "one window": (x[..., :11, :11], x.flip(-1)[..., :11, :11]),
        "nearly black": (1e-4 * x, 2e-4 * x),
    }


@pytest.mark.parametrize("name", pairs())
def test_ssim_and_psnr_agree_with_scikit_image(name):
    x, y = pairs()[name]
    options = dict(data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=0)
    want = [skimage.structural_similarity(a.numpy(), b.numpy(), **options) for a, b in zip(x, y)]
    assert ssim(x, y) == pytest.approx(np.mean(want), rel=NEARLY)
    with np.errstate(divide="ignore"):
        want = [skimage.peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1) for a, b in zip(x, y)]
        pooled = skimage.peak_signal_noise_ratio(x.numpy(), y.numpy(), data_range=1)
    assert psnr_per_picture(x, y).tolist() == pytest.approx(want, rel=NEARLY)
    assert psnr(x, y) == pytest.approx(pooled, rel=NEARLY)
    assert psnr_per_picture(x, y).mean() >= psnr(x, y) - 1e-9, "the mean of decibels is the larger one"


@pytest.mark.parametrize("name", ["random", "equal", "zeros and ones", "constants"])
def test_ssim_agrees_with_torchmetrics(name):
    x, y = pairs()[name]
    metric = torchmetrics.functional.image.structural_similarity_index_measure
    _, places = metric(x, y, data_range=1.0, return_full_image=True)  # its mean counts the reflected border, too
    assert ssim(x, y) == pytest.approx(places[..., 5:-5, 5:-5].mean().item(), rel=NEARLY)


def test_known_values_of_pictures():
    zeros, ones = torch.zeros(1, 1, 12, 12), torch.ones(1, 1, 12, 12)
    assert ssim(zeros, ones) == pytest.approx(C1 / (1 + C1)) == pytest.approx(9.999e-5, rel=1e-4)
    assert psnr(zeros, ones) == 0 and psnr(ones, ones) == math.inf and ssim(ones, ones) == 1
    x = torch.rand(2, 3, 4, 12, 13, generator=seeded())
    y = torch.rand(x.shape, generator=seeded(1))
    by_frame = [[ssim(x[b : b + 1, :, f], y[b : b + 1, :, f]) for f in range(4)] for b in range(2)]
    assert ssim(x, y) == pytest.approx(np.mean(by_frame)) == pytest.approx(ssim(y, x))
    by_frame = [[psnr(x[b, :, f], y[b, :, f]) for f in range(4)] for b in range(2)]
    assert torch.allclose(psnr_per_picture(x, y), torch.tensor(by_frame, dtype=torch.float64))
    y[0, :, 2] = x[0, :, 2]
    assert psnr_per_picture(x, y)[0, 2] == math.inf and math.isfinite(psnr(x, y))


def test_the_formula_of_ssim_is_the_product_of_three():
    mu_x, mu_y, sigma_x, sigma_y = torch.rand(4, 50, generator=seeded(), dtype=torch.float64)
    cov = sigma_x * sigma_y * (2 * torch.rand(50, generator=seeded(1), dtype=torch.float64) - 1)
    parts = (
        (2 * mu_x * mu_y + C1) / (mu_x**2 + mu_y**2 + C1),
        (2 * sigma_x * sigma_y + C2) / (sigma_x**2 + sigma_y**2 + C2),
        (cov + C2 / 2) / (sigma_x * sigma_y + C2 / 2),
    )
    got = ssim_of_moments(mu_x, mu_y, sigma_x**2, sigma_y**2, cov)
    assert torch.allclose(got, math.prod(parts), rtol=1e-12)


@pytest.mark.parametrize("metric", [ssim, psnr_per_picture, psnr])
def test_pictures_that_are_refused(metric):
    good = torch.rand(1, 3, 12, 12, generator=seeded())
    for bad, message in (
        (torch.full_like(good, math.nan), "NaN or infinity"),
        (good + 3, "values in"),
        (255 * good, "values in"),
        (1e30 * good, "values in"),
        ((255 * good).byte(), "floats"),
        (good[..., :11], "one shape"),
        (good[:0], "one shape"),
    ):
        for pair in ((good, bad), (bad, good)):
            with pytest.raises(ValueError, match=message):
                metric(*pair)
    if metric is not psnr:
        with pytest.raises(ValueError, match=r"pictures \(B, C, H, W\) or clips"):
            metric(good[0], good[0])
    if metric is ssim:
        with pytest.raises(ValueError, match="at least 11 x 11 pixels, got 10 x 12"):
            ssim(good[..., :10, :], good[..., :10, :])


# Sets of features


def by_scipy(x, y):
    """The distance with the matrix root of SciPy."""
    x, y = x.numpy(), y.numpy()
    s_x, s_y = np.atleast_2d(np.cov(x, rowvar=False)), np.atleast_2d(np.cov(y, rowvar=False))
    root = scipy.linalg.sqrtm(s_x @ s_y).real
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s_x + s_y - 2 * root)


def by_samples(x, y):
    """The same for singular covariances, where roots of rounding errors add up: singular values of A B^T, by LAPACK."""
    x, y = x.numpy(), y.numpy()
    a, b = x - x.mean(0), y - y.mean(0)
    n, m = len(x) - 1, len(y) - 1
    root = scipy.linalg.svdvals(a @ b.T).sum() / np.sqrt(n * m)
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + (a**2).sum() / n + (b**2).sum() / m - 2 * root


def test_frechet_distance_agrees_with_scipy_and_torchmetrics():
    from torchmetrics.image.fid import _compute_fid

    for seed, (n, m, d) in enumerate([(40, 30, 3), (500, 300, 16), (64, 200, 8), (9, 7, 1)]):
        x, y = normal(n, d, seed=seed) @ normal(d, d, seed=5), 2 * normal(m, d, seed=seed + 9) + 1
        want = by_scipy(x, y)
        assert frechet_distance(x, y) == pytest.approx(want, rel=NEARLY)
        cov_x, cov_y = torch.atleast_2d(torch.cov(x.T)), torch.atleast_2d(torch.cov(y.T))
        theirs = _compute_fid(x.mean(0), cov_x, y.mean(0), cov_y).item()
        assert frechet_distance(x, y) == pytest.approx(theirs, rel=NEARLY)
        assert frechet_distance(y, x) == pytest.approx(want, rel=NEARLY)


def test_frechet_distance_of_singular_covariances():
    few, others = normal(5, 64), normal(9, 64, seed=1)
    line = normal(30, 1) * normal(1, 6, seed=1)
    for x, y in ((few, others), (line, normal(30, 6, seed=2)), (line, 2 * line), (few[:2], others[:2])):
        assert frechet_distance(x, y) == pytest.approx(by_samples(x, y), rel=NEARLY)
    point = torch.ones(4, 3)
    assert frechet_distance(point, point) == 0 and frechet_distance(point, 3 * point) == pytest.approx(12)
    assert frechet_distance(point[:2], normal(50, 3)) == pytest.approx(
        (normal(50, 3).mean(0) - 1).square().sum().item() + torch.cov(normal(50, 3).T).trace().item()
    )
    for x in (few, line, normal(300, 20)):
        assert frechet_distance(x, x) <= 1e-12 * x.square().sum().item() and frechet_distance(x, x) >= 0


@pytest.mark.parametrize("scale", [1e-140, 1e-30, 1e30, 1e150])
def test_frechet_distance_at_any_scale(scale):
    x, y = normal(20, 4), normal(25, 4, seed=1) + 1
    assert frechet_distance(scale * x, scale * y) / scale**2 == pytest.approx(frechet_distance(x, y), rel=NEARLY)


def test_what_is_beyond_float64_is_refused_in_one_line():
    x, y = normal(20, 4), normal(25, 4, seed=1)
    for metric, scale in ((frechet_distance, 1e200), (frechet_distance, 1e307), (polynomial_mmd, 1e60)):
        with pytest.raises(ValueError, match="powers of the features are too large|squares of the features are too"):
            metric(scale * x, scale * y)


def test_polynomial_mmd_agrees_with_torchmetrics_and_two_loops():
    for n, m, d in ((2, 2, 3), (30, 30, 5), (7, 7, 40), (50, 50, 1)):
        x, y = normal(n, d), 1.5 * normal(m, d, seed=1) + 0.3
        want = kid.poly_mmd(x, y).item()
        assert polynomial_mmd(x, y) == pytest.approx(want, rel=NEARLY)
    x, y = normal(6, 3), normal(4, 3, seed=1)
    xx = [(float(a @ b) / 3 + 1) ** 3 for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    yy = [(float(a @ b) / 3 + 1) ** 3 for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    xy = [(float(a @ b) / 3 + 1) ** 3 for a in x for b in y]
    assert polynomial_mmd(x, y) == pytest.approx(np.mean(xx) + np.mean(yy) - 2 * np.mean(xy), rel=NEARLY)
    assert polynomial_mmd(x, x) < 0, "equal sets are more alike than two draws, and nothing is clamped"
    point = torch.ones(3, 2)
    assert polynomial_mmd(point, point) == 0
    x, y = 1e6 * normal(20, 3), 2e6 * normal(20, 3, seed=1)
    assert polynomial_mmd(x, y) == pytest.approx(kid.poly_mmd(x, y).item(), rel=NEARLY)


def test_polynomial_mmd_is_unbiased_where_frechet_is_not():
    values = [(normal(10, 4, seed=i), normal(10, 4, seed=1000 + i)) for i in range(400)]
    mmd = np.array([polynomial_mmd(*pair) for pair in values])
    assert abs(mmd.mean()) < 3 * mmd.std() / 20 and mmd.min() < 0 < mmd.max()
    assert min(frechet_distance(*pair) for pair in values[:50]) > 0


# Probabilities and embeddings


class Given(torch.nn.Module):
    """A "network" whose features are what it is given; its logits become the probabilities."""

    def forward(self, x):
        return x


@pytest.mark.parametrize("splits", [1, 3, 10])
def test_inception_score_agrees_with_torchmetrics(splits, monkeypatch):
    logits = 3 * normal(57, 6)
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))  # it shuffles
    cuts = lambda x, n, dim=0: [x[len(x) * i // n : len(x) * (i + 1) // n] for i in range(n)]  # noqa: E731
    monkeypatch.setattr(torch.Tensor, "chunk", cuts)  # it cuts elsewhere, where N / splits is no whole number
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = InceptionScore(feature=Given(), splits=splits)
        theirs.set_dtype(torch.float64)
        theirs.features.append(logits)
        mean, std = theirs.compute()
    got = inception_score(logits.softmax(1), splits)
    assert got[0] == pytest.approx(mean.item(), rel=NEARLY)
    if splits > 1:  # theirs divides by splits - 1
        assert got[1] == pytest.approx(std.item() * ((splits - 1) / splits) ** 0.5, rel=NEARLY)
    else:
        assert got[1] == 0


def test_inception_score_at_its_ends():
    sure = torch.eye(5).repeat(4, 1)
    assert inception_score(sure, 1) == (pytest.approx(5), 0) and inception_score(sure, 4) == (pytest.approx(5), 0)
    assert inception_score(sure[:1].expand(7, -1), 2) == (1, 0)
    assert inception_score(torch.full((9, 3), 1 / 3), 3)[0] == pytest.approx(1)
    assert inception_score(torch.ones(1, 1), 1) == (1, 0)
    assert inception_score(sure, 20)[0] == 1, "one sample a part: nothing varies"


@pytest.mark.parametrize(
    "p, splits, message",
    [
        (torch.randn(5, 3), 1, "softmax first"),
        (torch.ones(5, 3), 1, "add up to 3..3"),
        (torch.full((5, 3), math.nan), 1, "finite"),
        (torch.ones(5), 1, "got shape"),
        (torch.zeros(0, 3), 1, "got shape"),
        (torch.ones(5, 1), 6, "1 to 5 splits for 5 samples, got 6"),
        (torch.ones(5, 1), 0, "got 0"),
    ],
)
def test_probabilities_that_are_refused(p, splits, message):
    with pytest.raises(ValueError, match=message):
        inception_score(p, splits)


def test_cosines_agree_with_torchmetrics():
    frames, texts = normal(3, 4, 6), normal(3, 6, seed=1)
    cosine = torchmetrics.functional.pairwise_cosine_similarity
    want = torch.stack([cosine(a, b[None]).mean() for a, b in zip(frames, texts)]).mean().item()
    assert clipsim(frames, texts) == pytest.approx(want, rel=NEARLY)
    want = torch.stack([cosine(a[:-1], a[1:]).diagonal().mean() for a in frames]).mean().item()
    assert frame_consistency(frames) == pytest.approx(want, rel=NEARLY)
    for scale in (1e-300, 1e300):
        assert clipsim(scale * frames, texts) == pytest.approx(clipsim(frames, texts), rel=NEARLY)
        assert frame_consistency(scale * frames) == pytest.approx(frame_consistency(frames), rel=NEARLY)
    assert frame_consistency(frames[:, :1].expand(-1, 4, -1)) == pytest.approx(1) == clipsim(texts[:, None], texts)
    assert clipsim(-texts[:, None], texts) == pytest.approx(-1)


def test_embeddings_that_are_refused():
    frames, texts = normal(3, 4, 6), normal(3, 6, seed=1)
    for bad, message in ((0 * frames, "is 0"), (frames / 0, "finite"), (frames[0], r"\(B, F, D\)")):
        with pytest.raises(ValueError, match=message):
            frame_consistency(bad)
        with pytest.raises(ValueError, match=message):
            clipsim(bad, texts)
    with pytest.raises(ValueError, match="at least 2 frames"):
        frame_consistency(frames[:, :1])
    for bad in (texts[:2], texts[:, :5], texts[:0]):
        with pytest.raises(ValueError, match="of prompts"):
            clipsim(frames, bad)


# Grain, flicker, intervals


def test_grain_and_flicker_find_the_standard_deviation_of_noise():
    ramp = torch.linspace(-1, 1, 32)[:, None] * torch.linspace(0, 1, 32)
    clips = ramp.expand(2, 3, 12, 32, 32).clone()
    assert grain(clips) == pytest.approx(0, abs=1e-7) == flicker(clips)
    clips[:, :, :, 8:16, 8:16] += 0.5  # a thing that stands there: no grain
    clips[:, :, 6:, 20:26, 20:26] += 0.5  # and one that appears: no flicker
    assert grain(clips) < 1e-6 and flicker(clips) < 1e-6
    for sigma in (0.01, 0.3):
        noisy = clips + sigma * torch.randn(clips.shape, generator=seeded())
        assert grain(noisy) == pytest.approx(sigma, rel=0.1) and flicker(noisy) == pytest.approx(sigma, rel=0.1)
    lamp = clips + 0.1 * torch.randn(2, 1, 12, 1, 1, generator=seeded())
    assert grain(lamp) < 1e-6 < 0.02 < flicker(lamp)
    still = (clips[:, :, :1] + 0.1 * torch.randn(2, 3, 1, 32, 32, generator=seeded())).expand(-1, -1, 12, -1, -1)
    assert flicker(still) == 0 and grain(still) == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("measure", [grain, flicker])
def test_clips_without_second_differences_are_refused(measure):
    for bad in (torch.zeros(2, 3, 2, 2, 2), torch.zeros(3, 8, 8), torch.zeros(1, 3, 4, 8, 8).byte()):
        with pytest.raises(ValueError, match="expected"):
            measure(bad)
    with pytest.raises(ValueError, match="NaN"):
        measure(torch.full((1, 3, 4, 8, 8), math.nan))


def test_wilson_interval_agrees_with_scipy():
    from scipy.stats import binomtest

    for hits, n in ((0, 1), (1, 1), (3, 10), (5, 10), (10, 10), (500, 999), (0, 10**6)):
        for confidence in (0.5, 0.95, 0.999):
            want = binomtest(hits, n).proportion_ci(confidence, method="wilson")
            assert wilson_interval(hits, n, confidence) == pytest.approx((want.low, want.high), rel=NEARLY, abs=1e-12)
    for wrong in ((1, 0), (-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="0 to n hits"):
            wilson_interval(*wrong)
    with pytest.raises(ValueError, match="a confidence between 0 and 1"):
        wilson_interval(1, 2, 1.0)
