"""Chapter 10 in other ways: time hooked onto the image model; and other algebra in a line of the reference."""

from minivdm.course.exercise import edited
from tests.checks.collected import alternative, with_method


@with_method("unet3d.UNet3D", "forward")
def video_by_hooks(self, x, t, cond=None, independent_frames=None):
    if x.dim() != 5:
        raise ValueError(f"clips, please, not {tuple(x.shape)}")
    b, _, f = x.shape[:3]
    if cond is not None:
        cond = (cond if cond.dim() == 4 else cond[:, None].expand(-1, f, -1, -1)).reshape(b * f, *cond.shape[-2:])
    pairs = zip([*self.image.down, self.image.middle, *self.image.up], [*self.down, self.middle, *self.up])
    # What a hook returns takes the place of the stage's output.
    hooks = [
        layer.register_forward_hook(lambda layer, given, h, time=time: time(h, f, independent_frames))
        for layer, time in pairs
        if time is not None
    ]
    out = self.image(x.movedim(2, 1).flatten(0, 1), t[:, None].expand(b, f).flatten(), cond)
    for hook in hooks:
        hook.remove()
    return out.unflatten(0, (b, f)).movedim(1, 2)


def reworded(name, changes):
    """Register the reference of a piece with some of its text exchanged."""
    alternative(name)(edited(name, changes))


SHIFTED = (
    'sum(torch.einsum("oc,bcfp->bofp", w, F.pad(h, (0, 0, 1, 1))[:, :, k : k + frames]) '
    "for k, w in enumerate(self.conv.weight[..., 0].unbind(2))) + self.conv.bias[:, None, None]"
)
ERROR = "(self.known - to_x0(z, t, self.model(z, t, cond), self.schedule)[:, :, :k]).square().sum()"

reworded(
    "unet3d.TemporalConv",
    {"self.conv(h)": "F.conv3d(h[..., None], self.conv.weight[..., None], self.conv.bias, padding=(1, 0, 0))[..., 0]"},
)
reworded("unet3d.TemporalConv", {"self.conv(h)": SHIFTED})
reworded(
    "unet3d.TemporalAttention",
    {
        "q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])": "q.new_zeros(len(q), 1, 1, frames, frames)",
        "scores.softmax(dim=-1).to(v.dtype) @ v": "F.scaled_dot_product_attention(q, k, v, attn_mask=scores)",
    },
)
reworded(
    "unet3d.TemporalAttention",
    {
        "q @ k.transpose(-1, -2)": 'torch.einsum("...fd,...gd->...fg", q, k)',
        "scores.softmax(dim=-1).to(v.dtype)": "(scores - scores.logsumexp(-1, keepdim=True)).exp()",
    },
)
reworded("unet3d.UNet3D", {'x = rearrange(x, "b c f h w -> (b f) c h w")': "x = torch.cat([*x.transpose(1, 2)])"})
reworded("unet3d.inflate", {"UNet3D(copy.deepcopy(image), attention)": "copy.deepcopy(UNet3D(image, attention))"})
reworded(
    "unet3d.inflate",
    {
        "return UNet3D": "made = UNet3D",
        ".train(image.training)": "\n    return made if image.training else made.eval()",
    },
)
reworded(
    "extension.ReconstructionGuidance",
    {"(slope,) = torch.autograd.grad(error, x)": f"slope = torch.func.grad(lambda z: {ERROR})(x.detach())"},
)
reworded(
    "extension.ReconstructionGuidance",
    {
        ".square().sum()": ".square().flatten(1).sum(1).unbind()",
        "return to_eps(x.detach(), t, x0, self.schedule)": "return ((x - alpha * x0) / (1 - alpha**2).sqrt()).detach()",
    },
)
reworded("extension.extend", {"video, new[:, :, overlap:]": "video[:, :, : video.shape[2] - overlap], new"})
reworded("extension.extend", {"new[:, :, overlap:]": "new.split([overlap, new.shape[2] - overlap], 2)[1]"})
