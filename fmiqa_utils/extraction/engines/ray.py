"""Ray actors as workers, on this machine or on a cluster: Ray places and starts them; lost chunks are handled here."""

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
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
from fmiqa_utils.files.storage import open_path

PATIENCE = 60  # s, for a cluster to offer what was asked for
STARTING = 600  # s, for a busy machine to start a worker that it has room for


@contextmanager
def ray_actors(
    workers: int = 0, *, address: str | None = None, num_gpus: float | None = None, say: Say = lambda _: None
) -> Iterator[Workers]:
    """`workers` Ray actors, each with `num_gpus` GPUs (fractions too) or one CPU, for as long as the context lasts.

    By default each has one GPU where the cluster has any, and there are as many as the cluster's GPUs or CPUs allow.
    An actor that dies is started again, as soon as the cluster has room for it; the others go on. address: of a running cluster; None
    starts Ray on this machine with its token, reachable only from it, and ends it. Raises InputError if Ray is not installed, and
    if the cluster cannot offer the resources within a minute.
    """
    ray, started_here = _start_ray(address)
    actors = None
    try:
        resources = ray.cluster_resources()
        gpus = float(resources.get("GPU", 0) > 0) if num_gpus is None else num_gpus
        actors = _Actors(ray, workers or max(1, _capacity(resources, gpus)), gpus, say)
        yield actors.engine
    finally:
        if actors:
            actors.stop()
        if started_here:
            ray.shutdown()


class _Actor:
    """A worker of the cluster; its models stay loaded between chunks and between datasets."""

    def __init__(self, device: str) -> None:
        torch.set_num_threads(1 if device == "cpu" else torch.get_num_threads())
        self.device = device

    def ready(self) -> bool:
        return True

    def score(self, spec: Spec, chunk: Chunk, folder: str) -> Done:
        return work_on(spec, chunk, open_path(folder), self.device)


@dataclass
class _Slot:
    """One worker: its actor, the future that waits for its start (None once it has started), and its chunks in order."""

    actor: Any
    starting: Any
    under_way: dict[Any, Chunk] = field(default_factory=dict)


class _Actors:
    def __init__(self, ray: Any, workers: int, num_gpus: float, say: Say) -> None:
        self.ray, self.num_gpus, self.say = ray, num_gpus, say
        self.remote = ray.remote(num_cpus=1, num_gpus=num_gpus)(_Actor)
        self.failed_starts = 0
        self.slots = [self._new() for _ in range(workers)]
        try:
            self._await_all()
        except BaseException:
            self.stop()
            raise

    def _new(self) -> _Slot:
        actor = self.remote.remote("cuda" if self.num_gpus else "cpu")
        return _Slot(actor, actor.ready.remote())

    def stop(self) -> None:
        """End the actors."""
        for slot in self.slots:
            self.ray.kill(slot.actor)

    def _await_all(self) -> None:
        pending = [s.starting for s in self.slots]
        ready, late = self.ray.wait(pending, num_returns=len(pending), timeout=PATIENCE)
        if late and self._has_capacity(len(pending)):
            ready, late = self.ray.wait(pending, num_returns=len(pending), timeout=STARTING)
        if late:
            raise InputError(f"only {len(ready)} of {len(pending)} workers could start: {self._resources()}")
        for slot in self.slots:
            self._started(slot)

    def _has_capacity(self, workers: int) -> bool:
        return _capacity(self.ray.cluster_resources(), self.num_gpus) >= workers

    def _resources(self) -> str:
        resources = self.ray.cluster_resources()
        return (
            f"each asks for 1 CPU and {self.num_gpus:g} GPUs, the cluster has {resources.get('CPU', 0):g} CPUs and "
            f"{resources.get('GPU', 0):g} GPUs. Ask for fewer workers or for less each."
        )

    def _started(self, slot: _Slot) -> None:
        """The actor of `slot` has answered, or has died before it could. Raises InputError if actors keep dying."""
        try:
            self.ray.get(slot.starting)
            slot.starting, self.failed_starts = None, 0
        except self.ray.exceptions.RayError as error:
            self.failed_starts += 1
            if self.failed_starts >= TRIES:
                raise InputError(f"workers cannot start: {error_text(error)}") from error
            self._replace(slot)

    def _replace(self, slot: _Slot) -> None:
        self.ray.kill(slot.actor)  # one that cannot be reached may still hold a GPU
        new = self._new()
        slot.actor, slot.starting, slot.under_way = new.actor, new.starting, {}

    def engine(self, spec: Spec) -> Engine:
        """These actors, scoring as `spec` says."""
        return partial(self.work, spec)

    def work(self, spec: Spec, chunks: Iterable[Chunk], folder: Path) -> Iterator[Done]:
        """Keep every actor busy with a few chunks at a time, so that no more than those are in memory."""
        todo, queue, trials = iter(chunks), deque[Chunk](), Trials(self.say)
        while True:
            for slot in self.slots:
                while slot.starting is None and len(slot.under_way) < AHEAD and _refilled(queue, todo):
                    chunk = queue.popleft()
                    slot.under_way[slot.actor.score.remote(spec, chunk, str(folder))] = chunk
            if not any(s.under_way for s in self.slots) and not _refilled(queue, todo):
                return
            slot, future = self._next()
            if future == slot.starting:
                self._started(slot)
                continue
            try:
                done = self.ray.get(future)
                del slot.under_way[future]
                yield done
            except self.ray.exceptions.RayError as error:
                finished, blamed, reason, waiting = self._account(slot, future, error)
                yield from finished
                self._replace(slot)
                queue.extend(waiting)
                if trials.spent(blamed, reason):
                    yield set_aside(spec, blamed, folder, trials.reason(blamed))
                else:
                    queue.append(blamed)

    def _next(self) -> tuple[_Slot, Any]:
        """The next future that is finished, and its slot. Raises InputError when no worker is left and none can come."""
        owners = {
            future: s for s in self.slots for future in (*s.under_way, s.starting) if future is not None
        }
        waited = 0
        while True:
            finished, _ = self.ray.wait(list(owners), num_returns=1, timeout=PATIENCE)
            if finished:
                return owners[finished[0]], finished[0]
            waited += PATIENCE
            working = any(s.under_way for s in self.slots)
            if not working and (waited >= STARTING or not self._has_capacity(1)):
                raise InputError(f"no worker is left, and what is finished stays: {self._resources()}")

    def _account(
        self, slot: _Slot, future: Any, error: Exception
    ) -> tuple[list[Done], Chunk, str, list[Chunk]]:
        """(what is finished, the chunk to blame, the reason, the chunks that only waited) of a slot with a failure."""
        if not isinstance(error, self.ray.exceptions.RayActorError):  # the chunk raised, its actor lives
            blamed = slot.under_way.pop(future)
            cause = getattr(error, "cause", None) or error
            if isinstance(cause, InputError):
                raise cause
            return [], blamed, error_text(cause), list(slot.under_way.values())
        finished, lost = [], []
        for other, chunk in slot.under_way.items():
            try:
                finished.append(self.ray.get(other))
            except self.ray.exceptions.RayError:
                lost.append(chunk)
        return finished, lost[0], f"its worker died ({type(error).__name__})", lost[1:]


def _capacity(resources: dict[str, float], num_gpus: float) -> int:
    """The number of workers that the resources allow; several may share one GPU, but none uses parts of two."""
    workers = int(resources.get("CPU", 0))
    if num_gpus:
        gpus = int(resources.get("GPU", 0))
        workers = min(workers, gpus * int(1 / num_gpus) if num_gpus < 1 else int(gpus / num_gpus))
    return workers


def _refilled(queue: deque[Chunk], todo: Iterator[Chunk]) -> bool:
    """True if there is a chunk in the queue, after taking one from `todo` where it was empty."""
    if not queue:
        queue.extend(islice(todo, 1))
    return bool(queue)


def _start_ray(address: str | None) -> tuple[Any, bool]:
    """Ray, and whether it was started here."""
    if address is None:  # on every system as on macOS: a Ray of one machine listens only on its loopback
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    else:  # half a minute for a cluster that does not answer, not twenty times that
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    try:
        import ray
    except ImportError:
        raise InputError(
            "the engine ray needs Ray: install the extra with pip install 'fmiqa[ray]'."
        ) from None
    if ray.is_initialized():
        return ray, False
    local: dict[str, Any] = {} if address else {"include_dashboard": False}
    try:
        where = address or "local"  # None would look for a cluster that some other program left behind
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError, ray.exceptions.RayError) as error:
        hint = (
            " Does it run, and is its token in ~/.ray/auth_token or $RAY_AUTH_TOKEN here?" if address else ""
        )
        raise InputError(
            f"Ray cannot be used ({address or 'this machine'}): {error_text(error).rstrip('.')}.{hint}"
        ) from error
    return ray, True
