"""The figures of the published results; what they show is computed by the functions at the end of the module."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fmiqa_utils.datasets.registry import DATASETS
from fmiqa_utils.distances.table import measure_name
from fmiqa_utils.errors import InputError
from fmiqa_utils.figures.style import COLUMN, FULL, INK, add_legend, family_colour, plain_text
from fmiqa_utils.published.results import Published, moved_table, oriented, parse_method
from fmiqa_utils.statistics.bootstrap import bootstrap_srcc, interval
from fmiqa_utils.statistics.coefficients import FloatArray, srcc

ORDER = ("live", "tid2013", "pipal")
SHOWN_BASELINES = ("psnr", "msssim", "fsim", "lpips", "lpips_vgg", "dists", "stlpips_alex")
SHOWN_TRANSFORMS = {
    "tra-1": (">", "shifted by 1 %"),
    "sca-1": ("s", "scaled by 1 %"),
    "rot-1": ("D", "rotated by 1°"),
}
RESAMPLED = ("dinov1_cos", "dinov1_l2")  # against the embedding of the same model
ROW = 0.165  # inches, the height of a row of dots
CLIMB = 3  # ranks; a change of so many or more is drawn as a thick line
SLOPES = 4.6  # inches, the width of the slopes with names on both sides


def srcc_dots(table: pd.DataFrame) -> Figure:
    """Published SRCC, a panel per dataset: a row per model (intermediate features, embedding) and per baseline.

    `table`, here and below: from `published_correlations` or `published_table`.
    """
    rows = main_methods(table)
    models = _ranked(rows.replace({"kind": {"embedding": "intermediate"}}), "model")
    figure, axes = _panels(rows, len(models))
    for ax, dataset, part in _each(axes, rows, "model", models):
        kind, cosine = part["kind"], part["distance"] == "cos"
        ends = part[cosine].groupby(["y", "colour"])["srcc"].agg(["min", "max"]).reset_index()
        ax.hlines(ends["y"], ends["min"], ends["max"], colors=list(ends["colour"]), lw=1.2)
        _dots(ax, part[(kind == "intermediate") & ~cosine], "srcc", "other distances", marker="|", s=26)
        _dots(ax, part[kind == "embedding"], "srcc", "embedding, cosine", hollow=True)
        _dots(ax, part[(kind == "intermediate") & cosine], "srcc", "intermediate features, cosine")
        _dots(ax, part[kind == "baseline"], "srcc", "baseline", marker="s", s=20)
        _finish(ax, dataset, models, "SRCC, higher is better")
    _legend(figure, axes[0])
    return figure


def rank_slopes(table: pd.DataFrame, dataset: str = "pipal") -> Figure:
    """Ranking by pooled SRCC (left) and by mean SRCC within references (right), one line per model or baseline."""
    ranks = within_ranks(table, dataset)
    figure, ax = plt.subplots(figsize=(SLOPES, 0.55 + ROW * len(ranks)))
    for _, row in ranks.iterrows():
        ends = [row["rank_pooled"], row["rank_within"]]
        width = 2.0 if np.ptp(ends) >= CLIMB else 0.9
        ax.plot(
            [0, 1],
            ends,
            "o-",
            ms=3.5,
            lw=width,
            color=family_colour(row["family"]),
            label=plain_text(row["name"]),
        )
        left, right = (
            f"{plain_text(row['name'])}  {row['srcc']:.3f}",
            f"{row['srcc_within']:.3f}  {plain_text(row['name_within'])}",
        )
        ax.text(-0.08, ends[0], left, ha="right", va="center", size=6.3)
        ax.text(1.08, ends[1], right, ha="left", va="center", size=6.3)
    ax.set(xlim=(-0.05, 1.05), ylim=(len(ranks) + 0.5, 0.5), yticks=[])
    ax.set_xticks([0, 1], ["over all\nimages", "within\nreferences"])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def resampling_difference(samples: dict[str, dict[str, FloatArray]]) -> Figure:
    """How certain a difference in SRCC is when images or references are resampled: a panel per method.

    `samples`: method → `difference_samples`. A bar below each distribution is its 95 % interval.
    """
    size = (FULL if len(samples) > 1 else COLUMN, 2.4)
    figure, axes = plt.subplots(1, len(samples), figsize=size, sharex=True, sharey=True, squeeze=False)
    together = np.concatenate([values for drawn in samples.values() for values in drawn.values()])
    bins = np.linspace(together.min(), together.max(), 61)
    step = 0.06 * max(np.histogram(drawn["images"], bins)[0].max() for drawn in samples.values())
    for ax, (method, drawn) in zip(axes[0], samples.items(), strict=True):
        colour = family_colour(parse_method(method).family)
        for k, (name, alpha, line) in enumerate((("images", 0.3, "-"), ("references", 0.0, "--"))):
            counts, edges = _filled_bins(drawn[name], bins)
            face = {"fill": True, "fc": (colour, alpha), "ec": colour, "ls": line, "lw": 1.1}
            ax.stairs(counts, edges, label=f"{name} drawn", **face)
            ax.plot(
                np.ravel(interval(drawn[name][:, None])), [-step * (k + 1)] * 2, ls=line, lw=2, color=colour
            )
        ax.axvline(0, color=INK, lw=0.9)
        ax.plot(drawn["all"], [0], "^", ms=5, color=INK, ls="", label="all images")
        ax.set_title(plain_text(print_name(method)), fontsize=8)
        ax.xaxis.set_major_locator(MaxNLocator(5))
    axes[0][0].set_ylabel("resamples")
    text = "difference in SRCC from the embedding\n(right of zero: intermediate features are better)"
    figure.supxlabel(text, fontsize=8.5)
    add_legend(figure, *axes[0][0].get_legend_handles_labels())
    return figure


def fitted_dumbbells(table: pd.DataFrame) -> Figure:
    """Raw PLCC (hollow) and PLCC after the 5-parameter logistic (filled) of every method."""
    rows = main_methods(table)
    names = _ranked(rows, "name")
    figure, axes = _panels(rows, len(names), 0.135)
    for ax, dataset, part in _each(axes, rows, "name", names):
        ax.hlines(part["y"], part["plcc"], part["plcc_fit5"], colors=list(part["colour"]), lw=1.1)
        _dots(ax, part, "plcc", "raw", hollow=True, s=13)
        _dots(ax, part, "plcc_fit5", "after a 5-parameter logistic", s=13)
        _finish(ax, dataset, names, "PLCC, higher is better")
    axes[0].tick_params(axis="y", labelsize=6.3)
    _legend(figure, axes[0])
    return figure


def robustness_dots(table: pd.DataFrame) -> Figure:
    """SRCC without (filled) and with the three 1 % transforms (hollow) of the distorted image."""
    rows = robustness_rows(table)
    names = _ranked(rows, "name")
    figure, axes = _panels(rows, len(names))
    for ax, dataset, part in _each(axes, rows, "name", names):
        ax.hlines(
            part["y"],
            part[list(SHOWN_TRANSFORMS)].min(axis=1),
            part["srcc"],
            colors=list(part["colour"]),
            lw=0.8,
        )
        for transform, (marker, label) in SHOWN_TRANSFORMS.items():
            _dots(ax, part, transform, label, hollow=True, marker=marker, s=13)
        _dots(ax, part, "srcc", "not moved", s=24)
        _finish(ax, dataset, names, "SRCC, higher is better")
    _legend(figure, axes[0])
    return figure


# ---- what the figures show -------------------------------------------------------------------------------------------


def main_methods(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that the figures show, with `name` for print: foundation models and `SHOWN_BASELINES`, no transform.

    Left out: adversarially tuned models, metrics trained on KADID-10k, distances between distributions of VGG and
    EfficientNet features, and methods measured on fewer datasets than others. Raises InputError if nothing is left.
    """
    shown = table["method"].isin(SHOWN_BASELINES) | (table["kind"] != "baseline") & (
        table["family"] != "other"
    )
    rows = table[shown & (table["transform"] == "none")]
    if rows.empty:
        raise InputError("the table holds no published result of a foundation model or a baseline.")
    rows = rows.assign(name=[print_name(method) for method in rows["method"]])
    measured = rows.groupby("name")["dataset"].transform("nunique")
    return rows[measured == measured.max()]


def print_name(method: str) -> str:
    """ "DINOv1 ViT-B/16, SKLD", "DINOv1 ViT-B/16, embedding" or "LPIPS-Alex"."""
    parts = parse_method(method)
    if parts.kind == "baseline":
        return parts.model
    return f"{parts.model}, {'embedding' if parts.kind == 'embedding' else measure_name(parts.distance)}"


def dataset_title(dataset: str) -> str:
    """ "LIVE R2": a dataset's name in print."""
    return DATASETS[dataset].title.partition(" (")[0] if dataset in DATASETS else dataset


def datasets_of(rows: pd.DataFrame) -> list[str]:
    """The datasets of a table, the published ones in the order of the paper first."""
    present = list(dict.fromkeys(rows["dataset"]))
    return [d for d in ORDER if d in present] + [d for d in present if d not in ORDER]


def within_ranks(table: pd.DataFrame, dataset: str = "pipal") -> pd.DataFrame:
    """Models and baselines ranked over all images and within references, each model by the distance that is best for that ranking.

    Columns of the row that is best over all images, with `name`, `srcc` and rank_pooled; then name_within, srcc_within and
    rank_within of the distance that is best within references. Embeddings are left out. The best over all images comes first.
    """
    rows = main_methods(table[table["dataset"] == dataset])
    rows = rows[rows["kind"] != "embedding"]
    pooled, within = (
        rows.sort_values(s, ascending=False).drop_duplicates("model") for s in ("srcc", "srcc_within")
    )
    within = within[["model", "name", "srcc_within"]].rename(columns={"name": "name_within"})
    ranks = pooled.drop(columns="srcc_within").merge(within, on="model")
    for rank, statistic in (("rank_pooled", "srcc"), ("rank_within", "srcc_within")):
        ranks[rank] = ranks[statistic].rank(ascending=False, method="first").astype(int)
    return ranks


def difference_samples(
    published: Published,
    method: str,
    control: str = "embed_dinov1_cos",
    dataset: str = "tid2013",
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, FloatArray]:
    """SRCC of `method` minus SRCC of `control`: on "all" images [1], with "images" or "references" drawn [n_resamples]."""
    table = published.tables[dataset]
    values, quality = oriented(table, [method, control]), table["quality"].to_numpy(dtype=float)
    samples = {"all": srcc(values, quality)[None]}
    for name, clusters in (("images", np.arange(len(table))), ("references", table["ref"].str.lower())):
        samples[name] = bootstrap_srcc(values, quality, clusters, n_resamples, seed)
    return {name: pair[:, 0] - pair[:, 1] for name, pair in samples.items()}


def resampling_intervals(
    published: Published, methods: tuple[str, ...] = RESAMPLED, dataset: str = "tid2013"
) -> pd.DataFrame:
    """Difference in SRCC to the embedding with its 95 % interval: one row with images resampled, one with references.

    The packaged table is `resampling_intervals(read_published(FOLDER))` with its source.
    """
    rows = []
    for method in methods:
        samples = difference_samples(published, method, dataset=dataset)
        for drawn in ("images", "references"):
            lower, upper = (float(end[0]) for end in interval(samples[drawn][:, None]))
            rows.append((dataset, method, drawn, float(samples["all"][0]), lower, upper))
    return pd.DataFrame(rows, columns=["dataset", "method", "drawn", "difference", "lower", "upper"])


def robustness_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Cosine of each foundation model and the baselines that were measured on moved images: srcc and `SHOWN_TRANSFORMS`."""
    main = main_methods(table)
    main = main[(main["kind"] == "baseline") | (main["distance"] == "cos")]
    moved = moved_table(table).reindex(columns=["dataset", "method", *SHOWN_TRANSFORMS])
    return main.merge(moved, on=["dataset", "method"])


# ---- rows of dots ----------------------------------------------------------------------------------------------------


def _ranked(rows: pd.DataFrame, column: str) -> list[str]:
    """Names from top to bottom: kind by kind with "" between kinds, sorted by the best SRCC on the last dataset of each."""
    ranked: list[str] = []
    for kind in ("intermediate", "embedding", "baseline"):
        part = rows[rows["kind"] == kind]
        best = part.pivot_table(index=column, columns="dataset", values="srcc", aggfunc="max")
        last = best.reindex(columns=datasets_of(rows)).ffill(axis=1).iloc[:, -1]
        names = last.sort_values(ascending=False).index.tolist()
        ranked += ["", *names] if ranked and names else names
    return ranked


def _panels(rows: pd.DataFrame, count: int, height: float = ROW) -> tuple[Figure, NDArray[np.object_]]:
    k = rows["dataset"].nunique()
    size = (COLUMN if k == 1 else FULL, 0.75 + height * count)
    apart = ConstrainedLayoutEngine(w_pad=0.09)  # room for the numbers at the ends of neighbouring axes
    figure, axes = plt.subplots(1, k, figsize=size, sharey=True, squeeze=False, layout=apart)
    return figure, axes[0]


def _each(
    axes: NDArray[np.object_], rows: pd.DataFrame, column: str, names: list[str]
) -> list[tuple[Axes, str, pd.DataFrame]]:
    """(axes, dataset, the rows of the dataset with `y` and `colour`) for every panel."""
    placed = rows.assign(y=rows[column].map(names.index), colour=rows["family"].map(family_colour))
    return [(ax, d, placed[placed["dataset"] == d]) for ax, d in zip(axes, datasets_of(rows), strict=True)]


def _dots(
    ax: Axes,
    rows: pd.DataFrame,
    column: str,
    label: str,
    hollow: bool = False,
    marker: str = "o",
    s: int = 24,
) -> None:
    colours = rows["colour"].tolist()
    fill = {"facecolors": "white", "edgecolors": colours} if hollow else {"c": colours}
    ax.scatter(rows[column], rows["y"], marker=marker, s=s, zorder=3, label=label, **fill)


def _finish(ax: Axes, dataset: str, names: list[str], xlabel: str) -> None:
    ax.set_title(dataset_title(dataset))
    ax.set_xlabel(xlabel)
    ax.set_yticks([y for y, name in enumerate(names) if name], [plain_text(name) for name in names if name])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _filled_bins(values: FloatArray, bins: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """Counts and edges without the empty bins at both ends."""
    counts, edges = np.histogram(values, bins)
    first, last = np.flatnonzero(counts)[[0, -1]]
    return counts[first : last + 1], edges[first : last + 2]


def _legend(figure: Figure, ax: Axes) -> None:
    """The rows carry the colours, the legend explains the shapes."""
    handles, labels = ax.get_legend_handles_labels()
    add_legend(figure, handles, labels)
    for handle in figure.legends[0].legend_handles:
        assert isinstance(handle, PathCollection)
        hollow = np.allclose(np.asarray(handle.get_facecolor())[..., :3], 1)
        handle.set(edgecolor=INK, facecolor="white" if hollow else INK)
