"""Exercise 3.5: over to other data, through the noise that both share."""

import torch

from minivdm.course.exercise import close, exercise

from .common import fresh_schedule
from .samplers import LEVELS, SHAPE, Listener, like, questions, refusals, without_noise


@exercise("bridge.ddib")
def ddib(f, draw):
    up, down = torch.tensor([4, 1, 7, 2]), torch.tensor([6, 9, 3, 8])
    settings = [
        (12, 4, {"levels": list(LEVELS), "source_cond": up, "target_cond": down}),
        (draw.integers(55, 65), 1, {}),
        (12, 4, {"source_cond": up}),
        (12, 4, {"levels": LEVELS, "target_cond": down}),
        (1, 4, {}),
    ]
    for T, batch, given in settings:
        (schedule, ab), x0 = fresh_schedule(draw, T), 3 * draw.normal(batch, *SHAPE)
        source, target = Listener(draw, T), Listener(draw, T)
        got = f(x0, source, target, schedule, **given)
        yield like(got, x0)
        walk, conds = (
            list(given.get("levels", range(T, -1, -1))),
            [given.get(f"{key}_cond") for key in ("source", "target")],
        )
        yield from questions(source, walk[::-1], batch, conds[0], "the source's model", "source_cond")
        yield from questions(target, walk, batch, conds[1], "the target's model", "target_cond")
        noise = without_noise(source, x0, ab, walk[::-1], conds[0])
        want = without_noise(target, noise, ab, walk, conds[1])
        yield close(f"up and down in {len(walk) - 1} steps", got, want, 1e-3, 1e-3, torch.float32)
    (schedule, ab), x0, model = fresh_schedule(draw), draw.normal(4, *SHAPE), Listener(draw)
    noise = without_noise(model, x0, ab, LEVELS[::-1], up)
    want = without_noise(model, noise, ab, LEVELS, down)
    got = f(x0, model, model, schedule, list(LEVELS), up, down)
    yield close("one model for both, with two conditions", got, want, 1e-3, 1e-3, torch.float32)
    yield from refusals(lambda bad: f(x0, model, model, schedule, bad))


@ddib.promises("samples", "dtype", "layout", "device", gradients="sampling keeps no graph")
def a_bridge(f, draw):
    x0, (schedule, _) = draw.normal(4, *SHAPE), fresh_schedule(draw)
    conds = dict(source_cond=torch.tensor([4, 1, 7, 2]), target_cond=torch.tensor([6, 9, 3, 8]))
    return f, dict(x0=x0, source=Listener(draw), target=Listener(draw), schedule=schedule, levels=list(LEVELS), **conds)


ddib.edit(
    "source and target swapped",
    {"(source, x0": "(target, x0", "(target, noise": "(source, noise"},
    "The models are the wrong way round: the data belongs to the source, so invert with `source`, and sample with "
    "`target`.",
)
ddib.edit(
    "back to the source",
    {"(target, noise": "(source, noise"},
    "The source's model is used both ways, so the data comes back as it was. Sample with `target`.",
)
ddib.edit(
    "fresh noise",
    {"target, noise": "target, noise.clone().normal_()"},
    "The target's model starts from fresh noise, so the result has nothing to do with x0. Start from what the "
    "inversion gives.",
)
ddib.edit(
    "the way down forgotten",
    {"ddim_sample(target, noise, schedule, levels, target_cond)": "noise"},
    "This returns the noise. The second half is missing: sample from it with `target`.",
)
ddib.edit(
    "levels forgotten",
    {"schedule, levels,": "schedule, None,"},
    "All levels are walked, whatever `levels` says: hand it on to both.",
)
ddib.edit(
    "levels for one way only",
    {"noise, schedule, levels": "noise, schedule, None"},
    "`levels` is used on the way up only: hand the same list on to ddim_sample.",
)
ddib.edit(
    "fresh noise on the way down",
    {"levels, target_cond)": "levels, target_cond, eta=1.0)"},
    "The way down adds fresh noise (eta = 1), which covers what the inversion has found. Sample with eta = 0.",
)
ddib.edit(
    "clamped on the way down",
    {"levels, target_cond)": "levels, target_cond, clip_x0=True)"},
    "The estimates are clamped on the way down (clip_x0=True). Nothing was on the way up: leave it out.",
)
ddib.edit(
    "noise normalised",
    {"    return": "    noise = (noise - noise.mean()) / noise.std()\n    return"},
    "The noise is given mean 0 and standard deviation 1 before the way down. Take it as the inversion gives it.",
)
