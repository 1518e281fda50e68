"""Which chunks of a plan are done: shards found in the folder, scored since, or finished by another driver."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from fmiqa_utils.datasets.images import file_facts, read_bytes_rgb
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.chunk import Chunk
from fmiqa_utils.extraction.engines.base import Done
from fmiqa_utils.extraction.plan import Plan
from fmiqa_utils.files.storage import Entry, in_threads, is_remote, is_writable, listing, remove
from fmiqa_utils.scores.shards import (
    Verified,
    facts_of,
    find_shards,
    images_stamp,
    read_shard,
    read_verified,
    write_verified,
)

RELIST = 30.0  # s between looks at what other drivers have finished in an object store


class _Shards:
    """The shards in a folder, as last listed, and what an earlier run noted of those that it had read completely.

    `say` is called with a sentence for each damaged shard. `verify`: every image is hashed, whatever its size and time say.
    """

    def __init__(self, folder: Path, say: Callable[[str], object], *, verify: bool) -> None:
        self.folder, self.say, self.verify = folder, say, verify
        self.noted = read_verified(folder)
        self.entries: dict[str, Entry] = {}
        self.names: dict[str, list[str]] = {}  # first 16 digits of a key: its shards
        self.due = 0.0  # when to list again, by time.monotonic()
        self.look()

    def look(self) -> None:
        """Look at the folder again."""
        begin = time.monotonic()
        self.entries = listing(self.folder)
        self.names = find_shards(self.entries)
        took = time.monotonic() - begin
        self.due = time.monotonic() + max(RELIST, 20 * took)  # at most a twentieth of the time

    def of(self, key: str) -> list[str]:
        """Names of the shards of `key`; more than one where scoring was repeated."""
        return self.names.get(key[:16], [])

    def holds(self, chunk: Chunk, name: str, stamp: str) -> bool:
        """True if shard `name` is undamaged, holds `chunk` without failures, and its images have not changed since.

        `stamp`: `images_stamp` of the images as they are now, "" where one is missing.
        """
        if stamp and not self.verify and self.noted.get(name) == (*self.entries[name], stamp):
            return True
        shard = read_shard(self.folder / name)
        if shard is None:
            self.say(f"{name} is damaged: its chunk is computed again")
        return is_done(chunk, shard, verify=self.verify)

    def note(self, stamps: Mapping[str, str]) -> None:
        """Note the undamaged shards: {name: stamp of its images}."""
        verified = {
            n: Verified(*self.entries[n], stamp) for n, stamp in stamps.items() if stamp and n in self.entries
        }
        if verified != self.noted:
            write_verified(self.folder, verified)
            self.noted = verified


class Kept:
    """The chunks of a plan that are done: which shard holds each, and what is left to do.

    `shards`: {key: name}; `pairs`: how many are in them; `failed`: pairs without a value in the chunks scored since.
    """

    def __init__(
        self, chunks: Plan, folder: Path, say: Callable[[str], object], *, verify: bool = False
    ) -> None:
        self.chunks, self.folder = chunks, folder
        self.shards: dict[str, str] = {}
        self.pairs = 0
        self._stored = _Shards(folder, say, verify=verify)
        self._index = {key: i for i, key in enumerate(chunks.keys)}
        self._stamps: dict[str, str] = {}  # name: stamp of its images
        self._failures: dict[str, int] = {}  # key: pairs
        self._outdated: dict[str, set[str]] = {}  # key: unusable shards that have no replacement yet
        self._stale: set[str] = set()  # shards that have a replacement
        for i, shard in enumerate(in_threads(self._done_shard, range(len(chunks)), is_remote(folder))):
            self._keep(i, shard)
        self._stored.note(self._stamps)

    @property
    def failed(self) -> int:
        """Pairs without a value in the chunks scored since."""
        return sum(self._failures.values())

    def to_do(self) -> Iterator[Chunk]:
        """The chunks that are not done. In an object store, where several drivers may share the work, each begins at a random
        chunk and takes over what another has finished meanwhile."""
        todo = [i for i, key in enumerate(self.chunks.keys) if key not in self.shards]
        if is_remote(self.folder) and todo:
            first = secrets.randbelow(len(todo))
            todo = todo[first:] + todo[:first]
        for i in todo:
            if is_remote(self.folder) and time.monotonic() > self._stored.due:
                self._stored.look()
            key = self.chunks.keys[i]
            unseen = set(self._stored.of(key)) - self._outdated.get(key, set())
            if unseen and (shard := self._done_shard(i)):
                self._keep(i, shard)
            else:
                yield self.chunks.chunk(i)

    def add(self, done: Done) -> None:
        """Take in a chunk that was scored."""
        if done.failures:
            self._failures[done.key] = len(done.failures)
        self._stale |= self._outdated.pop(done.key, set())
        self._keep(self._index[done.key], (done.shard, "" if done.failures else done.images))

    def settle(self) -> None:
        """Before the manifest: take over what failed here but another driver could score, and note the undamaged shards."""
        self._stored.look()
        for key in list(self._failures) if is_remote(self.folder) else ():
            if shard := self._done_shard(self._index[key]):
                del self._failures[key]
                self._keep(self._index[key], shard)
        self._stored.note(self._stamps)

    def clean(self, in_use: Callable[[], set[str]]) -> None:
        """After the manifest: remove replaced shards, unless a saved run holds them (`in_use`, called only if there are any)."""
        stale = self._stale - set(self.shards.values()) if is_writable(self.folder) else set()
        for name in stale - in_use() if stale else ():
            remove(self.folder / name)

    def _keep(self, i: int, shard: tuple[str, str] | None) -> None:
        if shard is not None:
            key, (name, stamp) = self.chunks.keys[i], shard
            self.pairs += 0 if key in self.shards else self.chunks.size(i)
            self.shards[key], self._stamps[name] = name, stamp

    def _done_shard(self, i: int) -> tuple[str, str] | None:
        """(shard, stamp of its images) if chunk number `i` is done; other shards of its key stay until the manifest names this one."""
        key = self.chunks.keys[i]
        names = self._stored.of(key)
        if not names:
            return None
        chunk = self.chunks.chunk(i)
        stamp = _stamp_now(chunk)
        for name in names:
            if self._stored.holds(chunk, name, stamp):
                self._stale |= set(names) - {name}
                return name, stamp
        self._outdated[key] = set(names)
        return None


def is_done(chunk: Chunk, shard: bytes | None, *, verify: bool = False) -> bool:
    """True if `shard` holds this chunk without failures, and its images are those that it was scored from."""
    if shard is None:
        return False
    facts = facts_of(shard)
    return not facts["failures"] and all(
        _unchanged(path, facts["images"].get(name), verify) for name, path in _image_paths(chunk).items()
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


def _unchanged(path: str, known: tuple[int, int, str] | None, verify: bool) -> bool:
    """True if size and time are the same, unless `verify`; otherwise the size and content decide."""
    if known is None or not Path(path).is_file():
        return False
    facts = file_facts(path)
    return (not verify and tuple(known[:2]) == tuple(facts)) or (
        facts.size == known[0] and read_bytes_rgb(path)[1] == known[2]
    )
