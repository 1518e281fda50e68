"""The ablation behind LoDa's title: does a larger frozen ViT help, and does it without local features?"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from fmiqa_utils.errors import InputError
from fmiqa_utils.figures.output import save_figure
from fmiqa_utils.figures.style import COLUMN, family_colour, use_style
from fmiqa_utils.files.storage import write_atomically
from fmiqa_utils.loda.counting import Progress
from fmiqa_utils.loda.model import check_names
from fmiqa_utils.loda.options import Options
from fmiqa_utils.loda.run import train
from fmiqa_utils.paths import figures_root
from fmiqa_utils.progress import silent
from fmiqa_utils.scores.run_names import plain

VITS = (
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "vit_small_patch16_224.augreg_in21k_ft_in1k",
    "vit_base_patch16_224.augreg2_in21k_ft_in1k",
)
WORDS = {True: "with injection", False: "without injection"}


def ablate_vits(
    table: pd.DataFrame,
    options: Options,
    vits: Sequence[str] = VITS,
    splits: Sequence[int] = (0,),
    *,
    progress: Progress = silent,
    **how: Any,
) -> pd.DataFrame:
    """Train every ViT with and without injection: vit, injection, split, n, srcc, plcc, plcc_fit4, krcc, weights.

    `progress` is called for every model in turn. Raises InputError, before any training, for a ViT that is unknown or named twice.
    """
    twice = [v for v in vits if list(vits).count(v) > 1]
    if twice:
        raise InputError(f"--vits names {twice[0]} twice: name every ViT once.")
    check_names(*vits)
    rows = []
    for vit in vits:
        for inject in (True, False):
            model_progress = partial(_of_model, progress, f"{vit} {WORDS[inject]}")
            vit_options = replace(options, vit=vit, inject=inject)
            for result in train(table, vit_options, splits=splits, progress=model_progress, **how):
                rows.append({"vit": vit, "injection": WORDS[inject], **result})
    return pd.DataFrame(rows).drop(columns="folder")


def _of_model(progress: Progress, model: str, text: str, done: int, total: int) -> None:
    progress(f"{model}, {text.removeprefix('LoDa, ')}" if text != "resize" else text, done, total)


def ablation_figure(result: pd.DataFrame, title: str) -> Figure:
    """Test SRCC by frozen ViT, a line with and one without injection: median over splits, bars from lowest to highest."""
    figure, ax = plt.subplots(figsize=(COLUMN, 2.6))
    names = list(result["vit"].unique())
    for offset, (words, style, shade) in enumerate(
        ((WORDS[True], "o-", family_colour("imagenet")), (WORDS[False], "s--", "#777777"))
    ):
        values = (
            result[result["injection"] == words]
            .groupby("vit", sort=False)["srcc"]
            .agg(["median", "min", "max"])
        )
        values = values.reindex(names)
        x = [i + 0.06 * (offset - 0.5) for i in range(len(names))]
        ax.vlines(x, values["min"], values["max"], color=shade, alpha=0.5, lw=2)
        ax.plot(x, values["median"], style, color=shade, ms=4.5, label=words)
    ax.set_xticks(range(len(names)), [n.split("_patch")[0].replace("vit_", "ViT ") for n in names])
    ax.set_xlim(-0.4, len(names) - 0.6)
    ax.set_ylabel("test SRCC, higher is better")
    ax.set_title(title)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def ablation_folder(dataset: str) -> Path:
    """Where an ablation's figure and table go."""
    return figures_root() / plain(f"loda_{dataset}")


def save_ablation(result: pd.DataFrame, dataset: str) -> list[Path]:
    """figures/loda_DATASET/ablation.png, .svg and .csv."""
    use_style()
    folder = ablation_folder(dataset)
    figure = ablation_figure(result, f"LoDa on {dataset} ({result['weights'].iloc[0]})")
    picture = save_figure(figure, folder.name, "ablation")
    return [picture, write_atomically(folder / "ablation.csv", result.to_csv(index=False).encode())]
