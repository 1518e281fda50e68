"""Signed coefficients on cases small enough to work out by hand."""

import warnings

import numpy as np
import pytest
from scipy.stats import kendalltau, pearsonr, spearmanr

from fmiqa_utils.statistics.coefficients import krcc, plcc, srcc

QUALITY = [1.0, 2.0, 3.0, 4.0]


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_ties_take_their_average_rank() -> None:
    # Ranks 1 2.5 2.5 4 less 2.5: −1.5 0 0 1.5; quality −1.5 −.5 .5 1.5. Σxy = 4.5, Σx² = 4.5, Σy² = 5.
    assert srcc(column(10, 20, 20, 90), QUALITY) == pytest.approx([4.5 / np.sqrt(4.5 * 5)])
    # Six pairs, five concordant, one tied in x: τ_b = 5 / √(5 · 6).
    assert krcc(column(10, 20, 20, 90), QUALITY) == pytest.approx([5 / np.sqrt(30)])


def test_signs_are_kept() -> None:
    # d = 3 1 −1 −3: Σd² = 20, SRCC = 1 − 6·20/(4·15) = −1.
    falling = column(8, 4, 2, 1)
    assert srcc(falling, QUALITY) == pytest.approx([-1])
    assert krcc(falling, QUALITY) == pytest.approx([-1])
    # x − 3.75: 4.25 .25 −1.75 −2.75, y as above: Σxy = −11.5, Σx² = 28.75, Σy² = 5.
    assert plcc(falling, QUALITY) == pytest.approx([-11.5 / np.sqrt(28.75 * 5)])


def test_columns_equal_scipy_one_by_one() -> None:
    rng = np.random.default_rng(0)
    quality = rng.normal(size=200)
    values = np.round(quality[:, None] * [1, -1, 0.2] + rng.normal(size=(200, 3)), 1)  # with ties
    for ours, theirs in ((srcc, spearmanr), (plcc, pearsonr), (krcc, kendalltau)):
        expected = [theirs(values[:, k], quality).statistic for k in range(3)]
        assert ours(values, quality) == pytest.approx(expected, abs=1e-12)


def test_nan_leaves_only_its_own_column() -> None:
    values = np.array([[1, 1], [2, np.nan], [3, 4], [4, 3.0]])
    # Second column on qualities 1 3 4: ranks 1 3 2 against 1 2 3, Σd² = 2, SRCC = 1 − 12/24.
    assert srcc(values, QUALITY) == pytest.approx([1, 0.5])


def test_undefined_is_nan_and_silent() -> None:
    values = np.column_stack([[7.0] * 4, [np.nan] * 4, [np.nan, np.nan, np.nan, 1], [1, 2, 3, np.inf]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(plcc(values, QUALITY)).all()
        assert srcc(values, QUALITY) == pytest.approx([np.nan, np.nan, np.nan, 1], nan_ok=True)
        assert krcc(values, QUALITY) == pytest.approx([np.nan, np.nan, np.nan, 1], nan_ok=True)
        assert np.isnan(srcc(column(1, 2, 3, 4), [5.0] * 4)).all()


def test_rounding_is_no_spread() -> None:
    nearly = 1e6 + np.array([0, 1, 0, -1]) * 1e-10  # one unit in the last place
    assert np.isnan(plcc(nearly[:, None], QUALITY)).all()


def test_two_items_are_in_order_or_not() -> None:
    values = np.array([[1.0, 2, 5], [2, 1, 5]])
    for coefficient in (srcc, plcc, krcc):
        assert coefficient(values, [3.0, 4.0]) == pytest.approx([1, -1, np.nan], nan_ok=True)
