"""The figures of the robustness chapter: correlation against amount, and what happens to each pair's distance."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fmiqa_utils.figures import FULL, family_colour

UNITS = {"tra": ("translation", " %"), "sca": ("scale", " %"), "rot": ("rotation", "°")}
STYLES = ("o-", "s--", "^:", "v-.", "D-", "P--")


def robustness_curves(table: pd.DataFrame, title: str) -> Figure:
    """SRCC against the amount of each transform, a line per series of `robustness.robustness_table`.

    Bars are the 95 % interval of the change, drawn at the unmoved SRCC plus the change; a filled mark is a significant change.
    """
    kinds = [k for k in UNITS if k in set(table["kind"])]
    figure, axes = plt.subplots(
        1, len(kinds), figsize=(FULL * (0.4 + 0.2 * len(kinds)), 2.6), sharey=True, squeeze=False
    )
    for ax, kind in zip(axes[0], kinds, strict=True):
        of_kind = table[table["kind"] == kind]
        step = 0.025 * of_kind["amount"].max()  # bars side by side, not on top of each other
        groups = list(of_kind.groupby("series", sort=False))
        for i, (series, line) in enumerate(groups):
            shift = step * (i - (len(groups) - 1) / 2)
            _line(ax, line.sort_values("amount"), str(series), STYLES[i % len(STYLES)], shift)
        name, unit = UNITS[kind]
        ax.set(xlabel=f"{name} ({unit.strip()})", xticks=[0, *sorted(of_kind["amount"].unique())])
        ax.xaxis.set_major_formatter("{x:g}")
    axes[0, 0].set_ylabel("SRCC, higher is better")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold")
    return figure


def _line(ax: plt.Axes, line: pd.DataFrame, series: str, style: str, shift: float) -> None:
    colour = family_colour(str(line["backbone"].iloc[0]))
    mark, dashes = style[0], style[1:]
    amounts, start = line["amount"] + shift, line["unmoved"].iloc[0]
    ax.plot(np.r_[0, amounts], np.r_[start, line["srcc"]], dashes, lw=1.1, color=colour)
    ax.vlines(amounts, start + line["lower"], start + line["upper"], color=colour, lw=1.6, alpha=0.4)
    for x, value, sure in zip(amounts, line["srcc"], line["significant"], strict=True):
        ax.plot(x, value, mark, ms=4, color=colour, mfc=colour if sure else "white")
    ax.plot([], [], mark + dashes, ms=4, lw=1.2, color=colour, label=series)


def change_boxes(ratios: pd.DataFrame, title: str) -> Figure:
    """Distance under a transform over the unmoved distance, every pair, on a logarithmic axis; `robustness.relative_change`."""
    shown = ratios.sort_values(["kind", "amount"], key=_kind_order).dropna(subset=["ratio"])
    labels = [
        f"{UNITS[k][0]}\n{a:g}{UNITS[k][1]}" for k, a in zip(shown["kind"], shown["amount"], strict=True)
    ]
    series = list(shown["series"].unique())
    palette = {
        s: _shade(i, str(shown["backbone"][shown["series"] == s].iloc[0])) for i, s in enumerate(series)
    }
    figure, ax = plt.subplots(figsize=(FULL, 2.6))
    sns.boxplot(
        shown.assign(label=labels),
        x="label",
        y="ratio",
        hue="series",
        palette=palette,
        ax=ax,
        linewidth=0.7,
        whis=(5, 95),
        showfliers=False,
        legend=False,
    )
    ax.axhline(1, color="#444444", lw=0.8)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="", ylabel="distance moved / unmoved")
    handles = [Patch(facecolor=c, edgecolor="#444444", label=s) for s, c in palette.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold")
    return figure


def _shade(i: int, backbone: str) -> tuple[float, float, float]:
    """The family's colour, pale for every other series: a model's features and its embedding stand side by side."""
    pale = sns.light_palette(family_colour(backbone), 5)
    return to_rgb(family_colour(backbone) if i % 2 == 0 else pale[2])


def _kind_order(column: pd.Series) -> pd.Series:
    return column.map(list(UNITS).index) if column.name == "kind" else column
