"""What a small shift, scale or rotation of the distorted image does to a metric (docs/methods.md, Robustness)."""

import numpy as np
import pandas as pd

from fmiqa_utils.correlation import wide_scores
from fmiqa_utils.errors import InputError
from fmiqa_utils.runs import Run, short_name
from fmiqa_utils.significance import difference_table
from fmiqa_utils.transforms import KINDS, parse_transform

KEY = ["backbone", "weights", "feature", "distance", "variant"]


def is_moved(run: Run) -> bool:
    """True if `run` has scores of moved images and of the unmoved ones to compare with."""
    names = set(run.scores["transform"].unique())
    return "none" in names and len(names) > 1


def moved_pairs(run: Run) -> pd.DataFrame:
    """The pairs that were scored under every transform of `run`. Raises InputError for a run without transforms."""
    if not is_moved(run):
        raise InputError(
            f"run {run.name!r} has no moved images to compare with unmoved ones: extract it with "
            f"--transform none,tra-1,sca-1,rot-1 (fmiqa report: --set transforms=none,tra-1,sca-1,rot-1)."
        )
    counts = run.scores.groupby("transform", observed=True)["pair_id"].agg(set)
    both = set.intersection(*counts)
    return run.pairs[run.pairs["pair_id"].isin(both)]


def main_measures(run: Run, distance: str = "cos", variant: str = "published") -> pd.DataFrame:
    """The rows of `run` that a robustness chapter compares, with a column `series` that names them.

    They are the joint distance and the embedding's cosine of every backbone, and the image baselines.
    """
    s = run.scores
    joint = (s["feature"] == "joint") & (s["distance"] == distance) & (s["variant"] == variant)
    rows = s[joint | (s["feature"] == "embedding") | (s["backbone"] == "baseline")]
    if not joint.any():
        raise InputError(
            f"run {run.name!r} has no joint {distance} in the {variant} form: choose another distance."
        )
    several = len(run.manifests) > 1
    names = {
        key: _series_name(*key, several=several)
        for key in rows[KEY].drop_duplicates().itertuples(index=False, name=None)
    }
    series = [names[key] for key in rows[KEY].itertuples(index=False, name=None)]
    return rows.assign(series=series)


def robustness_table(
    run: Run, distance: str = "cos", variant: str = "published", *, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """SRCC of every series under every transform, and its difference to the unmoved one on the same pairs and resamples.

    Columns: series, backbone, transform, kind, amount (% or degrees), n, srcc, unmoved, difference, lower, upper (95 %, bootstrap over
    references) and significant (after Holm over the transforms of one series). Raises InputError for a run without transforms.
    """
    pairs = moved_pairs(run)
    measures = main_measures(run, distance, variant)
    tables = []
    for series, rows in measures.groupby("series", sort=False):
        one = rows[rows["pair_id"].isin(pairs["pair_id"])]
        wide = wide_scores(one, pairs)
        wide.columns = wide.columns.get_level_values("transform")
        test = difference_table(
            wide, pairs["quality"], pairs["ref"], "none", n_resamples=n_resamples, seed=seed
        )
        test = test.reset_index(names="transform").rename(columns={"value": "srcc", "baseline": "unmoved"})
        tables.append(test.assign(series=series, backbone=rows["backbone"].iloc[0]))
    table = pd.concat(tables, ignore_index=True)
    parsed = [parse_transform(t) for t in table["transform"]]
    table = table.assign(kind=[k for k, _ in parsed], amount=[a for _, a in parsed])
    order = table["kind"].map(KINDS.index)
    columns = ["series", "backbone", "transform", "kind", "amount", "n", "srcc", "unmoved"]
    columns += ["difference", "lower", "upper", "p_bootstrap_holm", "significant"]
    return table.assign(order=order).sort_values(["order", "amount"], kind="stable")[columns]


def relative_change(run: Run, distance: str = "cos", variant: str = "published") -> pd.DataFrame:
    """Every pair's value under a transform over its unmoved value: series, backbone, pair_id, transform, kind, amount, ratio.

    Distances only: a baseline such as PSNR is no ratio scale. Pairs whose unmoved distance is 0 or that failed have NaN.
    """
    pairs = moved_pairs(run)
    rows = main_measures(run, distance, variant)
    rows = rows[(rows["backbone"] != "baseline") & rows["pair_id"].isin(pairs["pair_id"])]
    wide = rows.pivot(index=["series", "backbone", "pair_id"], columns="transform", values="value")
    unmoved = wide.pop("none")
    ratio = wide.div(unmoved.where(unmoved > 0), axis=0)
    long = ratio.melt(ignore_index=False, var_name="transform", value_name="ratio").reset_index()
    parsed = [parse_transform(t) for t in long["transform"]]
    return long.assign(kind=[k for k, _ in parsed], amount=np.array([a for _, a in parsed]))


def largest_loss(table: pd.DataFrame) -> str:
    """The finding of a `robustness_table` in words: the foundation models' largest loss, and PSNR's."""
    own = table[table["backbone"] != "baseline"]
    worst, psnr = (t.sort_values("difference").iloc[0] for t in (own, table[table["series"] == "PSNR"]))
    verdict = "significant" if worst["significant"] else "not significant"
    return (
        f"The largest loss of a foundation model is **{worst['difference']:+.3f} [{worst['lower']:+.3f}, {worst['upper']:+.3f}]** "
        f"({worst['series']}, {worst['transform']}, from {worst['unmoved']:.3f} to {worst['srcc']:.3f}, {verdict} after Holm, "
        f"n = {worst['n']} pairs); PSNR loses up to {psnr['difference']:+.3f} ({psnr['transform']})."
    )


def published_loss(table: pd.DataFrame) -> str:
    """The same for published results (`published.robustness_table`), where a run has no moved images of its own."""
    row = table.assign(loss=table["tra-1"] - table["none"]).sort_values("loss").iloc[0]
    return (
        f"No move was extracted in this run. In the published results a shift by 1 % costs most on {row['dataset']}: {row['method']}, "
        f"{row['none']:.3f} to {row['tra-1']:.3f}."
    )


def _series_name(
    backbone: str, weights: str, feature: object, distance: str, variant: str, *, several: bool
) -> str:
    if backbone == "baseline":
        return distance.upper().replace("_", "-")
    what = "embedding, cos" if feature == "embedding" else f"all layers, {distance}"
    return f"{short_name(backbone)} · {what}" if several else what
