"""Resampled SRCCs equal scipy's on the replicated sample, and intervals cover as they promise."""

import time

import numpy as np
import pytest
from scipy.stats import spearmanr

from fmiqa_utils.statistics.bootstrap import bootstrap_srcc, encode, interval, resample_weights, weighted_srcc
from fmiqa_utils.statistics.coefficients import srcc


def sample(
    n: int = 120, refs: int = 8, k: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=n)
    return quality[:, None] + rng.normal(size=(n, k)), quality, rng.integers(refs, size=n)


@pytest.mark.parametrize("decimals", [12, 1, 0])
def test_equal_to_scipy_on_the_replicated_sample(decimals: int) -> None:
    values, quality, clusters = sample()
    values, quality = np.round(values, decimals), np.round(quality, decimals)  # few, many and mostly ties
    weights = resample_weights(8, 30, seed=1)
    result = weighted_srcc(values, quality, clusters, weights)
    for resample in range(30):
        rows = np.repeat(np.arange(len(values)), weights[clusters, resample])
        expected = [spearmanr(column[rows], quality[rows]).statistic for column in values.T]
        assert result[resample] == pytest.approx(expected, abs=1e-10)


def test_hand_checked_weights() -> None:
    # Cluster 0: items 0 and 1, in order; cluster 1: items 2 and 3, reversed. Quality 1 2 3 4, values 1 2 4 3.
    values, quality, clusters = np.array([[1.0], [2], [4], [3]]), [1.0, 2, 3, 4], np.array([0, 0, 1, 1])
    weights = [[1, 1, 0, 2], [1, 0, 1, 1]]
    # Both once: Σd² = 2, 1 − 12/60. Each alone: ±1. Cluster 0 twice: ranks 1.5 1.5 3.5 3.5 6 5 against
    # 1.5 1.5 3.5 3.5 5 6; less 3.5: Σxy = 4 + 4 + 0 + 0 + 3.75 + 3.75, Σx² = Σy² = 4 + 4 + 0 + 0 + 6.25 +
    # 2.25.
    expected = [[0.8], [1], [-1], [15.5 / 16.5]]
    assert weighted_srcc(values, quality, clusters, weights) == pytest.approx(np.array(expected))


def test_missing_values_leave_only_their_own_column() -> None:
    values, quality, clusters = sample()
    holes = values.copy()
    holes[::7, 1] = np.nan
    holes[:, 3] = np.nan
    weights = resample_weights(8, 20, seed=2)
    result = weighted_srcc(holes, quality, clusters, weights)
    full = weighted_srcc(values, quality, clusters, weights)
    np.testing.assert_array_equal(result[:, [0, 2]], full[:, [0, 2]])
    kept = ~np.isnan(holes[:, 1])
    np.testing.assert_array_equal(
        result[:, [1]], weighted_srcc(values[kept, 1:2], quality[kept], clusters[kept], weights)
    )
    assert np.isnan(result[:, 3]).all()


def test_a_resample_with_nothing_to_rank_is_nan() -> None:
    values, quality = np.array([[1.0], [2], [3]]), [1.0, 2, 3]
    weights = [[3, 1, 0], [0, 1, 0], [0, 1, 0]]
    result = weighted_srcc(values, quality, np.array([0, 1, 2]), weights)
    assert result.ravel() == pytest.approx([np.nan, 1, np.nan], nan_ok=True)


def test_weights_draw_whole_clusters_from_the_seed() -> None:
    weights = resample_weights(25, 400, seed=5)
    assert (weights.sum(axis=0) == 25).all()
    np.testing.assert_array_equal(weights, resample_weights(25, 400, seed=5))
    np.testing.assert_array_equal(weights[:, :100], resample_weights(25, 100, seed=5))
    assert weights.mean(axis=1) == pytest.approx(np.ones(25), abs=0.2)
    assert weights.var() == pytest.approx(24 / 25, rel=0.05)  # multinomial: n p (1 − p)


def test_order_of_rows_moves_nothing_and_columns_share_resamples() -> None:
    values, quality, clusters = sample()
    names = np.array([f"I{code:02}.BMP" for code in clusters])
    first = bootstrap_srcc(values, quality, names, 50, seed=3)
    order = np.random.default_rng(0).permutation(len(values))
    np.testing.assert_array_equal(
        first, bootstrap_srcc(values[order], quality[order], names[order], 50, seed=3)
    )
    np.testing.assert_array_equal(first[:, [2]], bootstrap_srcc(values[:, [2]], quality, names, 50, seed=3))
    codes, count = encode(names)
    assert (count, codes.tolist()) == (8, clusters.tolist())


def test_interval_is_the_percentiles_and_leaves_undefined_resamples_out() -> None:
    samples = np.column_stack([np.arange(101.0), np.r_[np.arange(100.0), np.nan], np.full(101, np.nan)])
    lower, upper = interval(samples)
    assert lower == pytest.approx([2.5, 0.025 * 99, np.nan], nan_ok=True)
    assert upper == pytest.approx([97.5, 0.975 * 99, np.nan], nan_ok=True)
    assert interval(samples[:, :1], ci=0.8)[0] == pytest.approx([10])


def test_clustered_interval_covers_where_the_image_one_does_not() -> None:
    # References shift quality and prediction, each by itself: images of one reference are not independent.
    # Jointly normal with variances 2 and 3 and covariance 1: the population SRCC is 6/π asin(r/2).
    truth = 6 / np.pi * np.arcsin(1 / np.sqrt(2 * 3) / 2)
    rng = np.random.default_rng(11)
    trials, clusters = 100, np.repeat(np.arange(40), 10)
    covered = {"ref": 0, "image": 0}
    for trial in range(trials):
        shifts, noise = rng.normal(size=(2, 40))[:, clusters], rng.normal(size=(2, 400))
        quality = shifts[0] + noise[0]
        values = (shifts[1] + noise[0] + noise[1])[:, None]
        for name, groups in (("ref", clusters), ("image", np.arange(400))):
            lower, upper = interval(bootstrap_srcc(values, quality, groups, 200, seed=trial))
            covered[name] += lower[0] <= truth <= upper[0]
    assert covered["ref"] >= 88
    assert covered["image"] <= 80


def test_a_tenth_of_pipal_takes_a_tenth_of_a_minute() -> None:
    rng = np.random.default_rng(0)
    quality = rng.normal(size=23_200)
    values = quality[:, None] + rng.normal(size=(23_200, 72))
    start = time.perf_counter()
    samples = bootstrap_srcc(values, quality, np.repeat(np.arange(200), 116), 100)
    assert time.perf_counter() - start < 6
    assert samples.mean(axis=0) == pytest.approx(srcc(values, quality), abs=0.005)
