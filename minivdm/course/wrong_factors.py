"""Where a result is a weighted sum of its arguments: which of the weights is wrong, and how.

Most equations of diffusion are such sums, sample by sample: x_t = a x_0 + b eps. Solving for a and b, in what came and
in what was expected, tells a missing root from a wrong sign.
"""

import itertools

import torch

from .probes import tensors_alike


def of_shares(got, want, given):
    """Both are sums of the arguments, sample by sample, and some factors differ: which, and how."""
    parts = {key: value for key, value in given.items() if value.shape == got.shape and value.any()}
    if got.ndim < 2 or not parts or got[0].numel() < 2 * len(parts) + 2:
        return ""
    columns = torch.stack([value.flatten(1) for value in parts.values()], dim=2)  # (B, N, arguments)
    mine, right = (torch.linalg.lstsq(columns, each.flatten(1)[..., None]).solution[..., 0] for each in (got, want))
    sums = [torch.einsum("bna,ba->bn", columns, factors).reshape(got.shape) for factors in (mine, right)]
    if not tensors_alike(sums[0], got) or not tensors_alike(sums[1], want):
        return ""
    for i, j in itertools.combinations(range(len(parts)), 2):
        one, other = (list(parts)[k] for k in (i, j))
        if not tensors_alike(mine, right) and tensors_alike(mine[:, [i, j]], right[:, [j, i]]):
            return f"`{one}` and `{other}` are exchanged: each has the factor of the other."
    pairs = zip(parts, mine.T, right.T)
    return " ".join(dict.fromkeys(filter(None, (of_factors(key, *factors, given) for key, *factors in pairs))))


def of_factors(key, mine, right, given):
    """What is wrong with the factors of one argument, one a sample; "" if nothing."""
    if tensors_alike(mine, right):
        return ""
    if (mine.abs() < 1e-5).all():
        return f"`{key}` is missing."
    if (right.abs() < 1e-5).all():
        return f"`{key}` does not belong there."
    known = {
        f"The sign of `{key}` is wrong.": -right,
        f"`{key}` has no factor; it needs one that depends on the sample.": torch.ones_like(right),
        f"The factor of `{key}` is the square of the right one: a root is missing.": right**2,
        f"The factor of `{key}` is the root of the right one: there is a root too much.": right.clamp(min=0).sqrt(),
        f"The factor of `{key}` is 1 divided by the right one.": 1 / right,
        f"The factor of `{key}` should be subtracted from 1.": 1 - right,
        f"All samples get the factor of `{key}` of the first one.": right[:1].expand_as(right),
        f"All samples get the factor of `{key}` of the last one.": right[-1:].expand_as(right),
        f"All samples have one factor of `{key}`, {mine[0]:.4g}; each needs its own.": mine.mean().expand_as(right),
    }
    for said, factors in known.items():
        if factors.isfinite().all() and tensors_alike(mine, factors):
            return said
    wrong = [i for i in range(len(right)) if not tensors_alike(mine[i], right[i])]
    where = where_wrong(wrong, given) if len(wrong) < len(right) else ""
    i = wrong[0]
    return where or f"The factor of `{key}` is wrong: {mine[i]:.4g} where {right[i]:.4g} is right, in sample {i}."


def where_wrong(wrong, given):
    """Which value of an argument, one number a sample, all wrong samples have and no right one; "" if there is none."""
    for key, value in given.items():
        values = value.tolist() if value.ndim == 1 else []
        found = {values[i] for i in wrong} if values else set()
        if len(found) == 1 and values.count(one := found.pop()) == len(wrong) and (len(wrong) > 1 or one in (0, 1)):
            return f"Wrong only where `{key}` is {one:g}."
    return ""
