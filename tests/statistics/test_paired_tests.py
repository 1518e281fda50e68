"""Tests of difference against worked examples, and the paired bootstrap against its definition."""

import numpy as np
import pandas as pd
import pytest

from fmiqa_utils.errors import InputError
from fmiqa_utils.statistics.bootstrap import bootstrap_srcc
from fmiqa_utils.statistics.paired_tests import difference_table, holm, paired_difference


def test_paired_difference_counts_the_far_side() -> None:
    # Differences −1 1 2 3: one of four on the far side, p = 2 (1 + 1) / (4 + 1).
    samples = np.array([[1.0, 0], [1, 2], [1, 3], [1, 4]])
    lower, upper, p = paired_difference(samples, 0, ci=0.5)
    assert (p[1], p[0]) == (pytest.approx(0.8), 1)
    assert (lower[1], upper[1]) == (pytest.approx(0.5), pytest.approx(2.25))
    assert paired_difference(samples, 1)[2][0] == pytest.approx(0.8)
    assert np.isnan(paired_difference(samples * [1, np.nan], 0)[2][1])


def test_holm_by_hand() -> None:
    # Sorted .01 .03 .04 times 3 2 1: .03 .06 .04, and never below the one before: .03 .06 .06.
    assert holm([0.04, 0.01, np.nan, 0.03]) == pytest.approx([0.06, 0.03, np.nan, 0.06], nan_ok=True)
    assert holm([0.6, 0.7]) == pytest.approx([1, 1])
    assert holm([np.nan]) == pytest.approx([np.nan], nan_ok=True)
    assert holm([]).size == 0


def three_predictors(n_refs: int = 30) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    refs = np.repeat(np.arange(n_refs), 10)
    quality = rng.normal(size=len(refs))
    noise = rng.normal(size=(3, len(refs)))
    wide = pd.DataFrame({"embedding": quality + noise[0], "layer": quality + 0.4 * noise[1]})
    return wide.assign(twin=quality + noise[2]), quality, refs


def test_table_tells_a_better_layer_from_a_twin() -> None:
    wide, quality, refs = three_predictors()
    table = difference_table(wide, quality, refs, "embedding", n_resamples=2000)
    assert table.index.tolist() == ["layer", "twin"]
    assert table["significant"].tolist() == [True, False]
    assert table.loc["layer", "lower"] > 0 > table.loc["twin", "lower"]
    assert (table["difference"] == table["value"] - table["control"]).all()
    samples = bootstrap_srcc(wide[["embedding", "twin"]], quality, refs, 2000)
    lower, upper, p = paired_difference(samples, 0)
    assert table.loc["twin", ["lower", "upper", "p_bootstrap"]].tolist() == pytest.approx(
        [lower[1], upper[1], p[1]]
    )
    assert table.loc["twin", "p_bootstrap_holm"] == pytest.approx(table.loc["twin", "p_bootstrap"])


def test_pairs_that_either_column_lacks_leave_the_comparison() -> None:
    wide, quality, refs = three_predictors()
    holes = wide.copy()
    holes.loc[:19, "layer"] = np.nan
    table = difference_table(holes, quality, refs, "embedding", n_resamples=400)
    assert table["n"].tolist() == [280, 300]
    rest = difference_table(wide.iloc[20:], quality[20:], refs[20:], "embedding", n_resamples=400)
    assert table.loc["layer", "difference"] == rest.loc["layer", "difference"]
    assert table.loc["twin", "difference"] != rest.loc["twin", "difference"]
    nothing = difference_table(wide.assign(layer=np.nan), quality, refs, "embedding", n_resamples=400)
    assert nothing.loc["layer", "n"] == 0
    assert nothing.loc["layer", ["value", "lower", "p_bootstrap_holm"]].isna().all()
    assert nothing.loc["twin", "p_bootstrap_holm"] == nothing.loc["twin", "p_bootstrap"]


def test_bad_arguments_name_the_way_out() -> None:
    wide, quality, refs = three_predictors()
    with pytest.raises(InputError, match="did you mean embedding"):
        difference_table(wide, quality, refs, "embeding")
    with pytest.raises(InputError, match="did you mean srcc_within"):
        difference_table(wide, quality, refs, "embedding", statistic="within_srcc")
    with pytest.raises(InputError, match="n_resamples must be 80 or more"):
        difference_table(wide, quality, refs, "embedding", n_resamples=79)
    with pytest.raises(InputError, match="mean over references"):
        difference_table(wide, quality, refs, "embedding", statistic="srcc_within", resample="image")


def test_a_difference_may_hold_for_images_and_not_for_references() -> None:
    """One reference in five speaks for the other side, strongly: drawing references may draw it more than once."""
    rng = np.random.default_rng(2)
    refs = np.repeat(np.arange(10), 100)
    quality = rng.normal(size=1000)
    noise = np.where(refs % 5 == 0, 1.2, 0.3)
    wide = pd.DataFrame(
        {
            "embedding": quality + 0.8 * rng.normal(size=1000),
            "layer": quality + noise * rng.normal(size=1000),
        }
    )
    by_image, by_ref = (
        difference_table(wide, quality, refs, "embedding", resample=drawn, n_resamples=400).iloc[0]
        for drawn in ("image", "ref")
    )
    assert by_image["difference"] == by_ref["difference"] > 0
    assert by_image["lower"] > 0
    assert by_image["significant"]
    assert by_ref["lower"] < 0
    assert not by_ref["significant"]


def test_within_references_the_order_may_be_the_other_way_round() -> None:
    """One metric sees which reference is better, the other which image of a reference."""
    rng = np.random.default_rng(3)
    refs = np.repeat(np.arange(40), 25)
    level = 2 * rng.normal(size=40)[refs]
    within = rng.normal(size=1000)
    wide = pd.DataFrame(
        {
            "pooled": level + 0.5 * within + 0.5 * rng.normal(size=1000),
            "fine": 0.3 * level + within + 0.3 * rng.normal(size=1000),
        }
    )
    inside = difference_table(wide, level + within, refs, "pooled", statistic="srcc_within", n_resamples=500)
    assert inside["lower"].item() > 0
    assert inside["significant"].item()
    over_all = difference_table(wide, level + within, refs, "pooled", n_resamples=500)
    assert over_all["difference"].item() < 0
    assert over_all["significant"].item()
