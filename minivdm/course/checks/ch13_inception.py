"""Exercise 13.6: clear, each by itself, and varied, all together."""

import itertools
import math

import torch

from minivdm.course.exercise import close, exercise, raises


def entropy(row):
    return -sum(p * math.log(p) for p in row if p > 0)


def of_part(rows):
    """exp(H(p(y)) - mean H(p(y|x))): the mutual information of sample and class, in Python's floats."""
    marginal = [sum(column) / len(rows) for column in zip(*rows)]
    return math.exp(entropy(marginal) - sum(map(entropy, rows)) / len(rows))


def by_entropies(p, splits, larger=()):
    """Of parts in order; those in `larger` have one sample more than the others."""
    rows, sizes = p.double().tolist(), [len(p) // splits + (i in larger) for i in range(splits)]
    ends = list(itertools.accumulate(sizes))
    scores = [of_part(rows[end - size : end]) for size, end in zip(sizes, ends)]
    mean = sum(scores) / splits
    return mean, math.sqrt(sum((s - mean) ** 2 for s in scores) / splits)


def of_any_cut(p, splits):
    """(mean, std) for each choice of which parts are larger by one."""
    return [by_entropies(p, splits, larger) for larger in itertools.combinations(range(splits), len(p) % splits)]


@exercise("scores.inception_score")
def inception_score(f, draw):
    def both(p, *splits):
        got = f(p, *splits)
        return got if not isinstance(got, (tuple, list)) or len(got) != 2 else tuple(map(as_tensor, got))

    def as_tensor(value):
        return torch.as_tensor(value, dtype=torch.float64)

    def probe(name, p, splits):
        got = both(p, splits)

        def off(want):
            return sum(abs(float(one) - two) for one, two in zip(got, want))

        pair = isinstance(got, tuple) and all(each.numel() == 1 for each in got)
        wants = of_any_cut(p, splits)
        want = min(wants, key=off) if pair else wants[0]
        return close(name, got, tuple(map(as_tensor, want)), 1e-4, 1e-4, names=("mean", "std"))

    p = (2 * draw.normal(24, 5)).softmax(1)
    yield probe("24 samples, one part", p, 1)
    sure = torch.eye(4).repeat(3, 1)
    yield probe("sure, and all four classes: 4", sure, 1)
    yield probe("sure of one class: 1", sure[:1].expand(6, 4), 1)
    yield probe("unsure: 1", torch.full((6, 4), 0.25), 1)
    yield probe("three parts", p, 3)
    yield probe("24 samples in 7 parts", p, 7)
    some = torch.where(p > 0.2, p, torch.zeros(()))
    some = some / some.sum(1, keepdim=True)
    yield probe("probabilities of 0", some, 2)
    wide = (3 * draw.normal(40, 6)).softmax(1)
    yield close("ten parts by default", both(wide), tuple(map(as_tensor, by_entropies(wide, 10))), 1e-4, 1e-4)
    for name, bad, splits in (
        ("logits", draw.normal(6, 3), 1),
        ("rows that add up to 2", 2 * p, 1),
        ("25 parts of 24 samples", p, 25),
        ("no part", p, 0),
        ("NaN", p * math.nan, 1),
    ):
        yield raises(name, ValueError, lambda bad=bad, splits=splits: f(bad, splits))


FLOAT = "it returns floats"


@inception_score.promises("device", samples="a score of a set", dtype=FLOAT, layout=FLOAT, gradients=FLOAT)
def ordinary(f, draw):
    return f, dict(probabilities=draw.normal(12, 3).softmax(1), splits=2)


inception_score.edit(
    "no exponential", {".mean().exp())": ".mean())"}, "The score is the exponential of the mean divergence."
)
inception_score.edit(
    "the mean of the exponentials",
    {".sum(dim=1).mean().exp()": ".sum(dim=1).exp().mean()"},
    "The exponential is taken of each sample's divergence, and then the mean. It is taken last.",
)
inception_score.edit(
    "the marginal of all parts",
    {"part.mean(dim=0, keepdim=True)": "p.mean(dim=0, keepdim=True)"},
    "p(y) is that of all samples. Each part has a p(y) of its own.",
)
inception_score.edit(
    "the divergence the other way round",
    {
        "torch.xlogy(part, part) - torch.xlogy(part, marginal)": (
            "torch.xlogy(marginal, marginal) - torch.xlogy(marginal, part)"
        )
    },
    "This is KL( p(y) || p(y|x) ). What a sample says comes first: KL( p(y|x) || p(y) ).",
)
inception_score.edit(
    "0 ln 0 is NaN",
    {"torch.xlogy(part, part) - torch.xlogy(part, marginal)": "part * part.log() - part * marginal.log()"},
    "A probability of 0 makes this NaN, as 0 * -inf. In the sum, 0 ln 0 counts as 0: `torch.xlogy(p, q)` is p ln q.",
)
inception_score.edit(
    "bits",
    {"kl.sum(dim=1).mean().exp()": "(kl / torch.tensor(2.0).log()).sum(dim=1).mean().exp()"},
    "The logarithm is that to base 2, the exponential that of e: take ln for both.",
)
inception_score.edit(
    "varied is enough",
    {"torch.xlogy(part, part) - torch.xlogy(part, marginal)": "-torch.xlogy(part, marginal)"},
    "This counts only how varied the samples are: how sure the classifier is of each is missing.",
)
inception_score.edit(
    "the mean over classes",
    {"kl.sum(dim=1)": "kl.mean(dim=1)"},
    "The divergence is a sum over the classes. The mean is over samples alone.",
)
inception_score.edit(
    "N - 1",
    {"correction=0": "correction=1"},
    "The standard deviation over the parts is divided by parts - 1: here ddof = 0, as in the paper's code.",
)
inception_score.edit(
    "every third sample",
    {"part = p[begin:end]": "part = p[edges.index(begin) :: splits]"},
    "A part takes samples from all over the set. A part is a stretch: samples that come one after the other.",
)
inception_score.edit(
    "the rest is dropped",
    {"len(p) * i // splits": "len(p) // splits * i"},
    "Where N cannot be divided, the last samples are left out. All are used: which parts take one more?",
)
inception_score.edit(
    "parts rounded up",
    {
        "edges, scores = [len(p) * i // splits for i in range(splits + 1)], []": (
            "size, scores = -(-len(p) // splits), []\n    edges = [*range(0, len(p), size), len(p)]"
        )
    },
    "The size of a part is rounded up (as `torch.chunk` does): the last part is smaller by more than one, or there are "
    "fewer parts than asked for. 24 samples in 7 parts are 4, 4, 4, 3, 3, 3 and 3 in some order.",
)
inception_score.edit(
    "the last part takes the rest",
    {
        "[len(p) * i // splits for i in range(splits + 1)], []": (
            "[len(p) // splits * i for i in range(splits)] + [len(p)], []"
        )
    },
    "The last part takes all that is left over, so it is larger than the others by more than one.",
)
