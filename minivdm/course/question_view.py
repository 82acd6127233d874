"""How a prediction looks: a card with the question, and below it a field to answer in, where widgets run.

The card is plain HTML: a saved notebook shows question and answer to readers without a kernel, and it says how to
answer in code where the field does not appear. It needs no mouse: Tab leads into the field, the arrow keys or the space
bar choose, Enter takes a number.
"""

import html
import importlib

from minivdm.console import take_any_text

from .result_view import indented, notebook_shell

COLOURS = {"kept": "#1d5fa6", "not kept": "#b04a00", "not answered": "#5c636a"}  # white on each: 5 : 1 or more


def show(guess):
    """Show a prediction where the learner is looking."""
    if notebook_shell() is None:
        take_any_text()
        print(as_text(guess))
        return
    from IPython.display import display

    card = display(as_bundle(guess), raw=True, display_id=True)
    field = answer_field(guess, lambda problem: card.update(as_bundle(guess, problem), raw=True))
    if field is not None:
        view = field._repr_mimebundle_()
        display({**view, "text/plain": "(a field to answer in, as long as the notebook runs)"}, raw=True)


def as_bundle(guess, problem=""):
    """The card for a notebook, as HTML and as text."""
    return {"text/html": as_html(guess, problem), "text/plain": as_text(guess, problem)}


def status_of(guess, problem=""):
    """The status and what is said of it, such as ("kept", "40%"); a worked solution has none."""
    words, why = guess.in_words(), problem or guess.lost
    if not words and not guess.keeps:
        return "", ""
    status = (
        "not kept" if problem else "not answered" if not words else "kept" if guess.keeps and not why else "not kept"
    )
    return status, "; ".join(filter(None, (why, words if not problem else words and f"kept is {words}")))


def how_to_answer(guess):
    """How the learner answers in code; nothing in a worked solution."""
    example = "2" if guess.question.choices else "…"
    return f"In code: predict({guess.question.number!r}, …, answer={example}) takes {guess.question.expected}."


def as_text(guess, problem=""):
    """The card as plain text."""
    question, (status, words) = guess.question, status_of(guess, problem)
    lines = [": ".join(filter(None, (f"Prediction {question.number}", status, words)))]
    lines += indented(question.text)
    lines += [f"    {place}. {choice}" for place, choice in enumerate(question.choices or (), 1)]
    lines += indented(how_to_answer(guess)) if guess.keeps else []
    return "\n".join(lines)


def as_html(guess, problem=""):
    """The card as HTML. As in `result_view`: all text is escaped, none is a formula, and it suits any theme."""
    question, (status, words) = guess.question, status_of(guess, problem)
    colour = COLOURS.get(status, COLOURS["not answered"])
    badge = f"color: #ffffff; background: {colour}; padding: 0.1em 0.5em; border-radius: 0.3em;"
    said = f' &nbsp;<b style="{badge}">{status}</b>&nbsp; {html.escape(words)}' if status else ""
    parts = [f"<b>Prediction {html.escape(question.number)}</b>{said}"]
    parts.append(f'<div style="margin-top: 0.35em;">{html.escape(question.text)}</div>')
    choices = "".join(f"<li>{html.escape(choice)}</li>" for choice in question.choices or ())
    choices = f'<ol style="margin: 0.2em 0;">{choices}</ol>' if choices else ""
    if guess.keeps:
        how = f"{choices}{html.escape(how_to_answer(guess))}"
        choices = f"<details><summary>No field to answer in?</summary>{how}</details>"
    frame = f"border-left: 4px solid {colour}; padding: 0.3em 0.8em; margin: 0.3em 0;"
    return f'<div class="mathjax_ignore tex2jax_ignore" style="{frame}">{"".join(parts)}{choices}</div>'


def answer_field(guess, refresh):
    """A widget to answer in, whose value is the kept answer; None where there are no widgets, or nothing is kept.

    Args:
        guess: a `Prediction`.
        refresh: called with a line about what is wrong, or "", after each answer.
    """
    if not guess.keeps:
        return None
    try:
        widgets = importlib.import_module("ipywidgets")
    except ImportError:
        return None
    question, answer = guess.question, guess.answer
    if question.choices:
        field = widgets.RadioButtons(options=question.choices, value=answer, layout={"width": "auto"})
    else:
        text = "" if answer is None else f"{answer:g}"
        field = widgets.Text(text, placeholder=question.expected, continuous_update=False, layout={"width": "24em"})

    def take(change):
        try:
            guess.give(change["new"])
        except ValueError as error:
            refresh(str(error))
        else:
            refresh("")

    field.observe(take, names="value")
    return field
