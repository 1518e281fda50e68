"""How the store grows: time and memory of planning, resuming and reading for simulated shards.

python tests/scale.py FOLDER BACKBONES PAIRS… prints a table; a stage runs in a process of its own, whose peak memory counts.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from fmiqa_utils.datasets.images import file_facts
from fmiqa_utils.extraction.chunk import Chunk, ChunkResult, _rows
from fmiqa_utils.extraction.engines.base import Done, save_chunk
from fmiqa_utils.extraction.extract import score_pairs
from fmiqa_utils.extraction.plan import plan
from fmiqa_utils.extraction.resume import Kept
from fmiqa_utils.extraction.scorer import Settings
from fmiqa_utils.scores.shards import VERIFIED, images_stamp, read_manifest, read_scores, write_shard

PER_REF = 100  # distorted images of a reference; KADID-10k has 125, PIPAL 116
VALUES = 16  # of a pair, for one backbone


def simulated(backbone: int) -> Any:
    """What the store sees of a scorer."""
    info = SimpleNamespace(family="none", source="timm")
    model = SimpleNamespace(
        name=f"simulated-{backbone:02}",
        weights="simulated",
        weights_sha256=str(backbone),
        normalize="none",
        precision="fp32",
        info=info,
    )
    return SimpleNamespace(
        backbone=model,
        settings=Settings(("l2",), baselines=()),
        columns=[(str(k), "l2", "published") for k in range(VALUES)],
        device=torch.device("cpu"),
        batch=1,
        seconds={},
    )


def make_pairs(folder: Path, count: int) -> pd.DataFrame:
    """A pairs table of `count` pairs whose images are empty files."""
    places = [(n // PER_REF, n) for n in range(count)]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name in {f"r{r}" for r, _ in places} | {f"d{n}" for _, n in places}:
        (folder / "images" / name).touch()
    table = pd.DataFrame({"ref": [f"r{r}" for r, _ in places], "dist": [f"d{n}" for _, n in places]})
    return table.assign(
        dataset="simulated",
        pair_id=table["dist"],
        ref_path=str(folder / "images") + "/" + table["ref"],
        dist_path=str(folder / "images") + "/" + table["dist"],
        label=np.linspace(0, 1, count),
        label_kind="mos",
        quality=np.linspace(0, 1, count),
    )


def engine(scorer: Any) -> Any:
    """Random values instead of a model's; the shards are written as always."""
    rng = np.random.default_rng(0)

    def work(chunks: Iterable[Chunk], folder: Path) -> Iterator[Done]:
        for chunk in chunks:
            rows = _rows(
                chunk, scorer, rng.random((len(chunk.pairs), VALUES)), np.empty((len(chunk.pairs), 0))
            )
            paths = dict(zip(chunk.pairs["dist"], chunk.pairs["dist_path"], strict=True))
            paths[f"ref:{chunk.ref}"] = chunk.pairs["ref_path"].iloc[0]
            images = {n: (*file_facts(p), "") for n, p in paths.items()}
            yield save_chunk(folder, chunk, ChunkResult(rows, [], images, 0))

    return work


def fill(folder: Path, pairs: pd.DataFrame, backbones: int) -> None:
    """Simulated shards of so many backbones; those after the first are the first's under another name."""
    score_pairs(pairs, simulated(0), folder / "b0", engine=engine(simulated(0)))
    for b in range(1, backbones):
        score_pairs(pairs, simulated(b), folder / f"b{b}", engine=renamed(folder / "b0", simulated(b)))


def renamed(first: Path, scorer: Any) -> Any:
    """The shards of `first` in the name of another backbone."""
    names = iter(read_manifest(first)["shards"])

    def work(chunks: Iterable[Chunk], folder: Path) -> Iterator[Done]:
        for chunk, name in zip(chunks, names, strict=True):
            table = pq.read_table(first / name, partitioning=None)
            facts = json.loads(table.schema.metadata[b"fmiqa"])
            column = pa.DictionaryArray.from_arrays(np.zeros(len(table), np.int8), [scorer.backbone.name])
            table = table.set_column(table.schema.get_field_index("backbone"), "backbone", column)
            sink = pa.BufferOutputStream()
            metadata = {"fmiqa": json.dumps(facts | {"key": chunk.key})}
            pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
            path = write_shard(folder, chunk.ref, chunk.key, bytes(sink.getvalue().to_pybytes()))
            yield Done(chunk.key, path.name, [], 0, images_stamp(facts["images"]))

    return work


def kept(folder: Path, pairs: pd.DataFrame, backbone: int) -> int:
    """Chunks that a resumed run need not score."""
    return len(Kept(plan(pairs, simulated(backbone)), folder / f"b{backbone}", print).shards)


def stage(name: str, folder: Path, backbones: int) -> dict[str, float]:
    """Seconds and peak MB, beyond what was there before, of one stage in this process."""
    pairs = pd.read_pickle(folder / "pairs.pickle")
    if name == "resume, no note":
        (folder / "b0" / VERIFIED).unlink()
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, start = memory("VmRSS"), time.perf_counter()
    if name == "plan":
        assert len(plan(pairs, simulated(0))) == len(pairs) // PER_REF
    elif name == "resume, no note":
        assert kept(folder, pairs, 0) == len(pairs) // PER_REF
    elif name == "resume all backbones":
        assert {kept(folder, pairs, b) for b in range(backbones)} == {len(pairs) // PER_REF}
    elif name == "read one backbone":
        assert len(read_scores(folder / "b0")) == len(pairs) * VALUES
    elif name == "read one column":
        assert len(read_scores(folder / "b0", features=[3])) == len(pairs)
    elif name == "read all, one by one":
        assert {len(read_scores(folder / f"b{b}")) for b in range(backbones)} == {len(pairs) * VALUES}
    seconds = time.perf_counter() - start
    return {"s": seconds, "MB": memory("VmHWM") - before}


def memory(what: str) -> float:
    """MB of this process: VmRSS now, VmHWM at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


STAGES = (
    "plan",
    "resume, no note",
    "resume all backbones",
    "read one backbone",
    "read one column",
    "read all, one by one",
)


def measure(root: Path, backbones: int, count: int) -> Iterator[dict[str, object]]:
    """Each stage for `count` pairs."""
    folder = root / str(count)
    pairs = make_pairs(folder, count)
    pairs.to_pickle(folder / "pairs.pickle")
    fsync, os.fsync = os.fsync, lambda _: None  # a simulation may be lost
    fill(folder, pairs, backbones)
    os.fsync = fsync
    for name in STAGES:
        words = [sys.executable, __file__, "--stage", name, str(folder), str(backbones)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        yield {"pairs": count, "stage": name, **json.loads(done.stdout.splitlines()[-1])}


if __name__ == "__main__":
    if sys.argv[1] == "--stage":
        print(json.dumps(stage(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
    else:
        for size in sys.argv[3:]:
            for row in measure(Path(sys.argv[1]), int(sys.argv[2]), int(size)):
                print("{pairs:>9,} {stage:22} {s:9.2f} s {MB:8.0f} MB".format(**row), flush=True)
