"""What every test runs under: a folder of its own for kept pieces, the smallest budget, and no window to draw in."""

import os
import signal
import tempfile
from pathlib import Path

import pytest

# Programs that a test starts in another folder find this checkout, too.
ROOT = str(Path(__file__).resolve().parents[1])
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")]))
os.environ["MINIVDM_PIECES"] = tempfile.mkdtemp(prefix="minivdm-pieces-")
os.environ.setdefault("OMP_NUM_THREADS", str(min(4, os.cpu_count() or 1)))
os.environ.setdefault("MPLBACKEND", "Agg")
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in a shell's background, where Ctrl-C means nothing
    signal.signal(signal.SIGINT, signal.default_int_handler)

import torch  # noqa: E402  (reads OMP_NUM_THREADS when it is imported)

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
if not torch.cuda.is_available():
    os.environ.setdefault("MINIVDM_BUDGET", "smoke")


@pytest.fixture
def model(tmp_path):
    """An untrained video model as a file."""
    from tests.command_kit import untrained

    return untrained(tmp_path)


@pytest.fixture
def no_sampling(monkeypatch):
    """Whatever is wrong must be found before any computing."""

    def never(*args, **options):
        raise AssertionError("it computes before it has checked its input")

    from minivdm.commands import sample, train

    monkeypatch.setattr(sample, "text_to_video", never)
    monkeypatch.setattr(train, "train", never)
