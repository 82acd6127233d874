"""Where a result is a weighted sum of its arguments: which of the weights is wrong, and how.

Most equations of diffusion are such sums, sample by sample: x_t = a x_0 + b eps. Solving for a and b, in what came and
in what was expected, tells a missing root from a wrong sign.
"""

import itertools

import torch

from .factor_names import name_of
from .probes import tensors_alike


def of_shares(got, want, given, names=()):
    """Both are sums of the arguments, sample by sample, and some factors differ: which, and how.

    Args:
        names: (name, values) of likely factors, as of `factor_names.names_of`.
    """
    parts = {key: value for key, value in given.items() if value.shape == got.shape and value.any()}
    if got.ndim < 2 or not parts or got[0].numel() < 2 * len(parts) + 2:
        return ""
    columns = torch.stack([value.flatten(1) for value in parts.values()], dim=2)  # (B, N, arguments)
    mine, right = (torch.linalg.lstsq(columns, each.flatten(1)[..., None]).solution[..., 0] for each in (got, want))

    def is_sum(result, parts, factors, axis=0):
        shape = [-1 if other == axis else 1 for other in range(got.ndim)]
        fits = got.shape[axis] == len(got)
        terms = (part * factor.reshape(shape) for part, factor in zip(parts.values(), factors.T)) if fits else ()
        return fits and tensors_alike(result, sum(terms))

    if not is_sum(want, parts, right):
        return ""
    for axis in range(1, got.ndim):
        if is_sum(got, parts, right, axis):
            return (
                f"The samples' factors lie along axis {axis}, as a shape like (B,) or (B, 1) makes them do. They "
                "belong to axis 0: give them the shape (B, 1, ..., 1)."
            )
    for key, part in parts.items():
        if is_sum(got, {**parts, key: part.clamp(-1, 1)}, right):
            return f"`{key}` is clamped to [-1, 1]. Take it as it is."
        if is_sum(got, {**parts, key: part[:1].expand_as(part)}, right):
            return f"All samples get the `{key}` of the first one. Each has its own."
    if not is_sum(got, parts, mine):
        return ""
    for i, j in itertools.combinations(range(len(parts)), 2):
        one, other = (list(parts)[k] for k in (i, j))
        if not tensors_alike(mine, right) and tensors_alike(mine[:, [i, j]], right[:, [j, i]]):
            return f"`{one}` and `{other}` are exchanged: each has the factor of the other."
    pairs = zip(parts, mine.T, right.T)
    return " ".join(dict.fromkeys(filter(None, (of_factors(key, *factors, given, names) for key, *factors in pairs))))


def of_factors(key, mine, right, given, names=()):
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
        f"The factor of `{key}` is the square of the right one: a root is missing.": right * right.abs(),
        f"The factor of `{key}` is the root of the right one: there is a root too much.": right.sign()
        * right.abs().sqrt(),
        f"The factor of `{key}` is 1 divided by the right one.": 1 / right,
        f"The factor of `{key}` should be subtracted from 1.": 1 - right,
        f"All samples get the factor of `{key}` of the first one.": right[:1].expand_as(right),
        f"All samples get the factor of `{key}` of the last one.": right[-1:].expand_as(right),
        f"All samples have one factor of `{key}`, {mine[0]:.4g}; each needs its own.": mine.mean().expand_as(right),
    }
    for said, factors in known.items():
        if factors.isfinite().all() and tensors_alike(mine, factors):
            return said
    came, wanted = name_of(mine, names), name_of(right, names)
    if came:
        return f"`{key}` has the factor {came}; it should be {wanted}." if wanted else f"`{key}` has the factor {came}."
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
