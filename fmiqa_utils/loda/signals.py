"""Ctrl-C and SIGTERM while Lightning trains: handled at once, never lost, never reported as success."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Keeps the exception that a signal raised: Python drops it inside the callbacks of a fork (workers start with one), `check` raises it.

    SIGTERM raises SystemExit(143) where the program has no handler for it. Lightning's own handler would go on to the end of the epoch
    and exit with status 0, but it calls a handler that is already set.
    """

    raised: BaseException | None = None

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Handle signals until the end of the context. Signals reach only the main thread."""
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
                if handler is not None:  # None: the handler was not set from Python
                    signal.signal(number, handler)

    def check(self) -> None:
        """Raises the exception of an earlier signal, if there was one."""
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
