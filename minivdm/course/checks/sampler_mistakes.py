"""Common mistakes in the loop of a sampler: edits of both references, `ddpm_sample` and `ddim_sample`."""

MISTAKES = [  # (label, changes, hint): edits of any sampler's loop
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
        "callback with x and x0 swapped",
        {"callback(target, x, x0)": "callback(target, x0, x)"},
        "The callback gets x and x0 in the wrong order: first the x that was reached, then the estimate of x0.",
    ),
]
