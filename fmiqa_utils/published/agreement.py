"""Our scores next to the published ones: pairs matched by file name, agreement per pair, correlations side by side."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmiqa_utils.errors import InputError
from fmiqa_utils.published.results import Published, oriented, parse_method, published_table
from fmiqa_utils.scores.runs import Run
from fmiqa_utils.statistics.coefficients import FloatArray, krcc, plcc, srcc
from fmiqa_utils.statistics.correlation import KEYS, correlation_table, wide_scores
from fmiqa_utils.statistics.within_references import mean_over_refs, srcc_within

# Differences below 1e-6 are fp32 rounding where vectors nearly agree; relative to this floor they are below 1e-3.
FLOOR = 1e-3

# {published name: our name}
OUR_NAMES = {
    "psnr": "psnr",
    "msssim": "ms_ssim",
    "fsim": "fsim",
    "lpips": "lpips",
    "dists": "dists",
}


class Comparison(NamedTuple):
    """agreement: a row per published method and the column of ours that computes the same thing, pair by pair.

    side_by_side: the same rows; both sides' correlations with the published labels, on the matched pairs.
    """

    agreement: pd.DataFrame
    side_by_side: pd.DataFrame


class _Columns(NamedTuple):
    """What both sides computed on the matched pairs, oriented; NaN where ours failed."""

    ids: pd.DataFrame  # [k], method and our KEYS
    theirs: FloatArray  # [n, k]
    ours: FloatArray  # [n, k]


def compare_with_ours(
    published: Published, scores: pd.DataFrame, pairs: pd.DataFrame, dataset: str | None = None
) -> Comparison:
    """Compare a score table of ours (`SCORE_COLUMNS`) on `pairs` (`PAIR_COLUMNS`) with the published per-image scores.

    `dataset`: the published dataset if the pairs table uses another name for it. Columns of `agreement`: method, weights,
    normalize, backbone, feature, distance, transform; n_matched pairs, unmatched on either side, n_failed of ours;
    label_pearson of both labels (below 1: the label files differ); pearson; median_relative and worst_relative difference,
    |ours − theirs| / max(|theirs|, 0.001), with worst_pair. `side_by_side` holds srcc, plcc, krcc and srcc_within as
    STATISTIC_published, STATISTIC_ours and STATISTIC_difference. Raises InputError where nothing can be matched.
    """
    name = dataset or str(pairs["dataset"].iloc[0])
    if name not in published.tables:
        raise InputError(f"the published results hold {', '.join(published.tables)}, but not {name}.")
    table, pairs = published.tables[name], pairs.reset_index(drop=True)
    theirs, ours = match_pairs(table, pairs)
    if not len(theirs):
        examples = f"{pairs['dist'].iloc[0]!r} in the run, {table['dis'].iloc[0]!r} in the published results"
        raise InputError(f"no pair of {name} has the same file name on both sides ({examples}).")
    columns = _same_columns(table.iloc[theirs], scores, pairs, ours)
    matched, matched_pairs = table.iloc[theirs], pairs.iloc[ours]
    counts = columns.ids.assign(
        n_matched=len(theirs),
        n_unmatched_published=len(table) - len(theirs),
        n_unmatched_ours=len(pairs) - len(ours),
        n_failed=np.isnan(columns.ours).sum(axis=0),
        label_pearson=plcc(matched_pairs[["quality"]], matched["quality"])[0],
    )
    agreement = pd.concat([counts, _differences(columns, matched_pairs["pair_id"].to_numpy())], axis=1)
    return Comparison(agreement, _side_by_side(columns, matched))


def agreement(published: Published, run: Run) -> Comparison:
    """`compare_with_ours` for a run, limited to the transforms that were scored for every pair."""
    counts = run.scores.groupby("transform", observed=True)["pair_id"].nunique()
    complete = counts.index[counts == len(run.pairs)]
    return compare_with_ours(published, run.scores[run.scores["transform"].isin(complete)], run.pairs)


def beside_published(run: Run, n_resamples: int = 1000) -> pd.DataFrame:
    """A run's whole-model values next to the published ones of the same dataset, backbone and distance.

    Columns: method, backbone, weights, normalize, distance, feature, n, srcc (ours) with srcc_lo and srcc_hi, srcc_published,
    plcc, plcc_published, krcc, krcc_published. Empty where nothing was published for the dataset or the backbones.
    """
    known = published_table()
    known = known[(known["dataset"] == run.dataset) & (known["transform"] == "none")]
    if known.empty:
        return pd.DataFrame()
    names = _our_names(known["method"].tolist()).drop(columns=["name", "transform"])
    ours = _comparable(run.scores[run.scores["transform"] == "none"])
    table = correlation_table(ours, run.pairs, n_resamples=n_resamples, fit=False).astype({"feature": str})
    both = names.merge(table, on=["backbone", "feature", "distance"])
    both = both.merge(known[["method", "srcc", "plcc", "krcc"]], on="method", suffixes=("", "_published"))
    columns = [
        "srcc",
        "srcc_lo",
        "srcc_hi",
        "srcc_published",
        "plcc",
        "plcc_published",
        "krcc",
        "krcc_published",
    ]
    return both[["method", "backbone", "weights", "normalize", "distance", "feature", "n", *columns]]


def match_pairs(table: pd.DataFrame, pairs: pd.DataFrame) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of a published table and of a pairs table that are the same pair, in the order of the pairs table.

    The same distorted file with its folder, or else the same file names of image and reference where these are unique
    on both sides. Letter case does not count.
    """
    theirs, ours = _names(table["dis"], table["ref"]), _names(pairs["dist"], pairs["ref"])
    rows = np.full(len(ours), -1)
    for keys in (["path"], ["file", "ref"]):
        left, right = (names[~names.duplicated(keys, keep=False)] for names in (theirs, ours))
        same = left.merge(right, on=keys, suffixes=("_theirs", "_ours"))
        new = (rows[same["row_ours"]] < 0) & ~same["row_theirs"].isin(rows).to_numpy()
        rows[same["row_ours"][new]] = same["row_theirs"][new]
    matched = np.flatnonzero(rows >= 0)
    return rows[matched], matched


def _names(dist: pd.Series, ref: pd.Series) -> pd.DataFrame:
    path = dist.astype(str).str.lower().str.replace("\\", "/")
    bare = {"file": path, "ref": ref.astype(str).str.lower().str.replace("\\", "/")}
    bare = {key: column.str.rsplit("/", n=1).str[-1] for key, column in bare.items()}
    return pd.DataFrame({"path": path, **bare, "row": np.arange(len(path))}, dtype=object).astype(
        {"row": int}
    )


def _same_columns(
    table: pd.DataFrame, scores: pd.DataFrame, pairs: pd.DataFrame, rows: NDArray[np.intp]
) -> _Columns:
    """Our columns that compute the same as a published column; `table` is already matched to `rows` of `pairs`."""
    wide = wide_scores(_comparable(scores), pairs)
    keys = wide.columns.to_frame(index=False)
    keys.index = pd.RangeIndex(len(keys))
    same = _our_names([str(name) for name in table]).merge(
        keys.reset_index(names="column").astype({"feature": str}),
        on=["backbone", "feature", "distance", "transform"],
    )
    if same.empty:
        raise InputError("the score table has no column that a published method computes too.")
    ours = wide.to_numpy()[np.ix_(rows, same["column"].to_numpy(dtype=np.intp))]
    theirs = oriented(table, same["name"].tolist())
    similarity = same["method"].isin(("msssim", "fsim")).to_numpy()
    theirs[:, similarity] = 1 + 2 * theirs[:, similarity]  # published as the distance (1 − m) / 2
    ids = same[["method", "weights", "normalize", "backbone", "feature", "distance", "transform"]]
    return _Columns(ids, np.where(np.isnan(ours), np.nan, theirs), ours)


def _comparable(scores: pd.DataFrame) -> pd.DataFrame:
    feature = scores["feature"].astype(str)
    kept = scores[(scores["variant"] == "published") & feature.isin(("joint", "embedding", "image"))]
    if kept.empty:
        raise InputError("the score table has no whole-model value in the published form to compare.")
    return kept[["dataset", "pair_id", *KEYS, "value"]]


def _our_names(columns: list[str]) -> pd.DataFrame:
    """Our column for each published column; methods that are not offered here are left out."""
    rows = []
    for name in columns:
        method = parse_method(name)
        if method.backbone:
            feature = "joint" if method.kind == "intermediate" else "embedding"
            rows.append((name, method.method, method.backbone, feature, method.distance, method.transform))
        elif method.method in OUR_NAMES:
            distance = OUR_NAMES[method.method]
            rows.append((name, method.method, "baseline", "image", distance, method.transform))
    return pd.DataFrame(rows, columns=["name", "method", "backbone", "feature", "distance", "transform"])


def _differences(columns: _Columns, pair_ids: NDArray[np.object_]) -> pd.DataFrame:
    gap = np.abs(columns.ours - columns.theirs)
    relative = pd.DataFrame(gap / np.maximum(np.abs(columns.theirs), FLOOR))  # [n, k]
    worst = relative.fillna(-1).to_numpy().argmax(axis=0)
    both = zip(columns.ours.T, columns.theirs.T, strict=True)
    return pd.DataFrame(
        {
            "pearson": [plcc(ours[:, None], theirs)[0] for ours, theirs in both],
            "median_relative": relative.median(),
            "worst_relative": relative.max(),
            "worst_pair": np.where(relative.isna().all(), "", pair_ids[worst]),
        }
    )


def _side_by_side(columns: _Columns, matched: pd.DataFrame) -> pd.DataFrame:
    """Correlations of both sides with the published labels."""
    quality, refs = matched["quality"].to_numpy(dtype=float), matched["ref"].str.lower().to_numpy()
    result = columns.ids.assign(n=(~np.isnan(columns.ours)).sum(axis=0))
    statistics = {
        "srcc": lambda values: srcc(values, quality),
        "plcc": lambda values: plcc(values, quality),
        "krcc": lambda values: krcc(values, quality),
        "srcc_within": lambda values: mean_over_refs(srcc_within(values, quality, refs))[0],
    }
    for name, measure in statistics.items():
        theirs, ours = measure(columns.theirs), measure(columns.ours)
        result[f"{name}_published"], result[f"{name}_ours"] = theirs, ours
        result[f"{name}_difference"] = ours - theirs
    return result
