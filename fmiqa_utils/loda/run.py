"""A LoDa run: one dataset, one set of options, some of its ten splits; a split that is done is not trained again."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from fmiqa_utils.errors import InputError
from fmiqa_utils.loda.evaluate import evaluate, load_checkpoint
from fmiqa_utils.loda.splits import parts_of, read_splits, save_splits
from fmiqa_utils.loda.train import Options, fit
from fmiqa_utils.paths import machine_root
from fmiqa_utils.provenance import pick_device, versions
from fmiqa_utils.runs import plain
from fmiqa_utils.scores import digest, sole_writer
from fmiqa_utils.storage import write_atomically


def run_folder(table: pd.DataFrame, options: Options) -> Path:
    """Where a run is kept: its name covers the labels and every option, so that nothing is mixed up."""
    key = digest(asdict(options), _labels(table))[:10]
    name = (
        f"{table['dataset'].iloc[0]}_{options.vit}_{options.cnn}{'' if options.inject else '_no-injection'}"
    )
    return machine_root() / "loda" / f"{plain(name)}-{key}"


def train(
    table: pd.DataFrame,
    options: Options,
    *,
    splits: Sequence[int] = (0,),
    split_file: Path | None = None,
    folder: Path | None = None,
    **how: Any,
) -> list[dict[str, Any]]:
    """Train and test on every split in `splits`; returns their results, in order.

    A result holds split, folder, weights, n, srcc, plcc, plcc_fit4, krcc; `how` goes to `train.fit`. With several devices every process
    but the first returns no results. Raises InputError for a split that does not exist, and as `fit` does.
    """
    folder = folder or run_folder(table, options)
    if split_file is None:
        split_file = folder / "splits.json"
        if not split_file.is_file():
            save_splits(split_file, table)
    parts = read_splits(split_file, table)
    wrong = [s for s in splits if not 0 <= s < len(parts)]
    if wrong:
        raise InputError(f"there is no split {wrong[0]}: {split_file.name} has splits 0 … {len(parts) - 1}.")
    facts = {"options": asdict(options), "labels": _labels(table), "splits": digest(parts)}
    if int(
        os.environ.get("LOCAL_RANK", 0)
    ):  # the first process of the run holds the lock and writes the results
        for number in splits:
            own = folder / f"split-{number}"
            if not (own / "result.json").is_file():
                fit(parts_of(table, parts[number], options.protocol), options, own, **how)
        return []
    results = []
    with sole_writer(folder):
        _claim(folder, facts)
        for number in splits:
            results.append(_one_split(table, parts[number], options, folder / f"split-{number}", number, how))
    return results


def _labels(table: pd.DataFrame) -> str:
    return digest(table.drop(columns="dist_path").astype(str).values.tolist())


def _claim(folder: Path, facts: dict[str, Any]) -> None:
    """Say in run.json whose folder this is. Raises InputError where it holds a run of other options, labels or splits."""
    record = folder / "run.json"
    if record.is_file():
        before = json.loads(record.read_text(encoding="utf-8"))
        other = [name for name, value in facts.items() if before.get(name) != value]
        if other:
            raise InputError(
                f"{folder} holds a run with other {' and '.join(other)}: choose another --output, or delete it first."
            )
    write_atomically(record, json.dumps({**facts, "versions": versions()}, indent=1).encode())


def _one_split(
    table: pd.DataFrame,
    parts: dict[str, list[str]],
    options: Options,
    folder: Path,
    number: int,
    how: dict[str, Any],
) -> dict[str, Any]:
    done = folder / "result.json"
    if done.is_file():
        return dict(json.loads(done.read_text(encoding="utf-8")))
    rows = parts_of(table, parts, options.protocol)
    best = fit(rows, options, folder, **how)
    device = str(pick_device(how.get("device", "auto")))
    predictions, values = evaluate(
        load_checkpoint(best), rows["test"], crops=options.test_crops, device=device
    )
    write_atomically(folder / "predictions.csv", predictions.to_csv(index=False).encode())
    result = {"split": number, "folder": folder.name, "weights": options.weights, **values}
    write_atomically(done, json.dumps(result, indent=1).encode())
    return result


def read_run(folder: Path, splits: Sequence[int]) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """(histories by split, test predictions of all splits with columns split and dist_path) of a finished run."""
    histories, tables = {}, []
    for number in splits:
        own = folder / f"split-{number}"
        histories[f"split {number}"] = pd.read_csv(own / "history.csv")
        tables.append(pd.read_csv(own / "predictions.csv").assign(split=number))
    return histories, pd.concat(tables, ignore_index=True)
