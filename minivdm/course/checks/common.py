"""What the checks share: fresh schedules and look-ups, written out without minivdm."""

from types import SimpleNamespace

import torch

from minivdm.course.exercise import close, holds


def fresh_schedule(draw, T=12):
    """A schedule with random betas, so that no table can be known beforehand; `ab` holds alpha_bar as floats."""
    beta = [0.0] + draw.uniform(T, low=0.02, high=0.2).tolist()
    ab = [1.0]
    for b in beta[1:]:
        ab.append(ab[-1] * (1 - b))
    return tables(torch.tensor(beta), torch.tensor(ab)), ab


def wide_schedule(draw, T=30):
    """Like `fresh_schedule`, with levels from hardly any noise (1e-5) to hardly any data (1e-6), as real ones have."""
    odds = draw.uniform(T - 2, low=-9, high=9).sort(descending=True).values.double()
    alpha_bar = torch.tensor([1.0, 1 - 1e-5, *torch.sigmoid(odds).tolist(), 1e-6])
    beta = torch.cat([torch.zeros(1), 1 - alpha_bar[1:] / alpha_bar[:-1]])
    return tables(beta, alpha_bar), alpha_bar.tolist()


def tables(beta, alpha_bar):
    """What a `NoiseSchedule` offers at whole levels, from its two (T + 1,) tables."""
    return SimpleNamespace(
        T=len(beta) - 1,
        beta=beta,
        alpha_bar=alpha_bar,
        alpha=lambda t: alpha_bar[t].sqrt(),
        sigma=lambda t: (1 - alpha_bar[t]).sqrt(),
    )


def column(values, t, x):
    """values[t] for each sample, float64, shaped to broadcast against x."""
    return torch.tensor([values[i] for i in t.tolist()], dtype=torch.float64).reshape(-1, *[1] * (x.ndim - 1))


SHAPES = {"images (4, 3, 8, 8)": (4, 3, 8, 8), "points (6, 2)": (6, 2), "videos (2, 3, 4, 8, 8)": (2, 3, 4, 8, 8)}


def bayes(ab, x0, x_t, t, s):
    """Moments of x_s given x_t and x_0: the product of two Gaussians, where x_0 sends it and what x_t says about it."""
    ab_t, ab_s = column(ab, t, x0), column(ab, s, x0)
    alpha = ab_t / ab_s
    prior, evidence = 1 / (1 - ab_s), alpha / (1 - alpha)  # precisions
    variance = 1 / (prior + evidence)
    return variance * (prior * ab_s.sqrt() * x0 + evidence * x_t / alpha.sqrt()), variance


def at(table, t, x):
    """table[t] for each sample, shaped to broadcast against x."""
    return table[t].reshape(-1, *[1] * (x.ndim - 1))


def layer_probes(name, layer, inputs, want, parts, **like):
    """Probes of a layer's output; where it is wrong, first of what each of its parts was given, to find the place.

    Args:
        name: what the case is.
        inputs: what the layer is called with.
        want: its output in float64.
        parts: what each part should be given in float64, by its name in `self`, in the order of the computation. One
            that is not called, or with different inputs, is left out.
        like: for `close`.
    """
    given, hooks, problem = {}, [], None
    for part in parts:

        def note(module, arguments, named, part=part):
            given.setdefault(part, []).append([*arguments, *named.values()][0].detach().clone())

        hooks.append(getattr(layer, part).register_forward_pre_hook(note, with_kwargs=True))
    try:
        probe = close(name, layer(*inputs), want, **like)
    except Exception as error:  # perhaps in a part that was given something wrong
        probe, problem = holds(name, False), error
    finally:
        for hook in hooks:
            hook.remove()
    for part, expected in parts.items():
        first, *others = given.get(part, [None])
        if not probe.ok and first is not None and all(torch.equal(first, other) for other in others):
            yield close(f"{name}: what self.{part} is given", first, expected, **like)
    if problem:
        raise problem
    yield probe


def given_noise(first, second):
    """A probe: two equal calls must give equal results (NaN counts as equal), or the code draws noise of its own."""
    same = torch.is_tensor(first) and torch.is_tensor(second) and first.shape == second.shape
    same = same and torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)
    message = "two equal calls give different results: use the argument `noise`, and draw none yourself"
    return holds("the noise is the one that was given", same or not torch.is_tensor(first), message)


def same_seed_same_result(what, run, draw):
    """Probes: `run(generator)` gives one result for one seed and another for another, and so draws from it alone."""
    seed = draw.integers(0, 2**31 - 2)
    first, again, other = (run(torch.Generator().manual_seed(each)) for each in (seed, seed, seed + 1))
    yield holds(f"the same seed gives the same {what}", torch.equal(first, again), "two equal generators, two results")
    yield holds(f"another seed gives another {what}", not torch.equal(first, other), "two seeds, one result")
