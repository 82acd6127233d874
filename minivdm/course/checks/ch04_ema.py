"""Exercise 4.7: the average of the weights."""

import torch
from torch import nn

from minivdm.course.exercise import close, equal, exercise, holds


def weights_of(model):
    """All parameters as one row, float64."""
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


def averaged(first, later, decay):
    """The average as one weighted sum: update n counts (1 - d_n) d_(n+1) d_(n+2) ..., the start counts d_0 d_1 ..."""
    d = [min(decay, (1 + n) / (10 + n)) for n in range(len(later))]
    shares, rest = [], 1.0
    for value in reversed(d):
        shares.insert(0, (1 - value) * rest)
        rest *= value
    return rest * first + sum(share * weights for share, weights in zip(shares, later))


@exercise("ema.EMA")
def ema(f, draw):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[1].num_batches_tracked = None  # a whole number, which cannot be averaged; such a buffer comes last
    start = weights_of(model)
    decay = draw.uniform(1, low=0.3, high=0.4).item()
    average, later = f(model, decay=decay), []
    for n in range(8):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(draw.normal(*parameter.shape))
        model(draw.normal(5, 3))  # BatchNorm tracks the batches' statistics: buffers
        later.append(weights_of(model))
        average.update(model)
        if n in (0, 2, 7):
            name = f"the average after {n + 1} update{'s' * (n > 0)}, decay = {decay:.2f}"
            yield close(name, weights_of(average.model).float(), averaged(start, later, decay), dtype=torch.float32)
        if n == 0:
            same = torch.equal(weights_of(model), later[-1])
            yield holds("the model in training stays as it is", same, "its weights were changed by the update")
    yield equal("ema.updates", average.updates, 8)
    for name, buffer in model.named_buffers():
        yield close(f"the buffer {name}", average.model.get_buffer(name), buffer)
    free = not any(p.requires_grad for p in average.model.parameters())
    message = "the average now carries gradients, and memory grows with every step: keep @torch.no_grad()"
    yield holds("no gradient is recorded", free, message)
    counting = nn.BatchNorm1d(4)
    average = f(counting)
    counting.num_batches_tracked += draw.integers(5, 20)
    average.update(counting)
    yield close("a buffer of whole numbers", average.model.num_batches_tracked, counting.num_batches_tracked)


def update_with(mistake, self, model):
    """An update with room for one mistake."""
    n = 0 if mistake == "not counted" else self.updates
    n = n + 1 if mistake == "counted first" else n
    if mistake != "not counted":
        self.updates += 1
    warm = (1 + n) / (10 + n)
    d = {"no warm-up": self.decay, "no decay": warm, "larger": max(self.decay, warm)}.get(
        mistake, min(self.decay, warm)
    )
    d = 1 - d if mistake == "swapped" else d
    for average, weights in zip(self.model.parameters(), model.parameters()):
        if mistake == "rebound":
            average = d * average + (1 - d) * weights
        elif mistake == "wrong way":
            weights.lerp_(average, d)
        elif mistake == "added up":
            average.add_((1 - d) * weights)
        elif mistake == "copied":
            average.copy_(weights)
        else:
            average.lerp_(weights, 1 - d)
    for average, buffer in zip(self.model.buffers(), model.buffers()):
        if mistake == "buffers averaged":
            average.lerp_(buffer, 1 - d)
        elif mistake != "no buffers":
            average.copy_(buffer)


def wrong(mistake, label, hint, grad=False):
    """Add a misconception: the update above with one mistake in it."""

    class Wrong:
        def update(self, model):
            with torch.set_grad_enabled(grad):
                update_with(mistake, self, model)

    ema.misconception(label, hint)(Wrong)


wrong(
    "swapped",
    "d and 1 - d swapped",
    "The shares are swapped: the *old* average keeps d, near 1, and the new weights get 1 - d. (x.lerp_(y, w) goes the "
    "share w of the way from x to y.)",
)
wrong(
    "no warm-up",
    "no warm-up",
    "d is the decay from the first update on, so the random start stays in the average for long: "
    "d = min(decay, (1 + n) / (10 + n)).",
)
wrong("no decay", "warm-up without an end", "d goes on growing: it must not exceed self.decay.")
wrong("larger", "the larger of the two", "d is the larger of the two numbers here. It is the smaller one: min.")
wrong("not counted", "updates never counted", "n stays 0: count the update, self.updates += 1.")
wrong(
    "counted first",
    "counted too early",
    "n is one too large, because the update is counted before d is worked out. At the first update n is 0.",
)
wrong(
    "rebound",
    "a new tensor under the old name",
    "`average = ...` gives the name to a new tensor, and the averaged model never sees it. Change it in place: lerp_, "
    "copy_, mul_ and add_.",
)
wrong("wrong way", "the model changed", "The training weights are changed. The average is to be: self.model.")
wrong("added up", "the old average not shrunk", "New weights are added, but the old average is not shrunk: times d.")
wrong("copied", "a copy", "The weights are copied, not averaged.")
wrong("no buffers", "buffers forgotten", "Buffers, such as the statistics of a BatchNorm, must be copied, too.")
wrong("buffers averaged", "buffers averaged", "Buffers are averaged, too. They are no weights: copy them.")
wrong(
    "none",
    "gradients recorded",
    "The weights are right, but gradients are recorded through the average, so memory grows: keep @torch.no_grad().",
    grad=True,
)
