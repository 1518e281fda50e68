"""Signed correlation coefficients of many predictions with one label; NaN, never a warning, if undefined."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau, rankdata

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


def srcc(values: ArrayLike, quality: ArrayLike) -> FloatArray:
    """Spearman's rank correlation of every column of `values` [n, k] with `quality` [n], signed: [k].

    Equal values share their average rank. Items with a NaN value are left out of that column only.
    """
    return _per_column(
        values, quality, lambda matrix, target: pearson(rankdata(matrix, axis=0), rankdata(target))
    )


def plcc(values: ArrayLike, quality: ArrayLike) -> FloatArray:
    """Pearson's r of every column of `values` [n, k] with `quality` [n], signed and unfitted: [k]."""
    return _per_column(values, quality, pearson)


def krcc(values: ArrayLike, quality: ArrayLike) -> FloatArray:
    """Kendall's τ_b of every column of `values` [n, k] with `quality` [n], signed: [k]."""
    return _per_column(values, quality, _kendall)


def pearson(matrix: FloatArray, target: FloatArray) -> FloatArray:
    """Pearson's r of every column of `matrix` [n, k] with `target` [n]: [k]; NaN if constant or infinite."""
    usable = ~(is_constant(matrix) | is_constant(target))
    with np.errstate(invalid="ignore"):  # infinite values (PSNR of equal images) have no Pearson's r
        left, right = matrix - matrix.mean(axis=0), target - target.mean()
        covariance, scale = right @ left, np.sqrt((left**2).sum(axis=0) * (right @ right))
    return np.divide(covariance, scale, out=np.full(len(scale), np.nan), where=usable & np.isfinite(scale))


def is_constant(values: FloatArray) -> NDArray[np.bool_]:
    """Whether each column (or the one) varies by no more than rounding."""
    if len(values) == 0:
        return np.ones(values.shape[1:], dtype=bool)
    with np.errstate(invalid="ignore"):
        return ~(np.ptp(values, axis=0) > 1e-14 * np.abs(values).max(axis=0))


def same_rows(matrix: FloatArray) -> Iterator[tuple[IntArray, IntArray]]:
    """Columns that lack the same items go together: (rows present, columns)."""
    present = ~np.isnan(matrix)
    patterns, which = np.unique(np.packbits(present, axis=0), axis=1, return_inverse=True)
    for pattern in range(patterns.shape[1]):
        columns = np.flatnonzero(which.ravel() == pattern)
        yield np.flatnonzero(present[:, columns[0]]), columns


def _per_column(
    values: ArrayLike, quality: ArrayLike, correlate: Callable[[FloatArray, FloatArray], FloatArray]
) -> FloatArray:
    matrix, target = np.asarray(values, dtype=float), np.asarray(quality, dtype=float)
    result = np.full(matrix.shape[1], np.nan)
    for rows, columns in same_rows(matrix):
        if len(rows) > 1:
            result[columns] = correlate(matrix[np.ix_(rows, columns)], target[rows])
    return result


def _kendall(matrix: FloatArray, target: FloatArray) -> FloatArray:
    return np.array([kendalltau(column, target).statistic for column in matrix.T])
