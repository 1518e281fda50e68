"""Notebooks as a stage: parameters, failures, and what the page lets through."""

from pathlib import Path

import nbformat
import pytest

from fmiqa_utils.errors import InputError
from fmiqa_utils.report.notebooks import (
    check_parameters,
    findings,
    is_finished,
    notebook_parameters,
    run_notebook,
)
from fmiqa_utils.report.page import allowed, inline

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def notebook(path: Path, source: str) -> Path:
    first = nbformat.v4.new_code_cell(
        'run: str = "demo"  # the run\nn: int = 3  # how many\nquick: bool = False  # fewer\n',
        metadata={"tags": ["parameters"]},
    )
    last = nbformat.v4.new_code_cell(source, metadata={"tags": ["finding"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[first, last], metadata=kernel), path)
    return path


def test_parameters_are_typed_and_unknown_ones_refused(tmp_path: Path) -> None:
    path = notebook(tmp_path / "a.ipynb", "n")
    assert notebook_parameters(path)["n"].help == "how many"
    assert check_parameters(path, {"n": "7", "quick": "true", "run": "x"}) == {
        "n": 7,
        "quick": True,
        "run": "x",
    }
    with pytest.raises(InputError, match="did you mean run"):
        check_parameters(path, {"rum": "x"})
    for wrong in ({"n": "seven"}, {"quick": "maybe"}, {"run": 3}, {"n": 2.5}):
        with pytest.raises(InputError, match="must be"):
            check_parameters(path, wrong)


def test_finished_only_with_the_same_key(tmp_path: Path) -> None:
    source = notebook(tmp_path / "a.ipynb", "from IPython.display import Markdown\nMarkdown(f'**{n * 2}**')")
    out = tmp_path / "out" / "a.ipynb"
    run_notebook(source, out, {"n": "21"}, "key")
    assert findings(out) == ["**42**"]
    assert is_finished(out, "key")
    assert not is_finished(out, "another")


def test_failing_cell_is_named_and_the_good_run_stays(tmp_path: Path) -> None:
    out = tmp_path / "a.ipynb"
    out.write_text("good")
    source = notebook(tmp_path / "b.ipynb", "raise ValueError('no such luck')")
    with pytest.raises(InputError, match=r"b.ipynb failed in cell 1: ValueError: no such luck"):
        run_notebook(source, out, {}, "key")
    assert out.read_text() == "good"
    assert (tmp_path / "a.failed.ipynb").is_file()
    assert not is_finished(out, "key")


def test_dead_kernel_is_no_success(tmp_path: Path) -> None:
    source = notebook(tmp_path / "b.ipynb", "import os\nos._exit(1)")
    with pytest.raises(InputError, match="stopped: DeadKernelError"):
        run_notebook(source, tmp_path / "out.ipynb", {}, "key")
    assert not (tmp_path / "out.ipynb").exists()


def test_page_lets_no_script_through() -> None:
    assert "<script" not in allowed(
        "<table class='dataframe'><tr><td><script>alert(1)</script>x</td></tr></table>"
    )
    assert "onerror" not in allowed('<img src="data:image/png;base64,AA" onerror="alert(1)">')
    assert inline("<b>a</b> **b**") == "&lt;b&gt;a&lt;/b&gt; <strong>b</strong>"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_are_kept_as_agreed(path: Path) -> None:
    """Parameters annotated with help, no outputs, no definitions, cells of at most thirteen lines."""
    assert all(p.help and p.type != "None" for p in notebook_parameters(path).values())
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        assert not cell.outputs
        assert not cell.execution_count
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert not any(line.lstrip().startswith(("def ", "class ", "!", "%")) for line in lines)
        is_parameters = "parameters" in cell.metadata.get("tags", [])
        assert len(lines) <= 13 or is_parameters
        assert len(lines) > 1 or not is_parameters, "IPython takes a single line run: str = … for its %run"
