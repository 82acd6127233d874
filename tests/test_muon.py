"""Muon: what an orthogonalised step is, which weights take it, and that it trains, saves and skips as it should."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn

from minivdm.diffusion.predictions import prediction_loss
from minivdm.pipelines.text2video import build_text2video
from minivdm.training import muon
from minivdm.training.ema import EMA, update_average
from minivdm.training.engine import Engine
from minivdm.training.muon import COEFFICIENTS, Muon, hidden_weights, orthogonalized
from minivdm.training.optimizers import MUON_LR_RATIO, build_optimizer
from minivdm.training.recording import Recorded
from tests.test_precision import SCHEDULE, run, small

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")


@pytest.mark.parametrize("shape", [(8, 8), (5, 9), (9, 5), (1, 7), (7, 1), (3, 6, 4), (2, 3, 4, 6)])
def test_singular_vectors_stay_and_singular_values_follow_the_polynomial(shape):
    """Against a singular value decomposition in float64, whose values go through the iteration by themselves."""
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrices, full_matrices=False)
    s = s / s.square().sum(dim=-1, keepdim=True).sqrt()
    a, b, c = COEFFICIENTS
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    want = u @ torch.diag_embed(s) @ vh
    assert torch.allclose(orthogonalized(matrices), want, atol=1e-5)  # EPS is in the divisor


def test_values_from_three_thousandths_of_the_norm_on_come_near_1():
    s = torch.logspace(math.log10(0.003), 0, 200, dtype=torch.float64)
    a, b, c = COEFFICIENTS
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    assert 0.68 < s.min() and s.max() < 1.21


def test_zeros_around_a_matrix_change_nothing_and_a_matrix_of_zeros_stays():
    inside = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    around = torch.zeros(2, 8, 16)
    around[:, :3, :5] = inside
    got = orthogonalized(around)
    assert torch.allclose(got[:, :3, :5], orthogonalized(inside), atol=1e-5)
    assert not got[:, 3:].any() and not got[..., 5:].any()
    assert torch.equal(orthogonalized(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon")
@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.95])
def test_weights_of_two_axes_go_the_way_of_pytorchs_muon(momentum, monkeypatch):
    monkeypatch.setattr(muon, "best_dtype", lambda device: torch.bfloat16)  # where PyTorch's iterates
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(1)) for shape in ((6, 4), (3, 9), (4, 6))]
    ours, theirs = ([nn.Parameter(x.clone()) for x in start] for _ in range(2))
    one = Muon(ours, lr=0.02, momentum=momentum)
    other = torch.optim.Muon(theirs, lr=0.02, momentum=momentum, weight_decay=0.0)
    generator = torch.Generator().manual_seed(2)
    for _ in range(5):
        for a, b in zip(ours, theirs):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        one.step()
        other.step()
    for a, b, x in zip(ours, theirs, start):
        assert torch.allclose(a, b, atol=2e-3) and (a - x).abs().max() > 0.02


def test_a_convolution_goes_the_way_of_its_flattened_weight():
    start = torch.randn(4, 3, 3, 1)
    flat, conv = nn.Parameter(start.flatten(1).clone()), nn.Parameter(start.clone())
    turned = nn.Parameter(start.clone().to(memory_format=torch.channels_last))
    grad = torch.randn(4, 3, 3, 1)
    flat.grad, conv.grad, turned.grad = grad.flatten(1), grad, grad.clone()
    for weight in (flat, conv, turned):
        Muon([weight], lr=0.1).step()
    assert torch.allclose(conv, flat.view_as(conv), atol=1e-6) and torch.allclose(turned, conv, atol=1e-6)


def test_a_tall_matrix_moves_further_by_the_root_of_its_proportions():
    for shape, length in (((16, 4), 2.0), ((4, 16), 1.0)):
        weight = nn.Parameter(torch.zeros(shape))
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        Muon([weight], lr=1.0, iterations=40).step()
        values = torch.linalg.svdvals(weight.detach())
        assert 0.65 * length < values.min() and values.max() < 1.15 * length


def test_which_weights_are_for_muon():
    model = build_text2video(frames=4, size=16, mults=(1, 1)).net
    names = {id(p): name for name, p in model.named_parameters()}
    chosen = {names[id(p)] for p in hidden_weights(model)}
    assert {"net.image.stem.1.weight", "net.image.embed.0.weight", "net.image.middle.words.kv.weight"} <= chosen
    assert "net.middle.conv.conv.weight" in chosen and "encoder.layers.0.mlp.0.weight" in chosen
    others = set(names.values()) - chosen
    assert {"encoder.words.weight", "encoder.positions", "net.image.head.1.weight", "net.image.norm.weight"} <= others
    assert all(name.endswith("weight") for name in chosen)
    tied = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    tied[1].weight = tied[0].weight
    assert len(hidden_weights(tied)) == 1


def test_every_parameter_has_one_optimiser_and_its_learning_rate():
    model = small()
    optimizer = build_optimizer(model, "muon")
    groups = [[id(p) for p in group["params"]] for group in optimizer.param_groups]
    assert sorted(sum(groups, [])) == sorted(id(p) for p in model.parameters())
    assert [group.get("lr_ratio", 1.0) for group in optimizer.param_groups] == [MUON_LR_RATIO, 1.0]
    assert [len(group["params"]) for group in build_optimizer(model, "adamw").param_groups] == [sum(map(len, groups))]
    assert len(build_optimizer(nn.Linear(20, 20, bias=False), "muon").param_groups) == 1  # nothing is left for AdamW
    with pytest.raises(ValueError, match="optimizer must be one of muon, adamw, adam; got 'sgd'"):
        build_optimizer(model, "sgd")


@pytest.mark.parametrize("options", [{}, {"micro_batches": 3}, {"dtype": torch.bfloat16}, {"dtype": torch.float16}])
def test_a_run_goes_on_to_the_same_bits(options, tmp_path):
    whole = run(8, optimizer="muon", **options)
    run(4, optimizer="muon", checkpoint=tmp_path / "x.pt", **options)
    resumed = run(8, optimizer="muon", checkpoint=tmp_path / "x.pt", **options)
    assert resumed[2] == whole[2][4:]
    for a, b in zip(whole[0].parameters(), resumed[0].parameters()):
        assert torch.equal(a, b)


def test_a_checkpoint_of_another_optimiser_is_refused(tmp_path):
    run(2, optimizer="adamw", checkpoint=tmp_path / "x.pt")
    with pytest.raises(ValueError, match="another model or is no training checkpoint: expected groups of"):
        run(4, optimizer="muon", checkpoint=tmp_path / "x.pt")


def test_rare_directions_are_learnt_sooner_than_by_adamw():
    """A linear map is to be found from inputs that are a hundred times as large in some directions as in others."""

    def error(name, seed):
        generator = torch.Generator().manual_seed(seed)
        rotation = torch.linalg.qr(torch.randn(24, 24, generator=generator))[0]
        inputs = torch.randn(512, 24, generator=generator) * torch.logspace(0, -2, 24) @ rotation
        wanted = torch.randn(24, 24, generator=generator) / 5
        layer = nn.Linear(24, 24, bias=False)
        nn.init.zeros_(layer.weight)
        optimizer = build_optimizer(layer, name)
        for step in range(100):
            for group in optimizer.param_groups:
                group["lr"] = 1e-2 * (1 - step / 100) * group.get("lr_ratio", 1.0)
            optimizer.zero_grad()
            (layer(inputs) - inputs @ wanted.T).square().mean().backward()
            optimizer.step()
        return (layer.weight - wanted).norm().item() / wanted.norm().item()

    for seed in range(3):
        assert error("muon", seed) < 0.7 * error("adamw", seed)


def test_a_step_without_a_finite_gradient_changes_nothing_but_the_scale():
    torch.manual_seed(0)
    model = small()
    engine = Engine(model, prediction_loss, SCHEDULE, torch.float16, "muon")
    generator, x0 = torch.Generator().manual_seed(0), torch.randn(4, 1, 8, 8)
    for _ in range(2):
        engine.add_gradients(x0, None, generator)
        engine.step(1e-3)
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(engine.optimizer.state_dict()["state"])
    scale = engine.scaler.get_scale()
    engine.add_gradients(x0, None, generator)
    next(model.parameters()).grad[0] = float("inf")
    assert not engine.step(1e-3).isfinite() and engine.skipped == 1 and engine.scaler.get_scale() == scale / 2
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    for number, before in state.items():
        after = engine.optimizer.state_dict()["state"][number]
        assert all(torch.equal(after[name], value) for name, value in before.items())
    engine.add_gradients(x0, None, generator)
    assert engine.step(1e-3).isfinite() and engine.skipped == 0
    assert any(not torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_what_it_refuses():
    with pytest.raises(ValueError, match=r"two axes or more, got one of shape \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))])
    for wrong in ({"lr": -1.0}, {"lr": math.nan}, {"momentum": 1.0}, {"momentum": -0.1}, {"iterations": 0}):
        with pytest.raises(ValueError, match="expected lr >= 0, momentum in"):
            Muon([nn.Parameter(torch.zeros(3, 3))], **wrong)


@needs_cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recorded_steps_are_those_that_are_not(dtype):
    options = dict(device="cuda", dtype=dtype, micro_batches=2, optimizer="muon")
    plain, recorded = run(8, **options), run(8, cuda_graph=True, **options)
    assert recorded[2] == pytest.approx(plain[2], rel=2e-2)
    for a, b in zip(plain[0].parameters(), recorded[0].parameters()):
        assert torch.allclose(a, b, atol=1e-2)


@needs_cuda
def test_a_recorded_function_draws_from_the_generator_as_it_is():
    recorded = Recorded(lambda x, generator: x + torch.randn(3, device="cuda", generator=generator))
    generator, other = torch.Generator("cuda"), torch.Generator("cuda")
    for seed in (0, 1, 2, 1):
        generator.manual_seed(seed)
        other.manual_seed(seed)
        for number in range(3):
            x = torch.full((3,), float(number), device="cuda")
            assert torch.equal(recorded(x, generator), x + torch.randn(3, device="cuda", generator=other))
    with pytest.raises(ValueError, match=r"holds for one shape: expected \(3,\), got \(4,\)"):
        recorded(torch.zeros(4, device="cuda"), generator)


@needs_cuda
def test_what_cannot_be_recorded_runs_as_it_is_and_says_so_once():
    def looking(model, x0, schedule, cond, generator):
        loss = prediction_loss(model, x0, schedule, cond, generator)
        assert loss.item() > 0  # waits for the device
        return loss

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        got = run(6, device="cuda", cuda_graph=True, optimizer="muon", loss=looking)
    assert len([w for w in told if "cannot be recorded as a CUDA graph" in str(w.message)]) == 1
    assert got[2] == pytest.approx(run(6, device="cuda", optimizer="muon", loss=looking)[2], rel=1e-3)


@needs_cuda
def test_the_average_in_a_few_kernels_is_the_average():
    model = small().cuda()
    one, other = EMA(model), EMA(model)
    for _ in range(12):
        with torch.no_grad():
            for weight in model.parameters():
                weight += torch.randn_like(weight)
        one.update(model)
        update_average(other, model)
    assert one.updates == other.updates == 12
    for a, b in zip(one.model.parameters(), other.model.parameters()):
        assert torch.allclose(a, b, atol=1e-6)
