"""Correlation tables: how well every column of a score table agrees with people, with its uncertainty."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmiqa_utils.distances.table import orientation
from fmiqa_utils.errors import InputError, near
from fmiqa_utils.progress import track
from fmiqa_utils.statistics.bootstrap import bootstrap_srcc, interval
from fmiqa_utils.statistics.coefficients import FloatArray, krcc, plcc, srcc
from fmiqa_utils.statistics.logistic import fit_logistic
from fmiqa_utils.statistics.within_references import mean_over_refs, srcc_within

KEYS = ("backbone", "weights", "normalize", "transform", "feature", "distance", "variant")


def correlation_table(
    scores: pd.DataFrame,
    pairs: pd.DataFrame,
    by: str | Sequence[str] | None = None,
    *,
    resample: str = "ref",
    n_resamples: int = 1000,
    ci: float = 0.95,
    seed: int = 0,
    fit: bool = True,
) -> pd.DataFrame:
    """Signed correlations of every score column with `quality`: a row per dataset, column and value of `by`.

    `pairs` says which pairs count; every column of `scores` (a combination of KEYS) must have a row for each
    of them. `by` names columns of `pairs` to split by, such as "distortion" or ["distortion", "level"].
    The signs of predictions are set so that a positive correlation means agreement with people. Columns:

    - n, n_failed, n_refs: pairs used, pairs left out because their value is NaN, references of those used;
    - srcc with its percentile bootstrap interval srcc_lo, srcc_hi: references (`resample="ref"`) or images
      (`"image"`) drawn with replacement; NaN where there are fewer than two;
    - plcc (raw); plcc_fit4, plcc_fit5 (after VQEG's logistic with 4 and 5 parameters), fit_converged (both),
      rmse (after the fit with 5, in units of the label); NaN and NA with `fit=False`, which is faster;
    - krcc (τ_b); srcc_within, srcc_within_sd: mean and standard deviation of the references' own SRCCs.

    Raises InputError for a column `by` that `pairs` lacks, an unknown `resample`, a missing or a double row.

    >>> run = load_run("own")
    >>> table = correlation_table(run.scores, run.pairs, fit=False)
    >>> table.loc[table["distance"] == "psnr", ["n", "srcc"]].iloc[0].to_list()
    [4.0, 1.0]
    """
    splits = _splits(by, pairs)
    if resample not in ("ref", "image"):
        raise InputError(f"resample={resample!r}: {near(resample, ('ref', 'image'))}")
    tables = []
    for part, wide in _parts(scores, pairs, splits):
        clusters = part["ref"] if resample == "ref" else part["pair_id"]
        values, quality = wide.to_numpy(), part["quality"].to_numpy(dtype=float)
        statistics = {
            **_counts(values, part["ref"].to_numpy()),
            **_rank_statistics(values, quality, clusters.to_numpy(), n_resamples, ci, seed),
            **(_fits(values, quality) if fit else _no_fits(values.shape[1])),
            "krcc": krcc(values, quality),
            **_within(values, quality, part["ref"].to_numpy()),
        }
        groups = wide.columns.to_frame(index=False)
        groups.insert(0, "dataset", part["dataset"].iloc[0])
        for name in splits:
            groups[name] = part[name].iloc[0]
        tables.append(pd.concat([groups, pd.DataFrame(statistics)], axis=1))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(feature=_ordered_features(table["feature"]))


def wide_scores(scores: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Predictions of one dataset, with signs for which larger means better: a row per pair, a column per score.

    Rows follow `pairs`, columns are a MultiIndex of KEYS with blocks in order, a failed pair is NaN.
    Raises InputError if `pairs` holds several datasets, or a pair has no row or more than one in a column.
    """
    dataset = _only_dataset(pairs)
    rows = scores[scores["dataset"] == dataset]
    row = _positions(rows["pair_id"], pairs)
    rows, row = rows[row >= 0], row[row >= 0]
    keys = rows[list(KEYS)].apply(_in_order).assign(feature=_ordered_features(rows["feature"]))
    grouped = keys.groupby(list(KEYS), observed=True, dropna=False)
    column = grouped.ngroup().to_numpy(dtype=np.intp)
    frame = grouped.size().index.to_frame(index=False)
    names = pd.MultiIndex.from_frame(frame.astype({c: object for c in KEYS if c != "feature"}))
    _check_complete(row, column, names, pairs, dataset)
    sign = rows["distance"].map(orientation).to_numpy(dtype=float)
    matrix = np.empty((len(pairs), len(names)))
    matrix[row, column] = sign * rows["value"].to_numpy(dtype=float)
    return pd.DataFrame(matrix, index=pd.Index(pairs["pair_id"], name="pair_id"), columns=names)


def _splits(by: str | Sequence[str] | None, pairs: pd.DataFrame) -> list[str]:
    names = [by] if isinstance(by, str) else list(by or ())
    for name in names:
        if name not in KEYS and name not in pairs:
            raise InputError(
                f"by={name!r} is not a column of the pairs table: {near(name, list(pairs.columns))}"
            )
    return [name for name in names if name not in (*KEYS, "dataset")]  # these always separate rows


def _parts(
    scores: pd.DataFrame, pairs: pd.DataFrame, splits: list[str]
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    for _, population in pairs.groupby("dataset", observed=True, sort=False):
        population = population.reset_index(drop=True)
        wide = wide_scores(scores, population)
        if not splits:
            yield population, wide
            continue
        for _, part in population.groupby(splits, observed=True, dropna=False):
            yield part, wide.iloc[part.index]


def _only_dataset(pairs: pd.DataFrame) -> str:
    datasets = list(pairs["dataset"].unique())
    if len(datasets) != 1:
        raise InputError(
            f"one dataset at a time: the pairs table holds {len(datasets)} ({', '.join(map(str, datasets))})."
        )
    return str(datasets[0])


def _positions(pair_ids: pd.Series, pairs: pd.DataFrame) -> NDArray[np.intp]:
    """Row of the pairs table for every score row, −1 where the pair is not in it."""
    ids = pair_ids.astype("category").cat
    index = pd.Index(pairs["pair_id"])
    if not index.is_unique:
        raise InputError(f"pair_id {index[index.duplicated()][0]!r} occurs twice in the pairs table.")
    return index.get_indexer(ids.categories)[ids.codes]


def _in_order(names: pd.Series) -> pd.Series:
    """A categorical with its categories sorted; anything else as it is."""
    if not isinstance(names.dtype, pd.CategoricalDtype):
        return names
    return names.cat.reorder_categories(sorted(names.cat.categories, key=str))


def _ordered_features(feature: pd.Series) -> pd.Series:
    """Blocks by number, then the named features: a column of integers and strings cannot be sorted as it is."""
    names = sorted(feature.unique(), key=lambda name: (isinstance(name, str), name))
    return feature.astype(pd.CategoricalDtype(names, ordered=True))


def _check_complete(
    row: NDArray[np.integer], column: NDArray[np.integer], names: pd.Index, pairs: pd.DataFrame, dataset: str
) -> None:
    count = np.bincount(row * len(names) + column, minlength=len(pairs) * len(names))
    count = count.reshape(len(pairs), len(names))
    if len(names) == 0:
        raise InputError(f"the score table has no row for any of the {len(pairs)} pairs of {dataset}.")
    for wrong, what in ((count > 1, "more than one row"), (count == 0, "no row")):
        if wrong.any():
            pair, key = np.argwhere(wrong)[0]
            raise InputError(
                f"{dataset}: {wrong[:, key].sum()} of {len(pairs)} pairs have {what} in the score column "
                f"{'/'.join(map(str, names[key]))} (the first is {pairs['pair_id'].iloc[pair]!r}); "
                f"a failed pair is a row with NaN. Pass the pairs that were scored."
            )


def _counts(values: FloatArray, refs: NDArray[np.object_]) -> dict[str, NDArray[np.intp]]:
    n = (~np.isnan(values)).sum(axis=0)
    return {"n": n, "n_failed": len(values) - n, "n_refs": _clusters_used(values, refs)}


def _clusters_used(values: FloatArray, clusters: NDArray[np.object_]) -> NDArray[np.intp]:
    """Clusters that still have a pair in each column, [k]."""
    codes, names = pd.factorize(clusters)
    per_cluster = np.zeros((len(names), values.shape[1]), dtype=np.intp)
    np.add.at(per_cluster, codes, ~np.isnan(values))
    return (per_cluster > 0).sum(axis=0)


def _rank_statistics(
    values: FloatArray,
    quality: FloatArray,
    clusters: NDArray[np.object_],
    n_resamples: int,
    ci: float,
    seed: int,
) -> dict[str, FloatArray]:
    bounds = np.stack(interval(bootstrap_srcc(values, quality, clusters, n_resamples, seed), ci))
    # With one cluster every resample is the sample, so there is no spread.
    bounds[:, _clusters_used(values, clusters) < 2] = np.nan
    lower, upper = bounds
    return {"srcc": srcc(values, quality), "srcc_lo": lower, "srcc_hi": upper, "plcc": plcc(values, quality)}


def _fits(values: FloatArray, quality: FloatArray) -> dict[str, object]:
    present = ~np.isnan(values)
    rows = []
    columns = list(zip(values.T, present.T, strict=True))
    for column, used in track(columns, "logistic fits", "columns"):
        four, five = (fit_logistic(column[used], quality[used], parameters) for parameters in (4, 5))
        rows.append((four.plcc, five.plcc, four.converged and five.converged, five.rmse))
    four_plcc, five_plcc, converged, rmse = zip(*rows, strict=True)
    return {
        "plcc_fit4": four_plcc,
        "plcc_fit5": five_plcc,
        "fit_converged": pd.array(converged, dtype="boolean"),
        "rmse": rmse,
    }


def _no_fits(k: int) -> dict[str, object]:
    missing = pd.array([pd.NA] * k, dtype="boolean")
    return {"plcc_fit4": np.nan, "plcc_fit5": np.nan, "fit_converged": missing, "rmse": np.nan}


def _within(values: FloatArray, quality: FloatArray, refs: NDArray[np.object_]) -> dict[str, FloatArray]:
    mean, spread = mean_over_refs(srcc_within(values, quality, refs))
    return {"srcc_within": mean, "srcc_within_sd": spread}
