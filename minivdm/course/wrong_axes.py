"""Where a result has the right numbers, but other axes: one too many, exchanged, reversed, or moved on by one."""

import itertools

from .probes import tensors_alike


def of_shapes(got, want):
    """Another shape, but the same numbers, or something that tells how it came about."""
    if got.numel() == want.numel():
        if got.ndim == want.ndim:
            return of_axes(got.detach().double(), want.detach().double(), {})
        if tensors_alike(got.reshape(want.shape), want):
            return f"The numbers are right, but their shape is {tuple(got.shape)}, not {tuple(want.shape)}."
    said = of_lengths(got, want)
    if said:
        return said
    if got.ndim > want.ndim and got.shape[-want.ndim :] == want.shape:
        return (
            f"The result has {got.ndim - want.ndim} axes too many: something with one number a sample, (B,), met the "
            "last axis of the data. Give it the shape (B, 1, ..., 1) of that data."
        )
    if got.ndim == 0 and tensors_alike(got.double(), want.double().mean()):
        return "This is the mean of all that is expected: one number instead of many."
    if got.ndim == 0 and tensors_alike(got.double(), want.double().sum()):
        return "This is the sum of all that is expected: one number instead of many."
    for axis in range(want.ndim):
        for name, reduced in (("mean", want.double().mean(axis)), ("sum", want.double().sum(axis))):
            if tensors_alike(got.double(), reduced) or tensors_alike(got.double(), reduced.unsqueeze(axis)):
                return f"This is the {name} along axis {axis} of what is expected."
    return ""


def of_lengths(got, want):
    """One place more or fewer along an axis, the rest being right."""
    if got.ndim != want.ndim:
        return ""
    for axis in range(want.ndim):
        rest = [size for other, size in enumerate(want.shape) if other != axis]
        if [size for other, size in enumerate(got.shape) if other != axis] != rest:
            continue
        more = got.shape[axis] == want.shape[axis] + 1
        long, short = (got, want) if more else (want, got)
        if long.shape[axis] == short.shape[axis] + 1:
            for end, start in (("beginning", 1), ("end", 0)):
                if tensors_alike(long.narrow(axis, start, short.shape[axis]), short):
                    return f"One place too {'many' if more else 'few'} at the {end} of axis {axis}; the rest is right."
    return ""


def of_axes(got, want, given):
    """Axes exchanged, reversed, or moved on by one."""
    if want.ndim and want.numel() > 1:
        for order in itertools.permutations(range(want.ndim)) if 1 < want.ndim <= 5 else ():
            moved = want.permute(order)
            if order != tuple(range(want.ndim)) and moved.shape == got.shape and tensors_alike(got, moved):
                return f"The values are right, but the axes are exchanged: they stand in the order {list(order)}."
        for axis in range(want.ndim if got.shape == want.shape else 0):
            if want.shape[axis] < 2:
                continue
            if tensors_alike(got, want.flip(axis)):
                return f"The values are right, but run backwards along axis {axis}."
            for by in (1, -1):
                inner = slice(1, None) if by == 1 else slice(None, -1)
                rest = slice(None, -1) if by == 1 else slice(1, None)
                there, here = got.movedim(axis, 0)[inner], want.movedim(axis, 0)[rest]
                if want.shape[axis] > 2 and not constant(here, 0) and tensors_alike(there, here):
                    return (
                        f"The values are right, but one place too {'late' if by == 1 else 'early'} along axis {axis}."
                    )
    if got.shape == want.shape and want.numel() > 2:
        atol = 1e-5 * want.abs().max()
        if tensors_alike(got.flatten().sort().values, want.flatten().sort().values, atol):
            return "The numbers are right, but in the wrong places: look at each reshape, and at the order of axes."
    return ""


def constant(values, axis):
    """Whether nothing changes along an axis."""
    return tensors_alike(values, values.narrow(axis, 0, 1).expand_as(values))
