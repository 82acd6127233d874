"""A version that nothing can go on with gives way to the reference; one that is merely wrong stays."""

from types import SimpleNamespace

import pytest
import torch
from course_kit import body
from test_course_check import CLASS, A, X

from minivdm.course import check
from minivdm.course.chapter_start import note_suspects
from minivdm.diffusion.forward_process import q_sample
from minivdm.diffusion.schedules import NoiseSchedule, linear_betas

SCHEDULE = NoiseSchedule(linear_betas(30))
INPUTS = torch.ones(2, 3), torch.tensor([3, 30]), torch.zeros(2, 3), SCHEDULE


@pytest.mark.parametrize("lines", [["return None"], ["return x0.numpy()"], ["return x0[:1]"], ["return y"], [A]])
def test_an_unusable_version_gives_way_and_says_so_once(cell, capsys, lines):
    mine = cell(body(*lines))["q_sample"]
    result = check(mine)
    assert not result and "the reference runs in its place" in result.notes[-1]
    capsys.readouterr()
    assert torch.equal(mine(*INPUTS), q_sample(*INPUTS)) and torch.equal(mine(*INPUTS), q_sample(*INPUTS))
    assert capsys.readouterr().out.count("cannot be used as it is: the reference runs instead") == 1
    assert check(mine).status == result.status  # the check still looks at the learner's own code


def test_an_endless_version_gives_way(cell, monkeypatch):
    monkeypatch.setenv("MINIVDM_CHECK_SECONDS", "0.5")
    mine = cell(body("while True:", "    pass"))["q_sample"]
    assert "does a loop never end" in check(mine).message
    assert torch.equal(mine(*INPUTS), q_sample(*INPUTS))


def test_a_wrong_version_stays_and_the_card_says_so(cell):
    mine = cell(body(A, X, "return x + 1"))["q_sample"]
    result = check(mine)
    assert result.status == "wrong" and "so that you can see what it does" in result.notes[-1]
    assert torch.allclose(mine(*INPUTS), q_sample(*INPUTS) + 1)


@pytest.mark.parametrize("inside", ["pass", "self.T = len(beta)"])
def test_a_class_that_raises_gives_way(cell, inside):
    mine = cell(CLASS.format(inside))["NoiseSchedule"]
    first = check(mine)
    assert not first
    assert torch.equal(mine(linear_betas(30)).alpha_bar, SCHEDULE.alpha_bar)
    assert check(mine).message == first.message


def test_a_second_mistake_does_not_hide_the_first_ones_hint(cell):
    keep = "a = schedule.alpha_bar.double()[t].reshape(-1, *[1] * (x0.ndim - 1))"
    mine = cell(body(keep, "return a * x0 + (1 - a) * noise"))["q_sample"]  # no root, and float64 besides
    assert check(mine).hint == "take the square root"


def test_a_version_that_passes_later_runs_again(cell):
    space = cell(body("return helper(x0, t, noise, schedule)"))
    assert check(space["q_sample"]).status == "error"
    cell("""
        def helper(x0, t, noise, schedule):
            a = per_sample(schedule.alpha_bar, t, x0)
            helper.calls = getattr(helper, "calls", 0) + 1
            return a.sqrt() * x0 + (1 - a).sqrt() * noise
    """)
    assert check(space["q_sample"])
    before = space["helper"].calls
    space["q_sample"](*INPUTS)
    assert space["helper"].calls == before + 1


def test_minivdms_own_version_may_not_do_the_work(cell):
    mine = cell(
        body("from minivdm.diffusion.forward_process import q_sample as own", "return own(x0, t, noise, schedule)")
    )["q_sample"]
    result = check(mine)
    assert result.status == "error" and "write one of your own" in result.message
    assert torch.equal(mine(*INPUTS), q_sample(*INPUTS))  # and minivdm's own is back in place
    source = """
        import minivdm.diffusion.schedules
        @piece("schedules.NoiseSchedule")
        class NoiseSchedule(minivdm.diffusion.schedules.NoiseSchedule):
            pass
    """
    assert "write one of your own" in check(cell(source)["NoiseSchedule"]).message


def test_a_later_failure_names_the_piece_that_does_not_pass(cell, capsys):
    check(cell(body(A, X, "return x + 1"))["q_sample"])
    capsys.readouterr()
    note_suspects(SimpleNamespace(error_in_exec=None))
    assert not capsys.readouterr().out
    note_suspects(SimpleNamespace(error_in_exec=KeyError(200)))
    assert "Exercise 1.3 (q_sample) did not pass the check, which may be the cause" in capsys.readouterr().out
