"""What of a plan is done already: shards found in the folder, scored since, or finished by another driver."""

import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fmiqa_utils.datasets.images import file_facts, read_bytes_rgb
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.chunk import Chunk
from fmiqa_utils.extraction.engines.base import Done
from fmiqa_utils.extraction.plan import Plan
from fmiqa_utils.files.storage import in_threads, is_remote, is_writable, listing, remove
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


class Kept:
    """The shards of a plan that are done. `say` hears of damaged ones. `verify`: every image is hashed, whatever its size and time say.

    `shards`: {key: name}; `pairs`: how many are in them; `failed`: pairs without a value in the chunks scored since.
    """

    def __init__(
        self, chunks: Plan, folder: Path, say: Callable[[str], object], *, verify: bool = False
    ) -> None:
        self.chunks, self.folder, self.say, self.verify = chunks, folder, say, verify
        self.shards: dict[str, str] = {}  # key: name
        self.pairs = 0  # in `shards`
        self._place = {key: i for i, key in enumerate(chunks.keys)}
        self._images: dict[str, str] = {}  # name: stamp
        self.failed = 0
        self._failures: dict[str, int] = {}  # key: pairs
        self._outdated: dict[str, set[str]] = {}  # key: names that are of no use
        self._stale: set[str] = set()  # those that have a successor
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
            news = set(self._names.get(key[:16], ())) - self._outdated.get(key, set())
            if news and (found := self._found(i)):
                self._keep(i, found)
            else:
                yield self.chunks.chunk(i)

    def add(self, done: Done) -> None:
        """A chunk that was scored."""
        if done.failures:
            self._failures[done.key] = len(done.failures)
            self.failed += len(done.failures)
        self._stale |= self._outdated.pop(done.key, set())
        self._keep(self._place[done.key], (done.shard, "" if done.failures else done.images))

    def settle(self) -> None:
        """Before the manifest: what failed here and another driver could score is taken over; a note says which shards are whole."""
        self._look_around()
        for key, count in self._failures.items() if is_remote(self.folder) else ():
            if found := self._found(self._place[key]):
                self.failed -= count
                self._keep(self._place[key], found)
        write_verified(self.folder, self._verified())

    def clean(self, in_use: Callable[[], set[str]]) -> None:
        """After the manifest: shards that have a successor go, unless a saved run holds them (`in_use`, asked only where it matters)."""
        stale = self._stale - set(self.shards.values()) if is_writable(self.folder) else set()
        for name in stale - in_use() if stale else ():
            remove(self.folder / name)

    def _keep(self, i: int, found: tuple[str, str] | None) -> None:
        if found is not None:
            key, (name, stamp) = self.chunks.keys[i], found
            self.pairs += 0 if key in self.shards else self.chunks.size(i)
            self.shards[key], self._images[name] = name, stamp

    def _look_around(self) -> None:
        begin = time.monotonic()
        self._entries = listing(self.folder)
        self._names = find_shards(self._entries)
        took = time.monotonic() - begin
        self._look_again = time.monotonic() + max(RELIST, 20 * took)  # at most a twentieth of the time

    def _found(self, i: int) -> tuple[str, str] | None:
        """(shard, stamp of its images) if chunk number `i` is done; others of its key stay until the manifest names this one."""
        key = self.chunks.keys[i]
        names = self._names.get(key[:16], [])
        if not names:
            return None
        chunk = self.chunks.chunk(i)
        now = _stamp_now(chunk)
        for name in names:
            if self._is_done(chunk, name, now):
                self._stale |= set(names) - {name}
                return name, now
        self._outdated[key] = set(names)
        return None

    def _is_done(self, chunk: Chunk, name: str, now: str) -> bool:
        if now and not self.verify and self._known.get(name) == (*self._entries[name], now):
            return True
        shard = read_shard(self.folder / name)
        if shard is None:
            self.say(f"{name} is damaged: its chunk is computed again")
        return is_done(chunk, shard, verify=self.verify)

    def _verified(self) -> dict[str, Verified]:
        return {
            n: Verified(*self._entries[n], s) for n, s in self._images.items() if s and n in self._entries
        }


def is_done(chunk: Chunk, shard: bytes | None, *, verify: bool = False) -> bool:
    """True if `shard` holds this chunk without failures, and its images are the ones it was scored from."""
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
    """Size and time settle it at once unless `verify`; after a copy or a rebuild the content decides."""
    if known is None or not Path(path).is_file():
        return False
    facts = file_facts(path)
    return (not verify and tuple(known[:2]) == tuple(facts)) or (
        facts.size == known[0] and read_bytes_rgb(path)[1] == known[2]
    )
