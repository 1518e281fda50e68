"""Tables of labelled images from a dataset's folder: complete, or an error that says what is missing."""

import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from fmiqa_utils.datasets.csv_tables import read_pairs_csv
from fmiqa_utils.datasets.folder import Folder, first_few, readable
from fmiqa_utils.datasets.registry import (
    DATASETS,
    DIRECTIONS,
    OWN_TABLE,
    Dataset,
    known,
    refuse_kind,
    refuse_label_options,
)
from fmiqa_utils.errors import InputError
from fmiqa_utils.paths import data_root

_LABEL = ("label", "label_kind", "quality")
PAIR_COLUMNS = ("dataset", "pair_id", "ref", "dist", "ref_path", "dist_path", *_LABEL, "distortion", "level")
IMAGE_COLUMNS = ("dataset", "pair_id", "dist", "dist_path", *_LABEL)
TRIPLET_COLUMNS = ("dataset", "pair_id", "distortion", "ref_path", "p0_path", "p1_path", "label")
JND_COLUMNS = ("dataset", "pair_id", "distortion", "p0_path", "p1_path", "label")


def load_pairs(
    name: str, root: str | Path | None = None, *, labels: str | None = None, direction: str | None = None
) -> pd.DataFrame:
    """The pairs of a dataset with references: `PAIR_COLUMNS` and, where known, label_std and label_source.

    name is a dataset of `DATASETS` or "csv:PATH"; root is the dataset's own folder (default: searched for in
    `data_root()`; for a CSV, its folder); labels chooses the label file where several are shipped (LIVE:
    "dmos", the labels of the published results, or "realigned"); direction says whether "higher" or "lower"
    labels of a CSV are better, and is needed there. Raises InputError where anything is missing, so a
    table is never shorter than its dataset.

    >>> load_pairs("csv:pairs.csv", direction="higher")["dist"].to_list()
    ['a_1.png', 'a_2.png', 'b_1.png', 'b_2.png']
    """
    refuse_kind(name, ["pairs"])
    return _complete(read_labels(name, root, labels=labels, direction=direction), PAIR_COLUMNS)


def load_images(name: str, root: str | Path | None = None) -> pd.DataFrame:
    """The images of a dataset without references: `IMAGE_COLUMNS`, label_source, label_std where known."""
    refuse_kind(name, ["images"])
    return _complete(read_labels(name, root), IMAGE_COLUMNS)


def load_2afc(root: str | Path | None = None, *, split: str = "val") -> pd.DataFrame:
    """BAPPS triplets: `TRIPLET_COLUMNS`; label is the share of people who found p1 closer to ref than p0."""
    return _complete(read_labels("bapps_2afc", root, labels=split), TRIPLET_COLUMNS)


def load_jnd(root: str | Path | None = None) -> pd.DataFrame:
    """BAPPS near-duplicates: `JND_COLUMNS`; label is the share of people who saw no difference."""
    return _complete(read_labels("bapps_jnd", root), JND_COLUMNS)


def label_note(dataset: str) -> str:
    """One sentence for captions: what the labels of a table's `dataset` are."""
    if dataset.startswith("csv:"):
        return f"Labels are those of the user's table {dataset.removeprefix('csv:')}."
    return known(dataset).note


class LabelTable(NamedTuple):
    """Every labelled row, with the names (`*_file`) and paths (`*_path`, NA where absent) of its images."""

    title: str
    root: Path
    rows: pd.DataFrame

    def paths(self) -> list[str]:
        """The columns that hold paths of images."""
        return [str(column) for column in self.rows if str(column).endswith("_path")]

    def missing(self) -> list[str]:
        """Names of the images that are not on disk, each once."""
        rows = self.rows
        absent = [rows[path.replace("_path", "_file")][rows[path].isna()] for path in self.paths()]
        return pd.concat(absent).drop_duplicates().tolist()


def read_labels(
    name: str, root: str | Path | None = None, *, labels: str | None = None, direction: str | None = None
) -> LabelTable:
    """What the label file lists, present on disk or not; arguments as in `load_pairs`.

    Raises InputError where the label file itself is missing, damaged or incomplete.
    """
    refuse_label_options(name, labels, direction)
    if name.startswith(OWN_TABLE):
        return _read_csv(_csv_path(name), root, str(direction))
    dataset = known(name)
    folder = Folder(dataset_root(name, root))
    table = dataset.read(folder, labels)
    _refuse_incomplete(dataset, table)
    rows = _with_paths(name, folder, table, dataset.label_kind, dataset.direction)
    return LabelTable(dataset.title, folder.root, rows)


def _csv_path(name: str) -> Path:
    path = Path(readable(name.removeprefix(OWN_TABLE)))
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{path} begins with the home folder of an unknown user: write the path in full."
        ) from error


def _read_csv(path: Path, root: str | Path | None, direction: str) -> LabelTable:
    folder = Folder(Path(root) if root else path.parent)
    table = read_pairs_csv(path, folder).assign(label_source=path.name)
    table = table.assign(ref_file=table["ref"], dist_file=table["dist"])
    rows = _with_paths(f"csv:{path.stem}", folder, table, DIRECTIONS[direction], direction)
    return LabelTable(path.name, folder.root, rows)


def _with_paths(dataset: str, folder: Folder, table: pd.DataFrame, kind: str, direction: str) -> pd.DataFrame:
    """The reader's table with paths, quality and the columns that it left out."""
    for column in [str(column) for column in table if str(column).endswith("_file")]:
        paths = pd.Series(folder.find_all(table[column]), index=table.index, dtype="str")
        table[column.replace("_file", "_path")] = paths
    label = table["label"].astype(float)
    quality = label if direction == "higher" else -label
    table = table.assign(dataset=dataset, label=label, label_kind=kind, quality=quality)
    if "distortion" not in table:
        table["distortion"] = ""
    if "level" not in table:
        table["level"] = pd.array([pd.NA] * len(table), dtype="Int64")
    return table


def _complete(table: LabelTable, columns: tuple[str, ...]) -> pd.DataFrame:
    """The rows with the given columns; raises InputError where a file is missing."""
    if missing := table.missing():
        count = f"{len(missing):,} of its images"
        raise InputError(
            f"{table.title}: {count} are not in {table.root}: {first_few(missing)}.{_locale_hint(missing)}"
        )
    extra = [column for column in ("label_std", "label_source") if column in table.rows]
    return table.rows[[*columns, *extra]]


def _locale_hint(names: list[str]) -> str:
    """The way out if a name is not ASCII and this Python does not read the disk's names as UTF-8."""
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8" or all(map(str.isascii, names)):
        return ""
    return f" Names on disk are read as {encoding} here: set PYTHONUTF8=1."


def _refuse_incomplete(dataset: Dataset, table: pd.DataFrame) -> None:
    """Raises unless the labels are numbers, every image is labelled once, and no image is left out."""
    numbers = pd.to_numeric(table["label"], errors="coerce").astype(float)
    if unlabelled := table["pair_id"][~np.isfinite(numbers)].tolist():
        raise InputError(f"{dataset.title}: label is not a number for {first_few(unlabelled)}.")
    if twice := table["pair_id"][table["pair_id"].str.lower().duplicated()].tolist():
        raise InputError(f"{dataset.title}: labelled more than once: {first_few(twice)}.")
    if dataset.rows is not None and len(table) != dataset.rows:
        absent = _absent(dataset, table) if "ref" in table else []
        which = f"; without a label: {first_few(absent)}" if absent else ""
        raise InputError(f"{dataset.title} has {dataset.rows:,} labels, not {len(table):,}{which}.")


def _absent(dataset: Dataset, table: pd.DataFrame) -> list[str]:
    """Names that the label file lacks, if every reference has the same distortions (not in LIVE and CSIQ)."""
    stems = table["ref"].str.rsplit(".", n=1).str[0].str.lower()
    names = table["dist"].str.lower()
    endings = {name.removeprefix(stem) for name, stem in zip(names, stems, strict=True)}
    if len(endings) * (dataset.references or 0) != dataset.rows:
        return []
    return sorted({stem + ending for stem in set(stems) for ending in endings} - set(names))


def dataset_root(name: str, root: str | Path | None = None) -> Path:
    """The folder with the dataset's label file: root or a folder in `data_root()`, or one folder below it.

    Raises InputError that says where it looked and where to request the data.
    """
    dataset = known(name)
    folders = _named_folders(dataset) if root is None else [Path(root)]
    roots = _marked(dataset, folders)
    if len(roots) == 1:
        return roots[0]
    if roots:
        raise InputError(
            f"{dataset.title} is there more than once: name one of {', '.join(map(str, roots))}."
        )
    searched = " or ".join(map(str, folders)) or f"{data_root()} (as {' or '.join(dataset.folders)})"
    way_out = f"data/README.md shows its layout, request it at {dataset.url}"
    raise InputError(
        f"{dataset.title} is not in {searched}: {'run `fmiqa demo`' if name == 'demo' else way_out}."
    )


def _named_folders(dataset: Dataset) -> list[Path]:
    """Folders in `data_root()` that have one of the dataset's names."""
    entries = Folder(data_root()).names()
    plain = {entry: re.sub(r"[\s_-]", "", entry.lower()) for entry in entries}
    return [data_root() / entry for entry in entries if plain[entry] in dataset.folders]


def _marked(dataset: Dataset, folders: list[Path]) -> list[Path]:
    """The first of the folders that holds one of the dataset's markers, else the folders below that do."""
    for folder in folders:
        if any(map(Folder(folder).find, dataset.markers)):
            return [folder]
    below = [folder / entry for folder in folders for entry in Folder(folder).names()]
    return [entry for entry in below if entry.is_dir() and any(map(Folder(entry).find, dataset.markers))]


def dataset_overview() -> pd.DataFrame:
    """One row per dataset: what `DATASETS` says of it, and `found`, its folder in `data_root()` or ""."""
    table = pd.DataFrame(map(asdict, DATASETS.values()))
    table = table.drop(columns=["reader", "markers", "folders", "note", "min_side", "size"])
    roots = [_marked(dataset, _named_folders(dataset)) for dataset in DATASETS.values()]
    table["found"] = [" and ".join(map(str, folders)) for folders in roots]
    return table.astype({"rows": "Int64", "references": "Int64"})
