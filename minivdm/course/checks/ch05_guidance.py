"""Exercise 5.7: following the condition further when sampling."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, raises


@exercise("guidance.ClassifierFreeGuidance")
def classifier_free_guidance(f, draw):
    sizes, kinds = [], []
    weights = draw.normal(50, 4)

    def estimate(x, t, cond):
        """An estimate that depends on the sample, the level and each part of the condition; float64."""
        told = weights.double()[cond].sum(1) if cond.ndim == 2 else torch.sin(cond.double() * weights[:3]).sum(1)
        level = (1 + t.double() / 50)[:, None]
        return torch.tanh(x.double() * level) + told[:, : x.shape[1]] / level

    def model(x, t, cond=None):
        sizes.append([len(x), len(t), len(cond)])
        kinds.append(cond.dtype)
        n = max(sizes[-1])
        rows = [torch.arange(n) % len(part) for part in (x, t, cond)]
        known = cond if cond.ndim == 3 else cond.long()
        return estimate(x[rows[0]], t[rows[1]], known[rows[2]]).float()

    def want(x, t, cond, null, s):
        return (1 - s) * estimate(x, t, null) + s * estimate(x, t, cond)

    like = dict(atol=1e-4, dtype=torch.float32)
    x, t, tokens = draw.normal(4, 3), draw.integers(1, 50, 4), draw.integers(1, 49, 4, 3)
    nothing = torch.zeros_like(tokens)
    scale = draw.uniform(1, low=2, high=7).item()
    yield close(f"scale = {scale:.2f}", f(model, scale)(x, t, tokens), want(x, t, tokens, nothing, scale), **like)
    for s, name in ((0.0, "scale = 0: unconditional"), (0.5, "scale = 0.5: half the way"), (1.0, "scale = 1: off")):
        yield close(name, f(model, s)(x, t, tokens), want(x, t, tokens, nothing, s), **like)
    sizes.clear(), kinds.clear()
    f(model, scale)(x, t, tokens)
    yield equal("samples in x, t and cond, in each call of the model", sizes, [[8, 8, 8]])
    right = all(kind == torch.long for kind in kinds)
    yield holds("tokens reach the model as longs", right, f"the model was given {kinds[-1:]}")
    cond, x = draw.normal(4, 3, 4), draw.normal(4, 4)
    name = "a context of vectors"
    yield close(name, f(model, scale)(x, t, cond), want(x, t, cond, torch.zeros_like(cond), scale), **like)
    null = draw.normal(4, 3, 4)
    yield close(f"{name}, with `null`", f(model, scale, null)(x, t, cond), want(x, t, cond, null, scale), **like)
    got = f(model, scale, null=null[0])(x, t, cond)
    row = null[:1].expand_as(cond)
    yield close(f"{name}, one row of `null` for all", got, want(x, t, cond, row, scale), **like)
    yield raises("no condition", ValueError, lambda: f(model, scale)(x, t))


def guided_with(mistake, self, x, t, cond):
    """A guided call with room for one mistake."""
    s = self.scale
    if cond is None and mistake != "not refused":
        if mistake == "unguided":
            return torch.zeros_like(x)
        raise ValueError("no condition")
    if s == 1 or s <= 1 and mistake == "off below 1":
        return self.model(x, t, cond)
    null = torch.zeros_like(cond) if self.null is None or mistake == "own null" else self.null
    if mistake == "ones":
        null = torch.ones_like(null)
    if mistake == "floats":
        null = torch.zeros(cond.shape) if self.null is None else self.null
    if mistake != "rows":
        null = null.expand_as(cond)
    if mistake == "two calls":
        eps_u, eps_c = self.model(x, t, null), self.model(x, t, cond)
    else:
        both = torch.cat([null, cond])
        xs, ts = (x if mistake == "x once" else torch.cat([x, x])), (t if mistake == "t once" else torch.cat([t, t]))
        eps = self.model(xs, ts, both)
        if mistake == "repeated":
            eps = self.model(x.repeat_interleave(2, 0), t.repeat_interleave(2, 0), both)
        eps_u, eps_c = (eps[::2], eps[1::2]) if mistake in ("every second", "repeated") else eps.chunk(2)
    return {
        "w": eps_u + (1 + s) * (eps_c - eps_u),
        "wrong way": eps_c + s * (eps_u - eps_c),
        "difference": eps_u + s * eps_c,
        "no scale": eps_c,
        "added": eps_c + s * eps_u,
        "direction": s * (eps_c - eps_u),
        "shared": eps_u + s * (eps_c - eps_u).mean(dim=0),
    }.get(mistake, eps_u + s * (eps_c - eps_u))


def guides(mistake, label, hint):
    """Add a misconception: the call above with one mistake in it."""

    class Wrong:
        def __call__(self, x, t, cond=None):
            return guided_with(mistake, self, x, t, cond)

    classifier_free_guidance.misconception(label, hint)(Wrong)


guides(
    "w",
    "the paper's w",
    "The step is one difference too long: this is the paper's convention, where w = 0 means off. Here s = 1 is off: "
    "eps_u + s (eps_c - eps_u).",
)
guides(
    "wrong way",
    "away from the condition",
    "This walks from the conditional estimate towards the unconditional one. Either the formula is turned round, or "
    "the two halves are: what is concatenated first comes out first.",
)
guides("difference", "no difference", "s times the conditional estimate was added. It is s times the *difference*.")
guides("direction", "the start missing", "This is only the way to go, s (eps_c - eps_u). It starts at eps_u: add it.")
guides("no scale", "scale ignored", "self.scale has no effect: this is the conditional estimate.")
guides(
    "off below 1",
    "off up to scale 1",
    "Every scale up to 1 counts as off here. Only s = 1 is; s = 0 is unconditional, and s = 0.5 half the way.",
)
guides(
    "two calls",
    "two calls",
    "The values are right, but the model is called twice. Concatenate null and condition, and call it once with a "
    "doubled batch.",
)
guides(
    "t once",
    "t not doubled",
    "x and the condition are doubled, but t is not. Each of the 2B samples needs its level.",
)
guides("x once", "x not doubled", "The condition is doubled, but x is not: torch.cat([x, x]).")
guides(
    "every second",
    "every second row",
    "The halves were taken apart row by row, as [::2] and [1::2]. torch.cat puts one half behind the other: .chunk(2).",
)
guides(
    "repeated",
    "repeat_interleave",
    "repeat_interleave puts the copies side by side (x1, x1, x2, x2), but the condition is one half behind the other. "
    "Double x and t in the same way: torch.cat([x, x]).",
)
guides("ones", "another null", "The null condition is not 1: by default it is all 0, the padding of tokens.")
guides("floats", "null of another type", "torch.zeros makes floats, and so the tokens become floats. torch.zeros_like.")
guides("own null", "`null` ignored", "self.null is not used: zeros are right only where it is None.")
guides(
    "rows",
    "one row of null not repeated",
    "self.null may be a single row, (L, D), for all samples: give it the shape of the condition with expand_as(cond).",
)
guides(
    "not refused",
    "no condition, no refusal",
    "Without a condition this fails somewhere inside. Raise a ValueError that says so, if cond is None.",
)
guides(
    "unguided",
    "no condition, no guidance",
    "Without a condition something is returned silently, and nobody notices that guidance is off. Raise a ValueError.",
)
