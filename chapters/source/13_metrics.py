# ---
# title: Measuring video
# question: What does a number see of a clip, and what is it blind to?
# build: SSIM, the Frechet distance, KID and KVD, the inception score, a test for blind spots
# ---

# %% [markdown]
# # 13 · Measuring video: which number noticed?
#
# *Two models make clips. Which one is better?* Papers answer with a row of numbers: FID, FVD, KVD, IS, CLIPSIM, PSNR,
# SSIM. They decide what is published, and what is thrown away. This chapter takes them apart, one after the other:
# what does each look at, what does it not see at all, and how would you cheat it?
#
# All of them are made of two parts. Something *looks* at clips (the pixels themselves, or a network's features), and
# something *compares* what was found. What the first part throws away, the second can never notice; and what the
# second part needs many clips for, it cannot say of few. Keep these two sentences: everything below follows from
# them. (Slides 46 to 50 of the tutorial that this course follows.)
#
# You need: means, variances and a little linear algebra; from chapter 05 what CLIP is, from chapter 09 the judge.

# %%
import functools
import math
from collections import namedtuple
from collections.abc import Callable
from statistics import mean, stdev, variance

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from minivdm.course import as_given, budget, check, in_words, piece, predict, prefer, start
from minivdm.datasets.captions import Tokenizer
from minivdm.datasets.sprites import MovingSprites, all_triples
from minivdm.evaluation import texture, viz
from minivdm.evaluation.attribute_classifier import correct_attributes
from minivdm.evaluation.damages import DAMAGES, warped
from minivdm.evaluation.diagrams import Diagram
from minivdm.evaluation.metrics import (
    checked_features, finite, gaussian_mmd, psnr, require_pictures, require_unit_pictures,
)
from minivdm.evaluation.picture_metrics import (
    C1, C2, SIGMA, WINDOW, pictures_of, psnr_per_picture,
)
from minivdm.evaluation.scores import checked_probabilities, unit
from minivdm.evaluation.texture import HALF_NORMAL
from minivdm.evaluation.torchscript_features import TorchScriptFeatures
from minivdm.pipelines.pretrained import load_pretrained
from minivdm.pipelines.text2video import text_to_video

start("13_metrics")
plt.rcParams.update(viz.STYLE)

# %%
b = budget(
    smoke=dict(n=2, rounds=2, pools=2, sizes=(4, 6), repeats=2, glass=6, made=2, steps=1, pairs=2),
    cpu=dict(
        n=32, rounds=5, pools=3, sizes=(16, 32, 64, 128, 256), repeats=200, glass=96, made=24,
        steps=8, pairs=10,
    ),
    gpu=dict(
        n=64, rounds=8, pools=3, sizes=(16, 32, 64, 128, 256, 512), repeats=200, glass=256,
        made=192, steps=20, pairs=10,
    ),
)

# %% [markdown]
# The numbers: clips in a batch (`n`) and `rounds` of the large table of section 6; `pools` of clips and `sizes` of
# sets in section 3 (`repeats` for toy numbers that cost nothing); clips behind `glass` in section 7; how many clips
# are `made` in how many `steps` in section 9, and the `pairs` that you will judge.
#
# Here is what we shall want to see. One clip, and eight things that can go wrong with it. Look at each row: you
# notice most of them at once. (*Grain* is faint: compare its ground with the ground above. *Reversed* is no less a
# clip than the first.)

# %%
sprites, triples = MovingSprites(), all_triples()
generator = torch.Generator().manual_seed(0)
clips = sprites.draw(torch.tensor([[0, 2, 0], [3, 4, 2]]), generator)
rows = {"drawn": clips, **{name: damage(clips, generator) for name, damage in DAMAGES.items()}}
strips = torch.cat([each[0, :, ::2].transpose(0, 1) for each in rows.values()])
numbers = [str(f) for f in range(0, 16, 2)]
viz.show_images(strips, "One clip, every second frame", 8, numbers, width=6, rows=list(rows))
plt.show()

# %% [markdown]
# ## 1 · Beside the right answer: PSNR and SSIM
#
# The easiest case: we know what the picture should be, as after compression, or when a sharper one is asked for
# (super-resolution). The **peak signal-to-noise ratio** takes the mean squared error and puts it on a logarithmic
# scale: $\mathrm{PSNR} = 10 \log_{10} (L^2 / \mathrm{MSE})$ in decibels (dB), $L$ the largest possible value: 255 for
# bytes (the slide's number), 1 for ours. Ten dB more is a tenth of the squared error; equal pictures have infinitely
# many.
#
# For clips one must say which mean. The error of all frames in one mean, or the mean of the frames' decibels? A
# logarithm bends downwards, so the second is never smaller. And one perfect frame makes it infinite.

# %% piece="picture_metrics.psnr_per_picture"

# %%
x = (clips + 1) / 2
y = (DAMAGES["noise"](clips, generator).clamp(-1, 1) + 1) / 2
y[:, :, 8:] = 0.9 * x[:, :, 8:] + 0.1 * y[:, :, 8:]  # the second half is nearly right
per_frame = psnr_per_picture(x, y).mean()
print(f"pooled error: {psnr(x, y):.2f} dB, mean over frames: {per_frame:.2f} dB")
y[:, :, 15] = x[:, :, 15]
again = psnr_per_picture(x, y).mean()
print(f"the last frame perfect: {psnr(x, y):.2f} dB and {again:.2f} dB")

# %% [markdown]
# So a number in dB without the word "pooled" or "per frame" cannot be compared with anything. In this course `psnr`
# pools.
#
# Now to a real photograph, which Matplotlib carries: the computer scientist Grace Hopper. Six versions of it, and
# each has *exactly the same* mean squared error, hence the same PSNR. Look at them before you read on.

# %%
with get_sample_data("grace_hopper.jpg") as file:
    photo = np.asarray(Image.open(file).convert("RGB").crop((90, 30, 410, 350)).resize((160, 160)))
photo = 0.15 + 0.7 * torch.from_numpy(photo.copy()).double().movedim(2, 0)[None] / 255
generator = torch.Generator().manual_seed(1)
noisy = photo + torch.randn(photo.shape, generator=generator, dtype=torch.float64)
blurred = F.avg_pool2d(F.pad(photo, (5,) * 4, mode="reflect"), 11, 1)
blocks = F.interpolate(F.avg_pool2d(photo, 16), scale_factor=16)
TARGET = 0.08**2  # the mean squared error of all of them
towards = {
    "brighter": photo + 1,
    "more contrast": photo + (photo - photo.mean()),
    "noise": noisy,
    "blur": blurred,
    "blocks": blocks,
    "shifted": photo.roll(4, dims=3),
}
versions = {}
for name, there in towards.items():
    change = there - photo
    versions[name] = photo + change * (TARGET / change.square().mean()).sqrt()
pictures = torch.cat([photo, *versions.values()]).clamp(0, 1)
viz.show_images(2 * pictures - 1, "Seven pictures", 7, ["the photo", *versions], width=11)
plt.show()
print("PSNR to the photo: " + ", ".join(f"{psnr(photo, each):.2f}" for each in versions.values()))

# %% [markdown]
# Six times 21.94 dB. (*Shifted* is a double exposure: half the photo, half a copy four pixels aside. What leaves the
# copy at one edge comes in at the other.) The mean squared error looks at each pixel by itself. It cannot know
# whether errors form a pattern.
#
# **Structural similarity** (SSIM, [Wang et al., 2004](https://doi.org/10.1109/TIP.2003.819861)) looks at a small
# window of $x$ and the same window of $y$, and asks three questions. With the means $\mu$, the standard deviations
# $\sigma$ and the covariance $\sigma_{xy}$ of the two windows:
#
# $$\text{luminance: } \frac{2\mu_x\mu_y + C_1}{\mu_x^2 + \mu_y^2 + C_1}, \qquad \text{contrast: } \frac{2\sigma_x\sigma_y + C_2}{\sigma_x^2 + \sigma_y^2 + C_2}, \qquad \text{structure: } \frac{\sigma_{xy} + C_3}{\sigma_x\sigma_y + C_3}$$
#
# Are they equally bright? Do they vary equally much? Do they vary *together*? Each is 1 at its best, and SSIM is the
# product. The constants, $C_1 = 0.01^2$, $C_2 = 0.03^2$ and $C_3 = C_2 / 2$ for values up to 1, keep dark and even
# windows from dividing 0 by 0. (The tutorial's slide 50 lost the plus signs of the two denominators, and slide 47
# marks SSIM as better when lower. It is better when higher.)
#
# ### Exercise 13.1: why half of it?
#
# Why $C_3 = C_2/2$, of all numbers? Multiply contrast and structure, and see what cancels. Everything is a function
# of the means, the *variances* and the covariance then, and no root is left. (A root has an infinite slope at 0,
# where an even window is; who trains a network with SSIM as its loss gets NaN there.) `C1` and `C2` are imported, as is
# `WINDOW`, the 11 pixels of the next exercise.

# %% piece="picture_metrics.ssim_of_moments" exercise="13.1" points=2 minutes=15 kind="derive" hide=["Equation"]

# %% [markdown]
# The slide's denominators beside yours. What is the similarity of a window to itself?

# %%
m, v = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.001, 0.01, 0.05])
slide = (2 * m * m + C1) / (m**2 * m**2 + C1) * (2 * v + C2) / (v * v + C2)
print("a window and itself, as on the slide: " + ", ".join(f"{each:.1f}" for each in slide))
itself = ssim_of_moments(m, m, v, v, v)
print("your formula:                         " + ", ".join(f"{each:.1f}" for each in itself))

# %% [markdown]
# ### Exercise 13.2: windows everywhere
#
# A window is 11 × 11 pixels, weighted by a Gaussian of width 1.5 whose weights add up to 1. `window_mean` gives the
# weighted mean around each place at which a whole window fits. How do you get the variance around each place with it,
# and the covariance? Then compare at *each* place, and average at the end. `pictures_of(x, y)` refuses what are no
# two sets of pictures or clips of one shape in [0, 1], and else returns both in float64. It does not know of windows:
# to refuse pictures that are smaller than one is left to you. (Libraries disagree at the border: some reflect the
# picture there and count those windows, too. We count what lies inside, as the paper's authors do.)

# %% piece="picture_metrics.gaussian_window"

# %% piece="picture_metrics.window_mean"

# %% piece="picture_metrics.ssim" exercise="13.2" points=2 minutes=15 hide=["Equation"]

# %%
guess = predict(
    "13.a",
    "All six have the same PSNR. Which version of the photo has the highest SSIM?",
    choices=list(versions),
)

# %%
found = {name: ssim(photo, each) for name, each in versions.items()}
fig, ax = plt.subplots(figsize=(6, 2.4))
ax.barh(list(found), list(found.values()), color="tab:blue")
ax.set(title="SSIM to the photo, at 21.94 dB each", xlabel="SSIM (1 = equal)", xlim=(0, 1))
ax.invert_yaxis()
guess.mark(ax)
plt.show()
print(", ".join(f"{name} {value:.3f}" for name, value in found.items()))
aside = photo[..., 4:], photo[..., :-4]
print(f"only moved, by four pixels: SSIM {ssim(*aside):.3f}, PSNR {psnr(*aside):.2f} dB")
guess.beside(max(found, key=found.get))

# %% [markdown]
# The bars differ by much, at one PSNR. A change that is the same everywhere keeps the structure in each window; noise
# and blur take it away. But *blocks*, where the face is gone, and *shifted*, a sharp photo and its ghost, have bars of
# the same length: one number does not say what is wrong. And look at the last line. Nothing is wrong with a photo that
# only lies four pixels aside, but pixel by pixel, and window by window, it is another picture, worse than any of the six
# by both numbers. Both measures need *the* right answer. A text-to-video model has none: "a red circle moving left" has
# countless right answers.
#
# ## 2 · Beside many right answers: two clouds
#
# So do not compare clip with clip, but many made ones with many real ones. A network turns each into a **feature**
# vector, a point; then there are two clouds of points, and the question is how far apart they are.

# %% jupyter={"source_hidden": true}
d = Diagram(
    "Real clips and made clips go through the same locked network, which gives two clouds of "
    "features. The clouds are compared: by mean and covariance, by pairs, or by what a "
    "classifier says. A number comes out."
)
real = d.box("real clips\n(N, 3, F, H, W)", 0, 0, kind="data")
made = d.box("made clips\n(M, 3, F, H, W)", 0, 1, kind="data")
look = d.box("a network\nthat looks", 1, 0, kind="locked")
look2 = d.box("the same\nnetwork", 1, 1, kind="locked")
fx = d.box("features x\n(N, D)", 2, 0, kind="data")
fy = d.box("features y\n(M, D)", 2, 1, kind="data")
compare = d.box("a formula\nthat compares", 3, 0, kind="layer")
number = d.box("one number", 3, 1, kind="data")
d.arrow(real, look)
d.arrow(made, look2)
d.arrow(look, fx)
d.arrow(look2, fy)
d.arrow(fx, compare)
d.arrow(fy, compare)
d.arrow(compare, number)
d.show()

# %% [markdown]
# **FID** ([Heusel et al., 2017](https://arxiv.org/abs/1706.08500)) looks with an Inception network at *pictures*,
# **FVD** ([Unterthiner et al., 2018](https://arxiv.org/abs/1812.01717)) with I3D, a 3-D network trained to name human
# actions, at *clips*. We have two looks of our own: the features of chapter 09's judge for whole clips (mini-FVD),
# and what it makes of single frames, before its layers along time (mini-FID). The formula is the same: fit a Gaussian
# to each cloud, and ask how far one must be moved to become the other.
#
# For one feature that is easy. Move each point of $N(\mu, \sigma^2)$ to where it belongs in $N(\nu, \tau^2)$, in
# order: the mean squared way is $(\mu-\nu)^2 + (\sigma-\tau)^2 = (\mu-\nu)^2 + \sigma^2 + \tau^2 - 2\,\sigma\tau$.
# For $D$ features, the variances become covariance matrices $S_x$ and $S_y$ (divided by $N - 1$), and their sum over
# the features is a trace, $\mathrm{tr}\,S_x + \mathrm{tr}\,S_y$. And $\sigma\tau = \sqrt{\sigma^2\tau^2}$? That
# becomes $\mathrm{tr}\,R$, where $R$ is the *matrix* with $R R = S_x S_y$ and eigenvalues that are not negative. To
# know its trace, one does not need $R$ itself. (What are the eigenvalues of $R R$, if those of $R$ are $r_1, r_2,
# \dots$? And what has a trace to do with eigenvalues?)
#
# ### Exercise 13.3: a distance to be mended
#
# Below stands a version that people really wrote; two mistakes are in it. One makes it deaf to how features go
# *together*. The other lets it answer where there is no answer. First look at what it does: two clouds, mirror images
# of each other, and a set of one clip beside a cloud.

# %%
generator = torch.Generator().manual_seed(2)
slope = torch.randn(300, 1, generator=generator)
rising = torch.cat([slope, slope], dim=1) + 0.3 * torch.randn(300, 2, generator=generator)
falling = rising * torch.tensor([1, -1])
broken_frechet = as_given("metrics.frechet_distance")
fig, ax = plt.subplots(figsize=(3.2, 3))
ax.plot(*rising.T, ".", color="tab:blue", ms=3, label="rising")
ax.plot(*falling.T, ".", color="tab:orange", ms=3, label="falling")
ax.set(title="Two clouds", xlabel="feature 1", ylabel="feature 2")
ax.legend(fontsize=8)
plt.show()
print(f"as given, rising and falling:  {broken_frechet(rising, falling):.3f}")
print(f"as given, rising and itself:   {broken_frechet(rising, rising):.3f}")
print(f"as given, one sample and 300:  {broken_frechet(rising[:1], rising):.3f}")

# %% [markdown]
# The two clouds differ as much as such clouds can: one rises, one falls. And whatever is said about the spread of
# *one* sample, it cannot be true: `max(len(x) - 1, 1)` invents one. Mend both. (`scale` is no mistake: it keeps squares
# of huge numbers finite. `checked_features(x, y)` of the package returns two sets in float64, and raises a ValueError
# where a set has fewer than two samples, the dimensions differ, or a feature is NaN or infinite.)
#
# One trap on the way. A covariance of fewer samples than features has eigenvalues that are 0. In floats such a one
# comes out as a tiny number of either sign, perhaps with a tiny imaginary part; and what is the root of −0.00000001?

# %% piece="metrics.frechet_distance" exercise="13.3" points=3 minutes=25 kind="mend" mend="uncorrelated, and one sample will do" hide=["Equation"]

# %%
apart = frechet_distance(rising, falling)
print(f"yours, rising and falling: {apart:.3f}")
print(f"yours, rising and itself:  {frechet_distance(rising, rising):.3f}")
try:
    print(f"one sample and 300: {frechet_distance(rising[:1], rising):.3f}")
except ValueError as error:
    print("one sample and 300:", error)

# %% [markdown]
# ### Exercise 13.4: what two Gaussians do not tell
#
# "Fit a Gaussian" means: of each cloud, only mean and covariance are left. So whatever has the right mean and
# covariance has the distance 0, however it looks. Design such a cloud: given features, make others, none of them
# (nearly) one of the given ones, with a Fréchet distance of 0. One line is enough, if you find a map of points that
# leaves means and covariances alone.

# %% piece="fooling.same_moments" exercise="13.4" points=2 minutes=15 kind="design"


# %%
judge = load_pretrained("video_classifier").to(b.device)


@torch.no_grad()
def clip_features(clips):
    """The judge's features of whole clips, (B, 256)."""
    return torch.cat([judge.features(part) for part in clips.split(128)]).cpu()


def some_clips(n, seed):
    """n drawn clips, all triples as equally often as possible, and their triples."""
    generator = torch.Generator(b.device).manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    rows = torch.cat([torch.randperm(384, generator=order) for _ in range(1 + n // 384)])
    asked = triples[rows[:n]]
    return sprites.draw(asked, generator), asked


pools = []
for seed in range(b.pools):
    drawn, _ = some_clips(2 * b.sizes[-1], 1000 * seed)
    pools.append(clip_features(drawn).split(b.sizes[-1]))
x, y = pools[0]
fake = same_moments(y)
dim = [int(i) for i in y.var(0).topk(2).indices]
fig, ax = plt.subplots(figsize=(3.6, 3))
ax.plot(*y[:, dim].T, ".", color="tab:blue", ms=3, label="drawn clips")
ax.plot(*fake[:, dim].T, ".", color="tab:orange", ms=3, label="your cloud")
ax.set(title="Two of 256 features", xlabel=f"feature {dim[0]}", ylabel=f"feature {dim[1]}")
ax.legend(fontsize=8)
plt.show()
fooled = frechet_distance(y, fake) / y.var(0).sum().item()
print(f"mini-FVD of your cloud and the drawn clips, over their variance: {fooled:.1e}")

# %% [markdown]
# No clip has such features, and the distance does not mind. Whoever wants to notice must look at more than two
# moments.
#
# ## 3 · Two sets of the same thing
#
# Before you measure anything with a ruler, measure *nothing* with it. Two sets of *drawn* clips come from one and the
# same distribution. Their true distance is 0. The estimate is not, since each set has only so many clips.

# %%
guess = predict(
    "13.b",
    f"Two sets of drawn clips: how many times larger is the mini-FVD with {b.sizes[0]} clips "
    f"in each set than with {b.sizes[-1]}?",
    low=0.1,
    high=1000,
)

# %% [markdown]
# While that is open, meet a rival. **KID**, and **KVD** for clips ([Bińkowski et al.,
# 2018](https://arxiv.org/abs/1801.01401)), compares *pairs*. A kernel says how alike two features are, $k(a, b) = (a
# \cdot b / D + 1)^3$. Then: how alike are pairs within $x$, pairs within $y$, and pairs across?
#
# $$\mathrm{MMD}^2 = \mathbb{E}\, k(x, x') + \mathbb{E}\, k(y, y') - 2\, \mathbb{E}\, k(x, y)$$
#
# where $x$ and $x'$ are **two independent draws** from one distribution, $y$ and $y'$ two from the other. (The name:
# *maximum mean discrepancy*, as in chapter 01.) If both distributions are the same, all three expectations are, and
# the sum is 0. A third power contains third moments, so more than a Gaussian is looked at. The expectations are not
# known, only $N$ samples of each. An estimate is called **unbiased** if it is right *on average*.
#
# ### Exercise 13.5: right on average
#
# The version below replaces each expectation by a mean, as one would. Look at what it says about two sets of the same
# distribution, averaged over many pairs of sets.

# %%
def toy_mean(metric, n, repeats=None):
    """Mean and standard error of a metric over pairs of sets of n normal draws of 4 features."""
    generator, repeats = torch.Generator().manual_seed(n), repeats or b.repeats
    values = []
    for _ in range(repeats):
        values.append(float(metric(*torch.randn(2, n, 4, generator=generator))))
    return mean(values), stdev(values) / len(values) ** 0.5


toy_sizes = (4, 8, 16, 32, 64)
broken_mmd = as_given("metrics.polynomial_mmd")
before = [toy_mean(broken_mmd, n) for n in toy_sizes]
for n, (value, error) in zip(toy_sizes, before):
    print(f"as given, {n:2d} samples in each of two sets: {value:.3f} ± {error:.3f}")

# %% [markdown]
# The truth is 0. Mend it, so that the mean is 0 for any number of samples, be it 2. There are two questions to ask of
# each line: does it average over what the expectation is about? And does it leave the result as it is?

# %% piece="metrics.polynomial_mmd" exercise="13.5" points=3 minutes=20 kind="mend" mend="all pairs, and nothing below 0" hide=["Equation"]

# %% [markdown]
# Now both rulers. At the left, your MMD on the toy numbers, beside the version as given. In the middle and at the
# right, drawn clips beside drawn clips.

# %%
def over_sizes(metric):
    """(sizes, pools): the metric between the first n of both halves of each pool."""
    return np.array([[metric(x[:n], y[:n]) for x, y in pools] for n in b.sizes])


fvd_floor, kvd_floor = over_sizes(frechet_distance), over_sizes(polynomial_mmd)
after = [toy_mean(polynomial_mmd, n) for n in toy_sizes]
fig, axes = plt.subplots(1, 3, figsize=(11, 2.8), layout="constrained")
for values, name, colour in ((before, "as given", "tab:orange"), (after, "yours", "tab:blue")):
    axes[0].errorbar(toy_sizes, *zip(*values), fmt="o-", ms=4, color=colour, label=name)
axes[0].set(title="MMD², toy numbers", xlabel="samples in each set", ylabel="mean ± error")
axes[0].legend(fontsize=8)
for ax, values, name in zip(axes[1:], (fvd_floor, kvd_floor), ("mini-FVD", "mini-KVD")):
    error = values.std(axis=1, ddof=1) / b.pools**0.5
    ax.errorbar(b.sizes, values.mean(axis=1), error, fmt="o-", ms=4, color="tab:blue")
    ax.set(title=f"{name} of drawn and drawn", xlabel="clips in each set", xscale="log")
    ax.set_xticks(b.sizes, b.sizes)
    ax.minorticks_off()
for ax in (axes[0], axes[2]):
    ax.axhline(0, color="grey", ls=":")
axes[1].set_yscale("log")
axes[1].set_ylabel("squared feature units")
plt.show()
ratio = (fvd_floor[0] / fvd_floor[-1]).mean()
for name, values in (("mini-FVD", fvd_floor), ("mini-KVD", kvd_floor)):
    error = values.std(axis=1, ddof=1) / b.pools**0.5
    cells = [f"{n}: {v:.0f} ± {e:.0f}" for n, v, e in zip(b.sizes, values.mean(1), error)]
    print(f"{name}: " + ", ".join(cells))
if b.name != "smoke":
    guess.beside(ratio)

# %% [markdown]
# The distance of two sets of *the same thing* falls and falls with the number of clips, and is still above 0 at the
# end. That is its **bias**: with few clips a covariance is badly known, and every mistake in it looks like a
# distance. So an FVD of 200 may be excellent with 64 clips and poor with 2,048: **an FVD without its number of clips
# says nothing**, and two of them can be compared only at the same number. ([Chong and Forsyth,
# 2020](https://arxiv.org/abs/1911.07023), found models whose bias differs, so that even the order may turn.) That is
# why this course prints a *floor* beside each mini-FVD.
#
# KVD is on both sides of 0. Its values scatter as much as they like, but around the right one, so that they may be
# *averaged*. Whoever clamps it at 0 makes a biased ruler out of an unbiased one.
#
# And your cloud of exercise 13.4? The third power looks at third moments, too: how lopsided a cloud is. So compare your
# cloud with drawn clips, and other drawn clips with drawn clips, by both rulers. Which of the two is farther away, and
# by how many standard errors?

# %%
fakes = [same_moments(y) for _, y in pools]
for name, metric, floor in (
    ("mini-FVD", frechet_distance, fvd_floor), ("mini-KVD", polynomial_mmd, kvd_floor),
):
    values = np.array([metric(y, fake) for (_, y), fake in zip(pools, fakes)])
    error = values.std(ddof=1) / b.pools**0.5
    print(f"{name} of drawn clips and your cloud: {values.mean():.0f} ± {error:.0f}, ", end="")
    scatter = floor[-1].std(ddof=1) / b.pools**0.5
    print(f"drawn and drawn: {floor[-1].mean():.0f} ± {scatter:.0f}")
    farther = (values.mean() - floor[-1].mean()) / math.hypot(error, scatter)
    print(f"  so your cloud is farther away by {farther:+.1f} standard errors")

# %% [markdown]
# A minus sign means *nearer*: by mini-FVD your cloud, which no clips have, is better than real clips are. If mini-KVD
# has a large plus, it was the third moments that gave the cloud away. So a good FVD says that two moments agree, and
# nothing else: a second ruler, of another kind, belongs beside it.
#
# ## 4 · Without anything beside it: IS, CLIPSIM, frame consistency
#
# Some numbers need made clips alone. The **inception score** (IS, [Salimans et al.,
# 2016](https://arxiv.org/abs/1606.03498)) asks a classifier what it sees. Two things are good: it should be *sure*
# about each clip $x$, so $p(y \mid x)$ has one high entry; and over all clips it should see *everything*, so the mean
# $p(y)$ of all $p(y \mid x)$ is flat. In both cases $p(y \mid x)$ is far from $p(y)$. How far one distribution $p$ is
# from another one $q$ is what the **Kullback-Leibler divergence** says, $\mathrm{KL}(p \,\|\, q) = \sum_y p_y \ln
# (p_y / q_y)$, where a term with $p_y = 0$ counts 0. IS is its mean over the clips, and then the exponential of that,
# so that it counts classes: 1 at worst, the number of classes at best.
#
# For clips the classifier is one of clips: here, the judge's answer about the *motion*, one of eight (*video IS*). To
# have an error bar, the clips are cut into ten parts, each with a $p(y)$ of its own. And if ten does not divide their
# number? Drop the rest, or make the last part larger, and it is another score. How do you cut 24 clips into seven parts
# that are as equal as can be, with none left over? (`checked_probabilities(p)` returns probabilities in float64, or
# refuses what are none.)
#
# ### Exercise 13.6: sure and varied

# %% piece="scores.inception_score" exercise="13.6" points=2 minutes=15 hide=["Equation"]

# %%
sure, unsure = torch.eye(8)[torch.arange(160) % 8], torch.full((160, 8), 1 / 8)
always = torch.eye(8)[torch.zeros(160).long()]
half = 0.5 * sure + 0.5 * unsure
kinds = {"sure and varied": sure, "half sure": half, "unsure": unsure, "always the same": always}
for name, p in kinds.items():
    score, small = inception_score(p)[0], inception_score(p, 80)[0]
    print(f"{name:16s} IS = {score:.2f}, in 80 parts of two: {small:.2f}")

# %% [markdown]
# The right column: with small parts, each sees few classes, and the score falls. It depends on how it is cut.
#
# The last two look with CLIP (chapter 05), here a small one trained on single frames and captions of drawn clips.
# **CLIPSIM** asks whether each frame shows what the prompt says, **frame consistency** whether each frame resembles
# the next. Both are mean cosines between −1 and 1; some papers multiply by 100.

# %% piece="scores.clipsim"

# %% piece="scores.frame_consistency"

# %% [markdown]
# ## 5 · Grain and flicker
#
# Chapter 10's clips had a little grain, and their frames a little flicker. Let us have two numbers more, for these,
# without any network. A *second difference*, $1, -2, 1$, is 0 where something changes evenly. Take it along rows and
# then along columns, and of a shaded ground nothing is left; of noise of standard deviation $\sigma$, noise of
# $6\sigma$. (The squares of the nine weights add up to 36.) The *median* of its size over the frame does not mind a
# sprite, as long as it covers less than half. The same along time is a measure of *flicker*.

# %% piece="texture.grain"

# %%
clips, _ = some_clips(8, 5)
clips = clips.cpu()
generator = torch.Generator().manual_seed(3)
for name in ("grain", "noise", "flicker", "blur"):
    damaged = DAMAGES[name](clips, generator)
    print(f"{name:8s} grain {texture.grain(damaged):.4f}, flicker {texture.flicker(damaged):.4f}")
print(f"{'drawn':8s} grain {texture.grain(clips):.4f}, flicker {texture.flicker(clips):.4f}")

# %% [markdown]
# Grain was made with a standard deviation of 0.05, noise with 0.3, the lamp with 0.08. All three are found to within
# a tenth or so.
#
# ## 6 · Which metric noticed?
#
# Nine numbers, eight damages. For each pair: does the number change, *by more than chance*? Here is a hasty experiment.
# It asks a Fréchet distance about drawn samples and damaged ones, eight times, each time with new ones; and it counts
# how many standard errors the mean is from 0. The samples are toy numbers, and the damage is none: they stay as they
# are.

# %%
def hasty(metric, draw, damage, generator, rounds):
    said = [metric(draw(generator), damage(draw(generator), generator)) for _ in range(rounds)]
    return mean(said) / (stdev(said) / rounds**0.5)


def toys(generator):
    return torch.randn(32, 4, generator=generator)


def nothing(x, generator):
    return x


z_hasty = hasty(frechet_distance, toys, nothing, torch.Generator().manual_seed(16), 8)
print(f"nothing was done, and the distance is {z_hasty:.0f} standard errors from 0")

# %%
guess_why = predict(
    "13.f",
    "Far beyond 4, so it was noticed that *nothing* was done. What is wrong with the experiment?",
    choices=[
        "eight rounds are too few",
        "the right number to compare with is not 0",
        "a Frechet distance cannot notice anything",
    ],
)

# %% [markdown]
# How many standard errors from where? If you know what to compare with, you have the experiment. One rule from
# statistics is all that it needs besides: the variance of a mean of $r$ independent numbers is their variance over
# $r$, and the variances of independent things add up, in a difference, too. The root of the variance of what you
# compare is its **standard error**. Beyond 4 of them we say: noticed.
#
# ### Exercise 13.7: find it
#
# Write an experiment that tells metrics that notice from metrics that are blind, whatever the metric is: up is bad for
# some, down for others, 0 is perfect for few. What is drawn for one value may not serve for another, since then they
# would not be independent: draw four fresh batches a round. The check tries it on metrics of both kinds.

# %% piece="blind_spots.notices" exercise="13.7" points=3 minutes=25 kind="find" hide=["Equation"]

# %%
print("nothing was done:")
for rounds in (8, 32, 128):
    again = [torch.Generator().manual_seed(16) for _ in range(2)]
    rash = hasty(frechet_distance, toys, nothing, again[0], rounds)
    yours = notices(frechet_distance, toys, nothing, again[1], rounds)
    print(f"  {rounds:3d} rounds: hasty {rash:5.1f}, yours {yours:+5.1f} standard errors")
again = torch.Generator().manual_seed(17)
moved = notices(frechet_distance, toys, lambda x, generator: x + 1, again)
print(f"all numbers moved by 1, 8 rounds: yours {moved:+.1f}")
guess_why.beside("the right number to compare with is not 0")

# %% [markdown]
# More rounds make the hasty experiment only surer of what is not so: two sets of the same thing have a distance, too
# (section 3). And the same distance does notice, when there is something.
#
# Before your experiment runs on everything, two predictions.

# %%
guess_count = predict(
    "13.c",
    "Of the eight damages of the first picture, how many does mini-FVD notice? "
    "(blur, noise, grain, flicker, shuffled, frozen, reversed, cut)",
    low=0,
    high=8,
)

# %%
guess_frozen = predict(
    "13.d",
    "Frozen clips: one frame of each clip, drawn by lot, all the time. (Sprites may blink, or "
    "leave the picture.) CLIPSIM, which asks each frame about the prompt, will …",
    choices=["fall, and notice", "rise, and notice", "not notice"],
)

# %% [markdown]
# All batches are drawn for the same prompts, each time with other places, sizes and speeds: which prompts there are
# shall be no part of the chance. (Sets like these are no independent draws any more, so KVD's zero is far from 0
# here. That does no harm: intact and damaged clips are compared on equal terms.) A batch is only looked at where a
# metric asks, and once: the code below remembers what was seen.

# %%
clip_model, tokenizer = load_pretrained("clip").to(b.device), Tokenizer()
Batch = namedtuple("Batch", "number damage")
asked_for = triples[torch.randperm(384, generator=torch.Generator().manual_seed(6))[: b.n]]


@functools.cache
@torch.no_grad()
def look(batch):
    """Everything that the metrics need to know of a batch of clips."""
    clips = sprites.draw(asked_for, torch.Generator(b.device).manual_seed(batch.number))
    if batch.damage:
        clips = DAMAGES[batch.damage](clips, torch.Generator(b.device).manual_seed(batch.number))
    frames = clips.transpose(1, 2).flatten(0, 1)
    tokens = tokenizer.encode(sprites.captions(asked_for)).to(b.device)
    single = judge.frame(frames)  # as in judge.features, which would compute it once more
    over_time = judge.time(single.unflatten(0, (len(clips), -1)).transpose(1, 2))
    whole = torch.cat([over_time.mean(dim=2), over_time.amax(dim=2)], dim=1)
    answers = [head(whole) for head in judge.heads.values()]
    right = torch.stack([answer.argmax(1).cpu() for answer in answers], dim=1) == asked_for
    return {
        "clips": whole.cpu(),
        "frames": single.cpu(),
        "said": answers[2].softmax(1).cpu(),  # about the motion, the third of shape, colour, motion
        "right": right.all(1).float().mean().item(),
        "clip": clip_model.embed_images(frames).unflatten(0, (len(clips), -1)).cpu(),
        "texts": clip_model.embed_texts(tokens).cpu(),
        "grain": texture.grain(clips),
        "flicker": texture.flicker(clips),
    }


METRICS = {
    "mini-FID, frames": lambda x, y: frechet_distance(look(x)["frames"], look(y)["frames"]),
    "mini-FVD": lambda x, y: frechet_distance(look(x)["clips"], look(y)["clips"]),
    "mini-KVD": lambda x, y: polynomial_mmd(look(x)["clips"], look(y)["clips"]),
    "video IS": lambda x, y: inception_score(look(y)["said"], 1)[0],
    "CLIPSIM": lambda x, y: clipsim(look(y)["clip"], look(y)["texts"]),
    "frame consistency": lambda x, y: frame_consistency(look(y)["clip"]),
    "prompt accuracy": lambda x, y: look(y)["right"],
    "grain": lambda x, y: look(y)["grain"],
    "flicker": lambda x, y: look(y)["flicker"],
}


def draw(generator):
    return Batch(int(torch.randint(10**6, (), generator=generator)), "")


z = {}
for damage in DAMAGES:
    for metric in METRICS:
        harm = lambda batch, generator: batch._replace(damage=damage)  # noqa: E731
        again = torch.Generator().manual_seed(4)  # the same clips for each pair
        z[metric, damage] = notices(METRICS[metric], draw, harm, again, b.rounds)

# %% [markdown]
# Each cell: by how many standard errors the damage changes the metric. The darker, the more; **bold** is beyond ±4, so
# noticed. Read it by columns first: who notices *grain*? Who notices *reversed*?

# %%
table = np.array([[z[metric, damage] for damage in DAMAGES] for metric in METRICS])
fig, ax = plt.subplots(figsize=(9, 3.9), layout="constrained")
ax.imshow(np.clip(table, -12, 12), cmap="PuOr_r", vmin=-16, vmax=16, aspect="auto")
for i, row in enumerate(table):
    for j, value in enumerate(row):
        digits = 1 if abs(value) < 10 else 0
        text = f"{value:+.{digits}f}" if abs(value) < 1000 else ("+" if value > 0 else "−") + "∞"
        weight = "bold" if abs(value) > 4 else "normal"
        ax.text(j, i, text, ha="center", va="center", fontsize=9, weight=weight)
ax.set_xticks(range(len(DAMAGES)), list(DAMAGES))
ax.set_yticks(range(len(METRICS)), list(METRICS))
ax.set_title("Change in standard errors; bold = noticed")
plt.show()
noticed = {metric: [d for d in DAMAGES if abs(z[metric, d]) > 4] for metric in METRICS}
if b.name != "smoke":
    for metric, names in noticed.items():
        print(f"{metric:18s}noticed {', '.join(names) or 'nothing'}")
    guess_count.beside(len(noticed["mini-FVD"]))
    change = z["CLIPSIM", "frozen"]
    guess_frozen.beside(guess_frozen.question.choices[2 if abs(change) <= 4 else int(change > 0)])
else:
    print("With two rounds nothing can be told from chance: run this with the budget cpu or gpu.")

# %% [markdown]
# Some of these blind spots are not a matter of luck.
#
# - **FID cannot notice shuffled frames.** It looks at a bag of frames, and a bag has no order: the set of features is the same, so the distance is. (The cell below checks that, up to rounding.) CLIPSIM, a mean over frames, has the same blind spot.
# - **Frame consistency** loves a frozen clip: each frame is equal to the next.
# - **Frame consistency** rises with noise, too: frames that are all equally spoilt resemble each other.
# - **Reversed** clips are clips. The frames of each are all there, so what looks at frames cannot notice. What looks at whole clips and compares *sets* notices only if the set of all reversed clips differs from the set of all clips. Here it does: a prompt that asks for *left* shows *right* now, of a shape and colour for which nobody asked. The cell below takes prompts in which each motion has its reverse, for the same shape and colour. Does mini-FVD still notice?
# - Grain and flicker are what features throw away, since the judge was trained to recognise sprites *in spite of* them. A network that is good at its own job is blind to much of ours.

# %%
x, _ = some_clips(2 * b.n, 7)
y, _ = some_clips(2 * b.n, 8)
generator = torch.Generator(b.device).manual_seed(9)


@torch.no_grad()
def frame_features(clips):
    """The judge's features of single frames, all in one bag, (B F, 128)."""
    return judge.frame(clips.transpose(1, 2).flatten(0, 1)).cpu()


mixed = DAMAGES["shuffled"](y, generator)
bag = [frechet_distance(frame_features(x), frame_features(each)) for each in (y, mixed)]
print(f"mini-FID of frames in order: {bag[0]:.6f}, shuffled: {bag[1]:.6f}")

things = [(0, 2), (1, 4), (3, 0), (5, 6)]  # shapes and colours; each does all but blink
both_ways = torch.tensor([(*thing, motion) for thing in things for motion in range(7)])


def draw_both_ways(generator):
    seed = int(torch.randint(10**6, (), generator=generator))
    return sprites.draw(both_ways, torch.Generator(b.device).manual_seed(seed))


def whole(x, y):
    return frechet_distance(clip_features(x), clip_features(y))


again = torch.Generator().manual_seed(5)
z_both = notices(whole, draw_both_ways, DAMAGES["reversed"], again, b.rounds)
print("mini-FVD of reversed clips, change in standard errors:")
print(f"  the table's prompts:               {z['mini-FVD', 'reversed']:+.1f}")
print(f"  each motion beside its reverse:    {z_both:+.1f}")

# %% [markdown]
# The bag of frames stays the same, up to rounding. And where each motion has its reverse, a set cannot tell that
# all of its clips run backwards; only a number that knows each clip's *prompt* can.
#
# ## 7 · How much does FVD feel time?
#
# FVD looks at whole clips, so it *can* feel time. How much does it? [Ge et al.
# (2024)](https://arxiv.org/abs/2404.12391) tried two damages whose *frames* look equally bad. In one, nothing but the
# frames suffers; in the other, they also change from one to the next. Here is such an experiment: the clips are seen
# through uneven glass. The *still* glass is the same for all frames of a clip. The *trembling* one is another for each
# frame.

# %%
clips, _ = some_clips(2, 11)
generator = torch.Generator(b.device).manual_seed(10)


def behind_glass(clips, generator):
    """Clips as they are, through still glass, and through trembling glass."""
    still, trembling = warped(clips, generator), warped(clips, generator, trembling=True)
    return {"drawn": clips, "still": still, "trembling": trembling}


shown = behind_glass(clips, generator)
strips = torch.cat([each[0, :, :8].transpose(0, 1) for each in shown.values()]).cpu()
numbers = [str(f) for f in range(8)]
viz.show_images(strips, "Seen through glass", 8, numbers, width=6, rows=list(shown))
plt.show()

# %%
guess = predict(
    "13.e",
    "How many times as large is the mini-FVD (above its floor) through trembling glass as "
    "through still glass?",
    low=0,
    high=10,
)

# %%
through = {"drawn": [], "still": [], "trembling": []}
for seed in range(3):
    x, _ = some_clips(b.glass, 20_000 + seed)
    y, _ = some_clips(b.glass, 30_000 + seed)
    generator = torch.Generator(b.device).manual_seed(seed)
    fx, ffx = clip_features(x), frame_features(x[:, :, ::4])
    for name, each in behind_glass(y, generator).items():
        fid = frechet_distance(ffx, frame_features(each[:, :, ::4]))
        through[name].append((frechet_distance(fx, clip_features(each)), fid))
through = {name: np.array(values) for name, values in through.items()}
for name, values in through.items():
    (fvd, fid), error = values.mean(0), values.std(0, ddof=1) / 3**0.5
    print(f"{name:10s} mini-FVD {fvd:5.0f} ± {error[0]:3.0f}", end="")
    print(f"   mini-FID of frames {fid:4.0f} ± {error[1]:.0f}")
above = {name: through[name][:, 0] - through["drawn"][:, 0] for name in ("still", "trembling")}
ratios = above["trembling"] / above["still"]
felt, error = ratios.mean(), ratios.std(ddof=1) / 3**0.5
print(f"above the floor, trembling over still: {felt:.2f} ± {error:.2f}")
if b.name != "smoke":
    guess.beside(felt)

# %% [markdown]
# The frames are about equally bad in both (mini-FID). Through still glass the *motion* is as smooth as ever; through
# the trembling glass the sprite shakes like jelly. The last line says what that costs on this ruler: everything above
# 1 is what it feels of time, and the rest is frames. With I3D, Ge et al. found the second damage hardly worse than the
# first. Ours looks with a network that was trained to name motions, so it may feel them better than I3D, which can name
# most human actions from a single frame.
#
# ## 8 · How to fool them
#
# A number that is aimed at stops being a measure. Three ways to a good score, for clips that nobody wants:
#
# - **PSNR.** A model is to go on from given frames, and many futures are possible. Which *one* clip has the smallest mean squared error on average over all of them?
# - **Frame consistency.** 1, by any embedding, and without showing anything of what is wanted.
# - **IS.** Sure and varied, said the formula. How many *different* clips does that take?
#
# ### Exercise 13.8: worthless clips with good scores

# %% piece="fooling.worthless" exercise="13.8" points=3 minutes=20 kind="design"

# %%
futures, asked = some_clips(48, 40)
futures, labels = futures.cpu(), asked[:, 2]
kinds = ("psnr", "frame consistency", "inception score")
bad = {name: worthless(name, futures, labels) for name in kinds}
sets = {"given": futures, **bad}
strips = torch.cat([each[i, :, ::2].transpose(0, 1) for i in (0, 1) for each in sets.values()])
names = [f"{kind} {i}" for i in (0, 1) for kind in sets]
title, numbers = "Given clips, and worthless ones", [str(f) for f in range(0, 16, 2)]
viz.show_images(strips.clamp(-1, 1), title, 8, numbers, width=6, rows=names)
plt.show()


@torch.no_grad()
def said(clips):
    return judge(clips.clamp(-1, 1).to(b.device))[2].softmax(1).cpu()


def mean_psnr(clips):
    """To all of the given clips, other than itself."""
    error = torch.cdist(clips.flatten(1), futures.flatten(1)).square() / (4 * futures[0].numel())
    others = ~torch.eye(len(clips), dtype=torch.bool)
    return -10 * math.log10(error[others].mean())


@torch.no_grad()
def consistency(clips):
    frames = clip_model.embed_images(clips.transpose(1, 2).flatten(0, 1).to(b.device))
    return frame_consistency(frames.unflatten(0, (len(clips), -1)).cpu())


scores = {
    "PSNR to the other futures": (mean_psnr(futures), mean_psnr(bad["psnr"])),
    "frame consistency": (consistency(futures), consistency(bad["frame consistency"])),
    "video IS": tuple(inception_score(said(sets[k]), 1)[0] for k in ("given", "inception score")),
}
print(f"{'':28s}given clips   worthless ones")
for name, (given, fooling) in scores.items():
    print(f"{name:28s}{given:11.3f}{fooling:17.3f}")

# %% [markdown]
# A blurred ghost of all futures, an even nothing, and eight clips again and again: three times the better score. None
# of these is far from real life. Models trained with a squared error blur wherever several answers are right, models
# that hardly move lead tables of consistency, and a model that has learned one good clip for each prompt has an
# excellent IS. And FVD? A model that returns its training clips has a distance of 0.

# %% [markdown] words="13.9" minutes=10
# A paper says: *"Our model has an FVD of 310, from 512 clips; the earlier one is reported with
# 325, from 2,048. Its frame consistency is higher, too (0.97 against 0.94). So our clips move more
# naturally."* You are the reviewer. What do these numbers show, and which two experiments do you
# ask for?
#
# **Answer**
#
# The first comparison is between different numbers of clips. FVD falls with their number, so with
# 2,048 clips the new model would be lower still: it may well be better by that ruler. But FVD
# hardly feels time: the gain may be in the frames, and nothing shows that it is in the motion. A
# higher frame consistency is no proof of natural motion, since a frozen clip has 1: perhaps the
# clips just move less. I ask for FVD of both models with the same number of clips, frame rate and
# resizing, with an error bar over seeds and beside the floor of real against real; and for
# something that feels motion and not frames: a comparison with frames of equal quality, the amount
# of motion beside the consistency, or people who choose between two clips without knowing which is
# whose.
#
# **Rubric**
#
# - The numbers of clips differ, and FVD is biased with it: to be compared at the same number.
# - In which direction the bias goes: fewer clips, larger FVD, so the comparison is unfair to the new model, not in its favour.
# - FVD mostly sees frames; frame consistency is highest for a frozen clip. Neither shows natural motion.
# - Two experiments that could come out otherwise, with error bars or a count.

# %% [markdown]
# ## 9 · Your eye
#
# In the end clips are for people. The plainest experiment with people is the **two-alternative forced choice**: two
# clips side by side, and you must say which is better. No scale, no "both"; and you do not know which is which. The
# clips below were made by chapter 10's model for the same prompts and from the same noise, with guidance 2 and with
# guidance 8. Which looks more like a drawn clip?

# %%
model = load_pretrained("text2video").to(b.device)
asked = triples[torch.randperm(384, generator=torch.Generator().manual_seed(12))[: b.made]]
prompts = sprites.captions(asked)
made = {}
for scale in (2, 8):
    noise = torch.Generator(b.device).manual_seed(13)
    options = dict(steps=b.steps, guidance_scale=scale, generator=noise, cuda_graph=True)
    made[scale] = text_to_video(prompts, model, **options)
pairs = [(made[2][i].cpu(), made[8][i].cpu()) for i in range(b.pairs)]

# %%
eyes = prefer(
    "13.eye",
    "Which clip looks more natural?",
    pairs,
    ("guidance 2", "guidance 8"),
)

# %%
eyes.report()


@torch.no_grad()
def judged(clips):
    """What the numbers say about clips, with the standard error where it is a mean over clips."""
    embedded = clip_model.embed_images(clips.transpose(1, 2).flatten(0, 1))
    embedded = embedded.unflatten(0, (len(clips), -1))
    texts = clip_model.embed_texts(tokenizer.encode(prompts).to(b.device))
    each = {
        "CLIPSIM": [clipsim(a[None], t[None]) for a, t in zip(embedded.cpu(), texts.cpu())],
        "frame consistency": [frame_consistency(a[None]) for a in embedded.cpu()],
        "prompt accuracy": correct_attributes(judge, clips, asked).all(1).float().tolist(),
        "grain": [texture.grain(clip[None]) for clip in clips],
        "flicker": [texture.flicker(clip[None]) for clip in clips],
    }
    return {name: (mean(v), stdev(v) / len(v) ** 0.5) for name, v in each.items()}


drawn = sprites.draw(asked.to(b.device), torch.Generator(b.device).manual_seed(14))
columns = {"drawn": drawn, "guidance 2": made[2], "guidance 8": made[8]}
facts = {name: judged(each) for name, each in columns.items()}
print(f"\n{'':20s}" + "".join(f"{name:>20s}" for name in columns))
for metric in facts["drawn"]:
    cells = ["{:.3f} ± {:.3f}".format(*each[metric]) for each in facts.values()]
    print(f"{metric:20s}" + "".join(f"{cell:>20s}" for cell in cells))
reference = clip_features(sprites.draw(asked, torch.Generator(b.device).manual_seed(15)))
for name, each in columns.items():
    fvd = frechet_distance(reference, clip_features(each))
    print(f"mini-FVD of {name} and drawn, {b.made} clips: {fvd:.0f}")

# %% [markdown]
# `report` says how sure your share is: **Wilson's interval** holds all shares for which your count would be no
# surprise. Ten pairs make a wide one. To tell 60% from a coin takes about a hundred pairs, and more than one pair of
# eyes. Is your answer beside the numbers, or against them? Where they disagree, it is not you who is wrong.
#
# ### The whole table
#
# All of this for each text-to-video model of the course at once: `python -m minivdm evaluate --all`. It asks for one
# clip of each of the 384 triples, three times. This is what it printed on one H100 (mean ± standard error of the three
# draws; the first column is drawn clips, so it is what a perfect model would get):
#
# | metric | drawn | text2video, guidance 1 | text2video, guidance 2 | text2video, guidance 8 | cascade |
# |---|---|---|---|---|---|
# | prompt accuracy, % ↑ | 99.7 ± 0.2 | 98.7 ± 0.4 | 99.7 ± 0.2 | 96.8 ± 0.2 | 18.2 ± 1.4 |
# | shape, % ↑ | 99.8 ± 0.1 | 99.6 ± 0.1 | 99.9 ± 0.1 | 99.0 ± 0.0 | 99.8 ± 0.1 |
# | colour, % ↑ | 100.0 ± 0.0 | 100.0 ± 0.0 | 100.0 ± 0.0 | 100.0 ± 0.0 | 100.0 ± 0.0 |
# | motion, % ↑ | 99.9 ± 0.1 | 99.0 ± 0.4 | 99.7 ± 0.2 | 97.8 ± 0.2 | 18.3 ± 1.4 |
# | mini-FID ↓ | 24.7 ± 3.4 | 26.6 ± 2.4 | 34.5 ± 5.4 | 88.7 ± 9.8 | 112.8 ± 9.3 |
# | mini-FVD ↓ | 77 ± 3 | 90 ± 6 | 98 ± 3 | 193 ± 6 | 278 ± 24 |
# | mini-KVD ↓ | -2320 ± 43 | -1957 ± 118 | -1810 ± 132 | -426 ± 74 | -702 ± 299 |
# | video IS ↑ | 7.66 ± 0.01 | 7.61 ± 0.03 | 7.63 ± 0.02 | 7.20 ± 0.05 | 6.07 ± 0.11 |
# | CLIPSIM ↑ | 0.807 ± 0.000 | 0.801 ± 0.001 | 0.804 ± 0.001 | 0.754 ± 0.001 | 0.791 ± 0.001 |
# | frame consistency ↑ | 0.967 ± 0.000 | 0.964 ± 0.000 | 0.966 ± 0.000 | 0.965 ± 0.000 | 0.985 ± 0.001 |
# | grain ↓ | 0.000 ± 0.000 | 0.021 ± 0.000 | 0.022 ± 0.000 | 0.045 ± 0.000 | 0.002 ± 0.000 |
# | flicker ↓ | 0.000 ± 0.000 | 0.018 ± 0.000 | 0.020 ± 0.000 | 0.036 ± 0.000 | 0.002 ± 0.000 |
# | seconds a clip ↓ | 0.000 ± 0.000 | 0.007 ± 0.000 | 0.012 ± 0.000 | 0.012 ± 0.000 | 0.015 ± 0.001 |
#
# And where the right answer is known, because the model is given a part of a real clip:
#
# | given a part of real clips | PSNR, dB ↑ | SSIM ↑ |
# |---|---|---|
# | frames in between: weighted means | 28.1 | 0.9480 |
# | frames in between: the cascade's | 35.7 | 0.9625 |
# | 16 to 32 pixels: bicubic | 30.6 | 0.9678 |
# | 16 to 32 pixels: the cascade's | 40.1 | 0.9733 |
# | 32 to 64 pixels: bicubic | 33.4 | 0.9839 |
# | 32 to 64 pixels: the cascade's | 43.9 | 0.9887 |
#
# Read it with what you know now. *Frame consistency* puts the cascade (chapter 11) above drawn clips: a higher number
# is not a better clip. *CLIPSIM* is high for it, too, though its motion is hardly ever the one asked for: frames, one
# by one, do not show that. Guidance 8 has a worse mini-FVD and twice the grain of guidance 2, and obeys no better. And
# mini-KVD is below 0 in every column, as in section 6: these sets are for the same prompts, and only its *differences*
# say something.
#
# ## 10 · The networks of the papers
#
# Everything above looks with networks of this course, which know sprites. A number that is to stand beside a
# published one must look with the same Inception or I3D, at pictures of the same size, range and number of frames:
# 299 pixels and 0 to 255 for Inception; 224 pixels, −1 to 1 and at least ten frames, usually 16, for I3D. People got
# other numbers by each of these. Neither network comes with this course. If you have a TorchScript file of one
# (StyleGAN-V's `i3d_torchscript.pt`, StyleGAN3's `inception-2015-12-05.pt`), write its path here. A TorchScript file
# is a program: take it only from whom you trust.

# %%
MY_I3D = None  # for example "/home/me/i3d_torchscript.pt"
if MY_I3D:
    features = TorchScriptFeatures(MY_I3D, "i3d", b.device)
    fvd = frechet_distance(features(drawn), features(made[2]))
    print(f"FVD of guidance 2 and drawn, {b.made} clips: {fvd:.1f}")
else:
    print("no I3D of your own: mini-FVD it is")

# %% [markdown]
# ## 11 · Did it work?

# %%
assert abs(bag[0] - bag[1]) < 1e-6 * bag[0], "a bag of frames has no order"
assert math.isclose(psnr(photo, versions["noise"]), psnr(photo, versions["blur"]), rel_tol=1e-9)
assert max(found.values()) > 0.9 > 0.6 > min(found.values()), "one PSNR, many similarities"
assert fooled < 1e-3 and apart > 1, "what Gaussians tell and do not tell"
assert z_hasty > 4 and moved > 4, "two sets of one thing have a distance, and others a larger one"
assert all(fooling > given for given, fooling in scores.values()), "worthless, and a better score"
if b.device.type == "cuda":
    assert torch.cuda.max_memory_allocated() < 8 * 2**30, "must fit a card with 8 GiB"
if b.name != "smoke":
    assert all(abs(value) < 4 * off for value, off in after), "unbiased for any number"
    assert all(value > 4 * off for value, off in before), "as given, it was not"
    assert ratio > 3, f"the bias of FVD must fall with the number of clips: {ratio:.1f}"
    assert (kvd_floor > 0).any() and (kvd_floor < 0).any(), "KVD is on both sides of 0"
    for metric, damage in (
        ("mini-FVD", "shuffled"), ("mini-FVD", "frozen"), ("mini-FVD", "cut"), ("mini-FVD", "blur"),
        ("grain", "grain"), ("grain", "noise"), ("flicker", "flicker"), ("flicker", "grain"),
        ("frame consistency", "shuffled"), ("frame consistency", "frozen"),
        ("prompt accuracy", "reversed"), ("prompt accuracy", "frozen"),
    ):
        assert damage in noticed[metric], f"{metric} must notice {damage}: {z[metric, damage]:.1f}"
    for metric, damage in (
        ("mini-FID, frames", "shuffled"), ("mini-FID, frames", "reversed"), ("mini-FVD", "grain"),
        ("mini-FVD", "flicker"), ("CLIPSIM", "shuffled"), ("CLIPSIM", "reversed"),
        ("grain", "flicker"),
    ):
        assert damage not in noticed[metric], f"{metric} noticed {damage}: {z[metric, damage]:.1f}"
    assert abs(z_both) < 4 < z["mini-FVD", "reversed"], "a set with its reverse cannot notice"
    assert felt > 1, f"mini-FVD must feel some time: {felt:.2f}"
    low, high = min(found.values()), max(found.values())
    print(f"It worked: SSIM from {low:.2f} to {high:.2f} at one PSNR;")
    print(f"mini-FVD of the same thing {ratio:.0f} times as large with few clips;")
    count = {metric: len(names) for metric, names in noticed.items()}
    print(f"damages noticed, of 8: mini-FVD {count['mini-FVD']}, ", end="")
    print(f"mini-FID of frames {count['mini-FID, frames']};")
    print(f"trembling costs {felt:.2f} times what still glass costs.")
else:
    print("To tell from chance what is noticed, run this chapter with the budget cpu or gpu.")

# %% [markdown]
# ## What you have now
#
# - A metric is something that **looks** and something that **compares**. What the look throws away (order, grain, colour) no formula brings back.
# - **PSNR and SSIM** need the right answer; SSIM sees patterns in windows. **FID, FVD, KID, KVD** compare clouds; **IS, CLIPSIM, frame consistency** need made clips alone, and each is easily fooled.
# - FID and FVD are **biased**: only numbers of the same size of set can be compared, and the floor belongs beside them. KID and KVD are right on average, as long as nobody clamps them.
# - Before you trust a number, **break the clips on purpose** and see whether it notices.
#
# **Common mistakes.** Pictures in another range (−1 to 1 where 0 to 1 is meant); other resizing; fewer frames or
# clips than the paper; a covariance of too few samples; a standard deviation without its *ddof* (NumPy divides by
# $N$, PyTorch by $N - 1$; here IS divides by the number of parts).
#
# **Test yourself.** (1) Which of the metrics could be computed for one single clip? (2) A model returns its training
# clips. Which numbers are perfect, and which experiment would notice? (3) Why does the mean over frames of PSNR never
# lie below the pooled one?
#
# **Try it yourself.** (a) Fit mini-FVD against $1/N$ by a line: where does it end for infinitely many clips (Chong
# and Forsyth)? (b) Find a damage that *nothing* in the table notices, and that you see at once. (c) Reverse the clips
# of *one* motion only: does mini-FVD notice now? (d) Write a metric that feels motion and not frames: what should it
# look at?
#
# **Next:** models of your own. This is the last chapter: you have built what makes clips, and what judges them.
#
# **Read on.** Heusel et al., *GANs Trained by a Two Time-Scale Update Rule*, NeurIPS 2017 (FID); Unterthiner et al.,
# *Towards Accurate Generative Models of Video*, 2018 (FVD); Bińkowski et al., *Demystifying MMD GANs*, ICLR 2018
# (KID); Ge et al., *On the Content Bias in Fréchet Video Distance*, CVPR 2024; Huang et al., *VBench*, CVPR 2024,
# sixteen numbers for sixteen things.
