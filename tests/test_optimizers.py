"""Optimisers: AdamW beside PyTorch's, states that go from one to the other, and what is not loaded for them."""

import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from minivdm.training.adamw import AdamW
from minivdm.training.optimizer import Optimizer
from minivdm.training.optimizers import build_optimizer


def network():
    """A small network with parameters of one axis and of two."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 3, bias=False))


def learn(net, optimizer, steps, seed=0):
    """Some steps on random data."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(8, 4, generator=generator)
        optimizer.zero_grad()
        (net(x) - x[:, :3].sin()).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("options", [{}, {"lr": 0.1, "weight_decay": 0.3}, {"betas": (0.0, 0.5), "eps": 1e-3}])
def test_adamw_goes_the_way_of_pytorchs(options):
    ours, theirs = network(), network()
    learn(ours, AdamW(ours.parameters(), **options), 20)
    learn(theirs, torch.optim.AdamW(theirs.parameters(), **options), 20)
    for mine, other, start in zip(ours.parameters(), theirs.parameters(), network().parameters()):
        assert torch.allclose(mine, other, atol=1e-6) and (mine - start).abs().max() > 1e-3


def test_a_state_of_pytorchs_adamw_is_gone_on_from():
    ours, theirs = network(), network()
    other = torch.optim.AdamW(theirs.parameters(), lr=0.02)
    learn(theirs, other, 5)
    ours.load_state_dict(theirs.state_dict())
    mine = AdamW(ours.parameters())
    mine.load_state_dict(other.state_dict())
    assert set(mine.param_groups[0]) == {"params", "lr", "betas", "eps", "weight_decay"}
    learn(ours, mine, 5, seed=1)
    learn(theirs, other, 5, seed=1)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours.parameters(), theirs.parameters()))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_state_can_be_given_to_another_and_stays_its_own(name):
    ours = network()
    one = build_optimizer(ours, name)
    learn(ours, one, 3)
    theirs = copy.deepcopy(ours)
    other = build_optimizer(theirs, name)
    other.load_state_dict(one.state_dict())
    before = copy.deepcopy(one.state_dict())
    learn(theirs, other, 3, seed=1)
    for number, of_one in before["state"].items():
        assert all(torch.equal(value, one.state_dict()["state"][number][key]) for key, value in of_one.items())
    learn(ours, one, 3, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters()))


def test_parameters_without_a_gradient_stay():
    used, unused = (nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = AdamW([used, unused])
    used.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(unused, torch.ones(3)) and unused not in optimizer.state and used[0] < 1
    grad = used.grad
    optimizer.zero_grad(set_to_none=False)
    assert used.grad is grad and not grad.any() and unused.grad is None
    optimizer.zero_grad()
    assert used.grad is None
    AdamW([unused]).step()


def test_what_they_refuse():
    weight = nn.Parameter(torch.zeros(2))
    for params in ([], [weight, weight], [dict(params=[weight]), dict(params=[weight])]):
        with pytest.raises(ValueError, match="expected parameters, each of them once, got"):
            Optimizer(params, {})
    for wrong in ({"lr": -1.0}, {"betas": (1.0, 0.9)}, {"eps": -1.0}, {"weight_decay": float("nan")}):
        with pytest.raises(ValueError, match="expected lr, eps, weight_decay >= 0"):
            AdamW([weight], **wrong)
    longer = nn.Parameter(torch.zeros(3))
    longer.grad = torch.zeros(3)
    other = AdamW([longer])
    other.step()
    with pytest.raises(ValueError, match=r"a state of shape \(2,\), got \(3,\) for exp_avg"):
        AdamW([weight]).load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match=r"groups of \[1\] parameters, got \[2\]"):
        AdamW([weight]).load_state_dict(AdamW([weight, longer]).state_dict())


def test_training_does_not_load_what_takes_seconds(tmp_path):
    """PyTorch's compiler takes three to four of them, scikit-learn one."""
    code = """
import sys, torch
from minivdm.commands.train import train_text2video
train_text2video("smoke", out=sys.argv[1])
slow = "torch._dynamo", "torch._inductor", "sympy", "sklearn", "scipy", "matplotlib"
print([name for name in slow if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "run"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[]"
