"""Predictions: asked, answered, kept, met again; with hostile texts, broken files, and in a real kernel."""

import json
import math
import os
import subprocess
import sys
import threading
import time
import warnings

import IPython.display
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from course_kit import build
from matplotlib.text import Text
from test_course_kernel import Kernel

from minivdm.course import guess_view, guesses, start
from minivdm.course import predict as ask
from minivdm.course.__main__ import main
from minivdm.course.guess_question import Question
from minivdm.course.kept_guesses import answers_file
from minivdm.evaluation import viz
from tests.test_text_from_people import TEXTS, Page, blend, contrast

CHOICES = ["it rises", "it falls", "it stays within 2 points"]
PERCENT = {"low": 0, "high": 100, "unit": "%"}


@pytest.fixture(autouse=True)
def fresh():
    """No measurement was shown yet, and no figure is open."""
    guesses.seen.clear()
    yield
    plt.close("all")


def choice(**options):
    return ask("6.a", "What does the loss do?", **{"choices": CHOICES, **options})


def number(**options):
    return ask("6.b", "How many clips obey?", **{**PERCENT, **options})


def kept():
    return json.loads(answers_file().read_text())


# Questions and answers


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"number": "6"}, "chapter.letter, such as '6.a'; got '6'"),
        ({"number": 6.1}, "such as '6.a'"),
        ({"text": " "}, "expected a question"),
        ({"choices": ["one"]}, "two different choices or more"),
        ({"choices": ["one", " One "]}, "two different choices or more"),
        ({"choices": ["one", ""]}, "two different choices or more"),
        ({"choices": "one, two"}, "a list of texts"),
        ({"choices": [1, 2]}, "a list of texts"),
        ({"choices": ["2", "4"]}, "'2' needs a word"),
        ({"choices": CHOICES, "unit": "%"}, "no low, high or unit"),
        ({"low": 3, "high": 3}, "low < high"),
        ({"low": 0, "high": math.inf}, "low < high"),
        ({"low": "0"}, "low < high"),
    ],
)
def test_questions_that_make_no_sense(settings, said):
    with pytest.raises(ValueError, match=said):
        Question(**{"number": "6.a", "text": "How?", **settings})


@pytest.mark.parametrize("answer", [2, "it falls", " IT  falls", "2", np.int64(2)])
def test_a_choice_is_answered_by_its_number_or_its_text(answer):
    assert choice(answer=answer).answer == "it falls" == choice().answer


@pytest.mark.parametrize("answer", [40, 40.0, "40", " 40 %", "40%", np.float32(40), torch.tensor(40)])
def test_a_number_is_answered_with_or_without_its_unit(answer):
    made = number(answer=answer)
    assert made.answer == 40 == number().answer and type(made.answer) is float


@pytest.mark.parametrize("answer", [0, 4, -1, True, 1.0, "it", "", math.nan, [2], 10**400, "9" * 5000, torch.ones(2)])
def test_what_is_no_choice_is_named_in_one_line(answer, capsys):
    assert choice(answer=answer).answer is None and not answers_file().exists()
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("Prediction 6.a, answer=: expected a number from 1 to 3, or the text of a choice, got ")
    assert len(first) < 200


@pytest.mark.parametrize("answer", [140, -0.1, math.nan, math.inf, True, "many", "1e999", [40], 10**400, torch.ones(2)])
def test_what_is_no_number_is_named_in_one_line_and_changes_nothing(answer, capsys):
    number(answer=60)
    assert number(answer=answer).answer == 60 == kept()["6.b"]["answer"]
    assert "Prediction 6.b, answer=: expected a number from 0 to 100 (%), got " in capsys.readouterr().out


def test_an_open_range():
    assert Question("6.a", "?", low=1).expected == "a number of at least 1"
    assert Question("6.a", "?", high=1, unit="ms").expected == "a number of at most 1 (ms)"
    assert Question("6.a", "?").taken(-1e300) == -1e300
    for answer in (math.inf, -math.inf, "nan"):
        with pytest.raises(ValueError, match="expected a number, got"):
            Question("6.a", "?").taken(answer)
    assert (
        Question("6.a", "?", unit="ms").says(12345.6) == "12,346 ms" and Question("6.a", "?").says(0.123456) == "0.1235"
    )


# Without widgets, and headless


def test_plain_python_shows_the_question_and_how_to_answer(capsys):
    choice()
    number(answer=40)
    assert capsys.readouterr().out.splitlines() == [
        "Prediction 6.a: not answered",
        "  What does the loss do?",
        "    1. it rises",
        "    2. it falls",
        "    3. it stays within 2 points",
        "  Answer in code: predict('6.a', …, answer=2) takes a number from 1 to 3, or the text of a choice.",
        "Prediction 6.b: kept: 40%",
        "  How many clips obey?",
        "  Answer in code: predict('6.b', …, answer=…) takes a number from 0 to 100 (%).",
    ]


def test_without_an_answer_nothing_is_drawn_printed_or_written(capsys):
    guess, (_, axes) = choice(), plt.subplots()
    before = len(axes.get_children())
    guess.mark(axes)
    number().mark(axes, axis="x")
    assert len(axes.get_children()) == before and axes.get_legend() is None
    capsys.readouterr()
    guess.beside("it falls")
    number().beside(math.nan)
    assert capsys.readouterr().out.splitlines()[::4] == ["measured: it falls", "measured: nan%"]
    assert not answers_file().parent.exists()


def test_it_costs_nothing():
    ask("6.a", "What?", choices=CHOICES)
    began = time.perf_counter()
    for _ in range(20):
        choice().beside("it falls")
    assert time.perf_counter() - began < 0.5, "about 1 ms in all"


# What is kept


def test_an_answer_in_code_wins_over_the_kept_one_and_is_kept():
    choice(answer=1)
    assert choice().answer == "it rises" and choice(answer=3).answer == CHOICES[2] == choice().answer


def test_the_answer_that_stood_when_the_measurement_was_shown_is_not_forgotten(capsys):
    number(answer=60)
    guess = number(answer=40)
    assert "when_shown" not in kept()["6.b"]
    guess.beside(12.34)
    assert capsys.readouterr().out.endswith("measured: 12.34%\nyour prediction 6.b: 40%\n")
    guess = number(answer=12)
    assert guess.answer == 12 and guess.said() == "12% (before the measurement: 40%)" == number().said()
    guess.mark()
    assert kept()["6.b"] == {"question": "How many clips obey?", "answer": 12, "unit": "%", "when_shown": 40}
    assert number(answer=40).said() == "40%"


def test_an_answer_given_after_the_measurement_says_so():
    guess = choice()
    guess.beside("it falls")
    guess.give(2)
    assert guess.said() == "it falls (given after the measurement)" == choice().said()
    assert kept()["6.a"]["when_shown"] is None


def test_another_notebook_that_is_behind_does_not_hide_what_stood_before():
    behind = number(answer=40)
    number().beside(12)
    behind.give(12)
    assert behind.said() == "12% (before the measurement: 40%)"


def test_an_update_of_the_course(capsys):
    choice(answer=1)
    assert choice(choices=["it falls", "It rises"]).answer == "It rises", "today's way of writing it"
    other = choice(choices=["it falls", "it stays"])
    assert other.answer is None and not other.safe
    text = capsys.readouterr().out
    assert "not answered: your answer of before, 'it rises', does not fit the question any more\n" in text
    assert choice().answer == "it rises", "and nothing is lost"
    number(answer=40)
    assert number(unit="ms").answer is None and number(high=30).answer is None and number(low=40).answer == 40
    reworded = ask("6.b", "How many clips obey now?", **PERCENT)
    assert reworded.answer == 40 and "kept: 40% (the question was worded otherwise then)" in capsys.readouterr().out
    assert ask("6.b", "Which?", choices=CHOICES).answer is None
    other.give(1)
    assert choice(choices=["it falls", "it stays"]).answer == "it falls"


BROKEN = [
    b"",
    b'{"6.b": ',
    b"\xff\xfe",
    b"[1, 2]",
    b"[" * 100_000,
    b'{"6.z": {"answer": 1, "question": "q", "from another version": 1}}',
    b'{"6.z": 1, "6.c": {"answer": [], "question": "q"}}',
    b'{"6.z": {"answer": true, "question": "q"}}',
]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_named_and_not_lost(content, capsys):
    answers_file().parent.mkdir()
    answers_file().write_bytes(content)
    guess = choice()
    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith("Prediction 6.a: not answered: my_pieces/predictions.json") and guess.answer is None
    assert answers_file().read_bytes() == content
    choice(answer=2)
    assert "; it is kept as predictions.before.json)" in capsys.readouterr().out.splitlines()[0]
    assert answers_file().with_name("predictions.before.json").read_bytes() == content
    number(answer=40)
    assert set(kept()) == {"6.a", "6.b"} and choice().answer == "it falls"
    assert len(list(answers_file().parent.iterdir())) == 2, "no lock, no half file"


def test_of_a_file_that_is_partly_odd_the_rest_counts():
    number(answer=40)
    answers_file().write_text(json.dumps({**kept(), "6.z": {"kind": "of tomorrow"}}))
    assert number().answer == 40 and "6.z" in number().remark
    choice(answer=1)
    assert (
        set(kept()) == {"6.a", "6.b"} and "tomorrow" in answers_file().with_name("predictions.before.json").read_text()
    )


def test_where_nothing_can_be_written_the_answer_counts_for_now(monkeypatch, tmp_path, capsys):
    (tmp_path / "a_file").write_text("mine")
    monkeypatch.setenv("MINIVDM_PIECES", str(tmp_path / "a_file"))
    guess = number(answer=40)
    assert guess.answer == 40 and not guess.safe
    assert "Prediction 6.b: not kept: 40% (" in capsys.readouterr().out
    guess.mark()
    guess.beside(3)
    monkeypatch.setenv("MINIVDM_PIECES", str(tmp_path / "other"))
    answers_file().mkdir(parents=True)  # a folder of that name
    assert number(answer=40).answer == 40 and "Is a directory" in number().remark


def test_two_notebooks_at_once_lose_nothing():
    script = """
from minivdm.course.kept_guesses import keep
from minivdm.course.guess_question import Question
import sys
for letter in sys.argv[1]:
    keep(Question(f"6.{letter}", "How?"), {"question": "How?", "answer": 1.0})
"""
    letters = "abcdefghijklmnopqrstuvwxyz"
    both = [subprocess.Popen([sys.executable, "-c", script, part]) for part in (letters[::2], letters[1::2])]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    threads = [threading.Thread(target=number, kwargs={"answer": value}) for value in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(kept()) == {f"6.{letter}" for letter in letters}


def test_a_worked_solution_keeps_and_shows_nothing_of_the_learner(capsys):
    number(answer=40)
    before = answers_file().read_bytes()
    start("01_ddpm", solution=True)
    capsys.readouterr()
    guess = number()
    assert capsys.readouterr().out == "Prediction 6.b\n  How many clips obey?\n" and guess.answer is None
    choice()
    assert "    2. it falls\n" in capsys.readouterr().out
    assert "input" not in guess_view.as_html(guess) and guess_view.answer_field(guess, print) is None
    guess.mark()
    guess.beside(3)
    other = choice(answer=2)
    other.mark()
    assert other.answer == "it falls" and answers_file().read_bytes() == before


# In a plot, and beside a number


def texts(axes):
    """What is written in a plot, as it is drawn."""
    found = [each for each in axes.findobj(Text) if each.get_text()]
    axes.figure.canvas.draw()
    return [each._preprocess_math(each.get_text())[0] for each in found]


@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_number_is_a_line_with_its_name(axis):
    _, axes = plt.subplots()
    axes.plot([0, 1], [80, 90], label="measured")
    axes.legend(title="kept")
    legend = axes.get_legend()
    number(answer=40).mark(axes, axis=axis)
    line = axes.lines[-1]
    assert set(line.get_xdata() if axis == "x" else line.get_ydata()) == {40}
    assert "your prediction: 40%" in texts(axes) and axes.get_legend() is legend
    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    assert low <= 40 <= high, "it can be seen"
    assert contrast(line.get_color(), "#ffffff") >= 4.5


def test_a_choice_is_a_note_in_the_legend():
    _, axes = plt.subplots()
    guess = choice(answer=3)
    guess.mark()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["your prediction: it stays within\n2 points"]
    _, axes = plt.subplots()
    axes.plot([0, 1], [80, 90], label="$x_0$")
    limits = axes.dataLim.frozen().extents.tolist()
    axes.legend(title="models")
    guess.mark(axes)
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()][0] == "$x_0$" and len(legend.get_texts()) == 2
    assert legend.get_title().get_text() == "models" and axes.dataLim.extents.tolist() == limits
    axes.legend()
    assert len(axes.get_legend().get_texts()) == 2, "a legend made later has it, too"


def test_marks_on_any_axes():
    for scale in ("log", "symlog"):
        _, axes = plt.subplots()
        axes.set(xscale=scale, yscale=scale)
        with warnings.catch_warnings(action="error"):
            number(answer=0).mark(axes)
            number(answer=0).mark(axes, axis="x")
            axes.figure.canvas.draw()
    _, axes = plt.subplots()
    axes.bar(["a", "b"], [1, 2])
    axes.axis("off")
    number(answer=50).mark(axes)
    viz.show_images(torch.zeros(2, 1, 8, 8), ax=axes)
    choice(answer=1).mark(axes)
    axes.figure.canvas.draw()
    _, axes = plt.subplots()
    axes.set_ylim(80, 100)
    number(answer=40).mark(axes)
    note = axes.get_legend().get_texts()[0].get_text()
    assert note.startswith("your prediction: 40%") and axes.get_ylim() == (80, 100), "outside of the plot: a note"
    size = axes.get_tightbbox()
    assert size.height < 1.3 * axes.bbox.height, "and nothing is written far below it"
    with pytest.raises(ValueError, match="expected 'x' or 'y' as axis, got 'z'"):
        number().mark(axes, axis="z")


def test_beside_refuses_what_is_no_measurement():
    with pytest.raises(ValueError, match="prediction 6.a: expected one of .*got 'it'"):
        choice().beside("it")
    with pytest.raises(ValueError, match="prediction 6.b: expected a number, got None"):
        number().beside(None)
    number().beside(torch.tensor(3.0))


# Text from people


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed in a notebook, one bundle after the other."""
    bundles = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, **options: bundles.append(bundle))
    monkeypatch.setattr(guess_view, "notebook_shell", lambda: True)
    return bundles


@pytest.mark.parametrize("text", [text for text in TEXTS if text], ids=ascii)
def test_it_is_shown_as_it_stands(displayed, text, capsys):
    question = f"? {text}"
    guess = ask("6.a", question, choices=[text, "plain"], answer=1)
    page = Page(displayed[0]["text/html"])
    assert page.text.count(text) == 3 and f"? {text}" in page.text
    assert set(page.tags) == {"div", "b", "ol", "li", "details", "summary"}
    assert {name for name, _ in page.attributes} == {"class", "style"} and "mathjax_ignore" in page.attributes[0][1]
    assert displayed[0]["text/plain"].startswith(f"Prediction 6.a: kept: {text}")
    assert ask("6.a", question, choices=["plain", text]).answer == text
    _, axes = plt.subplots()
    guess.mark(axes)
    ask("6.b", "?", unit=text, answer=1).mark(axes)
    assert {"".join(each.split()) for each in texts(axes)} >= {
        "".join(viz.drawable(f"your prediction: {' '.join(each.split())}").split())
        for each in (text, Question("6.b", "?", unit=text).says(1))
    }
    guess.beside(text)
    assert capsys.readouterr().out.count(text) == 2


@pytest.mark.parametrize("state", ["kept", "not kept", "not answered", "not taken"])
def test_cards_can_be_read_in_light_and_in_dark_themes(state, monkeypatch):
    guess = number() if state in ("not answered", "not taken") else number(answer=40)
    guess.safe = state == "kept"
    page = Page(guess_view.as_html(guess, "wrong" if state == "not taken" else ""))
    assert state in page.text
    coloured = [style for style in page.styles if "color" in style]
    assert coloured and all(contrast(style["color"].strip(), style[" background"].strip()) >= 4.5 for style in coloured)
    for style in page.styles:
        opacity = float(style.get(" opacity", 1))
        assert contrast(blend("#e0e0e0", "#111111", opacity), "#111111") >= 4.5


def test_without_ipywidgets_the_card_says_how_to_answer(displayed, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    choice()
    (bundle,) = displayed
    assert "details" not in Page(bundle["text/html"]).tags and "answer=2" in Page(bundle["text/html"]).text
    assert "it falls" in Page(bundle["text/html"]).text


def test_a_number_counts_when_it_is_finished_and_not_with_each_key():
    assert guess_view.answer_field(number(), print).continuous_update is False


# In a real kernel


class Reader(Kernel):
    """A kernel with a reader who sees cards, and answers in the fields below them."""

    def answer(self, view, **state):
        """What a browser sends when somebody answers; returns the card as it is then."""
        session = self.client.session
        content = {"comm_id": view["model_id"], "data": {"method": "update", "state": state, "buffer_paths": []}}
        self.client.shell_channel.send(session.msg("comm_msg", content))
        while True:
            message = self.client.get_iopub_msg(timeout=20)
            if message["msg_type"] == "update_display_data":
                return message["content"]["data"]

    def field(self, kind):
        """The id of the newest field of a kind, and its value, asked of the kernel."""
        source = f"""
from ipywidgets.widgets.widget import _instances
each = [w for w in _instances.values() if type(w).__name__ == {kind!r}][-1]
each.model_id + '|' + str(each.value)"""
        return self.run(source)[1][0]["text/plain"].strip("'\"").split("|")


def test_in_a_kernel_an_answer_counts_when_it_is_chosen_and_survives_a_restart(tmp_path):
    folder = tmp_path / "kept_here"
    first = f"from minivdm.course import predict\ng = predict('6.a', 'What?', choices={CHOICES!r})"
    second = "h = predict('6.b', 'How many?', low=0, high=100, unit='%')"
    kernel = Reader({**os.environ, "MINIVDM_PIECES": str(folder)})
    try:
        text, shown, failed = kernel.run(first)
        assert not text and not failed and len(shown) == 2
        assert "not answered" in shown[0]["text/html"] and "    2. it falls" in shown[0]["text/plain"]
        assert "application/vnd.jupyter.widget-view+json" in shown[1]
        kernel.run(second)
        assert not kernel.run("g.beside('it falls'); h.beside(3)")[2] and not folder.exists(), "a headless run"
        kernel.run("from minivdm.course import guesses; guesses.seen.clear()")
        radio, value = kernel.field("RadioButtons")
        assert value == "None"
        assert "kept</b>&nbsp; it falls" in kernel.answer({"model_id": radio}, index=1)["text/html"]
        text, value = kernel.field("Text")
        card = kernel.answer({"model_id": text}, value="140 %")
        assert "not taken: expected a number from 0 to 100 (%), got '140 %'" in card["text/plain"]
        assert "kept: 40%" in kernel.answer({"model_id": text}, value="40")["text/plain"]
        assert "still: 40%" in kernel.answer({"model_id": text}, value="")["text/plain"]
        assert "'it falls', 40.0" in kernel.run("g.answer, h.answer")[1][0]["text/plain"]
    finally:
        kernel.stop()
    kernel = Reader({**os.environ, "MINIVDM_PIECES": str(folder)})
    try:
        assert (
            "kept: it falls" in kernel.run(first)[1][0]["text/plain"] and kernel.field("RadioButtons")[1] == "it falls"
        )
        assert "kept: 40%" in kernel.run(second)[1][0]["text/plain"] and kernel.field("Text")[1] == "40"
        solution = "from minivdm.course import start; start('01_ddpm', solution=True)\n" + first
        _, shown, _ = kernel.run(solution)
        assert len(shown) == 1 and "kept" not in shown[0]["text/html"] and "<li>it falls</li>" in shown[0]["text/html"]
    finally:
        kernel.stop()


# In the chapters' sources


def with_cells(root, *cells):
    """Add cells to the chapter of the repository `root`."""
    path = root / "chapters" / "source" / "01_toy.py"
    path.write_text(path.read_text() + "".join(f"\n# %%\n{cell}\n" for cell in cells))


GOOD = 'guess = predict("1.a", "What?", choices=["this", "that"])'


@pytest.mark.parametrize(
    "cells, said",
    [
        ([GOOD, GOOD], "01_toy.py, cell 9: prediction 1.a is in 01_toy.py, cell 8 already"),
        ([GOOD.replace("1.a", "2.a")], "01_toy.py, cell 8: prediction 2.a is none of chapter 01_toy"),
        ([GOOD.replace("1.a", "1.12")], "cell 8: a prediction's number is chapter.letter"),
        ([GOOD.replace('"1.a"', "name")], "cell 8: expected predict's number as a text, such as '6.a', got name"),
        ([GOOD.replace(', "that"', "")], "cell 8: prediction 1.a: expected two different choices or more"),
        ([GOOD.replace("choices", "choice")], "cell 8: predict: got an unexpected keyword argument 'choice'"),
        ([GOOD + ")"], "cell 8: a text with predict(...) is no Python: unmatched ')'"),
    ],
)
def test_build_names_the_cell_of_a_wrong_prediction(root, capsys, cells, said):
    with_cells(root, *cells)
    assert build(root) == 2 and said in capsys.readouterr().err
    assert not (root / "chapters" / "01_toy.ipynb").exists()


def test_status_counts_the_answers_of_each_chapter(root, capsys, monkeypatch):
    number_cell = '%matplotlib inline\nfor _ in [0]:\n    predict("1.b", f"How many of {3}?", low=0, high=n)'
    with_cells(root, GOOD, number_cell.replace("%", "# %"), "model.predict(3)  # predict('9.z')")
    assert build(root) == 0
    monkeypatch.chdir(root)

    def lines():
        capsys.readouterr()
        assert main(["status"]) == 0
        return capsys.readouterr().out.partition("\nPredictions:\n")[2].splitlines()

    assert lines()[0] == "  01_toy: 0 of 2 answered"
    ask("1.b", "How many of 3?", answer=2)
    ask("1.a", "What?", choices=["this", "that"], answer=1)
    assert lines()[0] == "  01_toy: 2 of 2 answered"
    ask("1.a", "What?", choices=["these", "those"], answer=1)
    assert lines()[0] == "  01_toy: 1 of 2 answered", "the chapter asks for this or that"
    answers_file().write_text("{")
    assert lines()[:2] == [
        "  01_toy: 0 of 2 answered",
        "  my_pieces/predictions.json is broken, so its answers cannot be used",
    ]
