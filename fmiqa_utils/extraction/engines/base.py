"""Who scores the chunks: this process, a pool of processes (`engines.pool`), or Ray (`engines.ray`). The shards are the same.

An engine takes an iterable of chunks and a folder, and yields a `Done` for each, in any order, once its shard is written. What
all workers share is here: a chunk whose worker dies or fails is tried again, and set aside with its reason after three times.
"""

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from fmiqa_utils.errors import InputError, first_line
from fmiqa_utils.extraction.chunk import Chunk, ChunkResult, failed_chunk, score_chunk
from fmiqa_utils.extraction.scorer import Scorer, Settings
from fmiqa_utils.scores.shards import images_stamp, shard_bytes, write_shard

TRIES = 3  # of a chunk whose worker dies or fails, before it is set aside
AHEAD = 2  # chunks under way per worker: enough to keep it busy, few enough to stay small
MODELS = 2  # kept in a worker's memory


class Done(NamedTuple):
    """A chunk whose shard is written."""

    key: str
    shard: str
    failures: list[dict[str, str]]
    windows: int
    images: str  # `images_stamp` of what was read


@dataclass(frozen=True)
class Spec:
    """What a worker needs to build its scorer."""

    backbone: str
    weights: str  # as `load_backbone` takes it
    normalize: str = "none"
    precision: str = "fp32"
    settings: Settings = field(default_factory=Settings)
    batch: int = 0


Engine = Callable[[Iterable[Chunk], Path], Iterator[Done]]
Workers = Callable[[Spec], Engine]  # one group of workers scores with one backbone after another
Say = Callable[[str], object]


def serial(
    scorer: Scorer, trials: "Trials | None" = None, during: Callable[[float], object] = lambda _: None
) -> Engine:
    """Chunk after chunk in this process. What a chunk raises is raised; with `trials` the chunk is tried again
    and set aside in the end. `during` is called with the number of pairs of the current chunk that are done.
    """

    def work(chunks: Iterable[Chunk], folder: Path) -> Iterator[Done]:
        for chunk in chunks:
            while True:
                try:
                    yield _timed(chunk, scorer, folder, during)
                    break
                except InputError:
                    raise
                except Exception as error:
                    if trials is None:
                        raise
                    if trials.spent(chunk, error_text(error)):
                        yield save_chunk(folder, chunk, failed_chunk(chunk, scorer, trials.reason(chunk)))
                        break

    return work


def _timed(chunk: Chunk, scorer: Scorer, folder: Path, during: Callable[[float], object]) -> Done:
    result = score_chunk(chunk, scorer, during)
    start = time.perf_counter()
    done = save_chunk(folder, chunk, result)
    scorer.seconds["write"] += time.perf_counter() - start
    return done


def save_chunk(folder: Path, chunk: Chunk, result: ChunkResult) -> Done:
    """Write a chunk's shard."""
    facts: dict[str, object] = {"key": chunk.key, "images": result.images, "failures": result.failures}
    path = write_shard(folder, f"{chunk.ref}-{chunk.transform}", chunk.key, shard_bytes(result.rows, facts))
    return Done(chunk.key, path.name, result.failures, result.windows, images_stamp(result.images))


class Trials:
    """How often each chunk failed, and why."""

    def __init__(self, say: Say = lambda _: None) -> None:
        self.say = say
        self._counts: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}

    def spent(self, chunk: Chunk, reason: str) -> bool:
        """Count a failure of `chunk`; True if it was the last allowed."""
        self._counts[chunk.key] += 1
        self._reasons[chunk.key] = reason
        last = self._counts[chunk.key] >= TRIES
        what = f"set aside after {TRIES} tries" if last else "tried again"
        self.say(f"{chunk.ref} ({chunk.transform}) is {what}: {reason}")
        return last

    def reason(self, chunk: Chunk) -> str:
        """Why the chunk is set aside, for its failure rows."""
        return f"failed {TRIES} times: {self._reasons[chunk.key]}"


class ChunkError(Exception):
    """What a chunk raised in a worker, in words: not every exception can be pickled."""


def error_text(error: BaseException) -> str:
    """The first line of an exception, short enough for a table."""
    if isinstance(error, ChunkError):
        return str(error)
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"[:200]


# ---- in a worker process -------------------------------------------------------------------------------------------------

_scorers: OrderedDict[tuple[Spec, str], Scorer] = OrderedDict()


def work_on(spec: Spec, chunk: Chunk, folder: Path, device: str) -> Done:
    """Score one chunk in a worker; models stay loaded between chunks. Every exception it raises can be pickled."""
    try:
        return save_chunk(folder, chunk, score_chunk(chunk, _scorer(spec, device)))
    except InputError:
        raise
    except Exception as error:
        raise ChunkError(error_text(error)) from None


def set_aside(spec: Spec, chunk: Chunk, folder: Path, reason: str) -> Done:
    """Write a chunk that could not be scored: every pair is a row without a value, with the reason."""
    return save_chunk(folder, chunk, failed_chunk(chunk, _scorer(spec, "cpu"), reason))


def _scorer(spec: Spec, device: str) -> Scorer:
    from fmiqa_utils.backbones.load import load_backbone

    if (spec, device) not in _scorers:
        while len(_scorers) >= MODELS:  # before the next model needs the memory
            _scorers.popitem(last=False)
        try:
            model = load_backbone(
                spec.backbone,
                spec.weights,
                normalize=spec.normalize,
                precision=spec.precision,
                device=device,
            )
        except (RuntimeError, OSError) as error:  # not the chunk's fault: the next one would fail too
            raise InputError(
                f"{spec.backbone} cannot be loaded on {device} ({error_text(error)}); what is finished stays."
            ) from error
        _scorers[spec, device] = Scorer(model, spec.settings, batch=spec.batch)
    _scorers.move_to_end((spec, device))
    return _scorers[spec, device]
