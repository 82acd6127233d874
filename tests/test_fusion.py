"""Gradient fusion: the closed form is the minimum, and a fused network does what each adapter did."""

import pytest
import torch
from torch import nn

from minivdm.models.fusion import fuse, fused_weight, input_grams
from minivdm.models.lora import add_lora, lora_layers, merge_lora


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def objective(weight, deltas, inputs, ridge, candidate):
    fits = sum(((weight + d - candidate) @ x).square().sum() for d, x in zip(deltas, inputs))
    return fits + ridge * (candidate - weight).square().sum()


@pytest.mark.parametrize("ridge", [0.0, 0.3, 1e4])
def test_the_gradient_vanishes_at_the_fused_weight(ridge):
    weight, deltas = draw(5, 7), [draw(5, 7, seed=1), draw(5, 7, seed=2), torch.zeros(5, 7).double()]
    inputs = [draw(7, 4, seed=3), draw(7, 9, seed=4), draw(7, 3, seed=5)]
    candidate = fused_weight(weight, deltas, [x @ x.T for x in inputs], ridge).requires_grad_()
    value = objective(weight, deltas, inputs, ridge, candidate)
    (gradient,) = torch.autograd.grad(value, candidate)
    assert gradient.abs().max() < 1e-9 * (1 + ridge)
    for seed in range(5):
        assert objective(weight, deltas, inputs, ridge, candidate + 0.1 * draw(5, 7, seed=10 + seed)) > value


def test_where_inputs_do_not_overlap_each_concept_is_kept_exactly():
    weight, deltas = draw(5, 7), [draw(5, 7, seed=1), draw(5, 7, seed=2)]
    axes = torch.linalg.qr(draw(7, 7, seed=3))[0]
    inputs = [axes[:, :3] @ draw(3, 20, seed=4), axes[:, 3:5] @ draw(2, 20, seed=5)]
    fused = fused_weight(weight, deltas, [x @ x.T for x in inputs])
    for delta, x in zip(deltas, inputs):
        torch.testing.assert_close(fused @ x, (weight + delta) @ x)
    torch.testing.assert_close(fused @ axes[:, 5:], weight @ axes[:, 5:])  # where nothing points, W_0 stays
    torch.testing.assert_close(fused_weight(weight, deltas[:1], [torch.eye(7).double()]), weight + deltas[0])


def test_the_type_is_kept_and_counts_must_agree():
    weight = draw(3, 4).float()
    assert fused_weight(weight, [weight], [torch.eye(4)]).dtype == torch.float32
    for deltas, grams in (([], []), ([weight], []), ([weight], [torch.eye(4)] * 2)):
        with pytest.raises(ValueError, match="as many Gram matrices as corrections"):
            fused_weight(weight, deltas, grams)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.kv = nn.Conv2d(6, 6, 1), nn.Linear(6, 4)

    def forward(self, x):
        return self.kv(self.q(x).tanh().flatten(2).transpose(1, 2))


def test_a_network_is_fused_layer_by_layer():
    """Two concepts whose inputs never meet: afterwards each is drawn as with its own adapter."""
    torch.manual_seed(0)
    inputs = [torch.cat([draw(2, 2, 3, 3, seed=i), torch.zeros(2, 4, 3, 3)], dim=1).roll(3 * i, 1) for i in (0, 1)]
    state, deltas, grams, outputs = Net().double().state_dict(), [], [], []
    for x in inputs:
        net = Net().double()
        net.load_state_dict(state)
        for each in add_lora(net, ["q"], rank=2, alpha=3.0).values():
            nn.init.normal_(each.B)
        deltas.append({name: layer.adapters[0].delta() for name, layer in lora_layers(net).items()})
        grams.append(input_grams(net, lambda net=net, x=x: net(x)))
        outputs.append(net(x))
    fused = Net().double()
    fused.load_state_dict(state)
    add_lora(fused, ["q"], rank=1)
    assert fuse(merge_lora(fused), deltas, grams, ridge=1e-12) is fused and not lora_layers(fused)
    for x, y in zip(inputs, outputs):
        torch.testing.assert_close(fused(x), y, rtol=1e-6, atol=1e-6)


def test_grams_are_means_over_places():
    net = Net().double()
    add_lora(net, ".", rank=1)
    x = draw(3, 6, 2, 5)
    grams = input_grams(net, lambda: [net(part) for part in x.split([1, 2])])
    columns = x.transpose(0, 1).flatten(1)  # (6, 30)
    torch.testing.assert_close(grams["q"], columns @ columns.T / 30)
    assert set(grams) == {"q", "kv"} and not lora_layers(net)["q"]._forward_pre_hooks
    with pytest.raises(ValueError, match="q was corrected and called"):
        input_grams(net, lambda: None)
    with pytest.raises(ValueError, match="no layer was corrected"):
        input_grams(Net(), lambda: None)
