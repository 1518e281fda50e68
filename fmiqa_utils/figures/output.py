"""What surrounds a figure in a notebook: titles, captions, saving, showing, and tables."""

import base64
import html
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, display
from matplotlib.figure import Figure

from fmiqa_utils.datasets.tables import label_note
from fmiqa_utils.distances.table import measure_name
from fmiqa_utils.figures.scatter import unmoved_scores
from fmiqa_utils.paths import figures_root
from fmiqa_utils.scores.names import GROUP, feature_name, key_of, series_keys, series_names
from fmiqa_utils.scores.run_names import plain
from fmiqa_utils.scores.runs import Run, short_name

FEW_NAMES = 3  # models that a title names; more are counted


def model_names(run: Run) -> str:
    """The models for a title: "vit_tiny_patch16_224, resnet10t (untrained)", or "12 models (untrained)"."""
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
    width = round(110 * size)  # px, so that letters have the same size in every figure
    image = f'<img width="{width}" alt="{alt}" src="data:image/png;base64,{data}">'
    display(HTML(f"<figure>{image}<figcaption>{shown}</figcaption></figure>"))


def table(frame: pd.DataFrame, decimals: int = 3) -> HTML:
    """A table for a notebook: rounded, escaped, without its index; the report page makes it sortable."""
    return HTML(frame.round(decimals).to_html(index=False, border=0, na_rep="–"))


def caption(run: Run, what: str) -> str:
    """One figure's caption: what it shows, n, label, weights, failures and, for untrained weights, the tag."""
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
    """A sentence for a caption: which series do not have this distance; "" if all have it."""
    rows = unmoved_scores(run, feature, distance, variant)
    present = set(series_keys(rows))
    lacking = [name for key, name in series_names(run.scores).items() if key not in present]
    if not lacking:
        return ""
    what = f"{measure_name(distance)} in the {variant} form, {feature_name(feature)}"
    return f"Not drawn, because they have no {what}: {', '.join(lacking)}."
