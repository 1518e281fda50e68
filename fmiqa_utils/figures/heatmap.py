"""A heat map: a statistic of every measure for every type of distortion."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from fmiqa_utils.figures.style import (
    FULL,
    NOTHING,
    plain_text,
    say,
    set_title,
    wrapped,
)
from fmiqa_utils.scores.names import shortened

HEAD = 44  # characters of a column's name in the heat map


def type_heatmap(table: pd.DataFrame, title: str) -> Figure:
    """SRCC per distortion type (rows) and column of `table` (a pivot), with the numbers written in, the highest mean first.

    The colours span the values; they change hue at zero if there are values of both signs.
    """
    order = table.mean(axis=1).sort_values(ascending=False, kind="stable").index
    columns = table.mean().sort_values(ascending=False, kind="stable").index
    sorted_table = table.loc[order, columns].astype(float)
    shown = sorted_table.set_axis([wrapped(i, 2.2, 7.5) for i in order]).set_axis(
        [plain_text(shortened(str(c), HEAD)) for c in columns], axis=1
    )
    heads = max(len(name) for name in shown.columns) * 0.068  # inches
    width = 3.2 + 0.42 * shown.shape[1]
    body = max(1.1, 0.19 * sum(name.count("\n") + 1 for name in shown.index))
    figure, ax = plt.subplots(figsize=(min(FULL, width), body + heads + 0.35))
    known = shown.to_numpy()[np.isfinite(shown.to_numpy())]
    if not len(known):
        say(ax, NOTHING)
    else:
        sns.heatmap(
            shown,
            ax=ax,
            **_colours(known),
            annot=True,
            fmt=".2f",
            annot_kws={"size": 5.8},
            linewidths=0.4,
            cbar_kws={"label": "SRCC, higher is better" if body > 2 else "SRCC", "shrink": 0.9},
        )
        ax.set(xlabel="", ylabel="")
        ax.tick_params(length=0, labeltop=True, labelbottom=False)
        ax.tick_params(axis="x", rotation=90)
        ax.tick_params(axis="y", rotation=0)
    set_title(figure, title)
    return figure


def _colours(values: np.ndarray) -> dict[str, object]:
    """Limits and map for `values`: around zero if both signs are there, from the smallest to the largest if not."""
    low, high = float(values.min()), float(values.max())
    if low < 0 < high:
        reach = max(-low, high)
        return {"vmin": -reach, "vmax": reach, "center": 0, "cmap": "vlag_r"}
    if high - low < 0.05:
        low, high = low - 0.025, high + 0.025
    return {"vmin": low, "vmax": high, "cmap": "YlGnBu" if high > 0 else "YlOrRd_r"}
