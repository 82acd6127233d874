"""Exercise 5.6: dropping the condition in training."""

import torch

from minivdm.course.exercise import close, exercise, holds, near

from .common import right_device


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
    gone, kept = (got == 0).all(dim=1), (got == tokens).all(dim=1)
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
    state = generator.get_state()
    first, second = f(tokens, 0.5, generator), f(tokens, 0.5, generator)
    yield holds("two calls drop different prompts", not torch.equal(first, second), "the same ones were dropped twice")
    generator.set_state(state)
    message = "the coins must come from `generator`: torch.rand(..., generator=generator, device=tokens.device)"
    yield holds("the same generator state drops the same", torch.equal(f(tokens, 0.5, generator), first), message)
    yield right_device(lambda: f(tokens, 0.5, generator))


def drop_with(mistake, tokens, probability, generator):
    """A version with room for one mistake."""
    n = len(tokens)
    size = {"per token": tuple(tokens.shape), "one coin": (1, 1)}.get(mistake, (n, 1))
    where = {} if mistake == "no device" else {"device": tokens.device}
    source = {"own coins": None, "seeded": torch.Generator().manual_seed(0)}.get(mistake, generator)
    keep = torch.rand(size, generator=source, **where) >= probability
    if mistake == "exact share":
        keep = torch.randperm(n, generator=source, **where)[:, None] >= int(probability * n)
    keep = torch.arange(n)[:, None] >= probability * n if mistake == "first rows" else keep
    keep = ~keep if mistake == "keeps" else keep
    if mistake == "in place":
        return tokens.mul_(keep)
    if mistake == "removed":
        return tokens[keep[:, 0]]
    if mistake == "float":
        return tokens * keep.float()
    if mistake == "rescaled":
        return tokens * keep / (1 - probability) if probability < 1 else tokens * 0.0
    return torch.where(keep, tokens, -1) if mistake == "minus one" else tokens * keep


def drops(mistake, label, hint):
    """Add a misconception: the function above with one mistake in it."""

    def wrong(tokens, probability=0.1, generator=None):
        return drop_with(mistake, tokens, probability, generator)

    drop_condition.misconception(label, hint)(wrong)


drops(
    "per token",
    "single words dropped",
    "A coin is thrown for each *word*, which leaves half sentences. One coin for each prompt: draw (B, 1), not (B, L).",
)
drops(
    "one coin",
    "one coin for the batch",
    "One coin decides for the whole batch. Each prompt has its own: draw (B, 1).",
)
drops(
    "keeps",
    "kept instead of dropped",
    "This *keeps* a prompt with that probability. It is the probability of dropping.",
)
drops("in place", "the caller's tokens changed", "The tokens were changed in place. Make a new tensor: tokens * keep.")
drops(
    "rescaled",
    "rescaled like dropout",
    "What is kept is divided by 1 - p, as dropout does with features. These are the numbers of words: leave them.",
)
drops(
    "float",
    "floats returned",
    "The tokens came back as floats. Multiply by the bools themselves, or use torch.where.",
)
drops(
    "removed",
    "rows removed",
    "Dropped prompts are taken out of the batch, but their pictures stay in it. Set them to 0.",
)
drops("minus one", "another null", "A dropped prompt became -1. The null prompt is all 0, the padding.")
drops(
    "own coins",
    "generator ignored",
    "The coins do not come from `generator`, so training cannot be repeated: torch.rand(..., generator=generator).",
)
drops(
    "seeded",
    "the same coins every time",
    "A new generator is seeded in each call, so the same rows are dropped every time. Use the one that is given.",
)
drops(
    "first rows",
    "the first rows",
    "The first rows of a batch are dropped, always the same ones. Chance decides for each.",
)
drops(
    "exact share",
    "an exact share of the batch",
    "Exactly that share of the batch is dropped, rounded down: of a batch of one never any. Throw a coin for each "
    "prompt.",
)
drops(
    "no device",
    "drawn on the CPU",
    "This works on a CPU only: torch.rand draws there unless told device=tokens.device.",
)
