"""Who scores the chunks: this process, a pool of processes (one per GPU), or Ray. The result is the same shards.

An engine takes chunks and a folder and yields a `Done` for each, in any order, once its shard is on the disk.
"""

import logging
import multiprocessing
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fmiqa_utils.chunks import Chunk, ChunkResult, failed_chunk, score_chunk
from fmiqa_utils.errors import InputError
from fmiqa_utils.scorer import Scorer, Settings
from fmiqa_utils.scores import shard_bytes, write_shard

TRIES = 3  # of a chunk whose worker dies or fails, before it is set aside
AHEAD = 2  # chunks under way per worker: enough to keep it busy, few enough to stay small
MODELS = 2  # kept in a worker's memory
PATIENCE = 60  # s, for a cluster to offer what was asked for


class Done(NamedTuple):
    """A chunk whose shard is written."""

    key: str
    shard: str
    failures: list[dict[str, str]]
    windows: int


@dataclass(frozen=True)
class Spec:
    """What a worker needs to build its scorer."""

    backbone: str
    weights: str  # as `load_backbone` takes it
    normalize: str = "none"
    precision: str = "fp32"
    settings: Settings = field(default_factory=Settings)
    batch: int = 0


Engine = Callable[[list[Chunk], Path], Iterator[Done]]
Say = Callable[[str], object]


def serial(scorer: Scorer) -> Engine:
    """Chunk after chunk in this process."""

    def work(chunks: list[Chunk], folder: Path) -> Iterator[Done]:
        for chunk in chunks:
            result = score_chunk(chunk, scorer)
            start = time.perf_counter()
            done = save_chunk(folder, chunk, result)
            scorer.seconds["write"] += time.perf_counter() - start
            yield done

    return work


def save_chunk(folder: Path, chunk: Chunk, result: ChunkResult) -> Done:
    """Write a chunk's shard."""
    facts: dict[str, object] = {"key": chunk.key, "images": result.images, "failures": result.failures}
    path = write_shard(folder, f"{chunk.ref}-{chunk.transform}", chunk.key, shard_bytes(result.rows, facts))
    return Done(chunk.key, path.name, result.failures, result.windows)


# ---- in a worker -------------------------------------------------------------------------------------------------------

_device = "cpu"
_scorers: OrderedDict[Spec, Scorer] = OrderedDict()


def prepare_worker(devices: Any, threads: int) -> None:
    """Called once in each worker process: takes a device from the queue and limits its threads."""
    global _device
    _device = devices.get()
    torch.set_num_threads(threads)


def work_on(spec: Spec, chunk: Chunk, folder: Path, device: str | None = None) -> Done:
    """Score one chunk in a worker; models stay loaded between chunks."""
    return save_chunk(folder, chunk, score_chunk(chunk, _scorer(spec, device or _device)))


def set_aside(spec: Spec, chunk: Chunk, folder: Path, reason: str) -> Done:
    """Write a chunk that could not be scored: every pair is a row without a value, with the reason."""
    return save_chunk(folder, chunk, failed_chunk(chunk, _scorer(spec, "cpu"), reason))


def _scorer(spec: Spec, device: str) -> Scorer:
    from fmiqa_utils.backbones import load_backbone

    if spec not in _scorers:
        model = load_backbone(
            spec.backbone, spec.weights, normalize=spec.normalize, precision=spec.precision, device=device
        )
        _scorers[spec] = Scorer(model, spec.settings, batch=spec.batch)
        while len(_scorers) > MODELS:
            _scorers.popitem(last=False)
    _scorers.move_to_end(spec)
    return _scorers[spec]


# ---- processes on this machine -----------------------------------------------------------------------------------------


def pool(spec: Spec, devices: list[str], *, threads: int = 0, say: Say = lambda _: None) -> Engine:
    """One process per entry of `devices`; a process that dies costs its chunks, which are tried again.

    threads: of each process; 0 shares the machine's among them.
    """
    threads = threads or max(1, (os.cpu_count() or 1) // len(devices))

    def work(chunks: list[Chunk], folder: Path) -> Iterator[Done]:
        waiting, tries = list(chunks), dict.fromkeys((c.key for c in chunks), 0)
        while waiting:
            lost: list[Chunk] = []
            yield from _one_pool(spec, devices, threads, waiting, folder, lost)
            waiting = []
            for chunk in lost:
                tries[chunk.key] += 1
                if tries[chunk.key] < TRIES:
                    waiting.append(chunk)
                else:
                    say(f"{chunk.ref} ({chunk.transform}) is set aside after {TRIES} tries")
                    yield set_aside(spec, chunk, folder, f"its worker died {TRIES} times")
            if waiting:
                say(f"a worker died: {len(waiting)} chunks are tried again")

    return work


def _one_pool(
    spec: Spec, devices: list[str], threads: int, chunks: list[Chunk], folder: Path, lost: list[Chunk]
) -> Iterator[Done]:
    """Work through `chunks` until they are done or a process dies; what was under way then, or not begun, is `lost`."""
    context = multiprocessing.get_context("spawn")  # CUDA and threads do not survive a fork
    queue = context.Manager().Queue()
    for device in devices:
        queue.put(device)
    todo = iter(chunks)
    under_way: dict[Future[Done], Chunk] = {}
    with ProcessPoolExecutor(len(devices), context, prepare_worker, (queue, threads)) as executor:
        try:
            while True:
                while len(under_way) < AHEAD * len(devices) and (chunk := next(todo, None)) is not None:
                    under_way[executor.submit(work_on, spec, chunk, folder)] = chunk
                if not under_way:
                    return
                finished: set[Future[Done]] = wait(under_way, return_when=FIRST_COMPLETED).done
                for future in finished:
                    done = future.result()
                    del under_way[future]
                    yield done
        except BrokenProcessPool:
            lost += [*under_way.values()]
            rest = list(todo)
            if rest:  # not begun: they lose no try
                yield from _one_pool(spec, devices, threads, rest, folder, lost)


# ---- Ray -----------------------------------------------------------------------------------------------------------------


def ray_actors(
    spec: Spec, workers: int, *, address: str | None = None, num_gpus: float = 0, say: Say = lambda _: None
) -> Engine:
    """`workers` Ray actors, each with `num_gpus` GPUs (fractions too) or one CPU; an actor that dies is started again.

    address: of a running cluster; None starts Ray on this machine, reachable from it alone. Raises InputError where Ray is not
    installed, and where the cluster cannot offer the resources within a minute.
    """

    def work(chunks: list[Chunk], folder: Path) -> Iterator[Done]:
        ray = _start_ray(address)
        remote = ray.remote(num_cpus=1, num_gpus=num_gpus)(_Actor)

        def start() -> Any:
            return remote.remote("cuda" if num_gpus else "cpu")

        actors = [start() for _ in range(workers)]
        try:
            _await_actors(ray, actors, num_gpus)
            yield from _feed(ray, actors, start, spec, chunks, folder, say)
        finally:
            for one in actors:
                ray.kill(one)

    return work


class _Actor:
    """A worker of the cluster; its models stay loaded between chunks and between backbones."""

    def __init__(self, device: str) -> None:
        torch.set_num_threads(1 if device == "cpu" else torch.get_num_threads())
        self.device = device

    def ready(self) -> bool:
        return True

    def score(self, spec: Spec, chunk: Chunk, folder: str) -> Done:
        return work_on(spec, chunk, Path(folder), self.device)


def _start_ray(address: str | None) -> Any:
    try:
        import ray
    except ImportError:
        raise InputError(
            "the engine ray needs Ray: install the extra with pip install 'fmiqa[ray]'."
        ) from None
    if not ray.is_initialized():
        local: dict[str, Any] = (
            {} if address else {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        )
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
            raise InputError(f"there is no Ray cluster at {address}: {str(error).splitlines()[0]}") from error
    return ray


def _await_actors(ray: Any, actors: list[Any], num_gpus: float) -> None:
    pending = [a.ready.remote() for a in actors]
    ready, late = ray.wait(pending, num_returns=len(pending), timeout=PATIENCE)
    have = ray.cluster_resources()
    enough = have.get("CPU", 0) >= len(actors) and have.get("GPU", 0) >= num_gpus * len(actors)
    if late and enough:  # it can be met: a busy machine takes its time to import torch
        ready, late = ray.wait(pending, num_returns=len(pending), timeout=10 * PATIENCE)
    if late:
        raise InputError(
            f"only {len(ready)} of {len(actors)} workers could start: each asks for 1 CPU and {num_gpus:g} GPUs, the "
            f"cluster has {have.get('CPU', 0):g} CPUs and {have.get('GPU', 0):g} GPUs. Ask for fewer workers or for less each."
        )


def _feed(
    ray: Any,
    actors: list[Any],
    start: Callable[[], Any],
    spec: Spec,
    chunks: list[Chunk],
    folder: Path,
    say: Say,
) -> Iterator[Done]:
    """Keep every actor busy with a few chunks at a time; a dead one is replaced, a chunk that fails three times is set aside."""
    todo, tries = list(reversed(chunks)), dict.fromkeys((c.key for c in chunks), 0)
    under_way: dict[Any, tuple[int, Any, Chunk]] = {}  # future: place of the actor, the actor, its chunk
    while todo or under_way:
        for place, one in enumerate(actors):
            busy = sum(a is one for _, a, _ in under_way.values())
            for _ in range(min(AHEAD - busy, len(todo))):
                chunk = todo.pop()
                under_way[one.score.remote(spec, chunk, str(folder))] = (place, one, chunk)
        (finished, *_), _ = ray.wait(list(under_way), num_returns=1)
        place, one, chunk = under_way.pop(finished)
        try:
            yield ray.get(finished)
            continue
        except ray.exceptions.RayActorError as error:
            reason = type(error).__name__
            if actors[place] is one:  # the first of its chunks to come back
                actors[place] = start()
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1][:200]
        tries[chunk.key] += 1
        if tries[chunk.key] < TRIES:
            say(f"{chunk.ref} ({chunk.transform}) is tried again: {reason}")
            todo.append(chunk)
        else:
            say(f"{chunk.ref} ({chunk.transform}) is set aside after {TRIES} tries: {reason}")
            yield set_aside(spec, chunk, folder, f"failed {TRIES} times: {reason}")
