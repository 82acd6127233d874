"""Two clips side by side, and the learner says which is better: two-alternative forced choice.

    eyes = prefer("13.eye", "Which clip looks more natural?", pairs, ("guidance 2", "guidance 6"))
    eyes.report()

In each pair a coin that depends on its place alone puts one clip to the left. Answers are kept in `my_pieces/` (see
`kept_preferences`), for as long as the clips are the same. Nothing waits for one, and nothing depends on one.
"""

import hashlib
import random

from minivdm.datasets.pixels import to_uint8
from minivdm.evaluation.intervals import wilson_interval

from .kept_preferences import keep, kept


def prefer(name, question, pairs, names, answers=None):
    """Ask which of two clips is better, for each of several pairs: buttons where widgets run, else text.

    Args:
        name: of this comparison, such as "13.eye"; answers are kept under it.
        question: its text, shown as it stands.
        pairs: a list of (clip, clip), each (3, F, H, W) in [-1, 1]: one of the first kind, one of the second.
        names: what the two kinds are called.
        answers: answers in code: a letter for each pair from the first on, "l" for the left clip, "r" for the right
            one. They win over the kept ones. What does not fit is named in a printed line, and changes nothing.

    Returns:
        A `Preferences`. In a worked solution (`start(chapter, solution=True)`) nothing is kept, and nobody is asked.

    Raises:
        ValueError: if there is no pair, or a pair or the names are not two.
    """
    from .kept_pieces import settings
    from .preference_view import show

    made = Preferences(name, question, pairs, names, keeps=settings["keep"])
    if answers is not None:
        try:
            made.give(answers)
        except ValueError as error:
            print(f"{name}, answers=: {error}")
    show(made)
    return made


class Preferences:
    """Pairs of clips with the learner's answers.

    Attributes:
        name, question, pairs, names: as for `prefer`.
        swapped: for each pair, whether its first clip stands to the right.
        answers: "l" and "r", one for each pair that was answered, from the first on.
        keeps: whether answers are kept in a file.
        remark: why they could not be, or "".
    """

    def __init__(self, name, question, pairs, names, keeps=True):
        if not pairs or any(len(pair) != 2 for pair in pairs) or len(names) != 2:
            raise ValueError(f"expected pairs of clips and two names, got {len(pairs)} pairs and {names!r}")
        self.name, self.question, self.pairs, self.names, self.keeps = name, question, list(pairs), tuple(names), keeps
        coin = random.Random(name)
        self.swapped = [coin.random() < 0.5 for _ in pairs]
        self.answers, self.remark = "", ""
        if keeps:
            self.answers, self.remark = kept(name, self.clips_hash(), len(self.pairs))

    def clips_hash(self):
        """What tells these clips from others."""
        content = b"".join(to_uint8(clip.movedim(1, 0)).tobytes() for pair in self.pairs for clip in pair)
        return hashlib.sha256(content).hexdigest()[:16]

    def sides(self, i):
        """The clips of pair i as they are shown: (left, right)."""
        first, second = self.pairs[i]
        return (second, first) if self.swapped[i] else (first, second)

    def give(self, answers):
        """Take answers for the pairs from the first on, and keep them.

        Raises:
            ValueError: if one is no "l" or "r", or there are more than pairs; those of before stay.
        """
        if not isinstance(answers, str) or set(answers) - set("lr") or len(answers) > len(self.pairs):
            came = repr(answers)[:60]
            raise ValueError(f'expected at most {len(self.pairs)} letters, "l" or "r" each, got {came}')
        self.answers, self.remark = answers, ""
        if self.keeps:
            try:
                self.remark = keep(self.name, self.clips_hash(), answers)
            except OSError as error:
                self.remark = f"not kept: {' '.join(str(error).split())}"

    def count(self):
        """(how often the first kind was preferred, how many pairs were answered)."""
        chosen = [(side == "r") == swapped for side, swapped in zip(self.answers, self.swapped)]
        return sum(chosen), len(chosen)

    def report(self):
        """Print how often which kind was preferred, with Wilson's interval; a line on how to answer if none was."""
        hits, n = self.count()
        if not n:
            print(f"{self.name}: no pair was answered")
            return
        low, high = wilson_interval(hits, n)
        verdict = "cannot be told from a coin" if low <= 0.5 <= high else "is not a coin's answer"
        print(f"you preferred {self.names[0]!r} to {self.names[1]!r} in {hits} of {n} pairs: {hits / n:.0%},")
        print(f"and 95% of such intervals hold your true share: {low:.0%} to {high:.0%}. That {verdict}.")
