"""What is printed can be typed again: whole at any width, in any terminal's letters, and never read as markup."""

import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from fmiqa_utils import console
from fmiqa_utils.backbones.catalogue import BACKBONES
from fmiqa_utils.cli.main import app
from fmiqa_utils.console import BOLD, show, show_rows
from fmiqa_utils.datasets.registry import DATASETS

TYPED = {
    "backbones": [
        word
        for b in BACKBONES.values()
        for word in (b.name, f"{b.source}:{b.model}" + (f"/{b.tag}" if b.tag else ""), b.licence)
    ],
    "datasets": [word for d in DATASETS.values() for word in (d.name, d.url, d.licence)],
}
ODD = ["x[/b]", "[red]y[/red]", "a:smile:b", "z[bold", r"w\[b]"]


def run(words: list[str], **environment: str) -> str:
    command = [sys.executable, "-m", "fmiqa_utils.cli", *words]
    done = subprocess.run(command, capture_output=True, env=os.environ | environment, check=True)
    assert done.stderr == b""
    return done.stdout.decode("utf-8")


def run_in_a_terminal(words: list[str], columns: int) -> str:
    """What a terminal of so many columns is sent, without its colours."""
    ours, its = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "CI")}
    environment |= {"COLUMNS": str(columns), "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [sys.executable, "-m", "fmiqa_utils.cli", *words], stdout=its, stdin=its, stderr=its, env=environment
    )
    os.close(its)
    sent = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not part:
            break
        sent += part
    os.close(ours)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent.decode("utf-8"))


def has_whole(text: str, word: str) -> bool:
    """True if a line of `text` holds `word` with nothing but spaces, frames and dots around it."""
    return any(re.search(rf"(^|[\s│]){re.escape(word)}($|[\s│·])", line) for line in text.splitlines())


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("verb", ["backbones", "datasets"])
def test_what_one_must_type_is_whole_on_one_line(verb: str, columns: int) -> None:
    printed = run([verb], COLUMNS=str(columns))
    shown = run_in_a_terminal([verb], columns)
    assert len(TYPED[verb]) > 20
    for text in (printed, shown):
        assert [word for word in TYPED[verb] if not has_whole(text, word)] == []
        assert "…" not in text.replace("64…2048", "").replace("128…1024", "")


def test_rows_stand_in_a_table_where_it_fits_and_below_one_another_where_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = pd.DataFrame({"name": ["a", "b"], "value": [1.5, None], "link": ["l" * 50, ""]})
    texts = {}
    for width in (40, 100):
        monkeypatch.setattr(console, "out", Console(width=width, file=io.StringIO(), markup=False))
        show(frame, "Title")
        texts[width] = console.out.file.getvalue()  # type: ignore[attr-defined]
    assert texts[40] == f"Title\na\n    value 1.5\n    link {'l' * 50}\nb\n"
    assert "│ b    │       │" in texts[100]


def test_names_that_look_like_markup_are_printed_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[dict[str, object]] = [
        {"name": name, name: BOLD.format("0.5") + f" {name}"} for name in ODD[:1]
    ]
    for width in (200, 10):
        monkeypatch.setattr(console, "out", Console(width=width, markup=False, emoji=False))
        show_rows(rows, f"About {ODD[0]}")
        printed = capsys.readouterr().out
        assert printed.count(ODD[0]) == 4
        assert "0.5" in printed
    for name in ODD:
        console.tell(f"Saved {name}")
        console.say(f"{name} is missing")
        console.warn(name)
        console.warn_untrained([(name, "untrained")])
        printed = capsys.readouterr()
        assert printed.out == f"Saved {name}\n"
        assert printed.err.count(name) == 3


def test_a_folder_that_looks_like_markup_is_named_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "x[" / "b]:smile:"
    odd.mkdir(parents=True)
    monkeypatch.setattr("fmiqa_utils.demo.build.build_demo", lambda **_: odd)
    monkeypatch.setattr("fmiqa_utils.demo.build.deviation_table", lambda _: pd.DataFrame({"type": [1]}))
    done = CliRunner().invoke(app, ["demo"])
    assert f"The demo dataset is in {odd}.\n" in done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_our_letters_gets_others(encoding: str, tmp_path: Path) -> None:
    plain = {"PYTHONIOENCODING": encoding, "LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "COLUMNS": "80"}
    command = [sys.executable, "-m", "fmiqa_utils.cli"]
    for words in (["backbones"], ["datasets"], ["--help"], ["sweep", "--help"], ["loda", "ablate", "--help"]):
        done = subprocess.run([*command, *words], capture_output=True, env=os.environ | plain, check=False)
        assert done.returncode == 0, done.stderr.decode(encoding)
        assert done.stderr == b""
        done.stdout.decode(encoding)
    listed = subprocess.run([*command, "backbones"], capture_output=True, env=os.environ | plain, check=True)
    assert b"width 64...2048" in listed.stdout
    wrong = [*command, "extract", "--dataset", "csv:naïve–\udcff.csv"]
    done = subprocess.run(wrong, capture_output=True, env=os.environ | plain, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert b"does not exist" in done.stderr
