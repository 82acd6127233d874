# ---
# title: DDIM
# question: Can it be done in fifty steps, and backwards?
# build: DDIM, inversion, bridges between two domains
# ---

# %% [markdown]
# # 03 · DDIM and inversion
#
# *A thousand calls of a network to draw one picture: can it be done in fifty? And can the film run backwards, from a
# picture to the very noise that it would come from?* Both questions have the same answer, and it needs no training at
# all.
#
# You will write four short pieces and a two-line one. The first four are [Song, Meng and Ermon, *Denoising Diffusion
# Implicit Models*, ICLR 2021](https://arxiv.org/abs/2010.02502); the last one is [Su et al., *Dual Diffusion Implicit
# Bridges*, ICLR 2023](https://arxiv.org/abs/2203.08382), and turns a 3 into an 8 without having seen a single pair of
# them. (In the tutorial that this course follows these are slides 14 to 17. Slide 15 makes a claim that we shall put
# to the test: "DDPM cannot skip timesteps".)
#
# You need: chapter 01. From chapter 02 only the idea of the probability flow, in section 6.

# %%
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from minivdm.course import budget, check, piece, start
from minivdm.datasets.digits import digits
from minivdm.diffusion.forward_process import q_sample, to_x0
from minivdm.diffusion.mixtures import GaussianMixture, ideal_denoiser, ring_mixture, spiral_mixture
from minivdm.diffusion.samplers import checked_levels, ddpm_sample
from minivdm.diffusion.schedules import NoiseSchedule, linear_betas, per_sample
from minivdm.evaluation import viz
from minivdm.evaluation.digit_classifier import train_digit_classifier
from minivdm.evaluation.metrics import frechet_distance, gaussian_mmd
from minivdm.pipelines.pretrained import load_pretrained

start("03_ddim")
plt.rcParams.update(viz.STYLE)

# %% [markdown]
# `draws` clouds of `points` points are drawn in section 3. `sets` says how many sets of `samples` digits are drawn
# with each number of steps; `trips` are the numbers of steps for the way from digits to noise and back, `held` the
# number of digits that make it.

# %%
b = budget(
    smoke=dict(
        points=200, draws=2, sets={2: 2, 5: 2, 10: 2}, samples=20,
        trips=(2, 5), held=10, fine=5,
    ),
    cpu=dict(
        points=1000, draws=12, sets={5: 4, 10: 4, 20: 4, 50: 3, 100: 2}, samples=300,
        trips=(5, 10, 20, 50, 100), held=40, fine=50,
    ),
    gpu=dict(
        points=1000, draws=12, sets={5: 4, 10: 4, 20: 4, 50: 4, 100: 4, 250: 4}, samples=300,
        trips=(5, 10, 20, 50, 100), held=100, fine=50,
    ),
)
T = 1000
schedule = NoiseSchedule(linear_betas(T))  # for points, on the CPU

# %% [markdown]
# ## 1 · A drunkard's walk
#
# Watch your sampler of chapter 01 at work. The data is the spiral, the denoiser the ideal one, so nothing can be
# blamed on a network. Each line is the path of one point over the thousand steps from noise (circle) to the spiral
# (cross).

# %%
torch.manual_seed(3)
spiral = spiral_mixture()
ideal = ideal_denoiser(spiral, schedule)
first = torch.cat([torch.tensor([[1.5, 1.0], [-1.2, 0.8], [0.3, -1.6]]), torch.randn(200, 2)])


def path_of(sampler, x, **options):
    """All that a walk of T steps visits, (T + 1, B, 2)."""
    film = [x]
    sampler(ideal, x, schedule, callback=lambda s, x, x0: film.append(x), **options)
    return torch.stack(film)


def draw_paths(ax, film, title):
    ax.scatter(*spiral.means.T, s=2, c="k", zorder=3)
    for i in range(3):
        ax.plot(*film[:, i].T, lw=0.6, c=f"C{i}")
        ax.plot(*film[0, i], "o", c=f"C{i}", mec="k", zorder=4)
        ax.plot(*film[-1, i], "X", c=f"C{i}", ms=10, mec="k", zorder=4)
    ax.set(title=title, aspect="equal", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))


def lengths(film):
    """Median length of the paths, and of the straight lines from first to last point."""
    steps = film.diff(dim=0).norm(dim=2).sum(dim=0)
    return steps.median().item(), (film[-1] - film[0]).norm(dim=1).median().item()


walked = path_of(ddpm_sample, first)
_, ax = plt.subplots(figsize=(4, 4))
draw_paths(ax, walked, "DDPM: three points on their way")
plt.show()
length, distance = lengths(walked)
print(f"a point walks {length:.0f} units to get {distance:.1f} units away")

# %% [markdown]
# Nearly all of the walking is in vain: each step throws in fresh noise, and the next ones take most of it away again.
# No wonder that it takes many steps. Must there be fresh noise at all?
#
# ## 2 · The loss never saw the path
#
# Look again at how the network is trained. Draw a level, jump there, ask for the noise. The loss never looks at *two*
# levels of the same sample. What the network learns is, for each level by itself, the cloud of noisy pictures,
#
# $$q(x_t \mid x_0) = \mathcal N\big(\sqrt{\bar\alpha_t}\,x_0,\ (1-\bar\alpha_t) I\big).$$
#
# How a sample moves from one cloud to the next was *our* choice. That is the idea of DDIM: **any walk that visits the
# same clouds can use the same network.** No training, just another walk.
#
# So let us look for one. We stand at $x_t$ and know $x_0$ (as always, a guess of it), so we know the noise that is in
# $x_t$:
#
# $$\varepsilon = \frac{x_t - \sqrt{\bar\alpha_t}\,x_0}{\sqrt{1-\bar\alpha_t}}$$
#
# At level $s$ we must have $\sqrt{\bar\alpha_s}\,x_0$ plus noise of variance $1-\bar\alpha_s$. It may be old noise,
# $\varepsilon$, or fresh noise $z$, or some of each, as long as the variances add up:
#
# $$x_s = \sqrt{\bar\alpha_s}\;x_0 \;+\; \underbrace{\sqrt{1-\bar\alpha_s-\sigma^2}\;\varepsilon}_{\text{kept}} \;+\;
# \underbrace{\sigma\, z}_{\text{fresh}}$$
#
# Whatever $\sigma$ is, $x_s$ lies in the right cloud. (With the average guess in the place of $x_0$ that holds for
# small steps, as in chapter 01. How small? That will be measured.) One choice gives back DDPM's posterior; call it
# $\sigma_1$ and measure in it:
#
# $$\sigma = \eta\,\sigma_1, \qquad
# \sigma_1^2 = \frac{1-\bar\alpha_s}{1-\bar\alpha_t}\Big(1-\frac{\bar\alpha_t}{\bar\alpha_s}\Big)$$
#
# $\eta = 1$ is DDPM. $\eta = 0$ uses no fresh noise whatsoever: that is **DDIM**. Nothing here says that $s$ is
# $t - 1$.
#
# ### Exercise 3.1: which levels to visit
#
# First a list of levels: $n$ steps from $T$ to 0, as even as whole numbers allow. It looks like a triviality. It is
# where a well-known library has gone wrong for years: it walks a list, but computes each step's goal as `t - T // n`,
# which is not the next entry unless $n$ divides $T$ ([diffusers, issue
# 11347](https://github.com/huggingface/diffusers/issues/11347)). Then the sampler is told a wrong level, or stops
# before 0 with noise left. Here all samplers walk the *pairs* of one list, and the list starts at $T$ and ends at 0
# for every $n$. (Round each level down, as the docstring does, or to the nearest: both are as even as can be.)

# %% piece="samplers.sampling_levels" exercise="3.1" points=1 minutes=5

# %% [markdown]
# The marks are the levels that 5, 10 and 20 steps visit, on the curve of $\sqrt{\bar\alpha_t}$. Note how little
# happens to the picture in the first steps of a walk (right), and how much in the last ones.

# %%
plt.figure(figsize=(6.5, 2.8))
plt.plot(schedule.alpha_bar.sqrt(), c="0.7")
for n, offset in [(5, 0.0), (10, 0.12), (20, 0.24)]:
    levels = sampling_levels(T, n)
    factor = schedule.alpha_bar[levels].sqrt()
    plt.plot(levels, factor + offset, "|-", ms=9, lw=0.4, label=f"{n} steps")
plt.title("Levels visited (curves shifted upwards, so that one can see them)")
plt.xlabel("level t")
plt.ylabel(r"picture's factor $\sqrt{\bar\alpha_t}$")
plt.legend()
plt.show()

# %% [markdown]
# ### Exercise 3.2: one step
#
# Write the step from $t$ to $s$. The guess of $x_0$ comes in from outside, as in `ddpm_step`; read the noise off
# `x_t` and `x0`. (The sampler has the network's estimate of the noise at hand. But if it has *clamped* its guess of
# $x_0$ to [-1, 1], that estimate no longer fits, so we work it out again.) At $s = 0$ the formula gives $x_0$ by
# itself: no special case. One trap: at $\eta = 1$, on a very long jump from near $T$ to a low level, rounding can take
# $1 - \bar\alpha_s - \sigma^2$ a hair below zero, depending on how $\sigma^2$ is computed; clamp it before the root.
# As in chapter 01, `per_sample(schedule.alpha_bar, t, x_t)` looks up a level for each sample.

# %% piece="samplers.ddim_step" exercise="3.2" points=3 minutes=15

# %% [markdown]
# Does your step do what we set out to do? Take one pixel whose clean value is 1, noise it to level 400, and step to
# level 200, 5,000 times. Across: the noise that was in $x_{400}$. Up: the noise in your $x_{200}$, that is
# $(x_s - \sqrt{\bar\alpha_s}\,x_0)/\sqrt{1-\bar\alpha_s}$. Its variance must be 1 in all three pictures. What changes
# is how much of it is the old noise.

# %%
torch.manual_seed(0)
x0, t, s = torch.ones(5000, 1), torch.full((5000,), 400), torch.full((5000,), 200)
eps, fresh = torch.randn(2, 5000, 1)
x_t = q_sample(x0, t, eps, schedule)
fig, axes = plt.subplots(1, 3, figsize=(9, 3), sharex=True, sharey=True)
for ax, eta in zip(axes, [0.0, 0.5, 1.0]):
    x_s = ddim_step(x_t, x0, t, s, fresh, schedule, eta)
    ab = schedule.alpha_bar[200]
    noise = (x_s - ab.sqrt() * x0) / (1 - ab).sqrt()
    correlation = torch.corrcoef(torch.cat([eps, noise], dim=1).T)[0, 1]
    ax.scatter(eps, noise, s=0.5)
    ax.set_title(f"eta = {eta}: correlation {correlation:.2f}")
    ax.set(xlabel=f"noise in $x_{{400}}$\n(variance of the new: {noise.var():.2f})", aspect="equal")
axes[0].set_ylabel("noise in $x_{200}$")
plt.show()

# %% [markdown]
# The same cloud three times, and three ways to get there. DDPM forgets most of its noise in such a step; DDIM keeps
# all of it.
#
# ### Exercise 3.3: all the way down
#
# The sampler is your `ddpm_sample` with another step. For each pair $(t, s)$: ask the model at the level $t$ that `x`
# has now, turn its answer into a guess of $x_0$ (clamped if `clip_x0` is set), step with `ddim_step`, call the
# `callback` (with the clamped guess, if it was clamped). Where $\eta > 0$, each step gets fresh noise from the
# `generator`. `to_x0(x, t, eps, schedule)` is your own. `checked_levels(levels, schedule)` is given: it returns the
# list, the full walk for None, or raises the ValueError. An $\eta$ outside 0..1 is an error, too, and that one is
# yours to raise: above 1 there would be more fresh noise than the level has room for.

# %% piece="samplers.ddim_sample" exercise="3.3" points=2 minutes=10

# %% [markdown]
# The same three starting points again, with both walks.

# %%
torch.manual_seed(0)
smooth = path_of(ddim_sample, first)
fig, axes = plt.subplots(1, 2, figsize=(8, 4), sharey=True)
draw_paths(axes[0], walked, "DDPM (eta = 1)")
draw_paths(axes[1], smooth, "DDIM (eta = 0)")
plt.show()
for name, film in {"DDPM": walked, "DDIM": smooth}.items():
    length, distance = lengths(film)
    print(f"{name}: walks {length:6.2f} units to get {distance:.2f} units away")

# %% [markdown]
# Without fresh noise the walk is a smooth curve, and goes to a point nearby. Where it ends is decided by where it
# starts: the sample has become a *function* of the noise. Everything below follows from these two facts. A smooth
# curve can be followed with few steps. And a function can, perhaps, be inverted.
#
# ## 3 · How few steps? First where we know the truth
#
# Both walks, with fewer and fewer steps. Upper row $\eta = 1$, lower row $\eta = 0$. What you see is the first of
# twelve clouds; the others are for what comes next.

# %%
torch.manual_seed(0)
noise = torch.randn(b.draws * b.points, 2)
counts = [5, 10, 20, 50, 100, 250]
clouds = {}
for eta in (1.0, 0.0):
    for n in counts:
        walk = sampling_levels(T, n)
        x = ddim_sample(ideal, noise, schedule, levels=walk, eta=eta)
        clouds[eta, n] = x.split(b.points)
fig, axes = plt.subplots(2, 6, figsize=(11, 3.9), sharex=True, sharey=True)
for row, eta in zip(axes, [1.0, 0.0]):
    for ax, n in zip(row, counts):
        ax.scatter(*clouds[eta, n][0].T, s=1, c="C0" if eta else "C1")
        ax.set(title=f"{n} steps", xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal")
axes[0, 0].set_ylabel("DDPM")
axes[1, 0].set_ylabel("DDIM")
plt.show()

# %% [markdown]
# Now in numbers. Left, the MMD to true samples, as in chapter 01: the dots are the single clouds, the line is their
# mean with its standard error, and the grey band is what pairs of true samples reach. Right, another test, which
# needs no random numbers at all. If the data is one Gaussian with standard deviation 0.6 (a typical direction of our
# digits), then each step is linear: it multiplies the deviation from the mean by some factor and adds some noise. So
# we can compute exactly how wide the result is. `linear_step` finds the two factors by asking *your* step.


# %%
def mmd_to_truth(x):
    return gaussian_mmd(x, spiral.sample(len(x)), bandwidth=0.2)


def mean_and_error(values):
    """The mean of some draws, and its standard error."""
    return values.mean().item(), (values.std() / len(values) ** 0.5).item()


def linear_step(t, s, std, eta):
    """For data N(0, std^2) and the ideal guess: factors of x_t and of the fresh noise in x_s."""
    ab = schedule.alpha_bar[t]
    one, none = torch.ones(len(std), 1), torch.zeros(len(std), 1)
    gain = (ab.sqrt() * std**2 / (ab * std**2 + 1 - ab))[:, None]  # E[x_0 | x_t] = gain * x_t
    t, s = torch.full((len(std),), t), torch.full((len(std),), s)
    slope = ddim_step(one, gain, t, s, none, schedule, eta)
    return slope[:, 0], ddim_step(none, none, t, s, one, schedule, eta)[:, 0]


def spread_after(n, std, eta):
    """Standard deviation of the samples after n ideal steps, for data N(0, std^2)."""
    variance = torch.ones(len(std))
    for t, s in pairwise(sampling_levels(T, n)):
        slope, fresh = linear_step(t, s, std, eta)
        variance = slope**2 * variance + fresh**2
    return variance.sqrt()


torch.manual_seed(1)
true_pairs = torch.tensor([mmd_to_truth(spiral.sample(b.points)) for _ in range(30)])
mmd = {key: torch.tensor([mmd_to_truth(x) for x in draws]) for key, draws in clouds.items()}
std = torch.tensor([0.6])
lost = {(eta, n): 1 - spread_after(n, std, eta).item() / 0.6 for eta, n in clouds}
fig, axes = plt.subplots(1, 2, figsize=(10, 3.2))
axes[0].axhspan(true_pairs.min(), true_pairs.max(), color="0.88", label="pairs of true samples")
for eta, name, colour, shift in [(1.0, "DDPM", "C0", 0.97), (0.0, "DDIM", "C1", 1.03)]:
    means, errors = zip(*(mean_and_error(mmd[eta, n]) for n in counts))
    places = [n * shift for n in counts]  # side by side
    axes[0].errorbar(places, means, errors, fmt="o-", ms=4, capsize=3, c=colour, label=name)
    for place, n in zip(places, counts):
        axes[0].plot([place] * b.draws, mmd[eta, n], ".", ms=3, alpha=0.5, c=colour)
    axes[1].loglog(counts, [lost[eta, n] for n in counts], "o-", c=colour, label=name)
axes[0].set(title="Spiral: distance to true samples", xlabel="steps", ylabel="MMD²", xscale="log")
axes[0].set_yscale("symlog", linthresh=0.002)
axes[0].set_yticks([-0.002, 0, 0.002, 0.01, 0.1], ["-0.002", "0", "0.002", "0.01", "0.1"])
axes[1].set(title="Gaussian: share of the spread that is lost", xlabel="steps")
for ax in axes:
    ax.legend(loc="upper right")
plt.show()
print("steps         " + "".join(f"{n:9d}" for n in counts))
for eta, name in {1.0: "DDPM", 0.0: "DDIM"}.items():
    means, errors = zip(*(mean_and_error(mmd[eta, n]) for n in counts))
    print(f"{name}  MMD²    " + "".join(f"{mean:9.4f}" for mean in means))
    print("      error ± " + "".join(f"{error:9.4f}" for error in errors))
    print("      lost    " + "".join(f"{lost[eta, n]:9.1%}" for n in counts))
lucky = (mmd[1.0, 50][:, None] < mmd[0.0, 50]).float().mean().item()
print(f"50 steps, one draw of each: DDPM comes out ahead in {lucky:.0%} of all pairs")

# %% [markdown]
# With five or ten steps both fail, and with twenty DDIM is ahead by a factor of two. Look at fifty. Most of DDPM's
# single clouds lie in the grey band, so each of them passes for a true sample. Their *mean* does not: it lies several
# standard errors above zero, and above DDIM's. Had we drawn one cloud of each, DDPM would have come out ahead in some
# of the cases (the last line counts them), and you would now read that DDIM is the worse one. A single cloud scatters
# by about 0.001, as much as the two differ. Twelve of them make the error of the mean 3.5 times smaller. (Chapter 01
# has the rule.) Go on to the right: DDIM with fifty steps is at least as close to the truth as DDPM with a hundred, and
# with 250 twelve draws find nothing wrong with either.
#
# So slide 15 has a point, and says too much. DDPM *can* skip levels, nineteen of twenty even: what it does wrong then
# takes several draws to see. But DDIM can skip more of them.
#
# The other test says how many. With few steps both make the result too narrow, since each step goes to an average
# guess, and from twenty steps on DDPM loses about twice as much as DDIM. (Compare along the rows: DDPM with 20 steps
# lies between DDIM with 10 and 20, DDPM with 50 just below DDIM with 20.) So much for Gaussian data and a perfect
# denoiser. Do real digits and a network keep to it?
#
# ## 4 · Real digits
#
# Training a network took minutes in chapter 01, so here one comes with the course: the same U-Net, trained on the
# same digits with $T = 1000$ levels. It is also told which digit to draw: `cond` holds the digit + 1, and 0 (or None)
# leaves the choice to the network. (How to train such a thing is a subject of chapter 05; `data/README.md` says how
# this one was made.) No sampler needs it trained anew: DDPM and DDIM, with any number of steps, run on the same
# weights.
#
# Three numbers judge the samples. The mini-FID of chapter 01 (sets of 300, thirty of each digit, since the number
# depends on the size and on the classes). How many are read as the digit that was asked for. And, because of what we
# have just seen, the **variety**: how much the digits of one class differ from each other, as a share of what the
# real ones do.

# %%
model = load_pretrained("digits").to(b.device)
device_schedule = NoiseSchedule(linear_betas(T)).to(b.device)
images, image_labels = digits()
held, held_labels = digits(held_out=True)
classifier = train_digit_classifier()
real_features = classifier.features(images)
starts = torch.randn(
    max(b.sets.values()) * b.samples, 1, 8, 8, generator=torch.Generator().manual_seed(0)
).to(b.device)
wanted = torch.arange(len(starts), device=b.device) % b.samples % 10  # which digit to draw


def draw_digits(n, eta, sets):
    """Sets of digits from n steps; the same starts and the same labels each time."""
    count = sets * b.samples
    options = dict(cond=wanted[:count, None] + 1, eta=eta, clip_x0=True)
    generator = torch.Generator(b.device).manual_seed(1)
    walk = sampling_levels(T, n)
    x = ddim_sample(
        model, starts[:count], device_schedule, walk, generator=generator, **options
    )
    return x.cpu().split(b.samples)


def variety(x, labels):
    """How much digits of one class differ: root mean square deviation from their mean."""
    groups = [x[labels == digit] for digit in range(10)]
    return torch.stack([g.var(dim=0).mean() for g in groups if len(g) > 1]).mean().sqrt().item()


def judge(sets):
    """For each set: mini-FID, variety as a share of the real one, share of right digits."""
    labels = wanted[: b.samples].cpu()
    rows = []
    for x in sets:
        fid = frechet_distance(classifier.features(x), real_features)
        right = (classifier(x).argmax(1) == labels).float().mean().item()
        rows.append((fid, variety(x, labels) / real_variety, right))
    return torch.tensor(rows)


real_variety = variety(images, image_labels)
drawn = {(eta, n): draw_digits(n, eta, k) for n, k in b.sets.items() for eta in (1.0, 0.0)}
rows = [drawn[eta, n][0][:15] for eta in (0.0, 1.0) for n in b.sets]
names = [f"{'DDPM' if eta else 'DDIM'}, {n} steps" for eta in (0.0, 1.0) for n in b.sets]

# %% [markdown]
# All rows start from the same fifteen noises and ask for the digits 0 1 2 … 9 0 1 2 3 4. Compare down the columns:
# the rows of DDIM show the same digits again and again, only with more detail, because the noise alone decides. (That
# is the *consistency* of section 5.2 of the paper.) Each row of DDPM shows other digits.

# %%
fig, axes = plt.subplots(len(rows), 1, figsize=(8, 0.62 * len(rows)))
for ax, row, name in zip(axes, rows, names):
    viz.show_images(row, cols=15, ax=ax)
    ax.text(-0.01, 0.5, name, transform=ax.transAxes, ha="right", va="center")
axes[0].set_title("The same noises and labels, more and more steps")
plt.show()

# %% [markdown]
# Now the judges. The dots are the single sets, the bars the standard error of their mean. For comparison the table
# goes on with *real* digits, and here one must watch what is compared with what. Mini-FID compares a set with the
# 1,498 training digits. Our sets have thirty of each digit, for we asked for them. A set of real ones has as many as
# it happens to have: the held-out set, for one, has 37 zeros and 25 sixes. That alone makes a distance. Therefore
# both kinds are drawn: as they come, and balanced.

# %%
scores = {key: judge(sets) for key, sets in drawn.items()}
print(f"{'':20s}{'mini-FID':>16s}{'(lowest, highest)':>20s}{'variety':>9s}{'right digit':>13s}")
for eta in (1.0, 0.0):
    for n in b.sets:
        _, varied, right = scores[eta, n].mean(dim=0).tolist()
        fids = scores[eta, n][:, 0]
        mean, error = mean_and_error(fids)
        name = f"{'DDPM' if eta else 'DDIM'}, {n} steps"
        print(f"{name:20s}{mean:9.2f} ± {error:4.2f}{fids.min():11.2f}{fids.max():9.2f}"
              f"{varied:9.3f}{right:13.1%}")


def balanced(labels, each):
    """Places of a random set with the same number of each digit."""
    places = [torch.nonzero(labels == digit)[:, 0] for digit in range(10)]
    return torch.cat([place[torch.randperm(len(place))[:each]] for place in places])


torch.manual_seed(0)
held_features, each = classifier.features(held), int(torch.bincount(held_labels).min())
fifty = min(50, list(b.sets)[-1])
smaller = [classifier.features(x[: 10 * each]) for x in drawn[0.0, fifty]]
kinds = {
    f"{b.samples}, as they come": [
        real_features[torch.randperm(len(images))[: b.samples]] for _ in range(20)
    ],
    f"{b.samples}, balanced": [
        real_features[balanced(image_labels, b.samples // 10)] for _ in range(20)
    ],
    f"{10 * each}, balanced": [real_features[balanced(image_labels, each)] for _ in range(20)],
    "held out, all 299": [held_features],
    f"held out, {10 * each}, balanced": [
        held_features[balanced(held_labels, each)] for _ in range(20)
    ],
    f"DDIM, {fifty} steps, {len(smaller[0])}, balanced": smaller,
}
print("\nmini-FID of real digits (mean, lowest, highest), and once more of the network's:")
real = {}
for name, features in kinds.items():
    real[name] = torch.tensor([frechet_distance(x, real_features) for x in features])
    print(f"{name:28s}{real[name].mean():8.2f}{real[name].min():14.2f}{real[name].max():9.2f}")
held_variety = variety(held, held_labels) / real_variety
print(f"held out: variety {held_variety:.3f}, digits 0 to 9: {held_labels.bincount().tolist()}")

fig, axes = plt.subplots(1, 2, figsize=(10, 3))
for eta, name in {1.0: "DDPM (eta = 1)", 0.0: "DDIM (eta = 0)"}.items():
    colour = "C0" if eta else "C1"
    for ax, column in zip(axes, (0, 1)):
        means, errors = zip(*(mean_and_error(scores[eta, n][:, column]) for n in b.sets))
        ax.errorbar(list(b.sets), means, errors, fmt="o-", ms=4, capsize=3, c=colour, label=name)
        for n in b.sets:
            ax.plot([n] * len(scores[eta, n]), scores[eta, n][:, column], ".", ms=4, c=colour)
fair = real[f"{b.samples}, balanced"].mean()
axes[0].axhline(fair, c="0.6", ls="--", label="real, balanced (mean of 20 sets)")
axes[0].set(title="Mini-FID (0 is best; dots: single sets)", ylim=(0, None))
axes[1].set(title="Variety (share of the real digits')", ylim=(None, 1))
for ax in axes:
    ax.set(xscale="log", xlabel="steps")
    ax.legend()
plt.show()

# %% [markdown]
# First the real digits. As they come, sets of 300 score *worse* than the network's with 50 steps. It would be nice to
# conclude that the network draws better digits than people do. It does not. Balanced sets of the same digits score
# about half as much, and now they are ahead: about 4 against 5 to 7, on average. (Single sets of both kinds overlap.)
# What had looked like quality was only this: the network was asked for thirty of each. **Compare like with like.**
#
# The held-out digits show two effects at once. Of their distance a good part is due to the classes: balanced, it
# falls by a third. The rest stays: training digits in sets of the same size are nearer, and so are the network's. Are
# the network's digits more real than real ones after all? No. The reference, the digits that the *judge* was trained
# on and the digits that the *network* was trained on are all the same 1,498 pictures, and the held-out ones are the
# only strangers here. So take mini-FID for what it can do: compare two sets from the same network, with the same
# number of each class, over several sets. Even then differences of one or two between single sets mean nothing. The
# variety is the steadier witness.
#
# The digits keep to the law. DDPM with 20 steps has about the variety of DDIM with 10, and DDPM with 50 that of DDIM
# with 20. And nearly all are read as the digit that was asked for, even with five steps: what suffers first is not
# correctness but variety.
#
# So what about slide 15? "DDIM can skip timesteps, say 50 steps": confirmed, 50 steps are nearly as good as the
# longest walk. (The Gaussian says that nobody need wait for all 1,000: with 250 about one percent is left to gain.)
# "DDPM cannot skip timesteps": too strong. It can, and pays for it with about twice as many steps. On 32 × 32
# photographs the toll is a little higher: in table 1 of the paper DDIM has an FID of 6.8 with 20 steps, and DDPM 8.0
# with 50 and 5.8 with 100. (And Ho et al. also used a larger variance, $1 - \bar\alpha_t/\bar\alpha_s$. With it, the
# same table says, 50 steps have an FID of 33: that walk really cannot skip.)

# %% [markdown]
# The number of steps as a slider (upper row DDIM, lower row DDPM). The rows above show the same without a kernel.


# %%
def draw_steps(n):
    both = torch.cat([drawn[0.0, n][0][:15], drawn[1.0, n][0][:15]])
    viz.show_images(both, f"{n} steps: DDIM (top), DDPM (bottom)", cols=15)


viz.slider(draw_steps, list(b.sets), "steps")

# %% [markdown]
# ## 5 · A little fresh noise
#
# Between DDIM and DDPM lies everything from $\eta = 0$ to 1. The same starts, the same number of steps, and more and
# more fresh noise: at which $\eta$ does a digit begin to change into another one?

# %%
few, some = list(b.sets)[1:3]
etas = [0.0, 0.25, 0.5, 0.75, 1.0]
shares = {n: [] for n in (few, some)}
for eta in etas:
    for n in shares:
        if (eta, n) not in drawn:
            drawn[eta, n] = draw_digits(n, eta, 2)
        shares[n].append(judge(drawn[eta, n][:2])[:, 1].mean().item())
fig, axes = plt.subplots(len(etas), 1, figsize=(8, 0.62 * len(etas)))
for ax, eta in zip(axes, etas):
    viz.show_images(drawn[eta, some][0][:15], cols=15, ax=ax)
    ax.text(-0.01, 0.5, f"eta = {eta}", transform=ax.transAxes, ha="right", va="center")
axes[0].set_title(f"{some} steps, the same starts, more and more fresh noise")
plt.show()
plt.figure(figsize=(6.5, 2.6))
for n, values in shares.items():
    plt.plot(etas, values, "o-", label=f"{n} steps")
plt.title("What fresh noise costs when steps are few")
plt.xlabel("eta")
plt.ylabel("variety (share of the real)")
plt.legend()
plt.show()
print({n: [round(value, 3) for value in values] for n, values in shares.items()})

# %% [markdown]
# Up to $\eta = 0.5$ less than half of the whole loss is there: $\eta$ enters squared, so half of it is a quarter of
# DDPM's fresh noise. Then the variety falls faster. The same as a slider over $\eta$:


# %%
def draw_eta(eta):
    viz.show_images(drawn[eta, some][0][:45], f"eta = {eta}, {some} steps", cols=15)


viz.slider(draw_eta, etas, "eta")

# %% [markdown]
# ## 6 · Why it works: a smooth curve
#
# At $\eta = 0$ the step has a second face. Divide it by $\sqrt{\bar\alpha_s}$, and write
# $\bar x = x / \sqrt{\bar\alpha}$ for the picture at its full brightness and
# $\varsigma = \sqrt{(1-\bar\alpha)/\bar\alpha}$ for the noise on it (so that
# $\bar x_t = x_0 + \varsigma_t\,\varepsilon$):
#
# $$\bar x_s = \bar x_t + (\varsigma_s - \varsigma_t)\;\varepsilon_\theta(x_t, t)$$
#
# That is *Euler's method*, the simplest way to follow a differential equation: go straight ahead, then look again.
# The equation is $\mathrm d\bar x / \mathrm d\varsigma = \varepsilon_\theta$, which is the probability flow of
# chapter 02 in other variables. The first cell checks it on your step. The picture shows why these variables are
# good: left, the paths of a one-dimensional $x_t$, for data that is near -1 or 1; right, the same paths as $\bar x$
# against $\varsigma$.

# %%
torch.manual_seed(0)
x_t, x0 = torch.randn(2, 5, 3, dtype=torch.float64)
t, s = torch.tensor([1000, 700, 300, 40, 1]), torch.tensor([900, 699, 10, 0, 0])
ab_t, ab_s = (per_sample(schedule.alpha_bar, level, x_t) for level in (t, s))
eps = (x_t - ab_t.sqrt() * x0) / (1 - ab_t).sqrt()
euler = x_t / ab_t.sqrt() + ((1 / ab_s - 1).sqrt() - (1 / ab_t - 1).sqrt()) * eps
step = ddim_step(x_t, x0, t, s, x_t, schedule) / ab_s.sqrt()
euler_error = (step - euler).abs().max().item()
print(f"largest difference between your step and Euler's: {euler_error:.1e}")

coin = GaussianMixture(torch.tensor([[-1.0], [1.0]]), 0.15)
film = [torch.linspace(-2, 2, 24)[:, None]]
ddim_sample(ideal_denoiser(coin, schedule), film[0], schedule,
            callback=lambda s, x, x0: film.append(x))
film = torch.cat(film, dim=1)[:, :-1]  # (24, T): levels T, ..., 1
keep = schedule.alpha_bar[1:].flip(0)
fig, axes = plt.subplots(1, 2, figsize=(10, 3))
axes[0].plot(range(T, 0, -1), film.T, c="C1", lw=0.8)
axes[0].set(title="x against the level", xlabel="level t (time runs to the left)", ylabel="x")
axes[1].plot((1 / keep - 1).sqrt(), (film / keep.sqrt()).T, c="C1", lw=0.8)
axes[1].set(title=r"The same, $\bar x$ against $\varsigma$", xlim=(0, 4), ylim=(-6, 6))
axes[1].set(xlabel=r"noise $\varsigma$ (time runs to the left)", ylabel=r"$\bar x$")
plt.show()

# %% [markdown]
# On the right the lines are nearly straight: most paths head for -1 or 1 from far away and keep their course, and
# along a straight line Euler's method makes no error, however long the step. (For data that is a single point all of
# them are exactly straight.)
#
# Is it the variables, then, that make the difference? A good question, because it can be answered. The probability
# flow can be written with the level itself as time, too,
# $\mathrm dx / \mathrm dt = -\tfrac12 \beta_t\,(x - \varepsilon_\theta / \sqrt{1-\bar\alpha_t})$, and followed by
# Euler's method. For Gaussian data of any width we can compute what both of them do, without a single random number,
# and what DDPM does. The little marks are the 64 principal directions of our digits.

# %%
def spread_in_levels(n, std):
    """As `spread_after`, for Euler's method with the level itself as time."""
    spread = torch.ones(len(std))
    for t, s in pairwise(sampling_levels(T, n)):
        ab, beta = schedule.alpha_bar[t], schedule.beta[t]
        spread = spread * (1 + 0.5 * beta * (t - s) * (1 - 1 / (ab * std**2 + 1 - ab)))
    return spread


widths = torch.logspace(-2, 0.4, 60)
errors = {
    "DDPM": spread_after(20, widths, 1.0) - widths,
    "DDIM": spread_after(20, widths, 0.0) - widths,
    "Euler, level as time": spread_in_levels(20, widths) - widths,
}
pixels = images.flatten(1)
directions = torch.linalg.eigvalsh(torch.cov(pixels.T)).clamp(min=0).sqrt()
plt.figure(figsize=(6.5, 3))
for name, error in errors.items():
    plt.semilogx(widths, error, label=name)
plt.plot(directions, torch.full((64,), 0.03), "|", c="0.4", label="directions of our digits")
plt.axhline(0, c="0.7", lw=0.8)
plt.xlim(0.01, 2.5)
plt.title("Gaussian data, 20 steps: how much too wide (or narrow) the result is")
plt.xlabel("standard deviation of the data")
plt.ylabel("error of the standard deviation")
plt.legend(fontsize=8)
plt.show()

# %% [markdown]
# Three answers. At the left end DDIM's error is as small as the data is thin, so a point is hit exactly; the other
# Euler method leaves some noise there. But at 1, where the data is as wide as the noise, the other one is exact, and
# it is the better one for most directions of our digits! So it is not the variables that make DDIM fast. What the two
# have in common is that they follow *the same smooth curve*, and that is what puts DDPM behind. Drop the fresh noise,
# and the question of how to sample becomes one of how to solve a differential equation, for which mathematics has had
# better methods than Euler's for a long time: Heun's (chapter 02) looks ahead, and DPM-Solver ([Lu et al., NeurIPS
# 2022](https://arxiv.org/abs/2206.00927)) is made for this very equation.
#
# ## 7 · Inversion: backwards through the film
#
# A sample is a function of its noise. Then which noise belongs to a *given* picture, to a real digit that no sampler
# has drawn? Walk the list of levels upwards. The step is the one you know, from $s$ up to $t$:
#
# $$\hat x_0 = \frac{x_s - \sqrt{1-\bar\alpha_s}\;\varepsilon}{\sqrt{\bar\alpha_s}}, \qquad
# x_t = \sqrt{\bar\alpha_t}\;\hat x_0 + \sqrt{1-\bar\alpha_t}\;\varepsilon$$
#
# Two lines of chapter 01: `to_x0` at level $s$, then `q_sample` to level $t$, with the model's estimate in the place
# of the noise: `to_x0(x, s, eps, schedule)`, `q_sample(x0, t, eps, schedule)`. One thing is missing. The way down
# computed $\varepsilon$ from $x_t$, and $x_t$ is what we are looking for. So we take the nearest thing we have:
#
# $$\varepsilon = \varepsilon_\theta(x_s,\, t)$$
#
# This is where the error comes from, and the only place. If $\varepsilon$ changes little from $x_s$ to $x_t$, that is
# for small steps, the way up and the way down agree: "the ODE process can be reversed in the limit of small steps",
# as slide 17 says.
#
# ### Exercise 3.4: inversion
#
# Note that the model is asked about the level it goes *to*, $t$. That is the usual choice. On the way down it will be
# asked at $t$, too, so if $\varepsilon$ did not depend on $x$, both ways would cancel exactly (the check uses such an
# $\varepsilon$). And at level 0 there is no noise to estimate: no network has been trained there.
#
# There is no `clip_x0` here. Clamping a guess throws away what lies outside [-1, 1], and no way back can know what it
# was. `levels` is the same falling list that `ddim_sample` takes; walk it upwards.

# %% piece="samplers.ddim_invert" exercise="3.4" points=3 minutes=15

# %% [markdown]
# Now invert real digits that the network was not trained on, and sample from what comes out, with the same label and
# the same list of levels. The copies look much like the originals, so the lower rows show what is *wrong* with them,
# five times enlarged: plain grey is no error. From which number of steps on is there little left to see?

# %%
torch.manual_seed(0)
some_digits, some_labels = held[: b.held].to(b.device), held_labels[: b.held].to(b.device)
cond = some_labels[:, None] + 1
back, trip_error, latents = {}, {}, {}
for n in b.trips:
    walk = sampling_levels(T, n)
    latents[n] = ddim_invert(model, some_digits, device_schedule, walk, cond)
    back[n] = ddim_sample(model, latents[n], device_schedule, walk, cond)
    trip_error[n] = (back[n] - some_digits).square().mean().sqrt().item()
few, best = b.trips[0], b.trips[-1]
rows = {
    "digit": some_digits,
    f"its noise, halved ({best} steps)": latents[best] / 2,
    f"back, {few} steps": back[few],
    **{f"5 × error, {n} steps": 5 * (back[n] - some_digits) for n in b.trips},
}
title = "There and back: what gets lost"
pictures = torch.cat([batch[:10] for batch in rows.values()])
viz.show_images(pictures, title, cols=10, width=6, rows=list(rows))
plt.show()

# %% [markdown]
# How fast does the error fall? Beside the digits, points of the ring of chapter 01 with their ideal denoiser, where
# no network is to blame.

# %%
ring = ring_mixture()
ring_model = ideal_denoiser(ring, schedule)
points = ring.sample(500)
flat_trips = [n for n in (5, 10, 20, 50, 100, 200, 500, 1000) if n <= 10 * best]
flat_error = {}
for n in flat_trips:
    walk = sampling_levels(T, n)
    up = ddim_invert(ring_model, points, schedule, walk)
    down = ddim_sample(ring_model, up, schedule, walk)
    flat_error[n] = (down - points).square().mean().sqrt().item()
plt.figure(figsize=(6.5, 3))
plt.loglog(b.trips, list(trip_error.values()), "o-", label="digits, network")
plt.loglog(flat_trips, list(flat_error.values()), "s-", label="ring, ideal denoiser")
plt.loglog(flat_trips, [flat_error[flat_trips[-1]] * flat_trips[-1] / n for n in flat_trips],
           ":", c="0.5", label="proportional to 1 / steps")
plt.title("There and back: what is lost")
plt.xlabel("steps, each way")
plt.ylabel("root mean square error")
plt.legend()
plt.show()
print("digits:", ", ".join(f"{n}: {e:.3f}" for n, e in trip_error.items()))
print("ring:  ", ", ".join(f"{n}: {e:.4f}" for n, e in flat_error.items()))

# %% [markdown]
# ## 8 · Two kinds of noise
#
# Slide 17 puts two ways to level $T$ side by side. The forward process adds *random* noise, the inversion adds noise
# that the *model* has chosen. Take one real digit, go up to five levels in both ways, and let DDIM come down again.
# There is no label this time (`cond=None`), so that nothing but the noise says which digit it was. Before you read
# on: in which of the two noises at $t = 1000$ can *you* read the digit?

# %%
noise = torch.randn(some_digits.shape, generator=torch.Generator().manual_seed(0)).to(b.device)
walk = sampling_levels(T, b.fine)
reached = {}  # the inverted digits at each level


def keep_level(t, x, guess):
    reached[t] = x


ddim_invert(model, some_digits, device_schedule, walk, callback=keep_level)
tops, shown = [200, 400, 600, 800, 1000], 1
columns = [[some_digits[shown]] * 4]
originals = (classifier(held[: b.held]).argmax(1) == held_labels[: b.held]).float().mean().item()
same = {"random": [originals], "inverted": [originals]}
for top in tops:
    t = torch.full((len(noise),), top, device=b.device)
    noisy = torch.cat([q_sample(some_digits, t, noise, device_schedule), reached[top]])
    down = [level for level in walk if level <= top]
    result = ddim_sample(model, noisy, device_schedule, down)
    for kind, x in zip(same, result.cpu().chunk(2)):
        read = classifier(x).argmax(1) == held_labels[: b.held]
        same[kind].append(read.float().mean().item())
    columns.append([batch[i] for i in (shown, shown + b.held) for batch in (noisy, result)])
names = ["random noise added", "... and removed by DDIM", "inverted", "... and sampled by DDIM"]
fig, axes = plt.subplots(4, 1, figsize=(6, 3.6))
for i, (ax, name) in enumerate(zip(axes, names)):
    labels = [f"t = {top}" for top in [0, *tops]] if i == 3 else ()
    row = torch.stack([column[i] for column in columns])
    viz.show_images(row, cols=6, labels=labels, ax=ax)
    ax.text(-0.02, 0.5, name, transform=ax.transAxes, ha="right", va="center")
plt.show()
plt.figure(figsize=(6.5, 2.4))
for kind, shares in same.items():
    plt.plot([0, *tops], shares, "o-", label=kind)
plt.axhline(0.1, c="0.6", ls="--", label="guessing")
plt.title("Coming down again: how many are still the digit they were?")
plt.xlabel("level t reached")
plt.ylabel("share (as the judge reads)")
plt.ylim(0, 1.05)
plt.legend()
plt.show()
print({kind: [round(share, 2) for share in shares] for kind, shares in same.items()})

# %% [markdown]
# From random noise the way down leads back to the digit only if it starts low enough; from the higher levels it leads
# to *some* digit. From inverted noise it leads back from everywhere: the noise holds the whole picture. (At $t = 0$
# the judge reads the real digits themselves. Going up half-way with random noise, then down again, is a useful trick
# of its own, SDEdit; you will meet it in chapter 06 as image-to-image.)
#
# And it does not even hide it. Look at the third row again: up to $t = 1000$ one can *see* the digit in its noise.
# Yet theory says that inverted noise is standard normal, if the model is perfect and the steps are small. Both are
# true, and for Gaussian data a few lines show how. Let a number $x_0$ come from $\mathcal N(\mu, \sigma^2)$. At level
# $t$ its cloud is a Gaussian, too, with mean $\sqrt{\bar\alpha_t}\,\mu$ and variance
# $\bar\alpha_t\sigma^2 + 1 - \bar\alpha_t$. The paths are smooth and never cross, so whoever starts two standard
# deviations above the mean stays two standard deviations above the mean, all the way up. At the top, where the mean
# is 0 and the deviation is 1, this is
#
# $$z = \frac{x_0 - \mu}{\sigma}$$
#
# **The noise is the picture itself**, with the mean taken off and the width made 1. Where else should a smooth map
# put it that must be able to bring it back? For 64 pixels that depend on each other, the same holds along each
# principal direction: $z = C^{-1/2}\,(x_0 - \mu)$, with the mean $\mu$ and the covariance matrix $C$ of the data.
# Such $z$ have variance 1 in each pixel, and no two pixels of $z$ correlate. But each pixel of $z$ still correlates
# with *its own* pixel of the picture.
#
# Digits are no Gaussian. How far does the formula carry? Here are ten digits and four kinds of noise: random;
# inverted without a label, as above; by the formula; and inverted with the right label, as in section 7. Below, for
# all our digits: how wide the noise is (where the pixels of real digits vary, and in the margins, where they hardly
# do), how neighbours correlate, how noise and digit correlate, and how many digits the judge reads *in the noise*.

# %%
def correlation(x, y):
    return torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1].item()


def power_of_covariance(x, power):
    """C^power for pictures (N, 1, 8, 8); 0.01 more variance, for pixels that are always empty."""
    variances, directions = torch.linalg.eigh(torch.cov(x.flatten(1).T).double())
    variances = variances.clamp(min=0) + 0.01
    return (directions * variances**power @ directions.T).float()


clean = some_digits.cpu()
rest = (clean - images.mean(dim=0)).flatten(1)
noises = {
    "random": noise.cpu(),
    "inverted": reached[T].cpu(),
    "by the formula": (rest @ power_of_covariance(images, -0.5)).view_as(clean),
    "inverted with label": latents[best].cpu(),
}
rows = torch.cat([clean[:10], *(z[:10] / 2 for z in noises.values())])
title = "Ten digits, and four kinds of noise (halved to fit)"
viz.show_images(rows, title, cols=10, width=6, rows=["digit", *noises])
plt.show()
width = images.std(dim=0)[0]  # (8, 8)
vary, margin = width > 0.4, width < 0.1
carried, read = {}, {}
print(f"{'':21s}{'width':>7s}{'in margins':>12s}{'neighbours':>12s}{'with digit':>12s}{'read':>7s}")
for name, z in noises.items():
    near = correlation(z[..., 1:], z[..., :-1])
    carried[name] = correlation((clean - clean.mean(0))[:, 0, vary], (z - z.mean(0))[:, 0, vary])
    read[name] = (classifier(z).argmax(1) == held_labels[: b.held]).float().mean().item()
    print(f"{name:21s}{z[:, 0, vary].std():7.2f}{z[:, 0, margin].std():12.2f}{near:12.2f}"
          f"{carried[name]:12.2f}{read[name]:7.0%}")
like = correlation(noises["by the formula"][:, 0, vary], noises["inverted"][:, 0, vary])
print(f"the formula's noise and the inverted one correlate {like:.2f}")

# %% [markdown]
# Judged by itself the inverted noise could almost pass: not far from as wide as it should be, and neighbours hardly
# correlate. Held beside its digit it looks different: the two correlate strongly, and a judge that has been trained
# on clean digits and nothing else reads four or five of ten noises rightly, where guessing gets one. The formula,
# which knows nothing but a mean and a covariance matrix, comes close to what the network does. **Inverted noise
# carries the digit. It is the digit, in other units.**
#
# The last row is worth a thought. With the label, it is the mean of *its own class* that is taken off. What remains
# says next to nothing about which digit it was; the judge guesses. It says *how it was written*. The next section
# lives on this.
#
# And the margins? If a pixel is always empty, then *every* noise leads to empty paper, and the way back cannot know
# which one it was. So the network settles for hardly any. Keep all this in mind whenever you read "invert the
# picture, then treat the result like any noise".
#
# ## 9 · A bridge between two models
#
# Inversion turns data into (nearly) standard normal noise, *whatever the data was*. Sampling turns such noise into
# data, whatever the model. So noise is a language that all diffusion models with the same schedule share, though they
# have never met. Translate: up with the model of the source, down with the model of the target. Su et al. call it a
# Dual Diffusion Implicit Bridge (DDIB). They need not have a single training example in common, let alone pairs.
#
# What does such a bridge keep? The formula of section 8 says it. Up from the threes: $z = (x - \mu_3)/\sigma_3$. Down
# to the eights: $\mu_8 + \sigma_8\,z$. So the mean three is exchanged for the mean eight, and what made *this* three
# differ from the mean three is put on top of it, each direction stretched to the width that eights have there.
#
# ### Exercise 3.5: the bridge

# %% piece="bridge.ddib" exercise="3.5" points=1 minutes=5

# %% [markdown]
# First two models that have certainly never met: the ideal denoisers of the ring and of the spiral. Each blob of the
# ring has a colour, and each point keeps it.

# %%
torch.manual_seed(0)
blobs = ring.sample(b.points)
eight_colours = ["k", "#E69F00", "#56B4E9", "#009E73", "0.6", "#0072B2", "#D55E00", "#CC79A7"]
colours = [eight_colours[i] for i in torch.cdist(blobs, ring.means).argmin(dim=1)]
walk = sampling_levels(T, 10 * b.fine)
models = ring_model, ideal_denoiser(spiral, schedule)
there = ddib(blobs, *models, schedule, walk)
again = ddib(there, *models[::-1], schedule, walk)
fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharex=True, sharey=True)
titles = ["Ring", "Translated to a spiral", "And back"]
for ax, x, title in zip(axes, (blobs, there, again), titles):
    ax.scatter(*x.T, s=2, c=colours)
    ax.set(title=title, aspect="equal", xlim=(-1.6, 1.6), ylim=(-1.6, 1.6))
plt.show()
ring_cycle = (again - blobs).norm(dim=1).median().item()
print(f"cycle error: median {ring_cycle:.4f} (a blob of the ring has a width of 0.08)")
print(f"MMD² of the translated points to the spiral: {mmd_to_truth(there):.5f}")

# %% [markdown]
# In the middle the colours still follow each other as they do on the ring, without a word having been said about
# which blob belongs where. And the way back ends where it began: the map is one to one, which is what Su et al. mean
# by *cycle consistency*. They did not train for it, either; it comes from walking one curve in both directions.
#
# Now digits. The two models are one and the same network with two labels: real threes that it was not trained on go
# up with label 3 and come down with label 8. Look for what stays: the slant, the weight of the pen, narrow or wide.
# The third row is no network's work. It is the formula, $\mu_8 + C_8^{1/2}\,C_3^{-1/2}\,(x - \mu_3)$.

# %%
def translate(source, target, walk):
    """Held-out digits of one class, as another class, and back; measured."""
    x = held[held_labels == source].to(b.device)
    conds = [torch.full((len(x), 1), digit + 1, device=b.device) for digit in (source, target)]
    there = ddib(x, model, model, device_schedule, walk, *conds)
    again = ddib(there, model, model, device_schedule, walk, *conds[::-1])
    x, there, again = x.cpu(), there.cpu(), again.cpu()
    real = [images[image_labels == digit] for digit in (source, target)]
    stretch = power_of_covariance(real[0], -0.5) @ power_of_covariance(real[1], 0.5)
    rest = ((x - real[0].mean(dim=0)).flatten(1) @ stretch).view_as(x)
    kept = there - real[1].mean(dim=0)  # what makes this one differ from the mean
    others = [correlation(rest.roll(i, dims=0), kept) for i in range(1, len(x))]
    ink = torch.stack([picture.mean(dim=(1, 2, 3)) for picture in (x, there)])
    nearest = torch.cdist(there.flatten(1), x.flatten(1)).argmin(dim=1)
    return dict(
        pictures=(x, there, real[1].mean(dim=0) + rest, again),
        formula=correlation(rest, kept),
        chance=sum(others) / len(others),
        hit=(classifier(there).argmax(1) == target).float().mean().item(),
        cycle=(again - x).square().mean().sqrt().item(),
        ink=torch.corrcoef(ink)[0, 1].item(),
        own=(nearest == torch.arange(len(x))).float().mean().item(),
    )


coarse, fine = sampling_levels(T, max(b.fine // 4, 2)), sampling_levels(T, b.fine)
bridges = {pair: translate(*pair, fine) for pair in [(3, 8), (4, 9)]}
for (source, target), r in bridges.items():
    rows = torch.cat([picture[:12] for picture in r["pictures"]])
    names = [f"real {source}s", f"as {target}s", "by the formula", "and back"]
    viz.show_images(rows, f"Real {source}s, translated to {target}s", cols=12, rows=names)
    plt.show()
    count = len(r["pictures"][0])
    rough = translate(source, target, coarse)["cycle"]
    print(f"{source} -> {target}, {count} digits: the judge reads {r['hit']:.0%} as {target}; "
          f"cycle error {r['cycle']:.3f} ({rough:.3f} with a quarter of the steps)")
    print(f"  ink before and after correlates {r['ink']:.2f}; the nearest {source} is the one it "
          f"came from for {r['own']:.0%} (chance: {1 / count:.0%})")
    print(f"  what differs from the mean {target} correlates {r['formula']:.2f} with the formula "
          f"(with that of another {source}: {r['chance']:.2f})")

# %% [markdown]
# All are read as the digit that was asked for, and each keeps something of the hand that wrote it: heavy threes
# become heavy eights, and for half of the threes (a third of the fours) the nearest of all is the very one it came
# from. The formula tells in advance, and without a network, most of what is kept; the network's digits are the
# sharper ones, since real digits are no Gaussian. The cycle is less perfect than in two dimensions. Its error falls
# with the number of steps, as every inversion error does, but it is several times that of the plain round trip in
# section 7.
#
# ## 10 · Did it work?

# %%
top = list(b.sets)[-1]
varied = {key: scores[key][:, 1].mean().item() for key in scores}
fid = {key: scores[key][:, 0].mean().item() for key in scores}

assert all(torch.isfinite(x).all() for sets in drawn.values() for x in sets)
assert euler_error < 1e-6, "a DDIM step is an Euler step"
if b.device.type == "cuda":
    assert torch.cuda.max_memory_allocated() < 8 * 2**30, "must fit a card with 8 GiB"
if b.name != "smoke":
    assert lengths(walked)[0] > 50 * lengths(smooth)[0], "DDIM's paths must be far shorter"
    assert all(lost[0.0, n] < lost[1.0, n] for n in counts), "DDIM must lose less spread"
    for key in ((0.0, 250), (1.0, 250)):
        mean, error = mean_and_error(mmd[key])
        assert mean < 4 * error + 1e-4, "with 250 steps nothing must be left that twelve draws see"
    assert mmd[1.0, 20].mean() > 1.3 * mmd[0.0, 20].mean(), "20 steps: DDPM must be farther off"
    assert mmd[1.0, 50].mean() > mmd[0.0, 50].mean(), "and with 50 steps, on average"
    alike = min(len(scores[0.0, 50]), len(scores[0.0, top]))  # sets from the same starts
    change = (scores[0.0, top] - scores[0.0, 50][:alike])[:, 1].mean()
    assert change < 0.05, "50 steps of DDIM must be nearly as varied as many"
    assert varied[1.0, 50] < varied[0.0, top] - 0.01, "50 steps of DDPM are not"
    assert varied[1.0, 10] < varied[0.0, 10] - 0.01, "10 steps of DDPM must lack more variety"
    assert fid[0.0, 50] < 1.4 * fid[0.0, top], "50 steps of DDIM must be about as good as many"
    loose, strict = (real[f"{b.samples}, {kind}"].mean() for kind in ("as they come", "balanced"))
    assert strict < 0.8 * loose and strict < fid[0.0, 50], "like with like: real ones are ahead"
    assert min(scores[key][:, 2].mean() for key in scores) > 0.97, "the right digits"
    assert trip_error[100] < 0.03 < trip_error[10], "round trip of digits: 100 steps, not 10"
    assert flat_error[500] < 0.005, "round trip of the ring"
    assert same["inverted"][-1] > 0.9 and same["random"][-1] < 0.4, "what the noise remembers"
    assert carried["inverted"] > 0.5 > abs(carried["random"]) + 0.3, "noise carries the digit"
    assert read["inverted"] > 0.25 and like > 0.6, "one can read it there, and the formula says so"
    assert read["inverted with label"] < read["inverted"], "with the label, less of it"
    assert all(r["formula"] > 0.5 + r["chance"] for r in bridges.values()), "what a bridge keeps"
    assert ring_cycle < 0.02, "ring to spiral and back"
    assert all(r["hit"] > 0.9 and r["ink"] > 0.8 for r in bridges.values()), "translated digits"
    assert all(r["cycle"] < 0.25 for r in bridges.values()), "and back"
    gain = (1 - varied[1.0, 10]) / (1 - varied[0.0, 10])
    print(f"It worked: with 10 steps DDPM lacks {gain:.1f} times as much variety as DDIM; "
          f"round trip over 100 steps: {trip_error[100]:.3f}.")
else:
    print("For digits, and for the measurements, run this chapter with the budget cpu or gpu.")

# %% [markdown]
# ## What you have now
#
# - The network knows the noise **at each level**, not a path. Which path to walk is free: $\eta$ chooses between
#   fresh noise and the old.
# - **DDIM** ($\eta = 0$) follows a smooth curve: about half the steps of DDPM for the same variety, and the sample is a
#   function of the noise.
# - One draw is no measurement. Take the mean of several, and its error; and compare **like with like**: a score that
#   depends on the classes needs the same classes on both sides.
# - **Inversion** walks the curve upwards. Its error comes from asking the model one step too early, and falls about as
#   one over the number of steps.
# - Inverted noise **is the picture in other units**, $z = (x - \mu)/\sigma$. So a **bridge** to another model keeps what
#   makes a picture differ from the mean of its kind.
#
# **Try it yourself.** (a) Ask the model in `ddim_invert` at level $s$ instead of $t$. What does the check say, and
# how much worse is the round trip? (b) Sample with `clip_x0=True` from inverted noise. (c) Walk with the other Euler
# method of section 6 on digits: is it as good as it looked? (d) Mix the noises $z_1$ and $z_2$ of two digits as
# $\cos\varphi\, z_1 + \sin\varphi\, z_2$ and sample: what lies between a 3 and an 8? Why not mix them with weights
# that add up to 1?
#
# **Next:** chapter 04 opens the network that we have taken as given. Inversion comes back in chapter 05: with a
# prompt that is followed closely (guidance), it drifts off, and null-text inversion ([Mokady et al., CVPR
# 2023](https://arxiv.org/abs/2211.09794)) repairs it.
#
# **Read on.** Song, Meng and Ermon, *Denoising Diffusion Implicit Models*, ICLR 2021; Su et al., *Dual Diffusion
# Implicit Bridges for Image-to-Image Translation*, ICLR 2023; Karras et al., *Elucidating the Design Space of
# Diffusion-Based Generative Models*, NeurIPS 2022, on which variables and which solver to take, and on what fresh
# noise is good for after all; Wallace et al., *EDICT: Exact Diffusion Inversion via Coupled Transformations*, CVPR
# 2023, for an inversion without error.
