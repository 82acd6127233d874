"""What a prediction asks: a choice among texts, or a number in a range; and which answers fit."""

import dataclasses
import math
import operator
import re

NUMBER = re.compile(r"[1-9]\d*\.[a-z]")


@dataclasses.dataclass(frozen=True)
class Question:
    """One question of a chapter.

    Attributes:
        number: chapter and letter, such as "6.a".
        text: the question.
        choices: two texts or more to choose from; None asks for a number.
        low, high: the range of the number, both included; None leaves that side open.
        unit: the number's unit, such as "%" or "ms".

    Raises:
        ValueError: if a question makes no sense: one line that says what was expected.
    """

    number: str
    text: str
    choices: tuple | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""

    def __post_init__(self):
        if not isinstance(self.number, str) or not NUMBER.fullmatch(self.number):
            raise ValueError(f"a prediction's number is chapter.letter, such as '6.a'; got {self.number!r}")
        if not isinstance(self.text, str) or not self.text.strip():
            raise ValueError(f"prediction {self.number}: expected a question, got {self.text!r}")
        if self.choices is None:
            self.require_range()
            return
        if (self.low, self.high, self.unit) != (None, None, ""):
            raise ValueError(f"prediction {self.number}: choices have no low, high or unit")
        if not isinstance(self.choices, (list, tuple)) or not all(isinstance(each, str) for each in self.choices):
            raise ValueError(f"prediction {self.number}: expected a list of texts as choices, got {self.choices!r}")
        object.__setattr__(self, "choices", tuple(self.choices))
        if len({plain(each) for each in self.choices} - {""}) != len(self.choices) or len(self.choices) < 2:
            raise ValueError(f"prediction {self.number}: expected two different choices or more, got {self.choices!r}")
        numbers = [each for each in self.choices if plain(each).isdecimal()]
        if numbers:  # `answer=2`: the second one, or the one called "2"?
            raise ValueError(f"prediction {self.number}: choice {numbers[0]!r} needs a word, as in '4 steps'")

    def require_range(self):
        """Raise a ValueError unless low and high are numbers, in this order."""
        ends = [end for end in (self.low, self.high) if end is not None]
        numbers = [end for end in ends if isinstance(end, (int, float)) and math.isfinite(end)]
        if numbers != ends or ends != sorted(set(ends)) or not isinstance(self.unit, str):
            came = f"low={self.low!r}, high={self.high!r}, unit={self.unit!r}"
            raise ValueError(f"prediction {self.number}: expected low < high and a text as unit, got {came}")

    @property
    def expected(self):
        """Which answers there are, in words: "a number from 0 to 100 (%)"."""
        if self.choices:
            return f"a number from 1 to {len(self.choices)}, or the text of a choice"
        unit = f" ({self.unit})" if self.unit else ""
        if self.low is not None and self.high is not None:
            return f"a number from {self.low:g} to {self.high:g}{unit}"
        ends = ((self.low, " of at least "), (self.high, " of at most "))
        return "a number" + "".join(f"{words}{end:g}" for end, words in ends if end is not None) + unit

    def taken(self, answer):
        """What an answer of the learner's stands for.

        Args:
            answer: for choices the number of one, from 1 on, or its text; else a number, or its text with or without
                the unit.

        Returns:
            The text of the choice, or a float.

        Raises:
            ValueError: one line: what was expected and what came.
        """
        found = self.meant(answer)
        if found is None:
            raise ValueError(f"expected {self.expected}, got {short(answer)}")
        return found

    def meant(self, answer):
        """As `taken`, but None for an answer that does not fit."""
        return self.choice(answer) if self.choices else self.value(answer)

    def choice(self, answer):
        """The text of the choice that an answer means, else None."""
        if isinstance(answer, str) and not plain(answer).isdecimal():
            return next((each for each in self.choices if plain(each) == plain(answer)), None)
        try:
            place = operator.index(int(answer) if isinstance(answer, str) else answer)
        except (TypeError, ValueError):
            return None
        inside = not isinstance(answer, bool) and 1 <= place <= len(self.choices)
        return self.choices[place - 1] if inside else None

    def value(self, answer):
        """The float that an answer means, if it lies in the range, else None."""
        if isinstance(answer, str):
            answer = answer.strip().removesuffix(self.unit.strip())
        try:
            value = math.nan if isinstance(answer, bool) else float(answer)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # the last one: a tensor of several numbers
            return None
        low, high = (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)
        return value if math.isfinite(value) and low <= value <= high else None

    def fits(self, entry):
        """Whether a kept entry (see `kept_guesses`) answers this question; its text may have been improved since."""
        answers = [entry[key] for key in ("answer", "when_shown") if entry.get(key) is not None]
        kinds = str if self.choices else (int, float)
        found = [self.meant(each) if isinstance(each, kinds) else None for each in answers]
        return None not in found and entry.get("unit", "") == self.unit

    def says(self, answer):
        """An answer, or a measurement, in words: "falls", or "40%"."""
        if self.choices:
            return answer
        digits = f"{answer:,.0f}" if 1e4 <= abs(answer) < 1e15 else f"{answer:.4g}"
        return f"{digits}{self.unit if self.unit[:1] in ('', '%') else ' ' + self.unit}"


def plain(text):
    """A text without capitals and needless spaces, to compare."""
    return " ".join(text.casefold().split())


def short(value):
    """What came, for a message of one line."""
    came = " ".join(repr(value).split())
    return came if len(came) <= 80 else f"{came[:77]}..."
