"""Exercise 5.1: words to numbers."""

import torch

from minivdm.course.exercise import close, exercise, holds, raises


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

    def numbered(name, prompts, *rows):
        """A probe: these prompts, whose words are all known, give these numbers."""
        try:
            return close(name, made.encode(prompts), want(*rows), atol=0, rtol=0)
        except (ValueError, LookupError) as error:
            probe = holds(name, False, f"a {type(error).__name__}, though all words are among the tokenizer's `words`")
            probe.message, probe.want = f"{probe.message}: {error}", want(*rows)
            return probe

    one, full = pick(3), pick(length)
    rows = [pick(4), [], pick(2)]
    yield numbered("a list of 3 prompts, one of them empty", [text(row) for row in rows], *rows)
    yield numbered("a string, 3 words", text(one), one)
    yield numbered(f"a prompt of just {length} words, for length={length}", text(full), full)
    yield numbered("capital letters", text(one).title(), one)
    yield numbered("capital letters everywhere", text(one).upper(), one)
    yield numbered("a comma and a full stop", f"{words[one[0] - 1]}, {text(one[1:])}.", one)
    yield numbered("full stops inside", f"{text(one)}. {text(rows[2])}.", one + rows[2])
    signs = f"  {text(full)}   ".replace(" ", "    ", 2).replace(" ", "   ", 1)
    yield numbered(f"two and more spaces in a row, {length} words", signs, full)
    yield numbered("commas and full stops without spaces", text(full).replace(" ", ",", 2).replace(" ", "."), full)
    yield numbered("nothing but signs and spaces", [" ,. .", text(one)], [], one)
    for sign in "!-'2":
        name = f"an unknown word, {words[0] + sign!r}"
        yield raises(name, ValueError, lambda sign=sign: made.encode(text(one) + " " + words[0] + sign))
    yield raises("an unknown word in a list", ValueError, lambda: made.encode([text(one), f"{text(one)} zzyzx"]))
    yield raises(f"{length + 1} words, for length={length}", ValueError, lambda: made.encode(text(pick(length + 1))))
    near = words[one[0] - 1]
    try:
        made.encode(f"{text(one)} {near[:-1]}")
        told = "none came"
    except ValueError as error:
        told = str(error)
    message = f"expected a ValueError that names {near!r}, as `token_id` raises it; {told}"
    yield holds(f"the error for {near[:-1]!r} names a near word", near in told, message)
    words, made = words[::-1], f(length=length + 2, words=words[::-1])
    length += 2
    yield numbered(f"another tokenizer, length={length}", text(one), one)


@tokenizer.promises(
    "samples",
    dtype="words come in, no floats",
    layout="words come in, no tensors",
    device="words come in, no tensors",
    gradients="words come in, no floats",
)
def several_prompts(f, draw):
    words = made_up(draw, 4)
    return f(length=3, words=words).encode, dict(prompts=[words[0], "", f"{words[1]}, {words[3].upper()}"])


tokenizer.edit(
    "a string taken for a list",
    {"[prompts] if isinstance(prompts, str) else list(prompts)": "list(prompts)"},
    "A string is a sequence, too, of letters: each letter was taken for a prompt. Make a single string a list of one "
    "first: [prompts] if isinstance(prompts, str).",
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
    "a full prompt refused",
    {"len(words) > self.length": "len(words) >= self.length"},
    "A prompt of exactly L words is refused, though it fits. Refuse more than L: len(words) > self.length.",
)
tokenizer.edit(
    "numbers with a decimal point",
    {", dtype=torch.long": ""},
    "The numbers have another dtype. nn.Embedding looks up longs: dtype=torch.long.",
)
tokenizer.edit(
    "as long as the longest prompt",
    {"return tokens": "return tokens[:, : int((tokens != 0).sum(dim=1).max())]"},
    "The rows are as long as the longest prompt of this call. They always have L = self.length numbers.",
)
tokenizer.edit(
    "one row for all",
    {"zeros(len(prompts), self.length, dtype=torch.long)": "zeros(self.length).long().expand(len(prompts), -1)"},
    "All rows are one and the same in memory, as after [[0] * L] * B: what one prompt writes, the others show, too. "
    "Make a new row for each prompt.",
)
tokenizer.edit(
    "commas and full stops taken out",
    {'.replace(",", " ").replace(".", " ")': '.replace(",", "").replace(".", "")'},
    "Commas and full stops are taken out, so that two words with only a comma between them become one. Replace them "
    "by spaces.",
)
tokenizer.edit(
    "the nearest word instead",
    {"self.token_id(word)": "self.token_id((difflib.get_close_matches(word, self.words[1:], 1, 0.5) or [word])[0])"},
    "An unknown word was taken for a near one. That is a guess: let self.token_id(word) refuse it.",
)
tokenizer.edit(
    "all signs dropped",
    {".lower()": '.lower().translate({ord(c): " " for c in "!?-_;:\'0123456789"})'},
    "Other signs than commas and full stops are dropped, too, so words pass that are not in the vocabulary. Only those "
    "two are no part of a word.",
)
