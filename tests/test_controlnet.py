"""ControlNet: nothing at first and yet learning, a locked base, hints that add up, the same numbers as diffusers."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from minivdm.evaluation.soundness import control_faults
from minivdm.models import controlnet
from minivdm.models.controlnet import ControlledUNet, ControlNet, control_for, trainable_copy, zero_conv_gradients
from minivdm.models.unet import UNet
from minivdm.models.unet3d import UNet3D


def disturbed(module, std=0.1):
    """The module with random weights everywhere, also where it starts at zero: as if it were trained."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(std * torch.randn(parameter.shape))
    return module


def a_case(video=False, patch=2, mults=(1, 2)):
    """A base as if it were trained, its inputs, and a function that makes a hint of one or more channels."""
    torch.manual_seed(0)
    base = UNet(3, 32, mults, 1, context_dim=8, patch=patch)
    base = UNet3D(base) if video else base
    space = (4, 8, 8) if video else (8, 12)
    inputs = torch.randn(2, 3, *space), torch.tensor([3, 700]), torch.randn(2, 5, 8)
    return disturbed(base).eval(), inputs, lambda channels=1: torch.rand(2, channels, *space)


CASES = pytest.mark.parametrize("video", [False, True], ids=["pictures", "clips"])


@CASES
@pytest.mark.parametrize("channels", [1, 2])
def test_a_new_one_changes_no_bit_and_yet_its_zero_convolutions_get_a_gradient(video, channels):
    base, inputs, hint = a_case(video)
    want = base(*inputs)
    control = control_for(base, channels)
    out = ControlledUNet(base, control)(*inputs, [hint(channels)])
    assert torch.equal(out, want)
    out.square().mean().backward()
    for name, parameter in control.named_parameters():
        zero = not parameter.grad.any() if parameter.grad is not None else True
        assert zero != name.startswith(("skips", "middle")), name  # behind a zero there is no gradient yet
    assert all(parameter.grad is None for parameter in base.parameters())


@CASES
def test_in_three_steps_all_of_it_learns_and_the_base_keeps_every_bit(video):
    base, inputs, hint = a_case(video)
    before, control = copy.deepcopy(base.state_dict()), control_for(base)
    net, given, moved = ControlledUNet(base, control), hint(), []
    optimizer, target = torch.optim.SGD(control.parameters(), lr=0.1), torch.randn(inputs[0].shape)
    for _ in range(3):
        old = copy.deepcopy(control.state_dict())
        optimizer.zero_grad()
        (net(*inputs, [given]) - target).square().mean().backward()
        optimizer.step()
        moved.append({name for name, value in control.state_dict().items() if not torch.equal(value, old[name])})
    assert {name.split(".")[0] for name in moved[0]} == {"skips", "middle"}
    assert {"encoder", "hint"} <= {name.split(".")[0] for name in moved[1]}
    assert not any(name.startswith("hint.layers") for name in moved[1]) and "hint.out.weight" in moved[1]
    assert "hint.layers.0.weight" in moved[2]
    assert not any(parameter.requires_grad for parameter in base.parameters())
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())


@CASES
def test_the_copy_starts_with_the_weights_of_the_base_and_shares_none(video):
    base, _, _ = a_case(video)
    base.requires_grad_(False)
    encoder, weights = trainable_copy(base), base.state_dict()
    assert encoder.state_dict() and all(p.requires_grad for p in encoder.parameters()) and not encoder.training
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, weights[name]) and value.data_ptr() != weights[name].data_ptr()
    left_out = {name for name in weights if name not in encoder.state_dict()}
    assert {re.sub(r"^image\.", "", name).split(".")[0] for name in left_out} == {"up", "norm", "head"}
    assert not any(p.requires_grad for p in base.parameters()) and hasattr(base, "up")


@CASES
def test_strengths_scale_and_two_hints_add_up(video):
    base, inputs, hint = a_case(video)
    one, two = (disturbed(control_for(base, channels)) for channels in (1, 3))
    hints, both = [hint(1), hint(3)], ControlledUNet(base, one, two)
    want = base(*inputs)
    assert torch.equal(both(*inputs, hints, [0, 0]), want)
    assert torch.equal(both(*inputs, hints, [1, 0]), ControlledUNet(base, one)(*inputs, hints[:1]))
    assert not torch.allclose(both(*inputs, hints), want, atol=1e-2)
    (skips, middle), (more, deep) = one(*inputs, hints[0]), two(*inputs, hints[1])
    with controlnet.adding(base, [0.5 * a + 2 * b for a, b in zip(skips, more)], 0.5 * middle + 2 * deep):
        summed = base(*inputs)
    assert torch.allclose(both(*inputs, hints, [0.5, 2]), summed, atol=1e-4)
    assert torch.equal(base(*inputs), want), "nothing stays behind in the base"
    assert not base._forward_hooks and not any(layer._forward_pre_hooks for layer in base.modules())


@CASES
def test_without_its_hint_it_would_be_the_base_again_and_each_sample_has_its_own(video):
    base, inputs, hint = a_case(video)
    net, given = ControlledUNet(base, disturbed(control_for(base))), hint()
    out, other = net(*inputs, [given]), net(*inputs, [torch.cat([given[:1], 1 - given[1:]])])
    assert torch.equal(out[0], other[0]) and not torch.allclose(out[1], other[1], atol=1e-3)


def test_a_video_control_net_without_layers_along_time_is_that_of_each_frame():
    """As new, the temporal layers are the identity, so each frame gets what its picture would."""
    torch.manual_seed(0)
    image = disturbed(UNet(3, 32, (1, 2), 1, (1,), context_dim=8, patch=2)).eval()
    x, t, cond, hint = (
        torch.randn(2, 3, 4, 8, 8),
        torch.tensor([5, 90]),
        torch.randn(2, 5, 8),
        torch.rand(2, 1, 4, 8, 8),
    )
    one = disturbed(ControlNet(image))
    clips = control_for(UNet3D(copy.deepcopy(image)))
    missing = clips.load_state_dict(
        {n.replace("encoder.", "encoder.image."): v for n, v in one.state_dict().items()}, False
    )
    assert not missing.unexpected_keys
    skips, middle = clips(x, t, cond, hint)
    for frame in range(4):
        want, deep = one(x[:, :, frame], t, cond, hint[:, :, frame])
        for got, expected in zip([*skips, middle], [*want, deep], strict=True):
            assert torch.allclose(got.unflatten(0, (2, 4))[:, frame], expected, atol=1e-5)


def test_somebody_elses_forward_runs_in_the_base(monkeypatch):
    base, inputs, hint = a_case()
    net, given, calls = ControlledUNet(base, disturbed(ControlNet(base))), hint(), []
    want, original = net(*inputs, [given]), UNet.forward
    monkeypatch.setattr(UNet, "forward", lambda self, *args: calls.append(1) or original(self, *args))
    assert torch.equal(net(*inputs, [given]), want) and calls == [1]


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_the_hint_encoder_shrinks_as_the_stem_does(patch):
    base, (x, t, cond), _ = a_case(patch=patch)
    x = torch.randn(2, 3, 16, 24)
    control = disturbed(ControlNet(base))
    skips, _ = control(x, t, cond, torch.rand(2, 1, 16, 24))
    assert skips[0].shape[2:] == (16 // patch, 24 // patch)


def test_what_a_zero_convolution_hands_back():
    x, upstream, conv = torch.randn(3, 5, 2, 4), torch.randn(3, 6, 2, 4), nn.Conv2d(5, 6, 1)
    for weight in (conv.weight.detach().clone(), torch.zeros_like(conv.weight)):
        conv.weight.data = weight
        given = x.clone().requires_grad_()
        want = torch.autograd.grad(conv(given), (conv.weight, conv.bias, given), upstream)
        got = zero_conv_gradients(x, weight[:, :, 0, 0], upstream)
        assert torch.allclose(got[0], want[0][:, :, 0, 0], atol=1e-5)
        assert torch.allclose(got[1], want[1], atol=1e-5) and torch.allclose(got[2], want[2], atol=1e-5)


def test_a_zero_behind_a_zero_never_learns():
    """ControlNet issues 510 and 540: the hint's weights stay at zero for ever, while the loss goes on falling."""
    base, inputs, hint = a_case()
    control = ControlNet(base)
    control.hint.out = nn.Sequential(control.hint.out, controlnet.zero_conv(32))
    net, optimizer = ControlledUNet(base, control), torch.optim.SGD(control.parameters(), lr=0.1)
    target, given, losses = torch.randn(inputs[0].shape), hint(), []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append((net(*inputs, [given]) - target).square().mean())
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    # the bias of the last one moves, since it has no zero before it: a shift that is the same for every hint
    assert not any(layer.weight.any() for layer in control.hint.out)
    assert torch.equal(net(*inputs, [given]), net(*inputs, [1 - given]))


def test_the_test_for_faults_finds_each_of_them_and_nothing_else():
    def made(spoil=lambda net: None):
        base, inputs, hint = a_case()
        net = ControlledUNet(base, ControlNet(base))
        spoil(net)
        return control_faults(net, *inputs, hint())

    assert made() == set()
    assert made(lambda net: net.base.requires_grad_(True)) == {"base"}
    assert made(lambda net: disturbed(net.controls[0].encoder)) == {"copy"}
    assert "copy" in made(lambda net: setattr(net.controls[0], "encoder", net.base))
    assert made(lambda net: nn.init.ones_(net.controls[0].middle.bias)) == {"start"}

    def two_zeros(net):
        net.controls[0].hint.out = nn.Sequential(net.controls[0].hint.out, controlnet.zero_conv(32))

    assert made(two_zeros) == {"hint"}


def test_what_does_not_fit_is_refused():
    base, inputs, hint = a_case()
    net = ControlledUNet(base, ControlNet(base))
    with pytest.raises(ValueError, match=r"expected a hint of shape \(2, 1, 8, 12\)"):
        net(*inputs, [hint(3)])
    with pytest.raises(ValueError, match="expected a hint and a strength for each of 1 ControlNets, got 2 hints"):
        net(*inputs, [hint(), hint()])
    with pytest.raises(ValueError, match="float64"):
        net(*inputs, [hint().double()])
    with pytest.raises(ValueError, match="each of 4 maps, got 1"), controlnet.adding(base, [torch.zeros(1)], 0):
        pass


# Beside the `diffusers` library: all of its ControlNetModel that our architecture has (residual blocks with the level's
# scale and shift, a middle of one block, text left out), and what it adds to a whole U-Net.

TABLE = {
    r"^(encoder\.)?embed\.0": "time_embedding.linear_1",
    r"^(encoder\.)?embed\.2": "time_embedding.linear_2",
    r"^(encoder\.)?stem\.1": "conv_in",
    r"^(encoder\.)?down\.0\.block": "down_blocks.0.resnets.0",
    r"^(encoder\.)?down\.1\.conv": "down_blocks.0.downsamplers.0.conv",
    r"^(encoder\.)?down\.2\.block": "down_blocks.1.resnets.0",
    r"^(encoder\.)?middle\.block": "mid_block.resnets.0",
    r"^skips": "controlnet_down_blocks",
    r"^middle\.(?=weight|bias)": "controlnet_mid_block.",
    r"^hint\.layers\.0": "controlnet_cond_embedding.conv_in",
    r"^hint\.layers\.2": "controlnet_cond_embedding.blocks.0",
    r"^hint\.layers\.4": "controlnet_cond_embedding.blocks.1",
    r"^hint\.out": "controlnet_cond_embedding.conv_out",
    r"^up\.([01])\.block": r"up_blocks.0.resnets.\1",
    r"^up\.2\.conv": "up_blocks.0.upsamplers.0.conv",
    r"^up\.3\.block": "up_blocks.1.resnets.0",
    r"^up\.4\.block": "up_blocks.1.resnets.1",
    r"^norm": "conv_norm_out",
    r"^head\.1": "conv_out",
    r"\.emb\.": ".time_emb_proj.",
    r"\.skip\.": ".conv_shortcut.",
}


def load_theirs(ours, theirs):
    """Copy their weights into ours by the table; all of theirs are used, and of ours only the attention is left."""
    weights, named = theirs.state_dict(), {}
    for name in ours.state_dict():
        other = name
        for pattern, replacement in TABLE.items():
            other = re.sub(pattern, replacement, other)
        named[other] = name
    assert set(weights) <= set(named)
    left = {name for other, name in named.items() if other not in weights}
    assert all("middle.attention" in name for name in left)
    ours.load_state_dict({named[other]: value for other, value in weights.items()}, strict=False)


def test_diffusers_control_net_model_gives_the_same_numbers():
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    settings = dict(
        in_channels=12,  # 3 x 2^2: our stem takes squares of 2 x 2 pixels as one
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2D",
        layers_per_block=1,
        norm_num_groups=4,
        norm_eps=1e-5,
        resnet_time_scale_shift="scale_shift",
        flip_sin_to_cos=True,
        freq_shift=0,
        cross_attention_dim=8,
    )
    embedding = dict(conditioning_embedding_out_channels=(16, 32), conditioning_channels=2)
    their_control = disturbed(diffusers.ControlNetModel(**settings, **embedding)).eval()
    up = dict(out_channels=12, up_block_types=("UpBlock2D", "UpBlock2D"))
    their_base = disturbed(diffusers.UNet2DConditionModel(**settings, **up)).eval()

    base = UNet(3, 32, (1, 1), 1, attention=(), patch=2).eval()
    control = ControlNet(base, 2).eval()
    load_theirs(base, their_base)
    load_theirs(control, their_control)
    for i in (0, 1, 3, 4):
        base.up[i].block.norm1.num_groups = 4  # theirs has as many for 64 channels as for 32

    x, t, hint = torch.randn(2, 3, 16, 24), torch.tensor([3, 700]), torch.rand(2, 2, 16, 24)
    small, text = F.pixel_unshuffle(x, 2), torch.zeros(2, 1, 8)
    for strength in (1.0, 0.5):
        with torch.no_grad():
            added = their_control(small, t, text, hint, conditioning_scale=strength)
            skips, middle = control(x, t, None, hint)
            for ours, theirs in zip([*skips, middle], [*added[0], added[1]], strict=True):
                assert ours.abs().max() > 0.1 and torch.allclose(strength * ours, theirs, atol=1e-5)
            residuals = dict(down_block_additional_residuals=added[0], mid_block_additional_residual=added[1])
            want = F.pixel_shuffle(their_base(small, t, text, **residuals).sample, 2)
            got = ControlledUNet(base, control)(x, t, None, [hint], [strength])
        assert (want - base(x, t)).abs().max() > 0.01 and torch.allclose(got, want, atol=1e-5)
