"""The score table on disk: one Parquet shard per chunk, named by its key and its checksum, and a manifest beside them.

A shard's name is `REF_KEY_SHA.parquet`: KEY covers everything that changes a number, SHA the shard's bytes, so
that a reader can detect damage from the name. A run folder may lie in an object store (`storage`).
"""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from fmiqa_utils.errors import InputError
from fmiqa_utils.files.storage import (
    TEMPORARY,
    in_threads,
    is_remote,
    is_writable,
    open_path,
    read_whole,
    write_atomically,
)
from fmiqa_utils.keys import digest

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
SUFFIX = ".parquet"
PAIRS = "pairs.table"  # Parquet, but not named .parquet: a glob over shards must not find it; used if the manifest names no other
VERIFIED = "verified.table"


class Verified(NamedTuple):
    """The state of a shard when all of it was read, and of its images at that time."""

    size: int
    stamp: str
    images: str  # `images_stamp`


_VERIFIED_SCHEMA = pa.schema(
    [(c, pa.int64() if c == "size" else pa.string()) for c in ("shard", *Verified._fields)]
)


def digest_rows(table: pd.DataFrame) -> str:
    """`digest` of all cells as text in rows, a block at a time."""
    sha = hashlib.sha256(b"[[")
    for start in range(0, len(table), 10_000):
        text = json.dumps(table.iloc[start : start + 10_000].astype(str).values.tolist())
        sha.update(((", " if start else "") + text[1:-1]).encode())
    sha.update(b"]]")
    return sha.hexdigest()


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
    name = f"{_plain(ref)}_{key[:16]}_{hashlib.sha256(data).hexdigest()[:16]}{SUFFIX}"
    return write_atomically(folder / name, data)


def find_shards(names: Iterable[str]) -> dict[str, list[str]]:
    """{first 16 digits of the key: the shards of that key} among the `names` of a folder; more than one where scoring was repeated."""
    shards: dict[str, list[str]] = {}
    for name in sorted(names):
        if name.endswith(SUFFIX) and name.count("_") >= 2:
            shards.setdefault(name.rsplit("_", 2)[1], []).append(name)
    return shards


def read_shard(path: Path) -> bytes | None:
    """A shard's bytes; None if there is no such file, or if they do not match the checksum in its name."""
    try:
        data = read_whole(path)
    except FileNotFoundError:
        return None
    return data if hashlib.sha256(data).hexdigest()[:16] == path.stem.rsplit("_", 1)[1] else None


def facts_of(shard: bytes) -> dict[str, Any]:
    """The facts that were given to `shard_bytes`."""
    return dict(json.loads(pq.read_schema(pa.BufferReader(shard)).metadata[b"fmiqa"]))


def images_stamp(images: Mapping[str, Sequence[object]]) -> str:
    """One word for the sizes and times of the images of a chunk, {name: (size, mtime_ns, …)}."""
    return digest(sorted((name, *facts[:2]) for name, facts in images.items()))[:16]


def read_scores(
    folder: Path | str,
    distances: Iterable[str] | None = None,
    features: Iterable[int | str] | None = None,
    *,
    manifest: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """The score table of a finished run: SCORE_COLUMNS, all but `value` categorical, `feature` of block indices and names.

    About 20 bytes a row, three times that while reading; `distances` and `features` select what is kept, also in memory; `manifest` is
    the folder's latest by default.
    Raises InputError for a folder without a manifest and for a damaged shard.
    """
    folder = open_path(folder)
    filters = [
        (column, "in", [str(v) for v in wanted])
        for column, wanted in (("distance", distances), ("feature", features))
        if wanted is not None
    ]
    collected = _Collected()
    for data in _whole_shards(folder, (manifest or read_manifest(folder))["shards"]):
        collected.add(pq.read_table(pa.BufferReader(data), filters=filters or None))
    return collected.frame()


def _whole_shards(folder: Path, names: list[str]) -> Iterator[bytes]:
    """The bytes of the shards called `names`, in order. Raises InputError for a missing or damaged one."""
    for name, data in zip(
        names, in_threads(read_shard, (folder / n for n in names), is_remote(folder)), strict=True
    ):
        if data is None:
            raise InputError(
                f"{name} in {folder.name} is missing or damaged: run the same extraction again to mend it."
            )
        yield data


class _Collected:
    """Rows of many shards: every name is kept once, and a row holds the small numbers (codes) of its names."""

    def __init__(self) -> None:
        self.names: dict[str, dict[str, int]] = {c: {} for c in SCORE_COLUMNS if c != "value"}  # {name: code}
        self.codes: dict[str, list[np.ndarray]] = {c: [] for c in self.names}
        self.values: list[np.ndarray] = []

    def add(self, table: pa.Table) -> None:
        """Add the rows of one shard; its columns are dictionary-encoded."""
        for column, names in self.names.items():
            array = table[column].combine_chunks()
            shard_names = array.dictionary.to_pylist()
            code_of = np.array([names.setdefault(name, len(names)) for name in shard_names], np.int32)
            codes = code_of[array.indices.to_numpy()] if len(array) else np.empty(0, np.int32)
            # The smallest type that is large enough.
            self.codes[column].append(codes.astype(np.min_scalar_type(-len(names))))
        self.values.append(table["value"].to_numpy())

    def frame(self) -> pd.DataFrame:
        """Everything added, in order."""
        columns: dict[str, object] = {}
        for column, names in self.names.items():
            values = [_feature(n) for n in names] if column == "feature" else list(names)
            parts = self.codes.pop(column)
            codes = np.concatenate(parts) if parts else np.empty(0, np.int16)
            columns[column] = pd.Categorical.from_codes(codes, pd.Index(values, dtype=object))
        columns["value"] = np.concatenate(self.values) if self.values else np.empty(0)
        return pd.DataFrame(columns, copy=False)[SCORE_COLUMNS]


def _feature(name: str) -> int | str:
    return int(name) if name.isdigit() else name


def read_failures(folder: Path | str, manifest: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """The pairs that could not be scored, with the reason: FAILURE_COLUMNS. Raises InputError for a damaged shard."""
    folder, rows = open_path(folder), []
    manifest = manifest or read_manifest(folder)
    names = manifest["shards"] if manifest["failures"] else []  # nothing to look for in a million pairs
    for data in _whole_shards(folder, names):
        rows += facts_of(data)["failures"]
    return pd.DataFrame(rows, columns=FAILURE_COLUMNS)


def read_manifest(folder: Path | str, name: str = MANIFEST) -> dict[str, Any]:
    """The manifest of a finished run: the latest, or the one called `name` (`manifest_name`).

    Raises InputError where there is none, and where it is damaged.
    """
    try:
        data = read_whole(open_path(folder) / name)
    except FileNotFoundError:
        raise InputError(f"{folder} holds no finished run (no {name}): run fmiqa extract first.") from None
    try:
        manifest = json.loads(data)
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or name not in (MANIFEST, manifest_name(data)):
        raise InputError(f"{name} in {folder} is damaged: run the same extraction again to mend it.")
    return manifest


def manifest_name(data: bytes) -> str:
    """The name under which a manifest is kept for good, whatever the folder's latest one says later."""
    return f"manifest-{hashlib.sha256(data).hexdigest()[:16]}.json"


def manifest_bytes(manifest: Mapping[str, object]) -> bytes:
    """A manifest as it is written: the same facts, the same bytes."""
    return json.dumps(manifest, indent=1, sort_keys=True, default=_plain_number).encode()


def write_manifest(folder: Path, manifest: Mapping[str, object]) -> str:
    """Write the manifest, last of all: its presence says that the run is complete. Returns the name under which it is kept for good."""
    data = manifest_bytes(manifest)
    write_atomically(folder / manifest_name(data), data)
    write_atomically(folder / MANIFEST, data)
    return manifest_name(data)


def pairs_bytes(pairs: pd.DataFrame) -> tuple[str, bytes]:
    """(name, Parquet) of a pairs table; the name holds a checksum of the bytes."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(pairs, preserve_index=False), sink)
    data = bytes(sink.getvalue().to_pybytes())
    return f"pairs-{hashlib.sha256(data).hexdigest()[:16]}.table", data


def read_pairs(folder: Path | str, manifest: Mapping[str, object] | None = None) -> pd.DataFrame:
    """The pairs table that a run was scored with; `manifest` is the folder's latest by default.

    Raises InputError for a table that is missing or does not match the manifest.
    """
    folder = open_path(folder)
    manifest = manifest or read_manifest(folder)
    name = str(manifest.get("pairs_table", PAIRS))
    try:
        data = read_whole(folder / name)
        pairs = pd.read_parquet(io.BytesIO(data))
    except (FileNotFoundError, pa.ArrowInvalid, OSError):
        pairs = None
    matches = pairs is not None and hashlib.sha256(data).hexdigest()[:16] in name
    if name == PAIRS and pairs is not None:  # a name without a checksum
        matches = labels_digest(pairs) == manifest["labels_sha256"]
    if pairs is None or not matches:
        raise InputError(
            f"{name} in {folder.name} is missing or not the one that was scored: run the same extraction again to mend it."
        )
    return pairs


def labels_digest(pairs: pd.DataFrame) -> str:
    """sha256 of a pairs table without the paths of its images."""
    return digest_rows(pairs.drop(columns=["ref_path", "dist_path"]))


def read_verified(folder: Path) -> dict[str, Verified]:
    """What an earlier run noted of shards that it had read completely; {} if there is no note or an unreadable one."""
    try:
        table = pq.read_table(pa.BufferReader(read_whole(folder / VERIFIED))).to_pydict()
    except (FileNotFoundError, pa.ArrowInvalid):
        return {}
    columns = [table[c] for c in Verified._fields]
    return {name: Verified(*v) for name, *v in zip(table["shard"], *columns, strict=True)}


def write_verified(folder: Path, known: dict[str, Verified]) -> None:
    """Note the shards that are undamaged and match their images, so that the next start need not read them.

    If the folder cannot be written there is no note; that costs only time.
    """
    if not is_writable(folder):
        return
    rows = [{"shard": name, **seen._asdict()} for name, seen in known.items()]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, _VERIFIED_SCHEMA), sink)
    write_atomically(folder / VERIFIED, bytes(sink.getvalue().to_pybytes()))


@contextmanager
def sole_writer(folder: Path, patience: float = 3600, waiting: object = None) -> Iterator[None]:
    """Hold the run folder's lock; a second run waits for the first up to `patience` seconds, and says so.

    `waiting`: called with a sentence if another run holds the lock. Raises InputError when patience ends. An object store has no locks:
    there two drivers share the work, and both write the same. A read-only folder needs no lock.
    """
    if is_remote(folder):
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror}.") from error
    if not is_writable(folder):  # what is finished there can be read
        yield
        return
    lock = FileLock(folder / ".lock")
    try:
        try:
            lock.acquire(timeout=0)
        except OSError as error:
            if not isinstance(error, Timeout):
                raise InputError(f"{folder}/.lock cannot be opened: {error.strerror}.") from error
            if callable(waiting):
                waiting(f"another run is writing to {folder.name}; waiting for it to finish")
            lock.acquire(timeout=patience)
    except Timeout:
        raise InputError(
            f"another run has been writing to {folder} for {patience:.0f} s: stop it or choose another output."
        ) from None
    try:
        for leftover in folder.glob(f"{TEMPORARY}*"):  # of a run that was killed while it wrote
            leftover.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", Path(name).stem)[:40] or "chunk"


def _plain_number(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else str(value)
