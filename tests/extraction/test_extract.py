"""Extraction end to end on small images: resume, keys, failures, and what a user sees on the command line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pictures import pairs_of, write_pairs
from PIL import Image
from typer.testing import CliRunner

from fmiqa_utils.backbones.load import Backbone
from fmiqa_utils.cli.main import app
from fmiqa_utils.distances.table import DISTANCES
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.extract import extract_run, score_pairs
from fmiqa_utils.extraction.scorer import Scorer, Settings
from fmiqa_utils.scores.shards import find_shards, read_failures, read_pairs, read_scores

TINY = "timm:vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def scorer(tiny: Backbone) -> Scorer:
    return Scorer(tiny, Settings(("l2", "cos")), batch=3)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_pairs(tmp_path)


def shard_bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("*.parquet")}


def test_values_are_means_over_windows(scorer: Scorer, table: Path, tmp_path: Path) -> None:
    score_pairs(pairs_of(table), scorer, tmp_path / "out")
    scores = read_scores(tmp_path / "out")
    assert len(scores) == 4 * (
        2 * 13 + 1 + 2
    )  # l2 and cos: joint and 12 blocks; the embedding; PSNR and SSIM
    ref, dist = (np.asarray(Image.open(table.parent / n)) for n in ("r0.png", "r0_1.png"))
    values = []
    for left in (0, 16):
        crops = [
            torch.from_numpy(i[:, left : left + 224].copy()).permute(2, 0, 1)[None] / 255 for i in (dist, ref)
        ]
        with torch.inference_mode():
            f, g = (scorer.backbone(c).layers for c in crops)
        values.append((f[:, 3] - g[:, 3]).square().mean().item())
    row = scores[(scores["pair_id"] == "r0_1.png") & (scores["feature"] == 3) & (scores["distance"] == "l2")]
    assert row["value"].item() == pytest.approx(np.mean(values), rel=1e-4)


def test_resume_computes_nothing_and_changes_recompute(scorer: Scorer, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    score_pairs(pairs_of(table), scorer, out)
    first, manifest = shard_bytes_of(out), (out / "manifest.json").read_bytes()
    score_pairs(pairs_of(table), scorer, out)
    assert shard_bytes_of(out) == first
    assert (out / "manifest.json").read_bytes() == manifest
    pd.read_csv(table).assign(label=lambda t: t["label"].where(t["dist"] != "r1_0.png", 1)).to_csv(
        table, index=False
    )
    score_pairs(pairs_of(table), scorer, out)
    new = json.loads((out / "manifest.json").read_text())
    assert set(new["shards"]) == set(first)  # a label is no score: nothing is scored again
    assert new["labels_sha256"] != json.loads(manifest)["labels_sha256"]
    assert read_pairs(out)["label"].min() == 1


def test_changed_image_and_damaged_shard_are_noticed(scorer: Scorer, table: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "out", []
    score_pairs(pairs_of(table), scorer, out)
    before = read_scores(out)
    image = np.asarray(Image.open(table.parent / "r0_0.png")).copy()
    image[:50] = 0
    Image.fromarray(image).save(table.parent / "r0_0.png")
    score_pairs(pairs_of(table), scorer, out)
    after = read_scores(out)
    changed = (before["value"] != after["value"]).groupby(before["pair_id"], observed=True).any()
    assert changed.to_dict() == {"r0_0.png": True, "r0_1.png": False, "r1_0.png": False, "r1_1.png": False}
    shard = out / next(iter(find_shards(shard_bytes_of(out)).values()))[0]
    good = shard.read_bytes()
    shard.write_bytes(good[:200] + bytes([good[200] ^ 1]) + good[201:])
    with pytest.raises(InputError, match="missing or damaged"):
        read_scores(out)
    score_pairs(pairs_of(table), scorer, out, say=said.append)
    assert shard.read_bytes() == good
    assert "is damaged" in said[0]


def test_failures_are_rows_and_are_counted(scorer: Scorer, table: Path, tmp_path: Path) -> None:
    whole = (table.parent / "r0_0.png").read_bytes()
    (table.parent / "r0_0.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (300, 300)).save(table.parent / "r1_1.png")
    manifest = score_pairs(pairs_of(table), scorer, tmp_path / "out")
    assert manifest["failures"] == 2
    scores, failures = read_scores(tmp_path / "out"), read_failures(tmp_path / "out")
    assert len(scores) == 4 * 29
    assert scores[scores["value"].isna()]["pair_id"].value_counts()[["r0_0.png", "r1_1.png"]].tolist() == [
        29,
        29,
    ]
    assert scores["value"].isna().sum() == 58
    assert "differ in size" in failures.set_index("pair_id").loc["r1_1.png", "reason"]
    with pytest.raises(InputError, match="--strict"):
        score_pairs(pairs_of(table), scorer, tmp_path / "strict", strict=True)


@pytest.mark.slow
def test_killed_run_goes_on_to_the_same_bytes(table: Path, tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def extract(name: str) -> subprocess.Popen:
        command = f"import sys; from fmiqa_utils.cli.main import main; sys.argv[1:] = {arguments!r}; main()"
        scores = {"FMIQA_SCORES": str(tmp_path / name)}
        return subprocess.Popen(
            [sys.executable, "-c", command], env=environment | scores, stderr=subprocess.DEVNULL
        )

    arguments = ["extract", "--dataset", f"csv:{table}", "--direction", "higher", "--weights", "untrained"]
    arguments += ["--backbone", TINY, "--device", "cpu"]
    assert extract("whole").wait() == 0
    killed = extract("killed")
    while killed.poll() is None and not list((tmp_path / "killed").rglob("*.parquet")):
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert extract("killed").wait() == 0
    folders = [next((tmp_path / name).rglob("manifest.json")).parent for name in ("whole", "killed")]
    assert shard_bytes_of(folders[0]) == shard_bytes_of(folders[1])


def test_score_prints_one_object(table: Path) -> None:
    words = ["score", str(table.parent / "r0.png"), str(table.parent / "r0_1.png"), "--backbone", TINY]
    result = CliRunner().invoke(app, [*words, "--weights", "untrained", "--json", "--device", "cpu"])
    printed = json.loads(result.stdout)
    assert printed["windows"] == 2
    assert list(printed["score"]) == list(DISTANCES)
    assert sum(printed["per_layer"]["l2"]) == pytest.approx(printed["score"]["l2"], rel=1e-5)
    assert len(printed["per_layer"]["wsd"]) == 12


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["extract", "--dataset", "tid2031"], "tid2013"),
        (["score", "a.png", "b.png"], "does not exist"),
        (["score", ".", str(Path(__file__)), "--weights", "untrained"], "two files or two folders"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(words: list[str], said: str) -> None:
    command = [
        sys.executable,
        "-c",
        f"import sys; from fmiqa_utils.cli.main import main; sys.argv[1:] = {words!r}; main()",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_file_under_two_names_is_done_after_one_run(scorer: Scorer, table: Path, tmp_path: Path) -> None:
    rows = pd.read_csv(table)
    rows.loc[len(rows)] = ["r0.png", "r0.png", 9.0, "none", 0]  # the reference beside itself
    rows.to_csv(table, index=False)
    out = tmp_path / "out"
    score_pairs(pairs_of(table), scorer, out)
    before = {p: p.stat().st_mtime_ns for p in out.glob("*.parquet")}
    score_pairs(pairs_of(table), scorer, out)
    assert {p: p.stat().st_mtime_ns for p in out.glob("*.parquet")} == before
    assert read_scores(out).query("pair_id == 'r0.png' and distance == 'l2'")["value"].abs().max() == 0


def test_others_may_read_what_was_written(scorer: Scorer, table: Path, tmp_path: Path) -> None:
    score_pairs(pairs_of(table), scorer, tmp_path / "out")
    mask = os.umask(0)
    os.umask(mask)
    modes = {p.stat().st_mode & 0o777 for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")}
    assert modes == {0o666 & ~mask}


def test_settings_of_another_type_are_refused_before_a_model_is_built(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "fmiqa_utils.backbones.load.load_backbone", lambda *_, **__: pytest.fail("a model was built")
    )
    with pytest.raises(InputError, match=r"settings must be a Settings, .* not a dict"):
        extract_run("r", pairs_of(table), [(TINY, "untrained")], settings={"distances": ("l2",)})  # type: ignore[arg-type]
