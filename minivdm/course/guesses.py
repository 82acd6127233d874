"""Predictions: a learner commits to an answer before an experiment, and meets it again beside the measurement.

    guess = predict("6.b", "How many percent of the clips …?", low=0, high=100, unit="%")
    ...
    guess.mark(axes)          # in the plot
    guess.beside(accuracy)    # beside the number

Nothing waits for an answer, and nothing depends on one: without it, `mark` draws nothing and `beside` prints the
measurement alone. The answer is kept in `my_pieces/` (see `kept_guesses`). It may be changed at any time; once the
measurement has been shown, the answer that stood then is named beside the new one.
"""

from .guess_question import Question, short
from .guess_view import show
from .kept_guesses import keep, kept_entry

seen = set()  # numbers of the unanswered predictions whose measurement this process has shown


def predict(number, question, choices=None, low=None, high=None, unit="", answer=None):
    """Ask for a prediction: a field to answer in where widgets run, else text.

    Args:
        number: chapter and letter, "6.a".
        question: its text, shown as it stands.
        choices: two texts or more to choose from. Without them, the answer is a number
        low, high: from low to high, both included (None: any),
        unit: in this unit, such as "%" or "ms".
        answer: the learner's answer in code: the number of a choice (from 1 on) or its text; or a number. It wins over
            the one that is kept. One that does not fit is named in a printed line, and changes nothing.

    Returns:
        A `Prediction`. In a worked solution (`start(chapter, solution=True)`) nothing is kept, and none is shown.

    Raises:
        ValueError: if the question makes no sense, such as one choice alone.
    """
    from .kept_pieces import settings  # needs PyTorch; `build` reads this function's signature without it

    guess = Prediction(Question(number, question, choices, low, high, unit), keeps=settings["keep"])
    if answer is not None:
        try:
            guess.give(answer)
        except ValueError as error:
            print(f"Prediction {number}, answer=: {error}")
    show(guess)
    return guess


class Prediction:
    """A question with the learner's answer.

    Attributes:
        question: a `Question`.
        keeps: whether answers are kept in a file.
        remark: what else the learner should know of it, such as why it could not be kept; or "".
        safe: whether the answer is in the file.
    """

    def __init__(self, question, keeps=True):
        self.question, self.keeps, self.entry, self.remark = question, keeps, {}, ""
        if keeps:
            entry, self.remark = kept_entry(question.number)
            if entry and question.fits(entry):
                self.entry = entry
                if entry["question"] != question.text:
                    self.remark = self.remark or "the question was worded otherwise then"
            elif entry:
                self.remark = f"your answer of before, {short(entry['answer'])}, does not fit the question any more"
        self.safe = bool(self.entry)

    @property
    def answer(self):
        """The text of the choice, or a float; None as long as there is none."""
        return self.question.taken(self.entry["answer"]) if self.entry else None

    def give(self, answer):
        """Take an answer and keep it.

        Raises:
            ValueError: if it does not fit the question; what was answered before stays.
        """
        number, entry = self.question.number, dict(self.entry)
        entry |= {"question": self.question.text, "answer": self.question.taken(answer)}
        entry |= {"unit": self.question.unit} if self.question.unit else {}
        if number in seen:
            entry.setdefault("when_shown", None)
        self.put(entry)

    def put(self, entry):
        """Take an entry, and keep it if answers are kept."""
        self.entry, self.remark, self.safe = entry, "", False
        if self.keeps:
            try:
                self.entry, self.remark = keep(self.question, entry)
                self.safe = True
            except OSError as error:
                self.remark = " ".join(str(error).split())

    def shown(self):
        """The measurement is being shown: the answer that stands now is the one from before."""
        if not self.keeps:
            return
        if not self.entry:
            seen.add(self.question.number)
        elif "when_shown" not in self.entry:
            self.put({**self.entry, "when_shown": self.entry["answer"]})

    def said(self):
        """The answer, and if it has been changed since the measurement was shown, the one from before; "" for none."""
        if not self.entry:
            return ""
        words, before = self.question.says(self.answer), self.entry.get("when_shown", self.entry["answer"])
        if before is None:
            return f"{words} (given after the measurement)"
        if before != self.entry["answer"]:
            return f"{words} (before the measurement: {self.question.says(before)})"
        return words

    def mark(self, axes=None, axis="y"):
        """Draw the answer into a plot: a number as a line, a choice as a note in the legend. Without one, do nothing.

        Mark last: a legend that is there is made once more, with the note in it, at the best place.

        Args:
            axes: the plot, by default the current one.
            axis: "y" for a number on the vertical axis, "x" on the horizontal one.

        Raises:
            ValueError: for another axis.
        """
        if axis not in ("x", "y"):
            raise ValueError(f"expected 'x' or 'y' as axis, got {short(axis)}")
        self.shown()
        if self.entry:
            from .guess_marks import draw

            draw(axes, axis, None if self.question.choices else self.answer, self.said())

    def beside(self, measured):
        """Print the measurement, and beside it the answer.

        Args:
            measured: a number in the question's unit, NaN included; or the text of the right choice.

        Raises:
            ValueError: if it is neither.
        """
        question = self.question
        if question.choices and measured not in question.choices:
            raise ValueError(f"prediction {question.number}: expected one of {question.choices}, got {short(measured)}")
        if not question.choices:
            try:
                measured = float(measured)
            except (TypeError, ValueError, RuntimeError):
                came = f"prediction {question.number}: expected a number, got {short(measured)}"
                raise ValueError(came) from None
        self.shown()
        print(f"measured: {question.says(measured)}")
        if self.entry:
            print(f"your prediction {question.number}: {self.said()}")

    def __repr__(self):
        return f"<Prediction {self.question.number}: {self.said() or 'not answered'}>"
