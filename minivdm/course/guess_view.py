"""How a prediction looks: a card with the question, and below it a field to answer in, where widgets run.

The card is plain HTML: a saved notebook shows question and answer to readers without a kernel, and it says how to
answer in code where the field does not appear. No mouse is needed.
"""

import html
import importlib

from minivdm.console import take_any_text

from .result_view import indented, notebook_shell

COLOURS = {"kept": "#1d5fa6", "not kept": "#b04a00", "not answered": "#5c636a"}  # white on each: 5 : 1 or more
COLOURS |= {"not taken": COLOURS["not kept"]}
WRAPPED = """<style>
.minivdm-choices label { height: auto; line-height: 1.5; position: relative; padding: 0 0 0.2em 1.6em; }
.minivdm-choices input { position: absolute; left: 0; top: 0; }
</style>"""  # else the end of a long choice is cut off


def show(guess):
    """Show a prediction where the learner is looking."""
    if notebook_shell() is None:
        take_any_text()
        print(as_text(guess))
        return
    from IPython.display import display

    def refresh(problem):
        card.update(as_bundle(guess, problem, field), raw=True)

    field = answer_field(guess, refresh)
    card = display(as_bundle(guess, "", field), raw=True, display_id=True)
    if field is not None:
        view = field._repr_mimebundle_()
        display({**view, "text/plain": "(a field to answer in, as long as the notebook runs)"}, raw=True)


def as_bundle(guess, problem, field):
    """The card for a notebook, as HTML and as text."""
    return {"text/html": as_html(guess, problem, field is not None), "text/plain": as_text(guess, problem)}


def status_of(guess, problem=""):
    """The status and what is said of it, such as ("kept", "40%"); a worked solution has none."""
    words = guess.said()
    if problem:
        return "not taken", f"{problem}; your answer is still: {words}" if words else problem
    if not words:
        return ("not answered", guess.remark) if guess.keeps else ("", "")
    return "kept" if guess.safe else "not kept", f"{words} ({guess.remark})" if guess.remark else words


def in_code(question):
    """How to answer in code."""
    example = "2" if question.choices else "…"
    return f"predict({question.number!r}, …, answer={example}) takes {question.expected}."


def with_keyboard(question):
    """How to answer without a mouse. (The arrow keys go to other cells, as everywhere in JupyterLab.)"""
    return (
        f"Tab leads from the cell into the field; {'the space bar chooses' if question.choices else 'Enter takes it'}."
    )


def as_text(guess, problem=""):
    """The card as plain text."""
    question, (status, words) = guess.question, status_of(guess, problem)
    lines = [": ".join(filter(None, (f"Prediction {question.number}", status, words)))]
    lines += indented(question.text)
    lines += [f"    {place}. {choice}" for place, choice in enumerate(question.choices or (), 1)]
    lines += indented(f"Answer in code: {in_code(question)}") if guess.keeps else []
    return "\n".join(lines)


def as_html(guess, problem="", field=True):
    """The card as HTML. As in `result_view`: all text is escaped, none is a formula, and it suits any theme.

    With a field, how to answer is folded away.
    """
    question, (status, words) = guess.question, status_of(guess, problem)
    colour = COLOURS.get(status, COLOURS["not answered"])
    badge = f"color: #ffffff; background: {colour}; padding: 0.1em 0.5em; border-radius: 0.3em;"
    said = f' &nbsp;<b style="{badge}">{status}</b>&nbsp; {html.escape(words)}' if status else ""
    parts = [f"<b>Prediction {html.escape(question.number)}</b>{said}"]
    parts.append(f'<div style="margin-top: 0.35em;">{html.escape(question.text)}</div>')
    choices = "".join(f"<li>{html.escape(choice)}</li>" for choice in question.choices or ())
    how = f'<ol style="margin: 0.2em 0;">{choices}</ol>' if choices else ""
    if guess.keeps and field:
        how += f"<div>With the keyboard: {html.escape(with_keyboard(question))}</div>"
    if guess.keeps:
        how += f"<div>In code: {html.escape(in_code(question))}</div>"
    if guess.keeps and field:
        how = f"<details><summary>how to answer</summary>{how}</details>"
    frame = f"border-left: 4px solid {colour}; padding: 0.3em 0.8em; margin: 0.3em 0;"
    return f'<div class="mathjax_ignore tex2jax_ignore" style="{frame}">{"".join(parts)}{how}</div>'


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
        whole = widgets.VBox([widgets.HTML(WRAPPED, layout={"display": "none"}), field])
        whole.add_class("minivdm-choices")
    else:
        text = "" if answer is None else f"{answer:.10g}"
        whole = field = widgets.Text(
            text, placeholder=question.expected, continuous_update=False, layout={"width": "24em"}
        )

    def take(change):
        problem = ""
        try:
            guess.give(change["new"])
        except ValueError as error:
            problem = str(error)
        refresh(problem)

    field.observe(take, names="value")
    return whole
