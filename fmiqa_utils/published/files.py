"""Other people's per-image results: CSV or Parquet files in, one table per dataset and a list of problems out."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyarrow import ArrowException

from fmiqa_utils.datasets.registry import DATASETS
from fmiqa_utils.errors import InputError, near
from fmiqa_utils.files.regular import check_regular

MAX_BYTES = 2**30  # of one file
KEYS = ["dis", "ref", "mos"]
NOT_METHODS = frozenset({*KEYS, "quality"})
PROBLEM_COLUMNS = ["dataset", "method", "file", "n", "expected", "problem"]
AGREEING = 3  # files with the same rows; so a single file with extra rows does not make all others incomplete
# Which label is better in such files where they differ from the dataset: for TID2013 they hold 100 − MOS.
DIRECTIONS = {"tid2013": "lower"}
# LIVE's folders hold files of the same names; the released files leave the folder out and list one folder after the other.
LIVE_DISTORTED = {"jp2k": 169, "jpeg": 175, "wn": 145, "gblur": 145, "fastfading": 145}

_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": lambda file: pd.read_csv(file),
    ".parquet": pd.read_parquet,
}


class Published(NamedTuple):
    """Per-image results of others.

    tables: per dataset one row per distorted image: dis, ref, mos (as in the files), quality (mos turned so that
    higher is better), then one complete column per method, values as in the files.
    problems: `PROBLEM_COLUMNS`, one row per file or column that is not in the tables: n usable rows of the expected, and why.
    """

    tables: dict[str, pd.DataFrame]
    problems: pd.DataFrame

    def methods(self, dataset: str) -> list[str]:
        """The methods of one dataset, named as in the files."""
        return _methods(self.tables[dataset])


class _Block(NamedTuple):
    """What one file holds: KEYS and its methods, NaN where a number is missing or not finite."""

    file: str
    dataset: str
    method: str  # "" for a table of several
    rows: pd.DataFrame
    names: pd.Index  # [n], what identifies a row


def read_published(path: str | Path, directions: Mapping[str, str] | None = None) -> Published:
    """Read a file or a folder of `DATASET_METHOD.csv` (dis, ref, mos, pred) and `DATASET.parquet` (a column per method).

    A file that is empty, cut short, damaged, or has other rows than the other files of its dataset is left out of the
    tables and listed in the problems. `directions`: whether "higher" or "lower" labels are better, for datasets unknown
    here. Raises InputError where nothing is usable or a direction is not known.
    """
    problems: list[dict[str, object]] = []
    blocks = [block for file in _find(Path(path)) if (block := _try_read(file, problems)) is not None]
    tables = {}
    for dataset in sorted({block.dataset for block in blocks}):
        table = _join([block for block in blocks if block.dataset == dataset], problems)
        if _methods(table):
            sign = 1 if _direction(dataset, directions) == "higher" else -1
            table.insert(len(KEYS), "quality", sign * table["mos"])
            tables[dataset] = _with_live_folders(table) if dataset == "live" else table
    if not tables:
        first = f"{problems[0]['file']}: {problems[0]['problem']}"
        raise InputError(f"{path} holds no usable per-image results ({first}).")
    listed = pd.DataFrame(problems, columns=PROBLEM_COLUMNS)
    sizes = {dataset: len(table) for dataset, table in tables.items()}
    listed["expected"] = listed["dataset"].map(sizes)
    listed = listed.astype({"n": "Int64", "expected": "Int64"})
    return Published(tables, listed.sort_values(["dataset", "method"], ignore_index=True))


def _methods(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table if name not in NOT_METHODS]


def _direction(dataset: str, given: Mapping[str, str] | None) -> str:
    known = {name: entry.direction for name, entry in DATASETS.items() if entry.kind == "pairs"}
    direction = {**known, **DIRECTIONS, **(given or {})}.get(dataset)
    if direction not in ("higher", "lower"):
        raise InputError(
            f"per-image results of {dataset!r}: say whether higher or lower labels are better, for example "
            f'directions={{"{dataset}": "higher"}}; {near(dataset, list(known))}'
        )
    return direction


def _find(path: Path) -> list[Path]:
    if path.is_file() and path.suffix.lower() in _READERS:
        return [path]
    if not path.is_dir():
        raise InputError(f"{path} is neither a folder nor a .csv or .parquet file of per-image results.")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _READERS)
    if not files:
        raise InputError(f"{path} holds no .csv or .parquet file of per-image results.")
    return files


def _try_read(file: Path, problems: list[dict[str, object]]) -> _Block | None:
    """The file's content, or None and a new entry in `problems`."""
    dataset, _, method = file.stem.partition("_")
    dataset = dataset.lower()
    try:
        rows = _numbers(_read(file), method)
        names = _row_names(rows)
        if not names.is_unique:
            raise InputError(f"repeated rows: {names.duplicated().sum():,}")
    except InputError as error:
        problems.append(_problem(dataset, method, file.name, 0, str(error)))
        return None
    return _Block(file.name, dataset, method, rows, names)


def _read(file: Path) -> pd.DataFrame:
    check_regular(file, "a table of results", MAX_BYTES)
    if file.stat().st_size == 0:
        raise InputError("empty")
    try:
        return _READERS[file.suffix.lower()](file)
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
        ArrowException,
        OSError,
    ) as e:
        raise InputError(f"cannot be read: {' '.join(str(e).split())}") from e


def _numbers(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    """KEYS and the methods as floats; raises InputError where there are none."""
    missing = [key for key in KEYS if key not in rows]
    methods = ["pred"] if "pred" in rows else _methods(rows)
    if missing or not methods or (methods == ["pred"] and not method):
        raise InputError(f"no per-image results of a method: the columns are {', '.join(map(str, rows))}")
    if rows.empty:
        raise InputError("a header but no rows")
    numbers = rows[["mos", *methods]].apply(pd.to_numeric, errors="coerce").astype(float)
    usable = np.isfinite(numbers).mul(
        np.isfinite(numbers["mos"]), axis=0
    )  # a row without a label has no usable prediction
    numbers = numbers.where(usable).rename(columns={"pred": method})
    return pd.concat([rows[["dis", "ref"]].astype(str), numbers], axis=1)


def _row_names(rows: pd.DataFrame) -> pd.Index:
    """[n], image, reference and label in lower case: LIVE repeats names, and letter case differs between files."""
    label = rows["mos"].round(4).astype(str)
    names = rows["dis"].str.lower() + " of " + rows["ref"].str.lower() + ": " + label
    return pd.Index(names, dtype=object)


def _join(blocks: list[_Block], problems: list[dict[str, object]]) -> pd.DataFrame:
    """KEYS and the methods of all files that have the rows of the typical file, in its order."""
    base = _typical(blocks)
    columns = {key: base.rows[key].to_numpy() for key in KEYS}
    for block in blocks:
        positions = base.names.get_indexer(block.names)  # [n], row of `base` or −1
        fault = _fault(block, positions, len(base.names))
        for method in _methods(block.rows):
            values = block.rows[method].to_numpy()
            complete = int(np.isfinite(values).sum())
            lost = len(values) - complete
            wrong = fault or (f"predictions that are not finite numbers: {lost:,}" if lost else "")
            if not wrong and method in columns:
                wrong = "another file holds the same method"
            if wrong:
                problems.append(_problem(block.dataset, method, block.file, complete, wrong))
            else:
                columns[method] = values[np.argsort(positions)]
    return pd.DataFrame(columns)


def _typical(blocks: list[_Block]) -> _Block:
    """The first block with the dataset's full size; else the largest that has the same rows in `AGREEING` files; else the largest."""
    known = DATASETS[blocks[0].dataset].rows if blocks[0].dataset in DATASETS else None
    sets = [(len(b.names), int(pd.util.hash_array(b.names.to_numpy()).sum())) for b in blocks]
    count = Counter(sets)
    best = max(sets, key=lambda rows: (rows[0] == known, count[rows] >= AGREEING, rows[0]))
    return blocks[sets.index(best)]


def _fault(block: _Block, positions: NDArray[np.intp], expected: int) -> str:
    """How a file's rows differ from those of the other files, "" if they do not."""
    # A last row that is cut off must not count as an unknown one.
    needed = block.rows if block.method else block.rows[["mos"]]
    complete = needed.notna().all(axis=1).to_numpy()
    if strangers := int((positions[complete] < 0).sum()):
        return f"rows with a name or label that the dataset's other files do not have: {strangers:,}"
    present = int((positions >= 0).sum())
    return "" if present == expected else f"cut short: {complete.sum():,} of {expected:,} rows"


def _problem(dataset: str, method: str, file: str, n: int, problem: str) -> dict[str, object]:
    return {"dataset": dataset, "method": method, "file": file, "n": n, "problem": problem}


def _with_live_folders(table: pd.DataFrame) -> pd.DataFrame:
    """The table with folders added to LIVE's names, if it is the complete list in the released order."""
    number = pd.to_numeric(table["dis"].str.extract(r"^img(\d+)\.bmp$")[0])
    starts = np.flatnonzero(~(number.diff() > 0).to_numpy())
    sizes = list(LIVE_DISTORTED.values())
    if number.isna().any() or np.diff([*starts, len(table)]).tolist() != sizes:
        return table
    return table.assign(dis=np.repeat(list(LIVE_DISTORTED), sizes) + "/" + table["dis"])
