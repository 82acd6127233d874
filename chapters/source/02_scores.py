# ---
# title: Scores
# question: Which way is the data?
# build: eps, x0, v and score; the SDE, the probability-flow ODE, likelihoods
# ---

# %% [markdown]
# # 02 · Scores and SDEs: one model, four clothes
#
# In chapter 01 you trained a network to answer a strange question: *which noise is in this picture?* Its answers turned
# out to be enough to draw new pictures. Why? This chapter gives the deeper reason: the network has learnt a **field of
# arrows** that point from anywhere towards likely data. The arrows are called the **score**. Once we see them, three
# things follow that DDPM alone does not offer: a picture of what sampling *does*, a way to sample without any chance,
# and an answer to a question that a generator seems unable to answer: *how likely is this very picture?*
#
# The chapter follows [Song et al., *Score-Based Generative Modeling through Stochastic Differential Equations*, ICLR
# 2021](https://arxiv.org/abs/2011.13456), which the tutorial behind this course cites with DDPM (slides 6 to 15).
#
# You need chapter 01, what a gradient is, and for the second half what a differential equation says: *so fast does x
# move when it is here*. All the rest is explained as it comes.

# %%
import math
from functools import partial
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from minivdm.course import budget, check, piece, start
from minivdm.datasets.digits import digits
from minivdm.diffusion.forward_process import q_sample, to_x0
from minivdm.diffusion.gradients import outside_inference_mode
from minivdm.diffusion.mixtures import GaussianMixture, ideal_denoiser, ring_mixture
from minivdm.diffusion.predictions import EpsModel, prediction_loss
from minivdm.diffusion.samplers import ddpm_sample
from minivdm.diffusion.schedules import (
    NoiseSchedule, checked_like, linear_betas, per_sample, require_data, require_levels,
)
from minivdm.diffusion.sde import (
    T_MIN, at_time, checked_times, expand_like, require_mean_rate, score_from_eps, time_grid,
)
from minivdm.evaluation import viz
from minivdm.evaluation.metrics import gaussian_mmd
from minivdm.models.layers import timestep_embedding
from minivdm.models.unet import UNet
from minivdm.training.ema import EMA
from minivdm.training.loop import train

start("02_scores")
plt.rcParams.update(viz.STYLE)

# %%
b = budget(
    smoke=dict(
        T=50, points=200, seeds=2, steps=20, batch=64, grid=12,  # toy data
        digit_steps=5, digit_batch=8, channels=16, digits=4, draws=1, flow=4,
    ),
    cpu=dict(
        T=1000, points=1000, seeds=5, steps=1600, batch=1024, grid=60,
        digit_steps=600, digit_batch=64, channels=16, digits=100, draws=3, flow=30,
    ),
    gpu=dict(
        T=1000, points=1000, seeds=5, steps=700, batch=4096, grid=60,
        digit_steps=200, digit_batch=512, channels=32, digits=200, draws=1, flow=30,
    ),
)

# %% [markdown]
# ## 1 · A field of arrows
#
# Our data for most of this chapter is a ring of eight Gaussians, as in chapter 01, but of unequal weight: the first has
# a share of 1/36 of the points, the last of 8/36. So there is something to get wrong. For this data everything is known
# in closed form, at every level of noise: the density $p_t(x)$ of the noisy points, and its **score**, the gradient of
# its logarithm:
#
# $$\mathrm{score}(x) = \nabla_x \log p_t(x)$$
#
# A gradient points uphill. So at each place the score says: *this way it gets more likely, and so steeply.* It has one
# great merit over the density itself. A density must add up to 1 over all possible pictures, and nobody can compute
# that sum for a network. The gradient of the logarithm does not care: a constant factor of $p$ drops out.
#
# The brightness shows the density of the noisy data at four levels, the arrows the score. (The score is steeper the
# less noise there is, so each arrow is multiplied by the noise's variance $1 - \bar\alpha_t$. With that length it would
# lead to the best guess of chapter 01, $\sqrt{\bar\alpha_t}\;\mathbb E[x_0 \mid x_t]$; 30% of it is drawn, to keep the
# picture tidy.) Look at how far the arrows can *see*: with little noise each one knows its own neighbourhood only; with
# much noise all agree where the whole ring lies, and none sees the single spots.

# %%
schedule = NoiseSchedule(linear_betas(1000))
weights = torch.arange(1.0, 9.0)
ring = GaussianMixture(ring_mixture().means, 0.12, weights)
axis = torch.linspace(-2.2, 2.2, 120)
fine = torch.cartesian_prod(axis, axis)
coarse = torch.cartesian_prod(*[torch.linspace(-2, 2, 15)] * 2)


def draw_field(ax, level, score=None, color="white"):
    """The noisy density at a level, and its score (or another one) as arrows."""
    ab = schedule.alpha_bar[level].item()
    density = ring.log_prob(fine, ab).exp().reshape(120, 120).T
    ax.pcolormesh(axis, axis, density, cmap="magma", shading="auto", rasterized=True)
    arrows = 0.3 * (1 - ab) * (ring.score(coarse, ab) if score is None else score)
    true_to_scale = dict(angles="xy", scale_units="xy", scale=1, width=0.004)
    ax.quiver(*coarse.T, *arrows.T, color=color, **true_to_scale)
    ax.set(title=rf"t = {level}, $\bar\alpha$ = {ab:.2f}", aspect="equal", xticks=[], yticks=[])


fig, axes = plt.subplots(1, 4, figsize=(12, 3.2))
for ax, level in zip(axes, [20, 100, 250, 700]):
    draw_field(ax, level)
plt.show()


# %% [markdown]
# The same as a slider over the noise level (with a running kernel; the strip above shows it without one).


# %%
def draw_level(level):
    draw_field(plt.subplots(figsize=(4, 4))[1], level)


viz.slider(draw_level, [10, 20, 50, 100, 150, 200, 300, 400, 600, 1000], "level t")

# %% [markdown]
# ### Why a network that guesses noise has learnt the arrows
#
# Suppose for a moment that the clean point $x_0$ is known. Then the noisy one is Gaussian,
# $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$, and the gradient of *its* log density is easy:
#
# $$\nabla \log q(x_t \mid x_0) = -\frac{x_t - \sqrt{\bar\alpha_t}\,x_0}{1-\bar\alpha_t} = -\frac{\varepsilon}{\sqrt{1-\bar\alpha_t}}$$
#
# Minus the noise that was put in, over its standard deviation. That is an arrow straight back to $x_0$. Of course we
# do not know $x_0$. But the arrows of all the $x_0$ that could have led here have a **mean**, and
#
# $$\nabla \log p_t(x_t) = \mathbb E\big[\,\nabla \log q(x_t \mid x_0) \;\big|\; x_t\,\big] = -\frac{\mathbb E[\varepsilon \mid x_t]}{\sqrt{1-\bar\alpha_t}}$$
#
# (Proof in a line:
# $\nabla p_t(x) = \nabla\!\int q(x|x_0)\,p(x_0)\,dx_0 = \int q(x|x_0)\,p(x_0)\,\nabla \log q(x|x_0)\,dx_0$; divide by
# $p_t(x)$. [Vincent, 2011](https://doi.org/10.1162/NECO_a_00142), called it *denoising score matching*.) And
# $\mathbb E[\varepsilon \mid x_t]$ is what a network learns under squared error. So the score is there already!
#
# Do not believe it: look. Data on a line, a mixture of three Gaussians, at level 100. Each grey dot is one noisy point
# with the arrow back to *its own* $x_0$, which no network can know. They scatter wildly. The orange steps are their
# mean within narrow slots of $x_t$. The black line is the true score.

# %%
torch.manual_seed(0)
line = GaussianMixture(torch.tensor([[-1.2], [0.2], [1.1]]), 0.12, torch.tensor([3.0, 1.0, 2.0]))
level, n = 100, 100_000
x0, noise = line.sample(n), torch.randn(n, 1)
t = torch.full((n,), level)
x_t = q_sample(x0, t, noise, schedule)
ab = schedule.alpha_bar[level]
own = -noise / (1 - ab).sqrt()  # the arrow back to each point's own x_0

edges = torch.linspace(-1.6, 1.6, 65)
slot = torch.bucketize(x_t.flatten(), edges)
counts = torch.bincount(slot, minlength=66)[1:65]
means = torch.bincount(slot, own.flatten(), minlength=66)[1:65] / counts
centres = (edges[1:] + edges[:-1]) / 2
true_score = line.score(centres[:, None], ab.item()).flatten()
plt.figure(figsize=(7.5, 3))
plt.plot(x_t[:2000], own[:2000], ".", c="0.75", ms=2, label="one point's own arrow")
plt.stairs(means, edges, color="C1", lw=2, baseline=None, label="their mean in a slot")
plt.plot(centres, true_score, "k", lw=1, label="true score")
plt.title("The mean of many arrows, each wrong by itself, is the score")
plt.xlabel(r"noisy value $x_t$")
plt.ylabel("arrow")
plt.xlim(-1.8, 1.8)
plt.legend(fontsize=8, loc="lower left")
plt.show()
busy = counts > 200
dsm_error = (means - true_score)[busy].square().mean().sqrt().item()
print(f"typical size of a single arrow {own.std():.2f}; of mean minus true score {dsm_error:.2f}")

# %% [markdown]
# ### Exercise 2.1: the score of an eps model
#
# Turn an estimate of the noise into a score. It is one line, and the line to remember from this chapter.

# %% piece="predictions.to_score" exercise="2.1" points=1 minutes=5

# %% [markdown]
# Your `to_score`, fed with the ideal denoiser of chapter 01, must be the closed-form gradient. Chapter 01 knew the
# arrows all along:

# %%
ideal = ideal_denoiser(ring, schedule)
for level in (10, 100, 500, 1000):
    t = torch.full((len(coarse),), level)
    mine = to_score(ideal(coarse, t), t, schedule)
    truth = ring.score(coarse, schedule.alpha_bar[level].item())
    off = (mine - truth).abs().max()
    print(f"level {level:4d}: scores up to {truth.abs().max():6.2f}, largest difference {off:.0e}")

# %% [markdown]
# ### Why not simply follow the arrows?
#
# Pure uphill walking would pile all points up on the peaks. Add noise of the right size to each step, and the points
# stay spread as the density wants. This is **Langevin dynamics**, known from physics:
#
# $$x \;\leftarrow\; x + h\,\mathrm{score}(x) + \sqrt{2h}\;\varepsilon$$
#
# So who needs many noise levels? Take the score at a low level, where the density is almost the data's own, and walk!
# Left: what that gives after 1,000 steps. Right: as many steps, but shared out over twenty levels from high to low.
# (The spots are a little narrower than above, with a standard deviation of 0.08, and a step is a tenth of a spot's
# variance.) Count the points at each of the eight spots; the bars are the counts, the black marks what is right.

# %%
spots = GaussianMixture(ring.means, 0.08, weights)


def langevin(x, levels, steps):
    """Steps of Langevin dynamics at each level in turn."""
    for level in levels:
        ab = schedule.alpha_bar[level].item()
        h = 0.1 * (ab * 0.08**2 + 1 - ab)
        for _ in range(steps):
            x = x + h * spots.score(x, ab) + math.sqrt(2 * h) * torch.randn_like(x)
    return x / math.sqrt(ab)


torch.manual_seed(0)
start_points = torch.randn(b.points, 2)
steps = 1000 if b.name != "smoke" else 40
falling = [1000 - 990 * i // 19 for i in range(20)]
walks = {
    "one level, t = 10": langevin(start_points, [10], steps),
    "twenty levels, 1000 to 10": langevin(start_points, falling, steps // 20),
    "true sample": spots.sample(b.points),
}
right = (weights / weights.sum()).numpy()
langevin_error, shares = {}, {}
for name, x in walks.items():
    share = torch.bincount(torch.cdist(x, spots.means).argmin(1), minlength=8) / len(x)
    langevin_error[name], shares[name] = 0.5 * abs(share.numpy() - right).sum().item(), share
    print(f"{name:26s} {langevin_error[name]:.1%} of the points are at the wrong spot")
fig, axes = plt.subplots(1, 4, figsize=(12, 2.6), width_ratios=[1, 1.3, 1, 1.3])
for (name, x), (ax, bars) in zip(walks.items(), axes.reshape(2, 2)):
    ax.scatter(*x.T, s=1)
    ax.set(xlim=(-1.7, 1.7), ylim=(-1.7, 1.7), aspect="equal", xticks=[], yticks=[], title=name)
    bars.bar(range(1, 9), shares[name], color="C0")
    bars.plot(range(1, 9), right, "k_", ms=14, mew=2)
    bars.set(xlabel="spot", title=f"{langevin_error[name]:.0%} at the wrong spot")
plt.tight_layout()
plt.show()

# %% [markdown]
# **At one low level every spot is found, but in the wrong proportion.** A point goes to the spot that it happened to
# start near. In the empty space between spots the score points to the nearer spot and says nothing about which one is
# the *bigger*; and the walk almost never crosses over. (A true sample of this size, too, is a few per cent off, by
# chance.) At high levels, where the arrows see the whole ring, the weights are decided; the lower levels then fill in
# the detail. That is why diffusion models need noise of all sizes. (Song and Ermon's *annealed Langevin dynamics*,
# NeurIPS 2019, was such a walk. It came a year before DDPM.)
#
# ## 2 · One model, four clothes
#
# Noise, clean data, score: whoever knows one of them at a level knows them all, for $x_t$ ties them together. There is
# a fourth in common use. Look at the equation of $x_t$ once more: the squares of its two factors add up to 1, so they
# are the cosine and sine of an angle $\varphi$. As noise comes in, $x_t$ wanders on an arc from $x_0$ to $\varepsilon$:
#
# $$x_t = \cos\varphi\; x_0 + \sin\varphi\;\varepsilon, \qquad v = \frac{dx_t}{d\varphi} = \cos\varphi\;\varepsilon - \sin\varphi\; x_0$$
#
# The second is the **velocity** along the arc ([Salimans and Ho, ICLR 2022](https://arxiv.org/abs/2202.00512)). Drawn
# in the plane whose axes are $x_0$ and $\varepsilon$, it is always at a right angle to $x_t$, just as long, and points
# the way that the noise pushes.

# %%
angle = math.radians(35)
x_arc, v_arc = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))
bow = torch.linspace(0, math.pi / 2, 60)
fig, ax = plt.subplots(figsize=(4.2, 3.4))
ax.plot(bow.cos(), bow.sin(), c="0.8")
arrow = dict(angles="xy", scale_units="xy", scale=1, width=0.008)
ends = [1, 0, x_arc[0]], [0, 1, x_arc[1]]
ax.quiver([0, 0, 0], [0, 0, 0], *ends, color=["C0", "C1", "k"], **arrow)
ax.quiver(*x_arc, *v_arc, color="C2", **arrow)
ax.text(1.02, -0.1, "$x_0$", color="C0", fontsize=13)
ax.text(-0.13, 1.0, r"$\varepsilon$", color="C1", fontsize=13)
ax.text(0.84, 0.6, "$x_t$", fontsize=13)
ax.text(0.13, 1.3, "$v$", color="C2", fontsize=13)
ax.text(0.2, 0.05, r"$\varphi$", fontsize=12)
ax.set(xlim=(-0.2, 1.25), ylim=(-0.2, 1.5), aspect="equal", title="From data to noise on an arc")
ax.axis("off")
plt.show()

# %% [markdown]
# ### Exercise 2.2: the noise, if the picture is known
#
# Chapter 01 went from noise to picture, `to_x0`. Now the other way: solve the equation of $x_t$ for $\varepsilon$.

# %% piece="predictions.to_eps" exercise="2.2" points=1 minutes=5

# %% [markdown]
# ### Exercises 2.3 and 2.4: the velocity, and back
#
# First $v$ from $x_0$ and $\varepsilon$. Then the way back: given $x_t$ and $v$, find $x_0$ *and* $\varepsilon$. Since
# $(x_t, v)$ is just $(x_0, \varepsilon)$ turned by the angle $\varphi$, turn it back by $-\varphi$. No division
# anywhere; remember that for what comes next.

# %% piece="predictions.to_v" exercise="2.3" points=1 minutes=5

# %% piece="predictions.from_v" exercise="2.4" points=2 minutes=10

# %% [markdown]
# Round trips must bring everything back. In double precision, over all thousand levels:

# %%
torch.manual_seed(0)
t = torch.arange(1, 1001)
x0, eps = torch.randn(1000, 64).double(), torch.randn(1000, 64).double()
x_t = q_sample(x0, t, eps, schedule)
back_x0, back_eps = from_v(x_t, t, to_v(x0, t, eps, schedule), schedule)
std = (1 - per_sample(schedule.alpha_bar, t, eps)).sqrt()
trips = {
    "v and back: x0": back_x0 - x0,
    "v and back: eps": back_eps - eps,
    "x0 -> eps -> x0": to_x0(x_t, t, to_eps(x_t, t, x0, schedule), schedule) - x0,
    "eps -> x0 -> eps": to_eps(x_t, t, to_x0(x_t, t, eps, schedule), schedule) - eps,
    "eps -> score -> eps": -std * to_score(eps, t, schedule) - eps,
}
round_trip = {name: error.abs().max().item() for name, error in trips.items()}
for name, error in round_trip.items():
    print(f"{name:20s} largest error {error:.0e}")

# %% [markdown]
# Equal in the mind, then. **Not equal in a network**, whose answers are never exact. What does an error of size 0.01 in
# one of them cost in another? Divide and multiply as your functions do:
#
# - an error in $\varepsilon$, turned into $x_0$, is multiplied by $\sqrt{1-\bar\alpha_t}\,/\sqrt{\bar\alpha_t}$: by 157
#   at level 1000;
# - an error in $x_0$, turned into $\varepsilon$, is multiplied by the inverse: by 100 at level 1;
# - an error in $v$ is multiplied by a sine or a cosine. It never grows.
#
# This is the other side of the loss, too. Squared errors are what training sees, so each choice of target *weighs the
# levels* in a way of its own. Written as a weight on the squared error of $x_0$: the signal-to-noise ratio
# $\mathrm{SNR} = \bar\alpha_t / (1-\bar\alpha_t)$ for $\varepsilon$, 1 for $x_0$, and $\mathrm{SNR} + 1$ for $v$.

# %%
ab = schedule.alpha_bar[1:]
snr = ab / (1 - ab)
fig, axes = plt.subplots(1, 2, figsize=(11, 2.9))
axes[0].loglog(range(1, 1001), snr.rsqrt(), "C0", label=r"eps $\to x_0$")
axes[0].loglog(range(1, 1001), snr.sqrt(), "C1", label=r"$x_0 \to$ eps")
axes[0].loglog(range(1, 1001), (1 - ab).sqrt(), "C2", label=r"$v \to x_0$")
axes[0].loglog(range(1, 1001), ab.sqrt(), "C2--", label=r"$v \to$ eps")
axes[0].set(title="How much an error is magnified", xlabel="level t", ylabel="factor")
for name, weight in {"eps": snr, "$x_0$": torch.ones(1000), "$v$": snr + 1}.items():
    axes[1].loglog(range(1, 1001), weight, label=f"target {name}")
axes[1].set(title="Weight of a squared error in $x_0$", xlabel="level t")
for ax in axes:
    ax.legend(fontsize=8)
plt.show()
print(f"eps to x0 at level 1000: times {snr[-1].rsqrt():.0f}")
print(f"x0 to eps at level 1: times {snr[0].sqrt():.0f}")

# %% [markdown]
# That was algebra. Does a real network care? Three small networks, alike in everything, with the same data and the same
# noise, learn the ring: one answers with $\varepsilon$, one with $x_0$, one with $v$. The loss is the one of chapter 01
# with another target. (Points need a network that sees small differences of place, so it also gets sines and cosines of
# the coordinates.)

# %% piece="predictions.prediction_loss"


# %%
class PointNet(nn.Module):
    """Points (B, 2) and levels (B,) to an estimate (B, 2)."""

    def __init__(self, width=128):
        super().__init__()
        layers = [nn.Linear(18 + 64, width), nn.SiLU()]
        for _ in range(2):
            layers += [nn.Linear(width, width), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Linear(width, 2))

    def forward(self, x, t, cond=None):
        waves = torch.cat([1.5 * 2**k * x for k in range(4)], dim=1)  # (B, 8)
        return self.body(torch.cat([x, waves.sin(), waves.cos(), timestep_embedding(t, 64)], 1))


schedule = schedule.to(b.device)
ring_there = GaussianMixture(ring.means.to(b.device), 0.12, weights.to(b.device))


def ring_batch(generator):
    return ring_there.sample(b.batch, generator), None


models = {}
for target in ("eps", "x0", "v"):
    torch.manual_seed(0)
    net = PointNet().to(b.device)
    ema = EMA(net, decay=0.995)
    loss = partial(prediction_loss, prediction_type=target)
    options = dict(lr=5e-3, progress=False, loss=loss)
    steps = train(net, ema, ring_batch, schedule, b.steps, **options)
    losses = torch.stack([value for _, value in steps])
    models[target] = EpsModel(ema.model, target, schedule)
    print(f"target {target:3s}: loss {losses[0]:.2f}, at the end {losses[-50:].mean():.3f}")

# %% [markdown]
# The three losses cannot be compared: they measure different things. So compare what is wanted. Each network's answer
# is turned into $x_0$ and into $\varepsilon$ (`EpsModel` calls your functions), and compared with the ideal denoiser's.
# Look at the two ends of the range.


# %%
@torch.no_grad()
def errors_by_level(model, levels, n=4000):
    """Root mean square error in x_0 and in eps against the ideal denoiser, per level."""
    generator = torch.Generator(b.device).manual_seed(1)
    ideal, rows = ideal_denoiser(ring_there, schedule), []
    for level in levels:
        t = torch.full((n,), level, device=b.device)
        x0 = ring_there.sample(n, generator)
        noise = torch.randn(n, 2, generator=generator, device=b.device)
        x_t = q_sample(x0, t, noise, schedule)
        guess, best = model(x_t, t), ideal(x_t, t)
        in_eps = guess - best
        in_x0 = to_x0(x_t, t, guess, schedule) - to_x0(x_t, t, best, schedule)
        rows.append([part.square().mean().sqrt().item() for part in (in_x0, in_eps)])
    return torch.tensor(rows)


levels = [1, 2, 4, 8, 16, 32, 64, 125, 250, 500, 700, 850, 1000]
error = {target: errors_by_level(model, levels) for target, model in models.items()}
fig, axes = plt.subplots(1, 2, figsize=(11, 2.9))
for target, rows in error.items():
    for ax, column in zip(axes, rows.T):
        ax.loglog(levels, column, ".-", label=f"trained on {target}")
axes[0].set(title="Error in $x_0$", xlabel="level t", ylabel="root mean square")
axes[1].set(title="Error in eps", xlabel="level t")
axes[0].legend(fontsize=8)
plt.show()
print("target    x0 at 1000    eps at 1")
for target, rows in error.items():
    print(f"{target:6s} {rows[-1, 0]:13.3f} {rows[0, 1]:11.3f}")

# %% [markdown]
# As the algebra says. The $\varepsilon$-network is useless as a guesser of $x_0$ at the top, the $x_0$-network is
# useless as a guesser of $\varepsilon$ (that is, as a score) at the bottom, and $v$ stays good at both ends. In between
# they are alike. Keep the $x_0$-network in mind: we shall see what its bottom end does to likelihoods.
#
# Here is the score that the $v$-network has learnt (cyan), over the true one (white, visible only where the two
# differ). It never saw an arrow in its life.

# %%
fig, axes = plt.subplots(1, 4, figsize=(12, 3.2))
learnt_error = {}
for ax, level in zip(axes, [20, 100, 250, 700]):
    t = torch.full((len(coarse),), level, device=b.device)
    with torch.no_grad():
        learnt = to_score(models["v"](coarse.to(b.device), t), t, schedule).cpu()
    draw_field(ax, level)
    draw_field(ax, level, learnt, color="cyan")
    generator = torch.Generator().manual_seed(0)
    ab = schedule.alpha_bar[level].item()
    x = math.sqrt(ab) * ring.sample(4000, generator)
    x = x + math.sqrt(1 - ab) * torch.randn(4000, 2, generator=generator)
    t = torch.full((4000,), level, device=b.device)
    with torch.no_grad():
        guess = to_score(models["v"](x.to(b.device), t), t, schedule).cpu()
    truth = ring.score(x, ab)
    learnt_error[level] = ((guess - truth).square().sum() / truth.square().sum()).sqrt().item()
    ax.set_xlabel(f"off by {learnt_error[level]:.0%} where data is")
plt.show()

# %% [markdown]
# The number below each picture is the error where data is: next to nothing at high levels, and most at low ones, where
# the shapes are sharpest. In the dark corners the network has to guess, for it was hardly ever there; samplers do not
# go there either.
#
# ## 3 · Infinitely many levels
#
# A thousand levels, or two hundred? Let us take all of them. Measure time from $t = 0$ (data) to $t = 1$ (noise), and
# let level $i$ of $T$ stand at time $i/T$. One step of the forward process then takes the time $dt = 1/T$, and its
# $\beta_i$ is a *rate* times that time, $\beta(t)\,dt$. For small steps
# $\sqrt{1-\beta\,dt} \approx 1 - \tfrac12\beta\,dt$, so
#
# $$x_{t+dt} = \sqrt{1-\beta\,dt}\;x_t + \sqrt{\beta\,dt}\;\varepsilon \qquad\longrightarrow\qquad
# dx = \underbrace{-\tfrac12\beta(t)\,x}_{\text{drift } f}\,dt + \underbrace{\sqrt{\beta(t)}}_{\text{diffusion } g}\,dw$$
#
# This is a **stochastic differential equation** (SDE). Read $dw$ as "fresh noise of variance $dt$". The drift pulls
# everything towards zero, the noise spreads it. Ho's betas become a line from 0.1 to 20. Song et al. call the result
# the *variance-preserving* SDE.
#
# ### Exercise 2.5: the VP-SDE
#
# And $\bar\alpha$? A product of infinitely many factors just below 1 is an exponential:
# $\prod (1-\beta\,dt) \to \exp(-\int\beta\,dt)$. The integral of a line you know from school. Write `alpha_bar`,
# `drift` and `diffusion`. A time $t$ comes per sample, as a float tensor `(B,)`; the given helper `expand_like(values, x)`
# shapes such numbers to multiply a batch, as `per_sample` did for tables.

# %% piece="sde.VPSDE" methods=["alpha_bar", "drift", "diffusion"] exercise="2.5" points=3 minutes=15

# %% [markdown]
# Is DDPM's table really a stepped version of your curve? Take $T$ = 50, 200 and 1000 levels. The gap should shrink as
# $1/T$.

# %%
sde = VPSDE()
times = torch.linspace(0, 1, 400)
fig, axes = plt.subplots(1, 2, figsize=(10, 2.8))
axes[0].plot(times, sde.alpha_bar(times), "k", lw=1, label="SDE")
gaps = {}
for T in (50, 200, 1000):
    at_levels = torch.arange(T + 1) / T
    table = NoiseSchedule(linear_betas(T)).alpha_bar
    gap = (table - sde.alpha_bar(at_levels)).abs()
    gaps[T] = gap.max().item()
    axes[1].semilogy(at_levels[1:], gap[1:], label=f"T = {T}: up to {gaps[T]:.4f}")
    if T == 50:
        axes[0].plot(at_levels, table, ".", ms=5, label="table, T = 50")
axes[0].set(title=r"Share of the picture left, $\bar\alpha$", xlabel="time t")
axes[1].set(title="Distance of the table from the curve", xlabel="time t", ylim=(1e-6, 1))
for ax in axes:
    ax.legend(fontsize=8, loc="upper right")
plt.show()

# %% [markdown]
# ### Exercise 2.6: backwards in time
#
# Now a result that is worth a pause. [Anderson (1982)](https://doi.org/10.1016/0304-4149(82)90051-5) showed that an SDE
# run backwards is an SDE again, and all that it needs to know about the data is the score:
#
# $$dx = \big(f(x,t) - g(t)^2\,\mathrm{score}(x,t)\big)\,dt + g(t)\,dw, \qquad dt < 0$$
#
# In words: undo the drift, follow the arrows, add as much noise as the way up did. A computer takes steps of finite
# size. The simplest recipe, **Euler-Maruyama**, is written in the docstring. Two things to watch: $dt$ is negative,
# which turns the drift round by itself; and noise adds up in *variance*, so a step of length $|dt|$ gets noise of size
# $\sqrt{|dt|}$, not $|dt|$. (The last step gets none: nothing would remove it again.)
#
# As the sampler of chapter 01 walked a list of levels, this one walks a list of times; `time_grid(1, T_MIN, steps)`
# makes one. It stops just short of 0, at `T_MIN` = 0.00001, because the score of sharp data is infinite at 0. Begin
# with `times = checked_times(times, falling=True)`, which is given, and make the `(B,)` tensor of times with
# `at_time(now, x)`.

# %% piece="sde.reverse_sde_sample" exercise="2.6" points=3 minutes=20

# %% [markdown]
# Is this something new? Write out one step of DDPM for small $\beta$, and you find
# $x_s \approx x_t + \tfrac12\beta x_t + \beta\,\mathrm{score} + \sqrt\beta\,\varepsilon$: an Euler-Maruyama step of the
# reverse SDE. If so, the two samplers, started at the same points and fed the *same noise*, should walk side by side.
# One sampler works with levels and posteriors, the other with times and arrows; nothing in their code is shared. Left:
# the end points of both, joined by lines, if you can see them. Right: how far apart they end, for different $T$.


# %%
def ring_score(x, t):
    return ring.score(x, sde.alpha_bar(t))


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def by_ddpm(T, seed):
    """Samples of DDPM with T levels; start and noise follow from the seed."""
    table = NoiseSchedule(linear_betas(T))
    first = torch.randn(b.points, 2, generator=seeded(seed))
    return ddpm_sample(ideal_denoiser(ring, table), first, table, generator=seeded(seed + 1))


def by_sde(T, seed):
    """Samples of the reverse SDE in T steps, with the same start and noise as `by_ddpm`."""
    first = torch.randn(b.points, 2, generator=seeded(seed))
    times = time_grid(1, T_MIN, T)
    return reverse_sde_sample(ring_score, first, sde, times, generator=seeded(seed + 1))


counts = [T for T in (50, 100, 200, 400) if T < b.T] + [b.T]
pairs = {T: (by_ddpm(T, 0), by_sde(T, 0)) for T in counts}
apart = {T: (p - q).norm(dim=1).median().item() for T, (p, q) in pairs.items()}
p, q = pairs[b.T]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
for i in range(0, min(300, len(p))):
    axes[0].plot(*zip(p[i], q[i]), c="0.6", lw=0.8, zorder=0)
axes[0].scatter(*p[:300].T, s=7, label="DDPM")
axes[0].scatter(*q[:300].T, s=7, marker="x", lw=0.6, label="reverse SDE")
axes[0].set(aspect="equal", title=f"Same start, same noise, T = {b.T}")
axes[0].legend(fontsize=8, loc="center")
axes[1].loglog(counts, list(apart.values()), "o-")
axes[1].set(title="Median distance of the two end points", xlabel="T (levels, or steps)")
plt.tight_layout()
plt.show()
print("median distances:", {T: round(d, 4) for T, d in apart.items()})
astray = int(((p - q).norm(dim=1) > 0.4).sum())
print(f"T = {b.T}: {astray} of {len(p)} points end up more than 0.4 apart")

# %% [markdown]
# **DDPM is the reverse SDE**, taken in steps; the two end at nearly the same points, and nearer the finer the steps.
# (The spots themselves have a standard deviation of 0.12, and lie 0.77 apart.) That is with the same noise. As
# distributions they should agree with any noise, so compare the clouds as a whole, drawn afresh: the MMD of chapter 01,
# the mean of several draws with its standard error, against pairs of true samples.

# %%
torch.manual_seed(0)
two_sample_level = max(
    gaussian_mmd(ring.sample(b.points), ring.sample(b.points), bandwidth=0.2) for _ in range(60)
)
sde_mmds = torch.tensor([
    gaussian_mmd(by_ddpm(b.T, 100 + 2 * seed), by_sde(b.T, 200 + 2 * seed), bandwidth=0.2)
    for seed in range(b.seeds)
])
doubt = sde_mmds.std() / b.seeds**0.5
print(f"DDPM against the reverse SDE, {b.seeds} draws:", ", ".join(f"{m:.5f}" for m in sde_mmds))
print(f"mean {sde_mmds.mean():.5f} ± {doubt:.5f}; true pairs reach {two_sample_level:.5f}")

# %% [markdown]
# ## 4 · The same densities without any chance
#
# Noise does one thing to a density: it spreads it out, from where there is much to where there is little. But a plain
# current could do just that! Let every point drift *against* the score, downhill, with the speed
# $\tfrac12 g^2\,\mathrm{score}$. No noise at all, and the density changes exactly as the noise would change it. (In
# formulas: noise changes $p$ by $\tfrac12 g^2 \nabla^2 p = \nabla\cdot(p\,\tfrac12 g^2\,\nabla \log p)$, and this is
# what a current $-\tfrac12 g^2 \nabla \log p$ does.) So there is an *ordinary* differential equation with the same
# $p_t$ at every time, the **probability flow**:
#
# $$\frac{dx}{dt} = f(x,t) - \tfrac12\,g(t)^2\,\mathrm{score}(x,t)$$
#
# Compare with the reverse SDE: *half* the arrows, and no noise. The other half of the arrows and the noise are a
# Langevin step, which moves points about without changing their density.
#
# ### Exercise 2.7: the flow
#
# One line. $g(t)$ comes as one number per sample; `expand_like` gives it the shape of the batch.

# %% piece="sde.probability_flow" exercise="2.7" points=1 minutes=5

# %% [markdown]
# ### Exercise 2.8: follow it, up or down
#
# Without noise, cleverer steps pay off. Euler goes along the slope at the start of a step. **Heun** tries that, looks
# at the slope where it would end up, and goes along the mean of the two. Two calls of the score a step, but the error
# falls with the *square* of the step size. Since nothing is random, the same code leads both ways: falling times from
# noise to data, rising times from data to noise.
#
# `checked_times(times)` takes both directions; `at_time(now, x)` gives the (B,) tensor, as in exercise 2.6.

# %% piece="sde.probability_flow_ode" exercise="2.8" points=3 minutes=15

# %% [markdown]
# Here are both, for data on a line. Time runs from left (noise) to right (data); the brightness is the density $p_t(x)$
# at each time. The same eight starts, once along the reverse SDE, once along the flow. Look for crossings.

# %%
def line_score(x, t):
    return line.score(x, sde.alpha_bar(t))


torch.manual_seed(3)
first = torch.linspace(-1.9, 1.9, 8)[:, None]
times = time_grid(1, T_MIN, 500)
tracks = {"Reverse SDE": [first], "Probability flow": [first]}
keep = {name: (lambda s, x, track=track: track.append(x)) for name, track in tracks.items()}
reverse_sde_sample(line_score, first, sde, times, callback=keep["Reverse SDE"])
probability_flow_ode(line_score, first, sde, times, callback=keep["Probability flow"])
tracks = {name: torch.stack(track)[:, :, 0] for name, track in tracks.items()}

x_axis, t_axis = torch.linspace(-3.4, 3.4, 200), torch.linspace(T_MIN, 1, 200)
columns = [line.log_prob(x_axis[:, None], a.item()).exp() for a in sde.alpha_bar(t_axis)]
density = torch.stack([p / p.max() for p in columns], dim=1)
fig, axes = plt.subplots(1, 2, figsize=(11.5, 3.6), sharey=True)
for ax, (name, track) in zip(axes, tracks.items()):
    ax.pcolormesh(t_axis, x_axis, density, cmap="magma", shading="auto", rasterized=True)
    ax.plot(times, track, c="white", lw=0.8)
    ax.set(title=name, xlabel="time t (noise left, data right)", xlim=(1, 0), ylim=(-3.4, 3.4))
axes[0].set_ylabel("x")
plt.tight_layout()
plt.show()
in_order = {name: bool((track[-1].diff() > 0).all()) for name, track in tracks.items()}
for name, track in tracks.items():
    swaps = int((track.argsort(1).diff(dim=0) != 0).any(1).sum())
    print(f"{name}: steps in which paths cross: {swaps}; order kept: {in_order[name]}")

# %% [markdown]
# Paths of an ODE can never cross: from one place there is one way to go. So the flow keeps the order; it combs the
# noise into data, and each start belongs to one result. On the SDE a start decides next to nothing, for the noise on
# the way shuffles everything. And yet, at every time both have the same density.
#
# One start, one result: so we can also go *up*, from data to the noise it belongs to, and come back. How good is the
# round trip?

# %%
torch.manual_seed(0)
data = ring.sample(b.points)
round_trips = {}
for steps in (10, 20, 50, 100, 200):
    times = time_grid(T_MIN, 1, steps, power=2)
    code = probability_flow_ode(ring_score, data, sde, times)
    back = probability_flow_ode(ring_score, code, sde, times[::-1])
    round_trips[steps] = (back - data).norm(dim=1).median().item()
    print(f"{steps:4d} steps up and down: median distance {round_trips[steps]:.5f}")
print(f"the codes: mean {code.mean():.3f}, standard deviation {code.std():.3f}")

# %% [markdown]
# Every data point has a code, and the codes look like standard normal noise. (The steps were not equal here:
# `time_grid(..., power=2)` makes them finer towards the data, where the arrows are steep. The next section measures
# what that is worth.) Chapter 03 builds on this: DDIM is a walk along this very flow.
#
# ## 5 · How likely is it?
#
# Now the promised question. A point $x_0$ flows up to its code $x_1$, and codes are standard normal, so the density
# *there* is known. What about the density *here*? Watch a little cloud of neighbours flow with it. If the flow pulls
# them apart, the cloud gets thinner, so the density drops; how fast is told by the **divergence** of the velocity,
# $\sum_i \partial\,\mathrm{velocity}_i / \partial x_i$. Add up what was lost on the way ([Chen et al., NeurIPS
# 2018](https://arxiv.org/abs/1806.07366)):
#
# $$\log p_0(x_0) = \log \mathcal N(x_1;\,0, I) + \int_0^1 \nabla\!\cdot \mathrm{flow}(x_t, t)\;dt$$
#
# ### Exercise 2.9: the divergence
#
# Autograd can differentiate one number at a time. For component $i$ of the field, sum it over the batch (samples do not
# depend on each other, so nothing mixes), take the gradient by $x$, and keep entry $i$. That is one backward pass for
# each dimension: two for our points, 64 for a digit, 786,432 for a photo. For those there is **Hutchinson's trick**:
# for random signs $e$, the mean of $e^\top J e$ is the sum of the diagonal of the Jacobian $J$, and $e^\top J$ is *one*
# backward pass, of the number $\sum \mathrm{field}\cdot e$. It is right on average, and noisy.
#
# Write both: exact if `noise` is None, else with the noise that is given. `torch.autograd.grad(number, x,
# retain_graph=True)[0]` is the gradient. Put it under `with torch.enable_grad():` and start from
# `x.detach().requires_grad_()`, so that it works wherever it is called; return detached results.

# %% piece="sde.value_and_divergence" exercise="2.9" points=3 minutes=20

# %% [markdown]
# ### Exercise 2.10: the likelihood
#
# Walk up along the flow with Heun's steps as before, and carry a second number along: the integral of the divergence.
# Both slopes of a step have a divergence; take their mean, as for $x$.
#
# `checked_times(times, falling=False)` takes rising times only. Inside, `value_and_divergence` wants a field of x alone:
# fix the time with a `lambda`. The logarithm of the normal density is a sum over all elements of a sample.

# %% piece="sde.ode_log_likelihood" exercise="2.10" points=3 minutes=15

# %% [markdown]
# For the ring the truth is known. The arithmetic is in float64 now, so that only the method itself can err. Left: your
# likelihoods against the true ones. Right: the mean error against the number of steps, for equal steps and for steps
# that get finer towards the data. Both are Heun's; only the times differ. The dotted curve is the finer ones again,
# with one small thing put right: at $t = 1$ the data is not *quite* standard normal, and the density of $x_1$ is taken
# from the closed form instead.

# %%
torch.manual_seed(0)
exact_ring = GaussianMixture(ring.means.double(), 0.12, weights.double())


def exact_score(x, t):
    return exact_ring.score(x, sde.alpha_bar(t))


x = exact_ring.sample(min(b.points, 500))
truth = exact_ring.log_prob(x)
last = sde.alpha_bar(torch.ones(1).double()).item()
step_counts = [10, 20, 50, 100, 200]
nats = {"equal steps": [], "finer towards the data": [], "... and p(x_1) exact": []}
for steps in step_counts:
    for power, name in ((1, "equal steps"), (2, "finer towards the data")):
        times = time_grid(T_MIN, 1, steps, power)
        mine = ode_log_likelihood(exact_score, x, sde, times)
        nats[name].append((mine - truth).abs().mean().item())
    end = probability_flow_ode(exact_score, x, sde, times)
    normal = torch.distributions.Normal(0, 1).log_prob(end).sum(1)
    mended = mine - normal + exact_ring.log_prob(end, last)
    nats["... and p(x_1) exact"].append((mended - truth).abs().mean().item())

fig, axes = plt.subplots(1, 2, figsize=(10, 3.3))
axes[0].plot([-5, 1], [-5, 1], c="0.7", lw=1)
axes[0].scatter(truth, mine, s=5)
axes[0].set(title="log p of 500 points, 200 steps", xlabel="closed form (nats)")
axes[0].set_ylabel("by the flow (nats)")
for (name, values), style in zip(nats.items(), ("o-", "o-", ".:")):
    axes[1].loglog(step_counts, values, style, label=name)
axes[1].set(title="Mean absolute error", xlabel="Heun steps", ylabel="nats")
axes[1].legend(fontsize=8)
plt.tight_layout()
plt.show()
ll_error = nats["finer towards the data"][-1]
for name, values in nats.items():
    print(f"{name:24s}" + "".join(f"{v:11.5f}" for v in values))


few = x[:5].repeat_interleave(100, dim=0)  # five points, a hundred estimates of each
signs = torch.randint(0, 2, few.shape).double() * 2 - 1
estimates = ode_log_likelihood(exact_score, few, sde, times[::4], signs).reshape(5, 100)
print(f"one Hutchinson estimate scatters by {estimates.std(1).mean():.2f} nats around the truth;")
off = estimates.mean(1) - truth[:5]
print("the mean of 100 is off by " + ", ".join(f"{v:+.2f}" for v in off))

# %% [markdown]
# The points lie on the line. With equal steps the error falls about fourfold for twice the steps, as it must for a
# method of second order; with finer steps near the data it is smaller for the same work, at 50 steps eighteen times.
# Then it hits a floor of about 0.0015 nats, which no number of steps removes. The dotted curve shows what the floor is:
# the pretence that $x_1$ is standard normal. Without it the error keeps falling.
#
# ### The likelihood of a network
#
# Nobody ever told the three networks of part 2 a density. They have one all the same: whatever they answer *is* a flow,
# and a flow has likelihoods. `score_from_eps(model, schedule)` asks a network at the level next to the time $t$. On the left
# the true density, then what each network believes, by your `ode_log_likelihood` on a grid of points. The number is the
# mean log-likelihood of true points. No model can, on average, beat the truth; the gap is the KL divergence between the
# data and the model.

# %%
torch.manual_seed(0)
side = torch.linspace(-1.6, 1.6, b.grid)
grid = torch.cartesian_prod(side, side).to(b.device)
test_points = ring_there.sample(b.points, torch.Generator(b.device).manual_seed(2))
true_mean = ring_there.log_prob(test_points).mean().item()
times = time_grid(T_MIN, 1, 2 * b.flow, power=2)
maps, model_mean = {"the truth": ring_there.log_prob(grid)}, {}
for target, model in models.items():
    score = score_from_eps(model, schedule)
    maps[f"trained on {target}"] = ode_log_likelihood(score, grid, sde, times)
    model_mean[target] = ode_log_likelihood(score, test_points, sde, times).mean().item()
    noise = torch.randn(5 * b.points, 2, generator=seeded(0)).to(b.device)
    there = torch.Generator(b.device).manual_seed(1)
    x = ddpm_sample(model, noise, schedule, range(1000, -1, -8), generator=there).cpu()
    draws = [(part, ring.sample(b.points, seeded(i))) for i, part in enumerate(x.split(b.points))]
    mmds = torch.tensor([gaussian_mmd(*pair, bandwidth=0.2) for pair in draws])
    doubt = mmds.std() / 5**0.5
    print(f"trained on {target:3s}: MMD² of its samples {mmds.mean():.4f} ± {doubt:.4f} (5 draws)")
fig, axes = plt.subplots(1, 4, figsize=(12, 3.1))
for ax, (name, log_p) in zip(axes, maps.items()):
    p = log_p.exp().clamp(max=1.5).reshape(b.grid, b.grid).T.cpu()
    ax.pcolormesh(side, side, p, cmap="magma", shading="auto", vmin=0, vmax=1.5, rasterized=True)
    mean = true_mean if name == "the truth" else model_mean[name.split()[-1]]
    ax.set(title=f"{name}: {mean:.2f} nats", aspect="equal", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# Here the trap of part 2 snaps shut. Trained on $v$ or $\varepsilon$, the network's density is the ring, weights and
# all, a little ragged. Trained on $x_0$ it has collapsed to a wire. At the lowest levels the network's $x_0$ is a few
# hundredths off, its $\varepsilon$ therefore a hundred times as much, and the last steps of the flow squeeze everything
# onto the places that it takes for data. A true point a little beside the wire counts as next to impossible. Its
# *samples* are worse than the others', too: compare the means of five draws above. But they are not absurd, for the
# wire runs through the right places. Likelihood looks at the lowest levels, where chapter 01 found the bound's largest
# weights; samples depend on them far less.
#
# ## 6 · Digits: how likely is a 7?
#
# For pictures no closed form will help us, so the number must speak for itself. The usual unit is **bits per
# dimension**: how many bits a pixel would take if the model were used to compress the picture. Our digits have 17 grey
# levels, so knowing nothing costs $\log_2 17 = 4.09$ bits. One thing needs care. Grey levels are whole steps, and a
# density could grow without bound by sitting on the steps. So each pixel gets uniform noise of one step's width (1/8 on
# our scale), in training and in testing; then $-\log_2$ of the density, plus 3 bits per pixel for the width of 1/8, is
# at least the cost of the true grey levels ([Theis et al., ICLR 2016](https://arxiv.org/abs/1511.01844)).
#
# A small U-Net learns $v$, and the likelihoods come from Hutchinson's estimate with random signs. It is asked not only
# about digits. Two baselines, each fitted to the same training digits: every pixel by itself (how often has *this*
# pixel *this* grey level?), and the Gaussian with the full covariance matrix, which knows which pixels go together.

# %%
images, _ = digits()
unseen, _ = digits(held_out=True)
images_there = images.to(b.device)


def blur_steps(x, generator):
    """Uniform noise of the width of one grey level."""
    return x + (torch.rand(x.shape, generator=generator, device=x.device) - 0.5) / 8


def digit_batch(generator):
    i = torch.randint(len(images), (b.digit_batch,), generator=generator, device=b.device)
    return blur_steps(images_there[i], generator), None


torch.manual_seed(0)
net = UNet(in_channels=1, channels=b.channels).to(b.device)
ema = EMA(net, decay=0.995)
loss = partial(prediction_loss, prediction_type="v")
steps = train(net, ema, digit_batch, schedule, b.digit_steps, lr=1e-3, loss=loss)
losses = torch.stack([value for _, value in steps])
print(f"loss {losses[0]:.2f}, at the end {losses[-50:].mean():.3f}")


# %%
def bits(log_p):
    """Nats per picture to bits per pixel, for grey levels 1/8 apart."""
    return -log_p / (64 * math.log(2)) + 3


generator = seeded(0)
some = unseen[torch.randperm(len(unseen), generator=generator)[: b.digits]]
shuffled = torch.randperm(64, generator=generator)
sets = {
    "digits it trained on": images[torch.randperm(len(images), generator=generator)[: b.digits]],
    "unseen digits": some,
    "the same, upside down": some.flip(2),
    "the same, ink and paper exchanged": -some,
    "the same, pixels shuffled": some.flatten(1)[:, shuffled].reshape_as(some),
    "random grey levels": torch.randint(0, 17, some.shape, generator=generator) / 8 - 1,
    "blank paper": -torch.ones_like(some),
}
x = blur_steps(torch.cat(list(sets.values())), generator)
x = x.repeat(b.draws, 1, 1, 1)  # each picture several times, with other signs
signs = torch.randint(0, 2, x.shape, generator=generator).to(x) * 2 - 1
digit_score = score_from_eps(EpsModel(ema.model, "v", schedule), schedule)
times = time_grid(T_MIN, 1, b.flow, power=2)
log_p = ode_log_likelihood(digit_score, x.to(b.device), sde, times, signs.to(b.device)).cpu()
cost = dict(zip(sets, bits(log_p).reshape(b.draws, -1).mean(0).chunk(len(sets))))

grey, new = ((part.flatten(1) + 1) * 8 for part in (images, unseen))
often = torch.stack([(grey == k).sum(0) + 0.1 for k in range(17)])  # (17, 64)
single = -(often / often.sum(0)).log2().gather(0, new.long()).mean().item()
pixels = blur_steps(images, generator).flatten(1).double()
gauss = torch.distributions.MultivariateNormal(pixels.mean(0), torch.cov(pixels.T))
full = bits(gauss.log_prob(blur_steps(unseen, generator).flatten(1).double())).mean().item()

pure = ((images == 1) | (images == -1)).float().mean()
print(f"{pure:.0%} of the real pixels are pure black or pure white")
print(f"{'knowing nothing':36s} {math.log2(17):.2f} bits per pixel")
print(f"{'Gaussian with full covariance':36s} {full:.2f}")
print(f"{'each pixel by itself':36s} {single:.2f}")
print("your likelihood, by a small U-Net:")
for name, value in cost.items():
    low, high = value.quantile(torch.tensor([0.25, 0.75]))
    print(f"  {name:34s} {value.mean():.2f}  (middle half {low:.2f} to {high:.2f})")
upright = (cost["unseen digits"] < cost["the same, upside down"]).float().mean().item()
extra = 64 * (cost["the same, upside down"] - cost["unseen digits"]).mean().item()
print(f"upside down, a digit costs {extra:.0f} bits more; {upright:.0%} cost more that way up")
known, new = cost["digits it trained on"], cost["unseen digits"]
doubt = ((known.var() + new.var()) / b.digits) ** 0.5
print(f"unseen ones cost {new.mean() - known.mean():.2f} ± {doubt:.2f} bits per pixel more")

# %%
order = cost["unseen digits"].argsort()
show = torch.cat([some[order[:12]], some[order[-12:]]])
viz.show_images(show, "The most likely unseen digits (top) and the least likely (bottom)", cols=12)

# %% [markdown]
# There is a lot in this little table.
#
# The Gaussian knows which pixels go together, and still loses to a model that looks at each pixel by itself: more than
# half of all real pixels are pure black or pure white, and no Gaussian is. Your U-Net knows both things, and beats
# them. Digits that it has never seen cost hardly more than those it was trained on (the last line has the difference,
# and its standard error), so what it has learnt is mostly about digits, not about these digits. Turned upside down they
# cost more: a difference of $n$ bits is a factor of $2^n$ in probability. Exchanging ink and paper, or shuffling the
# pixels, makes them next to impossible.
#
# And then the blank paper. It comes out **far more likely than any other nonsense in the table, and close to the
# digits**, though there is not one blank picture among the data! How close is a matter of luck. We trained the small
# network of the `cpu` budget three times, with other seeds. An unseen digit cost 2.2 bits each time; blank paper 2.0,
# 3.3 and 2.8. So one of the three took it for *more* likely than the average digit. (A number about things that were
# never among the data rests on a single training run more than others do.) Nor is it a bug: other models with
# likelihoods do the same (Nalisnick et al., below). *Likely* is not *typical*. Take a coin that shows heads in 60% of
# all tosses. The single most likely result of a hundred tosses is a hundred heads, and you will never see it. A stroke
# of ink can be in many places, so each single way of writing pays for the choice; an empty corner has no choice to pay
# for. So a likelihood alone cannot tell whether a picture is a digit. The pictures say the same. Cheap are plain
# strokes on much empty paper, many of them a 1; dear are broad and smudged grey shapes.
#
# ## 7 · Did it work?

# %%
bars = {"cpu": dict(learnt=0.4, gap=0.4), "gpu": dict(learnt=0.45, gap=0.5)}.get(b.name)
ours = cost["unseen digits"].mean().item()

assert max(round_trip.values()) < 1e-9, "round trips must be exact to rounding"
assert all(torch.isfinite(value).all() for value in cost.values())
if b.device.type == "cuda":
    assert torch.cuda.max_memory_allocated() < 8 * 2**30, "must fit a card with 8 GiB"
if bars:
    assert dsm_error < 0.1 * own.std(), "the mean of the conditional scores must be the score"
    lone, many, _ = langevin_error.values()
    assert many < 0.1 < lone, "many levels must find the right proportions, one must not"
    assert sde_mmds.mean() < two_sample_level / 2, "SDE and DDPM must agree in distribution"
    assert apart[b.T] < 0.3 * apart[50], "and path by path, the better the finer the steps"
    assert gaps[1000] < gaps[50] / 10, "the table must tend to the SDE's alpha_bar"
    assert in_order["Probability flow"] and not in_order["Reverse SDE"], "only SDE paths may cross"
    assert ll_error < 0.003, f"log-likelihood off by {ll_error:.4f} nats on average"
    assert nats["... and p(x_1) exact"][-1] < 5e-4, "and it must be the prior that is left"
    assert error["v"][-1, 0] < 0.1 * error["eps"][-1, 0], "eps must be poor at x_0 at high levels"
    assert error["v"][0, 1] < 0.2 * error["x0"][0, 1], "x_0 must be poor at eps at low levels"
    assert max(learnt_error.values()) < bars["learnt"], "the network's score must be near the true"
    gap = true_mean - model_mean["v"]
    assert 0 < gap < bars["gap"], f"the learnt density is {gap:.2f} nats from the true one"
    assert ours < single - 0.1, "the U-Net must know more than single pixels do"
    assert ours < cost["the same, upside down"].mean() - 0.05, "and which way up a digit stands"
    blank = cost["blank paper"].mean()
    assert blank < cost["the same, pixels shuffled"].mean() - 1, "likely is not typical"
    print(f"It worked: log-likelihoods are off by {ll_error:.4f} nats on average,")
    print(f"and an unseen digit costs {ours:.2f} bits per pixel.")
else:
    print("For the measurements, run this chapter with the budget cpu or gpu.")

# %% [markdown]
# ## What you have now
#
# - The **score** is a field of arrows towards likely data, and an $\varepsilon$-network has learnt it: divide by
#   $-\sqrt{1-\bar\alpha_t}$.
# - $\varepsilon$, $x_0$, $v$ and the score are **one model in four clothes**. They differ in what an error costs:
#   $\varepsilon$ is poor at high levels, $x_0$ at low ones, $v$ at neither.
# - In continuous time DDPM is a **reverse SDE**. Half the arrows and no noise give an **ODE** with the same densities:
#   reversible, and with a likelihood.
# - Where the steps are placed matters as much as how many there are.
#
# Ten pieces of `minivdm` are yours.
#
# **Try it yourself.** (a) Train the three networks on `cosine_betas` (without the ODE parts, which belong to the linear
# schedule). Which target suffers most at $\bar\alpha_T \approx 0$? (b) Replace Heun by Euler in `probability_flow_ode`
# (the check will object) and draw the error curve of the likelihood again. (c) Walk halfway between SDE and flow:
# subtract $\tfrac12(1+\lambda^2) g^2\,\mathrm{score}$ and add noise of size $\lambda g$. Do the densities stay right
# for $\lambda = 0.5$, or 2?
#
# **Next:** chapter 03 walks along the flow in fifty steps instead of a thousand, and calls it DDIM.
#
# **Read on.** Hyvärinen, JMLR 2005, invented score matching; Vincent, 2011, the denoising kind; Song and Ermon, NeurIPS
# 2019, sampled with it; Song et al., ICLR 2021, put everything on these pages into one picture. Kingma et al.,
# *Variational Diffusion Models*, NeurIPS 2021, and Karras et al., *Elucidating the Design Space*, NeurIPS 2022,
# continue from here. Nalisnick et al., *Do Deep Generative Models Know What They Don't Know?*, ICLR 2019, is about
# likely things that are no data.
