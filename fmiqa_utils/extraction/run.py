"""From a pairs table to a score table: score the chunks of the plan that are not done, write their shards and a manifest."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.engines.base import Engine, Trials, serial
from fmiqa_utils.extraction.plan import plan
from fmiqa_utils.extraction.provenance import hardware, versions
from fmiqa_utils.extraction.resume import Kept
from fmiqa_utils.extraction.scorer import Scorer
from fmiqa_utils.files.storage import write_atomically
from fmiqa_utils.scores.run_names import shards_in_use
from fmiqa_utils.scores.shards import (
    labels_digest,
    manifest_bytes,
    manifest_name,
    pairs_bytes,
    read_manifest,
    read_pairs,
    sole_writer,
    write_manifest,
)


def run(
    pairs: pd.DataFrame,
    scorer: Scorer,
    folder: Path,
    *,
    transforms: Sequence[str] = ("none",),
    transform_pairs: int = 0,
    engine: Engine | None = None,
    trials: Trials | None = None,
    strict: bool = False,
    verify: bool = False,
    progress: Callable[[float, int, int], object] = lambda *_: None,
    say: Callable[[str], object] = lambda _: None,
) -> dict:
    """Score all `pairs` into `folder`, going on where an earlier run stopped; returns the manifest.

    `progress(done, total, failed)` counts pairs, those under way in this process in part. `engine`: who scores, this process with
    `scorer` and `trials` by default. `strict` turns the first failure into InputError; `verify` hashes every image again instead of
    trusting its size and time. A second run on the same folder waits for the first.

    The manifest is the one commit point: it names the shards and the pairs table, whose names say which bytes they were given for.
    """
    chunks = plan(pairs, scorer, transforms, transform_pairs)
    total = sum(chunks.size(i) for i in range(len(chunks)))
    with sole_writer(folder, waiting=say):
        start, windows = time.time(), 0
        kept = Kept(chunks, folder, say, verify=verify)
        found = len(kept.shards)
        progress(kept.pairs, total, 0)
        engine = engine or serial(
            scorer, trials, lambda pairs: progress(kept.pairs + pairs, total, kept.failed)
        )
        for result in engine(kept.to_do(), folder):
            if result.failures and strict:
                raise InputError(f"stopped at the first failure (--strict): {result.failures[0]['reason']}")
            kept.add(result)
            windows += result.windows
            progress(kept.pairs, total, kept.failed)
        if found < len(chunks):
            kept.settle()
        ordered = [kept.shards[key] for key in chunks.keys]
        facts = _manifest(pairs, scorer, transforms, ordered, kept.failed)
        manifest = _latest(folder, facts)
        if manifest is None:
            effort = {"seconds": round(time.time() - start, 2), "windows": windows, "chunks_kept": found}
            stages = {k: round(v, 2) for k, v in scorer.seconds.items()}
            name, table = pairs_bytes(pairs)
            write_atomically(folder / name, table)
            manifest = {**facts, **effort, "stages": stages, "pairs_table": name}
            write_manifest(folder, manifest)
        kept.clean(lambda: shards_in_use(folder))
    return manifest


def _latest(folder: Path, facts: Mapping[str, object]) -> dict | None:
    """The folder's manifest if it says the same of the same pairs and its table is whole; versions may have changed since."""
    try:
        known = read_manifest(folder)
        read_manifest(folder, manifest_name(manifest_bytes(known)))
        read_pairs(folder, known)
    except InputError:  # none yet, or a damaged one: it is written anew
        return None
    written = json.loads(manifest_bytes(facts))
    same = all(known.get(n) == value for n, value in written.items() if n not in ("versions", "hardware"))
    return known if same and "pairs_table" in known else None


def _manifest(
    pairs: pd.DataFrame, scorer: Scorer, transforms: Sequence[str], shards: list[str], failures: int
) -> dict[str, object]:
    """Everything a reader of the numbers must know."""
    b = scorer.backbone
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
        "labels_sha256": labels_digest(pairs),
        "shards": shards,
        "versions": versions(),
        "hardware": hardware(scorer.device),
    }
