"""`fmiqa bench`: what scoring costs compared with the bare model, measured in one go on this machine."""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from fmiqa_utils.backbones.catalogue import WINDOW
from fmiqa_utils.backbones.features import Features
from fmiqa_utils.backbones.load import load_backbone
from fmiqa_utils.backbones.windows import to_input, window_boxes
from fmiqa_utils.datasets.registry import DATASETS
from fmiqa_utils.extraction.chunk import Chunk, score_chunk
from fmiqa_utils.extraction.provenance import hardware, versions
from fmiqa_utils.extraction.scorer import Scorer, Settings
from fmiqa_utils.files.storage import write_atomically
from fmiqa_utils.paths import machine_root

PUBLISHED = Settings(layer_curves=False)  # l2, cos, skld, jsd, wsd; l2 and cos per layer; embedding
EVERYTHING = Settings(variants=("published", "corrected"))
WITH_SWD = replace(PUBLISHED, distances=(*PUBLISHED.distances, "swd"))
REPEATS = 5
IMAGE = (288, 384)  # px, of the end-to-end measurement: four windows


def dataset_forwards() -> dict[str, int]:
    """Forward passes of the datasets whose images are of one size: {title: `window_forwards`}."""
    sized = [d for d in DATASETS.values() if d.rows and d.references and d.size]
    return {d.title: window_forwards(d.rows or 0, d.references or 0, d.size or (0, 0)) for d in sized}


def window_forwards(pairs: int, references: int, size: tuple[int, int]) -> int:
    """Forward passes of a dataset whose images are all of `size`; every reference is embedded once."""
    return (pairs + references) * len(window_boxes(*size))


def bench(
    backbone: str,
    weights: str = "untrained",
    *,
    windows: int = 16,
    precision: str = "fp32",
    device: torch.device | str = "cpu",
    progress: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Measure the bare forward, the published distances and everything at once on the same windows, interleaved, in one go.

    Keys of the result: backbone, weights, precision, device, windows, batch; bare_s, published_s, everything_s, swd_s (seconds per
    window, the best of five: noise only adds); ratio_published, ratio_everything, ratio_swd (to the bare forward); windows_per_s,
    pairs_per_s end to end with decoding and writing; stages (share of decode, forward, distances, write); peak_rss_gb, peak_gpu_gb;
    hours per dataset; versions, hardware.
    """
    model = load_backbone(backbone, weights, precision=precision, device=device)
    scorers = {
        "published": Scorer(model, PUBLISHED),
        "everything": Scorer(model, EVERYTHING),
        "swd": Scorer(model, WITH_SWD),
    }
    batch = scorers["published"].batch
    progress("kernels")
    seconds = _kernel_seconds(scorers, _batches(windows, batch, scorers["published"].device))
    progress("end to end")
    end_to_end = _end_to_end(Scorer(model, PUBLISHED), max(2, windows // len(window_boxes(*IMAGE))))
    bare = seconds["bare"]
    result: dict[str, Any] = {
        "backbone": model.name,
        "weights": model.weights,
        "precision": precision,
        "device": str(scorers["published"].device),
        "windows": windows,
        "batch": batch,
        **{f"{name}_s": value for name, value in seconds.items()},
        **{f"ratio_{name}": seconds[name] / bare for name in scorers},
        **end_to_end,
        "peak_rss_gb": _peak_rss_gb(),
        "peak_gpu_gb": torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else 0.0,
        "hours": {name: n / end_to_end["windows_per_s"] / 3600 for name, n in dataset_forwards().items()},
        "versions": versions(),
        "hardware": hardware(scorers["published"].device),
    }
    return result


def _batches(windows: int, batch: int, device: torch.device) -> list[Tensor]:
    rng = np.random.default_rng(0)
    sizes = [min(batch, windows - start) for start in range(0, windows, batch)]
    return [to_input(rng.integers(0, 256, (n, WINDOW, WINDOW, 3), dtype=np.uint8), device) for n in sizes]


def _kernel_seconds(scorers: dict[str, Scorer], batches: list[Tensor]) -> dict[str, float]:
    """Seconds per window of the bare forward and of each scorer (forward and distances), the best of interleaved repeats."""
    model = next(iter(scorers.values())).backbone
    taken: dict[str, list[float]] = {"bare": [], **{name: [] for name in scorers}}
    with torch.inference_mode():
        references = [model(x.flip(0) * 0.9 + 0.05) for x in batches]
        for scorer in scorers.values():  # warm up: caches, kernels, memory
            scorer.measure(references[0], references[0])
        for _ in range(REPEATS):
            taken["bare"].append(_timed(lambda: [model.bare(x) for x in batches]))
            for name, scorer in scorers.items():
                taken[name].append(_timed(lambda s=scorer: _score(s, batches, references)))  # type: ignore[misc]
    count = sum(len(x) for x in batches)
    return {name: min(values) / count for name, values in taken.items()}


def _score(scorer: Scorer, batches: list[Tensor], references: list[Features]) -> None:
    for x, reference in zip(batches, references, strict=True):
        scorer.measure(scorer.backbone(x), reference)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _end_to_end(scorer: Scorer, images: int) -> dict[str, Any]:
    """One reference with `images` distorted ones, from PNG files to a score table."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.png" for i in range(images + 1)]
        for path in paths:
            Image.fromarray(rng.integers(0, 256, (*IMAGE, 3), dtype=np.uint8)).save(path)
        pairs = pd.DataFrame(
            {"pair_id": [p.name for p in paths[1:]], "dist_path": [str(p) for p in paths[1:]]}
        )
        pairs = pairs.assign(dataset="bench", ref="0.png", dist=pairs["pair_id"], ref_path=str(paths[0]))
        start = time.perf_counter()
        result = score_chunk(Chunk("0.png", "none", pairs, ""), scorer)
        seconds = time.perf_counter() - start
    return {
        "windows_per_s": result.windows / seconds,
        "pairs_per_s": images / seconds,
        "stages": {name: value / seconds for name, value in scorer.seconds.items()},
    }


def _peak_rss_gb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def save_bench(result: dict[str, Any]) -> Path:
    """data/scores/bench.json, where `sweep.estimate` finds the rate of this machine."""
    return write_atomically(machine_root() / "bench.json", json.dumps(result, indent=1).encode())
