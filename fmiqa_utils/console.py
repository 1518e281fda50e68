"""What every command of `fmiqa` prints with: two consoles, sentences, tables. What a user named is printed as it is, never as markup."""

import codecs
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

UNTRAINED_NOTE = "UNTRAINED stand-in weights: these numbers show the machinery at work, they say nothing about foundation models."
UNTRAINED_TAG = "untrained weights"  # the short form, after the full sentence
# a pipe or a file has no width to wrap to, unless $COLUMNS gives it one
WIDE = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200
out = Console(width=WIDE, markup=False, emoji=False)
err = Console(stderr=True, soft_wrap=True, markup=False, emoji=False)
UNBOUNDED = 100_000  # columns; to measure how wide a table would be
NOTHING = ("None", "nan", "<NA>", "NaT")  # how a missing value is printed
BOLD = "\x02{}\x03"  # marks the beginning of a cell as bold, with characters that no name holds
PLAIN = str.maketrans({"…": "...", "–": "-", "−": "-", "×": "x", "·": "-", "→": "->", "≥": ">=", "’": "'"})


def readable_anywhere() -> None:
    """Let stdout and stderr print every text; where the terminal's encoding lacks a letter, "…" becomes "..."."""
    codecs.register_error("fmiqa", _plainer)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="fmiqa")


def _plainer(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


def say(text: str) -> None:
    """A sentence on stderr, word for word: what looks like markup is printed as it is."""
    err.print(Text(text))


def tell(text: str, style: str | None = None) -> None:
    """A line on stdout, word for word and never cut or broken; the terminal wraps it."""
    out.print(Text(text, style=style or ""), soft_wrap=True)


def warn(text: str) -> None:
    """A warning on stderr that nobody misses."""
    err.print(Text(text, style="bold red"))


def warn_untrained(chosen: list[tuple[str, str]]) -> None:
    """Say on the console, so that nobody misses it, that weights are untrained."""
    if any(w == "untrained" for _, w in chosen):
        names = ", ".join(dict.fromkeys(b for b, w in chosen if w == "untrained"))
        err.print(Text(f" {names}: {UNTRAINED_NOTE} ", style="bold white on red"))


def table(frame: "pd.DataFrame", title: str) -> Table:
    """A data frame as a table of the console."""
    return _table(map(str, frame.columns), frame.itertuples(index=False), title)


def show(frame: "pd.DataFrame", title: str) -> None:
    """Print a data frame: as a table where the console is wide enough, otherwise row by row; nothing is cut or broken over lines."""
    columns = [str(c) for c in frame.columns]
    show_rows([dict(zip(columns, row, strict=True)) for row in frame.itertuples(index=False)], title)


def show_rows(rows: Sequence[Mapping[str, object]], title: str) -> None:
    """`show` for rows that are not a data frame: {column: value}, all with the same columns."""
    if not rows:
        tell(f"{title}: none.")
        return
    shown = _table(rows[0], (row.values() for row in rows), title)
    if out.measure(shown, options=out.options.update(width=UNBOUNDED)).maximum <= out.width:
        out.print(shown)
        return
    tell(title, "italic")
    for row in rows:
        for line in _record(row, out.width):
            out.print(line, soft_wrap=True)


def _table(columns: Iterable[str], rows: Iterable[Iterable[object]], title: str) -> Table:
    shown = Table(*(Column(Text(c)) for c in columns), title=Text(title, style="table.title"))
    for row in rows:
        shown.add_row(*map(_cell, row))
    return shown


def _cell(value: object) -> Text:
    """A value as text; where it begins with something in `BOLD`, that part is bold."""
    text = str(value)
    if text in NOTHING and not isinstance(value, str):
        text = ""
    first, last = BOLD.split("{}")
    bold, _, rest = text.removeprefix(first).partition(last)
    return Text.assemble((bold, "bold"), rest) if text.startswith(first) else Text(text)


def _record(row: Mapping[str, object], width: int) -> list[Text]:
    """A row as lines: its first value, and below it "column value" separated by dots, as many as fit into `width` columns."""
    (_, name), *rest = row.items()
    lines = [Text(str(name), style="bold")]
    current = Text("   ")
    for column, value in rest:
        item = Text.assemble((f" {column} ", "dim"), _cell(value))
        if not str(_cell(value)):
            continue
        if len(current) > 3 and current.cell_len + item.cell_len + 2 > width:
            lines.append(current)
            current = Text("   ")
        elif len(current) > 3:
            current.append(" ·")
        current.append_text(item)
    return [*lines, current] if len(current) > 3 else lines


def brief(value: object, most: int = 5) -> str:
    """A value on one line; of a collection its length and the first entries."""
    if isinstance(value, dict | list | tuple | set):
        items = (
            [f"{k}: {v}" for k, v in value.items()] if isinstance(value, dict) else [str(v) for v in value]
        )
        return f"{len(items)}" + (
            f" ({'; '.join(items[:most])}{'; …' if len(items) > most else ''})" if items else ""
        )
    return str(value)


def short(path: Path) -> str:
    """A path as seen from the current folder."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
