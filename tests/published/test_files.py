"""Reading per-image results: complete files become columns, every other file is named with its reason."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import released

from fmiqa_utils.errors import InputError
from fmiqa_utils.published.files import LIVE_DISTORTED, MAX_BYTES, PROBLEM_COLUMNS, read_published


def per_image(pred: list[float] | np.ndarray, seed: int = 0) -> pd.DataFrame:
    n = len(pred)
    mos = np.random.default_rng(seed).uniform(91, 100, n)
    dis = [f"I{i // 2 + 1:02d}_01_{i % 2 + 1}.bmp" for i in range(n)]
    return pd.DataFrame({"dis": dis, "ref": [d[:3] + ".BMP" for d in dis], "mos": mos, "pred": pred})


GOOD = np.array([0.25, 0.5, 1 / 3, 4.0, 1e-9, 3.0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two complete files, one of them shuffled with other letter case; an empty one, and others cut or damaged."""
    good = per_image(GOOD)
    text = good.to_csv(index=False)
    good.to_csv(tmp_path / "tid2013_dinov1_cos.csv", index=False)
    shuffled = good.assign(pred=2 * GOOD, dis=good["dis"].str.lower()).sample(frac=1, random_state=3)
    shuffled.to_csv(tmp_path / "TID2013_psnr.csv", index=False)
    lines = text.splitlines(keepends=True)
    (tmp_path / "tid2013_lpips.csv").write_text("")
    (tmp_path / "tid2013_fsim.csv").write_text(lines[0])
    (tmp_path / "tid2013_dists.csv").write_text("".join(lines[:5]))  # whole lines
    (tmp_path / "tid2013_msssim.csv").write_text("".join(lines[:4]) + lines[4][:25])  # within the label
    (tmp_path / "tid2013_stlpips_alex.csv").write_text("".join(lines[:4]) + lines[4][:9])  # within the name
    (tmp_path / "tid2013_mad.csv").write_text(text.replace("0.3333333333333333", "nan"))
    per_image(GOOD, seed=1).to_csv(tmp_path / "tid2013_other_labels.csv", index=False)
    (tmp_path / "tid2013_twice.csv").write_text(text + lines[2])
    (tmp_path / "tid2013_levels.csv").write_text("type,level\n1,1\n")
    (tmp_path / "notes.txt").write_text("not a table")
    return tmp_path


def test_complete_files_become_columns_in_the_order_of_the_first(folder: Path) -> None:
    published = read_published(folder)
    table = published.tables["tid2013"]
    assert list(published.tables) == ["tid2013"]
    assert sorted(published.methods("tid2013")) == ["dinov1_cos", "psnr"]
    order = table["dis"].str.lower().to_numpy()
    expected = per_image(GOOD).set_index(per_image(GOOD)["dis"].str.lower()).loc[order]
    assert table["dinov1_cos"].tolist() == expected["pred"].tolist()
    assert table["psnr"].tolist() == (2 * expected["pred"]).tolist()
    assert table["quality"].tolist() == (-expected["mos"]).tolist()


def test_every_other_file_is_named_with_its_reason(folder: Path) -> None:
    problems = read_published(folder).problems.set_index("method")
    assert list(read_published(folder).problems.columns) == PROBLEM_COLUMNS
    assert problems["problem"].to_dict() == {
        "lpips": "empty",
        "fsim": "a header but no rows",
        "dists": "cut short: 4 of 6 rows",
        "msssim": "cut short: 3 of 6 rows",
        "stlpips_alex": "cut short: 3 of 6 rows",
        "mad": "predictions that are not finite numbers: 1",
        "other_labels": "rows with a name or label that the dataset's other files do not have: 6",
        "twice": "repeated rows: 1",
        "levels": "no per-image results of a method: the columns are type, level",
    }
    assert problems.loc["dists", ["dataset", "file", "n", "expected"]].tolist() == [
        "tid2013",
        "tid2013_dists.csv",
        4,
        6,
    ]
    assert problems.loc["mad", "n"] == 5
    assert problems.loc[["lpips", "fsim"], ["n", "expected"]].to_numpy().tolist() == [[0, 6], [0, 6]]


def test_which_files_are_the_whole_ones(tmp_path: Path) -> None:
    short, whole, longer = (per_image(np.arange(float(n))) for n in (4, 6, 8))
    for name, rows in (("a", short), ("b", short), ("c", whole)):
        rows.assign(mos=longer["mos"][: len(rows)]).to_csv(tmp_path / f"tid2013_{name}.csv", index=False)
    assert read_published(tmp_path).methods("tid2013") == ["c"]  # two alike do not outvote the longer one
    for name, rows in (("d", whole), ("e", whole), ("f", longer)):
        rows.assign(mos=longer["mos"][: len(rows)]).to_csv(tmp_path / f"tid2013_{name}.csv", index=False)
    published = read_published(tmp_path)
    assert published.methods("tid2013") == ["c", "d", "e"]  # three do
    assert published.problems["problem"].tolist() == ["cut short: 4 of 6 rows"] * 2 + [
        "rows with a name or label that the dataset's other files do not have: 2"
    ]


def test_parquet_and_csv_of_one_dataset_go_together(tmp_path: Path) -> None:
    wide = per_image(GOOD).rename(columns={"pred": "lpips"}).assign(dists=GOOD + 1, broken=np.nan)
    wide.to_parquet(tmp_path / "tid2013.parquet")
    per_image(GOOD * 3).to_csv(tmp_path / "tid2013_mine.csv", index=False)
    per_image(GOOD * 4).to_csv(tmp_path / "tid2013_lpips.csv", index=False)
    published = read_published(tmp_path)
    table = published.tables["tid2013"]
    assert published.methods("tid2013") == ["lpips", "dists", "mine"]
    assert table["mine"].tolist() == (GOOD * 3).tolist()
    assert table["lpips"].tolist() == GOOD.tolist()
    assert published.problems[["method", "problem"]].to_numpy().tolist() == [
        ["broken", "predictions that are not finite numbers: 6"],
        ["lpips", "another file holds the same method"],
    ]
    one = read_published(tmp_path / "tid2013.parquet")
    assert one.methods("tid2013") == ["lpips", "dists"]


def test_a_truncated_parquet_file_is_a_problem(tmp_path: Path) -> None:
    per_image(GOOD).to_parquet(tmp_path / "tid2013_whole.parquet")
    data = (tmp_path / "tid2013_whole.parquet").read_bytes()
    (tmp_path / "tid2013_half.parquet").write_bytes(data[: len(data) // 2])
    published = read_published(tmp_path)
    assert published.methods("tid2013") == ["whole"]
    assert published.problems["file"].tolist() == ["tid2013_half.parquet"]
    assert published.problems["problem"][0].startswith("cannot be read: ")


def test_a_missing_label_leaves_no_method(tmp_path: Path) -> None:
    rows = per_image(GOOD)
    rows.loc[2, "mos"] = np.nan
    rows.to_csv(tmp_path / "tid2013_a.csv", index=False)
    with pytest.raises(
        InputError, match=r"no usable.*tid2013_a.csv: predictions that are not finite numbers: 1"
    ):
        read_published(tmp_path)


def test_quality_follows_the_direction(tmp_path: Path) -> None:
    for dataset in ("live", "pipal", "csiq", "mine"):
        per_image(GOOD).to_csv(tmp_path / f"{dataset}_m.csv", index=False)
    with pytest.raises(InputError, match="'mine': say whether higher or lower"):
        read_published(tmp_path)
    tables = read_published(tmp_path, {"mine": "higher"}).tables
    signs = {
        name: np.sign(table["quality"] / table["mos"]).unique().tolist() for name, table in tables.items()
    }
    assert signs == {"live": [-1], "pipal": [1], "csiq": [-1], "mine": [1]}


def live_rows() -> pd.DataFrame:
    numbers = [2 * i + 1 for count in LIVE_DISTORTED.values() for i in range(count)]
    rows = per_image(np.arange(len(numbers), dtype=float))
    return rows.assign(dis=[f"img{i}.bmp" for i in numbers], ref="bikes.bmp")


def test_the_released_list_of_live_gets_its_folders_back(tmp_path: Path) -> None:
    rows = live_rows()
    rows.to_csv(tmp_path / "live_m.csv", index=False)
    table = read_published(tmp_path).tables["live"]
    assert table["dis"].iloc[[0, 168, 169, 343, 344, 778]].tolist() == [
        "jp2k/img1.bmp",
        "jp2k/img337.bmp",
        "jpeg/img1.bmp",
        "jpeg/img349.bmp",
        "wn/img1.bmp",
        "fastfading/img289.bmp",
    ]
    assert table["m"].tolist() == rows["pred"].tolist()
    rows.sample(frac=1, random_state=0).to_csv(tmp_path / "live_m.csv", index=False)
    assert "/" not in "".join(
        read_published(tmp_path).tables["live"]["dis"]
    )  # the order is gone: nothing is guessed


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is neither a folder nor"):
        read_published(tmp_path / "absent")
    with pytest.raises(InputError, match=r"holds no \.csv or \.parquet"):
        read_published(tmp_path)
    (tmp_path / "live_a.csv").write_text("")
    with pytest.raises(InputError, match=r"no usable per-image results \(live_a.csv: empty\)"):
        read_published(tmp_path)


def test_csv_and_parquet_of_the_same_results_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "parquet").mkdir()
    (tmp_path / "csv").mkdir()
    wide = released.write_per_image_tables(tmp_path / "parquet")["live"]
    for method in ("dinov1_cos", "psnr", "dinov1_cos_tra-1"):
        rows = wide[["dis", "ref", "mos", method]].rename(columns={method: "pred"})
        rows.to_csv(tmp_path / "csv" / f"live_{method}.csv", index=False)
    from_csv, from_parquet = (read_published(tmp_path / kind).tables["live"] for kind in ("csv", "parquet"))
    assert sorted(from_csv)[:3] == ["dinov1_cos", "dinov1_cos_tra-1", "dis"]
    assert from_parquet["dis"].str.contains("/").all()
    pd.testing.assert_frame_equal(from_csv, from_parquet[from_csv.columns], rtol=1e-12)


@pytest.mark.timeout(20)
def test_a_pipe_or_a_huge_file_among_the_results_is_a_problem_and_is_not_read(tmp_path: Path) -> None:
    per_image(GOOD).to_csv(tmp_path / "tid2013_lpips.csv", index=False)
    os.mkfifo(tmp_path / "tid2013_psnr.csv")
    with (tmp_path / "tid2013_fsim.csv").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    problems = read_published(tmp_path).problems.set_index("method")["problem"]
    assert "is a named pipe, not a table of results" in problems["psnr"]
    assert "may have at most 1,024 MiB" in problems["fsim"]
