"""What every command of `fmiqa` prints with: two consoles, a progress bar, tables."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from fmiqa_utils.weights import UNTRAINED_NOTE

WIDE = None if sys.stdout.isatty() else 200  # a pipe or a file has no width to wrap to
out, err = Console(width=WIDE), Console(stderr=True, soft_wrap=True)

LINE_EVERY = 60.0  # s


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[..., None]]:
    """A bar with count, rate and ETA on stderr, lines where that is no terminal; yields update(text, done, total, failed=0)."""
    if not err.is_terminal:
        yield _progress_lines(unit)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn(unit + " · {task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as bar:
        tasks: dict[str, object] = {}

        def update(text: str, done: int, total: int, failed: int = 0) -> None:
            label = escape(f"{text} ({failed} failed)" if failed else text)
            if text not in tasks:
                tasks[text] = bar.add_task(label, total=total, rate="")
            task = tasks[text]
            speed = bar.tasks[bar.task_ids.index(task)].speed  # type: ignore[arg-type]
            bar.update(task, completed=done, description=label, rate=_rate(speed) if speed else "")  # type: ignore[arg-type]

        yield update


def _progress_lines(unit: str) -> Callable[..., None]:
    """For a log: a line for each task at its end, and one a minute before."""
    begun: dict[str, tuple[float, int]] = {}  # when, and how much was done then
    said: dict[str, float] = {}

    def update(text: str, done: int, total: int, failed: int = 0) -> None:
        now = time.monotonic()
        start, before = begun.setdefault(text, (now, done))
        if done < total and now - said.setdefault(text, now) < LINE_EVERY:
            return
        said[text] = now
        rate = (done - before) / (now - start) if done > before else 0.0
        left = f", {_duration((total - done) / rate)} left" if rate and done < total else ""
        speed = f", {_rate(rate)}" if rate else ""
        err.print(
            f"{text}: {done:,} of {total:,} {unit}{f' ({failed} failed)' if failed else ''}{speed}{left}"
        )

    return update


def say(text: str) -> None:
    """A sentence on stderr, word for word: what looks like markup in a file's name or a message is none."""
    err.print(text, markup=False)


def _rate(per_s: float) -> str:
    return f"{per_s:.1f}/s" if per_s >= 1 else f"{60 * per_s:.1f}/min"


def _duration(seconds: float) -> str:
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 3600:.1f} h"


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
