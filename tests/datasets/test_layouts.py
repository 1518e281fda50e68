"""Readers of the official layouts, on full-size copies of them."""

import os
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from fmiqa_utils.datasets.registry import DATASETS
from fmiqa_utils.datasets.tables import (
    IMAGE_COLUMNS,
    JND_COLUMNS,
    PAIR_COLUMNS,
    TRIPLET_COLUMNS,
    load_2afc,
    load_images,
    load_jnd,
    load_pairs,
)
from fmiqa_utils.errors import InputError


@pytest.mark.parametrize("name", layouts.PAIRS)
def test_every_pair_is_there_once_with_files_that_exist(data: Path, name: str) -> None:
    root = layouts.PAIRS[name](data)
    pairs = load_pairs(name)
    dataset = DATASETS[name]
    assert tuple(pairs.columns[: len(PAIR_COLUMNS)]) == PAIR_COLUMNS
    assert len(pairs) == pairs["pair_id"].nunique() == pairs["dist_path"].nunique() == dataset.rows
    assert pairs["ref"].nunique() == pairs["ref_path"].nunique() == dataset.references
    assert pairs["dist_path"].map(os.path.isfile).all()
    assert pairs["ref_path"].map(os.path.isfile).all()
    assert set(pairs["dataset"]) == {name}
    assert set(pairs["label_kind"]) == {dataset.label_kind}
    sign = 1 if dataset.direction == "higher" else -1
    np.testing.assert_array_equal(pairs["quality"], sign * pairs["label"])
    assert pairs["distortion"].ne("").all()
    assert str(pairs["level"].dtype) == "Int64"
    pd.testing.assert_frame_equal(pairs, load_pairs(name, root))


def test_live_maps_its_index_to_files_and_drops_only_the_copies(data: Path) -> None:
    layouts.build_live(data)
    pairs = load_pairs("live").set_index("pair_id")
    position = {"jp2k/img1.bmp": 0, "jpeg/img1.bmp": 227, "wn/img3.bmp": 462, "gblur/img1.bmp": 634}
    position |= {"fastfading/img2.bmp": 809}
    assert pairs.loc[list(position), "label"].tolist() == list(position.values())
    assert pairs.loc["jpeg/img31.bmp", "ref"] == "ref01.bmp"
    assert pairs.loc["wn/img1.bmp", "distortion"] == "white noise"
    counts = pairs.index.str.split("/").str[0].value_counts()
    assert counts.to_dict() == {"jp2k": 169, "jpeg": 175, "wn": 145, "gblur": 145, "fastfading": 145}
    assert pairs["level"].isna().all()


def test_live_choice_of_labels_is_recorded(data: Path) -> None:
    layouts.build_live(data)
    first, realigned = load_pairs("live"), load_pairs("live", labels="realigned")
    assert set(first["label_source"]) == {"dmos.mat"}
    assert set(realigned["label_source"]) == {"dmos_realigned.mat"}
    np.testing.assert_allclose(realigned["label"], 1000 - first["label"])
    np.testing.assert_allclose(realigned["label_std"], first["label"] / 100)
    with pytest.raises(InputError, match="live has no labels mos: choose dmos or realigned"):
        load_pairs("live", labels="mos")


def test_live_with_another_number_of_copies_is_refused(data: Path) -> None:
    root = layouts.build_live(data)
    savemat(root / "dmos.mat", {"dmos": np.zeros((1, 982)), "orgs": np.zeros((1, 982), np.uint8)})
    with pytest.raises(InputError, match="marks 0 references, not 203"):
        load_pairs("live")
    savemat(root / "dmos.mat", {"dmos": np.zeros((1, 981)), "orgs": np.zeros((1, 981), np.uint8)})
    with pytest.raises(InputError, match=r"dmos\.mat: dmos has 981 values, not 982"):
        load_pairs("live")


def test_tid2013_matches_names_in_any_case(data: Path) -> None:
    root = layouts.build_tid2013(data)
    pairs = load_pairs("tid2013").set_index("pair_id")
    row = pairs.loc["i25_17_4.bmp"]
    assert row["ref"] == "i25.bmp"
    assert row["dist_path"] == str(root / "distorted_images" / "I25_17_4.BMP")
    assert (row["level"], row["distortion"]) == (4, "contrast change")
    assert row["label"] == pytest.approx(25 / 5 + 0.17 + 0.004, abs=1e-9)
    assert pairs["label_std"].iloc[-1] == pytest.approx(0.2999)
    (root / "reference_images" / "i25.bmp").rename(root / "reference_images" / "I25.BMP")
    assert load_pairs("tid2013")["ref_path"].iloc[-1] == str(root / "reference_images" / "I25.BMP")


def test_csiq_names_a_number_and_renames_types(data: Path) -> None:
    root = layouts.build_csiq(data)
    pairs = load_pairs("csiq").set_index("pair_id")
    row = pairs.loc["1600.AWGN.3.png"]
    assert row["ref_path"] == str(root / "src_imgs" / "1600.png")
    assert row["dist_path"] == str(root / "dst_imgs" / "awgn" / "1600.AWGN.3.png")
    assert (row["level"], row["distortion"]) == (3, "white noise")
    assert row["label"] == pytest.approx(0.001 + 3 / 5000)
    assert row["label_std"] == pytest.approx(0.3)
    assert pairs.loc["image07.jpeg2000.5.png", "distortion"] == "JPEG 2000"


def test_kadid10k_is_a_mos_whatever_its_file_says(data: Path) -> None:
    layouts.build_kadid10k(data)
    pairs = load_pairs("kadid10k").set_index("pair_id")
    mild, strong = pairs.loc["I81_10_01.png"], pairs.loc["I81_10_05.png"]
    assert (strong["label"], strong["quality"], strong["distortion"]) == (1.0, 1.0, "JPEG")
    assert mild["quality"] > strong["quality"]
    assert strong["label_std"] == 0.496


@pytest.mark.parametrize("variant", ["Train_Dis", "Dist_Imgs", "split", "nested"])
@pytest.mark.slow
def test_pipal_is_found_in_every_folder_variant(
    data: Path, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = layouts.build_pipal(data, variant)
    listed: list[str] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda place: listed.append(str(place)) or listdir(place))
    pairs = load_pairs("pipal").set_index("pair_id")
    reading = [place for place in listed if place not in (str(data), str(root))]
    assert len(reading) == len(set(reading)) <= 8  # one listing a folder, however many files
    row = pairs.loc["A0101_03_07.bmp"]
    part = {"split": "Distortion_3", "nested": "Train_Dist/Distortion_3"}.get(variant, variant)
    assert row["dist_path"] == str(root / part / "A0101_03_07.bmp")
    assert row["ref_path"] == str(root / "Train_Ref" / "A0101.bmp")
    assert row["distortion"] == "GAN-based super-resolution"
    assert row["label"] == pytest.approx(1400 + 101 + 4.5)
    assert len(pairs) == 23_200


@pytest.mark.slow
def test_pipal_image_in_two_folders_is_refused(data: Path) -> None:
    root = layouts.build_pipal(data)
    layouts.touch(root / "Train_Dis", ["A0000_00_00.bmp"])
    with pytest.raises(InputError, match=r"has A0000_00_00\.bmp twice"):
        load_pairs("pipal")


def test_bapps_tables(data: Path) -> None:
    root = layouts.build_bapps(data)
    triplets = load_2afc()
    assert tuple(triplets.columns[:-1]) == TRIPLET_COLUMNS
    assert triplets["label"].tolist() == [0, 0.25, 0.5, 0.75] * 2
    assert triplets["pair_id"].iloc[5] == "val/traditional/000001"
    assert triplets["p1_path"].iloc[5] == str(root / "2afc/val/traditional/p1/000001.png")
    assert set(load_2afc(split="train")["distortion"]) == {"mix"}
    jnd = load_jnd()
    assert tuple(jnd.columns[:-1]) == JND_COLUMNS
    assert jnd["label"].tolist() == pytest.approx([0, 1 / 3, 2 / 3])


def test_bapps_faults(data: Path) -> None:
    root = layouts.build_bapps(data)
    (root / "jnd/val/cnn/p1/000002.png").unlink()
    with pytest.raises(InputError, match=r"1 of its images are not in .*: jnd/val/cnn/p1/000002\.png"):
        load_jnd()
    np.save(root / "2afc/val/cnn/judge/000000.npy", np.array([1.5]))
    with pytest.raises(InputError, match=r"000000\.npy does not hold one share between 0 and 1"):
        load_2afc()
    (root / "2afc/val/cnn/judge/000000.npy").unlink()
    with pytest.raises(InputError, match="has no judge for 000000"):
        load_2afc()
    np.save(root / "2afc/train/mix/judge/000000.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match="is not a NumPy array"):
        load_2afc(split="train")


@pytest.mark.slow
def test_datasets_without_references(data: Path) -> None:
    for build in (layouts.build_koniq10k, layouts.build_spaq, layouts.build_livec):
        build(data)
    koniq, spaq, livec = (load_images(name) for name in ("koniq10k", "spaq", "livec"))
    for table, count in ((koniq, 10_073), (spaq, 11_125), (livec, 1162)):
        assert tuple(table.columns[: len(IMAGE_COLUMNS)]) == IMAGE_COLUMNS
        assert len(table) == table["pair_id"].nunique() == count
        assert table["dist_path"].map(os.path.isfile).all()
        np.testing.assert_array_equal(table["quality"], table["label"])
    assert set(koniq["label_source"]) == {"koniq10k_scores_and_distributions.csv: MOS_zscore"}
    assert koniq["label"].iloc[110] == 1.0
    assert spaq["label"].iloc[-1] == 100
    assert livec["dist"].iloc[0] == "3.bmp"
    assert livec["label"].iloc[0] == pytest.approx(7 / 20)
    assert livec["label_std"].iloc[0] == pytest.approx(0.07)
