# ---
# title: ControlNet
# question: How can a drawing steer a model that knows only words?
# build: edges, zero convolutions, the trainable copy, ControlNet, paths for clips
# ---

# %% [markdown]
# # 08 · ControlNet: show it where
#
# *We have a model that draws what a sentence says. How can a drawing say the rest: exactly here, this large, along this
# line?* Words end early. "A red circle at the top left" leaves the spot open, and the size, and nobody can say in words
# what an outline shows at a glance.
#
# One could train a new model with drawings as a second condition, from nothing. ControlNet
# ([Zhang et al., ICCV 2023](https://arxiv.org/abs/2302.05543)) does something bolder. It takes the trained model as it
# is, **locks** it, and puts a **copy** of one half beside it. The copy learns to read the drawing and whispers to the
# original. On the first day it must not disturb, so its voice starts at exactly zero, through convolutions whose weights
# are all zero. And there is the riddle of this chapter: how can something that is zero learn anything at all?
#
# At the end you draw a path with your own hand, and a sprite in a *clip* follows it. (Slides 26 to 28 of the tutorial that
# this course follows.)
#
# You need: chapter 04 (the U-Net and its skips), chapter 05 (prompts and guidance), and for the last part chapter 10.

# %%
import contextlib
import copy
import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minivdm.course import as_given, budget, check, in_words, piece, predict, start
from minivdm.datasets.captions import Tokenizer, caption_table, random_captions
from minivdm.datasets.hinted import hinted_stills, wandering_clips
from minivdm.datasets.hints import SOBEL, dots, key_points, masks, of_frames
from minivdm.datasets.shapes import coverage
from minivdm.datasets.sprites import names_of
from minivdm.datasets.stills import STILL_ATTRIBUTES, SpriteStills
from minivdm.diffusion.forward_process import q_sample
from minivdm.diffusion.predictions import to_v
from minivdm.evaluation import viz
from minivdm.evaluation.attribute_classifier import correct_attributes
from minivdm.evaluation.diagrams import Diagram
from minivdm.evaluation.overlap import centre_distance, corner_distance, iou
from minivdm.evaluation.path_pad import path_pad
from minivdm.models.controlnet import (
    HintEncoder,
    adding,
    control_for,
    require_hint,
    width_of,
    zero_conv,
)
from minivdm.models.layers import zero_module
from minivdm.models.unet import Stage, UNet
from minivdm.models.unet3d import UNet3D
from minivdm.pipelines.control_files import hash_of_weights
from minivdm.pipelines.control_training import train_control
from minivdm.pipelines.controlled import sample_with_hints
from minivdm.pipelines.pretrained import load_pretrained
from minivdm.pipelines.text2image import still_tokenizer, text_to_image

start("08_controlnet")
plt.rcParams.update(viz.STYLE)

# %%
b = budget(
    smoke=dict(
        steps=4,
        pool=8,
        batch=4,
        broken_steps=4,
        edge_steps=4,
        point_steps=4,
        looks=(0, 2, 4),
        prompts=4,
        steps_ddim=2,
        views=4,
        strengths=(0.0, 1.0, 2.0),
        clip_steps=1,
        clip_pool=2,
        clip_batch=1,
        clips=2,
        clip_ddim=2,
    ),
    cpu=dict(
        steps=300,
        pool=4000,
        batch=16,
        broken_steps=100,
        edge_steps=200,
        point_steps=300,
        looks=(0, 25, 50, 75, 100, 200, 300),
        prompts=24,
        steps_ddim=8,
        views=8,
        strengths=(0.0, 0.5, 1.0, 1.5, 2.0),
        clip_steps=60,
        clip_pool=240,
        clip_batch=4,
        clips=6,
        clip_ddim=8,
    ),
    gpu=dict(
        steps=500,
        pool=8000,
        batch=32,
        broken_steps=300,
        edge_steps=300,
        point_steps=500,
        looks=(0, 10, 20, 30, 40, 50, 60, 80, 100, 150, 200, 250, 300, 400, 500),
        prompts=192,
        steps_ddim=20,
        views=8,
        strengths=(0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0),
        clip_steps=400,
        clip_pool=1000,
        clip_batch=8,
        clips=48,
        clip_ddim=20,
    ),
)

# %% [markdown]
# The numbers: `steps` and `batch` of training (`broken_steps` for the bug of section 6, `edge_steps` and
# `point_steps` for a second and a third ControlNet), after which steps to look
# (`looks`), how many `prompts` are drawn for a measurement, in how many `steps_ddim`; and the same for clips. `pool` and
# `clip_pool` are how many pictures and clips there are to learn from.
#
# ## 1 · How much do words say?
#
# The model is that of chapter 05, and so is its small world of stills. Take one prompt, and let it draw eight times.
# Then take the outline of *one* drawn still of this prompt, and ask how well the eight fill it. The measure is
# **intersection over union** (IoU): of the pixels that belong to one mask or the other, the share that belongs to both.
# 1 is the same mask, 0 is none in common.

# %% piece="overlap.iou"

# %%
model = load_pretrained("text2image").to(b.device)
judge = load_pretrained("stills_classifier").to(b.device)
generator = torch.Generator(b.device).manual_seed(0)
stills, tokenizer = SpriteStills(), still_tokenizer()
table = caption_table(tokenizer, stills).to(b.device)  # (6, 8, 9, 15, L): all wordings
drawn, exact, asked = hinted_stills(b.prompts, generator, "all")  # what we want to see again


def told(attributes):
    """The tokens of the plain captions, (B, L)."""
    return table[(*attributes.unbind(1),)][:, 0]


caption = stills.captions(asked[:1])[0]
options = dict(steps=b.steps_ddim, guidance_scale=2, generator=generator)
by_words = text_to_image([caption] * 8, model, **options)
first = exact[:1].expand(8, -1, -1, -1)
row = torch.cat([drawn[:1], 2 * exact[:1].expand(-1, 3, -1, -1) - 1, by_words])
labels = ["a still", "its mask", *(f"IoU {v:.2f}" for v in iou(masks(by_words), first).tolist())]
viz.show_images(row.cpu(), f"Eight answers to: {caption}", 10, labels, width=9)
plt.show()

# %% [markdown]
# Right shape, right colour, right corner; and each at its own spot, in its own size. For the comparison below: drawn
# stills of the *same* prompt overlap by about one half, and stills of different prompts hardly at all. Whatever a hint
# brings has to lie above the first of these.

# %%
again, other = stills.draw(asked, generator), drawn.roll(1, dims=0)
chance = {"another prompt": iou(masks(other), exact), "the same prompt": iou(masks(again), exact)}
for name, overlap in chance.items():
    error = overlap.std() / len(overlap) ** 0.5
    print(f"stills of {name}: IoU {overlap.mean():.2f} ± {error:.2f}")
trust = iou(masks(drawn), exact)
print(
    f"and the ruler: masks cut out of drawn stills, IoU {trust.mean():.3f} with the exact ones"
)

# %% [markdown]
# The last line is about the ruler. A generated picture has no exact mask, so we cut one out of it: the pixels that are
# brighter than half-way between the ground and the sprite (`masks`). On drawn stills, whose exact masks the renderer
# knows, that is nearly perfect.
#
# ## 2 · Three ways to show where
#
# A **hint** is a picture, with values from 0 to 1, that says where. We use three kinds. A **mask** says which pixels.
# **Key points** say less: the centre and the four corners of the box around the sprite. And **edges** are what one draws
# with a pencil; they can be had from any picture, without knowing what is in it.
#
# ### Exercise 8.1: edges from scratch
#
# Where a picture changes fast there is an edge. `sobel` (given) measures the slope of each channel, to the right and
# downwards, each with an average over three rows or columns, so that single noisy pixels count less. But around a sharp
# edge *several* pixels are steep, and a line should be one pixel wide. [Canny (1986)](https://doi.org/10.1109/TPAMI.1986.4767851)
# found a simple cure: walk along the slope, *across* the edge, and keep a pixel only if it is steeper than the ones before
# and after it. On a grid of pixels "along the slope" is left and right, or above and below, whichever is nearer. (This
# thinning is called *non-maximum suppression*.)
#
# What must hold: a bright box on a dark ground has lines one pixel wide; a ground that slopes gently has none. Which
# channel? A blue sprite is hardly brighter than the ground, and yet everybody sees its edge. So at each pixel the channel with
# the steepest slope counts, alone: its length, and *its* direction.

# %% piece="hints.sobel"

# %% piece="hints.edges" exercise="8.1" points=3 minutes=20 hide=["Equation"]

# %%
hints = {"mask": exact, "points": key_points(exact), "edges": edges(drawn)}
rows = [
    drawn[: b.views],
    *(2 * each[: b.views].expand(-1, 3, -1, -1) - 1 for each in hints.values()),
]
viz.show_images(
    torch.cat(rows).cpu(), "Stills and their hints", b.views, width=8, rows=["still", *hints]
)
plt.show()

# %% [markdown]
# Look at the lines: thin, and none on the ground. Some are open at a corner: there the slope turns, the neighbour that a pixel
# is compared with lies on the other side's line, and whoever is not the steepest goes. (Canny's own edges have such gaps, too.)
#
# ## 3 · Zeros that learn
#
# Whatever we add to a trained network disturbs it, and a network that is disturbed unlearns. So we want to add something
# that is *nothing* at first, and becomes something by training. A convolution with a 1 × 1 kernel whose weights and
# biases are all 0 is nothing: whatever comes in, 0 comes out.
#
# But you may have heard the rule that weights must never start at zero, since then they never learn. Commit yourself:

# %%
guess = predict(
    "8.a",
    "A 1 × 1 convolution with weight 0 and bias 0: which gradients are 0 in the first step?",
    choices=[
        "all of them: it never learns",
        "that of its weight; its bias learns",
        "that of its input; its weight and bias learn",
        "none of them",
    ],
)

# %% [markdown]
# ### Exercise 8.2: what a convolution hands back
#
# Find out with pencil and paper. A 1 × 1 convolution is one matrix $W$ and one vector $b$, used at every place $p$ of every
# sample: $y_p = W x_p + b$, so $y_{p,d} = \sum_c W_{dc}\,x_{p,c} + b_d$. From above comes $g_p$, the gradient of the loss
# with respect to $y_p$. Three questions, each answered by the chain rule:
#
# - How does the loss change with one entry $W_{dc}$? It acts at *all* places of *all* samples; how much at one of them?
# - How with $b_d$?
# - How with one input $x_{p,c}$, which acts at its own place only, but in all outputs $d$?
#
# Write the three as functions of $x$, $W$ and $g$. Autograd will be asked whether you are right.

# %% piece="controlnet.zero_conv_gradients" exercise="8.2" points=3 minutes=20 kind="derive" hide=["Equation"]

# %%
x, g = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
sizes = [each.abs().max().item() for each in zero_conv_gradients(x, torch.zeros(3, 3), g)]
for name, size in zip(("weight", "bias", "input"), sizes):
    print(f"zero convolution, largest gradient of its {name:6s}: {size:.2f}")
learns = "that of its input; its weight and bias learn" if sizes[0] > 0 and sizes[2] == 0 else "?"
guess.beside(learns)

# %% [markdown]
# $W$ does not occur in its own gradient. What occurs is what comes in, and what is asked for above. So a single zero layer
# between a live input and a live loss learns at once. Its *input*, though, has to wait: as long as $W = 0$, nothing goes back
# through it. Keep your three formulas. They say why ControlNet works, and in section 6 they will say why one does not.
#
# ## 4 · A copy that whispers
#
# Here is the plan. The base is locked. Its way down and its middle are copied. The copy gets the same noisy picture, the
# same level, the same words, and one thing more: the hint, brought to the size of the stem's map by a small encoder,
# which starts at zero, too. What the copy makes of it is added to the base's skips and to its middle, through zero
# convolutions.

# %%
d = Diagram(
    "ControlNet: the locked base goes down, through the middle and up. A trained copy of its way "
    "down and its middle gets the same input, and the hint through an encoder. Zero convolutions "
    "bring the copy's maps to the base's skips and middle."
)
x_t = d.box("x_t\n(B, 3, 32, 32)", 0, 1, kind="data")
hint_box = d.box("hint\n(B, 1, 32, 32)", 0, 3, kind="data")
down = d.box("stem, down", 1, 0, kind="locked")
middle = d.box("middle", 2, 0, kind="locked")
up = d.box("up, head", 3, 0, kind="locked")
eps = d.box("v\n(B, 3, 32, 32)", 4, 0, kind="data")
copy_down = d.box("copy of\nstem, down", 1, 2, kind="trained")
copy_middle = d.box("copy of\nmiddle", 2, 2, kind="trained")
encoder = d.box("hint\nencoder", 1, 3, kind="trained")
zeros = d.box("zero\nconvolutions", 3, 2, kind="trained")
d.arrow(x_t, down)
d.arrow(x_t, copy_down)
d.arrow(hint_box, encoder)
d.arrow(encoder, copy_down)
d.arrow(down, middle)
d.arrow(middle, up)
d.arrow(up, eps)
d.arrow(copy_down, copy_middle)
d.arrow(copy_middle, zeros)
d.arrow(zeros, up, "added to skips\nand middle")
d.show()

# %% [markdown]
# ### Exercise 8.3: the trainable copy
#
# What does the copy know on its first day? All that the base knows about noisy pictures: it only has to learn what a
# hint is. So it starts with the base's weights. But it is trained and the base is not, so the two must share nothing. And
# only the way down and the middle are copied: no `up`, no `norm`, no `head`.
#
# Two kinds of base will be copied. A `UNet` you know. A `UNet3D` is the video model of chapter 10; all that you need of it here
# is which parts it has: `image`, a whole `UNet` that works on each frame, with all parts of one; and beside it `down`, `middle`
# and `up` of its own, which mix the frames. It has no `norm` and no `head` of its own.

# %% piece="controlnet.trainable_copy" exercise="8.3" points=2 minutes=10

# %% [markdown]
# The encoder of the hint comes later, in section 6; until then the package's own works for you. The whole ControlNet:
#
# ### Exercise 8.4: what is added
#
# `__init__` is given: the copy, the hint's encoder, and one zero convolution for each map that the base keeps. (In it,
# `width_of(layer)` is how many channels a layer makes. `shrink` is by how much the base's middle is smaller than the picture,
# and what of that is not the work of a `Downsample` is the work of the stem, which takes `patch` × `patch` pixels as one.)
#
# Write `forward`. You wrote its twin in chapter 04: the first half of `UNet.forward`. What is new is where the hint comes in
# and what goes out, and both can be worked out. *In*: the encoder hands over one map. With which map of the copy does it agree
# in size and channels, and must have met it if *every* map that goes out is to know the hint? It comes in only once: layers
# carry it on. *Out*: what does the base hand to its way up? It needs something to add to each of these, and in the order in
# which it keeps them. (How many are they, and how many zero convolutions has `skips`?) And a new ControlNet must add
# exactly 0. First of all, a hint that does not fit the picture is refused: `require_hint(hint, x, channels)` (given) does it.

# %% piece="controlnet.ControlNet" methods=["forward"] exercise="8.4" points=3 minutes=25 hide=["Equation"]

# %% [markdown]
# And this joins the two. The base's own `forward`, which you wrote in chapter 04, stays as it is and does the walking.
# `adding` lends it the sums: while it lasts, PyTorch calls a small function before each `Stage` of `up`, which adds the
# ControlNet's map to the skip, and one behind the middle. (PyTorch calls these *hooks*.) Several ControlNets simply add up.
#
# `control_for(base)` makes a new ControlNet that fits a base. For a `UNet3D` it is a `VideoControlNet`, which section 8 needs:
# all frames of all clips go through the copied `image` as so many pictures, each with the hint of its own frame, and the
# copied layers along time mix them, as they do in the base.

# %% piece="controlnet.ControlledUNet"

# %%
torch.manual_seed(1)
control = control_for(model.net.net)
net = ControlledUNet(model.net.net, control)
t = torch.tensor([100, 400, 700, 1000], device=b.device)
batch = drawn[:4], told(asked[:4]), exact[:4]
x_t = q_sample(batch[0], t, torch.randn_like(batch[0]), model.schedule.to(b.device))
with torch.no_grad():
    context = model.net.encoder(batch[1])
    same = torch.equal(net(x_t, t, context, [batch[2]]), model.net.net(x_t, t, context))
print(f"a new ControlNet changes nothing, bit for bit: {same}")
count = {
    name: sum(p.numel() for p in part.parameters())
    for name, part in {
        "base": model.net.net,
        "copy": control.encoder,
        "whole ControlNet": control,
    }.items()
}
print(", ".join(f"{name}: {n:,} weights" for name, n in count.items()))

# %% [markdown]
# It is the identity. Now, who moves when? After $n$ steps of training, which parts have left their start?

# %%
guess = predict(
    "8.b",
    "In which step of training does the first layer of the hint's encoder move?",
    low=1,
    high=20,
)


# %%
def parts_moved(control, steps):
    """For each step, how far the weights of each part have moved from their start, on average."""
    start_values = copy.deepcopy(control.state_dict())
    where = {
        "exits": ("skips", "middle"),
        "copy": ("encoder",),
        "hint, zero layer": ("hint.out",),
        "hint, first layer": ("hint.layers.0",),
    }
    moved = {name: [] for name in where}
    draw = lambda generator: (drawn[:4], exact[:4], told(asked[:4]))  # noqa: E731
    for _ in train_control(model, control, draw, steps, warm_up=1):
        now = control.state_dict()
        for name, beginnings in where.items():
            away = [
                (now[key] - start_values[key]).abs().mean()
                for key in now
                if key.startswith(beginnings) and key.endswith("weight")
            ]
            moved[name].append(torch.stack(away).mean().item())
    return moved


torch.manual_seed(2)
moved = parts_moved(control_for(model.net.net), 5)
print("mean change of a weight after step   " + "".join(f"{i:10d}" for i in range(1, 6)))
for name, values in moved.items():
    print(f"{name:37s}" + "".join(f"{value:10.1e}" for value in values))
first_step = 1 + next(i for i, value in enumerate(moved["hint, first layer"]) if value > 0)
guess.beside(first_step)

# %% [markdown]
# Three layers of zeros would be three gates; each opens one step after the one before it. First the exits, since the copy
# hands them live maps. One step later a gradient comes back through them, and the copy moves, and the hint's zero layer.
# Another step, and its first layer follows. Two steps late in hundreds: that is all that the zeros cost.
#
# ## 5 · When does it begin to listen?
#
# Training is that of chapter 05: noise a picture, estimate. Only the ControlNet's weights move, and half of the prompts are
# taken away, so that the hint must be read for what it shows and not only as an echo of the words (Zhang et al.,
# section 3.3). Levels below 300 are left out; a picture below will show why.
#
# What is learnt from is a pool of drawn stills with their exact masks. As in chapter 05, some triples of shape, colour and
# place are held out: the pool has none of them. The pictures that we measure on may be of any triple, and none of them is in the
# pool. We look at two curves: the loss, and the IoU of *sampled* pictures with the masks that they were given.
#
# Zhang et al. report something strange: a ControlNet seems to learn nothing for thousands of steps and then follows the
# hint all of a sudden. They call it *sudden convergence*. How will it be here?

# %%
guess = predict(
    "8.c",
    "The IoU of samples with their masks during training will …",
    choices=[
        "stay for long, then jump",
        "rise bit by bit, for a good part of the training",
        "be up at once, in the first few steps",
    ],
)


# %%
pool = hinted_stills(b.pool, generator)  # of no held-out triple


def hinted_by(hint):
    """A function that draws batches: pictures of the pool, their hints, wordings of captions."""

    def draw(generator):
        i = torch.randint(b.pool, (b.batch,), generator=generator, device=b.device)
        return pool[0][i], hint[i], random_captions(table, pool[2][i], generator)

    return draw


draw = hinted_by(pool[1])  # with their masks


def sample(controls, hints, attributes, strengths=None, seed=7):
    """Pictures for the plain captions of these attributes and these hints, from fixed noise."""
    noise = torch.Generator(b.device).manual_seed(seed)
    given = dict(steps=b.steps_ddim, guidance_scale=2, generator=noise)
    given |= dict(batch_size=b.prompts, cuda_graph=True)
    return sample_with_hints(told(attributes), model, controls, hints, strengths, **given)


def judged(pictures, hint, attributes):
    """IoU with the hint, and whether shape, colour and place are those that were asked for."""
    right = correct_attributes(judge, pictures, attributes).float()
    return iou(masks(pictures), hint), right


training = dict(lr=2e-3, lowest=300, cuda_graph=True)


def train_and_look(control, steps=b.steps, looks=b.looks):
    """Train; the losses of all steps, and by step the IoUs of samples."""
    losses, overlaps = [], {}
    overlaps[0] = judged(sample([control], [exact], asked), exact, asked)[0].cpu()
    for step, loss in train_control(model, control, draw, steps, **training):
        losses.append(loss)
        if step in looks:
            overlaps[step] = judged(sample([control], [exact], asked), exact, asked)[0].cpu()
    return torch.stack(losses).cpu(), overlaps


before = hash_of_weights(model.net.net)
losses, overlaps = train_and_look(control)


# %%
def smooth(values, n=20):
    """The mean of each stretch of n values."""
    n = min(n, len(values))
    return values[: len(values) // n * n].view(-1, n).mean(dim=1)


def curves(runs, title):
    """Losses at the left, IoU by step at the right; runs: name -> (losses, overlaps, colour)."""
    fig, axes = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
    for name, (losses, overlaps, colour) in runs.items():
        means = smooth(losses)
        axes[0].plot(
            [(i + 0.5) * len(losses) / len(means) for i in range(len(means))],
            means,
            color=colour,
            label=name,
        )
        mean = [v.mean().item() for v in overlaps.values()]
        error = [v.std().item() / len(v) ** 0.5 for v in overlaps.values()]
        axes[1].errorbar(list(overlaps), mean, error, fmt="o-", ms=3, color=colour, label=name)
    axes[0].set(
        title="Loss (means of 20 steps)", xlabel="step", ylabel="mean squared error", ylim=(0, None)
    )
    axes[1].axhline(
        chance["the same prompt"].mean().item(), color="grey", ls=":", label="words alone"
    )
    axes[1].set(title=title, xlabel="step", ylabel="IoU with the hint", ylim=(0, 1))
    axes[1].legend(fontsize=8, loc="lower right")
    return axes


curves({"mask": (losses, overlaps, "tab:blue")}, "How well samples fill the mask")
plt.show()
mean = {step: v.mean().item() for step, v in overlaps.items()}
print("IoU at step: " + ", ".join(f"{step}: {v:.2f}" for step, v in mean.items()))
whole = mean[b.steps] - mean[0]
largest = max(mean[s] - mean[r] for r, s in pairwise(b.looks))
up = next(step for step, v in mean.items() if v >= mean[0] + 0.9 * whole)  # 9 tenths of the gain
verdict = (
    "be up at once, in the first few steps"
    if up <= 0.05 * b.steps
    else "stay for long, then jump"
    if largest > 0.6 * whole
    else "rise bit by bit, for a good part of the training"
)
if b.name != "smoke":
    guess.beside(verdict)

# %% [markdown]
# No sudden convergence here: the dots climb in many small steps. (Zhang et al.'s base has 860
# million weights and pictures of a thousand kinds; ours is a small world, in which every hint is about the same thing.)
#
# The loss falls, too. But which part of it is the hint's? It is an average over many levels, and swings from batch to batch.
# Ask it at one level at a time, with the same noise, three times: without the hint, with it, and with the hint of *another*
# picture.


# %%
@torch.no_grad()
def loss_by_level(net, hint, strength, levels, seed=8):
    """The loss at each level, with the same pictures and the same noise each time."""
    noise = torch.Generator(b.device).manual_seed(seed)
    schedule, context, out = model.schedule.to(b.device), model.net.encoder(told(asked)), []
    for level in levels:
        t = torch.full((len(drawn),), level, device=b.device)
        eps = torch.randn(drawn.shape, generator=noise, device=b.device)
        v = net(q_sample(drawn, t, eps, schedule), t, context, [hint], [strength])
        out.append((v - to_v(drawn, t, eps, schedule)).square().mean().item())
    return torch.tensor(out)


levels = (50, 150, 300, 450, 600, 750, 850, 950, 1000)
cases = {
    "no hint": (exact, 0, "grey"),
    "its hint": (exact, 1, "tab:blue"),
    "another picture's hint": (exact.roll(1, dims=0), 1, "tab:orange"),
}
by_level = {name: loss_by_level(net, hint, s, levels) for name, (hint, s, _) in cases.items()}
plt.figure(figsize=(6, 2.8))
for name, values in by_level.items():
    plt.semilogy(levels, values, "o-", ms=4, color=cases[name][2], label=name)
plt.axvspan(0, 300, color="grey", alpha=0.15, lw=0, label="not trained here")
plt.title("Loss by level, the same noise for all three")
plt.xlabel("level t")
plt.ylabel("mean squared error")
plt.legend(fontsize=8)
plt.show()
print("level                   " + "".join(f"{level:8d}" for level in levels))
for name, values in by_level.items():
    print(f"{name:24s}" + "".join(f"{value:8.4f}" for value in values))

# %% [markdown]
# That is a picture of *when* a hint matters: at high levels, where everything is still open. The lower the level, the more of
# the sprite stands there already, and the less a hint has to say. That is why the levels below 300 (grey) were left out of
# training: they would take up steps and teach little. It has a price, and the picture shows it: at 50 and 150 the loss is
# *higher* with the hint than without. What the ControlNet adds there was never trained. (The samples bear it: by then
# the sprite is where it belongs.)
#
# And hold the noise fixed and exchange the hints: the curves part at once, at every level that matters, and one need not wait
# for any training curve. Keep this trick for section 6.
#
# The pictures. First row: the masks, as hints. Then what the words alone give, and what words and hint give, from the
# *same noise*. Look at spot and size, not at the colour.

# %%
with_hint, without = sample([control], [exact], asked), sample([control], [exact], asked, [0.0])
rows = torch.cat(
    [2 * exact[: b.views].expand(-1, 3, -1, -1) - 1, without[: b.views], with_hint[: b.views]]
)
viz.show_images(
    rows.cpu(),
    "The same prompts and noise, without and with the hint",
    b.views,
    width=8,
    rows=["hint", "words", "words + hint"],
)
plt.show()
found = {}
for name, pictures in {"words alone": without, "words + hint": with_hint}.items():
    overlap, right = judged(pictures, exact, asked)
    found[name] = overlap
    shares = ", ".join(
        f"{kind} {share:.0%}" for kind, share in zip(STILL_ATTRIBUTES, right.mean(0))
    )
    error = overlap.std() / len(overlap) ** 0.5
    print(f"{name:13s} IoU {overlap.mean():.3f} ± {error:.3f};  right: {shares}")
    if name == "words + hint":
        obeyed = right[:, :2].all(1).float().mean().item()
untouched = hash_of_weights(model.net.net) == before
print(f"the base after training: every bit as before: {untouched}")

# %% [markdown]
# ### How much has to learn?
#
# The copy has most of the weights. Does it have to learn? Freeze it as it is, with the base's weights, and train only the zero
# convolutions and the hint's encoder.

# %%
guess = predict(
    "8.d",
    "The copy is frozen, zero convolutions and hint encoder learn. In as many steps the IoU …",
    choices=["stays at that of the words", "gets part of the way", "gets nearly as far, or as far"],
)

# %%
torch.manual_seed(1)
frozen = control_for(model.net.net)
frozen.encoder.requires_grad_(False)
_, frozen_overlaps = train_and_look(frozen, looks=b.looks[::2])
reached = {step: v.mean().item() for step, v in frozen_overlaps.items()}
few, all_of_it = (
    sum(p.numel() for p in each.parameters() if p.requires_grad) for each in (frozen, control)
)
print(f"                 {all_of_it:10,} weights learn     {few:10,} weights learn")
for step in reached:
    print(f"IoU at step {step:4d} {mean[step]:18.2f} {reached[step]:24.2f}")
gained = (reached[b.steps] - reached[0]) / max(whole, 1e-6)
verdict = (
    "stays at that of the words"
    if gained < 0.15
    else "gets part of the way"
    if gained < 0.8
    else "gets nearly as far, or as far"
)
if b.name != "smoke":
    guess.beside(verdict)

# %% [markdown]
# The hint's features are added to a map that the base's layers know how to read, and a frozen copy carries them on. It is
# slower at first. Where hints are as simple as masks, the trainable copy is more than one needs; later work made it much
# smaller (read on below). What it needs in any case is the base's weights: they are the reason why it learns in minutes.
#
# ### A pencil instead of a mask
#
# Nothing in this is about masks. Another kind of hint needs another ControlNet, and nothing else. Here is one that learns from
# the edges of exercise 8.1, for fewer steps. The measure stays the IoU with the mask of the still that the edges were taken of.

# %%
torch.manual_seed(4)
pencil = control_for(model.net.net)
for _step in train_control(model, pencil, hinted_by(edges(pool[0])), b.edge_steps, **training):
    pass
drawing = hints["edges"]
by_pencil = sample([pencil], [drawing], asked)
rows = [2 * drawing[: b.views].expand(-1, 3, -1, -1) - 1, by_pencil[: b.views]]
viz.show_images(
    torch.cat(rows).cpu(), "Words and edges", b.views, width=8, rows=["edges", "sample"]
)
plt.show()
by_edges = judged(by_pencil, exact, asked)[0]
error = by_edges.std() / len(by_edges) ** 0.5
print(f"edges, {b.edge_steps} steps of training: ", end="")
print(f"IoU with the mask {by_edges.mean():.2f} ± {error:.2f}")

# %% [markdown]
# ### Five points
#
# Key points say least of the three: five dots, at the corners of the box around the sprite and at its centre. They say where and
# how large, and nothing of the outline: that is left to the words. Is so little obeyed? And how far does a picture fill the mask
# if it gets the box right?

# %%
guess = predict(
    "8.h",
    "Key points as hints: how far will the corners of the sprite's box be from the points, "
    "on average?",
    low=0,
    high=4,
    unit="pixels",
)

# %%
torch.manual_seed(5)
pointer = control_for(model.net.net)
dotted = hinted_by(key_points(pool[1]))
for _step in train_control(model, pointer, dotted, b.point_steps, **training):
    pass
by_points = sample([pointer], [hints["points"]], asked)
rows = [2 * hints["points"][: b.views].expand(-1, 3, -1, -1) - 1, by_points[: b.views]]
viz.show_images(
    torch.cat(rows).cpu(), "Words and key points", b.views, width=8, rows=["points", "sample"]
)
plt.show()
print("the corners of the box around the sprite, distance from those asked for, in pixels:")
corners = {}
compared = {"another still of this prompt": again, "words alone": without, "key points": by_points}
for name, pictures in {**compared, "the mask as hint": with_hint}.items():
    away = corner_distance(masks(pictures), exact)
    corners[name], error = away.mean().item(), away.std() / len(away) ** 0.5
    overlap = iou(masks(pictures), exact).mean()
    print(f"{name:29s}{corners[name]:5.2f} ± {error:.2f}   IoU with the mask {overlap:.2f}")
if b.name != "smoke":
    guess.beside(corners["key points"])

# %% [markdown]
# Look at the pictures by pairs: the sprite stands between the four outer dots. (A corner of the box need not belong to the
# sprite: those of a circle's box do not.) The numbers say how exactly. All three kinds of hints went through the same code: what
# a hint means, a ControlNet learns from pairs.
#
# ## 6 · A bug that a loss alone does not show
#
# Here is an encoder of the hint as several people have built it. Everything else around it is right. First watch what it
# does: the same training, with this encoder in the place of ours.

# %%
torch.manual_seed(1)
broken = control_for(model.net.net)
broken.hint = as_given("controlnet.HintEncoder")(1, model.net.net.channels, 2).to(b.device)
at_first = copy.deepcopy(broken.hint.state_dict())
broken_losses, broken_overlaps = train_and_look(broken, b.broken_steps, b.looks[::2])
curves(
    {
        "right": (losses, overlaps, "tab:blue"),
        "broken": (broken_losses, broken_overlaps, "tab:orange"),
    },
    "The same with the bug",
)[0].legend(fontsize=8)
plt.show()
n = min(20, b.broken_steps)
for name, each in {"right": losses, "broken": broken_losses}.items():
    start_loss, end_loss = each[:n].mean(), each[b.broken_steps - n : b.broken_steps].mean()
    print(f"{name:7s} loss, first {n} steps: {start_loss:.4f};", end=" ")
    print(f"last {n} of {b.broken_steps}: {end_loss:.4f}")
deaf = sample([broken], [exact], asked)
elsewhere = sample([broken], [exact.roll(1, dims=0)], asked)
print(
    f"one hint for another: the pictures differ by {(deaf - elsewhere).abs().max():.1e} at most"
)
fine = correct_attributes(judge, deaf, asked).float().mean().item()
print(f"samples with the shape, colour and place of the prompt: {fine:.0%}")

# %% [markdown]
# Look at the left picture with a hand over the blue curve. A loss that is small from the first step on and hardly moves: that
# is how a net looks that has learnt what there is to learn. In truth it is the loss of the *base*, which every
# ControlNet has in its first step, and this one stays near it. Take the hand away, and the bug is plain to see. But who
# trains one net has one curve, and no right one beside it. Nor do the samples tell: they are fine, and do what the *prompt*
# says.
#
# What tells is the trick of section 5: exchange the hints. Not one bit of the pictures changes. This ControlNet is deaf.
#
# ### Exercise 8.5: find it and mend it
#
# Here is that encoder. Find out why nothing of the hint ever comes through, and mend it. Two things must hold: the map is 0
# at first, *and* it depends on the hint after a few steps of training. Exercise 8.2 has all that you need: go through the layers
# from the end, and ask of each what its gradients are in the first step, and then in the second.

# %% piece="controlnet.HintEncoder" methods=["__init__"] exercise="8.5" points=2 minutes=10 kind="mend" mend="a zero behind a zero"

# %% [markdown]
# The paper's equation has a zero convolution on the hint, before the copy. The paper's code has none there, but ends the
# hint's encoder in a zero layer. Either is fine. These people took both, and built a zero layer behind a zero layer (issues
# [510](https://github.com/lllyasviel/ControlNet/issues/510) and
# [540](https://github.com/lllyasviel/ControlNet/issues/540) of the authors' repository).
#
# Two layers, each with a weight and a bias, all four tensors 0 at first. Above them is a live loss, and what comes in is
# live, too. Work it out with your three formulas before you look:

# %%
guess = predict(
    "8.e",
    "A zero layer behind a zero layer: which of the four tensors move in training?",
    choices=[
        "none of them",
        "the bias of the second layer alone",
        "both biases",
        "weight and bias of the second layer",
    ],
)

# %%
ends = {"first": broken.hint.out[0], "second": broken.hint.out[1]}
largest = {
    (layer, kind): getattr(ends[layer], kind).abs().max().item()
    for layer in ends
    for kind in ("weight", "bias")
}
print(f"after {b.broken_steps} steps of training, the largest number in the …")
for (layer, kind), value in largest.items():
    print(f"{kind:6s} of the {layer:6s} layer: {value:.1e}")
moving = {which for which, value in largest.items() if value}
names = {
    frozenset(): "none of them",
    frozenset({("second", "bias")}): "the bias of the second layer alone",
    frozenset({("first", "bias"), ("second", "bias")}): "both biases",
}
guess.beside(names.get(frozenset(moving), "weight and bias of the second layer"))
before_them = [name for name in at_first if name.startswith("layers")]
still = all(torch.equal(at_first[name], broken.hint.state_dict()[name]) for name in before_them)
print(f"the layers before the two are as they were, bit for bit: {still}")

# %% [markdown]
# The gradient of the second weight is a product with what comes in, which is 0. All that goes back to the first layer goes
# through the second weight, which is 0. So both wait for each other, for ever. But the gradient of the second *bias* is a sum
# of $g$ alone, and that is not 0. It moves, in every step. It shifts the whole map by the same number, whatever the hint is: the net has
# learnt *something*, and hears nothing. Whoever only asks "does anything in the hint's encoder move?" gets the answer yes.

# %% [markdown]
# ### Exercise 8.6: a test that would have told
#
# A bug that costs hours of training should be caught in a second, before training. Write the test: it gets a new
# `ControlledUNet` and a batch, and returns the set of what is wrong. Four things go wrong for people: the base is not locked;
# the copy does not start with the base's weights, or *shares* them; the output is not the base's, bit for bit; the hint never
# gets in. Think about the last one before you write. In the very first step *no* gradient reaches the hint's encoder of a
# *right* net either; and in a deaf one something moves all the same, as you have just seen. (The check breaks nets in many ways,
# and shows you right ones, too. Train a copy, with steps that are large enough to be seen in float32.)

# %% piece="soundness.control_faults" exercise="8.6" points=4 minutes=30 kind="find"


# %%
def fresh(spoil):
    """A new ControlledUNet, spoilt in some way."""
    made = ControlledUNet(copy.deepcopy(model.net.net), control_for(model.net.net))
    spoil(made)
    return made


def open_exit(net):
    nn.init.constant_(net.controls[0].middle.bias, 0.01)


def two_zeros(net):
    net.controls[0].hint = as_given("controlnet.HintEncoder")(1, 48, 2).to(b.device)


def other_copy(net):
    net.controls[0].encoder.down[0].block.conv1.reset_parameters()


ways = {
    "right": lambda net: None,
    "base not locked": lambda net: net.base.requires_grad_(True),
    "copy from other weights": other_copy,
    "exit not zero": open_exit,
    "zero behind zero": two_zeros,
}
probe = x_t[:1], t[:1], context[:1], exact[:1]
verdicts = {name: control_faults(fresh(spoil), *probe) for name, spoil in ways.items()}
for name, verdict in verdicts.items():
    print(f"{name:25s} {sorted(verdict) or 'nothing found'}")

# %% [markdown]
# ## 7 · How loud, and who wins?
#
# What the copy adds can be multiplied by a number, the **strength**: 0 is the base, 1 is what was trained.

# %%
guess = predict(
    "8.f",
    "At strength 2 the samples …",
    choices=[
        "follow the hint even more closely",
        "follow it as closely as at 1",
        "follow it less, or fall apart",
    ],
)

# %%
strengths = list(b.strengths)
loud, sheets = [], []
for strength in strengths:
    pictures = sample([control], [exact], asked, [strength])
    overlap, right = judged(pictures, exact, asked)
    loud.append([overlap.mean().item(), right[:, 0].mean().item(), right[:, 1].mean().item()])
    sheets.append(pictures[: b.views].cpu())
fig, ax = plt.subplots(figsize=(6, 2.8))
for i, (name, colour) in enumerate(
    {"IoU": "tab:blue", "shape": "tab:orange", "colour": "grey"}.items()
):
    ax.plot(strengths, [row[i] for row in loud], "o-", color=colour, label=name)
ax.set(
    title="Strength: IoU with the hint, shares with the right shape and colour",
    xlabel="strength",
    ylim=(0, 1.02),
)
ax.legend(fontsize=8)
plt.show()
viz.show_images(
    torch.cat(sheets),
    "The same noise at each strength",
    b.views,
    width=6,
    rows=[f"{s:g}" for s in strengths],
)
plt.show()
at = dict(zip(strengths, (row[0] for row in loud)))
change = at[2.0] - at[1.0]
verdict = (
    "follow the hint even more closely"
    if change > 0.02
    else "follow it as closely as at 1"
    if change > -0.02
    else "follow it less, or fall apart"
)
if b.name != "smoke":
    guess.beside(verdict)

# %% [markdown]
# Now let the two contradict each other. The sentence names one shape, the mask shows another; or the sentence names one place,
# and the mask is at another. Somebody must lose, or they find a compromise.

# %%
guess = predict(
    "8.g",
    "The prompt names another shape than the mask shows. What does the judge see?",
    choices=["mostly the shape of the mask", "mostly the shape of the prompt", "mostly neither"],
)

# %%
lied = asked.clone()
lied[:, 0] = (lied[:, 0] + 1 + torch.arange(len(lied), device=b.device) % 5) % 6
moved_away = asked.clone()
moved_away[:, 2] = (moved_away[:, 2] + 1 + torch.arange(len(asked), device=b.device) % 8) % 9
votes, places = {}, {}
for strength in strengths:
    pictures = sample([control], [exact], lied, [strength])
    prompts_win = correct_attributes(judge, pictures, lied)[:, 0].float().mean().item()
    hints_win = correct_attributes(judge, pictures, asked)[:, 0].float().mean().item()
    votes[strength] = hints_win, prompts_win
    there = sample([control], [exact], moved_away, [strength])
    hint_place = correct_attributes(judge, there, asked)[:, 2].float().mean().item()
    prompt_place = correct_attributes(judge, there, moved_away)[:, 2].float().mean().item()
    places[strength] = hint_place, prompt_place
    if strength == 1:
        fight = pictures
rows = torch.cat([2 * exact[: b.views].expand(-1, 3, -1, -1) - 1, fight[: b.views]])
texts = [f"{names[1]} {names[0]}" for names in names_of(lied[: b.views].cpu(), STILL_ATTRIBUTES)]
viz.show_images(rows.cpu(), "The prompt (below) names another shape", b.views, texts, width=10)
plt.show()
fig, axes = plt.subplots(1, 2, figsize=(10, 2.6), layout="constrained")
for ax, what, shares in zip(axes, ("shape", "place"), (votes, places)):
    ax.plot(strengths, [v[0] for v in shares.values()], "o-", color="tab:blue", label="of the hint")
    ax.plot(
        strengths, [v[1] for v in shares.values()], "o-", color="tab:orange", label="of the prompt"
    )
    ax.set(
        title=f"Whose {what} the judge sees", xlabel="strength", ylabel="share", ylim=(-0.02, 1.02)
    )
    ax.legend(fontsize=8)
plt.show()
hints_win, prompts_win = votes[1.0]
both = {
    "mostly the shape of the mask": hints_win,
    "mostly the shape of the prompt": prompts_win,
    "mostly neither": 1 - hints_win - prompts_win,
}
if b.name != "smoke":
    guess.beside(max(both, key=both.get))
print(", ".join(f"{name}: {share:.0%}" for name, share in both.items()))
print(
    f"place at strength 1: of the hint {places[1.0][0]:.0%}, of the prompt {places[1.0][1]:.0%}"
)
here = torch.zeros(6, 1)
six = coverage(torch.arange(6), here, here, here + 0.4, 32).flatten(1) > 0.5  # one size, one place
alike = [iou(six[i : i + 1], six[j : j + 1]).item() for i in range(6) for j in range(i)]
print(f"masks of two shapes at one place, of one size: IoU {min(alike):.2f} to {max(alike):.2f}")

# %% [markdown]
# Over the *place* the hint wins, clearly. Over the *shape* it does not: look at the three shares at strength 1, at how far the
# two curves are apart, and where they cross, if they do. A good part of the pictures show a third shape, neither the one that
# was asked for nor the one that was shown. That is not a law of ControlNets. Ours saw hints and prompts that always agreed, so nothing ever taught it who is
# right. The words never said exactly where, so there the hint has its own say; but shapes have names. And masks of
# some different shapes have much in common (the last line), so a picture between two such shapes offends neither side much.
#
# **Two hints at once.** The outputs of ControlNets add up. First two that agree: the mask and the edges of the same still, each
# with the ControlNet that learnt to read it. Then two that do not: two masks of different stills, both through the same
# network. Each pair once at half strength and once at full. The model never saw two sprites in a picture.

# %%
m = min(b.views, len(asked))
pair = exact[:m], exact[:m].roll(1, dims=0)
twice = {
    f"both at {s:g}": sample([control, control], list(pair), asked[:m], [s, s]) for s in (0.5, 1.0)
}
for s in (0.5, 1.0):
    together = judged(sample([control, pencil], [exact, drawing], asked, [s, s]), exact, asked)[0]
    error = together.std() / len(together) ** 0.5
    print(f"mask and edges of one still, both at {s:g}: IoU {together.mean():.3f} ± {error:.3f}")
print(f"alone: mask {found['words + hint'].mean():.3f}, edges {by_edges.mean():.3f}")
union = torch.maximum(*pair)
rows = torch.cat([2 * union.expand(-1, 3, -1, -1) - 1, *twice.values()])
viz.show_images(rows.cpu(), "Two masks, one prompt", m, width=8, rows=["masks", *twice])
plt.show()
for name, pictures in twice.items():
    cut = masks(pictures)
    line = [iou(cut, each).mean().item() for each in (pair[0], pair[1], union)]
    print(
        f"two masks, {name}: IoU with the prompt's mask {line[0]:.2f}, the other {line[1]:.2f}, "
        f"both {line[2]:.2f}"
    )

# %% [markdown]
# Two hints that agree go together, without any training of the pair. Of two masks at half strength each, it draws one sprite, in
# the mask whose place the prompt names. At full strength the other mask begins to be
# heard: look for pictures with two sprites, which the base has never seen, and at the IoU with both masks.
#
# ## 8 · A hand draws, a clip follows
#
# The base is now the video model of chapter 10, locked like the other. Its ControlNet copies the way down *with* the layers
# along time, and each frame has a hint of its own: a soft dot where the centre is to be.
#
# ### Exercise 8.7: walk along the line
#
# A path drawn by hand is a few points, far apart here and close together there. The sprite is to walk along it evenly.
# So measure the line: $s_i$ is the length from its start to point $i$, $S$ the whole length. Where is frame $f$ of $F$?
# (How many *steps* are there between $F$ frames?)

# %% piece="hints.paths" exercise="8.7" points=3 minutes=20 hide=["Equation"]

# %%
film = load_pretrained("text2video").to(b.device)
clip_tokenizer = Tokenizer()
clip_table = caption_table(clip_tokenizer).to(b.device)


def dots_of(centres):
    """The hints of clips from their paths: (B, F, 2) -> (B, 1, F, 32, 32)."""
    return dots(centres[:, :, None], 32).transpose(1, 2)


wandering = wandering_clips(b.clip_pool, generator)  # sprites, and the paths of their centres


def draw_clips(generator):
    """A batch of clips, with their paths as hints and one of the wordings of each caption."""
    i = torch.randint(b.clip_pool, (b.clip_batch,), generator=generator, device=b.device)
    clips, centres, attributes = (each[i] for each in wandering)
    return clips, dots_of(centres), random_captions(clip_table, attributes, generator)


torch.manual_seed(3)
guide = control_for(film.net.net)
for _step in train_control(film, guide, draw_clips, b.clip_steps, **training):
    pass


def follow(points, prompt="a red circle moving left", strength=1.0, seed=0):
    """A clip that follows a path; the clip, the path, and how far off each frame is, in pixels."""
    path = paths(points, film.frames).to(b.device)
    noise = torch.Generator(b.device).manual_seed(seed)
    clip = sample_with_hints(
        clip_tokenizer.encode(prompt),
        film,
        [guide],
        [dots_of(path[None])],
        [strength],
        steps=b.clip_ddim,
        guidance_scale=2,
        generator=noise,
        cuda_graph=True,
    )
    off = centre_distance(of_frames(masks, clip)[0].transpose(0, 1), path)
    return clip[0].cpu(), path.cpu(), off.cpu()


zigzag = [(-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)]
clip, path, off = follow(zigzag)
viz.play(
    [clip, 2 * dots(path[:, None], 32).transpose(0, 1).expand(3, -1, -1, -1) - 1],
    ["a red circle moving left", "the hint"],
    scale=6,
)
viz.show_strip(clip, "Prompt: a red circle moving left. Hint: a zigzag", every=2)
plt.show()
print(f"centre off by {off.median():.1f} pixels (median over frames), at most {off.max():.1f}")

# %% [markdown]
# No caption of its world says "zigzag", and the base never saw one: its sprites move left, right, up, down, or hop. And this
# prompt says something else altogether. Now by the numbers, on curves that were never seen in training:

# %%
_, centres, kinds = wandering_clips(b.clips, torch.Generator(b.device).manual_seed(5), "all")
away = {}
for name, strength in {"words alone": 0.0, "words + path": 1.0}.items():
    noise = torch.Generator(b.device).manual_seed(6)
    made = sample_with_hints(
        clip_table[(*kinds.unbind(1),)][:, 0],
        film,
        [guide],
        [dots_of(centres)],
        [strength],
        steps=b.clip_ddim,
        guidance_scale=2,
        generator=noise,
        batch_size=b.clips,
        cuda_graph=True,
    )
    away[name] = centre_distance(of_frames(masks, made).transpose(1, 2), centres).cpu()  # (B, F)
    each = away[name].median(dim=1).values
    print(
        f"{name:13s} centre off by {each.mean():.2f} ± {each.std() / len(each) ** 0.5:.2f} pixels"
        " (median over frames)"
    )

# %% [markdown]
# And this is yours. With a running kernel, click fields one after the other: they are the path, and beside the field you see
# the hint that it makes, a dot that walks by your `paths`. Then play. (Tab and Enter work, too. Without a kernel, or in code,
# give a list of points: `show_path([(-0.8, 0), (0, -0.8), (0.8, 0)])`.)


# %%
def show_path(points):
    """Play the clip that follows these points, and beside it the hint."""
    clip, path, off = follow(points, "a purple cross moving up")
    hint = 2 * dots(path[:, None], 32).transpose(0, 1).expand(3, -1, -1, -1) - 1
    viz.play([clip, hint], [f"off by {off.median():.1f} pixels", "the hint"], scale=6)


try:
    path_pad(show_path)
except ImportError:
    print("no ipywidgets here: use show_path([(-0.8, 0), (0, -0.8), (0.8, 0)])")

# %% [markdown] words="8.8" minutes=10
# A friend writes: "I trained a ControlNet for two days. The loss went down nicely, from 0.016 to 0.014. But my pictures
# ignore the edges that I give. Shall I train for another week?" What do you answer, and what do you ask your friend to look
# at first?
#
# **Answer**
#
# A loss alone does not say whether the hint is followed. There is no right one beside it to
# compare with; a deaf ControlNet shows a small loss that looks like that of a net which has
# learnt all (it is the base's, section 6), and a loss that falls a little does not say because of
# what: the copy can learn from the pictures, too, and a bias moves even in a deaf encoder. So
# look first whether the hint gets in at all: change one hint for another with the same noise; if
# the picture is the same bit for bit, the hint is lost, and no training will help. The usual
# reason is a zero layer behind a zero layer: are the *weights* of the hint's last layers still
# exactly zero? If the picture does change, measure what you want (IoU of samples with the hint)
# every so often. It may also be a hint in another range than in training, such as 0..255, or the
# strength, or a prompt that contradicts.
#
# **Rubric**
#
# - A loss alone cannot tell whether the hint is followed, with a reason: nothing to compare it with, or a deaf one looks converged (section 6), or something else than the hint may lower it.
# - A test that can: exchange hints with the noise fixed, or look whether *weights* of the hint's last layers have moved (a bias does not count).
# - Names zero behind zero (or another way in which a hint is lost, such as its range) as a possible cause.
# - Measure samples, not the loss, before deciding to train longer.

# %% [markdown]
# ## 9 · Did it work?

# %%
assert same, "a new ControlNet must be the base, bit for bit"
assert untouched, "training must leave the base as it is"
assert first_step == 3 and learns != "?"
assert verdicts["right"] == set() and verdicts["zero behind zero"] == {"hint"}
assert torch.equal(deaf, elsewhere), "zero behind zero must be deaf"
assert moving == {("second", "bias")} and still, "of two zero layers one bias moves"
assert with_hint.isfinite().all() and clip.isfinite().all()
if b.device.type == "cuda":
    assert torch.cuda.max_memory_allocated() < 8 * 2**30, "must fit a card with 8 GiB"
if b.name != "smoke":
    hit, missed = found["words + hint"].mean().item(), found["words alone"].mean().item()
    assert trust.mean() > 0.98, "a ruler that errs cannot measure"
    assert hit >= 0.8, f"IoU with the hint: {hit:.2f}"
    assert hit >= missed + 0.15, f"words alone reach {missed:.2f}"
    assert obeyed >= 0.9, f"shape and colour of the prompt: {obeyed:.0%}"
    assert broken_overlaps[b.broken_steps].mean() <= missed + 0.1, "a deaf one cannot follow"
    assert by_edges.mean() >= missed + 0.1, f"IoU with edges: {by_edges.mean():.2f}"
    off, at_random = corners["key points"], corners["words alone"]
    bar = dict(cpu=0.7, gpu=0.5)[b.name]
    assert off <= bar * at_random, f"corners off by {off:.2f} pixels, {at_random:.2f} without"
    distance = away["words + path"].median(dim=1).values.mean().item()
    assert distance <= 2, f"the clip's centre is off by {distance:.1f} pixels"
    print(
        f"It worked: IoU {hit:.2f} with the hint, {missed:.2f} without; shape and colour right in"
    )
    print(
        f"{obeyed:.0%}; a sprite follows a path to {distance:.1f} pixels; the base kept every bit."
    )
else:
    print("For pictures that follow the hint, run this chapter with the budget cpu or gpu.")

# %% [markdown]
# ## What you have now
#
# - A **zero convolution** changes nothing and learns at once: its own weight does not occur in its gradient. What lies before it waits for one step; two in a row wait for ever, and only the last bias moves.
# - A **ControlNet** is a copy of the way down that starts with the base's weights, sees the hint, and adds to the base's skips and middle. The base stays as it is, bit for bit.
# - **A loss alone does not tell** whether the hint is followed. Exchange hints, and measure samples.
# - **Strength** turns it up and down, several add up, and in a *clip* each frame can have a hint of its own.
#
# **Words**: *hint*, the picture that says where; *locked*, not trained; *strength*, the factor on what is added; *IoU*,
# intersection over union.
#
# **Common mistakes.** The hint in [-1, 1] or 0..255 where [0, 1] was trained. A ControlNet beside another base than the one
# that it was copied from (the command line refuses that). Judging by the loss.
#
# **Test yourself.** (1) Why is the output's gradient with respect to the copy zero in the first step, and why does that not
# matter? (2) A ControlNet is trained beside model A. A friend fine-tunes A by a LoRA. Can the ControlNet be used with it?
# What would you measure? (3) At low levels the ControlNet was never trained, and
# does harm there. Why do the samples hardly suffer? How would you find out whether they do?
#
# **Try it yourself.** (a) Leave four of the five key points out, and train with the centre alone: what becomes of the size? (b)
# Use one ControlNet at high levels only, `strength` 0 below: how few levels are enough? (c) Give it a mask of a shape that it
# never saw, such as a heart. (d) Your own pictures: `python -m minivdm train controlnet FOLDER --hint edges`, then
# `python -m minivdm sample … --control FILE --hint drawing.png`. Do not expect photographs: the base has only ever seen
# coloured shapes.
#
# **Next:** chapter 09 opens part III, with pictures that move.
#
# **Read on.** Zhang et al., *Adding Conditional Control to Text-to-Image Diffusion Models*, ICCV 2023; Mou et al.,
# *T2I-Adapter*, AAAI 2024, with a small network in the place of the copy; Zavadski et al., *ControlNet-XS*, ECCV 2024, on how
# small the copy may be.
