"""Finding datasets, and what happens when something of them is missing."""

from pathlib import Path

import layouts
import pytest

from fmiqa_utils.datasets.registry import DATASETS
from fmiqa_utils.datasets.tables import dataset_overview, dataset_root, label_note, load_pairs
from fmiqa_utils.errors import InputError


def test_missing_images_are_listed_and_counted(data: Path) -> None:
    root = layouts.build_tid2013(data)
    for level in range(1, 6):
        (root / "distorted_images" / f"I07_03_{level}.BMP").unlink()
    (root / "reference_images" / "I07.BMP").unlink()
    sentence = (
        r"TID2013: 6 of its images are not in .*: reference_images/I07\.BMP, distorted_images/I07_03_1\.bmp"
    )
    with pytest.raises(InputError, match=sentence + r", distorted_images/i07_03_2\.bmp and 3 more\.$"):
        load_pairs("tid2013")


def test_rows_missing_from_the_label_file_are_named(data: Path) -> None:
    root = layouts.build_kadid10k(data)
    lines = (root / "dmos.csv").read_text().splitlines(keepends=True)
    (root / "dmos.csv").write_text("".join(lines[:700] + lines[702:]))
    sentence = r"KADID-10k has 10,125 labels, not 10,123; without a label: i06_15_05\.png, i06_16_01\.png\.$"
    assert lines[700].startswith("I06_15_05")
    with pytest.raises(InputError, match=sentence):
        load_pairs("kadid10k")
    (root / "dmos.csv").write_text("".join([*lines[:700], lines[1], *lines[701:]]))
    with pytest.raises(InputError, match=r"labelled more than once: I01_01_01\.png"):
        load_pairs("kadid10k")
    (root / "dmos.csv").write_text("".join(lines)[:-9])
    with pytest.raises(InputError, match=r"dmos\.csv, line 10126: "):
        load_pairs("kadid10k")


@pytest.mark.parametrize("bad", ["nan I01_01_1.bmp", "5.1", "5.1 I01_01_1.bmp x", "high I01_01_1.bmp"])
def test_damaged_label_lines_are_refused(data: Path, bad: str) -> None:
    root = layouts.build_tid2013(data)
    lines = (root / "mos_with_names.txt").read_text().splitlines()
    (root / "mos_with_names.txt").write_text("\n".join([bad, *lines[1:]]))
    expected = (
        "label is not a number for I01_01_1" if bad.startswith("nan") else r"mos_with_names\.txt, line 1: "
    )
    with pytest.raises(InputError, match=expected):
        load_pairs("tid2013")


def test_damaged_binary_label_files_are_refused(data: Path) -> None:
    live, csiq = layouts.build_live(data), layouts.build_csiq(data)
    whole = (live / "dmos.mat").read_bytes()
    for damaged in (b"", b"not a MATLAB file", whole[: len(whole) // 2]):
        (live / "dmos.mat").write_bytes(damaged)
        with pytest.raises(InputError, match=r"dmos\.mat (is not a MATLAB file|has no variable)"):
            load_pairs("live")
    (csiq / "csiq.DMOS.xlsx").write_bytes((csiq / "csiq.DMOS.xlsx").read_bytes()[:2000])
    with pytest.raises(InputError, match=r"csiq\.DMOS\.xlsx is not the official workbook"):
        load_pairs("csiq")


def test_unknown_and_absent_datasets_say_what_to_do(data: Path) -> None:
    with pytest.raises(InputError, match="no dataset tid2103: did you mean tid2013"):
        load_pairs("tid2103")
    with pytest.raises(
        InputError, match=rf"LIVE R2 is not in {data} \(as live or .*request it at https://live"
    ):
        load_pairs("live")
    with pytest.raises(InputError, match=r"Demo is not in .*: run `fmiqa demo`\.$"):
        load_pairs("demo")
    with pytest.raises(InputError, match=r"koniq10k is not a table of pairs; these are: demo, live"):
        load_pairs("koniq10k")
    with pytest.raises(InputError, match="higher labels are better"):
        load_pairs("tid2013", direction="lower")
    (data / "tid2013").mkdir()
    with pytest.raises(InputError, match=rf"TID2013 is not in {data}/tid2013: "):
        load_pairs("tid2013")


def test_folder_names_are_forgiven_and_ambiguity_is_not(data: Path) -> None:
    root = layouts.build_tid2013(data)
    root.rename(data / "Tid 2013")
    assert dataset_root("tid2013") == data / "Tid 2013"
    (data / "Tid 2013").rename(data / "inner")
    (data / "tid_2013").mkdir()
    (data / "inner").rename(data / "tid_2013" / "tid2013_unpacked")
    assert dataset_root("tid2013") == data / "tid_2013" / "tid2013_unpacked"
    layouts.touch(data / "tid_2013" / "copy", ["mos_with_names.txt"])
    with pytest.raises(InputError, match="TID2013 is there more than once: name one of"):
        dataset_root("tid2013")
    assert dataset_root("tid2013", data / "tid_2013" / "copy") == data / "tid_2013" / "copy"


def test_overview_lists_every_dataset_and_where_it_is(data: Path) -> None:
    root = layouts.build_kadid10k(data)
    table = dataset_overview().set_index("name")
    assert list(table.index) == list(DATASETS)
    assert table.loc["kadid10k", "found"] == str(root)
    assert table.loc["live", ["rows", "direction", "found"]].tolist() == [779, "lower", ""]
    assert table["licence"].ne("").all()
    assert table["url"].ne("").all()


def test_overview_without_a_data_folder(data: Path) -> None:
    data.rmdir()
    assert set(dataset_overview()["found"]) == {""}


def test_label_notes() -> None:
    assert label_note("demo").endswith("not ratings of these images.")
    assert "lower is better" in label_note("live")
    assert label_note("csv:mine") == "Labels are those of the user's table mine."
    with pytest.raises(InputError, match="no dataset lve"):
        label_note("lve")


def test_demo_is_read_from_its_pairs_csv(data: Path) -> None:
    layouts.touch(data / "demo" / "reference_images", ["chelsea.png"])
    layouts.touch(data / "demo" / "distorted_images", ["chelsea_01_2.png"])
    row = "reference_images/chelsea.png,distorted_images/chelsea_01_2.png,5.2,additive Gaussian noise,2"
    (data / "demo" / "pairs.csv").write_text(f"ref,dist,label,distortion,level\n{row}\n")
    pairs = load_pairs("demo")
    assert pairs.loc[0, ["dataset", "label_kind", "quality", "level"]].tolist() == ["demo", "mos", 5.2, 2]
