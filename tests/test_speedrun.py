"""The record: a clock around a process of its own, a judge that is always the same, and rules that are kept."""

import hashlib
import json

import pytest

from minivdm.__main__ import main
from minivdm.commands import speedrun as module
from minivdm.commands.settings import BUDGETS
from minivdm.commands.speedrun import CLIPS, EVENTS, JUDGE, SEEDS, speedrun
from minivdm.files import shipped


def facts(seed, seconds=40.0, seen=0.99, held_out=0.97, mini_fvd=60.0):
    accuracy = {"overall": seen, "seen": seen, "held_out": held_out, "shape": 1.0, "colour": 1.0, "motion": seen}
    return {"seed": seed, "seconds": seconds + seed, "prompt_accuracy": accuracy, "mini_fvd": mini_fvd + seed}


@pytest.fixture
def on_one_card(monkeypatch):
    """A machine on which a record could be made, in a checkout without changes; trainings are told by `facts`."""
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module.torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(module.torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(module, "commit", lambda: "abc1234")
    monkeypatch.delenv("MINIVDM_PIECES", raising=False)

    def tell(**values):
        monkeypatch.setattr(module, "one_run", lambda event, seed, out, caches: facts(seed, **values))

    tell()
    return tell


def test_a_row_tells_the_slowest_of_three_seeds_and_the_worst_of_what_they_reached(on_one_card, capsys):
    result = speedrun("16x32", "something new")
    cells = [cell.strip() for cell in result["row"].strip("|").split("|")]
    assert cells[1:] == ["abc1234", "a card", "something new", "**42.0** (40.0, 41.0)", "99.0% / 97.0%", "62.0"]
    assert result["broken"] == [] and [run["seed"] for run in result["runs"]] == list(SEEDS) == [0, 1, 2]
    assert capsys.readouterr().out.strip() == result["row"]
    assert "| muon, 800 steps of 64 |" in speedrun("16x32")["row"]


@pytest.mark.parametrize(
    "values, reason",
    [
        ({"seen": 0.9499}, "seed 2: 95.0% of the seen prompts, not 95%"),
        ({"held_out": 0.89}, "seed 0: 89.0% of the held-out prompts, not 90%"),
        ({"mini_fvd": 98.5}, "seed 2: a mini-FVD of 100.5, above 100"),
        ({"mini_fvd": float("nan")}, "seed 1: a mini-FVD of nan, above 100"),
    ],
)
def test_what_misses_the_target_is_no_record(on_one_card, capsys, values, reason):
    on_one_card(**values)
    result = speedrun("16x32")
    assert result["row"] is None and reason in result["broken"]
    assert f"no record:\n  - {result['broken'][0]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, value, reason",
    [
        ("JUDGE", "0" * 64, "the judge, data/video_classifier.pt, is another one"),
        ("torch.cuda.is_available", lambda: False, "there is no CUDA card"),
        ("torch.cuda.device_count", lambda: 4, "4 CUDA cards are visible"),
        ("commit", lambda: None, "no git checkout whose files are as they were committed"),
    ],
)
def test_a_broken_rule_is_no_record(on_one_card, monkeypatch, name, value, reason):
    monkeypatch.setattr(f"{module.__name__}.{name}", value)
    result = speedrun("8x16")
    assert result["row"] is None and reason in result["broken"][0]


def test_kept_pieces_are_no_record(on_one_card, monkeypatch, tmp_path):
    monkeypatch.setenv("MINIVDM_PIECES", str(tmp_path))
    assert "puts other pieces into the package" in speedrun("8x16")["broken"][0]
    assert main(["--mine", "speedrun", "8x16"]) == 2


def test_a_run_trains_in_a_process_of_its_own_without_what_compilers_kept(monkeypatch, tmp_path, capsys):
    script = "import os, sys; print(*sys.argv[1:]); print(os.environ['TRITON_CACHE_DIR'])"
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {module.sys.executable} -c "{script}" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(module.sys, "executable", str(program))
    measured = {"prompt_accuracy": {"overall": 1.0}, "mini_fvd": 1.0, "seconds": 3.0}
    judged = []
    monkeypatch.setattr(module, "evaluate_text2video", lambda *args, **more: judged.append((args, more)) or measured)
    out = tmp_path / "seed_1"
    with pytest.raises(RuntimeError, match="the training with seed 1 failed with exit code 0"):
        module.one_run("8x16", 1, out, tmp_path / "caches")
    out.mkdir()
    (out / "model.pt").touch()
    got = module.one_run("8x16", 1, out, tmp_path / "caches")
    printed = capsys.readouterr().out
    assert f"-m minivdm train text2video --budget gpu-small --seed 1 --out {out}" in printed
    assert str(tmp_path / "caches" / "TRITON_CACHE_DIR_1") in printed
    assert judged == [((out / "model.pt", CLIPS // 384, 20, 2.0), {"seed": 0})]
    assert got["seed"] == 1 and 0 <= got["seconds"] < 20 and got["judging_seconds"] == 3.0


def test_the_judge_and_the_events_are_those_of_the_rules():
    assert hashlib.sha256((shipped("data") / "video_classifier.pt").read_bytes()).hexdigest() == JUDGE
    assert CLIPS == 768 and set(EVENTS) == {"16x32", "8x16"}
    for name, event in EVENTS.items():
        settings = BUDGETS[event.budget]
        assert name == f"{settings.frames}x{settings.size}" and event.seen >= 0.95 and event.held_out >= 0.9


def test_what_it_refuses(tmp_path, capsys):
    assert main(["speedrun", "64x64"]) == 2
    assert "event must be one of 16x32, 8x16; got '64x64'" in capsys.readouterr().err
    assert main(["speedrun", "--out", str(tmp_path)]) == 2
    assert "is there already, and a run begins from nothing" in capsys.readouterr().err


def test_as_json(on_one_card, capsys):
    assert main(["speedrun", "8x16", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["event"] == "8x16" and "| abc1234 |" in printed.err
