"""A run's folder belongs to one run at a time, and its files tell the truth about it."""

import dataclasses
import json
import os
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from minivdm.__main__ import main
from minivdm.commands import train
from minivdm.commands.run_folder import claimed, find_run, saved_settings
from minivdm.commands.settings import Settings, fit_to_processes, settings_of
from minivdm.training import checkpoint
from tests.test_train_text2video import assert_same_weights

SMOKE = ["train", "text2video", "--budget", "smoke"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(train, "write_samples", lambda model, path: None)  # takes longer than all the rest


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a short run that nobody interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(train, "write_samples", lambda model, path: None)
        out = tmp_path_factory.mktemp("runs") / "whole"
        assert main([*SMOKE, "--steps", "4", "--out", str(out)]) == 0
    return out


def error_of(capsys, *arguments):
    """The one line that a command which cannot be done prints to stderr."""
    assert main([*SMOKE, *arguments]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1
    return line


def at_step(monkeypatch, step, do):
    """Do something instead of writing the samples of a step, whose checkpoint is written by then."""
    monkeypatch.setattr(train, "SAMPLES", 8)  # at every step of a short run
    monkeypatch.setattr(train, "write_samples", lambda model, path: do() if path.stem == f"step_{step:06d}" else None)


def test_a_second_run_in_a_folder_is_refused_whatever_its_settings(capsys, monkeypatch):
    answers = []

    def another_run():
        answers.extend(main([*SMOKE, "--steps", "2", *option]) for option in ([], ["--seed", "1"]))

    at_step(monkeypatch, 1, another_run)
    assert main([*SMOKE, "--steps", "2"]) == 0 and answers == [2, 2]
    lines = capsys.readouterr().err.splitlines()
    out = Path("runs/text2video/smoke")
    start = f"error: {out} is in use by process {os.getpid()} on "
    assert len(lines) == 2 and all(line.startswith(start) for line in lines)
    assert all(line.endswith(": choose another --out, or wait until that run has ended") for line in lines)
    assert find_run(out)["seed"] == 0 and not (out / "lock").exists()


def test_what_counts_are_the_settings_in_the_checkpoint(whole, capsys):
    shutil.copytree(whole, "out")
    told = json.loads(Path("out", "settings.json").read_text())
    Path("out", "settings.json").write_text(json.dumps(told | {"seed": 1}))
    command = ["--steps", "4", "--out", "out"]
    assert "out holds a run with seed=0, not seed=1" in error_of(capsys, *command, "--seed", "1")
    assert main([*SMOKE, *command]) == 0
    assert "out/settings.json did not say what the checkpoint says" in capsys.readouterr().out
    assert json.loads(Path("out", "settings.json").read_text()) == told
    for broken in ("{", None):
        Path("out", "settings.json").unlink() if broken is None else Path("out", "settings.json").write_text(broken)
        assert main([*SMOKE, *command]) == 0
        assert json.loads(Path("out", "settings.json").read_text()) == told
    assert saved_settings(Path("out"), find_run(Path("out"))) == settings_of("smoke", steps=4)[1]


def test_settings_in_a_checkpoint_that_make_no_sense(whole, capsys):
    shutil.copytree(whole, "out")
    saved = torch.load(Path("out", "checkpoint.pt"), weights_only=True)
    for settings in ({**saved["settings"], "lr": float("nan")}, {"steps": 4}, [1]):
        torch.save({**saved, "settings": settings}, Path("out", "checkpoint.pt"))
        line = error_of(capsys, "--steps", "4", "--out", "out")
        assert "out/checkpoint.pt does not tell what the run in out was begun with" in line
    torch.save({**saved, "phase": "later"}, Path("out", "checkpoint.pt"))
    assert "is no checkpoint of a text-to-video run" in error_of(capsys, "--steps", "4", "--out", "out")


def test_a_checkpoint_is_read_once(whole, monkeypatch):
    shutil.copytree(whole, "out")
    shutil.copy("out/checkpoint.pt.previous", "out/checkpoint.pt")
    read, load = [], checkpoint.load_torch
    monkeypatch.setattr(checkpoint, "load_torch", lambda path: read.append(path) or load(path))
    assert main([*SMOKE, "--steps", "4", "--out", "out"]) == 0
    assert read == [Path("out/checkpoint.pt")]
    assert_same_weights(whole, "out")


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_and_it_says_what_is_saved(capsys, monkeypatch, number, code):
    before = signal.getsignal(signal.SIGTERM)
    at_step(monkeypatch, 3, lambda: signal.raise_signal(number))
    assert main([*SMOKE, "--out", "out"]) == code
    assert capsys.readouterr().err == "stopped: out holds step 3, and the same command goes on from there\n"
    assert signal.getsignal(signal.SIGTERM) == before and not Path("out", "lock").exists()


def test_a_signal_before_anything_is_saved(capsys, monkeypatch):
    monkeypatch.setattr(train, "ClipPool", lambda *args: signal.raise_signal(signal.SIGTERM))
    assert main([*SMOKE, "--out", "out"]) == 143
    assert capsys.readouterr().err == "stopped: nothing is saved yet, and the same command begins again\n"


def test_a_disk_that_fills_in_training_is_one_line_and_the_last_checkpoint_stays(whole, capsys, monkeypatch):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)  # beyond it, writing fails as on a full disk
    at_step(monkeypatch, 2, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1])))
    try:
        line = error_of(capsys, "--steps", "4", "--out", "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large: 'out/checkpoint.pt'" in line
    assert find_run(Path("out"))["step"] == 2 and not [path for path in Path("out").iterdir() if path.name[0] == "."]
    monkeypatch.setattr(train, "write_samples", lambda model, path: None)
    assert main([*SMOKE, "--steps", "4", "--out", "out"]) == 0
    assert_same_weights(whole, "out")


def test_folders_that_are_none(capsys, tmp_path):
    Path("file").touch()
    assert "expected a folder to write to, got an empty name" in error_of(capsys, "--out", "")
    for out in ("file", "file/below"):
        assert f"file is a file, so nothing can be written into {out}" in error_of(capsys, "--out", out)
    assert not Path("runs").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(capsys):
    Path("locked").mkdir(mode=0o500)
    assert "no permission to write in locked" in error_of(capsys, "--out", "locked/run")


NUMBERS = ("frames", "size", "pool", "channels", "image_batch", "steps", "batch", "micro_batches", "lr", "shift")


@pytest.mark.parametrize("name", [*NUMBERS, "image_steps", "seed"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), -float("inf"), 2.5, "8", None, [8]])
def test_numbers_that_make_no_sense(name, value):
    if (name in ("lr", "shift") and value == 2.5) or (name in ("image_steps", "seed") and value == 0):
        assert getattr(Settings(**{name: value}), name) == value
        return
    with pytest.raises(ValueError, match=rf"^{name} must (be|lie in) .*, got "):
        Settings(**{name: value})


@pytest.mark.parametrize("mults", [(), (0,), (1, -1), (1.5,), 2, None, "12", (float("nan"),)])
def test_widths_that_make_no_sense(mults):
    with pytest.raises(ValueError, match="mults must be one or more whole numbers, each at least 1, got "):
        Settings(mults=mults)


def test_micro_batches_for_any_number_of_processes():
    settings = settings_of("smoke")[1]  # a batch of 8, two micro-batches
    assert [fit_to_processes(settings, n, None, None).micro_batches for n in (1, 2, 4, 8)] == [2, 2, 4, 8]
    assert fit_to_processes(settings, 4, 8, None).micro_batches == 8
    for n, advice in ((3, "--batch 6 or 12"), (5, "--batch 10"), (16, "--batch 16")):
        message = f"a batch of 8 cannot be divided among {n} processes, in .* use {advice}, or another number"
        with pytest.raises(ValueError, match=message):
            fit_to_processes(settings, n, None, None)
    with pytest.raises(ValueError, match="2 micro-batches .* among 4 processes: the run was begun with 2"):
        fit_to_processes(settings, 4, None, 2)
    with pytest.raises(ValueError, match="2 micro-batches .* among 4 processes: use a multiple of 4"):
        fit_to_processes(settings, 4, 2, None)


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"WORLD_SIZE": "x"}, "the variable WORLD_SIZE must be a whole number, as torchrun sets it, got 'x'"),
        ({"RANK": "-1"}, "the variable RANK must be a whole number, as torchrun sets it, got '-1'"),
        ({"LOCAL_RANK": "1.5"}, "the variable LOCAL_RANK must be a whole number, as torchrun sets it, got '1.5'"),
        ({"WORLD_SIZE": "0"}, "process RANK=0 of WORLD_SIZE=0: processes are numbered from 0"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, "process RANK=2 of WORLD_SIZE=2: processes are numbered from 0"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2, but no RANK: start with torchrun, or unset WORLD_SIZE"),
    ],
)
def test_variables_that_torchrun_would_not_set(capsys, monkeypatch, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main([*SMOKE, "--out", "out"]) == 2
    line = capsys.readouterr().err
    assert line.endswith(f"error: {message}\n") and line.count("\n") == 1
    assert main(["train", "text2video", "--lr", "0"]) == 2  # found before
    assert capsys.readouterr().err.endswith("error: lr must be a positive number, got 0.0\n")


def test_a_run_that_is_read_while_another_one_writes_it(whole, monkeypatch):
    """Whoever samples or evaluates needs no lock: files are whole at any time."""
    from minivdm.commands.sample import find_model

    shutil.copytree(whole, "runs/text2video/smoke")
    with claimed(Path("runs/text2video/smoke")):
        assert "smoke" in find_model()[1]


def test_a_run_whose_folder_is_moved_stops(capsys, monkeypatch):
    monkeypatch.setattr(train, "SAVES", 1)
    at_step(monkeypatch, 1, lambda: os.rename("run", "moved"))
    assert "moved or removed" in error_of(capsys, "--steps", "8", "--out", "run")
    assert Path("moved/settings.json").exists() and not Path("run").exists(), "nothing more is written there"


def test_settings_hold_pythons_own_numbers():
    settings = Settings(steps=np.int64(3), lr=np.float32(0.5), mults=[np.int64(2)])
    assert [type(value) for value in (settings.steps, settings.lr, settings.mults[0])] == [int, float, int]
    assert json.loads(json.dumps(dataclasses.asdict(settings)))["lr"] == 0.5
