"""Exercise 5.1: words to numbers."""

import torch

from minivdm.course.exercise import close, exercise, raises


def made_up(draw, n):
    """n words that no dictionary has, all different, in no order."""
    words = []
    while len(words) < n:
        word = "".join(draw.choice("bdfgklmnprst") + draw.choice("aeiou") for _ in range(draw.integers(2, 4)))
        words += [] if word in words else [word]
    return words


@exercise("captions.Tokenizer")
def tokenizer(f, draw):
    words, length = made_up(draw, 9), draw.integers(5, 7)
    made = f(length=length, words=words)

    def pick(n):
        return [draw.integers(1, 9) for _ in range(n)]  # the first word has number 1

    def text(numbers):
        return " ".join(words[i - 1] for i in numbers)

    def want(*rows):
        return torch.tensor([row + [0] * (length - len(row)) for row in rows])

    exact = dict(atol=0, rtol=0)
    one = pick(3)
    yield close("a prompt of 3 words", made.encode(text(one)), want(one), **exact)
    rows = [pick(4), [], pick(2)]
    got = made.encode([text(row) for row in rows])
    yield close("a list of 3 prompts, one of them empty", got, want(*rows), **exact)
    full = pick(length)
    yield close(f"a prompt of just {length} words, for length={length}", made.encode(text(full)), want(full), **exact)
    yield close("capital letters", made.encode(text(one).capitalize()), want(one), **exact)
    parted = f"{words[one[0] - 1]}, {text(one[1:])}."
    yield close("a comma and a full stop", made.encode(parted), want(one), **exact)
    for name, bad in (("an unknown word", f"{text(one)} zzyzx"), (f"{length + 1} words", text(pick(length + 1)))):
        yield raises(f"{name}, for length={length}", ValueError, lambda bad=bad: made.encode(bad))


tokenizer.edit(
    "a string taken for a list",
    {"[prompts] if isinstance(prompts, str) else list(prompts)": "list(prompts)"},
    "A string is a sequence, too, of letters: each letter was taken for a prompt. Make a single string a list of one "
    "first: [prompts] if isinstance(prompts, str).",
)
tokenizer.edit(
    "capitals kept",
    {".lower()": ""},
    "'A' is not 'a', so the word is not found. Make the prompt lower case: .lower().",
)
tokenizer.edit(
    "commas and full stops kept",
    {'.replace(",", " ").replace(".", " ")': ""},
    "A comma or a full stop sticks to its word, and 'circle,' is in no vocabulary. Replace both by spaces.",
)
tokenizer.edit(
    "split at every single space",
    {".split()": '.split(" ")'},
    "split(' ') finds an empty word between two spaces, as a replaced comma leaves them, and so 0 in the middle of a "
    "prompt. split() without an argument takes any run of spaces as one.",
)
tokenizer.edit(
    "padding in front",
    {"row[i]": "row[i - len(words)]"},
    "The zeros stand in front. The words come first, and the padding fills up the end.",
)
tokenizer.edit(
    "numbers counted from 0",
    {"self.token_id(word)": "self.token_id(word) - 1"},
    "All numbers are one too small, so the first word looks like padding. 0 is padding; words count from 1, as in "
    "self.number.",
)
tokenizer.edit(
    "unknown words pass",
    {"self.token_id(word)": "self.number.get(word, 0)"},
    "An unknown word passes without a sound, as padding or left out, and a model would draw something else than was "
    "asked for. self.token_id(word) refuses it and names near words.",
)
tokenizer.edit(
    "a KeyError for an unknown word",
    {"self.token_id(word)": "self.number[word]"},
    "The dict's own KeyError comes out, which helps nobody. self.token_id(word) raises a ValueError with near words.",
)
tokenizer.edit(
    "an IndexError for a long prompt",
    {"len(words) > self.length": "False"},
    "A long prompt runs over the end of its row, and the IndexError says nothing about prompts. Compare len(words) "
    "with self.length first, and raise a ValueError.",
)
tokenizer.edit(
    "a full prompt refused",
    {"len(words) > self.length": "len(words) >= self.length"},
    "A prompt of exactly L words is refused, though it fits. Refuse more than L: len(words) > self.length.",
)
tokenizer.edit(
    "numbers with a decimal point",
    {", dtype=torch.long": ""},
    "The numbers are floats. nn.Embedding looks up longs: dtype=torch.long.",
)
tokenizer.edit(
    "no batch axis for a string",
    {"return tokens": "return tokens.squeeze(0)"},
    "A single string gave (L,). It is a batch of one: (1, L).",
)
