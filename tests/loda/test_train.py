"""LoDa's data, splits and training: what depends on what, exact resume, faults, and the commands."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from loda_table import HOW, SMALL, small_table
from PIL import Image
from typer.testing import CliRunner

from fmiqa_utils.cli.main import app
from fmiqa_utils.errors import InputError
from fmiqa_utils.loda import data as loda_data
from fmiqa_utils.loda.data import EpochSampler, TrainingCrops, evaluation_crops, load_labelled, resized
from fmiqa_utils.loda.evaluate import correlations_of, load_checkpoint, predict, summary
from fmiqa_utils.loda.model import plcc_loss
from fmiqa_utils.loda.run import train
from fmiqa_utils.loda.splits import make_splits, parts_of, read_splits, save_splits
from fmiqa_utils.loda.train import Training, build, fit


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """Five references with three noisy images each."""
    return small_table(tmp_path)


@pytest.mark.usefixtures("table")
def test_splits_are_deterministic_disjoint_and_cover_all(tmp_path: Path) -> None:
    many = pd.DataFrame({"dataset": "d", "ref": np.repeat([f"I{i:02}" for i in range(25)], 4)})
    splits = make_splits(many)
    assert splits == make_splits(many.sample(frac=1, random_state=0))
    assert len(splits) == 10
    assert len({json.dumps(s) for s in splits}) == 10
    for parts in splits:
        assert {n: len(p) for n, p in parts.items()} == {"train": 18, "validation": 2, "test": 5}
        assert sorted(r for part in parts.values() for r in part) == sorted(many["ref"].unique())
    path = save_splits(tmp_path / "splits.json", many)
    assert read_splits(path, many) == splits
    published = parts_of(many, splits[0], "published")
    assert len(published["train"]) == 80
    assert published["validation"].equals(published["test"])


def test_a_split_that_shares_references_is_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    path = save_splits(tmp_path / "splits.json", table)
    content = json.loads(path.read_text())
    content["splits"][3]["train"].append(content["splits"][3]["test"][0])
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"split 3 of splits\.json has .* in both train and test"):
        read_splits(path, table)
    path.write_text("[]")
    with pytest.raises(InputError, match="is not a split file"):
        read_splits(path, table)


@pytest.mark.usefixtures("table")
def test_too_few_images_are_refused(tmp_path: Path) -> None:
    pd.read_csv(tmp_path / "pairs.csv").head(9).to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(InputError, match="9 images of 3 references"):
        load_labelled(f"csv:{tmp_path / 'few.csv'}", direction="higher")


def test_images_are_resized_once(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table["dist_path"][0]
    small = resized(path)
    assert small.shape == (384, 480, 3)
    wanted = Image.open(path).resize((480, 384), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(small, np.asarray(wanted))
    monkeypatch.setattr(loda_data, "read_bytes_rgb", lambda _: pytest.fail("read again"))
    np.testing.assert_array_equal(resized(path), small)


def test_a_crop_depends_on_seed_epoch_and_item_alone(table: pd.DataFrame) -> None:
    crops = TrainingCrops(table, 2, seed=3)
    assert len(crops) == 2 * len(table)
    first, again, later = crops[0, 5][0], TrainingCrops(table, 2, seed=3)[0, 5][0], crops[1, 5][0]
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert first.shape == (3, 224, 224)
    sampler = EpochSampler(11, seed=1)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[2] != orders[1]
    assert sorted(i for _, i in orders[0]) == list(range(11))
    shares = [{i for _, i in EpochSampler(11, 1, rank, 2)} for rank in (0, 1)]
    assert not shares[0] & shares[1]
    assert len(shares[0]) == len(shares[1]) == 5
    torch.testing.assert_close(
        evaluation_crops(table["dist_path"][0], 2), evaluation_crops(table["dist_path"][0], 2)
    )


@pytest.mark.usefixtures("table")
def test_the_loss_is_over_the_whole_batch_however_little_fits() -> None:
    x, y = torch.randn(5, 3, 224, 224, generator=torch.Generator().manual_seed(0)), torch.arange(5.0)
    gradients = []
    for size in (5, 2):
        own = Training(build(SMALL), SMALL, 1, {})
        own.model.dropout.p = 0.0  # parts draw their own dropout
        own.model.train()
        own.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign,assignment]
        own._fabric = None
        object.__setattr__(own, "_trainer", type("T", (), {"global_step": 0, "fit_loop": None})())
        loss = own._backward(x, y, size)
        gradients.append((loss, [p.grad.clone() for p in own.model.trainable() if p.grad is not None]))
    assert gradients[0][0].item() == pytest.approx(gradients[1][0].item(), rel=1e-4)
    for a, b in zip(gradients[0][1], gradients[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-5)


@pytest.mark.slow
def test_training_ends_with_a_checkpoint_that_predicts(table: pd.DataFrame, tmp_path: Path) -> None:
    results = train(table, SMALL, folder=tmp_path / "run", **HOW)
    again = train(table, SMALL, folder=tmp_path / "run", **HOW)
    assert json.dumps(again) == json.dumps(results)  # NaN is not equal to itself
    split = tmp_path / "run" / "split-0"
    history = pd.read_csv(split / "history.csv")
    assert history["epoch"].tolist() == [0, 1]
    assert history["lr"].tolist() == pytest.approx([5e-4, 0], abs=1e-12)
    rows = pd.read_csv(split / "predictions.csv")
    assert correlations_of(rows)["srcc"] == pytest.approx(results[0]["srcc"])
    model = load_checkpoint(split / "best.ckpt")
    shown = predict(model, [table.loc[table["pair_id"] == rows["pair_id"][0], "dist_path"].item()], crops=2)
    assert shown["prediction"].item() == pytest.approx(rows["prediction"][0], rel=1e-5)
    assert shown["spread"].item() > 0
    size = (split / "best.ckpt").stat().st_size
    assert size < 20e6  # what was trained and its optimizer, not the frozen models
    with pytest.raises(
        InputError,
        match="not of LoDa with vit_small_patch16_224: the checkpoint records vit vit_tiny_patch16_224",
    ):
        load_checkpoint(split / "best.ckpt", vit="vit_small_patch16_224")


@pytest.mark.slow
def test_a_folder_of_another_run_is_refused(table: pd.DataFrame, tmp_path: Path) -> None:
    one = replace(SMALL, epochs=1)
    train(table, one, folder=tmp_path / "run", **HOW)
    for other, rows in ((replace(one, seed=1), table), (one, table.assign(quality=-table["quality"]))):
        with pytest.raises(InputError, match=r"holds a run with other (options|labels)"):
            train(rows, other, folder=tmp_path / "run", **HOW)
    content = json.loads((tmp_path / "run" / "splits.json").read_text())
    content["splits"][0], content["splits"][1] = content["splits"][1], content["splits"][0]
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="holds a run with other splits"):
        train(table, one, folder=tmp_path / "run", split_file=tmp_path / "other.json", **HOW)


def test_moving_batchnorm_needs_the_whole_batch() -> None:
    with pytest.raises(InputError, match="needs the whole batch at once"):
        build(replace(SMALL, bn="published", device_batch=2))


RESULTS = ("result.json", "history.csv", "predictions.csv")


class StopIn:
    """Progress that raises once the text of an epoch is heard for the second time: in the middle of a batch."""

    def __init__(self, epoch: str, act: Callable[[], object]) -> None:
        self.epoch, self.act, self.heard = epoch, act, 0

    def __call__(self, text: str, done: int, total: int) -> None:
        self.heard += self.epoch in text
        if self.heard == 8:
            self.act()


def ctrl_c() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("workers", "bn"),
    [
        pytest.param(0, "frozen", marks=pytest.mark.slow),
        (2, "frozen"),
        pytest.param(2, "published", marks=pytest.mark.slow),
    ],
)
def test_stopped_and_resumed_ends_with_the_same_numbers(
    table: pd.DataFrame, tmp_path: Path, workers: int, bn: str
) -> None:
    options, how = replace(SMALL, epochs=3, bn=bn), {"device": "cpu", "workers": workers}
    train(table, options, folder=tmp_path / "whole", **HOW)
    with pytest.raises(KeyboardInterrupt):
        train(table, options, folder=tmp_path / "stopped", progress=StopIn("epoch 2 of 3", ctrl_c), **how)
    assert len(pd.read_csv(tmp_path / "stopped" / "split-0" / "history.csv")) == 1
    (tmp_path / "stopped").rename(tmp_path / "moved")  # the best epoch so far is known there too
    train(table, options, folder=tmp_path / "moved", **how)
    for name in RESULTS:
        whole, resumed = ((tmp_path / run / "split-0" / name).read_bytes() for run in ("whole", "moved"))
        assert whole == resumed


def test_dropout_and_published_batchnorm_are_at_work_while_training(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes, real = [], Training._backward

    def watched(self: Training, *args: object) -> torch.Tensor:
        modes.append(
            (self.model.dropout.training, self.model.vit.training, self.model.feature_model.training)
        )
        return real(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Training, "_backward", watched)
    parts = parts_of(table, make_splits(table)[0])
    for bn in ("frozen", "published"):
        fit(parts, replace(SMALL, bn=bn), tmp_path / bn, **HOW)
        assert modes == [(True, False, bn == "published")] * len(modes)
        assert len(modes) == 2  # a step in each of two epochs: also after a validation
        modes.clear()


RESUMED = """
import sys
from pathlib import Path
import pandas as pd
from fmiqa_utils.loda.run import train
from fmiqa_utils.loda.train import Options
import torch
torch.set_num_threads(1)
table = pd.read_pickle(sys.argv[1])
options = Options("vit_tiny_patch16_224", "resnet10t", "untrained", epochs=3, batch=4, crops=1, test_crops=2, learning_rate=1e-3)
train(table, options, folder=Path(sys.argv[2]), device="cpu", workers=int(sys.argv[3]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_and_resumed_ends_with_the_same_numbers(
    table: pd.DataFrame, tmp_path: Path, workers: int
) -> None:
    table.to_pickle(tmp_path / "table.pkl")

    def start(name: str) -> subprocess.Popen:
        command = [
            sys.executable,
            "-c",
            RESUMED,
            str(tmp_path / "table.pkl"),
            str(tmp_path / name),
            str(workers),
        ]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    assert start("whole").wait() == 0
    killed = start("killed")
    history = tmp_path / "killed" / "split-0" / "last.ckpt"
    while killed.poll() is None and not history.is_file():
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "split-0" / "result.json").exists()
    assert start("killed").wait() == 0
    for name in RESULTS:
        whole, resumed = ((tmp_path / run / "split-0" / name).read_bytes() for run in ("whole", "killed"))
        assert whole == resumed


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fmiqa_utils.loda import train as training

    calls = []

    def poisoned(pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return plcc_loss(pred, target) * (torch.nan if len(calls) > 1 else 1)

    monkeypatch.setattr(training, "plcc_loss", poisoned)
    parts = parts_of(table, make_splits(table)[0])
    with pytest.raises(InputError, match=r"loss is not finite in epoch 1.*last good checkpoint is kept"):
        fit(parts, SMALL, tmp_path / "run", **HOW)
    kept = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert kept["epoch"] == 0
    assert all(torch.isfinite(v).all() for v in kept["learner"].values())


@pytest.mark.slow
def test_a_full_disk_keeps_the_last_checkpoint(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, full = parts_of(table, make_splits(table)[0]), []
    real = os.fsync

    def fsync(handle: int) -> None:
        full.append(1)
        if os.fstat(handle).st_size > 1e6 and (tmp_path / "run" / "last.ckpt").exists():
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(InputError, match="free some space"):
        fit(parts, SMALL, tmp_path / "run", **HOW)
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["epoch"] == 0
    monkeypatch.undo()
    fit(parts, SMALL, tmp_path / "run", **HOW)
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["epoch"] == 1


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("no")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.ckpt")
    for name, said in (
        ("none", "there is no checkpoint"),
        ("text", "not a readable"),
        ("other", "no part called learner"),
    ):
        with pytest.raises(InputError, match=said):
            load_checkpoint(tmp_path / f"{name}.ckpt")


def test_the_median_over_splits() -> None:
    rows = [{"srcc": v, "plcc": v, "plcc_fit4": v, "krcc": -v} for v in (0.1, 0.5, 0.2)]
    shown = summary(rows).set_index("statistic")
    assert shown.loc["srcc", ["median", "lowest", "highest"]].tolist() == [0.2, 0.1, 0.5]
    assert shown.loc["krcc", "median"] == -0.2


@pytest.mark.usefixtures("table")
@pytest.mark.slow
def test_train_and_predict_on_the_command_line(tmp_path: Path) -> None:
    models = ["--vit", SMALL.vit, "--cnn", SMALL.cnn, "--weights", "untrained"]
    words = ["loda", "train", "--dataset", f"csv:{tmp_path / 'pairs.csv'}", "--direction", "higher", *models]
    words += ["--epochs", "1", "--batch", "4", "--test-crops", "2", "--workers", "0", "--device", "cpu"]
    done = CliRunner().invoke(app, [*words, "--output", str(tmp_path / "run")])
    assert done.exit_code == 0, done.exception
    assert "UNTRAINED" in done.stderr
    best = tmp_path / "run" / "split-0" / "best.ckpt"
    csv = tmp_path / "p.csv"
    files = [str(tmp_path / "r0_0.png"), str(tmp_path / "r0_2.png")]
    done = CliRunner().invoke(
        app, ["loda", "predict", str(best), *files, "--output", str(csv), "--crops", "3"]
    )
    assert done.exit_code == 0, done.exception
    rows = pd.read_csv(csv)
    assert rows["file"].tolist() == files
    assert rows["crops"].tolist() == [3, 3]
    assert rows["weights"].tolist() == ["untrained", "untrained"]
    assert "UNTRAINED" in done.stderr
    assert rows["prediction"].between(-1, 1).all()
    wrong = CliRunner().invoke(app, [*words, "--splits", "10"])
    assert "splits 0 … 9" in str(wrong.exception)
