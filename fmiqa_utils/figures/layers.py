"""Curves over blocks: a statistic of a correlation table against depth."""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fmiqa_utils.distances.table import measure_name
from fmiqa_utils.errors import InputError
from fmiqa_utils.figures.style import (
    FULL,
    GREY,
    INK,
    NOTHING,
    STATISTIC_NAMES,
    Look,
    add_legend,
    looks,
    plain_text,
    set_title,
    spread,
    wrapped,
)
from fmiqa_utils.scores.names import GROUP, Key, key_of, series_names

GRID = {"plcc": "PLCC, raw", "plcc_fit4": "PLCC, logistic", "krcc": "KRCC", "srcc_within": "SRCC within refs"}
BANDS = 3  # series: with more, bands would hide one another
BEYOND = 0.14  # of the depth axis: how far right of the last block the embedding is drawn


def block_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table with a block's index as feature, not "joint", "embedding" or "image"."""
    return table[[isinstance(feature, int | np.integer) for feature in table["feature"]]]


@dataclass(frozen=True)
class _Curves:
    """What is drawn: the blocks and the embedding of every series, its name and its look."""

    blocks: dict[Key, pd.DataFrame]  # with a column `x`
    embedding: dict[Key, pd.DataFrame]
    names: dict[Key, str]
    looks: dict[Key, Look]
    relative: bool  # depth from 0 to 1, because the numbers of blocks differ
    last: float  # x of the last block

    @property
    def keys(self) -> list[Key]:
        return [key for key in self.names if key in self.blocks]


def _curves(table: pd.DataFrame, distance: str, variant: str) -> _Curves:
    all_blocks = block_rows(table)
    blocks_of_form = all_blocks[(all_blocks["distance"] == distance) & (all_blocks["variant"] == variant)]
    if blocks_of_form.empty:
        known = sorted(
            set(zip(all_blocks["distance"].astype(str), all_blocks["variant"].astype(str), strict=True))
        )
        forms = ", ".join(f"{d} ({v})" for d, v in known) or "no distance per block"
        raise InputError(f"the table has no block with {distance} in the {variant} form; it has {forms}.")
    names = series_names(table)
    deepest = {
        key_of(group): int(rows["feature"].astype(object).max())
        for group, rows in all_blocks.groupby(GROUP, observed=True)
    }
    relative = len(set(deepest.values())) > 1
    blocks = {}
    for group, line in blocks_of_form.groupby(GROUP, sort=False, observed=True):
        key = key_of(group)
        number = line["feature"].astype(object).astype(int)
        x = number / max(deepest[key], 1) if relative else number
        blocks[key] = line.assign(x=x.astype(float)).sort_values("x")
    embeddings = table[table["feature"] == "embedding"]
    embedding = {key_of(g): rows for g, rows in embeddings.groupby(GROUP, sort=False, observed=True)}
    end = 1.0 if relative else float(max(max(deepest.values()), 1))
    return _Curves(blocks, embedding, names, looks(names), relative, end)


def layer_curves(
    table: pd.DataFrame, distance: str, statistic: str = "srcc", variant: str = "published"
) -> Figure:
    """Correlation per block, one line per series; the best block as a large mark, the embedding as a hollow mark on the right.

    `table`: from `correlation_table`. Up to `BANDS` series have the bands of `STATISTIC_lo` and `STATISTIC_hi`. Baselines are dotted lines
    with their names. The x axis is the block, or the relative depth where models differ in their number of blocks. Raises InputError
    for a distance or form that the table does not have.
    """
    curves = _curves(table, distance, variant)
    width = FULL * (0.75 if len(curves.keys) <= 4 else 1)  # a long legend needs its columns
    figure, ax = plt.subplots(figsize=(width, 2.9))
    _draw_curves(ax, curves, statistic, bands=len(curves.keys) <= BANDS)
    _draw_baselines(ax, table[table["feature"] == "image"], statistic)
    _depth_axis(ax, curves, small=False)
    ax.set_ylabel(f"{STATISTIC_NAMES[statistic]}, higher is better")
    set_title(figure, f"{measure_name(distance)}, {variant} form{_weights(curves)}")
    add_legend(figure, *_curve_legend(curves))
    return figure


def statistics_grid(table: pd.DataFrame, distance: str, variant: str = "published") -> Figure:
    """Four layer curves side by side: PLCC raw and fitted, KRCC, and the mean SRCC within references; see `layer_curves`."""
    curves = _curves(table, distance, variant)
    figure, axes = plt.subplots(1, len(GRID), figsize=(FULL, 2.5), sharey=True)
    for ax, (statistic, title) in zip(axes, GRID.items(), strict=True):
        _draw_curves(ax, curves, statistic, small=True)
        _depth_axis(ax, curves, small=True)
        ax.set_title(title, fontsize=7.5)
    axes[0].set_ylabel("correlation, higher is better")
    set_title(figure, f"{measure_name(distance)}, {variant} form{_weights(curves)}")
    add_legend(figure, *_curve_legend(curves))
    return figure


def curves_note(table: pd.DataFrame, distance: str, variant: str = "published") -> str:
    """What a caption says about the marks of `layer_curves`, and whether bands are left out."""
    several = len(_curves(table, distance, variant).keys)
    marks = "Large mark: best block; hollow mark on the right: embedding (cosine)."
    bands = "Bands and bars: 95 % intervals over references."
    return f"{marks} {bands if several <= BANDS else f'No bands for {several} series: the intervals are in the table.'}"


def _draw_curves(
    ax: Axes, curves: _Curves, statistic: str, *, bands: bool = False, small: bool = False
) -> None:
    size = 2.2 if small else 3.2
    drawn = False
    for i, key in enumerate(curves.keys):
        line, look = curves.blocks[key], curves.looks[key]
        values = line[statistic].astype(float)
        ax.plot(
            line["x"], values, **look._asdict(), ms=size, lw=1.0 if small else 1.3, label=curves.names[key]
        )
        drawn = drawn or bool(values.notna().any())
        if bands and f"{statistic}_lo" in line:
            low, high = (line[f"{statistic}_{end}"].astype(float) for end in ("lo", "hi"))
            ax.fill_between(line["x"], low, high, color=look.color, alpha=0.14, lw=0)
        if values.notna().any():
            best = int(np.nanargmax(values))
            ax.plot(
                line["x"].iloc[best],
                values.iloc[best],
                look.marker,
                ms=1.9 * size,
                color=look.color,
                mec=INK,
                mew=0.8,
                zorder=4,
            )
        shift = (i - (len(curves.keys) - 1) / 2) / max(len(curves.keys), 6) * BEYOND * 0.9
        _draw_embedding(ax, curves, key, statistic, 1 + BEYOND + shift, bands, size)
    if not drawn:
        ax.set_ylim(-1, 1)
        ax.text(
            0.5, 0.5, wrapped(NOTHING, 1.3 if small else 3, 7), transform=ax.transAxes, ha="center", size=7
        )


def _draw_embedding(
    ax: Axes, curves: _Curves, key: Key, statistic: str, depth: float, bars: bool, size: float
) -> None:
    look, x = curves.looks[key], depth * curves.last
    for _, row in curves.embedding.get(key, pd.DataFrame()).iterrows():
        if np.isnan(row[statistic]):
            continue
        if bars and f"{statistic}_lo" in row:
            ax.vlines(x, row[f"{statistic}_lo"], row[f"{statistic}_hi"], color=look.color, lw=1.4, alpha=0.45)
        ax.plot(x, row[statistic], look.marker, ms=1.3 * size, color=look.color, mfc="white", mew=1, zorder=4)


def _draw_baselines(ax: Axes, rows: pd.DataFrame, statistic: str) -> None:
    """A dotted line per baseline, with its name beside the axes; names are shifted apart where lines are close."""
    rows = rows.dropna(subset=[statistic]).sort_values(statistic)
    for value in rows[statistic]:
        ax.axhline(value, color=GREY, lw=0.9, ls=":", zorder=1)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high)
    heights = spread(list(rows[statistic]), 0.065 * (high - low))
    for name, value, height in zip(rows["distance"], rows[statistic], heights, strict=True):
        ax.annotate(
            plain_text(measure_name(str(name))),
            (1, value),
            (1.03, height),
            xycoords=ax.get_yaxis_transform(),
            textcoords=ax.get_yaxis_transform(),
            va="center",
            size=7,
            color="#555555",
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": GREY, "shrinkA": 0, "shrinkB": 0},
            annotation_clip=False,
        )


def _depth_axis(ax: Axes, curves: _Curves, small: bool) -> None:
    """Ticks for blocks or relative depth, and for the embedding right of a thin line."""
    if curves.relative:
        ticks = [0.0, 0.5] if small else [0.0, 0.25, 0.5, 0.75, 1.0]
    else:
        steps = MaxNLocator(2 if small else 6, integer=True).tick_values(0, curves.last)
        ticks = [float(t) for t in steps if 0 <= t <= 0.97 * curves.last or t == curves.last]
    names = [f"{tick:g}" for tick in ticks]
    if curves.embedding:
        ax.axvline((1 + 0.35 * BEYOND) * curves.last, color="#D0D0D0", lw=0.6)
        ticks, names = [*ticks, (1 + BEYOND) * curves.last], [*names, "emb."]
    ax.set_xlim(-0.04 * curves.last, (1 + 1.7 * BEYOND) * curves.last)
    ax.set_xticks(ticks, names)
    ax.set_xlabel("relative depth\n(0: first block, 1: last)" if curves.relative else "block")


def _curve_legend(curves: _Curves) -> tuple[list[Artist], list[str]]:
    handles: list[Artist] = [Line2D([], [], **curves.looks[k]._asdict(), ms=3.5, lw=1.3) for k in curves.keys]
    names = [curves.names[k] for k in curves.keys]
    handles.append(Line2D([], [], marker="o", ls="", ms=6, color=GREY, mec=INK, mew=0.8))
    names.append("best block")
    if curves.embedding:
        handles.append(Line2D([], [], marker="o", ls="", mfc="white", ms=4.5, color=GREY))
        names.append("embedding (cosine)")
    return handles, names


def _weights(curves: _Curves) -> str:
    """ "; untrained weights" if all series share them; otherwise the names contain the weights."""
    weights = {key[1] for key in curves.names}
    return f"; {weights.pop()} weights" if len(weights) == 1 else ""
