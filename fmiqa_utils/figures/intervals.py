"""Rows of intervals: a statistic of every measure with its confidence interval."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fmiqa_utils.errors import InputError
from fmiqa_utils.figures.style import (
    FULL,
    STATISTIC_NAMES,
    family_colour,
    plain_text,
    set_title,
    wrapped,
)
from fmiqa_utils.scores.names import GROUP, series_names

MARKS = {"published": "o", "corrected": "D", "both": "o"}
ROWS = 32  # of intervals in one panel; more are split by series


def interval_plot(
    table: pd.DataFrame,
    labels: Sequence[str],
    title: str,
    statistic: str = "srcc",
    zero: str = "",
    groups: Sequence[str] | None = None,
) -> Figure:
    """One row per line of `table`: the statistic as a dot with its interval; columns backbone, variant, STATISTIC, _lo, _hi.

    `zero`: what lies right of zero, for a plot of differences. `groups`: the series of every row ("" for none); it is put before the
    label or, with more than `ROWS` rows, above a separate panel for each series.
    """
    if len(table) == 0:
        raise InputError("there is no row to draw: the table is empty.")
    text = f"{STATISTIC_NAMES[statistic]} with 95 % interval over references\n(higher is better)"
    text = f"difference in SRCC with 95 % interval\n{zero}" if zero else text
    groups = list(groups) if groups is not None and len(set(groups) - {""}) > 1 else []
    if groups and len(table) > ROWS:
        figure = _interval_panels(table, labels, groups, statistic)
        figure.supxlabel(text, fontsize=8.5)
    else:
        if groups:
            labels = [f"{g} · {name}" if g else name for g, name in zip(groups, labels, strict=True)]
        figure, ax = plt.subplots(figsize=(FULL * 0.75, 0.75 + 0.2 * len(table)))
        _intervals(ax, table, labels, statistic, 0)
        ax.set_xlabel(text, ha="right", x=1.0)  # beside long names the axis is narrower than its label
    for ax in figure.axes if zero else ():
        ax.axvline(0, color="#444444", lw=0.8, zorder=0)
    set_title(figure, title)
    return figure


def _interval_panels(
    table: pd.DataFrame, labels: Sequence[str], groups: Sequence[str], statistic: str
) -> Figure:
    """A panel per series; rows without a series are in the last panel."""
    order = list(series_names(table).values()) if set(GROUP) <= set(table.columns) else []
    heads = sorted(
        dict.fromkeys(groups), key=lambda g: (g == "", order.index(g) if g in order else len(order))
    )
    positions = {g: [i for i, group in enumerate(groups) if group == g] for g in heads}
    columns = min(3, len(heads))
    room = FULL / columns - 0.15 - 0.055 * max(map(len, labels))  # inches beside the rows' names
    titles = [wrapped(head or "image metrics", room, 7) for head in heads]
    starts = range(0, len(heads), columns)
    tallest = [max(len(positions[g]) for g in heads[i : i + columns]) for i in starts]
    lines = [1 + max(t.count("\n") for t in titles[i : i + columns]) for i in starts]
    figure, axes = plt.subplots(
        len(starts),
        columns,
        figsize=(FULL, 0.6 + sum(0.4 + 0.155 * t + 0.13 * n for t, n in zip(tallest, lines, strict=True))),
        sharex=True,
        squeeze=False,
        gridspec_kw={"height_ratios": [0.3 + 0.155 * t for t in tallest]},
    )
    for i, (ax, head) in enumerate(zip(axes.flat, heads, strict=False)):
        rows = positions[head]
        _intervals(ax, table.iloc[rows], [labels[i] for i in rows], statistic, tallest[i // columns])
        ax.set_title(titles[i], fontsize=7)
        ax.tick_params(axis="y", labelsize=6.3)
        ax.tick_params(labelbottom=True)
    for ax in list(axes.flat)[len(heads) :]:
        ax.remove()
    return figure


def _intervals(ax: Axes, table: pd.DataFrame, labels: Sequence[str], statistic: str, least: int) -> None:
    """Rows from top to bottom, on an axis of at least `least` rows."""
    for y, (_, row) in enumerate(table.iterrows()):
        colour, variant = family_colour(str(row["backbone"])), str(row.get("variant", ""))
        if np.isnan(row[statistic]):
            ax.text(0.01, y, "not defined", transform=ax.get_yaxis_transform(), va="center", size=6.5)
            continue
        ax.plot([row[f"{statistic}_lo"], row[f"{statistic}_hi"]], [y, y], color=colour, lw=1.6, alpha=0.55)
        mark, fill = MARKS.get(variant, "o"), "white" if variant == "corrected" else colour
        ax.plot(row[statistic], y, mark, ms=4.5, color=colour, mfc=fill)
    ax.set_yticks(range(len(table)), [plain_text(name) for name in labels])
    ax.set_ylim(max(len(table), least) - 0.4, -0.6)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(True, axis="x")
    ax.grid(False, axis="y")
