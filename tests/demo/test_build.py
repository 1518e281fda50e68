"""The demo dataset: built completely or not at all, once, and labelled from the table."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from errno import ENOSPC
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from trees import tree_of_demo

from fmiqa_utils.datasets.layouts import TID2013_TYPES
from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.demo import build as demo
from fmiqa_utils.demo.build import build_demo, deviation_table
from fmiqa_utils.demo.calibration import levels, psnr
from fmiqa_utils.demo.distortions import distort
from fmiqa_utils.demo.photographs import PHOTOGRAPHS
from fmiqa_utils.errors import InputError

SMALL = {
    "PHOTOGRAPHS": PHOTOGRAPHS[:2],
    "TID2013_TYPES": {number: TID2013_TYPES[number] for number in (1, 10, 16, 17)},
}


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Two photographs and four cheap types: 40 distorted images."""
    for name, value in SMALL.items():
        monkeypatch.setattr(demo, name, value)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(demo, name, value)
        return build_demo(tmp_path_factory.mktemp("data") / "demo")


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()
    }


def stop(done: int, _total: int) -> None:
    if done:
        raise KeyboardInterrupt


def test_pairs_are_there_with_the_tables_labels(built):
    pairs = pd.read_csv(built / "pairs.csv")
    assert list(pairs.columns) == ["ref", "dist", "label", "distortion", "level", "type"]
    assert len(pairs) == 2 * 4 * 5
    for row in pairs.itertuples():
        assert row.label == levels()[row.type, row.level].mos
        assert row.distortion == TID2013_TYPES[row.type]
        assert row.dist == f"distorted_images/{Path(row.ref).stem}_{row.type:02d}_{row.level}.png"
        assert pixels(built / row.ref).shape == pixels(built / row.dist).shape == (288, 384, 3)


def test_dataset_reader_takes_it(built):
    pairs = load_pairs("demo", built)
    assert len(pairs) == 40
    assert (pairs["quality"] == pairs["label"]).all()
    assert all(os.path.isfile(path) for column in ("ref_path", "dist_path") for path in pairs[column])


def test_deviations_are_those_of_the_images(built):
    rows = pd.read_csv(built / "deviations.csv")
    assert list(rows["target_psnr"]) == [
        levels()[key].psnr for key in zip(rows.type, rows.level, strict=True)
    ]
    for row in rows.itertuples():
        ref = pixels(built / row.ref)
        dist = pixels(built / f"distorted_images/{Path(row.ref).stem}_{row.type:02d}_{row.level}.png")
        assert row.psnr == pytest.approx(psnr(ref, dist), abs=1e-4)
        assert row.deviation == pytest.approx(row.psnr - row.target_psnr, abs=2e-4)
        assert np.array_equal(dist, distort(ref, row.type, row.strength, row.seed, row.level))


def test_deviation_table(built):
    table = deviation_table(built).set_index("type")
    assert list(table["matched"]) == ["each image", "mean of images", "each image", "mean of images"]
    assert list(table["continuous"]) == [True, False, False, True]
    assert list(table["distortion"]) == list(SMALL["TID2013_TYPES"].values())
    assert table["worst_deviation"].abs().max() < 0.7
    assert table.loc[[1, 17], "worst_deviation"].abs().max() < 0.3
    # Contrast: one strength for both images, so their own PSNR lies apart; the mean is what counts.
    rows = pd.read_csv(built / "deviations.csv").query("type == 17")
    means = rows.groupby("level")["deviation"].mean()
    assert table.loc[17, "mean_deviation"] == pytest.approx(means.abs().mean())
    assert rows["deviation"].abs().max() > 1


def test_manifest_says_where_everything_is_from(built):
    manifest = json.loads((built / "manifest.json").read_text())
    assert [photograph["name"] for photograph in manifest["photographs"]] == ["astronaut", "chelsea"]
    assert all(photograph["licence"] and photograph["credit"] for photograph in manifest["photographs"])
    assert (manifest["references"], manifest["types"], manifest["levels"]) == (2, 4, 5)
    assert {"numpy", "pillow", "scikit-image", "scikit-learn"} <= manifest["libraries"].keys()
    assert set(manifest["files"]) == set(contents(built)) - {"manifest.json"}


def test_second_call_does_nothing_and_is_quick(built):
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    started = time.perf_counter()
    assert build_demo(built) == built
    assert time.perf_counter() - started < 0.5
    assert before == {path: path.stat().st_mtime_ns for path in built.rglob("*")}


def test_two_builds_are_equal_to_the_byte(built, tmp_path):
    counts = []
    again = contents(build_demo(tmp_path / "demo", lambda done, total: counts.append((done, total))))
    first = contents(built)
    assert counts[0] == (0, 40)
    assert counts[-1] == (40, 40)
    assert counts == sorted(counts)
    del first["manifest.json"], again["manifest.json"]  # has seconds
    assert first == again


def test_the_demo_of_version_0_1_is_not_built_again(tmp_path, monkeypatch):
    """Its recipe was a hash of source code, which moving a module changes; the pixels are the same."""
    root = tree_of_demo(tmp_path)
    manifest = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps(manifest | {"recipe": demo.SAME_PIXELS[0]}))
    monkeypatch.setattr(demo, "_build", lambda *_: pytest.fail("it was built again"))
    assert build_demo(root) == root


@pytest.mark.parametrize("harm", ["missing", "cut", "other recipe"])
def test_damage_is_repaired(harm, tmp_path):
    root = build_demo(tmp_path / "demo")
    image = root / "distorted_images" / "chelsea_16_3.png"
    whole = image.read_bytes()
    if harm == "missing":
        image.unlink()
    elif harm == "cut":
        image.write_bytes(whole[:-10])
    else:
        manifest = json.loads((root / "manifest.json").read_text())
        (root / "manifest.json").write_text(json.dumps(manifest | {"recipe": "old"}))
        image.write_bytes(b"old")
    assert build_demo(root) == root
    assert image.read_bytes() == whole


def test_interrupted_build_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build_demo(tmp_path / "demo", stop)
    assert [path.name for path in tmp_path.iterdir()] == [".demo.lock"]


def test_interrupted_rebuild_leaves_the_old_one(tmp_path):
    root = build_demo(tmp_path / "demo")
    before = contents(root)
    with pytest.raises(KeyboardInterrupt):
        build_demo(root, stop, force=True)
    assert contents(root) == before


def test_what_a_killed_build_left_is_cleared_away(tmp_path):
    (tmp_path / ".demo.building-killed" / "new").mkdir(parents=True)
    build_demo(tmp_path / "demo")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".demo.lock", "demo"]


def test_two_builds_at_once_are_one(tmp_path, monkeypatch):
    built = []
    build = demo._build
    monkeypatch.setattr(demo, "_build", lambda root, *rest: (built.append(root), build(root, *rest)))
    with ThreadPoolExecutor(2) as pool:
        roots = list(pool.map(build_demo, [tmp_path / "demo"] * 2))
    assert roots == [tmp_path / "demo"] * 2
    assert len(built) == 1


def test_full_disk_before_and_while_writing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(demo, "SPACE", 1e18)
        with pytest.raises(InputError, match=r"no space left on device.*FMIQA_DATA"):
            build_demo(tmp_path / "demo")
    monkeypatch.setattr(demo, "_save", full)
    with pytest.raises(InputError, match="no space left on device"):
        build_demo(tmp_path / "demo")
    assert [path.name for path in tmp_path.iterdir()] == [".demo.lock"]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "holiday.png").write_bytes(b"mine")
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match="is not a demo dataset"):
        build_demo(tmp_path, force=True)
    assert (tmp_path / "holiday.png").read_bytes() == b"mine"


def test_default_folder_follows_the_environment(data):
    assert build_demo() == data / "demo"
