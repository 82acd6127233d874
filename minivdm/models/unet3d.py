r"""The denoiser for videos: an image U-Net, and layers along time between its stages.

A 3-D convolution over (frame, row, column) is costly and cannot reuse an image model. So the work is *factorised* (Ho
et al., "Video Diffusion Models", NeurIPS 2022, section 3; Singer et al., "Make-A-Video", ICLR 2023, section 3.2):

    spatial layers    see each frame alone:     (B F, C, H, W)        the image model as it is
    temporal layers   see each place alone:     (B, C, F, H W)        kernel 3 x 1, or attention over F frames

The second is a view of the first in any layout. In channels_last the order in memory is B F H W C for both, so the view
is channels_last again, and so is what a `Conv2d` makes of it: nothing is copied, neither for the convolution nor on the
way back. (In the default layout both would be.)

Every temporal layer starts as the identity. The video model starts as the image model, applied to each frame.
"""

import copy
import math
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import norm, timestep_embedding, zero_module
from .unet import UNet, require_resolutions


class TemporalConv(nn.Module):
    """Convolution over 3 neighbouring frames, place by place; zeros stand in for frames outside.

    It starts as the identity: a Dirac kernel and bias 0 (Singer et al., "Make-A-Video", ICLR 2023,
    section 3.2.1). `conv` is an `nn.Conv2d` with kernel (3, 1), for maps of F x (H W) "pixels":
    rows are frames, columns are places.

    Args:
        channels: C, of input and output.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (3, 1), padding=(1, 0))
        nn.init.dirac_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor, frames: int, independent_frames: Tensor | None = None) -> Tensor:
        """Mix each place with the same place in the frames before and after.

        Args:
            x: (B F, C, H, W), the frames of a clip one after the other.
            frames: F.
            independent_frames: (B,) bool, the rows whose frames are unrelated pictures: there each
                frame meets the middle of the kernel alone, as a clip of one frame would. None: all
                rows are clips.

        Returns:
            A tensor like x.
        """
        h = rearrange(x, "(b f) c h w -> b c f (h w)", f=frames)  # (B, C, F, H W)
        out = self.conv(h)
        if independent_frames is not None:
            alone = F.conv2d(h, self.conv.weight[:, :, 1:2], self.conv.bias)
            out = torch.where(independent_frames[:, None, None, None], alone, out)
        return rearrange(out, "b c f (h w) -> (b f) c h w", h=x.shape[2])


class TemporalAttention(nn.Module):
    r"""Every frame looks at every frame, place by place, and what it finds is added to the input.

    Ho et al., "Video Diffusion Models", NeurIPS 2022, section 3.

        h = norm(x);   p_f = timestep_embedding(f, C), the position of frame f = 0, 1, .., F - 1
        Q = W_q (h + p) + b_q,    K = W_k (h + p) + b_k,    V = W_v h + b_v
        out = x + W_o softmax( Q K^T / sqrt(d) ) V + b_o       the softmax runs over the F frames

    Without p, attention could not tell a clip from its reverse. V has no part of p, so that a
    frame that looks at itself alone finds the same wherever it stands in the clip. All is done in
    the dtype of x, which may have 16 bits; p comes as float32. W_o and b_o start at zero. `qkv`
    holds W_q, W_k, W_v (in this order) and their biases, `out` W_o and b_o. Head i owns the
    channels i d .. (i + 1) d - 1 of Q, K, V and of what goes into W_o.

    There are B H W sequences, but each is only F long: the F x F weights are small, and computing
    them openly avoids the limit on the number of rows that fused attention kernels have on CUDA.

    Args:
        channels: C, of input and output.
        head_dim: size d of one head; there are `heads` = C / d of them.

    Raises:
        ValueError: if channels is not a multiple of head_dim.
    """

    def __init__(self, channels: int, head_dim: int = 32):
        super().__init__()
        if channels % head_dim:
            came = f"head_dim = {head_dim}, got {channels}"
            raise ValueError(f"channels must be a multiple of {came}")
        self.heads = channels // head_dim
        self.norm = norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zero_module(nn.Linear(channels, channels))

    def forward(self, x: Tensor, frames: int, independent_frames: Tensor | None = None) -> Tensor:
        """Attend over the frames of each clip.

        Args:
            x: (B F, C, H, W), the frames of a clip one after the other.
            frames: F.
            independent_frames: (B,) bool, the rows whose frames are unrelated pictures: there each
                frame looks at itself alone. None: all rows are clips.

        Returns:
            A tensor like x.
        """
        h = rearrange(self.norm(x), "(b f) c h w -> b (h w) f c", f=frames)  # (B, HW, F, C)
        p = timestep_embedding(torch.arange(frames, device=x.device), h.shape[-1]).to(h.dtype)
        position = F.linear(p, self.qkv.weight[: 2 * h.shape[-1]])  # (F, 2C), for Q and K
        qkv = self.qkv(h) + F.pad(position, (0, h.shape[-1]))  # (B, HW, F, 3C)
        q, k, v = rearrange(qkv, "b p f (three n d) -> three b p n f d", three=3, n=self.heads)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (B, HW, heads, F, F)
        if independent_frames is not None:
            others = ~torch.eye(frames, dtype=torch.bool, device=x.device)  # (F, F)
            hidden = independent_frames[:, None, None, None, None] & others  # (B, 1, 1, F, F)
            scores = scores.masked_fill(hidden, -math.inf)
        h = self.out(rearrange(scores.softmax(dim=-1).to(v.dtype) @ v, "b p n f d -> b p f (n d)"))
        return x + rearrange(h, "b (h w) f c -> (b f) c h w", h=x.shape[2])


TemporalAttention.forward.has_fused_kernel = True  # a faster way to these numbers is in `kernels`


class TemporalBlock(nn.Module):
    """What follows a stage: a convolution along time and, where it `attends`, attention."""

    def __init__(self, channels: int, attends: bool):
        super().__init__()
        self.conv = TemporalConv(channels)
        self.attention = TemporalAttention(channels) if attends else None

    def forward(self, x: Tensor, frames: int, independent_frames: Tensor | None = None) -> Tensor:
        x = self.conv(x, frames, independent_frames)
        return x if self.attention is None else self.attention(x, frames, independent_frames)


class UNet3D(nn.Module):
    r"""eps_theta(x_t, t) for videos: a `UNet` for images, temporal layers after each of its stages.

    Ho et al., "Video Diffusion Models", NeurIPS 2022; built on an image model as in Singer et al.,
    "Make-A-Video", ICLR 2023. While the temporal layers are new, it is the image model applied to
    each frame, up to rounding. They come on its device and in its dtype.

    Args:
        image: a `UNet`. It is used, not copied: its weights are a part of this model.
        attention: indices of its resolutions at which the temporal layers attend; the middle
            always does. Another index raises a ValueError.

    Attributes:
        image: the `UNet`, with its `embedding`, `stem`, `down`, `middle`, `up`, `norm`, `head`.
        down, middle, up: what follows each layer of the image model's `down`, `middle` and `up`: a
            `TemporalBlock`, called as time(h, frames, independent_frames), or None where the
            resolution changes.
    """

    def __init__(self, image: "UNet", attention: "Sequence[int]" = (1,)):
        super().__init__()
        self.image, attention, resolution = image, tuple(attention), 0
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for layer in image.down:
            self.down.append(temporal_block_for(layer, resolution in attention))
            resolution += self.down[-1] is None
        require_resolutions(attention, resolution + 1)
        self.middle = temporal_block_for(image.middle, True)
        for layer in image.up:
            self.up.append(temporal_block_for(layer, resolution in attention))
            resolution -= self.up[-1] is None
        self.to(memory_format=torch.channels_last)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Tensor | None = None,
        independent_frames: Tensor | None = None,
    ) -> Tensor:
        """The way of `UNet.forward` for all frames at once, and time after each stage.

            x, t and cond are laid out as (B F, ..), the frames of a clip one after the other
            emb = image.embedding(x, t, cond)
            h = image.stem(x). Down: each layer of image.down, and what follows it in `down`, makes
            the next h; all are kept, the stem's first. Middle: image.middle, and what follows it.
            Up: each Stage of image.up gets h and the latest kept map, concatenated, which is kept
            no longer; time follows it.
            out = image.head(image.norm(h))

        Stages, the middle one too, are called as layer(h, emb, cond), and what follows them as
        time(h, frames, independent_frames). Where `down` or `up` holds None, the layer changes the
        resolution: it is called as layer(h), and nothing follows.

        Args:
            x: (B, C, F, H, W) noisy clips.
            t: (B,) levels; all frames of a clip are at one level.
            cond: (B, L, D) one condition per clip, or (B, F, L, D) one per frame, or None.
            independent_frames: (B,) bool, the rows whose frames are unrelated pictures; None: all
                rows are clips.

        Returns:
            A tensor like x.

        Raises:
            ValueError: if x is no clip; from `image.embedding` if the size or cond does not fit.
        """
        if x.ndim != 5:
            raise ValueError(f"expected clips (B, C, F, H, W), got shape {tuple(x.shape)}")
        image, frames = self.image, x.shape[2]
        x = rearrange(x, "b c f h w -> (b f) c h w")
        if cond is not None:
            each = cond.ndim == 4 and cond.shape[1] == frames  # another shape is refused below
            cond = cond.flatten(0, 1) if each else cond.repeat_interleave(frames, dim=0)
        emb = image.embedding(x, t.repeat_interleave(frames), cond)  # (B F, emb_dim)
        h = image.stem(x)  # (B F, channels, H', W')
        kept = [h]
        for layer, time in zip(image.down, self.down):
            h = layer(h) if time is None else time(layer(h, emb, cond), frames, independent_frames)
            kept.append(h)
        h = self.middle(image.middle(h, emb, cond), frames, independent_frames)
        for layer, time in zip(image.up, self.up):
            if time is None:
                h = layer(h)
            else:
                h = layer(torch.cat([h, kept.pop()], dim=1), emb, cond)
                h = time(h, frames, independent_frames)
        out = image.head(image.norm(h))  # (B F, C, H, W)
        return rearrange(out, "(b f) c h w -> b c f h w", f=frames)


def temporal_block_for(layer: nn.Module, attends: bool) -> "TemporalBlock | None":
    """The new `TemporalBlock` after a Stage; None for a layer that changes the resolution."""
    if not hasattr(layer, "block"):
        return None
    conv = layer.block.conv2
    return TemporalBlock(conv.out_channels, attends).to(conv.weight)  # device and dtype


def inflate(image: "UNet", attention: "Sequence[int]" = (1,)) -> "UNet3D":
    """A video model that starts as a copy of an image model, applied to each frame.

    Singer et al., "Make-A-Video", ICLR 2023, section 3.2.

    Args:
        image: a trained `UNet`; it is copied and stays as it is.
        attention: see `UNet3D`.

    Returns:
        A `UNet3D` in the same mode (training or evaluation).
    """
    return UNet3D(copy.deepcopy(image), attention).train(image.training)
