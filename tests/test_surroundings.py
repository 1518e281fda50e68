"""Odd surroundings: a disk that is only read, few file descriptors, an ASCII locale, a Latin-1 terminal, a kernel that stands elsewhere."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from fake_runs import extract, say, sign_of, source, write_table
from PIL import Image

from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.extract import extract_run
from fmiqa_utils.extraction.scorer import Settings
from fmiqa_utils.report.notebooks import run_notebook
from fmiqa_utils.report.pipeline import make_report
from fmiqa_utils.scores.runs import load_run
from fmiqa_utils.statistics.leaderboard import leaderboard

NOBODY = 65534
TINY = [("timm:vit_tiny_patch16_224", "untrained")]
PARAMETERS = (
    'run: str = "demo"  # the run\ndataset: str = "demo"  # its pairs\ndirection: str = "higher"  # of labels'
)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    for place in [folder, *folder.rglob("*")]:
        if place.is_dir():
            place.chmod(0o755)
    shutil.rmtree(folder)


@contextmanager
def only_reading(folder: Path) -> Iterator[None]:
    """`folder` as on a disk that is mounted to be read: no file is made or changed in it, by root neither."""
    for place in [folder, *folder.rglob("*")]:
        place.chmod(0o555 if place.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        with pytest.raises(PermissionError):
            (folder / "x").touch()
        yield
    finally:
        if root:
            os.seteuid(0)


def images(folder: Path) -> Path:
    """pairs.csv of two references with two distorted images each."""
    folder.mkdir()
    rng, rows = np.random.default_rng(0), []
    for r in range(2):
        ref = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
        Image.fromarray(ref).save(folder / f"r{r}.png")
        for d in range(2):
            noisy = np.clip(ref + rng.normal(0, 30 * (d + 1), ref.shape), 0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"d{r}{d}.png")
            rows.append((f"r{r}.png", f"d{r}{d}.png", 5.0 - d + r / 10))
    pd.DataFrame(rows, columns=["ref", "dist", "label"]).to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


def facts_below(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.rglob("*"))}


def test_a_finished_run_on_a_disk_that_is_only_read(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, desk = open_folder / "disk", open_folder / "desk"
    for place in (disk, desk):
        place.mkdir()
    desk.chmod(0o777)
    monkeypatch.setenv("FMIQA_SCORES", str(disk / "scores"))
    monkeypatch.setenv("FMIQA_FIGURES", str(desk / "figures"))
    monkeypatch.setenv("FMIQA_REPORTS", str(desk / "reports"))
    table = images(disk / "set")
    settings = Settings(("l2",), layer_curves=False)

    def score(name: str, weights: list[tuple[str, str]] = TINY) -> list[dict]:
        pairs = load_pairs(f"csv:{table}", direction="higher")
        return extract_run(name, pairs, weights, settings=settings, device="cpu")

    def execute(_: Path, destination: Path, parameters: Any, *__: object) -> None:
        assert [m["shards"] for m in score(str(parameters["run"]))] == shards
        say(destination, sign_of(load_run("a")))

    shards = [m["shards"] for m in score("a")]
    before = load_run("a").scores
    notebook = source(open_folder / "01_extract.ipynb", PARAMETERS)
    monkeypatch.setattr("fmiqa_utils.report.notebook_engine.execute", execute)
    given = {"dataset": f"csv:{table}", "direction": "higher"}
    make_report(
        "a", given, notebooks=notebook.parent
    )  # another user may not see what Python has yet to import
    shutil.rmtree(desk / "reports")
    shutil.rmtree(desk / "figures")
    for shard in disk.rglob("*.parquet"):  # as after a copy: the notes fit no more
        os.utime(shard, (1, 1))
    for lock in disk.rglob(".lock"):
        lock.unlink()
    with only_reading(disk):
        there = facts_below(disk)
        pd.testing.assert_frame_equal(load_run("a").scores, before)
        assert len(leaderboard([load_run("a")], n_resamples=10)) > 0
        page, _ = make_report("a", given, notebooks=notebook.parent)
        assert "RISES" in page.read_text()
        assert facts_below(disk) == there
        with pytest.raises(InputError, match="cannot be written: Permission denied"):
            score("a", [("timm:resnet10t", "untrained")])
        with pytest.raises(InputError, match=r"runs cannot be written"):
            score("b")
        monkeypatch.setenv("FMIQA_REPORTS", str(disk / "reports"))
        with pytest.raises(InputError, match=r"^The report cannot be written into .* \(permission denied\)"):
            make_report("a", given, notebooks=notebook.parent)
        assert facts_below(disk) == there


def test_another_users_lock_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    from fmiqa_utils.scores.shards import sole_writer

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with (
        pytest.raises(InputError, match=r"\.lock cannot be opened: Permission denied"),
        sole_writer(tmp_path),
    ):
        pass


def test_a_kernel_writes_where_its_starter_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fmiqa_utils import paths

    paths._fixed.cache_clear()
    for name in ("SCORES", "FIGURES", "REPORTS", "DATA"):
        monkeypatch.setenv(f"FMIQA_{name}", name.lower())
    monkeypatch.chdir(tmp_path)
    first = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    words = (
        "import os\nfrom fmiqa_utils import paths\nassert os.getcwd().endswith('deep')\n"
        "for root in (paths.scores_root(), paths.figures_root(), paths.reports_root(), paths.data_root()):\n"
        "    root.mkdir()"
    )
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [first, nbformat.v4.new_code_cell(words)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "a.ipynb")
    run_notebook(tmp_path / "a.ipynb", tmp_path / "far" / "deep" / "a.ipynb", {}, "key")
    paths._fixed.cache_clear()
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {
        "scores",
        "figures",
        "reports",
        "data",
        "far",
    }


# ---- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of csv:Prüfung, of which one is torn, and a folder of published results."""
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMIQA_SCORES", str(folder / "scores"))
        table = write_table(folder / "Prüfung", name="Prüfung.csv")
        for name in ("Prüfung", "plain"):
            extract(table, name)
        extract(table, "torn")
    (folder / "scores" / "runs" / "torn.json").write_text("{")
    rows = "dis,ref,mos,pred\n" + "".join(f"d{i}é.png,r.png,{i},{i * i}\n" for i in range(9))
    (folder / "Prüfung").mkdir(exist_ok=True)
    (folder / "released").mkdir()
    (folder / "released" / "live_lpips.csv").write_text(rows, encoding="utf-8")
    Image.new("RGB", (224, 224), (9, 9, 9)).save(folder / "Prüfung" / "é.png")
    (folder / "Prüfung" / "one.csv").write_text("ref,dist,label\né.png,é.png,1\n", encoding="utf-8")
    content = {"datasets": [f"csv:{folder}/Prüfung/one.csv"], "backbones": ["timm:resnet10t"]}
    text = json.dumps({**content, "weights": "untrained", "direction": "higher"}, ensure_ascii=False)
    (folder / "sweep.yaml").write_text(text, encoding="utf-8")
    return folder


VERBS = (["compare", "--resamples", "20"], ["published", "released"], ["sweep", "sweep.yaml", "--dry-run"])
SURROUNDINGS = {
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "c": {"LC_ALL": "C"},
}


def fmiqa(
    desk: Path, words: list[str], before: str = "", **more: str
) -> "subprocess.CompletedProcess[bytes]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIO"))}
    environment |= {f"FMIQA_{n}": str(desk / n.lower()) for n in ("SCORES", "FIGURES", "REPORTS", "DATA")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[1]), "COLUMNS": "200", **more}
    command = [sys.executable, "-m", "fmiqa_utils.cli", *words]
    shell = ["sh", "-c", f'{before} exec "$@"', "sh"] if before else []
    return subprocess.run(
        [*shell, *command], cwd=desk, env=environment, capture_output=True, timeout=300, check=False
    )


@pytest.mark.parametrize("words", VERBS, ids=lambda w: w[0])
@pytest.mark.parametrize("how", SURROUNDINGS)
def test_verbs_in_a_narrow_locale(how: str, words: list[str], desk: Path) -> None:
    if how == "ascii" and words[0] == "sweep":
        pytest.skip("file names that are not ASCII cannot be read there: the next test")
    done = fmiqa(desk, words, **SURROUNDINGS[how])
    said = done.stderr.decode("latin-1")
    assert done.returncode == 0, said
    assert "Traceback" not in said
    if words[0] == "compare":
        assert "torn" in said
        text = (desk / "figures" / "compare" / "leaderboard.csv").read_text(encoding="utf-8")
        assert "csv:Prüfung" in text
        runs = pd.read_csv(desk / "figures" / "compare" / "leaderboard.csv")["runs"].unique().tolist()
        assert runs == (["plain"] if how == "ascii" else ["Prüfung, plain"])
        assert ("set PYTHONUTF8=1" in said) == (how == "ascii")


def test_names_that_an_ascii_locale_cannot_read_are_named(desk: Path) -> None:
    done = fmiqa(desk, ["sweep", "sweep.yaml", "--dry-run"], **SURROUNDINGS["ascii"])
    said = done.stderr.decode()
    assert done.returncode == 2
    assert "PYTHONUTF8=1" in said
    assert len(said.strip().splitlines()) == 1


@pytest.mark.parametrize("words", VERBS, ids=lambda w: w[0])
def test_few_file_descriptors_are_enough(words: list[str], desk: Path) -> None:
    done = fmiqa(desk, words, before="ulimit -n 32;")
    assert done.returncode == 0, done.stderr.decode()


REPORT = ["report", "--dataset", "csv:Prüfung/one.csv", "--direction", "higher", "--weights", "untrained"]
REPORT += ["--backbone", "timm:resnet10t", "--run", "few"]


def test_a_report_says_that_a_kernel_needs_more(desk: Path) -> None:
    done = fmiqa(desk, REPORT, before="ulimit -n 32;")
    said = done.stderr.decode()
    assert done.returncode == 2
    assert "32 files may be open at once here" in said
    assert "ulimit -n 128" in said
    assert "Traceback" not in said
    assert not (desk / "reports" / "few").exists()


def test_a_report_takes_what_it_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    from fmiqa_utils.report.pipeline import OPEN_FILES, _check_open_files

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES - 1, before[1]))
        _check_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (OPEN_FILES, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
