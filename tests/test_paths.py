"""Where things are, whatever the working folder of a process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fmiqa_utils import paths

NAMES = ("DATA", "SCORES", "FIGURES", "REPORTS")


@pytest.fixture(autouse=True)
def settled() -> Iterator[None]:
    paths._fixed.cache_clear()
    yield
    paths._fixed.cache_clear()


def roots() -> list[Path]:
    return [paths.data_root(), paths.scores_root(), paths.figures_root(), paths.reports_root()]


def test_relative_roots_are_settled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(f"FMIQA_{name}", f"here/{name.lower()}")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    found = roots()
    assert found == [tmp_path / "here" / name.lower() for name in NAMES]
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert roots() == found


def test_a_process_elsewhere_is_told_absolute_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(f"FMIQA_{name}", name.lower())
    monkeypatch.chdir(tmp_path)
    home = {"FMIQA_HOME": str(paths.project_root())}
    assert paths.root_variables() == home | {f"FMIQA_{name}": str(tmp_path / name.lower()) for name in NAMES}
    monkeypatch.setenv("FMIQA_SCORES", "memory://bucket/scores")
    assert paths.root_variables()["FMIQA_SCORES"] == "memory://bucket/scores"


def test_without_a_checkout_a_kernel_looks_where_its_starter_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"FMIQA_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "__file__", str(tmp_path / "site-packages" / "fmiqa_utils" / "paths.py"))
    told = paths.root_variables()
    assert told["FMIQA_SCORES"] == str(tmp_path / "data" / "scores")
    assert told["FMIQA_REPORTS"] == str(tmp_path / "reports")
    before = roots()
    (tmp_path / "kernel").mkdir()
    monkeypatch.chdir(tmp_path / "kernel")
    assert roots() != before
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert roots() == before


def test_a_home_is_written_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("FMIQA_DATA", "~/sets")
    assert paths.data_root() == tmp_path / "sets"
    monkeypatch.setenv("FMIQA_DATA", "~nobody-of-this-name/sets")
    assert paths.data_root() == Path.cwd() / "~nobody-of-this-name" / "sets"


def test_the_lab_hands_its_kernels_absolute_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from fmiqa_utils.cli.main import app

    for name in NAMES:
        monkeypatch.setenv(f"FMIQA_{name}", name.lower())
    monkeypatch.chdir(tmp_path)
    told: dict[str, str] = {}
    monkeypatch.setattr("os.execve", lambda path, words, environment: told.update(environment))
    assert CliRunner().invoke(app, ["lab"]).exit_code == 0
    assert [told[f"FMIQA_{name}"] for name in NAMES] == [str(tmp_path / n.lower()) for n in NAMES]
