"""What a small shift, scale or rotation of the distorted image does to a metric (docs/methods.md, Robustness)."""

import numpy as np
import pandas as pd

from fmiqa_utils.datasets.transforms import TRANSFORMS, parse_transform
from fmiqa_utils.errors import InputError
from fmiqa_utils.scores.names import GROUP, row_names, series_labels, series_names
from fmiqa_utils.scores.runs import Run
from fmiqa_utils.statistics.correlation import wide_scores
from fmiqa_utils.statistics.paired_tests import difference_table, least_resamples

KEY = [*GROUP, "feature", "distance", "variant"]
DRAWN = ["series", *GROUP, "model", "feature"]  # what a figure needs to know about a row


def is_moved(run: Run) -> bool:
    """True if a backbone of `run` has scores of moved images and of the unmoved ones to compare with."""
    return len(_moved_scores(run)) > 0


def moved_pairs(run: Run) -> pd.DataFrame:
    """The pairs that were scored under every transform of `run`. Raises InputError for a run without transforms."""
    scores = _moved_scores(run)
    if scores.empty:
        raise InputError(
            f"run {run.name!r} has no moved images to compare with unmoved ones: extract it with "
            f"--transform none,tra-1,sca-1,rot-1 (fmiqa report: --set transforms=none,tra-1,sca-1,rot-1)."
        )
    counts = scores.groupby([*GROUP, "transform"], observed=True)["pair_id"].agg(set)
    both = set.intersection(*counts)
    if not both:
        raise InputError(f"run {run.name!r} has no pair that was scored under every transform.")
    return run.pairs[run.pairs["pair_id"].isin(both)]


def _moved_scores(run: Run) -> pd.DataFrame:
    """The scores of the series, and of the baselines, that have both unmoved and moved images."""
    transforms = run.scores.groupby(GROUP, observed=True)["transform"].agg(set)
    moved = {key for key, names in transforms.items() if "none" in names and len(names) > 1}
    if len(moved) in (0, len(transforms)):
        return run.scores if moved else run.scores.head(0)
    return run.scores[[key in moved for key in run.scores[GROUP].itertuples(index=False, name=None)]]


def main_measures(run: Run, distance: str = "cos", variant: str = "published") -> pd.DataFrame:
    """The rows of `run` that the robustness notebook compares, with columns `series` and `model` that name them.

    These are the joint distance and the embedding's cosine of every backbone, weights and normalization with moved images, and the
    baselines. Raises InputError where no backbone has this joint distance.
    """
    s = _moved_scores(run)
    joint = (s["feature"] == "joint") & (s["distance"] == distance) & (s["variant"] == variant)
    rows = s[joint | (s["feature"] == "embedding") | (s["backbone"] == "baseline")]
    if not joint.any():
        raise InputError(
            f"run {run.name!r} has no joint {distance} in the {variant} form: choose another distance."
        )
    names = series_names(run.scores)
    kinds = rows[KEY].drop_duplicates()
    known = dict(
        zip(
            kinds.itertuples(index=False, name=None),
            zip(row_names(kinds, names), series_labels(kinds, names), strict=True),
            strict=True,
        )
    )
    series = [known[key] for key in rows[KEY].itertuples(index=False, name=None)]
    return rows.assign(series=[s for s, _ in series], model=[m for _, m in series])


def robustness_table(
    run: Run, distance: str = "cos", variant: str = "published", *, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """SRCC of every series under every transform, and its difference to the unmoved one on the same pairs and resamples.

    Columns: `DRAWN`, transform, kind, amount (% or degrees), n, srcc, unmoved, difference, lower, upper (95 %, bootstrap over references)
    and significant (after Holm over the transforms of one series; `n_resamples` is raised if Holm needs more). Raises InputError for a
    run without transforms.
    """
    pairs = moved_pairs(run)
    measures = main_measures(run, distance, variant)
    tables = []
    for _, rows in measures.groupby("series", sort=False):
        one = rows[rows["pair_id"].isin(pairs["pair_id"])]
        wide = wide_scores(one, pairs)
        wide.columns = wide.columns.get_level_values("transform")
        enough = max(n_resamples, least_resamples(wide.shape[1] - 1))
        test = difference_table(wide, pairs["quality"], pairs["ref"], "none", n_resamples=enough, seed=seed)
        test = test.reset_index(names="transform").rename(columns={"value": "srcc", "control": "unmoved"})
        tables.append(test.assign(**{name: rows[name].iloc[0] for name in DRAWN}))
    table = pd.concat(tables, ignore_index=True)
    parsed = [parse_transform(t) for t in table["transform"]]
    table = table.assign(kind=[k for k, _ in parsed], amount=[a for _, a in parsed])
    order = table["kind"].map(list(TRANSFORMS).index)
    columns = [*DRAWN, "transform", "kind", "amount", "n", "srcc", "unmoved"]
    columns += ["difference", "lower", "upper", "p_bootstrap_holm", "significant"]
    return table.assign(order=order).sort_values(["order", "amount"], kind="stable")[columns]


def relative_change(run: Run, distance: str = "cos", variant: str = "published") -> pd.DataFrame:
    """Every pair's value under a transform, divided by its unmoved value: `DRAWN`, pair_id, transform, kind, amount, ratio.

    Distances only: ratios of a baseline such as PSNR mean nothing. Pairs that failed or have an unmoved distance of 0 have NaN.
    """
    pairs = moved_pairs(run)
    rows = main_measures(run, distance, variant)
    rows = rows[(rows["backbone"] != "baseline") & rows["pair_id"].isin(pairs["pair_id"])]
    wide = rows.astype({"feature": object}).pivot(
        index=[*DRAWN, "pair_id"], columns="transform", values="value"
    )
    unmoved = wide.pop("none")
    ratio = wide.div(unmoved.where(unmoved > 0), axis=0)
    long = ratio.melt(ignore_index=False, var_name="transform", value_name="ratio").reset_index()
    parsed = [parse_transform(t) for t in long["transform"]]
    return long.assign(kind=[k for k, _ in parsed], amount=np.array([a for _, a in parsed]))
