"""Files on this machine or in an object store, by the same few verbs: written whole or not at all, read whole, listed once.

On a disk a file is written under a temporary name, flushed and renamed. An object store has no rename and needs none: an object appears
when its upload is complete, and not before. A remote path is a `upath.UPath`, which has `pathlib.Path`'s methods.
"""

import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from fmiqa_utils.errors import InputError, first_line

TEMPORARY = ".writing-"
REQUESTS = 16  # under way at once to an object store
UMASK = os.umask(0o022)
os.umask(UMASK)  # there is no other way to read it
BLOCK = 1024  # items handed to the threads at once: bounds the memory for a million items

T = TypeVar("T")
R = TypeVar("R")


class Entry(NamedTuple):
    """What a listing says of a file: enough to see that it was replaced."""

    size: int  # bytes
    stamp: str  # time of change in ns on a disk, ETag or time in an object store


def open_path(text: str | Path) -> Path:
    """A path of this machine, or of an object store for an address such as s3://bucket/folder.

    Raises InputError if the package for such an address is not installed.
    """
    scheme, _, local = str(text).rpartition("://")
    if scheme in ("", "file", "local"):
        return Path(local)
    from upath import UPath

    try:
        path = UPath(str(text))
        path.fs  # noqa: B018  # loads the package of this kind of store
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{text} cannot be opened: {error}. pip install 'fmiqa[cloud]' brings S3 and Google's storage."
        ) from error
    return cast(Path, path)


def is_remote(path: Path) -> bool:
    """True for a path in an object store."""
    return not isinstance(path, Path)


def write_atomically(path: Path, data: bytes) -> Path:
    """`data` at `path`, whole or not at all. Raises InputError if the disk is full or the folder cannot be written."""
    if is_remote(path):
        with_reason(path, "written", lambda: path.write_bytes(data))
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
    except OSError as error:
        raise InputError(f"{path.parent} cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o666 & ~UMASK)  # mkstemp's files can be read by their owner only
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
    except BaseException:  # stopped by a signal
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def is_writable(folder: Path) -> bool:
    """False for a folder on a read-only disk or of another user; True for an object store, which refuses only when written to."""
    return is_remote(folder) or os.access(
        folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids
    )


def check_room(folder: Path, what: str, room: int = 2**24) -> None:
    """Raises InputError unless `room` bytes can be written into `folder`, which is made if it is missing."""
    trial = folder / f"{TEMPORARY}trial-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            trial.write_bytes(bytes(room))
        finally:
            trial.unlink(missing_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(
            f"{what} cannot be written into {folder} ({reason}): make room there, or name another folder."
        ) from error


def read_whole(path: Path) -> bytes:
    """The whole file. Raises FileNotFoundError where there is none."""
    return with_reason(path, "read", path.read_bytes) if is_remote(path) else path.read_bytes()


def remove(path: Path) -> None:
    """Delete the file; nothing happens if another driver has deleted it already."""
    if is_remote(path):
        with_reason(path, "removed", lambda: path.unlink(missing_ok=True))
    else:
        path.unlink(missing_ok=True)


def listing(folder: Path) -> dict[str, Entry]:
    """The files in `folder` by name, in the order of their names; {} where there is no folder. One listing, not one request per file."""
    entries = _remote_listing(folder) if is_remote(folder) else _local_listing(folder)
    return dict(sorted(entries))


def in_threads(act: Callable[[T], R], items: Iterable[T], remote: bool) -> Iterator[R]:
    """`act` of every item, in order; for an object store with many requests under way, never more than a block in memory."""
    if not remote:
        return map(act, items)
    return _in_blocks(act, items)


def _in_blocks(act: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    remaining = iter(items)
    with ThreadPoolExecutor(REQUESTS) as pool:
        while block := list(islice(remaining, BLOCK)):
            yield from pool.map(act, block)


def with_reason(path: Path, verb: str, act: Callable[[], R]) -> R:
    """`act()` on an object store; whatever its package raises becomes one sentence, except that a missing file stays
    FileNotFoundError unless it was to be written.
    """
    try:
        return act()
    except Exception as error:  # every store has its own exceptions
        if isinstance(error, FileNotFoundError) and verb != "written":
            raise
        raise InputError(
            f"{path} could not be {verb} ({first_line(error)}): check the address, the network and the credentials; "
            f"finished chunks are kept."
        ) from error


def _local_listing(folder: Path) -> Iterator[tuple[str, Entry]]:
    try:
        with os.scandir(folder) as items:
            for item in items:
                if item.is_file():
                    stat = item.stat()
                    yield item.name, Entry(stat.st_size, str(stat.st_mtime_ns))
    except (FileNotFoundError, NotADirectoryError):
        return


def _remote_listing(folder: Path) -> Iterator[tuple[str, Entry]]:
    fs, path = folder.fs, folder.path  # type: ignore[attr-defined]
    fs.invalidate_cache(path)  # another driver may have written since
    try:
        infos = with_reason(folder, "listed", lambda: fs.ls(path, detail=True))
    except FileNotFoundError:
        return
    for info in infos:
        if info["type"] == "file":
            stamp = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created") or ""
            yield info["name"].rstrip("/").rsplit("/", 1)[-1], Entry(info["size"], str(stamp))
