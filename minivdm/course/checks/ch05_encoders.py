"""Exercises 5.2 and 5.3: one vector for a prompt, one vector for a picture."""

import torch

from minivdm.course.exercise import close, exercise, holds

from .ch04_common import convolved, fresh, normed, silu


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

    h, tokens = batch([draw.integers(2, 3), 4, 1, 6, 5])
    yield close("prompts of 1 to 6 words", f(h, tokens), want(h, tokens), dtype=torch.float32)
    h, tokens = batch([2, 0, 3])
    yield close("with an empty prompt among them", f(h, tokens), want(h, tokens), dtype=torch.float32)


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


@exercise("clip.ImageEncoder")
def image_encoder(f, draw):
    def want(encoder, images):
        grid = images.double()
        for convolution, norm, _ in zip(*[iter(encoder.layers)] * 3):
            grid = silu(normed(convolved(grid, convolution), norm))  # (B, C, H', W')
        _, C, H, W = grid.shape
        weight = encoder.out.weight.double().reshape(-1, C, H, W)  # the grid in one row: channel, row, column
        rows = [sum((weight[:, :, i, j] @ one[:, i, j]) for i in range(H) for j in range(W)) for one in grid]
        return torch.stack(rows) + encoder.out.bias.double()

    like = dict(atol=2e-4, rtol=1e-3, dtype=torch.float32)
    encoder, images = fresh(f(dim=6, width=4, size=8), draw), draw.uniform(1, 3, 8, 8, low=-1)
    got = encoder(images)
    yield close("one picture of 8 x 8 pixels, so that the grid is 1 x 1", got, want(encoder, images), **like)
    encoder, images = fresh(f(dim=6, width=4, size=16), draw), draw.uniform(3, 3, 16, 16, low=-1)
    got = encoder(images)
    yield close("3 pictures of 16 x 16 pixels, a grid of 2 x 2", got, want(encoder, images), **like)
    message = "the embedding does not depend on the weights any more: is there a no_grad or a detach?"
    yield holds("the weights can learn", torch.is_tensor(got) and got.requires_grad, message)


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
