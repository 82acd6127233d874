"""16 bits for the arithmetic, 32 for the weights; many parts or one; several processes."""

import copy

import pytest
import torch

from minivdm.diffusion.forward_process import diffusion_loss
from minivdm.diffusion.schedules import NoiseSchedule, linear_betas
from minivdm.models.unet import UNet
from minivdm.training import engine, loop, parallel
from minivdm.training.adamw import AdamW
from minivdm.training.checkpoint import load_checkpoint
from minivdm.training.ema import EMA
from minivdm.training.loop import batches_of, train
from minivdm.training.precision import LowPrecisionCopy, best_dtype
from minivdm.training.seeds import mixed_seed

SCHEDULE = NoiseSchedule(linear_betas(50))


def run(steps=6, batch_size=8, seed=0, device="cpu", **options):
    torch.manual_seed(0)
    model = small().to(device)
    ema = EMA(model)
    data = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(5)).to(device)
    batch = batches_of(data, batch_size=batch_size)
    run = train(model, ema, batch, SCHEDULE.to(device), steps, progress=False, seed=seed, **options)
    return model, ema, [loss.item() for _, loss in run]


def small():
    return UNet(channels=32, mults=(1,), blocks=1, attention=())


def test_an_update_too_small_for_16_bits_is_not_lost():
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(layer.weight)
    rounded = LowPrecisionCopy(layer, torch.bfloat16)
    for _ in range(100):
        with torch.no_grad():
            layer.weight += 1e-4  # bfloat16 knows nothing between 1 and 1.0078
        rounded.refresh()
    assert abs(layer.weight.item() - 1.01) < 1e-5
    assert abs(rounded.network.weight.item() - 1.01) < 0.004


def test_gradients_move_to_the_float32_weights():
    layer = torch.nn.Linear(3, 2)
    rounded = LowPrecisionCopy(layer, torch.bfloat16)
    x = torch.randn(5, 3)
    rounded.network(x.bfloat16()).float().square().sum().backward()
    got = layer.weight.grad
    assert got is None
    rounded.move_gradients()
    layer.weight.grad, taken = None, layer.weight.grad
    layer(x).square().sum().backward()
    assert taken.dtype == torch.float32 and torch.allclose(taken, layer.weight.grad, rtol=0.05, atol=0.1)
    assert rounded.network.weight.grad is None


class OneBuffer(torch.autograd.Function):
    """x * w, with the gradient always in the same memory, as a recorded CUDA graph returns it."""

    buffer = torch.zeros(4, dtype=torch.bfloat16)

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x)
        return x * w

    @staticmethod
    def backward(ctx, grad):
        return None, OneBuffer.buffer.copy_(grad * ctx.saved_tensors[0]).detach()


def test_gradients_of_several_passes_add_up_in_float32():
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(torch.ones(4))
    rounded = LowPrecisionCopy(layer, torch.bfloat16)
    parts = torch.tensor([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0], [256.0, 512.0, 1024.0, 2048.0]]).bfloat16()
    for x in parts:
        OneBuffer.apply(x, rounded.network.weight).sum().backward()
        rounded.move_gradients()
    assert torch.equal(layer.weight.grad, parts.float().sum(dim=0)) and rounded.network.weight.grad is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_recorded_kernels_train_as_the_others_do(dtype, micro_batches):
    options = dict(device="cuda", dtype=dtype, micro_batches=micro_batches)
    plain, recorded = run(8, **options), run(8, cuda_graph=True, **options)
    assert recorded[2] == pytest.approx(plain[2], rel=1e-3 if dtype == torch.float32 else 2e-2)
    for a, b in zip(plain[0].parameters(), recorded[0].parameters()):
        assert torch.allclose(a, b, atol=1e-4 if dtype == torch.float32 else 2e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")
def test_a_copy_of_a_model_trained_with_recorded_kernels_is_a_model_of_its_own():
    model = run(2, device="cuda", cuda_graph=True)[0]
    other = copy.deepcopy(model).eval()
    with torch.no_grad():
        for weights in other.parameters():
            weights.zero_()
        x, t = torch.randn(8, 1, 8, 8, device="cuda"), torch.ones(8, dtype=torch.long, device="cuda")
        assert other(x, t).abs().max() == 0 and model.eval()(x, t).abs().max() > 0
        assert "forward" not in vars(model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_training_in_16_bits_follows_training_in_32(dtype):
    exact, rounded = run(20)[2], run(20, dtype=dtype)[2]
    assert max(abs(a - b) for a, b in zip(exact, rounded)) < 0.02 and exact[-1] < exact[0]


def test_the_cpu_trains_in_float32():
    assert best_dtype(torch.device("cpu")) == torch.float32


def test_parts_are_the_batch_in_pieces(monkeypatch):
    """With one part, the first seed is the only one; with two, the losses are the means of two such runs."""
    first = run(1)[2][0]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "mixed_seed", lambda seed, phase, step, i: mixed_seed(seed, phase, step, 1))
        second = run(1)[2][0]
    assert first != second and run(1, micro_batches=2)[2][0] == pytest.approx((first + second) / 2, rel=1e-5)
    assert parallel.world_size() == 1 and parallel.rank() == 0 and parallel.all_gather("x") == ["x"]


def test_parts_survive_a_restart_and_their_number_is_checked(tmp_path):
    path = tmp_path / "run.pt"
    whole = run(6, micro_batches=2)
    run(3, micro_batches=2, checkpoint=path)
    assert load_checkpoint(path)["micro_batches"] == 2
    resumed = run(6, micro_batches=2, checkpoint=path)
    assert resumed[2] == whole[2][3:]
    with pytest.raises(ValueError, match="micro_batches=2, not micro_batches=3"):
        run(8, micro_batches=3, checkpoint=path)


def test_the_learning_rate_can_fall_to_nothing(monkeypatch):
    rates = []
    step = AdamW.step

    def watched(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(AdamW, "step", watched)
    run(200, batch_size=1, decay=True, lr=1.0e-3)
    assert rates[0] == pytest.approx(1e-5) and max(rates) < 6e-4 and rates[-1] < 1e-6


def test_how_the_learning_rate_falls():
    rates = {
        kind: [loop.learning_rate(step, 100, 2.0, kind, warm_up=0) for step in (0, 25, 50, 99)] for kind in loop.DECAYS
    }
    assert rates[False] == [2.0] * 4 and rates["linear"] == pytest.approx([2.0, 1.5, 1.0, 0.02])
    assert rates[True] == rates["cosine"] == pytest.approx([2.0, 1.70711, 1.0, 0.00049], abs=1e-5)
    assert loop.learning_rate(9, 100, 2.0, "linear", warm_up=20) == pytest.approx(0.91)
    with pytest.raises(ValueError, match="decay must be one of False, True, 'cosine', 'linear'; got 'steep'"):
        run(2, decay="steep")


class Counting(torch.nn.Module):
    """A network with every kind of buffer: counted, averaged, made anew at each call, and a table that stays."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 4))
        self.register_buffer("table", torch.tensor([1 / 3, -float("inf")]))
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("last", torch.zeros(()))

    def forward(self, x, t, cond=None):
        if self.training:
            self.calls += 1
            self.last = x.mean().detach()  # another tensor each time
        return self.body(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_buffers_that_change_in_training_are_those_of_the_model_and_of_its_average(dtype, tmp_path):
    def trained(dtype, **options):
        torch.manual_seed(0)
        model = Counting()
        ema, batch = EMA(model), batches_of(torch.randn(64, 4) * 3 + 7, batch_size=32)
        for _ in train(model, ema, batch, SCHEDULE, 30, dtype=dtype, progress=False, micro_batches=2, **options):
            pass
        return model, ema.model

    exact = trained(torch.float32)[0]
    for model in trained(dtype, checkpoint=tmp_path / "x.pt"):
        assert model.calls == 60 and model.body[1].num_batches_tracked == 60
        for name in ("running_mean", "running_var"):
            got, want = getattr(model.body[1], name), getattr(exact.body[1], name)
            assert got.dtype == torch.float32 and torch.allclose(got, want, rtol=0.03, atol=0.03)
        assert model.last == pytest.approx(exact.last.item(), rel=0.02)
        assert torch.equal(model.table, torch.tensor([1 / 3, -float("inf")]))  # with all 32 bits
    assert load_checkpoint(tmp_path / "x.pt")["ema"]["calls"] == 60


def test_several_processes_refuse_statistics_that_only_one_of_them_would_see(monkeypatch):
    monkeypatch.setattr(engine, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="not share the running statistics of BatchNorm1d: use one process"):
        engine.Engine(Counting(), diffusion_loss, SCHEDULE)


def test_seeds_that_are_neighbours_share_no_draws():
    """Before, the second micro-batch of seed 0 was the first one of seed 1."""
    drawn = []

    def batch(generator):
        drawn.append(torch.randn(2, 1, 8, 8, generator=generator))
        return drawn[-1], None

    for seed in (0, 1, 2):
        model = small()
        for _ in train(model, EMA(model), batch, SCHEDULE, 3, seed=seed, micro_batches=4, progress=False):
            pass
    for phase in ("images", "clips"):
        for _ in train(model, EMA(model), batch, SCHEDULE, 1, micro_batches=4, phase=phase, progress=False):
            pass
    assert len({tuple(x.flatten().tolist()) for x in drawn}) == len(drawn) == 3 * 3 * 4 + 2 * 4


def test_a_mixed_seed_depends_on_everything_in_its_lower_32_bits():
    """PyTorch's generator on the CPU uses no more of them; 8,000 random ones would collide with p = 0.7%."""
    seeds = [
        mixed_seed(seed, phase, step, i)
        for seed in (0, 1, 2, 2**32 - 1)
        for phase in ("images", "clips")
        for step in range(250)
        for i in range(4)
    ]
    assert len({seed % 2**32 for seed in seeds}) == len(seeds) == 8000 and max(seeds) < 2**64
    assert 0.49 < sum(bin(seed).count("1") for seed in seeds) / (64 * 8000) < 0.51
    assert mixed_seed(1, "a") == mixed_seed(torch.tensor(1), "a") != mixed_seed(1, "a", "a")
    with pytest.raises(TypeError):
        mixed_seed(0.5)
