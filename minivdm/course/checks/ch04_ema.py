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


class Nested(nn.Module):
    """Weights and buffers of all kinds: its own, a layer's, a layer's layer's, and frozen."""

    def __init__(self):
        super().__init__()
        self.own = nn.Parameter(torch.zeros(2))
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)))
        self.layers[1][1].weight.requires_grad_(False)
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x):
        return self.layers(x)


@exercise("ema.EMA")
def ema(f, draw):
    model = Nested()
    model.layers[1][0].num_batches_tracked = None  # a whole number, which cannot be averaged; such a buffer comes below
    start = weights_of(model)
    decay, steps = draw.uniform(1, low=0.7, high=0.75).item(), 40
    average, later = f(model, decay=decay), []
    averaged_model = average.model
    for n in range(steps):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(draw.normal(*parameter.shape))
            model.count += 1
        model.train()(draw.normal(5, 3))  # BatchNorm tracks the batches' statistics: buffers
        later.append(weights_of(model))
        average.update(model)
        if n in (0, 2, 15, steps - 1):
            name = f"the average after {n + 1} update{'s' * (n > 0)}, decay = {decay:.2f}"
            yield close(name, weights_of(average.model).float(), averaged(start, later, decay), dtype=torch.float32)
        if n == 0:
            same = torch.equal(weights_of(model), later[-1])
            yield holds("the model in training stays as it is", same, "its weights were changed by the update")
    yield equal("ema.updates", average.updates, steps)
    yield holds(
        "ema.model is one model all the time", average.model is averaged_model, "update put another in its place"
    )
    yield holds("ema.model stays in evaluation mode", not average.model.training, "update set it to training mode")
    for name, buffer in model.named_buffers():
        yield close(f"the buffer {name}", average.model.get_buffer(name), buffer)
    before = average.model.count.clone()
    model.count += 1
    yield close("a buffer is copied: a later change of the model's is not seen", average.model.count, before)
    free = not any(p.requires_grad for p in average.model.parameters())
    message = "the average now carries gradients, and memory grows with every step: keep @torch.no_grad()"
    yield holds("no gradient is recorded", free, message)
    counting = nn.BatchNorm1d(4)
    average = f(counting)
    counting.num_batches_tracked += draw.integers(5, 20)
    average.update(counting)
    yield close("a buffer of whole numbers", average.model.num_batches_tracked, counting.num_batches_tracked)


NOTHING = "it changes a model and returns nothing"


@ema.promises(samples=NOTHING, dtype=NOTHING, layout=NOTHING, device=NOTHING, gradients="no gradient may be recorded")
def ordinary(f, draw):
    return f(nn.Linear(2, 2)).update, dict(model=nn.Linear(2, 2))


ema.edit(
    "d and 1 - d swapped",
    {"1 - d)": "d)"},
    "The shares are swapped: the *old* average keeps d, near 1, and the new weights get 1 - d. (x.lerp_(y, w) goes the "
    "share w of the way from x to y.)",
)
ema.edit(
    "no warm-up",
    {"min(self.decay, (1 + self.updates) / (10 + self.updates))": "self.decay"},
    "d is the decay from the first update on, so the random start stays in the average for long: "
    "d = min(decay, (1 + n) / (10 + n)).",
)
ema.edit("warm-up without an end", {"min(self.decay, ": "min(1, "}, "d goes on growing: it must not exceed self.decay.")
ema.edit(
    "the larger of the two", {"min(": "max("}, "d is the larger of the two numbers here. It is the smaller one: min."
)
ema.edit("updates never counted", {"self.updates += 1": "pass"}, "n stays 0: count the update, self.updates += 1.")
ema.edit(
    "counted too early",
    {"self.updates += 1": "pass", "d = min(": "self.updates += 1\n        d = min("},
    "n is one too large, because the update is counted before d is worked out. At the first update n is 0.",
)
ema.edit(
    "a new tensor under the old name",
    {"average.lerp_(": "average = average.lerp("},
    "`average = ...` gives the name to a new tensor, and the averaged model never sees it. Change it in place: lerp_, "
    "copy_, mul_ and add_.",
)
ema.edit(
    "buffers forgotten",
    {"average.copy_(buffer)": "pass"},
    "Buffers, such as the statistics of a BatchNorm, must be copied, too.",
)
ema.edit(
    "buffers averaged",
    {"average.copy_(buffer)": "average.lerp_(buffer, 1 - d)"},
    "Buffers are averaged, too. They are no weights: copy them.",
)
