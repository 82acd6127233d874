"""The parts of the denoiser against loops in float64, and what each must not do."""

import math

import pytest
import torch

from minivdm.models.layers import Downsample, ResBlock, SelfAttention, Upsample, norm, timestep_embedding, zero_module


def randomised(layer):
    """New weights everywhere, also in the convolutions that start at zero."""
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return layer.double()


def test_timestep_embedding_by_hand():
    emb = timestep_embedding(torch.tensor([0, 7]), 4)
    assert emb.shape == (2, 4) and emb.dtype == torch.float32
    want = [math.cos(7), math.cos(0.07), math.sin(7), math.sin(0.07)]
    assert torch.allclose(emb[1], torch.tensor(want), atol=1e-5)
    assert emb[0].tolist() == [1, 1, 0, 0]
    with pytest.raises(ValueError, match="dim must be even, one sine for each cosine; got 5"):
        timestep_embedding(torch.tensor([1]), 5)


def test_likeness_of_two_embeddings_depends_on_the_difference_of_levels_alone():
    emb = timestep_embedding(torch.arange(200), 32).double()
    like = emb @ emb.T  # sum of cos(w_k (t - s))
    for d in (0, 1, 17):
        band = like.diagonal(d)
        assert torch.allclose(band, band[:1].expand_as(band), atol=1e-4)
    assert like[0].argmax() == 0 and like[0, 0] == pytest.approx(16)


def test_resblock_is_the_identity_at_first_and_follows_each_level():
    torch.manual_seed(0)
    x, emb = torch.randn(3, 16, 5, 4), torch.randn(3, 8)
    assert torch.equal(ResBlock(16, 16, 8)(x, emb), x)
    block = ResBlock(16, 24, 8)
    assert torch.equal(block(x, emb), block.skip(x))
    block, x, emb = randomised(block), x.double(), emb.double()
    alone = torch.cat([block(x[i : i + 1], emb[i : i + 1]) for i in range(3)])
    assert torch.allclose(block(x, emb), alone)
    other = block(x, emb.flip(0))
    assert torch.allclose(other[1], block(x, emb)[1]) and not torch.allclose(other[0], block(x, emb)[0], atol=1e-2)


def test_resblock_by_finite_differences():
    """The gradient of the whole block, the level's path included."""
    torch.manual_seed(0)
    block = randomised(ResBlock(8, 8, 4))
    x = torch.randn(1, 8, 2, 2, dtype=torch.float64, requires_grad=True)
    emb = torch.randn(1, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x, emb))


def test_scale_of_minus_one_leaves_the_shift_alone():
    """If the level says scale = -1 and shift = c, what conv2 sees is silu(c) at every place."""
    torch.manual_seed(0)
    block = randomised(ResBlock(8, 8, 4))
    with torch.no_grad():
        block.emb.weight.zero_()
        block.emb.bias[:8] = -1
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    shift = torch.nn.functional.silu(block.emb.bias[8:])[:, None, None].expand(2, 8, 3, 3)
    assert torch.allclose(block(x, torch.randn(2, 4, dtype=torch.float64)), x + block.conv2(shift))


def test_attention_by_hand():
    """Two heads of softmax(Q K^T / sqrt(d)) V in loops, in float64."""
    torch.manual_seed(0)
    layer = randomised(SelfAttention(32, head_dim=16))
    x = torch.randn(1, 32, 2, 3, dtype=torch.float64)
    q, k, v = layer.qkv(layer.norm(x)).flatten(2)[0].chunk(3)  # (32, 6) each
    out = torch.zeros(32, 6, dtype=torch.float64)
    for head in (slice(0, 16), slice(16, 32)):
        for i in range(6):
            weight = torch.stack([(q[head, i] * k[head, j]).sum() / 4 for j in range(6)]).softmax(0)
            out[head, i] = sum(weight[j] * v[head, j] for j in range(6))
    want = x + layer.out(out.reshape(1, 32, 2, 3))
    assert torch.allclose(layer(x), want, atol=1e-10)


def test_attention_does_not_know_where_a_place_is():
    """Shuffle the places, and the result is shuffled in the same way: position must come from elsewhere."""
    torch.manual_seed(0)
    layer = randomised(SelfAttention(32, head_dim=8))
    x, order = torch.randn(2, 32, 3, 4, dtype=torch.float64), torch.randperm(12)

    def shuffled(y):
        return y.flatten(2)[:, :, order].reshape(y.shape)

    assert torch.allclose(layer(shuffled(x)), shuffled(layer(x)))
    assert torch.equal(SelfAttention(32)(x.float()), x.float())
    with pytest.raises(ValueError, match="multiple of head_dim = 32, got 48"):
        SelfAttention(48)


def test_halving_and_doubling_look_at_the_right_pixels():
    down, up = Downsample(8).double(), Upsample(8).double()
    with torch.no_grad():  # each output pixel is the middle of its window
        for layer in (down, up):
            torch.nn.init.dirac_(layer.conv.weight)
            layer.conv.bias.zero_()
    x = torch.randn(2, 8, 4, 6, dtype=torch.float64)
    assert torch.equal(down(x), x[:, :, ::2, ::2])
    assert torch.equal(up(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.equal(down(up(x)), x)


def test_norm_looks_at_one_sample_and_groups_of_eight_channels():
    x = 3 * torch.randn(2, 16, 5, 5) + 4
    out = norm(16)(x)
    assert torch.allclose(out[:1], norm(16)(x[:1]), atol=1e-6)
    groups = out.reshape(2, 2, -1)
    assert torch.allclose(groups.mean(2), torch.zeros(2, 2), atol=1e-5)
    assert torch.allclose(groups.var(2, correction=0), torch.ones(2, 2), atol=1e-3)
    assert norm(4).num_groups == 1
    assert all(not p.any() for p in zero_module(norm(8)).parameters())
