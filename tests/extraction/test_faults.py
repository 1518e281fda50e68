"""Faults injected on purpose: kills at random moments, two runs at once, full disks, models that return NaN, bad images."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import pairs_of, write_pairs
from PIL import Image
from typer.testing import CliRunner

from fmiqa_utils.backbones.load import load_backbone
from fmiqa_utils.cli.main import app
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.extract import score_pairs
from fmiqa_utils.extraction.scorer import Scorer, Settings
from fmiqa_utils.scores import shards as store

TINY = "timm:vit_tiny_patch16_224"
KILLS = 20
WORDS = ["--direction", "higher", "--backbone", TINY, "--weights", "untrained", "--device", "cpu"]


# One process imports torch once and forks: a kill costs a fork, not an import.
KILLING = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)  # a pool of threads does not survive a fork
from fmiqa_utils.backbones.load import load_backbone
from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.extraction.extract import score_pairs
from fmiqa_utils.extraction.scorer import Scorer, Settings
table, whole, broken, kills = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
pairs = load_pairs(f"csv:{table}", direction="higher")
scorer = Scorer(load_backbone("timm:vit_tiny_patch16_224", "untrained"), Settings(("l2", "cos")), workers=1)

def start(folder):
    child = os.fork()
    if child == 0:
        score_pairs(pairs, scorer, folder)
        os._exit(0)
    return child

begin, child = time.monotonic(), start(whole)
while not any(whole.glob("*.parquet")):
    time.sleep(0.002)
first = time.monotonic() - begin
os.waitpid(child, 0)
per_chunk = (time.monotonic() - begin - first) / (len(pairs) - 1)
chance, killed, seen = random.Random(0), 0, {}
while killed < kills:
    child = start(broken)
    time.sleep(chance.uniform(0, first + per_chunk))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed += os.WIFSIGNALED(status)
    for shard in broken.glob("*.parquet"):
        seen.setdefault(shard.name, shard.stat().st_mtime_ns)
    if not os.WIFSIGNALED(status):
        break
between = len(seen)
os.waitpid(start(broken), 0)
again = [n for n, t in seen.items() if (broken / n).stat().st_mtime_ns != t]
print(json.dumps({"killed": killed, "between": between, "again": again}))
"""


@pytest.mark.slow
def test_twenty_kills_lose_nothing_and_compute_nothing_twice(tmp_path: Path) -> None:
    table = write_pairs(tmp_path, 150, (20,), (224, 224))
    command = [sys.executable, "-c", KILLING, str(table), str(tmp_path / "whole"), str(tmp_path / "broken")]
    done = subprocess.run(
        [*command, str(KILLS)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["killed"] == KILLS
    assert told["between"] > 0
    assert told["again"] == []
    whole, broken = (
        {p.name: p.read_bytes() for p in (tmp_path / n).glob("*.parquet")} for n in ("whole", "broken")
    )
    assert len(whole) == 150
    assert broken == whole
    assert not list((tmp_path / "broken").glob(".writing-*"))


def test_a_second_run_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with store.sole_writer(tmp_path / "out"):
            inside.set()
            leave.wait(10)

    holder = threading.Thread(target=first)
    holder.start()
    inside.wait(10)
    with (
        pytest.raises(InputError, match="another run has been writing"),
        store.sole_writer(tmp_path / "out", patience=0.1, waiting=said.append),
    ):
        pass
    assert said == ["another run is writing to out; waiting for it to finish"]
    threading.Timer(0.3, leave.set).start()
    with store.sole_writer(tmp_path / "out", patience=10):
        assert leave.is_set()
    holder.join()


def test_a_full_disk_keeps_what_was_finished(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, out, written = write_pairs(tmp_path, 3, (20,), (224, 224)), tmp_path / "out", []

    def fsync(handle: int) -> None:
        written.append(handle)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(InputError, match=r"No space left on device.*free some space.*kept"):
            score_pairs(pairs_of(table), scorer, out)
    kept = {p.name for p in out.iterdir() if not p.name.startswith(".lock")}
    assert len(kept) == 2
    assert all(name.endswith(".parquet") for name in kept)
    manifest = score_pairs(pairs_of(table), scorer, out)
    assert kept < set(manifest["shards"])


def test_an_output_that_cannot_be_a_folder_is_named(scorer: Scorer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/out cannot be written"):
        score_pairs(pairs_of(write_pairs(tmp_path, 1, (20,), (224, 224))), scorer, tmp_path / "file" / "out")


def test_nan_from_the_model_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    broken = Scorer(load_backbone(TINY, "untrained"), Settings(("l2", "cos")))
    broken.backbone.model.blocks[3].mlp.fc1.weight.data[0, 0] = torch.nan  # type: ignore[index,union-attr]
    out = tmp_path / "out"
    manifest = score_pairs(pairs_of(write_pairs(tmp_path, 2, (20,), (224, 224))), broken, out)
    assert manifest["failures"] == 2
    assert set(store.read_failures(out)["reason"]) == {f"{TINY} returned values that are not finite"}
    assert store.read_scores(out)["value"].isna().all()


def spoil(table: Path, kind: str) -> None:
    """Damage the first distorted image so that it cannot be scored."""
    path = table.parent / "r0_0.png"
    image = Image.open(path).convert("RGB")
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:20_000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "16 bit":
        Image.fromarray(np.zeros((224, 224), np.uint16)).save(path)
    elif kind == "cmyk":
        image.convert("CMYK").save(path, format="JPEG")
    elif kind == "transparent":
        image.putalpha(100)
        image.save(path)
    elif kind == "other size":
        image.resize((240, 240)).save(path)
    elif kind == "bomb":
        Image.new("1", (20_000, 20_000)).save(path)


REASONS = {
    "truncated": "damaged or cut short",
    "empty": "is empty (0 bytes)",
    "text": "is not an image",
    "16 bit": "more than 8 bits",
    "cmyk": "CMYK",
    "transparent": "transparent pixels",
    "other size": "differ in size",
    "bomb": "not decoded",
}


@pytest.mark.parametrize("kind", REASONS)
def test_a_bad_image_is_a_row_with_its_reason(scorer: Scorer, tmp_path: Path, kind: str) -> None:
    table = write_pairs(tmp_path, 2, (20,), (224, 224))
    spoil(table, kind)
    manifest = score_pairs(pairs_of(table), scorer, tmp_path / "out")
    failures = store.read_failures(tmp_path / "out")
    assert manifest["failures"] == 1
    assert failures["pair_id"].tolist() == ["r0_0.png"]
    assert REASONS[kind] in failures["reason"][0]
    scored = store.read_scores(tmp_path / "out").set_index("pair_id")["value"]
    assert scored["r0_0.png"].isna().all()
    assert scored["r1_0.png"].notna().all()


@pytest.mark.parametrize("kind", ["grey", "palette", "opaque alpha"])
def test_an_image_that_is_rgb_by_another_name_is_scored(scorer: Scorer, tmp_path: Path, kind: str) -> None:
    table = write_pairs(tmp_path, 1, (20,), (224, 224))
    image = Image.open(tmp_path / "r0_0.png")
    modes = {"grey": "L", "palette": "P", "opaque alpha": "RGBA"}
    image.convert(modes[kind]).save(tmp_path / "r0_0.png")
    assert score_pairs(pairs_of(table), scorer, tmp_path / "out")["failures"] == 0


def test_failures_are_counted_on_the_console_and_strict_stops(
    tmp_path: Path,
) -> None:
    table = write_pairs(tmp_path, 2, (20,), (224, 224))
    spoil(table, "text")
    command = ["extract", "--dataset", f"csv:{table}", *WORDS, "--distance", "l2", "--run", "r"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert "1 of 2 pairs cannot be scored" in done.stderr
    assert "2 pairs, 1 failed" in done.stdout
    strict = CliRunner().invoke(app, [*command, "--strict"])
    assert isinstance(strict.exception, InputError)
    assert "is not an image" in str(strict.exception)


def test_a_missing_file_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    table = write_pairs(tmp_path, 2, (20,), (224, 224))
    (tmp_path / "r1_0.png").unlink()
    with pytest.raises(InputError, match=r"r1_0\.png"):
        pairs_of(table)


def test_images_under_the_window_stop_the_run_with_the_way_out(
    tmp_path: Path,
) -> None:
    table = write_pairs(tmp_path, 1, (20,), (224, 224))
    for name in ("r0", "r0_0"):
        Image.new("RGB", (100, 230)).save(tmp_path / f"{name}.png")
    done = CliRunner().invoke(app, ["extract", "--dataset", f"csv:{table}", *WORDS])
    assert isinstance(done.exception, InputError)
    assert "100×230 px, under the 224 px window" in str(done.exception)
    assert "--small-images resize or pad" in str(done.exception)


def test_whatever_changes_a_number_changes_the_key(
    scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    from fmiqa_utils import keys as covered
    from fmiqa_utils.extraction.plan import run_key

    state = {k: v.clone() for k, v in scorer.backbone.model.state_dict().items()}
    keys = [run_key(scorer)]
    for value in (1.0, 2.0):
        state["norm.bias"] += value
        save_file(state, tmp_path / "w.safetensors")
        keys.append(run_key(Scorer(load_backbone(TINY, str(tmp_path / "w.safetensors")), scorer.settings)))
    for option in ({"normalize": "model"}, {"precision": "bf16"}):
        keys.append(run_key(Scorer(load_backbone(TINY, "untrained", **option), scorer.settings)))
    for settings in (
        Settings(("l2",)),
        Settings(("l2", "cos"), seed=1),
        Settings(("l2", "cos"), ("corrected",)),
    ):
        keys.append(run_key(Scorer(scorer.backbone, settings)))
    for stage in covered.STAGES:
        monkeypatch.setitem(covered.STAGES, stage, 10_000)
        keys.append(run_key(scorer))
    monkeypatch.setattr(covered, "library_versions", lambda *_: {"torch": "9.9"})
    keys.append(run_key(scorer))
    assert len(set(keys)) == len(keys) == 15
    monkeypatch.undo()
    assert run_key(Scorer(load_backbone(TINY, "untrained"), scorer.settings)) == keys[0]
