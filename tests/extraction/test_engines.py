"""Engines: every engine writes the same bytes, what a dead worker costs, and what a killed driver leaves."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import psutil
import pytest
from pictures import pairs_of, write_pairs

from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.chunk import Chunk
from fmiqa_utils.extraction.engines import base as engines
from fmiqa_utils.extraction.engines import ray as engine_ray
from fmiqa_utils.extraction.engines.base import Done, Engine, Spec, Trials, serial
from fmiqa_utils.extraction.engines.pool import process_pool
from fmiqa_utils.extraction.engines.ray import ray_actors
from fmiqa_utils.extraction.extract import score_pairs
from fmiqa_utils.extraction.scorer import Scorer, Settings
from fmiqa_utils.scores.shards import read_failures, read_scores

SPEC = Spec("timm:vit_tiny_patch16_224", "untrained", settings=Settings(("l2", "cos")))
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="the extra `ray` is not installed"
)


@pytest.fixture
def pairs(tmp_path: Path) -> pd.DataFrame:
    return pairs_of(write_pairs(tmp_path, 6))


def shards(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.glob("*.parquet")}


# What scoring a reference does in a worker process: kill it, or raise. The workers' Python reads it before anything else.
POISON = """
import importlib, importlib.abc, json, os, signal, sys

class Hook(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "fmiqa_utils.extraction.engines.base":
            sys.meta_path.remove(self)
            if "*" in json.load(open(os.environ["FMIQA_TEST_POISON"])):
                os.kill(os.getpid(), signal.SIGKILL)
            chunks = importlib.import_module("fmiqa_utils.extraction.chunk")
            score = chunks.score_chunk

            def poisoned(chunk, scorer):
                what = json.load(open(os.environ["FMIQA_TEST_POISON"])).get(chunk.ref)
                if what == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if what == "raise":
                    raise RuntimeError("a bit has flipped")
                return score(chunk, scorer)

            chunks.score_chunk = poisoned

sys.meta_path.insert(0, Hook())
"""


@pytest.fixture(scope="module", autouse=True)
def poison(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file that lists the references that make a worker fail; empty at first."""
    folder = tmp_path_factory.mktemp("hooks")
    (folder / "sitecustomize.py").write_text(POISON)
    (folder / "poison.json").write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(
            "PYTHONPATH", os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
        )
        patch.setenv("FMIQA_TEST_POISON", str(folder / "poison.json"))
        patch.setenv("OMP_NUM_THREADS", "1")
        yield folder / "poison.json"


@pytest.fixture
def poisoned(poison: Path) -> Iterator[None]:
    """r1 kills its worker, r4 raises."""
    poison.write_text(json.dumps({"r1.png": "kill", "r4.png": "raise"}))
    yield
    poison.write_text("{}")


def check_set_aside(folder: Path, serial: Path, why_killed: str) -> None:
    """r1 and r4 are rows of failures with their reasons; everything else is as in the serial run."""
    failures = read_failures(folder).set_index("pair_id")["reason"].to_dict()
    raised = "failed 3 times: RuntimeError: a bit has flipped"
    assert failures == {
        "r1_0.png": why_killed,
        "r1_1.png": why_killed,
        "r4_0.png": raised,
        "r4_1.png": raised,
    }
    assert len(read_scores(folder)) == 12 * 29
    here, there = shards(folder), shards(serial)
    assert {n[:2] for n in there if n not in here} == {"r1", "r4"}


def never_far_ahead(engine: Engine, workers: int) -> Engine:
    """`engine`, checked to take no more chunks than keep its workers busy."""

    def work(chunks: Iterable[Chunk], folder: Path) -> Iterator[Done]:
        taken: list[str] = []

        def counted() -> Iterator[Chunk]:
            for chunk in chunks:
                taken.append(chunk.key)
                yield chunk

        for n, done in enumerate(engine(counted(), folder)):
            assert len(taken) <= n + 1 + engines.AHEAD * workers
            yield done
        assert len(taken) == n + 1

    return work


@pytest.mark.slow
def test_a_pool_writes_the_same_bytes(pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path) -> None:
    score_pairs(pairs, scorer, tmp_path / "serial")
    counted: list[tuple[int, int, int]] = []
    with process_pool(["cpu", "cpu"], threads=1) as workers:
        engine = never_far_ahead(workers(SPEC), 2)
        manifest = score_pairs(
            pairs, scorer, tmp_path / "pool", engine=engine, progress=lambda *n: counted.append(n)
        )
    assert shards(tmp_path / "pool") == shards(tmp_path / "serial")
    assert len(manifest["shards"]) == 6
    assert counted[-1] == (12, 12, 0)
    assert read_scores(tmp_path / "pool").equals(read_scores(tmp_path / "serial"))


@pytest.mark.slow
@pytest.mark.usefixtures("poison", "poisoned")
def test_a_pool_sets_aside_the_chunk_to_blame_and_no_other(
    pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path
) -> None:
    score_pairs(pairs, scorer, tmp_path / "serial")
    said: list[str] = []
    with process_pool(["cpu", "cpu"], threads=1, say=said.append) as workers:
        score_pairs(pairs, scorer, tmp_path / "pool", engine=workers(SPEC))
    check_set_aside(tmp_path / "pool", tmp_path / "serial", "failed 3 times: its worker died")
    assert "r1.png (none) is set aside after 3 tries: its worker died" in said
    score_pairs(pairs, scorer, tmp_path / "pool")  # what was set aside is tried again by the next run
    assert shards(tmp_path / "pool") == shards(tmp_path / "serial")


@pytest.mark.slow
def test_workers_that_cannot_start_stop_the_run_and_set_nothing_aside(
    pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path, poison: Path
) -> None:
    said = "timm:vit_tiny_patch16_224 cannot be loaded on abacus .*what is finished stays"
    with process_pool(["abacus"]) as workers, pytest.raises(InputError, match=said):
        score_pairs(pairs, scorer, tmp_path / "out", engine=workers(SPEC))
    poison.write_text('{"*": "kill"}')
    with (
        process_pool(["cpu"]) as workers,
        pytest.raises(InputError, match="die before they can score anything"),
    ):
        score_pairs(pairs, scorer, tmp_path / "out", engine=workers(SPEC))
    poison.write_text("{}")
    assert shards(tmp_path / "out") == {}


def test_in_one_process_too_a_chunk_is_set_aside_after_three_tries(
    pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, tried, said = engines.score_chunk, [], []

    def broken(chunk: Chunk, own: Scorer, *during: object) -> object:
        tried.append(chunk.ref)
        if chunk.ref == "r2.png" or tried.count("r3.png") == 1:
            raise RuntimeError("a bit has flipped")
        return score(chunk, own, *during)

    monkeypatch.setattr(engines, "score_chunk", broken)
    with pytest.raises(RuntimeError, match="a bit has flipped"):
        score_pairs(pairs, scorer, tmp_path / "plain")
    tried.clear()
    manifest = score_pairs(pairs, scorer, tmp_path / "out", engine=serial(scorer, Trials(said.append)))
    assert [tried.count(f"r{i}.png") for i in range(6)] == [1, 1, 3, 2, 1, 1]
    assert manifest["failures"] == 2
    reasons = set(read_failures(tmp_path / "out")["reason"])
    assert reasons == {"failed 3 times: RuntimeError: a bit has flipped"}
    assert said[-1] == "r3.png (none) is tried again: RuntimeError: a bit has flipped"
    assert len(read_scores(tmp_path / "out")) == 12 * 29


DRIVER = """
import sys
from pathlib import Path
from fmiqa_utils.backbones.load import load_backbone
from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.extraction.engines.pool import process_pool
from fmiqa_utils.extraction.engines.ray import ray_actors
from fmiqa_utils.extraction.engines.base import Spec
from fmiqa_utils.extraction.extract import score_pairs
from fmiqa_utils.extraction.scorer import Scorer, Settings

if __name__ == "__main__":
    spec = Spec("timm:vit_tiny_patch16_224", "untrained", settings=Settings(("l2", "cos")))
    pairs = load_pairs("csv:" + sys.argv[1], direction="higher")
    scorer = Scorer(load_backbone(spec.backbone, "untrained"), spec.settings)
    with eval(sys.argv[3]) as workers:
        score_pairs(pairs, scorer, Path(sys.argv[2]), engine=workers(spec))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "group",
    ["process_pool(['cpu', 'cpu'], threads=1)", pytest.param("ray_actors(1)", marks=needs_ray)],
    ids=["pool", "ray"],
)
def test_a_killed_driver_leaves_no_process_and_goes_on_where_it_was(
    pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path, group: str
) -> None:
    score_pairs(pairs, scorer, tmp_path / "serial")
    (tmp_path / "driver.py").write_text(DRIVER)
    files = [str(tmp_path / n) for n in ("driver.py", "pairs.csv", "out")]
    driver = subprocess.Popen([sys.executable, *files, group])
    while driver.poll() is None and not shards(tmp_path / "out"):
        time.sleep(0.01)
    family = psutil.Process(driver.pid).children(recursive=True)
    family = [
        p for p in family if not p.name().endswith("Agent")
    ]  # Ray's two, without a model, take a minute to go
    assert family
    driver.kill()
    driver.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert [p.cmdline() for p in alive] == []
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.parquet")}
    assert 0 < len(kept) < 6
    assert subprocess.run([sys.executable, *files, group], check=False).returncode == 0
    assert shards(tmp_path / "out") == shards(tmp_path / "serial")
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", "0123456789abcdef" * 4)
        import ray
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        cluster.add_node(num_cpus=0, include_dashboard=False)
        cluster.workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@needs_ray
@pytest.mark.slow
class TestCluster:
    """Ray with two simulated nodes and token authentication."""

    @staticmethod
    def actors() -> list[psutil.Process]:
        """Workers of this cluster, not of another test run."""
        return [p for p in psutil.Process().children(recursive=True) if p.name().startswith("ray::_Actor")]

    def test_two_nodes_write_the_same_bytes(
        self, cluster: Any, pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path
    ) -> None:
        score_pairs(pairs, scorer, tmp_path / "serial")
        with ray_actors(address=cluster.address) as workers:
            assert len({p.ppid() for p in self.actors()}) == 2  # one on each node
            score_pairs(pairs, scorer, tmp_path / "ray", engine=never_far_ahead(workers(SPEC), 2))
            before = {p.pid for p in self.actors()}
            score_pairs(pairs, scorer, tmp_path / "again", engine=workers(SPEC))
            assert {p.pid for p in self.actors()} == before
        assert shards(tmp_path / "ray") == shards(tmp_path / "again") == shards(tmp_path / "serial")

    @pytest.mark.usefixtures("cluster")
    def test_workers_import_no_jupyterlab(self) -> None:
        import ray

        @ray.remote
        def imported() -> set[str]:
            import fmiqa_utils.extraction.engines.ray  # noqa: F401

            return {name.partition(".")[0] for name in sys.modules}

        names = ray.get(imported.remote())
        assert "torch" in names
        assert names.isdisjoint({"jupyterlab", "papermill", "nbconvert", "IPython", "matplotlib", "seaborn"})

    def test_a_stranger_without_the_token_is_refused(self, cluster: Any) -> None:
        code = f"from fmiqa_utils.extraction.engines.ray import ray_actors\nwith ray_actors(1, address={cluster.address!r}): print('in')"
        stranger = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"RAY_AUTH_TOKEN": "fedcba9876543210" * 4},
            capture_output=True,
            text=True,
            check=False,
        )
        assert stranger.returncode == 1
        assert "in" not in stranger.stdout.split()
        last = stranger.stderr.splitlines()[-1]
        assert "InputError: Ray cannot be used (" in last
        assert "is its token in ~/.ray/auth_token" in last

    @pytest.mark.usefixtures("poisoned")
    def test_the_chunk_to_blame_is_set_aside_and_no_other(
        self, cluster: Any, pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path
    ) -> None:
        score_pairs(pairs, scorer, tmp_path / "serial")
        with ray_actors(2, address=cluster.address) as workers:
            score_pairs(pairs, scorer, tmp_path / "ray", engine=workers(SPEC))
        why = "failed 3 times: its worker died (ActorDiedError)"
        check_set_aside(tmp_path / "ray", tmp_path / "serial", why)

    def test_actors_that_cannot_start_stop_the_run(
        self, cluster: Any, pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path, poison: Path
    ) -> None:
        poison.write_text('{"*": "kill"}')
        try:
            with (
                pytest.raises(InputError, match="workers cannot start: ActorDiedError"),
                ray_actors(1, address=cluster.address) as workers,
            ):
                score_pairs(pairs, scorer, tmp_path / "out", engine=workers(SPEC))
        finally:
            poison.write_text("{}")

    def test_resources_that_are_not_there_are_named(
        self, cluster: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine_ray, "PATIENCE", 5)
        said = "only 0 of 1 workers could start: each asks for 1 CPU and 8 GPUs"
        with pytest.raises(InputError, match=said), ray_actors(1, address=cluster.address, num_gpus=8):
            pass

    def test_a_killed_actor_and_a_lost_node_cost_nothing(
        self, cluster: Any, pairs: pd.DataFrame, scorer: Scorer, tmp_path: Path
    ) -> None:
        score_pairs(pairs, scorer, tmp_path / "serial")
        said: list[str] = []
        with ray_actors(2, address=cluster.address, say=said.append) as workers:

            def troubled(chunks: Iterable[Chunk], folder: Path) -> Iterator[Done]:
                for n, done in enumerate(workers(SPEC)(chunks, folder)):
                    if n == 0:
                        os.kill(self.actors()[0].pid, signal.SIGKILL)
                    if n == 2:
                        cluster.remove_node(cluster.workers.pop(), allow_graceful=False)
                    yield done

            score_pairs(pairs, scorer, tmp_path / "ray", engine=troubled)
        assert shards(tmp_path / "ray") == shards(tmp_path / "serial")
        assert any("is tried again: its worker died" in s for s in said)


@needs_ray
@pytest.mark.slow
def test_ray_on_one_machine_has_a_token_and_listens_on_the_loopback_alone(tmp_path: Path) -> None:
    code = """
import os, psutil
from fmiqa_utils.extraction.engines.ray import ray_actors
with ray_actors(1):
    print(os.environ["RAY_AUTH_MODE"])
    me = psutil.Process()
    for process in [me, *me.children(recursive=True)]:
        print(*(c.laddr.ip for c in process.net_connections() if c.status == "LISTEN"))
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    mode, *addresses = done.stdout.split()
    assert mode == "token"
    assert len(addresses) >= 4
    assert {a.removeprefix("::ffff:") for a in addresses} == {"127.0.0.1"}


def test_a_cluster_that_is_not_there_is_tried_once_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own twenty tries had not ended after ten minutes; one takes 40 s."""

    def init(**_: object) -> None:
        raise ConnectionError(
            "nobody answers" if os.environ["RAY_NUM_REDIS_GET_RETRIES"] == "1" else "patience"
        )

    exceptions = SimpleNamespace(RayError=RuntimeError)
    fake = SimpleNamespace(is_initialized=lambda: False, init=init, exceptions=exceptions)
    monkeypatch.setitem(sys.modules, "ray", fake)
    monkeypatch.setenv("RAY_NUM_REDIS_GET_RETRIES", "20")
    monkeypatch.delenv("RAY_NUM_REDIS_GET_RETRIES")
    said = r"Ray cannot be used \(10.0.0.1:6379\): ConnectionError: nobody answers. Does it run, and is its token"
    with pytest.raises(InputError, match=said), ray_actors(1, address="10.0.0.1:6379"):
        pass


def test_without_ray_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"fmiqa\[ray\]"), ray_actors(1):
        pass
