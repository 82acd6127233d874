"""A wrong piece can fail the check of another that uses it: the card says which to mend first."""

import pytest
from course_kit import RIGHT, STUB, body

from minivdm.course import check, kept_pieces, sources, start
from minivdm.course.dependencies import piece_dependencies
from minivdm.course.exercise import Exercise, close
from minivdm.course.pieces import piece_of
from minivdm.course.result_view import as_text

WRONG = body("return x0")
SENTENCE = "Exercise 1.3 (q_sample) does not pass yet and this one uses it: solve that one first."
HEADS = {
    "to_x0": '@piece("forward_process.to_x0")\ndef to_x0(x_t, t, eps, schedule):\n    ',
    "ddib": '@piece("bridge.ddib")\ndef ddib(x0, source, target, schedule, levels=None, source_cond=None,'
    " target_cond=None):\n    ",
}
USING = HEADS["to_x0"] + "return q_sample(x_t, t, eps, schedule)\n"


@pytest.fixture(autouse=True)
def exercises(course):
    """to_x0 has q_sample's check here, and of ddib nothing is right."""
    probes = course["forward_process.q_sample"].probes
    course["forward_process.to_x0"] = Exercise("forward_process.to_x0", probes)
    course["forward_process.to_x0"].misconception("nothing done", "a hint on to_x0")(lambda x_t, t, eps, schedule: x_t)

    def nothing_is_right(f, draw):
        yield close("a number", f(None, None, None, None), 1.0)

    course["bridge.ddib"] = Exercise("bridge.ddib", nothing_is_right)


def kept_by_hand(source):
    """Keep a q_sample that has never been checked, and start the chapter."""
    path = sources.pieces_folder() / "forward_process.q_sample.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source.replace('@piece("forward_process.q_sample")\n', ""))
    start("03_ddim")
    assert "forward_process.q_sample" in kept_pieces.installed


def below(made):
    return [each.name for each in piece_dependencies(piece_of(made))]


def notes(cell, source, name="to_x0"):
    result = check(cell(source)[name])
    assert result.status == "wrong"
    assert sum("solve that one first" in note for note in result.notes) == as_text(result).count("solve that one first")
    return [note for note in result.notes if "solve that one first" in note]


@pytest.mark.parametrize("checked", [True, False])
def test_a_wrong_piece_in_the_notebook_is_named_and_no_hint_misleads(cell, checked):
    mine = cell(WRONG)["q_sample"]
    assert not checked or check(mine).status == "wrong"
    result = check(cell(USING)["to_x0"])
    assert result.status == "wrong" and result.notes[0] == SENTENCE and not result.hint
    cell(RIGHT)
    result = check(cell(USING.replace("return", "return x_t +"))["to_x0"])
    assert result.status == "wrong" and not any("solve that one first" in note for note in result.notes)
    assert check(cell(USING)["to_x0"])
    assert check(cell(HEADS["to_x0"] + "return x_t\n")["to_x0"]).hint == "a hint on to_x0"


def test_a_piece_that_passes_again_is_not_named(cell):
    """Its last answer is old: the helper has been mended since."""
    cell("def helper(x0, t, noise, schedule):\n    return x0\n")
    check(cell(body("return helper(x0, t, noise, schedule)"))["q_sample"])
    assert notes(cell, USING) == [SENTENCE]
    cell(RIGHT.replace('@piece("forward_process.q_sample")', "").replace("q_sample", "helper"))
    assert check(cell(USING)["to_x0"])


def test_the_way_there_may_lead_through_helpers(cell):
    cell(WRONG)
    cell("class Helper:\n    def run(self, *given):\n        return [q_sample(*given) for _ in range(1)][0]\n")
    cell("class Heir(Helper):\n    pass\n")
    assert notes(cell, HEADS["to_x0"] + "return Heir().run(x_t, t, eps, schedule)\n") == [SENTENCE]


def test_a_kept_piece_that_does_not_pass_is_named(cell):
    kept_by_hand(WRONG)
    cell("from minivdm.diffusion.forward_process import q_sample")
    assert notes(cell, USING) == [SENTENCE]


def test_the_way_there_may_lead_through_minivdm(cell):
    """ddib calls ddim_invert, minivdm's own, which calls the kept q_sample."""
    kept_by_hand(WRONG)
    cell("from minivdm.diffusion.samplers import ddim_invert")
    assert notes(cell, HEADS["ddib"] + "ddim_invert\n    return 2.0\n", "ddib") == [SENTENCE]


def test_a_kept_piece_that_passes_is_not_named(cell):
    kept_by_hand(RIGHT)
    cell("from minivdm.diffusion.samplers import ddim_invert")
    source = HEADS["ddib"] + "ddim_invert\n    return 2.0\n"
    assert below(cell(source)["ddib"]) == ["forward_process.q_sample"]
    assert notes(cell, source, "ddib") == []


def test_kept_classes_are_found_too(cell, course):
    path = sources.pieces_folder() / "schedules.NoiseSchedule.py"
    path.parent.mkdir(parents=True)
    path.write_text("class NoiseSchedule:\n    def __init__(self, betas):\n        self.T = 3\n")
    start("03_ddim")
    cell("from minivdm.diffusion.schedules import NoiseSchedule")
    found = notes(cell, HEADS["to_x0"] + "NoiseSchedule\n    return x_t\n")
    assert found == [SENTENCE.replace("1.3 (q_sample)", "1.2 (NoiseSchedule)")]


@pytest.mark.parametrize("source", [STUB, body("return None"), body("return unknown")])
def test_what_the_reference_stands_in_for_is_not_named(cell, source):
    check(cell(source)["q_sample"])
    assert notes(cell, USING.replace("return", "return 1 +")) == []


def test_a_broken_file_and_the_piece_itself_are_not_named(cell):
    kept_by_hand(WRONG)
    kept_pieces.kept_files()["forward_process.q_sample"].write_text("def q_sample(:")
    cell("from minivdm.diffusion.forward_process import q_sample")
    assert notes(cell, USING) == []
    recursive = cell(WRONG + "    q_sample(x0, t, noise, schedule)\n")["q_sample"]
    assert below(recursive) == [] and check(recursive).status == "wrong"


def test_the_first_in_the_course_is_named(cell):
    cell(WRONG)
    cell(USING)
    made = cell(HEADS["ddib"] + "to_x0, q_sample\n    return 2.0\n")["ddib"]
    assert below(made) == ["forward_process.q_sample", "forward_process.to_x0"]
    assert [note for note in check(made).notes if "solve that" in note][0] == SENTENCE
