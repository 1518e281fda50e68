"""Progress that a person sees: in a terminal, in a log, in a notebook, or in a notebook that `fmiqa report` runs."""

import html
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO, TypeVar

from fmiqa_utils.console import err, say

CHANNEL = "FMIQA_PROGRESS"  # names the file that a notebook's kernel reports to while `fmiqa report` runs it
TICK = 0.5  # s between two looks at what to show
UNEVEN = ("cells", "notebooks", "chapters")  # units that take different times: a rate would mislead
FIRST_LINES, LINE_EVERY = 2.0, 60.0  # s between two lines of a log: short at first, then longer

T = TypeVar("T")


class Update(Protocol):
    """A function that takes how far a task has come: `done` of `total` units, some of them `failed`. Fractions of a unit count.

    total 0: the task has begun, and how much there is to do is not known yet.
    """

    def __call__(self, text: str, done: float, total: float, failed: int = 0, unit: str = "") -> None: ...


def silent(text: str, done: float, total: float, failed: int = 0, unit: str = "") -> None:
    """An `Update` that nobody sees."""


_listener: ContextVar[Update | None] = ContextVar("listener", default=None)


@contextmanager
def progress_bar(unit: str) -> Iterator[Update]:
    """Show how far tasks have come, with count, rate and time left; yields `update(text, done, total, failed=0)`.

    A task is shown from its first update on, and its time ticks between updates. In a terminal each task is a bar on stderr, in a log
    some lines, in a notebook a bar below the cell; in a notebook that `fmiqa report` runs, the bar is on the report's console.
    `track` inside the context reports here as well, and so does another `progress_bar`.
    """
    outer = _listener.get()
    if outer is not None:
        yield _with_unit(outer, unit)
        return
    with _display(unit) as update:
        token = _listener.set(update)
        try:
            yield update
        finally:
            _listener.reset(token)


def _with_unit(update: Update, unit: str) -> Update:
    def inner(text: str, done: float, total: float, failed: int = 0, unit: str = unit) -> None:
        update(text, done, total, failed, unit=unit)

    return inner


def track(items: Iterable[T], text: str, unit: str, total: int = 0) -> Iterator[T]:
    """The items one by one; the enclosing `progress_bar`, if there is one, shows how many of `total` are done."""
    update = _listener.get() or silent
    total = total or (len(items) if isinstance(items, Sized) else 0)
    for done, item in enumerate(items):
        update(text, done, total, unit=unit)
        yield item
    update(text, total, total, unit=unit)


def _display(unit: str) -> AbstractContextManager[Update]:
    if os.environ.get(CHANNEL) and _in_kernel():
        return _to_file(Path(os.environ[CHANNEL]), unit)
    if _in_kernel():
        return _in_notebook(unit)
    return _in_terminal(unit) if err.is_terminal else _in_log(unit)


def _in_kernel() -> bool:
    """True in a notebook's kernel, which has always imported IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


# ---- one task ------------------------------------------------------------------------------------------------------------


@dataclass
class Task:
    """How far one task has come, and since when."""

    text: str
    unit: str
    total: float
    done: float
    begun: float  # time.monotonic()
    before: float  # done at the first update: a resumed run starts above 0
    failed: int = 0
    ended: float | None = None

    def update(self, done: float, total: float, failed: int, now: float) -> None:
        """Take the latest count; the clock of the rate starts where the first one is known."""
        if not self.total:
            self.begun, self.before = now, done
        self.done, self.total, self.failed = done, total, failed
        self.ended = (self.ended or now) if 0 < total <= done else None

    def rate(self, now: float) -> float:
        """Units per second since the first update, 0 where nothing is known yet or hardly any time has passed."""
        seconds = (self.ended or now) - self.begun
        return (self.done - self.before) / seconds if self.done > self.before and seconds > TICK else 0.0

    def numbers(self, now: float) -> str:
        """Count, rate, time spent and time left in words."""
        if not self.total:
            return f"starting · {duration(now - self.begun)}"
        rate = 0.0 if self.unit in UNEVEN else self.rate(now)
        parts = [f"{int(self.done):,} of {int(self.total):,} {self.unit}"]
        parts += [rate_text(rate)] if rate else []
        parts.append(duration((self.ended or now) - self.begun))
        if rate and self.done < self.total:
            parts.append(f"{duration((self.total - self.done) / rate)} left")
        return " · ".join(parts)

    @property
    def label(self) -> str:
        """The task's name, with how many failed."""
        return f"{self.text} ({self.failed} failed)" if self.failed else self.text


class Tasks:
    """The tasks of one `progress_bar`, in the order in which they began."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.all: dict[str, Task] = {}

    def update(self, text: str, done: float, total: float, failed: int = 0, unit: str = "") -> Task:
        """The task called `text` with its latest count."""
        now, name = time.monotonic(), task_name(text)
        task = self.all.get(name)
        if task is None or (
            task.ended is not None and done < total
        ):  # the same task again, in another chapter
            task = self.all[name] = Task(text, unit or self.unit, 0, 0, now, 0)
        task.text = text
        task.update(done, total, failed, now)
        return task


def task_name(text: str) -> str:
    """The part of a task's text that stays the same: after a comma it says how far it is ("LoDa, split 0, epoch 2 of 3")."""
    return text.partition(", ")[0]


def rate_text(per_s: float) -> str:
    """ "3.2/s", or "12.0/min" where a second shows too little."""
    return f"{per_s:.1f}/s" if per_s >= 1 else f"{60 * per_s:.1f}/min"


def duration(seconds: float) -> str:
    """ "40 s", "12 min" or "3.5 h"."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 3600:.1f} h"


# ---- where it is shown ---------------------------------------------------------------------------------------------------


@contextmanager
def _in_terminal(unit: str) -> Iterator[Update]:
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
    from rich.progress import Task as Bar
    from rich.text import Text

    tasks, bars = Tasks(unit), dict[str, TaskID]()

    class Numbers(ProgressColumn):
        def render(self, task: Bar) -> Text:  # several times a second: the time ticks between two updates
            return Text(tasks.all[task.fields["name"]].numbers(time.monotonic()))

    with Progress(TextColumn("{task.description}"), BarColumn(bar_width=24), Numbers(), console=err) as shown:

        def update(text: str, done: float, total: float, failed: int = 0, unit: str = "") -> None:
            task, name = tasks.update(text, done, total, failed, unit), task_name(text)
            if name not in bars:
                bars[name] = shown.add_task("", name=name)
            shown.update(bars[name], completed=done, total=total or None, description=escape(task.label))

        yield update


@contextmanager
def _in_log(unit: str) -> Iterator[Update]:
    """A line at a task's start, one at its end, and fewer and fewer between: a log of hours stays short."""
    tasks = Tasks(unit)
    pauses: dict[str, tuple[float, float]] = {}  # the next line's time, and the pause after it

    def update(text: str, done: float, total: float, failed: int = 0, unit: str = "") -> None:
        name = task_name(text)
        ended = name in tasks.all and tasks.all[name].ended is not None
        task, now = tasks.update(text, done, total, failed, unit), time.monotonic()
        due, pause = pauses.get(name, (now, FIRST_LINES))
        if now >= due or (task.ended is not None and not ended):
            pauses[name] = (now + pause, min(1.5 * pause, LINE_EVERY))
            say(f"{task.label}: {task.numbers(now)}")

    yield update


@contextmanager
def _in_notebook(unit: str) -> Iterator[Update]:
    """A bar for each task below the cell, without widgets: text for front ends that show no HTML."""
    from IPython.display import display, update_display

    tasks, name = Tasks(unit), f"fmiqa-progress-{time.monotonic_ns()}"
    shown = {"text/html": "", "text/plain": "…"}
    display(shown, raw=True, display_id=name)

    def draw() -> None:
        nonlocal shown
        if tasks.all and (latest := _bundle(list(tasks.all.values()), time.monotonic())) != shown:
            shown = latest
            update_display(shown, raw=True, display_id=name)

    with _every(TICK, draw):
        yield tasks.update  # type: ignore[misc]


def _bundle(tasks: list[Task], now: float) -> dict[str, str]:
    """The tasks as a MIME bundle: a bar and words, or words alone."""
    rows = "".join(
        f'<div><progress value="{t.done:.6g}" max="{t.total or 1:.6g}"></progress> '
        f"{html.escape(t.label)}: {html.escape(t.numbers(now))}</div>"
        for t in tasks
    )
    return {"text/html": rows, "text/plain": "\n".join(f"{t.label}: {t.numbers(now)}" for t in tasks)}


@contextmanager
def _every(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Call `act` every `seconds` on another thread, and once more at the end."""
    stop, context = threading.Event(), copy_context()

    def tick() -> None:
        while not stop.wait(seconds):
            act()

    thread = threading.Thread(target=context.run, args=(tick,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        act()


# ---- from a kernel to the process that runs the notebook -------------------------------------------------------------------


@contextmanager
def _to_file(path: Path, unit: str) -> Iterator[Update]:
    """Every update is a line of JSON in `path`, at most a few per second for each task."""
    last: dict[str, float] = {}
    with path.open("a", encoding="utf-8") as file:

        def update(text: str, done: float, total: float, failed: int = 0, unit: str = unit) -> None:
            now = time.monotonic()
            if done < total and now - last.get(text, -TICK) < TICK / 2:
                return
            last[text] = now
            file.write(json.dumps([text, done, total, failed, unit]) + "\n")
            file.flush()

        yield update


@contextmanager
def heard(folder: Path, update: Update) -> Iterator[dict[str, str]]:
    """Yields the environment of a kernel that reports to `update`, through a file in `folder`."""
    path = folder / f".progress-{os.getpid()}-{threading.get_ident()}"
    path.write_bytes(b"")
    try:
        with path.open(encoding="utf-8") as lines, _every(TICK / 2, lambda: _pass_on(lines, update)):
            yield {CHANNEL: str(path)}
    finally:
        path.unlink(missing_ok=True)


def _pass_on(lines: TextIO, update: Update) -> None:
    """Report what was written since the last call; an unfinished line waits for the next call."""
    while True:
        start = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(start)
            return
        update(*json.loads(line))
