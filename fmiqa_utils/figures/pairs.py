"""Examples of the data: references and their distorted versions."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fmiqa_utils.datasets.images import read_rgb
from fmiqa_utils.errors import InputError
from fmiqa_utils.figures.style import (
    FULL,
    plain_text,
)


def example_grid(pairs: pd.DataFrame, columns: int = 5) -> Figure:
    """One row per reference (at most 4): the reference and distorted versions from best to worst label."""
    refs = list(dict.fromkeys(pairs["ref"]))[:4]
    figure, axes = plt.subplots(len(refs), columns, figsize=(FULL, 1.4 * len(refs)), squeeze=False)
    for shift, (row, ref) in enumerate(zip(axes, refs, strict=True)):
        versions = pairs[pairs["ref"] == ref].sort_values("quality", ascending=False)
        chosen = versions.iloc[_spaced(len(versions), columns - 1, shift)]
        _image(row[0], versions["ref_path"].iloc[0], "reference")
        for ax, (_, pair) in zip(row[1:], chosen.iterrows(), strict=False):
            _image(ax, pair["dist_path"], _brief(pair))
        for ax in row[1 + len(chosen) :]:
            ax.set_axis_off()
    return figure


def _spaced(n: int, wanted: int, shift: int) -> list[int]:
    """`wanted` evenly spaced positions out of `n`, or all if there are no more; `shift` varies them from row to row."""
    if n <= wanted:
        return list(range(n))
    return [int((i + (0.35 * shift + 0.2) % 1) * n / wanted) for i in range(wanted)]


def _image(ax: Axes, path: str, title: str) -> None:
    ax.set_title(title, fontsize=6.2, fontweight="normal", loc="center", pad=2)
    try:
        ax.imshow(read_rgb(path))
    except InputError:
        ax.text(0.5, 0.5, "cannot be read", transform=ax.transAxes, ha="center", va="center", size=6.2)
    ax.set_axis_off()


def _brief(pair: pd.Series) -> str:
    """Two lines: the kind of distortion (or the file's name); its level and the label."""
    kind = str(pair["distortion"]) or str(pair["dist"])
    kind = kind if len(kind) <= 24 else kind[:23] + "…"
    level = "" if pd.isna(pair["level"]) else f"level {pair['level']}, "
    return f"{plain_text(kind)}\n{plain_text(level)} label {pair['label']:.3g}".replace("\n ", "\n")
