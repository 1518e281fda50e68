"""Progress that a person sees: in a terminal, in a log, in a notebook, or in a notebook that `fmiqa report` runs."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fmiqa_utils.console import err

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


def _rate(per_s: float) -> str:
    return f"{per_s:.1f}/s" if per_s >= 1 else f"{60 * per_s:.1f}/min"


def _duration(seconds: float) -> str:
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 3600:.1f} h"
