"""The correlation table: signs, counts, splits, and the sentences of its errors."""

import warnings

import numpy as np
import pandas as pd
import pytest

from fmiqa_utils.distances.table import orientation
from fmiqa_utils.errors import InputError
from fmiqa_utils.statistics.correlation import KEYS, correlation_table, wide_scores

STATISTICS = ["n", "n_failed", "n_refs", "srcc", "srcc_lo", "srcc_hi", "plcc", "plcc_fit4", "plcc_fit5"]
STATISTICS += ["fit_converged", "rmse", "krcc", "srcc_within", "srcc_within_sd"]


def pairs_table(quality: list[float], dataset: str = "toy", refs: int = 2) -> pd.DataFrame:
    n = len(quality)
    return pd.DataFrame(
        {
            "dataset": dataset,
            "pair_id": [f"p{i}" for i in range(n)],
            "ref": [f"r{i % refs}" for i in range(n)],
            "quality": quality,
            "distortion": ["blur" if i < n // 2 else "noise" for i in range(n)],
        }
    )


def score_rows(values: list[float], dataset: str = "toy", **keys: object) -> pd.DataFrame:
    columns = {
        "dataset": dataset,
        "pair_id": [f"p{i}" for i in range(len(values))],
        "backbone": "vit",
        "weights": "untrained",
        "normalize": "none",
        "transform": "none",
        "feature": 0,
        "distance": "l2",
        "variant": "published",
    }
    return pd.DataFrame({**columns, **keys, "value": values})


QUALITY = [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]


def test_columns_and_hand_checked_row() -> None:
    # Distances 1 3 2 4 6 5 turned: −1 −3 −2 −4 −6 −5, ranks 6 4 5 3 1 2 against quality ranks 6 5 4 3 2 1.
    # d = 0 −1 1 0 −1 1, Σd² = 4, SRCC = 1 − 6·4/(6·35) = 31/35. Two of 15 pairs discordant: τ = (13 − 2)/15.
    # r0 holds items 0 2 4, perfectly ordered: SRCC 1; r1 holds 1 3 5: also 1. PLCC: values are ranks, 31/35.
    table = correlation_table(score_rows([1, 3, 2, 4, 6, 5]), pairs_table(QUALITY))
    assert list(table.columns) == ["dataset", *KEYS, *STATISTICS]
    row = table.iloc[0]
    assert (row["n"], row["n_failed"], row["n_refs"]) == (6, 0, 2)
    assert row["srcc"] == pytest.approx(31 / 35)
    assert row["plcc"] == pytest.approx(31 / 35)
    assert row["krcc"] == pytest.approx(11 / 15)
    assert (row["srcc_within"], row["srcc_within_sd"]) == pytest.approx((1, 0))
    assert row["srcc_lo"] <= row["srcc"] <= row["srcc_hi"]
    assert row["plcc_fit5"] >= row["plcc_fit4"] - 1e-6 >= row["plcc"] - 1e-6


def test_sign_tells_agreement_for_distances_and_similarities() -> None:
    assert (orientation("l2"), orientation("lpips"), orientation("psnr"), orientation("ms_ssim")) == (
        -1,
        -1,
        1,
        1,
    )
    rising = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    scores = pd.concat([score_rows(rising), score_rows(rising, distance="psnr", feature="image")])
    table = correlation_table(scores, pairs_table(QUALITY)).set_index("distance")
    assert table.loc["l2", "srcc"] == pytest.approx(1)
    assert table.loc["psnr", "srcc"] == pytest.approx(
        -1
    )  # a PSNR that falls with quality disagrees, and says so
    assert table.loc["psnr", "plcc"] == pytest.approx(-1)
    assert table.loc["psnr", "krcc"] == pytest.approx(-1)


def test_failed_pairs_are_counted_and_leave_only_their_own_column() -> None:
    scores = pd.concat(
        [score_rows([1, 3, 2, 4, 6, 5]), score_rows([1, np.nan, 2, np.nan, 6, np.nan], feature=1)]
    )
    table = correlation_table(scores, pairs_table(QUALITY), fit=False)
    assert table["n"].tolist() == [6, 3]
    assert table["n_failed"].tolist() == [0, 3]
    assert table["n_refs"].tolist() == [2, 1]
    assert table["srcc"].tolist() == pytest.approx([31 / 35, 1])
    assert table["srcc_lo"].isna().tolist() == [False, True]  # one reference is left


def test_constant_and_infinite_columns_are_nan_without_a_warning() -> None:
    constant = score_rows([3.0] * 6)
    infinite = score_rows([np.inf, 40, 30, 20, 10, 5], distance="psnr", feature="image")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = correlation_table(pd.concat([constant, infinite]), pairs_table(QUALITY)).set_index("distance")
    assert np.isnan(
        table.loc["l2", ["srcc", "srcc_lo", "plcc", "plcc_fit4", "krcc", "srcc_within"]].astype(float)
    ).all()
    assert not table.loc["l2", "fit_converged"]
    assert table.loc["psnr", "srcc"] == pytest.approx(1)  # infinity has a rank
    assert np.isnan(table.loc["psnr", "plcc"])  # but no product


def test_by_splits_rows_and_datasets_are_never_pooled() -> None:
    pairs = pd.concat([pairs_table(QUALITY), pairs_table(QUALITY[::-1], "other")])
    scores = pd.concat([score_rows([1, 2, 3, 6, 5, 4]), score_rows([1, 2, 3, 6, 5, 4], "other")])
    table = correlation_table(scores, pairs, by="distortion", fit=False)
    assert table[["dataset", "distortion"]].apply(tuple, axis=1).tolist() == [
        ("toy", "blur"),
        ("toy", "noise"),
        ("other", "blur"),
        ("other", "noise"),
    ]
    assert table["srcc"].tolist() == pytest.approx([1, -1, -1, 1])
    assert table["fit_converged"].isna().all()
    assert table["rmse"].isna().all()


def test_one_reference_has_no_interval() -> None:
    table = correlation_table(score_rows([1, 3, 2, 4, 6, 5]), pairs_table(QUALITY, refs=1), fit=False)
    assert table[["srcc_lo", "srcc_hi"]].isna().all(axis=None)
    table = correlation_table(
        score_rows([1, 3, 2, 4, 6, 5]), pairs_table(QUALITY, refs=1), fit=False, resample="image"
    )
    assert table["srcc_lo"].iloc[0] < 31 / 35


def test_same_seed_same_interval_whatever_the_order_of_rows() -> None:
    rng = np.random.default_rng(3)
    quality = rng.normal(size=60)
    pairs = pairs_table(quality.tolist(), refs=6)
    scores = score_rows((rng.normal(size=60) - quality).tolist())
    first = correlation_table(scores, pairs, fit=False)
    mixed = correlation_table(
        scores.sample(frac=1, random_state=1), pairs.sample(frac=1, random_state=2), fit=False
    )
    pd.testing.assert_frame_equal(first, mixed)
    other = correlation_table(scores, pairs, fit=False, seed=1)
    assert other["srcc_lo"].iloc[0] != first["srcc_lo"].iloc[0]


def test_wide_scores_follow_the_pairs_and_order_the_blocks() -> None:
    features = ["joint", 10, 2, "embedding"]
    scores = pd.concat([score_rows([1.0, 2.0, 3.0], feature=feature) for feature in features])
    pairs = pairs_table([3.0, 2.0, 1.0]).iloc[::-1]
    wide = wide_scores(scores, pairs)
    assert wide.columns.get_level_values("feature").tolist() == [2, 10, "embedding", "joint"]
    assert wide.index.tolist() == ["p2", "p1", "p0"]
    assert wide.iloc[:, 0].tolist() == [-3, -2, -1]


def test_pairs_choose_the_population() -> None:
    pairs = pairs_table(QUALITY)
    table = correlation_table(
        score_rows([1, 2, 3, 6, 5, 4]), pairs[pairs["distortion"] == "noise"], fit=False
    )
    assert (table["n"].iloc[0], table["srcc"].iloc[0]) == (3, pytest.approx(-1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda scores: scores.iloc[1:],
            "toy: 1 of 6 pairs have no row .*'p0'.*a failed pair is a row with NaN",
        ),
        (lambda scores: pd.concat([scores, scores.tail(1)]), "1 of 6 pairs have more than one row .*'p5'"),
        (lambda scores: scores.assign(dataset="live"), "no row for any of the 6 pairs of toy"),
    ],
)
def test_incomplete_and_double_scores_are_refused(change, message) -> None:
    with pytest.raises(InputError, match=message):
        correlation_table(change(score_rows([1, 2, 3, 4, 5, 6])), pairs_table(QUALITY))


def test_bad_arguments_name_the_way_out() -> None:
    scores, pairs = score_rows([1, 2, 3, 4, 5, 6]), pairs_table(QUALITY)
    with pytest.raises(InputError, match="did you mean distortion"):
        correlation_table(scores, pairs, by="distorsion")
    with pytest.raises(InputError, match="resample='refs': did you mean ref"):
        correlation_table(scores, pairs, resample="refs")
    with pytest.raises(InputError, match="one dataset at a time"):
        wide_scores(scores, pd.concat([pairs, pairs_table(QUALITY, "other")]))
    with pytest.raises(InputError, match="'p0' occurs twice"):
        correlation_table(scores, pd.concat([pairs, pairs]))


def test_categorical_columns_and_unknown_levels_lose_no_pair() -> None:
    pairs = pairs_table(QUALITY).assign(level=pd.array([1, 1, pd.NA, 1, 1, pd.NA], dtype="Int64"))
    scores = score_rows([1, 3, 2, 4, 6, 5])
    narrow = scores.astype(dict.fromkeys(scores.columns.drop("value"), "category"))
    plain, table = (
        correlation_table(rows, pairs, by=["distortion", "level"], fit=False) for rows in (scores, narrow)
    )
    assert table["n"].tolist() == plain["n"].tolist() == [2, 1, 2, 1]
    assert table["level"].isna().tolist() == [False, True, False, True]
    for result in (plain, table):
        assert result["srcc"].tolist() == pytest.approx([1, np.nan, 1, np.nan], nan_ok=True)


def test_blocks_stay_in_order_when_datasets_have_different_ones() -> None:
    pairs = pd.concat([pairs_table(QUALITY), pairs_table(QUALITY, "other")])
    toy = [score_rows([1, 2, 3, 4, 5, 6], feature=feature) for feature in (11, 2, "joint")]
    table = correlation_table(
        pd.concat([*toy, score_rows([1, 2, 3, 4, 5, 6], "other", feature=5)]), pairs, fit=False
    )
    assert table["feature"].tolist() == [2, 11, "joint", 5]
    assert table["feature"].cat.categories.tolist() == [2, 5, 11, "joint"]
