"""Distance against label, pair by pair."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fmiqa_utils.distances.table import measure_name
from fmiqa_utils.figures.style import (
    COLUMN,
    FULL,
    INK,
    distance_axis,
    family_colour,
    plain_text,
    say,
    set_title,
    wrapped,
)
from fmiqa_utils.scores.names import GROUP, Key, feature_name, key_of, series_names
from fmiqa_utils.scores.runs import Run
from fmiqa_utils.statistics.coefficients import srcc

BINS, PER_BIN = 10, 8  # of the trend in a scatter: bins of equal size, and the least number of pairs in one


def label_scatter(
    run: Run, feature: object | Mapping[Key, object], distance: str, variant: str = "published"
) -> Figure:
    """Distance against label, a panel per series: every pair, the median label of equally large bins, and the SRCC.

    `feature`: the same for all series, or one for each key of `names.GROUP`. A series without the distance has no panel;
    where none has it, the figure says so.
    """
    scores = run.scores[run.scores["transform"] == "none"]
    names, panels = series_names(scores), []
    for key in names:
        panel_feature = feature.get(key) if isinstance(feature, Mapping) else feature
        rows = unmoved_scores(run, panel_feature, distance, variant, key)
        if len(rows):
            panels.append((key, panel_feature, rows))
    if isinstance(feature, Mapping) and len({panel_feature for _, panel_feature, _ in panels}) == 1:
        feature = panels[0][1]
    if not panels:
        return _no_scatter(f"No model has {measure_name(distance)}, {variant} form, {feature_name(feature)}.")
    columns = min(len(panels), 4)
    lines = -(-len(panels) // columns)
    width = max(COLUMN, min(FULL, 2.6 * columns))
    figure, axes = plt.subplots(
        lines, columns, figsize=(width, 0.75 + 1.95 * lines), squeeze=False, sharey=True
    )
    for ax, (key, panel_feature, rows) in zip(axes.flat, panels, strict=False):
        _scatter(
            ax,
            rows.merge(run.pairs[["pair_id", "label", "quality"]], on="pair_id"),
            key,
            5 if columns < 3 else 3,
        )
        name = (
            names[key] if not isinstance(feature, Mapping) else f"{names[key]}, {feature_name(panel_feature)}"
        )
        ax.set_title(wrapped(name, (width - 0.5) / columns - 0.15, 7.5), fontsize=7.5)
    for ax in list(axes.flat)[len(panels) :]:
        ax.remove()
    low, high = run.pairs["label"].min(), run.pairs["label"].max()
    room = (high - low) or 1.0
    axes.flat[0].set_ylim(low - 0.06 * room, high + 0.22 * room)  # room for the SRCC above the points
    kind = str(run.pairs["label_kind"].iloc[0])
    better = "lower" if kind == "dmos" else "higher"
    figure.supylabel(f"label ({plain_text(kind)}, {better} is better)", fontsize=8.5)
    figure.supxlabel(f"{measure_name(distance)} distance (larger is more distorted)", fontsize=8.5)
    where = "each model in its own block" if isinstance(feature, Mapping) else feature_name(feature)
    set_title(figure, f"{where[0].upper()}{where[1:]}, {measure_name(distance)}")
    return figure


def _no_scatter(sentence: str) -> Figure:
    figure, ax = plt.subplots(figsize=(COLUMN, 1.2))
    say(ax, sentence)
    return figure


def unmoved_scores(
    run: Run, feature: object, distance: str, variant: str, key: Key | None = None
) -> pd.DataFrame:
    """The scores of one column without a transform, of every series or of the series `key`."""
    s = run.scores
    chosen = (s["distance"] == distance) & (s["variant"] == variant) & (s["transform"] == "none")
    rows = s[chosen & (s["feature"] == feature)]
    return rows if key is None else rows[[key_of(k) == key for k in rows[GROUP].itertuples(index=False)]]


def _scatter(ax: Axes, rows: pd.DataFrame, key: Key, ticks: int) -> None:
    """Points, trend and SRCC of one series, the SRCC above the points."""
    known = rows.dropna(subset=["value"])
    if known.empty:
        say(ax, "No pair has a value.")
        return
    size = 7 if len(known) > 100 else 16
    ax.scatter(known["value"], known["label"], s=size, alpha=0.5, linewidth=0, color=family_colour(key[0]))
    distance_axis(ax, known["value"].to_numpy(float), ticks)
    bins = min(BINS, len(known) // PER_BIN)
    if bins > 2:
        parts = np.array_split(
            known.sort_values("value", kind="stable")[["value", "label"]].to_numpy(float), bins
        )
        middle = np.array([np.median(part, axis=0) for part in parts])
        ax.plot(*middle.T, "o-", color=INK, ms=2.5, lw=1.1, label="median")
    value = srcc(-known[["value"]].to_numpy(float), known["quality"].to_numpy(float))[0]
    text = "SRCC not defined" if np.isnan(value) else f"SRCC {value:.3f}"
    ax.text(0.98, 0.98, text, transform=ax.transAxes, ha="right", va="top", size=7.5)
