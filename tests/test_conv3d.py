"""Convolution through time: against PyTorch's own, by hand, and what each form can and cannot see."""

import importlib
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from minivdm.commands import make_video_classifier
from minivdm.datasets.sprites import MovingSprites
from minivdm.evaluation.attribute_classifier import AttributeClassifier
from minivdm.models.conv3d import Conv2Plus1d, Conv3d, conv3d, inflate_conv, triple
from minivdm.pipelines.pretrained import load_pretrained


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("stride", [1, 2, (1, 2, 3), (3, 1, 1)])
@pytest.mark.parametrize("padding", [0, 1, (2, 0, 1)])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 2), (2, 1, 3), (1, 1, 1)])
def test_conv3d_is_pytorchs(kernel, padding, stride):
    x, weight, bias = normal(2, 3, 5, 6, 7), normal(4, 3, *kernel, seed=1), normal(4, seed=2)
    for b in (bias, None):
        want = F.conv3d(x, weight, b, stride, padding)
        got = conv3d(x, weight, b, stride, padding)
        assert got.shape == want.shape and torch.allclose(got, want)


def test_conv3d_has_the_right_gradients():
    x, weight, bias = (part.requires_grad_() for part in (normal(1, 2, 3, 3, 4), normal(2, 2, 2, 2, 3), normal(2)))
    assert torch.autograd.gradcheck(
        lambda *parts: conv3d(*parts, stride=(1, 2, 1), padding=(1, 0, 1)), (x, weight, bias)
    )


def test_conv3d_keeps_device_and_dtype():
    y = conv3d(
        torch.zeros(1, 1, 3, 3, 3, device="meta", dtype=torch.float16),
        torch.zeros(2, 1, 3, 3, 3, device="meta", dtype=torch.float16),
    )
    assert y.device.type == "meta" and y.dtype == torch.float16 and y.shape == (1, 2, 1, 1, 1)


def test_conv3d_says_what_is_wrong():
    x = normal(1, 3, 4, 4, 4)
    with pytest.raises(ValueError, match=r"expected \(B, C, F, H, W\) .* got \(1, 3, 4, 4, 4\) and \(2, 1, 2, 2, 2\)"):
        conv3d(x, normal(2, 1, 2, 2, 2))
    with pytest.raises(ValueError, match=r"a kernel of \(5, 2, 2\) does not fit into \(4, 4, 4\)"):
        conv3d(x, normal(2, 3, 5, 2, 2))
    with pytest.raises(ValueError, match="expected one number, or three"):
        conv3d(x, normal(2, 3, 2, 2, 2), stride=(1, 2))
    assert triple(2) == (2, 2, 2) and triple([1, 2, 3]) == (1, 2, 3)


def test_an_impulse_shows_the_kernel_turned_round():
    """A single 1 in the clip: each box that sees it returns the weight at the place where it lies in the box."""
    weight = normal(1, 1, 3, 3, 3)
    x = torch.zeros(1, 1, 5, 5, 5, dtype=torch.float64)
    x[..., 2, 2, 2] = 1
    assert torch.equal(conv3d(x, weight), weight.flip(2, 3, 4))


def test_the_layer_runs_the_function(monkeypatch):
    layer = Conv3d(2, 3, 3, stride=(1, 2, 2), padding=1).double()
    x = normal(2, 2, 4, 5, 5)
    assert torch.allclose(layer(x), F.conv3d(x, layer.weight, layer.bias, (1, 2, 2), 1))
    module = importlib.import_module("minivdm.models.conv3d")
    monkeypatch.setattr(module, "conv3d", lambda *given: "mine")
    assert layer(x) == "mine"


@pytest.mark.parametrize("sizes", [(1, 1, 3, 3), (3, 16, 3, 3), (64, 128, 3, 3), (16, 3, 5, 3), (7, 5, 3, 5)])
def test_two_halves_have_as_many_weights_or_a_few_less(sizes):
    a, b, d, t = sizes
    full = nn.Conv3d(a, b, (t, d, d))
    block = Conv2Plus1d(a, b, d, t)
    count, most = (sum(p.numel() for p in net.parameters()) for net in (block, full))
    assert most - (d**2 * a + t * b) < count <= most  # one more inner channel would be too many
    x = torch.zeros(1, a, 6, 5, 7)
    assert block(x).shape == (1, b, 6, 5, 7)
    with FlopCounterMode(display=False) as counter:
        block(x)
    assert counter.get_total_flops() == 2 * x.shape[2:].numel() * (count - b)


def test_two_halves_without_the_relu_would_be_one_kernel():
    """An outer product of time and space is all they could be: shown with inputs on which the ReLU is idle."""
    block = Conv2Plus1d(2, 3).double()
    with torch.no_grad():
        block.space.weight.abs_()
    kernel = torch.einsum("omt,mchw->octhw", block.time.weight[..., 0, 0], block.space.weight[:, :, 0])
    x = normal(1, 2, 5, 6, 6).abs()
    assert torch.allclose(block(x), F.conv3d(x, kernel, block.time.bias, padding=1))
    assert not torch.allclose(block(-x), F.conv3d(-x, kernel, block.time.bias, padding=1))
    with pytest.raises(ValueError, match="odd and at least 3, got d = 3 and t = 2"):
        Conv2Plus1d(2, 3, t=2)


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_a_network_inflated_in_the_centre_is_the_same_network(frames):
    torch.manual_seed(0)
    flat = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=2, dilation=2))
    deep = nn.Sequential(inflate_conv(flat[0], frames), nn.ReLU(), inflate_conv(flat[2], frames))
    x = torch.randn(2, 3, 4, 9, 9)
    want = torch.stack([flat(frame) for frame in x.unbind(2)], dim=2)
    assert torch.allclose(deep(x), want, atol=1e-6)


def test_mean_inflation_gives_the_pictures_answer_except_at_the_ends():
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 3, 3, padding=1).double()
    deep, picture = inflate_conv(conv, 3, "mean"), normal(1, 2, 5, 5)
    out = deep(picture[:, :, None].expand(-1, -1, 6, -1, -1))
    assert deep.weight.dtype == torch.float64
    assert torch.allclose(out[:, :, 1:-1], conv(picture)[:, :, None].expand(-1, -1, 4, -1, -1))
    bias = conv.bias[:, None, None]
    for end in (0, -1):
        assert torch.allclose(out[:, :, end] - bias, 2 / 3 * (conv(picture) - bias))


def test_inflation_refuses_what_it_cannot_do():
    conv = nn.Conv2d(2, 2, 3, padding=1)
    with pytest.raises(ValueError, match="frames must be odd.* got 2"):
        inflate_conv(conv, 2)
    with pytest.raises(ValueError, match='"centre" or "mean", got \'edge\''):
        inflate_conv(conv, 3, "edge")
    for other in (nn.Conv2d(2, 2, 3, padding="same"), nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")):
        with pytest.raises(ValueError, match="expected zero padding"):
            inflate_conv(other, 3)


def test_frames_of_left_are_frames_of_right():
    """Why a per-frame network is at chance: with mirrored chances, one motion is the other played backwards."""
    sprites = MovingSprites(frames=8, size=16)
    for one, other in [(0, 1), (2, 3), (4, 5)]:
        forth, back = (
            sprites.paths(torch.full((5,), motion), torch.Generator().manual_seed(0)) for motion in (one, other)
        )
        for a, b in zip(forth, back):
            assert torch.allclose(a, b.flip(1) if a.shape[1] > 1 else b, atol=1e-6)


def test_the_recipe_for_the_judge_runs_and_is_recorded(tmp_path, monkeypatch, capsys):
    out = tmp_path / "video_classifier.pt"
    given = ["make_video_classifier", "--out", str(out), "--frames", "4", "--size", "16", "--short-steps", "1"]
    monkeypatch.setattr("sys.argv", [*given, "--steps", "1", "--batch", "4"])
    monkeypatch.setattr(make_video_classifier.accuracy, "__defaults__", (8, 4))
    make_video_classifier.main()
    assert "right on fresh clips" in capsys.readouterr().out
    entry = json.loads((tmp_path / "manifest.json").read_text())["video_classifier"]
    assert entry["command"].endswith("--frames 4 --size 16 --short-steps 1 --steps 1 --batch 4")
    assert set(entry["classifier_accuracy"]) == {"shape", "colour", "motion", "all"}
    assert isinstance(load_pretrained("video_classifier", tmp_path), AttributeClassifier)


def test_the_shipped_judge_is_right():
    classifier = load_pretrained("video_classifier")
    clips, attributes = MovingSprites(16, 32).sample(96, torch.Generator().manual_seed(11), split="all")
    with torch.no_grad():
        answers = torch.stack([logits.argmax(1) for logits in classifier(clips)], dim=1)
    assert (answers == attributes).float().mean(dim=0).min() > 0.95


@pytest.mark.parametrize("options", [
    dict(padding=2, dilation=2),
    dict(padding=(1, 2, 0), dilation=(1, 3, 2), stride=(1, 2, 1)),
    dict(padding=1, padding_mode="replicate"),
    dict(padding=(2, 1, 1), padding_mode="circular", stride=2),
    dict(padding=1, padding_mode="reflect", bias=False),
    dict(padding="same"),
    dict(padding="same", dilation=(2, 1, 3), padding_mode="reflect"),
    dict(padding="valid", dilation=2),
    dict(groups=2, padding=1),
    dict(groups=4, bias=False, dilation=2, padding="same", padding_mode="circular"),
    dict(dtype=torch.float32),
])  # fmt: skip
@pytest.mark.parametrize("kernel", [3, (1, 3, 2), (2, 1, 4)])
def test_the_layer_takes_every_option_of_pytorchs(options, kernel):
    torch.manual_seed(0)
    options = {"dtype": torch.float64, **options}
    ours, theirs = Conv3d(4, 8, kernel, **options), nn.Conv3d(4, 8, kernel, **options)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, 7, 8, 9, dtype=options["dtype"]).requires_grad_()
    same = x.detach().clone().requires_grad_()
    y, want = ours(x), theirs(same)
    assert y.dtype == want.dtype and y.shape == want.shape and torch.allclose(y, want, atol=1e-5)
    y.square().sum().backward(), want.square().sum().backward()
    for a, b in zip((x, *ours.parameters()), (same, *theirs.parameters())):
        assert torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("given", [-1, 1.5, (1, 1), "same", (1, 1, -1)])
def test_numbers_that_a_convolution_does_not_know(given):
    with pytest.raises(ValueError, match="expected one number, or three"):
        conv3d(torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 1, 2, 2, 2), padding=given)


def test_a_transposed_convolution_is_none_to_inflate():
    with pytest.raises(ValueError, match="nn.Conv2d, got ConvTranspose2d"):
        inflate_conv(nn.ConvTranspose2d(4, 4, 3), 3)


def test_numpys_whole_numbers_are_whole_numbers():
    x, weight = torch.randn(1, 2, 4, 5, 6), torch.randn(3, 2, 2, 2, 2)
    assert torch.equal(conv3d(x, weight, stride=np.int64(2)), conv3d(x, weight, stride=2))
