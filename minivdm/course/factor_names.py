"""What a factor is made of: numbers of a noise schedule by name, such as "sqrt(1 - alpha_bar_t)".

A check knows the right factor of an argument, and solves for the one that came. If both have a name, a hint can say
what stands there and what should, whatever the mistake: a root too few, the wrong table, the level below.
"""

import itertools

import torch

from .probes import tensors_alike


def names_of(given):
    """(name, values) of the numbers that a call's arguments make likely, one value a sample, likely ones first.

    Args:
        given: dict of the call's arguments. Without a `schedule` and a tensor of levels, `t` or `s`, nothing is found.
    """
    schedule, found = given.get("schedule"), []
    tables = [name for name in ("alpha_bar", "beta") if torch.is_tensor(getattr(schedule, name, None))]
    levels = {key: given[key] for key in ("t", "s") if torch.is_tensor(given.get(key)) and given[key].ndim == 1}
    for moved, table in itertools.product(("{}", "({} - 1)", "({} + 1)", "(T - {})"), tables):
        for key, t in levels.items():
            values = getattr(schedule, table).double()
            at = {"{}": t, "({} - 1)": t - 1, "({} + 1)": t + 1, "(T - {})": len(values) - 1 - t}[moved]
            if not t.is_floating_point() and at.min() >= 0 and at.max() < len(values):
                found += made_of(f"{table}_{moved.format(key)}", values[at])
    return found


def made_of(name, values):
    """What is made of one number: itself, its root, 1 minus it, .., and what is made of two of these."""
    one = {
        name: values,
        f"sqrt({name})": values.sqrt(),
        f"(1 - {name})": 1 - values,
        f"sqrt(1 - {name})": (1 - values).sqrt(),
        f"(1 - sqrt({name}))": 1 - values.sqrt(),
    }
    inverse = {f"1 / {key}": 1 / value for key, value in one.items()}
    ratios = {f"{a} / {b}": one[a] / one[b] for a, b in itertools.permutations(one, 2)}
    products = {f"{a} {b}": one[a] * one[b] for a, b in itertools.combinations(one, 2)}
    return [*one.items(), *inverse.items(), *ratios.items(), *products.items()]


def name_of(factors, names):
    """What factors, one a sample, are called; "" if nothing has that name, or there are too few to tell."""
    if len(factors.unique()) < 3:
        return ""
    for name, values in names:
        for sign, signed in (("", values), ("-", -values)):
            if signed.isfinite().all() and tensors_alike(factors, signed):
                return sign + name
    return ""
