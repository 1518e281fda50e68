"""Processes of this machine as workers, one per device; a process that dies costs the chunks that were under way."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

import torch

from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.chunk import Chunk
from fmiqa_utils.extraction.engines.base import (
    AHEAD,
    TRIES,
    Done,
    Engine,
    Say,
    Spec,
    Trials,
    Workers,
    error_text,
    set_aside,
    work_on,
)

_device = "cpu"


def _prepare(devices: Any, threads: int) -> None:
    """Called once in each worker process: takes a device, limits its threads, and makes sure that it ends with its parent."""
    global _device
    _device = devices.get()
    torch.set_num_threads(threads)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for([parent.sentinel])
    os._exit(1)


def _work_on(spec: Spec, chunk: Chunk, folder: Path) -> Done:
    return work_on(spec, chunk, folder, _device)


@contextmanager
def process_pool(devices: list[str], *, threads: int = 0, say: Say = lambda _: None) -> Iterator[Workers]:
    """One process per entry of `devices`, for as long as the context lasts; models stay loaded from one backbone to the next.

    threads: of each process; 0 divides the machine's cores among them.
    """
    group = _Pool(devices, threads or max(1, (os.cpu_count() or 1) // len(devices)), say)
    try:
        yield group.engine
    finally:
        group.stop()


class _Pool:
    def __init__(self, devices: list[str], threads: int, say: Say) -> None:
        self.devices, self.threads, self.say = devices, threads, say
        self.executor = self._start()

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # CUDA and threads do not survive a fork
        devices = context.Queue()
        for device in self.devices:
            devices.put(device)
        return ProcessPoolExecutor(len(self.devices), context, _prepare, (devices, self.threads))

    def _restart(self) -> None:
        """Replace all processes, which may be unusable. Raises InputError if the new ones keep dying before any work."""
        for _ in range(TRIES):
            self.stop()
            self.executor = self._start()
            try:
                self.executor.submit(os.getpid).result()
                return
            except BrokenProcessPool as error:
                reason = error
        raise InputError(
            "worker processes die before they can score anything; what is finished stays."
        ) from reason

    def stop(self) -> None:
        """End the processes as soon as the chunks under way are done."""
        self.executor.shutdown(wait=True, cancel_futures=True)

    def engine(self, spec: Spec) -> Engine:
        """These processes, scoring as `spec` says."""
        return partial(self.work, spec)

    def work(self, spec: Spec, chunks: Iterable[Chunk], folder: Path) -> Iterator[Done]:
        """Work through `chunks`; chunks under way when a process died are tried again one by one, to find the one to blame."""
        todo, retries, trials = iter(chunks), deque[Chunk](), Trials(self.say)
        under_way: dict[Future[Done], Chunk] = {}
        while True:
            self._feed(spec, todo, retries, folder, under_way)
            if not under_way:
                return
            lost: list[tuple[Chunk, BaseException]] = []
            for chunk, outcome in _outcomes(under_way):
                if isinstance(outcome, InputError):
                    raise outcome
                if isinstance(outcome, Done):
                    yield outcome
                else:
                    lost.append((chunk, outcome))
            if lost:  # a process in which something failed may be unusable
                self._restart()
            for chunk, error in lost:
                died = isinstance(error, BrokenProcessPool)
                if died and len(lost) > 1:
                    self.say(f"{chunk.ref} ({chunk.transform}) is tried again: a worker died")
                    retries.append(chunk)
                elif trials.spent(chunk, "its worker died" if died else error_text(error)):
                    yield set_aside(spec, chunk, folder, trials.reason(chunk))
                else:
                    retries.append(chunk)

    def _feed(
        self,
        spec: Spec,
        todo: Iterator[Chunk],
        retries: deque[Chunk],
        folder: Path,
        under_way: dict[Future[Done], Chunk],
    ) -> None:
        """Give the processes as much as they need: a chunk that is tried again alone, else a few each."""
        most = 1 if retries else AHEAD * len(self.devices)
        while len(under_way) < most:
            chunk = retries.popleft() if retries else next(todo, None)
            if chunk is None:
                return
            try:
                under_way[self.executor.submit(_work_on, spec, chunk, folder)] = chunk
            except BrokenProcessPool:  # a process died between two chunks
                retries.append(chunk)
                self._restart()


def _outcomes(under_way: dict[Future[Done], Chunk]) -> list[tuple[Chunk, Done | BaseException]]:
    """The finished chunks with their results or exceptions, taken out of `under_way`; if one failed, all chunks."""
    finished = wait(under_way, return_when=FIRST_COMPLETED).done
    if any(f.exception() for f in finished):
        finished = wait(under_way).done
    return [
        (under_way.pop(f), f.exception() or f.result()) for f in sorted(finished, key=list(under_way).index)
    ]
