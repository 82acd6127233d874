"""Exercises 5.2 and 5.3: one vector for a prompt, one vector for a picture."""

import torch

from minivdm.course.exercise import close, exercise, holds

from .ch04_common import convolved, fresh, normed, silu
from .common import layer_probes


@exercise("clip.pool_words")
def pool_words(f, draw):
    def batch(counts, L=6, D=5):
        """Tokens with so many words each and 0 after them, and what an encoder could make of them: nowhere 0."""
        tokens = torch.zeros(len(counts), L, dtype=torch.long)
        for row, n in zip(tokens, counts):
            row[:n] = draw.integers(1, 40, n)
        return draw.normal(len(counts), L, D) + 1, tokens

    def want(h, tokens):
        rows = []
        for vectors, numbers in zip(h.double(), tokens.tolist()):
            words = [vector for vector, number in zip(vectors, numbers) if number != 0]
            rows.append(sum(words, torch.zeros(h.shape[2]).double()) / max(1, len(words)))
        return torch.stack(rows)

    h, tokens = batch([draw.integers(2, 3), 4, 1, 5, 2])
    tokens[1, 0], tokens[0, 1] = 1, 45  # the first word of a vocabulary, and a late one
    h[0, 0, :2], h[1, :, 0] = 0, 0  # as good numbers as any
    yield close("prompts of 1 to 5 words, L = 6", f(h, tokens), want(h, tokens), dtype=torch.float32)
    h, tokens = batch([6, 3, 6])
    yield close("prompts of 3 and 6 words, L = 6", f(h, tokens), want(h, tokens), dtype=torch.float32)
    h, tokens = batch([2, 0, 3])
    got = f(h, tokens)
    yield close("the other prompts, where one is empty", got[[0, 2]], want(h, tokens)[[0, 2]], dtype=torch.float32)
    yield close("the empty prompt among others", got[[1]], want(h, tokens)[[1]], dtype=torch.float32)
    h, tokens = batch([6, 6, 6])
    tokens[0, :2], tokens[1, 1], tokens[2, 3:5] = 0, 0, 0
    yield close("zeros in front of words and between them", f(h, tokens), want(h, tokens), dtype=torch.float32)
    h = h.bfloat16()
    yield close("h in bfloat16", f(h, tokens), want(h, tokens), 0.02, 0.02, dtype=torch.bfloat16)


@pool_words.promises("samples", "dtype", "layout", "device", "gradients")
def prompts_of_all_lengths(f, draw):
    tokens = torch.tensor([[3, 1, 0, 0], [7, 2, 9, 4], [0, 0, 0, 0]])
    return f, dict(h=draw.normal(3, 4, 5), tokens=tokens)


pool_words.edit(
    "padding counted",
    {"(h * words).sum(dim=1) / words.sum(dim=1).clamp(min=1)": "h.mean(dim=1)"},
    "This is the mean over all L places. What the encoder makes of padding counts as much as words do; leave it out: "
    "tokens != 0 says where the words are.",
)
pool_words.edit(
    "divided by L",
    {"words.sum(dim=1).clamp(min=1)": "words.shape[1]"},
    "The words alone are added up, but the sum is divided by all L places, so a short prompt gets a short vector. "
    "Divide by the number of words.",
)
pool_words.edit(
    "the sum",
    {" / words.sum(dim=1).clamp(min=1)": ""},
    "This is the sum over the words. Divide it by their number: the mean.",
)
pool_words.edit(
    "NaN for the empty prompt",
    {".clamp(min=1)": ""},
    "An empty prompt has 0 words, and 0 / 0 is NaN. Divide by max(1, number of words): .clamp(min=1).",
)
pool_words.edit(
    "words of the whole batch",
    {"words.sum(dim=1)": "words.sum()"},
    "All sums are divided by one number, the words of the whole batch. Each prompt has its own: sum over dim=1 alone.",
)
pool_words.edit(
    "the last word",
    {"(h * words).sum(dim=1) / words.sum(dim=1).clamp(min=1)": "h[torch.arange(len(h)), words.sum(dim=1)[:, 0] - 1]"},
    "This is the vector of the last word, where OpenAI's CLIP reads its text. Here the mean over all words is asked "
    "for.",
)
pool_words.edit(
    "the padding alone",
    {"tokens != 0": "tokens == 0"},
    "This is the mean over the *padding*: the mask is turned round. Words are where tokens != 0.",
)
pool_words.edit(
    "the largest",
    {"(h * words).sum(dim=1) / words.sum(dim=1).clamp(min=1)": "torch.where(words, h, -1e9).amax(dim=1)"},
    "This is the largest number among the words. The mean is asked for.",
)
pool_words.edit(
    "one more than the words",
    {"words.sum(dim=1).clamp(min=1)": "(words.sum(dim=1) + 1)"},
    "The sum is divided by one more than the number of words. Only an empty prompt needs a 1 there: max(1, number).",
)
pool_words.edit(
    "the longest prompt",
    {"words.sum(dim=1).clamp(min=1)": "words.sum(dim=1).clamp(min=1).max()"},
    "All sums are divided by the number of words in the longest prompt. Each prompt has its own.",
)
pool_words.edit(
    "the root of the number",
    {".clamp(min=1)": ".clamp(min=1) ** 0.5"},
    "The sum is divided by the root of the number of words. The mean divides by the number itself.",
)
pool_words.edit(
    "padding for the empty prompt",
    {"tokens != 0": "(tokens != 0) | (tokens == 0).all(dim=1, keepdim=True)"},
    "An empty prompt gives the mean of its padding. It has no words, so the result is zero.",
)
pool_words.edit(
    "up to the first zero",
    {"tokens != 0": "(tokens != 0).cumprod(dim=1)"},
    "Words after a 0 are not counted. Each place counts by itself: tokens != 0.",
)


@exercise("clip.ImageEncoder")
def image_encoder(f, draw):
    def want(encoder, images):
        """The embeddings in float64, and what each part is given."""
        grid = images.double()
        for convolution, norm, _ in zip(*[iter(encoder.layers)] * 3):
            grid = silu(normed(convolved(grid, convolution), norm))  # (B, C, H', W')
        _, C, H, W = grid.shape
        weight = encoder.out.weight.double().reshape(-1, C, H, W)  # the grid in one row: channel, row, column
        rows = [sum((weight[:, :, i, j] @ one[:, i, j]) for i in range(H) for j in range(W)) for one in grid]
        parts = dict(layers=images.double(), out=grid.reshape(len(grid), -1))
        return torch.stack(rows) + encoder.out.bias.double(), parts

    like = dict(atol=2e-4, rtol=1e-3, dtype=torch.float32)
    encoder, images = fresh(f(dim=6, width=4, size=8), draw), draw.uniform(2, 3, 8, 8)
    same = torch.equal(encoder(images), encoder(images))
    yield holds("the same pictures, twice", same, "two calls gave two results: is something drawn at random?")
    for size, B in ((32, 2), (8, 1), (24, 3)):
        encoder, images = fresh(f(dim=6, width=4, size=size), draw), draw.uniform(B, 3, size, size, low=-1)
        name = f"{B} of {size} x {size} pixels, so that the grid is {size // 8} x {size // 8}"
        yield from layer_probes(name, encoder, [images], *want(encoder, images), **like)
    turned = images.contiguous(memory_format=torch.channels_last)
    name = "pictures whose channels lie together in memory (channels_last)"
    yield close(name, encoder.to(memory_format=torch.channels_last)(turned), want(encoder, images)[0], **like)


@image_encoder.promises("samples", "dtype", "layout", "device", "gradients")
def small_pictures(f, draw):
    return fresh(f(dim=5, width=4, size=16), draw), dict(images=draw.uniform(3, 3, 16, 16, low=-1))


image_encoder.edit(
    "not flat",
    {"grid.flatten(1)": "grid"},
    "`self.out` is one linear map of all numbers of a picture, so it wants a row for each: lay the grid (B, C, H', W') "
    "out as (B, C H' W') first, with flatten(1).",
)
image_encoder.edit(
    "the batch flattened, too",
    {"flatten(1)": "flatten()"},
    "flatten() makes *one* row of the whole batch. Keep the pictures apart: flatten(1) begins at axis 1.",
)
image_encoder.edit(
    "averaged over the grid",
    {"flatten(1)": "mean(dim=(2, 3))"},
    "The grid is reduced to one number per channel, and with it goes *where* things are. `self.out` looks at all "
    "places: flatten the grid instead.",
)
image_encoder.edit(
    "channels moved to the end",
    {"grid.flatten(1)": "grid.permute(0, 2, 3, 1).flatten(1)"},
    "The numbers of the grid are laid out in another order, place by place. Flatten (C, H', W') as it is.",
)
image_encoder.edit(
    "`out` missing",
    {"self.out(grid.flatten(1))": "grid.flatten(1)"},
    "This is the flat grid. The last step is missing: self.out makes D numbers of it.",
)
image_encoder.edit(
    "normalised already",
    {"self.out(grid.flatten(1))": "F.normalize(self.out(grid.flatten(1)), dim=-1)"},
    "The embedding has length 1. That is done later, in embed_images: return it as it is.",
)
image_encoder.edit(
    "column by column",
    {"grid.flatten(1)": "grid.mT.flatten(1)"},
    "Rows and columns of the grid are swapped: the order in a row is channel, row, column. Flatten the grid as it is.",
)
image_encoder.edit(
    "the mean, repeated",
    {"grid.flatten(1)": "grid.mean(dim=(2, 3), keepdim=True).expand_as(grid).flatten(1)"},
    "Each channel's mean over the grid stands at all its places, so it is forgotten where things are. Flatten the grid "
    "itself.",
)
image_encoder.edit(
    "no bias",
    {"self.out(grid.flatten(1))": "grid.flatten(1) @ self.out.weight.T"},
    "The bias of self.out is missing: call the layer, self.out(...).",
)
