"""Chapter 13 written in other ways: loops, NumPy, SciPy's roots, entropies."""

import math

import numpy as np
import scipy.linalg
import torch
from torch.nn import functional as F

from minivdm.evaluation.metrics import checked_features
from minivdm.evaluation.picture_metrics import C1, C2, gaussian_window, pictures_of, ssim_of_moments, window_mean
from minivdm.evaluation.scores import checked_probabilities
from tests.checks.collected import alternative


@alternative("picture_metrics.ssim_of_moments")
def ssim_in_one_fraction(mu_x, mu_y, var_x, var_y, cov):
    top = (C1 + 2 * mu_x * mu_y) * (C2 + cov + cov)
    return top / (mu_x.square() + mu_y.square() + C1) / (C2 + var_y + var_x)


@alternative("picture_metrics.ssim_of_moments")
def ssim_by_differences(mu_x, mu_y, var_x, var_y, cov):
    first = 1 - (mu_x - mu_y) ** 2 / (mu_x**2 + mu_y**2 + C1)
    return first * (1 - (var_x + var_y - 2 * cov) / (var_x + var_y + C2))


@alternative("picture_metrics.ssim")
def ssim_by_unfolding(x, y):
    x, y = pictures_of(x, y)
    if min(x.shape[-2:]) < 11:
        raise ValueError("too small")
    g = gaussian_window()
    g = (g[:, None] * g).flatten()[:, None].to(x)  # (121, 1)
    x, y = (F.unfold(each.reshape(-1, 1, *each.shape[-2:]), 11) for each in (x, y))  # (N, 121, places)
    mu_x, mu_y = (g * x).sum(1), (g * y).sum(1)
    a, b = x - mu_x[:, None], y - mu_y[:, None]
    return float(ssim_of_moments(mu_x, mu_y, (g * a * a).sum(1), (g * b * b).sum(1), (g * a * b).sum(1)).mean())


@alternative("picture_metrics.ssim")
def ssim_frame_by_frame(x, y):
    x, y = pictures_of(x, y)
    if x.shape[-2] < 11 or x.shape[-1] < 11:
        raise ValueError("too small")
    found = []
    for a, b in zip(x.flatten(0, -3), y.flatten(0, -3)):
        m = [window_mean(each[None, None]) for each in (a, b, a * a, b * b, a * b)]
        found.append(ssim_of_moments(m[0], m[1], m[2] - m[0] ** 2, m[3] - m[1] ** 2, m[4] - m[0] * m[1]).mean())
    return torch.stack(found).mean()


@alternative("metrics.frechet_distance")
def frechet_by_scipy(x, y):
    x, y = (each.numpy() for each in checked_features(x, y))
    s, t = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    root = np.trace(scipy.linalg.sqrtm(s @ t + 1e-12 * np.eye(len(s))).real)
    return max(float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * root), 0.0)


@alternative("metrics.frechet_distance")
def frechet_by_eigenvalues(x, y):
    x, y = checked_features(x, y)
    s, t = (torch.cov(each.T).reshape(x.shape[1], -1) for each in (x, y))
    root = torch.linalg.eigvals(s @ t).real.clamp(min=0).sqrt().sum()
    return max((x.mean(0) - y.mean(0)).square().sum() + s.trace() + t.trace() - 2 * root, torch.zeros(()))


@alternative("metrics.polynomial_mmd")
def mmd_with_a_mask(x, y):
    x, y = checked_features(x, y)
    both = torch.cat([x, y])
    k = (1 + both @ both.T / x.shape[1]).pow(3)
    if not k.isfinite().all():
        raise ValueError("too large")
    others = ~torch.eye(len(k), dtype=torch.bool, device=k.device)
    n = len(x)
    within = k[:n, :n][others[:n, :n]].mean() + k[n:, n:][others[n:, n:]].mean()
    return (within - 2 * k[:n, n:].mean()).item()


@alternative("metrics.polynomial_mmd")
def mmd_by_norms(x, y):
    x, y = checked_features(x, y)

    def k(a, b):
        return (torch.einsum("nd,md->nm", a, b) / a.shape[1] + 1) ** 3

    def other_pairs(a):
        own = (a.square().sum(1) / a.shape[1] + 1) ** 3
        return (k(a, a).sum() - own.sum()) / (len(a) ** 2 - len(a))

    value = float(other_pairs(x) + other_pairs(y) - 2 * k(x, y).mean())
    if not math.isfinite(value):
        raise ValueError("too large")
    return value


@alternative("scores.inception_score")
def inception_by_entropies(probabilities, splits=10):
    p = probabilities.double()
    n = len(p)
    if not p.isfinite().all() or (p.sum(1) - 1).abs().max() > 1e-3 or p.min() < 0 or not 0 < splits <= n:
        raise ValueError("no probabilities")
    scores = []
    for i in range(splits):
        part = p[n * i // splits : n * (i + 1) // splits]
        scores.append((torch.special.entr(part.mean(0)).sum() - torch.special.entr(part).sum(1).mean()).exp().item())
    return np.mean(scores), np.std(scores)


@alternative("scores.inception_score")
def inception_by_the_library(probabilities, splits=10):
    p = probabilities.double()
    if not ((p.sum(1) - 1).abs() < 1e-3).all() or (p < 0).any():
        raise ValueError("no probabilities")
    if splits < 1 or splits > len(p):
        raise ValueError("too many parts")
    parts = [p[len(p) * i // splits : len(p) * (i + 1) // splits] for i in range(splits)]
    kl = [F.kl_div(part.mean(0).log().expand_as(part), part, reduction="none").nan_to_num() for part in parts]
    scores = torch.stack([each.sum(1).mean() for each in kl]).exp()
    return scores.mean(), scores.std(correction=0)


@alternative("scores.inception_score")
def inception_of_a_tensor_split(probabilities, splits=10):
    p = checked_probabilities(probabilities)
    if not 1 <= splits <= len(p):
        raise ValueError("too many parts")
    kl = [part * (part / part.mean(0)).clamp(min=1e-300).log() for part in p.tensor_split(splits)]  # first ones larger
    scores = torch.stack([each.nan_to_num().sum(1).mean().exp() for each in kl])
    return float(scores.mean()), float(scores.std(correction=0))


@alternative("blind_spots.notices")
def notices_by_turns(metric, draw, damage, generator, rounds=8):
    if rounds < 2:
        raise ValueError("one round")
    rows = torch.zeros(rounds, 2, dtype=torch.float64)
    for row in rows:
        row[1] = metric(draw(generator), damage(draw(generator), generator))
        row[0] = metric(draw(generator), draw(generator))
    error = (rows.var(dim=0).sum() / rounds).sqrt()
    difference = rows.mean(dim=0).diff()
    return 0.0 if difference == 0 else (difference / error).item()


@alternative("blind_spots.notices")
def notices_with_numpy(metric, draw, damage, generator, rounds=8):
    if rounds < 2:
        raise ValueError("one round")
    intact = np.array([metric(draw(generator), draw(generator)) for _ in range(rounds)])
    damaged = []
    for _ in range(rounds):
        reference = draw(generator)
        damaged.append(metric(reference, damage(draw(generator), generator)))
    gap = np.mean(damaged) - intact.mean()
    error = np.sqrt(np.var(damaged, ddof=1) / rounds + intact.var(ddof=1) / rounds)
    return gap / error if error > 0 else math.inf * np.sign(gap) if gap else 0


@alternative("fooling.same_moments")
def moments_of_a_rotated_set(features):
    x = features.double()
    centred = x - x.mean(0)
    first = torch.cat([torch.ones(len(x), 1), torch.randn(len(x), len(x) - 1)], dim=1).double()
    basis = torch.linalg.qr(first).Q[:, 1:]  # orthogonal to the ones
    turned = torch.linalg.qr(torch.randn(len(x) - 1, len(x) - 1).double()).Q
    made = basis @ (turned @ (basis.T @ centred)) + x.mean(0)
    return made.to(features)


@alternative("fooling.same_moments")
def moments_point_by_point(features):
    middle = sum(features) / len(features)
    return torch.stack([middle + (middle - row) for row in features.flip(0)])


@alternative("fooling.worthless")
def worthless_in_loops(metric, clips, labels):
    if metric == "psnr":
        return torch.stack([sum(clips) / len(clips)] * len(clips))
    if metric == "frame consistency":
        g = torch.rand(clips.shape[-2:], generator=torch.Generator().manual_seed(3)).to(clips) * 40
        return g.expand_as(clips).clone()
    if metric != "inception score":
        raise ValueError(metric)
    names = sorted(set(labels.tolist()), reverse=True)
    rows = [labels.tolist().index(names[i % len(names)]) for i in range(len(clips))]
    return clips[rows]


@alternative("fooling.worthless")
def worthless_by_blocks(metric, clips, labels):
    n = len(clips)
    if metric == "psnr":
        return clips.mean(0).repeat(n, 1, 1, 1, 1)
    if metric == "frame consistency":
        return torch.zeros_like(clips) - 3
    if metric == "inception score":
        found = [int((labels == name).nonzero()[-1]) for name in torch.unique(labels)]
        return clips[[found[i * len(found) // n] for i in range(n)]]
    raise ValueError(metric)
