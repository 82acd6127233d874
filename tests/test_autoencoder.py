"""The autoencoder of latent diffusion: its Gaussian, its loss, its scale, and the same numbers as in `diffusers`."""

import math

import pytest
import torch
from torch import nn

from minivdm.models.autoencoder import Autoencoder, DiagonalGaussian, gaussian_kl, latent_scale, vae_loss
from tests.helpers import with_random_weights


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def moments(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed))


def test_the_kl_is_that_of_torch_and_of_a_million_draws():
    mean, logvar = moments(3, 2, 4, 3).double(), moments(3, 2, 4, 3, seed=1).double()
    got = gaussian_kl(mean, logvar)
    normal = torch.distributions.Normal
    given, prior = normal(mean, (logvar / 2).exp()), normal(torch.zeros_like(mean), torch.ones_like(mean))
    want = torch.distributions.kl_divergence(given, prior).sum(dim=(1, 2, 3))
    assert got.shape == (3,) and torch.allclose(got, want)
    torch.manual_seed(0)
    z = given.sample((20_000,))  # (N, 3, 2, 4, 3)
    ratio = (given.log_prob(z) - prior.log_prob(z)).sum(dim=(2, 3, 4))  # (N, 3)
    assert ((ratio.mean(0) - got).abs() < 4 * ratio.std(0) / len(z) ** 0.5).all()
    assert torch.equal(gaussian_kl(torch.zeros(2, 5), torch.zeros(2, 5)), torch.zeros(2))


def test_what_is_drawn_has_the_mean_and_the_variance_and_a_gradient():
    both = moments(1, 4, 3, 2).requires_grad_()
    given = DiagonalGaussian(both)
    many = DiagonalGaussian(both.expand(20_000, -1, -1, -1)).sample(seeded())
    assert torch.allclose(many.mean(0), given.mean[0], atol=0.1)
    assert torch.allclose(many.var(0).log(), given.logvar[0], atol=0.1)
    z = given.sample(seeded())
    assert torch.equal(z, given.sample(seeded())) and not torch.equal(z, given.sample(seeded(1)))
    slope = torch.autograd.grad(z.sum(), both)[0]
    assert torch.allclose(slope[:, :2], torch.ones(1, 2, 3, 2))
    assert torch.allclose(slope[:, 2:], (z - given.mean) / 2, atol=1e-6)
    assert torch.equal(given.mode(), both[:, :2])


@pytest.mark.parametrize("extreme", [-1e30, -100.0, 50.0, 1e30])
def test_no_variance_makes_anything_infinite(extreme):
    both = torch.cat([moments(2, 3, 4, 4), torch.full((2, 3, 4, 4), extreme)], dim=1)
    given = DiagonalGaussian(both)
    assert -30 <= given.logvar.min() and given.logvar.max() <= 20
    assert given.sample(seeded()).isfinite().all() and given.kl().isfinite().all()


def test_the_loss_adds_sums_so_its_weight_is_a_price_whatever_the_size():
    x, y, given = moments(3, 1, 4, 4), moments(3, 1, 4, 4, seed=1), DiagonalGaussian(moments(3, 4, 2, 2, seed=2))
    want = sum((a - b).square().sum() + 0.3 * kl for a, b, kl in zip(x, y, given.kl())) / 3
    assert vae_loss(x, y, given, 0.3) == pytest.approx(want.item())
    # four copies of each picture and of its latent, side by side: four times the loss, and the same best weights
    wide = DiagonalGaussian(torch.cat([given.mean, given.logvar], dim=1).repeat(1, 1, 2, 2))
    four = vae_loss(x.repeat(1, 1, 2, 2), y.repeat(1, 1, 2, 2), wide, 0.3)
    assert four.item() == pytest.approx(4 * want.item(), rel=1e-5)
    with pytest.raises(ValueError, match=r"of one shape, got \(3, 1, 4, 4\) and \(1, 1, 4, 4\)"):
        vae_loss(x, y[:1], given, 0.3)


@pytest.mark.parametrize(
    "settings, size, latent",
    [
        (dict(), 16, (4, 4, 4)),
        (dict(latent_channels=2, channels=8, mults=(1, 2, 2), patch=1), 24, (2, 6, 6)),
        (dict(latent_channels=3, channels=8, mults=(1,), patch=4, blocks=2, image_channels=1), 8, (3, 2, 2)),
    ],
)
def test_shapes_there_and_back(settings, size, latent):
    model = Autoencoder(**settings)
    x = moments(2, model.image_channels, size, size)
    decoded, given = model(x, seeded())
    assert decoded.shape == x.shape and given.mean.shape == given.logvar.shape == (2, *latent)
    vae_loss(x, decoded, given, 0.1).backward()
    assert all(p.grad is not None for p in model.parameters())
    alone = torch.cat([model.to_latents(x[i : i + 1]) for i in range(2)])
    assert torch.allclose(model.to_latents(x), alone, atol=1e-5)


def test_what_is_no_picture_and_no_latent_is_refused():
    model = Autoencoder(channels=8)
    with pytest.raises(ValueError, match=r"floats \(B, 3, H, W\), got torch.float32 of shape \(2, 1, 8, 8\)"):
        model.encode(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match="got torch.uint8"):
        model.encode(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"multiples of 4, got \(8, 10\)"):
        model.encode(torch.zeros(2, 3, 8, 10))
    with pytest.raises(ValueError, match=r"floats \(B, 4, h, w\), got torch.float32 of \(2, 3, 8, 8\)"):
        model.decode(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="at least one channel"):
        Autoencoder(latent_channels=0)


def test_the_scale_gives_latents_unit_variance_and_is_kept_with_the_weights():
    model, x = with_random_weights(Autoencoder(channels=8, latent_channels=2)), moments(40, 3, 16, 16)
    before = model.encode(x).mode().std(correction=0)
    assert model.scale == 1 and abs(before - 1) > 0.1
    model.measure_scale(x)
    assert model.scale.item() == pytest.approx(1 / before.item(), rel=1e-5)
    assert model.to_latents(x).std(correction=0).item() == pytest.approx(1, rel=1e-5)
    want = model.decode(model.encode(x).mode())
    assert torch.allclose(model.to_images(model.to_latents(x)), want, atol=1e-5)
    again = Autoencoder(channels=8, latent_channels=2)
    again.load_state_dict(model.state_dict())
    assert again.scale == model.scale
    for latents in (torch.ones(5, 2, 3, 3), torch.full((5, 2, 3, 3), math.nan)):
        with pytest.raises(ValueError, match="finite and differ"):
            latent_scale(latents)


# --- the same numbers as diffusers ---

PARTS = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "skip": "conv_shortcut"}


def places(theirs):
    """Our layers' places in their encoder and decoder, in the order of our `nn.Sequential`s; None: nothing to load."""
    encoder, decoder = theirs.encoder, theirs.decoder
    down = [encoder.conv_in]
    for block in encoder.down_blocks:
        down += [*block.resnets, *(layer.conv for layer in block.downsamplers or [])]
    up = [decoder.conv_in, *around(decoder)]
    for block in decoder.up_blocks:
        up += [*block.resnets, *(layer.conv for layer in block.upsamplers or [])]
    ends = [[part.conv_norm_out, None, part.conv_out] for part in (encoder, decoder)]
    return [None, *down, *around(encoder), *ends[0]], [*up, *ends[1], None]


def around(part):
    return [part.mid_block.resnets[0], part.mid_block.attentions[0], part.mid_block.resnets[1]]


def load(ours, theirs):
    """Weights of one of their layers into one of ours."""
    if hasattr(ours, "qkv"):
        rows = [torch.cat([getattr(getattr(theirs, f"to_{n}"), kind) for n in "qkv"]) for kind in ("weight", "bias")]
        ours.qkv.weight.copy_(rows[0][:, :, None, None])
        ours.qkv.bias.copy_(rows[1])
        ours.out.weight.copy_(theirs.to_out[0].weight[:, :, None, None])
        ours.out.bias.copy_(theirs.to_out[0].bias)
        ours.norm.load_state_dict(theirs.group_norm.state_dict())
    elif hasattr(ours, "conv1"):
        for mine, name in PARTS.items():
            if len(list(getattr(ours, mine).parameters())):
                getattr(ours, mine).load_state_dict(getattr(theirs, name).state_dict())
    else:
        getattr(ours, "conv", ours).load_state_dict(theirs.state_dict())


@pytest.mark.parametrize("blocks, widths", [(1, (16, 32)), (2, (16, 16, 32))])
def test_moments_and_pictures_are_those_of_diffusers(blocks, widths):
    """Theirs halves a map by windows that begin at each second pixel, ours by windows centred there: in a picture that
    is turned by 180 degrees, with kernels turned alike, the two are one."""
    diffusers = pytest.importorskip("diffusers")
    sizes = len(widths)
    theirs = diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * sizes,
        up_block_types=["UpDecoderBlock2D"] * sizes,
        block_out_channels=widths,
        layers_per_block=blocks,
        latent_channels=3,
        norm_num_groups=2,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()
    theirs = with_random_weights(theirs)
    mults = [width // widths[0] for width in widths]
    ours = Autoencoder(3, widths[0], mults, blocks, patch=1).eval()
    with torch.no_grad():
        for mine, others in zip((ours.encoder, ours.decoder), places(theirs)):
            assert len(mine) == len(others)
            for one, other in zip(mine, others):
                if other is not None:
                    load(one, other)
        for module in ours.modules():
            if isinstance(module, nn.GroupNorm):
                module.num_groups, module.eps = 2, 1e-6
        for module in ours.encoder.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_(module.weight.flip(2, 3))
        x = moments(2, 3, 16, 24)
        want = theirs.encode(x.flip(2, 3)).latent_dist
        got = ours.encode(x)
        assert (got.mean.flip(2, 3) - want.mean).abs().max() < 1e-5 * want.mean.abs().max().clamp(min=1)
        assert (got.logvar.flip(2, 3) - want.logvar).abs().max() < 1e-5 * want.logvar.abs().max().clamp(min=1)
        assert torch.allclose(gaussian_kl(want.mean, want.logvar), want.kl(), rtol=1e-5)
        z = moments(2, 3, 4, 6)
        want = theirs.decode(z).sample
        assert want.std() > 0.01 and (ours.decode(z) - want).abs().max() < 1e-5 * want.abs().max().clamp(min=1)
