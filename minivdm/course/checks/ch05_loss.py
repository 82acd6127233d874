"""Exercise 5.4: which caption belongs to which picture."""

import math

import torch
from torch.nn import functional as F

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


def loss_with(mistake, u, w, scale):
    """A loss with room for one mistake."""
    if mistake == "over the batch":
        u, w = F.normalize(u, dim=0), F.normalize(w, dim=0)
    elif mistake != "lengths":
        u, w = F.normalize(u, dim=-1), F.normalize(w, dim=-1)
    scale = scale.item() if mistake == "item" and torch.is_tensor(scale) else scale
    factor = torch.as_tensor(scale)
    cosines = u @ w.T
    if mistake == "features":
        cosines = (u.T @ w)[: len(u), : len(u)]
    if mistake == "mse":
        return (u - w).square().sum(dim=1).mean()
    if mistake == "cosine":
        return (1 - (u * w).sum(dim=1)).mean()
    logits = {"divided": cosines / factor, "no scale": cosines, "exp": cosines * factor.exp()}.get(
        mistake, cosines * factor
    )
    right = torch.arange(len(logits))
    if mistake == "sigmoid":
        return -F.logsigmoid(logits * (2 * torch.eye(len(logits)) - 1)).sum(dim=1).mean()
    if mistake == "overflow":
        rows = (logits.exp().sum(dim=1).log() - logits.diagonal()).mean()
        return (rows + (logits.exp().sum(dim=0).log() - logits.diagonal()).mean()) / 2
    if mistake == "probability":
        return -(logits.softmax(dim=1).diagonal().mean() + logits.softmax(dim=0).diagonal().mean()) / 2
    if mistake == "twice":
        rows, columns = (F.cross_entropy(z.softmax(dim=1), right) for z in (logits, logits.T))
        return (rows + columns) / 2
    right = torch.zeros_like(right) if mistake == "first" else right
    how = "sum" if mistake == "not averaged" else "mean"
    rows, columns = F.cross_entropy(logits, right, reduction=how), F.cross_entropy(logits.T, right, reduction=how)
    loss = {"rows": rows, "columns": columns, "sum": rows + columns}.get(mistake, (rows + columns) / 2)
    return -loss if mistake == "sign" else loss


def wrong(mistake, label, hint):
    """Add a misconception: the loss above with one mistake in it."""

    def loss(images, texts, scale):
        return loss_with(mistake, images, texts, scale)

    clip_loss.misconception(label, hint)(loss)


wrong(
    "rows",
    "pictures choose alone",
    "Only the rows are asked: each picture chooses a caption (or the same axis was used twice). Each caption must "
    "choose a picture, too, which is the softmax down the columns: the same with logits.T.",
)
wrong(
    "columns",
    "captions choose alone",
    "Only the columns are asked: each caption chooses a picture. Each picture must choose a caption, too: along the "
    "rows.",
)
wrong("sum", "no half", "The two directions are added up. The loss is their mean: times 1/2.")
wrong(
    "lengths",
    "not normalised",
    "The embeddings' lengths count here, so the loss falls by making them long. Divide each by its length first: "
    "F.normalize(..., dim=-1).",
)
wrong(
    "over the batch",
    "normalised over the batch",
    "F.normalize works along dim=1 unless told otherwise, and here each *feature* is normalised over the batch. Every "
    "row gets length 1: dim=-1.",
)
wrong("divided", "divided by the scale", "The cosines are divided by `scale`. It is the inverse temperature: multiply.")
wrong(
    "no scale",
    "scale ignored",
    "`scale` has no effect. Cosines lie in [-1, 1], far too flat for a softmax: multiply.",
)
wrong(
    "exp",
    "exp of the scale",
    "exp(scale) is used. `scale` is the factor itself; CLIP.scale() has taken the exp already.",
)
wrong(
    "first",
    "labels all 0",
    "Every row is told to choose caption 0. Row i belongs to column i: the labels are 0, 1, 2, ..., torch.arange(B).",
)
wrong(
    "twice",
    "softmax twice",
    "F.cross_entropy takes the softmax itself, so give it the logits. A second one flattens everything.",
)
wrong(
    "probability",
    "logarithm missing",
    "This averages the probabilities of the right pairs. The loss averages -log of them: see F.cross_entropy.",
)
wrong(
    "sign",
    "sign",
    "The sign is wrong: a loss of -log(probability) is never negative, and becomes small when all is right.",
)
wrong(
    "not averaged",
    "summed over the pairs",
    "The pairs are added up. Take their mean, or a larger batch has a larger loss.",
)
wrong(
    "sigmoid",
    "each pair for itself",
    "This asks of every pair for itself whether it belongs together (SigLIP's loss). CLIP lets the B captions "
    "compete: a softmax over them.",
)
wrong(
    "mse",
    "squared distance of the pairs",
    "This only pulls pairs together, which is perfect when all embeddings are the same. CLIP's loss compares each pair "
    "with all the others.",
)
wrong(
    "cosine",
    "cosines of the pairs alone",
    "This only looks at the pairs that belong together; if all embeddings were the same, it would be 0. The others in "
    "the batch must be told apart.",
)
wrong(
    "features",
    "features against features",
    "The product runs over the batch, features against features. Rows against rows: images @ texts.T, (B, B).",
)
wrong("item", "scale cut off", "The value is right, but the scale learns nothing: .item() and float() cut it off.")
wrong(
    "overflow",
    "softmax by hand",
    "exp of a large logit is infinite. F.cross_entropy, torch.logsumexp and log_softmax take off the largest one "
    "first.",
)
