"""Within-reference agreement by hand, and its bootstrap."""

import numpy as np
import pytest

from fmiqa_utils.statistics.bootstrap import resample_weights
from fmiqa_utils.statistics.within_references import bootstrap_within, mean_over_refs, srcc_within

# Reference b in order (+1), reference a reversed (−1), though pooled the prediction follows quality.
VALUES = np.array([[11.0, 1], [12, 1], [13, 1], [3, 1], [2, 2], [1, 3]])
QUALITY = [11, 12, 13, 1, 2, 3]
REFS = ["b", "b", "b", "a", "a", "a"]


def test_each_reference_by_itself_in_sorted_order() -> None:
    within = srcc_within(VALUES, QUALITY, REFS)
    assert within == pytest.approx(np.array([[-1, 1], [1, np.nan]]), nan_ok=True)


def test_mean_and_spread_leave_undefined_references_out() -> None:
    mean, spread = mean_over_refs(srcc_within(VALUES, QUALITY, REFS))
    assert mean == pytest.approx([0, 1])
    assert spread == pytest.approx(
        [np.sqrt(2), np.nan], nan_ok=True
    )  # (1 + 1) / (2 − 1); one reference has none
    mean, spread = mean_over_refs(np.full((3, 1), np.nan))
    assert np.isnan([mean, spread]).all()


def test_bootstrap_is_the_mean_of_the_references_drawn() -> None:
    within = np.array([[0.2, 0.5], [0.4, np.nan], [0.9, 0.7]])
    samples = bootstrap_within(within, 50, seed=4)
    for weights, sample in zip(resample_weights(3, 50, seed=4).T, samples, strict=True):
        assert sample[0] == pytest.approx(np.repeat(within[:, 0], weights).mean())
        drawn = np.repeat(within[[0, 2], 1], weights[[0, 2]])
        assert sample[1] == pytest.approx(drawn.mean() if len(drawn) else np.nan, nan_ok=True)


def test_a_failed_pair_leaves_its_reference_with_the_others() -> None:
    values = VALUES.copy()
    values[0, 0] = np.nan
    assert srcc_within(values, QUALITY, REFS)[:, 0] == pytest.approx([-1, 1])
    values[1, 0] = np.nan  # one pair is no ranking
    assert srcc_within(values, QUALITY, REFS)[:, 0] == pytest.approx([-1, np.nan], nan_ok=True)
