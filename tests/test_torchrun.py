"""Several processes compute what one computes, and a run may go on with another number of them."""

import re
import subprocess
import sys

import pytest
import torch

from minivdm.__main__ import main
from minivdm.commands.run_folder import claimed
from tests.test_train_text2video import KILLED, on_cpu

TRAIN = ["train", "text2video", "--budget", "smoke", "--image-steps", "2", "--steps", "4"]
pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch knows no other processes")


@pytest.fixture(autouse=True, scope="module")
def without_gpu():
    """Also what runs in this process here computes on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield


def torchrun(program, *arguments, processes=2):
    """Run a program in several processes on the CPU, with one thread each; what happened."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run([*command, *program, *arguments], env=on_cpu(), capture_output=True, text=True, timeout=120)


def losses(text):
    """Step -> loss, from the printed lines; each step must be told once, by rank 0."""
    found = [
        (int(step), float(loss)) for step, loss in re.findall(r"(?<!image )step +(\d+) of \d+  loss ([\d.]+)", text)
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def alone(capsys, out, *options):
    """The losses of one process."""
    assert main([*TRAIN, *options, "--out", str(out)]) == 0
    return losses(capsys.readouterr().out)


def test_two_processes_with_two_parts_each_have_the_losses_of_one_with_four(tmp_path, capsys):
    alone_with_four = alone(capsys, tmp_path / "one", "--micro-batches", "4")
    done = torchrun(["-m", "minivdm"], *TRAIN, "--micro-batches", "4", "--out", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert "parameters on 2 x cpu" in done.stdout
    two = losses(done.stdout)
    assert list(two) == list(alone_with_four) == [1, 2, 3, 4]
    assert all(abs(two[step] - alone_with_four[step]) <= 1e-4 * alone_with_four[step] for step in two)
    assert (tmp_path / "two" / "model.pt").exists()


def test_two_processes_are_killed_and_one_goes_on(tmp_path, capsys):
    script, out, whole = tmp_path / "killed.py", tmp_path / "two", alone(capsys, tmp_path / "one")
    script.write_text(KILLED)
    done = torchrun([str(script), "4"], *TRAIN, "--out", str(out))
    assert done.returncode != 0 and not (out / "model.pt").exists()
    assert main([*TRAIN, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    rest = losses(text)
    assert "going on from step 2 of 4" in text and list(rest) == [3, 4]
    assert all(abs(rest[step] - whole[step]) <= 1e-4 * whole[step] for step in rest)
    assert main([*TRAIN, "--out", str(out), "--micro-batches", "4"]) == 2
    assert "with micro_batches=2, not micro_batches=4" in capsys.readouterr().err


def told(done):
    """What each process said, by its number."""
    return dict(re.findall(r"^process (\d): (.*)$", done.stderr, re.MULTILINE))


def test_three_processes_cannot_share_a_batch_of_eight(tmp_path):
    done = torchrun(["-m", "minivdm"], *TRAIN, "--out", str(tmp_path / "three"), processes=3)
    line = (
        "error: a batch of 8 cannot be divided among 3 processes, in 6 equal micro-batches: use --batch 6 or 12, "
        "or another number of processes"
    )
    lines = {text for text in told(done).values() if text.startswith("error")}  # torchrun ends those that come late
    assert done.returncode != 0 and lines == {line} and not (tmp_path / "three" / "checkpoint.pt").exists()


def test_a_folder_in_use_is_refused_by_all_processes(tmp_path):
    with claimed(tmp_path / "two"):
        done = torchrun(["-m", "minivdm"], *TRAIN, "--out", str(tmp_path / "two"))
    lines = {text for text in told(done).values() if text.startswith("error")}
    assert done.returncode != 0 and len(lines) == 1
    assert re.match(r"error: \S+two is in use by process \d+ on .* choose another --out", lines.pop())
