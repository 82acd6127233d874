"""Exercise 11.6: which stages of super-resolution hear the level that they are told?"""

import copy

import torch
from torch.nn import functional as F

from minivdm.course.exercise import exercise, holds

from .ch11_common import known_stage, share_of_noise

SIDE = 16


def smooth(x):
    """Each pixel as the mean of 5 x 5."""
    return F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)


def doubting(level_for):
    """x_0 from the enlarged clip beside x: the more noise it believes in, by `level_for(cond)`, the smoother.

    Below 0 it makes the detail four times as strong, instead.
    """

    def answer(x, t, cond):
        beside = x[:, 3:]
        wide = smooth(beside)
        levels = level_for(cond[:, 0])
        noise = torch.tensor([share_of_noise(max(level, 0)) for level in levels.tolist()]) ** 2 * 0.4
        keep = torch.where(levels < 0, 4.0, DETAIL / (DETAIL + noise)).to(x)[:, None, None, None]
        return wide + keep * (beside - wide)

    return answer


DETAIL = 0.02  # the variance of what a mean of 5 x 5 pixels takes away from the clips below


def some_clips(draw, n=24):
    """Clips of one frame with detail in each pixel, around a slow slope."""
    rough = F.interpolate(draw.uniform(n, 3, 4, 4, low=-0.6, high=0.6), (SIDE, SIDE), mode="bicubic")
    fine = F.interpolate(draw.uniform(n, 3, 8, 8, low=-0.3, high=0.3), (SIDE, SIDE), mode="bicubic")
    return (rough + fine).clamp(-1, 1)[:, :, None]


WRONG = {
    "deaf: it always doubts as at 220": lambda level: torch.full_like(level, 220),
    "deaf: it always doubts as at 120": lambda level: torch.full_like(level, 120),
    "deaf: it never doubts": torch.zeros_like,
    "it doubts least where it is told most": lambda level: (240 - level).clamp(min=0),
    "it sharpens, told 0, and is right, told more": lambda level: torch.where(level > 100, level, -1.0),
    "it is right, told 0, and sharpens, told more": lambda level: torch.where(level > 100, -1.0, level),
}


def brighter_told_0(x, t, cond):
    """Told 0, it smooths and adds 0.3; told more, it doubts as at 120."""
    smoothed = doubting(lambda level: torch.where(level > 100, 120.0, 750.0))(x, t, cond)
    return smoothed + 0.3 * (cond[:, 0] < 100).to(x)[:, None, None, None]


class ByChance:
    """A stage that adds grain of its own, another one in each call: whatever it is told."""

    def __init__(self, draw):
        self.draw = draw

    def __call__(self, x, t, cond):
        return doubting(lambda level: torch.full_like(level, 120))(x, t, cond) + 0.1 * self.draw.normal(*x[:, 3:].shape)


@exercise("cascade_judging.hears_its_level")
def hears_its_level(f, draw):
    clips = some_clips(draw)
    right = known_stage(doubting(lambda level: level), size=SIDE)
    for levels in ((0, 220), (250, 40)):
        told = f(right, clips, levels, draw.generator())
        yield holds(f"a stage that listens, levels {levels}", bool(told) is True, "it listens, and you say no")
        heard = {float(value) for _, _, cond in right.net.heard for value in cond[:, 0]}
        message = f"it was told {sorted(heard)}"
        yield holds(f"levels {levels}: it is told these two alone", heard == {float(s) for s in levels}, message)
        right.net.heard.clear()
    answers = {"it adds 0.3, told 0": brighter_told_0, **{name: doubting(each) for name, each in WRONG.items()}}
    for name, answer in answers.items():
        stage = known_stage(answer, size=SIDE)
        told = f(stage, clips, (0, 220), draw.generator())
        yield holds(name, bool(told) is False, "it does not listen, or listens wrongly, and you say that it listens")
    said = []
    for _ in range(40):
        stage = known_stage(ByChance(draw), size=SIDE)
        said.append(bool(f(stage, some_clips(draw, 8), (0, 220), draw.generator())))
    message = f"of 40 stages that add grain by chance and do not listen, you say of {sum(said)} that they listen"
    yield holds("differences by chance", sum(said) <= 2, message)
    barely = known_stage(doubting(lambda level: level.clamp(60, 160)), size=SIDE)
    told = f(barely, some_clips(draw, 48), (0, 220), draw.generator())
    yield holds(
        "a stage that listens a little", bool(told) is True, "it is a little better, told the truth, and you say no"
    )
    before = copy.deepcopy(right.schedule.alpha_bar)
    f(right, clips, (0, 220), draw.generator())
    yield holds("the stage stays as it is", torch.equal(right.schedule.alpha_bar, before), "its schedule has changed")


NO = "the answer is yes or no"


@hears_its_level.promises(samples=NO, dtype=NO, layout=NO, device=NO, gradients=NO, generator=NO, noise=NO)
def ordinary(f, draw):
    clips = some_clips(draw, 8)
    return f, dict(
        model=known_stage(doubting(lambda level: level), size=SIDE),
        clips=clips,
        levels=(0, 220),
        generator=draw.generator(),
    )


PAIRS = "((levels, levels[::-1]))"
hears_its_level.edit(
    "one level alone",
    {"(levels, levels[::-1])": "(levels,)"},
    "Only one level of noise is tried. A stage that always doubts as at this level passes; try the other one, too.",
)
hears_its_level.edit(
    "only the other level",
    {"(levels, levels[::-1])": "(levels[::-1],)"},
    "Only the second level of noise is tried. A stage that always doubts as at this level passes; try the first, too.",
)
hears_its_level.edit(
    "any change is enough",
    {"not gain.mean() > 2 * gain.std() / len(gain) ** 0.5": "not gain.abs().mean() > 1e-6"},
    "Whether *anything* changes with the number is asked. A stage that listens to it in a wrong way changes, too: the "
    "truth must give the smaller error.",
)
hears_its_level.edit(
    "both levels in one mean",
    {
        "        if not gain.mean() > 2 * gain.std() / len(gain) ** 0.5:\n            return False\n    return True": (
            "        gains = gain if level == levels[0] else torch.cat([gains, gain])\n"
            "    return bool(gains.mean() > 2 * gains.std() / len(gains) ** 0.5)"
        )
    },
    "The gains of both levels are averaged, so a large one at one level hides a loss at the other. Each must hold.",
)
hears_its_level.edit(
    "lies and truth exchanged",
    {"gain = errors[1] - errors[0]": "gain = errors[0] - errors[1]"},
    "The sign is turned round: the error must be *larger* when the stage is told the other level.",
)
hears_its_level.edit(
    "not told at all",
    {"told_level=told_level": "told_level=level"},
    "The stage is told the true level both times, so the two errors are the same.",
)
hears_its_level.edit(
    "the noise goes with the number",
    {"upscale(model, low, level, 1, again, told_level=told_level)": "upscale(model, low, told_level, 1, again)"},
    "The noise changes together with the number that is told: then more noise means a larger error, whoever listens. "
    "Keep the noise, and tell another level.",
)
hears_its_level.edit(
    "any gain, however small",
    {"2 * gain.std() / len(gain) ** 0.5": "0"},
    "Any gain counts, however small. Of stages that do not listen at all, half gain a little by chance: how large is "
    "the mean beside its standard error?",
)
