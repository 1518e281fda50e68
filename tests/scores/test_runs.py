"""A saved run keeps its pairs, labels and settings, whatever is extracted, edited or damaged later."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.extract import extract_run
from fmiqa_utils.extraction.scorer import Settings
from fmiqa_utils.scores import shards as store
from fmiqa_utils.scores.run_names import PINNED, check_run_name, default_run, known_runs, plain, run_parts
from fmiqa_utils.scores.runs import load_run
from fmiqa_utils.statistics.correlation import correlation_table

TINY = [("timm:vit_tiny_patch16_224", "untrained")]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CSV of two references with three distorted images each; labels fall with the noise."""
    monkeypatch.setenv("FMIQA_SCORES", str(tmp_path / "scores"))
    rng, rows = np.random.default_rng(0), []
    for r in range(2):
        ref = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
        Image.fromarray(ref).save(tmp_path / f"r{r}.png")
        for d in range(3):
            noisy = np.clip(ref + rng.normal(0, 30 * (d + 1), ref.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(tmp_path / f"d{r}{d}.png")
            rows.append((f"r{r}.png", f"d{r}{d}.png", 5.0 - d + r / 10))
    pd.DataFrame(rows, columns=["ref", "dist", "label"]).to_csv(tmp_path / "pairs.csv", index=False)
    return tmp_path / "pairs.csv"


def extracted(table: Path, name: str, **how: object) -> None:
    pairs = load_pairs(f"csv:{table}", direction="higher")
    extract_run(name, pairs, TINY, settings=Settings(("l2",), layer_curves=False), device="cpu", **how)


def srcc_of(name: str) -> float:
    held = load_run(name)
    found = correlation_table(held.scores, held.pairs, n_resamples=2, fit=False)
    return float(found.loc[(found["feature"] == "joint") & (found["distance"] == "l2"), "srcc"].item())


def test_a_finished_run_keeps_its_labels_and_shares_its_scores(table: Path) -> None:
    extracted(table, "a")
    before, shards = srcc_of("a"), sorted(p.name for p in table.parent.rglob("*.parquet"))
    edited = pd.read_csv(table)
    edited.assign(label=10 - edited["label"]).to_csv(table, index=False)
    extracted(table, "b")
    assert srcc_of("a") == before
    assert srcc_of("b") == pytest.approx(-before)
    assert sorted(p.name for p in table.parent.rglob("*.parquet")) == shards
    extracted(table, "a")  # asked for again under its name, it is what the table says now
    assert srcc_of("a") == pytest.approx(-before)


def test_a_run_keeps_the_scores_of_an_image_that_was_replaced_later(table: Path) -> None:
    extracted(table, "a")
    before = load_run("a").scores
    Image.fromarray(np.zeros((224, 224, 3), np.uint8)).save(table.parent / "d00.png")
    extracted(table, "b")
    pd.testing.assert_frame_equal(load_run("a").scores, before)
    assert not load_run("b").scores["value"].equals(before["value"])


def test_an_image_replaced_under_its_size_and_time_is_found_by_verify(table: Path) -> None:
    extracted(table, "a")
    before = load_run("a").scores["value"]
    image = table.parent / "d00.png"
    facts, pixels = image.stat(), np.asarray(Image.open(image)).copy()
    other = table.parent / "other.png"
    pixels[0, 0, 0] ^= 255
    Image.fromarray(pixels).save(other, compress_level=9)
    data = other.read_bytes()[: facts.st_size].ljust(facts.st_size, b"\0")
    image.write_bytes(data)
    os.utime(image, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.unlink()
    extracted(table, "a")
    assert load_run("a").scores["value"].equals(before)  # trusted: the same size and time
    extracted(table, "a", verify=True)
    changed = load_run("a")
    assert len(changed.failures) == 1 or not changed.scores["value"].equals(before)


@pytest.mark.parametrize("file", ["manifest.json", "manifest-*.json", "pairs-*.table", "runs/a.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "other"])
def test_damage_is_named_and_extracting_again_mends_it(table: Path, file: str, damage: str) -> None:
    extracted(table, "a")
    before = srcc_of("a")
    path = next((table.parent / "scores").rglob(file))
    good = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(good[: len(good) // 2] if damage == "cut" else b"[]")
    if file != "manifest.json":  # that one is the folder's latest; the run has its own
        with pytest.raises(InputError, match="extract"):
            load_run("a")
    extracted(table, "a")
    assert srcc_of("a") == before


def test_a_kill_between_table_and_manifest_leaves_the_old_run_whole(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extracted(table, "a")
    before = srcc_of("a")
    edited = pd.read_csv(table)
    edited.assign(label=10 - edited["label"]).to_csv(table, index=False)
    monkeypatch.setattr(
        "fmiqa_utils.extraction.extract.write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        extracted(table, "a")
    assert srcc_of("a") == before


def test_runs_of_todays_layout_are_read(table: Path) -> None:
    """In an older version a folder had one manifest and one pairs.table, and the record of a run named only folders."""
    extracted(table, "a")
    before, part = srcc_of("a"), run_parts("a")[0]
    manifest = store.read_manifest(part.folder)
    (part.folder / manifest.pop("pairs_table")).rename(part.folder / "pairs.table")
    (part.folder / "manifest.json").write_text(json.dumps(manifest))
    (part.folder / part.manifest).unlink()
    record = table.parent / "scores" / "runs" / "a.json"
    record.write_text(json.dumps({"scores": json.loads(record.read_text())["scores"]}))
    assert srcc_of("a") == before
    pairs = pd.read_parquet(part.folder / "pairs.table")
    pairs.assign(label=0.0).to_parquet(part.folder / "pairs.table")
    with pytest.raises(InputError, match="not the one that was scored"):
        load_run("a")


def test_a_pinned_run_is_read_as_it_was(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extracted(table, "a")
    before = srcc_of("a")
    record = tmp_path / "kept" / "a.json"
    record.parent.mkdir()
    record.write_bytes((tmp_path / "scores" / "runs" / "a.json").read_bytes())
    edited = pd.read_csv(table)
    edited.assign(label=10 - edited["label"]).to_csv(table, index=False)
    extracted(table, "a")
    assert srcc_of("a") == pytest.approx(-before)
    monkeypatch.setenv(PINNED, str(record))
    assert srcc_of("a") == before


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "a b", "a:b", ".a", "-a", "../x", "a\nb", "x" * 200, "a\\b", "é" * 61]
)
def test_names_that_cannot_be_a_run_are_refused_before_any_work(
    name: str, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "fmiqa_utils.backbones.load.load_backbone", lambda *_, **__: pytest.fail("work was begun")
    )
    with pytest.raises(InputError, match="name"):
        extracted(table, name)
    with pytest.raises(InputError, match="name"):
        load_run(name)
    assert known_runs() == []


def test_names_of_runs() -> None:
    assert [check_run_name(n) for n in ("live", "a_b-c.d#1", "Prüfung")] == ["live", "a_b-c.d#1", "Prüfung"]
    assert [plain(n) for n in ("x y", "csv:a/b.csv", "..")] == ["x-y", "csv-a-b.csv", ""]
    assert default_run("live") == "live"
    assert default_run("csv:/data/my set/pairs.csv") == "my-set-pairs"


def test_no_backbone_is_refused(table: Path) -> None:
    pairs = load_pairs(f"csv:{table}", direction="higher")
    with pytest.raises(InputError, match="no backbone is named"):
        extract_run("a", pairs, [])
    assert known_runs() == []


def test_a_manifest_that_says_other_facts_is_written_anew(table: Path) -> None:
    pairs = load_pairs(f"csv:{table}", direction="higher")
    extracted(table, "a")
    folder = run_parts("a")[0].folder
    first = (folder / "manifest.json").read_bytes()
    extracted(table, "a")
    assert (folder / "manifest.json").read_bytes() == first
    assert store.read_pairs(folder)["label"].tolist() == pairs["label"].tolist()


def test_a_report_under_way_keeps_the_shards_that_it_reads(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMIQA_REPORTS", str(tmp_path / "reports"))
    extracted(table, "a")
    before = load_run("a").scores
    record = tmp_path / "reports" / "a" / "run" / "a.json"
    record.parent.mkdir(parents=True)
    record.write_bytes((tmp_path / "scores" / "runs" / "a.json").read_bytes())
    Image.fromarray(np.zeros((224, 224, 3), np.uint8)).save(table.parent / "d00.png")
    extracted(table, "a")
    assert not load_run("a").scores["value"].equals(before["value"])
    monkeypatch.setenv(PINNED, str(record))
    pd.testing.assert_frame_equal(load_run("a").scores, before)


@pytest.mark.parametrize("damage", ["record", "manifest"])
def test_another_runs_damage_stops_no_extraction_and_costs_no_shard(table: Path, damage: str) -> None:
    extracted(table, "other")
    shards = {p.name for p in table.parent.rglob("*.parquet")}
    record, part = table.parent / "scores" / "runs" / "other.json", run_parts("other")[0]
    place = record if damage == "record" else part.folder / part.manifest
    good = place.read_bytes()
    place.unlink() if damage == "manifest" else place.write_text("{")
    Image.fromarray(np.zeros((224, 224, 3), np.uint8)).save(table.parent / "d00.png")
    extracted(table, "a")
    assert srcc_of("a") != 0
    place.write_bytes(good)
    assert {p.name for p in table.parent.rglob("*.parquet")} > shards
    load_run("other")


def test_a_name_from_a_locale_without_its_letters_says_the_way_out() -> None:
    with pytest.raises(InputError, match="set PYTHONUTF8=1"):
        check_run_name("Pr\udcc3\udcbcfung")
