"""Keys: those of shards that exist stay what they are, and a notebook's key changes with what the notebook uses, not with more."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import nbformat
import pytest

from fmiqa_utils import keys
from fmiqa_utils.extraction.scorer import Settings
from fmiqa_utils.keys import (
    PACKAGE,
    chunk_key,
    code_behind,
    modules_behind,
    notebook_key,
    page_key,
    scores_key,
)
from fmiqa_utils.paths import notebooks_root

HOW = {
    "backbone": "dino_vits16",
    "source": "timm",
    "weights_sha256": "ab" * 32,
    "normalize": "none",
    "precision": "fp32",
    "windows": (224, 200),
}


def behind(code: str) -> set[str]:
    return {str(file.relative_to(PACKAGE)) for file in modules_behind(code)}


def test_shards_of_earlier_versions_keep_their_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed by version 0.1 with these versions of libraries. Where this fails, every shard of every user is computed again."""
    monkeypatch.setattr(keys, "library_versions", lambda *_: {"torch": "2.9", "jpeg": "3.1"})
    key = scores_key(asdict(Settings()), **HOW)
    assert key == "35e6d52b0553882f09e788665018e52aefb36835fb149bbb384621a7c827f26a"
    identity = [["demo", "p1", "r.png", "d.png"]]
    assert (
        chunk_key(key, "tra-1", identity)
        == "9b8f6d9b0bd0fc39607aec35be3a6ac9b5cd17091f51f3d5249054a2bf2337db"
    )


def test_imports_are_followed_to_every_depth() -> None:
    found = behind("from fmiqa_utils.statistics.correlation import correlation_table")
    assert {
        "statistics/correlation.py",
        "statistics/coefficients.py",
        "distances/table.py",
        "errors.py",
    } <= found
    assert not any(file.startswith(("extraction/", "figures/", "report/", "cli/")) for file in found)


def test_a_public_name_brings_its_own_module_only() -> None:
    found = behind("from fmiqa_utils import FeatureDistance")
    assert {"distances/metric.py", "backbones/load.py"} <= found
    assert not any(file.startswith(("figures/", "report/")) for file in found)
    whole = behind("from fmiqa_utils import figures")
    assert {"figures/layers.py", "figures/output.py", "figures/explorer.py", "figures/__init__.pyi"} <= whole


def test_a_name_that_is_not_resolved_may_be_any_public_one() -> None:
    for code in ("import fmiqa_utils", "import fmiqa_utils as fm", "from fmiqa_utils import *"):
        assert {"__init__.pyi", "distances/metric.py", "report/pipeline.py"} <= behind(code)


def test_a_lazy_import_and_a_module_named_in_a_string_count() -> None:
    assert "backbones/hub.py" in behind("def f():\n    from fmiqa_utils.backbones import hub")
    named = behind("from fmiqa_utils.datasets.registry import DATASETS")
    assert {"datasets/layouts.py", "datasets/image_layouts.py"} <= named


def test_a_cell_that_is_no_python_may_need_anything() -> None:
    assert behind("this is no python") >= {str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py")}
    assert modules_behind("await something()\nimport os") == set()


def test_every_notebook_is_followed() -> None:
    for notebook in sorted(notebooks_root().glob("*.ipynb")):
        found = behind(keys._cells(notebook.read_text(encoding="utf-8")))
        assert len(found) > 40, notebook.name
        assert "report/page.py" not in found
        assert "cli/main.py" not in found
        assert ("loda/train.py" in found) == (notebook.name == "07_loda.ipynb")


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of three rooms in place of ours: a notebook uses a/one.py, which uses b/two.py; c/three.py is used by the page."""
    for name, code in {
        "__init__.py": "",
        "a/__init__.py": "",
        "a/one.py": "from fmiqa_utils.b.two import x",
        "b/__init__.py": "",
        "b/two.py": "x = 1",
        "b/tables/t.csv": "a\n1\n",
        "c/three.py": "y = 1",
        "c/templates/page.css": "p {}",
    }.items():
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    monkeypatch.setattr(keys, "PACKAGE", tmp_path / "package")
    keys._imported_by.cache_clear()
    return tmp_path / "package"


def notebook(folder: Path, *cells: str) -> Path:
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells]), folder / "n.ipynb"
    )
    return folder / "n.ipynb"


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda p: (p / "b/two.py").write_text("x = 2"), True),
        (lambda p: (p / "b/tables/t.csv").write_text("a\n2\n"), True),
        (lambda p: (p / "c/three.py").write_text("y = 2"), False),
        (lambda p: (p / "c/templates/page.css").write_text("p {color: red}"), False),
        (lambda p: (p / "__init__.py").write_text("__version__ = '9'"), False),
    ],
    ids=["a module it uses", "a table beside it", "another module", "a stylesheet", "the version"],
)
def test_a_notebook_runs_again_when_what_it_uses_changes(
    change: Callable[[Path], object], again: bool, copied: Path, tmp_path: Path
) -> None:
    source = notebook(tmp_path, "from fmiqa_utils.a import one", "%matplotlib inline\n!ls")
    before = notebook_key(source, {"run": "demo"}, "material")
    assert notebook_key(source, {"run": "demo"}, "material") == before
    change(copied)
    assert (notebook_key(source, {"run": "demo"}, "material") != before) == again


def test_parameters_material_and_text_are_in_a_notebooks_key(copied: Path, tmp_path: Path) -> None:
    source = notebook(tmp_path, "from fmiqa_utils.a import one")
    found = {notebook_key(source, {"run": run}, material) for run in ("a", "b") for material in ("x", "y")}
    found.add(notebook_key(notebook(tmp_path, "from fmiqa_utils.a import one", "1"), {"run": "a"}, "x"))
    assert len(found) == 5


def test_the_page_follows_its_templates_and_its_code(copied: Path) -> None:
    def key() -> str:
        return page_key(["chapter"], "run", ("fmiqa_utils.c.three",), copied / "c/templates")

    seen = [key()]
    (copied / "c/templates/page.css").write_text("p {color: red}")
    seen.append(key())
    (copied / "c/three.py").write_text("y = 2")
    seen.append(key())
    (copied / "a/one.py").write_text("")
    assert len(set(seen)) == 3
    assert key() == seen[-1]


def test_the_code_behind_nothing_is_nothing() -> None:
    assert code_behind("import numpy") == code_behind("x = 1")
