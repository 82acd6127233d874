"""Two-alternative forced choice: shown, answered, kept, counted; without widgets, and with a broken file."""

import json

import pytest
import torch

from minivdm.course import prefer, preference_view, start
from minivdm.course.kept_preferences import file
from minivdm.evaluation.viz import notebook_module

NAMES = "good", "bad"


def clips(seed=0, n=4):
    x = torch.rand(n, 2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return [tuple(pair) for pair in x]


def ask(answers=None, seed=0, **options):
    return prefer("13.eye", "Which one moves?", clips(seed), NAMES, answers=answers, **options)


def test_an_answer_in_code_is_kept_and_counted(capsys):
    eyes = ask()
    assert eyes.answers == "" and eyes.count() == (0, 0)
    assert "4 pairs of clips, 0 answered" in capsys.readouterr().out
    for_first = "".join("r" if swapped else "l" for swapped in eyes.swapped)
    assert set(for_first) == {"l", "r"}, "the coin must show both sides"
    assert ask(for_first).count() == (4, 4) == ask().count()
    mirrored = for_first.translate(str.maketrans("lr", "rl"))
    assert ask(mirrored[:3]).count() == (0, 3)
    assert json.loads(file().read_text())["13.eye"]["answers"] == mirrored[:3]
    capsys.readouterr()
    ask().report()
    assert "'good' to 'bad' in 0 of 3 pairs: 0%" in (out := capsys.readouterr().out) and "0% to 56%" in out
    for i, (first, second) in enumerate(eyes.pairs):
        left, right = eyes.sides(i)
        assert torch.equal(right if eyes.swapped[i] else left, first)
        assert torch.equal(left if eyes.swapped[i] else right, second)


def test_other_clips_have_no_answers_yet(capsys):
    ask("ll")
    assert ask(seed=1).answers == "" and "about other clips" in capsys.readouterr().out


@pytest.mark.parametrize("answers", ["x", "lllll", 3, ["l"]])
def test_what_does_not_fit_changes_nothing(answers, capsys):
    ask("lr")
    assert ask(answers).answers == "lr"
    assert 'answers=: expected at most 4 letters, "l" or "r" each' in capsys.readouterr().out


@pytest.mark.parametrize("content", ["no json", "[]", '{"13.eye": {"answers": 3}}'])
def test_a_broken_file_is_copied(content, capsys):
    file().parent.mkdir(parents=True, exist_ok=True)
    file().write_text(content)
    assert ask().answers == "" and ask("l").answers == "l"
    assert json.loads(file().read_text())["13.eye"]["answers"] == "l"
    assert [path.read_text() for path in file().parent.glob("preferences*.before*")] == [content]


def test_a_worked_solution_asks_nobody():
    start("00_start_here", solution=True)
    assert ask("ll").answers == "ll" and not file().exists()
    assert ask().answers == ""


def test_pairs_that_make_no_sense():
    for pairs, names in (([], NAMES), ([(1,)], NAMES), (clips(), ("one",))):
        with pytest.raises(ValueError, match="expected pairs of clips and two names"):
            prefer("13.eye", "Which?", pairs, names)


def test_buttons_answer_one_pair_after_the_other():
    widgets = notebook_module("ipywidgets")
    eyes = ask()
    question, screen, row, line = preference_view.buttons(eyes, widgets).children
    left, right, back = row.children
    assert back.disabled and line.value == "pair 1 of 4" and screen.value.count("<img") == 2
    first = screen.value
    left.click()
    assert line.value == "pair 2 of 4" and screen.value != first
    back.click()
    assert screen.value == first
    for button in (left, right, right, left):
        button.click()
    assert eyes.answers == "lrrl" == ask().answers and left.disabled and right.disabled and screen.value == ""
    back.click()
    assert not left.disabled and eyes.answers == "lrr"
    assert "Which one moves?" in question.value


def test_without_a_notebook_no_clip_is_encoded(monkeypatch):
    monkeypatch.setattr(preference_view, "gif_bytes", None)
    assert ask().answers == ""
