r"""From a prompt to a context that a denoiser can read.

    "a red circle moving left"  --Tokenizer-->  (B, L) word numbers  --TextEncoder-->  (B, L, D) context

The vocabulary is the closed set of words that the captions' grammar can produce, so a word outside it has never been
trained and is refused. Number 0 is padding. It has an embedding like any word: the empty prompt "" is L paddings, and
what the encoder makes of them is the learned *null* context that guidance needs (Ho and Salimans, "Classifier-Free
Diffusion Guidance", 2022, section 3.2).
"""

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor

from .sprites import MovingSprites, Sprites, all_triples, names_of


def vocabulary(sprites: type[Sprites] = MovingSprites) -> list[str]:
    """The words of all captions of `MovingSprites` or `SpriteStills`, sorted."""
    names = names_of(all_triples("all", sprites.attributes), sprites.attributes)
    return sorted({word for triple in names for caption in sprites.captions_of(*triple) for word in caption.split()})


def caption_table(tokenizer: "Tokenizer", sprites: type[Sprites] | Sprites = MovingSprites) -> Tensor:
    """The tokens of every wording of every triple of names, (N0, N1, N2, W, L) long, on the CPU.

    `table[a, b, c, w]` is wording w of the triple with the indices a, b, c.
    """
    counts = [len(names) for names in sprites.attributes.values()]
    names = names_of(all_triples("all", sprites.attributes), sprites.attributes)
    return torch.stack([tokenizer.encode(sprites.captions_of(*row)) for row in names]).unflatten(0, counts)


def random_captions(table: Tensor, attributes: Tensor, generator: torch.Generator) -> Tensor:
    """The tokens (B, L) of a random wording for each row of `attributes`, (B, 3) long, out of a `caption_table`."""
    wording = torch.randint(table.shape[3], attributes.shape[:1], generator=generator, device=attributes.device)
    return table[(*attributes.unbind(1), wording)]


class Tokenizer:
    """Words to numbers and back.

    Args:
        length: L, numbers per prompt; shorter prompts are padded with 0, longer ones refused.
        words: the vocabulary, by default that of `MovingSprites`; counted from 0, word i has number
            i + 1, because 0 is padding.

    Attributes:
        length: L.
        words: the padding "" and the vocabulary after it.
        number: dict from each of them to its place, which is its number.
    """

    def __init__(self, length: int = 12, words: "Sequence[str] | None" = None):
        self.length = length
        self.words = ["", *(vocabulary() if words is None else words)]
        self.number = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        """The size of the vocabulary, padding included."""
        return len(self.words)

    def encode(self, prompts: "str | Sequence[str]") -> Tensor:
        """Number the words of prompts, in their order; padding fills the rest of a row.

        Case does not matter. Commas and full stops part words, as spaces do, and of all these
        there may be several in a row.

        Args:
            prompts: a string, or a list of B strings.

        Returns:
            (B, L) long tensor (B = 1 for a string).

        Raises:
            ValueError: if a word is unknown (`token_id` says so and lists near ones), or a prompt
                has more than L words.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        tokens = torch.zeros(len(prompts), self.length, dtype=torch.long)  # (B, L)
        for row, prompt in zip(tokens, prompts):
            words = prompt.lower().replace(",", " ").replace(".", " ").split()
            if len(words) > self.length:
                came = f"got {len(words)}: {prompt!r}"
                raise ValueError(f"a prompt has at most {self.length} words, {came}")
            for i, word in enumerate(words):
                row[i] = self.token_id(word)
        return tokens

    def token_id(self, word: str) -> int:
        """The number of one word, or a ValueError that lists near words."""
        if word not in self.number:
            near = difflib.get_close_matches(word, self.words[1:], n=3, cutoff=0.5)
            advice = f"known: {', '.join(self.words[1:])}"
            if near:
                advice = f"did you mean {' or '.join(map(repr, near))}?"
            raise ValueError(f"{word!r} is not in the vocabulary; {advice}")
        return self.number[word]

    def decode(self, tokens: Tensor) -> list[str]:
        """The prompts of (B, L) tokens as a list of B strings."""
        return [" ".join(self.words[i] for i in row if i) for row in tokens.tolist()]


def with_words(tokenizer: Tokenizer, words: Sequence[str]) -> Tokenizer:
    """A tokenizer that knows new words, too: they come after all others, which keep their numbers.

    Raises:
        ValueError: if one of them is known already, comes twice, or is no single word in small letters.
    """
    for i, word in enumerate(words):
        if word.lower().replace(",", " ").replace(".", " ").split() != [word]:
            raise ValueError(f"a new word has small letters and no spaces, commas or full stops; got {word!r}")
        if word in tokenizer.number or word in words[:i]:
            raise ValueError(f"{word!r} is in the vocabulary already; choose another word")
    return Tokenizer(tokenizer.length, [*tokenizer.words[1:], *words])
