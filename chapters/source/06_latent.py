# ---
# title: Latent diffusion
# question: Why paint every pixel, in every step?
# build: a variational autoencoder, its loss, price and scale; text to image and image to image in latents
# ---

# %% [markdown]
# # 06 · Latent diffusion: think small, paint once
#
# *Why paint every pixel, in every step?* The sampler of chapter 05 asks a network dozens of times for one picture, and each
# time the network looks at all pixels. Most of them say what their neighbours say. **Latent diffusion** (slides 21 and 22 of
# Mike Shou's tutorial; [Rombach et al., CVPR 2022](https://arxiv.org/abs/2112.10752)) puts an autoencoder around the whole
# affair: it packs a picture into a few numbers, the *latents*; diffusion works on these; and only at the very end are they
# unpacked, once. Stable Diffusion is built like that.
#
# You will find out what a good code for pictures is, what it costs to say something, how small the code may be, and
# whether the gain is real: against a rival in pixels that costs about as little.
#
# You need: from chapter 03 DDIM, from chapter 04 the U-Net, from chapter 05 prompts and guidance.

# %%
import copy
import time
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from minivdm.course import as_given, budget, check, in_words, piece, predict, start
from minivdm.datasets.captions import caption_table, random_captions
from minivdm.datasets.hints import centres, masks
from minivdm.datasets.sprites import all_triples, held_out
from minivdm.datasets.stills import STILL_ATTRIBUTES, SpriteStills
from minivdm.diffusion.forward_process import q_sample
from minivdm.diffusion.guidance import ClassifierFreeGuidance, drop_condition
from minivdm.diffusion.predictions import prediction_loss
from minivdm.diffusion.samplers import ddim_sample, sampling_levels
from minivdm.diffusion.schedules import NoiseSchedule, cosine_betas
from minivdm.evaluation import viz
from minivdm.evaluation.attribute_classifier import correct_attributes
from minivdm.evaluation.diagrams import Diagram
from minivdm.evaluation.metrics import frechet_distance, psnr
from minivdm.evaluation.rate_distortion import linear_code
from minivdm.models.autoencoder import LOGVAR, Autoencoder, PlainResBlock, middle
from minivdm.models.layers import Downsample, Upsample, norm
from minivdm.pipelines.latent import (
    LatentModel, latent_text_to_image, to_pictures, tokens_for,
)
from minivdm.pipelines.pretrained import load_pretrained
from minivdm.pipelines.text2image import (
    build_text2image, sample_tokens, still_tokenizer, text_to_image,
)
from minivdm.training.ema import EMA
from minivdm.training.loop import train

start("06_latent")
plt.rcParams.update(viz.STYLE)

# %% [markdown]
# How much is computed: `pool` is the number of pictures to train on, `batch` how many of them a training step sees. `width`
# and `net` are channels of the networks. `encode` is the number of training steps of the first autoencoder, `tune` that of
# each further one; `steps` is that of each diffusion model, and `patches` says which of these work in pixels, and with
# squares of how many pixels a side. A sampler takes `walk` steps. The last three say how many pictures are measured:
# `linear` in part 1, `prompts` in part 5, `edits` in part 6.

# %%
b = budget(
    smoke=dict(
        pool=64, batch=8, width=16, encode=4, tune=2, steps=3, net=32, prompts=9, walk=3, edits=4,
        patches=[8], linear=64,
    ),
    cpu=dict(
        pool=4000, batch=32, width=32, encode=350, tune=80, steps=300, net=64, prompts=432, walk=12,
        edits=48, patches=[8], linear=1200,
    ),
    gpu=dict(
        pool=12_000, batch=128, width=48, encode=700, tune=200, steps=500, net=64, prompts=864,
        walk=20, edits=144, patches=[8, 2], linear=2000,
    ),
)
size = 64  # H = W of the pictures, in pixels

# %% [markdown]
# ## 1 · The bill
#
# The stills of chapter 05, drawn at 64 × 64 pixels instead of 32 × 32. What does the network of chapter 05 cost when
# pictures grow? We count **FLOPs**, multiplications and additions, of one call for one picture. That needs no clock, and is
# the same on every machine.
#
# Commit yourself before you look. (A prediction is never graded. It makes you notice what surprises you.)

# %%
guess_growth = predict(
    "6.a", "From 64 to 128 pixels a side, one call's FLOPs grow by a factor of …", low=1, high=20
)


# %%
def flops(call, kind=""):
    """Floating-point operations of a call, counted by PyTorch as it runs; of one kind alone."""
    plain = sdpa_kernel(SDPBackend.MATH)  # attention as products of matrices, which are counted
    with FlopCounterMode(display=False) as counter, torch.no_grad(), plain:
        call()
    counts = counter.get_flop_counts()["Global"]
    return sum(count for name, count in counts.items() if kind in str(name))


def call_of(net, channels, side):
    """One call of a denoiser on one sample of zeros, on its device."""
    like = dict(device=next(net.parameters()).device)
    x, level = torch.zeros(1, channels, side, side, **like), torch.ones(1, **like)
    return lambda: net(x, level, torch.zeros(1, 12, dtype=torch.long, **like))


stills = SpriteStills(size=size)
generator = torch.Generator(b.device).manual_seed(0)
pool, kinds = stills.sample(b.pool, generator)  # seen triples only
fresh, fresh_kinds = stills.sample(max(b.batch, 256), generator, "all")  # for measurements
viz.show_images(fresh[:8].cpu(), "Stills of 64 x 64 pixels: 12,288 numbers each", 8)
plt.show()
sides = [16, 32, 64, 128]
chapter_05 = build_text2image().to(b.device)
bill = [flops(call_of(chapter_05.net, 3, side)) for side in sides]
attention = [flops(call_of(chapter_05.net, 3, side), "bmm") for side in sides]
for side, count, part in zip(sides, bill, attention):
    print(f"{side:4d} x {side:<4d}{count / 1e6:9,.0f} MFLOPs a call, attention {part / count:4.0%}")
guess_growth.beside(bill[3] / bill[2])

# %% [markdown]
# (M is a million.) Four times the pixels cost four times as much in convolutions. Attention compares places with *each
# other*, so that part grows sixteen-fold: next to nothing in small pictures, a quarter of the bill at 128 pixels.
#
# And how much is there to say about such a picture? Whoever knows how they were drawn needs three names (shape, colour,
# place) and nine numbers. We may not use that. But let us see how far one gets without any network. A **linear code**
# keeps the $k$ directions along which pictures differ most (principal components), and forgets the rest.

# %%
guess_linear = predict(
    "6.b",
    "How many of the 12,288 numbers must a linear code keep for a PSNR of 30 dB?",
    choices=["about 30", "about 100", "several hundred", "about a thousand, or more"],
)

# %%
flat = pool[: b.linear].flatten(1)
mean_picture = flat.mean(0)
off = (flat - mean_picture).double()
values, vectors = torch.linalg.eigh(off @ off.T)
values = values.flip(0).clamp(min=1e-9)
variances = (values / len(flat)).cpu()  # (N,) of pictures along the main directions
directions = (flat - mean_picture).T @ (vectors.flip(1) / values.sqrt()).float()  # (12288, N)
kept = (fresh.flatten(1) - mean_picture) @ directions  # new pictures
total = (fresh.flatten(1) - mean_picture).square().sum(1).mean()
lost = total - kept.square().mean(0).cumsum(0)  # (N,) squared error with 1, 2, .. numbers


def decibels(squared_error):
    """PSNR of a squared error summed over a picture whose values span 2."""
    return 10 * torch.log10(torch.tensor(4.0 * 3 * size**2 / squared_error)).item()


linear_db = [decibels(error) for error in lost.tolist()]
plt.figure(figsize=(6.5, 2.6))
plt.semilogx(range(1, len(lost) + 1), linear_db, color="C0")
plt.axhline(30, color="grey", ls=":")
plt.title("New pictures from the first k principal components")
plt.xlabel("k, numbers kept of 12,288")
plt.ylabel("PSNR (dB)")
plt.show()
reached = [k for k, db in enumerate(linear_db, 1) if db >= 30]
found = f"k = {reached[0]}" if reached else "not reached"
print(f"30 dB: {found}, along directions that were found from {len(flat):,} pictures")
if b.name != "smoke":
    k = reached[0] if reached else len(lost) + 1
    guess_linear.beside(guess_linear.question.choices[sum(k > most for most in (55, 200, 800))])
two = 16, len(lost) // 2
rows = [mean_picture + kept[:8, :k] @ directions[:, :k].T for k in two]
rows = torch.cat([fresh[:8].flatten(1), *rows]).reshape(-1, 3, size, size)
names = ["new pictures", *(f"k = {k}" for k in two)]
viz.show_images(rows.clamp(-1, 1).cpu(), "A linear code", 8, width=5, rows=names)
plt.show()

# %% [markdown]
# Look at the second row: the colour is there, and roughly the place; edges are ghosts. A shape that moves by a pixel is
# *not* a sum of the same few pictures with other weights. The pictures lie on a thin sheet in the space of 12,288 numbers,
# but the sheet is bent, and a flat ruler does not fit it. So we need a code that can bend.
#
# ## 2 · An autoencoder with a price list
#
# An **encoder** turns the picture $x$ into a small map $z$, here 8 × 8 places with 4 numbers each, and a **decoder** makes
# a picture $x'$ of it. Train both so that $|x - x'|^2$ is small, and the code is whatever serves best.
#
# One thing is missing. A number can hold as many digits as you like; so "256 numbers" says nothing about how much they
# say. The remedy of [Kingma and Welling (2014)](https://arxiv.org/abs/1312.6114): the encoder does not say a number, but
# **a Gaussian**, with mean $\mu$ and variance $\sigma^2$, and what the decoder gets is *drawn* from it. Whoever wants to be
# understood must speak louder than this noise, that is, make $\sigma$ small. And that has a price.

# %%
d = Diagram(
    "A picture goes through the encoder, which gives a mean and a logarithm of the variance for "
    "each number of the latent. A latent is drawn from them with noise, and the decoder makes a "
    "picture of it. The loss has two parts: the squared error between the two pictures, and the "
    "KL divergence of the Gaussian, which is the rate."
)
picture = d.box("x\n(B, 3, 64, 64)", column=0, row=0, kind="data")
encoder = d.box("encoder", column=1, row=0, kind="trained", form="encoder")
moments = d.box("mean, logvar\n(B, 2 · 4, 8, 8)", column=2, row=0, kind="data")
latent = d.box("z\n(B, 4, 8, 8)", column=3, row=0, kind="data")
decoder = d.box("decoder", column=4, row=0, kind="trained", form="decoder")
again = d.box("x'\n(B, 3, 64, 64)", column=5, row=0, kind="data")
noise = d.box("noise", column=3, row=1, kind="data")
rate = d.box("KL: the rate", column=2, row=1, kind="loss")
error = d.box("|x - x'|²", column=5, row=1, kind="loss")
for one, other in ((picture, encoder), (encoder, moments), (moments, latent), (latent, decoder)):
    d.arrow(one, other)
d.arrow(decoder, again)
d.arrow(noise, latent)
d.arrow(moments, rate)
d.arrow(again, error)
d.show()

# %% [markdown]
# | words and symbols | |
# |---|---|
# | **latent** $z$ | what the decoder gets; here 4 × 8 × 8 numbers |
# | $f$ | how much smaller its map is: 64 / 8 = 8 |
# | **rate** | what the latent says about the picture, in *nats* (1 nat = 1.44 bits) |
# | **distortion** | what the decoder gets wrong: $\lvert x - x'\rvert^2$, summed over the picture |
# | `logvar` | $\ln \sigma^2$: any number is a valid one |
#
# ### Exercise 6.1: what does a Gaussian cost?
#
# Sender and receiver have agreed on $q = N(0, 1)$ as what $z$ looks like before anything is said. Now the sender says:
# "it is from $p = N(\mu, \sigma^2)$". How much was said? The **Kullback-Leibler divergence**, the average surprise of a
# reader who had expected $q$, compared with one who knows $p$:
#
# $$\mathrm{KL}(p \,\|\, q) = E_{z \sim p}\big[\ln p(z) - \ln q(z)\big]$$
#
# Both logarithms are known: $\ln p(z) = -\frac{(z - \mu)^2}{2\sigma^2} - \frac12 \ln(2\pi\sigma^2)$, and $\ln q(z)$ is the same
# with $\mu = 0$ and $\sigma = 1$. Put them in. The constants with $\pi$ cancel. What is the average of $(z - \mu)^2$ when
# $z$ is drawn from $p$? And of $z^2$? With these two you have a closed form in $\mu$, $\sigma^2$ and $\ln \sigma^2$.
# Elements are independent, so their divergences add up.

# %% piece="autoencoder.gaussian_kl" exercise="6.1" points=3 minutes=15 kind="derive" hide=["Equation"]

# %% [markdown]
# Your closed form against an average over draws (blue dots with standard errors). A mean far from 0 costs. On the right,
# look at the two ends. A small variance costs because it says *exactly* which z was meant: 1.5 nats at `logvar` = -4, where
# $\sigma$ is about 1/7. A large variance says less than was known before, and costs even more: 25 nats at `logvar` = 4. There
# $\sigma$ is about 7, so z often lies where a reader who expects $N(0, 1)$ would never look for it, and each such z is a
# great surprise. The only thing that costs nothing is to say nothing: $\mu = 0$, $\sigma = 1$.

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 2.6), sharey=True)
for ax, name in zip(axes, ("mean", "logvar")):
    x = torch.linspace(-4, 4, 81)
    zero = torch.zeros(81, 1)
    pair = (x[:, None], zero) if name == "mean" else (zero, x[:, None])
    ax.plot(x, gaussian_kl(*pair), color="C1", label="yours")
    mean, logvar = (each[::10] for each in pair)
    std = (logvar / 2).exp()
    z = mean + std * torch.randn(9, 2000, generator=torch.Generator().manual_seed(0))
    surprise = z.square() / 2 - ((z - mean) / std).square() / 2 - logvar / 2  # ln p - ln q
    ax.errorbar(
        x[::10], surprise.mean(1), surprise.std(1) / 2000**0.5, fmt="o", ms=3, color="C0",
        label="average of ln p - ln q",
    )
    ax.set(title=f"Cost of one number, the other at 0: {name}", xlabel=name)
axes[0].set_ylabel("nats")
axes[1].legend()
plt.show()

# %% [markdown]
# ### Exercise 6.2: a draw that one can learn from
#
# $z$ is drawn from $N(\mu, \sigma^2)$, and the decoder's error must teach the encoder a better $\mu$ and $\sigma$. But what is
# the slope of a *draw*? "Draw again, with a slightly larger $\mu$" gives another random number altogether, and
# `torch.normal(mean, std)` has no gradient at all. Yet one would like to say: had the luck been the same and $\mu$ a little
# larger, $z$ would have been as much larger; and with a larger $\sigma$, $z$ would have been farther from $\mu$ in the same
# direction. Write the draw so that this is so.

# %% piece="autoencoder.DiagonalGaussian" methods=["sample"] exercise="6.2" points=2 minutes=10 hide=["Equation"]

# %% [markdown]
# ### The networks
#
# Nothing in them is new to you: the residual block of chapter 04 without its level (`PlainResBlock`), `Downsample`,
# `Upsample`, and in the `middle` two blocks around one attention. No skip connection leads from the encoder to the decoder: everything must pass through $z$.
# Read it once. (They agree with the autoencoder of the library `diffusers`, weight by weight; a test shows it.)

# %% piece="autoencoder.Autoencoder"

# %% [markdown]
# ### Exercise 6.3: mend the loss
#
# $$\text{loss} = \underbrace{|x - x'|^2}_{\text{what is lost}} + \underbrace{w \;\mathrm{KL}}_{\text{what saying it costs}}$$
#
# $w$, the `kl_weight`, is a **price**: so much squared error must a nat save, or it is not worth saying. You will be given a
# loss that runs; its shapes are right, and in training it goes down. But it has a bug that many have written. First look
# at what it does: below, a small autoencoder is trained with it, at $w = 0.1$. The second line printed takes the loss of
# the trained autoencoder apart: what the function returns, and what the formula above gives, term by term.

# %%
schedule = NoiseSchedule(cosine_betas(1000)).to(b.device)


def train_autoencoder(model, steps, kl_weight, loss=None, lr=2e-3):
    """Train on the pool; returns the model with averaged weights."""
    model = model.to(b.device, memory_format=torch.channels_last).requires_grad_()
    ema = EMA(model, decay=0.98)  # its copy needs no gradients

    def batch(generator):
        i = torch.randint(len(pool), (b.batch,), generator=generator, device=b.device)
        return pool[i].to(memory_format=torch.channels_last), None

    def objective(model, images, schedule, cond, generator):
        decoded, posterior = model(images, generator)
        return (loss or vae_loss)(images, decoded, posterior, kl_weight)

    options = dict(loss=objective, optimizer="muon", decay="cosine", warm_up=20, cuda_graph=True)
    for _ in train(model, ema, batch, schedule, steps, lr=lr, **options):
        pass
    return ema.model


def new_autoencoder():
    torch.manual_seed(0)
    return Autoencoder(latent_channels=4, channels=b.width, mults=(1, 2), patch=4)


@torch.no_grad()
def measured(model):
    """Rate in nats, squared error, and decoded pictures of `fresh`, through drawn latents."""
    posterior = model.encode(fresh)
    decoded = model.decode(posterior.sample(torch.Generator(b.device).manual_seed(1)))
    error = (decoded - fresh).square().sum(dim=(1, 2, 3))
    return posterior.kl().mean().item(), error.mean().item(), decoded


def try_loss(name, loss):
    """Train with this loss at the price 0.1, print what came of it; returns decoded pictures."""
    model = train_autoencoder(new_autoencoder(), b.tune, 0.1, loss)
    rate, error, decoded = measured(model)
    with torch.no_grad():
        value = loss(fresh, decoded, model.encode(fresh), 0.1).item()
    print(f"{name}: rate {rate:.1f} nats, squared error {error:.1f}, {decibels(error):.1f} dB")
    terms = f"{error:.1f} + 0.1 x {rate:.1f} = {error + 0.1 * rate:.1f}"
    print(f"  the loss returns {value:.3g}; the formula: {terms}")
    return decoded.clamp(-1, 1)


shown = {"pictures": fresh, "as given": try_loss("as given", as_given("autoencoder.vae_loss"))}
rows = torch.cat([x[:8] for x in shown.values()]).cpu()
viz.show_images(rows, f"After {b.tune} steps", 8, width=5, rows=list(shown))
plt.show()

# %% [markdown]
# This autoencoder says next to nothing: the rate is close to 0, and each picture comes back as the mean of all pictures.
# That is called **posterior collapse**. There are many learned remedies for it, but here it is a slip in the code. The two
# values in the last line should agree. By which factor do they not, and where in the code does such a factor come from?

# %% piece="autoencoder.vae_loss" exercise="6.3" points=2 minutes=10 kind="mend" mend="a mean beside a sum" hide=["Equation"]

# %% [markdown]
# The same network, the same steps and the same $w$, with your loss. And what does a nat cost in truth? We compare what the
# loss asks for one nat with what it asks for a squared error of 1.

# %%
shown["yours"] = try_loss("yours", vae_loss)
rows = torch.cat([x[:8] for x in shown.values()]).cpu()
viz.show_images(rows, f"After {b.tune} steps", 8, width=5, rows=list(shown))
plt.show()
silent = torch.zeros(1, 8, size // 8, size // 8)  # moments of N(0, I)
telling = silent.clone()
telling[0, 0, 0, 0] = 2**0.5  # a mean that costs 1 nat
for name, loss in {"as given": as_given("autoencoder.vae_loss"), "yours": vae_loss}.items():
    for side in (size, 2 * size):
        x = torch.zeros(1, 3, side, side)
        other = x.clone()
        other[0, 0, 0, 0] = 1  # a squared error of 1
        nat = loss(x, x, DiagonalGaussian(telling), 0.1)
        ratio = nat / loss(x, other, DiagonalGaussian(silent), 0.1)
        print(f"{name}, {side} x {side} pixels: a nat costs a squared error of {ratio:,.1f}")

# %% [markdown]
# (As long as you have not mended it, both rows and both prices are the same.) What is called the price $w$ should be the
# price, here 0.1, whatever the size of the pictures.
#
# ## 3 · What the price does
#
# Now train for real, at $w = 0.01$. Then go on from there at other prices, a hundred times cheaper up to a thousand times
# dearer.

# %%
first_price = 0.01
first = train_autoencoder(new_autoencoder(), b.encode, first_price)
rate, error, decoded = measured(first)
both = ((fresh + 1) / 2, (decoded.clamp(-1, 1) + 1) / 2)
quality = psnr(*both)
shown = torch.cat([fresh[:8], decoded[:8].clamp(-1, 1)]).cpu()
viz.show_images(shown, "There and back", 8, rows=["x", "x'"])
plt.show()
numbers = first(fresh[:1])[1].mean.numel()
print(f"{sum(p.numel() for p in first.parameters()):,} parameters; {numbers} numbers for 12,288")
print(f"PSNR {quality:.1f} dB at {rate:.0f} nats, {rate / 0.6931 / 8:.0f} bytes a picture")

# %% [markdown]
# Two things are asked of a decoder. It should bring *encoded* pictures back. And one might hope that it makes *new*
# pictures of latents that nobody encoded: the KL pulls the latents towards $N(0, I)$, so draw $z \sim N(0, I)$ and
# decode. The dearer a nat, the harder the KL pulls. We measure with the mini-FID of chapter 05: how far are these pictures
# from drawn ones?

# %%
guess_noise = predict(
    "6.c",
    "Mini-FID of decoded N(0, I), at the price that is best for it, "
    "as a multiple of that of encoded and decoded pictures at the price 0.01",
    choices=["below 2", "2 to 10", "10 to 30", "above 30"],
)

# %%
prices = [0.0001, first_price, 0.1, 1.0, 10.0]
models = {first_price: first}
for price in prices:
    if price not in models:
        models[price] = train_autoencoder(copy.deepcopy(first), b.tune, price, lr=1e-3)
judge = load_pretrained("stills_classifier").to(b.device)


@torch.no_grad()
def features(x):
    """What the judge of chapter 05 sees; it knows 32 x 32 pixels, so four pixels become one."""
    return judge.features(F.avg_pool2d(x.clamp(-1, 1), 2))


real = features(stills.sample(2000 if b.name != "smoke" else 32, generator, "all")[0])
table, drawn_noise, back = {}, {}, {}
print("   price     rate   squared   PSNR     mini-FID of        std of")
print("            (nats)    error   (dB)   decoded    noise    latents")
for price in prices:
    model = models[price]
    rate, error, decoded = measured(model)
    seed = torch.Generator(b.device).manual_seed(2)
    with torch.no_grad():
        z = torch.randn(len(fresh), 4, size // 8, size // 8, generator=seed, device=b.device)
        noise_decoded, spread = model.decode(z), model.encode(fresh).mode().std().item()
    fids = [frechet_distance(features(x), real) for x in (decoded, noise_decoded)]
    table[price] = rate, error, *fids, spread
    drawn_noise[price], back[price] = noise_decoded, decoded
    line = f"{price:8g}{rate:9.0f}{error:10.0f}{decibels(error):7.1f}"
    print(f"{line}{fids[0]:10.0f}{fids[1]:9.0f}{spread:11.2f}")
three = [prices[0], prices[2], prices[4]]
rows = [half for price in three for half in (back[price][:8], drawn_noise[price][:8])]
names = [f"{price:g}: {what}" for price in three for what in ("x'", "N(0, I)")]
viz.show_images(torch.cat(rows).clamp(-1, 1).cpu(), "Three prices", 8, width=6, rows=names)
plt.show()
if b.name != "smoke":
    best_price = min(prices, key=lambda price: table[price][3])
    ratio = table[best_price][3] / table[first_price][2]
    print(f"N(0, I) does best at the price {best_price:g}: {ratio:.0f} times the mini-FID")
    guess_noise.beside(guess_noise.question.choices[sum(ratio > most for most in (2, 10, 30))])

# %% [markdown]
# Look at the rows in pairs. Cheap: the pictures come back sharp, and noise becomes confetti: each place shows a bit of an
# edge, in a colour of its own. Dear: the pictures come back as blots, and noise makes a ground with no blot, or with one, or
# with three. At no price does noise become *a* shape. The KL looks at each of the 256 numbers by itself, and so cannot ask
# that the 64 places agree on what they show: a red corner here goes with a red corner there. **What the latents of pictures
# look like *together* is what the diffusion model will learn.** So the KL weight may be small. It is there to keep the
# latents of a reasonable size, and the code free of holes.
#
# ### Rate against distortion
#
# Each price has given a point: so many nats, so much error. Together they make a curve, and the price is its slope: if one
# nat more saved more squared error than $w$, training would buy it. The line at each point has the slope $-w$; it should
# touch the curve. The dashed curve is the *best* linear code.

# %%
found = torch.tensor([table[price][:2] for price in prices])  # (prices, 2)
reach = torch.logspace(-4.5, 2, 200)
best = torch.tensor([linear_code(variances, w.item()) for w in reach])  # (200, 2)
plt.figure(figsize=(7, 3.2))
plt.loglog(best[:, 0], best[:, 1], "--", color="C0", label="best linear code")
plt.loglog(found[:, 0], found[:, 1], "o-", color="C1", label="your autoencoder")
for price, (rate, error) in zip(prices, found):
    around = rate * torch.linspace(0.6, 1.5, 30)
    line = error - price * (around - rate)
    plt.loglog(around[line > 0], line[line > 0], "k", lw=0.8)
    plt.annotate(f"{price:g}", (rate, error), xytext=(4, 6), textcoords="offset points", fontsize=8)
plt.xlim(left=0.5)
plt.ylim(bottom=found[:, 1].min() / 3)
plt.title("Rate against distortion (numbers: the price w; lines: slope -w)")
plt.xlabel("rate (nats a picture)")
plt.ylabel("squared error a picture")
plt.legend()
plt.show()


def linear_error(rate):
    """The squared error of the best linear code at this rate: read off the dashed curve."""
    curve = best[best[:, 0] > 0].flip(0).log()  # from small rates to large ones
    return float(np.exp(np.interp(np.log(rate), curve[:, 0], curve[:, 1])))


for price in prices:
    ratio = linear_error(table[price][0]) / table[price][1]
    print(f"price {price:6g}: the linear code loses {ratio:.2f} times as much at the same rate")

# %% [markdown]
# At the same rate, the linear code loses much more at the prices in the middle: two to three times as much at `cpu`, six to ten
# times at `gpu`, where the autoencoder is larger and trained for longer. (And the linear code is flattered: its directions were
# fitted to the pictures on which its curve is measured.) Towards both ends the lead is smaller, and at the cheapest price of
# `cpu` it is gone: what is lost there is what so small a network has not yet learnt to paint, and saying more does not help. At the
# dearest, hardly anything is said.
#
# ### Exercise 6.4: design a code
#
# For the linear code the whole story can be worked out, and then you can *order* what you want. Take one direction, of
# variance $v$. What error $D$ is left after $R$ nats? What is not known of a Gaussian of variance $v$ is its entropy,
# $\frac12 \ln(2\pi e\,v)$. Afterwards a Gaussian of variance $D$ is unknown, $\frac12 \ln(2\pi e\,D)$. The difference is what
# was said: $R = \frac12 \ln(v / D)$, so $D = v\,e^{-2R}$ (Shannon, 1959). At the price $w$ one pays $D + w R$; where the
# slope along $R$ is zero, $D = w/2$. So at a given price **every direction ends at the same error $w/2$**, however large it
# was, except those with $v < w/2$: for these the best is to say nothing, and to lose $v$.
#
# Now turn it round. Somebody allows you a total squared error and wants the cheapest code. Which price is that, and how
# many directions does the code keep? Directions that are left out lose their variance, which counts; the others share
# what remains. Your design is *measured*: the check codes thousands of random vectors with it.

# %% piece="rate_distortion.design_code" exercise="6.4" points=3 minutes=20 kind="design"

# %% [markdown]
# What your design says about our pictures: the error in each direction, for an allowed PSNR of 24 dB. It has the shape of
# land under water: `design_code` finds the water level, and the tops that are dry are the directions kept. (The literature
# calls it *reverse water-filling*.)

# %%
allowed = 4 * 3 * size**2 / 10**2.4
allowed = min(allowed, 0.5 * variances.sum().item())
price, count = design_code(variances, allowed)
rate, error = linear_code(variances, price)
top = min(3 * count, len(variances))
plt.figure(figsize=(6.5, 2.4))
water = variances[:top].clamp(max=price / 2)
plt.fill_between(range(top), water, color="C0", alpha=0.5, label="lost")
plt.semilogy(range(top), variances[:top], color="C1", label="variance")
plt.axvline(count, color="grey", ls=":")
plt.title(f"{count} directions, price {price:.2f}: {rate:.0f} nats, {decibels(error):.1f} dB")
plt.xlabel("direction")
plt.ylabel("squared error")
plt.ylim(bottom=price / 100)
plt.legend()
plt.show()

# %% [markdown]
# ## 4 · Latents as data
#
# From here on the autoencoder stays as it is. A diffusion model is to learn what latents look like; chapters 01 to 05
# apply without change, since samplers and losses never looked into the data. With one condition: the schedule of
# chapter 01 was made for data of variance 1. With the cosine schedule, which we use, noise and such data are equally strong
# close to level 500. Latents that are five times as wide (those of Stable Diffusion are, their standard deviation is 5.5)
# are still plain to see there.
#
# ### Exercise 6.5: mend the scale
#
# So latents are multiplied by a **scale** before diffusion sees them, and divided by it before decoding. The scale is
# measured once. People who rebuilt the paper have written the version that you will be given, and its bug is easily
# overlooked: with latents whose standard deviation is near 1, like ours, it changes little. (The KL has pulled them there;
# see the last column of the table of prices.) So first look at what it does to ours, and to the same five times as wide.
# The pictures show what noise of level 800 leaves of them: decoded after a division by everything that had made them larger
# or smaller.

# %%
with torch.no_grad():
    means = torch.cat([first.encode(part).mode() for part in pool.split(256)])
signal = schedule.alpha_bar[[500, 800]].tolist()
print(f"share of the data in the variance: level 500 {signal[0]:.0%}, level 800 {signal[1]:.0%}")
level = torch.full((8,), 800, device=b.device)
seed = torch.Generator(b.device).manual_seed(3)
noise = torch.randn(means[:8].shape, generator=seed, device=b.device)


@torch.no_grad()
def seen_at_800(name, scale, width):
    """Scale our latents, made so many times as wide, and noise them; returns them decoded."""
    factor = scale(width * means)
    now = factor * width * means
    print(f"{name:22s} std before {width * means.std():5.2f}, after {now.std():6.2f}")
    clean = q_sample(now[:8], level, noise, schedule) / schedule.alpha(level)[:, None, None, None]
    return first.decode(clean / (factor * width)).clamp(-1, 1)


given, at_800 = as_given("autoencoder.latent_scale"), {"pictures": pool[:8]}
for name, width in {"ours, as given": 1, "wide ones, as given": 5}.items():
    at_800[name] = seen_at_800(name, given, width)
rows = torch.cat([*at_800.values()]).cpu()
viz.show_images(rows, "What noise of level 800 leaves", 8, width=5, rows=list(at_800))
plt.show()

# %% [markdown]
# At level 800 a picture should be hardly a guess, as in the second row. In the third it is there for anybody to read. A
# model trained on such latents would practise levels that are too easy, all but the highest; and a sampler, which starts
# from noise of variance 1, would begin where training has never been.

# %% piece="autoencoder.latent_scale" exercise="6.5" points=1 minutes=10 kind="mend" mend="the standard deviation itself" hide=["Equation"]

# %%
for name, width in {"ours, your scale": 1, "wide ones, your scale": 5}.items():
    at_800[name] = seen_at_800(name, latent_scale, width)
rows = torch.cat([*at_800.values()]).cpu()
viz.show_images(rows, "What noise of level 800 leaves", 8, width=5, rows=list(at_800))
plt.show()

# %% [markdown]
# With the right scale it does not matter how wide the encoder has made its latents: the last two rows are the same.
#
# ## 5 · From words to latents to pictures
#
# The denoiser is the U-Net of chapter 04 with the words of chapter 05, for "pictures" with 4 channels and 8 × 8 places;
# `patch=1`, since there is nothing left to shrink. The text encoder starts as the trained one of chapter 05.

# %%
d = Diagram(
    "A prompt goes through the tokenizer and the text encoder into the U-Net, which denoises "
    "latents in a loop, starting from noise. At the end they are divided by the scale and decoded, "
    "once, into a picture. For image-to-image, an encoded picture, scaled and with noise, takes "
    "the place of the noise at the start."
)
prompt = d.box("prompt", column=0, row=0, kind="data")
text = d.box("text encoder\n(B, 12, 64)", column=1, row=0, kind="trained")
unet = d.box("U-Net, guided\n(B, 4, 8, 8)", column=2, row=0, kind="trained")
scaled = d.box("÷ scale", column=3, row=0)
paint = d.box("decoder", column=4, row=0, kind="locked", form="decoder")
result = d.box("picture\n(B, 3, 64, 64)", column=5, row=0, kind="data")
begin = d.box("noise\n(B, 4, 8, 8)", column=2, row=1, kind="data")
old = d.box("another picture", column=0, row=2, kind="data")
pack = d.box("encoder", column=1, row=2, kind="locked", form="encoder")
times = d.box("× scale\n+ noise", column=2, row=2)
for one, other in ((prompt, text), (text, unet), (unet, scaled), (scaled, paint), (paint, result)):
    d.arrow(one, other)
d.arrow(begin, unet)
d.arrow(old, pack)
d.arrow(pack, times)
d.arrow(times, begin, "or", dashed=True)
d.show()

# %% [markdown]
# The rival. Is it the *learned* code that helps, or simply the smaller map? Chapter 05's network can shrink its map without
# any autoencoder: with `patch=8`, each square of 8 × 8 pixels enters as one position with 192 numbers. Then it works on 8
# × 8 places, as the latent model does, and costs about a fifth more (192 numbers enter and leave at each place, not 4).
# Both have the same channels, the same text encoder, the same number of steps, and the noise schedule that suits them.

# %%
guess_weakest = predict(
    "6.d",
    "After equal training: what does the model in pixels with large patches get wrong most often?",
    choices=["the shape", "the colour", "the place", "all three within 2 points"],
)

# %%
first.measure_scale(pool[:1000])
latents = (first.scale * means).contiguous()
captions = caption_table(still_tokenizer(), SpriteStills).to(b.device)
knows_words = load_pretrained("text2image").net.encoder.state_dict()
batch_size = {"smoke": 8, "cpu": 64, "gpu": 128}[b.name]


def train_denoiser(model, data):
    """Train `model.net` on data (N, C, H, W) with the pool's captions; returns the seconds."""
    model.net.encoder.load_state_dict(knows_words)
    model.to(b.device, memory_format=torch.channels_last)
    ema = EMA(model.net, decay=0.99)

    def batch(generator):
        i = torch.randint(len(data), (batch_size,), generator=generator, device=b.device)
        words = random_captions(captions, kinds[i], generator)
        return data[i], drop_condition(words, 0.1, generator)

    started = time.perf_counter()
    options = dict(loss=prediction_loss, optimizer="muon", decay="cosine", warm_up=50)
    options |= dict(cuda_graph=True, dtype=b.dtype)
    for _ in train(model.net, ema, batch, model.schedule.to(b.device), b.steps, **options):
        pass  # at the last step, `train` waits for the device
    model.net = ema.model.eval()
    return time.perf_counter() - started


torch.manual_seed(1)
small = build_text2image(b.net, patch=1, in_channels=4)
seconds = {"latents": train_denoiser(small, latents)}
latent_model = LatentModel(first.eval(), small, size).to(b.device)
pixel_models = {}
for patch in (8, 2):
    name = f"pixels, patch {patch}"
    torch.manual_seed(1)
    pixel_models[name] = build_text2image(b.net if patch == 8 else 48, patch=patch, shift=2.0)
    if patch in b.patches:
        seconds[name] = train_denoiser(pixel_models[name], pool)


triples = all_triples("all", STILL_ATTRIBUTES)
order = torch.randperm(432, generator=torch.Generator().manual_seed(0))
asked = triples[order].repeat(2, 1)[: b.prompts]
prompts = stills.captions(asked, torch.Generator().manual_seed(5))
options = dict(steps=b.walk, guidance_scale=3.0, batch_size=288 if b.name == "gpu" else 32)


def draw(name, texts, seed=6):
    """Pictures (B, 3, 64, 64) of a model for these prompts."""
    generator = torch.Generator(b.device).manual_seed(seed)
    if name == "latents":
        return latent_text_to_image(texts, latent_model, generator=generator, **options)
    return text_to_image(texts, pixel_models[name], size=size, generator=generator, **options)


pictures, took = {}, {}
for name in seconds:
    started = time.perf_counter()
    pictures[name] = draw(name, prompts)
    took[name] = (time.perf_counter() - started) / len(prompts)
rows = torch.cat([x[:8] for x in pictures.values()])
viz.show_images(rows.cpu(), "Same prompts, equal training", 8, width=4, rows=list(pictures))
plt.show()
print(" | ".join(prompts[:8]))

# %% [markdown]
# And the bill, per picture: FLOPs of one call; of a whole picture, with guidance (two calls a step) and the decoder;
# FLOPs of training, with the autoencoder's; the memory that one training picture needs for its gradient; seconds measured
# here. Prompt accuracy and mini-FID by the judge of chapter 05, which sees the pictures at half their size. A dash: not
# trained at this budget. Then: from which size on do latents pay? For that we count one picture at each size, with the same
# networks.


# %%
def kept_bytes(net, channels, side):
    """Bytes that one sample leaves behind for its gradient, weights apart."""
    net, found, alive = copy.deepcopy(net).requires_grad_(), {}, []
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.enable_grad():
        call_of(net, channels, side)()
    return sum(found.values())


trust = correct_attributes(judge, F.avg_pool2d(fresh, 2), fresh_kinds).float().mean(0)
decoding = flops(lambda: first.decode(torch.zeros(1, 4, size // 8, size // 8, device=b.device)))
encoding = flops(lambda: first.encode(torch.zeros(1, 3, size, size, device=b.device)))
codec = 3 * (encoding + decoding) * b.batch * b.encode  # training: forwards once, backwards twice
cost, accuracy, fid, by_kind = {}, {}, {}, {}
print("                  MFLOPs GFLOPs a TFLOPs of  memory  seconds   prompts followed  mini-")
print("                  a call  picture  training    (MB) a picture    seen   unseen    FID")
for name in ["latents", *pixel_models]:
    net, (channels, side) = (
        (small.net, (4, size // 8)) if name == "latents" else (pixel_models[name].net, (3, size))
    )
    call = flops(call_of(net, channels, side))
    whole = 2 * b.walk * call + (decoding if name == "latents" else 0)
    training = 3 * call * batch_size * b.steps + (codec if name == "latents" else 0)
    memory = kept_bytes(net, channels, side) / 2**20
    cost[name] = call, whole, training, memory
    line = f"{name:16s}{call / 1e6:8.0f}{whole / 1e9:9.1f}{training / 1e12:10.1f}{memory:8.1f}"
    if name in pictures:
        with torch.no_grad():
            each = correct_attributes(judge, F.avg_pool2d(pictures[name], 2), asked).cpu()
        right, new, by_kind[name] = each.all(1), held_out(asked), each.float().mean(0)
        accuracy[name] = right.float().mean().item()
        fid[name] = frechet_distance(features(pictures[name]), real)
        parts = [right[~new].float().mean().item(), right[new].float().mean().item()]
        line += f"{took[name]:10.3f}{parts[0]:8.1%}{parts[1]:9.1%}{fid[name]:7.0f}"
    else:
        line += f"{'–':>10s}{'–':>8s}{'–':>9s}{'–':>7s}"
    print(line)
for name, shares in by_kind.items():
    each = ", ".join(f"{kind} {share:.1%}" for kind, share in zip(STILL_ATTRIBUTES, shares))
    print(f"{name}: {each}")
calls = decoding / cost["latents"][0]
print(f"the decoder: {decoding / 1e6:.0f} MFLOPs, as much as {calls:.1f} calls")
print(f"the judge on drawn stills: {trust.min():.1%} for its weakest attribute")
lead = accuracy["latents"] - accuracy["pixels, patch 8"]
print(f"prompts followed: latents lead pixels with patch 8 by {100 * lead:.0f} points")
if b.name != "smoke":
    shares = by_kind["pixels, patch 8"]
    weakest = int(shares.argmin()) if shares.max() - shares.min() > 0.02 else 3
    guess_weakest.beside(guess_weakest.question.choices[weakest])
ours, theirs = cost["latents"][1], cost["pixels, patch 2"][1]
print(f"FLOPs of a picture: latents need {ours / theirs:.2f} of what pixels (patch 2) do")


plt.figure(figsize=(6.5, 2.8))
sides, whole = [16, 32, 64, 128], {"latents": [], "pixels, patch 2": []}
for side in sides:
    unpack = flops(lambda: first.decode(torch.zeros(1, 4, side // 8, side // 8, device=b.device)))
    whole["latents"].append(2 * b.walk * flops(call_of(small.net, 4, side // 8)) + unpack)
    dear = pixel_models["pixels, patch 2"].to(b.device).net
    whole["pixels, patch 2"].append(2 * b.walk * flops(call_of(dear, 3, side)))
for (name, counts), style in zip(whole.items(), ("o-", "s--")):
    plt.loglog(sides, [count / 1e9 for count in counts], style, label=name)
plt.xticks(sides, [f"{side}" for side in sides])
plt.minorticks_off()
plt.title(f"FLOPs of one picture in {b.walk} guided steps")
plt.xlabel("pixels a side")
plt.ylabel("GFLOPs")
plt.legend()
plt.show()
factors = [theirs / ours for ours, theirs in zip(*whole.values())]
print("pixels cost more by: " + ", ".join(f"{f:.1f} at {s}" for s, f in zip(sides, factors)))

# %% [markdown]
# Read the table by columns. *Cost:* a call of the network with large patches costs a fifth more than one of the latent
# network; and the decoder, once a picture, costs no more than two calls. So these two are close. The network of
# chapter 05, with patches of 2 × 2 pixels, costs almost ten times as much, at every step, and its memory is what fills a
# card. Even with the training of the autoencoder and its one decoding added, latents stay far cheaper than that. *Quality:*
# compare the attributes below the table. Colours and places the rival gets right more often than shapes; where it fails,
# the judge mostly does not recognise the shape. At each of its 64 places it must get 192 numbers right, edges and all, from
# a single vector of features. The latent model has 4 to get right, and leaves the painting to the decoder, which has learnt
# nothing else.
#
# The two lines of the figure never cross: latents are cheaper at 16 pixels already, and from 16 to 128 pixels the factor
# doubles. But at 16 and 32 pixels the absolute numbers are small, and an autoencoder that must be trained first is not worth
# it. That is why chapter 05 did without.
#
# One detail of the samplers changes. `clip_x0` clamps each estimate of the clean picture to $[-1, 1]$, and helped in
# pixels. Of numbers with variance 1 a third lies beyond 1. What if we forget to switch it off?

# %%
tokens = tokens_for(torch.zeros(min(64, b.prompts), 1, device=b.device), prompts[:64])
clipped = {}
for clip in (False, True):
    seed = torch.Generator(b.device).manual_seed(6)
    z = sample_tokens(tokens, latent_model.shape, small, b.walk, 3.0, seed, clip_x0=clip)
    clipped[clip] = to_pictures(first, z)
rows = torch.cat([clipped[False][:8], clipped[True][:8]])
names = ["as they are", "clamped"]
viz.show_images(rows.cpu(), "Latents as they are, and clamped", 8, width=4, rows=names)
plt.show()
for name, x in zip(names, clipped.values()):
    print(f"{name:12s} mini-FID of {len(x)}: {frechet_distance(features(x), real):.0f}")

# %% [markdown]
# ## 6 · From a picture to another
#
# Noise hides: a little hides details, more hides what a thing is; only the highest levels hide where things are. So add
# noise to a picture's latents *up to some level*, and let the sampler walk down from there, with a
# prompt: what was hidden is drawn anew, as the prompt says; what still showed through stays. This is **SDEdit**
# ([Meng et al., ICLR 2022](https://arxiv.org/abs/2108.01073)), the "image to image" of every drawing program with a
# diffusion model. Its one knob is the `strength`, the share of the way up.
#
# ### Exercise 6.6: which levels?
#
# A whole walk has $n$ steps from $T$ to 0. A walk that begins at half of the height should not take $n$ steps too: it would
# cost as much as a whole one, for no gain. Nor may its steps become longer. Work out with which level to begin, and the
# smallest number of steps that keeps the promise in the docstring. Beware of two traps, into which well-known libraries
# have fallen: floating point (`int(100 * 0.29)` is 28, and rounding up has such cases, too), and a strength close to 0 that
# gives a walk without any step.
# `sampling_levels` of chapter 03 is at hand.

# %% piece="latent.strength_levels" exercise="6.6" points=3 minutes=15 hide=["Equation"]

# %% [markdown]
# ### Exercise 6.7: the whole pipeline
#
# All parts are there; put them together.
#
# | call | what it gives |
# |---|---|
# | `tokens_for(images, prompts)` | the tokens (B, L), or a ValueError |
# | `model.autoencoder.to_latents(images)` | latents of unit variance: encoded, and times the scale |
# | `model.denoiser.schedule.to(device)` | the schedule, on the pictures' device; its T is `schedule.T` |
# | `q_sample(x0, t, noise, schedule)` | data x0 at the levels t, a (B,) long tensor |
# | `ClassifierFreeGuidance(model.denoiser, guidance_scale)` | the model that the walk asks |
# | `ddim_sample(model, x, schedule, levels, cond)` | the walk from x, at `levels[0]`, down to 0; with its defaults (`eta=0.0`, `clip_x0=False`) nothing in it is random and nothing is clamped |
# | `to_pictures(autoencoder, latents)` | divided by the scale, decoded, clamped to $[-1, 1]$ |

# %% piece="latent.image_to_image" exercise="6.7" points=3 minutes=20

# %% [markdown]
# First, the levels of a few strengths, by your function. Then an experiment. Take drawn pictures; the prompt names *another*
# shape and *another* colour, at the place where the old one is. For each strength: how many have the new colour, how many
# the new shape (both by the judge), and by how much has changed what nobody asked to change: the ground, and the exact spot, the
# centre of mass of the bright pixels? (Of a triangle it lies a little lower than its middle.)

# %%
for strength in (0.001, 0.25, 0.5, 1.0):
    levels = strength_levels(1000, 12, strength)
    print(f"strength {strength:5g}: {len(levels) - 1:2d} steps, {levels}")
guess_strength = predict(
    "6.e", "At which strength have half of the pictures taken on the new colour?", low=0, high=1
)

# %%
order = torch.randperm(432, generator=torch.Generator().manual_seed(7))
old_kinds = triples[order[: b.edits]].to(b.device)
old_pictures = stills.draw(old_kinds, torch.Generator(b.device).manual_seed(8))
new_kinds = old_kinds.clone()
new_kinds[:, 0] = (new_kinds[:, 0] + 2) % 6
new_kinds[:, 1] = (new_kinds[:, 1] + 3) % 8
wishes = stills.captions(new_kinds.cpu())
ground = old_pictures.amax(dim=1, keepdim=True) < -0.1  # no sprite is that dark in all channels
strengths = [0.02, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
curves, edited = [], {}
for strength in strengths:
    seed = torch.Generator(b.device).manual_seed(9)
    x = image_to_image(old_pictures, wishes, latent_model, strength, b.walk, 3.0, seed)
    with torch.no_grad():
        right = correct_attributes(judge, F.avg_pool2d(x, 2), new_kinds).float().mean(0).cpu()
    changed = ((x - old_pictures).abs() * ground).sum() / (3 * ground.sum())
    moved = (centres(masks(x)) - centres(masks(old_pictures))).norm(dim=1) * size / 2  # in pixels
    curves.append([*right[[1, 0, 2]].tolist(), changed.item(), moved.nanmean().item()])
    edited[strength] = x
curves = torch.tensor(curves)
rows = torch.cat([old_pictures[:8], *(edited[s][:8] for s in (0.02, 0.4, 0.6, 0.8, 1.0))])
names = ["before", *(f"strength {s:g}" for s in (0.02, 0.4, 0.6, 0.8, 1.0))]
viz.show_images(rows.cpu(), "Image to image", min(8, b.edits), width=6, rows=names)
plt.show()
print(" | ".join(wishes[:8]))

fig, axes = plt.subplots(1, 2, figsize=(10, 2.8))
error = (curves[:, :3] * (1 - curves[:, :3]) / b.edits).sqrt()
styles = {"new colour": "o-", "new shape": "s--", "place as asked": "^:"}
for i, (name, style) in enumerate(styles.items()):
    axes[0].errorbar(strengths, curves[:, i], error[:, i], fmt=style, ms=4, capsize=2, label=name)
axes[0].set(title="What the judge sees", xlabel="strength", ylabel="share of pictures")
axes[0].legend(fontsize=8)
axes[1].plot(strengths, curves[:, 3], "o-", color="C0")
axes[1].set(title="Change of the ground", xlabel="strength", ylabel="mean absolute change")
axes[1].set_ylim(bottom=0)
if b.name != "smoke":
    guess_strength.mark(axes[0], axis="x")
plt.show()


def half_at(shares):
    """The strength at which half of the pictures have changed, read off between two strengths."""
    above = (shares >= 0.5).nonzero()
    if not len(above) or not above[0]:
        return strengths[0] if len(above) else 1.0
    i = int(above[0])
    between = ((0.5 - shares[i - 1]) / (shares[i] - shares[i - 1])).item()
    return strengths[i - 1] + between * (strengths[i] - strengths[i - 1])


colour_at, shape_at = half_at(curves[:, 0]), half_at(curves[:, 1])
print(f"half have the new colour at strength {colour_at:.2f}, the new shape at {shape_at:.2f}")
print("strength        " + "".join(f"{strength:7g}" for strength in strengths))
for name, line in zip([*styles, "ground, change", "spot, pixels"], curves.T.tolist()):
    print(f"{name:16s}" + "".join(f"{value:7.2f}" for value in line))
if b.name != "smoke":
    guess_strength.beside(round(colour_at, 2))

# %% [markdown]
# At strength 0.02 the picture is what the autoencoder makes of it, whatever the prompt says. Then the colour gives in, and the
# shape well after it: in the latents, a colour is hidden by less noise than an outline is. (Did you expect that? In pixels
# one would say that fine edges go first.) The place was to stay, and does: the prompt names it. What no word names is another
# matter. Look at the last two lines of the table: the ground changes and the exact spot wanders, the more the higher the
# strength. Where most shapes are new, both have changed a little already, so there is no strength at which *only* the asked-for
# things change. That is the limit of this simple method, and the reason why there are others: inversion (chapters 03 and 05), and
# a hint that stays visible at all levels (ControlNet, chapter 08).

# %% [markdown] words="6.8" minutes=10
# A friend has trained an autoencoder with a tiny KL weight. Pictures come back perfectly. Then she draws
# $z \sim N(0, I)$, decodes it, sees coloured noise, and asks you what she did wrong. What do you answer, and what should
# she do next? (Five sentences.)
#
# **Answer**
#
# Nothing is wrong. The KL weight is a price, and at this price the encoder may place its latents
# wherever the reconstruction is best; N(0, I) hardly plays a part, and even at a higher price it
# only speaks about each number by itself. The latents of pictures are a small set in that space,
# and a random point misses it, because the numbers at different places must agree with each
# other. A diffusion model trained on the latents learns exactly this set, so the next step is to
# measure their standard deviation, multiply by one over it, and train one. If she wants to see
# whether the decoder is sound, she can decode latents of pictures with a little noise on them.
#
# **Rubric**
#
# - Says that the reconstruction and the prior are two different things, and that a tiny weight asks for the first alone.
# - Says why N(0, I) misses: the latents' numbers depend on each other, or fill a small part of the space.
# - Names the remedy: a (diffusion) model of the latents; not a larger KL weight alone, which blurs.
# - Mentions the scale, 1 / standard deviation, or a sensible test of the decoder.

# %% [markdown]
# ## 7 · Did it work?

# %%
assert all(torch.isfinite(x).all() for x in (*pictures.values(), *edited.values()))
assert all(len(x) == len(asked) and x.shape[1:] == (3, size, size) for x in pictures.values())
assert bill[3] > 4 * bill[2], "attention makes the bill grow faster than the pixels"
assert cost["latents"][1] < cost["pixels, patch 2"][1] / 4, "a quarter of the FLOPs, or less"
if b.device.type == "cuda":
    assert torch.cuda.max_memory_allocated() < 8 * 2**30, "must fit a card with 8 GiB"
bars = {
    "cpu": dict(quality=30.0, accuracy=0.9, lead=0.3, linear=2.0),
    "gpu": dict(quality=33.0, accuracy=0.95, lead=None, linear=2.0),
}.get(b.name)
if bars:
    assert trust.min() > 0.99, "a judge that errs cannot judge"
    assert quality >= bars["quality"], f"PSNR {quality:.1f} dB"
    rates, errors = zip(*(table[price][:2] for price in prices))
    assert list(rates) == sorted(rates, reverse=True), "the dearer, the less is said"
    assert list(errors) == sorted(errors), "the less is said, the more is lost"
    assert linear_error(rates[2]) > bars["linear"] * errors[2], "it must beat the best linear code"
    assert min(table[price][3] for price in prices) > 2 * fid["latents"], "noise is no latent"
    assert accuracy["latents"] >= bars["accuracy"], f"prompts followed: {accuracy['latents']:.1%}"
    if bars["lead"]:
        assert lead > bars["lead"], f"latents lead by {lead:.1%} only"
    if "pixels, patch 2" in accuracy:
        gap = accuracy["pixels, patch 2"] - accuracy["latents"]
        assert gap <= 0.02, f"pixels at more than four times the cost lead by {gap:.1%}"
    assert curves[0, 0] < 0.2 and curves[-1, 0] > 0.6, "strength must decide about the colour"
    assert curves[0, 3] < 0.5 * curves[-1, 3], "and about the ground"
    print(f"It worked: {quality:.1f} dB from {numbers} numbers; prompts followed:")
    for name, share in accuracy.items():
        print(f"  {name:16s}{share:7.1%} at {cost[name][1] / 1e9:6.1f} GFLOPs a picture")
else:
    print("For pictures that follow the prompt, run this chapter with the budget cpu or gpu.")

# %% [markdown]
# ## What you have now
#
# - An **autoencoder** with a price list: the KL is what a latent says, in nats; `kl_weight` is what a nat may cost.
# - **Rate against distortion**: the price is the slope of the curve, and a code that bends says in few nats what a linear one needs many for.
# - **Latents as data**: scaled to variance 1, not clamped, and otherwise nothing that samplers or losses would notice.
# - **Text to image** in latents at a fraction of the FLOPs, and **image to image** by noising part of the way up.
#
# **Common mistakes.** A mean in one term of the loss and a sum in the other. The scale as the standard deviation. The scale
# on one side only. Clamped latents. A new autoencoder under an old denoiser: latents mean nothing to a stranger.
#
# **Three questions.** Why does the decoder need no skip connections from the encoder, and may not have any? What happens to
# the rate if the pictures get twice as wide and show the same? Why is a KL weight of $10^{-6}$ in one paper and of
# $0.01$ here not a contradiction?
#
# **Try it yourself.** (a) Give the latents 2 or 8 channels. Where on the curve do you land at the price 0.01, and how many
# channels say anything? (b) Train the denoiser on *drawn* latents instead of their means. (c) Edit in two walks of half
# the strength instead of one. (d) Decode latents that lie halfway between those of two pictures.
#
# **Next:** chapter 07 teaches a trained model a new word from four pictures.
#
# **Read on.** Kingma and Welling, *Auto-Encoding Variational Bayes*, ICLR 2014; Higgins et al., *beta-VAE*, ICLR 2017, and
# Alemi et al., *Fixing a Broken ELBO*, ICML 2018, for the curve; Rombach et al., *High-Resolution Image Synthesis with
# Latent Diffusion Models*, CVPR 2022; Meng et al., *SDEdit*, ICLR 2022; Cover and Thomas, *Elements of Information
# Theory*, chapter 10, for water.
