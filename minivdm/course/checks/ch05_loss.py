"""Exercise 5.4: which caption belongs to which picture."""

import math

import torch

from minivdm.course.exercise import close, exercise, holds


def by_loops(images, texts, scale):
    """The loss pair by pair, in Python's floats."""

    def unit(rows):
        return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows.tolist()]

    scale = float(torch.as_tensor(scale).detach())
    u, w, n = unit(images.double()), unit(texts.double()), len(images)
    logits = [[scale * sum(x * y for x, y in zip(a, b)) for b in w] for a in u]

    def surprise(scores, right):
        top = max(scores)
        return top + math.log(sum(math.exp(score - top) for score in scores)) - scores[right]

    rows = sum(surprise(logits[i], i) for i in range(n)) / n
    columns = sum(surprise([logits[i][j] for i in range(n)], j) for j in range(n)) / n
    return torch.tensor((rows + columns) / 2)


@exercise("clip.clip_loss")
def clip_loss(f, draw):
    def pairs(B, D=5):
        """Pairs that point roughly the same way, of all lengths."""
        u = draw.normal(B, D)
        w = u + 1.5 * draw.normal(B, D)
        return u * draw.uniform(B, 1, low=0.3, high=3), w * draw.uniform(B, 1, low=0.3, high=3)

    like = dict(atol=2e-5, rtol=2e-4, dtype=torch.float32)
    B = draw.integers(5, 8)
    u, w = pairs(B)
    for scale in draw.uniform(2, low=2, high=5).tolist():
        yield close(f"{B} pairs, scale = {scale:.2f}", f(u, w, scale), by_loops(u, w, scale), **like)
    u, w = pairs(B + 3)
    parameter = torch.nn.Parameter(draw.uniform(1, low=2, high=5)[0])
    leaf = u.clone().requires_grad_()
    got = f(leaf, w, parameter)
    yield close(f"{B + 3} pairs, the scale a parameter", got, by_loops(u, w, parameter), **like)
    learns = torch.is_tensor(got) and got.requires_grad
    slopes = torch.autograd.grad(got, (leaf, parameter), allow_unused=True) if learns else (None, None)
    reached = all(slope is not None and bool(slope.abs().max() > 0) for slope in slopes)
    message = "no gradient arrives there: is there an .item(), a float(), a detach or a no_grad?"
    yield holds("images and the scale can learn", reached, message)
    u, w = draw.normal(1, 5).expand(B, 5), draw.normal(1, 5).expand(B, 5)
    want = torch.tensor(math.log(B))
    yield close("embeddings that are all the same: ln B", f(u, w, 3.0), want, **like)
    u, _ = pairs(6)
    others = u.roll(1, 0)  # each caption fits the next picture: the loss is large
    yield close("scale = 100: nothing may overflow", f(u, others, 100.0), by_loops(u, others, 100.0), **like)


clip_loss.edit(
    "pictures choose alone",
    {"logits.T": "logits"},
    "Only the rows are asked: each picture chooses a caption (or the same axis was used twice). Each caption must "
    "choose a picture, too, which is the softmax down the columns: the same with logits.T.",
)
clip_loss.edit("no half", {" / 2": ""}, "The two directions are added up. The loss is their mean: times 1/2.")
clip_loss.edit(
    "not normalised",
    {"F.normalize(images, dim=-1)": "images", "F.normalize(texts, dim=-1)": "texts"},
    "The embeddings' lengths count here, so the loss falls by making them long. Divide each by its length first: "
    "F.normalize(..., dim=-1).",
)
clip_loss.edit(
    "normalised over the batch",
    {"dim=-1": "dim=0"},
    "Here each *feature* is normalised over the batch. Every row gets length 1: F.normalize(..., dim=-1).",
)
clip_loss.edit(
    "divided by the scale",
    {"scale * F.normalize(images, dim=-1)": "F.normalize(images, dim=-1) / scale"},
    "The cosines are divided by `scale`. It is the inverse temperature: multiply.",
)
clip_loss.edit(
    "scale ignored",
    {"scale * ": ""},
    "`scale` has no effect. Cosines lie in [-1, 1], far too flat for a softmax: multiply.",
)
clip_loss.edit(
    "exp of the scale",
    {"scale * ": "torch.as_tensor(scale).exp() * "},
    "exp(scale) is used. `scale` is the factor itself; CLIP.scale() has taken the exp already.",
)
clip_loss.edit(
    "labels all 0",
    {"pairs)": "0 * pairs)"},
    "Every row is told to choose caption 0. Row i belongs to column i: the labels are 0, 1, 2, ..., torch.arange(B).",
)
clip_loss.edit(
    "softmax twice",
    {"(logits, ": "(logits.softmax(dim=1), ", "(logits.T, ": "(logits.T.softmax(dim=1), "},
    "F.cross_entropy takes the softmax itself, so give it the logits. A second one flattens everything.",
)
clip_loss.edit(
    "cosines of the pairs alone",
    {"F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)": "2 * (1 - logits.diagonal() / scale).mean()"},
    "This only looks at the pairs that belong together; if all embeddings were the same, it would be 0. The others in "
    "the batch must be told apart.",
)
clip_loss.edit(
    "softmax by hand",
    {"F.cross_entropy(": "(lambda z, _: (z.exp().sum(dim=1).log() - z.diagonal()).mean())("},
    "exp of a large logit is infinite. F.cross_entropy, torch.logsumexp and log_softmax take off the largest one "
    "first.",
)
