"""The video network: layers along time, an image U-Net between them, and what `independent_frames` must not see."""

import pytest
import torch
from torch.nn import functional as F

from minivdm.diffusion.guidance import ClassifierFreeGuidance, drop_condition
from minivdm.models.conv3d import inflate_conv
from minivdm.models.unet import UNet
from minivdm.models.unet3d import TemporalAttention, TemporalConv, UNet3D, inflate
from minivdm.pipelines.text2video import build_text2video
from tests.helpers import with_random_weights


def picture_net(**changes):
    return with_random_weights(
        UNet(**{"in_channels": 3, "channels": 32, "mults": (1, 2), "blocks": 1, "context_dim": 8, **changes})
    )


def clips(frames=4, size=8):
    return torch.randn(2, 3, frames, size, size), torch.tensor([3, 700]), torch.randn(2, 5, 8)


@torch.no_grad()
def moved_frames(model, x, t, cond, j, independent_frames=None):
    """How far each frame of the output moves when frame j of the input changes, (F,)."""
    changed = x.clone()
    changed[:, :, j] += 1
    return (
        (model(changed, t, cond, independent_frames) - model(x, t, cond, independent_frames))
        .abs()
        .amax(dim=(0, 1, 3, 4))
    )


@pytest.mark.parametrize("patch", [1, 2])
def test_an_inflated_model_is_the_image_model_on_each_frame(patch):
    image = picture_net(patch=patch).eval()
    model, (x, t, cond) = inflate(image), clips()
    with torch.no_grad():
        frames = torch.stack([image(frame, t, cond) for frame in x.unbind(2)], dim=2)
        assert torch.allclose(model(x, t, cond), frames, atol=1e-5) and frames.std() > 0.01
    moved = moved_frames(model, x, t, cond, 2)
    assert moved[2] > 0.01 and moved[[0, 1, 3]].max() < 1e-5
    assert moved_frames(with_random_weights(model), x, t, cond, 2).min() > 1e-4, (
        "once trained, every frame sees every other"
    )


def test_inflation_copies():
    image = picture_net().train()
    before = [p.clone() for p in image.parameters()]
    model = inflate(image)
    assert model.training and not inflate(image.eval()).training
    with_random_weights(model, seed=1)
    assert all(torch.equal(p, q) for p, q in zip(before, image.parameters()))
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in model.parameters() if p.ndim == 4)


@pytest.mark.parametrize("given", [{"dtype": torch.float64}, {"dtype": torch.bfloat16}, {"device": "meta"}])
def test_the_layers_along_time_are_where_the_image_model_is(given):
    image = picture_net().to(**given)
    for model in (inflate(image), UNet3D(image)):
        assert {(p.dtype, p.device) for p in model.parameters()} == {(p.dtype, p.device) for p in image.parameters()}
        x, t, cond = (value.to(given.get("device")) for value in clips())
        out = model(x.to(given.get("dtype")), t, cond.to(given.get("dtype")))
        assert (out.dtype, out.device.type) == (given.get("dtype", x.dtype), x.device.type)


def test_attention_stands_where_it_was_asked_for():
    for attention in ((), (0,), (1,), (0, 1)):
        model = UNet3D(UNet(3, 32, (1, 2), 2), attention)
        attends = [after and after.attention is not None for after in (*model.down, *model.up)]
        fine, coarse = 0 in attention, 1 in attention
        assert attends == [fine, fine, None, coarse, coarse, coarse, coarse, coarse, None, fine, fine, fine]
        assert model.middle.attention is not None


def test_untrained_output_is_zero_and_all_parameters_learn():
    model, (x, t, cond) = UNet3D(UNet(3, 32, (1, 2), 1, context_dim=8)), clips()
    assert model(x, t, cond).abs().max() == 0
    with_random_weights(model)(x, t, cond).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_bad_input():
    model, (x, t, cond) = UNet3D(picture_net()), clips()
    with pytest.raises(ValueError, match=r"clips \(B, C, F, H, W\), got shape \(2, 3, 8, 8\)"):
        model(x[:, :, 0], t, cond)
    with pytest.raises(ValueError, match="multiples of 2, got"):
        model(torch.randn(2, 3, 4, 9, 8), t, cond)
    with pytest.raises(ValueError, match="expected a condition of shape"):
        model(x, t)
    with pytest.raises(ValueError, match="multiple of head_dim = 32, got 40"):
        TemporalAttention(40)


def test_temporal_convolution_is_a_convolution_over_time():
    layer, x = with_random_weights(TemporalConv(8)), torch.randn(2, 8, 5, 4, 6)
    expected = F.conv3d(x, layer.conv.weight[..., None], layer.conv.bias, padding=(1, 0, 0))
    for memory in (torch.contiguous_format, torch.channels_last):
        flat = x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=memory)
        got = layer(flat, 5).unflatten(0, (2, 5)).transpose(1, 2)
        assert torch.allclose(got, expected, atol=1e-5)


def test_in_channels_last_memory_nothing_is_copied():
    """Frames and (frame, place) maps are views of the same bytes, on the way in and on the way out."""
    layer, seen = TemporalConv(8), {}
    layer.conv.register_forward_hook(lambda module, inputs, output: seen.update(inside=inputs[0], made=output))
    x = torch.randn(10, 8, 4, 6).contiguous(memory_format=torch.channels_last)
    out = layer(x, 5)
    assert seen["inside"].data_ptr() == x.data_ptr() and seen["inside"].shape == (2, 8, 5, 24)
    assert out.data_ptr() == seen["made"].data_ptr() and out.is_contiguous(memory_format=torch.channels_last)


def test_a_convolution_of_pictures_on_frames_is_one_of_1x3x3():
    conv, x = torch.nn.Conv2d(3, 6, 3, padding=1), torch.randn(2, 3, 4, 8, 8)
    frames = conv(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 4)).transpose(1, 2)
    assert torch.allclose(inflate_conv(conv, frames=1)(x), frames, atol=1e-5)


def test_temporal_attention_knows_the_order_of_frames():
    layer, x = with_random_weights(TemporalAttention(32)), torch.randn(5, 32, 2, 2)
    backwards = layer(x.flip(0), 5).flip(0)
    assert (backwards - layer(x, 5)).abs().max() > 1e-2
    assert torch.equal(TemporalAttention(32)(x, 5), x), "it starts as the identity"


def test_temporal_attention_takes_more_rows_than_fused_kernels_do():
    device = "cuda" if torch.cuda.is_available() else "cpu"
    layer = with_random_weights(TemporalAttention(32)).to(device)
    x = torch.randn(2, 32, 512, 256, device=device, requires_grad=True)  # 131,072 rows of 2 frames
    layer(x, 2).sum().backward()
    assert x.grad.isfinite().all()


def test_stills_are_pictures_processed_alone():
    model, (x, t, cond) = with_random_weights(UNet3D(picture_net())).eval(), clips()
    independent_frames = torch.tensor([False, True])
    with torch.no_grad():
        both = model(x, t, cond, independent_frames)
        alone = [model(frame[1:, :, None], t[1:], cond[1:]) for frame in x.unbind(2)]
        assert torch.allclose(both[1:], torch.cat(alone, dim=2), atol=1e-5)
        assert torch.allclose(both[:1], model(x[:1], t[:1], cond[:1]), atol=1e-5)
        assert not torch.allclose(both[1:], model(x, t, cond)[1:], atol=1e-3)
    moved = moved_frames(model, x[1:], t[1:], cond[1:], 2, independent_frames[1:])
    assert moved[2] > 0.01 and moved[[0, 1, 3]].max() == 0


def test_each_frame_may_have_a_condition():
    model, (x, t, cond) = with_random_weights(UNet3D(picture_net())).eval(), clips()
    each = torch.randn(2, 4, 5, 8)
    independent_frames = torch.tensor([True, True])
    with torch.no_grad():
        same = model(x, t, cond[:, None].expand(-1, 4, -1, -1))
        assert torch.allclose(same, model(x, t, cond), atol=1e-6)
        got = model(x, t, each, independent_frames)
        want = [model(x[:, :, f : f + 1], t, each[:, f]) for f in range(4)]
        assert torch.allclose(got, torch.cat(want, dim=2), atol=1e-5)


def test_joint_training_is_training_on_both():
    """The gradient of one batch of clips and stills is the mean of the two gradients."""
    model, (x, t, cond) = with_random_weights(UNet3D(picture_net())), clips()
    target = torch.randn_like(x)

    def gradient(rows, independent_frames):
        loss = (model(x[rows], t[rows], cond[rows], independent_frames) - target[rows]).square().mean()
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])

    both = gradient([0, 1], torch.tensor([False, True]))
    clip, stills = gradient([0], None), gradient([1], torch.tensor([True]))
    assert torch.allclose(both, (clip + stills) / 2, rtol=1e-3, atol=1e-5 * both.abs().max())


def test_one_doubled_call_is_two_calls():
    model, sizes = with_random_weights(build_text2video(channels=32, mults=(1,), frames=4, size=8)).eval(), []

    def counted(x, t, cond):
        sizes.append(len(x))
        return model(x, t, cond)

    x, t, cond = torch.randn(2, 3, 4, 8, 8), torch.tensor([3, 700]), torch.randint(1, 30, (2, 12))
    with torch.no_grad():
        eps_u, eps_c = model(x, t, None), model(x, t, cond)
        for scale in (0, 1, 4.0):
            got = ClassifierFreeGuidance(counted, scale)(x, t, cond)
            assert torch.allclose(got, eps_u + scale * (eps_c - eps_u), atol=1e-4)
    assert sizes == [4, 2, 4]


def test_conditions_are_dropped_per_sample():
    tokens = torch.randint(1, 30, (20_000, 4))
    dropped = drop_condition(tokens, 0.1, torch.Generator().manual_seed(0))
    gone = (dropped == 0).all(dim=1)
    assert torch.equal(dropped[~gone], tokens[~gone]) and abs(gone.float().mean() - 0.1) < 0.01
    assert torch.equal(drop_condition(tokens, 0.0), tokens) and (drop_condition(tokens, 1.0) == 0).all()


def test_layers_along_time_attend_at_resolutions_that_there_are():
    attending = [
        sum(isinstance(m, TemporalAttention) for m in UNet3D(picture_net(), each).modules())
        for each in ((1,), iter((1,)))
    ]
    assert attending[0] == attending[1] > 1
    for attention in ((2,), (-1,)):
        with pytest.raises(ValueError, match="resolutions in 0..1"):
            UNet3D(picture_net(), attention)


@pytest.mark.parametrize("shape", [(4, 2, 5, 8), (1, 8, 5, 8)])
def test_conditions_of_frames_in_another_order_are_refused(shape):
    model = UNet3D(UNet(3, 32, (1, 2), 1, context_dim=8))
    with pytest.raises(ValueError, match="expected a condition of shape"):
        model(torch.zeros(2, 3, 4, 8, 8), torch.ones(2).long(), torch.zeros(shape))
