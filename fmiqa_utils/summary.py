"""How an object shows itself: a few lines in a console, a small table in a notebook, with the same facts."""

import html
from collections.abc import Mapping


def as_text(title: str, facts: Mapping[str, object]) -> str:
    """The title, and one indented line per fact."""
    width = max(map(len, facts), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in facts.items())])


def as_html(title: str, facts: Mapping[str, object]) -> str:
    """The title above a table of two columns; everything is escaped."""
    rows = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    return f"<p><strong>{html.escape(title)}</strong></p><table>{rows}</table>"
