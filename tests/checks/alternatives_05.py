"""Chapter 05 written in other ways: regular expressions, loops, einsum, explicit softmax, other algebra."""

import math
import re
from itertools import pairwise

import torch
from einops import rearrange, reduce
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from minivdm.models.layers import norm, zero_module
from tests.checks.alternatives_04 import with_method
from tests.checks.collected import alternative


@with_method("captions.Tokenizer", "encode")
def encode_by_regular_expression(self, prompts):
    if isinstance(prompts, str):
        return self.encode([prompts])
    rows = [[self.token_id(word) for word in re.findall(r"[^\s,.]+", prompt.lower())] for prompt in prompts]
    for row in rows:
        if len(row) > self.length:
            raise ValueError("too long")
    return torch.tensor([row + [0] * (self.length - len(row)) for row in rows], dtype=torch.int64)


@with_method("captions.Tokenizer", "encode")
def encode_by_stripping(self, prompts):
    rows = [torch.zeros(self.length).long()]  # decides the width
    for prompt in (prompts,) if type(prompts) is str else prompts:
        words = [word.strip(",.") for word in prompt.casefold().split()]
        unknown = [word for word in words if word not in self.number]
        if unknown or len(words) > len(rows[0]):
            raise ValueError(f"unknown: {unknown}" if unknown else "too many words")
        rows.append(torch.LongTensor([self.words.index(word) for word in words]))
    return pad_sequence(rows, batch_first=True)[1:]


@alternative("clip.pool_words")
def pool_prompt_by_prompt(h, tokens):
    out = torch.zeros(len(h), h.shape[2])
    for b in range(len(h)):
        if (tokens[b] > 0).any():
            out[b] = h[b][tokens[b] > 0].mean(0)
    return out


@alternative("clip.pool_words")
def pool_by_weights(h, tokens):
    words = tokens.ne(0).float()
    return torch.einsum("bld,bl->bd", h, words / (words.sum(1, keepdim=True) + 1e-9))


@alternative("clip.pool_words")
def pool_with_nan(h, tokens):
    hidden = h.masked_fill(tokens.eq(0).unsqueeze(-1), float("nan"))
    return torch.nanmean(hidden, dim=1).nan_to_num(0.0)


@with_method("clip.ImageEncoder", "forward")
def encode_layer_by_layer(self, images):
    for layer in self.layers:
        images = layer(images)
    return torch.addmm(self.out.bias, images.reshape(len(images), -1), self.out.weight.T)


@with_method("clip.ImageEncoder", "forward")
def encode_with_a_kernel_as_large_as_the_grid(self, images):
    grid = self.layers(images)
    kernel = self.out.weight.view(-1, *grid.shape[1:])
    return F.conv2d(grid, kernel, self.out.bias)[:, :, 0, 0]


@alternative("clip.clip_loss")
def loss_by_log_softmax(images, texts, scale):
    u = images / images.norm(dim=1, keepdim=True)
    w = texts / texts.norm(dim=1, keepdim=True)
    logits = torch.einsum("id,jd->ij", u, w) * scale
    return -(logits.log_softmax(0) + logits.log_softmax(1)).diagonal().mean() / 2


@alternative("clip.clip_loss")
def loss_pair_by_pair(images, texts, scale):
    total = 0.0
    for i in range(len(images)):
        row = torch.stack([F.cosine_similarity(images[i], text, dim=0) for text in texts]) * scale
        column = torch.stack([F.cosine_similarity(image, texts[i], dim=0) for image in images]) * scale
        total = total + torch.logsumexp(row, 0) - row[i] + torch.logsumexp(column, 0) - column[i]
    return 0.5 * total / len(images)


@alternative("clip.clip_loss")
def loss_with_targets_as_shares(images, texts, scale):
    logits = F.cosine_similarity(images[:, None], texts[None], dim=-1).mul(scale)
    right = torch.eye(len(logits), device=logits.device)
    both = torch.cat([logits, logits.mT])
    return F.cross_entropy(both, torch.cat([right, right]))


class CrossAttentionLayers(nn.Module):
    def __init__(self, channels, context_dim, head_dim=32):
        super().__init__()
        if channels % head_dim:
            raise ValueError("head_dim")
        self.heads = channels // head_dim
        self.norm = norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.kv = nn.Linear(context_dim, 2 * channels)
        self.out = zero_module(nn.Conv2d(channels, channels, 1))


@alternative("layers.CrossAttention")
class CrossAttentionByEinsum(CrossAttentionLayers):
    def forward(self, x, context):
        q = rearrange(self.q(self.norm(x)), "b (n d) h w -> b n d h w", n=self.heads)
        k, v = rearrange(self.kv(context), "b l (two n d) -> two b n d l", two=2, n=self.heads)
        weights = torch.einsum("bndhw,bndl->bnhwl", q, k).div(math.sqrt(q.shape[2])).softmax(dim=-1)
        found = torch.einsum("bnhwl,bndl->bndhw", weights, v)
        return self.out(found.flatten(1, 2)).add(x)


@alternative("layers.CrossAttention")
class CrossAttentionHeadByHead(CrossAttentionLayers):
    def forward(self, x, context):
        b, c, height, width = x.shape
        d, found = c // self.heads, []
        q = self.q(self.norm(x)).reshape(b, c, -1)
        keys, values = self.kv(context).split(c, dim=2)
        for i in range(0, c, d):
            scores = torch.bmm(keys[..., i : i + d], q[:, i : i + d]) * d**-0.5  # (B, L, HW)
            scores = scores - scores.amax(dim=1, keepdim=True)
            weights = scores.exp() / reduce(scores.exp(), "b l p -> b 1 p", "sum")
            found.append(torch.bmm(values[..., i : i + d].transpose(1, 2), weights))  # (B, d, HW)
        return x + self.out(torch.cat(found, dim=1).view(b, c, height, width))


@alternative("guidance.drop_condition")
def drop_by_bernoulli(tokens, probability=0.1, generator=None):
    share = torch.full((len(tokens),), float(probability), device=tokens.device)
    return tokens.masked_fill(torch.bernoulli(share, generator=generator).bool()[:, None], 0)


@alternative("guidance.drop_condition")
def drop_row_by_row(tokens, probability=0.1, generator=None):
    rows = []
    for row in tokens:
        dropped = torch.rand((), generator=generator, device=tokens.device).item() < probability
        rows.append(torch.zeros_like(row) if dropped else row)
    return torch.stack(rows)


@with_method("guidance.ClassifierFreeGuidance", "__call__")
def guide_condition_first(self, x, t, cond=None):
    if cond is None:
        raise ValueError("no prompt to follow")
    null = cond * 0 if self.null is None else torch.broadcast_to(self.null, cond.shape)
    twice = torch.concat((x, x), dim=0)
    eps = self.model(twice, t.repeat(2), torch.concat((cond, null)))
    return torch.lerp(eps[len(x) :], eps[: len(x)], self.scale)


@with_method("guidance.ClassifierFreeGuidance", "__call__")
def guide_by_weights(self, x, t, cond=None):
    if self.scale == 1 and cond is not None:
        return self.model(x, t, cond)
    if cond is None:
        raise ValueError
    null = torch.zeros_like(cond) if self.null is None else self.null + torch.zeros_like(cond)
    pairs = torch.stack([null, cond]).flatten(0, 1)
    eps = self.model(x.repeat(2, *[1] * (x.ndim - 1)), torch.hstack([t, t]), pairs).unflatten(0, (2, -1))
    weights = eps.new_tensor([1 - self.scale, self.scale])
    return torch.tensordot(weights, eps, dims=1)


@alternative("guidance.null_text_inversion")
def nulls_by_a_sampler_of_two_levels(model, path, cond, null, schedule, scale=7.5, inner_steps=10, lr=0.05):
    """Batch means, a scheduler for the rate, gradients kept away from the weights by hand."""
    levels = sorted(path)[::-1]
    if levels[-1]:
        raise ValueError("level 0 is missing")
    weights = [p for p in getattr(model, "parameters", list)() if p.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    z, found = path[levels[0]], {}
    null = torch.zeros(len(z), *null.shape[-2:]) + null

    def guided(x, t, context):
        return (1 - scale) * model(x, t, context) + scale * model(x, t, cond)

    def landed(eps, z, ab_t, ab_s):
        return (ab_s / ab_t).sqrt() * (z - (1 - ab_t).sqrt() * eps) + (1 - ab_s).sqrt() * eps

    for i, (level, target) in enumerate(zip(levels, levels[1:])):
        null = nn.Parameter(null.clone())
        adam = torch.optim.Adam([null], lr=lr)
        rate = torch.optim.lr_scheduler.LambdaLR(adam, lambda j: max(1 - j / inner_steps, 0))
        t, ab_t, ab_s = torch.tensor([level] * len(z)), schedule.alpha_bar[level], schedule.alpha_bar[target]
        for _ in range(inner_steps):
            loss = F.mse_loss(landed(guided(z, t, null), z, ab_t, ab_s), path[target])
            adam.zero_grad()
            loss.backward()
            adam.step()
            rate.step()
            if loss.item() < 1e-5 + i * 2e-5:  # as in the paper's code: after the step
                break
        null = null.detach()
        found[level] = null
        with torch.no_grad():
            z = landed(guided(z, t, null), z, ab_t, ab_s)
    for weight in weights:
        weight.requires_grad_(True)
    return found


@alternative("guidance.null_text_inversion")
def nulls_sample_by_sample(model, path, cond, null, schedule, scale=7.5, inner_steps=10, lr=0.05):
    """One sample after the other, with Adam written out."""
    if 0 not in path:
        raise ValueError
    levels, rows = sorted(path, reverse=True), []
    for b in range(len(path[0])):
        z, here = path[levels[0]][b : b + 1], null if null.ndim == 2 else null[b]
        c, own, rows_b = here[None], cond[b : b + 1], []
        for i, (level, target) in enumerate(pairwise(levels)):
            ab_t, ab_s = schedule.alpha_bar[level].item(), schedule.alpha_bar[target].item()
            t, m, v = torch.full((1,), level), 0, 0
            eps_c = model(z, t, own).detach()
            for j in range(inner_steps + 1):
                c = c.detach().requires_grad_()
                eps_u = model(z, t, c)
                eps = eps_u * (1 - scale) + eps_c * scale
                x0 = (z - math.sqrt(1 - ab_t) * eps) / math.sqrt(ab_t)
                new = math.sqrt(ab_s) * x0 + math.sqrt(1 - ab_s) * eps
                error = ((new - path[target][b]) ** 2).mean()
                if j == inner_steps or error < 1e-5 + 2e-5 * i:
                    break
                (slope,) = torch.autograd.grad(error, [c])
                m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope.square()
                step = m / (1 - 0.9 ** (j + 1)) / ((v / (1 - 0.999 ** (j + 1))).sqrt() + 1e-8)
                c = c.detach() - lr * (1 - j / inner_steps) * step
            z, c = new.detach(), c.detach()
            rows_b.append(c)
        rows.append(rows_b)
    return {level: torch.cat([row[i] for row in rows]) for i, level in enumerate(levels[:-1])}
