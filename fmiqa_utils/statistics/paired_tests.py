"""Is one predictor's correlation with people larger than another's? Both were scored on the same images.

Pairs of one reference are not independent, so the intervals and p-values come from a bootstrap over references. Tests that take every
pair for an independent observation (Steiger 1980; Meng, Rosenthal and Rubin 1992) give p-values that are too small, and are left out.
"""

from collections.abc import Hashable
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from fmiqa_utils.errors import InputError, near
from fmiqa_utils.statistics.bootstrap import bootstrap_srcc, interval
from fmiqa_utils.statistics.coefficients import FloatArray, same_rows, srcc
from fmiqa_utils.statistics.within_references import bootstrap_within, mean_over_refs, srcc_within

Statistic = Literal["srcc", "srcc_within"]


def paired_difference(
    samples: FloatArray, control: int, ci: float = 0.95
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Interval and two-sided p of each column's difference from column `control`: lower, upper, p, each [k].

    `samples` [resamples, k]: a statistic of all columns in the same resamples, from `bootstrap_srcc` or
    `bootstrap_within`. p is twice the share of differences on the other side of zero, the sample itself counted
    (Davison and Hinkley 1997, section 4.4), so never below 2 / (resamples + 1).
    """
    difference = samples - samples[:, [control]]
    lower, upper = interval(difference, ci)
    defined = np.isfinite(difference).sum(axis=0)
    tail = np.minimum((difference <= 0).sum(axis=0), (difference >= 0).sum(axis=0))
    p = np.minimum(2 * (1 + tail) / (1 + defined), 1)
    return lower, upper, np.where(defined > 0, p, np.nan)


def holm(p: ArrayLike) -> FloatArray:
    """Holm's step-down adjustment of the p-values of one family; NaN stays NaN and is not counted.

    The i-th smallest of m is multiplied by m − i + 1, then raised to the one before it if smaller, and is at most 1: Holm (1979).
    """
    values = np.asarray(p, dtype=float)
    adjusted = np.full(values.shape, np.nan)
    order = np.flatnonzero(np.isfinite(values))
    order = order[np.argsort(values[order], kind="stable")]
    stepped = values[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1)
    return adjusted


def difference_table(
    wide: pd.DataFrame,
    quality: ArrayLike,
    refs: ArrayLike,
    control: Hashable,
    *,
    statistic: Statistic = "srcc",
    resample: str = "ref",
    n_resamples: int = 10_000,
    ci: float = 0.95,
    alpha: float = 0.05,
    seed: int = 0,
) -> pd.DataFrame:
    """Every other column of `wide` against column `control`; a family of tests that Holm corrects together.

    `wide` [n, k]: oriented predictions (`wide_scores`), `quality` and `refs` [n]. Both columns of a
    comparison are measured on the pairs that both have. Index: the columns of `wide` without the control.
    Columns: n, value, control, difference, lower, upper, p_bootstrap, p_bootstrap_holm, significant
    (p_bootstrap_holm is below `alpha`). Raises InputError for an unknown column or argument, and if `n_resamples` is too small to reach
    `alpha` after Holm.
    """
    _check(wide, control, statistic, resample, n_resamples, alpha)
    values, target = wide.to_numpy(dtype=float), np.asarray(quality, dtype=float)
    references = np.asarray(refs)
    at = [name == control for name in wide.columns].index(True)
    blocks = []
    for rows, columns in same_rows(np.where(np.isnan(values[:, [at]]), np.nan, values)):
        others = columns[columns != at]
        part, part_refs = values[np.ix_(rows, np.append(at, others))], references[rows]
        if statistic == "srcc":
            clusters = part_refs if resample == "ref" else rows
            samples = bootstrap_srcc(part, target[rows], clusters, n_resamples, seed)
            estimate = srcc(part, target[rows])
            block = _differences(estimate, samples, ci)
        else:
            within = srcc_within(part, target[rows], part_refs)
            block = _differences(mean_over_refs(within)[0], bootstrap_within(within, n_resamples, seed), ci)
        blocks.append(block.assign(n=len(rows)).set_axis(others))
    table = pd.concat(blocks).sort_index()
    return _with_holm(table.set_axis(wide.columns[table.index]), alpha)


def least_resamples(comparisons: int, alpha: float = 0.05) -> int:
    """How many resamples are needed for a p-value below `alpha` to be possible after Holm over `comparisons` comparisons."""
    return int(2 * comparisons / alpha)


def _differences(estimate: FloatArray, samples: FloatArray, ci: float) -> pd.DataFrame:
    """Column 0 is the control."""
    lower, upper, p = paired_difference(samples, 0, ci)
    table = {
        "value": estimate,
        "control": estimate[0],
        "difference": estimate - estimate[0],
        "lower": lower,
        "upper": upper,
        "p_bootstrap": p,
    }
    return pd.DataFrame(table).iloc[1:]


def _with_holm(table: pd.DataFrame, alpha: float) -> pd.DataFrame:
    result = pd.DataFrame({"n": table.pop("n")})
    for name, column in table.items():
        result[name] = column
        if str(name).startswith("p_"):
            result[f"{name}_holm"] = holm(column)
        if name == "p_bootstrap":
            result["significant"] = result["p_bootstrap_holm"] < alpha
    return result


def _check(
    wide: pd.DataFrame, control: Hashable, statistic: str, resample: str, n_resamples: int, alpha: float
) -> None:
    if control not in list(wide.columns):  # a list, since a MultiIndex also "contains" the beginning of a key
        names = [str(name) for name in wide.columns]
        raise InputError(f"control {control!r} is not a column: {near(str(control), names)}")
    if statistic not in ("srcc", "srcc_within"):
        raise InputError(f"statistic={statistic!r}: {near(statistic, ('srcc', 'srcc_within'))}")
    if resample not in ("ref", "image"):
        raise InputError(f"resample={resample!r}: {near(resample, ('ref', 'image'))}")
    if resample == "image" and statistic == "srcc_within":
        raise InputError(
            "the within-reference SRCC is a mean over references: use resample='ref' for its bootstrap."
        )
    comparisons = wide.shape[1] - 1
    if n_resamples < least_resamples(comparisons, alpha):
        raise InputError(
            f"{n_resamples} resamples cannot reach p < {alpha} after Holm over {comparisons} comparisons: "
            f"n_resamples must be {least_resamples(comparisons, alpha)} or more."
        )
