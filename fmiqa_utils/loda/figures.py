"""The figures of the LoDa chapter, with the style and colours of all other figures."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from fmiqa_utils.figures.style import (
    COLUMN,
    DASHES,
    FULL,
    INK,
    MARKERS,
    add_legend,
    family_colour,
    plain_text,
    say,
    set_title,
)
from fmiqa_utils.loda.data import normalized, resized
from fmiqa_utils.loda.model import GRID, HEADS, SIZE, LoDa
from fmiqa_utils.statistics.logistic import fit_logistic

FROZEN, TRAINED = "#dfe3ea", "#f6cf9b"
NO_CORRELATION = 0.375  # the loss ½ (¼ · 2 + ¼ · 1) of predictions without any correlation


def architecture(model: LoDa) -> Figure:
    """A diagram of LoDa, drawn from a model: what is frozen, what is trained, and the shapes in between."""
    vit, depth = model.vit, len(model.vit.blocks)
    stages = len(model.learner.conv) if model.inject else 0
    n_tokens, dim = vit.pos_embed.shape[1], vit.embed_dim
    trained = sum(p.numel() for p in model.trainable())
    figure, ax = plt.subplots(figsize=(FULL, 2.5))
    ax.set(xlim=(-0.5, 100.5), ylim=(0, 40))
    ax.axis("off")
    ax.grid(False)
    _box(ax, 0, 13, 11, 9, f"image\n{SIZE} × {SIZE} px", "white")
    _box(ax, 18, 23, 15, 10, f"patch embedding\n{n_tokens} × {dim}", FROZEN)
    _box(ax, 18, 2, 15, 10, f"CNN\n{stages} stages", FROZEN)
    _box(
        ax,
        40,
        2,
        19,
        10,
        f"extractor: convolutions,\npool {GRID}×{GRID} → {stages * GRID**2} × 64",
        TRAINED,
    )
    _box(ax, 40, 23, 13, 10, "injector, before\neach block", TRAINED)
    _box(ax, 57, 23, 12, 10, "ViT block", FROZEN)
    _box(ax, 76, 23, 9, 10, "norm,\nCLS", FROZEN)
    _box(ax, 90, 23, 10, 10, "head:\ncosine", TRAINED)
    for start, end in (
        ((11, 19), (18, 27)),
        ((11, 16), (18, 8)),
        ((33, 28), (40, 28)),
        ((33, 7), (40, 7)),
        ((53, 28), (57, 28)),
        ((69, 28), (76, 28)),
        ((85, 28), (90, 28)),
        ((46.5, 12), (46.5, 23)),
    ):
        ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8, lw=0.9, color=INK))
    ax.text(47.5, 17.5, f"keys, values\n{HEADS} heads", fontsize=6.5, va="center")
    ax.plot([40, 40, 69, 69], [34, 35.5, 35.5, 34], color=INK, lw=0.8)
    ax.text(54.5, 36, f"× {depth}", fontsize=7.5, ha="center", va="bottom")
    ax.text(95, 20.5, "quality\nin [−1, 1]", fontsize=6.5, ha="center", va="top")
    for x, colour, text in ((62, FROZEN, "frozen"), (72, TRAINED, f"trained: {trained:,} parameters")):
        _box(ax, x, 5, 2.6, 2.6, "", colour)
        ax.text(x + 3.8, 6.3, text, fontsize=7, va="center")
    return figure


def _box(ax: Axes, x: float, y: float, width: float, height: float, text: str, colour: str) -> None:
    style = "round,pad=0,rounding_size=0.8"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, fc=colour, ec=INK, lw=0.7))
    ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=7.2)


def learning_curves(histories: dict[str, pd.DataFrame], title: str) -> Figure:
    """Training loss (left) and validation SRCC (right) by epoch, a line per split; `histories`: name → history.csv."""
    figure, axes = plt.subplots(1, 2, figsize=(FULL, 2.2))
    handles: list[Artist] = []
    for i, (name, history) in enumerate(histories.items()):
        epoch = history["epoch"] + 1
        style: dict[str, Any] = {
            "color": f"C{i % 10}",
            "ls": DASHES[i // 10 % len(DASHES)],
            "marker": MARKERS[i % len(MARKERS)],
        }
        handles += axes[0].plot(epoch, history["train_loss"], **style, ms=3, lw=1.1, label=plain_text(name))
        axes[1].plot(epoch, history["val_srcc"], **style, ms=3, lw=1.1, label=plain_text(name))
    axes[0].axhline(NO_CORRELATION, color="#777777", lw=0.8, ls=":")
    axes[0].set(xlabel="epoch", ylabel="loss, lower is better")
    axes[1].set(xlabel="epoch", ylabel="validation SRCC,\nhigher is better")
    for ax in axes:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    handles.append(Line2D([], [], color="#777777", lw=0.8, ls=":"))
    names = list(histories) if len(histories) > 1 else ["LoDa"]
    add_legend(figure, handles, [*names, "loss without any correlation"])
    set_title(figure, title)
    return figure


def prediction_scatter(rows: pd.DataFrame, title: str) -> Figure:
    """Prediction (with its spread over crops) against label, and the fitted 4-parameter logistic."""
    figure, ax = plt.subplots(figsize=(COLUMN, 2.6))
    x, y = rows["prediction"].to_numpy(float), rows["quality"].to_numpy(float)
    ax.set(xlabel="prediction, higher is better", ylabel="label, higher is better")
    points: dict[str, Any] = {
        "fmt": "o",
        "ms": 3,
        "lw": 0.5,
        "color": family_colour("loda"),
        "alpha": 0.6,
        "mew": 0,
    }
    ax.errorbar(x, y, xerr=rows["spread"], **points)
    fit = fit_logistic(x, y, 4)
    if np.isfinite(fit.plcc):
        dense = np.linspace(x.min(), x.max(), 400)
        handles: list[Artist] = list(ax.plot(dense, fit.curve(dense), color=INK, lw=1.2))
        add_legend(figure, handles, [f"4-parameter logistic, PLCC {fit.plcc:.3f}"])
    elif not np.isfinite(x).any():
        say(ax, "No image has a prediction.")
    set_title(figure, title)
    return figure


def injection_strength(model: LoDa, images: torch.Tensor) -> pd.DataFrame:
    """Per block: mean |s| of the learned scale, and the length of the injected part relative to the tokens it is added to.

    images [B, 3, 224, 224], normalised. Columns: block, scale, relative (‖injected‖ / ‖x‖, mean over tokens).
    """
    rows = []
    with torch.no_grad():
        tokens, x = model.local_tokens(images), model.embedded(images)
        for i, block in enumerate(model.vit.blocks):
            after = model.learner.injected(i, x, tokens)
            ratio = ((after - x).norm(dim=-1) / x.norm(dim=-1)).mean()
            rows.append((i, float(model.learner.scale_factor[i].abs().mean()), float(ratio)))
            x = block(after)
    return pd.DataFrame(rows, columns=["block", "scale", "relative"])


def strength_figure(strengths: dict[str, pd.DataFrame], title: str) -> Figure:
    """Injected length over token length, by block; a line per entry (such as before and after training)."""
    figure, ax = plt.subplots(figsize=(COLUMN, 2.2))
    handles: list[Artist] = []
    for i, rows in enumerate(strengths.values()):
        style: dict[str, Any] = {"ls": DASHES[i % len(DASHES)], "marker": MARKERS[i % len(MARKERS)]}
        handles += ax.plot(
            rows["block"], rows["relative"], **style, ms=3.5, lw=1.1, color=family_colour("loda")
        )
    ax.set(xlabel="block", ylabel="injected / token length")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    add_legend(figure, handles, list(strengths))
    set_title(figure, title)
    return figure


def attention_maps(model: LoDa, path: str, block: int | None = None) -> Figure:
    """An image's centre crop and, per CNN stage, the attention of the CLS token's injector (mean over heads), on one colour scale.

    block: which injector; the last by default.
    """
    image = resized(path)
    rows, columns = ((n - SIZE) // 2 for n in image.shape[:2])
    window = np.asarray(image[rows : rows + SIZE, columns : columns + SIZE])
    maps = attention(model, normalized(window)[None], block)[0]
    figure, axes = plt.subplots(1, 1 + len(maps), figsize=(FULL, 1.55))
    axes[0].imshow(window)
    axes[0].set_title("image", fontsize=8)
    for i, (ax, weights) in enumerate(zip(axes[1:], maps, strict=True), 1):
        ax.imshow(window.mean(-1), cmap="gray", alpha=0.5)
        shown = ax.imshow(
            weights, cmap="magma", vmin=0, vmax=maps.max(), extent=(0, SIZE, SIZE, 0), alpha=0.75
        )
        ax.set_title(f"stage {i}: {weights.sum():.0%}", fontsize=8)
    for ax in axes:
        ax.set_axis_off()
    figure.colorbar(shown, ax=axes, fraction=0.015, label="attention")
    return figure


def attention(model: LoDa, images: torch.Tensor, block: int | None = None) -> Any:
    """Attention of the CLS token over the CNN tokens, mean over heads: float [B, stages, 7, 7], sums to one per image."""
    last = len(model.vit.blocks) - 1 if block is None else block
    with torch.no_grad():
        tokens, x = model.local_tokens(images), model.embedded(images)
        for i in range(last):
            x = model.vit.blocks[i](model.learner.injected(i, x, tokens))
        injector: Any = model.learner.cross_attn[last]
        weights = injector.weights(model.learner.down_proj[last](x), tokens)[:, :, 0].mean(1)
    return weights.view(len(images), -1, GRID, GRID).numpy()
