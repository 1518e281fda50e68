"""The score table on disk: one Parquet shard per chunk, named by its key and its checksum, and a manifest beside them.

A shard's name is `REF_KEY_SHA.parquet`: KEY covers everything that changes a number, SHA the shard's own bytes. A file is
written under a temporary name, flushed to the disk and renamed, so that what has a shard's name is whole.
"""

import errno
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from fmiqa_utils.errors import InputError

SCORE_COLUMNS = [
    "dataset",
    "pair_id",
    "backbone",
    "weights",
    "normalize",
    "transform",
    "feature",
    "distance",
    "variant",
    "value",
]
FAILURE_COLUMNS = ["pair_id", "transform", "file", "reason"]
MANIFEST = "manifest.json"
TEMPORARY = ".writing-"
PAIRS = "pairs.table"  # Parquet; not named .parquet, for a glob over shards must not find it


def digest(*parts: object) -> str:
    """sha256 of `parts` as canonical JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def shard_bytes(rows: pd.DataFrame, facts: dict[str, object]) -> bytes:
    """One chunk's rows and `facts` (key, image facts, failures) as Parquet; same input, same bytes."""
    table = rows.astype({c: "category" for c in SCORE_COLUMNS if c != "value"})
    arrow = pa.Table.from_pandas(table[SCORE_COLUMNS], preserve_index=False)
    arrow = arrow.replace_schema_metadata({"fmiqa": json.dumps(facts, sort_keys=True)})
    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def write_shard(folder: Path, ref: str, key: str, data: bytes) -> Path:
    """Write a shard atomically; returns its path."""
    name = f"{_plain(ref)}_{key[:16]}_{hashlib.sha256(data).hexdigest()[:16]}.parquet"
    return write_atomically(folder / name, data)


def write_atomically(path: Path, data: bytes) -> Path:
    """`data` at `path`, whole or not at all. Raises InputError when the disk is full or the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
    except OSError as error:
        raise InputError(f"{path.parent} cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        way_out = (
            "free some space and run the same command again"
            if error.errno == errno.ENOSPC
            else "check the folder"
        )
        raise InputError(
            f"{path.name} could not be written ({error.strerror}): {way_out}; finished chunks are kept."
        ) from error
    return path


def find_shards(folder: Path) -> dict[str, Path]:
    """The shards in `folder` by the first 16 digits of their key."""
    return {path.name.rsplit("_", 2)[1]: path for path in sorted(folder.glob("*.parquet"))}


def is_intact(path: Path) -> bool:
    """True if the file's bytes are those its name was given for."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16] == path.stem.rsplit("_", 1)[1]
    except FileNotFoundError:
        return False


def read_facts(path: Path) -> dict:
    """What `shard_bytes` was given as facts."""
    return dict(json.loads(pq.read_schema(path).metadata[b"fmiqa"]))


def read_scores(run: Path | str, distances: Iterable[str] | None = None) -> pd.DataFrame:
    """The score table of a finished run: SCORE_COLUMNS, with `feature` as a categorical of block indices and names.

    Raises InputError for a folder without a manifest and for a damaged shard.
    """
    run = Path(run)
    paths = [run / name for name in read_manifest(run)["shards"]]
    for path in paths:
        if not is_intact(path):
            raise InputError(
                f"{path.name} in {run.name} is missing or damaged: run the same extraction again to mend it."
            )
    filters = None if distances is None else [("distance", "in", list(distances))]
    schema = pa.schema([(c, pa.float64() if c == "value" else pa.string()) for c in SCORE_COLUMNS])
    table = pa.concat_tables(
        [pq.read_table(p, filters=filters, partitioning=None).cast(schema) for p in paths]
    )
    rows = table.to_pandas(categories=[c for c in SCORE_COLUMNS if c != "value"])
    rows["feature"] = rows["feature"].cat.rename_categories(
        lambda name: int(name) if str(name).isdigit() else str(name)
    )
    return rows


def read_failures(run: Path | str) -> pd.DataFrame:
    """The pairs that could not be scored, with the reason: FAILURE_COLUMNS."""
    run = Path(run)
    rows = [f for name in read_manifest(run)["shards"] for f in read_facts(run / name)["failures"]]
    return pd.DataFrame(rows, columns=FAILURE_COLUMNS)


def read_manifest(run: Path | str) -> dict:
    """The manifest of a finished run. Raises InputError where there is none."""
    try:
        return dict(json.loads((Path(run) / MANIFEST).read_text()))
    except FileNotFoundError:
        raise InputError(f"{run} holds no finished run (no {MANIFEST}): run fmiqa extract first.") from None


def write_manifest(run: Path, manifest: dict[str, object]) -> None:
    """Write the manifest, last of all: its presence says that the run is complete."""
    write_atomically(
        run / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True, default=_plain_number).encode()
    )


def write_pairs(run: Path, pairs: pd.DataFrame) -> None:
    """The pairs table beside its scores, so that a run folder stands alone."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(pairs, preserve_index=False), sink)
    write_atomically(run / PAIRS, bytes(sink.getvalue().to_pybytes()))


def read_pairs(run: Path | str) -> pd.DataFrame:
    """The pairs table that a run was scored with."""
    return pd.read_parquet(Path(run) / PAIRS)


@contextmanager
def sole_writer(run: Path, patience: float = 3600, waiting: object = None) -> Iterator[None]:
    """Hold the run folder's lock; a second run waits for the first up to `patience` seconds, and says so.

    `waiting`: called with a sentence when the lock is taken. Raises InputError when patience ends.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{run} cannot be written: {error.strerror}.") from error
    lock = FileLock(run / ".lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if callable(waiting):
                waiting(f"another run is writing to {run.name}; waiting for it to finish")
            lock.acquire(timeout=patience)
    except Timeout:
        raise InputError(
            f"another run has been writing to {run} for {patience:.0f} s: stop it or choose another output."
        ) from None
    try:
        for leftover in run.glob(f"{TEMPORARY}*"):  # of a run that was killed while it wrote
            leftover.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", Path(name).stem)[:40] or "chunk"


def _plain_number(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)
