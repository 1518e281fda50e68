"""Engines: the same shards to the byte whoever scores, and what a dead worker costs."""

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fmiqa_utils import engines
from fmiqa_utils.backbones import load_backbone
from fmiqa_utils.datasets import load_pairs
from fmiqa_utils.engines import Spec, pool, ray_actors
from fmiqa_utils.errors import InputError
from fmiqa_utils.extract import run
from fmiqa_utils.scorer import Scorer, Settings
from fmiqa_utils.scores import read_failures, read_scores

SPEC = Spec("timm:vit_tiny_patch16_224", "untrained", settings=Settings(("l2", "cos")))
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="the extra `ray` is not installed"
)


@pytest.fixture
def scorer() -> Iterator[Scorer]:
    """One thread, as the workers have: how a sum is split over threads may change its last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Scorer(load_backbone(SPEC.backbone, "untrained"), SPEC.settings)
    torch.set_num_threads(before)


@pytest.fixture
def pairs(tmp_path: Path) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for r in range(6):
        ref = rng.integers(0, 256, (224, 240, 3), dtype=np.uint8)
        Image.fromarray(ref).save(tmp_path / f"r{r}.png")
        for d in range(2):
            Image.fromarray(ref // (2 + d)).save(tmp_path / f"d{r}_{d}.png")
            rows.append((f"r{r}.png", f"d{r}_{d}.png", float(r + d)))
    pd.DataFrame(rows, columns=["ref", "dist", "label"]).to_csv(tmp_path / "pairs.csv", index=False)
    return load_pairs(f"csv:{tmp_path / 'pairs.csv'}", direction="higher")


def shards(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("*.parquet")}


@pytest.mark.slow
def test_a_pool_writes_the_same_bytes(pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path) -> None:
    run(pairs, scorer, tmp_path / "serial")
    counted: list[tuple[int, int, int]] = []
    engine = pool(SPEC, ["cpu", "cpu"], threads=1)
    manifest = run(pairs, scorer, tmp_path / "pool", engine=engine, progress=lambda *n: counted.append(n))
    assert shards(tmp_path / "pool") == shards(tmp_path / "serial")
    assert len(manifest["shards"]) == 6
    assert counted[-1] == (12, 12, 0)
    assert read_scores(tmp_path / "pool").equals(read_scores(tmp_path / "serial"))


@pytest.mark.slow
def test_a_killed_worker_costs_its_chunks_alone(pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path) -> None:
    run(pairs, scorer, tmp_path / "serial")
    said: list[str] = []

    def kill_one() -> None:
        import psutil

        while not list((tmp_path / "pool").glob("*.parquet")):
            time.sleep(0.01)
        workers = [
            c for c in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(c.cmdline())
        ]
        os.kill(max(workers, key=lambda w: w.cpu_times().user).pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    run(pairs, scorer, tmp_path / "pool", engine=pool(SPEC, ["cpu"], threads=1, say=said.append))
    killer.join()
    assert shards(tmp_path / "pool") == shards(tmp_path / "serial")
    assert any("tried again" in s for s in said)


def test_a_chunk_that_cannot_be_scored_is_set_aside_with_its_reason(
    pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path
) -> None:
    def broken(chunks: list, folder: Path) -> Iterator[engines.Done]:
        for chunk in chunks[:1]:
            yield engines.set_aside(SPEC, chunk, folder, "its worker died 3 times")
        yield from engines.serial(scorer)(chunks[1:], folder)

    manifest = run(pairs, scorer, tmp_path / "out", engine=broken)
    assert manifest["failures"] == 2
    failures = read_failures(tmp_path / "out")
    assert failures["pair_id"].tolist() == ["d0_0.png", "d0_1.png"]
    assert set(failures["reason"]) == {"its worker died 3 times"}
    scores = read_scores(tmp_path / "out")
    assert len(scores) == 12 * 29
    again = run(pairs, scorer, tmp_path / "out")  # tried again by the next run
    assert again["failures"] == 0
    assert read_failures(tmp_path / "out").empty


@needs_ray
@pytest.mark.slow
def test_ray_writes_the_same_bytes_and_survives_a_killed_actor(
    pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path
) -> None:
    import ray

    run(pairs, scorer, tmp_path / "serial")
    said: list[str] = []
    try:
        engine = ray_actors(SPEC, 2, say=said.append)

        def with_a_kill(chunks: list, folder: Path) -> Iterator[engines.Done]:
            for n, done in enumerate(engine(chunks, folder)):
                if n == 0:
                    import psutil

                    actors = [p for p in psutil.process_iter() if "ray::_Actor" in " ".join(p.cmdline())]
                    actors[0].kill()
                yield done

        run(pairs, scorer, tmp_path / "ray", engine=with_a_kill)
        assert shards(tmp_path / "ray") == shards(tmp_path / "serial")
    finally:
        ray.shutdown()


@needs_ray
@pytest.mark.slow
def test_resources_that_are_not_there_are_named(
    pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(engines, "PATIENCE", 5)
    try:
        with pytest.raises(
            InputError, match="only 0 of 1 workers could start: each asks for 1 CPU and 8 GPUs"
        ):
            run(pairs, scorer, tmp_path / "out", engine=ray_actors(SPEC, 1, num_gpus=8))
    finally:
        ray.shutdown()


def test_without_ray_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"fmiqa\[ray\]"):
        next(ray_actors(SPEC, 1)([], Path()))
