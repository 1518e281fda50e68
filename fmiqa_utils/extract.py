"""From a pairs table to a score table: plan the chunks, score those that are not done, write their shards."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from fmiqa_utils.backbones import WINDOW
from fmiqa_utils.chunks import Chunk
from fmiqa_utils.distances import DISTANCES_VERSION
from fmiqa_utils.engines import Engine, serial
from fmiqa_utils.errors import InputError
from fmiqa_utils.features import STRIDE
from fmiqa_utils.images import file_facts, read_bytes_rgb
from fmiqa_utils.provenance import hardware, versions
from fmiqa_utils.scorer import Scorer
from fmiqa_utils.scores import (
    MANIFEST,
    digest,
    find_shards,
    is_intact,
    read_facts,
    read_manifest,
    sole_writer,
    write_manifest,
    write_pairs,
)
from fmiqa_utils.transforms import parse_transform


def plan(
    pairs: pd.DataFrame, scorer: Scorer, transforms: Sequence[str] = ("none",), transform_pairs: int = 0
) -> list[Chunk]:
    """One chunk per reference and transform; its key covers everything that changes a number or a label.

    `transform_pairs`: how many pairs, evenly spaced, are scored under the transforms other than "none"; 0: all.
    """
    for name in transforms:
        parse_transform(name)
    common = run_key(scorer)
    chunks = []
    for transform in transforms:
        chosen = pairs if transform == "none" else evenly_spaced(pairs, transform_pairs)
        for ref, rows in chosen.groupby("ref", sort=False):
            labelled = rows.drop(columns=["ref_path", "dist_path"]).astype(str).values.tolist()
            chunks.append(Chunk(str(ref), transform, rows, digest(common, transform, labelled)))
    return chunks


def evenly_spaced(pairs: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rows of `pairs`, evenly spaced; all of them for 0 or where there are no more."""
    if not 0 < count < len(pairs):
        return pairs
    return pairs.iloc[np.linspace(0, len(pairs) - 1, count).round().astype(int)]


def run_key(scorer: Scorer) -> str:
    """sha256 of the settings, the backbone and its weights, and the version of the distances."""
    b = scorer.backbone
    return digest(
        asdict(scorer.settings),
        b.name,
        b.weights_sha256,
        b.normalize,
        b.precision,
        [WINDOW, STRIDE],
        DISTANCES_VERSION,
    )


def is_done(chunk: Chunk, shard: Path | None) -> bool:
    """True if `shard` holds this chunk whole, without failures, and its images are the ones it was scored from."""
    if shard is None or not is_intact(shard):
        return False
    facts = read_facts(shard)
    if facts["failures"]:
        return False
    paths = {f"ref:{chunk.ref}": chunk.pairs["ref_path"].iloc[0]} | dict(
        zip(chunk.pairs["dist"], chunk.pairs["dist_path"], strict=True)
    )
    return all(_unchanged(path, facts["images"].get(name)) for name, path in paths.items())


def _unchanged(path: str, known: tuple[int, int, str] | None) -> bool:
    """Size and time settle it at once; after a copy or a rebuild the content decides."""
    if known is None or not Path(path).is_file():
        return False
    facts = file_facts(path)
    return tuple(known[:2]) == tuple(facts) or (
        facts.size == known[0] and read_bytes_rgb(path)[1] == known[2]
    )


def run(
    pairs: pd.DataFrame,
    scorer: Scorer,
    folder: Path,
    *,
    transforms: Sequence[str] = ("none",),
    transform_pairs: int = 0,
    engine: Engine | None = None,
    strict: bool = False,
    progress: Callable[[int, int, int], object] | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> dict:
    """Score all `pairs` into `folder`, going on where an earlier run stopped; returns the manifest.

    `progress(done, total, failed)` counts pairs. `engine`: who scores, this process with `scorer` by default. `strict` turns the first
    failure into InputError. A second run on the same folder waits for the first.
    """
    chunks = plan(pairs, scorer, transforms, transform_pairs)
    sizes = {c.key: len(c.pairs) for c in chunks}
    with sole_writer(folder, waiting=say):
        start, failures, windows = time.time(), 0, 0
        names = _kept(chunks, folder, say)
        kept, done = len(names), sum(sizes[key] for key in names)
        todo = [c for c in chunks if c.key not in names]
        for result in (engine or serial(scorer))(todo, folder):
            if result.failures and strict:
                raise InputError(f"stopped at the first failure (--strict): {result.failures[0]['reason']}")
            names[result.key] = result.shard
            failures += len(result.failures)
            windows += result.windows
            done += sizes[result.key]
            if progress:
                progress(done, sum(sizes.values()), failures)
        ordered = [names[c.key] for c in chunks]
        manifest = _manifest(pairs, scorer, transforms, ordered, failures)
        if todo or not _same_shards(folder, ordered):
            effort = {"seconds": round(time.time() - start, 2), "windows": windows, "chunks_kept": kept}
            write_pairs(folder, pairs)
            write_manifest(
                folder, manifest | effort | {"stages": {k: round(v, 2) for k, v in scorer.seconds.items()}}
            )
    return manifest


def _kept(chunks: list[Chunk], folder: Path, say: Callable[[str], object]) -> dict[str, str]:
    """{key: shard} of the chunks that are done; shards that are damaged or out of date are removed."""
    shards, names = find_shards(folder), {}
    for chunk in chunks:
        shard = shards.get(chunk.key[:16])
        if is_done(chunk, shard):
            assert shard is not None
            names[chunk.key] = shard.name
        elif shard is not None:
            if not is_intact(shard):
                say(f"{shard.name} is damaged: its chunk is computed again")
            shard.unlink()
    return names


def _same_shards(folder: Path, names: list[str]) -> bool:
    return (folder / MANIFEST).is_file() and read_manifest(folder)["shards"] == names


def _manifest(
    pairs: pd.DataFrame, scorer: Scorer, transforms: Sequence[str], shards: list[str], failures: int
) -> dict[str, object]:
    """Everything a reader of the numbers must know."""
    b = scorer.backbone
    labels = pairs.drop(columns=["ref_path", "dist_path"])
    return {
        "dataset": str(pairs["dataset"].iloc[0]),
        "backbone": b.name,
        "family": b.info.family,
        "weights": b.weights,
        "weights_sha256": b.weights_sha256,
        "normalize": b.normalize,
        "precision": b.precision,
        "settings": asdict(scorer.settings),
        "batch": scorer.batch,
        "transforms": list(transforms),
        "pairs": len(pairs),
        "references": int(pairs["ref"].nunique()),
        "failures": failures,
        "label_kind": str(pairs["label_kind"].iloc[0]),
        "label_source": str(pairs["label_source"].iloc[0]) if "label_source" in pairs else "",
        "labels_sha256": digest(labels.astype(str).values.tolist()),
        "shards": shards,
        "versions": versions(),
        "hardware": hardware(scorer.device),
    }
