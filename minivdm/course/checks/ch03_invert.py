"""Exercise 3.4: from data to the noise that DDIM would draw it from."""

import torch

from minivdm.course.exercise import close, exercise

from .common import fresh_schedule
from .samplers import LEVELS, SHAPE, Listener, refusals, walk_probes, without_noise


@exercise("samplers.ddim_invert")
def ddim_invert(f, draw):
    yield from walk_probes(f, draw, list(LEVELS), up=True, cond=torch.tensor([4, 1, 7, 2]))
    yield from walk_probes(f, draw, up=True)
    yield from walk_probes(f, draw, T=draw.integers(105, 115), up=True, told=False)
    yield from walk_probes(f, draw, (7, 3, 0), batch=2, up=True)
    yield from walk_probes(f, draw, T=1, batch=1, up=True)
    (schedule, ab), model, x0 = fresh_schedule(draw), Listener(draw, slope=0.0), draw.normal(4, *SHAPE)
    got = f(model, x0, schedule, levels=list(LEVELS))
    back = without_noise(model, got, ab, LEVELS) if torch.is_tensor(got) and got.shape == x0.shape else got
    yield close("there and back, with an eps that does not depend on x", back, x0.double(), 1e-3)
    call, inputs = a_walk(f, draw)
    yield from refusals(lambda bad: call(**{**inputs, "levels": bad}))


@ddim_invert.promises("samples", "dtype", "layout", "device", gradients="sampling keeps no graph")
def a_walk(f, draw):
    x0, cond = draw.normal(4, *SHAPE), torch.tensor([4, 1, 7, 2])
    schedule, _ = fresh_schedule(draw)
    return f, dict(model=Listener(draw), x0=x0, schedule=schedule, levels=list(LEVELS), cond=cond)


ddim_invert.edit(
    "asked at the level it comes from",
    {"model(x, t, cond)": "model(x, s, cond)"},
    "The model is asked at level s, where x is now. The way down will ask it at t, so ask at the level that you go "
    "*to*. (At level 0 it was never trained.)",
)
ddim_invert.edit(
    "random noise",
    {"t, eps, schedule)": "t, torch.randn_like(x), schedule)"},
    "The way up uses fresh random noise: that is the forward process, and no way leads back from it. Use the model's "
    "estimate eps as the noise.",
)
ddim_invert.edit(
    "the list walked downwards",
    {"reversed(levels)": "levels"},
    "The walk goes down, from T to 0. `levels` is the list that ddim_sample takes: reverse it first.",
)
ddim_invert.edit(
    "x_0 read off at the new level",
    {"to_x0(x, s,": "to_x0(x, t,"},
    "x does not move: x_0 is worked out with alpha_bar_t, or the new x is not assigned. x is still at level s, so "
    "guess = to_x0(x, s, eps, schedule), then x = q_sample(...).",
)
ddim_invert.edit(
    "always from the data itself",
    {"to_x0(x, s, eps, schedule)": "x0"},
    "Each level is made from the data itself: jumps that all start afresh. Go on from where the last step led; x_0 "
    "is worked out anew, from x and eps.",
)
ddim_invert.edit(
    "clamped",
    {"eps, schedule)\n        x =": "eps, schedule).clamp(-1, 1)\n        x ="},
    "The guess of x_0 is clamped to [-1, 1]. What is cut off here cannot be put back on the way down.",
)
ddim_invert.edit(
    "return inside the loop",
    {"    return x": "        return x"},
    "Only one step is made: the `return` stands inside the loop.",
)
ddim_invert.edit(
    "callback with x and the guess swapped",
    {"callback(target, x, guess)": "callback(target, guess, x)"},
    "The callback gets x and the guess in the wrong order: first the x that was reached, then the estimate of x_0.",
)
ddim_invert.edit(
    "normalised",
    {"    return x": "    return (x - x.mean()) / x.std()"},
    "The result is given mean 0 and standard deviation 1. Return x as the last step leaves it.",
)
