"""Opening a file that the user named: a regular file of bounded size, or one sentence that says what it is instead.

A named pipe would keep its reader waiting, and a device such as /dev/zero never ends.
"""

import os
import stat
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

from fmiqa_utils.errors import InputError

KINDS: dict[str, Callable[[int], bool]] = {
    "a folder": stat.S_ISDIR,
    "a named pipe": stat.S_ISFIFO,
    "a socket": stat.S_ISSOCK,
    "a device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
}
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


def open_regular(path: str | Path, what: str, most: int) -> BufferedReader:
    """The file at `path`, open for reading bytes.

    `what`: what it should be ("an image"), for the message; `most`: bytes that it may have on disk. Raises InputError
    if it is missing, forbidden, larger, or not a regular file. It never waits.
    """
    try:
        _refuse(os.stat(path), path, what, most)  # before it is opened: opening a device may do something
        handle = os.open(path, os.O_RDONLY | _WITHOUT_WAITING)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(why_unread(path, error)) from error
    try:
        _refuse(os.fstat(handle), path, what, most)  # what was opened may be another file by now
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_regular(path: str | Path, what: str, most: int) -> None:
    """Raises InputError where `open_regular` would."""
    open_regular(path, what, most).close()


def why_unread(path: str | Path, error: OSError | ValueError) -> str:
    """One sentence on why the system could not read a file."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return f"{path} does not exist."
    if isinstance(error, PermissionError):
        return f"{path} may not be read: give this user read permission on it and on its folder."
    if isinstance(error, UnicodeEncodeError):
        return f"{path} cannot be read, because names on disk are read as {error.encoding} here: set PYTHONUTF8=1."
    reason = (error.strerror or error) if isinstance(error, OSError) else error
    return f"{path} cannot be read: {reason}."


def _refuse(facts: os.stat_result, path: str | Path, what: str, most: int) -> None:
    for kind, matches in KINDS.items():
        if matches(facts.st_mode):
            raise InputError(f"{path} is {kind}, not {what}: name a regular file.")
    if facts.st_size > most:
        raise InputError(
            f"{path} has {facts.st_size / 2**20:,.0f} MiB, and {what} may have at most {most / 2**20:,.0f} MiB: "
            f"name a smaller file."
        )
