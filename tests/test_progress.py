"""What progress shows in a terminal, a log and a notebook, and how it travels from a kernel to the console."""

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from fmiqa_utils import progress
from fmiqa_utils.progress import Task, duration, heard, progress_bar, rate_text, track


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that shows the same time until a test sets it."""
    now = [0.0]
    monkeypatch.setattr("fmiqa_utils.progress.time.monotonic", lambda: now[0])
    return iter([now])


def test_rates_and_durations_read_well() -> None:
    assert [rate_text(r) for r in (3.21, 0.2)] == ["3.2/s", "12.0/min"]
    assert [duration(s) for s in (0.4, 119, 120, 7199, 7200)] == ["0 s", "119 s", "2 min", "120 min", "2.0 h"]


def test_what_was_found_at_the_start_is_not_taken_for_speed() -> None:
    task = Task("live", "pairs", 0, 0, begun=0.0, before=0)
    assert task.numbers(3.0) == "starting · 3 s"
    task.update(100, 1000, 0, now=10.0)
    task.update(130.5, 1000, 0, now=20.0)
    assert task.rate(20.0) == pytest.approx(3.05)
    assert task.numbers(20.0) == "130 of 1,000 pairs · 3.0/s · 10 s · 5 min left"
    task.update(1000, 1000, 2, now=110.0)
    assert task.numbers(500.0) == "1,000 of 1,000 pairs · 9.0/s · 100 s"  # it ended at 110 s
    assert task.label == "live (2 failed)"


def test_unlike_steps_have_no_rate() -> None:
    task = Task("report", "notebooks", 7, 0, begun=0.0, before=0)
    task.update(2, 7, 0, now=100.0)
    assert task.numbers(100.0) == "2 of 7 notebooks · 100 s"


def test_a_log_has_lines_at_start_and_end_and_fewer_and_fewer_between(
    clock: Iterator[list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    now = next(clock)
    with progress_bar("pairs") as update:
        for second in range(100):
            now[0] = float(second)
            update("live", 10 * second, 1000)
        now[0] = 100.0
        update("live", 1000, 1000)
        update("live", 1000, 1000)
        update("csiq", 866, 866)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "live: 0 of 1,000 pairs · 0 s"
    assert lines[1] == "live: 20 of 1,000 pairs · 10.0/s · 2 s · 98 s left"
    assert lines[-2] == "live: 1,000 of 1,000 pairs · 10.0/s · 100 s"
    assert lines[-1] == "csiq: 866 of 866 pairs · 0 s"
    assert 8 < len(lines) < 14


def test_a_terminal_has_one_bar_for_each_task(monkeypatch: pytest.MonkeyPatch) -> None:
    bars, screen = [], io.StringIO()
    monkeypatch.setattr("fmiqa_utils.progress.err", Console(force_terminal=True, file=screen, width=100))
    monkeypatch.setattr(
        Progress,
        "add_task",
        lambda self, *a, _add=Progress.add_task, **k: bars.append(k) or _add(self, *a, **k),
    )
    with progress_bar("pairs") as update:
        for done in range(5):
            update("a [b] c", done, 4)
            update("d", done, 4, unit="cells")
    assert bars == [{"name": "a [b] c"}, {"name": "d"}]
    assert "a [b] c" in screen.getvalue()
    assert "4 of 4 pairs" in screen.getvalue()
    assert "4 of 4 cells" in screen.getvalue()


def test_a_terminal_shows_a_task_while_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("fmiqa_utils.progress.err", Console(force_terminal=True, file=screen, width=100))
    with progress_bar("pairs") as update:
        update("demo", 0, 0)
        time.sleep(1.2)
        assert "starting · 1 s" in screen.getvalue()


def test_track_reports_to_the_bar_around_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2, 3], "fits", "columns")) == [1, 2, 3]
    assert capsys.readouterr().err == ""
    with progress_bar("pairs"):
        assert list(track("ab", "fits", "columns")) == ["a", "b"]
    assert capsys.readouterr().err.splitlines()[-1].startswith("fits: 2 of 2 columns")


def test_a_kernel_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_in_kernel", lambda: True)
    got = []
    with heard(tmp_path, lambda *a: got.append(a)) as environment:
        monkeypatch.setenv(*next(iter(environment.items())))
        with progress_bar("pairs") as update:
            update("demo", 3, 10, 1)
            update("demo", 4, 10, 1)  # too soon after the last
            update("demo", 10, 10, 1)
        deadline = time.monotonic() + 5
        while len(got) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert got == [("demo", 3, 10, 1, "pairs"), ("demo", 10, 10, 1, "pairs")]
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_is_half_written_waits_for_its_end(tmp_path: Path) -> None:
    path, got = tmp_path / "lines", []
    line = json.dumps(["demo", 1, 2, 0, "pairs"]) + "\n"
    with path.open("a+") as file:
        file.write(line[:7])
        file.seek(0)
        progress._pass_on(file, lambda *a: got.append(a))
        assert got == []
        with path.open("a") as other:
            other.write(line[7:])
        progress._pass_on(file, lambda *a: got.append(a))
    assert got == [("demo", 1, 2, 0, "pairs")]


def test_a_task_says_where_it_is(clock: Iterator[list[float]], capsys: pytest.CaptureFixture[str]) -> None:
    next(clock)
    with progress_bar("images") as update:
        update("LoDa, epoch 1 of 2", 0, 20)
        update("LoDa, epoch 2 of 2", 20, 20)
    assert capsys.readouterr().err.splitlines() == [
        "LoDa, epoch 1 of 2: 0 of 20 images · 0 s",
        "LoDa, epoch 2 of 2: 20 of 20 images · 0 s",
    ]


def test_a_bar_inside_a_bar_is_shown_by_the_outer_one(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("notebooks") as outer:
        outer("report", 0, 7)
        with progress_bar("images") as inner:
            inner("demo dataset", 840, 840)
    assert capsys.readouterr().err.splitlines() == [
        "report: 0 of 7 notebooks · 0 s",
        "demo dataset: 840 of 840 images · 0 s",
    ]
