"""The figures of the robustness chapter: correlation against amount, and what happens to each pair's distance."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fmiqa_utils.datasets.transforms import TRANSFORMS
from fmiqa_utils.errors import InputError
from fmiqa_utils.figures.style import (
    DASHES,
    FULL,
    GREY,
    MARKERS,
    Look,
    add_legend,
    looks,
    plain_text,
    say,
    set_title,
    wrapped,
)
from fmiqa_utils.scores.names import GROUP, feature_name, key_of, series_keys

MODELS = 3  # in one row of panels; with more, all layers and embeddings each have a row of panels
BARS = 8  # lines in one panel; with more, intervals would hide one another
ACROSS = 6  # transforms side by side


def robustness_curves(table: pd.DataFrame, title: str) -> Figure:
    """SRCC against the amount of each transform, a line per series of `robustness.robustness_table`.

    The lines of one panel are shifted sideways, so that marks do not cover one another. Bars (up to `BARS` lines) are the 95 %
    interval of the change, drawn at the unmoved SRCC plus the change and cut at ±1; a filled mark is a significant change.
    """
    table = _in_order(table)
    kinds = [k for k in TRANSFORMS if k in set(table["kind"])]
    styles = _styles(table)
    apart = len(series_keys(table)) > MODELS
    parts = _parts(table) if apart else {"": table}
    size = (FULL if apart else FULL * (0.4 + 0.2 * len(kinds)), 2.0 * len(parts) + 0.35)
    figure, axes = plt.subplots(
        len(parts), len(kinds), figsize=size, sharey=True, sharex="col", squeeze=False
    )
    for row, (part, rows) in zip(axes, parts.items(), strict=True):
        for ax, kind in zip(row, kinds, strict=True):
            _panel(ax, rows[rows["kind"] == kind], styles)
        row[0].set_ylabel(f"SRCC, higher is better\n{part}".strip())
    for ax, kind in zip(axes[-1], kinds, strict=True):
        ax.set_xlabel(f"{TRANSFORMS[kind].title} ({TRANSFORMS[kind].unit.strip()})")
    if table["srcc"].isna().all():
        axes[0, 0].set_ylim(-1, 1)
        sentence = wrapped("No correlation is defined: labels or values do not differ.", 2, 7)
        axes[0, 0].text(0.5, 0.5, sentence, transform=axes[0, 0].transAxes, ha="center", size=7)
    add_legend(figure, *_legend_entries(table, styles, apart))
    set_title(figure, title)
    return figure


def change_boxes(ratios: pd.DataFrame, title: str) -> Figure:
    """Distance under a transform divided by the unmoved distance, every pair, on a logarithmic axis; from `robustness.relative_change`.

    A row per series, a panel per transform: median, quartiles, 5 to 95 % of the pairs.
    """
    ratios = _in_order(ratios)
    order = {kind: i for i, kind in enumerate(TRANSFORMS)}
    transforms = sorted(
        set(zip(ratios["kind"], ratios["amount"], strict=True)), key=lambda m: (order[m[0]], m[1])
    )
    series, styles = list(dict.fromkeys(ratios["series"])), _styles(ratios)
    positive = ratios["ratio"][ratios["ratio"] > 0]
    if positive.empty:
        figure, ax = plt.subplots(figsize=(FULL, 1.2))
        say(ax, "No pair has both a moved and an unmoved distance above 0.")
        return figure
    columns = min(len(transforms), ACROSS)
    lines = -(-len(transforms) // columns)
    size = (FULL, (0.4 + 0.24 * len(series)) * lines + 0.75)
    figure, axes = plt.subplots(lines, columns, figsize=size, sharey=True, sharex=True, squeeze=False)
    for ax, (kind, amount) in zip(axes.flat, transforms, strict=False):
        part = ratios[(ratios["kind"] == kind) & (ratios["amount"] == amount)]
        values = [part["ratio"][part["series"] == s].dropna().to_numpy(float) for s in series]
        _boxes(ax, values, [styles[s].color for s in series])
        ax.set_title(f"{TRANSFORMS[kind].title}\n{amount:g}{TRANSFORMS[kind].unit}", fontsize=7.5)
    for ax in list(axes.flat)[len(transforms) :]:
        ax.remove()
    first = axes.flat[0]
    first.set_yticks(range(len(series)), [plain_text(s) for s in series])
    first.set_ylim(len(series) - 0.5, -0.5)
    _ratio_axis(first, float(positive.min()), float(positive.max()))
    figure.supxlabel("distance after the move, relative to before", fontsize=8.5)
    set_title(figure, title)
    return figure


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows by series, baselines last. Raises InputError for a table without rows."""
    if table.empty:
        raise InputError("there is no moved image to draw: the table is empty.")
    positions = {key: i for i, key in enumerate(series_keys(table))}
    position = [
        positions.get(key_of(row), len(positions)) for row in table[GROUP].itertuples(index=False, name=None)
    ]
    ordered = table.assign(position=position, late=table["feature"] == "embedding")
    return ordered.sort_values(["position", "late"], kind="stable").drop(columns=["position", "late"])


def _styles(table: pd.DataFrame) -> dict[str, Look]:
    """Series → look: set by backbone, weights and normalization; embeddings are paler, baselines are grey with different marks."""
    of_model = looks(series_keys(table))
    rows = table.drop_duplicates("series")
    styles, baselines = {}, 0
    for series, feature, *group in rows[["series", "feature", *GROUP]].itertuples(index=False, name=None):
        if group[0] == "baseline":
            dashes, marker = DASHES[3 - baselines % 4], MARKERS[(4 + baselines) % len(MARKERS)]
            styles[str(series)] = Look(GREY, dashes, marker)
            baselines += 1
            continue
        look = of_model[key_of(group)]
        styles[str(series)] = look._replace(color=_pale(look.color)) if feature == "embedding" else look
    return styles


def _pale(colour: str) -> str:
    return to_hex(sns.light_palette(colour, 5)[2])


def _parts(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A part for all layers and one for embeddings, baselines in both."""
    baseline = table["backbone"] == "baseline"
    features = [f for f in ("joint", "embedding") if f in set(table["feature"])]
    return {feature_name(f): table[(table["feature"] == f) | baseline] for f in features}


def _panel(ax: Axes, table: pd.DataFrame, styles: dict[str, Look]) -> None:
    groups = list(table.groupby("series", sort=False))
    top = float(table["amount"].max())
    step = 0.14 * top / max(len(groups), 5)
    for i, (series, rows) in enumerate(groups):
        line, look = rows.sort_values("amount"), styles[str(series)]
        x = np.r_[0, line["amount"]] + step * (i - (len(groups) - 1) / 2)
        start = line["unmoved"].iloc[0]
        ax.plot(x, np.r_[start, line["srcc"]], lw=1.1, color=look.color, ls=look.linestyle)
        if len(groups) <= BARS:
            bars: dict[str, Any] = {"color": look.color, "lw": 1.5, "alpha": 0.4}
            ends = [np.clip(start + line[end].to_numpy(float), -1, 1) for end in ("lower", "upper")]
            ax.vlines(x[1:], *ends, **bars)
        sure = np.r_[True, line["significant"].astype(bool)]
        for position, value, filled in zip(x, np.r_[start, line["srcc"]], sure, strict=True):
            ax.plot(
                position, value, look.marker, ms=3.6, color=look.color, mfc=look.color if filled else "white"
            )
    ax.set_xticks([0, *sorted(table["amount"].unique())])
    ax.xaxis.set_major_formatter("{x:g}")


def _legend_entries(
    table: pd.DataFrame, styles: dict[str, Look], apart: bool
) -> tuple[list[Artist], list[str]]:
    """A line per series; or per model, if the rows of panels show which feature is drawn."""
    rows = table.drop_duplicates("series")
    if apart:
        rows = rows.sort_values("feature", key=lambda f: f == "embedding", kind="stable")
        rows = rows.assign(series_name=rows["model"].where(rows["model"] != "", rows["series"]))
        rows = rows.drop_duplicates("series_name")
    names = list(rows["series_name" if apart else "series"])
    handles: list[Artist] = [
        Line2D([], [], **styles[str(s)]._asdict(), ms=3.6, lw=1.1) for s in rows["series"]
    ]
    return handles, names


def _boxes(ax: Axes, values: list[np.ndarray], colours: list[str]) -> None:
    """A horizontal box per row; the row is empty where there is no value."""
    style: dict[str, Any] = {"orientation": "horizontal", "whis": (5, 95), "showfliers": False, "widths": 0.6}
    for y, (row_values, colour) in enumerate(zip(values, colours, strict=True)):
        if not len(row_values):
            continue
        lines = {"color": "#333333", "lw": 0.8}
        ax.boxplot(
            [row_values],
            positions=[y],
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": colour, "edgecolor": "#333333", "lw": 0.6},
            medianprops={"color": "black", "lw": 1.1},
            whiskerprops=lines,
            capprops=lines,
            **style,
        )
    ax.axvline(1, color="#444444", lw=0.8, zorder=0)
    ax.grid(True, axis="x")
    ax.grid(False, axis="y")


def _ratio_axis(ax: Axes, low: float, high: float) -> None:
    """A logarithmic axis with at most three labels, 1 among them."""
    ax.set_xscale("log")
    first, last = int(np.floor(np.log10(min(low, 1)))), int(np.ceil(np.log10(max(high, 1))))
    if last - first <= 1:
        ticks = [p for p in (0.2, 0.5, 1, 2, 5) if min(low, 1) / 1.3 <= p <= max(high, 1) * 1.3]
    else:
        step = -(-(last - first) // 3)
        ticks = [10.0**i for i in range(first, last + 1) if i % step == 0]
    ax.set_xticks(ticks, [f"{p:g}" for p in ticks])
    ax.minorticks_off()
