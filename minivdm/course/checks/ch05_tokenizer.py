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


def encode_with(mistake, self, prompts):
    """An encoder with room for one mistake."""
    if mistake != "letters":
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    rows, L = [], self.length
    for prompt in prompts:
        text = prompt if mistake == "capitals" else prompt.lower()
        if mistake != "punctuation":
            text = text.replace(",", " ").replace(".", " ")
        words = text.split(" ") if mistake == "single spaces" else text.split()
        if mistake == "cut":
            words = words[:L]
        if len(words) >= (L if mistake == "full refused" else L + 1):
            raise IndexError if mistake == "index" else ValueError("too long")
        if mistake == "unknown":
            row = [self.number.get(word, 0) for word in words]
        elif mistake == "key":
            row = [self.number[word] for word in words]
        else:
            row = [self.token_id(word) for word in words]
        row = [number - 1 for number in row] if mistake == "shifted" else row
        row = row[::-1] if mistake == "backwards" else sorted(row) if mistake == "sorted" else row
        padding = [0] * (L - len(row))
        rows.append(padding + row if mistake == "front" else row + padding)
    if mistake == "longest":
        longest = max(sum(number > 0 for number in row) for row in rows)
        rows = [row[:longest] for row in rows]
    if mistake == "list":
        return rows
    tokens = torch.tensor(rows, dtype=torch.float32 if mistake == "float" else torch.long)
    return tokens[0] if mistake == "no batch" and len(rows) == 1 else tokens


def wrong(mistake, label, hint):
    """Add a misconception: the encoder above with one mistake in it."""

    class Wrong:
        def encode(self, prompts):
            return encode_with(mistake, self, prompts)

    tokenizer.misconception(label, hint)(Wrong)


wrong(
    "letters",
    "a string taken for a list",
    "A string is a sequence, too, of letters: each letter was taken for a prompt. Make a single string a list of one "
    "first: [prompts] if isinstance(prompts, str).",
)
wrong("capitals", "capitals kept", "'A' is not 'a', so the word is not found. Make the prompt lower case: .lower().")
wrong(
    "punctuation",
    "commas and full stops kept",
    "A comma or a full stop sticks to its word, and 'circle,' is in no vocabulary. Replace both by spaces.",
)
wrong(
    "single spaces",
    "split at every single space",
    "split(' ') finds an empty word between two spaces, as a replaced comma leaves them, and 0 in the midst of a "
    "prompt. split() without an argument takes any run of spaces as one.",
)
wrong("front", "padding in front", "The zeros stand in front. The words come first, and the padding fills up the end.")
wrong(
    "shifted",
    "numbers counted from 0",
    "All numbers are one too small, so the first word looks like padding. 0 is padding; words count from 1, as in "
    "self.number.",
)
wrong("backwards", "words backwards", "The words come in reverse order. Word i of the prompt stands at place i.")
wrong("sorted", "numbers sorted", "The numbers are sorted, but the order of the words carries meaning: leave it.")
wrong(
    "unknown",
    "unknown words pass",
    "An unknown word passes without a sound, as padding or left out, and a model would draw something else than was "
    "asked for. self.token_id(word) refuses it and names near words.",
)
wrong(
    "key",
    "a KeyError for an unknown word",
    "The dict's own KeyError comes out, which helps nobody. self.token_id(word) raises a ValueError with near words.",
)
wrong("cut", "long prompts cut", "A long prompt is cut silently. Raise a ValueError if it has more than L words.")
wrong(
    "index",
    "an IndexError for a long prompt",
    "A long prompt runs over the end of its row, and the IndexError says nothing about prompts. Compare len(words) "
    "with self.length first, and raise a ValueError.",
)
wrong(
    "full refused",
    "a full prompt refused",
    "A prompt of exactly L words is refused, though it fits. Refuse more than L: len(words) > self.length.",
)
wrong(
    "longest",
    "padded to the longest prompt",
    "Rows are as long as the longest prompt in the list. Every row has L = self.length numbers.",
)
wrong("list", "a list returned", "The numbers are right, but in Python lists. Make a long tensor of them, (B, L).")
wrong("float", "numbers with a decimal point", "The numbers are floats. nn.Embedding looks up longs: dtype=torch.long.")
wrong("no batch", "no batch axis for a string", "A single string gave (L,). It is a batch of one: (1, L).")
