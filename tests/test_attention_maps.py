"""Attention weights: what the layers themselves do with them, and one place by hand."""

import pytest
import torch
from torch import nn

from minivdm.evaluation.attention_maps import attention_weights
from minivdm.models.layers import CrossAttention, SelfAttention


def with_random_weights(layer):
    """The layer with random parameters, `out` included, and keys and queries large enough to choose."""
    torch.manual_seed(0)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    return layer.requires_grad_(False)


def found_with(layer, weights, v):
    """What the layer adds to x: the values v, (B, C, L), averaged with these weights."""
    v = v.unflatten(1, (layer.heads, -1))  # (B, heads, d, L)
    return torch.einsum("bnpl,bndl->bndp", weights, v).flatten(1, 2)  # (B, C, HW)


def test_self_attention():
    layer, x = with_random_weights(SelfAttention(16, head_dim=8)), torch.randn(3, 16, 2, 4)
    weights = attention_weights(layer, lambda: layer(x))
    assert weights.shape == (3, 2, 8, 8) and torch.allclose(weights.sum(-1), torch.ones(3, 2, 8))
    v = layer.qkv(layer.norm(x)).flatten(2)[:, 32:]
    got = x + layer.out(found_with(layer, weights, v).reshape(x.shape))
    assert torch.allclose(got, layer(x), atol=1e-5) and weights.max() > 0.5


def test_cross_attention():
    layer, x, context = (
        with_random_weights(CrossAttention(16, 6, head_dim=4)),
        torch.randn(2, 16, 3, 2),
        torch.randn(2, 5, 6),
    )
    weights = attention_weights(layer, lambda: layer(x, context))
    assert weights.shape == (2, 4, 6, 5)
    v = layer.kv(context)[..., 16:].transpose(1, 2)
    got = x + layer.out(found_with(layer, weights, v).reshape(x.shape))
    assert torch.allclose(got, layer(x, context), atol=1e-5) and weights.max() > 0.5


def test_no_trace_is_left():
    layer, x = SelfAttention(32), torch.randn(1, 32, 2, 2, requires_grad=True)
    assert not attention_weights(layer, lambda: layer(x)).requires_grad
    with pytest.raises(ZeroDivisionError):
        attention_weights(layer, lambda: 1 / 0)
    with pytest.raises(ValueError, match="was not called"):
        attention_weights(layer, lambda: None)
    assert not layer._forward_hooks


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_they_are_the_same_in_every_mode(mode):
    layer, x = with_random_weights(SelfAttention(16, head_dim=8)), torch.randn(3, 16, 2, 4)
    want = attention_weights(layer, lambda: layer(x))
    with mode():
        assert torch.equal(attention_weights(layer, lambda: layer(x.clone())), want)
