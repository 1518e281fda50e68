"""Ctrl-C and SIGTERM while Lightning trains: heard at once, never lost, never turned into success."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """What a signal raised. Python drops an exception in the callbacks of a fork (workers begin with one): `check` raises it then.

    SIGTERM raises SystemExit(143) where the program has no handler for it. Lightning's own handler would go on to the end of the epoch
    and leave with status 0; it calls the handler that it finds.
    """

    raised: BaseException | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen until the end of the context. Signals reach the main thread alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in STOPPING}
        for number in STOPPING:
            if callable(before[number]) or (number == signal.SIGTERM and before[number] == signal.SIG_DFL):
                signal.signal(number, self._handler(before[number]))
        try:
            yield
        finally:
            for number, handler in before.items():
                if handler is not None:  # one that was not set from Python
                    signal.signal(number, handler)

    def check(self) -> None:
        """Raises what a signal raised before."""
        if self.raised is not None:
            raise self.raised

    def _handler(self, before: Any) -> Any:
        def handle(number: int, frame: FrameType | None) -> None:
            try:
                if not callable(before):
                    raise SystemExit(128 + number)
                before(number, frame)
            except BaseException as error:
                self.raised = error
                if not _forking(frame):
                    raise

        return handle


def _forking(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.endswith("popen_fork.py"):
            return True
        frame = frame.f_back
    return False
