"""The U-Net: shapes, what it starts as, and what it must not mix."""

import pytest
import torch

from minivdm.models.layers import Downsample, SelfAttention, Upsample
from minivdm.models.unet import Conditioned, Stage, UNet


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


def randomised(model):
    """New weights everywhere, also in the layers that start at zero."""
    torch.manual_seed(0)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return model.eval()


@pytest.mark.parametrize("blocks, mults", [(1, (1, 2)), (2, (1, 2, 2))])
def test_each_kept_map_goes_to_the_stage_of_its_own_size(blocks, mults):
    """Zeroing one kept map on its way changes what that map's partner is given, and no earlier stage."""
    model = randomised(UNet(channels=32, mults=mults, blocks=blocks))
    stages = [layer for layer in model.up if not isinstance(layer, Upsample)]
    makers = [model.stem, *model.down]
    assert len(stages) == len(makers)
    x, t = torch.randn(1, 1, 8, 8), torch.tensor([3])
    sizes, given = {}, {}
    for i, maker in enumerate(makers):
        maker.register_forward_hook(lambda m, args, out, i=i: sizes.update({i: tuple(out.shape[1:])}))
    for k, stage in enumerate(stages):
        stage.register_forward_hook(lambda m, args, out, k=k: given.update({k: args[0]}))
    model(x, t)
    for k in range(len(stages)):
        channels, *size = sizes[len(makers) - 1 - k]
        assert list(given[k].shape[2:]) == size and given[k].shape[1] > channels


def test_a_picture_passes_the_skips_when_the_bottom_is_cut_off():
    model = randomised(UNet(channels=32, mults=(1, 2), blocks=1))
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3, 4])
    model.middle.register_forward_hook(lambda m, args, out: torch.zeros_like(out))
    for layer in model.up:
        if isinstance(layer, Upsample):
            layer.register_forward_hook(lambda m, args, out: torch.zeros_like(out))
    out = model(x, t)
    assert (out[0] - out[1]).abs().max() > 0.01  # only the skips could tell the two pictures apart


def test_every_weight_learns():
    """Once the zero layers have left zero, a gradient reaches each parameter."""
    model = randomised(UNet(in_channels=3, channels=32, blocks=1, context_dim=8, patch=2)).train()
    out = model(torch.randn(2, 3, 8, 8), torch.tensor([1, 9]), torch.randn(2, 5, 8))
    out.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_the_names_of_the_weights_stay():
    """Checkpoints are read by these names."""
    names = {name.split(".")[0] for name in UNet(channels=32, context_dim=8).state_dict()}
    assert names == {"embed", "summary", "stem", "down", "middle", "up", "norm", "head"}
    assert [type(layer) for layer in UNet(channels=32, blocks=1).down][1] is Downsample
    model = UNet(channels=32, blocks=1)
    assert {"middle.block.emb.weight", "middle.attention.qkv.weight", "down.1.conv.bias"} <= set(model.state_dict())


@pytest.mark.parametrize("attention", [(2,), (-1,), (0, 5)])
def test_attention_at_a_resolution_that_there_is_not(attention):
    with pytest.raises(ValueError, match=r"attention must name resolutions in 0\.\.1, got"):
        UNet(channels=32, attention=attention)


def test_by_default_the_second_resolution_attends():
    attends = [
        [isinstance(s.attention, SelfAttention) for s in UNet(1, 32, (1,) * n, 1).down if isinstance(s, Stage)]
        for n in (1, 2, 3)
    ]
    assert attends == [[False], [False, True], [False, True, False]]


def test_bytes_and_one_level_for_all_are_refused():
    net, x = UNet(channels=32), torch.zeros(3, 1, 8, 8)
    with pytest.raises(ValueError, match=r"expected floats and one level for each of 3 pictures, got torch.uint8"):
        net(x.byte(), torch.ones(3).long())
    for t in (torch.ones(1).long(), torch.tensor(4)):
        with pytest.raises(ValueError, match="expected floats and one level for each of 3 pictures"):
            net(x, t)


def test_resolutions_may_come_from_a_generator():
    attending = [
        sum(isinstance(m, SelfAttention) for m in UNet(1, 32, (1, 2), 1, each).modules()) for each in ((1,), iter((1,)))
    ]
    assert attending == [4, 4]


def test_an_image_network_takes_neither_clips_nor_an_empty_condition():
    t = torch.ones(2).long()
    for shape in ((2, 1, 4, 8, 8), (2, 8, 8)):
        with pytest.raises(ValueError, match="pictures \\(B, C, H, W\\), got shape"):
            UNet(1, 32, (1, 2), 1)(torch.zeros(shape), t)
    with pytest.raises(ValueError, match=r"got \(2, 0, 8\)"):  # its mean would be NaN
        UNet(1, 32, (1, 2), 1, context_dim=8)(torch.zeros(2, 1, 8, 8), t, torch.zeros(2, 0, 8))
