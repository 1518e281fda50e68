"""From a pairs table to a score table: plan the chunks, score those that are not done, write their shards."""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from fmiqa_utils.backbones import WINDOW
from fmiqa_utils.chunks import Chunk
from fmiqa_utils.distances import DISTANCES_VERSION
from fmiqa_utils.engines import Done, Engine, serial
from fmiqa_utils.errors import InputError
from fmiqa_utils.features import STRIDE
from fmiqa_utils.images import file_facts, read_bytes_rgb
from fmiqa_utils.provenance import hardware, versions
from fmiqa_utils.scorer import Scorer
from fmiqa_utils.scores import (
    MANIFEST,
    Verified,
    digest,
    digest_rows,
    facts_of,
    find_shards,
    images_stamp,
    read_manifest,
    read_shard,
    read_verified,
    sole_writer,
    write_manifest,
    write_pairs,
    write_verified,
)
from fmiqa_utils.storage import in_threads, is_remote, listing, remove
from fmiqa_utils.transforms import parse_transform

RELIST = 30.0  # s between looks at what other drivers have finished in an object store


@dataclass(frozen=True)
class Plan:
    """The chunks of a run in order. A chunk is made when it is asked for: a million pairs stay one table."""

    pairs: pd.DataFrame
    keys: list[str]
    places: list[tuple[str, str, np.ndarray]]  # ref, transform, rows of the pairs table

    def __len__(self) -> int:
        return len(self.keys)

    def size(self, i: int) -> int:
        """Pairs of chunk number `i`."""
        return len(self.places[i][2])

    def chunk(self, i: int) -> Chunk:
        """Chunk number `i`."""
        ref, transform, rows = self.places[i]
        return Chunk(ref, transform, self.pairs.iloc[rows], self.keys[i])


def plan(
    pairs: pd.DataFrame, scorer: Scorer, transforms: Sequence[str] = ("none",), transform_pairs: int = 0
) -> Plan:
    """One chunk per reference and transform; its key covers everything that changes a number or a label.

    `transform_pairs`: how many pairs, evenly spaced, are scored under the transforms other than "none"; 0: all.
    """
    for name in transforms:
        parse_transform(name)
    common = run_key(scorer)
    places = []
    for transform in transforms:
        rows = _spaced(len(pairs), 0 if transform == "none" else transform_pairs)
        codes, refs = pd.factorize(pairs["ref"].iloc[rows])
        groups = np.split(rows[np.argsort(codes, kind="stable")], np.bincount(codes).cumsum()[:-1])
        places += [(str(ref), transform, own) for ref, own in zip(refs, groups, strict=True)]
    labels = pairs.drop(columns=["ref_path", "dist_path"])
    keys = [
        digest(common, transform, labelled)
        for (_, transform, _), labelled in zip(places, _texts(labels, [r for *_, r in places]), strict=True)
    ]
    return Plan(pairs, keys, places)


def _texts(labels: pd.DataFrame, groups: list[np.ndarray]) -> Iterator[list[list[str]]]:
    """The cells of each group of rows as text; a block of groups is turned to text at a time."""
    for start in range(0, len(groups), 256):
        block = groups[start : start + 256]
        text = labels.iloc[np.concatenate(block)].astype(str).to_numpy().tolist()
        ends = np.cumsum([len(g) for g in block]).tolist()
        yield from (text[a:b] for a, b in pairwise([0, *ends]))


def evenly_spaced(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rows of `table`, evenly spaced; all of them for 0 or where there are no more."""
    return table.iloc[_spaced(len(table), count)]


def _spaced(total: int, count: int) -> np.ndarray:
    """The places of `count` of `total` rows."""
    if not 0 < count < total:
        return np.arange(total)
    return np.linspace(0, total - 1, count).round().astype(int)


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


def is_done(chunk: Chunk, shard: bytes | None) -> bool:
    """True if `shard` holds this chunk without failures, and its images are the ones it was scored from."""
    if shard is None:
        return False
    facts = facts_of(shard)
    return not facts["failures"] and all(
        _unchanged(path, facts["images"].get(name)) for name, path in _image_paths(chunk).items()
    )


def _image_paths(chunk: Chunk) -> dict[str, str]:
    pairs = chunk.pairs
    return {f"ref:{chunk.ref}": pairs["ref_path"].iloc[0]} | dict(
        zip(pairs["dist"], pairs["dist_path"], strict=True)
    )


def _stamp_now(chunk: Chunk) -> str:
    """`images_stamp` of the chunk's images as they are; "" where one is missing."""
    try:
        return images_stamp({name: file_facts(path) for name, path in _image_paths(chunk).items()})
    except InputError:
        return ""


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
    total = sum(chunks.size(i) for i in range(len(chunks)))
    with sole_writer(folder, waiting=say):
        start, failures, windows = time.time(), 0, 0
        kept = _Kept(chunks, folder, say)
        found = len(kept.shards)
        if progress:
            progress(kept.pairs, total, 0)
        for result in (engine or serial(scorer))(kept.to_do(), folder):
            if result.failures and strict:
                raise InputError(f"stopped at the first failure (--strict): {result.failures[0]['reason']}")
            kept.add(result)
            failures += len(result.failures)
            windows += result.windows
            if progress:
                progress(kept.pairs, total, failures)
        ordered = [kept.shards[key] for key in chunks.keys]
        manifest = _manifest(pairs, scorer, transforms, ordered, failures)
        if found < len(chunks) or not _same_shards(folder, ordered):
            effort = {"seconds": round(time.time() - start, 2), "windows": windows, "chunks_kept": found}
            write_pairs(folder, pairs)
            kept.note()
            write_manifest(
                folder, manifest | effort | {"stages": {k: round(v, 2) for k, v in scorer.seconds.items()}}
            )
    return manifest


class _Kept:
    """The shards of a plan that are done: those found at the start, those scored since, those of another driver."""

    def __init__(self, chunks: Plan, folder: Path, say: Callable[[str], object]) -> None:
        self.chunks, self.folder, self.say = chunks, folder, say
        self.shards: dict[str, str] = {}  # key: name
        self.pairs = 0  # in `shards`
        self._place = {key: i for i, key in enumerate(chunks.keys)}
        self._images: dict[str, str] = {}  # name: stamp
        self._outdated: dict[str, str] = {}  # key: name
        self._known = read_verified(folder)
        self._look_around()
        for i, found in enumerate(in_threads(self._found, range(len(chunks)), is_remote(folder))):
            self._keep(i, found)
        if self._verified() != self._known:
            write_verified(folder, self._verified())

    def to_do(self) -> Iterator[Chunk]:
        """The chunks that are not done. In an object store, where several drivers may share the work, each begins at a place of its own
        and takes over what another has finished meanwhile."""
        todo = [i for i, key in enumerate(self.chunks.keys) if key not in self.shards]
        if is_remote(self.folder) and todo:
            first = secrets.randbelow(len(todo))
            todo = todo[first:] + todo[:first]
        for i in todo:
            if is_remote(self.folder) and time.monotonic() > self._look_again:
                self._look_around()
            key = self.chunks.keys[i]
            if self._names.get(key[:16]) != self._outdated.get(key) and (found := self._found(i)):
                self._keep(i, found)
            else:
                yield self.chunks.chunk(i)

    def add(self, done: Done) -> None:
        """A chunk that was scored."""
        old = self._outdated.pop(done.key, done.shard)
        if old != done.shard:
            remove(self.folder / old)
        self._keep(self._place[done.key], (done.shard, "" if done.failures else done.images))

    def note(self) -> None:
        """Leave a note of the shards that need not be read again, as they are listed now."""
        self._look_around()
        write_verified(self.folder, self._verified())

    def _keep(self, i: int, found: tuple[str, str] | None) -> None:
        if found is not None:
            name, self._images[name] = found[0], found[1]
            self.shards[self.chunks.keys[i]] = name
            self.pairs += self.chunks.size(i)

    def _look_around(self) -> None:
        begin = time.monotonic()
        self._entries = listing(self.folder)
        self._names = find_shards(self._entries)
        took = time.monotonic() - begin
        self._look_again = time.monotonic() + max(RELIST, 20 * took)  # at most a twentieth of the time

    def _found(self, i: int) -> tuple[str, str] | None:
        """(shard, stamp of its images) if chunk number `i` is done; a damaged or outdated shard goes when its successor is there."""
        key = self.chunks.keys[i]
        name = self._names.get(key[:16])
        if name is None:
            return None
        chunk = self.chunks.chunk(i)
        now = _stamp_now(chunk)
        if now and self._known.get(name) == (*self._entries[name], now):
            return name, now
        shard = read_shard(self.folder / name)
        if is_done(chunk, shard):
            return name, now
        if shard is None:
            self.say(f"{name} is damaged: its chunk is computed again")
        self._outdated[key] = name
        return None

    def _verified(self) -> dict[str, Verified]:
        return {
            n: Verified(*self._entries[n], s) for n, s in self._images.items() if s and n in self._entries
        }


def _same_shards(folder: Path, names: list[str]) -> bool:
    return MANIFEST in listing(folder) and read_manifest(folder)["shards"] == names


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
        "labels_sha256": digest_rows(pairs.drop(columns=["ref_path", "dist_path"])),
        "shards": shards,
        "versions": versions(),
        "hardware": hardware(scorer.device),
    }
