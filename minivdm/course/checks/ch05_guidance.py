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
    null = draw.normal(4, 3, 4)
    yield close(f"{name}, with `null`", f(model, scale, null)(x, t, cond), want(x, t, cond, null, scale), **like)
    got = f(model, scale, null=null[0])(x, t, cond)
    row = null[:1].expand_as(cond)
    yield close(f"{name}, one row of `null` for all", got, want(x, t, cond, row, scale), **like)
    yield raises("no condition", ValueError, lambda: f(model, scale)(x, t))


classifier_free_guidance.edit(
    "the paper's w",
    {"self.scale * (": "(1 + self.scale) * ("},
    "The step is one difference too long: this is the paper's convention, where w = 0 means off. Here s = 1 is off: "
    "eps_u + s (eps_c - eps_u).",
)
classifier_free_guidance.edit(
    "away from the condition",
    {"[null, cond]": "[cond, null]"},
    "This walks from the conditional estimate towards the unconditional one. Either the formula is turned round, or "
    "the two halves are: what is concatenated first comes out first.",
)
classifier_free_guidance.edit(
    "no difference",
    {"(eps_c - eps_u)": "eps_c"},
    "s times the conditional estimate was added. It is s times the *difference*.",
)
classifier_free_guidance.edit(
    "off up to scale 1",
    {"self.scale == 1": "self.scale <= 1"},
    "Every scale up to 1 counts as off here. Only s = 1 is; s = 0 is unconditional, and s = 0.5 half the way.",
)
classifier_free_guidance.edit(
    "two calls",
    {"eps.chunk(2)": "self.model(x, t, null), self.model(x, t, cond)", "eps = self.model(": "eps = ("},
    "The values are right, but the model is called twice. Concatenate null and condition, and call it once with a "
    "doubled batch.",
)
classifier_free_guidance.edit(
    "t not doubled",
    {"torch.cat([t, t])": "t"},
    "x and the condition are doubled, but t is not. Each of the 2B samples needs its level.",
)
classifier_free_guidance.edit(
    "every second row",
    {"eps.chunk(2)": "eps[::2], eps[1::2]"},
    "The halves were taken apart row by row, as [::2] and [1::2]. torch.cat puts one half behind the other: .chunk(2).",
)
classifier_free_guidance.edit(
    "repeat_interleave",
    {"torch.cat([x, x])": "x.repeat_interleave(2, 0)", "torch.cat([t, t])": "t.repeat_interleave(2, 0)"},
    "repeat_interleave puts the copies side by side (x1, x1, x2, x2), but the condition is one half behind the other. "
    "Double x and t in the same way: torch.cat([x, x]).",
)
classifier_free_guidance.edit(
    "null of another type",
    {"torch.zeros_like(cond)": "torch.zeros(cond.shape)"},
    "torch.zeros makes floats, and so the tokens become floats. torch.zeros_like.",
)
classifier_free_guidance.edit(
    "`null` ignored",
    {" if self.null is None else self.null.expand_as(cond)": ""},
    "self.null is not used: zeros are right only where it is None.",
)
classifier_free_guidance.edit(
    "one row of null not repeated",
    {".expand_as(cond)": ""},
    "self.null may be a single row, (L, D), for all samples: give it the shape of the condition with expand_as(cond).",
)
classifier_free_guidance.edit(
    "no condition, no refusal",
    {"cond is None": "False"},
    "Without a condition this fails somewhere inside. Raise a ValueError that says so, if cond is None.",
)
