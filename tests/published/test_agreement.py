"""Our scores beside the published ones: matching by name, differences by hand, and what cannot be matched."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import released

from fmiqa_utils.errors import InputError
from fmiqa_utils.published.agreement import agreement, beside_published, compare_with_ours, match_pairs
from fmiqa_utils.published.results import Published, published_table, read_published
from fmiqa_utils.scores.runs import Run

DIS = ["I01_01_1.bmp", "i01_01_2.bmp", "I02_01_1.bmp", "I02_01_2.bmp", "I25_01_1.bmp"]
QUALITY = [5.0, 4.0, 3.0, 2.0, 1.0]
DINO = [1.0, 2.0, 4.0, 3.0, 5.0]


def published() -> Published:
    table = pd.DataFrame(
        {
            "dis": DIS,
            "ref": [f"I{d[1:3]}.BMP" for d in DIS],
            "mos": [-q for q in QUALITY],
            "quality": QUALITY,
            "dinov1_l2": DINO,
            "embed_dinov1_cos": [1e-5, 0.1, 0.2, 0.3, 0.4],
            "psnr": [50.0, 40, 30, 20, 10],
            "dinov1_l2_tra-1": [2.0, 3, 4, 5, 6],
            "lpips": [0.1, 0.2, 0.3, 0.4, 0.5],
        }
    )
    return Published({"tid2013": table}, pd.DataFrame())


def our_pairs(dis: list[str] = DIS) -> pd.DataFrame:
    """In another order and letter case, with a pair that is not published and without the last one."""
    pairs = pd.DataFrame({"dist": [*dis[:4], "I03_01_1.bmp"], "quality": [*QUALITY[:4], 0.5]})
    pairs["ref"] = pairs["dist"].str[:3].str.lower() + ".bmp"
    pairs = pairs.assign(dataset="tid2013", pair_id=pairs["dist"], dist=pairs["dist"].str.upper())
    return pairs.iloc[::-1].reset_index(drop=True)


def column(pairs: pd.DataFrame, values: list[float], **keys: object) -> pd.DataFrame:
    """A score column; `values` in the order of DIS[:4] and the unpublished pair."""
    columns = {
        "dataset": "tid2013",
        "pair_id": pairs["pair_id"],
        "backbone": "dino_vitb16",
        "weights": "pretrained",
        "normalize": "none",
        "transform": "none",
        "feature": "joint",
        "distance": "l2",
        "variant": "published",
    }
    return pd.DataFrame({**columns, **keys, "value": values[::-1]})


def our_scores(pairs: pd.DataFrame) -> pd.DataFrame:
    psnr = {"backbone": "baseline", "weights": "none", "feature": "image", "distance": "psnr"}
    return pd.concat(
        [
            column(pairs, [1.0, 2.0, 4.0, 3.3, 9.0]),
            column(pairs, [9.0, 9.0, 9.0, 9.0, 9.0], feature=3),  # a block alone is not what was published
            column(pairs, [9.0, 9.0, 9.0, 9.0, 9.0], variant="corrected"),
            column(pairs, [1.1e-5, 0.1, np.nan, 0.3, 0.9], feature="embedding", distance="cos"),
            column(pairs, [2.0, 3.0, 4.0, 5.0, 9.0], transform="tra-1"),
            column(pairs, [50.0, 40.0, 30.0, 20.0, 9.0], **psnr),
            column(pairs, [50.0, 40.0, 30.0, 20.0, 9.0], **{**psnr, "distance": "ssim"}),
            column(pairs, [4.0, 3.0, 2.0, 1.0, 9.0], normalize="model"),
        ]
    )


def test_pairs_match_by_name_whatever_their_order_and_case() -> None:
    theirs, ours = match_pairs(published().tables["tid2013"], our_pairs())
    assert ours.tolist() == [1, 2, 3, 4]
    assert theirs.tolist() == [3, 2, 1, 0]


def test_folders_decide_where_bare_names_repeat() -> None:
    table = pd.DataFrame(
        {"dis": ["jp2k/img1.bmp", "jpeg/img1.bmp", "wn/img2.bmp"], "ref": ["a.bmp", "a.bmp", "b.bmp"]}
    )
    pairs = table.rename(columns={"dis": "dist"}).iloc[[1, 0, 2]].reset_index(drop=True)
    assert [rows.tolist() for rows in match_pairs(table, pairs)] == [[1, 0, 2], [0, 1, 2]]
    bare = table.assign(dis=table["dis"].str.split("/").str[1])
    assert [rows.tolist() for rows in match_pairs(bare, pairs)] == [
        [2],
        [2],
    ]  # the two img1 of a are left alone
    elsewhere = pairs.assign(
        dist="C:\\data\\" + pairs["dist"].str.replace("/", "\\"), ref="refs/" + pairs["ref"]
    )
    assert [
        rows.tolist() for rows in match_pairs(table.assign(ref=["a.bmp", "c.bmp", "b.bmp"]), elsewhere)
    ] == [
        [2],
        [2],
    ]


def test_agreement_by_hand() -> None:
    pairs = our_pairs()
    agreement = compare_with_ours(published(), our_scores(pairs), pairs).agreement
    rows = agreement.set_index(["method", "normalize", "transform"])
    assert sorted(rows.index) == [
        ("dinov1_l2", "model", "none"),
        ("dinov1_l2", "none", "none"),
        ("dinov1_l2", "none", "tra-1"),
        ("embed_dinov1_cos", "none", "none"),
        ("psnr", "none", "none"),
    ]
    counts = agreement[["n_matched", "n_unmatched_published", "n_unmatched_ours"]].drop_duplicates()
    assert counts.to_numpy().tolist() == [[4, 1, 1]]
    assert agreement["label_pearson"].tolist() == pytest.approx([1] * 5)
    l2 = rows.loc[("dinov1_l2", "none", "none")]
    assert (l2["worst_relative"], l2["median_relative"], l2["worst_pair"]) == pytest.approx((0.1, 0, DIS[3]))
    assert l2["pearson"] == pytest.approx(np.corrcoef(DINO[:4], [1, 2, 4, 3.3])[0, 1])
    assert rows.loc[("dinov1_l2", "model", "none"), "pearson"] < 0  # signed: ours runs the other way
    cos = rows.loc[("embed_dinov1_cos", "none", "none")]
    assert (cos["n_failed"], cos["worst_pair"]) == (1, DIS[0])
    assert cos["worst_relative"] == pytest.approx(1e-3)  # 1e-6 apart, against the floor of 1e-3
    assert rows.loc[("psnr", "none", "none"), "worst_relative"] == 0


def test_side_by_side_on_the_same_pairs() -> None:
    pairs = our_pairs()
    table = compare_with_ours(published(), our_scores(pairs), pairs).side_by_side
    rows = table.set_index(["method", "normalize", "transform"])
    l2 = rows.loc[("dinov1_l2", "none", "none")]
    # On the four matched pairs: distances 1 2 4 3 against quality 5 4 3 2, Σd² = 2, SRCC = 1 − 12/60, τ = 4/6.
    assert (l2["n"], l2["srcc_published"], l2["krcc_published"]) == pytest.approx((4, 0.8, 4 / 6))
    assert (l2["srcc_ours"], l2["srcc_difference"]) == pytest.approx((0.8, 0))
    assert (l2["srcc_within_published"], l2["srcc_within_ours"]) == pytest.approx(
        (0, 0)
    )  # +1 in I01, −1 in I02
    assert l2["plcc_difference"] == pytest.approx(l2["plcc_ours"] - l2["plcc_published"])
    model = rows.loc[("dinov1_l2", "model", "none")]
    assert (model["srcc_ours"], model["srcc_difference"]) == pytest.approx((-1, -1.8))
    psnr = rows.loc[("psnr", "none", "none")]
    assert (psnr["srcc_ours"], psnr["srcc_published"]) == pytest.approx(
        (1, 1)
    )  # higher is better on both sides
    assert rows.loc[("embed_dinov1_cos", "none", "none"), "n"] == 3


def test_another_label_file_shows() -> None:
    pairs = our_pairs()
    other = pairs.assign(quality=pairs["quality"] ** 3)
    agreement = compare_with_ours(published(), our_scores(pairs), other).agreement
    assert agreement["label_pearson"].iloc[0] == pytest.approx(
        np.corrcoef([5, 4, 3, 2], [125, 64, 27, 8])[0, 1]
    )


def test_all_pairs_of_a_column_failed() -> None:
    pairs = our_pairs()
    scores = column(pairs, [np.nan] * 5)
    row = compare_with_ours(published(), scores, pairs).agreement.iloc[0]
    assert (row["n_failed"], row["worst_pair"]) == (4, "")
    assert np.isnan(row[["pearson", "median_relative", "worst_relative"]].astype(float)).all()


def test_what_cannot_be_compared() -> None:
    pairs = our_pairs()
    scores = our_scores(pairs)
    with pytest.raises(InputError, match="hold tid2013, but not demo"):
        compare_with_ours(published(), scores, pairs.assign(dataset="demo"))
    strangers = pairs.assign(dist="x" + pairs["dist"])
    with pytest.raises(InputError, match="no pair of tid2013 has the same file name"):
        compare_with_ours(published(), scores, strangers)
    with pytest.raises(InputError, match="no whole-model value"):
        compare_with_ours(published(), scores[scores["variant"] == "corrected"], pairs)
    with pytest.raises(InputError, match="no column that a published method"):
        compare_with_ours(published(), scores.assign(backbone="timm:resnet50"), pairs)
    renamed = scores.assign(dataset="csv:tid")
    comparison = compare_with_ours(published(), renamed, pairs.assign(dataset="csv:tid"), dataset="tid2013")
    assert len(comparison.agreement) == 5


def test_live_in_the_released_layout_as_if_it_were_ours(tmp_path: Path) -> None:
    released.write_per_image_tables(tmp_path)
    theirs = read_published(tmp_path)
    live = theirs.tables["live"].sample(frac=1, random_state=1).reset_index(drop=True)
    pairs = live[["ref", "quality"]].assign(dataset="live", pair_id=live["dis"], dist=live["dis"].str.upper())
    scores = column(pairs, live["dinov1_cos"].tolist()[::-1], dataset="live", distance="cos")
    comparison = compare_with_ours(theirs, scores, pairs)
    row = comparison.agreement.iloc[0]
    assert (row["n_matched"], row["n_unmatched_ours"], row["worst_relative"]) == (779, 0, 0)
    both = comparison.side_by_side.iloc[0]
    assert both["srcc_ours"] == both["srcc_published"] > 0.8


def our_run(**keys: object) -> Run:
    pairs = our_pairs()
    scores = column(pairs, [1.0, 2.0, 4.0, 3.3, 7.0], **keys)
    return Run("r", scores, pairs, pd.DataFrame(), [{"dataset": "tid2013"}])


def test_a_run_is_compared_with_a_folder_of_results(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"dis": DIS, "ref": [f"I{d[1:3]}.BMP" for d in DIS], "mos": [-q for q in QUALITY], "pred": DINO}
    )
    rows.to_csv(tmp_path / "tid2013_dinov1_l2.csv", index=False)
    same, beside = agreement(read_published(tmp_path), our_run())
    assert same["n_matched"].tolist() == [4]
    assert same["worst_relative"].item() == pytest.approx(0.1)
    assert same["worst_pair"].item().lower() == "i02_01_2.bmp"
    assert beside["srcc_ours"].item() == pytest.approx(beside["srcc_published"].item()) == pytest.approx(0.8)


def test_moves_of_a_part_of_the_pairs_are_left_out(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"dis": DIS, "ref": [f"I{d[1:3]}.BMP" for d in DIS], "mos": [-q for q in QUALITY], "pred": DINO}
    )
    rows.to_csv(tmp_path / "tid2013_dinov1_l2.csv", index=False)
    run = our_run()
    moved = run.scores.head(2).assign(transform="tra-1")
    more = Run("r", pd.concat([run.scores, moved]), run.pairs, run.failures, run.manifests)
    assert agreement(read_published(tmp_path), more).agreement["transform"].tolist() == ["none"]


def test_published_numbers_stand_beside_ours_without_any_file() -> None:
    beside = beside_published(our_run(), n_resamples=200)
    assert beside["method"].tolist() == ["dinov1_l2"]
    packaged = published_table().query(
        "dataset == 'tid2013' and method == 'dinov1_l2' and transform == 'none'"
    )
    assert beside["srcc_published"].item() == packaged["srcc"].item()
    assert beside["srcc"].item() == pytest.approx(0.9)  # ranks 1 2 4 3 5 against 1 … 5, by hand
    assert beside_published(our_run(backbone="dinov2_vits14")).empty
    elsewhere = our_run()
    elsewhere.manifests[0]["dataset"] = "demo"
    assert beside_published(elsewhere).empty


def test_similarities_that_were_published_as_distances_are_turned_back() -> None:
    theirs = published()
    theirs.tables["tid2013"]["fsim"] = [0.01, 0.02, 0.05, 0.1, 0.2]
    pairs = our_pairs()
    ours = column(pairs, [0.98, 0.96, 0.9, 0.8, 0.5], backbone="baseline", feature="image", distance="fsim")
    same = compare_with_ours(theirs, ours, pairs).agreement.set_index("method")
    assert same.loc["fsim", "worst_relative"] < 1e-12
    assert same.loc["fsim", "pearson"] == pytest.approx(1)
