"""The Explorer's picture of one pair: images with their windows, a map of the distance, curve and scatter."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from fmiqa_utils.backbones.catalogue import WINDOW
from fmiqa_utils.backbones.windows import window_boxes
from fmiqa_utils.distances.table import measure_name
from fmiqa_utils.figures.style import FULL, add_legend, distance_axis, family_colour

MARK = "#D7263D"


def pair_view(
    images: tuple[np.ndarray, np.ndarray] | None,
    maps: np.ndarray | None,
    curves: pd.DataFrame,
    labels: pd.Series,
    pair_id: str,
    layer: int,
    *,
    backbone: str,
    distance: str,
    same_scale: bool = False,
) -> Figure:
    """One pair of a dataset.

    images: reference and distorted, uint8 [H, W, 3], None if the files are not there; maps [L, H, W] or None; curves: distance of every
    pair (index) in every block (columns 0 … L−1); labels: quality by pair, higher is better. same_scale: one colour scale for all layers.
    """
    figure = plt.figure(figsize=(FULL, 4.5))
    grid = figure.add_gridspec(2, 6, height_ratios=(1.15, 1))
    top = [figure.add_subplot(grid[0, 2 * i : 2 * i + 2]) for i in range(3)]
    if images is None:
        for ax in top:
            ax.axis("off")
    else:
        for ax, image, name in zip(top, images, ("reference", "distorted"), strict=False):
            _image_with_windows(ax, image, name)
        _heat_map(top[2], images[1], maps, layer, same_scale)
    curve = figure.add_subplot(grid[1, :3])
    _curve(curve, curves, pair_id, layer, backbone, distance)
    _scatter(figure.add_subplot(grid[1, 3:]), curves[layer], labels, pair_id, backbone, distance, layer)
    add_legend(figure, *curve.get_legend_handles_labels())
    return figure


def _image_with_windows(ax: Axes, image: np.ndarray, name: str) -> None:
    ax.imshow(image)
    boxes = window_boxes(*image.shape[:2]) if min(image.shape[:2]) >= WINDOW else []
    for i, (top, left) in enumerate(boxes):
        ax.add_patch(
            Rectangle(
                (left, top), WINDOW - 1, WINDOW - 1, fill=False, ec=f"C{i % 6}", lw=1, ls=("-", "--")[i % 2]
            )
        )
    ax.set_title(
        f"{name}, {len(boxes)} window{'s' * (len(boxes) != 1)}" if name == "reference" else name, fontsize=8
    )
    ax.axis("off")


def _heat_map(ax: Axes, image: np.ndarray, maps: np.ndarray | None, layer: int, same_scale: bool) -> None:
    ax.axis("off")
    ax.imshow(image.mean(-1), cmap="gray")
    if maps is None:
        ax.set_title("no map: the model is not loaded", fontsize=8)
        return
    high = maps.max() if same_scale else maps[layer].max()
    shown = ax.imshow(maps[layer], cmap="magma", alpha=0.6, vmin=0, vmax=max(float(high), 1e-12))
    ax.figure.colorbar(shown, ax=ax, fraction=0.046, pad=0.02, format="%.2g")
    ax.set_title(f"where block {layer} sees the distortion", fontsize=8)


def _curve(ax: Axes, curves: pd.DataFrame, pair_id: str, layer: int, backbone: str, distance: str) -> None:
    blocks, colour = list(curves.columns), family_colour(backbone)
    low, middle, high = curves.quantile([0.05, 0.5, 0.95]).to_numpy()
    ax.fill_between(blocks, low, high, color=colour, alpha=0.15, lw=0, label="5–95 % of the dataset")
    ax.plot(blocks, middle, color=colour, lw=1, ls="--", label="median of the dataset")
    ax.plot(blocks, curves.loc[pair_id], "o-", color=MARK, ms=3, lw=1.2, label="this pair")
    ax.axvline(layer, color="#777777", lw=0.8, ls=":")
    if (low > 0).all():
        ax.set_yscale("log")
    ax.set(xlabel="block", ylabel=f"{measure_name(distance)} distance")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _scatter(
    ax: Axes, values: pd.Series, labels: pd.Series, pair_id: str, backbone: str, distance: str, layer: int
) -> None:
    rank = values.rank(method="min")[pair_id]
    ax.scatter(values, labels.loc[values.index], s=6, alpha=0.35, color=family_colour(backbone), lw=0)
    ax.scatter([values[pair_id]], [labels[pair_id]], s=40, color=MARK, zorder=3)
    distance_axis(ax, values.to_numpy(float))
    ax.set(xlabel=f"{measure_name(distance)} distance in block {layer}", ylabel="label, higher is better")
    ax.set_title(
        "this pair has no score"
        if np.isnan(rank)
        else f"distance ranks {int(rank)} of {values.notna().sum()}, smallest first",
        fontsize=8,
    )
