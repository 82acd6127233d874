r"""A concept that a model has learnt: an adapter and new words, kept in a small file of their own.

The file holds the adapter alone, with what is needed to use it again: alpha, rank, the layers' names, and the SHA-256
of the weights that it corrects. On other weights the same correction means nothing, so it is refused there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..datasets.captions import Tokenizer, with_words
from ..models.lora import ATTENTION, Adapter, add_lora, linear_layers, lora_layers, require_unmerged, set_scale
from ..models.new_words import add_word
from ..training.torch_files import hash_of_tensors, load_torch, save_torch

KIND = "minivdm adapter, version 1"


@dataclass
class Concept:
    """What was trained: the `Adapter`s by the names of their layers, and the rows of the new words."""

    adapters: dict[str, Adapter]
    words: dict[str, nn.Parameter]

    def parameters(self) -> list[nn.Parameter]:
        """All that is trained."""
        return [weight for each in self.adapters.values() for weight in (each.A, each.B)] + list(self.words.values())

    def set_scale(self, scale: float) -> None:
        """How strongly the adapter is felt, see `lora.set_scale`; the words stay."""
        set_scale(self.adapters, scale)


def add_concept(
    model: nn.Module,
    tokenizer: Tokenizer,
    words: dict[str, Sequence[str]],
    pattern: str | Sequence[str] = ATTENTION,
    rank: int = 4,
    alpha: float = 4.0,
    generator: torch.Generator | None = None,
) -> tuple[Concept, Tokenizer]:
    """Freeze a text-to-image or text-to-video model, and give it an adapter and new words, to be trained.

    Args:
        model: with its text encoder at `model.net.encoder`; changed in place.
        tokenizer: what the model reads prompts with, words of earlier concepts included.
        words: each new word, and the known ones from whose mean it starts, such as {"moon": ["circle", "ring"]}.
        pattern, rank, alpha, generator: as for `add_lora`.

    Returns:
        The `Concept`, and the tokenizer that knows the new words, too.

    Raises:
        ValueError: if a word is known already, or one that it starts from is not; and from `add_lora`.
    """
    longer = with_words(tokenizer, list(words))
    like = [[tokenizer.token_id(each) for each in known] for known in words.values()]
    adapters = add_lora(model, pattern, rank, alpha, generator)
    rows = [add_word(model.net.encoder, each) for each in like]
    return Concept(adapters, dict(zip(words, rows))), longer


def base_hash(model: nn.Module) -> str:
    """The SHA-256 of a model's weights without adapters and new words: the same with and without them."""
    kept = {f"{name}.base.weight": layer.kept for name, layer in lora_layers(model).items() if layer.kept is not None}
    weights = (model.state_dict() | kept).items()
    own = {name.replace(".base.", "."): value for name, value in weights if not is_of_a_concept(name)}
    return hash_of_tensors(own)


def is_of_a_concept(name: str) -> bool:
    """Whether a weight of this name is an adapter's or a new word's."""
    return ".adapters." in name or ".words.rows." in name


def save_concept(path: str | Path, model: nn.Module, concept: Concept) -> None:
    """Write a concept, and nothing of the model that it is for, whole or not at all.

    Raises:
        ValueError: if a weight is not finite; nothing is written then.
        OSError: if the file cannot be written.
    """
    adapters = {
        name: dict(A=each.A.detach().cpu(), B=each.B.detach().cpu(), alpha=each.alpha, rank=each.rank)
        for name, each in concept.adapters.items()
    }
    words = {word: row.detach().cpu() for word, row in concept.words.items()}
    broken = not_finite(adapters, words)
    if broken:
        raise ValueError(f"{path} was not written: {broken} is not finite")
    save_torch(path, dict(kind=KIND, base=base_hash(model), adapters=adapters, words=words))


def not_finite(adapters: dict[str, dict], words: dict[str, Tensor]) -> str:
    """What is not finite among the numbers of a concept, or ""."""
    values = {f"{name} of layer {layer}": each[name] for layer, each in adapters.items() for name in ("A", "B")}
    values |= {f"the word {word!r}": row for word, row in words.items()}
    return next((what for what, value in values.items() if not value.isfinite().all()), "")


def load_concept(
    path: str | Path, model: nn.Module, tokenizer: Tokenizer, scale: float = 1.0
) -> tuple[Concept, Tokenizer]:
    """Give a model a concept from a file; several may be loaded one after the other.

    Everything is looked at before the model is changed.

    Args:
        path: a file of `save_concept`.
        model: the one that the concept was trained on, earlier concepts included; changed in place, and frozen.
        tokenizer: what the model reads prompts with.
        scale: how strongly the adapter is felt.

    Returns:
        The `Concept`, and the tokenizer that knows its words, too.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no such file, was made for other weights, lacks a layer or has one of another shape, holds
            what is not finite or a word that is known already; or if an adapter of the model is merged.
    """
    saved = load_torch(path)
    if not isinstance(saved, dict) or saved.get("kind") != KIND:
        raise ValueError(f"{path} holds no adapter: expected a file that says {KIND!r}")
    try:
        adapters, words = checked_parts(saved)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is broken: {error.__class__.__name__}, {' '.join(str(error).split())[:200]}"
        ) from error
    found = base_hash(model)
    if saved.get("base") != found:
        expected = f"the weights with SHA-256 {str(saved.get('base'))[:12]}..."
        raise ValueError(f"{path} was made for another model: it corrects {expected}, this model has {found[:12]}...")
    layers = linear_layers(model, "")
    for name, each in adapters.items():
        if name not in layers:
            raise ValueError(f"{path} does not fit: the model has no linear layer {name}")
        d_out, d_in = layers[name].weight.shape[:2]
        wanted = (each["rank"], d_in), (d_out, each["rank"])
        if (tuple(each["A"].shape), tuple(each["B"].shape)) != wanted:
            came = f"{tuple(each['A'].shape)} and {tuple(each['B'].shape)}"
            raise ValueError(
                f"{path} does not fit: for {name}, A and B should be {wanted[0]} and {wanted[1]}, not {came}"
            )
    width = model.net.encoder.words.weight.shape[1]
    for word, row in words.items():
        if row.shape != (width,):
            raise ValueError(f"{path} does not fit: the word {word!r} should be ({width},), not {tuple(row.shape)}")
    broken = not_finite(adapters, words)
    if broken:
        raise ValueError(f"{path} holds numbers that are not finite: {broken}")
    if not math.isfinite(scale):
        raise ValueError(f"expected a finite scale, got {scale}")
    longer = with_words(tokenizer, list(words))
    require_unmerged(model)
    return put_in(model, adapters, words, scale), longer


def checked_parts(saved: dict[str, object]) -> tuple[dict[str, dict], dict[str, Tensor]]:
    """The adapters and words of a file, or an error that says what they are not."""
    adapters, words = saved["adapters"], saved["words"]
    for name, each in adapters.items():
        matrices = all(isinstance(m, Tensor) and m.is_floating_point() and m.ndim == 2 for m in (each["A"], each["B"]))
        if not matrices or type(each["rank"]) is not int or each["rank"] < 1 or not 0 < each["alpha"] < math.inf:
            raise ValueError(f"layer {name} lacks A, B, a rank or a positive alpha")
    rows = all(isinstance(word, str) and isinstance(row, Tensor) for word, row in words.items())
    if not adapters or not rows or not all(row.is_floating_point() for row in words.values()):
        raise ValueError("expected layers, and words with their rows")
    return adapters, words


@torch.no_grad()
def put_in(model: nn.Module, adapters: dict[str, dict], words: dict[str, Tensor], scale: float) -> Concept:
    """Add what a file holds to a model that it fits."""
    added = {}
    for name, each in adapters.items():
        adapter = add_lora(model, [name], each["rank"], each["alpha"])[name]
        adapter.A.copy_(each["A"])
        adapter.B.copy_(each["B"])
        added[name] = adapter
    rows = {}
    for word, row in words.items():
        rows[word] = add_word(model.net.encoder, [0])
        rows[word].copy_(row)
    model.requires_grad_(False)
    concept = Concept(added, rows)
    concept.set_scale(scale)
    return concept
