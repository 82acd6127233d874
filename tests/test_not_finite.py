"""NaN and infinity: training stops, and they are neither saved nor gone on from."""

import pytest
import torch

from minivdm.training.checkpoint import load_checkpoint, save_checkpoint
from minivdm.training.loop import train
from tests.test_training import small_run


def nan_slope(model, x0, schedule, cond, generator):
    """A loss of 0 whose slope is 0 * infinity."""
    return (model(x0, None) * 0).abs().sqrt().sum()


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_nothing(tmp_path):
    path = tmp_path / "run.pt"
    model, ema, batch, schedule = small_run()
    with torch.no_grad():
        model.inner.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the loss is nan at step 3"):
        list(train(model, ema, batch, schedule, 3, checkpoint=path, progress=False))
    assert not path.exists()


def test_a_gradient_that_is_not_finite_is_not_saved(tmp_path):
    """The loss of that step is still finite, for the weights go wrong only after it."""
    model, ema, batch, schedule = small_run()
    path = tmp_path / "run.pt"
    with pytest.raises(FloatingPointError, match="the gradient is nan at step 1: try a smaller lr than 0.001"):
        list(train(model, ema, batch, schedule, 1, checkpoint=path, progress=False, loss=nan_slope))
    assert not path.exists()


@pytest.mark.parametrize("steps, save_every, at", [(300, 500, 50), (300, 7, 21), (30, 500, 30), (3, 500, 3)])
def test_float16_that_skips_every_step_stops_and_saves_nothing(tmp_path, steps, save_every, at):
    path = tmp_path / "run.pt"
    model, ema, batch, schedule = small_run()
    before = model.inner.weight.clone()
    options = dict(checkpoint=path, save_every=save_every, progress=False, loss=nan_slope, dtype=torch.float16)
    with pytest.raises(FloatingPointError, match=f"the gradient is nan at step {at}, was not finite in the last {at} "):
        list(train(model, ema, batch, schedule, steps, **options))
    assert torch.equal(model.inner.weight, before)
    assert not path.exists() or load_checkpoint(path)["scaler"]["scale"] >= 1


def test_float16_whose_scale_falls_to_nothing_stops_though_steps_between_are_good(tmp_path):
    """Every other gradient is not finite: no 20 in a row, but the scale is halved each time."""
    path, count = tmp_path / "run.pt", iter(range(1000))
    model, ema, batch, schedule = small_run()

    def loss(model, x0, schedule, cond, generator):
        return nan_slope(model, x0, schedule, cond, generator) if next(count) % 2 else model(x0, None).square().mean()

    with pytest.raises(FloatingPointError, match="and its scale for float16 fell to 0.00195312: try another dtype"):
        list(train(model, ema, batch, schedule, 300, checkpoint=path, progress=False, loss=loss, dtype=torch.float16))
    assert not path.exists()


def test_float16_may_skip_some_steps(tmp_path):
    path, count = tmp_path / "run.pt", iter(range(1000))
    model, ema, batch, schedule = small_run()

    def loss(model, x0, schedule, cond, generator):
        return nan_slope(model, x0, schedule, cond, generator) if next(count) < 10 else model(x0, None).square().mean()

    options = dict(checkpoint=path, save_every=5, progress=False, loss=loss, dtype=torch.float16)
    assert [step for step, _ in train(model, ema, batch, schedule, 60, **options)][-1] == 60
    saved = load_checkpoint(path)
    assert saved["scaler"]["scale"] == 64 and saved["skipped"] == 0


@pytest.mark.parametrize("part, name", [("model", "inner.weight"), ("ema", "inner.bias"), ("optimizer", "exp_avg_sq")])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_neither_gone_on_from_nor_saved(tmp_path, part, name, value):
    path = tmp_path / "run.pt"
    model, ema, batch, schedule = small_run()
    for _ in train(model, ema, batch, schedule, 2, checkpoint=path, progress=False):
        pass
    saved = load_checkpoint(path)
    (saved["optimizer"]["state"][0] if part == "optimizer" else saved[part])[name].view(-1)[0] = value
    save_checkpoint(path, **saved)
    model, ema, batch, schedule = small_run()
    before = model.inner.weight.clone()
    message = rf"run.pt is of no use, since {part}\.(0\.)?{name} is not finite: delete it to go on from run.pt.previous"
    with pytest.raises(ValueError, match=message):
        next(train(model, ema, batch, schedule, 4, checkpoint=path, progress=False))
    assert torch.equal(model.inner.weight, before)

    other, run = tmp_path / "other.pt", train(model, ema, batch, schedule, 4, checkpoint=tmp_path / "other.pt", lr=1e-9)
    next(run)
    if part == "ema":
        with torch.no_grad():
            ema.model.inner.bias[0] = value
        with pytest.raises(FloatingPointError, match="ema.inner.bias is not finite at step 4, which was not saved"):
            list(run)
        assert not other.exists()
