"""What things are called in print: distances, baselines, features and the series of a run, the same in every figure and sentence."""

from collections import Counter
from collections.abc import Iterable

import pandas as pd

from fmiqa_utils.distances.table import measure_name
from fmiqa_utils.scores.runs import short_name

GROUP = ["backbone", "weights", "normalize"]  # a series: values are compared only within one
Key = tuple[str, str, str]  # the values of GROUP
FEATURES = {"joint": "all layers", "embedding": "embedding", "image": "image"}
FORMS = {"published": "published", "corrected": "corrected", "both": "both forms"}
NORMALIZED = {"none": "unnormalized", "model": "mean/std"}
LONGEST = 34  # characters of a model's name in a figure


def feature_name(feature: object) -> str:
    """ "block 3", "all layers" or "embedding"."""
    return FEATURES.get(str(feature), f"block {feature}")


def series_keys(table: pd.DataFrame) -> list[Key]:
    """The (backbone, weights, normalize) of a table's foundation models, sorted: of scores, correlations or manifests."""
    rows = table.loc[~table["backbone"].isin(["baseline", "loda"]), GROUP].drop_duplicates()
    keys = [key_of(row) for row in rows.itertuples(index=False, name=None)]
    return sorted(keys, key=lambda key: (*key[:2], key[2] != "none", key[2]))


def key_of(row: Iterable[object]) -> Key:
    """The values of `GROUP` as plain strings."""
    backbone, weights, normalize = map(str, row)
    return backbone, weights, normalize


def series_names(table: pd.DataFrame) -> dict[Key, str]:
    """Key of every series of `table` → its name in print, all different.

    "vit_tiny_patch16_224", and where the table holds several of them its weights or its normalization:
    "vit_tiny_patch16_224 · untrained · mean/std". A name over `LONGEST` characters loses its middle.
    """
    keys = series_keys(table)
    several = [len({key[i] for key in keys}) > 1 for i in range(3)]
    words = {
        key: [
            *((key[1],) if several[1] else ()),
            *((NORMALIZED.get(key[2], key[2]),) if several[2] else ()),
        ]
        for key in keys
    }
    names = {key: " · ".join([shortened(short_name(key[0])), *words[key]]) for key in keys}
    counts = Counter(names.values())
    return {
        key: name if counts[name] == 1 else " · ".join([key[0], *words[key]]) for key, name in names.items()
    }


def series_labels(table: pd.DataFrame, names: dict[Key, str] | None = None) -> list[str]:
    """The series' name of every row of `table`, "" for baselines and LoDa; `names`: `series_names` of a larger table."""
    names = series_names(table) if names is None else names
    return [names.get(key_of(row), "") for row in table[GROUP].itertuples(index=False, name=None)]


def measure_labels(table: pd.DataFrame, *, forms: bool = True, layers: bool = False) -> list[str]:
    """What every row of `table` measures: "cosine, corrected", "block 3, JSD, published", "embedding, cosine", "PSNR".

    forms: say which form a distance has; layers: say "all layers" of joint values.
    """
    rows = table[["feature", "distance", "variant"]].itertuples(index=False, name=None)
    return [_measure_label(str(f), str(d), str(v), forms, layers) for f, d, v in rows]


def _measure_label(feature: str, distance: str, variant: str, forms: bool, layers: bool) -> str:
    measure = measure_name(distance)
    if feature == "image":
        return measure
    if feature == "embedding":
        return f"embedding, {measure}"
    where = "" if feature == "joint" and not layers else f"{feature_name(feature)}, "
    return f"{where}{measure}, {FORMS.get(variant, variant)}" if forms else f"{where}{measure}"


def row_names(table: pd.DataFrame, names: dict[Key, str] | None = None) -> list[str]:
    """Series and measure of every row: "resnet10t · all layers, cosine", "PSNR"; the series only where there are several."""
    names = series_names(table) if names is None else names
    measures = measure_labels(table, forms=False, layers=True)
    if len(names) < 2:
        return measures
    series = series_labels(table, names)
    return [f"{s} · {m}" if s else m for s, m in zip(series, measures, strict=True)]


def shortened(name: str, longest: int = LONGEST) -> str:
    """`name` without its middle where it is too long for a figure; models differ in the end of their names as much as in the start."""
    if len(name) <= longest:
        return name
    half = (longest - 1) // 2
    return f"{name[: longest - 1 - half]}…{name[-half:]}"
