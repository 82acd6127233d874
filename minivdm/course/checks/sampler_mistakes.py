"""Common mistakes in the loop of a sampler: edits of both references, `ddpm_sample` and `ddim_sample`."""

MISTAKES = [  # (label, changes, hint): edits of any sampler's loop
    (
        "stops early",
        {"pairwise(levels)": "pairwise(levels[:-1])"},
        "The walk ends one pair too early, with noise left in the result. "
        "Walk all pairs of levels, up to and including the one that ends at 0.",
    ),
    (
        "asked at the level below",
        {"model(x, t,": "model(x, s,"},
        "The model is asked one level too low. Levels are counted as in the paper, from T down to 1: "
        "ask at t, the level that x has *before* the step.",
    ),
    (
        "the noise taken for the picture",
        {"to_x0(x, t, model(x, t, cond), schedule)": "model(x, t, cond)"},
        "The model's answer is an estimate of the *noise*. Turn it into an estimate of x0 with to_x0 before the step.",
    ),
    (
        "s = t - 1",
        {"full_like(t, target)": "full_like(t, level - 1)"},
        "Each step goes to level t - 1, also where the list skips levels. "
        "Walk the *pairs* of neighbours in the list: s is the next entry.",
    ),
    (
        "s = t - T // n",
        {"full_like(t, target)": "full_like(t, max(level - levels[0] // (len(levels) - 1), 0))"},
        "Each step goes to t - T // n, which is not the next entry of the list unless all steps are equally long. "
        "Walk the *pairs* of neighbours in the list: s is the next entry.",
    ),
    (
        "return inside the loop",
        {"    return x": "        return x"},
        "Only one step is made: the `return` stands inside the loop. Move it one level to the left.",
    ),
    (
        "x clipped instead of x0",
        {
            "x0 = x0.clamp(-1, 1)": "pass",
            "if callback": "if clip_x0:\n            x = x.clamp(-1, 1)\n        if callback",
        },
        "With clip_x0=True the noisy x is clamped. Noise may leave [-1, 1]; the estimate of the clean x0 must not.",
    ),
    (
        "x0 clamped to [0, 1]",
        {"clamp(-1, 1)": "clamp(0, 1)"},
        "With clip_x0=True the estimate is clamped to [0, 1]. Pictures lie in [-1, 1] here.",
    ),
    (
        "callback with the guess before the clamp",
        {
            "        if clip_x0:": "        guess = x0\n        if clip_x0:",
            "callback(target, x, x0)": "callback(target, x, guess)",
        },
        "The callback gets the estimate as it was before the clamp. Give it the one that the step takes.",
    ),
    (
        "callback with the old x",
        {
            "        x0 = to_x0(": "        before = x\n        x0 = to_x0(",
            "callback(target, x,": "callback(target, before,",
        },
        "The callback gets the x from *before* the step. Call it after the step, with the level that was reached: "
        "callback(s, x, x0).",
    ),
    (
        "callback with x and x0 swapped",
        {"callback(target, x, x0)": "callback(target, x0, x)"},
        "The callback gets x and x0 in the wrong order: first the x that was reached, then the estimate of x0.",
    ),
    (
        "callback with the old level",
        {"callback(target": "callback(level"},
        "The callback gets the level t *before* the step. It belongs to the new x, so the level is s.",
    ),
    (
        "generator ignored",
        {"generator=generator": "generator=None"},
        "The noise does not come from `generator`, so a sample cannot be repeated. "
        "Give generator=generator where the noise is drawn.",
    ),
    (
        "levels not checked",
        {"checked_levels(levels, schedule)": "levels or all_levels(schedule)"},
        "The result is right for good lists of levels, but a list that rises or does not end at 0 is walked "
        "without complaint. Call checked_levels(levels, schedule) first.",
    ),
]
