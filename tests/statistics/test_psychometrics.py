"""Krasula's analysis, 2AFC and JND on a handful of judgements."""

import numpy as np
import pytest
from scipy.stats import norm

from fmiqa_utils.errors import InputError
from fmiqa_utils.statistics.psychometrics import jnd_map, krasula, two_afc, two_afc_human


def test_krasula_by_hand() -> None:
    # Qualities 0 1 10 with standard errors .5: Φ(1/.7071) = .921 is below .95, so 0 and 1 are similar; 10
    # differs from both. |Δ| of predictions 0 5 4: similar 5; different 4 and 1, both smaller: AUC 0.
    # Towards the better: +4 and −1 against −4 and +1: three of four comparisons right, and one of two pairs
    # in order.
    row = krasula([0, 5, 4], [0, 1, 10], [0.5] * 3).iloc[0]
    assert (row["n_pairs"], row["n_different"]) == (3, 2)
    assert (row["auc_different"], row["auc_better"], row["correct"]) == pytest.approx((0, 0.75, 0.5))


def test_krasula_confidence_is_one_sided() -> None:
    edge = norm.ppf(0.95) * np.hypot(0.3, 0.4)
    assert krasula([0, 1], [0, edge * 1.001], [0.3, 0.4])["n_different"].item() == 1
    assert krasula([0, 1], [0, edge * 0.999], [0.3, 0.4])["n_different"].item() == 0


def test_krasula_within_references_leaves_other_pairs_alone() -> None:
    row = krasula([0, 1, 5, 6], [0, 9, 0, 9], [0.1] * 4, refs=["a", "a", "b", "b"]).iloc[0]
    assert (row["n_pairs"], row["n_different"], row["correct"]) == (2, 2, 1)
    assert np.isnan(row["auc_different"])  # nothing is similar
    # All six: 0 and 0, 9 and 9 are similar, |Δ| 5 5; different |Δ| 1 6 4 1 (0–9 within and across): one of
    # eight wins twice (6 beats 5 and 5): 2/8. Image 2 (quality 0, prediction 5) against image 1 (9, 1) is
    # in the wrong order.
    row = krasula([0, 1, 5, 6], [0, 9, 0, 9], [0.1] * 4).iloc[0]
    assert (row["n_pairs"], row["n_different"]) == (6, 4)
    assert (row["auc_different"], row["correct"]) == pytest.approx((2 / 8, 3 / 4))


def test_krasula_perfect_reversed_constant_and_missing_predictions() -> None:
    rng = np.random.default_rng(0)
    quality = rng.uniform(0, 100, size=60)
    holes = np.where(np.arange(60) < 10, np.nan, quality)
    table = krasula(np.column_stack([quality, -quality, np.zeros(60), holes]), quality, np.full(60, 5.0))
    assert table["auc_different"].tolist() == pytest.approx([1, 1, 0.5, 1])
    assert table["auc_better"].tolist() == pytest.approx([1, 0, 0.5, 1])
    assert table["correct"].tolist() == [1, 0, 0, 1]  # a tie is no recognition
    assert table["n_pairs"].tolist() == [1770, 1770, 1770, 1225]


def test_krasula_does_not_depend_on_the_order_of_images() -> None:
    rng = np.random.default_rng(1)
    quality = rng.normal(size=40)
    prediction, error = quality + rng.normal(size=40), rng.uniform(0.1, 0.5, size=40)
    order = rng.permutation(40)
    first = krasula(prediction, quality, error)
    assert krasula(prediction[order], quality[order], error[order]).to_numpy() == pytest.approx(
        first.to_numpy()
    )


def test_krasula_needs_the_spread_of_the_labels() -> None:
    with pytest.raises(InputError, match="standard_error must be known"):
        krasula([0, 1], [0, 1], [0.1, np.nan])
    sure = krasula([0, 1, 2], [0, 0, 1], [0.0, 0, 0]).iloc[
        0
    ]  # no error: any gap differs, equal labels do not
    assert (sure["n_pairs"], sure["n_different"]) == (3, 2)


def test_two_afc_by_hand() -> None:
    # p0 closer where 80 % chose p0; p1 closer where 60 % chose p1; a tie: (.8 + .6 + .5) / 3.
    assert two_afc([1, 2, 3], [2, 1, 3], [0.2, 0.6, 0.9]) == pytest.approx(1.9 / 3)
    assert two_afc([1, 2, np.nan], [2, 1, 3], [0.2, 0.6, 0.9]) == pytest.approx(0.7)
    assert np.isnan(two_afc([np.nan], [1], [0.5]))
    # One person agrees with another with p² + (1 − p)²: .68 and .52.
    assert two_afc_human([0.2, 0.6]) == pytest.approx(0.6)


def test_jnd_map_by_hand() -> None:
    # Precision 1, 1/2, 2/3, 1/2 at recall 1/2, 1/2, 1, 1: the better at or beyond is 1 and 2/3: (1 + 2/3) /
    # 2.
    assert jnd_map([1, 2, 3, 4], [1, 0, 1, 0]) == pytest.approx(5 / 6)
    assert jnd_map([3, 1, 4, 2], [1, 1, 0, 0]) == pytest.approx(5 / 6)
    # Shares: 2/3 then 1/3 of a hit: precision 2/3 up to recall 2/3, then 1/2: 4/9 + 1/6.
    assert jnd_map([1, 2], [2 / 3, 1 / 3]) == pytest.approx(4 / 9 + 1 / 6)


def test_jnd_map_ties_missing_and_empty() -> None:
    assert jnd_map([1, 1], [1, 0]) == jnd_map([1, 1], [0, 1]) == pytest.approx(0.5)
    assert jnd_map([1, np.nan, 2], [1, 1, 0]) == pytest.approx(1)
    assert np.isnan(jnd_map([1, 2], [0, 0]))
    assert np.isnan(jnd_map([], []))
