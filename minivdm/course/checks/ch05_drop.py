"""Exercise 5.6: dropping the condition in training."""

import torch

from minivdm.course.exercise import close, equal, exercise, holds, near
from minivdm.course.probes import describe


@exercise("guidance.drop_condition")
def drop_condition(f, draw):
    n, share = 6000, draw.choice([0.4, 0.7])
    tokens = draw.integers(1, 40, n, 8)
    got = f(tokens, share, draw.generator())
    like = torch.is_tensor(got) and got.shape == tokens.shape
    came = tuple(got.shape) if torch.is_tensor(got) else describe(got)
    yield holds("one row for each prompt", like, f"expected a tensor ({n}, 8), got {came}", usable=False)
    if not like:
        return
    gone, kept = got == 0, got == tokens
    message = f"{int((~gone & ~kept).sum()):,} of {tokens.numel():,} numbers are neither 0 nor what they were"
    yield holds("each number is 0 or what it was", (gone | kept).all(), message)
    gone, kept = gone.all(dim=1), kept.all(dim=1)
    message = f"{int((~gone & ~kept).sum()):,} of {n:,} prompts are neither all 0 nor what they were"
    yield holds("each prompt is dropped or kept as a whole", (gone | kept).all(), message)
    yield holds("they are longs still", got.dtype == torch.long, f"expected int64, got {got.dtype}", usable=False)
    message = f"of {n:,} prompts, {'all' if gone.all() else 'none'} dropped at probability = {share}"
    yield holds("one batch has dropped and kept prompts", 0 < gone.sum() < n, message)
    yield near(f"share dropped of {n:,}, probability = {share}", gone.float().mean().item(), share, within=0.035)
    first, second = (part.float().mean().item() for part in gone.chunk(2))
    message = f"{first:.3f} of the first half of the batch were dropped, {second:.3f} of the second"
    yield holds("where a prompt stands does not matter", abs(first - second) < 0.07, message)
    generator = draw.generator()
    batches = [f(tokens[:40], share, generator).eq(0).all(dim=1) for _ in range(30)]
    message = "30 calls dropped the same ones: draw from the generator as it is, without a seed of your own"
    yield holds("other prompts are dropped in each call", not all(map(batches[0].equal, batches)), message)
    counts = [int(batch.sum()) for batch in batches]
    message = f"in 30 batches of 40 it was {counts[0]} each time: is it coins that decide, anew in each call?"
    yield holds("the number of dropped prompts varies", len(set(counts)) > 1, message)
    alone = [f(tokens[i : i + 1], share, generator) for i in range(250)]
    shapes = {tuple(one.shape) for one in alone}
    yield equal("shapes for batches of one", shapes, {(1, 8)}, usable=False)
    gone = sum(bool((one == 0).all()) for one in alone)
    message = f"of 250 batches of one, {gone} were dropped at probability = {share}: each coin is thrown by itself"
    yield holds("a prompt alone is dropped as often as in a batch", abs(gone / 250 - share) < 0.16, message)
    for p in (0.005, 0.4, 0.7):
        gone = (f(tokens.repeat(4, 1), p, generator) == 0).all(dim=1).double().mean().item()
        yield near(f"share dropped of {4 * n:,}, probability = {p}", gone, p, within=5 * (p * (1 - p) / 4 / n) ** 0.5)
    usual = f(tokens, generator=draw.generator())
    yield near("share dropped by default", (usual == 0).all(dim=1).float().mean().item(), 0.1, within=0.02)
    for p, rows in ((0.0, tokens), (1.0, 0 * tokens)):
        yield close(f"probability = {p:g} drops {'every' if p else 'no'}thing", f(tokens, p, draw.generator()), rows)
    yield equal("shape for prompts of one word", tuple(f(tokens[:3, :1], 0.5).shape), (3, 1))


@drop_condition.promises(
    "generator",
    "device",
    "layout",
    samples="coins are thrown for the whole batch at once",
    dtype="tokens are whole numbers",
    gradients="tokens are whole numbers",
    noise="a prompt's words share one coin",
)
def many_prompts(f, draw):
    return f, dict(tokens=draw.integers(1, 9, 200, 3), probability=0.5, generator=draw.generator())


drop_condition.edit(
    "single words dropped",
    {"len(tokens), 1": "tokens.shape"},
    "A coin is thrown for each *word*, which leaves half sentences. One coin for each prompt: draw (B, 1), not (B, L).",
)
drop_condition.edit(
    "one coin for the batch",
    {"len(tokens), 1": "1, 1"},
    "One coin decides for the whole batch. Each prompt has its own: draw (B, 1).",
)
drop_condition.edit(
    "kept instead of dropped",
    {">=": "<"},
    "This *keeps* a prompt with that probability. It is the probability of dropping.",
)
drop_condition.edit(
    "an exact share of the batch",
    {
        "torch.rand(len(tokens), 1, ": "torch.randperm(len(tokens), ",
        "coins >= probability": "coins[:, None] >= int(probability * len(tokens))",
    },
    "Exactly that share of the batch is dropped, rounded down: of a batch of one never any. Throw a coin for each "
    "prompt.",
)
drop_condition.edit(
    "a coin for each place",
    {"len(tokens), 1": "1, tokens.shape[1]"},
    "A coin is thrown for each *place* in a prompt, for all prompts at once. Each prompt has one coin: draw (B, 1).",
)
drop_condition.edit(
    "normal numbers",
    {"torch.rand(": "torch.randn("},
    "The coins are normal numbers, and half of those are below 0. Uniform ones, torch.rand, are below p with "
    "probability p.",
)
