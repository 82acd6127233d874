"""The U-Net: shapes, what it starts as, and what it must not mix."""

import pytest
import torch

from minivdm.layers import SelfAttention, timestep_embedding
from minivdm.unet import Conditioned, UNet


@pytest.mark.parametrize("shape, kwargs", [((2, 1, 8, 8), {}), ((1, 3, 16, 24), dict(in_channels=3, mults=(1, 2, 2)))])
def test_output_is_like_the_input_and_starts_at_zero(shape, kwargs):
    model = UNet(channels=32, **kwargs)
    out = model(torch.randn(shape), torch.randint(1, 100, shape[:1]))
    assert out.shape == shape and torch.equal(out, torch.zeros(shape))


def test_samples_of_a_batch_do_not_meet_and_the_level_matters():
    torch.manual_seed(0)
    model = UNet(channels=32)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([1, 50, 99])
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    assert torch.allclose(model(x, t), alone, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(model(x, t), model(x, t.flip(0)), atol=1e-2)


def test_each_sample_follows_its_own_condition():
    torch.manual_seed(0)
    net = UNet(in_channels=3, channels=32, context_dim=16, patch=2)
    model = Conditioned(net, torch.nn.Embedding(9, 16), length=4)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x, t, cond = torch.randn(3, 3, 16, 16), torch.tensor([1, 50, 99]), torch.randint(1, 9, (3, 4))
    out, other = model(x, t, cond), model(x, t, torch.cat([cond[:2], 9 - cond[2:]]))
    moved = (out - other).abs().amax(dim=(1, 2, 3)) / out.abs().amax()
    assert out.shape == x.shape and moved[:2].max() < 1e-4 and moved[2] > 1e-3
    assert torch.equal(model(x, t), model(x, t, torch.zeros_like(cond)))
    assert torch.equal(model(x, t, model.encoder(cond)), out)


def test_errors():
    model = UNet(channels=32, mults=(1, 2, 2))
    with pytest.raises(ValueError, match="multiples of 4, got \\(8, 6\\)"):
        model(torch.zeros(1, 1, 8, 6), torch.ones(1).long())
    with pytest.raises(ValueError, match="expected cond=None"):
        model(torch.zeros(1, 1, 8, 8), torch.ones(1).long(), torch.ones(1))
    with pytest.raises(ValueError, match=r"shape \(2, L, 16\), got \(2, 5, 8\)"):
        UNet(channels=32, context_dim=16)(torch.zeros(2, 1, 8, 8), torch.ones(2).long(), torch.zeros(2, 5, 8))
    with pytest.raises(ValueError, match=r"shape \(2, L, 16\), got None"):
        UNet(channels=32, context_dim=16)(torch.zeros(2, 1, 8, 8), torch.ones(2).long())
    with pytest.raises(ValueError, match="multiple of head_dim"):
        SelfAttention(48)


def test_attention_by_hand():
    """One head of softmax(Q K^T / sqrt(d)) V in two loops, in float64."""
    torch.manual_seed(0)
    layer = SelfAttention(32).double()
    torch.nn.init.normal_(layer.out.weight)
    x = torch.randn(1, 32, 2, 3, dtype=torch.float64)
    q, k, v = layer.qkv(layer.norm(x)).flatten(2)[0].chunk(3)  # (32, 6) each
    out = torch.zeros(32, 6, dtype=torch.float64)
    for i in range(6):
        weight = torch.stack([(q[:, i] * k[:, j]).sum() / 32**0.5 for j in range(6)]).softmax(0)
        out[:, i] = sum(weight[j] * v[:, j] for j in range(6))
    want = x + layer.out(out.reshape(1, 32, 2, 3))
    assert torch.allclose(layer(x), want, atol=1e-10)


def test_timestep_embedding_by_hand():
    emb = timestep_embedding(torch.tensor([0, 7]), 4)
    assert emb.shape == (2, 4)
    want = [torch.cos(torch.tensor(7.0)), torch.cos(torch.tensor(0.07)),
            torch.sin(torch.tensor(7.0)), torch.sin(torch.tensor(0.07))]
    assert torch.allclose(emb[1], torch.stack(want), atol=1e-5)
    assert emb[0].tolist() == [1, 1, 0, 0]
