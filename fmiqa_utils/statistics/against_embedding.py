"""Comparisons within one run, on the same images and the same resamples of references: forms, layers, embedding."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from fmiqa_utils.errors import InputError
from fmiqa_utils.scores.names import GROUP, Key, key_of, series_keys
from fmiqa_utils.scores.runs import Run
from fmiqa_utils.statistics.correlation import wide_scores
from fmiqa_utils.statistics.layer_selection import nested_selection
from fmiqa_utils.statistics.paired_tests import difference_table, holm, least_resamples

FOLDS = 5  # of references, in the choice of a layer
ALPHA = 0.05
FORM_COLUMNS = [
    *GROUP,
    "distance",
    "n",
    "value",
    "control",
    "difference",
    "lower",
    "upper",
    "p_bootstrap",
]


def intermediate_vs_embedding(
    run: Run, distance: str = "cos", variant: str = "published", *, n_resamples: int = 10_000
) -> pd.DataFrame:
    """SRCC of every block and of the joint value against the embedding's cosine: `difference_table` per backbone, stacked.

    Adds columns feature, backbone, weights, normalize. Holm corrects over the blocks of one backbone; `n_resamples` is raised if the
    correction needs more. Raises InputError for a distance that the run does not have.
    """
    tables = []
    for group, wide in _by_backbone(run, distance, variant):
        enough = max(n_resamples, least_resamples(wide.shape[1] - 1, ALPHA))
        test = difference_table(wide, run.pairs["quality"], run.pairs["ref"], "embedding", n_resamples=enough)
        tables.append(test.reset_index(names="feature").assign(**group))
    return pd.concat(tables, ignore_index=True)


def corrected_vs_published(run: Run, *, n_resamples: int = 2000) -> pd.DataFrame:
    """SRCC of each distance's corrected joint form against its published one; empty where the run has one form only.

    A distance with two equal forms for the model (l2; cos of tokens) is left out.
    Columns: backbone, weights, normalize, distance, n, value, control (the published form), difference, lower, upper (95 %), p_bootstrap,
    p_bootstrap_holm (over the distances of one backbone) and significant (at 5 %).
    """
    rows = _unmoved(run)
    rows = rows[rows["feature"] == "joint"]
    tables = []
    for key, backbone_rows in rows.groupby(GROUP, observed=True, sort=False):
        group = dict(zip(GROUP, map(str, key), strict=True))
        for distance, forms in backbone_rows.groupby("distance", observed=True, sort=False):
            wide = wide_scores(forms, run.pairs)
            wide.columns = wide.columns.get_level_values("variant")
            if wide.shape[1] < 2 or wide["corrected"].equals(wide["published"]):
                continue
            test = difference_table(
                wide, run.pairs["quality"], run.pairs["ref"], "published", n_resamples=n_resamples
            )
            tables.append(test.assign(**group, distance=str(distance)))
    if not tables:
        return pd.DataFrame()
    table = pd.concat(tables, ignore_index=True)[FORM_COLUMNS]
    table["p_bootstrap_holm"] = table.groupby(GROUP)["p_bootstrap"].transform(holm)
    return table.assign(significant=table["p_bootstrap_holm"] < ALPHA)


def layer_choice(run: Run, distance: str = "cos", variant: str = "published") -> pd.DataFrame:
    """How much of the best block's lead over the embedding is selection, per backbone, by repeated 5-fold choice over references.

    Columns: backbone, weights, normalize, best (block), apparent_lead, held_out_lead, lower, upper (95 %), optimism, agreement (share of
    the splits that chose `best`). With fewer than five references every reference is its own fold.
    Raises InputError for a run of one reference.
    """
    rows = []
    folds = min(FOLDS, run.pairs["ref"].nunique())
    for group, wide in _by_backbone(run, distance, variant):
        blocks = wide[[c for c in wide.columns if c != "joint"]]
        control = list(blocks.columns).index("embedding")
        selection = nested_selection(blocks, run.pairs["quality"], run.pairs["ref"], control, n_folds=folds)
        lower, upper = selection.held_out_interval
        rows.append(
            {
                **group,
                "best": blocks.columns[selection.best],
                "apparent_lead": selection.apparent_lead,
                "held_out_lead": selection.held_out_lead,
                "lower": lower,
                "upper": upper,
                "optimism": selection.optimism,
                "agreement": selection.chosen[selection.best],
            }
        )
    return pd.DataFrame(rows)


def best_blocks(table: pd.DataFrame, statistic: str = "srcc") -> pd.DataFrame:
    """The best block of every series: its row of `table` (from `correlation_table`), best first.

    A series without a defined correlation has no row. Raises InputError where no row is left.
    """
    blocks = table[[isinstance(f, int | np.integer) for f in table["feature"]]].dropna(subset=[statistic])
    if blocks.empty:
        raise InputError(
            f"no block has a defined {statistic}: it takes two pairs or more, and values and labels that differ."
        )
    best = blocks.groupby(GROUP, observed=True, sort=False)[statistic].idxmax()
    return blocks.loc[best].sort_values(statistic, ascending=False, kind="stable")


def same_forms_once(table: pd.DataFrame) -> pd.DataFrame:
    """`table` with one row, variant "both", where the published and the corrected form of a distance agree in every number.

    They agree for l2 and for the cosine of tokens. `table`: from `correlation_table`, with or without `by`.
    """
    keys = [*GROUP, "transform", "feature", "distance"]
    table = table.assign(variant=table["variant"].astype(object))
    twins, originals = [], []
    for _, rows in table.groupby(keys, observed=True, sort=False):
        forms = [rows[rows["variant"] == variant] for variant in ("published", "corrected")]
        left, right = (form.drop(columns="variant").reset_index(drop=True) for form in forms)
        if len(left) and left.equals(right):
            originals += list(forms[0].index)
            twins += list(forms[1].index)
    table.loc[originals, "variant"] = "both"
    return table.drop(index=twins)


def strongest_block(run: Run, series: Key | None = None) -> tuple[str, int]:
    """(distance, block): the block with the largest median distance; cosine if the run has it, else its first distance.

    `series`: which backbone, weights and normalization; the first by default. Distances of different series cannot be compared.
    """
    rows = _unmoved(run)
    series = series or series_keys(rows)[0]
    rows = rows[[key_of(key) == series for key in rows[GROUP].itertuples(index=False)]]
    blocks = rows[[isinstance(f, int) for f in rows["feature"]]]
    known = list(blocks["distance"].unique())
    distance = "cos" if "cos" in known else str(known[0])
    values = blocks[blocks["distance"] == distance]
    values = values[values["variant"] == values["variant"].iloc[0]]
    return distance, int(
        str(values.groupby("feature", observed=True)["value"].median().astype(float).idxmax())
    )


def _unmoved(run: Run) -> pd.DataFrame:
    return run.scores[(run.scores["transform"] == "none") & (run.scores["backbone"] != "baseline")]


def _by_backbone(run: Run, distance: str, variant: str) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """({backbone, weights, normalize}, wide scores with features as columns) for each backbone of the run."""
    scores = _unmoved(run)
    chosen = (
        (scores["distance"] == distance) & (scores["variant"] == variant) & (scores["feature"] != "embedding")
    )
    if not chosen.any():
        known = sorted(set(zip(scores["distance"], scores["variant"], strict=True)))
        forms = ", ".join(f"{d} ({v})" for d, v in known)
        raise InputError(f"run {run.name!r} has no {distance} in the {variant} form; it has {forms}.")
    rows = scores[chosen | (scores["feature"] == "embedding")]
    for key, part in rows.groupby(GROUP, observed=True, sort=False):
        wide = wide_scores(part, run.pairs)
        wide.columns = wide.columns.get_level_values("feature")
        yield dict(zip(GROUP, map(str, key), strict=True)), wide
