"""Scores from comparisons: Krasula's analysis, two-alternative forced choice, just noticeable differences."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from fmiqa_utils.errors import InputError
from fmiqa_utils.statistics.coefficients import FloatArray, IntArray


def krasula(
    values: ArrayLike,
    quality: ArrayLike,
    standard_error: ArrayLike,
    refs: ArrayLike | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Does a predictor tell which images differ in quality, and which is better? A row per column.

    `values` [n, k] (or [n]): oriented predictions, `quality` [n]: mean opinions, `standard_error` [n] of
    these means, that is the spread of the votes / √votes. Two images differ where Φ(|Δquality| / √(se² +
    se²)) > `confidence`. With `refs` [n] only images of one reference are compared; without, all pairs:
    n²/2 of them are held in memory. Columns: n_pairs, n_different; auc_different: area under the ROC of
    |Δprediction| for different against similar; auc_better: of Δprediction for better against worse among
    the different, each pair in both orders; correct: share of the different pairs that the prediction
    orders correctly, a tie counts as wrong. NaN where a class is empty. Pairs with a NaN prediction are left out.
    Krasula, Fliegel, Le Callet and Klíma (QoMEX 2016).
    """
    matrix = np.asarray(values, dtype=float)
    target, error = np.asarray(quality, dtype=float), np.asarray(standard_error, dtype=float)
    if not (error >= 0).all():
        raise InputError("standard_error must be known and not negative for every image.")
    first, second = _pairs(np.zeros(len(target)) if refs is None else np.asarray(refs))
    gap = target[first] - target[second]
    with np.errstate(divide="ignore", invalid="ignore"):  # if both errors are zero, any gap is a difference
        z = np.abs(gap) / np.hypot(error[first], error[second])
    different = np.where(gap == 0, False, norm.cdf(z) > confidence)
    columns = matrix.reshape(len(matrix), -1).T
    return pd.DataFrame([_krasula_row(column[first] - column[second], gap, different) for column in columns])


def _pairs(groups: NDArray[np.generic]) -> tuple[IntArray, IntArray]:
    """Every pair of items of one group once, as two arrays of positions."""
    both = []
    for name in np.unique(groups):
        items = np.flatnonzero(groups == name)
        both.append(items[np.stack(np.triu_indices(len(items), 1))])
    first, second = np.concatenate(both, axis=1)
    return first, second


def _krasula_row(step: FloatArray, gap: FloatArray, different: NDArray[np.bool_]) -> dict[str, float]:
    known = ~np.isnan(step)
    step, gap, different = step[known], gap[known], different[known]
    towards_better = step[different] * np.sign(gap[different])
    return {
        "n_pairs": len(step),
        "n_different": int(different.sum()),
        "auc_different": _auc(np.abs(step[different]), np.abs(step[~different])),
        "auc_better": _auc(towards_better, -towards_better),
        "correct": float(np.mean(towards_better > 0)) if len(towards_better) else np.nan,
    }


def _auc(positive: FloatArray, negative: FloatArray) -> float:
    """Probability that a positive lies above a negative, ties counting half."""
    if not (len(positive) and len(negative)):
        return np.nan
    # With the queries sorted too, fifteen times faster than ranking all values.
    high, low = (
        np.sort(positive),
        np.sort(negative),
    )
    below = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(below.mean() / 2 / len(low))


def two_afc(distance_p0: ArrayLike, distance_p1: ArrayLike, judge: ArrayLike) -> float:
    """Agreement with people in two-alternative forced choice, in [0, 1]: BAPPS's 2AFC score.

    `distance_p0`, `distance_p1` [n] of the two patches from the reference, `judge` [n]: share of people who
    found p1 closer. A triplet counts the share of people who chose as the distance does, ½ where the
    distances are equal. Triplets with a NaN distance are left out. Zhang et al. (2018), section 3.
    """
    d0, d1, p1 = (np.asarray(values, dtype=float) for values in (distance_p0, distance_p1, judge))
    known = ~(np.isnan(d0) | np.isnan(d1))
    agreement = np.select([d1 < d0, d0 < d1], [p1, 1 - p1], 0.5)
    return float(agreement[known].mean()) if known.any() else np.nan


def two_afc_human(judge: ArrayLike) -> float:
    """The 2AFC score of one person against the rest: the mean of p² + (1 − p)², where p is `judge` [n]."""
    p1 = np.asarray(judge, dtype=float)
    return float(np.mean(p1**2 + (1 - p1) ** 2))


def jnd_map(distance: ArrayLike, same: ArrayLike) -> float:
    """Average precision of a small distance for "people saw no difference", in [0, 1]: BAPPS's JND score.

    `distance` [n] of two patches, `same` [n]: share of people who saw them as the same, which counts as
    that share of a hit. Precision is interpolated as in PASCAL VOC 2010 (the best at this recall or
    beyond); pairs at the same distance enter together. Pairs with a NaN distance are left out; NaN if
    nobody ever saw the same. Zhang et al. (2018), section 3.
    """
    d, hits = np.asarray(distance, dtype=float), np.asarray(same, dtype=float)
    d, hits = d[~np.isnan(d)], hits[~np.isnan(d)]
    order = np.argsort(d, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(d[order]) != 0, True)[: len(d)])
    hits_so_far = np.cumsum(hits[order])[ends]
    if not len(d) or hits_so_far[-1] == 0:
        return np.nan
    precision = np.maximum.accumulate((hits_so_far / (ends + 1))[::-1])[::-1]
    return float(np.sum(np.diff(hits_so_far / hits_so_far[-1], prepend=0) * precision))
