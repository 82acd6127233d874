"""Chapter 10 written in other ways: conv3d, loops, fused attention, frame by frame, autograd by other routes."""

import copy
import math

import torch
from einops import rearrange, repeat
from torch.nn import functional as F

from minivdm.diffusion.extension import ReconstructionGuidance
from minivdm.diffusion.forward_process import to_x0
from minivdm.diffusion.samplers import ddim_sample, sampling_levels
from minivdm.models.layers import timestep_embedding
from minivdm.models.unet3d import UNet3D
from tests.checks.alternatives_04 import with_method
from tests.checks.collected import alternative


@with_method("unet3d.TemporalConv", "forward")
def convolve_in_3d(self, x, frames, independent_frames=None):
    clips = x.unflatten(0, (-1, frames)).transpose(1, 2)  # (B, C, F, H, W)
    weight = self.conv.weight[..., None]  # (C, C, 3, 1, 1)
    if independent_frames is None:
        independent_frames = torch.zeros(len(clips), dtype=torch.bool, device=x.device)
    out = [
        F.conv3d(clip[None], weight[:, :, 1:2], self.conv.bias)
        if still
        else F.conv3d(clip[None], weight, self.conv.bias, padding=(1, 0, 0))
        for clip, still in zip(clips, independent_frames.tolist())
    ]
    return torch.cat(out).transpose(1, 2).flatten(0, 1)


@with_method("unet3d.TemporalConv", "forward")
def convolve_by_shifting(self, x, frames, independent_frames=None):
    before, now, after = self.conv.weight[..., 0].unbind(2)  # (C, C) each
    clips = rearrange(x, "(b f) c h w -> b f h w c", f=frames)
    zero = torch.zeros_like(clips[:, :1])
    sides = torch.cat([zero, clips[:, :-1]], 1) @ before.T + torch.cat([clips[:, 1:], zero], 1) @ after.T
    if independent_frames is not None:
        sides = sides * (~independent_frames)[:, None, None, None, None]
    out = clips @ now.T + self.conv.bias + sides
    return out.flatten(0, 1).permute(0, 3, 1, 2)


@with_method("unet3d.TemporalAttention", "forward")
def attend_with_a_fused_kernel(self, x, frames, independent_frames=None):
    c, height = x.shape[1], x.shape[2]
    h = rearrange(self.norm(x), "(b f) c h w -> b (h w) f c", f=frames)
    p = timestep_embedding(torch.arange(frames), c).to(x.dtype)
    w, bias = self.qkv.weight, self.qkv.bias
    q, k, v = F.linear(h + p, w[:c], bias[:c]), F.linear(h + p, w[c : 2 * c], bias[c : 2 * c]), F.linear(h, w[2 * c :])
    q, k, v = (rearrange(part, "b p f (n d) -> b p n f d", n=self.heads) for part in (q, k, v + bias[2 * c :]))
    mask = None
    if independent_frames is not None:
        mask = (~independent_frames)[:, None, None, None, None] | torch.eye(frames, dtype=torch.bool)
    found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return x + rearrange(self.out(rearrange(found, "b p n f d -> b p f (n d)")), "b (h w) f c -> (b f) c h w", h=height)


@with_method("unet3d.TemporalAttention", "forward")
def attend_by_einsum(self, x, frames, independent_frames=None):
    """Stills are put right afterwards: a frame that sees itself alone finds its own V."""
    h = rearrange(self.norm(x), "(b f) c h w -> b f h w c", f=frames)
    p = timestep_embedding(torch.arange(frames, device=x.device), h.shape[-1])[:, None, None].type_as(h)
    moved, plain = self.qkv(h + p), self.qkv(h)
    q, k, _ = rearrange(moved, "b f h w (three n d) -> three b f h w n d", three=3, n=self.heads)
    v = plain.chunk(3, dim=-1)[2].unflatten(-1, (self.heads, -1))
    scores = torch.einsum("bfhwnd,bghwnd->bhwnfg", q, k) * q.shape[-1] ** -0.5
    weights = (scores - scores.logsumexp(-1, keepdim=True)).exp()
    found = torch.einsum("bhwnfg,bghwnd->bfhwnd", weights, v)
    if independent_frames is not None:
        found = torch.where(independent_frames.reshape(-1, *[1] * 5), v, found)
    return x + self.out(found.flatten(-2)).flatten(0, 1).movedim(-1, 1)


@with_method("unet3d.UNet3D", "forward")
def video_by_recursion(self, x, t, cond=None, independent_frames=None):
    """Each layer on the way down calls what lies below it, and hands its map to the Stages on the way up."""
    if x.dim() != 5:
        raise ValueError(f"clips, please, not {tuple(x.shape)}")
    b, _, f = x.shape[:3]
    if cond is not None:
        cond = (cond if cond.dim() == 4 else cond[:, None].expand(-1, f, -1, -1)).reshape(b * f, *cond.shape[-2:])
    pictures = x.movedim(2, 1).flatten(0, 1)
    emb = self.image.embedding(pictures, t[:, None].expand(b, f).flatten(), cond)
    up = list(zip(self.image.up, self.up))

    def below(h, layers):
        if not layers:
            out = self.middle(self.image.middle(h, emb, cond), f, independent_frames)
        else:
            (layer, time), *rest = layers
            out = below(layer(h) if time is None else time(layer(h, emb, cond), f, independent_frames), rest)
        while up and up[0][1] is None:
            out = up.pop(0)[0](out)
        layer, time = up.pop(0)
        return time(layer(torch.cat((out, h), 1), emb, cond), f, independent_frames)

    h = below(self.image.stem(pictures), list(zip(self.image.down, self.down)))
    return self.image.head(self.image.norm(h)).unflatten(0, (b, f)).movedim(1, 2)


@with_method("unet3d.UNet3D", "forward")
def video_with_the_channels_counted(self, x, t, cond=None, independent_frames=None):
    if x.ndim < 5:
        raise ValueError("expected 5 axes")
    net, f = self.image, x.shape[2]
    frames = torch.cat([clip.unbind(1)[i][None] for clip in x for i in range(f)])
    levels = repeat(t, "b -> (b f)", f=f)
    if cond is not None:
        cond = repeat(cond, "b l d -> (b f) l d", f=f) if cond.ndim == 3 else rearrange(cond, "b f l d -> (b f) l d")
    emb, maps = net.embedding(frames, levels, cond), [net.stem(frames)]
    for i in range(len(net.down)):
        resizes = self.down[i] is None
        made = net.down[i](maps[-1]) if resizes else net.down[i](maps[-1], emb, cond)
        maps.append(made if resizes else self.down[i](made, f, independent_frames=independent_frames))
    h = self.middle(net.middle(maps[-1], emb, cond), f, independent_frames=independent_frames)
    for i, layer in enumerate(net.up):
        if hasattr(layer, "block"):
            h = self.up[i](layer(torch.cat([h, maps[-1]], dim=1), emb, cond), f, independent_frames=independent_frames)
            maps = maps[:-1]
        else:
            h = layer(h)
    return rearrange(net.head(net.norm(h)), "(b f) c h w -> b c f h w", f=f)


@alternative("unet3d.inflate")
def inflate_by_loading_weights(image, attention=(1,)):
    video = UNet3D(copy.copy(image), attention)
    video = copy.deepcopy(video)
    video.image.load_state_dict(image.state_dict())
    return video.train() if image.training else video.eval()


@alternative("unet3d.inflate")
def inflate_with_a_keyword(image, attention=(1,)):
    made = UNet3D(image=copy.deepcopy(image), attention=attention)
    for module in made.modules():
        module.training = image.training
    return made


@with_method("extension.ReconstructionGuidance", "__call__")
def guide_clip_by_clip(self, x, t, cond=None):
    k = self.known.shape[2]
    if k >= x.shape[2] or self.known.shape[:2] + self.known.shape[3:] != x.shape[:2] + x.shape[3:]:
        raise ValueError("known")
    rows = []
    for i in range(len(x)):
        here, c = t[i : i + 1], None if cond is None else cond[i : i + 1]
        a, b = x[i : i + 1, :, :k].detach(), x[i : i + 1, :, k:].detach().clone()
        keep = self.schedule.alpha_bar[int(t[i])].item()
        with torch.enable_grad():
            b.requires_grad_()
            both = torch.cat([a, b], dim=2)
            x0 = (both - math.sqrt(1 - keep) * self.model(both, here, c)) / math.sqrt(keep)
            e = F.mse_loss(x0[:, :, :k], self.known[i : i + 1], reduction="sum")
            slope = torch.autograd.grad(e, [b])[0]
        x0 = torch.cat([self.known[i : i + 1], x0[:, :, k:] - 0.5 * self.weight * math.sqrt(keep) * slope], dim=2)
        rows.append(((both - math.sqrt(keep) * x0) / math.sqrt(1 - keep)).detach())
    return torch.cat(rows)


@with_method("extension.ReconstructionGuidance", "__call__")
def guide_by_functional_gradients(self, x, t, cond=None):
    k = self.known.size(2)
    if self.known.size(2) >= x.size(2):
        raise ValueError("nothing to sample")
    if self.known.shape != x.narrow(2, 0, k).shape:
        raise ValueError("sizes")

    def error(z):
        x0 = to_x0(z, t, self.model(z, t, cond), self.schedule)
        return (x0.narrow(2, 0, k) - self.known).pow(2).sum(), x0.detach()

    slope, x0 = torch.func.grad(error, has_aux=True)(x.detach())
    keep = self.schedule.alpha_bar.to(x)[t].reshape(-1, 1, 1, 1, 1)
    x0 = x0 - self.weight / 2 * keep.sqrt() * slope
    x0[:, :, :k] = self.known
    return ((x - keep.sqrt() * x0) / (1 - keep).sqrt()).detach()


@alternative("extension.extend")
def extend_by_writing_in(video, model, noise, schedule, overlap, levels=None, cond=None, weight=10.0):
    n, f = video.shape[2], noise.shape[2]
    if overlap < 1 or overlap > n or overlap >= f:
        raise ValueError("overlap")
    out = torch.empty(*video.shape[:2], n + f - overlap, *video.shape[3:], dtype=video.dtype, device=video.device)
    out[:, :, :n] = video
    guided = ReconstructionGuidance(model, schedule, video.narrow(2, n - overlap, overlap), weight)
    new = ddim_sample(guided, noise, schedule, levels=levels, cond=cond, eta=0.0, clip_x0=True)
    out[:, :, n:] = new[:, :, overlap - f :]
    return out


@alternative("extension.extend")
def extend_over_the_end(video, model, noise, schedule, overlap, levels=None, cond=None, weight=10.0):
    """The new clip overwrites the end of the old one, which is the same up to rounding."""
    if not 0 < overlap <= video.shape[2] or overlap > noise.shape[2] - 1:
        raise ValueError(f"cannot go on from {overlap} frames")
    start = video.shape[2] - overlap
    guided = ReconstructionGuidance(model, schedule, video[:, :, start:], weight=weight)
    levels = sampling_levels(schedule.T, schedule.T) if levels is None else levels
    return torch.cat([video[:, :, :start], ddim_sample(guided, noise, schedule, levels, cond, clip_x0=True)], dim=2)
