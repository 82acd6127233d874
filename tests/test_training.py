"""Training goes on after a crash as if nothing had happened, and a broken file says so."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from minivdm.diffusion.schedules import NoiseSchedule, linear_betas
from minivdm.models.unet import UNet
from minivdm.training.checkpoint import load_checkpoint, save_checkpoint
from minivdm.training.ema import EMA
from minivdm.training.loop import batches_of, train

SCRIPT = """
import sys, torch
from minivdm.datasets.digits import digits
from minivdm.diffusion.schedules import NoiseSchedule, linear_betas
from minivdm.training.checkpoint import save_checkpoint
from minivdm.training.ema import EMA
from minivdm.training.loop import batches_of, train
from minivdm.models.unet import UNet

torch.set_num_threads(1)
torch.manual_seed(0)
model = UNet(channels=32, mults=(1,), blocks=1, attention=(), dropout=0.1)
ema = EMA(model)
batch = batches_of(digits()[0], batch_size=16)
schedule = NoiseSchedule(linear_betas(50))
for step, loss in train(model, ema, batch, schedule, 24, checkpoint=sys.argv[1], save_every=5, progress=False):
    print(step, loss.item(), flush=True)
save_checkpoint(sys.argv[2], model=model.state_dict(), ema=ema.model.state_dict())
"""


def small_run(seed=0):
    torch.manual_seed(seed)
    model = torch.nn.Linear(2, 2)
    wrapped = Guess(model)
    return wrapped, EMA(wrapped), batches_of(torch.randn(50, 2), batch_size=8), NoiseSchedule(linear_betas(30))


class Guess(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x, t, cond=None):
        return self.inner(x)


def test_killed_between_two_checkpoints_it_resumes_to_the_same_bits(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)

    def run(name, kill_at=None):
        command = [sys.executable, str(script), str(tmp_path / f"{name}.pt"), str(tmp_path / f"{name}.final.pt")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        lines = []
        for line in process.stdout:
            lines.append(line)
            if kill_at and int(line.split()[0]) == kill_at:
                os.kill(process.pid, signal.SIGKILL)
        return process.wait(), lines

    code, whole = run("whole")
    assert code == 0 and len(whole) == 24
    code, first = run("broken", kill_at=13)
    assert code == -signal.SIGKILL and not (tmp_path / "broken.final.pt").exists()
    code, second = run("broken")
    assert code == 0 and int(second[0].split()[0]) in (11, 16)  # from the last checkpoint, at step 10 or 15
    assert second == whole[-len(second) :]  # the same losses, digit for digit
    a, b = (load_checkpoint(tmp_path / f"{name}.final.pt") for name in ("whole", "broken"))
    for part in ("model", "ema"):
        assert all(torch.equal(a[part][key], b[part][key]) for key in a[part])


def test_a_truncated_checkpoint_says_so_and_leaves_the_previous_one(tmp_path):
    path = tmp_path / "run.pt"
    model, ema, batch, schedule = small_run()
    for _ in train(model, ema, batch, schedule, 10, checkpoint=path, save_every=5, progress=False):
        pass
    older = tmp_path / "run.pt.previous"
    assert load_checkpoint(path)["step"] == 10 and load_checkpoint(older)["step"] == 5
    path.write_bytes(path.read_bytes()[:-200])
    model, ema, batch, schedule = small_run()
    message = r"run.pt \([\d,]+ bytes\) is truncated.*delete it to go on from run.pt.previous"
    with pytest.raises(ValueError, match=message):
        next(train(model, ema, batch, schedule, 12, checkpoint=path, progress=False))
    path.unlink()
    steps = [step for step, _ in train(model, ema, batch, schedule, 12, checkpoint=path, progress=False)]
    assert steps == list(range(6, 13))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 and then nothing"])
def test_no_checkpoint_at_all(tmp_path, content):
    path = tmp_path / "x.pt"
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is truncated or not a checkpoint: delete it to start again"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_model(tmp_path):
    path = tmp_path / "run.pt"
    model, ema, batch, schedule = small_run()
    for _ in train(model, ema, batch, schedule, 2, checkpoint=path, progress=False):
        pass
    other = UNet(channels=32, mults=(1,), blocks=1, attention=())
    with pytest.raises(ValueError, match="belongs to another model"):
        next(train(other, EMA(other), batch, schedule, 4, checkpoint=path, progress=False))


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    save_checkpoint(path, value=torch.ones(3))

    def full_disk(state, file):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, value=torch.zeros(3))
    assert torch.equal(load_checkpoint(path)["value"], torch.ones(3))


def test_a_full_disk_says_so(tmp_path):
    """Beyond a limit on the size of files, writing fails as on a full disk."""
    path = tmp_path / "run.pt"
    save_checkpoint(path, value=torch.ones(3))
    script = (
        "import resource, sys, torch\nfrom minivdm.training.checkpoint import save_checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try:\n    save_checkpoint(sys.argv[1], value=torch.zeros(10_000))\n"
        "except OSError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert torch.equal(load_checkpoint(path)["value"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


def test_a_file_that_cannot_be_read_is_not_called_broken(tmp_path):
    (tmp_path / "run.pt").mkdir()
    with pytest.raises(IsADirectoryError):
        load_checkpoint(tmp_path / "run.pt")


def test_a_run_of_another_machine(tmp_path):
    path = tmp_path / "run.pt"
    model, ema, batch, schedule = small_run()
    for _ in train(model, ema, batch, schedule, 2, checkpoint=path, progress=False):
        pass
    saved = load_checkpoint(path)
    save_checkpoint(path, **{**saved, "device": "cuda"})
    model, ema, batch, schedule = small_run()
    with pytest.raises(ValueError, match="was made on cuda, where the random numbers are others than on cpu"):
        next(train(model, ema, batch, schedule, 4, checkpoint=path, progress=False))
    for lost in ("rng", "ema_updates", "scaler", "device"):
        save_checkpoint(path, **{name: value for name, value in saved.items() if name != lost})
        with pytest.raises(ValueError, match=f"is no training checkpoint: '{lost}'"):
            next(train(model, ema, batch, schedule, 4, checkpoint=path, progress=False))
    save_checkpoint(path, **{**saved, "optimizer": None})
    with pytest.raises(ValueError, match="is no training checkpoint"):
        next(train(model, ema, batch, schedule, 4, checkpoint=path, progress=False))


def test_a_run_may_go_on_in_float16(tmp_path):
    path = tmp_path / "run.pt"
    model, ema, batch, schedule = small_run()
    for _ in train(model, ema, batch, schedule, 2, checkpoint=path, progress=False):
        pass
    model, ema, batch, schedule = small_run()
    steps = train(model, ema, batch, schedule, 4, checkpoint=path, progress=False, dtype=torch.float16)
    assert [step for step, _ in steps] == [3, 4] and load_checkpoint(path)["scaler"]["scale"] > 0


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "owned"),))

    path = tmp_path / "evil.pt"
    torch.save(Evil(), path)
    with pytest.raises(ValueError, match="truncated or not a checkpoint"):
        load_checkpoint(path)
    assert not (tmp_path / "owned").exists()


def test_training_learns():
    torch.manual_seed(0)
    schedule = NoiseSchedule(linear_betas(50))
    net = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.SiLU(), torch.nn.Linear(64, 2))

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, t, cond=None):
            return self.net(torch.cat([x, t[:, None] / 50], dim=1))

    model = Net()
    data = torch.randn(500, 2) * 0.1 + 0.5
    losses = [loss.item() for _, loss in train(model, EMA(model), batches_of(data), schedule, 300, progress=False)]
    assert sum(losses[-50:]) < 0.5 * sum(losses[:50])


def test_ema_by_hand():
    model = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    ema, want = EMA(model, decay=0.3), 0.0
    for n in range(5):
        with torch.no_grad():
            model.weight.fill_(float(n))
        d = min(0.3, (1 + n) / (10 + n))
        want = d * want + (1 - d) * n
        ema.update(model)
        assert ema.model.weight.item() == pytest.approx(want, rel=1e-6)


def test_fp16_trains_with_a_scaler_where_there_is_a_gpu():
    if not torch.cuda.is_available():
        assert not torch.amp.GradScaler("cpu", enabled=False).is_enabled()
        return
    model = UNet(channels=16).cuda()
    images = torch.randn(64, 1, 8, 8, device="cuda")
    schedule = NoiseSchedule(linear_betas(50)).to("cuda")
    steps = train(model, EMA(model), batches_of(images), schedule, 5, dtype=torch.float16, progress=False)
    assert all(torch.isfinite(loss) for _, loss in steps)


def test_two_processes_may_save_to_one_path(tmp_path):
    path = tmp_path / "run.pt"
    script = (
        "import sys, torch\nfrom minivdm.training.checkpoint import save_checkpoint\n"
        "for i in range(40): save_checkpoint(sys.argv[1], value=torch.full((1000,), float(sys.argv[2])))"
    )
    both = [subprocess.Popen([sys.executable, "-c", script, str(path), n]) for n in "12"]
    assert [process.wait() for process in both] == [0, 0]
    assert load_checkpoint(path)["value"].unique().item() in (1, 2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.pt", "run.pt.previous"]


def test_a_checkpoint_that_another_run_has_written_is_not_overwritten(tmp_path):
    path = tmp_path / "run.pt"

    def start(seed):
        model, ema, batch, schedule = small_run(seed)
        return train(model, ema, batch, schedule, 9, checkpoint=path, save_every=3, progress=False, seed=seed)

    first, second = start(0), start(1)
    next(first), next(second)
    list(first)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="run.pt is not as this run left it: another run uses it, too, .*; step 3 was"):
        list(second)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="run.pt was made with seed=0, not seed=1"):
        next(start(1))


@pytest.mark.parametrize("name", ["steps", "save_every", "micro_batches", "lr"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_numbers_that_make_no_sense(name, value):
    model, ema, batch, schedule = small_run()
    numbers = {"steps": 2, name: value}
    if (name, value) == ("steps", 0):
        assert list(train(model, ema, batch, schedule, progress=False, **numbers)) == []
        return
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
        next(train(model, ema, batch, schedule, progress=False, **numbers))


def test_a_checkpoint_beyond_the_steps_or_with_other_settings(tmp_path):
    path = tmp_path / "run.pt"

    def again(steps, **options):
        model, ema, batch, schedule = small_run()
        return [step for step, _ in train(model, ema, batch, schedule, steps, checkpoint=path, **options)]

    assert again(4, settings={"size": 1}) == [1, 2, 3, 4] and again(4, settings={"size": 1}) == []
    with pytest.raises(ValueError, match="run.pt holds step 4, more than steps=3"):
        again(3, settings={"size": 1})
    with pytest.raises(ValueError, match=r"run.pt was made with settings={'size': 1}, not settings={'size': 2}"):
        again(5, settings={"size": 2})


def test_a_checkpoint_behind_a_link(tmp_path):
    (tmp_path / "far").mkdir()
    path, target = tmp_path / "run.pt", tmp_path / "far" / "run.pt"
    path.symlink_to(target)
    model, ema, batch, schedule = small_run()
    for _ in train(model, ema, batch, schedule, 4, checkpoint=path, save_every=2, progress=False):
        pass
    assert path.is_symlink() and load_checkpoint(target)["step"] == 4
    target.unlink()
    model, ema, batch, schedule = small_run()
    assert next(train(model, ema, batch, schedule, 4, checkpoint=path, progress=False))[0] == 3


@pytest.mark.parametrize("decay", [1, 1.5, -0.1, float("nan")])
def test_a_decay_lies_below_1(decay):
    with pytest.raises(ValueError, match="decay"):
        EMA(torch.nn.Linear(2, 2), decay)


def test_an_average_of_another_model_is_refused():
    model, _, batch, schedule = small_run()
    for other in (torch.nn.Linear(2, 2), Guess(torch.nn.Linear(2, 1)), Guess(torch.nn.Linear(2, 2, bias=False))):
        with pytest.raises(ValueError, match="EMA of this model"):
            next(train(model, EMA(other), batch, schedule, 4, progress=False))
    late = torch.nn.Linear(2, 2)
    late.register_buffer("first", None)
    late.register_buffer("second", torch.zeros(2))
    ema = EMA(late)
    late.first = torch.ones(2)  # now the second buffer is another one
    with pytest.raises(ValueError):
        ema.update(late)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_in_16_bits_neither_learn_nor_are_averaged(dtype):
    model, ema, batch, schedule = small_run()
    with pytest.raises(ValueError, match="16 bits"):
        EMA(model.to(dtype))
    with pytest.raises(ValueError, match="16 bits"):
        next(train(model, ema, batch, schedule, 4, dtype=dtype, progress=False))


@pytest.mark.parametrize(("images", "labels", "size"), [(0, None, 4), (5, 4, 4), (5, 6, 4), (5, None, 0)])
def test_what_no_batch_can_be_drawn_from(images, labels, size):
    with pytest.raises(ValueError, match="as many labels"):
        batches_of(torch.zeros(images, 2), None if labels is None else torch.zeros(labels), size)


def test_numpys_numbers_are_saved_as_pythons(tmp_path):
    path, (model, ema, batch, schedule) = tmp_path / "checkpoint.pt", small_run()
    numbers = dict(seed=np.int64(3), micro_batches=np.int64(1))
    list(train(model, ema, batch, schedule, 2, checkpoint=path, progress=False, **numbers))
    model, ema, batch, schedule = small_run()
    assert [step for step, _ in train(model, ema, batch, schedule, 3, checkpoint=path, progress=False, seed=3)] == [3]


@pytest.mark.parametrize("value", [np.float32(1), Path("a"), range(3)])
def test_what_could_not_be_read_again_is_told_before_the_first_step(tmp_path, value):
    path, (model, ema, batch, schedule) = tmp_path / "checkpoint.pt", small_run()
    with pytest.raises(ValueError, match="checkpoint.pt was not written, since it could not be read again"):
        next(train(model, ema, batch, schedule, 2, checkpoint=path, progress=False, settings={"a": value}))
    save_checkpoint(path, a=1)
    with pytest.raises(ValueError, match="could not be read again"):
        save_checkpoint(path, a=value)
    assert load_checkpoint(path) == {"a": 1} and len(list(tmp_path.iterdir())) == 1
