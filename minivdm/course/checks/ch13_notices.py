"""Exercise 13.7: an experiment that tells what a metric notices from chance."""

import math

import torch

from minivdm.course.exercise import equal, exercise, holds, near, raises


def draw_clips(generator):
    """ "Clips" whose brightness, width and order vary."""
    return torch.randn(6, 4, generator=generator).cumsum(1)


def draw_rising(generator):
    """Such as get brighter from frame to frame."""
    return torch.randn(6, 4, generator=generator) + 4 * torch.arange(4)


def distance(drawn, judged):
    """A distance with a floor: positive also for two draws of one kind, as the Frechet distance is."""
    return float((drawn.mean(0) - judged.mean(0)).square().sum() + (drawn.std(0) - judged.std(0)).square().sum())


def likeness(drawn, judged):
    """Higher is better."""
    return -distance(drawn, judged)


def unordered(drawn, judged):
    """Blind to the order of frames."""
    return distance(drawn.sort(1).values, judged.sort(1).values)


def brighter(clips, generator):
    return clips + 6


def nothing(clips, generator):
    return clips


def shuffled(clips, generator):
    order = torch.rand(clips.shape, generator=generator).argsort(1)
    return clips.gather(1, order)


def scripted(values):
    """A metric that says given numbers, one after the other, for intact clips, others for those marked as damaged."""
    rows = {kind: iter(numbers) for kind, numbers in values.items()}
    return lambda drawn, judged: next(rows[bool(judged.max() > 50)])


def marked(clips, generator):
    return clips + 100


def welch(a, b):
    a, b = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    return ((b.mean() - a.mean()) / (a.var() / len(a) + b.var() / len(b)).sqrt()).item()


@exercise("blind_spots.notices")
def notices(f, draw):
    for rounds in (2, 5, 8):
        intact, damaged = draw.normal(rounds).tolist(), (2 * draw.normal(rounds) + 1).tolist()
        want = welch(intact, damaged)
        got = f(scripted({False: intact, True: damaged}), draw_clips, marked, draw.generator(), rounds)
        yield near(f"{rounds} rounds: the difference in standard errors", got, want, within=1e-4 * (1 + abs(want)))
    eight = {False: draw.normal(8).tolist(), True: draw.normal(8).tolist()}
    want = welch(eight[False], eight[True])
    got = f(scripted(eight), draw_clips, marked, draw.generator())
    yield near("8 rounds by default", got, want, within=1e-4 * (1 + abs(want)))
    blind = [abs(f(distance, draw_clips, nothing, draw.generator())) < 4 for _ in range(8)]
    few = f"in {8 - sum(blind)} of 8 experiments it was found noticed"
    yield holds("a damage that is none goes unnoticed", sum(blind) >= 7, few)
    found = f(distance, draw_clips, brighter, draw.generator())
    yield holds("a distance notices that clips are brighter", found > 4, f"z = {found:.3g}, expected above 4")
    found = f(likeness, draw_clips, brighter, draw.generator())
    yield holds("a likeness does, too, downwards", found < -4, f"z = {found:.3g}, expected below -4")
    blind = [abs(f(unordered, draw_clips, shuffled, draw.generator())) < 4 for _ in range(8)]
    few = f"in {8 - sum(blind)} of 8 experiments it was found noticed"
    yield holds("a metric that is blind to the order does not notice shuffled frames", sum(blind) >= 7, few)
    found = f(distance, draw_rising, shuffled, draw.generator())
    yield holds("one that is not does", found > 4, f"z = {found:.3g}, expected above 4")
    seen = []

    def noting(drawn, judged):
        seen.append((drawn.clone(), judged.clone()))
        return distance(drawn, judged)

    f(noting, draw_clips, nothing, draw.generator(), 3)
    batches = [each for pair in seen for each in pair]
    fresh = len({tuple(each.flatten().tolist()) for each in batches})
    yield equal("3 rounds: how often the metric is asked", len(seen), 6)
    yield equal("3 rounds: batches, and all of them different", fresh, 12)
    yield equal(
        "where nothing varies and nothing changes", f(lambda a, b: 3.0, draw_clips, nothing, draw.generator()), 0
    )
    for sign in (1, -1):
        says = lambda a, b, sign=sign: sign * float(b.max() > 50)  # noqa: E731
        got = f(says, draw_clips, marked, draw.generator())
        yield equal("where nothing varies but the damage", got, sign * math.inf)
    for rounds in (1, 0):
        call = lambda rounds=rounds: f(distance, draw_clips, nothing, draw.generator(), rounds)  # noqa: E731
        yield raises(f"{rounds} rounds", ValueError, call)


NUMBER = "it returns a float"


@notices.promises(
    samples=NUMBER,
    dtype=NUMBER,
    layout=NUMBER,
    device=NUMBER,
    gradients=NUMBER,
    generator="it returns a float: tried with clips that must all be different",
    noise=NUMBER,
)
def ordinary(f, draw):
    return f, dict(metric=distance, draw=draw_clips, damage=nothing, generator=draw.generator())


INTACT = "intact = [metric(draw(generator), draw(generator)) for _ in range(rounds)]"
DAMAGED = "damaged = [metric(draw(generator), damage(draw(generator), generator)) for _ in range(rounds)]"
notices.edit(
    "clips beside themselves",
    {
        DAMAGED: "pairs = [draw(generator) for _ in range(rounds)]\n    damaged = [metric(each, damage(each, "
        "generator)) for each in pairs]"
    },
    "The damaged clips stand beside the very clips that they were made of, the intact ones beside others. So the two "
    "differ even without any damage: draw the clips to compare with afresh.",
)
notices.edit(
    "the same clips, intact and damaged",
    {
        INTACT: "pairs = [(draw(generator), draw(generator)) for _ in range(rounds)]\n    intact = [metric(x, y) for "
        "x, y in pairs]",
        DAMAGED: "damaged = [metric(x, damage(y, generator)) for x, y in pairs]",
    },
    "Each round draws two batches and uses them twice, intact and damaged. The two values are not independent then, "
    "and their variances do not add up: draw four fresh batches a round.",
)
notices.edit(
    "the variance of differences",
    {"(variance(damaged) + variance(intact)) / rounds": "variance([b - a for a, b in zip(intact, damaged)]) / rounds"},
    "This pairs the values up and takes the variance of their differences. They come from different clips, so no "
    "value belongs to another: the variances of the two kinds add up. (For pairs that share clips it would be right; "
    "here each round draws four fresh batches.)",
)
notices.edit(
    "compared with 0",
    {INTACT: "intact = [0.0 for _ in range(rounds)]"},
    "The damaged clips' distance is compared with 0. Intact clips have a distance, too, since there "
    "are only so many of "
    "them: ask the metric about these as well.",
)
notices.edit(
    "standard deviations",
    {"(variance(damaged) + variance(intact)) / rounds": "variance(damaged) + variance(intact)"},
    "This is the difference in standard *deviations*. A mean of `rounds` numbers is known better: divide the variances "
    "by their number.",
)
notices.edit(
    "variances with N",
    {
        "(variance(damaged) + variance(intact)) / rounds": (
            "(variance(damaged) + variance(intact)) * (rounds - 1) / rounds**2"
        )
    },
    "The variances are divided by `rounds`. Since the mean is taken of the same numbers, divide by rounds - 1.",
)
notices.edit(
    "no sign",
    {"return difference / error": "return abs(difference) / error", "math.copysign(math.inf, difference)": "math.inf"},
    "The sign is lost: does the metric rise or fall?",
)
notices.edit(
    "the other way round",
    {"mean(damaged) - mean(intact)": "mean(intact) - mean(damaged)"},
    "The sign is the wrong way round: it is positive if the damage makes the metric larger.",
)
notices.edit(
    "one set to compare with",
    {
        INTACT: "first = draw(generator)\n    intact = [metric(first, draw(generator)) for _ in range(rounds)]",
        "damaged = [metric(draw(generator), damage": "damaged = [metric(first, damage",
    },
    "All rounds compare with one and the same batch. So its own peculiarities do not show in the variance: draw afresh "
    "each time.",
)
notices.edit(
    "the error of the intact ones alone",
    {"(variance(damaged) + variance(intact)) / rounds": "variance(intact) / rounds"},
    "Only one of the two variances counts here. A difference of two means has the errors of both.",
)
notices.edit(
    "standard errors added up",
    {
        "math.sqrt((variance(damaged) + variance(intact)) / rounds)": (
            "math.sqrt(variance(damaged) / rounds) + math.sqrt(variance(intact) / rounds)"
        )
    },
    "The two standard errors are added. What adds up are their squares.",
)
notices.edit(
    "divided by 0",
    {"    if error == 0:\n        return math.copysign(math.inf, difference) if difference else 0.0\n": ""},
    "Where nothing varies, the error is 0, and this divides by it: z is 0 there if the means agree, else infinite.",
)
