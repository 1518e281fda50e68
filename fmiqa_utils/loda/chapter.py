"""What the LoDa chapter of a report needs: options that fit the machine, and LoDa next to the distances of the same images."""

from dataclasses import replace

import pandas as pd

from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.plan import evenly_spaced
from fmiqa_utils.loda.data import load_labelled
from fmiqa_utils.loda.options import Options
from fmiqa_utils.scores.names import row_names, series_labels, series_names
from fmiqa_utils.scores.runs import Run
from fmiqa_utils.statistics.correlation import correlation_table

SMALL = {
    "vit": "vit_tiny_patch16_224",
    "cnn": "resnet10t",
    "epochs": 3,
    "batch": 16,
    "crops": 1,
    "test_crops": 3,
}
SMALL_RATE = 2e-3  # larger than the published rate, because there are few steps
SMALL_IMAGES = 196  # of the demo dataset: a minute or two on a laptop
# With stand-in weights there is little to learn: half a minute is enough.
UNTRAINED = {
    "epochs": 2,
    "test_crops": 2,
}
UNTRAINED_IMAGES = 84  # twelve of each reference


def preset(name: str, run: Run) -> Options:
    """ "published", "small", or "auto" (small on the demo dataset); frozen parts are untrained if the weights of the run are.

    "auto" with untrained parts on the demo dataset is shorter than "small" (`UNTRAINED`).
    """
    if name not in ("auto", "published", "small"):
        raise InputError(f"loda_preset={name!r} is unknown; known: auto, published, small.")
    weights = "untrained" if run.warning else "pretrained"
    if name == "published" or (name == "auto" and run.dataset != "demo"):
        return Options(weights=weights)
    fewer = UNTRAINED if weights == "untrained" and name == "auto" else {}
    return replace(Options(**SMALL, learning_rate=SMALL_RATE, weights=weights), **fewer)  # type: ignore[arg-type]


def training_table(
    dataset: str,
    options: Options,
    root: str | None = None,
    labels: str | None = None,
    direction: str | None = None,
) -> pd.DataFrame:
    """The images of a dataset that LoDa is trained and tested on: all, or a part of the demo dataset with small options."""
    table = load_labelled(dataset, root, labels=labels, direction=direction)
    few = UNTRAINED_IMAGES if options.epochs == UNTRAINED["epochs"] else SMALL_IMAGES
    small = dataset == "demo" and options.vit == SMALL["vit"]
    return evenly_spaced(table, few if small else 0).reset_index(drop=True)


def shortened(options: Options, images: int) -> str:
    """A sentence that says why the chapter was shortened (stand-in weights leave little to learn); "" if it was not."""
    if options.weights != "untrained" or options.epochs != UNTRAINED["epochs"]:
        return ""
    return (
        f"With untrained frozen parts there is little to learn: this chapter shows the method on {images} images and "
        f"{options.epochs} epochs, and `--set loda_preset=small` trains on more."
    )


def beside_distances(run: Run, predictions: pd.DataFrame, n_resamples: int = 1000) -> pd.DataFrame:
    """SRCC of LoDa and of every whole-model distance, embedding and baseline on the test images of split 0, best first.

    Columns: method, kind (NR or FR), series ("" for LoDa and baselines), backbone, variant, weights, normalize, n, srcc, srcc_lo,
    srcc_hi, plcc, plcc_fit4, krcc.
    """
    test = predictions[predictions["split"] == 0]
    pairs = run.pairs[run.pairs["pair_id"].isin(test["pair_id"])]
    scores = run.scores[(run.scores["transform"] == "none") & run.scores["pair_id"].isin(pairs["pair_id"])]
    whole_model = scores[
        scores["feature"].isin(["joint", "embedding", "image"]) & (scores["variant"] == "published")
    ]
    loda = whole_model[whole_model["distance"] == "psnr"].drop_duplicates("pair_id")
    values = test.set_index("pair_id")["prediction"]
    # Negated, because a distance grows with distortion.
    loda = loda.assign(backbone="loda", distance="loda", value=-loda["pair_id"].map(values))
    table = correlation_table(pd.concat([whole_model, loda]), pairs, n_resamples=n_resamples)
    names = series_names(run.scores)
    table = table.assign(
        kind=["NR" if b == "loda" else "FR" for b in table["backbone"]],
        method=row_names(table, names),
        series=series_labels(table, names),
    )
    columns = [
        "method",
        "kind",
        "series",
        "backbone",
        "variant",
        "weights",
        "normalize",
        "n",
        "srcc",
        "srcc_lo",
        "srcc_hi",
        "plcc",
        "plcc_fit4",
        "krcc",
    ]
    return table.sort_values("srcc", ascending=False)[columns].reset_index(drop=True)
