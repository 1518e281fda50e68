"""One function per figure, each returning the matplotlib Figure; one style, one colour per model family."""

import base64
import html
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from fmiqa_utils.paths import figures_root
from fmiqa_utils.runs import Run, plain, short_name

COLUMN, FULL = 3.5, 7.2  # inches, one column of a paper and its full width
FAMILY_COLOURS = {  # Okabe and Ito's palette, safe for colour-blind readers
    "dino": "#0072B2",
    "dinov2": "#56B4E9",
    "dinov3": "#004C6D",
    "clip": "#D55E00",
    "convnext": "#009E73",
    "imagenet": "#CC79A7",
    "baseline": "#7F7F7F",
    "other": "#5B4E8C",
}
DISTANCE_NAMES = {
    "l2": "l2",
    "cos": "cosine",
    "skld": "SKLD",
    "jsd": "JSD",
    "wsd": "WSD",
    "swd": "SWD",
    "psnr": "PSNR",
    "ssim": "SSIM",
}
MARKS = {"published": "o", "corrected": "D"}


def use_style() -> None:
    """The one style of all figures."""
    sns.set_theme(context="paper", style="ticks", font="DejaVu Sans")
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 200,
            "figure.constrained_layout.use": True,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "grid.color": "#E6E6E6",
            "grid.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 9,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 8.5,
            "xtick.labelsize": 7.5,
            "ytick.labelsize": 7.5,
            "legend.fontsize": 7.5,
            "legend.frameon": False,
            "svg.fonttype": "none",
            "svg.hashsalt": "fmiqa",
        }
    )


def family_colour(backbone: str) -> str:
    """The colour of a backbone's family, the same in every figure."""
    if backbone in FAMILY_COLOURS:
        return FAMILY_COLOURS[backbone]
    from fmiqa_utils.backbones import BACKBONES, family_of

    family = BACKBONES[backbone].family if backbone in BACKBONES else family_of(backbone)
    return FAMILY_COLOURS[family]


def model_names(run: Run) -> str:
    """ "vit_tiny_patch16_224 (untrained), …": what stands in a title."""
    return ", ".join(f"{short_name(m['backbone'])} ({m['weights']})" for m in run.manifests)


def save_figure(figure: Figure, run: str, name: str) -> Path:
    """Write `figure` as figures/RUN/NAME.svg and .png; returns the PNG's path."""
    folder = figures_root() / plain(run)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
    figure.savefig(folder / f"{name}.png")
    return folder / f"{name}.png"


def show(figure: Figure, run: str, name: str, text: str) -> None:
    """Save `figure` (see `save_figure`) and display it in the notebook with `text` as its caption and alternative text."""
    data = base64.b64encode(save_figure(figure, run, name).read_bytes()).decode()
    size = figure.get_figwidth()
    plt.close(figure)
    shown = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text))
    alt = html.escape(text.replace("**", ""), quote=True)
    width = round(110 * size)  # px: the same size of letters in every figure
    image = f'<img width="{width}" alt="{alt}" src="data:image/png;base64,{data}">'
    display(HTML(f"<figure>{image}<figcaption>{shown}</figcaption></figure>"))


def table(frame: pd.DataFrame, decimals: int = 3) -> HTML:
    """A table for a notebook: rounded, escaped, without its index; the report page makes it sortable."""
    return HTML(frame.round(decimals).to_html(index=False, border=0, na_rep="–"))


def caption(run: Run, what: str, distance: str = "") -> str:
    """One figure's caption: what it shows, n, label, weights, failures and, for untrained weights, the tag."""
    from fmiqa_utils.datasets import label_note

    m = run.manifests
    models = ", ".join(
        f"{short_name(x['backbone'])} ({x['weights']}, normalize={x['normalize']}, {x['precision']})"
        for x in m
    )
    failed = sum(x["failures"] for x in m)
    n = f"n = {len(run.pairs)} pairs of {run.pairs['ref'].nunique()} references"
    lost = f", {failed} failed" if failed else ""
    note = label_note(run.dataset)
    text = f"{what} Dataset {run.dataset}, {n}{lost}. {models}. {note}"
    return f"**{run.tag[0].upper() + run.tag[1:]}.** {text}" if run.tag else text


# ---- what the data look like ----------------------------------------------------------------------------------------------


def example_grid(pairs: pd.DataFrame, columns: int = 5) -> Figure:
    """One row per reference (at most 4): the reference and distorted versions from best to worst label."""
    refs = list(dict.fromkeys(pairs["ref"]))[:4]
    figure, axes = plt.subplots(len(refs), columns, figsize=(FULL, 1.32 * len(refs)), squeeze=False)
    for shift, (row, ref) in enumerate(zip(axes, refs, strict=True)):
        own = pairs[pairs["ref"] == ref].sort_values("quality", ascending=False)
        step = len(own) / (columns - 1)
        places = [
            int((i + (0.35 * shift + 0.2) % 1) * step) for i in range(columns - 1)
        ]  # other distortions in every row
        chosen = own.iloc[places]
        _image(row[0], own["ref_path"].iloc[0], "reference")
        for ax, (_, pair) in zip(row[1:], chosen.iterrows(), strict=True):
            _image(ax, pair["dist_path"], f"{_brief(pair)}\nlabel {pair['label']:.3g}")
    return figure


def _image(ax: Axes, path: str, title: str) -> None:
    with Image.open(path) as image:
        ax.imshow(image.convert("RGB"))
    ax.set_title(title, fontsize=6.2, fontweight="normal", loc="center", pad=2)
    ax.set_axis_off()


def _brief(pair: pd.Series) -> str:
    kind = str(pair["distortion"]) or str(pair["dist"])
    kind = kind if len(kind) <= 22 else kind[:21] + "…"
    return kind if pd.isna(pair["level"]) else f"{kind}, level {pair['level']}"


def label_scatter(run: Run, feature: object, distance: str, variant: str = "published") -> Figure:
    """Distance against label for one feature of every backbone, one colour per reference family, with the rank trend."""
    rows = run.scores[
        (run.scores["feature"] == feature)
        & (run.scores["distance"] == distance)
        & (run.scores["variant"] == variant)
        & (run.scores["transform"] == "none")
    ]
    backbones = list(dict.fromkeys(rows["backbone"]))
    figure, axes = plt.subplots(
        1, len(backbones), figsize=(max(COLUMN, 2.6 * len(backbones)), 2.8), squeeze=False, sharey=True
    )
    for ax, backbone in zip(axes[0], backbones, strict=True):
        own = rows[rows["backbone"] == backbone].merge(run.pairs[["pair_id", "label"]], on="pair_id")
        ax.scatter(own["value"], own["label"], s=7, alpha=0.55, linewidth=0, color=family_colour(backbone))
        ax.set_title(f"{short_name(backbone)} ({own['weights'].iloc[0]})")
        ax.set_xlabel(
            f"{DISTANCE_NAMES[distance]} distance, {_feature_name(feature)}\n(larger is more distorted)"
        )
    kind = run.pairs["label_kind"].iloc[0]
    better = "lower" if kind == "dmos" else "higher"
    axes[0][0].set_ylabel(f"label ({kind}, {better} is better)")
    return figure


def _feature_name(feature: object) -> str:
    return f"block {feature}" if isinstance(feature, int) else str(feature)


def block_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table whose feature is a block's index, not "joint", "embedding" or "image"."""
    return table[[isinstance(feature, int | np.integer) for feature in table["feature"]]]


# ---- correlation tables -----------------------------------------------------------------------------------------------------


def layer_curves(
    table: pd.DataFrame, distance: str, statistic: str = "srcc", variant: str = "published"
) -> Figure:
    """Correlation per block with its band, one line per backbone; the embedding as a dashed line, PSNR and SSIM dotted.

    `table` is `correlation_table`'s; a band is drawn where the table has `STATISTIC_lo` and `STATISTIC_hi`.
    """
    figure, ax = plt.subplots(figsize=(FULL * 0.7, 3.4))
    own = table[(table["distance"] == distance) & (table["variant"] == variant)]
    blocks = block_rows(own)
    for (backbone, weights), line in blocks.groupby(["backbone", "weights"], sort=False, observed=True):
        line, colour = line.sort_values("feature"), family_colour(str(backbone))
        x = line["feature"].astype(object).astype(int)
        ax.plot(
            x,
            line[statistic],
            "o-",
            ms=3,
            lw=1.4,
            color=colour,
            label=f"{short_name(str(backbone))} ({weights}), blocks",
        )
        if f"{statistic}_lo" in line:
            ax.fill_between(
                x, line[f"{statistic}_lo"], line[f"{statistic}_hi"], color=colour, alpha=0.16, lw=0
            )
        embedding = table[(table["backbone"] == backbone) & (table["feature"] == "embedding")]
        for value in embedding[statistic]:
            ax.axhline(
                value, color=colour, lw=1.1, ls="--", label=f"{short_name(str(backbone))}, embedding (cosine)"
            )
    for name, style in (("psnr", ":"), ("ssim", "-.")):
        for value in table[table["distance"] == name][statistic]:
            ax.axhline(value, color=FAMILY_COLOURS["baseline"], lw=0.9, ls=style, label=DISTANCE_NAMES[name])
    ax.set_xlabel("block")
    ax.xaxis.set_major_locator(plt.MaxNLocator(integer=True))
    ax.set_ylabel(f"{STATISTIC_NAMES[statistic]}, higher is better")
    ax.set_title(f"{DISTANCE_NAMES[distance]}, {variant} form")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


STATISTIC_NAMES = {
    "srcc": "SRCC",
    "krcc": "KRCC",
    "plcc": "PLCC (raw)",
    "plcc_fit4": "PLCC (4-parameter logistic)",
    "srcc_within": "SRCC within reference (mean)",
}


def statistics_grid(table: pd.DataFrame, distance: str, variant: str = "published") -> Figure:
    """Four layer curves side by side: PLCC raw and fitted, KRCC, and the mean SRCC within references."""
    names = ["plcc", "plcc_fit4", "krcc", "srcc_within"]
    figure, axes = plt.subplots(1, 4, figsize=(FULL, 2.2), sharey=True)
    own = table[(table["distance"] == distance) & (table["variant"] == variant)]
    blocks = block_rows(own)
    for ax, name in zip(axes, names, strict=True):
        for backbone, line in blocks.groupby("backbone", sort=False, observed=True):
            line = line.sort_values("feature")
            colour = family_colour(str(backbone))
            ax.plot(
                line["feature"].astype(object).astype(int), line[name], "o-", ms=2.2, lw=1.1, color=colour
            )
            for value in table[(table["backbone"] == backbone) & (table["feature"] == "embedding")][name]:
                ax.axhline(value, color=colour, lw=0.9, ls="--")
        ax.set_title(
            STATISTIC_NAMES[name]
            .replace(" (4-parameter logistic)", " (4-par. logistic)")
            .replace(" (mean)", ""),
            fontsize=7,
        )
        ax.set_xlabel("block")
        ax.xaxis.set_major_locator(plt.MaxNLocator(4, integer=True))
    axes[0].set_ylabel("correlation, higher is better")
    return figure


def interval_plot(
    table: pd.DataFrame, labels: Sequence[str], title: str, statistic: str = "srcc", zero: str = ""
) -> Figure:
    """One row per line of `table`: the statistic as a dot with its interval; columns backbone, variant, STATISTIC, _lo, _hi.

    `zero`: what lies right of zero, for a plot of differences.
    """
    figure, ax = plt.subplots(figsize=(FULL * 0.72, 0.55 + 0.22 * len(table)))
    for y, (_, row) in enumerate(table.iterrows()):
        colour = family_colour(str(row["backbone"]))
        mark = MARKS.get(str(row.get("variant", "")), "o")
        ax.plot([row[f"{statistic}_lo"], row[f"{statistic}_hi"]], [y, y], color=colour, lw=1.6, alpha=0.55)
        hollow = row.get("variant") == "corrected"
        ax.plot(row[statistic], y, mark, ms=4.5, color=colour, mfc="white" if hollow else colour)
    ax.set_yticks(range(len(table)), list(labels))
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.grid(True, axis="x")
    ax.grid(False, axis="y")
    if zero:
        ax.axvline(0, color="#444444", lw=0.8)
        ax.set_xlabel(f"difference in SRCC with 95 % interval\n{zero}")
    else:
        ax.set_xlabel(f"{STATISTIC_NAMES[statistic]} with 95 % interval over references\n(higher is better)")
    figure.suptitle(title, x=0.01, ha="left", fontsize=9, fontweight="bold")
    return figure


def type_heatmap(table: pd.DataFrame, title: str) -> Figure:
    """SRCC per distortion type (rows) and column of `table` (a pivot), with the numbers written in."""
    figure, ax = plt.subplots(figsize=(min(FULL, 2.6 + 0.55 * table.shape[1]), 0.9 + 0.19 * len(table)))
    sns.heatmap(
        table,
        ax=ax,
        vmin=-1,
        vmax=1,
        center=0,
        cmap="vlag_r",
        annot=True,
        fmt=".2f",
        annot_kws={"size": 5.8},
        linewidths=0.4,
        cbar_kws={"label": "SRCC, higher is better", "shrink": 0.6},
    )
    ax.set(xlabel="", ylabel="")
    ax.tick_params(length=0)
    ax.set_title(title)
    return figure
