"""Agreement within references: the SRCC of each reference by itself, free of differences between contents."""

import numpy as np
from numpy.typing import ArrayLike

from fmiqa_utils.statistics.bootstrap import encode, resample_weights
from fmiqa_utils.statistics.coefficients import FloatArray, srcc


def srcc_within(values: ArrayLike, quality: ArrayLike, refs: ArrayLike) -> FloatArray:
    """SRCC of every column of `values` [n, k] with `quality` [n] in each reference, [references, k].

    References in sorted order; NaN where a reference has fewer than two pairs or a constant side.
    """
    matrix, target = np.asarray(values, dtype=float), np.asarray(quality, dtype=float)
    codes, n_refs = encode(refs)
    order = np.argsort(codes, kind="stable")
    items = np.split(order, np.cumsum(np.bincount(codes, minlength=n_refs))[:-1])
    return np.stack([srcc(matrix[rows], target[rows]) for rows in items])


def mean_over_refs(within: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation (n − 1) over references of `within` [references, k], each [k]."""
    defined = np.isfinite(within)
    count = defined.sum(axis=0)
    mean = _ratio(np.where(defined, within, 0).sum(axis=0), count)
    squares = np.where(defined, (within - mean) ** 2, 0).sum(axis=0)
    return mean, np.sqrt(_ratio(squares, count - 1))


def bootstrap_within(within: FloatArray, n_resamples: int = 1000, seed: int = 0) -> FloatArray:
    """Mean within-reference SRCC [n_resamples, k] when references are drawn with replacement.

    `bootstrap_srcc` over the same references with the same seed draws the same resamples.
    """
    weights = resample_weights(len(within), n_resamples, seed).T.astype(float)
    defined = np.isfinite(within)
    return _ratio(weights @ np.where(defined, within, 0), weights @ defined)


def _ratio(top: FloatArray, bottom: ArrayLike) -> FloatArray:
    below = np.asarray(bottom, dtype=float)
    return np.divide(top, below, out=np.full(top.shape, np.nan), where=below > 0)
