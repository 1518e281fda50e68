"""Predictions of a trained LoDa, and how well they agree with people."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmiqa_utils.errors import InputError
from fmiqa_utils.loda.checkpoints import check_finite, read_checkpoint
from fmiqa_utils.loda.data import evaluation_crops
from fmiqa_utils.loda.model import LoDa
from fmiqa_utils.loda.options import CNN, RANGES, TEST_CROPS, VIT, Options, check_number
from fmiqa_utils.loda.train import build, predict_crops
from fmiqa_utils.statistics.coefficients import krcc, plcc, srcc
from fmiqa_utils.statistics.logistic import fit_logistic

SUFFIXES = {".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".ppm", ".gif"}
Progress = Callable[[int, int], object]


def load_checkpoint(
    path: str | Path, vit: str | None = None, cnn: str | None = None, weights: str | None = None
) -> LoDa:
    """A trained model in eval mode, with the frozen parts that it was trained with.

    vit, cnn, weights: needed only for a released checkpoint, which does not record them. Raises InputError where they contradict the
    checkpoint, and as `read_checkpoint` and `check_finite` do.
    """
    checkpoint = read_checkpoint(path)
    check_finite(checkpoint, path)
    facts = checkpoint.get("fmiqa", {})
    for name, value in {"vit": vit, "cnn": cnn, "weights": weights}.items():
        if value and facts.get(name, value) != value:
            raise InputError(
                f"{path} is not of LoDa with {value}: the checkpoint records {name} {facts[name]}; leave the option out."
            )
    options = Options(
        vit=vit or facts.get("vit", VIT),
        cnn=cnn or facts.get("cnn", CNN),
        weights=weights or facts.get("weights", "pretrained"),
        bn=facts.get("bn", "frozen"),
        inject=facts.get("inject", True),
    )
    model = build(options)
    model.load_released(checkpoint)
    return model.eval()


def find_images(paths: Sequence[Path]) -> list[Path]:
    """The images among files and, sorted, inside folders. Raises InputError for a path that does not exist, and if there is no image."""
    images: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist.")
        images += (
            sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        )
    if not images:
        raise InputError(f"there is no image in {', '.join(map(str, paths))}.")
    return images


def predict(
    model: LoDa,
    paths: Sequence[str | Path],
    *,
    crops: int = TEST_CROPS,
    device: str = "cpu",
    progress: Progress = lambda *_: None,
) -> pd.DataFrame:
    """A row per image: file, prediction (mean over crops, in [−1, 1]), spread (standard deviation over crops), crops, frozen weights.


    Raises InputError for an image that cannot be read, and for a prediction that is not finite.
    """
    check_number("crops", crops, *RANGES["test_crops"])
    model = model.to(device).eval()
    rows = []
    for done, path in enumerate(paths, 1):
        values = predict_crops(model, evaluation_crops(path, crops)[None].to(device))[0].double().cpu()
        if not values.isfinite().all():
            raise InputError(f"the prediction for {path} is not finite: the model's weights are too large.")
        rows.append((str(path), float(values.mean()), float(values.std(unbiased=False)), crops))
        progress(done, len(paths))
    table = pd.DataFrame(rows, columns=["file", "prediction", "spread", "crops"])
    return table.assign(weights=model.weights)


def evaluate(model: LoDa, table: pd.DataFrame, **options: Any) -> tuple[pd.DataFrame, dict[str, float]]:
    """Predictions of a labelled table, and how they agree with its labels (`correlations_of`)."""
    predicted = predict(model, list(table["dist_path"]), **options)
    rows = table.drop(columns="dist_path").assign(
        prediction=predicted["prediction"], spread=predicted["spread"]
    )
    return rows, correlations_of(rows)


def correlations_of(rows: pd.DataFrame) -> dict[str, float]:
    """srcc, plcc (raw), plcc_fit4 (after the 4-parameter logistic) and krcc of columns prediction and quality, and n."""
    prediction, quality = rows["prediction"].to_numpy(float), rows["quality"].to_numpy(float)
    column = prediction[:, None]
    return {
        "n": len(rows),
        "srcc": float(srcc(column, quality)[0]),
        "plcc": float(plcc(column, quality)[0]),
        "plcc_fit4": float(fit_logistic(prediction, quality, 4).plcc),
        "krcc": float(krcc(column, quality)[0]),
    }


def summary(results: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Median, lowest and highest of every statistic over splits; the LoDa paper reports the median."""
    names = ["srcc", "plcc", "plcc_fit4", "krcc"]
    values = np.array([[r[n] for n in names] for r in results])
    rows = {"median": np.median(values, 0), "lowest": values.min(0), "highest": values.max(0)}
    return (
        pd.DataFrame(rows, index=pd.Index(names, name="statistic")).assign(splits=len(results)).reset_index()
    )
