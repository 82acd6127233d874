r"""The autoencoder of latent diffusion: pictures become small maps of numbers, the latents, and pictures again.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, with the networks of Rombach et al., "High-Resolution
Image Synthesis with Latent Diffusion Models", CVPR 2022.

    x  --encoder-->  mean, logvar  --draw-->  z  --decoder-->  x'          loss = |x - x'|^2 + kl_weight KL

Each number of z is drawn from a Gaussian of its own. The first term pays for what z loses, the second for what z says:
the KL divergence from N(0, I), in nats, is the rate of the code.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Downsample, SelfAttention, Upsample, norm, zero_module

LOGVAR = -30.0, 20.0  # beyond these, exp(logvar) is of no use in float32


def gaussian_kl(mean: Tensor, logvar: Tensor) -> Tensor:
    r"""How far Gaussians with independent elements are from N(0, I): the KL divergence, in nats.

    Kingma and Welling, ICLR 2014, appendix B. The one number of a sample is 0 where its Gaussian is
    N(0, I) itself, and larger everywhere else. It is the rate of the code: the price of saying
    which z was meant to somebody who knows no more than N(0, I).

    Equation:
        KL( N(mean, exp(logvar)) || N(0, I) )
            = 1/2 sum_i ( mean_i^2 + exp(logvar_i) - 1 - logvar_i )       over all i of a sample

    Args:
        mean, logvar: (B, ...) means and logarithms of the variances, one pair per element.

    Returns:
        (B,) nats, the sum over a sample's elements.
    """
    each = (mean.square() + logvar.exp() - 1 - logvar) / 2  # (B, ...)
    return each.flatten(1).sum(dim=1)  # (B,)


class DiagonalGaussian:
    r"""A Gaussian for each sample, whose elements are independent: what the encoder says about z.

    Args:
        moments: (B, 2 C, H, W), an encoder's output: first the C channels of the means, then those
            of the logarithms of the variances.

    Attributes:
        mean: (B, C, H, W).
        logvar: (B, C, H, W), clamped to `LOGVAR`, so that no network can make exp(logvar) infinite.
    """

    def __init__(self, moments: Tensor):
        self.mean, logvar = moments.chunk(2, dim=1)
        self.logvar = logvar.clamp(*LOGVAR)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw z, so that whoever trains can follow it: gradients reach the mean and the variance.

        Equation:
            z = mean + exp(logvar / 2) noise,          noise ~ N(0, I), a number for each element

        Args:
            generator: `torch.Generator` for the noise, on the moments' device.

        Returns:
            (B, C, H, W), a tensor like the mean.
        """
        like = dict(device=self.mean.device, dtype=self.mean.dtype)
        noise = torch.randn(self.mean.shape, generator=generator, **like)  # (B, C, H, W)
        return self.mean + (self.logvar / 2).exp() * noise

    def mode(self) -> Tensor:
        """The likeliest z, the mean: (B, C, H, W)."""
        return self.mean

    def kl(self) -> Tensor:
        """The KL divergence from N(0, I) of each sample: (B,) nats."""
        return gaussian_kl(self.mean, self.logvar)


def vae_loss(
    images: Tensor,
    decoded: Tensor,
    posterior: "DiagonalGaussian",
    kl_weight: float,
) -> Tensor:
    r"""What a picture loses, plus the price of what its latent says.

    For a decoder that says N(x', s^2 I), and at kl_weight = 2 s^2, it is minus the bound (ELBO) on
    the log-likelihood of one picture, times 2 s^2 and up to a constant (Higgins et al., ICLR 2017,
    for other weights). So `kl_weight` is a price, and a nat costs the same whatever the sizes of
    pictures and latents are.

    Equation:
        loss = 1/B sum_b ( |x_b - x'_b|^2 + kl_weight KL_b ),       both summed over a picture

    Args:
        images, decoded: (B, C, H, W), x and x'.
        posterior: the `DiagonalGaussian` from which the decoded latents were drawn.
        kl_weight: squared error that one nat may cost.

    Returns:
        A scalar tensor.

    Raises:
        ValueError: if the two shapes differ.
    """
    if images.shape != decoded.shape:
        came = f"{tuple(images.shape)} and {tuple(decoded.shape)}"
        raise ValueError(f"expected pictures and decoded pictures of one shape, got {came}")
    distortion = (images - decoded).square().flatten(1).sum(dim=1)  # (B,)
    return (distortion + kl_weight * posterior.kl()).mean()


@torch.no_grad()
def latent_scale(latents: Tensor) -> Tensor:
    """The factor that gives latents unit variance, as the noise has.

    Rombach et al., CVPR 2022, appendix G.

    The levels of a noise schedule say how much noise stands beside data of variance 1. Latents
    whose standard deviation is 10 would still be plain to see at a level meant to hide them; those
    whose is 0.1 would be gone at once.

    Equation:
        scale = 1 / std,        over all numbers of all latents together

    Args:
        latents: (N, C, H, W) latents as an encoder makes them, of many pictures.

    Returns:
        A scalar tensor: one factor for all numbers of all latents.

    Raises:
        ValueError: if they all agree, or one is not finite.
    """
    std = latents.std(correction=0)
    if not 0 < std < torch.inf:
        raise ValueError(f"latents must be finite and differ; got the standard deviation {std:.4g}")
    return 1 / std


class PlainResBlock(nn.Module):
    """The residual block of chapter 04 without a level.

    out = skip(x) + conv2( silu( norm2( conv1( silu( norm1(x) ) ) ) ) )     conv2 starts at zero
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.norm1 = norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = norm(out_channels)
        self.conv2 = zero_module(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x is (B, in_channels, H, W); returns (B, out_channels, H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


def middle(width: int) -> list[nn.Module]:
    """Two residual blocks around one attention of a single head, at the lowest resolution."""
    attention = SelfAttention(width, head_dim=width)
    return [PlainResBlock(width, width), attention, PlainResBlock(width, width)]


class Autoencoder(nn.Module):
    r"""Pictures (B, 3, H, W) to latents (B, C, H / f, W / f) and back, f = patch 2^(sizes - 1).

    Args:
        latent_channels: C.
        channels: channels at the highest resolution inside.
        mults: one factor per resolution; each further one halves height and width.
        blocks: residual blocks per resolution on the way down; one more on the way up.
        patch: patch x patch squares of pixels enter and leave as one position, as in `UNet`.
        image_channels: 3, or 1 for grey pictures.

    Attributes:
        encoder: from pictures to moments (B, 2 C, H / f, W / f).
        decoder: from latents to pictures.
        shrink: f.
        scale: `latent_scale`, set by `measure_scale`; 1 before. It is kept with the weights.
    """

    def __init__(
        self,
        latent_channels: int = 4,
        channels: int = 32,
        mults: "Sequence[int]" = (1, 2),
        blocks: int = 1,
        patch: int = 2,
        image_channels: int = 3,
    ):
        super().__init__()
        if min(latent_channels, channels, blocks, patch, image_channels, len(mults)) < 1:
            raise ValueError("expected at least one channel, block, pixel and resolution")
        self.latent_channels, self.image_channels = latent_channels, image_channels
        self.shrink = patch * 2 ** (len(mults) - 1)
        widths, pixels = [channels * mult for mult in mults], image_channels * patch**2

        width, stem = channels, nn.Conv2d(pixels, channels, 3, padding=1)
        down: list[nn.Module] = [nn.PixelUnshuffle(patch), stem]
        for i, wider in enumerate(widths):
            for _ in range(blocks):
                down.append(PlainResBlock(width, wider))
                width = wider
            if i < len(widths) - 1:
                down.append(Downsample(width))
        head = nn.Conv2d(width, 2 * latent_channels, 3, padding=1)
        self.encoder = nn.Sequential(*down, *middle(width), norm(width), nn.SiLU(), head)

        up: list[nn.Module] = [nn.Conv2d(latent_channels, width, 3, padding=1), *middle(width)]
        for i, narrower in reversed(list(enumerate(widths))):
            for _ in range(blocks + 1):
                up.append(PlainResBlock(width, narrower))
                width = narrower
            if i > 0:
                up.append(Upsample(width))
        last = nn.Conv2d(width, pixels, 3, padding=1)
        self.decoder = nn.Sequential(*up, norm(width), nn.SiLU(), last, nn.PixelShuffle(patch))
        self.register_buffer("scale", torch.ones(()))

    def encode(self, images: Tensor) -> "DiagonalGaussian":
        """What the encoder says about the latents of pictures (B, 3, H, W), floats."""
        right = images.ndim == 4 and images.shape[1] == self.image_channels
        if not right or not images.is_floating_point():
            wanted = f"floats (B, {self.image_channels}, H, W)"
            came = f"{images.dtype} of shape {tuple(images.shape)}"
            raise ValueError(f"expected pictures as {wanted}, got {came}")
        if images.shape[2] % self.shrink or images.shape[3] % self.shrink:
            came = tuple(images.shape[2:])
            raise ValueError(f"height and width must be multiples of {self.shrink}, got {came}")
        return DiagonalGaussian(self.encoder(images))

    def decode(self, z: Tensor) -> Tensor:
        """The pictures (B, 3, H, W) of latents (B, C, h, w) that are not scaled."""
        if z.ndim != 4 or z.shape[1] != self.latent_channels or not z.is_floating_point():
            wanted = f"floats (B, {self.latent_channels}, h, w)"
            raise ValueError(f"expected latents as {wanted}, got {z.dtype} of {tuple(z.shape)}")
        return self.decoder(z)

    @torch.no_grad()
    def measure_scale(self, images: Tensor) -> None:
        """Set `scale` by the means of these pictures' latents: once, after training."""
        self.scale.copy_(latent_scale(self.encode(images).mode()))

    def to_latents(self, images: Tensor) -> Tensor:
        """What a diffusion model works on: the means of pictures' latents, times `scale`."""
        return self.scale * self.encode(images).mode()

    def to_images(self, latents: Tensor) -> Tensor:
        """The pictures of latents of unit variance: divided by `scale`, and decoded."""
        return self.decode(latents / self.scale)

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple:
        """Through a drawn latent and back: the decoded pictures and the `DiagonalGaussian`."""
        posterior = self.encode(images)
        return self.decode(posterior.sample(generator)), posterior
