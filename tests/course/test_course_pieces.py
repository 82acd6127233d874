"""Pieces: the fallback to the reference, keeping what passed, and minivdm running on it."""

import inspect
import subprocess
import sys

import pytest
import torch
from course_kit import RIGHT, STUB, body

from minivdm.course import budget, check, kept_pieces, piece, sources, start
from minivdm.course.originals import reference
from minivdm.diffusion import forward_process, samplers, schedules, sde
from minivdm.diffusion.schedules import NoiseSchedule, linear_betas
from minivdm.models.layers import Downsample

SCHEDULE = NoiseSchedule(linear_betas(50))
INPUTS = torch.zeros(2, 3), torch.tensor([1, 50]), torch.ones(2, 3), SCHEDULE


def kept(name="forward_process.q_sample"):
    return sources.pieces_folder() / f"{name}.py"


def test_unknown_piece_lists_near_names():
    with pytest.raises(ValueError, match="did you mean 'forward_process.q_sample'"):
        piece("forward_proces.qsample")
    with pytest.raises(ValueError, match="no piece 'nonsense'"):
        piece("nonsense")


def test_kinds_must_agree(cell):
    with pytest.raises(ValueError, match="is a function in minivdm, but the cell defines a class"):
        cell('@piece("forward_process.q_sample")\nclass q_sample:\n    pass\n')


def test_stub_runs_the_reference_and_says_so_once(cell, capsys):
    q_sample = cell(STUB)["q_sample"]
    want = reference("forward_process.q_sample")(*INPUTS)
    assert torch.equal(q_sample(*INPUTS), want) and torch.equal(q_sample(*INPUTS), want)
    assert capsys.readouterr().out == "Exercise 1.3 (q_sample) is not solved yet: the reference runs instead.\n"
    assert q_sample.__name__ == "q_sample" and q_sample.__doc__ == "Jump to level t." and q_sample.__wrapped__
    assert str(inspect.signature(q_sample)) == "(x0, t, noise, schedule)"


def test_half_written_body_falls_back(cell):
    q_sample = cell(body("a = 1 + 1", "raise NotImplementedError('Exercise 1.3: jump')"))["q_sample"]
    assert torch.equal(q_sample(*INPUTS), reference("forward_process.q_sample")(*INPUTS))


def test_wrong_body_is_not_replaced(cell):
    assert torch.equal(cell(body("return noise"))["q_sample"](*INPUTS), INPUTS[2])


def test_another_not_implemented_error_passes_through(cell):
    for raising in ("raise NotImplementedError('mine')", "return [].missing"):
        with pytest.raises((NotImplementedError, AttributeError)):
            cell(body(raising))["q_sample"](*INPUTS)


def test_class_stub_methods_come_from_the_reference(cell, capsys):
    source = """
        @piece("schedules.NoiseSchedule")
        class NoiseSchedule:
            def __init__(self, betas):
                '''Fill.'''
                raise NotImplementedError("Exercise 1.2: fill")
            def __repr__(self):
                return "mine"
    """
    mine = cell(source)["NoiseSchedule"]
    made = mine(linear_betas(50))
    assert torch.equal(made.alpha_bar, SCHEDULE.alpha_bar) and repr(made) == "mine" and type(made) is mine
    assert "Exercise 1.2 (NoiseSchedule) is not solved yet" in capsys.readouterr().out


def test_super_inside_a_fallback(cell):
    source = """
        from torch import nn
        @piece("layers.Downsample")
        class Downsample(nn.Module):
            def __init__(self, channels):
                raise NotImplementedError("Exercise 9.1: fill")
            def forward(self, x):
                return self.conv(x) + 1
    """
    made = cell(source)["Downsample"](32)
    assert made(torch.zeros(2, 32, 4, 4)).shape == (2, 32, 2, 2) and len(list(made.parameters())) == 2
    assert Downsample(32).conv.stride == reference("layers.Downsample")(32).conv.stride == (2, 2)


def test_passed_piece_is_kept_and_runs_everywhere(cell, monkeypatch):
    original = forward_process.q_sample
    monkeypatch.setattr(samplers, "borrowed", original, raising=False)
    result = check(cell(RIGHT)["q_sample"])
    assert "Kept in my_pieces/forward_process.q_sample.py" in result.notes[0]
    assert kept().read_text().startswith("# The piece forward_process.q_sample") and "@piece" not in kept().read_text()
    mine = forward_process.q_sample
    assert mine is not original and samplers.borrowed is mine and reference("forward_process.q_sample") is original
    assert torch.equal(mine(*INPUTS), original(*INPUTS))
    assert list(kept().parent.iterdir()) == [kept()]  # no temporary file is left
    kept_pieces.uninstall_all()
    assert forward_process.q_sample is original and samplers.borrowed is original


def test_wrong_piece_is_not_kept(cell):
    check(cell(body("return noise"))["q_sample"])
    assert not kept().exists()


def test_what_it_uses_comes_along(cell):
    cell(
        """
        import math
        import numpy as np
        import torch.nn.functional as F
        from functools import lru_cache, partial
        from torch import sqrt as root
        from minivdm.diffusion.samplers import all_levels
        POWER, NAMES, FAR = 0.5, ("a", ["b", None], 1 + 2j), float("inf")

        @lru_cache
        def exponent(scale=math.pi):
            return POWER * scale / math.pi

        class Scale:
            def __init__(self, a): self.a = a
            def signal(self): return self.a ** exponent()
        """
    )
    source = """
        @piece("forward_process.q_sample")
        def q_sample(x0, t, noise, schedule):
            a = per_sample(schedule.alpha_bar, t, x0)
            assert NAMES[1] == ["b", None] and FAR > np.float64(3) and len(all_levels(schedule)) == schedule.T + 1
            inner = [Scale(a).signal() for _ in range(1)]
            return inner[0] * x0 + partial(root)(F.relu(1 - a)) * noise
    """
    result = check(cell(source)["q_sample"])
    assert "Kept" in result.notes[0]
    text = kept().read_text()
    for line in (
        "import numpy as np",
        "import torch.nn.functional as F",
        "from functools import lru_cache",
        "from minivdm.diffusion.samplers import all_levels",
        "from torch import sqrt as root",
        'NAMES = ("a", ["b", None], (1+2j))'.replace('"', "'"),
        'FAR = float("inf")',
        "class Scale:",
        "@lru_cache",
    ):
        assert line in text, line
    assert "per_sample import" not in text  # its module has it
    script = "from minivdm.course import start; start('x'); "
    script += "import minivdm.diffusion.forward_process as d; print(d.q_sample.__module__)"
    assert torch.equal(forward_process.q_sample(*INPUTS), reference("forward_process.q_sample")(*INPUTS))
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "pieces are yours" in out and "skipped" not in out and not out.startswith("0")


def test_type_hints_come_along(cell):
    cell("from collections.abc import Sequence\nfrom typing import Optional\nfrom torch import Tensor")
    hinted = RIGHT.replace("x0, t, noise, schedule):", "x0: Tensor, t: {0}, noise: {1}, schedule: {2}) -> {0}:")
    for hints in [("Tensor", "Tensor", '"NoiseSchedule"'), ("Tensor | Sequence", "Optional[Tensor]", '"not imported"')]:
        result = check(cell(hinted.format(*hints))["q_sample"])
        assert "Kept" in result.notes[0], result.notes
        made = kept_pieces.load("forward_process.q_sample", kept().read_text(), "q_sample.py")
        assert torch.equal(made(*INPUTS), reference("forward_process.q_sample")(*INPUTS))
    text = kept().read_text()
    assert "from collections.abc import Sequence\nfrom typing import Optional\n" in text
    assert "import Tensor" not in text  # its module has it


@pytest.mark.parametrize("value", ["torch.randn(3)", "lambda x: x", "object()"])
def test_unkeepable_variable_is_named(cell, value):
    cell(f"foo = {value}")
    result = check(cell(RIGHT.replace("    return", "    foo\n    return"))["q_sample"])
    assert result.status == "passed" and not kept().exists()
    assert "not kept, because" in result.notes[0]
    assert "foo" in result.notes[0] or "<lambda>" in result.notes[0]


def test_no_source_no_keeping(cell):
    space = cell("x = 1")
    exec(RIGHT, space)
    result = check(space["q_sample"])
    assert result and "the source of `q_sample` could not be found" in result.notes[0]


def test_changed_signature_is_not_kept(cell):
    result = check(cell(RIGHT.replace("schedule):", "plan):").replace("schedule.", "plan."))["q_sample"])
    assert result and "does not fit q_sample(x0, t, noise, schedule)" in result.notes[0] and not kept().exists()


def test_a_kept_piece_calls_the_learners_other_pieces():
    """Also where those are installed later, and where it knows them under another name."""
    text = "from minivdm.diffusion.schedules import linear_betas as lb\n\n\ndef q_sample(x0, t, noise, schedule):\n"
    text += "    return [to_x0(x0, t, noise, schedule) for _ in range(2)], lb(50)\n"
    kept_pieces.install("forward_process.q_sample", kept_pieces.load("forward_process.q_sample", text, "q_sample.py"))
    others = {"forward_process.to_x0": "(x_t, t, eps, schedule): return 1"}
    others["schedules.linear_betas"] = "(T, start=1e-4, end=0.02): return 'mine'"
    for name, rest in others.items():
        text = f"def {name.partition('.')[2]}{rest}"
        kept_pieces.install(name, kept_pieces.load(name, text, "other.py"))
    assert forward_process.q_sample(*INPUTS) == ([1, 1], "mine")
    kept_pieces.uninstall("schedules.linear_betas")
    assert torch.equal(forward_process.q_sample(*INPUTS)[1], linear_betas(50))


def test_a_piece_kept_under_its_former_name_still_runs(capsys):
    """As files were written before minivdm had folders: names of modules, functions and arguments were others."""
    kept().parent.mkdir()
    kept("diffusion.q_sample").write_text(
        "from minivdm.schedules import per_sample as look\n\n\n"
        "def q_sample(x0, t, noise, schedule):\n"
        "    a = look(schedule.alpha_bar, t, x0)\n"
        "    return a.sqrt() * x0 + (1 - a).sqrt() * noise\n"
    )
    kept("sde.flow").write_text(
        "def flow(score, x, t, sde):\n    return sde.drift(x, t) - spread(sde.diffusion(t), x) ** 2 * score(x, t) / 2\n"
    )
    kept("samplers.ddim_sample").write_text(
        "from minivdm.diffusion import to_x0\n\n\n"
        "def ddim_sample(\n"
        "    model, x, schedule, levels=None, cond=None, eta=0.0, clip=False, generator=None, callback=None\n"
        "):\n"
        "    return x.clip(-1, 1) if clip else x\n"
    )
    start("01_ddpm")
    assert "skipped" not in capsys.readouterr().out
    assert set(kept_pieces.installed) == {"forward_process.q_sample", "sde.probability_flow", "samplers.ddim_sample"}
    assert forward_process.q_sample is not reference("forward_process.q_sample")
    assert torch.equal(samplers.ddim_sample(None, torch.tensor([2.0]), None, clip_x0=True), torch.ones(1))
    assert sde.probability_flow(lambda x, t: -x, torch.ones(2, 1), torch.ones(2), sde.VPSDE()).shape == (2, 1)


def test_a_learners_own_names_stay_even_if_minivdm_had_them_once():
    text = (
        "def probability_flow_ode(score, x, sde, times, callback=None):\n"
        "    flow, spread = probability_flow(score, x, at_time(times[0], x), sde), 1\n"
        "    return flow * spread\n"
    )
    made = kept_pieces.load("sde.probability_flow_ode", text, "my_pieces/sde.probability_flow_ode.py")
    assert made(lambda x, t: -x, torch.ones(2, 1), sde.VPSDE(), [1.0, 0.5]).shape == (2, 1)
    text = (
        "def ddim_sample(\n"
        "    model, x, schedule, levels=None, cond=None, eta=0.0, clip_x0=False, generator=None, callback=None\n"
        "):\n"
        "    clip = 2 if clip_x0 else 1\n"
        "    return x * clip\n"
    )
    made = kept_pieces.load("samplers.ddim_sample", text, "my_pieces/samplers.ddim_sample.py")
    assert made(None, torch.ones(1), None, clip_x0=True) == 2 and made(None, torch.ones(1), None) == 1


CLASS = '''
@piece("schedules.NoiseSchedule")
class NoiseSchedule:
    """Tables."""
    mark = "mine"
    def __init__(self, betas):
        super().__init__()
        if not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError("betas")
        self.T = len(betas)
        self.beta = torch.cat([torch.zeros(1), betas.float()])
        self.alpha_bar = torch.cat([torch.ones(1), self.product(betas)])
    @staticmethod
    def product(betas):
        return torch.cumprod(1 - betas, 0).float()
    def to(self, device):
        return self
'''


def test_a_class_is_changed_in_place_and_restored(cell):
    live = schedules.NoiseSchedule
    before = dict(vars(live))

    class Sub(live):
        pass

    result = check(cell(CLASS)["NoiseSchedule"])
    assert "Kept" in result.notes[0]
    made = Sub(linear_betas(50))
    assert live.mark == "mine" and isinstance(made, live) and torch.allclose(made.alpha_bar, SCHEDULE.alpha_bar)
    assert isinstance(SCHEDULE, live) and "T=50" in repr(made)  # the method that the learner left out stays
    assert not hasattr(reference("schedules.NoiseSchedule"), "mark")
    check(cell(CLASS.replace("mine", "second"))["NoiseSchedule"])
    assert live.mark == "second"
    kept_pieces.uninstall_all()
    assert dict(vars(live)) == before


def test_start_installs_resets_and_counts(cell, capsys, tmp_path, monkeypatch):
    (tmp_path / "chapters" / "source").mkdir(parents=True)
    cells = [
        'piece="forward_process.q_sample" exercise="1.3"',
        'piece="schedules.NoiseSchedule" exercise="1.2"',
        'piece="x.y"',
    ]
    source = "".join(f"# %% {settings} points=1 minutes=5\n" for settings in cells)
    (tmp_path / "chapters" / "source" / "01_ddpm.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    assert check(cell(RIGHT)["q_sample"]).exercise == "1.3"
    mine, original = forward_process.q_sample, reference("forward_process.q_sample")
    capsys.readouterr()
    start("01_ddpm", solution=True)
    assert forward_process.q_sample is original and "nothing is kept" in capsys.readouterr().out
    assert check(cell(RIGHT)["q_sample"]).notes == [] and forward_process.q_sample is original
    capsys.readouterr()
    start("01_ddpm")
    assert capsys.readouterr().out == "1 of 2 pieces are yours, 1 of 2 in this chapter\n"
    assert forward_process.q_sample not in (original, mine)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def q_sample(", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("def q_sample(x0):\n    pass", "does not fit q_sample(x0, t, noise, schedule)"),
        ("x = 1", "defines no function q_sample"),
        ("\0", "null bytes"),
        ("raise SystemExit(1)", "SystemExit"),
        (
            "def q_sample(x0, t, noise, schedule):\n    return at_level(schedule, t) * x0",
            "it uses at_level, which neither",
        ),
        ("from minivdm.diffusion.schedules import at_level", "ImportError"),
    ],
)
def test_corrupt_kept_file_is_skipped(capsys, text, told):
    kept().parent.mkdir()
    kept().write_text(text)
    kept("nothing.at_all").write_text("x = 1")
    start("01_ddpm")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("skipped my_pieces/forward_process.q_sample.py: ") and told in lines[0]
    assert lines[0].endswith(". Mend or delete the file, or pass exercise 1.3 of 01_ddpm again")
    assert lines[1].startswith("skipped my_pieces/nothing.at_all.py: ") and lines[1].endswith("Mend or delete the file")
    assert lines[2].startswith("0 ") and kept().exists()
    assert forward_process.q_sample is reference("forward_process.q_sample")


def test_what_is_no_exercise_of_the_course_is_not_counted(capsys):
    kept().parent.mkdir()
    kept("schedules.per_sample").write_text("def per_sample(table, t, x):\n    return table[t]\n")
    start("01_ddpm")
    assert capsys.readouterr().out.startswith(f"0 of {len(sources.exercises())} ")
    assert set(kept_pieces.installed) == {"schedules.per_sample"}


def test_of_two_names_for_one_piece_todays_counts():
    """A piece kept under its former name, then passed again: the new file runs, whichever name sorts first."""
    kept().parent.mkdir()
    for name in ("translation.ddib", "bridge.ddib"):
        kept(name).write_text("")
    assert kept_pieces.kept_files() == {"bridge.ddib": kept("bridge.ddib")}


def test_a_former_version_is_kept_beside(cell):
    earlier, texts = kept().parent / "earlier", []
    for number in (1, 2, 1, 3):
        result = check(cell(RIGHT.replace("a.sqrt() *", f"{number} / {number} * a.sqrt() *"))["q_sample"])
        texts.append(kept().read_text())
    assert [path.read_text() for path in sorted(earlier.iterdir())] == [texts[1], texts[0]]
    assert result.notes[0].endswith(" The version before it is in my_pieces/earlier/forward_process.q_sample.py.")
    assert list(kept_pieces.kept_files()) == ["forward_process.q_sample"]
    check(cell(RIGHT.replace("a.sqrt() *", "3 / 3 * a.sqrt() *"))["q_sample"])
    assert len(list(earlier.iterdir())) == 2, "the same again is no other version"


def test_unwritable_folder_is_told(cell, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINIVDM_PIECES", str(tmp_path / "file"))
    original = forward_process.q_sample
    result = check(cell(RIGHT)["q_sample"])
    assert result and "could not be kept" in result.notes[0] and forward_process.q_sample is original


def test_budget(monkeypatch, capsys):
    monkeypatch.setenv("MINIVDM_BUDGET", "cpu")
    made = budget(smoke=dict(steps=1, T=5), cpu=dict(steps=2, T=6), gpu=dict(steps=3, T=7))
    assert (made.steps, made.T, made.name, made.device, made.dtype) == (2, 6, "cpu", torch.device("cpu"), torch.float32)
    assert "budget: cpu (" in capsys.readouterr().out
    with pytest.raises(ValueError, match="cpu lacks T"):
        budget(smoke=dict(T=5), cpu={}, gpu=dict(T=7))
    with pytest.raises(ValueError, match="only gpu has steps"):
        budget(smoke={}, cpu={}, gpu=dict(steps=7))
    with pytest.raises(ValueError, match="cannot be called name"):
        budget(smoke=dict(name=1), cpu=dict(name=1), gpu=dict(name=1))
    monkeypatch.setenv("MINIVDM_BUDGET", "huge")
    with pytest.raises(ValueError, match="one of smoke, cpu, gpu; got 'huge'"):
        budget(smoke={}, cpu={}, gpu={})
