"""Every way in which a learner can go wrong, and what the check answers."""

import random
import time

import numpy
import pytest
import torch
from course_kit import RIGHT, STUB, body

from minivdm.course import check
from minivdm.course.checking import CheckFailed, examine
from minivdm.course.exercise import close, equal, near
from minivdm.course.originals import made_again, signature_of
from minivdm.course.pieces import Piece
from minivdm.course.result_view import as_html, as_text
from minivdm.course.sandbox import Printed, TimeUp, time_limit
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas

A = "a = per_sample(schedule.alpha_bar, t, x0)"
X = "x = a.sqrt() * x0 + (1 - a).sqrt() * noise"


def answer(cell, source):
    return check(cell(source)["q_sample"])


def test_stub_is_not_attempted(cell):
    result = answer(cell, STUB)
    assert (result.status, result.exercise, bool(result)) == ("not attempted", "1.3", False)


def test_right_passes(cell):
    result = answer(cell, RIGHT)
    assert result.status == "passed" and result and not result.hint


@pytest.mark.parametrize("name", ["forward_process.q_sample", "schedules.NoiseSchedule"])
def test_reference_passes_and_misconceptions_get_their_hint(course, name):
    assert examine(Piece(name, made_again(name))).status == "passed"
    for label, hint, _ in course[name].misconceptions:
        result = examine(Piece(name, course[name].wrong(label)))
        assert (result.status, result.hint) == ("wrong", hint), label


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ("pass", "None: is a `return` missing?"),
        ("return x.numpy()", "expected a torch.Tensor (4, 3, 8, 8), got a NumPy ndarray"),
        ("return (x, a)", "got a tuple of 2"),
        ("return x[:2]", "wrong shape"),
        ("return x.double()", "wrong dtype"),
        ("return x * float('nan')", "are NaN"),
        ("return x / 0", "values are"),
        ("return x + 1", "largest error 1"),
    ],
)
def test_wrong_answers_are_named(cell, last, told):
    result = answer(cell, body(A, X, last))
    assert result.status == "wrong" and told in result.message


def test_error_shows_only_the_learners_lines(cell):
    result = answer(cell, body(A, "def inner():", "    return a @ unknown", "return inner()"))
    assert result.status == "error"
    assert result.message.splitlines() == [
        "line 6:  return inner()",
        "line 5:  return a @ unknown",
        "NameError: name 'unknown' is not defined",
    ]


def test_error_inside_a_library_shows_the_learners_line(cell):
    result = answer(cell, body(A, "return torch.cat([a, torch.zeros(3)])"))
    assert (
        result.status == "error"
        and result.message.startswith("line 4:  return torch.cat")
        and "site-packages" not in result.message
    )


def test_wrong_signature_is_told(cell):
    result = answer(cell, '@piece("forward_process.q_sample")\ndef q_sample(x0, t):\n    return x0\n')
    assert result.status == "error" and "its signature should be q_sample(x0, t, noise, schedule)" in result.message


def test_a_signature_is_shown_without_type_hints():
    assert str(signature_of(NoiseSchedule.to)) == "(self, device)"
    assert str(signature_of(cosine_betas)) == "(T, s=0.008, max_beta=0.999)"


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("x0 += 1", "x0"),
        ("schedule.alpha_bar.sqrt_()", "schedule.alpha_bar"),
        ("t[0] = (t[0] + 1) % 11", "t"),
        ("noise.mul_(2)", "noise"),
        ("noise.requires_grad_()", "noise"),
    ],
)
def test_changed_input_is_named(cell, line, path):
    result = answer(cell, body(line, A, "return a.sqrt() * x0 + (1 - a).sqrt() * noise"))
    assert result.status == "wrong" and f"changed its input `{path}` in place" in result.message


def test_in_place_work_on_own_tensors_is_fine(cell):
    assert answer(cell, body(A, "x = x0.clone()", "x *= a.sqrt()", "x += (1 - a).sqrt() * noise", "return x"))


def test_long_printing_is_folded(cell):
    result = answer(cell, body(A, X, "for i in range(5000): print('line', i)", "return x"))
    assert result.printed.splitlines() == [f"line {i}" for i in range(5)] + ["… 9,995 more lines"]


def test_printed_counts_lines():
    printed = Printed()
    printed.write("a\nb")
    assert printed.text == "a\nb"
    printed.write("\n" * 10)
    assert printed.text.splitlines()[:2] == ["a", "b"] and printed.text.endswith("… 6 more lines")


def test_half_written_body(cell):
    result = answer(cell, body(A, "raise NotImplementedError('Exercise 1.3: jump')"))
    assert result.status == "not attempted" and "still reaches" in result.message


@pytest.mark.parametrize("inside", ["pass", "time.sleep(9)"])
def test_endless_loop_is_stopped(cell, monkeypatch, inside):
    monkeypatch.setenv("MINIVDM_CHECK_SECONDS", "0.5")
    cell("import time")
    began = time.time()
    result = answer(
        cell, body("while True:", "    try:", f"        {inside}", "    except ValueError:", "        pass")
    )
    assert result.status == "error" and "does a loop never end?" in result.message and "\nline " in result.message
    assert time.time() - began < 5
    time.sleep(1.2)  # no late interrupt


def test_swallowed_interrupt_is_repeated(cell, monkeypatch):
    monkeypatch.setenv("MINIVDM_CHECK_SECONDS", "0.3")
    source = body(
        "for i in range(2):", "    try:", "        while True: pass", "    except BaseException:", "        pass"
    )
    result = answer(cell, source + "    raise ValueError('out')\n")
    assert result.status == "error"


def test_time_limit_leaks_nothing():
    for _ in range(20):
        try:
            with time_limit(0.01):
                end = time.perf_counter() + 0.0101
                while time.perf_counter() < end:
                    pass
        except TimeUp:
            pass
    time.sleep(0.05)


def test_exit_is_an_error(cell):
    assert "called exit" in answer(cell, body("raise SystemExit")).message


def test_strict_mode_raises(cell, monkeypatch):
    monkeypatch.setenv("MINIVDM_STRICT", "1")
    assert answer(cell, RIGHT)
    for source in (STUB, body("return x0"), body("return unknown")):
        with pytest.raises(CheckFailed):
            answer(cell, source)


def test_seed_repeats_and_global_random_state_stays(cell):
    q_sample = cell(body("return x0 + torch.rand(1)"))["q_sample"]
    torch.manual_seed(1), numpy.random.seed(1), random.seed(1)
    want = torch.rand(1), numpy.random.rand(), random.random()
    torch.manual_seed(1), numpy.random.seed(1), random.seed(1)
    first, second, third = check(q_sample, seed=7), check(q_sample, seed=7), check(q_sample)
    assert first.message == second.message != third.message
    assert (torch.rand(1), numpy.random.rand(), random.random()) == want


def test_fault_of_the_check_is_told_apart(cell, course):
    def divides(f, draw):
        f(*arguments)
        yield 1 / 0

    def uses(f, draw):
        yield near("mean", f(*arguments).mean().item(), 1.0, within=9)

    schedule = type("S", (), {"alpha_bar": torch.ones(3)})()
    arguments = torch.ones(2, 2), torch.ones(2).long(), torch.ones(2, 2), schedule
    course["forward_process.q_sample"].probes = divides
    result = answer(cell, RIGHT)
    assert result.status == "error" and "the check itself failed; please report" in result.message
    course["forward_process.q_sample"].probes = uses
    assert answer(cell, RIGHT)
    result = answer(cell, body("x0 + 1"))
    assert result.status == "wrong" and "None: is a `return` missing?" in result.message


def test_check_of_something_else():
    result = check(len)
    assert result.status == "error" and "@piece" in result.message


CLASS = '''
@piece("schedules.NoiseSchedule")
class NoiseSchedule:
    """Tables."""
    def __init__(self, betas):
        {}
    def to(self, device):
        return self
'''


@pytest.mark.parametrize(
    ("inside", "status", "told"),
    [
        ('raise NotImplementedError("Exercise 1.2: tables")', "not attempted", "still to write: __init__"),
        ("pass", "wrong", "'NoiseSchedule' object has no attribute 'T'"),
        ("self.T = len(beta)", "error", "name 'beta' is not defined"),
        ("betas += 1", "wrong", "changed its input `betas`"),
        ("self.T = 3", "wrong", "expected T = 20, got 3"),
    ],
)
def test_classes(cell, inside, status, told):
    result = check(cell(CLASS.format(inside))["NoiseSchedule"])
    assert result.status == status and told in result.message


def test_misconception_of_a_class_gets_its_hint(cell):
    inside = "self.T, self.alpha_bar = len(betas), torch.cumprod(1 - betas, 0).float()"
    assert check(cell(CLASS.format(inside))["NoiseSchedule"]).hint == "put level 0 first"


def test_cards(cell):
    result = answer(cell, body("return x0 < noise"))
    assert "<script" not in as_html(result) and "expected float32" in as_html(result)
    result.message = "<b>"
    assert "&lt;b&gt;" in as_html(result) and "q_sample" in as_text(result).splitlines()[0]
    assert result._ipython_display_() is None


def test_probes():
    two = (torch.zeros(2), torch.ones(2))
    assert close("pair", two, two, names=("mean", "variance")).ok
    assert "a tuple of 2 (mean, variance)" in close("pair", torch.zeros(2), two, names=("mean", "variance")).message
    assert close("pair", two[::-1], two, names=("mean", "variance")).message.startswith("mean:")
    assert close("float64 oracle", torch.zeros(2), torch.zeros(2).double(), dtype=torch.float32).ok
    assert close("number", torch.tensor(1.0), 1.0).ok and not close("number", None, 1.0).ok
    worst = close("worst", torch.tensor([0.0, -9.0, 5.0]), torch.zeros(3)).message
    assert "largest error 9 at [1]: expected 0, got -9 (2 of 3 values off)" in worst
    assert near("m", torch.tensor(1.04), 1, within=0.05).ok and not near("m", float("nan"), 1, within=1).ok
    assert equal("levels", torch.tensor([3, 2]), [3, 2]).ok and not equal("levels", None, [3]).ok
