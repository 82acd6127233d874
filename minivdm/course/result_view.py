"""How the answer of a check looks: a small card in Jupyter, plain text elsewhere."""

import html

from minivdm.console import take_any_text

# White on each of these has a contrast of 5 : 1 or more; WCAG 2 asks for 4.5. No colour of letters has that in light
# and in dark themes, so the status brings a ground of its own.
COLOURS = {"passed": "#1e7e34", "wrong": "#b04a00", "error": "#c53030", "not attempted": "#5c636a"}
MONO = (
    "white-space: pre-wrap; font-family: monospace; font-size: 0.92em; margin: 0.35em 0 0 0; background: transparent;"
)


def show(result):
    """Show a result where the learner is looking."""
    shell = notebook_shell()
    if shell is None:
        take_any_text()
        print(as_text(result))
        return
    from IPython.display import display

    display({"text/html": as_html(result), "text/plain": as_text(result)}, raw=True)


def notebook_shell():
    """The running IPython shell if it can show HTML, else None."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return shell if shell is not None and hasattr(shell, "kernel") else None


def title(result):
    """ "Exercise 1.3 (q_sample): passed"."""
    label = f"Exercise {result.exercise} ({result.short})" if result.exercise else result.short
    return f"{label}: {result.status}"


def as_text(result):
    """The card as plain text."""
    lines = [title(result), *indented(result.message)]
    if result.hint:
        lines += indented(f"hint: {result.hint}")
    lines += [line for note in result.notes for line in indented(note)]
    if result.printed:
        lines += ["  printed by your code:", *indented(result.printed, 4)]
    return "\n".join(lines)


def indented(text, by=2):
    """The text's lines, indented; none for an empty text."""
    return [" " * by + line for line in text.splitlines()]


def as_html(result):
    """The card as HTML: inline styles only, and no background but the status's, so that it suits light and dark themes.

    All text is escaped, and none is taken for a formula: a learner's message may hold anything.
    """
    colour = COLOURS[result.status]
    label = html.escape(title(result).rpartition(": ")[0])
    badge = f"color: #ffffff; background: {colour}; padding: 0.1em 0.5em; border-radius: 0.3em;"
    parts = [f'<b>{label}</b> &nbsp;<b style="{badge}">{result.status}</b>']
    if result.message:
        parts.append(f'<pre style="{MONO}">{html.escape(result.message)}</pre>')
    if result.hint:
        parts.append(f'<div style="margin-top: 0.35em;"><b>Hint.</b> {html.escape(result.hint)}</div>')
    parts += [f'<div style="margin-top: 0.35em; opacity: 0.8;">{html.escape(note)}</div>' for note in result.notes]
    if result.printed:
        body = f'<pre style="{MONO}">{html.escape(result.printed)}</pre>'
        parts.append(f'<div style="margin-top: 0.35em; opacity: 0.8;">Printed by your code:{body}</div>')
    frame = f"border-left: 4px solid {colour}; padding: 0.3em 0.8em; margin: 0.3em 0;"
    return f'<div class="mathjax_ignore tex2jax_ignore" style="{frame}">{"".join(parts)}</div>'
