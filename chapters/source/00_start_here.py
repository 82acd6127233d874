# ---
# title: Start here
# question: Where does the road end, and how do exercises work?
# build: one warm-up
# ---

# %% [markdown]
# # 00 · Start here
#
# In this course you write, piece by piece, a program that turns a sentence into a moving picture. Nothing is downloaded and
# nothing is hidden: by the end, the noise, the networks, the training and the sampling are code that you wrote.
#
# This first notebook takes ten minutes. It checks your machine, shows you where the road ends, and lets you practise on one tiny exercise.

# %%
import platform

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import minivdm
from minivdm.course import budget, check, piece, start
from minivdm.evaluation import viz
from minivdm.pipelines.pretrained import load_pretrained
from minivdm.pipelines.text2video import text_to_video

start("00_start_here")
plt.rcParams.update(viz.STYLE)

# %% [markdown]
# ## Your machine
#
# Every notebook runs on a laptop; where it was measured, the chapters took two to eight minutes on two cores. With a CUDA
# graphics card of 8 GB or more they are several times faster, and train larger networks. (The README has the times.) What did
# Python find here?

# %%
versions = {"PyTorch": torch.__version__, "minivdm": minivdm.__version__}
print(f"Python {platform.python_version()},", ", ".join(f"{k} {v}" for k, v in versions.items()))
if torch.cuda.is_available():
    card = torch.cuda.get_device_properties(0)
    print(f"graphics card: {card.name}, {card.total_memory / 2**30:.0f} GiB")
else:
    print(f"no CUDA card: the CPU with {torch.get_num_threads()} threads will do")

# %% [markdown]
# How long a chapter takes is decided by a few numbers, in one cell near its top: the **budget**. `cpu` and `gpu` are
# meant for you, `smoke` only shows in a minute that every cell runs. To choose another one, set the
# environment variable `MINIVDM_BUDGET` before you start Jupyter.

# %%
b = budget(smoke=dict(steps=4), cpu=dict(steps=20), gpu=dict(steps=50))

# %% [markdown]
# ## Where the road ends
#
# The model below was trained from scratch with the code of this course, on clips that a program drew: two minutes on
# one large graphics card. Its weights lie in `data/`, 4.3 MB. Write prompts into the list and run the cell:
# six shapes (circle, square, triangle, diamond, cross, ring), eight colours (red, orange, yellow, green, cyan, blue,
# purple, white), and eight things to do (move left, right, up or down, grow, shrink, bounce, blink).

# %%
prompts = ["a red circle moving left", "a green cross moving up", "a blue square growing"]

model = load_pretrained("text2video").to(b.device)
generator = torch.Generator(b.device).manual_seed(0)
clips = text_to_video(prompts, model, steps=b.steps, generator=generator).cpu()
viz.play(clips, prompts)

# %% [markdown]
# (At the budget `smoke` the model takes very few steps; the clips may be imperfect.) A word that the model has never seen gets an
# answer, too:

# %%
try:
    text_to_video("a red cirle moving left", model)
except ValueError as error:
    print(error)

# %% [markdown]
# A clip is a stack of pictures. Here is the first one as a film strip of every second frame, to be read from left to right.

# %%
viz.show_strip(clips[0], prompts[0], every=2)

# %% [markdown]
# Does it *do* what the prompt says, or does it only look like it? In this course such questions get a number. Here, a simple one: in
# each frame, where is the red? The curve is the mean column of all red pixels. A circle that moves left draws a line
# that falls.

# %%
red, green, blue = (clips[0] + 1) / 2  # (F, H, W) each, from 0 to 1
redness = (red - torch.maximum(green, blue)).clamp(min=0.2) - 0.2  # how much redder than grey
columns = torch.arange(redness.shape[-1])
where = (redness * columns).sum(dim=(1, 2)) / redness.sum(dim=(1, 2)).clamp(min=1e-6)  # (F,)
plt.figure(figsize=(5, 2.2))
plt.plot(where, "o-", color="C3")
plt.title("Where the red is, frame by frame")
plt.xlabel("frame")
plt.ylabel("column (0 = left)")
plt.show()

# %% [markdown]
# All of it started as pure noise. You will write each part of what happened: how noise is added and removed (chapters 01 to 03), the
# network (04), how words steer it (05), and what makes pictures move together (09 and 10).
#
# ## How exercises work
#
# Models like their numbers small and centred, so all pictures in this course have values from -1 to 1. Files store bytes, 0 to 255. The first exercise is
# the bridge between the two.
#
# The cell below is an exercise. Read the docstring, replace the line `raise NotImplementedError(…)` by your code, and run the cell with
# Shift-Enter. **Before you do, run it as it is** and see what happens. (What stands behind the colons, such as `Tensor`, says what
# kind of thing is meant. Python does not check it, and you may leave it out.)

# %% piece="pixels.to_model_range" exercise="0.1" points=1 minutes=5

# %% [markdown]
# The card below the cell is the answer of `check`:
#
# | card | meaning |
# |---|---|
# | **not attempted** | there is no solution yet. Nothing is wrong. |
# | **passed** | your piece does what it should, on inputs that were drawn just now. |
# | **wrong** | it says which property fails, by how much and where. Many common mistakes are recognised, and you get a hint for *yours*. |
# | **error** | your code raised an exception; it shows the line. |
#
# Try a mistake on purpose: return `images.float() / 255`, and read the hint. (The check does not know *the* solution. It knows what
# must be true of any solution, so write it as you like.)
#
# ### Nobody gets stuck
#
# An exercise that is not solved yet runs the reference solution instead, and says so once. So the next cell works in any case. If you solved the exercise *wrongly*, your own
# version runs, and the picture shows what it does: compare it with the title.

# %%
ramp = torch.arange(256, dtype=torch.uint8).repeat(24, 1)[None, None]
mine = to_model_range(ramp)
viz.show_images(
    mine.clamp(-1, 1),
    f"Bytes 0 to 255 in your range: {mine.min():.2f} to {mine.max():.2f} (should be -1.00 to 1.00)",
    cols=1,
)

# %% [markdown]
# ### Your code runs the real thing
#
# When a check passes, your piece is kept in the folder `my_pieces/` and *replaces* the reference inside the package `minivdm`. Everything that uses it, in this and
# all later chapters, runs on your code from then on. The line that `start` printed at the top of this notebook counts them. To begin again,
# delete a file in `my_pieces/`. A version that does not pass is never kept. It runs in its notebook only, so that you can
# see what it does; and if it raises an error or never ends, the reference takes its place there, too.
#
# In a terminal, `python -m minivdm.course status` lists all exercises, and `python -m minivdm.course check chapters/00_start_here.ipynb` grades
# a notebook (for teachers, and the curious). Worked notebooks lie in `solutions/`. The package itself is written to be read: after each exercise, compare
# your solution with the file in `minivdm/`.
#
# ## The map
#
# <!-- chapters -->
#
# Where numbers are missing, chapters are to follow: latents, personalisation and control (06 to 08), and after 10 more about video.
#
# ## Did it work?

# %%
ends = to_model_range(torch.tensor([0, 255], dtype=torch.uint8))
assert ends.tolist() == [-1.0, 1.0], "exercise 0.1 is not right yet"
assert clips.shape == (len(prompts), 3, 16, 32, 32) and torch.isfinite(clips).all()
if b.name != "smoke" and prompts[0] == "a red circle moving left":
    assert where[-1] < where[0] - 4, "the red should have moved left by more than 4 columns"
print("Everything works. Open chapters/01_ddpm.ipynb next.")
