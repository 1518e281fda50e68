"""Scores of image files without a dataset: one pair, or two folders with the same file names."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from fmiqa_utils.datasets.folder import readable
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.chunk import Chunk, score_chunk
from fmiqa_utils.extraction.scorer import Scorer

SUFFIXES = {".bmp", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".ppm", ".gif"}


def find_files(ref: Path, dist: Path) -> list[tuple[Path, Path]]:
    """The pairs that REF and DIST name: two files, or two folders matched by file name.

    Raises InputError where one is a folder and the other is not, for names that only one folder has, and for names that are not UTF-8.
    """
    for path in (ref, dist):
        readable(str(path))
        if not path.exists():
            raise InputError(f"{path} does not exist.")
    if ref.is_dir() != dist.is_dir():
        raise InputError(f"{ref} and {dist} must be two files or two folders, not one of each.")
    if not ref.is_dir():
        return [(ref, dist)]
    names = [{p.name for p in folder.iterdir() if p.suffix.lower() in SUFFIXES} for folder in (ref, dist)]
    if names[0] != names[1]:
        unmatched = sorted(names[0] ^ names[1])
        raise InputError(
            f"{len(unmatched)} file names are in only one of the folders: {', '.join(unmatched[:5])}."
        )
    if not names[0]:
        raise InputError(f"{ref} holds no image.")
    return [(ref / readable(name), dist / name) for name in sorted(names[0])]


def score_files(
    files: list[tuple[Path, Path]], scorer: Scorer, transform: str = "none"
) -> Iterator[dict[str, object]]:
    """One JSON-able object per (reference, distorted) pair, as `fmiqa score --json` prints it.

    "score" holds each distance's joint value (null if the form has none), "per_layer" its layer curve. Raises InputError for the
    first pair that cannot be scored.
    """
    for ref, dist in files:
        yield _score(ref, dist, scorer, transform)


def _score(ref: Path, dist: Path, scorer: Scorer, transform: str) -> dict[str, object]:
    row = {"dataset": "files", "pair_id": dist.name, "ref": str(ref), "dist": str(dist)}
    pairs = pd.DataFrame([row | {"ref_path": str(ref), "dist_path": str(dist)}])
    result = score_chunk(Chunk(str(ref), transform, pairs, ""), scorer)
    if result.failures:
        raise InputError(result.failures[0]["reason"])
    variants = scorer.settings.variants
    b = scorer.backbone
    head = {
        "ref": str(ref),
        "dist": str(dist),
        "backbone": b.name,
        "weights": b.weights,
        "normalize": b.normalize,
    }
    values = result.rows.set_index(["variant", "distance", "feature"])["value"]
    tables = {v: _nested(values.loc[v], scorer.settings.distances) for v in variants}
    body = tables[variants[0]] if len(variants) == 1 else {"variants": tables}
    return (
        head
        | {"precision": b.precision, "variant": "+".join(variants), "transform": transform}
        | {"windows": result.windows // 2}
        | body
        | {"embedding_cos": float(values["published", "cos", "embedding"])}
    )


def _nested(values: pd.Series, names: tuple[str, ...]) -> dict[str, dict[str, object]]:
    """{"score": {distance: joint}, "per_layer": {distance: [layer values]}} of one variant's values."""
    score: dict[str, object] = {}
    per_layer: dict[str, object] = {}
    for name in names:
        of_distance = values.loc[name]
        score[name] = float(of_distance["joint"]) if "joint" in of_distance.index else None
        per_layer[name] = [float(v) for feature, v in of_distance.items() if str(feature).isdigit()]
    return {"score": score, "per_layer": per_layer}
