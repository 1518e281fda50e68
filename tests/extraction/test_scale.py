"""The store's work grows in proportion to the pairs: counted, not timed (`scale.py` times it)."""

from pathlib import Path

import pandas as pd
import pytest
import scale

from fmiqa_utils.extraction import resume
from fmiqa_utils.extraction.plan import plan
from fmiqa_utils.files import storage
from fmiqa_utils.scores import shards as scores
from fmiqa_utils.scores.shards import read_manifest, read_scores

SMALL, LARGE, BACKBONES = 1_000, 8_000, 2


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, pd.DataFrame]]:
    """Simulated shards of two backbones, for few pairs and for eight times as many."""
    made = {}
    for count in (SMALL, LARGE):
        folder = tmp_path_factory.mktemp(str(count))
        pairs = scale.make_pairs(folder, count)
        scale.fill(folder, pairs, BACKBONES)
        made[count] = folder, pairs
    return made


def counted(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> list[str]:
    """The first arguments that `module.name` is called with from now on."""
    seen, real = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda *a: seen.append(str(a[0])) or real(*a))
    return seen


@pytest.mark.parametrize("count", [SMALL, LARGE])
def test_a_resumed_run_lists_once_and_reads_no_shard(
    stores: dict, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pairs = stores[count]
    listed = counted(monkeypatch, resume, "listing")
    read = counted(monkeypatch, storage.Path, "read_bytes")
    looked = counted(monkeypatch, resume, "file_facts")
    assert scale.kept(folder, pairs, 1) == count // scale.PER_REF
    assert listed == [str(folder / "b1")]
    assert read == [str(folder / "b1" / scores.VERIFIED)]
    assert len(looked) == len(set(looked)) == count + count // scale.PER_REF  # every image once


def test_without_the_note_every_shard_is_read_once_and_the_note_is_written_again(
    stores: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, pairs = stores[SMALL]
    note = (folder / "b1" / scores.VERIFIED).read_bytes()
    (folder / "b1" / scores.VERIFIED).unlink()
    read = counted(monkeypatch, resume, "read_shard")
    assert scale.kept(folder, pairs, 1) == SMALL // scale.PER_REF
    assert sorted(read) == sorted(str(folder / "b1" / n) for n in read_manifest(folder / "b1")["shards"])
    assert (folder / "b1" / scores.VERIFIED).read_bytes() == note


@pytest.mark.parametrize("count", [SMALL, LARGE])
def test_reading_one_backbone_opens_its_files_alone(
    stores: dict, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = stores[count]
    read = counted(monkeypatch, storage.Path, "read_bytes")
    table = read_scores(folder / "b1", features=[3])
    assert len(table) == count
    assert set(table["feature"]) == {3}
    assert len(read) == 1 + count // scale.PER_REF
    assert {Path(p).parent for p in read} == {folder / "b1"}


def test_a_row_in_memory_is_twenty_bytes(stores: dict) -> None:
    table = read_scores(stores[LARGE][0] / "b0")
    assert len(table) == LARGE * scale.VALUES
    assert table.memory_usage().sum() / len(table) < 22


def test_names_are_text_a_block_at_a_time(stores: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    _, pairs = stores[LARGE]
    keys = plan(pairs, scale.simulated(0)).keys
    monkeypatch.setattr("fmiqa_utils.extraction.plan.BLOCK", 3)
    sizes, astype = [], pd.DataFrame.astype
    monkeypatch.setattr(pd.DataFrame, "astype", lambda t, *a, **k: sizes.append(len(t)) or astype(t, *a, **k))
    assert plan(pairs, scale.simulated(0)).keys == keys
    assert max(sizes) == 3 * scale.PER_REF
    assert sum(sizes) == LARGE
