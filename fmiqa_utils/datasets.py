"""Pairs tables: one row per distorted image with its reference, paths and human label."""

from pathlib import Path

import pandas as pd

from fmiqa_utils.dataset_files import Folder, first_few
from fmiqa_utils.errors import InputError, near
from fmiqa_utils.pairs_csv import read_pairs_csv
from fmiqa_utils.paths import data_root

PAIR_COLUMNS = (
    "dataset",
    "pair_id",
    "ref",
    "dist",
    "ref_path",
    "dist_path",
    "label",
    "label_kind",
    "quality",
    "distortion",
    "level",
)


def load_pairs(
    name: str, root: str | Path | None = None, *, labels: str | None = None, direction: str | None = None
) -> pd.DataFrame:
    """The pairs table of a dataset with references: `PAIR_COLUMNS` and, where known, label_std, label_source.

    name is a dataset of `DATASETS` or "csv:PATH"; root is the dataset's own folder (default: searched for in
    `data_root()`); labels chooses among label files where a dataset ships several; direction, "higher" or
    "lower" (which label is better), is needed for a CSV and refused elsewhere. Raises InputError where
    anything is missing: never a shorter table.
    """
    if name.startswith("csv:"):
        return _load_csv(Path(name.removeprefix("csv:")), direction)
    if name != "demo":
        raise InputError(f"There is no dataset {name}: {near(name, ['demo', 'csv:PATH'])}")
    folder = Path(root) if root else data_root() / "demo"
    if not (folder / "pairs.csv").is_file():
        raise InputError(f"The demo dataset is not in {folder}: run `fmiqa demo`.")
    return _finish("demo", Folder(folder), read_pairs_csv(folder / "pairs.csv"), "mos", "higher")


def _load_csv(path: Path, direction: str | None) -> pd.DataFrame:
    if direction not in ("higher", "lower"):
        raise InputError(f"Say which labels in {path} are better: direction must be higher or lower.")
    kind = "mos" if direction == "higher" else "dmos"
    return _finish(f"csv:{path.stem}", Folder(path.parent), read_pairs_csv(path), kind, direction)


def _finish(dataset: str, folder: Folder, table: pd.DataFrame, kind: str, direction: str) -> pd.DataFrame:
    """The reader's table with paths, quality and the columns that it left out, in `PAIR_COLUMNS` order."""
    table = table.assign(
        dataset=dataset,
        ref_path=pd.Series(folder.find_all(table["ref"]), dtype="str"),
        dist_path=pd.Series(folder.find_all(table["dist"]), dtype="str"),
        label_kind=kind,
        quality=table["label"] if direction == "higher" else -table["label"],
    )
    missing = table["ref"][table["ref_path"].isna()].drop_duplicates().tolist()
    missing += table["dist"][table["dist_path"].isna()].tolist()
    if missing:
        raise InputError(f"{dataset}: not in {folder.root}: {first_few(missing)}.")
    if "distortion" not in table:
        table["distortion"] = ""
    if "level" not in table:
        table["level"] = pd.array([pd.NA] * len(table), dtype="Int64")
    return table[[*PAIR_COLUMNS, *(column for column in table if column not in PAIR_COLUMNS)]]


def label_note(dataset: str) -> str:
    """One sentence for captions: what the dataset's labels are."""
    if dataset == "demo":
        return (
            "Labels are TID2013 population mean opinion scores of the same distortion type and level, "
            "not ratings of these images."
        )
    return "Labels come from the user's own table."
