"""A report as a pipeline stage: paths, what runs again, and what a stop leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from PIL import Image

from fmiqa_utils.errors import InputError
from fmiqa_utils.report import notebook_engine
from fmiqa_utils.report.notebooks import is_finished, run_notebook
from fmiqa_utils.report.pipeline import absolute_paths, make_report


def notebook(
    path: Path, source: str, parameters: str = 'run: str = "demo"  # the run\nn: int = 1  # how many'
) -> Path:
    """A notebook of two cells."""
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    cells = [first, nbformat.v4.new_code_cell(source)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def test_paths_are_taken_from_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "Prüfung eins"
    place.mkdir()
    (place / "w.pth").write_bytes(b"")
    monkeypatch.chdir(place)
    given = {"dataset": "csv:my pairs.csv", "root": "..", "weights": "w.pth", "results": "r", "run": "x"}
    assert absolute_paths(given) == {
        "dataset": f"csv:{place}/my pairs.csv",
        "root": f"{place}/..",
        "weights": f"{place}/w.pth",
        "results": f"{place}/r",
        "run": "x",
    }
    plain = {"dataset": "live", "root": "", "weights": "pretrained"}
    assert absolute_paths(plain) == plain
    monkeypatch.setenv("HOME", str(tmp_path))
    assert absolute_paths({"dataset": "csv:~/a.csv"}) == {"dataset": f"csv:{tmp_path}/a.csv"}


def test_an_unknown_parameter_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMIQA_REPORTS", str(tmp_path / "reports"))
    notebook(tmp_path / "01_extract.ipynb", "raise SystemExit")
    with pytest.raises(InputError, match="no notebook has a parameter 'rum'; did you mean run"):
        make_report("x", {"rum": "y"}, notebooks=tmp_path)
    assert not (tmp_path / "reports").exists()


def test_a_notebook_that_was_changed_or_lost_a_figure_runs_again(tmp_path: Path) -> None:
    figures = tmp_path / "figures"
    figures.mkdir()
    source = notebook(tmp_path / "02_a.ipynb", f"open({str(figures / '02_x.svg')!r}, 'w').close()")
    out = tmp_path / "out" / "02_a.ipynb"
    run_notebook(source, out, {}, "key", figures=figures)
    assert json.loads(out.with_suffix(".json").read_text())["figures"] == ["02_x.svg"]
    assert is_finished(out, "key", figures)
    (figures / "02_x.svg").unlink()
    assert not is_finished(out, "key", figures)
    assert is_finished(out, "key")
    out.write_text(out.read_text() + " ")  # other content under an old key
    assert not is_finished(out, "key")
    out.with_suffix(".json").write_text("{")
    assert not is_finished(out, "key")


def test_cells_are_heard(tmp_path: Path) -> None:
    words = "from fmiqa_utils.progress import progress_bar\nwith progress_bar('pairs') as update:\n    update('demo', 7, 7)"
    source, got = notebook(tmp_path / "a.ipynb", words), []
    run_notebook(
        source, tmp_path / "out" / "a.ipynb", {}, "key", update=lambda *a, unit="": got.append((*a, unit))
    )
    assert got[0] == ("a", 0, 2, "cells")
    assert got[-1] == ("a", 2, 2, "cells")
    assert ("demo", 7, 7, 0, "pairs", "") in got


def test_the_kernel_is_this_interpreter_whatever_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    source = notebook(
        tmp_path / "a.ipynb",
        f"import os, sys\nassert sys.prefix == os.environ['FMIQA_PREFIX'] == {sys.prefix!r}",
    )
    run_notebook(source, tmp_path / "out" / "a.ipynb", {}, "key")


def test_a_stop_while_the_kernel_starts_runs_no_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has no process yet that could be ended."""
    made = notebook_engine._Client.create_kernel_manager

    def stopped(client: notebook_engine._Client) -> notebook_engine.OwnKernel:
        kernel = made(client)
        client.execution.stop()
        return kernel

    monkeypatch.setattr(notebook_engine._Client, "create_kernel_manager", stopped)
    source = notebook(tmp_path / "a.ipynb", f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with pytest.raises(KeyboardInterrupt):
        run_notebook(source, tmp_path / "out" / "a.ipynb", {}, "key")
    assert not (tmp_path / "ran").exists()
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT])
def test_ctrl_c_ends_the_kernel_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    pid = tmp_path / "pid"
    words = f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(300)"
    source = notebook(tmp_path / "a.ipynb", words)
    script = (
        "from pathlib import Path\nfrom fmiqa_utils.report.notebooks import run_notebook\n"
        f"run_notebook(Path({str(source)!r}), Path({str(tmp_path / 'out' / 'a.ipynb')!r}), {{}}, 'key')"
    )
    running = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (pid.is_file() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    kernel = psutil.Process(int(pid.read_text()))
    os.kill(running.pid, number)
    _, told = running.communicate(timeout=30)
    assert running.returncode != 0
    assert told.strip().endswith("KeyboardInterrupt")
    assert psutil.wait_procs([kernel], timeout=10)[1] == []
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [(["r.png,d0.png,3"], "one pair"), (["r.png,d0.png,3", "r.png,d1.png,3"], "the label 3")],
)
def test_what_cannot_be_correlated_is_refused_before_the_work(
    rows: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMIQA_REPORTS", str(tmp_path / "reports"))
    (tmp_path / "books").mkdir()
    notebook(tmp_path / "books" / "01_extract.ipynb", "raise SystemExit", PARAMETERS)
    for name in ("r", "d0", "d1"):
        Image.new("RGB", (224, 224)).save(tmp_path / f"{name}.png")
    (tmp_path / "pairs.csv").write_text("\n".join(["ref,dist,label", *rows]))
    given = {"dataset": f"csv:{tmp_path / 'pairs.csv'}", "direction": "higher"}
    with pytest.raises(InputError, match=said):
        make_report("x", given, notebooks=tmp_path / "books")


PARAMETERS = 'run: str = "x"  # run\ndataset: str = "demo"  # dataset\ndirection: str = ""  # direction'
