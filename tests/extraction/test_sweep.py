"""A sweep end to end on small images: plan, estimate, YAML, engines, leaderboard, and going on."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pictures import write_pairs
from PIL import Image
from typer.testing import CliRunner

from fmiqa_utils.cli.main import app
from fmiqa_utils.distances.table import DISTANCES
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.sweep import Sweep, estimate, jobs_of, read_sweep, sweep_name, workers_of
from fmiqa_utils.scores.runs import load_run

BACKBONES = "timm:vit_tiny_patch16_224,timm:resnet10t"


@pytest.fixture
def folder(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the demo dataset: three references of 224 × 300 px with three noisy images each."""
    table = write_pairs(folders / "data" / "demo", 3, (8, 16, 24), (224, 300))
    monkeypatch.setattr("fmiqa_utils.demo.build.build_demo", lambda **_: table.parent)
    return folders


WORDS = [
    "sweep",
    "--datasets",
    "demo",
    "--backbones",
    BACKBONES,
    "--weights",
    "untrained",
    "--distance",
    "l2,cos",
]


def test_the_plan_counts_chunks_and_windows(folder: Path) -> None:
    wanted = Sweep(
        ["demo"],
        BACKBONES.split(","),
        "untrained",
        transforms=["none", "rot-1"],
        transform_pairs=3,
        distances=("l2",),
    )
    planned = estimate(wanted, jobs_of(wanted))
    assert planned["backbone"].tolist() == BACKBONES.split(",")
    assert planned["pairs"].tolist() == [12, 12]
    assert planned["chunks"].tolist() == [6, 6]
    assert planned["windows"].tolist() == [2 * (9 + 3) + 2 * (3 + 3)] * 2
    assert planned["hours"].isna().all()
    (folder / "scores").mkdir()
    bench = {"windows_per_s": 10.0, "backbone": BACKBONES.split(",")[0]}
    (folder / "scores" / "bench.json").write_text(json.dumps(bench))
    hours = estimate(wanted, jobs_of(wanted))["hours"].tolist()
    assert hours[0] == pytest.approx(36 / 10 / 3600)
    assert hours[1] == pytest.approx(hours[0] * 2.1935 / 2.5070, rel=1e-3)  # by their GFLOPs


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    done = CliRunner().invoke(app, [*WORDS, "--dry-run"])
    assert done.exit_code == 0, done.exception
    assert "2 jobs, 6 chunks" in done.stdout
    assert "run fmiqa bench" in done.stdout
    assert not (folder / "scores" / "runs").exists()


@pytest.mark.slow
def test_a_sweep_scores_compares_and_goes_on(folder: Path) -> None:
    done = CliRunner().invoke(app, [*WORDS, "--no-reports"])
    assert done.exit_code == 0, done.exception
    run = load_run(sweep_name("demo"))
    assert [m["backbone"] for m in run.manifests] == BACKBONES.split(",")
    assert len(run.pairs) == 9
    board = pd.read_csv(folder / "figures" / "sweep" / "leaderboard.csv")
    assert set(board["backbone"]) == {*BACKBONES.split(","), "baseline"}
    before = {p: p.stat().st_mtime_ns for p in (folder / "scores").rglob("*.parquet")}
    assert len(before) == 6
    again = CliRunner().invoke(app, [*WORDS, "--no-reports"])
    assert again.exit_code == 0
    assert {p: p.stat().st_mtime_ns for p in (folder / "scores").rglob("*.parquet")} == before


def test_a_yaml_file_and_the_options_that_win_over_it(folder: Path) -> None:
    file = folder / "sweep.yaml"
    file.write_text("datasets: demo\nbackbones: [timm:resnet10t]\nweights: untrained\ndistances: [l2]\n")
    assert read_sweep(file)["datasets"] == ["demo"]
    done = CliRunner().invoke(app, ["sweep", str(file), "--normalize", "none,model", "--dry-run"])
    assert done.exit_code == 0, done.exception
    assert "2 jobs, 6 chunks" in done.stdout
    file.write_text(file.read_text() + "normalize: [none, model]\n")
    for words, jobs in (([], 2), (["--normalize", "none"], 1)):  # said, though it is the default
        done = CliRunner().invoke(app, ["sweep", str(file), *words, "--dry-run"])
        assert f"{jobs} jobs" in done.stdout
    file.write_text("dataset: demo\n")
    with pytest.raises(InputError, match="unknown field 'dataset'; did you mean datasets"):
        read_sweep(file)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("backbones: 3", "backbones must be names, not 3"),
        ("normalize: [yes]", r"normalize must be names, not \[True\]"),
        ("batch: many", "batch must be a whole number, not 'many'"),
        ("weights: [a, b]", "weights must be a name"),
        ("distances: [l3]", "distances: 'l3' is unknown; .*l2"),
        ("precision: fp8", "precision: 'fp8' is unknown"),
        ("transforms: [rot-two]", "rot-two"),
        ("transforms: [rot-1]", "transforms must include none"),
        ("normalize: []", "normalize must name something"),
        ("datasets: [live, live]", "datasets names one thing twice"),
    ],
)
def test_wrong_values_in_a_yaml_file_are_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "sweep.yaml"
    content = {"datasets: [demo]", "backbones: [dino_vits16]", line}
    file.write_text("\n".join(c for c in content if c == line or c.split(":")[0] != line.split(":")[0]))
    with pytest.raises(InputError, match=said):
        Sweep(**read_sweep(file))


def test_all_and_both_are_words_in_a_yaml_file_too(tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(
        "datasets: demo\nbackbones: dino_vits16\ndistances: all\nvariants: both\n"
    )
    wanted = Sweep(**read_sweep(tmp_path / "sweep.yaml"))
    assert wanted.distances == list(DISTANCES)
    assert wanted.variants == ["published", "corrected"]


@pytest.mark.usefixtures("folder")
def test_mistakes_are_named() -> None:
    with (
        pytest.raises(InputError, match="no engine 'dask'"),
        workers_of("dask", workers=0, address=None, num_gpus=0, say=print),
    ):
        pass
    nothing = CliRunner().invoke(app, ["sweep", "--datasets", "demo"])
    assert "--backbones" in str(nothing.exception)


def test_small_images_are_planned_as_they_will_be_scored(tmp_path: Path) -> None:
    for name in ("r.png", "d.png"):
        Image.new("RGB", (600, 200), (90, 90, 90)).save(tmp_path / name)
    (tmp_path / "pairs.csv").write_text("ref,dist,label\nr.png,d.png,1\n")
    for small, windows in (("error", 0), ("resize", 2 * 4), ("pad", 2 * 3)):
        wanted = Sweep(
            [f"csv:{tmp_path / 'pairs.csv'}"],
            ["timm:resnet10t"],
            "untrained",
            direction="higher",
            small_images=small,
        )
        assert estimate(wanted, jobs_of(wanted))["windows"].tolist() == [windows]


def a_table(folder: Path, labels: tuple[int, ...] = (3, 2, 1)) -> str:
    """csv:FOLDER/pairs.csv of two references with three distorted images each."""
    folder.mkdir(parents=True)
    rng, rows = np.random.default_rng(0), ["ref,dist,label"]
    for r in range(2):
        ref = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
        Image.fromarray(ref).save(folder / f"r{r}.png")
        for d, label in enumerate(labels):
            noisy = np.clip(ref + rng.normal(0, 30 * (d + 1), ref.shape), 0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"d{r}{d}.png")
            rows.append(f"r{r}.png,d{r}{d}.png,{label + r / 10}")
    (folder / "pairs.csv").write_text("\n".join(rows))
    return f"csv:{folder / 'pairs.csv'}"


def test_two_tables_that_would_be_one_run_are_refused_before_any_work(tmp_path: Path) -> None:
    tables = [a_table(tmp_path / place / "same") for place in ("a", "b")]
    with pytest.raises(InputError, match=r"both be saved as the run same-pairs-sweep: rename"):
        jobs_of(Sweep(tables, ["timm:resnet10t"], "untrained", direction="higher"))


def test_two_tables_of_one_stem_are_two_datasets(folder: Path) -> None:
    tables = [a_table(folder / "good"), a_table(folder / "bad", (1, 2, 3))]
    words = ["--backbones", "timm:resnet10t", "--weights", "untrained", "--direction", "higher"]
    done = CliRunner().invoke(app, ["sweep", "--datasets", ",".join(tables), *words, "--no-reports"])
    assert done.exit_code == 0, done.exception
    board = pd.read_csv(folder / "figures" / "sweep" / "leaderboard.csv")
    psnr = board[board["distance"] == "psnr"].set_index("dataset")["srcc"]
    assert psnr["csv:pairs (run good-pairs-sweep)"] > 0.8
    assert psnr["csv:pairs (run bad-pairs-sweep)"] < -0.8
    assert board.groupby("dataset")["dataset_id"].nunique().tolist() == [1, 1]
    assert load_run("good-pairs-sweep").scores["value"].equals(load_run("bad-pairs-sweep").scores["value"])


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LAUGHS, r"line 1 holds a reference \(& or \*\): write the names out"),
        ("datasets: &d [demo]\nbackbones: *d\n", "line 1 holds a reference"),
        ("datasets: *d\n", "line 1 holds a reference"),
        ("datasets: " + "[" * 100_000, "line 1 is nested too deep"),
        ("datasets: " + "{a: " * 5_000, "nested too deep"),
        ("\n".join("  " * i + "a:" for i in range(300)), "nested too deep"),
        ("datasets: [[demo]]\n", "nested too deep"),
        ("datasets: demo\nbatch: 3\nbatch: 4\n", "lines 2 and 3 both give 'batch': give it once"),
        (
            "datasets: !!python/object/apply:os.system [id]\n",
            r"line 1 holds a tag \(tag:yaml.org,2002:python",
        ),
        ("datasets: !!set {demo}\n", "line 1 holds a tag"),
        ("a: 1\n---\nb: 2\n", "cannot be read as YAML: but found another document"),
        ("datasets: [demo\n", r"cannot be read as YAML: .* \(line 2\)"),
        ("? [a]\n: b\n", r"unhashable key \(line 1\)"),
        ("batch: 2026-99-99\n", "holds a value that cannot be read: month must be in"),
        (f"batch: {'9' * 5000}\n", "holds a value that cannot be read"),
        ("- demo\n", "must hold names and values"),
        ("", "must hold names and values"),
        ("<<: demo\n", r"cannot be read as YAML: .*merge.* \(line 1\)"),
        ("datasets: caf\xe9\n".encode("latin-1"), r"is not text in UTF-8 \(byte 0xe9 at 13\)"),
        ("datasets: demo\n".encode("utf-16"), "is not text in UTF-8"),
        (b"datasets: \x00\n", "special characters are not allowed"),
        (b"#" * (2**20 + 1), r"a sweep's file may have at most 1 MiB"),
    ],
)
def test_a_yaml_file_that_means_harm_is_one_sentence(tmp_path: Path, content: str | bytes, said: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=said) as caught:
        read_sweep(file)
    assert len(str(caught.value).splitlines()) == 1
    assert str(file) in str(caught.value)


@pytest.mark.timeout(20)
def test_a_yaml_file_that_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place, said in (
        (tmp_path / "pipe", "is a named pipe"),
        (Path("/dev/zero"), "is a device"),
        (tmp_path, "is a folder"),
        (tmp_path / "none.yaml", "does not exist"),
    ):
        with pytest.raises(InputError, match=said):
            read_sweep(place)
        done = CliRunner().invoke(app, ["sweep", str(place), "--dry-run"])
        assert isinstance(done.exception, InputError)
        assert said in str(done.exception)


def test_what_plain_yaml_says_is_still_read(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_bytes(
        "\ufeff# é\ndatasets:\n  - demo\n  - 'csv:/a,b/c.csv'\nbatch: 3\nweights: \"x\"\n".encode()
    )
    assert read_sweep(file) == {"datasets": ["demo", "csv:/a,b/c.csv"], "batch": 3, "weights": "x"}


def test_a_path_with_a_comma_stands_in_a_yaml_file(folder: Path) -> None:
    table = a_table(folder / "one,two")
    words = ["--backbones", "timm:resnet10t", "--weights", "untrained", "--direction", "higher", "--dry-run"]
    for datasets in (table, f"demo,{table}"):
        done = CliRunner().invoke(app, ["sweep", "--datasets", datasets, *words])
        assert isinstance(done.exception, InputError)
        assert "one does not exist" in str(done.exception)
        assert "YAML file, datasets: ['csv:PATH']" in str(done.exception)
    (folder / "sweep.yaml").write_text(json.dumps({"datasets": ["demo", table]}))
    done = CliRunner().invoke(app, ["sweep", str(folder / "sweep.yaml"), *words])
    assert done.exit_code == 0, done.exception
    assert "2 jobs, 5 chunks" in done.stdout


@pytest.mark.parametrize("name", ["scores", "figures", "reports"])
def test_a_sweep_that_could_not_be_saved_is_refused_before_it_scores(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / name).write_text("a file")
    monkeypatch.setattr("fmiqa_utils.extraction.sweep.run_sweep", lambda *_, **__: pytest.fail("it scored"))
    done = CliRunner().invoke(app, WORDS)
    assert isinstance(done.exception, InputError)
    assert "cannot be written" in str(done.exception)
    assert str(folder / name) in str(done.exception)
