"""Rank correlations of many resamples at once: clustered bootstrap without sorting a second time."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fmiqa_utils.progress import track
from fmiqa_utils.statistics.coefficients import FloatArray, IntArray, same_rows

# Items × resamples that one thread works on at a time: small enough for the cache, large enough for few calls.
_BLOCK_SIZE = 200_000


class _Ranked(NamedTuple):
    """One column, sorted once; every resample's mid-ranks follow from it by a running sum of weights."""

    sorted_clusters: IntArray  # [n], the cluster of each item in ascending order of the values
    group: IntArray  # [n], which group of equal values an item belongs to, in the original order
    ends: IntArray  # [groups], position of the last item of each group in the sorted order
    tied: IntArray  # [groups of two or more items], their indices
    untied_per_cluster: FloatArray  # [clusters], number of items that share their value with no other


def resample_weights(n_clusters: int, n_resamples: int, seed: int) -> NDArray[np.int32]:
    """How often each cluster is drawn, [n_clusters, n_resamples]; a column sums to `n_clusters`."""
    rng = np.random.default_rng(seed)
    weights = np.empty((n_clusters, n_resamples), dtype=np.int32)
    for resample in range(n_resamples if n_clusters else 0):
        draws = rng.integers(n_clusters, size=n_clusters)
        weights[:, resample] = np.bincount(draws, minlength=n_clusters)
    return weights


def bootstrap_srcc(
    values: ArrayLike, quality: ArrayLike, clusters: ArrayLike, n_resamples: int = 1000, seed: int = 0
) -> FloatArray:
    """SRCC of every column in every clustered resample, [n_resamples, k].

    `values` is [n, k] (NaN: left out of that column), `quality` [n], `clusters` [n] any labels, most often
    the reference of each pair; whole clusters are drawn with replacement. All columns see the same resamples,
    so the difference of two columns of the result is the paired bootstrap. NaN where nothing is left to rank.
    """
    codes, n_clusters = encode(clusters)
    return weighted_srcc(values, quality, codes, resample_weights(n_clusters, n_resamples, seed))


def encode(labels: ArrayLike) -> tuple[IntArray, int]:
    """Labels as integers 0..C-1 in sorted order, so that resamples do not depend on the order of rows; and C."""
    names, codes = np.unique(np.asarray(labels), return_inverse=True)
    return codes.astype(np.intp), len(names)


def weighted_srcc(
    values: ArrayLike, quality: ArrayLike, clusters: IntArray, weights: ArrayLike
) -> FloatArray:
    """SRCC of every column under every weighting, [m, k]: equal to scipy's on the replicated sample.

    `values` [n, k], `quality` [n], `clusters` [n] integers, `weights` [clusters, m]: how often an item of the
    cluster counts (0 leaves it out). Items with a NaN value are left out of that column only.
    """
    matrix, target = np.asarray(values, dtype=float), np.asarray(quality, dtype=float)
    counts = np.asarray(weights)
    result = np.full((counts.shape[1], matrix.shape[1]), np.nan)
    for rows, columns in same_rows(matrix):
        if rows.size:
            picked = matrix[np.ix_(rows, columns)]
            result[:, columns] = _complete_srcc(picked, target[rows], clusters[rows], counts)
    return result


def interval(samples: FloatArray, ci: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Percentile interval over axis 0, leaving out undefined resamples; NaN where all are."""
    bounds = np.full((2, *samples.shape[1:]), np.nan)
    defined = np.isfinite(samples).any(axis=0)
    if defined.any():
        bounds[:, defined] = np.nanquantile(samples[:, defined], [(1 - ci) / 2, (1 + ci) / 2], axis=0)
    return bounds[0], bounds[1]


def _complete_srcc(
    matrix: FloatArray, target: FloatArray, clusters: IntArray, weights: NDArray[Any]
) -> FloatArray:
    label = _ranked(target, clusters, len(weights))
    columns = [_ranked(column, clusters, len(weights)) for column in matrix.T]
    width = max(4, _BLOCK_SIZE // len(matrix))

    def correlate(start: int) -> FloatArray:
        block = np.ascontiguousarray(weights[:, start : start + width], dtype=float)
        return _block_srcc(columns, label, clusters, block)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy releases the interpreter lock in every step
        starts = range(0, weights.shape[1], width)
        blocks = track(pool.map(correlate, starts), "bootstrap", "blocks", len(starts))
        return np.concatenate([np.empty((0, len(columns))), *blocks])


def _ranked(column: FloatArray, clusters: IntArray, n_clusters: int) -> _Ranked:
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    last = np.append(ordered[1:] != ordered[:-1], True)
    group = np.empty(len(column), dtype=np.intp)
    group[order] = np.cumsum(last) - last
    ends = np.flatnonzero(last)
    size = np.diff(ends, prepend=-1)
    untied = np.bincount(clusters[size[group] == 1], minlength=n_clusters)
    return _Ranked(clusters[order], group, ends, np.flatnonzero(size > 1), untied.astype(float))


def _block_srcc(
    columns: list[_Ranked], label: _Ranked, clusters: IntArray, weights: FloatArray
) -> FloatArray:
    """SRCC [m, k] for `weights` [clusters, m]. Sums are of integers, exact up to 100,000 items.

    With weighted mid-ranks R, total weight N and tie weights t: Σ w (R − mean)² = (N³ − Σ t³) / 12.
    """
    running = np.zeros((len(clusters) + 1, weights.shape[1]))
    ranks = np.empty((len(clusters), weights.shape[1]))
    total = np.bincount(clusters, minlength=len(weights)) @ weights  # [m]
    cubes = weights**3
    label_spread = total**3 - _double_ranks(label, weights, cubes, running, ranks)
    pull = (ranks - total) * np.take(weights, clusters, axis=0)  # [n, m], weight × (2 · label rank − 1 − N)

    result = np.empty((weights.shape[1], len(columns)))
    for k, column in enumerate(columns):
        spread = total**3 - _double_ranks(column, weights, cubes, running, ranks)
        covariance = 3 * np.einsum("nm,nm->m", ranks, pull)
        scale = np.sqrt(spread * label_spread)
        result[:, k] = np.divide(covariance, scale, out=np.full(len(total), np.nan), where=scale > 0)
    return result


def _double_ranks(
    column: _Ranked, weights: FloatArray, cubes: FloatArray, running: FloatArray, ranks: FloatArray
) -> FloatArray:
    """Fill `ranks` [n, m] with 2 · mid-rank − 1 and return Σ t³ over the groups of equal items, [m]."""
    np.take(weights, column.sorted_clusters, axis=0, out=running[1:], mode="clip")
    np.cumsum(running[1:], axis=0, out=running[1:])
    upper = running[1:][column.ends]
    tie = upper[column.tied] - np.where(column.tied[:, None] > 0, upper[column.tied - 1], 0)
    upper[1:] += running[1:][column.ends[:-1]]
    np.take(upper, column.group, axis=0, out=ranks, mode="clip")
    return column.untied_per_cluster @ cubes + (tie**3).sum(axis=0)
