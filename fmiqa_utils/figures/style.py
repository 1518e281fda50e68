"""What all figures share: the style, colours and marks, and functions that draw text unchanged and inside the figure."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from fmiqa_utils.scores.names import Key

COLUMN, FULL = 3.5, 7.2  # inches, one column of a paper and its full width
INK, GREY = "#222222", "#7F7F7F"
FAMILY_COLOURS = {  # Okabe and Ito's palette, safe for colour-blind readers
    "dino": "#0072B2",
    "dinov2": "#56B4E9",
    "dinov3": "#004C6D",
    "clip": "#D55E00",
    "convnext": "#009E73",
    "imagenet": "#CC79A7",
    "baseline": GREY,
    "loda": "#E69F00",
    "other": "#5B4E8C",
}
DASHES = ("-", "--", "-.", ":", (0, (7, 2)), (0, (4, 1, 1, 1, 1, 1)))  # of the models of one family
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "p")
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
PER_INCH = 11.5  # characters of the largest bold text
STATISTIC_NAMES = {
    "srcc": "SRCC",
    "krcc": "KRCC",
    "plcc": "PLCC (raw)",
    "plcc_fit4": "PLCC (4-parameter logistic)",
    "srcc_within": "SRCC within reference (mean)",
}
NOTHING = "No correlation is defined here: it takes at least two pairs, and values and labels that differ."


class Look(NamedTuple):
    """How a series is drawn: the colour of its family, and dashes and marker of the model."""

    color: str
    linestyle: str | tuple[int, tuple[int, ...]]
    marker: str


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
    from fmiqa_utils.backbones.catalogue import BACKBONES, family_of

    family = BACKBONES[backbone].family if backbone in BACKBONES else family_of(backbone)
    return FAMILY_COLOURS[family]


def looks(keys: Iterable[Key]) -> dict[Key, Look]:
    """A look for every series: the family sets the colour, the position within the family sets dashes and marker."""
    styles: dict[Key, Look] = {}
    seen: dict[str, int] = {}
    for key in keys:
        colour = family_colour(key[0])
        i = seen.get(colour, 0)
        seen[colour] = i + 1
        marker = MARKERS[(i + i // len(MARKERS)) % len(MARKERS)]
        styles[key] = Look(colour, DASHES[i % len(DASHES)], marker)
    return styles


def plain_text(text: object) -> str:
    """`text` for matplotlib: dollar signs are escaped, and line breaks become spaces."""
    return " ".join(str(text).split()).replace("$", r"\$")


def wrapped(text: object, inches: float, size: float = 9) -> str:
    """`plain_text` in lines that fit into `inches` at `size` points."""
    width = max(8, int(inches * PER_INCH * 9 / size))
    pieces = [piece for word in str(text).split() for piece in _pieces(word, width)]
    lines = textwrap.fill(" ".join(pieces), width, break_on_hyphens=False)
    return lines.replace("$", r"\$")


def _pieces(word: str, width: int) -> list[str]:
    """A word that does not fit on a line, cut after an underscore, dot, dash or slash where it has one."""
    if len(word) <= width:
        return [word]
    cut = max(word.rfind(mark, 0, width) for mark in "_.-/") + 1 or width
    return [word[:cut], *_pieces(word[cut:], width)]


def set_title(figure: Figure, text: str) -> None:
    """The figure's title, on the left, wrapped to the width of the figure; the figure grows in height for further lines."""
    lines = wrapped(text, figure.get_figwidth() - 0.1)
    figure.set_figheight(figure.get_figheight() + 0.16 * lines.count("\n"))
    figure.suptitle(lines, x=0.01, ha="left", fontsize=9, fontweight="bold")


def add_legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """A legend below the panels, in as many columns as fit; the figure grows by its height.

    Labels are drawn as they are, also those that start with an underscore.
    """
    if not handles:
        return
    numbers = [str(i) for i in range(len(handles))]
    for columns in range(min(len(handles), 6), 0, -1):
        legend = figure.legend(
            list(handles), numbers, loc="outside lower center", ncols=columns, columnspacing=1.4
        )
        for text, label in zip(legend.get_texts(), labels, strict=True):
            text.set_text(plain_text(label))
        box = legend.get_window_extent()
        if columns == 1 or box.width < 0.98 * figure.bbox.width:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)


def say(ax: Axes, sentence: str) -> None:
    """One sentence in place of a panel's content."""
    width = max(1.0, ax.get_figure(root=True).get_figwidth() - 1)  # type: ignore[union-attr]
    ax.text(0.5, 0.5, wrapped(sentence, width, 8), transform=ax.transAxes, ha="center", va="center", size=8)
    ax.grid(False)
    ax.set(xticks=[], yticks=[])


def spread(values: Sequence[float], gap: float) -> list[float]:
    """`values` shifted as little as needed so that neighbours are at least `gap` apart; the order stays."""
    order = np.argsort(values, kind="stable")
    placed = np.asarray(values, dtype=float)[order]
    blocks: list[list[float]] = []  # [sum of (value − rank within the block · gap), count]
    for value in placed:
        blocks.append([value, 1])
        while len(blocks) > 1:
            (before, n), (after, m) = blocks[-2:]
            if before / n + (n - 1) * gap / 2 + gap <= after / m - (m - 1) * gap / 2:
                break
            blocks[-2:] = [[before + after, n + m]]
    middle = [total / n + gap * (i - (n - 1) / 2) for total, n in blocks for i in range(int(n))]
    result = np.empty(len(placed))
    result[order] = middle
    return [float(v) for v in result]


def distance_axis(ax: Axes, values: np.ndarray, ticks: int = 5) -> None:
    """A logarithmic x axis for distances that span a decade or more; where some are 0, linear below the smallest positive one."""
    known = values[np.isfinite(values)]
    positive = known[known > 0]
    ax.xaxis.set_major_locator(MaxNLocator(ticks - 1))
    if len(positive) < len(known) * 0.5 or len(positive) == 0 or positive.max() < 10 * positive.min():
        return
    if len(positive) < len(known) or (known < 0).any():
        ax.set_xscale("symlog", linthresh=float(positive.min()), linscale=0.5)
        first, last = np.log10([positive.min(), positive.max()])
        powers = np.unique(np.linspace(np.ceil(first), np.floor(last), max(ticks - 2, 1)).round())
        ax.set_xticks([0, *(10.0**powers)])
    else:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(numticks=ticks))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(_power))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _power(value: float, _: object = None) -> str:
    """0.001, 10 and 10⁻⁵, in plain letters."""
    if value == 0 or 1e-4 < abs(value) < 1e4:
        return f"{value:g}"
    return f"10{str(round(np.log10(value))).translate(RAISED)}"
