r"""What a network of a cascade is told beside x and t: an embedding, whole numbers, and another clip.

    an embedding and numbers       vectors of the context, which every block reads            `Told`
    another clip, such as x in low resolution, or the frames that are known      more input channels      `widen_stem`

Numbers are, for one, how much of a recording passes between two frames, and how much noise was put over the other clip.
New input channels start at zero weight, so that a trained network goes on as it was (Singer et al., "Make-A-Video",
ICLR 2023, section 3.3).
"""

import math

import torch
from torch import Tensor, nn

from .layers import timestep_embedding
from .unet import UNet
from .unet3d import UNet3D


class Told(nn.Module):
    """A denoiser that is told an embedding and numbers: each becomes a vector of its context.

    Args:
        net: a `UNet` or `UNet3D` with a `context_dim`, D.
        embedding_dim: E, size of the embedding, a unit vector; 0: there is none.
        numbers: n, how many whole numbers there are, each 0..256 (16 bits hold no more exactly).

    `forward(x, t, cond)` takes pictures or clips, levels, and (B, E + n) float: the embedding,
    all 0 where it was dropped, and behind it the numbers. It returns a tensor like x.
    """

    def __init__(self, net: "UNet | UNet3D", embedding_dim: int = 0, numbers: int = 1):
        super().__init__()
        self.net, self.embedding_dim = net, embedding_dim
        self.dim = image_net(net).context_dim
        self.embedding = nn.Linear(embedding_dim, self.dim) if embedding_dim else None
        self.numbers = nn.ModuleList(nn.Linear(self.dim, self.dim) for _ in range(numbers))

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        return self.net(x, t, self.context(x, cond))

    def context(self, x: Tensor, cond: Tensor) -> Tensor:
        """The context that the network reads: the embedding's vector, then one for each number.

        An embedding has length 1, so its E entries are small, about 1 / sqrt(E). They are
        multiplied by sqrt(E), to be as large as those of other inputs.

        Args:
            x: (B, ...) what is denoised.
            cond: (B, E + n).

        Returns:
            (B, L, D), L = n + 1, or n without an embedding.

        Raises:
            ValueError: if cond has another shape.
        """
        shape = (len(x), self.embedding_dim + len(self.numbers))
        if cond is None or tuple(cond.shape) != shape or not cond.is_floating_point():
            came = None if cond is None else f"{cond.dtype} of shape {tuple(cond.shape)}"
            raise ValueError(f"expected an embedding and numbers, floats of shape {shape}, got {came}")
        told, numbers = cond[:, : self.embedding_dim], cond[:, self.embedding_dim :]
        vectors = []
        if self.embedding is not None:
            vectors.append(self.embedding(told * math.sqrt(self.embedding_dim)))  # (B, D)
        for layer, number in zip(self.numbers, numbers.unbind(dim=1)):
            vectors.append(layer(timestep_embedding(number, self.dim).to(cond.dtype)))
        return torch.stack(vectors, dim=1)  # (B, L, D)


def image_net(net: UNet | UNet3D) -> UNet:
    """The `UNet` for pictures: the network itself, or the one inside a `UNet3D`."""
    return net.image if isinstance(net, UNet3D) else net


@torch.no_grad()
def widen_stem(net: "UNet", extra: int) -> "UNet":
    r"""Let a U-Net read `extra` more input channels, whose weights start at zero.

    Singer et al., "Make-A-Video", ICLR 2023, section 3.3. So the network answers as before,
    whatever the new channels hold; and it can learn to use them, since their weights get a
    gradient. The output keeps its channels.

    Equation:
        stem = nn.Sequential(PixelUnshuffle(patch), convolution of C patch^2 channels)
        PixelUnshuffle makes patch^2 channels of each channel, and leaves them in their order.
        new weight = [ old weight, zeros of (out, extra patch^2, 3, 3) ],    along the inputs
        new bias = old bias

    Args:
        net: a `UNet`, changed in place.
        extra: number of further channels, behind those that it reads now; 0 changes nothing.

    Returns:
        The same network; `net(x, t, cond)` takes (B, C + extra, H, W) now.
    """
    unshuffle, conv = net.stem
    more = conv.weight.new_zeros(conv.out_channels, extra * unshuffle.downscale_factor**2, 3, 3)
    wider = nn.Conv2d(conv.in_channels + more.shape[1], conv.out_channels, 3, padding=1)
    wider.to(conv.weight)  # device and dtype
    wider.weight.copy_(torch.cat([conv.weight, more], dim=1))
    wider.bias.copy_(conv.bias)
    net.stem[1] = wider.to(memory_format=torch.channels_last)
    return net


MISSING = 0.2  # size of what is missing, in units of the pixels: so the network's answers are about 1


class OnTop(nn.Module):
    """A denoiser that says what is missing in the clip that stands beside x: its answer is both together.

    A network whose head is zero answers 0, so this starts as the identity: what stands beside x is its estimate of x_0.

    Args:
        net: takes (B, C + c, ...) as its x, and answers with (B, C, ...). The first C of the c channels beside x are
            the clip to which its answer is added.
        channels: C.

    `forward(x, t, cond)` takes what `net` takes, x in front, and returns (B, C, ...).
    """

    def __init__(self, net: nn.Module, channels: int = 3):
        super().__init__()
        self.net, self.channels = net, channels

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        guess = x[:, self.channels : 2 * self.channels]
        return guess + MISSING * self.net(x, t, cond)


class Beside(nn.Module):
    """A denoiser that reads another clip behind the channels of x, called as `net(x, t, cond)`.

    Args:
        net: takes (B, C + c, ...) as its x.
        clip: (B, c, ...) what stands beside x. A call with k B samples, such as that of guidance,
            which doubles the batch, gets it k times.
    """

    def __init__(self, net: nn.Module, clip: Tensor):
        super().__init__()
        self.net, self.clip = net, clip

    def forward(self, x: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        clip = self.clip.repeat(len(x) // len(self.clip), *[1] * (x.ndim - 1))
        return self.net(torch.cat([x, clip], dim=1), t, cond)
