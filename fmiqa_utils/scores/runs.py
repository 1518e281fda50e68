"""A named run: one dataset scored by one or more backbones, extracted once and read by every notebook after that."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from fmiqa_utils.console import UNTRAINED_NOTE, UNTRAINED_TAG
from fmiqa_utils.errors import InputError, near
from fmiqa_utils.keys import digest
from fmiqa_utils.scores.run_names import Part, run_parts, save_parts
from fmiqa_utils.scores.shards import (
    SCORE_COLUMNS,
    manifest_bytes,
    manifest_name,
    read_failures,
    read_manifest,
    read_pairs,
    read_scores,
)
from fmiqa_utils.summary import as_html, as_text

# What reading a damaged run may raise, InputError among them.
UNREADABLE = (
    OSError,
    KeyError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Run:
    """The tables of a run: scores (long), pairs, failures, and one manifest per backbone.

    >>> load_run("own").summary()["pairs"]
    '4 of 2 references, labels mos'
    """

    name: str
    scores: pd.DataFrame
    pairs: pd.DataFrame
    failures: pd.DataFrame
    manifests: list[dict[str, Any]]

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return str(self.manifests[0]["dataset"])

    @property
    def warning(self) -> str:
        """The full sentence on untrained weights, which no reader may miss; "" if all weights are trained."""
        return UNTRAINED_NOTE if self.tag else ""

    @property
    def tag(self) -> str:
        """`warning` in two words, for captions and findings: "untrained weights", with the backbones' names if others are trained."""
        untrained = [short_name(m["backbone"]) for m in self.manifests if m["weights"] == "untrained"]
        if not untrained:
            return ""
        names = ", ".join(dict.fromkeys(untrained))
        return UNTRAINED_TAG if len(untrained) == len(self.manifests) else f"{UNTRAINED_TAG}: {names}"

    def summary(self) -> dict[str, str]:
        """What the run holds: dataset, pairs, models, measures, failures, and a warning for untrained weights."""
        kind, failed = self.pairs["label_kind"].iloc[0], self.failures["pair_id"].nunique()
        models = [f"{m['backbone']} ({m['weights']}, normalize={m['normalize']})" for m in self.manifests]
        settings = self.manifests[0]["settings"]
        facts = {
            "dataset": self.dataset,
            "pairs": f"{len(self.pairs):,} of {self.pairs['ref'].nunique():,} references, labels {kind}",
            "models": "; ".join(models),
            "distances": f"{', '.join(settings['distances'])} ({' and '.join(settings['variants'])})",
            "baselines": ", ".join(settings["baselines"]),
            "transforms": ", ".join(map(str, self.scores["transform"].unique())),
            "values": f"{len(self.scores):,}; {failed:,} pairs failed",
        }
        return facts | ({"warning": self.warning} if self.tag else {})

    def __repr__(self) -> str:
        return as_text(f"Run {self.name!r}", self.summary())

    def _repr_html_(self) -> str:
        return as_html(f"Run {self.name}", self.summary())


def save_run(name: str, folders: Sequence[Path], manifests: Sequence[dict[str, Any]] | None = None) -> Path:
    """Remember which score folders make up run `name`, with `manifests`, or those that they have now."""
    current = manifests or [read_manifest(f) for f in folders]
    parts = [Part(f, manifest_name(manifest_bytes(m))) for f, m in zip(folders, current, strict=True)]
    return save_parts(name, parts)


def _manifests(name: str) -> dict[Path, dict[str, Any]]:
    """The manifest of each score folder of run `name`, as it was when the run was saved."""
    return {part.folder: read_manifest(part.folder, part.manifest) for part in run_parts(name)}


def load_run(
    name: str, backbones: Sequence[str] | None = None, distances: Sequence[str] | None = None
) -> Run:
    """What run `name` holds, or only some `backbones` and `distances` of it; the shards of other backbones are not opened.

    Raises InputError for an unknown or unfinished run and for a backbone that it does not hold.

    >>> run = load_run("own", distances=["cos"])
    >>> sorted(run.scores["distance"].unique())
    ['cos']
    """
    manifests = _manifests(name)
    held = {m["backbone"] for m in manifests.values()}
    for backbone in backbones or ():
        if backbone not in held:
            raise InputError(f"run {name} does not hold {backbone!r}; {near(backbone, sorted(held))}")
    folders = [f for f, m in manifests.items() if backbones is None or m["backbone"] in backbones]
    if len({manifests[f]["labels_sha256"] for f in folders}) > 1:
        raise InputError(f"the backbones of run {name} were scored with different labels: extract it again.")
    scores = _joined([read_scores(f, distances, manifest=manifests[f]) for f in folders])
    failures = [read_failures(f, manifests[f]).assign(folder=f.name) for f in folders]
    pairs = read_pairs(folders[0], manifests[folders[0]])
    return Run(name, scores, pairs, pd.concat(failures, ignore_index=True), [manifests[f] for f in folders])


def run_pairs(name: str) -> pd.DataFrame:
    """The pairs table of run `name`. Raises InputError for an unknown or unfinished run."""
    folder, manifest = next(iter(_manifests(name).items()))
    return read_pairs(folder, manifest)


def run_backbones(name: str) -> list[str]:
    """The backbones that run `name` holds. Raises InputError for an unknown or unfinished run."""
    return list(dict.fromkeys(m["backbone"] for m in _manifests(name).values()))


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Score tables below one another; baselines, which every backbone's table has, once. Categoricals stay categoricals."""
    kept: list[pd.DataFrame] = []
    baselines: list[pd.DataFrame] = []
    for table in tables:
        image = (table["feature"] == "image").to_numpy()
        if kept and image.any():
            baselines.append(table[image])
            table = table[~image]
        kept.append(table)
    kept += baselines
    columns: dict[str, object] = {}
    for column in SCORE_COLUMNS:
        parts = [t[column] for t in kept]
        columns[column] = (
            np.concatenate([p.to_numpy() for p in parts]) if column == "value" else union_categoricals(parts)
        )
    rows = pd.DataFrame(columns)
    image = (rows["feature"] == "image").to_numpy()
    if baselines:  # a pair that failed with one backbone may have its baselines with another
        baseline_rows = rows[image].sort_values("value", kind="stable", na_position="last")
        repeated = baseline_rows.drop(columns="value").duplicated()
        rows = rows.drop(index=repeated.index[repeated]).reset_index(drop=True)
    return rows


def run_material(name: str) -> dict[str, str]:
    """A hash per score folder: what a notebook's result depends on."""
    return {
        folder.name: digest([m["shards"], m["labels_sha256"], m["weights_sha256"]])
        for folder, m in _manifests(name).items()
    }


def short_name(backbone: str) -> str:
    """A backbone's name without its library."""
    return backbone.removeprefix("timm:").removeprefix("openclip:")
