"""Ctrl-C and SIGTERM: the work is interrupted, one sentence says what is kept, and the exit status is 128 plus the signal's number.

Typer turns a KeyboardInterrupt into an exit without a message, Lightning into exit status 1, other libraries into other errors. So the
signal is remembered when it comes, and `main` asks for it at the end, whatever the command returned or raised.
"""

import signal
from types import FrameType

CHUNKS = "finished chunks are kept, the same command goes on from there."
KEPT = {
    "extract": CHUNKS,
    "report": CHUNKS,
    "sweep": CHUNKS,
    "loda train": "finished epochs are kept, the same command goes on from there.",
    "loda ablate": "finished epochs are kept, the same command goes on from there.",
}
_caught: list[int] = []


def listen() -> None:
    """From here on SIGINT and SIGTERM raise KeyboardInterrupt and are remembered; a signal that the parent ignores stays ignored."""
    _caught.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _remember)


def _remember(number: int, _frame: FrameType | None) -> None:
    _caught.append(number)
    raise KeyboardInterrupt


def stopped_by() -> int:
    """The signal that came first, 0 if none has."""
    return _caught[0] if _caught else 0


def sentence(words: list[str]) -> str:
    """The sentence for a stopped command line: what is kept, and how to go on."""
    verb = [w for w in words if not w.startswith("-")]
    kept = (
        KEPT.get(" ".join(verb[:1])) or KEPT.get(" ".join(verb[:2])) or "nothing half-written is left behind."
    )
    return f"stopped; {kept}"
