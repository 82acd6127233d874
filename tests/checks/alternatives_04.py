"""Chapter 04 written in other ways: loops, einsum, complex numbers, other layers of the library, recursion."""

import math

import torch
from torch.nn import functional as F

from minivdm.course.exercise import edited
from tests.checks.collected import alternative, with_method


@alternative("layers.timestep_embedding")
def embedding_by_numbers(t, dim, max_period=10_000):
    if dim % 2 == 1:
        raise ValueError(f"an even dim, please, not {dim}")
    angles = [[level / max_period ** (2 * k / dim) for k in range(dim // 2)] for level in t.tolist()]
    rows = [[math.cos(a) for a in row] + [math.sin(a) for a in row] for row in angles]
    return torch.tensor(rows, dtype=torch.float32, device=t.device)


@with_method("layers.ResBlock", "forward")
def block_sample_by_sample(self, x, emb):
    h, rows = self.norm2(self.conv1(F.silu(self.norm1(x)))), []
    for one, e in zip(h, self.emb(F.silu(emb))):
        scale, shift = e.reshape(2, -1)
        rows.append(torch.einsum("chw,c->chw", one, scale + 1.0) + shift.view(-1, 1, 1))
    return self.conv2(F.dropout(F.silu(torch.stack(rows)), self.dropout.p, self.training)) + self.skip(x)


@with_method("layers.SelfAttention", "forward")
def attention_head_by_head(self, x):
    n, found = self.heads, []
    parts = self.qkv(self.norm(x)).flatten(2).chunk(3 * n, dim=1)  # (B, d, HW) each
    for q, k, v in zip(parts[:n], parts[n : 2 * n], parts[2 * n :]):
        scores = q.mT @ k / math.sqrt(q.shape[1])
        weights = torch.exp(scores - scores.amax(2, keepdim=True))
        found.append(v @ (weights / weights.sum(2, keepdim=True)).mT)
    return x + self.out(torch.cat(found, dim=1).view_as(x))


@with_method("unet.UNet", "forward")
def unet_by_recursion(self, x, t, cond=None):
    """Each layer on the way down calls what lies below it, and hands its map to its partner afterwards."""
    emb, up = self.embedding(x, t, cond), list(self.up)

    def below(h, layers):
        if layers:
            made = layers[0](h, emb, cond) if hasattr(layers[0], "block") else layers[0](h)
        result = below(made, layers[1:]) if layers else self.middle(h, emb, cond)
        if not hasattr(up[0], "block"):
            result = up.pop(0)(result)
        return up.pop(0)(torch.concat((result, h), dim=1), emb, cond)

    return self.head(self.norm(below(self.stem(x), list(self.down))))


@with_method("ema.EMA", "update")
@torch.no_grad()
def update_by_state_dict(self, model):
    n, self.updates = self.updates, self.updates + 1
    d = (1 + n) / (10 + n) if (1 + n) / (10 + n) < self.decay else self.decay
    weights, mine = {name for name, _ in model.named_parameters()}, self.model.state_dict()
    for name, value in model.state_dict().items():
        mine[name].copy_(d * mine[name] + (1 - d) * value if name in weights else value)


@alternative("muon.orthogonalized")
def one_matrix_after_the_other(matrices, iterations=5):
    made = []
    for x in matrices.flatten(0, -3) if matrices.ndim > 2 else matrices[None]:
        x = x / x.square().sum().sqrt().clamp(min=1e-12)
        for _ in range(iterations):
            cube = x @ x.T @ x
            x = 3.4445 * x - 4.775 * cube + 2.0315 * cube @ x.T @ x
        made.append(x)
    return torch.stack(made).view(matrices.shape)


@alternative("muon.orthogonalized")
def gram_on_the_right(matrices, iterations=5):
    x = torch.nan_to_num(matrices / torch.linalg.matrix_norm(matrices, keepdim=True))
    for _ in range(iterations):
        gram = torch.einsum("...ri,...rj->...ij", x, x)
        x = x @ (3.4445 * torch.eye(gram.shape[-1]).to(gram) - 4.775 * gram + 2.0315 * torch.matmul(gram, gram))
    return x


@alternative("muon.orthogonalized")
@torch.no_grad()
def values_by_a_decomposition(matrices, iterations=5):
    """Right, and slow."""
    wide = torch.promote_types(matrices.dtype, torch.float32)
    u, s, vh = torch.linalg.svd(matrices.to(wide), full_matrices=False)
    s = s / (s.norm(dim=-1, keepdim=True) + 1e-7)
    for _ in range(iterations):
        s = s * (3.4445 + s**2 * (-4.775 + 2.0315 * s**2))
    return ((u * s[..., None, :]) @ vh).to(matrices.dtype)


EINSUM = """weights = torch.einsum("bnid,bnjd->bnij", q, k).div(q.shape[3] ** 0.5).softmax(3)
        h = torch.einsum("bnij,bnjd->bnid", weights, v)"""
DOUBLED = 'F.interpolate(x, scale_factor=2.0, mode="nearest")'
for name, changes in [
    ("layers.timestep_embedding", {"angle.cos(), angle.sin()": "*torch.view_as_real((1j * angle).exp()).unbind(-1)"}),
    ("layers.ResBlock", {"self.norm2(h) * (1 + scale) + shift": "torch.addcmul(shift, self.norm2(h), 1 + scale)"}),
    ("layers.SelfAttention", {"h = F.scaled_dot_product_attention(q, k, v)": EINSUM}),
    ("layers.Downsample", {"stride=2, ": "", "self.conv(x)": "self.conv(x)[:, :, ::2, ::2]"}),
    ("layers.Downsample", {", padding=1": "", "self.conv(x)": "self.conv(F.pad(x, (1, 1, 1, 1)))"}),
    ("layers.Upsample", {DOUBLED: "x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)"}),
    ("layers.Upsample", {DOUBLED: "torch.kron(x.contiguous(), x.new_ones(2, 2))"}),
    ("unet.UNet", {"skips = [h]": "skips, used = [h], 0", "skips.pop()]": "skips[-(used := used + 1)]]"}),
    ("muon.orthogonalized", {"x = x.mT if rows > columns else x ": "rows = 0 ", "else x).reshape": "else x).view"}),
    ("ema.EMA", {"average.lerp_(weights, 1 - d)": "average.mul_(d).add_(weights, alpha=1 - d)"}),
]:
    alternative(name)(edited(name, changes))
