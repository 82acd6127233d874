"""Exercises 13.4 and 13.8: good scores for nothing."""

import math

import torch

from minivdm.course.exercise import exercise, holds, near, raises, reaches

from .ch13_frechet import by_roots, cloud
from .ch13_inception import by_entropies


@exercise("fooling.same_moments")
def same_moments(f, draw):
    skewed = draw.normal(80, 3).exp() @ draw.normal(3, 3)
    for name, x in (
        ("50 samples, 4 features", cloud(draw, 50, 4)),
        ("fewer samples than features: 6 and 10", cloud(draw, 6, 10)),
        ("a skewed cloud", skewed),
        ("one feature", draw.normal(30, 1) + 7),
    ):
        given = x.clone()
        made = f(x)
        fits = torch.is_tensor(made) and made.shape == x.shape
        yield holds(f"{name}: as many features as came", fits, f"expected {tuple(x.shape)}", usable=False)
        spread = (x - x.mean(0)).square().sum(1).mean().item()
        off = (made.double().mean(0) - x.double().mean(0)).square().sum().item() / spread
        random = off >= 1e-6 and not torch.equal(made, f(x))
        again = "; and a second call gives others: they are drawn at random" if random else ""
        yield holds(f"{name}: the same mean", off < 1e-6, f"it is off by {off:.2g} of the variance{again}")
        s, t = torch.cov(x.double().T).reshape(x.shape[1], -1), torch.cov(made.double().T).reshape(x.shape[1], -1)
        off = ((s - t).norm() / s.norm()).item()
        yield holds(f"{name}: the same covariance", off < 1e-3, f"it is off by {off:.1%}")
        if random:
            continue  # another number each time
        yield near(f"{name}: the Frechet distance, over the variance", by_roots(made, given) / spread, 0, within=1e-3)
        same = torch.allclose(made, given, rtol=1e-3, atol=1e-3)
        yield holds(f"{name}: they are not the given ones", not same, "nothing has changed")
        apart = torch.cdist(given.double(), given.double()).fill_diagonal_(math.inf).amin(1).median().item()
        least = torch.cdist(made.double(), given.double()).amin(1).median().item()
        far = f"one in two is nearer to a given one than {least / apart:.2g} of their own distances"
        yield holds(f"{name}: nor the given ones in another order, or nearly", least > 0.1 * apart, far)


SET = "what is made depends on all features"


@same_moments.promises(samples=SET, dtype="a design", layout="a design", device="a design", gradients="a design")
def ordinary_features(f, draw):
    return f, dict(features=cloud(draw, 12, 3))


MIRROR = "2 * features.mean(dim=0) - features"
same_moments.edit(
    "the given ones",
    {MIRROR: "features.clone()"},
    "These are the given features. Which map moves every point and keeps mean and covariance?",
)
same_moments.edit(
    "in another order", {MIRROR: "features.flip(0)"}, "These are the given features in another order: a set has none."
)
same_moments.edit(
    "mirrored at 0", {MIRROR: "-features"}, "The covariance is right, the mean is not: it has changed its sign, too."
)
same_moments.edit(
    "all at the mean",
    {MIRROR: "features.mean(dim=0, keepdim=True).expand_as(features)"},
    "The mean is right, and there is no spread at all: the covariance must be that of the given ones, too.",
)
same_moments.edit(
    "each feature by itself",
    {MIRROR: "features.mean(0) + features.std(0) * torch.linspace(-1.7, 1.7, len(features)).to(features)[:, None]"},
    "Means and standard deviations are about right, feature by feature, but how features go together is not.",
)
same_moments.edit("moved aside", {MIRROR: "features + features.std(0)"}, "The covariance is right. The mean has moved.")
same_moments.edit(
    "drawn from the fitted Gaussian",
    {
        MIRROR: "features.mean(0) + torch.randn(len(features), len(features)) @ (features - features.mean(0)) / "
        "(len(features) - 1) ** 0.5"
    },
    "What is drawn at random has the given mean and covariance only on average, over many draws. These features must "
    "have them exactly: which map moves every point and keeps both?",
)
same_moments.edit(
    "stretched",
    {MIRROR: "features.mean(0) - 1.3 * (features - features.mean(0))"},
    "The mean is right, and the spread is too large: the covariance grows with the square.",
)


def clips_and_labels(draw, counts=(4, 1, 3)):
    """Clips in no order, and unequal numbers of each label."""
    labels = torch.tensor([5 + 2 * i for i, n in enumerate(counts) for _ in range(n)])
    order = torch.argsort(draw.uniform(len(labels)))
    return draw.uniform(len(labels), 3, 4, 5, 6, low=-0.4), labels[order]


@exercise("fooling.worthless")
def worthless(f, draw):
    clips, labels = clips_and_labels(draw)
    for name in ("psnr", "frame consistency", "inception score"):
        made = f(name, clips, labels)
        fits = torch.is_tensor(made) and made.shape == clips.shape
        yield holds(f"{name}: as many clips as came", fits, f"expected {tuple(clips.shape)}", usable=False)
    made = f("psnr", clips, labels)
    yield near("psnr: one clip, N times", (made - made[:1]).abs().max().item(), 0, within=1e-5)
    error = (made[:1] - clips).square().mean().item()
    best = clips.var(0, correction=0).mean().item()  # no clip can be nearer to all
    yield near("psnr: the mean squared error, over the least possible one", error / best, 1, within=1e-3)
    made = f("frame consistency", clips, labels)
    cosines = []
    for _ in range(3):  # any embedding: here, random ones
        h = torch.tanh(made.transpose(1, 2).flatten(2) @ draw.normal(90, 16) / 9 + draw.normal(16))
        cosines.append(torch.cosine_similarity(h[:, :-1], h[:, 1:], dim=-1).mean().item())
    yield reaches("frame consistency, by three embeddings", cosines, at_least=1 - 1e-5)
    frames, given = made.transpose(1, 2).reshape(-1, 90), clips.transpose(1, 2).reshape(-1, 90)
    least = torch.cdist(frames, given).min().item()
    yield holds("frame consistency: no frame is one of the given ones", least > 0.1, "one of them is")
    yield from of_variety(f, clips, labels)
    yield from of_variety(f, *clips_and_labels(draw, (3, 1, 4, 1)))
    yield raises("another name", ValueError, lambda: f("beauty", clips, labels))


def of_variety(f, clips, labels):
    """What the clips for the inception score must be."""
    n, count = len(clips), len(labels.unique())
    made, name = f("inception score", clips, labels), f"inception score, {n} clips of {count} labels"
    fits = torch.is_tensor(made) and made.shape == clips.shape
    yield holds(f"{name}: as many clips as came", fits, f"expected {tuple(clips.shape)}", usable=False)
    which = torch.cdist(made.flatten(1), clips.flatten(1)).argmin(1)
    real = (made - clips[which]).abs().max().item() < 1e-5
    yield holds(f"{name}: all are given ones", real, "some are not")
    kinds = {int(label): {int(i) for i in which if labels[i] == label} for label in labels.unique()}
    most = max(map(len, kinds.values()))
    yield holds(f"{name}: at most one clip of each label", most <= 1, f"of one label there are {most}")
    table = torch.eye(12)[labels[which]] * 0.999 + 0.001 / 12
    score, _ = by_entropies(table, 1)
    even = torch.eye(12)[labels.unique()[torch.arange(n) % count]] * 0.999 + 0.001 / 12
    best, _ = by_entropies(even, 1)
    yield near(f"{name}: the score, over the highest possible one", score / best, 1, within=1e-3)


SET = "what is made depends on all clips"


@worthless.promises(samples=SET, dtype="a design", layout="a design", device="a design", gradients="a design")
def ordinary_clips(f, draw):
    clips, labels = clips_and_labels(draw)
    return f, dict(metric="psnr", clips=clips, labels=labels)


MEAN = "clips.mean(dim=0, keepdim=True).expand_as(clips)"
GREY = "torch.full_like(clips, clips.min() - 1)"
worthless.edit(
    "psnr: one of the clips",
    {MEAN: "clips[:1].expand_as(clips)"},
    "psnr: a given clip is far from all others. Which c makes the sum of |c - clip|^2 smallest?",
)
worthless.edit(
    "psnr: the median",
    {MEAN: "clips.median(dim=0, keepdim=True).values.expand_as(clips)"},
    "psnr: the median makes the sum of *absolute* errors smallest. Here errors are squared.",
)
worthless.edit(
    "psnr: the middle grey",
    {MEAN: "torch.zeros_like(clips)"},
    "psnr: a grey clip is near to all, but one is nearer: set the slope of the sum of |c - clip|^2 to 0.",
)
worthless.edit(
    "psnr: one mean for all pixels",
    {MEAN: "clips.mean().expand_as(clips)"},
    "psnr: this is one grey for all pixels. Each pixel has a best value of its own.",
)
worthless.edit(
    "psnr: the given clips",
    {MEAN: "clips.clone()"},
    "psnr: these are the given clips, N different ones. It is one clip, N times.",
)
worthless.edit(
    "frame consistency: frozen clips",
    {GREY: "clips[:, :, :1].expand_as(clips)"},
    "frame consistency: nothing moves, good, but these are frames of the given clips. Is there a "
    "frozen clip without any?",
)
worthless.edit(
    "frame consistency: noise in each frame",
    {GREY: "clips.flip(3) + clips.flip(2)"},
    "frame consistency: its frames differ from each other. Which clip has a cosine of 1 in *any* embedding?",
)
worthless.edit(
    "inception score: the given clips",
    {"return firsts[torch.arange(len(clips), device=clips.device) % len(firsts)]": "return clips.clone()"},
    "inception score: these are all the given clips. Variety within a label is not asked for: one of each is enough.",
)
worthless.edit(
    "inception score: one clip alone",
    {"% len(firsts)": "* 0"},
    "inception score: with one label there is no variety at all, and the score is 1.",
)
worthless.edit(
    "inception score: as often as they came",
    {
        "return firsts[torch.arange(len(clips), device=clips.device) % len(firsts)]": (
            "return torch.stack([clips[labels == label][0] for label in labels])"
        )
    },
    "inception score: each label comes as often as among the given clips. The score is highest when all come equally "
    "often.",
)
worthless.edit(
    "inception score: in blocks, cut off at the end",
    {
        "return firsts[torch.arange(len(clips), device=clips.device) % len(firsts)]": (
            "return firsts.repeat_interleave(-(-len(clips) // len(firsts)), dim=0)[: len(clips)]"
        )
    },
    "inception score: the blocks are rounded up, and what is too much is cut off at the end, so the last label comes "
    "less often, or never: 9 clips of 4 labels become 3, 3, 3 and 0.",
)
