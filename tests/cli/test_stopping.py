"""A real signal to a real process: one sentence that says what is kept, the shell's exit status, and nothing left running."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

START = """
import sys, time
from pathlib import Path
import fmiqa_utils.{module} as module
from fmiqa_utils.cli.main import main

def work(*args, **options):
    Path("begun").write_text("")
    {body}

module.{name} = work
sys.argv = ["fmiqa", *{words!r}]
main()
"""
SLEEP = "time.sleep(60)"
EXITS = """
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(1)  # what Lightning makes of it
"""
ERRORS = """
    from fmiqa_utils.errors import InputError
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        raise InputError("the kernel died")
"""
ENDS = """
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        return []
"""
OWN = ["--dataset", "csv:pairs.csv", "--direction", "higher", "--weights", "untrained"]
OWN += ["--backbone", "timm:vit_tiny_patch16_224"]
CHUNKS = "fmiqa: stopped; finished chunks are kept, the same command goes on from there.\n"
EPOCHS = "fmiqa: stopped; finished epochs are kept, the same command goes on from there.\n"
NOTHING = "fmiqa: stopped; nothing half-written is left behind.\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SCORES", "FIGURES", "REPORTS", "DATA"):
        monkeypatch.setenv(f"FMIQA_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "pairs.csv").write_text("ref,dist,label\na.png,a.png,1\n")
    return tmp_path


def stop(code: str, folder: Path, number: int) -> tuple[int, str]:
    """Exit status and stderr of a process that gets a signal once its work has begun."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        deadline = time.monotonic() + 90
        while not (folder / "begun").exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    return process.returncode, said


@pytest.mark.parametrize(
    ("words", "module", "name", "body", "number", "said"),
    [
        (["extract", *OWN], "extraction.extract", "extract_run", SLEEP, signal.SIGINT, CHUNKS),
        (["extract", *OWN], "extraction.extract", "extract_run", SLEEP, signal.SIGTERM, CHUNKS),
        (["report", *OWN], "report.pipeline", "make_report", ERRORS, signal.SIGINT, CHUNKS),
        (["datasets", "check", "live"], "datasets.check", "check_dataset", SLEEP, signal.SIGINT, NOTHING),
        (["datasets", "check", "live"], "datasets.check", "check_dataset", ENDS, signal.SIGTERM, NOTHING),
        (["loda", "train"], "loda.data", "load_labelled", EXITS, signal.SIGINT, EPOCHS),
    ],
    ids=["extract-int", "extract-term", "report", "check-int", "check-term", "loda"],
)
def test_a_stop_is_said_once_with_what_is_kept(
    words: list[str], module: str, name: str, body: str, number: int, said: str, folder: Path
) -> None:
    code = START.format(module=module, name=name, body=body.strip(), words=words)
    if words[:2] == ["loda", "train"]:
        code = code.replace(
            "module.load",
            "import fmiqa_utils.demo.build\nfmiqa_utils.demo.build.build_demo = lambda **_: None\nmodule.load",
        )
    status, printed = stop(code, folder, number)
    assert status == 128 + number
    assert printed.endswith(said)
    assert printed.count("stopped") == 1
    assert "Traceback" not in printed


def test_a_notebook_that_runs_is_stopped_with_its_kernel(folder: Path) -> None:
    """What `fmiqa report` does for hours: papermill waits for a kernel. Neither the kernel nor a half-run notebook stays."""
    cell = "import os, time, pathlib\npathlib.Path('kernel').write_text(str(os.getpid()))\npathlib.Path('begun').touch()\ntime.sleep(60)"
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell('dataset: str = "demo"  # a name', metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(f"import os\nos.chdir({str(folder)!r})\n{cell}"),
        ]
    )
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (folder / "x.ipynb").write_text(json.dumps(notebook))
    code = START.format(
        module="report.pipeline",
        name="make_report",
        body="from fmiqa_utils.report.notebooks import run_notebook; run_notebook(Path('x.ipynb'), Path('out/x.ipynb'), {}, 'key')",
        words=["report", *OWN],
    ).replace('Path("begun").write_text("")', "")
    status, printed = stop(code, folder, signal.SIGINT)
    assert status == 130
    assert printed.endswith(CHUNKS)
    assert "Traceback" not in printed
    assert list((folder / "out").iterdir()) == []
    kernel = int((folder / "kernel").read_text())
    deadline = time.monotonic() + 10
    while _lives(kernel) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(kernel)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
