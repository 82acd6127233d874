"""Exercise 5.6: dropping the condition in training."""

import torch

from minivdm.course.exercise import close, exercise, holds, near

from .common import right_device, same_seed_same_result


@exercise("guidance.drop_condition")
def drop_condition(f, draw):
    n, share = 3000, draw.choice([0.2, 0.3, 0.7, 0.8])
    tokens = draw.integers(1, 40, n, 3)
    got = f(tokens, share, draw.generator())
    like = torch.is_tensor(got) and got.shape == tokens.shape
    came = tuple(got.shape) if torch.is_tensor(got) else type(got).__name__
    yield holds("one row for each prompt", like, f"expected a tensor ({n}, 3), got {came}", usable=False)
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
    yield near(f"share dropped of {n:,}, probability = {share}", gone.float().mean().item(), share, within=0.045)
    halves = [part.float().mean().item() for part in gone.chunk(2)]
    yield near("share dropped in the first half of the batch", halves[0], share, within=0.065)
    alone = [f(tokens[i : i + 1], share, draw.generator()).eq(0).all().item() for i in range(250)]
    yield near("share dropped when prompts come one by one", sum(alone) / 250, share, within=0.14)
    usual = f(tokens, generator=draw.generator())
    yield near("share dropped by default", (usual == 0).all(dim=1).float().mean().item(), 0.1, within=0.035)
    few = tokens[:6]
    yield close("probability = 0 drops nothing", f(few, 0.0, draw.generator()), few)
    yield close("probability = 1 drops everything", f(few, 1.0, draw.generator()), torch.zeros_like(few))
    generator = draw.generator()
    first, second = f(tokens, 0.5, generator), f(tokens, 0.5, generator)
    yield holds("two calls drop different prompts", not torch.equal(first, second), "the same ones were dropped twice")
    yield from same_seed_same_result("dropped prompts", lambda generator: f(tokens, 0.5, generator), draw)
    yield right_device(lambda: f(tokens, 0.5, generator))


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
    "the caller's tokens changed",
    {"tokens * (": "tokens.mul_("},
    "The tokens were changed in place. Make a new tensor: tokens * keep.",
)
drop_condition.edit(
    "floats returned",
    {"(coins >= probability)": "(coins >= probability).float()"},
    "The tokens came back as floats. Multiply by the bools themselves, or use torch.where.",
)
drop_condition.edit(
    "rows removed",
    {"tokens * (coins >= probability)": "tokens[coins[:, 0] >= probability]"},
    "Dropped prompts are taken out of the batch, but their pictures stay in it. Set them to 0.",
)
drop_condition.edit(
    "generator ignored",
    {"generator=generator, ": ""},
    "The coins do not come from `generator`, so training cannot be repeated: torch.rand(..., generator=generator).",
)
drop_condition.edit(
    "the same coins every time",
    {"generator=generator": "generator=torch.Generator().manual_seed(0)"},
    "A new generator is seeded in each call, so the same rows are dropped every time. Use the one that is given.",
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
    "drawn on the CPU",
    {", device=tokens.device": ""},
    "This works on a CPU only: torch.rand draws there unless told device=tokens.device.",
)
