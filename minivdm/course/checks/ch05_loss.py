"""Exercise 5.4: which caption belongs to which picture."""

import math

import torch

from minivdm.course.exercise import close, exercise


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
        """Pairs of unit vectors that point roughly the same way."""
        u = draw.normal(B, D)
        return [rows / rows.norm(dim=1, keepdim=True) for rows in (u, u + 1.5 * draw.normal(B, D))]

    like = dict(atol=2e-5, rtol=2e-4, dtype=torch.float32)
    B = draw.integers(6, 8)
    u, w = pairs(B)
    for scale in draw.uniform(2, low=2, high=5).tolist():
        yield close(f"{B} pairs of unit vectors, scale = {scale:.2f}", f(u, w, scale), by_loops(u, w, scale), **like)
    u, w = (rows * draw.uniform(B, 1, low=-3, high=3).exp() for rows in (u, w))
    got = f(u, w, 3.0)
    yield close(f"{B} pairs of vectors that are short and long, 0.05 to 20", got, by_loops(u, w, 3.0), **like)
    u, w = pairs(B + 3)
    parameter = torch.nn.Parameter(draw.uniform(1, low=2, high=5)[0])
    yield close(f"{B + 3} pairs, the scale a parameter", f(u, w, parameter), by_loops(u, w, parameter), **like)
    yield close("a single pair: 0", f(u[:1], w[:1], 3.0), torch.zeros(()), **like)
    same = w.clone()
    same[1] = same[0]
    yield close("two captions that are the same are rivals, too", f(u, same, 3.0), by_loops(u, same, 3.0), **like)
    same = draw.normal(1, 5).expand(B, 5), draw.normal(1, 5).expand(B, 5)
    yield close("embeddings that are all the same: ln B", f(*same, 3.0), torch.tensor(math.log(B)), **like)
    u, _ = pairs(6)
    others = u.roll(1, 0)  # each caption fits the next picture: the loss is large
    for scale in (100.0, 300.0):
        name = f"scale = {scale:g}: nothing may overflow, and no scale is too large"
        yield close(name, f(u, others, scale), by_loops(u, others, scale), **like)


@clip_loss.promises("dtype", "layout", "device", "gradients", samples="each sample is a rival of all others")
def five_pairs(f, draw):
    return f, dict(images=draw.normal(5, 4), texts=draw.normal(5, 4), scale=torch.tensor(2.5))


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
clip_loss.edit(
    "captions choose alone",
    {"F.cross_entropy(logits, pairs)": "F.cross_entropy(logits.T, pairs)"},
    "Only the columns are asked: each caption chooses a picture. Each picture must choose a caption, too, which is the "
    "softmax along the rows.",
)
clip_loss.edit(
    "half of one direction",
    {
        "(F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2": "F.cross_entropy(logits, pairs)"
        " + F.cross_entropy(logits.T, pairs) / 2"
    },
    "Only the second direction is halved. The loss is the mean of both: (a + b) / 2.",
)
clip_loss.edit(
    "the sum over the batch",
    {"pairs)": "pairs, reduction='sum')"},
    "The surprises of the batch are added up. Take their mean over the B rows, and over the B columns.",
)
for one, other in (("images", "texts"), ("texts", "images")):
    clip_loss.edit(
        f"{one} not normalised",
        {f"F.normalize({one}, dim=-1)": one},
        f"The {other} are normalised, the {one} are not: divide each of their rows by its length, too.",
    )
clip_loss.edit(
    "one softmax too many",
    {"logits = scale": "logits = (scale", "dim=-1).T": "dim=-1).T).softmax(dim=1)"},
    "The table went through a softmax before F.cross_entropy, which takes one itself: give it the logits.",
)
clip_loss.edit(
    "all lengths together",
    {"F.normalize(images, dim=-1)": "(images / images.norm())", "F.normalize(texts, dim=-1)": "(texts / texts.norm())"},
    "All embeddings are divided by one number, the length of the whole table. Each row has a length of its own.",
)
clip_loss.edit(
    "the scale capped",
    {"scale * ": "torch.as_tensor(scale).clamp(max=100) * "},
    "A scale above 100 is cut off here. CLIP.scale() does that already; the loss takes whatever it is given.",
)
