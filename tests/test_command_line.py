"""`python -m minivdm`: what it writes, and one clear line for everything that can go wrong."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from minivdm.__main__ import main
from minivdm.commands import evaluate, train
from minivdm.datasets.sprites import MovingSprites, held_out
from minivdm.pipelines import pretrained
from tests.command_kit import RED, SMALL, fails


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty working folder, so that no run of the developer's own is found."""
    monkeypatch.chdir(tmp_path)


def test_help_is_instant():
    start = time.process_time(), time.perf_counter()
    code = "import sys, minivdm.__main__ as m; m.main(['--help']); assert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": root()}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert all(command in done.stdout for command in ("start", "train", "sample", "evaluate", "--mine"))
    assert time.perf_counter() - start[1] < 5


@pytest.mark.parametrize("command", ["start", "train", "sample", "evaluate"])
def test_help_of_each_command(capsys, command):
    assert main([command, "--help"]) == 0
    assert "default" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("called", "name"),
    [("/x/minivdm/__main__.py", "python -m minivdm"), ("/x/bin/minivdm", "minivdm"), ("minivdm.exe", "minivdm")],
)
def test_help_and_errors_name_the_command_as_it_was_called(capsys, monkeypatch, called, name):
    monkeypatch.setattr(sys, "argv", [called, "sample", "--help"])
    assert main() == 0 and capsys.readouterr().out.startswith(f"usage: {name} sample ")
    assert fails(capsys, "paint").endswith(f"(see {name} --help)\n")


def test_as_a_program_it_exits_with_2_and_one_line(tmp_path):
    command = [sys.executable, "-m", "minivdm", "sample", "a red circel", "-o", "x.gif"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root()})
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: 'circel' is not in the vocabulary; did you mean 'circle'?\n"


def root():
    return str(Path(pretrained.__file__).parents[2])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "arguments are required"),
        (["paint"], "invalid choice: 'paint'"),
        (["sample", RED], "-o/--out"),
        (["train", "text2movie"], "invalid choice: 'text2movie'"),
        (["train", "text2video", "--steps", "many"], "argument --steps: invalid int value: 'many'"),
        (["train", "text2video", "--steps", "0"], "steps must be at least 1, got 0"),
        (["train", "text2video", "--image-steps", "-1"], "image_steps must be at least 0, got -1"),
        (
            ["train", "text2video", "--budget", "huge"],
            "budget must be one of smoke, cpu, gpu, gpu-quick, gpu-small; got 'huge'",
        ),
        (["train", "text2video", "--frames", "3"], "at least 4 frames of 16 pixels, got frames=3"),
        (["train", "text2video", "--size", "18"], "size must be a multiple of 4, got 18"),
        (["train", "text2video", "--channels", "20"], "channels must be a multiple of 32, got 20"),
        (["train", "text2video", "--lr", "nan"], "lr must be a positive number, got nan"),
        (["train", "text2video", "--seed", "-1"], "seed must lie in 0.."),
        (
            ["train", "text2video", "--batch", "8", "--micro-batches", "3"],
            "a batch of 8 cannot be cut into 3 equal micro-batches",
        ),
        (["train", "text2video", "--out", "file"], "file"),
        (["sample", "a teapot", "-o", "x.gif"], "'teapot' is not in the vocabulary"),
        (["sample", " ".join(["red"] * 13), "-o", "x.gif"], "at most 12 words, got 13"),
        (["sample", RED, "-o", "x.avi"], "ends in .gif or .mp4, got 'x.avi'"),
        (["sample", RED, "-o", ".gif"], "has a name that ends in .gif or .mp4, got '.gif'"),
        (["sample", RED, "-o", "new/.MP4"], "has a name that ends in .gif or .mp4, got '.MP4'"),
        (["sample", RED, "-o", "x."], "has a name that ends in .gif or .mp4, got 'x.'"),
        (["sample", RED, "-o", "x.gif "], "has a name that ends in .gif or .mp4, got 'x.gif '"),
        (["sample", RED, "-o", "-"], "expected a file or a folder to write to, got '-', but clips are not written to"),
        (["sample", RED, "-o", " "], "expected a file or a folder to write to, got an empty name"),
        (["sample", RED, "-o", f"{'x' * 300}.gif"], "File name too long: 'xxx"),
        (["sample", RED, "$$", "-o", "x.gif"], "'$$' is not in the vocabulary"),
        (["sample", RED, "a \u00fc", "-o", "x.gif"], "'\u00fc' is not in the vocabulary"),
        (["sample", RED, "\udcfc\nred", "-o", "x.gif"], "'\\udcfc' is not in the vocabulary"),
        (["sample", RED, "-o", "file/x.gif"], "file is a file, so nothing can be written into file"),
        (["sample", RED, "-o", "file/x/"], "file is a file"),
        (["sample", RED, "-o", "x.gif", "--steps", "0"], "steps must lie in 1..1000, got 0"),
        (["sample", RED, "-o", "x.gif", "--steps", "1001"], "steps must lie in 1..1000, got 1001"),
        (["sample", RED, "-o", "x.gif", "--guidance-scale", "nan"], "guidance scale must lie in -100..100, got nan"),
        (["sample", RED, "-o", "x.gif", "--seed", "-1"], "seed must lie in 0.."),
        (["sample", RED, "-o", "x.gif", "--seed", "4294967296"], "seed must lie in 0..2^32 - 1, got 4294967296"),
        (["sample", RED, "-o", "x.gif", "--guidance-scale", "1e999"], "guidance scale must lie in -100..100, got inf"),
        (["sample", RED, "-o", "x.gif", "--fps", "nan"], "fps must lie in 0.1..50, got nan"),
        (["sample", RED, "-o", "x.gif", "--scale", "65"], "scale must lie in 1..64, got 65"),
        (["sample", RED, "-o", "x.gif", "--fps", "0"], "fps must lie in 0.1..50, got 0"),
        (["sample", RED, "-o", "x.gif", "--fps", "0.001"], "fps must lie in 0.1..50, got 0.001"),
        (["sample", RED, "-o", ""], "expected a file or a folder to write to, got an empty name"),
        (["sample", RED, "-o", "x.gif", "--checkpoint", ""], "expected the name of a model.pt, got an empty one"),
        (["sample", RED, "-o", "x.gif", "--scale", "0"], "scale must lie in 1..64, got 0"),
        (["sample", RED, "-o", "x.gif", "--checkpoint", "none.pt"], "no model at none.pt"),
        (["sample", RED, "-o", "x.gif", "--checkpoint", "."], "is a folder; expected a file, such as model.pt"),
        (["sample", RED, "-o", "x.gif", "--checkpoint", "file"], "file (9 bytes) is truncated, or no model.pt"),
        (["evaluate", "--copies", "0"], "copies must lie in 1..1000, got 0"),
        (["evaluate", "--copies", "9" * 30], "copies must lie in 1..1000, got 999"),
        (["evaluate", "--steps", "0"], "steps must lie in 1..1000, got 0"),
        (["evaluate", "--checkpoint", "none.pt"], "no model at none.pt"),
    ],
)
def test_bad_input(capsys, no_sampling, arguments, message):
    Path("file").write_text("not a zip")
    assert message in fails(capsys, *arguments)
    assert not Path("x.gif").exists() and not Path("runs").exists()


def test_bad_environment(capsys, monkeypatch):
    monkeypatch.setenv("MINIVDM_BUDGET", "tiny")
    assert "MINIVDM_BUDGET must be one of smoke, cpu, gpu, gpu-quick, gpu-small; got 'tiny'" in fails(
        capsys, "train", "text2video"
    )


def test_other_files_are_no_models(capsys, model, no_sampling, recwarn):
    content = Path(model).read_bytes()
    Path("half.pt").write_bytes(content[: len(content) // 2])
    Path("start.pt").write_bytes(content[:5000])
    torch.save({"step": 3}, "training.pt")
    torch.save(torch.ones(3), "tensor.pt")
    torch.save({"config": SMALL, "weights": None}, "hollow.pt")
    for protocol in range(6):
        Path(f"{protocol}.pickle").write_bytes(pickle.dumps({"a": 1}, protocol))
    for letter in "abehjqrstuGJNQRX":  # what an unpickler makes of a text depends on its first letter
        Path(f"{letter}.txt").write_text(f"{letter}his is no model\n")
    kinds = ["half.pt", "start.pt", "training.pt", "tensor.pt", "hollow.pt", *sorted(Path().glob("?.*"))]
    for path in (*kinds, pretrained.DATA / "text2image.pt", pretrained.DATA / "stills_classifier.pt"):
        line = fails(capsys, "sample", RED, "-o", "x.gif", "--checkpoint", path)
        assert line.startswith(f"error: {path} (") and "is truncated, or no model.pt of a text-to-video run" in line
    assert not recwarn.list, "they would be further lines"


def test_out_of_memory(capsys, monkeypatch):
    class OutOfMemoryError(RuntimeError):
        """As torch raises it."""

    def full(*args, **options):
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has")

    monkeypatch.setattr(train, "train_text2video", full)
    line = fails(capsys, "train", "text2video")
    assert line == "error: CUDA out of memory: try more --micro-batches, or a smaller --batch\n"


@pytest.mark.parametrize(
    "error, told",
    [
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes. Error code 12"),
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes",
        ),
        (MemoryError(), "not enough memory"),
    ],
)
def test_out_of_memory_on_a_cpu(capsys, monkeypatch, error, told):
    def full(*args, **options):
        raise error

    monkeypatch.setattr(evaluate, "evaluate_text2video", full)
    assert fails(capsys, "evaluate") == f"error: {told}\n"


def test_other_runtime_errors_are_bugs_and_keep_their_traceback(monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("sizes do not match")

    monkeypatch.setattr(evaluate, "evaluate_text2video", broken)
    with pytest.raises(RuntimeError, match="sizes do not match"):
        main(["evaluate"])


@pytest.mark.parametrize("processes", ["2", "x", ""])
def test_half_an_environment_of_torchrun_hides_no_message(capsys, monkeypatch, processes):
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.delenv("RANK", raising=False)
    assert fails(capsys, "sample", "a teapot", "-o", "x.gif").startswith("error: 'teapot' is not in the vocabulary")


def test_mine_runs_the_learners_pieces(capsys, model, tmp_path, monkeypatch):
    from minivdm.course.kept_pieces import uninstall_all

    pieces = tmp_path / "pieces"
    pieces.mkdir()
    (pieces / "samplers.ddim_step.py").write_text(
        "def ddim_step(x_t, x0, t, s, noise, schedule, eta=0.0):\n    raise ValueError('this is my step')\n"
    )
    monkeypatch.setenv("MINIVDM_PIECES", str(pieces))
    arguments = ["sample", RED, "-o", "x.gif", "--checkpoint", model, "--steps", "1"]
    try:
        assert main(["--mine", *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out.startswith("1 of ") and f"pieces are yours, from {pieces}\n" in captured.out
        assert captured.err == "error: this is my step\n"
    finally:
        uninstall_all()
    assert main(arguments) == 0 and "yours" not in capsys.readouterr().out


def test_evaluate(capsys, model):
    assert main(["evaluate", "--checkpoint", model, "--steps", "1", "--json"]) == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    accuracy, trust = facts["prompt_accuracy"], facts["classifier_accuracy"]
    assert facts["clips"] in (96, 768) and facts["model"] == model and facts["steps"] == 1
    assert set(accuracy) == {"overall", "seen", "held_out", "shape", "colour", "motion"}
    assert accuracy["overall"] < 0.1, "an untrained model"
    assert min(trust["shape"], trust["colour"]) > 0.95 and trust["motion"] > 0.8, "with 4 frames"
    assert facts["mini_fvd"] > 5 * facts["mini_fvd_floor"] > 0
    assert f"prompt accuracy: overall {accuracy['overall']:.1%}" in captured.err
    assert f"for N = {facts['clips']} clips" in captured.err


def test_drawn_clips_are_judged_right():
    """What `judge` says of a model that draws what it is told to."""
    classifier, sprites = pretrained.load_pretrained("video_classifier"), MovingSprites(8, 16)
    triples = evaluate.triples_to_judge(None, torch.device("cpu"))
    _, right = evaluate.features_and_hits(classifier, sprites.draw(triples, torch.Generator().manual_seed(0)), triples)
    shares = evaluate.accuracy_table(right, triples)
    assert len(triples) == 96 and 5 <= held_out(triples).sum() <= 15
    assert min(shares.values()) > 0.95, "also for other sizes than it was trained on"
    wrong = right.clone()
    wrong[held_out(triples), 1] = False
    shares = evaluate.accuracy_table(wrong, triples)
    assert shares["held_out"] == 0 and shares["seen"] > 0.8 and shares["colour"] < 1
    assert shares["overall"] == pytest.approx(wrong.all(dim=1).float().mean().item(), abs=1e-4)
