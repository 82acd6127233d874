"""Exercises that ask for more than a body: what the student is given, and how it is checked."""

import nbformat
import pytest
import torch
from course_kit import body, build, q_sample_exercise

from minivdm.course import as_given, check, in_words, sources
from minivdm.course.__main__ import main
from minivdm.course.docstrings import with_changes, without_docstrings, without_sections
from minivdm.course.exercise import Exercise, reaches
from minivdm.course.mending import given_text
from minivdm.course.originals import reference
from minivdm.course.own_cells import read_cells
from minivdm.course.word_answers import answers_in
from minivdm.diffusion.schedules import NoiseSchedule, linear_betas

NAME = "forward_process.q_sample"
INPUTS = torch.ones(2, 3), torch.tensor([1, 50]), 2 * torch.ones(2, 3), NoiseSchedule(linear_betas(50))
TEXT = '''def scale(x, by=2):
    r"""Multiply x by a number.

    Equation:
        y = a x  (Equation: 1)

        where a is real

    Args:
        x: a number; also by * 2

    Returns:
        another
    """
    # by * 2
    return x * by
'''


def student(root):
    return nbformat.read(root / "chapters" / "01_toy.ipynb", as_version=4).cells


def solution(root):
    return nbformat.read(root / "solutions" / "01_toy.ipynb", as_version=4).cells


def change(root, old, new, file="chapters/source/01_toy.py"):
    path = root / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_section_is_hidden_and_the_rest_stays():
    shown = without_sections(TEXT, ["Equation"])
    assert shown == TEXT.replace("    Equation:\n        y = a x  (Equation: 1)\n\n        where a is real\n\n", "")
    assert without_sections(TEXT, []) == TEXT
    last = without_sections(TEXT, ["Returns"])
    assert last == TEXT.replace("\n    Returns:\n        another\n", "")
    tight = without_sections(TEXT.replace('another\n    """', 'another"""'), ["Returns"])
    assert tight == last, "closing quotes behind the section's last word"
    assert without_sections(TEXT, ["Args", "Equation", "Returns"]).splitlines()[1:3] == [
        '    r"""Multiply x by a number.',
        '    """',
    ]
    with pytest.raises(KeyError, match="Raises"):
        without_sections(TEXT, ["Equation", "Raises"])


def test_sections_are_found_in_methods_too():
    text = "class A:\n" + "".join(f"    {line}\n" if line else "\n" for line in TEXT.splitlines())
    assert without_sections(text, ["Equation"]).count("Equation") == 0
    text = f'class A:\n    """One.\n\n    Equation:\n        1\n    """\n\n{text.partition(chr(10))[2]}'
    shown = without_sections(text, ["Equation"])
    assert "Equation" not in shown and shown.count("    Args:") == 1
    compile(shown, "shown", "exec")


def test_code_is_changed_and_docstrings_are_not():
    made = with_changes(TEXT, {"by * 2": "by + 2", "x * by": "x + by"})
    assert made == TEXT.replace("# by * 2", "# by + 2").replace("return x * by", "return x + by")
    with pytest.raises(KeyError, match="where a is real"):
        with_changes(TEXT, {"where a is real": ""})
    assert without_docstrings(TEXT) == 'def scale(x, by=2):\n    ""\n    # by * 2\n    return x * by\n'


def test_a_contract_is_what_the_student_gets(root):
    change(
        root,
        '    """Multiply x by a number."""\n',
        TEXT[TEXT.index('    r"""') : TEXT.index("    # by")],
        "minivdm/toys/toy.py",
    )
    change(root, "points=1 minutes=5", 'points=1 minutes=5 kind="derive" hide=["Equation"]')
    assert build(root) == 0
    given, worked = student(root)[2], solution(root)[2]
    assert "Equation" not in given.source and "Args:" in given.source and "raise NotImplementedError" in given.source
    assert "y = a x" in worked.source and "return x * by" in worked.source
    assert given.source.splitlines()[0] == "# Exercise 1.1 · derive it · 1 point · about 5 min"
    expected = {"piece": "toy.scale", "exercise": "1.1", "points": 1, "minutes": 5, "kind": "derive"}
    assert given.metadata == worked.metadata == {"minivdm": expected}
    assert build(root, "--check") == 0
    change(root, "where a is real", "where a is complex", "minivdm/toys/toy.py")
    assert build(root, "--check") == 1, "the worked notebook shows what is hidden from the other"


def test_what_is_to_be_mended_is_given_broken(root, course):
    made = course["toy.scale"] = Exercise("toy.scale", None)
    made.edit("adds", {"x * by": "x + by"}, "it is a product")
    change(root, "points=1 minutes=5", 'points=1 minutes=5 kind="mend" mend="adds"')
    assert build(root) == 0
    want = '# Exercise 1.1 · mend it · 1 point · about 5 min\n@piece("toy.scale")\n@plain\ndef scale(x, by=2):\n'
    want += '    """Multiply x by a number."""\n    # how it is done\n    return x + by  # (B,)\n\n\ncheck(scale)'
    assert student(root)[2].source == want and solution(root)[2].source == want.replace("x + by", "x * by")


@pytest.mark.parametrize(
    "settings, message",
    [
        ('kind="puzzle"', "kind= must be one of write, mend, find, design, derive; got puzzle"),
        ('kind="mend"', 'kind="mend" and mend="which mistake" go together'),
        ('mend="adds"', 'kind="mend" and mend="which mistake" go together'),
        ('kind="mend" mend="divides"', "one of ['adds']; got 'divides'"),
        ('kind="mend" mend="own"', "one of ['adds']; got 'own'"),
        ('hide=["Equation"]', "mend= or hide= names 'Equation', which is not in the text of toy.scale"),
    ],
)
def test_settings_that_cannot_be_are_refused(root, course, capsys, settings, message):
    made = course["toy.scale"] = Exercise("toy.scale", None)
    made.edit("adds", {"x * by": "x + by"}, "it is a product")
    made.misconception("own", "no edit")(lambda x, by: 0)
    change(root, "points=1 minutes=5", f"points=1 minutes=5 {settings}")
    assert build(root) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: 01_toy.py") and message in said and said.count("\n") == 1


def test_a_given_piece_has_no_kind(root, capsys):
    change(root, 'piece="toy.line"', 'piece="toy.line" hide=["Equation"]')
    assert build(root) == 2 and "hide= is for exercises, and this piece is given" in capsys.readouterr().err


@pytest.fixture
def mended(course, monkeypatch):
    """q_sample as an exercise to be mended; the cell's text as it is given."""
    exercise = course[NAME] = q_sample_exercise()
    exercise.edit("no root", {"alpha_bar.sqrt() * x0": "alpha_bar * x0"}, "a root is missing")
    settings = {"exercise": "1.3", "points": 2, "minutes": 9, "kind": "mend", "mend": "no root", "chapter": "01_ddpm"}
    monkeypatch.setattr(sources, "exercises", lambda root=None: {NAME: settings})
    return f'from torch import Tensor\n@piece("{NAME}")\n{given_text(NAME)}\n'


def test_until_it_is_changed_the_reference_runs_in_its_place(cell, mended, capsys):
    spaced = mended.replace("alpha_bar * x0", "(alpha_bar * x0)") + "    # hm\n"
    for text in (mended, spaced):
        q_sample = cell(text)["q_sample"]
        assert torch.equal(q_sample(*INPUTS), reference(NAME)(*INPUTS))
        assert capsys.readouterr().out == "Exercise 1.3 (q_sample) is not mended yet: the reference runs instead.\n"
        result = check(q_sample)
        assert result.status == "not attempted" and result.message == "still as it was given, and that is broken"
        capsys.readouterr()
    assert not torch.equal(as_given(NAME)(*INPUTS), reference(NAME)(*INPUTS))


def test_a_mended_piece_passes_and_a_worse_one_is_the_learners_own(cell, mended):
    done = cell(mended.replace("alpha_bar * x0", "alpha_bar.sqrt() * x0"))["q_sample"]
    assert check(done).status == "passed"
    worse = cell(mended.replace("alpha_bar * x0", "0 * x0"))["q_sample"]
    assert check(worse).status == "wrong" and not torch.equal(worse(*INPUTS), reference(NAME)(*INPUTS))
    assert check(cell(body("return as_given"))["q_sample"]).status == "error"


def test_the_method_of_a_class_that_is_to_be_mended(cell, course, monkeypatch):
    name = "schedules.NoiseSchedule"
    course[name].edit("no sum", {"self.T = len(betas)": "self.T = len(betas) + 1"}, "one too many")
    settings = {"exercise": "1.2", "points": 2, "minutes": 9, "kind": "mend", "mend": "no sum", "chapter": "01_ddpm"}
    monkeypatch.setattr(sources, "exercises", lambda root=None: {name: settings | {"methods": ["__init__"]}})
    made = cell(f'from torch import Tensor\n@piece("{name}")\n{given_text(name)}\n')["NoiseSchedule"]
    assert made(linear_betas(30)).T == 30
    result = check(made)
    assert result.status == "not attempted" and result.message.endswith("broken: __init__")
    assert as_given(name)(linear_betas(30)).T == 31


def test_only_what_is_to_be_mended_was_given():
    with pytest.raises(ValueError, match="no chapter has an exercise in which forward_process.to_x0 is to be mended"):
        as_given("forward_process.to_x0")


def test_a_target_is_reached_as_far_as_the_noise_lets_one_tell():
    sure, near = [0.50, 0.51, 0.49, 0.50], [0.4, 0.6, 0.5, 0.52]
    assert reaches("accuracy", sure, at_least=0.49).ok and reaches("error", sure, at_most=0.51).ok
    missed = reaches("accuracy", sure, at_least=0.6)
    assert not missed.ok and "wanted at least 0.6, measured 0.5 ± 0.0041 (mean of 4" in missed.message
    assert reaches("accuracy", near, at_least=0.55).ok and not reaches("accuracy", near, at_least=0.8).ok
    assert not reaches("accuracy", [float("nan")] * 3, at_least=0.1).ok
    assert not reaches("error", [0.5, float("nan"), 0.5], at_most=9).ok
    assert missed.agree(0.505) and not missed.agree(0.7) and not missed.agree(None)


WORDS = """
# %% [markdown] words="1.9" minutes=10
# Why $x$?
#
# And why not?
#
# **Answer**
#
# Because of \\alpha.
#
# **Rubric**
#
# - names $x$
# - says why
"""


def add(root, text):
    path = root / "chapters" / "source" / "01_toy.py"
    path.write_text(path.read_text() + text)


def test_a_question_is_answered_in_words(root):
    add(root, WORDS)
    assert build(root) == 0
    (asked, open_cell), (same, answer, rubric) = student(root)[-2:], solution(root)[-3:]
    assert asked.source == same.source == "### In words 1.9 · about 10 min\n\nWhy $x$?\n\nAnd why not?"
    assert open_cell.source == 'in_words("1.9", r"""\n\n""")' and open_cell.cell_type == "code"
    assert answer.source == 'in_words("1.9", r"""\nBecause of \\alpha.\n""")'
    assert rubric.source == "*What a teacher looks for:*\n\n- names $x$\n- says why" and rubric.cell_type == "markdown"
    assert open_cell.metadata == answer.metadata == {"minivdm": {"words": "1.9", "minutes": 10}}
    assert open_cell["id"] == answer["id"] and asked["id"] == same["id"], "by which a grader finds them"
    assert build(root, "--check") == 0


@pytest.mark.parametrize(
    "old, new, message",
    [
        (
            "**Rubric**",
            "**Marks**",
            "expected a question, then `**Answer**` and one good answer, then",
        ),
        ("# - names", "# * names", "then `**Rubric**` and a list"),
        ("\\alpha.", '"""', 'it can hold no """ and end with no backslash'),
        ("\\alpha.", "\\", 'it can hold no """ and end with no backslash'),
        (" minutes=10", "", "is Markdown and needs minutes, a number"),
        (" [markdown]", "", "is Markdown and needs minutes, a number"),
    ],
)
def test_questions_in_words_that_cannot_be_are_refused(root, capsys, old, new, message):
    add(root, WORDS.replace(old, new))
    assert build(root) == 2 and message in capsys.readouterr().err
    assert not (root / "chapters" / "01_toy.ipynb").exists()


def test_each_number_is_there_once(root, capsys):
    add(root, WORDS + WORDS)
    assert build(root) == 2
    assert "01_toy.py, cell 9: in words 1.9 is in 01_toy.py, cell 8 already" in capsys.readouterr().err


def test_an_answer_in_words_stays_in_its_cell_and_is_counted(root, capsys, monkeypatch):
    add(root, WORDS.replace("# %% [markdown]", "\n# %%\nfrom minivdm.course import in_words\n\n# %% [markdown]"))
    build(root)
    monkeypatch.setattr("minivdm.course.status.home_folder", lambda: root)
    monkeypatch.setattr("minivdm.course.sources.home_folder", lambda: root)
    assert answers_in(read_cells(root / "chapters" / "01_toy.ipynb")) == {"1.9": ""}
    assert answers_in(read_cells(root / "solutions" / "01_toy.ipynb")) == {"1.9": "Because of \\alpha."}
    capsys.readouterr()
    assert main(["status"]) == 0 and "In words:\n  01_toy: 0 of 1 answered" in capsys.readouterr().out
    change(
        root, 'in_words(\\"1.9\\", r\\"\\"\\"\\n', 'in_words(\\"1.9\\", r\\"\\"\\"It is so.\\n', "chapters/01_toy.ipynb"
    )
    assert main(["status"]) == 0 and "In words:\n  01_toy: 1 of 1 answered" in capsys.readouterr().out


def test_what_is_said_of_an_answer_in_words(capsys):
    for text, said in (("", "not answered yet"), (" one ", "1 word."), ("a b\nc", "3 words."), (7, "a text, got int")):
        assert in_words("1.9", text) is None
        out = capsys.readouterr().out
        assert out.startswith("In words 1.9: ") and said in out


def test_odd_cells_hold_no_answer():
    texts = [
        'in_words("1.9", text)',
        'in_words("1.9"',
        "in_words()",
        'x.in_words("1.9", "a")',
        'in_words("1.9", "a", "b")',
    ]
    cells = [{"cell_type": "code", "source": text} for text in texts]
    assert answers_in({"cells": cells}) == {}
    cells += [{"cell_type": "code", "source": f'x = in_words("1.9", "{text} ")'} for text in ("a", "b")]
    assert answers_in({"cells": cells}) == {"1.9": "b"}
