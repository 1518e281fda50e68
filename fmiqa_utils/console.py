"""What every command of `fmiqa` prints with: two consoles, sentences, tables."""

import sys
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from fmiqa_utils.notes import UNTRAINED_NOTE

WIDE = None if sys.stdout.isatty() else 200  # a pipe or a file has no width to wrap to
out, err = Console(width=WIDE), Console(stderr=True, soft_wrap=True)


def say(text: str) -> None:
    """A sentence on stderr, word for word: what looks like markup in a file's name or a message is none."""
    err.print(text, markup=False)


def warn_untrained(chosen: list[tuple[str, str]]) -> None:
    """Say on the console, so that nobody misses it, that weights are untrained."""
    if any(w == "untrained" for _, w in chosen):
        names = ", ".join(dict.fromkeys(b for b, w in chosen if w == "untrained"))
        err.print(f"[bold white on red] {names}: {UNTRAINED_NOTE} [/]")


def table(frame: pd.DataFrame, title: str) -> Table:
    """A data frame as a table of the console."""
    shown = Table(*map(str, frame.columns), title=title)
    for row in frame.itertuples(index=False):
        shown.add_row(*("" if v is None else str(v) for v in row))
    return shown


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
