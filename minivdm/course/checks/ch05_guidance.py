"""Exercise 5.7: following the condition further when sampling."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, raises


@exercise("guidance.ClassifierFreeGuidance")
def classifier_free_guidance(f, draw):
    asked, weights = [], draw.normal(50, 4)

    def estimate(x, t, cond):
        """An estimate that depends on the sample, the level and each part of the condition; float64."""
        told = weights.double()[cond].sum(1) if cond.ndim == 2 else torch.sin(cond.double() * weights[:3]).sum(1)
        level = (1 + t.double() / 50)[:, None]
        return torch.tanh(x.double() * level) + told[:, : x.shape[1]] / level

    def model(x, t, cond=None):
        asked.append([each if each is None else each.clone() for each in (x, t, cond)])
        usable = cond is not None and len(x) == len(t) == len(cond) and x.ndim == 2 and t.ndim == 1
        whole = usable and (cond.ndim == 3 or not cond.is_floating_point())
        return estimate(x, t, cond).float() if whole else torch.zeros_like(x)

    def want(x, t, cond, null, s):
        return (1 - s) * estimate(x, t, null) + s * estimate(x, t, cond)

    def rows(*parts):
        """What is asked for each sample, a set."""
        return {tuple(torch.cat([part.flatten() for part in row]).tolist()) for row in zip(*parts)}

    like = dict(atol=1e-4, dtype=torch.float32)
    x, t, tokens = draw.normal(4, 3), torch.tensor([1, 40, 7, 7]), draw.integers(1, 49, 4, 3)
    nothing = torch.zeros_like(tokens)
    scale = draw.uniform(1, low=2.2, high=7).item()
    got = f(model, scale)(x, t, tokens)
    shapes = [[each if each is None else tuple(each.shape) for each in call] for call in asked]
    name = f"shapes of the x, t and cond that the model is given, scale = {scale:.2f}"
    yield equal(name, shapes, [[(8, 3), (8,), (8, 3)]], usable=False)
    if shapes != [[(8, 3), (8,), (8, 3)]]:
        return
    yield equal("dtype of the cond that the model is given", str(asked[0][2].dtype), "torch.int64", usable=False)
    message = "x, doubled, and t, doubled, do not belong together"
    yield holds("each sample's level, twice", rows(*asked[0][:2]) == rows(x, t), message)
    right = rows(*asked[0]) == rows(x, t, tokens) | rows(x, t, nothing)
    message = "x and cond do not belong together: each sample is asked once with its `cond` and once with the null"
    yield holds("each sample's condition, and null", right, message)
    yield close(f"scale = {scale:.2f}", got, want(x, t, tokens, nothing, scale), **like)
    asked.clear()
    got = f(model, 1.0)(x, t, tokens)
    yield close("scale = 1: off", got, estimate(x, t, tokens), **like)
    yield equal("scale = 1: samples in each call of the model", [len(call[0]) for call in asked], [4])
    for s, name in ((0.0, "scale = 0: unconditional"), (0.5, "scale = 0.5: half the way"), (-1.5, "scale = -1.5")):
        yield close(name, f(model, s)(x, t, tokens), want(x, t, tokens, nothing, s), **like)
    yield close("scale = 3, an int", f(model, 3)(x, t, tokens), want(x, t, tokens, nothing, 3), **like)
    row = draw.integers(1, 49, 3)
    got = f(model, scale, row)(x, t, tokens)
    yield close("a row of tokens as `null`", got, want(x, t, tokens, row.expand(4, 3), scale), **like)
    guided = f(model, scale)
    for B, name in ((4, "longer prompts"), (2, "the same object once more, with a smaller batch")):
        cond, x, t = draw.integers(1, 49, B, 5), draw.normal(B, 4), draw.integers(1, 50, B)
        yield close(name, guided(x, t, cond), want(x, t, cond, torch.zeros_like(cond), scale), **like)
    cond, x, t, null = draw.normal(4, 3, 4), draw.normal(4, 4), draw.integers(1, 50, 4), draw.normal(4, 3, 4)
    name = "a context of vectors, with `null`"
    for given, shape in ((null, "like cond"), (null[0], "one row, (L, D)"), (null[:1], "one row, (1, L, D)")):
        got = f(model, scale, null=given)(x, t, cond)
        yield close(f"{name} {shape}", got, want(x, t, cond, given.expand_as(cond), scale), **like)
    for s in (scale, 1, 0):
        yield raises(f"no condition, scale = {s:.3g}", ValueError, lambda s=s: f(model, s)(x, t))


@classifier_free_guidance.promises("samples", "dtype", "layout", "device", "gradients")
def contexts_of_vectors(f, draw):
    def model(x, t, cond=None):
        return torch.tanh(x * (1 + t / 50)[:, None, None, None]) * cond.sum((1, 2)).cos()[:, None, None, None]

    x, cond = draw.normal(3, 2, 3, 2), draw.normal(3, 5, 4)
    return f(model, 2.5, null=draw.normal(5, 4)), dict(x=x, t=torch.tensor([1, 40, 7]), cond=cond)


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
    "The model is called twice. Concatenate null and condition, and call it once with a doubled batch.",
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
    "s - 1",
    {"self.scale * (": "(self.scale - 1) * ("},
    "The step is one difference too short, as with s - 1. Begin at eps_u and go s times the difference: s = 1 ends at "
    "eps_c.",
)
classifier_free_guidance.edit(
    "the difference turned round",
    {"(eps_c - eps_u)": "(eps_u - eps_c)"},
    "This begins at eps_u and walks away from eps_c. The difference is eps_c - eps_u.",
)
classifier_free_guidance.edit(
    "doubled at scale 1",
    {"self.scale == 1": "False"},
    "At s = 1 guidance is off, and the batch must not be doubled: return self.model(x, t, cond) at once.",
)
classifier_free_guidance.edit(
    "one difference for the batch",
    {"(eps_c - eps_u)": "(eps_c - eps_u).mean(dim=0)"},
    "The difference is averaged over the batch. Each sample follows its own.",
)
