"""A run survives being killed, never mixes two settings, and its folder holds what was promised."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from PIL import Image

from minivdm.__main__ import main
from minivdm.commands import train
from minivdm.commands.run_folder import find_run, saved_settings, write_settings
from minivdm.commands.settings import BUDGETS, FORMER_NAMES, settings_of
from minivdm.datasets.sprites import MovingSprites, held_out
from minivdm.pipelines import pretrained
from minivdm.training.clip_pool import ClipPool, render_clips

# A run that is killed, as by the system, as soon as it has saved so many checkpoints.
KILLED = """
import os, signal, sys
from minivdm.training import checkpoint
from minivdm.__main__ import main

save, left = checkpoint.save_checkpoint, int(sys.argv.pop(1))

def save_then_die(path, **state):
    global left
    save(path, **state)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_checkpoint = save_then_die
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True, scope="module")
def without_gpu():
    """On a CPU, with one thread, a run gives the same bits each time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nobody interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["train", "text2video", "--budget", "smoke", "--out", str(out)]) == 0
    return out


def on_cpu():
    """The environment for a process of its own, without a GPU and with one thread."""
    root = str(Path(pretrained.__file__).parents[2])
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": root}


def run_and_kill(save_every, *arguments):
    """Run the program in a process of its own that is killed after so many checkpoints."""
    script = Path("killed.py")
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(save_every), *arguments]
    assert subprocess.run(command, env=on_cpu(), capture_output=True).returncode == -signal.SIGKILL


def assert_same_weights(*folders):
    """The models of two runs are equal, bit for bit."""
    read = [
        pretrained.load_weights(Path(out, "model.pt"), pretrained.BUILDERS["text2video"]).state_dict()
        for out in folders
    ]
    assert all(torch.equal(read[0][name], read[1][name]) for name in read[0])


def test_a_run_leaves_what_it_promises(whole):
    assert saved_settings(whole, find_run(whole)) == saved_settings(whole, {}) == BUDGETS["smoke"]
    assert {path.name for path in whole.iterdir()} == {
        "settings.json",
        "checkpoint.pt",
        "checkpoint.pt.previous",
        "samples",
        "model.pt",
    }
    films = sorted(path.name for path in (whole / "samples").iterdir())
    assert films == [f"step_{step:06d}.gif" for step in (2, 4, 6, 8)]
    with Image.open(whole / "samples" / films[-1]) as film:
        assert film.n_frames == 4 and film.size == (3 * 4 * 16, 3 * 2 * 16)
    model = pretrained.load_weights(whole / "model.pt", pretrained.BUILDERS["text2video"])
    assert (model.frames, model.size) == (4, 16)


def test_killed_and_started_again_it_ends_in_the_same_weights(whole, capsys):
    run_and_kill(3, "train", "text2video", "--budget", "smoke", "--out", "again")
    assert not Path("again", "model.pt").exists() and Path("again", "lock").exists()
    assert main(["train", "text2video", "--budget", "smoke", "--out", "again"]) == 0
    lines = capsys.readouterr().out
    assert "going on from step 3 of 8 in again" in lines and " step      4 of 8 " in lines
    assert not Path("again", "lock").exists()  # nobody holds what a killed process held
    assert "step      3 of 8" not in lines
    assert_same_weights(whole, "again")
    for film in (whole / "samples").iterdir():
        if film.name > "step_000003.gif":
            assert film.read_bytes() == Path("again", "samples", film.name).read_bytes()


IMAGES_FIRST = ["train", "text2video", "--budget", "smoke", "--steps", "3", "--image-steps", "6", "--out"]


@pytest.fixture(scope="module")
def images_first(tmp_path_factory):
    """The folder of a run that began with single frames."""
    out = tmp_path_factory.mktemp("runs") / "images_first"
    assert main([*IMAGES_FIRST, str(out)]) == 0
    return out


@pytest.mark.parametrize("save_every, at", [(2, "image step 2 of 6"), (6, "image step 6 of 6"), (8, "step 2 of 3")])
def test_killed_at_single_frames_or_after_them_it_ends_in_the_same_weights(images_first, capsys, save_every, at):
    run_and_kill(save_every, *IMAGES_FIRST, "again")
    assert main([*IMAGES_FIRST[:-2], "7", "--out", "again"]) == 2
    assert "again holds a run with image_steps=6, not image_steps=7" in capsys.readouterr().err
    assert main([*IMAGES_FIRST, "again"]) == 0
    lines = capsys.readouterr().out
    assert f"going on from {at} in again" in lines and f" {at.replace('step ', 'step      ')} " not in lines
    assert_same_weights(images_first, "again")


def test_pictures_are_frames_of_the_pool():
    generator = torch.Generator().manual_seed(0)
    pool = ClipPool(MovingSprites(4, 16), 64, torch.Generator().manual_seed(1))
    pictures, tokens = pool.pictures(generator, 20)
    assert pictures.shape == (20, 3, 1, 16, 16) and len(tokens) == 20
    frames = pool.drawn.transpose(1, 2).flatten(0, 1)  # (N F, 3, H, W)
    assert all((frames / 127.5 - 1 - picture[:, 0]).flatten(1).abs().amax(dim=1).min() < 1e-6 for picture in pictures)
    assert pool.clips(generator, 2)[0].shape == (2, 3, 4, 16, 16)


def as_before(folder):
    """Give a run's files the form that they had before runs had phases, and checkpoints settings."""
    settings = json.loads(Path(folder, "settings.json").read_text())
    former = {new: old for old, new in FORMER_NAMES.items()}
    settings = {former.get(name, name): value for name, value in settings.items()}
    Path(folder, "settings.json").write_text(json.dumps(settings))
    saved = torch.load(Path(folder, "checkpoint.pt"), weights_only=True)
    generators = [torch.zeros(5056, dtype=torch.uint8)] * saved["micro_batches"]
    newer = ("phase", "settings", "seed", "micro_batches", "skipped")
    saved = {name: value for name, value in saved.items() if name not in newer} | {"generators": generators}
    torch.save(saved, Path(folder, "checkpoint.pt"))


def test_a_run_from_before_phases_goes_on(whole, capsys):
    run_and_kill(3, "train", "text2video", "--budget", "smoke", "--out", "again")
    as_before("again")
    assert main(["train", "text2video", "--budget", "smoke", "--parts", "2", "--out", "again"]) == 0
    lines = capsys.readouterr().out
    assert "going on from step 3 of 8 in again" in lines and "begun by an earlier version, which drew other" in lines
    assert_same_weights(whole, "again")
    assert find_run(Path("again"))["seed"] == 0


def test_a_run_from_before_phases_that_is_at_single_frames_is_refused(capsys):
    run_and_kill(2, *IMAGES_FIRST, "again")
    as_before("again")
    Path("again", "checkpoint.pt").rename(Path("again", "stills.pt"))
    Path("again", "checkpoint.pt.previous").unlink()
    assert main([*IMAGES_FIRST, "again"]) == 2
    assert "again/stills.pt was made by an earlier version" in capsys.readouterr().err


def test_former_names_of_settings_say_what_they_are_called_now():
    with pytest.raises(ValueError, match="parts is called micro_batches now; stills is called image_steps now"):
        settings_of("smoke", parts=2, stills=3)


def test_a_run_from_before_single_frames_goes_on(whole, capsys):
    shutil.copytree(whole, "copy")
    as_before("copy")
    settings = json.loads(Path("copy", "settings.json").read_text())
    Path("copy", "settings.json").write_text(json.dumps({k: v for k, v in settings.items() if k != "stills"}))
    assert main(["train", "text2video", "--budget", "smoke", "--out", "copy"]) == 0
    assert "copy is finished" in capsys.readouterr().out


def test_interrupted_at_single_frames_it_says_what_is_saved(capsys, monkeypatch):
    real = train.train

    def interrupted(*args, **options):
        for step, loss in real(*args, **options):
            if step == 5:
                raise KeyboardInterrupt
            yield step, loss

    monkeypatch.setattr(train, "train", interrupted)
    assert main([*IMAGES_FIRST, "out"]) == 130
    assert capsys.readouterr().err == "stopped: out holds image step 5, and the same command goes on from there\n"


def test_a_finished_run_says_so(whole, capsys, monkeypatch):
    monkeypatch.setattr(train, "train", None)
    before = (whole / "model.pt").stat().st_mtime_ns
    assert main(["train", "text2video", "--budget", "smoke", "--out", str(whole)]) == 0
    assert capsys.readouterr().out == f"{whole} is finished: all 8 steps are done, and the model is {whole}/model.pt\n"
    assert (whole / "model.pt").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "option, message",
    [
        (["--lr", "0.01"], "with lr=0.001, not lr=0.01:"),
        (["--steps", "9"], "with steps=8, not steps=9:"),
        (["--frames", "5"], "with frames=4, not frames=5:"),
        (["--micro-batches", "4"], "with micro_batches=2, not micro_batches=4:"),
        (["--seed", "7"], "with seed=0, not seed=7:"),
    ],
)
def test_another_setting_in_the_same_folder(whole, capsys, option, message):
    assert main(["train", "text2video", "--budget", "smoke", "--out", str(whole), *option]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {whole} holds a run {message}") and line.count("\n") == 1


def test_a_model_without_its_run_is_not_overwritten(whole, capsys):
    Path("copy").mkdir()
    shutil.copy(whole / "model.pt", "copy/model.pt")
    before = Path("copy/model.pt").read_bytes()
    assert main(["train", "text2video", "--budget", "smoke", "--out", "copy"]) == 2
    assert "copy holds a model.pt, but no checkpoint to go on from: choose another --out" in capsys.readouterr().err
    assert Path("copy/model.pt").read_bytes() == before and [p.name for p in Path("copy").iterdir()] == ["model.pt"]


def test_broken_folders(whole, capsys):
    command = ["train", "text2video", "--budget", "smoke", "--out", "copy"]
    shutil.copytree(whole, "copy")
    as_before("copy")
    Path("copy", "settings.json").write_text("{")
    assert main(command) == 2
    assert "copy/settings.json does not tell what the run in copy was begun with" in capsys.readouterr().err
    Path("copy", "checkpoint.pt").write_bytes(b"PK\x03\x04")
    assert main(command) == 2
    line = capsys.readouterr().err
    assert "copy/checkpoint.pt (4 bytes) is truncated" in line and line.count("\n") == 1
    torch.save([1, 2], Path("copy", "checkpoint.pt"))
    assert (
        main(command) == 2
        and "copy/checkpoint.pt belongs to another model or is no training" in capsys.readouterr().err
    )


def test_a_loss_that_explodes(capsys):
    options = ["--budget", "smoke", "--out", "out", "--lr", "1e30"]
    assert main(["train", "text2video", *options]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: the loss is nan at step 2: try a smaller lr") and line.count("\n") == 1
    assert not Path("out", "model.pt").exists()


def test_interrupted_it_says_what_is_saved(capsys, monkeypatch):
    write = train.write_samples

    def interrupted(model, path):
        if path.stem == "step_000003":
            raise KeyboardInterrupt
        return write(model, path)

    monkeypatch.setattr(train, "SAMPLES", 8)  # at every step
    monkeypatch.setattr(train, "write_samples", interrupted)
    assert main(["train", "text2video", "--budget", "smoke", "--out", "out"]) == 130
    assert capsys.readouterr().err == "stopped: out holds step 3, and the same command goes on from there\n"


def test_settings(monkeypatch):
    monkeypatch.setenv("MINIVDM_BUDGET", "smoke")
    assert settings_of(steps=3, lr=None) == ("smoke", dataclasses.replace(BUDGETS["smoke"], steps=3))
    assert settings_of("gpu")[0] == "gpu"
    monkeypatch.delenv("MINIVDM_BUDGET")
    assert settings_of()[0] == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert settings_of()[0] == "gpu"


def test_settings_that_do_not_exist():
    with pytest.raises(ValueError, match="a budget has no step; its numbers are frames, .* steps, .* lr"):
        settings_of("smoke", step=3)
    with pytest.raises(ValueError, match="a budget has no warmth, heat;"):
        train.train_text2video("smoke", warmth=1, heat=None)


def test_settings_come_back_from_their_file_as_they_were(tmp_path):
    """JSON knows no tuples: a run begun with one must go on all the same."""
    settings = settings_of("smoke", mults=[1, 2])[1]
    assert not write_settings(tmp_path, settings)
    assert settings.mults == (1, 2) and saved_settings(tmp_path, {}) == settings


def test_the_pool_is_bytes_of_training_clips():
    sprites = MovingSprites(4, 16)
    alive = []

    class Watched(MovingSprites):
        def sample(self, n, generator, split="train"):
            assert not any(ref() is not None for ref in alive), "floats of an earlier part are still held"
            drawn, kinds = super().sample(n, generator, split)
            alive.append(weakref.ref(drawn))
            return drawn, kinds

    clips, attributes = render_clips(Watched(4, 16), 1100, torch.Generator().manual_seed(0))
    assert len(alive) == 2
    assert clips.shape == (1100, 3, 4, 16, 16) and clips.dtype == torch.uint8 and not held_out(attributes).any()
    drawn, same = sprites.sample(1024, torch.Generator().manual_seed(0))
    assert torch.equal(attributes[:1024], same)
    assert (clips[:1024] / 127.5 - 1 - drawn).abs().max() <= 0.51 / 127.5
