r"""A trained denoiser learns to follow a drawing, and nothing in it changes (Zhang et al., ICCV 2023).

The base, a `UNet` or a `UNet3D`, is locked. Beside its way down works a copy of it that may learn, and that also sees
a *hint*: edges, a mask, points. What the copy makes is added to what the base hands to its way up.

    x_t ---> base: stem --> down --> middle --> up ... --> out             locked
               |      skips |           |        ^
    x_t ---> copy: stem --> down --> middle      |                         learns
    hint -> encoder -^       |          |        |
                             `-> zero 1 x 1 convolutions, times a strength, added to each skip and to the middle

A zero convolution has weight and bias 0: at first the sum is the base, exactly. Yet it learns, since its weight's
gradient is a product of what comes in and what is asked for at its end, and neither is 0. What lies *behind* it gets
no gradient until it has moved. So one of two in a row that end in zeros never learns: there must be no second one.
"""

import contextlib
import copy
from collections.abc import Iterator, Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import zero_module
from .unet import Stage, UNet
from .unet3d import UNet3D


def zero_conv(channels: int) -> nn.Conv2d:
    """A 1 x 1 convolution that starts as nothing: weight and bias 0."""
    return zero_module(nn.Conv2d(channels, channels, 1))


def zero_conv_gradients(
    x: Tensor,
    weight: Tensor,
    upstream: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""What a 1 x 1 convolution hands back: the gradients of its weight, its bias and its input.

    A 1 x 1 convolution is one matrix W and one vector b for all places p of all samples:
    y_p = W x_p + b. Let g_p be the gradient of the loss with respect to y_p.

    Equation:
        dL/dW = sum over samples and places of  g_p x_p^T
        dL/db = sum over samples and places of  g_p
        dL/dx_p = W^T g_p

    Args:
        x: (B, C, H, W), what came in.
        weight: (D, C), the matrix W.
        upstream: (B, D, H, W), the gradient with respect to what came out.

    Returns:
        The gradients of weight, bias and x: (D, C), (D,) and (B, C, H, W).
    """
    by_weight = torch.einsum("bdhw,bchw->dc", upstream, x)
    by_bias = upstream.sum(dim=(0, 2, 3))
    by_input = torch.einsum("dc,bdhw->bchw", weight, upstream)
    return by_weight, by_bias, by_input


class HintEncoder(nn.Module):
    """From a hint at full size to a map that is added to the features of the copy's stem.

    Zhang et al., ICCV 2023, section 3.3. The map of a new one is 0 everywhere, so at first the copy
    does not see the hint. After a few steps of training it depends on the hint.

    Args:
        hint_channels: c of the hint.
        channels: C, those of the stem's map.
        patch: the map has 1 / patch of the hint's height and width.
        width: channels between; twice as many after the layer that shrinks.

    `forward(hint)` takes (B, c, H, W) in [0, 1] and returns (B, C, H / patch, W / patch).
    """

    def __init__(self, hint_channels: int, channels: int, patch: int = 1, width: int = 16):
        super().__init__()
        kernel = 2 * patch - 1
        self.layers = nn.Sequential(
            nn.Conv2d(hint_channels, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, kernel, stride=patch, padding=patch - 1),
            nn.SiLU(),
        )
        self.out = zero_module(nn.Conv2d(2 * width, channels, 3, padding=1))

    def forward(self, hint: Tensor) -> Tensor:
        return self.out(self.layers(hint))


def trainable_copy(base: "UNet | UNet3D") -> "UNet | UNet3D":
    """The way down and the middle of a trained network, with weights of its own that may learn.

    Zhang et al., ICCV 2023, section 3.1. The copy starts with the base's weights, and shares none
    of them. It has no `up`, `norm` or `head`; a `UNet3D` has none in its `image` either. All its
    parameters ask for gradients, whether those of the base do or not. The base stays as it is.

    Args:
        base: a `UNet` or `UNet3D`.

    Returns:
        Its copy, in the same mode (training or evaluation).
    """
    encoder = copy.deepcopy(base).requires_grad_(True)
    image = encoder if isinstance(encoder, UNet) else encoder.image
    del image.up, image.norm, image.head
    if image is not encoder:
        del encoder.up
    return encoder


class ControlNet(nn.Module):
    r"""What is to be added to a `UNet` so that it follows a hint.

    Zhang et al., ICCV 2023, section 3.

    Args:
        base: the trained `UNet`; it is copied and stays as it is.
        hint_channels: c of the hint.

    Attributes:
        encoder: the `trainable_copy`, with its `embedding`, `stem`, `down` and `middle`.
        hint: a `HintEncoder`.
        skips: one `zero_conv` for each map that the base keeps on its way down, the stem's first.
        middle: the `zero_conv` for the middle.
    """

    def __init__(self, base: "UNet", hint_channels: int = 1):
        super().__init__()
        image = base if isinstance(base, UNet) else base.image
        self.encoder, self.hint_channels = trainable_copy(base), hint_channels
        widths = [image.channels, *(width_of(layer) for layer in image.down)]
        patch = image.shrink // 2 ** sum(not isinstance(layer, Stage) for layer in image.down)
        self.hint = HintEncoder(hint_channels, image.channels, patch)
        self.skips = nn.ModuleList(zero_conv(width) for width in widths)
        self.middle = zero_conv(widths[-1])
        self.to(image.stem[1].weight)  # device and dtype

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Tensor | None,
        hint: Tensor,
    ) -> tuple[list[Tensor], Tensor]:
        """What the copy, which sees the hint, adds to the base.

        A `Stage` is called as layer(h, emb, cond), the middle too, and a `Downsample` as layer(h).
        A new ControlNet adds exactly 0. The hint comes in once, and every map that goes out
        depends on it, as soon as the zero convolutions have moved.

        Equation:
            emb = encoder.embedding(x, t, cond)
            h = encoder.stem(x) + hint encoder(hint); each layer of encoder.down makes the next h
            h = encoder.middle(h)
            skips = zero convolution i of map i, for the stem's map and each after it
            middle = zero convolution of the middle's map

        Args:
            x, t, cond: what the base gets: (B, C, H, W), (B,), and (B, L, D) or None.
            hint: (B, c, H, W) in [0, 1].

        Returns:
            A list of what to add to each map that the base keeps, in the order in which it keeps
            them, and what to add to its middle; each like that map.

        Raises:
            ValueError: from `require_hint(hint, x, self.hint_channels)` if the hint does not fit x.
        """
        require_hint(hint, x, self.hint_channels)
        emb = self.encoder.embedding(x, t, cond)  # (B, emb_dim)
        h = self.encoder.stem(x) + self.hint(hint)  # (B, channels, H', W')
        kept = [h]
        for layer in self.encoder.down:
            h = layer(h, emb, cond) if isinstance(layer, Stage) else layer(h)
            kept.append(h)
        h = self.encoder.middle(h, emb, cond)
        return [zero(each) for zero, each in zip(self.skips, kept, strict=True)], self.middle(h)


class VideoControlNet(ControlNet):
    """A `ControlNet` for a `UNet3D`: its copy has the layers along time, too, and each frame has a hint of its own.

    `forward(x, t, cond, hint)` takes clips (B, C, F, H, W) and hints (B, c, F, H, W), and returns maps (B F, ...).
    """

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None, hint: Tensor) -> tuple[list[Tensor], Tensor]:
        require_hint(hint, x, self.hint_channels)
        net, image, frames = self.encoder, self.encoder.image, x.shape[2]
        x, hint = (rearrange(each, "b c f h w -> (b f) c h w") for each in (x, hint))
        cond = None if cond is None else cond.repeat_interleave(frames, dim=0)
        emb = image.embedding(x, t.repeat_interleave(frames), cond)  # (B F, emb_dim)
        h = image.stem(x) + self.hint(hint)  # (B F, channels, H', W')
        kept = [h]
        for layer, time in zip(image.down, net.down):
            h = layer(h) if time is None else time(layer(h, emb, cond), frames)
            kept.append(h)
        h = net.middle(image.middle(h, emb, cond), frames)
        return [zero(each) for zero, each in zip(self.skips, kept, strict=True)], self.middle(h)


def control_for(base: UNet | UNet3D, hint_channels: int = 1) -> ControlNet:
    """A new `ControlNet` or, for clips, `VideoControlNet`."""
    return (ControlNet if isinstance(base, UNet) else VideoControlNet)(base, hint_channels)


def width_of(layer: nn.Module) -> int:
    """The channels of what a layer of `down` makes."""
    return layer.block.conv2.out_channels if isinstance(layer, Stage) else layer.conv.out_channels


def require_hint(hint: Tensor, x: Tensor, channels: int) -> None:
    """Raise a ValueError unless there is a hint for each sample of x, of its size and with these channels."""
    expected = (len(x), channels, *x.shape[2:])
    if tuple(hint.shape) != expected or hint.dtype != x.dtype:
        came = f"{hint.dtype} of shape {tuple(hint.shape)}"
        raise ValueError(f"expected a hint of shape {expected} and {x.dtype}, got {came}")


class ControlledUNet(nn.Module):
    """A locked base, and one or more ControlNets whose outputs are added up.

    Args:
        base: a `UNet` or `UNet3D`. It is used, not copied; from now on its parameters ask for no
            gradient.
        controls: `ControlNet`s made for it.

    `forward(x, t, cond, hints, strengths=None)` takes what the base gets, a hint for each
    ControlNet, and for each a number by which its output is multiplied (default: 1; at 0 it is left
    out); it returns a tensor like x. Another number of hints or strengths is a ValueError.
    """

    def __init__(self, base: "UNet | UNet3D", *controls: "ControlNet"):
        super().__init__()
        self.base, self.controls = base.requires_grad_(False), nn.ModuleList(controls)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Tensor | None,
        hints: Sequence[Tensor],
        strengths: Sequence[float] | None = None,
    ) -> Tensor:
        strengths = [1.0] * len(self.controls) if strengths is None else strengths
        if not len(hints) == len(strengths) == len(self.controls):
            wanted = f"a hint and a strength for each of {len(self.controls)} ControlNets"
            came = f"{len(hints)} hints and {len(strengths)} strengths"
            raise ValueError(f"expected {wanted}, got {came}")
        with contextlib.ExitStack() as added:
            for control, hint, strength in zip(self.controls, hints, strengths):
                if strength:
                    skips, middle = control(x, t, cond, hint)
                    skips = [strength * each for each in skips]
                    added.enter_context(adding(self.base, skips, strength * middle))
            return self.base(x, t, cond)


@contextlib.contextmanager
def adding(base: UNet | UNet3D, skips: Sequence[Tensor], middle: Tensor) -> Iterator[None]:
    """While it lasts, a base adds these to the maps that it keeps on its way down, and to its middle.

    The base's own `forward` does the walking. A Stage of `up` gets a kept map behind the channels of h, the latest one
    first: there, and behind the middle, PyTorch calls what adds to it.

    Args:
        base: a `UNet` or `UNet3D`.
        skips: for each map that is kept, what to add, the stem's first.
        middle: what to add to the middle; behind the layers along time, if there are any.

    Raises:
        ValueError: if there are not as many as the base keeps.
    """
    stages = [layer for layer in (base if isinstance(base, UNet) else base.image).up if isinstance(layer, Stage)]
    if len(stages) != len(skips):
        raise ValueError(f"expected something to add to each of {len(stages)} maps, got {len(skips)}")

    def before(skip: Tensor) -> object:
        def add(stage: Stage, inputs: tuple) -> tuple:
            h, *rest = inputs  # (B, channels of h and of the kept map, H, W)
            return h + F.pad(skip, (0, 0, 0, 0, h.shape[1] - skip.shape[1], 0)), *rest

        return add

    hooks = [base.middle.register_forward_hook(lambda layer, inputs, h: h + middle)]
    hooks += [stage.register_forward_pre_hook(before(skip)) for stage, skip in zip(stages, reversed(skips))]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
