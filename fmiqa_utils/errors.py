"""The one exception that a user's own input can cause."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class InputError(ValueError):
    """Bad input from the user: one sentence that names the thing and the way out.

    The command line prints it as a single line and exits with status 2; in a notebook it reads as the last line
    of the traceback. Anything else that reaches the user is a defect of ours. What a file's name may hold but a
    terminal cannot show (line breaks, escape codes, bytes that are not UTF-8) is written as \\n, \\x1b, \\udcff.

    >>> print(InputError("two\\nlines"))
    two\\nlines
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """`text` on one line, fit for any UTF-8 output: control characters, marks of text direction and surrogates as escapes."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; the name of its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def near(name: str, known: Iterable[str]) -> str:
    """`name`'s closest matches among `known`, as the end of an error sentence."""
    known = list(known)
    matches = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(matches)}?" if matches else f"known: {', '.join(known)}."
