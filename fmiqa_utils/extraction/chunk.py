"""score_chunk: one reference and its distorted images become score rows; the contract between plan and engine."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pandas as pd
import torch

from fmiqa_utils.backbones.features import Features, concatenate
from fmiqa_utils.backbones.windows import cut_windows, fit_small, window_boxes
from fmiqa_utils.datasets.images import file_facts, read_bytes_rgb
from fmiqa_utils.datasets.transforms import apply_transform
from fmiqa_utils.distances.baselines import Reference
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.scorer import Scorer
from fmiqa_utils.scores.shards import SCORE_COLUMNS

REF_WINDOWS = 64  # reference windows with features in memory at once: bounds the memory for large images


@dataclass(frozen=True)
class Chunk:
    """One reference under one transform, with its distorted images."""

    ref: str
    transform: str
    pairs: pd.DataFrame
    key: str


@dataclass
class ChunkResult:
    """A chunk's score rows, its failures and the facts (size, mtime_ns, sha256) of the images read."""

    rows: pd.DataFrame
    failures: list[dict[str, str]]
    images: dict[str, tuple[int, int, str]]
    windows: int


def score_chunk(
    chunk: Chunk, scorer: Scorer, during: Callable[[float], object] = lambda _: None
) -> ChunkResult:
    """Score one chunk: a function of the image files, the backbone and the settings, and of nothing else.

    A pair that cannot be scored has NaN in all its rows and an entry in `failures`; the table is never shorter.
    `during` is called after every batch with the number of pairs done; a pair counts by the share of its windows.
    """
    reader = _Reader(chunk, scorer)
    names = list(chunk.pairs["pair_id"])
    totals = np.zeros((len(names), len(scorer.columns)))
    baselines = np.full((len(names), len(scorer.settings.baselines)), np.nan)
    counts = np.zeros(len(names), int)
    try:
        boxes = window_boxes(*reader.reference().shape[:2])
    except InputError as error:
        reader.fail_all(str(error))
        boxes = []
    with torch.inference_mode(), ThreadPoolExecutor(scorer.workers) as pool:
        for start in range(0, len(boxes), REF_WINDOWS):
            group = boxes[start : start + REF_WINDOWS]
            for index, values in _score_group(reader, scorer, group, pool):
                np.add.at(totals, index, values)
                np.add.at(counts, index, 1)
                during(float(counts.sum() / len(boxes)))
    for i, values in reader.baselines.items():
        baselines[i] = values
    means = totals / np.maximum(counts, 1)[:, None]
    for i in np.flatnonzero((counts == len(boxes)) & ~np.isfinite(means).all(1)).tolist():
        if i not in reader.failed:
            reader.fail(i, f"{scorer.backbone.name} returned values that are not finite")
    for i in reader.failed:
        means[i], baselines[i] = np.nan, np.nan
    rows = _rows(chunk, scorer, means, baselines)
    return ChunkResult(rows, reader.failures(), reader.images, int(counts.sum()) + len(boxes))


def failed_chunk(chunk: Chunk, scorer: Scorer, reason: str) -> ChunkResult:
    """A chunk that could not be scored at all: NaN in every row, one reason for every pair."""
    reader = _Reader(chunk, scorer)
    reader.fail_all(reason)
    n = len(chunk.pairs)
    empty = [np.full((n, k), np.nan) for k in (len(scorer.columns), len(scorer.settings.baselines))]
    return ChunkResult(_rows(chunk, scorer, *empty), reader.failures(), {}, 0)


def _score_group(
    reader: "_Reader", scorer: Scorer, boxes: list[tuple[int, int]], pool: ThreadPoolExecutor
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(pair indices [B], values [B, K]) for the windows at `boxes` of every distorted image; each ref window embedded once."""
    ref: Features | None = None
    parts: list[Features] = []
    stream = reader.windows(boxes, pool)
    while batch := list(islice(stream, scorer.batch)):
        pair, box = np.array([b[0] for b in batch]), np.array([b[1] for b in batch])
        features = scorer.embed(np.stack([b[2] for b in batch]))
        is_ref = torch.from_numpy(pair < 0)
        if is_ref.any():
            parts.append(features.take(is_ref.nonzero().flatten().to(scorer.device)))
        if (pair >= 0).any():
            if ref is None:
                ref, parts = concatenate(parts), []
            f = features.take((~is_ref).nonzero().flatten().to(scorer.device)) if is_ref.any() else features
            index = pair[pair >= 0]
            yield index, scorer.measure(f, ref.take(torch.from_numpy(box[pair >= 0]).to(scorer.device)))


class _Reader:
    """Decodes the images of a chunk in threads, and notes what could not be read."""

    def __init__(self, chunk: Chunk, scorer: Scorer) -> None:
        self.chunk, self.scorer = chunk, scorer
        self.paths = list(chunk.pairs["dist_path"])
        self.ref_path = str(chunk.pairs["ref_path"].iloc[0])
        self.images: dict[str, tuple[int, int, str]] = {}
        self._names = {self.ref_path: [f"ref:{chunk.ref}"]}  # one file may have several names
        for path, name in zip(self.paths, chunk.pairs["dist"], strict=True):
            self._names.setdefault(path, []).append(str(name))
        self.failed: dict[int, str] = {}
        self.baselines: dict[int, np.ndarray] = {}
        self._raw_ref: np.ndarray | None = None

    def reference(self) -> np.ndarray:
        """The reference as it is compared: read, transformed, made large enough if asked."""
        self._raw_ref = self._read(self.ref_path)
        ref, _ = apply_transform(self._raw_ref, self._raw_ref, self.chunk.transform)
        self._ref = fit_small(ref, self.scorer.settings.small_images, self.ref_path)
        self._metrics = Reference(ref, self.scorer.settings.baselines)
        return self._ref

    def windows(
        self, boxes: list[tuple[int, int]], pool: ThreadPoolExecutor
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """(pair index, box index, uint8 [224, 224, 3]); the reference's come first, with index −1."""
        yield from ((-1, b, w) for b, w in enumerate(cut_windows(self._ref, boxes)))
        pending: list[tuple[int, Future[np.ndarray | None]]] = []
        todo = iter(i for i in range(len(self.paths)) if i not in self.failed)
        for i in islice(todo, 2 * self.scorer.workers):
            pending.append((i, pool.submit(self._distorted, i)))
        while pending:
            i, future = pending.pop(0)
            start = time.perf_counter()
            image = future.result()
            self.scorer.seconds["decode"] += time.perf_counter() - start
            pending += [(n, pool.submit(self._distorted, n)) for n in islice(todo, 1)]
            if image is not None:
                yield from ((i, b, w) for b, w in enumerate(cut_windows(image, boxes)))

    def _distorted(self, i: int) -> np.ndarray | None:
        """Distorted image number `i` as it is compared, or None with the reason noted."""
        try:
            raw = self._read(self.paths[i])
            assert self._raw_ref is not None
            if raw.shape != self._raw_ref.shape:
                sizes = " and ".join(f"{a.shape[1]}×{a.shape[0]}" for a in (raw, self._raw_ref))
                raise InputError(f"{self.paths[i]} and its reference differ in size: {sizes} px.")
            _, dist = apply_transform(self._raw_ref, raw, self.chunk.transform)
            if i not in self.baselines:
                self.baselines[i] = self._metrics.values(dist)
            return fit_small(dist, self.scorer.settings.small_images, self.paths[i])
        except InputError as error:
            self.fail(i, str(error))
            return None

    def _read(self, path: str) -> np.ndarray:
        facts = file_facts(path)
        image, sha256 = read_bytes_rgb(path)
        for name in self._names[path]:
            self.images[name] = (facts.size, facts.mtime_ns, sha256)
        return image

    def fail(self, i: int, reason: str) -> None:
        """Note why pair `i` has no score."""
        self.failed[i] = reason

    def fail_all(self, reason: str) -> None:
        """Note one reason for every pair."""
        self.failed = dict.fromkeys(range(len(self.paths)), reason)

    def failures(self) -> list[dict[str, str]]:
        """The failures in the order of the pairs."""
        ids, names = list(self.chunk.pairs["pair_id"]), list(self.chunk.pairs["dist"])
        return [
            {"pair_id": ids[i], "transform": self.chunk.transform, "file": names[i], "reason": self.failed[i]}
            for i in sorted(self.failed)
        ]


def _rows(chunk: Chunk, scorer: Scorer, means: np.ndarray, baselines: np.ndarray) -> pd.DataFrame:
    """The chunk's values as long rows, pair by pair."""
    b = scorer.backbone
    labels = [(b.name, b.weights, b.normalize, *c) for c in scorer.columns]
    labels += [("baseline", "none", "none", "image", name, "published") for name in scorer.settings.baselines]
    values = np.hstack([means, baselines])
    ids = chunk.pairs["pair_id"].to_numpy()
    table = pd.DataFrame(
        labels * len(ids), columns=["backbone", "weights", "normalize", "feature", "distance", "variant"]
    )
    table.insert(0, "dataset", str(chunk.pairs["dataset"].iloc[0]))
    table.insert(1, "pair_id", np.repeat(ids, len(labels)))
    table.insert(5, "transform", chunk.transform)
    table["value"] = values.ravel()
    return table[SCORE_COLUMNS]
