"""The one exception that a user's own input can cause."""

from collections.abc import Sequence
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input from the user: one sentence that names the thing and the way out.

    The command line prints it as a single line and exits with status 2; in a notebook it reads as the last line
    of the traceback. Anything else that reaches the user is a defect of ours.
    """


def near(name: str, known: Sequence[str]) -> str:
    """`name`'s closest matches among `known`, as the end of an error sentence."""
    matches = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(matches)}?" if matches else f"known: {', '.join(known)}."
