"""Scores in an object store (an S3 server on the loopback, with kills and two drivers at once), and the same on a disk."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import boto3
import pandas as pd
import pytest
import s3fs
from moto.server import ThreadedMotoServer
from pictures import pairs_of, write_pairs

from fmiqa_utils.backbones.load import load_backbone
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction import chunk as chunks
from fmiqa_utils.extraction import resume
from fmiqa_utils.extraction.chunk import Chunk
from fmiqa_utils.extraction.engines import base as engines
from fmiqa_utils.extraction.extract import score_pairs
from fmiqa_utils.extraction.plan import plan
from fmiqa_utils.extraction.scorer import Scorer, Settings
from fmiqa_utils.files.storage import (
    Entry,
    in_threads,
    listing,
    open_path,
    read_whole,
    remove,
    write_atomically,
)
from fmiqa_utils.scores import shards as scores
from fmiqa_utils.scores.run_names import known_runs
from fmiqa_utils.scores.runs import load_run, save_run
from fmiqa_utils.scores.shards import read_scores

TINY = "timm:vit_tiny_patch16_224"
REFS = 8


@pytest.fixture(scope="module")
def s3() -> Iterator[object]:
    """A bucket called lab on an S3 server that the test starts, reachable by the usual variables."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        client = boto3.client("s3")
        client.create_bucket(Bucket="lab")
        yield client
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return pairs_of(write_pairs(tmp_path_factory.mktemp("images"), REFS, size=(224, 224)))


@pytest.fixture(scope="module")
def on_disk(pairs: pd.DataFrame, scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on a disk."""
    folder = tmp_path_factory.mktemp("disk")
    score_pairs(pairs, scorer, folder)
    return folder


def shards(folder: Path) -> dict[str, bytes]:
    return {name: read_whole(folder / name) for name in listing(folder) if name.endswith(".parquet")}


def moments(client: object, folder: Path) -> dict[str, object]:
    """Time of the last write of each shard."""
    prefix = str(folder).removeprefix("s3://lab/")
    found = client.list_objects_v2(Bucket="lab", Prefix=prefix).get("Contents", [])  # type: ignore[attr-defined]
    return {o["Key"]: o["LastModified"] for o in found if o["Key"].endswith(".parquet")}


@pytest.mark.parametrize("root", ["disk", "s3://lab/verbs"])
@pytest.mark.usefixtures("s3")
def test_the_same_verbs_on_a_disk_and_in_a_store(tmp_path: Path, root: str) -> None:
    folder = open_path(root if "://" in root else tmp_path / root) / "a run#1"
    assert listing(folder) == {}
    with pytest.raises(FileNotFoundError):
        read_whole(folder / "none")
    write_atomically(folder / "b", b"2222")
    write_atomically(folder / "a", b"1")
    write_atomically(folder / "deeper" / "c", b"3")
    first = listing(folder)
    assert {name: e.size for name, e in first.items()} == {"a": 1, "b": 4}
    write_atomically(folder / "a", b"9")
    assert read_whole(folder / "a") == b"9"
    assert listing(folder)["a"].stamp != first["a"].stamp
    assert listing(folder)["b"] == first["b"] == Entry(4, first["b"].stamp)
    remove(folder / "a")
    remove(folder / "a")  # another driver was quicker
    assert list(listing(folder)) == ["b"]


def test_threads_keep_the_order_and_hold_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmiqa_utils.files.storage.BLOCK", 10)
    taken: list[int] = []

    def numbers() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    squares = in_threads(lambda i: i * i, numbers(), remote=True)
    assert [next(squares) for _ in range(3)] == [0, 1, 4]
    assert len(taken) == 10
    assert list(squares) == [i * i for i in range(3, 100)]


def test_a_file_address_is_a_path_of_this_machine(tmp_path: Path) -> None:
    assert open_path(f"file://{tmp_path}") == open_path(tmp_path) == open_path(str(tmp_path)) == tmp_path
    assert isinstance(open_path(f"file://{tmp_path}"), Path)


@pytest.mark.usefixtures("s3")
def test_what_is_wrong_with_an_address_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"foo://x cannot be opened.*fmiqa\[cloud\]"):
        open_path("foo://x")
    with pytest.raises(InputError, match=r"s3://nobody/x could not be written .*bucket does not exist"):
        write_atomically(open_path("s3://nobody/x"), b"")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(InputError, match=r"s3://lab/x could not be listed .*check the address, the network"):
        listing(open_path("s3://lab/x"))
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.mark.slow
def test_a_run_in_a_store_is_the_run_on_a_disk_and_goes_on(
    s3: object, pairs: pd.DataFrame, scorer: Scorer, on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, said = open_path("s3://lab/same"), []
    score_pairs(pairs, scorer, out)
    assert shards(out) == shards(on_disk)
    pd.testing.assert_frame_equal(read_scores(out), read_scores(on_disk))
    written = moments(s3, out)
    with monkeypatch.context() as patch:
        patch.setattr(resume, "read_shard", lambda path: pytest.fail(f"{path} was read again"))
        score_pairs(pairs, scorer, out)
    assert moments(s3, out) == written
    name, good = next(iter(shards(out).items()))
    write_atomically(out / name, good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(InputError, match="missing or damaged"):
        read_scores(out)
    score_pairs(pairs, scorer, out, say=said.append)
    assert said == [f"{name} is damaged: its chunk is computed again"]
    assert shards(out) == shards(on_disk)
    assert sum(moments(s3, out)[key] != when for key, when in written.items()) <= 1  # S3's clock has seconds


@pytest.mark.usefixtures("s3")
def test_two_drivers_share_the_work(
    pairs: pd.DataFrame, on_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "RELIST", 0.0)
    monkeypatch.setattr(
        resume.secrets, "randbelow", lambda n: 0 if threading.current_thread().name == "a" else n // 2
    )
    out, scored = open_path("s3://lab/shared"), []

    def slowly(chunk: Chunk, own: Scorer, *during: object) -> object:
        result = chunks.score_chunk(chunk, own, *during)
        time.sleep(0.3)
        scored.append((threading.current_thread().name, chunk.ref))
        return result

    monkeypatch.setattr(engines, "score_chunk", slowly)
    drivers = [
        threading.Thread(
            target=score_pairs,
            name=n,
            args=(pairs, Scorer(load_backbone(TINY, "untrained"), Settings(("l2", "cos"))), out),
        )
        for n in ("a", "b")
    ]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join()
    assert shards(out) == shards(on_disk)
    pd.testing.assert_frame_equal(read_scores(out), read_scores(on_disk))
    by = pd.Series([name for name, _ in scored]).value_counts()
    assert by.min() >= 2
    assert REFS <= len(scored) <= REFS + 2  # what both were at when they met is scored twice


@pytest.mark.usefixtures("s3")
def test_a_failure_that_another_driver_left_is_tried_again(
    pairs: pd.DataFrame, scorer: Scorer, on_disk: Path
) -> None:
    out = open_path("s3://lab/failed")
    chunk = plan(pairs, scorer).chunk(3)
    engines.save_chunk(out, chunk, chunks.failed_chunk(chunk, scorer, "failed 3 times: its worker died"))
    assert len(shards(out)) == 1
    manifest = score_pairs(pairs, scorer, out)
    assert manifest["failures"] == 0
    assert shards(out) == shards(on_disk)


SWEEP = "import sys; from fmiqa_utils.cli.main import main; sys.argv[1:] = {!r}; main()"


@pytest.mark.slow
def test_two_sweeps_and_a_kill_on_one_bucket(
    s3: object, pairs: pd.DataFrame, on_disk: Path, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Path(pairs["ref_path"].iloc[0]).parent / "pairs.csv"
    words = [
        "sweep",
        "--datasets",
        f"csv:{table}",
        "--direction",
        "higher",
        "--backbones",
        TINY,
        "--no-reports",
    ]
    words += ["--weights", "untrained", "--distance", "l2,cos", "--output", "s3://lab/sweep"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    drivers = [subprocess.Popen([sys.executable, "-c", SWEEP.format(words)]) for _ in range(3)]
    while not moments(s3, open_path("s3://lab/sweep")):
        time.sleep(0.02)
    os.kill(drivers[0].pid, signal.SIGKILL)
    assert [d.wait() for d in drivers] == [-signal.SIGKILL, 0, 0]
    monkeypatch.setenv("FMIQA_SCORES", "s3://lab/sweep")
    assert known_runs() == ["images0-pairs-sweep"]
    held = load_run("images0-pairs-sweep")
    pd.testing.assert_frame_equal(held.scores, read_scores(on_disk))
    assert held.failures.empty
    assert (folders / "figures" / "sweep" / "leaderboard.csv").is_file()


@pytest.mark.usefixtures("s3")
def test_reading_one_backbone_does_not_open_the_others(
    pairs: pd.DataFrame, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMIQA_SCORES", "s3://lab/many")
    other = Scorer(load_backbone("timm:resnet10t", "untrained"), Settings(("l2", "cos")))
    folders = [open_path(f"s3://lab/many/csv/{n}") for n in ("tiny", "resnet")]
    for own, folder in zip((scorer, other), folders, strict=True):
        score_pairs(pairs, own, folder)
    save_run("both", folders)
    opened: list[str] = []
    read = scores.read_whole
    monkeypatch.setattr(scores, "read_whole", lambda path: opened.append(str(path)) or read(path))
    one = load_run("both", [TINY], ["cos"])
    assert set(one.scores["distance"]) == {"cos"}
    assert set(one.scores["backbone"]) == {TINY}
    others = [p for p in opened if "/resnet/" in p]
    assert len(others) == 1
    assert re.fullmatch(r"s3://lab/many/csv/resnet/manifest-[0-9a-f]{16}\.json", others[0])
    assert len(load_run("both").scores) == REFS * 2 * (27 + 2 + len(other.columns))
    with pytest.raises(InputError, match=r"does not hold 'timm:resnet10'.*did you mean timm:resnet10t"):
        load_run("both", ["timm:resnet10"])


@pytest.mark.usefixtures("s3")
def test_a_finished_run_stays_readable_while_another_driver_mends_it(
    pairs: pd.DataFrame, scorer: Scorer, on_disk: Path
) -> None:
    out, chunk = open_path("s3://lab/mended"), plan(pairs, scorer).chunk(2)

    def failing(chunks_: Iterable[Chunk], folder: Path) -> Iterator[engines.Done]:
        for one in chunks_:
            bad = one.key == chunk.key
            yield engines.save_chunk(
                folder,
                one,
                (chunks.failed_chunk(one, scorer, "lost") if bad else chunks.score_chunk(one, scorer)),
            )

    assert score_pairs(pairs, scorer, out, engine=failing)["failures"] == 2
    seen = []

    def watched(chunks_: Iterable[Chunk], folder: Path) -> Iterator[engines.Done]:
        for done in engines.serial(scorer)(chunks_, folder):
            yield done
            seen.append(
                int(read_scores(out)["value"].isna().sum())
            )  # the first driver's manifest still holds

    assert score_pairs(pairs, scorer, out, engine=watched)["failures"] == 0
    assert seen == [2 * 29]
    assert shards(out) == shards(on_disk)


@pytest.mark.usefixtures("s3")
def test_a_failure_here_is_taken_over_from_a_driver_that_could(
    pairs: pd.DataFrame, scorer: Scorer, on_disk: Path
) -> None:
    out, chunk = open_path("s3://lab/luckier"), plan(pairs, scorer).chunk(2)

    def unlucky(chunks_: Iterable[Chunk], folder: Path) -> Iterator[engines.Done]:
        for one in chunks_:
            if one.key == chunk.key:
                yield engines.save_chunk(folder, one, chunks.failed_chunk(one, scorer, "lost"))
                engines.save_chunk(folder, one, chunks.score_chunk(one, scorer))  # another driver's
            else:
                yield engines.save_chunk(folder, one, chunks.score_chunk(one, scorer))

    assert score_pairs(pairs, scorer, out, engine=unlucky)["failures"] == 0
    assert shards(out) == shards(on_disk)
    pd.testing.assert_frame_equal(read_scores(out), read_scores(on_disk))
