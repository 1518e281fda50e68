"""Words that findings share: counts, lists, the names of measures and series, and numbers with their intervals."""

from collections.abc import Sequence

import pandas as pd

from fmiqa_utils.distances.table import measure_name
from fmiqa_utils.scores.names import GROUP
from fmiqa_utils.scores.runs import Run, short_name

FEW_REFERENCES, FEW_PAIRS = 5, 20  # with fewer of either, an interval means little


def count(n: int, noun: str) -> str:
    """ "1 pair", "3,000 pairs"."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def distance_name(distance: str) -> str:
    """A distance or baseline in print: "cosine", "PSNR", "MS-SSIM", "the embedding"."""
    if distance == "embedding":
        return "the embedding"
    return measure_name(distance)


def form(row: pd.Series) -> str:
    """ "JSD", "corrected JSD": a row's distance; the published form is not named."""
    name = distance_name(row["distance"])
    return f"corrected {name}" if row["variant"] == "corrected" else name


def measure(row: pd.Series) -> str:
    """ "block 3 by cosine", "all layers by corrected JSD": a row's feature and distance."""
    feature = {"joint": "all layers", "embedding": "the embedding"}.get(
        row["feature"], f"block {row['feature']}"
    )
    return f"{feature} by {form(row)}"


def series(row: pd.Series, run: Run) -> str:
    """ "vit_tiny_patch16_224 (untrained)": a row's backbone and weights, and its normalization where the run has several."""
    several = len({m["normalize"] for m in run.manifests}) > 1
    normalize = f", normalize={row['normalize']}" if several else ""
    return f"{short_name(row['backbone'])} ({row['weights']}{normalize})"


def same_series(table: pd.DataFrame, row: pd.Series) -> pd.Series:
    """Which rows belong to the series of `row`: same backbone, weights and normalization."""
    return (table[GROUP].astype(str) == row[GROUP].astype(str)).all(axis=1)


def span(value: float, lower: float, upper: float, signed: bool = False) -> str:
    """ "0.837 [0.801, 0.870]"; the interval is left out where it is not defined."""
    form = "+.3f" if signed else ".3f"
    known = lower == lower and upper == upper
    return f"{value:{form}} [{lower:{form}}, {upper:{form}}]" if known else f"{value:{form}}"


def is_few(pairs: pd.DataFrame) -> bool:
    """Whether there are fewer than five references or twenty pairs."""
    return pairs["ref"].nunique() < FEW_REFERENCES or len(pairs) < FEW_PAIRS


def few(pairs: pd.DataFrame) -> str:
    """The sentence for `is_few` pairs, "" for more."""
    if not is_few(pairs):
        return ""
    size = f"{count(len(pairs), 'pair')} of {count(pairs['ref'].nunique(), 'reference')}"
    return f"Only {size}: with so few, intervals mean little and none is given; these values are examples, not evidence."


def facts(pairs: pd.DataFrame, run: Run) -> str:
    """ "n = 840 pairs of 7 references; untrained weights": what ends a finding."""
    size = f"n = {count(len(pairs), 'pair')} of {count(pairs['ref'].nunique(), 'reference')}"
    return f"{size}; {run.tag}" if run.tag else size


def highest(table: pd.DataFrame, column: str) -> pd.Series:
    """The row with the largest value; NaN does not count."""
    return table.sort_values(column, ascending=False, kind="stable").iloc[0]


def lowest(table: pd.DataFrame, column: str) -> pd.Series:
    """The row with the smallest value; NaN does not count."""
    return table.sort_values(column, kind="stable").iloc[0]
