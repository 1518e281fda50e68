"""From a pairs table to a score table: plan the chunks, score each with one forward per window, write its shard."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fmiqa_utils.backbones import WINDOW, Backbone
from fmiqa_utils.baselines import BASELINES, baseline_values
from fmiqa_utils.distances import DISTANCES_VERSION, distances, embedding_cos
from fmiqa_utils.errors import InputError
from fmiqa_utils.features import STRIDE, cut_windows, fit_small, to_input, window_boxes
from fmiqa_utils.images import file_facts, read_bytes_rgb
from fmiqa_utils.provenance import hardware, versions
from fmiqa_utils.readers import Features, concatenate
from fmiqa_utils.scores import (
    SCORE_COLUMNS,
    digest,
    find_shards,
    is_intact,
    read_facts,
    shard_bytes,
    sole_writer,
    write_manifest,
    write_pairs,
    write_shard,
)
from fmiqa_utils.transforms import apply_transform, parse_transform

REF_WINDOWS = 64  # reference windows whose features are kept at once: what bounds the memory for large images
BATCH = {"cpu": 8, "cuda": 128}  # windows in one forward
Column = tuple[str, str, str]  # feature, distance, variant


@dataclass(frozen=True)
class Settings:
    """What changes a number, beside the backbone and the images."""

    distances: tuple[str, ...] = ("l2", "cos", "skld", "jsd", "wsd")
    variants: tuple[str, ...] = ("published",)
    layer_curves: bool = True  # of the published joint distances; l2, cos and corrected forms always have them
    small_images: str = "error"
    seed: int = 0  # of swd's directions


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


@dataclass
class Scorer:
    """A backbone with the settings it scores with, and the threads that decode images for it."""

    backbone: Backbone
    settings: Settings
    batch: int = 0  # windows in one forward; 0: by device
    workers: int = 2
    columns: list[Column] = field(init=False)
    seconds: dict[str, float] = field(default_factory=lambda: {"decode": 0.0, "forward": 0.0, "distances": 0.0, "write": 0.0})

    def __post_init__(self) -> None:
        self.device = self.backbone.mean.device
        self.batch = self.batch or BATCH.get(self.device.type, 8)
        with torch.inference_mode():
            blank = self.backbone(torch.zeros(1, 3, WINDOW, WINDOW, device=self.device))
            self.columns = [c for c, _ in self.compare(blank, blank)]

    def compare(self, f: Features, g: Features) -> list[tuple[Column, Tensor]]:
        """Every number of B pairs of windows, as (column, [B])."""
        s = self.settings
        values = distances(
            s.distances,
            f.layers,
            g.layers,
            s.variants,
            num_prefix_tokens=f.num_prefix_tokens,
            skip_nan=f.cos_skips_nan,
            per_layer=s.layer_curves,
            seed=s.seed,
        )
        out: list[tuple[Column, Tensor]] = []
        for (name, variant), value in values.items():
            if value.joint is not None:
                out.append((("joint", name, variant), value.joint))
            out += [((str(i), name, variant), layer) for i, layer in enumerate(value.layers.unbind(1))]
        return [*out, (("embedding", "cos", "published"), embedding_cos(f.embedding, g.embedding))]

    def embed(self, windows: np.ndarray) -> Features:
        """uint8 [N, 224, 224, 3] → features; a batch too large for the device's memory is halved, and stays halved."""
        start = time.perf_counter()
        try:
            features = self.backbone(to_input(windows, self.device))
            self._synchronize()
        except torch.OutOfMemoryError:
            if len(windows) == 1:
                raise InputError(f"one window of {self.backbone.name} does not fit into the device's memory.") from None
            torch.cuda.empty_cache()
            half = len(windows) // 2
            self.batch = max(1, min(self.batch // 2, half))
            return concatenate([self.embed(windows[:half]), self.embed(windows[half:])])
        self.seconds["forward"] += time.perf_counter() - start
        return features

    def measure(self, f: Features, g: Features) -> np.ndarray:
        """float64 [B, K]: every column's value for B pairs of windows."""
        start = time.perf_counter()
        values = torch.stack([value for _, value in self.compare(f, g)], 1).double().cpu().numpy()
        self.seconds["distances"] += time.perf_counter() - start
        return values

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def plan(pairs: pd.DataFrame, scorer: Scorer, transforms: Sequence[str] = ("none",)) -> list[Chunk]:
    """One chunk per reference and transform; its key covers everything that changes a number or a label."""
    for name in transforms:
        parse_transform(name)
    common = run_key(scorer)
    chunks = []
    for transform in transforms:
        for ref, rows in pairs.groupby("ref", sort=False):
            labelled = rows.drop(columns=["ref_path", "dist_path"]).astype(str).values.tolist()
            chunks.append(Chunk(str(ref), transform, rows, digest(common, transform, labelled)))
    return chunks


def run_key(scorer: Scorer) -> str:
    """sha256 of the settings, the backbone and its weights, and the version of the distances."""
    b = scorer.backbone
    return digest(
        asdict(scorer.settings), b.name, b.weights_sha256, b.normalize, b.precision, [WINDOW, STRIDE], DISTANCES_VERSION
    )


def score_chunk(chunk: Chunk, scorer: Scorer) -> ChunkResult:
    """Score one chunk: a function of the image files, the backbone and the settings, and of nothing else.

    A pair that cannot be scored has NaN in all its rows and an entry in `failures`; the table is never shorter.
    """
    reader = _Reader(chunk, scorer)
    names = list(chunk.pairs["pair_id"])
    totals = np.zeros((len(names), len(scorer.columns)))
    baselines = np.full((len(names), len(BASELINES)), np.nan)
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
    for i, values in reader.baselines.items():
        baselines[i] = values
    means = totals / np.maximum(counts, 1)[:, None]
    for i in np.flatnonzero((counts == len(boxes)) & ~np.isfinite(means).all(1)):
        if i not in reader.failed:
            reader.fail(i, f"{scorer.backbone.name} returned values that are not finite")
    for i in reader.failed:
        means[i], baselines[i] = np.nan, np.nan
    rows = _rows(chunk, scorer, means, baselines)
    return ChunkResult(rows, reader.failures(), reader.images, int(counts.sum()) + len(boxes))


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
    """Decodes the images of a chunk in threads, and keeps account of what could not be read."""

    def __init__(self, chunk: Chunk, scorer: Scorer) -> None:
        self.chunk, self.scorer = chunk, scorer
        self.paths = list(chunk.pairs["dist_path"])
        self.ref_path = str(chunk.pairs["ref_path"].iloc[0])
        self.images: dict[str, tuple[int, int, str]] = {}
        self.failed: dict[int, str] = {}
        self.baselines: dict[int, np.ndarray] = {}
        self._raw_ref: np.ndarray | None = None

    def reference(self) -> np.ndarray:
        """The reference as it is compared: read, moved by the transform, made large enough if asked."""
        self._raw_ref = self._read(self.ref_path)
        ref, _ = apply_transform(self._raw_ref, self._raw_ref, self.chunk.transform)
        self._ref = fit_small(ref, self.scorer.settings.small_images, self.ref_path)
        return self._ref

    def windows(self, boxes: list[tuple[int, int]], pool: ThreadPoolExecutor) -> Iterator[tuple[int, int, np.ndarray]]:
        """(pair index, box index, uint8 [224, 224, 3]); the reference's come first, with index −1."""
        yield from ((-1, b, w) for b, w in enumerate(cut_windows(self._ref, boxes)))
        pending: list[tuple[int, Future]] = []
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
            if i not in self.baselines and self.chunk.transform == "none":
                self.baselines[i] = baseline_values(self._raw_ref, raw)
            return fit_small(dist, self.scorer.settings.small_images, self.paths[i])
        except InputError as error:
            self.fail(i, str(error))
            return None

    def _read(self, path: str) -> np.ndarray:
        facts = file_facts(path)
        image, sha256 = read_bytes_rgb(path)
        self.images[self._name(path)] = (facts.size, facts.mtime_ns, sha256)
        return image

    def _name(self, path: str) -> str:
        if path == self.ref_path:
            return f"ref:{self.chunk.ref}"
        return str(self.chunk.pairs["dist"].iloc[self.paths.index(path)])

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
    own = [(b.name, b.weights, b.normalize, *c) for c in scorer.columns]
    values = means
    if chunk.transform == "none":
        own += [("baseline", "none", "none", "image", name, "published") for name in BASELINES]
        values = np.hstack([means, baselines])
    ids = chunk.pairs["pair_id"].to_numpy()
    table = pd.DataFrame(own * len(ids), columns=["backbone", "weights", "normalize", "feature", "distance", "variant"])
    table.insert(0, "dataset", str(chunk.pairs["dataset"].iloc[0]))
    table.insert(1, "pair_id", np.repeat(ids, len(own)))
    table.insert(5, "transform", chunk.transform)
    table["value"] = values.ravel()
    return table[SCORE_COLUMNS]


def is_done(chunk: Chunk, shard: Path | None) -> bool:
    """True if `shard` holds this chunk whole, without failures, and its images are the ones it was scored from."""
    if shard is None or not is_intact(shard):
        return False
    facts = read_facts(shard)
    if facts["failures"]:
        return False
    paths = {f"ref:{chunk.ref}": chunk.pairs["ref_path"].iloc[0]} | dict(
        zip(chunk.pairs["dist"], chunk.pairs["dist_path"], strict=True)
    )
    return all(_unchanged(path, facts["images"].get(name)) for name, path in paths.items())


def _unchanged(path: str, known: tuple[int, int, str] | None) -> bool:
    """Size and time settle it at once; after a copy or a rebuild the content decides."""
    if known is None or not Path(path).is_file():
        return False
    facts = file_facts(path)
    return tuple(known[:2]) == tuple(facts) or (facts.size == known[0] and read_bytes_rgb(path)[1] == known[2])


def run(
    pairs: pd.DataFrame,
    scorer: Scorer,
    folder: Path,
    *,
    transforms: Sequence[str] = ("none",),
    strict: bool = False,
    progress: Callable[[int, int, int], object] | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> dict:
    """Score all `pairs` into `folder`, going on where an earlier run stopped; returns the manifest.

    `progress(done, total, failed)` counts pairs. `strict` turns the first failure into InputError. A second run on the same folder
    waits for the first.
    """
    chunks = plan(pairs, scorer, transforms)
    with sole_writer(folder, waiting=say):
        shards, kept, failures, windows, start, done = find_shards(folder), 0, 0, 0, time.time(), 0
        names = []
        for chunk in chunks:
            shard = shards.get(chunk.key[:16])
            if is_done(chunk, shard):
                kept += 1
            else:
                if shard is not None and not is_intact(shard):
                    say(f"{shard.name} is damaged: its chunk is computed again")
                if shard is not None:
                    shard.unlink()
                result = score_chunk(chunk, scorer)
                if result.failures and strict:
                    raise InputError(f"stopped at the first failure (--strict): {result.failures[0]['reason']}")
                shard = _save(folder, chunk, result, scorer)
                failures += len(result.failures)
                windows += result.windows
            assert shard is not None
            names.append(shard.name)
            done += len(chunk.pairs)
            if progress:
                progress(done, len(pairs) * len(transforms), failures)
        manifest = _manifest(pairs, scorer, transforms, names, failures)
        if windows or not _same_shards(folder, names):
            effort = {"seconds": round(time.time() - start, 2), "windows": windows, "chunks_kept": kept}
            write_pairs(folder, pairs)
            write_manifest(folder, manifest | effort | {"stages": {k: round(v, 2) for k, v in scorer.seconds.items()}})
    return manifest


def _save(folder: Path, chunk: Chunk, result: ChunkResult, scorer: Scorer) -> Path:
    start = time.perf_counter()
    facts = {"key": chunk.key, "images": result.images, "failures": result.failures}
    path = write_shard(folder, f"{chunk.ref}-{chunk.transform}", chunk.key, shard_bytes(result.rows, facts))
    scorer.seconds["write"] += time.perf_counter() - start
    return path


def _same_shards(folder: Path, names: list[str]) -> bool:
    from fmiqa_utils.scores import MANIFEST, read_manifest

    return (folder / MANIFEST).is_file() and read_manifest(folder)["shards"] == names


def _manifest(
    pairs: pd.DataFrame, scorer: Scorer, transforms: Sequence[str], shards: list[str], failures: int
) -> dict[str, object]:
    """Everything a reader of the numbers must know."""
    b = scorer.backbone
    labels = pairs.drop(columns=["ref_path", "dist_path"])
    return {
        "dataset": str(pairs["dataset"].iloc[0]),
        "backbone": b.name,
        "family": b.info.family,
        "weights": b.weights,
        "weights_sha256": b.weights_sha256,
        "normalize": b.normalize,
        "precision": b.precision,
        "settings": asdict(scorer.settings),
        "batch": scorer.batch,
        "transforms": list(transforms),
        "pairs": len(pairs),
        "references": int(pairs["ref"].nunique()),
        "failures": failures,
        "label_kind": str(pairs["label_kind"].iloc[0]),
        "label_source": str(pairs["label_source"].iloc[0]) if "label_source" in pairs else "",
        "labels_sha256": digest(labels.astype(str).values.tolist()),
        "shards": shards,
        "versions": versions(),
        "hardware": hardware(scorer.device),
    }
