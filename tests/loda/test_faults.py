"""LoDa when something is not as it should be: other images, damaged files, signals, outputs that cannot be written, wrong options."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from loda_table import HOW, SMALL, small_table, write_images
from typer.testing import CliRunner

from fmiqa_utils.cli.main import app
from fmiqa_utils.errors import InputError
from fmiqa_utils.loda import data as loda_data
from fmiqa_utils.loda.data import cache_folder, fill_cache, resized
from fmiqa_utils.loda.evaluate import load_checkpoint
from fmiqa_utils.loda.options import Options
from fmiqa_utils.loda.run import read_run, run_folder, train
from fmiqa_utils.loda.splits import make_splits, parts_of
from fmiqa_utils.loda.train import check_device, fit

ONE = replace(SMALL, epochs=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the images, and with data and scores of its own."""
    folder = tmp_path_factory.mktemp("loda")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMIQA_DATA", str(folder / "data"))
        patch.setenv("FMIQA_SCORES", str(folder / "scores"))
        yield folder


@pytest.fixture(scope="module")
def table(place: Path) -> pd.DataFrame:
    return small_table(place)


@pytest.fixture(scope="module")
def finished(place: Path, table: pd.DataFrame) -> tuple[Path, list[dict]]:
    """A finished run of two epochs, and its results."""
    return place / "finished", train(table, SMALL, folder=place / "finished", **HOW)


@pytest.fixture
def copied(finished: tuple[Path, list[dict]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[0], tmp_path / "run"))


# ---- the content of images -------------------------------------------------------------------------------------------------


def test_other_images_with_the_same_names_and_labels_are_another_run(
    place: Path, tmp_path: Path, table: pd.DataFrame
) -> None:
    same, other = small_table(tmp_path / "same"), small_table(tmp_path / "other", seed=1)
    assert run_folder(same, ONE) == run_folder(table, ONE)  # a copy of the dataset is the same dataset
    assert run_folder(other, ONE) != run_folder(table, ONE)
    assert run_folder(table, SMALL) != run_folder(table, ONE)


def test_a_finished_run_whose_images_have_changed_is_not_used(place: Path, tmp_path: Path) -> None:
    own = small_table(tmp_path)
    folder = run_folder(own, ONE)
    (before,) = train(own, ONE, **HOW)
    a, b = own["dist_path"].iloc[[0, 14]]
    names = Path(a), Path(b), tmp_path / "third"
    for source, target in ((0, 2), (1, 0), (2, 1)):  # exchanged: same names, same labels
        names[source].rename(names[target])
    with pytest.raises(InputError, match="holds a run with other images"):
        train(own, ONE, folder=folder, **HOW)
    assert run_folder(own, ONE) != folder
    assert json.loads((folder / "split-0" / "result.json").read_text())["srcc"] == pytest.approx(
        before["srcc"], nan_ok=True
    )


def test_images_that_change_while_training_give_no_result(place: Path, tmp_path: Path) -> None:
    own, changed = small_table(tmp_path), list[Path]()

    def change(text: str, done: int, total: int) -> None:
        if "test" in text and not changed:
            changed.append(write_images(tmp_path, seed=2))

    with pytest.raises(InputError, match=r"changed while LoDa was trained: run the same command again\.$"):
        train(own, ONE, folder=tmp_path / "run", progress=change, **HOW)
    assert not (tmp_path / "run" / "split-0" / "result.json").exists()
    with pytest.raises(InputError, match="holds no finished split"):
        read_run(tmp_path / "run", [0])


def test_an_image_is_hashed_once(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = list(small_table(tmp_path, seed=3)["dist_path"])
    first = fill_cache(paths)
    assert len(set(first)) == len(paths)
    with monkeypatch.context() as patch:
        patch.setattr(loda_data, "read_bytes_rgb", lambda _: pytest.fail("read again"))
        assert fill_cache(paths) == first
    os.utime(paths[0])  # the time is new: the content decides
    assert fill_cache(paths) == first
    (cache_folder() / "contents.json").write_text("{")
    assert fill_cache(paths) == first


def test_a_damaged_file_in_the_cache_is_made_again(place: Path, tmp_path: Path, table: pd.DataFrame) -> None:
    path = table["dist_path"][0]
    whole = resized(path).copy()
    cached = loda_data._cached_file(path, loda_data.file_facts(path))
    for damaged in (b"", cached.read_bytes()[:1000], cached.read_bytes()[:20]):
        cached.write_bytes(damaged)
        assert (resized(path) == whole).all()


def test_what_a_killed_run_left_in_the_cache_is_cleared(place: Path, table: pd.DataFrame) -> None:
    fill_cache(list(table["dist_path"]))
    old, young = (next(cache_folder().glob("??")) / f".writing-{name}" for name in ("old", "young"))
    for path in (old, young):
        path.write_bytes(b"")
    os.utime(old, (time.time() - 7200,) * 2)
    fill_cache(list(table["dist_path"]))
    assert not old.exists()
    assert young.exists()
    young.unlink()


# ---- damaged files ---------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "names",
    [
        ["result.json"],
        ["predictions.csv"],
        ["history.csv"],
        ["best.ckpt"],
        pytest.param(["result.json", "best.ckpt"], marks=pytest.mark.slow),
        pytest.param(["result.json", "last.ckpt"], marks=pytest.mark.slow),
        ["../splits.json"],
    ],
    ids=lambda names: " ".join(names),
)
def test_a_damaged_file_of_a_run_is_made_again(
    table: pd.DataFrame, finished: tuple[Path, list[dict]], copied: Path, names: list[str]
) -> None:
    whole, results = finished
    for name in names:
        cut(copied / "split-0" / name)
    assert json.dumps(train(table, SMALL, folder=copied, **HOW)) == json.dumps(results)
    for name in ("result.json", "history.csv", "predictions.csv", "../splits.json"):
        assert (copied / "split-0" / name).read_bytes() == (whole / "split-0" / name).read_bytes()
    load_checkpoint(copied / "split-0" / "best.ckpt")


def test_a_damaged_record_of_a_run_is_one_sentence(table: pd.DataFrame, copied: Path) -> None:
    for content in (b"", b"{", b"[1]", b"\xff"):
        (copied / "run.json").write_bytes(content)
        with pytest.raises(
            InputError, match=r"run\.json is damaged, so it is unknown which run this is: delete"
        ):
            train(table, SMALL, folder=copied, **HOW)


def test_temporary_files_of_a_killed_run_are_cleared(table: pd.DataFrame, copied: Path) -> None:
    for place in (copied, copied / "split-0"):
        (place / ".writing-abc").write_bytes(b"half")
    (copied / "split-0" / "result.json").unlink()
    train(table, SMALL, folder=copied, **HOW)
    assert not list(copied.rglob(".writing-*"))


def poisoned(checkpoint: dict, value: object) -> dict:
    learner = dict(checkpoint["learner"])
    learner["head.weight"] = value(learner["head.weight"]) if callable(value) else value
    return {**checkpoint, "learner": learner}


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: poisoned(c, lambda v: v * torch.nan), "head.weight holds values that are not finite"),
        (lambda c: poisoned(c, lambda v: v / 0), "head.weight holds values that are not finite"),
        (lambda c: poisoned(c, lambda v: v.to(torch.int8)), "head.weight is not a tensor of floating-point"),
        (lambda c: poisoned(c, lambda v: v > 0), "head.weight is not a tensor of floating-point"),
        (lambda c: poisoned(c, lambda v: v.to_sparse()), "head.weight is not a tensor of floating-point"),
        (lambda c: poisoned(c, "text"), "head.weight is not a tensor of floating-point"),
        (lambda c: {**c, "learner": {0: torch.zeros(1)}}, "part learner does not map names to tensors"),
        (lambda c: {**c, "learner": [1]}, "part learner does not map names to tensors"),
        (lambda c: {**c, "fmiqa": "no"}, "is damaged: its entry vit is not of type str"),
        (lambda c: {**c, "fmiqa": {"inject": "yes"}}, "is damaged: its entry inject is not of type bool"),
    ],
)
def test_a_checkpoint_that_cannot_predict_is_refused(
    finished: tuple[Path, list[dict]], tmp_path: Path, spoil: Callable[[dict], dict], said: str
) -> None:
    content = torch.load(finished[0] / "split-0" / "best.ckpt", weights_only=True)
    torch.save(spoil(content), tmp_path / "own.ckpt")
    with pytest.raises(InputError, match=said):
        load_checkpoint(tmp_path / "own.ckpt")


def test_predictions_that_are_not_finite_are_refused(
    place: Path, finished: tuple[Path, list[dict]], tmp_path: Path
) -> None:
    content = torch.load(finished[0] / "split-0" / "best.ckpt", weights_only=True)
    huge = {k: v * 1e38 if k.startswith("up_proj.0.fc2") else v for k, v in content["learner"].items()}
    torch.save({**content, "learner": huge}, tmp_path / "own.ckpt")
    words = ["loda", "predict", str(tmp_path / "own.ckpt"), str(place / "r0_0.png"), "--crops", "1"]
    done = CliRunner().invoke(app, [*words, "--device", "cpu", "--output", str(tmp_path / "p.csv")])
    assert "r0_0.png is not finite" in str(done.exception)
    assert not (tmp_path / "p.csv").exists()


# ---- signals ---------------------------------------------------------------------------------------------------------------


class Stopped(KeyboardInterrupt):
    """What a program may have its handler of SIGTERM raise."""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("number", "handler", "raised"),
    [
        (signal.SIGINT, None, KeyboardInterrupt),
        (signal.SIGTERM, None, SystemExit),
        (signal.SIGTERM, Stopped, Stopped),
    ],
    ids=["ctrl-c", "sigterm", "handled-sigterm"],
)
def test_a_signal_stops_in_the_middle_of_a_batch(
    table: pd.DataFrame,
    tmp_path: Path,
    workers: int,
    number: signal.Signals,
    handler: type[BaseException] | None,
    raised: type[BaseException],
) -> None:
    counts = []

    def stop(text: str, done: int, total: int) -> None:
        counts.append(done)
        if done == 3:  # of a batch of four: in the backward pass
            os.kill(os.getpid(), number)

    def handle(*_: object) -> None:
        assert handler
        raise handler

    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    if handler:
        signal.signal(signal.SIGTERM, handle)
    try:
        with pytest.raises(raised) as caught:
            fit(
                parts_of(table, make_splits(table)[0]),
                SMALL,
                tmp_path / "run",
                device="cpu",
                workers=workers,
                progress=stop,
            )
        assert signal.getsignal(signal.SIGTERM) == (handle if handler else before[signal.SIGTERM])
        assert signal.getsignal(signal.SIGINT) == before[signal.SIGINT]
    finally:
        for which, old in before.items():
            signal.signal(which, old)
    assert max(counts) == 3
    assert getattr(caught.value, "code", 143) == 143
    assert not (tmp_path / "run" / "last.ckpt").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_stops_within_seconds_and_goes_on(
    place: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    csv = write_images(tmp_path)
    words = ["loda", "train", "--dataset", f"csv:{csv}", "--direction", "higher", "--vit", SMALL.vit]
    words += ["--cnn", SMALL.cnn, "--weights", "untrained", "--batch", "4", "--test-crops", "2"]
    words += ["--device", "cpu", "--output", str(tmp_path / "run")]
    program = [sys.executable, "-c", "from fmiqa_utils.cli.main import main; main()", *words]
    environment = {**os.environ, "FMIQA_DATA": str(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([*program, "--epochs", "200"], env=environment, stderr=subprocess.PIPE, text=True)
    last = tmp_path / "run" / "split-0" / "last.ckpt"
    while run.poll() is None and not last.is_file():
        time.sleep(0.05)
    sent = time.monotonic()
    run.send_signal(number)
    _, said = run.communicate(timeout=60)
    assert run.returncode == status, said
    assert time.monotonic() - sent < 15
    assert "stopped; finished epochs are kept, the same command goes on from there." in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob(".writing-*"))
    history = pd.read_csv(tmp_path / "run" / "split-0" / "history.csv")
    assert 1 <= len(history) < 200


# ---- outputs ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test in which an image is read or a model is built."""
    for name in ("read_bytes_rgb", "resized"):
        monkeypatch.setattr(loda_data, name, lambda *_: pytest.fail("an image was read"))
    monkeypatch.setattr("fmiqa_utils.loda.train.build", lambda _: pytest.fail("a model was built"))
    monkeypatch.setattr("fmiqa_utils.loda.evaluate.build", lambda _: pytest.fail("a model was built"))


def test_an_output_that_cannot_be_written_is_noticed_first(
    place: Path, finished: tuple[Path, list[dict]], tmp_path: Path, no_work: None
) -> None:
    best = str(finished[0] / "split-0" / "best.ckpt")
    (tmp_path / "file").write_text("")
    image, data = (
        str(place / "r0_0.png"),
        ["--dataset", f"csv:{place / 'pairs.csv'}", "--direction", "higher"],
    )
    below = str(tmp_path / "file" / "p.csv")
    for words in (["predict", best, image], ["evaluate", best, *data]):
        done = CliRunner().invoke(app, ["loda", *words, "--output", below])
        assert isinstance(done.exception, InputError)
        assert "The results cannot be written into" in str(done.exception)
        done = CliRunner().invoke(app, ["loda", *words, "--output", str(tmp_path)])
        assert "is a folder: name a file in it" in str(done.exception)
    done = CliRunner().invoke(app, ["loda", "train", *data, "--output", below])
    assert "The results cannot be written into" in str(done.exception)


def test_a_missing_folder_of_an_output_is_made(
    place: Path, finished: tuple[Path, list[dict]], tmp_path: Path
) -> None:
    best, csv = str(finished[0] / "split-0" / "best.ckpt"), tmp_path / "new" / "folder" / "p.csv"
    words = ["loda", "predict", best, str(place / "r0_0.png"), "--crops", "1", "--device", "cpu"]
    done = CliRunner().invoke(app, [*words, "--output", str(csv)])
    assert done.exit_code == 0, done.exception
    assert len(pd.read_csv(csv)) == 1
    assert [p.name for p in csv.parent.iterdir()] == ["p.csv"]


# ---- options ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch", "1"], "--batch 1: it must be 2 or more"),
        (["--batch", "-1"], "--batch -1"),
        (["--device-batch", "-1"], "--device-batch -1"),
        (["--crops", "-1"], "--crops -1: it must be 0 or more"),
        (["--crops", "1000000000"], "--crops 1000000000"),
        (["--test-crops", "0"], "--test-crops 0: it must be 1 or more"),
        (["--epochs", "0"], "--epochs 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--learning-rate", "nan"], "--learning-rate nan: it must be more than 0"),
        (["--learning-rate", "0"], "--learning-rate 0: it must be more than 0"),
        (["--precision", "int8"], "no precision called 'int8'"),
        (["--protocol", "other"], "no protocol called 'other'"),
        (["--bn", "moving"], "no treatment of BatchNorm called 'moving'"),
        (["--weights", "some"], "no kind of weights called 'some'"),
        (["--splits", "0,0"], "split 0 is named twice"),
        (["--splits", "10"], "there is no split 10: there are splits 0 … 9"),
        (["--splits", "-1"], "write numbers by commas"),
        (["--splits", ""], "no split is named"),
        (["--device", "foo"], "no device 'foo'"),
        (["--device", "cuda:x"], "no device 'cuda:x'"),
        (["--device", "cpu", "--devices", "0"], "--devices 0"),
        (["--workers", "-1"], "--workers -1"),
        (["--images", "-1"], "--images -1"),
        (["--images", "3"], "has 3 images of 3 references: LoDa needs at least 10"),
        (["--vit", "vit_tinny_patch16_224"], "timm has no model called 'vit_tinny_patch16_224'"),
        (["--cnn", "resnet51"], "timm has no model called 'resnet51'"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_wrong_options_are_one_sentence_before_any_work(
    place: Path, table: pd.DataFrame, tmp_path: Path, no_work: None, words: list[str], said: str
) -> None:
    data = [
        "--dataset",
        f"csv:{place / 'pairs.csv'}",
        "--direction",
        "higher",
        "--output",
        str(tmp_path / "run"),
    ]
    done = CliRunner().invoke(app, ["loda", "train", *data, *words])
    assert isinstance(done.exception, InputError), done.exception
    assert said in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(InputError, match="the device cuda is not there: this machine has no GPU"):
        check_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_device("cuda:1")
    check_device("cuda", 2)
    for device, devices in (("cuda:2", 1), ("cuda", 3)):
        with pytest.raises(InputError, match="this machine has 2"):
            check_device(device, devices)
    with pytest.raises(InputError, match="names one device"):
        check_device("cuda:0", 2)


def test_labels_and_parts_that_teach_nothing_are_refused(
    table: pd.DataFrame, tmp_path: Path, no_work: None
) -> None:
    with pytest.raises(InputError, match="have the same label"):
        train(table.assign(quality=1.0), ONE, **HOW)
    lone = table.drop(index=table.index[table["ref"] == "r0.png"][1:]).reset_index(drop=True)
    parts = {"train": ["r0.png"], "validation": ["r1.png"], "test": ["r2.png", "r3.png", "r4.png"]}
    (tmp_path / "splits.json").write_text(json.dumps({"splits": [parts]}))
    with pytest.raises(InputError, match=r"split 0 has 1 image\(s\) to train on, .* raise --crops"):
        train(lone, ONE, split_file=tmp_path / "splits.json", **HOW)
    with pytest.raises(InputError, match="there are splits 0 … 0"):
        train(lone, ONE, splits=[1], split_file=tmp_path / "splits.json", **HOW)


# ---- progress --------------------------------------------------------------------------------------------------------------


def test_progress_counts_every_crop_of_every_split(
    table: pd.DataFrame, tmp_path: Path, finished: tuple[Path, list[dict]]
) -> None:
    heard: list[tuple[str, int, int]] = []

    def hear(text: str, done: int, total: int) -> None:
        heard.append((text, done, total))

    options = Options(**{**SMALL.__dict__, "inject": False})
    train(table, options, splits=[3, 1], folder=tmp_path / "run", progress=hear, **HOW)
    caching = [h for h in heard if h[0] == "resize"]
    assert caching[-1] == ("resize", 15, 15)
    training = heard[len(caching) :]
    # per epoch 4 of 6 training images (whole batches) and 3 validation images × 2 crops; then 6 test images × 2 crops
    per_split = 2 * (4 + 6) + 12
    assert {total for *_, total in training} == {2 * per_split}
    counts = [done for _, done, _ in training]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == 2 * per_split
    assert {1, 2, 3} & set(counts)  # in the middle of a batch
    texts = list(dict.fromkeys(text for text, *_ in training))
    words = ("epoch 1 of 2", "epoch 2 of 2", "test")
    assert texts == [f"LoDa, split {n}, {w}" for n in (3, 1) for w in words]
    first_of_second = next(done for text, done, _ in training if text == "LoDa, split 1, epoch 1 of 2")
    assert first_of_second == per_split
    heard.clear()
    shutil.rmtree(tmp_path / "run" / "split-1")
    train(table, options, splits=[3, 1], folder=tmp_path / "run", progress=hear, **HOW)
    training = [h for h in heard if h[0] != "resize"]
    assert training[0] == (
        "LoDa, split 1, epoch 1 of 2",
        per_split,
        2 * per_split,
    )  # a finished split is done
