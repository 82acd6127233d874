"""Exercise 11.3: what guidance compares with."""

import torch

from minivdm.course.exercise import close, exercise, holds


@exercise("stages.without_embedding")
def without_embedding(f, draw):
    for size, more in ((6, 1), (3, 2), (4, 0)):
        cond = draw.normal(5, size + more)
        cond[:, size:] = draw.integers(1, 250, 5, more).float()
        got = f(cond, size)
        name = f"E = {size} and {more} number{'s' * (more != 1)}"
        fits = torch.is_tensor(got) and got.shape == cond.shape
        yield holds(f"{name}: a tensor like cond", fits, f"expected {tuple(cond.shape)}", usable=False)
        yield close(f"{name}: the embedding is gone", got[:, :size], torch.zeros(5, size))
        yield close(f"{name}: the numbers are told all the same", got[:, size:], cond[:, size:])


@without_embedding.promises("samples", "dtype", "layout", "device", gradients="the embedding is taken away")
def ordinary(f, draw):
    return f, dict(cond=draw.normal(3, 7), size=5)


ZEROS = "torch.cat([torch.zeros_like(cond[:, :size]), cond[:, size:]], dim=1)"
without_embedding.edit(
    "the frame rate gone, too",
    {ZEROS: "torch.zeros_like(cond)"},
    "All is taken away, the frame rate, too. 0 is that of stills, and guidance walks away from them. Take away the "
    "first E numbers of each row alone.",
)
without_embedding.edit(
    "the frame rate alone gone",
    {ZEROS: "torch.cat([cond[:, :size], torch.zeros_like(cond[:, size:])], dim=1)"},
    "The embedding is still there, and what stands behind it is gone: it is to be the other way round.",
)
without_embedding.edit(
    "cut off",
    {ZEROS: "cond[:, size:]"},
    "The embedding is cut off. The network expects rows of the same length, with zeros where the embedding was.",
)
without_embedding.edit(
    "one column only",
    {ZEROS: "torch.cat([torch.zeros_like(cond[:, :1]), cond[:, 1:]], dim=1)"},
    "Only the first number is 0. An embedding has `size` of them.",
)
without_embedding.edit(
    "behind the others",
    {ZEROS: "torch.cat([cond[:, size:], torch.zeros_like(cond[:, :size])], dim=1)"},
    "The numbers have moved to the front. They stand behind the embedding, in columns E and up.",
)
