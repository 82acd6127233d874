"""ControlNets on the command line: `sample … --control FILE --hint clip.gif` and `train controlnet FOLDER`.

A small model of pixels is no camera: what it learnt are coloured shapes on dark grounds, in 32 x 32 pixels. Photographs
are another world to it: with a ControlNet trained on six pieces of a portrait for 150 steps it drew grainy clouds of
colour, bright where the face was, and nothing like a photograph.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..datasets.captions import Tokenizer
from ..datasets.gif_files import steady_clock
from ..datasets.hints import HINTS
from ..datasets.picture_folder import read_pictures
from ..datasets.pixels import to_uint8
from ..datasets.video_files import read_video
from ..diffusion.predictions import EpsModel
from ..files import locked, replacing, runs_folder
from ..models.controlnet import ControlNet, control_for
from ..pipelines.control_files import load_control, made_for, require_kind, save_control
from ..pipelines.control_training import train_control
from ..pipelines.controlled import sample_with_hints
from ..pipelines.pretrained import load_pretrained
from ..pipelines.text2image import still_tokenizer
from ..training.checkpoint import previous
from ..training.precision import best_device
from ..training.torch_files import hash_of_tensors

SIZE = 32  # of the pictures of text2image
LINES = 10  # that a training prints, and how often it saves what it has


def read_hint(path: str | Path, frames: int, size: int) -> Tensor:
    """A hint from a file: a drawing, white on black, for all frames, or a clip with one for each frame.

    Args:
        path: a PNG, JPEG or GIF file, or a video (which needs PyAV).
        frames: F of the clips to be steered.
        size: H = W; a drawing may be a whole number of times as large.

    Returns:
        (1, 1, F, size, size) float32 in [0, 1].

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it has another number of frames, or another size.
    """
    path = Path(path)
    if path.suffix.lower() in (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi"):
        bytes_ = read_video(path)[0].float().mean(dim=-1)  # (F, H, W)
    else:
        try:
            with Image.open(path) as file:
                shown = [(np.array(f.convert("L")), f.info.get("duration", 0)) for f in ImageSequence.Iterator(file)]
                comment = file.info.get("comment", b"")
        except (ValueError, SyntaxError, EOFError) as error:
            raise ValueError(f"{path} is no picture that can be read: {error}") from error
        stays = [max(round(stay / 10), 1) for _, stay in shown]
        text = comment.decode(errors="replace") if isinstance(comment, bytes) else str(comment)
        counts = steady_clock(stays, text)[1]  # equal frames one after the other are one in a GIF
        pictures = np.stack([picture for picture, _ in shown])
        bytes_ = torch.from_numpy(np.repeat(pictures, counts, axis=0) if len(shown) > 1 else pictures).float()
    n, height, width = bytes_.shape
    if n not in (1, frames):
        raise ValueError(f"{path} has {n} frames; expected {frames}, one for each frame of the clip, or 1 for all")
    if height != width or height % size:
        raise ValueError(f"{path} has {height} x {width} pixels; expected {size} x {size}, or a multiple of it")
    hint = F.avg_pool2d(bytes_[:, None] / 255, height // size)  # (n, 1, size, size)
    return hint.expand(frames, -1, -1, -1).transpose(0, 1)[None].contiguous()


def loaded_with_hint(
    control: str | Path, hint: str | Path | None, model: EpsModel, frames: int, size: int
) -> tuple[ControlNet, Tensor]:
    """The ControlNet of a file, made for this model, and the hint of another one, (1, 1, F, size, size); on the CPU."""
    if hint is None:
        raise ValueError("a ControlNet needs a hint: give --hint with a drawing or a clip, white on black")
    return load_control(control, model)[0], read_hint(hint, frames, size)


def for_pictures(control: str | Path) -> bool:
    """Whether the ControlNet of a file steers pictures, not clips."""
    return made_for(control) == "text2image"


def sample_pictures(
    prompts: Sequence[str],
    out: str | Path,
    control: str | Path,
    hint: str | Path | None,
    strength: float = 1.0,
    steps: int = 20,
    guidance_scale: float = 3.0,
    seed: int = 0,
    scale: int = 4,
) -> list[Path]:
    """One picture per prompt by text2image and a ControlNet, side by side in one PNG; returns its path in a list.

    Raises:
        ValueError, OSError: as for `load_control` and `read_hint`, or if the file is no .png.
    """
    if Path(out).suffix.lower() != ".png":
        raise ValueError(f"this ControlNet steers pictures: expected a name that ends in .png, got {str(out)!r}")
    tokens = still_tokenizer().encode(prompts)
    model = load_pretrained("text2image")
    network, drawing = loaded_with_hint(control, hint, model, 1, SIZE)
    model, network = model.to(best_device()), network.to(best_device())
    drawing = drawing[:, :, 0].to(best_device()).expand(len(tokens), -1, -1, -1)
    generator = torch.Generator(best_device()).manual_seed(seed)
    pictures = sample_with_hints(tokens, model, [network], [drawing], [strength], steps, guidance_scale, generator)
    row = np.concatenate(list(to_uint8(pictures)), axis=1).repeat(scale, axis=0).repeat(scale, axis=1)
    with replacing(out) as file:
        Image.fromarray(row).save(file, "PNG")
    print(f"{out}: {len(tokens)} pictures of {SIZE} x {SIZE} pixels in the order of their prompts")
    return [Path(out)]


def train_controlnet(
    folder: str | Path,
    hint: str = "edges",
    out: str | Path | None = None,
    steps: int = 1000,
    batch: int = 16,
    lr: float = 1e-3,
    seed: int = 0,
    progress: bool = False,
) -> Path:
    """Train a ControlNet of text2image on a folder of pictures; their hints are computed from them.

    A run that was stopped is gone on with by the same command, from <out>.unfinished.

    Args:
        folder: see `read_pictures`. A caption with words that the model does not know counts as none.
        hint: the kind of hint, a name in `HINTS`. Masks and points are for bright things on dark grounds.
        out: the file to write; default: runs/controlnet/<name of the folder>-<hint>.pt.
        steps, batch, lr: optimiser steps, pictures in each, and the highest learning rate.
        seed: of weights, pictures and noise.
        progress: show a tqdm bar.

    Raises:
        ValueError: if a number makes no sense, or as `read_pictures`.
        OSError: if something cannot be read or written.
    """
    require_kind(hint)
    if steps < 1 or batch < 1 or not 0 < lr < 1 or not 0 <= seed < 2**32:
        numbers = f"steps={steps}, batch={batch}, lr={lr:g}, seed={seed}"
        raise ValueError(f"expected steps and a batch from 1 on, lr in 0..1 and a seed in 0..2^32 - 1, got {numbers}")
    pictures, captions = read_pictures(folder, SIZE)
    default = runs_folder() / "controlnet" / f"{Path(folder).resolve().name}-{hint}.pt"
    path, device = default if out is None else Path(out), best_device()
    tokens, unknown = [], 0
    for caption in captions:
        try:
            tokens.append(still_tokenizer().encode(caption))
        except ValueError:
            tokens.append(torch.zeros(1, Tokenizer().length, dtype=torch.long))
            unknown += 1
    learnt_from = hash_of_tensors({"pictures": pictures, "tokens": torch.cat(tokens)})[:12]
    hints, tokens, pictures = HINTS[hint](pictures).to(device), torch.cat(tokens).to(device), pictures.to(device)
    said = f"{len(pictures)} pictures from {folder}; {sum(map(bool, captions))} captions"
    print(f"{said}, {unknown} with words that the model does not know", flush=True)

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        i = torch.randint(len(pictures), (batch,), generator=generator, device=device)
        return pictures[i], hints[i], tokens[i]

    torch.manual_seed(seed)
    model = load_pretrained("text2image").to(device)
    control, start = control_for(model.net.net), time.perf_counter()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(f"{path}.unfinished")  # the same command goes on from there
    settings = dict(hint=hint, pictures=learnt_from, steps=steps, batch=batch, lr=lr)
    going_on = dict(checkpoint=unfinished, save_every=max(1, steps // LINES), settings=settings)
    with locked(f"{path}.lock", path):
        run = train_control(model, control, draw, steps, lr, seed=seed, progress=progress, cuda_graph=True, **going_on)
        for step, loss in run:
            if step % max(1, steps // LINES) == 0:
                tqdm.write(f"{time.perf_counter() - start:6.0f} s  step {step:6d} of {steps}  loss {loss.item():.5f}")
        save_control(path, control, model, hint)
        for path_of_run in (unfinished, previous(unfinished)):
            path_of_run.unlink(missing_ok=True)
    print(f"{path}: a ControlNet for {hint}, {path.stat().st_size:,} bytes")
    return path
