"""Every exercise's check: it accepts what is right however it is written, and names each common mistake."""

import importlib
import inspect
from pathlib import Path

import pytest
import torch

from minivdm.course import check, piece, sources
from minivdm.course.checks import find
from minivdm.course.exercise import Exercise
from minivdm.course.originals import made_again, reference
from minivdm.diffusion.schedules import NoiseSchedule, linear_betas
from tests.checks.collected import ALTERNATIVES

for path in sorted(Path(__file__).parent.glob("alternatives_*.py")):
    importlib.import_module(f"tests.checks.{path.stem}")

NAMES = list(sources.exercises())
SEEDS = range(3)


def borrowing(name):
    """A version that hands all work to minivdm's own."""
    module, _, attribute = name.rpartition(".")
    theirs = getattr(importlib.import_module(sources.import_name(sources.modules()[module])), attribute)
    if inspect.isclass(theirs):
        return type(attribute, (theirs,), {})
    return lambda *args, **kwargs: theirs(*args, **kwargs)


def a_stub(name):
    """The reference's signature around the exercise's `raise`."""
    target = reference(name)

    def stub(*args, **kwargs):
        raise NotImplementedError("Exercise 0.0: to be written")

    if not inspect.isclass(target):
        stub.__name__ = target.__name__
        return stub
    return type(target.__name__, (), {"__init__": stub})


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_passes(name):
    for seed in SEEDS:
        result = check(piece(name)(made_again(name)), seed=seed)
        assert result, result


@pytest.mark.parametrize("name", NAMES)
def test_the_package_may_not_do_the_work(name):
    target = reference(name)
    assert check(piece(name)(borrowing(name))).status in ("error", "wrong")
    if not inspect.isclass(target):
        result = check(piece(name)(target))
        assert result.status == "wrong" and "minivdm's own" in result.message


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_is_not_attempted(name):
    assert check(piece(name)(a_stub(name))).status == "not attempted"


@pytest.mark.parametrize("name, label", [(name, m[0]) for name in NAMES for m in find(name).misconceptions])
def test_a_misconception_gets_its_own_hint(name, label):
    exercise = find(name)
    seed, hint = next((i, h) for i, (known, h, _) in enumerate(exercise.misconceptions) if known == label)
    result = check(piece(name)(exercise.wrong(label)), seed=seed)  # one seed each, so that many are tried
    assert result.status in ("wrong", "error") and result.hint == hint


@pytest.mark.parametrize("name", NAMES)
def test_there_are_three_misconceptions_with_different_hints(name):
    hints = [hint for _, hint, _ in find(name).misconceptions]
    assert len(hints) >= 3 and len(set(hints)) == len(hints)


@pytest.mark.parametrize("name, target", ALTERNATIVES, ids=[t.__name__ for _, t in ALTERNATIVES])
def test_an_alternative_passes(name, target):
    for seed in SEEDS:
        result = check(piece(name)(target), seed=seed)
        assert result, result


def test_there_are_two_alternatives_for_each_exercise():
    given = [name for name, _ in ALTERNATIVES]
    assert all(given.count(name) >= 2 for name in NAMES), [name for name in NAMES if given.count(name) < 2]


def test_a_mistake_whose_text_is_gone_from_the_reference_raises():
    made = Exercise("forward_process.q_sample", None)
    made.edit("gone", {"no such text": "x"}, "hint")
    with pytest.raises(ValueError, match="forward_process.q_sample holds no 'no such text'"):
        made.wrong("gone")
    made.edit("only in the docstring", {"Jump from clean data": "x"}, "hint")
    with pytest.raises(ValueError, match="this mistake is no edit of it any more"):
        made.wrong("only in the docstring")


def test_a_mistake_is_the_reference_with_other_text():
    made = Exercise("forward_process.q_sample", None)
    made.edit("minus", {"+ (1 - alpha_bar)": "- (1 - alpha_bar)"}, "hint")
    schedule, x0, t = NoiseSchedule(linear_betas(30)), torch.randn(2, 3), torch.tensor([3, 9])
    noise = torch.randn(2, 3)
    wrong, right = made.wrong("minus"), reference("forward_process.q_sample")
    assert torch.allclose(wrong(x0, t, noise, schedule), right(x0, t, -noise, schedule))
