"""What the tests of the course share: two small exercises, cells to try them with, a repository with one chapter."""

import torch

from minivdm.course.__main__ import main
from minivdm.course.exercise import Exercise, close, holds, raises

RIGHT = '''
@piece("forward_process.q_sample")
def q_sample(x0, t, noise, schedule):
    """Jump to level t."""
    a = per_sample(schedule.alpha_bar, t, x0)
    return a.sqrt() * x0 + (1 - a).sqrt() * noise
'''
STUB = '''
@piece("forward_process.q_sample")
def q_sample(x0, t, noise, schedule):
    """Jump to level t."""
    raise NotImplementedError("Exercise 1.3: jump")
'''


def body(*lines):
    """A q_sample cell with this body."""
    head = '@piece("forward_process.q_sample")\ndef q_sample(x0, t, noise, schedule):\n'
    return head + "".join(f"    {line}\n" for line in lines)


def q_sample_probes(f, draw):
    for shape in [(4, 3, 8, 8), (6, 2)]:
        x0, noise = draw.normal(*shape), draw.normal(*shape)
        alpha_bar = torch.cat([torch.ones(1), draw.uniform(10, low=0.05, high=0.95).sort(descending=True).values])
        schedule = type("Schedule", (), {})()
        schedule.T, schedule.alpha_bar = 10, alpha_bar
        t = draw.integers(0, 10, shape[0])
        share = torch.stack([alpha_bar[i] for i in t]).double().reshape(-1, *[1] * (len(shape) - 1))
        want = (share.sqrt() * x0 + (1 - share).sqrt() * noise).float()
        yield close(f"x_t for {shape}", f(x0, t, noise, schedule), want)


def schedule_probes(f, draw):
    betas = draw.uniform(20, low=0.01, high=0.2).double()
    made = f(betas)
    want = torch.cat([torch.ones(1).double(), torch.cumprod(1 - betas, 0)]).float()
    yield holds("levels", made.T == 20, f"expected T = 20, got {made.T}")
    yield close("alpha_bar", made.alpha_bar, want)
    yield raises("a beta of 2", ValueError, lambda: f(torch.tensor([2.0])))


def q_sample_exercise():
    made = Exercise("forward_process.q_sample", q_sample_probes)

    @made.misconception("no square root", "take the square root")
    def _(x0, t, noise, schedule):
        a = schedule.alpha_bar[t].reshape(-1, *[1] * (x0.ndim - 1))
        return a * x0 + (1 - a) * noise

    @made.misconception("roles swapped", "signal and noise are swapped")
    def _(x0, t, noise, schedule):
        a = schedule.alpha_bar[t].reshape(-1, *[1] * (x0.ndim - 1))
        return (1 - a).sqrt() * x0 + a.sqrt() * noise

    @made.misconception("works in place", "write x0 = x0 * ... instead of x0 *= ...")
    def _(x0, t, noise, schedule):
        a = schedule.alpha_bar[t].reshape(-1, *[1] * (x0.ndim - 1))
        x0 *= a.sqrt()
        return x0 + (1 - a).sqrt() * noise

    return made


def schedule_exercise():
    made = Exercise("schedules.NoiseSchedule", schedule_probes)

    @made.misconception("no level 0", "put level 0 first")
    class _:
        def __init__(self, betas):
            self.T = len(betas)
            self.alpha_bar = torch.cumprod(1 - betas, 0).float()

    return made


TOY = '''"""A toy module."""

import functools


def plain(fn):
    return fn


@plain
def scale(x, by=2):
    """Multiply x by a number."""
    # how it is done
    return x * by  # (B,)


def bare(x):
    # no docstring here

    # so this comment is the body's
    return x


def line(x): return x


class Box:
    r"""A box with \\alpha in it.

    Attributes: none.
    """

    size = 3

    def __init__(self, size):
        """Remember the size."""
        self.size = size

    @functools.cached_property
    def double(self):
        return 2 * self.size

    def given(self):
        """Stays."""
        return self.size  # stays, too
'''
SOURCE = """# %% [markdown]
# # A chapter
# with $x_t$ and `code`

# %% tags=["setup"]
from minivdm.course import check, piece, start

start("01_toy")
# %matplotlib inline

# %% piece="toy.scale" exercise="1.1" points=1 minutes=5

# %% piece="toy.Box" methods=["__init__", "double"] exercise="1.2" points=2 minutes=10

# %% piece="toy.line"

# %%
x = 1

# %%
x = 1
"""


def build(root, *options):
    """The exit code of `python -m minivdm.course build`."""
    return main(["build", "--root", str(root), *options])
