# ---
# title: The U-Net
# question: What must a denoiser be made of?
# build: embedding, residual block, attention, up and down, the U-Net, EMA, Muon
# ---

# %% [markdown]
# # 04 · The denoiser: a U-Net
#
# *What must a network be made of, to look at noise and see a picture?* So far the network was given. Now you build
# it: the U-Net, with which [Ho et al. (2020)](https://arxiv.org/abs/2006.11239) made diffusion work, and which stood
# in nearly every image and video model of the years that followed.
#
# A U-Net has five kinds of parts. It would be easy to describe them and move on. Instead we ask of each part *what
# breaks without it*. At the end you take your own network and train it four times: whole, then without its sense of
# the noise level, without skip connections, without attention. And you sample from it with and without the average of
# its weights. A judge says how good the pictures are. A part that makes no difference would have to go.
#
# Before that, we look at the steps by which a network learns, and you write the middle of an optimiser that takes
# better ones: Muon.
#
# You need: chapter 01 (noise, loss, sampler) and a little of 03 (fewer steps); of PyTorch, what an `nn.Module` is:
# layers are made in `__init__`, and `forward` says how data runs through them. In this chapter the layers are mostly
# given, and you write `forward`.

# %%
import copy
import inspect
import math
import time

import matplotlib.pyplot as plt
import torch
from einops import rearrange
from matplotlib.colors import LogNorm
from torch import Tensor, nn
from torch.nn import functional as F

from minivdm.course import budget, check, piece, start
from minivdm.datasets.digits import digits
from minivdm.diffusion.forward_process import diffusion_loss, q_sample
from minivdm.diffusion.samplers import ddpm_sample, sampling_levels
from minivdm.diffusion.schedules import NoiseSchedule, linear_betas
from minivdm.evaluation import viz
from minivdm.evaluation.attention_maps import attention_weights
from minivdm.evaluation.digit_classifier import train_digit_classifier
from minivdm.evaluation.metrics import frechet_distance
from minivdm.models.layers import norm, zero_module
from minivdm.models.unet import Stage, require_resolutions
from minivdm.training.loop import train
from minivdm.training.muon import COEFFICIENTS, EPS, hidden_weights

start("04_unet")
plt.rcParams.update(viz.STYLE)

# %%
b = budget(
    smoke=dict(steps=10, race=10, batch=16, channels=16, samples=30, seeds=1, walk=4, fit=20),
    cpu=dict(steps=600, race=100, batch=64, channels=16, samples=200, seeds=2, walk=50, fit=400),
    gpu=dict(steps=230, race=150, batch=256, channels=64, samples=500, seeds=1, walk=50, fit=400),
)

# %% [markdown]
# ## 1 · A task in which every part could matter
#
# Single digits of 8 × 8 pixels are too easy: in so small a picture everything is near everything. So here is a strip:
# two digits at its ends, chosen independently, and nothing between them. One thing they share: they are written
# **with the same ink**, one of seven.

# %%
images, labels = digits()
judge = train_digit_classifier()
images = images.to(b.device)
inks = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]]
inks = torch.tensor(inks, dtype=torch.float32, device=b.device)


def strips(n, generator):
    """n strips (n, 3, 8, 24) in [-1, 1]: two random digits, 8 columns apart, in one random ink."""
    where = dict(generator=generator, device=b.device)
    ink = inks[torch.randint(7, (n,), **where)][:, :, None, None]  # (n, 3, 1, 1)
    left, right = images[torch.randint(len(images), (2, n), **where)]  # (n, 1, 8, 8) each
    strip = torch.cat([left, -torch.ones_like(left), right], dim=3)  # (n, 1, 8, 24)
    return (strip + 1) * ink - 1  # (n, 3, 8, 24)


generator = torch.Generator(b.device).manual_seed(0)
examples = strips(16, generator)
viz.show_images(examples, "Strips from the training data: two digits, one ink", cols=4)

# %% [markdown]
# Now look at one strip at six levels of noise, and ask what a denoiser must be able to do.
#
# - At every level it must know **how strong the noise is**: the same grey speck is ink at one level and noise at
#   another.
# - At low levels (left) it must say **where exactly** each grain lies, to the pixel.
# - At high levels (right) all that is left of a digit is a faint tint. To be sure of the ink, it should look at
#   **both ends**.

# %%
schedule = NoiseSchedule(linear_betas(200)).to(b.device)
shown = torch.tensor([0, 20, 50, 80, 110, 140], device=b.device)
noise = torch.randn(6, 3, 8, 24, generator=generator, device=b.device)
noisy = q_sample(examples[1].expand(6, -1, -1, -1), shown, noise, schedule)
title = "One strip, more and more noise"
viz.show_images(noisy, title, cols=6, labels=[f"t = {t}" for t in shown.tolist()])

# %% [markdown]
# ## 2 · How strong is the noise?
#
# The level $t$ goes into the network as a number. Why not just feed it that number? Because of what networks find
# easy. A layer with a smooth activation turns nearby inputs into nearby outputs; that is its nature. But level 1 and
# level 10 call for quite different answers: between them the ratio of signal to noise falls by a factor of 19,
# between 501 and 510 by a tenth (a cell below prints both).
#
# ### Exercise 4.1: the level as a row of waves
#
# [Vaswani et al. (2017)](https://arxiv.org/abs/1706.03762) met the same problem with the position of a word in a
# sentence. Their answer works like a row of clock hands: one turns fast, one slower, the last hardly at all. Fast
# hands tell neighbouring levels apart, slow ones say roughly where we are. A hand at the angle $a$ has two
# coordinates, $\cos a$ and $\sin a$; with one alone we could not tell a rising hand from a falling one. The $n$
# angles are $t\,w_0, t\,w_1, \dots$:
#
# $$w_k = \texttt{max\_period}^{-k/n}, \qquad k = 0 \dots n - 1, \qquad n = \texttt{dim}/2$$
#
# First all cosines, then all sines. Make the numbers $k$ on the device of `t`, so that the function works on a GPU,
# too.

# %% piece="layers.timestep_embedding" exercise="4.1" points=2 minutes=10

# %% [markdown]
# Left, your embedding: each row is a level, each column a clock hand's coordinate, from fast to slow, cosines in the
# left half. Right: how alike two levels' rows are (their dot product, over its largest value). Look at the bright
# diagonal: a level is like its neighbours and fades into the distance, at all levels in the same way.

# %%
t = torch.arange(1000)
emb = timestep_embedding(t, 32)
fig, axes = plt.subplots(1, 2, figsize=(10, 3.2), width_ratios=[1.3, 1])
shades = axes[0].imshow(emb[:120], aspect="auto", cmap="RdBu", interpolation="nearest")
axes[0].set(title="The embedding of levels 0 to 119", xlabel="column", ylabel="level t")
fig.colorbar(shades, ax=axes[0])
shades = axes[1].imshow(emb @ emb.T / 16, cmap="magma")
axes[1].set(title="How alike two levels are", xlabel="level t", ylabel="level s")
fig.colorbar(shades, ax=axes[1])
plt.show()

# %% [markdown]
# Is it worth the trouble? Let a small network learn one curve that every denoiser must know: the logarithm of the
# signal-to-noise ratio at each level. It gets the level once as the number $t$, once as $t/T$, once as your
# embedding; all else is equal. Five networks for each, from different random weights: the picture shows one, the
# titles the median of the five errors.

# %%
long = NoiseSchedule(linear_betas(1000))
t, ratio = torch.arange(1, 1001), long.alpha_bar[1:] / (1 - long.alpha_bar[1:])
target = ratio.log()
print(f"from level 1 to 10 the ratio falls by a factor of {ratio[0] / ratio[9]:.1f}, ", end="")
print(f"from 501 to 510 by {ratio[500] / ratio[509]:.2f}")
forms = {"the number t": t[:, None].float(), "t / T": t[:, None] / 1000}
forms["your embedding"] = timestep_embedding(t, 32)
fig, axes = plt.subplots(1, 3, figsize=(11, 2.5), sharey=True)
fit_error = {}
for ax, (name, inputs) in zip(axes, forms.items()):
    errors = []
    for seed in range(5):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(inputs.shape[1], 128), nn.SiLU(), nn.Linear(128, 1))
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        for _ in range(b.fit):
            off = (net(inputs)[:, 0] - target).square().mean()
            optimizer.zero_grad()
            off.backward()
            optimizer.step()
        errors.append(off.item() ** 0.5)
        if seed == 0:
            ax.semilogx(t, target, lw=4, alpha=0.3, label="truth")
            ax.semilogx(t, net(inputs).detach()[:, 0], label="learnt")
    fit_error[name] = sorted(errors)[2]
    ax.set(title=f"{name}: error {fit_error[name]:.2f}", xlabel="level t")
    print(f"{name:15s}errors of the five: " + ", ".join(f"{error:.2f}" for error in sorted(errors)))
axes[0].set_ylabel("log of signal / noise")
axes[0].legend()
plt.show()

# %% [markdown]
# Given $t/T$, the network draws the right part and gives all levels below 50 nearly the same answer: the range from 0
# to 0.05 is too small for it to see. The raw number does much better, and is off at both ends; how far, is a matter of
# luck. With the embedding, the error is two to four times smaller, and the same for all five. In the U-Net two linear
# layers follow the embedding; the result, `emb`, goes to every block.
#
# ## 3 · The block that does the work
#
# ### Exercise 4.2: the residual block
#
# Most of the network is one kind of block, repeated. Its main branch is *norm, SiLU, convolution*, twice. Between the
# two halves the level comes in: a linear layer turns `emb` into two numbers per channel, a **scale** and a **shift**,
# so the level can turn each feature up, down or off:
#
# $$h \leftarrow \mathrm{norm}(h)\,(1 + \text{scale}) + \text{shift}$$
#
# And around it all runs a straight path: the block returns `skip(x)` *plus* what the branch made (He et al., 2016).
# `norm` is a GroupNorm: it gives each group of 8 channels mean 0 and variance 1, in each sample by itself, so that no
# sample depends on its neighbours in the batch.
#
# The layers are made in `__init__`. Write `forward`. `F.silu` is the activation, and `tensor.chunk(2, dim=1)` cuts a
# tensor in two along the channels.

# %% piece="layers.ResBlock" methods=["forward"] exercise="4.2" points=3 minutes=15

# %% [markdown]
# One detail of `__init__` deserves a picture: `zero_module` sets the last convolution to zero. So a new block returns
# its input, whatever else is in it. Stack 24 of them, and ask after each block how much of the input is left (the
# correlation of features with the input). Compare with blocks whose last convolution starts as PyTorch would have it,
# and with blocks without the straight path.


# %%
@torch.no_grad()
def correlation_with_input(kind, depth=24):
    torch.manual_seed(0)
    x, emb = torch.randn(8, 32, 8, 8), torch.randn(8, 64)
    h, left = x, [1.0]
    for _ in range(depth):
        block = ResBlock(32, 32, 64)
        if kind != "last convolution starts at zero":
            block.conv2 = nn.Conv2d(32, 32, 3, padding=1)
        h = block(h, emb) - (h if kind == "no straight path" else 0)
        left.append(torch.corrcoef(torch.stack([h.flatten(), x.flatten()]))[0, 1].item())
    return left


plt.figure(figsize=(6.5, 2.8))
for kind in ["last convolution starts at zero", "ordinary start", "no straight path"]:
    left = correlation_with_input(kind)
    plt.plot(left, label=f"{kind}: {left[-1]:.2f} after 24")
plt.title("What is left of the input in a stack of new blocks")
plt.xlabel("blocks")
plt.ylabel("correlation with the input")
plt.legend(loc="center right", bbox_to_anchor=(1, 0.28))
plt.show()

# %% [markdown]
# Without the straight path one block is enough to lose the input. With it, and an ordinary start, random features
# drown the input slowly. From zero, the network begins as a wire, and each block learns what to add to it. (Does a
# layer of zeros learn at all? Yes: the gradient with respect to its *weights* is the product of what comes in and
# what is asked of it, and neither is zero. Only the layers before it have to wait one step.)
#
# ## 4 · Looking far
#
# ### Exercise 4.3: self-attention
#
# A 3 × 3 convolution sees one pixel further in each direction. From one digit of our strip to the other, information
# would have to be handed on from convolution to convolution. **Attention** (Vaswani et al., 2017) goes there in one
# step. Each place sends out a question, the query $q$, and carries a label, the key $k$, and a message, the value
# $v$. A place compares its query with all keys, and takes the average of all values, weighted by how well they match:
#
# $$\mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt d}\right) V$$
#
# Why divide by $\sqrt d$? A sum of $d$ products of numbers of size 1 has a size of about $\sqrt d$. Undivided, the
# scores grow with $d$, and softmax picks one place and ignores the rest.
#
# Several **heads** do this side by side, each on its own $d$ channels, so that one can look for ink and another for
# edges. The 1 × 1 convolution `qkv` makes queries, keys and values in one go: of its $3C$ output channels, the first
# third is Q, then K, then V. For you to do: cut this up into heads, flatten the $H \times W$ places to one axis,
# attend, and put it all back. `rearrange` from einops does such reshaping in a line, for example
# `rearrange(x, "b (n d) h w -> b n (h w) d", n=heads)`; `reshape` and `transpose` do as well.
# `F.scaled_dot_product_attention(q, k, v)` computes the equation for `(.., places, d)`, and you may write it out
# yourself.

# %% piece="layers.SelfAttention" methods=["forward"] exercise="4.3" points=4 minutes=20

# %% [markdown]
# The formula contains no positions at all. Is that true of your layer? Shuffle the places of a picture before your
# attention and undo the shuffle afterwards: nothing should change. A convolution, which lives by neighbourhood, is
# there for comparison.

# %%
torch.manual_seed(0)
attention, conv = SelfAttention(32), nn.Conv2d(32, 32, 3, padding=1)
nn.init.normal_(attention.out.weight, std=0.2)
x, order = torch.randn(1, 32, 8, 24), torch.randperm(8 * 24)


def shuffled(x, order):
    return x.flatten(2)[:, :, order].reshape(x.shape)


shuffling_moves = {}
for name, layer in {"attention": attention, "convolution": conv}.items():
    straight, detour = layer(x), shuffled(layer(shuffled(x, order)), order.argsort())
    shuffling_moves[name] = ((detour - straight).abs().max() / straight.abs().max()).item()
    print(f"{name}: shuffling moves the result by {shuffling_moves[name]:.0e} of its size")

# %% [markdown]
# So attention by itself does not know left from right. Here that is harmless: the convolutions around it know what is
# next to what, and near the edges, where they see zeros beyond the picture, also where they are. (In chapter 10, for
# the order of frames, it will not be harmless.)
#
# Attention compares all places with all: $(HW)^2$ scores. That is cheap at low resolution and soon unaffordable at
# full. One more reason to make the picture smaller.
#
# ## 5 · Smaller, and larger again
#
# ### Exercise 4.4: half the size
#
# Let a convolution jump: with `stride=2` it computes every second output in each direction. (Pooling would do it,
# too; a convolution can learn *what* to keep.) Write both methods, and begin `__init__` with `super().__init__()`,
# which readies the module to hold layers.

# %% piece="layers.Downsample" methods=["__init__", "forward"] exercise="4.4" points=1 minutes=5

# %% [markdown]
# ### Exercise 4.5: twice the size
#
# The way back: each pixel becomes a 2 × 2 square, and a convolution smooths the edges. (The obvious alternative, a
# "transposed" convolution, treats even and odd pixels differently and leaves
# [checkerboards](https://distill.pub/2016/deconv-checkerboard/).) `F.interpolate` or `repeat_interleave` help.

# %% piece="layers.Upsample" methods=["forward"] exercise="4.5" points=1 minutes=5

# %% [markdown]
# Your two layers on a strip, with convolutions that just pass the middle pixel on: half the size keeps every second
# pixel, and doubling that gives squares. What was between them is gone. Remember this picture.

# %%
down, up = Downsample(3), Upsample(3)
for layer in (down, up):
    nn.init.dirac_(layer.conv.weight)
    nn.init.zeros_(layer.conv.bias)
fig, axes = plt.subplots(1, 3, figsize=(11, 1.6))
strip = examples[1:2].cpu()
with torch.no_grad():
    pictures = {"a strip": strip, "half": down(strip), "half, then doubled": up(down(strip))}
for ax, (name, picture) in zip(axes, pictures.items()):
    size = f"{picture.shape[2]} × {picture.shape[3]}"
    viz.show_images(picture, f"{name}: {size}", cols=1, ax=ax)
plt.show()

# %% [markdown]
# ## 6 · The U
#
# Now put it together. On the way **down**, the picture shrinks and the channels grow: fewer places, each of which
# knows more. In the **middle** is the widest view. On the way **up** it grows again. But we have just seen that
# halving loses detail, and a denoiser must name the noise of every single pixel! The way out is the idea that gives
# the U-Net its fame ([Ronneberger et al., 2015](https://arxiv.org/abs/1505.04597)): **skip connections**. Every
# feature map made on the way down is kept, and handed over to the block on the way up that works at the same size.
# These are the *kept maps*, and with them the detail need not pass through the bottom.
#
# A *stage* is one of your residual blocks, followed, where it attends, by your attention. It is given; here is how
# `minivdm/models/unet.py` writes it. (It runs your blocks once they have passed their checks. Words are for chapter 05.)

# %%
print(inspect.getsource(Stage))

# %% [markdown]
# ### Exercise 4.6: the whole network
#
# `__init__` makes the layers and is given; read it once. (Leave `context_dim` and `patch` aside, they are for later
# chapters; but hand `cond` on to `embedding` and to every `Stage`, as the docstring says.) It puts everything on the
# way down into the list `self.down` and everything on the way up into `self.up`. There is one stage on the way up for each map that is kept: those of all layers of `self.down`, and the stem's.
#
# Write `forward`. The maps wait on a stack: what was kept last is used first. A stage on the way up gets `h` and a
# kept map side by side, as one tensor with the channels of both (`torch.cat`). The lists also hold layers that only
# change the size; `isinstance(layer, Stage)` tells which is which.

# %% piece="unet.UNet" methods=["forward"] exercise="4.6" points=4 minutes=20

# %% [markdown]
# What your network does with a strip, recorded while it runs: each bar is a layer's result, its height the number of
# columns, the number on it its channels. The arcs join a kept map with the stage that uses it. Look for nested arcs,
# like brackets that open and close.


# %%
def record(net, x):
    """(name, columns, channels, channels of the input) for each feature map, in order."""
    maps, hooks = [], []

    def note(name):
        def hook(layer, inputs, output):
            maps.append((name, output.shape[3], output.shape[1], inputs[0].shape[1]))

        return hook

    layers = {"stem": net.stem, **{f"down {i}": m for i, m in enumerate(net.down)}}
    layers |= {"middle": net.middle, **{f"up {i}": m for i, m in enumerate(net.up)}}
    for name, layer in layers.items():
        hooks.append(layer.register_forward_hook(note(name)))
    with torch.no_grad():
        net(x, torch.ones(len(x), dtype=torch.long))
    for hook in hooks:
        hook.remove()
    return maps


net = UNet(in_channels=3, channels=32, blocks=1)
maps = record(net, examples[:1].cpu())
middle = [name for name, *_ in maps].index("middle")
waiting = list(range(middle))
plt.figure(figsize=(8, 3.2))
for i, (_, columns, channels, entering) in enumerate(maps):
    side = "C0" if i < middle else "C3" if i == middle else "C1"
    plt.bar(i, columns, color=side, alpha=0.7)
    plt.text(i, columns / 2, f"{channels}", ha="center", va="center")
    if i > middle and entering > maps[i - 1][2]:  # more came in than the layer before had made
        start_at = waiting.pop()
        angle = torch.linspace(0, math.pi, 50)
        centre, radius = (start_at + i) / 2, (i - start_at) / 2
        height = 26 + 1.6 * radius * angle.sin()
        plt.plot(centre - radius * angle.cos(), height, "k", lw=0.8)
plt.xticks(range(len(maps)), [name for name, *_ in maps], rotation=45, ha="right")
plt.yticks([0, 12, 24])
plt.title("The feature maps of your U-Net: columns (height), channels (number), kept maps (arcs)")
plt.ylabel("columns")
plt.show()

# %% [markdown]
# And where are the parameters? Counted by kind of part, two thirds are convolutions in residual blocks; attention is
# the small part that you can see:

# %%
parts = {"convolutions of the blocks": 0, "level: scale, shift, embedding": 0, "attention": 0}
for name, parameter in net.named_parameters():
    kind = "halving, doubling, stem, head, norms"
    if ".conv1" in name or ".conv2" in name or ".skip" in name:
        kind = "convolutions of the blocks"
    elif ".emb" in name or name.startswith("embed"):
        kind = "level: scale, shift, embedding"
    elif ".attention" in name:
        kind = "attention"
    parts[kind] = parts.get(kind, 0) + parameter.numel()
total = sum(parts.values())
for kind, count in parts.items():
    print(f"{kind:38s}{count:9,d}{count / total:8.0%}")
print(f"{'in all':38s}{total:9,d}")

# %% [markdown]
# ### How far does an output pixel see?
#
# That can be measured: the gradient of one output pixel with respect to the input says which input pixels matter to
# it, and how much. We take untrained networks without attention (with random numbers where zeros stand at first), on
# a long strip of 96 columns, and look at column 48. Look at two things: how far the curves reach, and the floor that
# they settle on.


# %%
def without_attention(net):
    """The same network, in which no stage attends."""
    for module in net.modules():
        if isinstance(module, Stage):
            module.attention = nn.Identity()
    return net


def without_norms(net):
    """The same network, with the identity in the place of each GroupNorm."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())
    return net


def influence(mults, change):
    """How much each of 96 columns of the input matters to a pixel in column 48, at most 1."""
    torch.manual_seed(0)
    net = without_attention(UNet(channels=32, mults=mults, blocks=1))
    for parameter in net.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    x = torch.randn(8, 1, 8, 96, requires_grad=True)
    change(net)(x, torch.ones(8, dtype=torch.long))[:, 0, 4, 48].sum().backward()
    columns = x.grad.abs().sum(dim=(0, 1, 2))  # (96,)
    return columns / columns.max()


fig, axes = plt.subplots(1, 2, figsize=(10, 2.8), sharey=True)
reach = {}
for mults in [(1,), (1, 2), (1, 2, 2)]:
    sizes = f"{len(mults)} size{'s' * (len(mults) > 1)}"
    for ax, change in zip(axes, [without_norms, lambda net: net]):
        columns = influence(mults, change)
        ax.semilogy(columns.clamp(min=1e-9), label=sizes)
        reach[len(mults), ax is axes[1]] = columns
    inside = int((reach[len(mults), False] > 0).nonzero().max()) - 48
    print(f"{sizes}, convolutions alone: a pixel sees {inside} columns to the right of it")
for ax, name in zip(axes, ["Convolutions alone", "With GroupNorm, as it is"]):
    ax.set(title=name, xlabel="column of the input", ylim=(1e-8, 2))
axes[0].set_ylabel("influence on column 48")
axes[1].legend(loc="lower center")
plt.show()
far = reach[2, True][[24, 72]].mean().item()
near = reach[2, False][64].item()
print(f"two sizes, convolutions alone: {near:.0e} of the largest influence 16 columns away")
print(f"two sizes, with GroupNorm: {far:.1%} of it even 24 columns away")

# %% [markdown]
# With one size only, a pixel sees 10 columns, and never the other digit. Halving the picture makes it 26: the same 3
# × 3 convolution spans twice the distance. But what it *could* see is not what it does see: 16 columns away, where
# the other digit is, the influence has fallen to a few hundred-thousandths. And the right picture holds a surprise.
# The norms look at whole feature maps, so through them everything hears of everything, if only as a murmur. Keep that
# in mind when attention is taken out.
#
# ## 7 · Averaging the weights
#
# The last piece is not part of the network. Training never comes to rest: each batch pulls the weights somewhere
# else, and with a learning rate that stays as it is, they end up trembling around a good place. An average over the
# recent past is closer to that place than any single moment.
#
# ### Exercise 4.7: the exponential moving average
#
# After each step, the average goes a small part of the way, $1 - d$, towards the present weights:
# $\text{average} \leftarrow d\,\text{average} + (1-d)\,\text{weights}$. With $d = 0.99$ it remembers about the last
# 100 steps. At first that would be too long a memory: the random start would stay in it. So $d$ begins small, and
# grows with the number of updates $n$ made so far: $d = \min\big(\text{decay}, \frac{1 + n}{10 + n}\big)$.
# Keep $n$ in `self.updates`, and add one each time.
#
# `self.model` is the averaged copy; loop over its `parameters()` and those of `model` with `zip`, and change them in
# place. Copy the `buffers()` (numbers that are no weights, such as running statistics) as they are.

# %% piece="ema.EMA" methods=["update"] exercise="4.7" points=2 minutes=10

# %% [markdown]
# Your average at work, on a "network" of one weight: it starts at -3, the best value is 1, and every step is blurred
# by noise. For comparison, the same decay without the small first $d$. The picture shows one run. The numbers are from
# 200 runs side by side: the root mean square distance from 1, early (steps 50 to 150) and late (after step 400).

# %%
torch.manual_seed(0)
weight = nn.Linear(1, 200, bias=False)  # 200 runs of one weight
nn.init.constant_(weight.weight, -3.0)
ema, plain = EMA(weight, decay=0.99), torch.full((200, 1), -3.0)
curves = {"the weight": [], "your average": [], "decay 0.99 from the start": []}
for _ in range(600):
    with torch.no_grad():
        weight.weight -= 0.05 * (weight.weight - 1 + 3 * torch.randn(200, 1))
    ema.update(weight)
    plain = 0.99 * plain + 0.01 * weight.weight.detach()
    for curve, value in zip(curves.values(), [weight.weight, ema.model.weight, plain]):
        curve.append(value.detach().flatten().clone())
plt.figure(figsize=(8, 2.8))
for (name, curve), width in zip(curves.items(), [0.5, 2, 2]):
    curve = torch.stack(curve)  # (steps, runs)
    early, late = ((part - 1).square().mean().sqrt() for part in (curve[50:150], curve[400:]))
    plt.plot(curve[:, 0], lw=width, label=f"{name}: {early:.2f} early, {late:.2f} late")
plt.axhline(1, color="k", lw=0.5)
plt.title("A weight in noisy training, its averages, and how far they are off")
plt.xlabel("step")
plt.legend(loc="lower right")
plt.show()

# %% [markdown]
# Late, both averages are much closer to 1 than the weight itself, and equally so. The small first $d$ is for the
# beginning: without it, the average is still on its way from -3 when the weight has long arrived.
#
# ## 8 · Which way to step?
#
# A network learns by steps along gradients. What does such a gradient look like? Take a layer's weights as a matrix
# with a row for each output: a convolution's (out, in, 3, 3) become (out, 9 in). Its gradient $G$ is a matrix of the
# same shape, and every matrix is a sum of *directions*, each a column $u_i$ times a row $v_i^\top$, at right angles
# to one another:
#
# $$G = U S V^\top = \sum_i s_i\, u_i v_i^\top$$
#
# A direction says: "when the input looks like $v_i$, the output should have more of $u_i$". The **singular value**
# $s_i$ says how loudly. Here is a new network after 60 steps of training, and the singular values of its gradients.
# Look at how steeply the curves fall. The blue one is for AdamW, the usual optimiser: it divides each *entry* of the
# gradient by its usual size. So at first it steps along the entries' signs, plus or minus 1.


# %%
def batch(generator):
    return strips(b.batch, generator), None


def new_net(seed, kind=UNet):
    """A network for strips with fresh weights, on the device."""
    torch.manual_seed(seed)
    net = kind(in_channels=3, channels=b.channels, blocks=1)
    return net.to(b.device, memory_format=torch.channels_last)  # faster convolutions


net = new_net(seed=0)
for _ in train(net, EMA(net), batch, schedule, min(b.race, 60), lr=2e-3, warm_up=30):
    pass
net.zero_grad()
diffusion_loss(net, strips(4 * b.batch, generator), schedule, generator=generator).backward()
gradients = [weight.grad.flatten(1) for weight in hidden_weights(net)]  # (out, rest) each
gradient = net.middle.block.conv1.weight.grad.flatten(1)


def shares(matrix):
    """Its singular values, the largest first, as shares of its norm."""
    return torch.linalg.svdvals(matrix.float()).cpu() / matrix.norm().cpu()


def loud(matrix):
    """How many directions hold 90% of the squared norm."""
    return int((shares(matrix).square().cumsum(0) < 0.9).sum()) + 1


plt.figure(figsize=(6.5, 2.8))
for matrix in gradients:
    plt.semilogy(torch.linspace(0, 1, min(matrix.shape)), shares(matrix), "0.6", lw=0.5)
position = torch.linspace(0, 1, min(gradient.shape))
plt.semilogy(position, shares(gradient), "C1", lw=2.5, label="a convolution in the middle")
plt.semilogy(position, shares(gradient.sign()), "C0", lw=2.5, label="the signs of its entries")
plt.ylim(1e-4, 1)
plt.title("The gradients of all hidden layers: their singular values")
plt.xlabel("direction, from the loudest (0) to the faintest (1)")
plt.ylabel("share of the norm")
plt.legend(loc="lower left")
plt.show()
middle = sorted(map(loud, gradients))[len(gradients) // 2]
print("directions that hold 90% of the squared norm:")
print(f"  the convolution {loud(gradient)} of {min(gradient.shape)}, ", end="")
print(f"its signs {loud(gradient.sign())}; median of all {len(gradients)} layers {middle}")

# %% [markdown]
# A few directions are loud, and most others are 10 to 1,000 times fainter. A step along $G$ is a step in the loud ones,
# and what the faint ones would teach has to wait. The signs are better, but entries are not directions: the loudest
# still has about ten times the share of the faintest.
#
# So make the *directions* alike: keep all of them, and let them be equally loud. Instead of $U S V^\top$, step along
#
# $$U V^\top$$
#
# That is the idea of **Muon** ([Jordan et al., 2024](https://kellerjordan.github.io/posts/muon/)). A singular value
# decomposition for each layer at each step would be slow, above all on a GPU, which is made for products of matrices
# (there is a clock in a cell below). But look at what such a product does. The columns of $U$ and those of $V$ are at right angles, so that $U^\top U = V^\top V = 1$, and
#
# $$X X^\top X = (U S V^\top)(V S U^\top)(U S V^\top) = U S^3 V^\top$$
#
# The cube acts **on the singular values alone**. So does every sum of odd powers. We want a polynomial that moves each
# $s$ between 0 and 1 towards 1, if we apply it again and again. The classic one (Newton and Schulz) is
# $1.5\,s - 0.5\,s^3$: it stays at 1 once it is there. But a small $s$ grows by a factor of 1.5 only. Jordan's has a
# fifth power, too, and is as steep at 0 as could be found: $3.4445\,s - 4.7750\,s^3 + 2.0315\,s^5$.

# %%
def classic(s):
    return 1.5 * s - 0.5 * s**3


def quintic(s):
    a, b, c = COEFFICIENTS
    return a * s + b * s**3 + c * s**5


fig, axes = plt.subplots(1, 2, figsize=(10, 2.8), sharey=True)
for polynomial, name in [(classic, "classic, third power"), (quintic, "Muon's, fifth power")]:
    s = torch.linspace(0, 1, 200)
    axes[0].plot(s, polynomial(s), label=name)
    start = after = torch.logspace(-4, 0, 400)
    for _ in range(5):
        after = polynomial(after)
    axes[1].semilogx(start, after, label=name)
axes[1].axvline(0.003, color="k", ls=":", lw=1)
axes[0].set(title="Once", xlabel="singular value s", ylabel="what becomes of it")
axes[1].set(title="Five times (dotted: s = 0.003)", xlabel="singular value s")
axes[0].legend()
plt.show()

# %% [markdown]
# On the right, look at the small values. After five times the classic polynomial has lifted nothing below 0.1 to
# where it belongs. Muon's has lifted all from 0.003 on to between 0.68 and 1.21. It never comes to rest at 1, but a
# step that is a little longer in one direction than in another does no harm.
#
# ### Exercise 4.8: singular values near 1
#
# Now write it: `orthogonalized` takes a matrix, or a whole stack, to nearly $U V^\top$, without ever knowing $U$, $S$
# or $V$. Three things to think about:
#
# - The polynomial is made for $s$ between 0 and 1. The **Frobenius norm** of a matrix, the root of the sum of its
#   squared entries, is also the root of the sum of all $s_i^2$. So after division by it, no $s_i$ is above 1. Add
#   `EPS` to it: for a layer that learns nothing at the moment, the gradient is zero, and should stay so.
# - $s^3$ is a product of three matrices. What is $s^5$? Few products are enough: $X X^\top$ is needed again and again.
# - $X X^\top$ is (R, R), and $X^\top X$ is (C, C). Either leads to the same result. If one side is much longer than
#   the other, which one is cheaper? (`x.mT` transposes the last two axes, in a stack, too.)

# %% piece="muon.orthogonalized" exercise="4.8" points=3 minutes=20

# %% [markdown]
# Your function on two gradients of the network above: the convolution, and the queries, keys and values of the
# attention beside it. Grey is the band between 0.68 and 1.21. Look for what lies outside of it. The clock says how long
# yours takes, and a decomposition of the same matrix; last for a large one, of random numbers.


# %%
def now():
    """Seconds, when all that was asked of the device is done."""
    if b.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def milliseconds(call, times=5):
    """How long a call takes, on average, after a first one that does not count."""
    call()
    start = now()
    for _ in range(times):
        call()
    return 1000 * (now() - start) / times


attention = net.middle.attention.qkv.weight.grad.flatten(1)
fig, axes = plt.subplots(1, 2, figsize=(10, 2.8), sharey=True)
reached = {}
for ax, (name, matrix) in zip(axes, {"convolution": gradient, "attention": attention}.items()):
    before, after = shares(matrix), torch.linalg.svdvals(orthogonalized(matrix)).cpu()
    reached[name] = after[: int((before >= 0.003).sum())]
    ax.axhspan(0.68, 1.21, color="0.85")
    ax.axhline(1, color="k", lw=0.8, label="exact")
    ax.semilogy(before, "o-", ms=3, label="before")
    ax.semilogy(after, "o-", ms=3, label="after yours")
    below = int((before < 0.003).sum())
    ax.set(title=f"{name}: {below} of {len(before)} began below 0.003", xlabel="direction")
    ax.set_ylim(1e-5, 2)
axes[0].set_ylabel("singular value")
axes[0].legend(loc="lower left")
plt.show()
for matrix in [gradient, attention, torch.randn(512, 1024, device=b.device)]:
    mine = milliseconds(lambda: orthogonalized(matrix))
    exact = milliseconds(lambda: torch.linalg.svd(matrix, full_matrices=False))
    print("{} x {}: ".format(*matrix.shape), end="")
    print(f"{mine:.2f} ms, by a decomposition {exact:.2f} ms")

# %% [markdown]
# What began at 0.003 or above is in the band; what was fainter is on its way. And all that without a decomposition. (On
# a CPU, a decomposition takes one to three times as long; the gap is wide on a GPU.)
#
# ### Muon's step
#
# The rest is given (`minivdm/training/muon.py`). The gradient $g$ of one batch is noisy, so Muon takes a running mean
# $m$, as other optimisers do, and looks one step ahead (Nesterov); then it makes the directions equal:
#
# $$m \leftarrow \mu m + (1 - \mu)\, g \qquad u = \mu m + (1 - \mu)\, g \qquad
# W \leftarrow W - \eta\, \sqrt{\max(1, R / C)}\;\mathrm{orthogonalized}(u)$$
#
# - The root is for tall matrices. All steps have directions of length 1, but with few inputs and many outputs each
#   output would move little.
# - The **learning rate** $\eta$ is about ten times AdamW's. AdamW moves each *entry* by about $\eta$, Muon each
#   *direction*; the entries of $U V^\top$ are smaller than 1 by the root of the longer side.
# - It is **for hidden layers**, whose weights turn one vector into another. Biases and the scales of norms are no
#   matrices. An *embedding* is a table: each row is a word of its own, and a batch without that word should leave it
#   alone. The *last layer* gives the picture's three channels: it has too few directions, and how loud they are
#   matters. All these stay with AdamW.
#
# Does it pay? Training of the whole network from the same three starts, on the same batches, with either optimiser,
# each at the learning rate that suited it best here. All that Muon adds is five iterations for each layer, so a step
# takes longer. **Write down a guess:** how much longer? And how many of AdamW's steps, and how much of its time, does
# Muon need to get to the loss at which AdamW ends?

# %%
RATES = {"adamw": 4e-3, "muon": 4e-3}  # Muon's own is ten times as large


def race(optimizer, seed):
    """The losses of a training, and the seconds of a step.

    The first three are not counted: on a GPU, they compile and record kernels.
    """
    net, losses = new_net(seed), []
    options = dict(lr=RATES[optimizer], optimizer=optimizer, warm_up=30, cuda_graph=True)
    for step, loss in train(net, EMA(net), batch, schedule, b.race, seed=seed, **options):
        losses.append(loss)
        if step == 3:
            start = now()
    return torch.stack(losses).cpu(), (now() - start) / (b.race - 3)


runs = {optimizer: [] for optimizer in RATES}
for seed in range(3):
    for optimizer in RATES:  # in turns, so that what else the machine does hits both alike
        runs[optimizer].append(race(optimizer, seed))
curves, step_seconds = {}, {}
for optimizer, found in runs.items():
    losses = torch.stack([losses for losses, _ in found])  # (seeds, steps)
    curves[optimizer] = losses.unfold(1, b.race // 10, 1).mean(2)  # a running mean
    step_seconds[optimizer] = sorted(seconds for _, seconds in found)[1]  # the median
steps = torch.arange(b.race // 10, b.race + 1)
fig, axes = plt.subplots(1, 2, figsize=(10, 3), sharey=True)
for color, (optimizer, curve) in zip(["C0", "C1"], curves.items()):
    for ax, unit in zip(axes, [1, step_seconds[optimizer]]):
        ax.semilogy(steps * unit, curve.T, color, lw=0.6)
        ax.semilogy(steps * unit, curve.mean(0), color, lw=2.5, label=optimizer)
axes[0].set(title="By steps", xlabel="step", ylabel=f"loss, mean of {b.race // 10} steps")
axes[1].set(title="By time", xlabel="seconds")
axes[0].set_yticks([0.05, 0.1, 0.2, 0.5, 1], ["0.05", "0.1", "0.2", "0.5", "1"])
axes[0].minorticks_off()
axes[0].legend()
plt.show()

ends = {optimizer: curve[:, -1] for optimizer, curve in curves.items()}
for optimizer, end in ends.items():
    print(f"{optimizer:6s}{1000 * step_seconds[optimizer]:7.1f} ms a step; ", end="")
    print("loss at the end " + ", ".join(f"{loss:.4f}" for loss in end))
caught = curves["muon"].mean(0) <= ends["adamw"].mean()
needs = int(steps[caught][0]) if caught.any() else None
longer = step_seconds["muon"] / step_seconds["adamw"]
print(f"a step of Muon takes {longer:.2f} times as long")
if needs:
    print(f"where AdamW ends, Muon is after {needs / b.race:.0%} of the steps, ", end="")
    print(f"and {needs * longer / b.race:.0%} of the time")

# %% [markdown]
# Thin lines are single seeds, thick ones their mean; batches and noise of one step are the same for both. Compare
# your guess with the printed numbers. Step for step Muon is ahead once the first tens of steps are over, and the lines
# of the three seeds do not mix. What a step costs more is a small part of what that saves. (How much more, depends on
# the machine and on the batch: the iterations cost the same for one strip as for a thousand.)
#
# Two cautions. A loss is not a picture; the next section looks at those. And this is one network of one size, in a
# short training, with a learning rate that does not fall. Later chapters train with Muon. The rest of this one stays
# with AdamW, and there is a lesson in why: an ablation asks what a part is worth *to one way of training*. With Muon,
# in fewer steps, the network without attention does what it does here only with: it paints both digits in one ink
# (in 99.0 to 99.8% of the strips, three seeds on a GPU). Whoever learns better needs less help.
#
# ## 9 · What breaks without it?
#
# Now the experiment that this chapter is about. Four networks, made of your pieces, trained on the strips from the
# same seed, with the same batches and noise:
#
# - **whole**: your U-Net;
# - **no level**: it is always told level 0. It has to guess the noise from the picture;
# - **no skips**: the stages on the way up see zeros in the place of the kept maps. All must pass through the bottom;
# - **no attention**: stages end after the residual block.
#
# The first three have the same number of parameters; without attention there are a tenth fewer. **No average** needs
# no training of its own: these are the raw weights of the whole network. What do you expect? Write down a guess for
# each.


# %%
class NoLevel(UNet):
    def embedding(self, x, t, cond):
        return super().embedding(x, torch.zeros_like(t), cond)


def only_first(channels):
    """A hook that lets a block see these first channels of its input, and zeros in the others."""

    def hook(block, inputs):
        x, emb = inputs
        return torch.cat([x[:, :channels], torch.zeros_like(x[:, channels:])], dim=1), emb

    return hook


def without_skips(net):
    """The same network, in which the way up sees zeros in the place of the kept maps."""
    own = net.middle.block.conv2.out_channels  # of what comes from below
    for stage in net.up:
        if isinstance(stage, Stage):
            stage.block.register_forward_pre_hook(only_first(own))
            own = stage.block.conv2.out_channels
    return net


def train_one(kind):
    """Train a network of this kind on strips; the averaged and the raw network, six times."""
    net = new_net(seed=0, kind=NoLevel if kind == "no level" else UNet)
    change = {"no skips": without_skips, "no attention": without_attention}.get(kind)
    net = change(net) if change else net
    ema, kept, losses = EMA(net, decay=0.99), {}, []
    for step, loss in train(net, ema, batch, schedule, b.steps, lr=2e-3, cuda_graph=True):
        losses.append(loss)
        if step % (b.steps // 10) == 0 and step >= b.steps // 2:
            kept[step] = copy.deepcopy(ema.model), copy.deepcopy(net).eval()
    return kept, torch.stack(losses).cpu()


nets = {}
for kind in ["whole", "no level", "no skips", "no attention"]:
    kept, losses = train_one(kind)
    nets[kind], raw = kept[b.steps]
    if kind == "whole":
        nets["no average"], on_the_way = raw, kept
    parameters = sum(p.numel() for p in nets[kind].parameters())
    print(f"{kind:14s}{parameters:9,d} parameters, last losses {losses[-50:].mean():.4f}")

# %% [markdown]
# The loss is an average over all levels. It pays to take it apart: the error in the guessed noise at each level, on
# strips made afresh, the same for all networks. 1 would be the error of always guessing zero.

# %%
levels = [1, 2, 3, 5, 8, 12, 18, 26, 36, 50, 70, 90, 110, 130, 150, 175, 200]
generator = torch.Generator(b.device).manual_seed(1)
clean = strips(4 * b.batch, generator)
noise = torch.randn(clean.shape, generator=generator, device=b.device)
by_level = {kind: [] for kind in nets}
with torch.no_grad():
    for level in levels:
        t = torch.full((len(clean),), level, device=b.device)
        x_t = q_sample(clean, t, noise, schedule)
        for kind, net in nets.items():
            by_level[kind].append((net(x_t, t) - noise).square().mean().item())
fig, axes = plt.subplots(1, 2, figsize=(10, 3))
for kind, errors in by_level.items():
    axes[0].loglog(levels, errors, label=kind)
    times = [error / best for error, best in zip(errors, by_level["whole"])]
    axes[1].loglog(levels, times, label=kind)
axes[0].set(title="Error of the guessed noise", xlabel="level t", ylabel="mean squared error")
axes[1].set(title="... as a multiple of the whole network's", xlabel="level t")
axes[1].set_yticks([1, 1.5, 2, 3, 5], ["1", "1.5", "2", "3", "5"])
axes[1].minorticks_off()
axes[0].legend(fontsize=8)
plt.show()
at = torch.tensor(levels, dtype=torch.float32)
mean_error = {k: torch.trapezoid(torch.tensor(v), at).item() / 199 for k, v in by_level.items()}

# %% [markdown]
# Two surprises. Without its sense of the level, the network is at most about a tenth worse at most levels: evidently it
# can read the strength of the noise off the picture. (The empty paper between the digits should help.) And without
# attention it is no worse at all: that curve lies on the one of the whole network, or even a little below.
#
# Skip connections matter most at the highest levels. There the picture is nearly all noise, so the right answer is
# nearly the picture itself, pixel by pixel. With skips it is handed straight across; without, all of it must be
# carried through the bottom.
#
# Judged by the loss, we might throw out the level, and certainly attention. So let the networks draw. All start from
# the same noise; 50 steps of your DDPM sampler. Look for three things: strips that never lose their noise, paper that
# is not black, and digits of different ink.


# %%
def draw(net, n, seed):
    generator = torch.Generator(b.device).manual_seed(seed)
    noise = torch.randn(n, 3, 8, 24, generator=generator, device=b.device)
    walk = sampling_levels(schedule.T, b.walk)
    return ddpm_sample(net, noise, schedule, walk, clip_x0=True, generator=generator).cpu()


samples = {}
for kind, net in nets.items():
    samples[kind] = [draw(net, b.samples, seed) for seed in range(b.seeds)]
samples["real"] = [strips(b.samples, generator).cpu() for _ in range(b.seeds)]
fig, axes = plt.subplots(6, 1, figsize=(9, 5.5))
for ax, kind in zip(axes, ["real", *nets]):
    viz.show_images(samples[kind][0][:8], kind, cols=8, ax=ax)
plt.show()

# %% [markdown]
# Now in numbers. A judge who knows only real digits (a small classifier, as in chapter 01) and simple counts tell us:
#
# - **loss**: the mean error of the guessed noise over all levels;
# - **sureness**: how sure the judge is of the digits, colours aside;
# - **same ink**: the share of strips whose two digits have the same of the seven inks;
# - **rarest**: the share of the rarest ink; at best 14%, one in seven;
# - **dirt**: how far the empty paper between the digits is from black;
# - **mini-FID**: the Fréchet distance between the judge's features of samples and of real strips, taken in each of
#   the three colour channels with both ends side by side, and averaged. The row "real" says what is possible with so
#   few samples.


# %%
def ink_of(ends):
    """Which of the seven inks: the colour of the eight brightest pixels."""
    colour = (ends.clamp(-1, 1) + 1).flatten(2).topk(8).values.mean(2)  # (n, 3)
    colour = colour / colour.amax(dim=1, keepdim=True).clamp(min=0.05)
    return torch.cdist(colour, inks.cpu()).argmin(1)


def features(x):
    """What the judge sees in each colour channel, left and right side by side: 3 x (n, 128)."""
    ends = x[..., :8], x[..., -8:]
    both = [[judge.features(end[:, c : c + 1]) for end in ends] for c in range(3)]
    return [torch.cat(pair, dim=1) for pair in both]


def measure(x):
    """The numbers of the table for strips x."""
    ends = torch.cat([x[..., :8], x[..., -8:]])  # (2n, 3, 8, 8)
    ink = ink_of(ends).reshape(2, -1)
    sure = judge(ends.amax(dim=1, keepdim=True)).softmax(1).amax(1)
    distances = [frechet_distance(mine, true) for mine, true in zip(features(x), truth)]
    rarest = torch.bincount(ink.flatten(), minlength=7).min().item() / ink.numel()
    same = (ink[0] == ink[1]).float().mean().item()
    dirt = (x[..., 8:16] + 1).abs().mean().item()
    fid = sum(distances) / 3
    return dict(sure=sure.mean().item(), same=same, rarest=rarest, dirt=dirt, fid=fid)


truth = features(strips(4000, generator).cpu())
result = {}
heads = ["loss", "sureness", "same ink", "rarest", "dirt", "mini-FID"]
print(" " * 14 + "".join(f"{head:>10s}" for head in heads))
for kind, sets in samples.items():
    each = [measure(x) for x in sets]
    result[kind] = r = {key: sum(m[key] for m in each) / len(each) for key in each[0]}
    loss = f"{mean_error[kind]:10.4f}" if kind in nets else " " * 10
    line = f"{r['sure']:10.3f}{r['same']:10.1%}{r['rarest']:10.1%}{r['dirt']:10.3f}{r['fid']:10.0f}"
    print(f"{kind:14s}{loss}{line}")

# %% [markdown]
# Row by row, beside the pictures. (Each network was trained once, and how large a number is depends on the budget and on
# luck. The last cell asserts the main points.)
#
# - **No level:** the loss was hardly higher, and the samples are ruined. Several strips stay noise to the end. In
#   training the network saw only noise of exactly the strength that some level has. While sampling, small errors lead
#   to pictures that belong to no level; a likely reason for the ruin is that it then misjudges the noise, takes off
#   too little, and is further off in the next step. Told the level, it cannot be fooled in that way. (Larger pictures
#   have more pixels from which to read the level, and [Sun et al. (2025)](https://arxiv.org/abs/2502.13129) found
#   that most networks do well without being told. Ours are small.)
# - **No skips:** the digits are blurred and the paper is dirty. There would be room at the bottom: it holds more
#   numbers than the strip. But the network would have to learn to pack all detail into them and to unpack it again,
#   and a short training is not enough for that.
# - **No attention:** the digits are as good as those of the whole network. But in one strip of five (`cpu`), or of
#   fifteen (`gpu`, where the network is larger), the inks differ! (Drawn independently, they would agree in one of seven.
#   So convolutions and norms do carry something across, only not reliably.)
# - **No average:** the digits look fine one by one, but the mini-FID rises. Part of it is the choice of inks: the
#   weights of one moment lean towards some of them, and the rarest becomes rarer still.
#
# And no single number saw all of it. The loss missed attention and belittled the level; the mini-FID missed
# attention. (Chapter 13 is about such blind spots.)
#
# Was the last row bad luck, a bad last step? Here are six moments of the same training, each with the average and the
# raw weights.

# %%
half_way = {"average": [], "raw weights": []}
for pair in on_the_way.values():
    for curve, net in zip(half_way.values(), pair):
        curve.append(measure(draw(net, b.samples, seed=0))["fid"])
plt.figure(figsize=(6.5, 2.4))
for name, curve in half_way.items():
    mean = sum(curve) / len(curve)
    plt.plot(list(on_the_way), curve, "o-", label=f"{name}: {mean:.0f} on average")
plt.ylim(bottom=0)
plt.title("Samples from the whole network at six moments of its training")
plt.xlabel("step")
plt.ylabel("mini-FID")
plt.legend()
plt.show()

# %% [markdown]
# The raw weights are worse, on average over these moments, and they jump from one to the next; the average goes down with
# few relapses. It costs one line per step.

# %% [markdown]
# ### Looking into the networks
#
# How does the ink get across? First the measurement of before, now on the trained networks: how much does each input
# pixel matter to the noise that is guessed at one place in the right digit, the cross? The strips are noised to level
# 100. Note the logarithmic scale.

# %%
level = torch.full((64,), 100, device=b.device)
noise = torch.randn(64, 3, 8, 24, generator=generator, device=b.device)
x_t = q_sample(strips(64, generator), level, noise, schedule)
fig, axes = plt.subplots(2, 1, figsize=(6.5, 4.2), layout="constrained")
share = {}
for ax, kind in zip(axes, ["whole", "no attention"]):
    x = x_t.clone().requires_grad_()
    nets[kind](x, level)[:, :, 4, 20].sum().backward()
    heat = x.grad.abs().mean(dim=(0, 1)).cpu()  # (8, 24)
    share[kind] = (heat[:, :8].sum() / heat.sum()).item()
    shades = ax.imshow(heat / heat.max(), cmap="magma", norm=LogNorm(1e-3, 1))
    ax.plot(20, 4, "+", color="C2", ms=10, mew=2)
    ax.set_title(f"{kind}: {share[kind]:.1%} of the influence comes from the left")
    ax.axis("off")
fig.colorbar(shades, ax=axes, label="influence, largest = 1")
plt.show()

# %% [markdown]
# One might expect the left end of the lower picture to be dark. It is not: without attention, too, the network has
# learnt to listen to the other digit, through long chains of convolutions and the murmur of the norms, and the share
# of influence is nearly the same. So ask a sharper question. A gradient says how much a pixel matters; but does the
# network *understand* what it hears? Take noisy strips, exchange the left digit for that of another strip, which
# mostly has another ink, and see how the guess at the right end changes.

# %%
exchanged = {"whole": [], "no attention": []}
asked = [20, 40, 60, 80, 100, 120, 140, 160]
clean = strips(4 * b.batch, generator)
noise = torch.randn(clean.shape, generator=generator, device=b.device)
with torch.no_grad():
    for t in asked:
        t = torch.full((len(clean),), t, device=b.device)
        x = q_sample(clean, t, noise, schedule)
        other = torch.cat([x.roll(1, dims=0)[..., :8], x[..., 8:]], dim=3)
        for kind, curve in exchanged.items():
            change = (nets[kind](other, t) - nets[kind](x, t))[..., 16:]
            curve.append(change.square().mean().sqrt().item())
plt.figure(figsize=(6.5, 2.4))
for kind, curve in exchanged.items():
    plt.plot(asked, curve, "o-", label=kind)
plt.ylim(bottom=0)
plt.title("How the guess at the right changes when the left digit is exchanged")
plt.xlabel("level t")
plt.ylabel("root mean square")
plt.legend()
plt.show()

# %% [markdown]
# Now there is a difference: up to level 100 the network with attention takes the left digit much more into account,
# up to about twice as much. (Higher up, neither of them can see an ink yet.)
#
# Last, the attention weights themselves. At level 100 few people would see a digit in these strips. Below each strip:
# where a place in the right digit looks, in the middle stage of the whole network (4 × 12 places; the mean over
# heads). `attention_weights` runs the network, and works out $\mathrm{softmax}(QK^\top/\sqrt d)$ for one layer.

# %%
attention = nets["whole"].middle.attention
weights = attention_weights(attention, lambda: nets["whole"](x_t, level))  # (B, heads, HW, HW)
weights = weights.mean(dim=1)  # (B, HW, HW)
place = 2 * 12 + 10  # row 2, column 10 of 4 x 12: in the right digit
fig, axes = plt.subplots(2, 4, figsize=(11, 2.4))
for i in range(4):
    viz.show_images(x_t[i : i + 1].cpu(), "", cols=1, ax=axes[0, i])
    axes[1, i].imshow(weights[i, place].reshape(4, 12).cpu(), cmap="magma", vmin=0)
    axes[1, i].plot(10, 2, "+", color="C2", ms=10, mew=2)
    axes[1, i].axis("off")
axes[0, 0].set_title("Strips at level 100, and where the cross looks, in the middle of the network")
plt.show()
to_left = weights[:, place].reshape(-1, 4, 12)[:, :, :4].sum(dim=(1, 2)).mean().item()
print(f"the left third gets {to_left:.0%} of the weight; if all places got the same, 33%")

# %% [markdown]
# It looks straight at the other digit, at two or three places of it, past the empty paper and past its own
# neighbourhood, which the convolutions see anyway. Nobody told it where the digits are.

# %% [markdown]
# ## 10 · Did it work?
#
# The claims of this chapter, as assertions. Above all: **the whole network beats each ablation**. Without the level,
# without skips and without the average, by the mini-FID (for the average: over the six moments); without attention,
# which the mini-FID does not notice, by the share of strips with one ink.

# %%
bars = {
    "cpu": dict(level=3, skips=3, average=1.3, same=0.95, gain=0.1),
    "gpu": dict(level=1.5, skips=1.5, average=1.1, same=0.9, gain=0.03),
}.get(b.name)
fid = {kind: r["fid"] for kind, r in result.items()}
same = {kind: r["same"] for kind, r in result.items()}
times_average = sum(half_way["raw weights"]) / sum(half_way["average"])

assert all(len(x) == b.samples and torch.isfinite(x).all() for s in samples.values() for x in s)
assert correlation_with_input("last convolution starts at zero", depth=3)[-1] > 0.999
assert shuffling_moves["attention"] < 1e-4 < shuffling_moves["convolution"]
assert (reach[1, False] > 0).sum() == 21 and (reach[2, False] > 0).sum() == 53
assert all(0.67 < values.min() and values.max() < 1.22 for values in reached.values())
if b.device.type == "cuda":
    assert torch.cuda.max_memory_allocated() < 8 * 2**30, "must fit a card with 8 GiB"
if bars:
    others = [error for name, error in fit_error.items() if name != "your embedding"]
    assert fit_error["your embedding"] < 0.7 * min(others), "waves must beat plain numbers"
    assert needs and needs * longer < b.race, "Muon should be ahead at equal seconds"
    assert fid["no level"] > bars["level"] * fid["whole"], "the level should matter"
    assert fid["no skips"] > bars["skips"] * fid["whole"], "skips should matter"
    assert times_average > bars["average"], "the average should matter"
    assert same["whole"] > bars["same"], f"only {same['whole']:.1%} of strips have one ink"
    assert same["whole"] > same["no attention"] + bars["gain"], "attention should matter"
    print(f"Muon is where AdamW ends after {needs * longer / b.race:.0%} of its time.")
    print("It worked: the whole network beats itself without ...")
    print(f"  level:     mini-FID {fid['no level'] / fid['whole']:.1f} times higher")
    print(f"  skips:     mini-FID {fid['no skips'] / fid['whole']:.1f} times higher")
    print(f"  average:   mini-FID {times_average:.1f} times higher")
    print(f"  attention: one ink in {same['no attention']:.0%} instead of {same['whole']:.0%}")
else:
    print("For samples, and for the measurements, run this chapter with the budget cpu or gpu.")

# %% [markdown]
# ## What you have now
#
# - The **level** enters as waves, and tells every block by scale and shift what to do.
# - **Residual blocks** start as the identity and learn what to add.
# - **Attention** takes one step from anywhere to anywhere, and knows no places.
# - **Skip connections** carry the detail past the bottom, last in, first out.
# - The **average** of the weights is what you sample from.
# - **Muon** steps by the same amount in each direction of a gradient, loud or faint.
#
# The denoiser that all later chapters train is yours.
#
# **Try it yourself.** (a) Give the network three sizes, `mults=(1, 2, 2)`, and take attention out again. Does the ink
# agree now? (b) Replace GroupNorm by the identity in the network without attention (`without_norms`), train it, and
# look at the ink. (c) Add the kept maps instead of concatenating them. What has to change in `__init__`? (d) Give
# AdamW and Muon other learning rates in the race. Is the one that you find best the best for both? (e) Run
# `orthogonalized` with one iteration, and with three. How many does Muon need?
#
# **Next:** chapter 05 lets the network read: attention to words.
#
# **Read on.** Ronneberger et al., *U-Net*, MICCAI 2015; He et al., *Deep Residual Learning*, CVPR 2016, and Vaswani
# et al., *Attention Is All You Need*, NeurIPS 2017, for the parts; Ho et al., NeurIPS 2020, appendix B, and Dhariwal
# and Nichol, *Diffusion Models Beat GANs*, NeurIPS 2021, section 3, for what they became in diffusion, with ablations
# at full size; Karras et al., *Analyzing and Improving the Training Dynamics of Diffusion Models*, CVPR 2024, on
# weights, norms and averages; Jordan et al., *Muon*, 2024, with the records that it was made for.
