"""What a notebook calls: one function per figure, each returning the matplotlib Figure; saving, captioning and showing are apart."""

import base64
import html
import re
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fmiqa_utils.statistics.coefficients import srcc
from fmiqa_utils.figures.layers import (
    BANDS,
    MARKS,
    STATISTIC_NAMES,
    block_rows,
    curves_note,
    interval_plot,
    layer_curves,
    statistics_grid,
    type_heatmap,
)
from fmiqa_utils.figures.style import (
    COLUMN,
    FAMILY_COLOURS,
    FULL,
    INK,
    distance_axis,
    family_colour,
    plain_text,
    say,
    set_title,
    use_style,
    wrapped,
)
from fmiqa_utils.errors import InputError
from fmiqa_utils.datasets.images import read_rgb
from fmiqa_utils.scores.names import (
    GROUP,
    MEASURES,
    Key,
    feature_name,
    key_of,
    measure_name,
    series_keys,
    series_names,
)
from fmiqa_utils.paths import figures_root
from fmiqa_utils.scores.runs import Run, plain, short_name

__all__ = ["BANDS", "COLUMN", "DISTANCE_NAMES", "FAMILY_COLOURS", "FULL", "MARKS", "STATISTIC_NAMES"]
__all__ += [
    "block_rows",
    "caption",
    "curves_note",
    "example_grid",
    "family_colour",
    "first_series",
    "interval_plot",
]
__all__ += ["label_scatter", "layer_curves", "missing_series", "model_names", "save_figure", "show"]
__all__ += ["statistics_grid", "table", "type_heatmap", "use_style"]

DISTANCE_NAMES = MEASURES
FEW_NAMES = 3  # models that a title names; more are counted
BINS, PER_BIN = 10, 8  # of the trend in a scatter: equally many pairs each, and at least so many


def model_names(run: Run) -> str:
    """What stands in a title: "vit_tiny_patch16_224, resnet10t (untrained)", or "12 models (untrained)"."""
    weights = list(dict.fromkeys(str(m["weights"]) for m in run.manifests))
    together = len(weights) == 1
    names = [short_name(m["backbone"]) + ("" if together else f" ({m['weights']})") for m in run.manifests]
    names = list(dict.fromkeys(names))
    if len(names) > FEW_NAMES:
        names = [f"{len(names)} models"]
        together = True
    return ", ".join(names) + (f" ({', '.join(weights)})" if together else "")


def first_series(run: Run) -> str:
    """The name in print of the run's first backbone, weights and normalization."""
    return series_names(run.scores)[key_of(run.manifests[0][name] for name in GROUP)]


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


def caption(run: Run, what: str) -> str:
    """One figure's caption: what it shows, n, label, weights, failures and, for untrained weights, the tag."""
    from fmiqa_utils.datasets.tables import label_note

    settings: dict[str, list[str]] = {}
    for m in run.manifests:
        how = f"({m['weights']}, normalize={m['normalize']}, {m['precision']})"
        settings.setdefault(how, []).append(short_name(m["backbone"]))
    models = "; ".join(f"{', '.join(names)} {how}" for how, names in settings.items())
    failed = run.failures["pair_id"].nunique() if len(run.failures) else 0
    n = f"n = {len(run.pairs)} pairs of {run.pairs['ref'].nunique()} references"
    lost = f", {failed} failed" if failed else ""
    note = label_note(run.dataset)
    text = f"{what} Dataset {run.dataset}, {n}{lost}. {models}. {note}"
    return f"**{run.tag[0].upper() + run.tag[1:]}.** {text}" if run.tag else text


def missing_series(run: Run, feature: object, distance: str, variant: str = "published") -> str:
    """A sentence for a caption on the series that do not have this distance; "" where all have it."""
    rows = _scores(run, feature, distance, variant)
    present = set(series_keys(rows))
    lacking = [name for key, name in series_names(run.scores).items() if key not in present]
    if not lacking:
        return ""
    what = f"{measure_name(distance)} in the {variant} form, {feature_name(feature)}"
    return f"Not drawn, since they have no {what}: {', '.join(lacking)}."


# ---- what the data look like ----------------------------------------------------------------------------------------------


def example_grid(pairs: pd.DataFrame, columns: int = 5) -> Figure:
    """One row per reference (at most 4): the reference and distorted versions from best to worst label."""
    refs = list(dict.fromkeys(pairs["ref"]))[:4]
    figure, axes = plt.subplots(len(refs), columns, figsize=(FULL, 1.4 * len(refs)), squeeze=False)
    for shift, (row, ref) in enumerate(zip(axes, refs, strict=True)):
        own = pairs[pairs["ref"] == ref].sort_values("quality", ascending=False)
        chosen = own.iloc[_places(len(own), columns - 1, shift)]
        _image(row[0], own["ref_path"].iloc[0], "reference")
        for ax, (_, pair) in zip(row[1:], chosen.iterrows(), strict=False):
            _image(ax, pair["dist_path"], _brief(pair))
        for ax in row[1 + len(chosen) :]:
            ax.set_axis_off()
    return figure


def _places(n: int, wanted: int, shift: int) -> list[int]:
    """`wanted` places among `n` evenly spaced, all of them where there are no more; `shift` varies them from row to row."""
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


# ---- distance against label -------------------------------------------------------------------------------------------


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
        mine = feature.get(key) if isinstance(feature, Mapping) else feature
        rows = _scores(run, mine, distance, variant, key)
        if len(rows):
            panels.append((key, mine, rows))
    if isinstance(feature, Mapping) and len({mine for _, mine, _ in panels}) == 1:
        feature = panels[0][1]
    if not panels:
        return _no_scatter(f"No model has {measure_name(distance)}, {variant} form, {feature_name(feature)}.")
    columns = min(len(panels), 4)
    lines = -(-len(panels) // columns)
    width = max(COLUMN, min(FULL, 2.6 * columns))
    figure, axes = plt.subplots(
        lines, columns, figsize=(width, 0.75 + 1.95 * lines), squeeze=False, sharey=True
    )
    for ax, (key, mine, rows) in zip(axes.flat, panels, strict=False):
        _scatter(
            ax,
            rows.merge(run.pairs[["pair_id", "label", "quality"]], on="pair_id"),
            key,
            5 if columns < 3 else 3,
        )
        name = names[key] if not isinstance(feature, Mapping) else f"{names[key]}, {feature_name(mine)}"
        ax.set_title(wrapped(name, (width - 0.5) / columns - 0.15, 7.5), fontsize=7.5)
    for ax in list(axes.flat)[len(panels) :]:
        ax.remove()
    low, high = run.pairs["label"].min(), run.pairs["label"].max()
    room = (high - low) or 1.0
    axes.flat[0].set_ylim(low - 0.06 * room, high + 0.22 * room)  # above the points stands the SRCC
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


def _scores(run: Run, feature: object, distance: str, variant: str, key: Key | None = None) -> pd.DataFrame:
    """The unmoved scores of one column, of every series or of one."""
    s = run.scores
    chosen = (s["distance"] == distance) & (s["variant"] == variant) & (s["transform"] == "none")
    rows = s[chosen & (s["feature"] == feature)]
    return rows if key is None else rows[[key_of(k) == key for k in rows[GROUP].itertuples(index=False)]]


def _scatter(ax: Axes, rows: pd.DataFrame, key: Key, ticks: int) -> None:
    """Points, trend and SRCC of one series; above the points there is room for the text."""
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
