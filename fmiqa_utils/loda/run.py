"""A LoDa run: one dataset, one set of options, some of the ten splits; a finished split is not trained again."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fmiqa_utils.backbones.device import pick_device
from fmiqa_utils.console import say
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.provenance import versions
from fmiqa_utils.files.storage import TEMPORARY, write_atomically
from fmiqa_utils.keys import digest, training_key
from fmiqa_utils.loda.checkpoints import read_checkpoint
from fmiqa_utils.loda.counting import Progress
from fmiqa_utils.loda.data import check_enough, fill_cache
from fmiqa_utils.loda.evaluate import evaluate, load_checkpoint
from fmiqa_utils.loda.model import check_names
from fmiqa_utils.loda.options import WORKERS, Options, check_number, check_options, check_splits
from fmiqa_utils.loda.outputs import prepare_folder
from fmiqa_utils.loda.splits import Parts, make_splits, parts_of, read_splits, save_splits
from fmiqa_utils.loda.train import BEST, LAST, Images, check_device, fit, images_of
from fmiqa_utils.paths import machine_root
from fmiqa_utils.progress import silent
from fmiqa_utils.scores.run_names import plain
from fmiqa_utils.scores.shards import sole_writer

RESULT, SPLITS = "result.json", "splits.json"
FILES = ("history.csv", "predictions.csv")  # files of a split; their checksums are stored in its result


def runs_folder() -> Path:
    """Where runs are kept."""
    return machine_root() / "loda"


def run_folder(table: pd.DataFrame, options: Options) -> Path:
    """Where a run is kept: the name depends on labels, image contents and every option, so runs are never mixed up.

    The first call reads every image; later calls read only images with a new path, size or time of change (`fill_cache`).
    """
    key = training_key(asdict(options), _labels(table), _images(table))[:10]
    name = (
        f"{table['dataset'].iloc[0]}_{options.vit}_{options.cnn}{'' if options.inject else '_no-injection'}"
    )
    return runs_folder() / f"{plain(name)}-{key}"


def check_run(
    table: pd.DataFrame,
    options: Options,
    splits: Sequence[int],
    split_file: Path | None = None,
    *,
    device: str = "auto",
    devices: int = 1,
    workers: int = 2,
) -> None:
    """All checks that are possible before any work. Raises InputError for options, splits, devices or a table that cannot be used."""
    check_options(options)
    check_number("workers", workers, *WORKERS)
    check_device(device, devices)
    check_enough(table)
    parts = read_splits(split_file, table) if split_file else make_splits(table)
    check_splits(splits, len(parts))
    for number in splits:
        rows = parts_of(table, parts[number], options.protocol)
        if images_of(rows, options, devices).train < 2 * devices:
            raise InputError(
                f"split {number} has {len(rows['train'])} image(s) to train on, but the loss compares images: raise --crops."
            )
    check_names(options.vit, options.cnn)


def train(
    table: pd.DataFrame,
    options: Options,
    *,
    splits: Sequence[int] = (0,),
    split_file: Path | None = None,
    folder: Path | None = None,
    progress: Progress = silent,
    **how: Any,
) -> list[dict[str, Any]]:
    """Train and test on every split in `splits`; returns their results, in order.

    A result holds split, folder, weights, n, srcc, plcc, plcc_fit4, krcc. `progress` gets the number of crops done, over all epochs of
    all splits; `how` (device, devices, workers) goes to `train.fit`. With several devices only the first process returns results.
    A split with damaged files is computed again. Raises InputError as `check_run` and `fit` do, for a folder of another run, and for
    images that change meanwhile.
    """
    check_run(table, options, splits, split_file, **how)
    prepare_folder(folder or runs_folder())
    fill_cache(list(table["dist_path"]), lambda done, total: progress("resize", done, total))
    images, folder = _images(table), folder or run_folder(table, options)
    if int(os.environ.get("LOCAL_RANK", 0)):  # the first process holds the lock and writes the results
        _fit_only(table, options, splits, split_file or folder / SPLITS, folder, how)
        return []
    with sole_writer(folder):
        parts = read_splits(split_file, table) if split_file else _stored_splits(folder, table)
        check_splits(splits, len(parts))
        facts = {"options": asdict(options), "labels": _labels(table), "images": images}
        _claim(folder, {**facts, "splits": digest(parts)})
        work = [
            _Split(n, options, folder / f"split-{n}", parts_of(table, parts[n], options.protocol), how)
            for n in splits
        ]
        return _results(work, progress, lambda: _check_images(table, images))


def _check_images(table: pd.DataFrame, before: str) -> None:
    if _images(table) != before:
        raise InputError(
            f"images of {table['dataset'].iloc[0]} changed while LoDa was trained: run the same command again."
        )


@dataclass(frozen=True)
class _Split:
    """The work of one split, and the folder of its results."""

    number: int
    options: Options
    folder: Path
    rows: dict[str, pd.DataFrame]
    how: dict[str, Any]

    @property
    def images(self) -> Images:
        return images_of(self.rows, self.options, self.how.get("devices", 1))

    @property
    def size(self) -> int:
        """Crops from the first epoch to the test."""
        return self.images.total + self.images.test

    def result(self, progress: Progress) -> dict[str, Any]:
        """Train and test; history.csv and predictions.csv are written."""
        best = fit(self.rows, self.options, self.folder, progress=progress, **self.how)
        history = pd.DataFrame(read_checkpoint(self.folder / LAST)["history"])
        crops, trained = self.options.test_crops, self.images.total
        predictions, values = evaluate(
            load_checkpoint(best),
            self.rows["test"],
            crops=crops,
            device=str(pick_device(self.how.get("device", "auto"))),
            progress=lambda done, _: progress("test", trained + done * crops, self.size),
        )
        for name, rows in zip(FILES, (history, predictions), strict=True):
            write_atomically(self.folder / name, rows.to_csv(index=False).encode())
        return {
            "split": self.number,
            "folder": self.folder.name,
            "weights": self.options.weights,
            **values,
        }


def _results(work: list[_Split], progress: Progress, check: Callable[[], None]) -> list[dict[str, Any]]:
    """The result of every split; unfinished ones are computed now, and stored after `check` has passed."""
    results = {split.number: result for split in work if (result := _finished(split.folder))}
    total = sum(split.size for split in work)
    done = sum(split.size for split in work if split.number in results)
    for split in work:
        if split.number in results:
            continue
        for leftover in split.folder.glob(f"{TEMPORARY}*"):  # of a run that was killed while it wrote
            leftover.unlink(missing_ok=True)
        results[split.number] = split.result(_shifted(progress, f"LoDa, split {split.number}", done, total))
        check()
        content = {**results[split.number], "files": _checksums(split.folder)}
        write_atomically(split.folder / RESULT, json.dumps(content, indent=1).encode())
        done += split.size
    return [results[split.number] for split in work]


def _shifted(progress: Progress, name: str, before: int, total: int) -> Progress:
    """`progress` for a part of the work: `name` is put before its text, and `before` is added to its count."""
    return lambda text, done, _: progress(f"{name}, {text}", before + done, total)


def _finished(folder: Path) -> dict[str, Any] | None:
    """A split's result, if the result and its files exist and are undamaged."""
    if not (folder / RESULT).is_file():
        return None
    try:
        content = dict(json.loads((folder / RESULT).read_text(encoding="utf-8")))
        intact = content.pop("files") == _checksums(folder)
        read_checkpoint(folder / BEST)
    except (OSError, ValueError, KeyError, TypeError):  # InputError is a ValueError
        intact = False
    if not intact:
        say(f"a file of the result in {folder} is missing or damaged: it is computed again")
    return content if intact else None


def _checksums(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


def _fit_only(
    table: pd.DataFrame,
    options: Options,
    splits: Sequence[int],
    split_file: Path,
    folder: Path,
    how: dict[str, Any],
) -> None:
    """The work of a further process of DistributedDataParallel."""
    parts = read_splits(split_file, table)
    for number in splits:
        split_folder = folder / f"split-{number}"
        if not _finished(split_folder):
            fit(parts_of(table, parts[number], options.protocol), options, split_folder, **how)


def _labels(table: pd.DataFrame) -> str:
    return digest(table.drop(columns="dist_path").astype(str).values.tolist())


def _images(table: pd.DataFrame) -> str:
    return digest(fill_cache(list(table["dist_path"])))


def _stored_splits(folder: Path, table: pd.DataFrame) -> list[Parts]:
    """The splits in the run's folder; a damaged file is made again, since the splits depend only on the references."""
    path = folder / SPLITS
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        save_splits(path, table)
    return read_splits(path, table)


def _claim(folder: Path, facts: dict[str, Any]) -> None:
    """Record in run.json what the folder is for. Raises InputError if it holds a run with other options, labels, images or splits."""
    record = folder / "run.json"
    if record.is_file():
        try:
            before = dict(json.loads(record.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            raise InputError(
                f"{record} is damaged, so it is unknown which run this is: delete {folder} or choose another --output."
            ) from None
        other = [name for name, value in facts.items() if before.get(name) != value]
        if other:
            raise InputError(
                f"{folder} holds a run with other {' and '.join(other)}: choose another --output, or delete {folder} first."
            )
    write_atomically(record, json.dumps({**facts, "versions": versions()}, indent=1).encode())


def read_run(folder: Path, splits: Sequence[int]) -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    """(histories by split, test predictions of all splits with columns split and dist_path) of a finished run.

    Raises InputError for a split that is not finished or has damaged files.
    """
    histories, tables = {}, []
    for number in splits:
        split_folder = folder / f"split-{number}"
        if not _finished(split_folder):
            raise InputError(
                f"{split_folder} holds no finished split: run `fmiqa loda train` with the same options."
            )
        histories[f"split {number}"] = pd.read_csv(split_folder / "history.csv")
        tables.append(pd.read_csv(split_folder / "predictions.csv").assign(split=number))
    return histories, pd.concat(tables, ignore_index=True)
