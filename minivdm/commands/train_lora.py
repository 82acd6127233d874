r"""Teach the text-to-video model a word from your own pictures: `minivdm train lora FOLDER --word moon`.

The folder holds PNG or JPEG pictures and a table `captions.csv` (see `picture_folder`). Each picture is seen as a clip
of one frame; a caption that names a motion, too, such as "a red moon moving left", is learnt better. Written into
runs/lora/<folder's name> if nothing else is named:

    adapter.pt      the adapter and the new words alone, for `minivdm sample ... --lora runs/lora/moon/adapter.pt`
    lock            who is training here, as long as it lasts

The model draws flat shapes on dark grounds, at 32 x 32 pixels: that is the world in which it can place something new. A
bold shape of one colour is learnt in a minute; of a photograph it keeps little more than its colours.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from ..datasets.captions import Tokenizer
from ..datasets.picture_folder import read_picture_folder
from ..datasets.shapes import SHAPES
from ..datasets.sprites import MovingSprites, all_triples
from ..files import runs_folder
from ..models.lora import CROSS_ATTENTION, trained_parameters
from ..pipelines.adapters import add_concept, save_concept
from ..pipelines.text2video import VideoModel
from ..pipelines.tuning import prior_pictures, tune
from ..training.loop import require_numbers
from ..training.precision import best_device
from .run_folder import claimed, telling_what_is_saved
from .sample import find_model, require_writable

ADAPTER = "adapter.pt"
PRIOR = 128  # pictures by which the model is reminded of what it knows
LINES = 10  # about the loss, in a run


def train_lora(
    folder: str | Path,
    out: str | Path | None = None,
    word: Sequence[str] = (),
    steps: int = 400,
    rank: int = 16,
    alpha: float = 32.0,
    lr: float = 5e-3,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = False,
) -> Path:
    """Tune an adapter on a folder of pictures.

    Args:
        folder: see `read_picture_folder`.
        out: a new folder for the adapter.
        word: new words, each "moon" or "moon=circle,ring": what it starts from, by default the mean of all shapes.
        steps, lr, seed: as for `tune`.
        rank, alpha: as for `add_lora`.
        checkpoint: as for `find_model`.
        progress: show a tqdm bar.

    Returns:
        The path of the adapter.

    Raises:
        ValueError: if something is wrong with the pictures, their captions, the words, a number or the model; if `out`
            holds an adapter already.
        OSError: if a file is missing, `out` cannot be written, or another run is writing there.
        FloatingPointError: if the loss or the gradient is not finite.
    """
    words = dict(word_and_likes(each) for each in word)
    model, source = find_model(checkpoint)
    pictures, captions = read_picture_folder(folder, model.size)
    require_numbers(lr, steps, 1, 1, 0)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must lie in 0..2^32 - 1, got {seed}")
    concept, tokenizer = add_concept(
        model, Tokenizer(), words, CROSS_ATTENTION, rank, alpha, generator=torch.Generator().manual_seed(seed)
    )
    tokens = tokens_of(tokenizer, captions, words)
    if out is not None and not str(out):
        raise ValueError("expected a folder to write to, got an empty name")
    out = runs_folder() / "lora" / Path(folder).resolve().name if out is None else Path(out)
    require_writable(out)
    with telling_what_is_saved(out), claimed(out) as still_there:
        path = out / ADAPTER
        if path.exists():
            raise ValueError(f"{path} is there already: choose another --out, or delete it to start again")
        print(
            f"model: {source}\n{len(pictures)} pictures; {trained_parameters(model):,} numbers are trained", flush=True
        )
        start, device = time.perf_counter(), best_device()
        model.to(device)
        prior = reminders(model, tokenizer, seed)
        run = tune(model, pictures[:, :, None].to(device), tokens, prior, steps, lr, seed=seed, progress=progress)
        for step, loss in run:
            still_there()
            if step % max(1, steps // LINES) == 0 or step == steps:
                tqdm.write(f"{time.perf_counter() - start:6.0f} s  step {step:6d} of {steps}  loss {loss.item():.5f}")
        save_concept(path, model, concept)
    print(f'{path}: {path.stat().st_size:,} bytes; try minivdm sample "{captions[0]}" --lora {path} -o clip.gif')
    return path


def word_and_likes(text: str) -> tuple[str, list[str]]:
    """A new word and the known ones that it starts from: "moon" or "moon=circle,ring"."""
    word, given, likes = text.partition("=")
    return word, likes.split(",") if given else list(SHAPES)


def tokens_of(tokenizer: Tokenizer, captions: Sequence[str], words: Sequence[str]) -> torch.Tensor:
    """The captions' tokens, (N, 1, L); a ValueError for a word that is unknown, or a new one that none of them has."""
    try:
        tokens = tokenizer.encode(captions)
    except ValueError as error:
        raise ValueError(f"{error}; if it is new, name it: --word WORD") from error
    unused = [word for word in words if not (tokens == tokenizer.number[word]).any()]
    if unused:
        raise ValueError(f"no caption has the new word {unused[0]!r}")
    return tokens[:, None]


def reminders(model: VideoModel, tokenizer: Tokenizer, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model draws as single frames for `PRIOR` captions of `MovingSprites`; see `prior_pictures`."""
    generator, triples = torch.Generator().manual_seed(seed), all_triples()
    chosen = triples[torch.randint(len(triples), (PRIOR,), generator=generator)]
    prompts = MovingSprites().captions(chosen, generator)
    noise = torch.Generator(next(model.parameters()).device).manual_seed(seed)
    shape = (3, 1, model.size, model.size)
    return prior_pictures(model, prompts, tokenizer, shape, guidance_scale=2.0, generator=noise)
