"""Finding a dataset's files on disk whatever the letter case of their names, with one listing per folder."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from fmiqa_utils.errors import InputError
from fmiqa_utils.files.regular import check_regular

MAX_BYTES = 2**30  # of a label file
# The characters in which Python keeps the bytes of a name that is not UTF-8.
UNDECODED = frozenset(map(chr, range(0xDC80, 0xDD00)))


class Folder:
    """A dataset's folder; names in it are relative, with forward slashes, and match in any letter case.

    Label files and disks disagree on case (TID2013 ships `i25.bmp` beside `I01.BMP`). An exact match wins;
    two files that differ only in case are an error where neither matches exactly.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._listings: dict[str, dict[str, list[str]]] = {}
        self._real: dict[str, str] = {}  # folder: its path without links and dots

    def find(self, name: str) -> str | None:
        """Absolute path of the file or folder `name` (an absolute name stays itself), None if absent."""
        parent, _, last = name.rstrip("/").rpartition("/")
        folder = self._folder(parent, absolute=name.startswith("/"))
        if folder is None:
            return None
        matches = self._listing(folder).get(last.lower(), [])
        if len(matches) > 1 and last not in matches:
            raise InputError(
                f"{folder} holds {' and '.join(sorted(matches))}, and either may be {last}: rename one to exactly {last}."
            )
        if not matches:
            return None
        return readable(os.path.join(folder, last if last in matches else matches[0]))

    def identity(self, name: str) -> str | None:
        """One spelling for every name of the file: letter case, dots and links of folders do not count; None if absent.

        A file that is itself a link counts as a separate file, as a copy would: some stores keep equal files once and link to them.
        """
        path = self.find(name)
        if path is None:
            return None
        parent, last = os.path.split(path)
        if parent not in self._real:
            self._real[parent] = os.path.realpath(parent)
        return os.path.join(self._real[parent], last)

    def need(self, *names: str) -> Path:
        """The first of `names` that is there, a folder or a label file.

        Raises InputError if none is, and for a file that is not regular or larger than `MAX_BYTES`.
        """
        for name in names:
            if path := self.find(name):
                if not os.path.isdir(path):
                    check_regular(path, "a label file", MAX_BYTES)
                return Path(path)
        raise InputError(
            f"{self.root} has no {' or '.join(names)}: data/README.md shows the expected layout."
        )

    def names(self, name: str = "") -> list[str]:
        """Names of what the folder called `name` holds, sorted; none if there is no such folder."""
        folder = self._folder(name)
        return (
            sorted(entry for entries in self._listing(folder).values() for entry in entries) if folder else []
        )

    def find_all(self, names: Iterable[str]) -> list[str | None]:
        """`find` for a whole column."""
        return [self.find(name) for name in names]

    def _folder(self, name: str, *, absolute: bool = False) -> str | None:
        exact = os.path.join(self.root, name) if name else "/" if absolute else str(self.root)
        if exact in self._listings or os.path.isdir(exact):
            return exact
        path = self.find(name) if name else None
        return path if path and os.path.isdir(path) else None

    def _listing(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._listings:
            try:
                entries = os.listdir(folder)
            except OSError as error:
                raise InputError(f"{folder} cannot be listed: {error.strerror}.") from error
            listing: dict[str, list[str]] = {}
            for entry in entries:
                listing.setdefault(entry.lower(), []).append(entry)
            self._listings[folder] = listing
        return self._listings[folder]


def readable(path: str) -> str:
    """Raises InputError for a path that no table can hold, because its bytes on disk are not text in UTF-8."""
    if not path.isascii() and not UNDECODED.isdisjoint(path):
        raise InputError(
            f"{path}: the name is not UTF-8 text, so no table can hold it: rename it, or set PYTHONUTF8=1 where the "
            f"locale is not UTF-8."
        )
    return path


def first_few(names: Sequence[str], most: int = 3) -> str:
    """The names for an error sentence: the first few, then how many more."""
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
