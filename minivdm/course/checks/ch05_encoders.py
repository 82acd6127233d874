"""Exercises 5.2 and 5.3: one vector for a prompt, one vector for a picture."""

import torch
from torch.nn import functional as F

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


@pool_words.misconception(
    "padding counted",
    "This is the mean over all L places. What the encoder makes of padding counts as much as words do; leave it out: "
    "tokens != 0 says where the words are.",
)
def _(h, tokens):
    return h.mean(dim=1)


@pool_words.misconception(
    "divided by L",
    "The words alone are added up, but the sum is divided by all L places, so a short prompt gets a short vector. "
    "Divide by the number of words.",
)
def _(h, tokens):
    return (h * (tokens != 0)[:, :, None]).mean(dim=1)


@pool_words.misconception("the sum", "This is the sum over the words. Divide it by their number: the mean.")
def _(h, tokens):
    return (h * (tokens != 0)[:, :, None]).sum(dim=1)


@pool_words.misconception("the largest", "This takes the largest value of each feature over the words, not the mean.")
def _(h, tokens):
    best = h.masked_fill((tokens == 0)[:, :, None], -torch.inf).amax(dim=1)
    return best.nan_to_num(neginf=0.0)


@pool_words.misconception(
    "NaN for the empty prompt",
    "An empty prompt has 0 words, and 0 / 0 is NaN. Divide by max(1, number of words): .clamp(min=1).",
)
def _(h, tokens):
    words = (tokens != 0)[:, :, None]
    return (h * words).sum(dim=1) / words.sum(dim=1)


@pool_words.misconception(
    "one word too many", "The sum is divided by the number of words *plus* 1. max(1, n) is n wherever there is a word."
)
def _(h, tokens):
    words = (tokens != 0)[:, :, None]
    return (h * words).sum(dim=1) / (words.sum(dim=1) + 1)


@pool_words.misconception(
    "words of the whole batch",
    "All sums are divided by one number, the words of the whole batch or their average. Each prompt has its own: sum "
    "over dim=1 alone.",
)
def _(h, tokens):
    words = (tokens != 0)[:, :, None]
    return (h * words).sum(dim=1) / words.sum()


@pool_words.misconception("the first place", "This is the vector of the first word. All words count the same.")
def _(h, tokens):
    return h[:, 0]


@pool_words.misconception("the last place", "This is the vector at the last place, which is padding most of the time.")
def _(h, tokens):
    return h[:, -1]


@pool_words.misconception(
    "the last word",
    "This is the vector of the last word, where OpenAI's CLIP reads its text. Here the mean over all words is asked "
    "for.",
)
def _(h, tokens):
    last = ((tokens != 0).sum(dim=1) - 1).clamp(min=0)
    return h[torch.arange(len(h)), last] * (tokens[:, :1] != 0)


@pool_words.misconception(
    "the padding alone", "This is the mean over the *padding*: the mask is turned round. Words are where tokens != 0."
)
def _(h, tokens):
    padding = (tokens == 0)[:, :, None]
    return (h * padding).sum(dim=1) / padding.sum(dim=1).clamp(min=1)


@pool_words.misconception(
    "weighted by the numbers",
    "Each vector is multiplied by its word's number. A number is only a name: what counts is whether it is 0.",
)
def _(h, tokens):
    return (h * tokens[:, :, None]).sum(dim=1) / (tokens != 0).sum(dim=1, keepdim=True).clamp(min=1)


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


def encode_with(mistake, self, images):
    """An image encoder with room for one mistake."""
    grid = self.layers((images + 1) / 2 if mistake == "halved" else images)  # (B, C, H', W')
    if mistake == "grid":
        return self.out(grid)
    if mistake == "flatten":
        return self.out(grid.flatten())
    if mistake == "pooled":
        return self.out(grid.mean(dim=(2, 3)))
    if mistake == "channels last":
        return self.out(grid.permute(0, 2, 3, 1).flatten(1))
    if mistake == "turned":
        return self.out(grid.transpose(2, 3).flatten(1))
    flat = grid.flatten(1)
    if mistake == "shuffled":
        return self.out(grid.flatten(2).permute(1, 0, 2).reshape(flat.shape))
    out = flat if mistake == "no out" else self.out(flat)
    if mistake == "unit":
        return F.normalize(out, dim=-1)
    return F.silu(out) if mistake == "silu" else out.detach() if mistake == "detached" else out


def wrong(mistake, label, hint):
    """Add a misconception: the encoder above with one mistake in it."""

    class Wrong:
        def forward(self, images):
            return encode_with(mistake, self, images)

    image_encoder.misconception(label, hint)(Wrong)


wrong(
    "grid",
    "not flat",
    "`self.out` is one linear map of all numbers of a picture, so it wants a row for each: lay the grid (B, C, H', W') "
    "out as (B, C H' W') first, with flatten(1).",
)
wrong(
    "flatten",
    "the batch flattened, too",
    "flatten() makes *one* row of the whole batch. Keep the pictures apart: flatten(1) begins at axis 1.",
)
wrong(
    "pooled",
    "averaged over the grid",
    "The grid is reduced to one number per channel, and with it goes *where* things are. `self.out` looks at all "
    "places: flatten the grid instead.",
)
wrong(
    "channels last",
    "channels moved to the end",
    "The numbers of the grid are laid out in another order, place by place. Flatten (C, H', W') as it is.",
)
wrong("turned", "rows and columns swapped", "The grid's rows and columns are swapped. Flatten (C, H', W') as it is.")
wrong(
    "shuffled",
    "pictures mixed up",
    "Each row holds numbers of several pictures: after a permute, reshape has mixed the batch up. Keep axis 0 first.",
)
wrong("no out", "`out` missing", "This is the flat grid. The last step is missing: self.out makes D numbers of it.")
wrong(
    "unit",
    "normalised already",
    "The embedding has length 1. That is done later, in embed_images: return it as it is.",
)
wrong("silu", "an activation at the end", "There is an activation after `self.out`. An embedding may point anywhere.")
wrong("halved", "pictures moved to [0, 1]", "The pictures are moved to [0, 1]. They come in [-1, 1]: leave them so.")
wrong("detached", "cut off from the weights", "The values are right, but no gradient reaches the weights: no detach().")
