"""Chapter 05 written in other ways: regular expressions, loops, einsum, softmax and Adam by hand, other algebra."""

import re

import torch
from torch.nn import functional as F

from minivdm.course.exercise import edited
from tests.checks.collected import alternative, with_method


@with_method("captions.Tokenizer", "encode")
def encode_by_regular_expression(self, prompts):
    if isinstance(prompts, str):
        return self.encode([prompts])
    rows = [[self.token_id(word) for word in re.findall(r"[^\s,.]+", prompt.lower())] for prompt in prompts]
    if any(len(row) > self.length for row in rows):
        raise ValueError("too long")
    return torch.tensor([row + [0] * (self.length - len(row)) for row in rows], dtype=torch.int64)


@alternative("clip.pool_words")
def pool_prompt_by_prompt(h, tokens):
    rows = [vectors[numbers > 0] for vectors, numbers in zip(h, tokens)]
    return torch.stack([row.mean(0) if len(row) else h[0, 0] * 0 for row in rows])


@with_method("clip.ImageEncoder", "forward")
def encode_with_a_kernel_as_large_as_the_grid(self, images):
    grid = self.layers(images)
    return F.conv2d(grid, self.out.weight.view(-1, *grid.shape[1:]), self.out.bias)[:, :, 0, 0]


@alternative("clip.clip_loss")
def loss_pair_by_pair(images, texts, scale):
    total = 0.0
    for i in range(len(images)):
        for one, others in ((images[i], texts), (texts[i], images)):
            row = F.cosine_similarity(one[None], others) * scale
            total = total + torch.logsumexp(row, 0) - row[i]
    return 0.5 * total / len(images)


@with_method("layers.CrossAttention", "forward")
def attend_by_einsum(self, x, context):
    q = self.q(self.norm(x)).unflatten(1, (self.heads, -1))
    k, v = self.kv(context).unflatten(2, (2, self.heads, -1)).unbind(2)
    weights = (torch.einsum("bndhw,blnd->bnhwl", q, k) * q.shape[2] ** -0.5).softmax(-1)
    return self.out(torch.einsum("bnhwl,blnd->bndhw", weights, v).flatten(1, 2)).add(x)


@alternative("guidance.drop_condition")
def drop_row_by_row(tokens, probability=0.1, generator=None):
    tokens = tokens.clone()
    for row in tokens:
        row *= torch.rand((), generator=generator, device=tokens.device).item() >= probability
    return tokens


# Shorter ways round are edits of the reference, as the mistakes are.
for name, changes in (
    ("captions.Tokenizer", {'.replace(",", " ").replace(".", " ")': '.translate({44: " ", 46: " "})'}),
    ("clip.pool_words", {"(h * words).sum(dim=1)": 'torch.einsum("bld,bl->bd", h, words[..., 0].to(h.dtype))'}),
    ("clip.ImageEncoder", {"self.out(grid.flatten(1))": "grid.flatten(1) @ self.out.weight.T + self.out.bias"}),
    ("clip.clip_loss", {"F.cross_entropy(": "(lambda z, _: -z.log_softmax(dim=1).diagonal().mean())("}),
    ("layers.CrossAttention", {"scaled_dot_product_attention(q, k, v)": "softmax(q @ k.mT / q.size(3) ** 0.5, 3) @ v"}),
    (
        "guidance.drop_condition",
        {"torch.rand(len(tokens), 1": "tokens[:, :1].bernoulli(1 - probability", ", device=tokens.device": ""},
    ),
    ("guidance.ClassifierFreeGuidance", {"[null, cond]": "[cond, null]", "eps_u, eps_c =": "eps_c, eps_u ="}),
    ("guidance.ClassifierFreeGuidance", {"eps_u + self.scale * (eps_c - eps_u)": "eps_u.lerp(eps_c, self.scale)"}),
    (
        "guidance.null_text_inversion",
        {  # a mean over the batch for the gradient; each sample's error compared by itself
            "error.sum(), null)": "error.mean(), [null])",
            "error.max() < 1e-5 + 2e-5 * i": "(error < 1e-5 + 2e-5 * i).all()",
        },
    ),
    (
        "guidance.null_text_inversion",
        {
            "adam = torch.optim.Adam([null])": "m = v = 0",
            'adam.param_groups[0]["lr"] =': "rate =",
            "(null.grad,)": "(slope,)",
            "adam.step()": "m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2\n            "
            "step = m / (1 - 0.9 ** (j + 1)) / ((v / (1 - 0.999 ** (j + 1))).sqrt() + 1e-8)\n            "
            "null = (null - rate * step).detach().requires_grad_()",
        },
    ),
):
    alternative(name)(edited(name, changes))
