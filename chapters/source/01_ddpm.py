# ---
# title: DDPM
# question: How can one draw by removing noise?
# build: schedules, forward process, posterior, sampler, loss
# ---

# %% [markdown]
# # 01 · DDPM: drawing by removing noise
#
# *How can a machine draw a digit that nobody ever wrote?* The answer of this chapter is a detour. Ruining a picture with
# noise is easy, and we know exactly how each grain of noise got there. If a network learns to undo one tiny bit of the
# ruin, we can start from pure noise and undo it all.
#
# You will write nine short pieces. Together they are the whole of
# [Ho et al., *Denoising Diffusion Probabilistic Models*, NeurIPS 2020](https://arxiv.org/abs/2006.11239): its noise, its
# loss and its sampler. At the end your code trains on real handwritten digits and draws new ones. (In the tutorial that
# this course follows, Mike Shou's *Video Diffusion Models*, these are slides 6 to 12.)
#
# You need: a little Python and PyTorch, what a mean and a variance are, and that a Gaussian (normal) distribution has these
# two. Every exercise has a **check**. If you get stuck, leave an exercise unsolved: a reference solution runs in its place,
# and the chapter goes on.

# %%
import copy
import math
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from minivdm.course import budget, check, piece, start
from minivdm.datasets.digits import digits
from minivdm.diffusion.mixtures import GaussianMixture, ideal_denoiser, ring_mixture, spiral_mixture
from minivdm.diffusion.samplers import checked_levels
from minivdm.diffusion.schedules import checked_betas, checked_like, per_sample, require_data
from minivdm.evaluation import viz
from minivdm.evaluation.digit_classifier import train_digit_classifier
from minivdm.evaluation.metrics import frechet_distance, gaussian_mmd
from minivdm.files import home_folder
from minivdm.models.unet import UNet
from minivdm.training.checkpoint import save_checkpoint
from minivdm.training.ema import EMA
from minivdm.training.loop import batches_of, train

start("01_ddpm")
plt.rcParams.update(viz.STYLE)

# %% [markdown]
# All numbers that decide how long this chapter takes stand in the next cell: `smoke` only shows that everything runs,
# `cpu` fits a laptop, `gpu` any CUDA card. The machine chooses; the environment variable `MINIVDM_BUDGET` overrules it.

# %%
b = budget(
    smoke=dict(T=50, steps=25, batch=64, channels=16, points=300, draws=3, samples=60),
    cpu=dict(T=200, steps=1500, batch=128, channels=32, points=1000, draws=12, samples=500),
    gpu=dict(T=500, steps=500, batch=512, channels=64, points=1000, draws=12, samples=1000),
)

# %% [markdown]
# ## 1 · Ruining a picture
#
# Here are real digits: 8 × 8 pixels each, written by 13 people. (Of the 43 people of the [original
# collection](https://archive.ics.uci.edu/dataset/80), these are the ones whose digits were kept for testing; scikit-learn
# carries that part.) Values run from -1, the empty paper (drawn black here), to 1, full ink (white). Every sixth digit is
# put aside; no network of this chapter sees those before it is tested on them.

# %%
images, labels = digits()
viz.show_images(images[:32], "Real handwritten digits from the training set", cols=16)

# %% [markdown]
# Now ruin one. At each step, shrink the picture a little and add a little Gaussian noise:
#
# $$x_t = \sqrt{1 - \beta_t}\; x_{t-1} + \sqrt{\beta_t}\; \varepsilon, \qquad \varepsilon \sim \mathcal N(0, I),
# \qquad t = 1 \dots T$$
#
# $x_0$ is the clean picture, $x_T$ is what is left after $T$ steps, and $\beta_t$ is a small number. Why shrink? If $x_{t-1}$
# has variance 1, the result has variance $(1 - \beta_t) + \beta_t = 1$ again: the picture fades, but the numbers never blow
# up. (Our digits have variance 0.6 or so; that drifts to 1.) Below, this is done literally, step after step, with the same
# $\beta$ at each step.

# %%
torch.manual_seed(0)
digit = images[10]
x, beta, kept = digit.clone(), 0.04, []
for step in range(101):
    if step % 10 == 0:
        kept.append(x)
    x = math.sqrt(1 - beta) * x + math.sqrt(beta) * torch.randn_like(x)
names = [f"step {10 * i}" for i in range(11)]
viz.show_images(torch.stack(kept), "A digit after 0 to 100 small steps of noise", 11, names)

# %% [markdown]
# Long before the hundredth step nobody could tell which digit it was. The only choice we have is how fast this happens: the list
# $\beta_1 \dots \beta_T$, called the **noise schedule**.
#
# ### Exercise 1.1: betas on a line
#
# The first DDPM let $\beta$ grow on a straight line from 0.0001 to 0.02 over $T = 1000$ levels: careful while there is fine
# detail to lose, faster when there is mostly noise. We often want fewer levels, and the same amount of noise in all. So
# all betas are multiplied by $1000 / T$. That can go too far: with the default values and $T \le 20$ the last beta reaches
# 1, which would multiply the picture by zero. Refuse betas that are not strictly between 0 and 1 with a `ValueError`. And compute
# in float64: soon a thousand numbers close to 1 will be multiplied, and rounding adds up.
#
# The docstring is the task: the equation, what comes in, what goes out. Replace the line `raise NotImplementedError(…)`
# by your code, and run the cell.

# %% piece="schedules.linear_betas" exercise="1.1" points=1 minutes=5

# %% [markdown]
# ### Exercise 1.2: what is left of the picture
#
# A hundred small steps are slow, and we shall need millions. Luckily they collapse into one. Put two steps together:
#
# $$x_2 = \sqrt{1-\beta_2}\,\big(\sqrt{1-\beta_1}\,x_0 + \sqrt{\beta_1}\,\varepsilon_1\big) + \sqrt{\beta_2}\,\varepsilon_2$$
#
# The picture is multiplied by $\sqrt{(1-\beta_1)(1-\beta_2)}$. The two noises are independent, so their variances add up:
# $(1-\beta_2)\beta_1 + \beta_2 = 1 - (1-\beta_1)(1-\beta_2)$. The same product appears twice! It goes on like this for any number of
# steps, so one number per level is all we need to know:
#
# $$\bar\alpha_t = (1-\beta_1)(1-\beta_2)\cdots(1-\beta_t)$$
#
# $\bar\alpha_t$ (`alpha_bar`) is the share of the picture's *variance* that is left at level $t$. It falls from 1 to nearly 0.
#
# A note on counting, since off-by-one errors are the most common bug in diffusion code. Here **level 0 is the clean
# picture**, so all tables have $T + 1$ entries, level $t$ stands at index $t$, and `alpha_bar[0]` is 1.
#
# Write `__init__`: set `self.T` and the two tables. The other methods are given. So is `checked_betas(betas)`; call it
# first. It returns the betas as a float64 tensor, or raises a clear error. Compute in float64, and store float32, the dtype
# of pictures.

# %% piece="schedules.NoiseSchedule" methods=["__init__"] exercise="1.2" points=2 minutes=10

# %% [markdown]
# Draw your table. The two curves are the factors of the picture, $\sqrt{\bar\alpha_t}$, and of the noise,
# $\sqrt{1-\bar\alpha_t}$. Their squares add up to 1.

# %%
schedule = NoiseSchedule(linear_betas(1000))
plt.figure(figsize=(6.5, 2.8))
plt.plot(schedule.alpha_bar.sqrt(), label=r"picture: $\sqrt{\bar\alpha_t}$")
plt.plot((1 - schedule.alpha_bar).sqrt(), label=r"noise: $\sqrt{1-\bar\alpha_t}$")
plt.title("How much picture and how much noise there is at each level")
plt.xlabel("level t")
plt.ylabel("factor")
plt.legend()
plt.show()
print(schedule)

# %% [markdown]
# ### Exercise 1.3: one jump to any level
#
# With $\bar\alpha$ known, the whole ruin up to level $t$ is one line. This is the most used equation of the course:
#
# $$x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1-\bar\alpha_t}\;\varepsilon$$
#
# A batch holds many pictures, each at a level of its own: `t` is a tensor with one level per picture. The given helper
# `per_sample(table, t, x)` looks up `table[t]` and gives it the shape `(B, 1, 1, 1)`, so that you can multiply it with a batch of
# pictures. (It works for points `(B, 2)` and videos `(B, C, F, H, W)`, too. So will your function.)

# %% piece="forward_process.q_sample" exercise="1.3" points=2 minutes=10

# %% [markdown]
# The same digit and the same noise at eleven levels, and below it a cloud of points that starts as a spiral. Look for the
# level at which *you* can no longer tell the digit, or see the spiral. They differ widely: the fine arms of the spiral
# drown at once, the coarse strokes of a digit last much longer. What noise destroys first is detail.

# %%
torch.manual_seed(0)
levels = [0, 50, 100, 150, 200, 300, 400, 500, 600, 800, 1000]
level_names = [f"t = {i}" for i in levels]
t = torch.tensor(levels)
digit_batch = digit.expand(len(levels), 1, 8, 8)
noise = torch.randn(1, 1, 8, 8).expand_as(digit_batch)
noisy = q_sample(digit_batch, t, noise, schedule)
viz.show_images(noisy, "One digit and one noise, more and more of the second", 11, level_names)

points = spiral_mixture().sample(b.points)
fig, axes = plt.subplots(1, 6, figsize=(11, 2.2), sharex=True, sharey=True)
for ax, level in zip(axes, [0, 5, 15, 40, 150, 1000]):
    x_t = q_sample(points, torch.full((len(points),), level), torch.randn_like(points), schedule)
    ax.scatter(*x_t.T, s=1)
    ax.set(title=f"t = {level}", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
plt.show()

# %% [markdown]
# The same as a slider (press the arrow to let it run). It needs a running kernel; the strip above shows the same without one.


# %%
def draw_level(level):
    noisy = q_sample(images[:24], torch.full((24,), level), slider_noise, schedule)
    viz.show_images(noisy, f"t = {level}: alpha_bar = {schedule.alpha_bar[level]:.3f}", cols=12)


slider_noise = torch.randn(24, 1, 8, 8)
viz.slider(draw_level, list(range(0, 1001, 50)), "level t")

# %% [markdown]
# ### Exercise 1.4: the cosine schedule
#
# Look at the curve again: from level 700 on there is next to nothing left, so the last 300 levels do hardly any work.
# [Nichol and Dhariwal (2021)](https://arxiv.org/abs/2102.09672) turned it round. They chose the curve $\bar\alpha_t$ first, a
# squared cosine, and worked out the betas that lead to it. From $\bar\alpha_t = \bar\alpha_{t-1}(1-\beta_t)$ follows
# $\beta_t = 1 - \bar\alpha_t / \bar\alpha_{t-1}$. So compute the curve at all $T + 1$ levels $0 \dots T$, and from it $T$ betas; the
# docstring has the curve.

# %% piece="schedules.cosine_betas" exercise="1.4" points=2 minutes=10

# %%
cosine = NoiseSchedule(cosine_betas(1000))
fig, axes = plt.subplots(1, 2, figsize=(10, 2.8))
for name, s in {"linear": schedule, "cosine": cosine}.items():
    axes[0].plot(s.alpha_bar, label=name)
    axes[1].semilogy(s.alpha_bar[1:-1] / (1 - s.alpha_bar[1:-1]), label=name)
axes[0].set(title=r"Share of the picture left, $\bar\alpha_t$", xlabel="level t")
axes[1].set(title=r"Signal-to-noise ratio, $\bar\alpha_t / (1-\bar\alpha_t)$", xlabel="level t")
axes[0].legend()
plt.show()

both = torch.cat([q_sample(digit_batch, t, noise, s) for s in (schedule, cosine)])
viz.show_images(both, "linear (top), cosine (bottom)", 11, level_names)
plt.show()
for name, s in {"linear": schedule, "cosine": cosine}.items():
    useless = int((s.alpha_bar < 0.01).sum())
    print(f"{name}: alpha_bar[T] = {s.alpha_bar[-1]:.1e}, below 0.01 at {useless} of 1000 levels")

# %% [markdown]
# The cosine keeps the digit longer, and wastes few levels. Only at the very end does it fall below the linear one (right
# picture): it ends in noise that is as good as pure, where the linear schedule leaves a trace of 0.6% of the picture's
# amplitude.
#
# Both go from picture to noise; they differ in where they spend their levels. The rest of this chapter uses the linear
# one, as Ho et al. did.

# %% [markdown]
# ## 2 · The way back, if somebody told us the picture
#
# Now the other direction. Suppose we hold a noisy $x_t$. Which slightly less noisy $x_{t-1}$ did it come from?
#
# Without more knowledge this is hopeless: any picture, with enough noise, could have led here. But suppose a friend whispers
# the clean picture $x_0$. Then two things are known about $x_{t-1}$, and both are Gaussians:
# the jump from $x_0$ says where it *started out to be*, and $x_t$ says where it *ended up*. Two Gaussian opinions multiply into
# one Gaussian, sharper than either:
#
# $$q(x_{t-1} \mid x_t, x_0) \;\propto\; \underbrace{q(x_{t-1} \mid x_0)}_{\text{the jump}}\;
# \underbrace{q(x_t \mid x_{t-1})}_{\text{one step}}$$
#
# The picture shows it for a single pixel whose clean value is 1, and a step of 40 levels, so that one can see it. One thing
# to watch: the second factor is a Gaussian in $x_t$, but we know $x_t$ and ask about the value *before* the step. From
# $x_t = \sqrt\alpha\,x_s + \sqrt{1-\alpha}\,\varepsilon$ follows $x_s = x_t/\sqrt\alpha - \sqrt{(1-\alpha)/\alpha}\,\varepsilon$: seen
# as a curve over $x_s$, it has mean $x_t/\sqrt\alpha$ and variance $(1-\alpha)/\alpha$. Now look at the product: it lies between the
# two, close to the narrower one, and is narrower than both.

# %%
t_now, s_now, x0_pixel, x_t_pixel = 60, 20, 1.0, 0.75
ab_s, ab_t = schedule.alpha_bar[s_now], schedule.alpha_bar[t_now]
a = ab_t / ab_s


def gaussian(x, mean, variance):
    return torch.exp(-((x - mean) ** 2) / (2 * variance)) / (2 * math.pi * variance) ** 0.5


grid = torch.linspace(-0.5, 1.6, 500)
jump = gaussian(grid, ab_s.sqrt() * x0_pixel, 1 - ab_s)
step_up = gaussian(grid, x_t_pixel / a.sqrt(), (1 - a) / a)
product = jump * step_up / (jump * step_up).sum() / (grid[1] - grid[0])
plt.figure(figsize=(6.5, 2.8))
plt.plot(grid, jump, label=f"the jump: where level {s_now} should be, given $x_0 = 1$")
plt.plot(grid, step_up, label=f"the step: where it was, given $x_{{{t_now}}} = {x_t_pixel}$")
plt.fill_between(grid, product, alpha=0.3, color="C2", label="their product: what we want")
plt.title("Two opinions about one pixel, and what they say together")
plt.xlabel(f"value of the pixel at level {s_now}")
plt.legend(fontsize=8, loc="upper left")
plt.show()

# %% [markdown]
# ### Exercise 1.5: from noise to picture
#
# Our friend will not whisper the picture itself, but a guess of the *noise* $\varepsilon$ (you will see why). That is as good:
# solve the equation of exercise 1.3 for $x_0$.

# %% piece="forward_process.to_x0" exercise="1.5" points=1 minutes=5

# %% [markdown]
# ### Exercise 1.6: the posterior
#
# Multiply the two Gaussians (a good exercise on paper). Curves multiply most easily through their *precisions*, one over the
# variance: precisions add up, and the mean is the average of the two means, weighted by precision. What comes out, tidied
# up, stands in the docstring: the mean is a weighted sum of $x_0$ and $x_t$; the variance depends on neither.
#
# We write it for *any* two levels $s < t$, not just $s = t - 1$, because later chapters skip levels. Then $\alpha$ is the share
# kept on the way from $s$ to $t$ alone, $\bar\alpha_t / \bar\alpha_s$, and $\beta = 1 - \alpha$. Check your formula at $s = 0$: the clean
# picture is known, so the mean must be $x_0$ and the variance 0.

# %% piece="forward_process.q_posterior" exercise="1.6" points=3 minutes=15

# %% [markdown]
# Does your posterior agree with the picture above? The crosses are your mean, one standard deviation to both sides.

# %%
pixel = torch.tensor([[x0_pixel]]), torch.tensor([[x_t_pixel]])
mean, variance = q_posterior(*pixel, torch.tensor([t_now]), torch.tensor([s_now]), schedule)
marks = mean.item() + variance.item() ** 0.5 * torch.tensor([-1, 0, 1])
plt.figure(figsize=(6.5, 2.2))
plt.fill_between(grid, product, alpha=0.3, color="C2", label="the product, on a grid")
plt.plot(marks, [0.05] * 3, "x-k", label="yours: mean ± std")
plt.title("Your posterior and the numerical one")
plt.xlabel(f"value of the pixel at level {s_now}")
plt.legend(fontsize=8, loc="upper left")
plt.show()

# %% [markdown]
# ## 3 · Nobody tells us the picture: take the best guess
#
# Here is the idea that makes it all work. In truth we have $x_t$ only. Many clean pictures could be behind it, some more
# likely than others. Replace $x_0$ in the posterior by the *average* of all of them, the best guess
#
# $$\hat x_0(x_t) = \mathbb E[x_0 \mid x_t]$$
#
# That sounds reckless: an average of a 3 and an 8 is no digit at all! Let us look at when it is harmless. Take data that is
# only ever -1 or 1. For a noisy value near the middle, both are possible. The filled curve is the *true* distribution of
# the value some levels earlier (a mixture of two posteriors, one for each possible $x_0$). The line is the single
# Gaussian that we get from the average guess.

# %%
coin = GaussianMixture(torch.tensor([[-1.0], [1.0]]), 0.0)
fig, axes = plt.subplots(1, 3, figsize=(11, 2.6))
t, x_t = torch.tensor([400]), torch.tensor([[0.12]])
average = coin.denoise(x_t, schedule.alpha_bar[400])  # E[x_0 | x_t]
p_plus = (1 + average.item()) / 2
for ax, target, reach in zip(axes, [399, 300, 150], [0.45, 2.2, 2.2]):
    s = torch.tensor([target])
    guesses = (coin.means[:1], coin.means[1:], average)  # -1, 1, and the average
    moments = [q_posterior(x0, x_t, t, s, schedule) for x0 in guesses]
    axis = torch.linspace(-reach, reach, 600)
    minus, plus, guess = [gaussian(axis, m.item(), v.item()) for m, v in moments]
    ax.fill_between(axis, (1 - p_plus) * minus + p_plus * plus, alpha=0.3, label="true")
    ax.plot(axis, guess, "C1", label="average guess")
    ax.set(title=f"from level 400 to {target}", xlabel=f"value at level {target}")
axes[0].legend(fontsize=8, loc="upper left")
plt.show()

# %% [markdown]
# **For a small step the two agree; for a large one they do not.** In one step of a thousand, $x_0$ hardly matters: whether
# the coin was -1 or 1 moves the mean by much less than the noise of the step. In a step of 250 levels the truth has two humps, and
# the average guess sits in the valley between them, where there is little; after 100 levels it is already too narrow. So the recipe is: take *many small* steps, and
# guess anew after each. (That is what people mean by "DDPM cannot skip levels". You will soon measure how far it can.
# Chapter 03 is about a way out.)
#
# ### Exercise 1.7: one step down
#
# Draw $x_s$ from the posterior: its mean, plus noise with its standard deviation. You have the posterior already: call your
# `q_posterior`, with the guess in the place of $x_0$.

# %% piece="samplers.ddpm_step" exercise="1.7" points=1 minutes=5

# %% [markdown]
# ### Exercise 1.8: all the way down
#
# Now the whole sampler. A `model(x, t, cond)` guesses the noise in `x`. Start with `x` at the top level and walk down the list
# of levels in *pairs*: from 1000 to 999, from 999 to 998, … from 1 to 0. (`pairwise` from Python's `itertools` makes pairs
# of neighbours.) For each pair $(t, s)$:
#
# 1. ask the model for the noise, at the level $t$ that `x` has now;
# 2. turn it into a guess of $x_0$ with `to_x0` (and clamp it to [-1, 1] if `clip_x0` is set: a picture never leaves that range);
# 3. step to level $s$ with `ddpm_step` and fresh noise;
# 4. if there is a `callback`, call it with the level reached, the new `x` and the guess: that is how films are made.
#
# Begin with `levels = checked_levels(levels, schedule)`, which is given: it returns the list of levels (all of them by
# default), or raises a clear error. Levels go to the model as a `(B,)` tensor of integers:
# `torch.full(x.shape[:1], level, device=x.device)`. Draw noise with
# `torch.randn(x.shape, generator=generator, device=x.device)`, so that a seeded generator gives the same sample twice.

# %% piece="samplers.ddpm_sample" exercise="1.8" points=4 minutes=20

# %% [markdown]
# We have no network yet, and need none to test the sampler! For some data the best guess $\mathbb E[x_0 \mid x_t]$ has a closed
# form. Our spiral is made of 150 tiny Gaussians, and for a mixture of Gaussians the guess is a weighted mean over its parts
# (`minivdm/diffusion/mixtures.py` has the equation). With this **ideal denoiser**, whatever goes wrong is the sampler's fault.

# %%
torch.manual_seed(0)
spiral = spiral_mixture()
ideal = ideal_denoiser(spiral, schedule)
film = {}


def record(s, x, x0):
    film[s] = x


samples = ddpm_sample(ideal, torch.randn(b.points, 2), schedule, callback=record)
fig, axes = plt.subplots(1, 6, figsize=(11, 2.2), sharex=True, sharey=True)
for ax, level in zip(axes, [999, 200, 40, 15, 5, 0]):
    ax.scatter(*film[level].T, s=1, c="C1")
    ax.set(title=f"level {level}", xlim=(-3, 3), ylim=(-3, 3), aspect="equal")
fig.suptitle("From pure noise to a spiral, with no network at all", x=0.13, ha="left", y=1.12)
plt.show()

# %% [markdown]
# It *looks* right. Is it? To compare two clouds of points we use the **maximum mean discrepancy** (MMD,
# [Gretton et al. 2012](https://jmlr.org/papers/v13/gretton12a.html)). Its square is zero for equal distributions; what we
# compute is an estimate from samples that is right on average, so it scatters around zero and may be slightly negative.
# How far does it scatter? We draw 60 pairs of *true* samples and take the largest value. If ours lies below it, this test
# cannot tell your spiral from the real one.
#
# The second experiment takes the picture with the humps seriously: the same sampler with fewer, larger steps. The pictures show
# one cloud for each number of steps. But chance is in every cloud, so we draw twelve of each, and take the mean of the
# twelve values. It scatters less than one of them does: for $n$ draws with the standard deviation $s$, the **standard error**
# of the mean is $s / \sqrt n$. Before you run the cell: with how many steps will *all twelve* clouds pass, each by itself?


# %%
def mmd_to_truth(x):
    return gaussian_mmd(x, spiral.sample(len(x)), bandwidth=0.2)


true_pairs = torch.tensor([mmd_to_truth(spiral.sample(b.points)) for _ in range(60)])
two_sample_level = true_pairs.max().item()
sampler_mmd = mmd_to_truth(samples)
print(f"1000 steps: MMD² = {sampler_mmd:.5f}; true samples reach {two_sample_level:.5f}")

step_counts = [5, 10, 20, 50, 100, 250]
mmds = {}
fig, axes = plt.subplots(1, 6, figsize=(11, 2.2), sharex=True, sharey=True)
for ax, n in zip(axes, step_counts):
    walk = [1000 * i // n for i in range(n, -1, -1)]
    x = ddpm_sample(ideal, torch.randn(b.draws * b.points, 2), schedule, levels=walk)
    mmds[n] = torch.tensor([mmd_to_truth(cloud) for cloud in x.split(b.points)])
    ax.scatter(*x[: b.points].T, s=1, c="C1")
    ax.set(title=f"{n} steps", xlim=(-2, 2), ylim=(-2, 2), aspect="equal")
    ax.set_xlabel(f"MMD² = {mmds[n][0]:.4f}")
fig.suptitle("Fewer steps: the first cloud of each", x=0.13, ha="left", y=1.12)
plt.show()

mean = {n: values.mean().item() for n, values in mmds.items()}
error = {n: (values.std() / b.draws**0.5).item() for n, values in mmds.items()}
plt.figure(figsize=(6.5, 3))
plt.axhspan(true_pairs.min(), two_sample_level, color="0.88", label="60 pairs of true samples")
for n, values in mmds.items():
    plt.plot([n] * b.draws, values, ".", c="C1", ms=4, alpha=0.5)
plt.errorbar(step_counts, mean.values(), error.values(), fmt="o-", capsize=4, label="their mean")
plt.xscale("log")
plt.yscale("symlog", linthresh=0.002)
plt.yticks([-0.002, 0, 0.002, 0.01, 0.1], ["-0.002", "0", "0.002", "0.01", "0.1"])
plt.title(f"{b.draws} draws for each number of steps (dots), and their mean")
plt.xlabel("steps")
plt.ylabel("MMD² to true samples")
plt.legend()
plt.show()
print("steps          scatter of a draw        mean ± its error    draws that pass for true")
for n, values in mmds.items():
    passed = int((values < two_sample_level).sum())
    print(f"{n:5d}{values.std():22.4f}{mean[n]:16.4f} ± {error[n]:.4f}{passed:16d} of {b.draws}")

# %% [markdown]
# With a thousand steps your sampler passes for the truth. With five, even a *perfect* denoiser draws a blob, and with twenty a
# smeared spiral: the average guess lies between the arms, and the steps are too large to correct it.
#
# In between, look at fifty steps. Several of the twelve clouds pass, each by itself. Are fifty steps enough, then? The mean
# says no: it lies several of its standard errors above zero, and by chance alone it would hardly ever do that. **That a test
# finds nothing in one draw does not mean that nothing is there.** It means that nothing larger than the scatter is there.
# Twelve draws look $\sqrt{12} = 3.5$ times more closely. With a hundred steps, nine levels of ten skipped, what is left is so
# small that even twelve draws hardly see it. (The mean of 250 steps may even come out below zero, which no true MMD² is. That
# is chance, too: a standard error is no limit. One mean in twenty is off by more than two of them, and with a dozen draws the
# error itself is only an estimate.)
#
# How many draws does a conclusion need, then? Decide which difference would matter, and draw until the standard error of the
# mean is below half of it.
#
# ## 4 · Learning the guess
#
# For digits there is no closed form. But there is a trick as old as statistics: **the function that minimises the mean squared
# error is the conditional mean.** Show a network noisy pictures, ask for the noise that was put in, punish the squared error: the best it can
# do is to answer $\mathbb E[\varepsilon \mid x_t]$. And by `to_x0`, guessing the mean noise and guessing the mean picture are the same thing.
# That is all the training there is:
#
# $$L = \mathbb E_{t,\,\varepsilon}\; \mathrm{mean}\,\big( \varepsilon - \varepsilon_\theta(x_t, t) \big)^2$$
#
# ### Exercise 1.9: the loss
#
# The mean runs over all pictures and all pixels. For each picture of the batch draw a level from $1 \dots T$ (all equally likely, *both ends included*: sampling starts at $T$, so
# the network must have seen it) and noise, both from the `generator`; make $x_t$; let the model guess; compare. Beware of
# `torch.randint`: its upper end is exclusive, and its size is a tuple, such as `x0.shape[:1]`. As in the sampler, give it and
# `torch.randn` the `generator` and the device of `x0`.

# %% piece="forward_process.diffusion_loss" exercise="1.9" points=3 minutes=15

# %% [markdown]
# ### Why this simple loss? (optional)
#
# *This part asks for more mathematics than the rest; you can skip to "What would a perfect network do?"*
#
# A model of data should make the data likely: maximise $\log p(x_0)$. For a chain of Gaussian steps this cannot be computed, but
# bounded: $-\log p(x_0)$ is at most a sum with one term per level (equation 5 of the paper). Its terms are KL divergences, a
# distance between two distributions, in *nats*, the unit of information that belongs to the natural logarithm:
#
# $$-\log p(x_0) \;\le\; \underbrace{\mathrm{KL}\big(q(x_T|x_0)\,\|\,\mathcal N(0, I)\big)}_{L_T:\ \text{is } x_T \text{ pure noise?}} + \sum_{t=2}^{T} \underbrace{\mathbb E\;
# \mathrm{KL}\big(q(x_{t-1}|x_t,x_0)\,\|\,p(x_{t-1}|x_t)\big)}_{L_{t-1}:\ \text{how far the guess is off}} + \underbrace{\mathbb E\,[-\log p(x_0|x_1)]}_{L_0:\ \text{the last step}}$$
#
# The KL divergence of two Gaussians with the same variance $\sigma_t^2$ is the squared distance of their means over $2\sigma_t^2$. (If the
# variances differ, a term for that comes in; the code below has it.) And the means differ only by the guess. So each term is *the squared error of the noise times a weight*:
#
# $$L_{t-1} = w_t\; \mathbb E\|\varepsilon - \varepsilon_\theta\|^2, \qquad w_t = \frac{\beta_t^2}{2\sigma_t^2\,(1-\beta_t)(1-\bar\alpha_t)}$$
#
# The simple loss sets all $w_t = 1$. What does that change? We can compute it all, because for eight Gaussians on a ring
# the true $-\log p(x_0)$ is known and the ideal denoiser is at hand. First the bound itself, with the two variances that the
# paper proposes: $\sigma_t^2 = \beta_t$, and the posterior's own, which `q_posterior` gives you.


# %%
def elbo_terms(mixture, betas, choice, n=1000):
    """Terms of the bound in nats per point: levels 1..T, then L_T. The denoiser is ideal."""
    schedule = NoiseSchedule(betas)
    x0, model, terms = mixture.sample(n), ideal_denoiser(mixture, schedule), []
    for level in range(1, schedule.T + 1):
        t = torch.full((n,), level)
        x_t = q_sample(x0, t, torch.randn_like(x0), schedule)
        guess = to_x0(x_t, t, model(x_t, t), schedule)
        beta = schedule.beta[level]
        if level == 1:  # -log N(x0; guess, beta_1)
            error = (x0 - guess).square().sum(1).mean()
            terms.append((error / (2 * beta) + math.log(2 * math.pi * beta)).item())
        else:
            (m, v), (m_model, _) = (q_posterior(a, x_t, t, t - 1, schedule) for a in (x0, guess))
            v_model = beta if choice == "beta" else v[0, 0]
            ratio = v[0, 0] / v_model
            error = (m - m_model).square().sum(1).mean()
            terms.append((error / (2 * v_model) + ratio - 1 - ratio.log()).item())
    ab = schedule.alpha_bar[-1]  # L_T, in two dimensions
    terms.append((0.5 * ab * (x0.square().sum(1).mean() - 2) - torch.log(1 - ab)).item())
    return terms


torch.manual_seed(0)
ring = ring_mixture()
nll = -ring.log_prob(ring.sample(20_000)).mean().item()
print(f"true -log p(x0) = {nll:.3f} nats per point. The bound:")
terms = {}
for T in (50, 200, 1000):
    for choice in ("beta", "posterior"):
        terms[T, choice] = elbo_terms(ring, linear_betas(T), choice)
    large, small = sum(terms[T, "beta"]), sum(terms[T, "posterior"])
    print(f"  T = {T:4d}: {large:.3f} with variance beta,  {small:.3f} with the posterior's")

# %% [markdown]
# The bound lies above the truth, as it must, and comes closer with more levels. With $\sigma_t^2 = \beta_t$ the gap
# nearly closes; with the posterior's variance a gap stays. Where does it come from? Here are the terms, level by level, and
# beside them the weights.

# %%
table = NoiseSchedule(linear_betas(1000))
beta, ab = table.beta[1:], table.alpha_bar[1:]
weight = beta / (2 * (1 - beta) * (1 - ab))  # with sigma^2 = beta
fig, axes = plt.subplots(1, 2, figsize=(10, 2.8))
for choice in ("beta", "posterior"):
    axes[0].semilogx(range(2, 1001), terms[1000, choice][1:-1], label=f"variance: {choice}")
axes[0].set(title="Terms of the bound (levels 2 to 1000)", xlabel="level t", ylabel="nats")
axes[0].legend()
axes[1].loglog(range(1, 1001), weight, label="the bound")
axes[1].loglog([1, 1000], [1, 1], label="the simple loss")
axes[1].set(title="Weight of each level's squared error", xlabel="level t")
axes[1].legend()
plt.show()
excess = [p - q for p, q in zip(terms[1000, "posterior"], terms[1000, "beta"])]
print(f"the posterior's variance costs {sum(excess):.2f} nats more, {sum(excess[:10]):.2f} of them")
lowest = int(weight.argmin()) + 1
print(f"at levels 1 to 10. The weight falls from {weight[0]:.2f} at level 1 to {weight.min():.4f}")
print(f"at level {lowest}, by a factor of {weight[0] / weight.min():.0f}.")

# %% [markdown]
# The gap comes from the lowest levels: the posterior's variance is the right one if $x_0$ were known exactly, and a point of
# a *cloud* is not. (For samples it matters little, since those steps are tiny. For likelihoods it does: Nichol and Dhariwal
# let the network learn the variance.)
#
# And the weights: the bound cares most about the lowest levels, where only specks of noise are left. (At the end the weight
# rises a little, because there $\beta_t$ still grows while $1-\bar\alpha_t$ has reached 1.) The simple loss cares
# about all levels alike, so by comparison it shifts effort to the middle and upper levels, where it is decided *what* the
# picture shows. As a number it no longer says how likely the data is. But Ho et al. found that its samples look better,
# and nearly everybody has used it, or another reweighting, since.
#
# ### What would a perfect network do?
#
# Before we train, a warning that is easy to miss. The ideal denoiser is known for digits, too: take the training set itself as the data distribution, 1,498
# points in 64 dimensions. It minimises our loss *exactly*. What does it draw?

# %%
torch.manual_seed(0)
memory = GaussianMixture(images, 0.0)
coarse = [10 * i for i in range(100, -1, -1)]
copier = ideal_denoiser(memory, schedule)
copied = ddpm_sample(copier, torch.randn(12, 1, 8, 8), schedule, levels=coarse)
nearest = torch.cdist(copied.flatten(1), images.flatten(1)).min(dim=1)
pair = torch.cat([copied, images[nearest.indices]])
viz.show_images(pair, "Perfect denoiser (top), nearest training digit (bottom)", 12)
plt.show()
print(f"largest distance to the nearest training digit: {nearest.values.max():.1e}")

# %% [markdown]
# Copies, every one. A network that reached the smallest possible training loss would be a photocopier! New digits come from
# *not* reaching it. Our network has parameters enough to store 1,498 pictures, but it is built from small filters that are
# the same at every place, so it learns first what strokes have in common; and we stop long before it has learnt each picture
# by heart. We shall measure whether it copies.
#
# ### Training
#
# The network is a small U-Net (`minivdm/models/unet.py`; you will build it in chapter 04): noisy picture and level in, guess of
# the noise out. `train` is a generator that takes one optimiser step at a time, calls *your* loss (once it has passed), and
# keeps an exponential moving average (EMA) of the weights, which makes for steadier samples. We also keep a copy of the network
# as it is after a third of the training.

# %%
torch.manual_seed(0)
schedule = NoiseSchedule(linear_betas(b.T)).to(b.device)
model = UNet(in_channels=1, channels=b.channels).to(b.device)
ema = EMA(model, decay=0.995)
batch = batches_of(images.to(b.device), batch_size=b.batch)
run = home_folder() / "runs" / "01_ddpm" / b.name
losses = []
for step, loss in train(model, ema, batch, schedule, b.steps, lr=1e-3, cuda_graph=True):
    losses.append(loss)
    if step == b.steps // 3:
        young = copy.deepcopy(ema.model)
losses = torch.stack(losses).cpu()
save_checkpoint(run / "model.pt", model=ema.model.state_dict())
print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(losses)} steps")

# %%
window = min(50, len(losses))
smooth = losses.unfold(0, window, 1).mean(-1)
plt.figure(figsize=(6.5, 2.4))
plt.semilogy(losses, lw=0.3, alpha=0.5, label="each batch")
plt.plot(torch.arange(len(smooth)) + window / 2, smooth, label=f"mean of {window}")
plt.title("Training: the loss falls fast, then hardly at all")
plt.xlabel("step")
plt.ylabel("mean squared error of the noise")
plt.legend()
plt.show()

# %% [markdown]
# That looks as if the last two thirds were wasted. Were they? The curve is a bad witness: each batch has other pictures, other
# levels and other noise, and these scatter more than the network improves. So ask both networks, the final one and the copy,
# about *the same* pictures, levels and noise. And how low could the loss go? That depends on what you call success. Compare
# with the copier, on the digits that all know, and on digits that none has seen (from the same 13 people):

# %%
unseen, unseen_labels = digits(held_out=True)
copier = ideal_denoiser(GaussianMixture(images.to(b.device), 0.0), schedule)
nets = {"the copier": copier, "after a third": young, "your network": ema.model}
table = {name: [] for name in nets}
print("loss                training digits   unseen digits")
with torch.no_grad():
    for name, net in nets.items():
        for x in (images, unseen):
            generator = torch.Generator(b.device).manual_seed(1)  # not the training's
            x = x.to(b.device).repeat(5, 1, 1, 1)
            table[name].append(diffusion_loss(net, x, schedule, generator=generator).item())
        known, new = table[name]
        print(f"{name:20s}{known:15.3f}{new:16.3f}")

# %% [markdown]
# They were not wasted: from the first third to the end the loss fell a little further, on unseen digits, too. (Section 5 will
# ask whether the samples got better, too.) The copier beats your network where it knows the answers, and fails miserably where
# it does not. Your network is nearly as good on new digits as on old ones. That is worth more than a small number. Now the
# samples:

# %%
if b.name == "smoke":
    print("At this budget the network has hardly been trained: expect noise below.")
frames, guesses = {}, {}


def look(s, x, x0):
    frames[s], guesses[s] = x[:3].cpu(), x0[:3].cpu()


noise = torch.randn(b.samples, 1, 8, 8, generator=generator, device=b.device)
options = dict(clip_x0=True, generator=generator, callback=look)
samples = ddpm_sample(ema.model, noise, schedule, **options).cpu()
viz.show_images(samples[:60], "Digits that nobody wrote", cols=15)
viz.save_figure(f"{run}/samples.png");

# %% [markdown]
# And how they came about, for three digits, from noise (left) to the result (right). Of each pair of rows the upper one is what
# the sampler holds after the step to level $s$, the lower one the guess $\hat x_0$ that it was made with. Do not trust the
# guesses in the first columns. There $\sqrt{\bar\alpha_t}$ is so small that `to_x0`, dividing by it, magnifies the slightest
# error of the network, and clamping turns that into black and white. (It does no harm: up there the posterior makes next
# to no use of the guess.) After that comes a grey average of all digits, just as theory demands; then, step by step, it makes
# up its mind.

# %%
shown = [(b.T - 1) * i // 11 for i in range(11, -1, -1)]
rows = torch.stack([stack[s][i] for i in range(3) for stack in (frames, guesses) for s in shown])
title = "x (upper rows) and the guess of x_0 (lower rows), for three digits; below, the level s"
viz.show_images(rows, title, 12, [f"{s}" for s in shown])

# %% [markdown]
# ## 5 · Did it work?
#
# Pretty pictures prove little. A judge that has only ever seen *real* digits (a small classifier, trained in a few seconds below) answers four
# questions:
#
# - **Is each sample some digit?** How sure is the judge, compared with real digits that it has not seen? (By itself this proves little:
#   a classifier asked about pure noise is surprisingly sure, too.)
# - **Are all ten there?** A model that only draws zeros would do well on the first question.
# - **Is the whole set like the real set?** The Fréchet distance between the judge's features and those of the training digits (a small
#   FID; 0 is best). It grows when there are few samples, so each set is cut to 299, the number of unseen real digits. It also
#   grows when a set has other shares of the ten digits than the reference, so it is computed once more with 25 of each
#   digit (as the judge reads them). Both are means of twenty random choices.
# - **Does it copy?** The distance to the nearest training digit, compared with that of real digits not trained on.
#
# As yardsticks there are training digits, pure noise, and a simple baseline: the Gaussian with the mean and the full covariance
# matrix of the real pixels. Two more rows look into the question from section 4: your network, and what it was after a third of
# the training, both with walks of 50 steps from the same noise.

# %%
classifier = train_digit_classifier()
torch.manual_seed(0)
pixels, real_features = images.flatten(1), classifier.features(images)
covariance = torch.cov(pixels.T) + 1e-4 * torch.eye(64)
draw = torch.randn(2000, 64) @ torch.linalg.cholesky(covariance).T + pixels.mean(0)
short_walk = [b.T * i // 50 for i in range(50, -1, -1)]
short = {}
for name, net in {"yours, 50 steps": ema.model, "after a third, 50 steps": young}.items():
    noise = torch.randn(len(unseen), 1, 8, 8, generator=torch.Generator().manual_seed(2))
    options = dict(clip_x0=True, generator=torch.Generator(b.device).manual_seed(3))
    short[name] = ddpm_sample(net, noise.to(b.device), schedule, levels=short_walk, **options).cpu()


def mini_fid(features, classes, each=None):
    """Mean over twenty random sets: of 299, or with `each` of each class."""
    distances = []
    for _ in range(20):
        if each is None:
            chosen = torch.randperm(len(features))[: len(unseen)]
        else:
            places = [torch.nonzero(classes == digit)[:, 0] for digit in range(10)]
            chosen = torch.cat([p[torch.randperm(len(p))[:each]] for p in places])
        distances.append(frechet_distance(features[chosen], real_features))
    return sum(distances) / len(distances)


sets = {
    "real, trained on": images,
    "real, not trained on": unseen,
    "yours": samples,
    **short,
    "Gaussian baseline": draw.clamp(-1, 1).reshape(-1, 1, 8, 8),
    "pure noise": torch.randn(2000, 1, 8, 8).clamp(-1, 1),
}
print(f"{'':25s}{'sureness':>9s}{'classes':>9s}{'mini-FID':>10s}{'25 of each':>12s}{'nearest':>9s}")
result = {}
for name, x in sets.items():
    probability = classifier(x).softmax(dim=1)
    classes, features = probability.argmax(1), classifier.features(x)
    share = torch.bincount(classes, minlength=10) / len(x)
    result[name] = dict(
        sure=probability.max(dim=1).values.mean().item(),
        classes=int((share >= 0.03).sum()),
        fid=mini_fid(features, classes),
        even=mini_fid(features, classes, 25),
        nearest=torch.cdist(x.flatten(1), pixels).min(dim=1).values.median().item(),
    )
    r = result[name]
    print(f"{name:25s}{r['sure']:9.3f}{r['classes']:9d}{r['fid']:10.1f}{r['even']:12.1f}"
          f"{r['nearest']:9.2f}")
accuracy = (classifier(unseen).argmax(1) == unseen_labels).float().mean().item()
print(f"the judge reads {accuracy:.1%} of unseen real digits correctly")
print(f"unseen digits from 0 to 9: {torch.bincount(unseen_labels).tolist()}")
one_set = torch.tensor([
    frechet_distance(real_features[torch.randperm(len(images))[: len(unseen)]], real_features)
    for _ in range(20)
])
print(f"mini-FID of single sets of 299 training digits: {one_set.min():.1f} to {one_set.max():.1f}")

fig, axes = plt.subplots(4, 1, figsize=(8, 3.2))
for ax, name in zip(axes, ["real, not trained on", "yours", *list(short)[1:], "Gaussian baseline"]):
    viz.show_images(sets[name][:20], name, cols=20, ax=ax)
plt.tight_layout()
plt.show()

# %% [markdown]
# Two columns need care. First, sets differ in their classes: even single sets of training digits have a mini-FID of anything
# from 5 to 15 or more (the last line), because each happens to have its own shares of the ten digits. The unseen set has 37
# zeros and 25 sixes. With 25 of each digit the distance of the real sets falls to half or two thirds, and the training digits
# are ahead of all. Second, even there the unseen real digits come out *worse* than yours. That does not make yours the better
# ones, since the comparison favours some: the reference, the digits that the judge was trained on and those that the network
# was trained on are the same 1,498 pictures. Unseen digits are strangers to all three. So use this number to compare two
# networks, or two samplers, with each other and with a baseline. **A number compares like with like, or it misleads.**
#
# And the training? After a third of it the network drew far worse digits than at the end. The loss curve did not look like it,
# and in the table of section 4 the two differ by only one or two tenths: small differences of the loss can be large ones in the
# samples. Nor does sureness alone say much: look at what the judge thinks of pure noise.

# %%
bars = {"cpu": dict(sure=0.93, factor=4), "gpu": dict(sure=0.95, factor=8)}.get(b.name)
yours, real = result["yours"], result["real, not trained on"]
factor = result["Gaussian baseline"]["fid"] / yours["fid"]
third, whole = result["after a third, 50 steps"]["even"], result["yours, 50 steps"]["even"]
tight, loose = sum(terms[1000, "beta"]), sum(terms[1000, "posterior"])

assert samples.shape == (b.samples, 1, 8, 8) and torch.isfinite(samples).all()
if b.device.type == "cuda":
    assert torch.cuda.max_memory_allocated() < 8 * 2**30, "must fit a card with 8 GiB"
if bars:
    assert sampler_mmd < two_sample_level, "the ideal denoiser's samples must pass for true ones"
    assert mean[5] > 5 * two_sample_level, "five steps must not be enough"
    assert mean[50] > 2 * error[50], "fifty leave something that twelve draws see"
    assert mean[250] < 4 * error[250] + 1e-4, "and 250 next to nothing"
    assert nll < tight < nll + 0.2 < loose, "the bound must hold, and be tight with variance beta"
    assert accuracy > 0.95, "a judge that cannot read real digits cannot judge"
    assert yours["sure"] > bars["sure"], f"the judge is not sure enough: {yours['sure']:.3f}"
    assert yours["classes"] == 10, "each digit should make up at least 3% of the samples"
    assert factor > bars["factor"], f"mini-FID only {factor:.1f} times below the baseline's"
    assert yours["nearest"] > 0.7 * real["nearest"], "samples should not be copies"
    assert table["after a third"][1] > 1.03 * table["your network"][1], "training went on to help"
    assert third > 1.1 * whole, "and so did the samples"
    learnt = result["real, trained on"]
    assert learnt["even"] < 0.8 * learnt["fid"], "a set's shares of the digits make a distance"
    assert learnt["even"] < real["even"] < real["fid"], "unseen digits are strangers"
    print(f"It worked: {factor:.1f} times closer to real digits than the baseline.")
else:
    print("For digits, and for the measurements, run this chapter with the budget cpu or gpu.")

# %% [markdown]
# ## What you have now
#
# - A **noise schedule** is a table $\bar\alpha_t$; one line jumps to any level.
# - Going back needs the clean picture; the **average guess** does, if the steps are small.
# - A network trained on **squared error** learns that average. It learns it for the noise, because that is the same thing.
# - The average guess is what limits few-step sampling, and the limits of the network are what makes samples new.
# - **One draw is no measurement.** Take the mean of several, and its standard error; and compare like with like.
#
# Nine pieces of `minivdm` are yours. They stay in the folder `my_pieces/`, and later chapters run on them.
#
# **Try it yourself.** (a) Train with `cosine_betas` instead. Does the mini-FID change? (b) Sample with 20 levels only: what do the digits look like, and which of the four
# questions notices? (c) Set `clip_x0=False`.
#
# **Next:** chapter 02 looks at the same process as a field of arrows that point towards data.
#
# **Read on.** Sohl-Dickstein et al., *Deep Unsupervised Learning using Nonequilibrium Thermodynamics*, ICML 2015, had the idea first; Ho et al. 2020
# made it work; Nichol and Dhariwal, *Improved DDPM*, ICML 2021, is the cosine schedule and the learned variance.
