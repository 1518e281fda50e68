"""check_dataset: every fault of an image is found, and a sound dataset passes."""

import os
from dataclasses import replace
from pathlib import Path

import layouts
import numpy as np
import pytest
from PIL import Image

from fmiqa_utils.datasets.check import check_dataset
from fmiqa_utils.datasets.layouts import LIVE_FOLDERS
from fmiqa_utils.datasets.registry import DATASETS


def image_file(path: Path, width: int = 240, height: int = 230, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_check_finds_every_fault(tmp_path: Path) -> None:
    for name in ("r.png", "good.png", "text.png"):
        image_file(tmp_path / name)
    image_file(tmp_path / "wide.png", width=241)
    image_file(tmp_path / "small.png", width=223)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:5000])
    (tmp_path / "grey16.png").touch()
    Image.fromarray(np.zeros((230, 240), np.uint16)).save(tmp_path / "grey16.png")
    names = ("good", "wide", "small", "text", "cut", "grey16", "gone")
    rows = [f"r.png,{name}.png,{i}" for i, name in enumerate(names)]
    (tmp_path / "pairs.csv").write_text("\n".join(["ref,dist,label", *rows]) + "\n")
    seen: list[tuple[int, int]] = []
    result = check_dataset(
        f"csv:{tmp_path / 'pairs.csv'}",
        direction="lower",
        progress=lambda done, total: seen.append((done, total)),
        workers=2,
    )
    assert not result.ok
    assert result.missing == ["gone.png"]
    assert {Path(path).name for path in result.unreadable} == {"text.png", "cut.png", "grey16.png"}
    assert "more than 8 bits" in result.unreadable[str(tmp_path / "grey16.png")]
    assert result.mismatched == ["wide.png", "small.png"]
    assert [Path(path).name for path in result.small] == ["small.png"]
    assert result.sizes == {(240, 230): 2, (241, 230): 1, (223, 230): 1}
    assert (result.rows, result.references, result.files) == (7, 1, 7)
    assert (result.label_min, result.label_max, result.label_kind) == (0, 6, "dmos")
    assert seen == [(i, 7) for i in range(1, 8)]


def test_check_passes_a_sound_dataset_and_states_what_is_left_out(data: Path) -> None:
    root = layouts.build_live(data)
    image_file(root / "one.bmp")
    for place in ("refimgs", *LIVE_FOLDERS):
        for name in os.listdir(root / place):
            (root / place / name).unlink()
            os.link(root / "one.bmp", root / place / name)
    result = check_dataset("live", labels="realigned")
    assert result.ok
    assert (result.rows, result.references, result.files) == (779, 29, 779 + 29)
    assert result.sizes == {(240, 230): 808}
    assert result.label_source == "dmos_realigned.mat"
    assert result.dropped.startswith("203 rows")


def test_check_of_patches_and_of_images_without_references(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = layouts.build_bapps(data)
    for path in sorted((root / "jnd").rglob("*.png")):
        path.unlink()
        image_file(path, 64, 64)
    assert check_dataset("bapps_jnd").ok
    root = layouts.build_livec(data)
    monkeypatch.setitem(DATASETS, "livec", replace(DATASETS["livec"], rows=1162, min_side=1))
    for name in os.listdir(root / "Images"):
        if name.endswith(".bmp") and name != "3.bmp":
            (root / "Images" / name).unlink()
    image_file(root / "Images" / "3.bmp", 8, 8)
    result = check_dataset("livec")
    assert (len(result.missing), result.sizes, result.references) == (1161, {(8, 8): 1}, 0)
