"""CSV files read strictly: a cut or malformed row is an error with its line number, never a missing value."""

import csv
import io
import math
from pathlib import Path

import pandas as pd

from fmiqa_utils.datasets.folder import Folder, first_few
from fmiqa_utils.errors import InputError
from fmiqa_utils.files.regular import open_regular

MAX_BYTES = 2**30  # about ten million rows
PAIR_REQUIRED = ("ref", "dist", "label")
PAIR_OPTIONAL = ("distortion", "level", "label_std")


def read_pairs_csv(path: Path, folder: Folder) -> pd.DataFrame:
    """Your own pairs: pair_id, ref, dist, label (float) and, where given, distortion, level, label_std.

    pair_id is `dist`, or "ref|dist" in all rows if any distorted image has several references. Names are relative
    to `folder`. Raises InputError, with line numbers, for missing columns, rows of another length, labels that are
    not finite numbers, empty names, duplicate rows, and one file under two spellings ("d.png" and "./D.PNG"), which
    would count as two images.
    """
    table = read_rows(path, PAIR_REQUIRED)
    table = table[[column for column in (*PAIR_REQUIRED, *PAIR_OPTIONAL) if column in table]]
    _refuse(path, (table["ref"] == "") | (table["dist"] == ""), "the ref or dist name is empty")
    table["label"] = finite(path, table["label"])
    if "label_std" in table:
        table["label_std"] = finite(path, table["label_std"], optional=True)
    if "level" in table:
        table["level"] = _levels(path, table["level"])
    _refuse(path, table.duplicated(["ref", "dist"]), "repeats the ref and dist of an earlier line")
    _refuse_two_spellings(path, table, folder)
    shared = table["dist"].duplicated().any()  # by several references
    table.insert(0, "pair_id", table["ref"] + "|" + table["dist"] if shared else table["dist"])
    return table.reset_index(drop=True)


def read_rows(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    """All cells as text, indexed by line number; raises InputError unless every row fits the header."""
    numbered = _numbered_rows(path)
    if len(numbered) < 2:
        raise InputError(f"{path} has no rows: it needs a header with {', '.join(required)} and rows below.")
    (header, _), *body = numbered
    if missing := [column for column in required if column not in header]:
        raise InputError(f"{path} has no column {', '.join(missing)}; its header is {', '.join(header)}.")
    if len(set(header)) < len(header):
        raise InputError(f"{path} names a column twice; its header is {', '.join(header)}.")
    lines = [line for _, line in body]
    lengths = pd.Series([len(row) for row, _ in body], index=lines)
    _refuse(path, lengths != len(header), f"does not have the header's {len(header)} fields")
    return pd.DataFrame([row for row, _ in body], columns=header, index=lines, dtype="str")


def _numbered_rows(path: Path) -> list[tuple[list[str], int]]:
    """The cells of every line that is not blank, with the line's number."""
    try:
        file = io.TextIOWrapper(open_regular(path, "a CSV file", MAX_BYTES), "utf-8-sig", newline="")
        with file:
            reader = csv.reader(file, strict=True)
            numbered = [([cell.strip() for cell in row], reader.line_num) for row in reader if row]
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not a CSV file in UTF-8 (it holds the byte {error.object[error.start]:#04x}): "
            f"it may be in Latin-1 or UTF-16, so save it again as UTF-8."
        ) from error
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file ({error}).") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    if wrong := [line for row, line in numbered if any("\0" in cell for cell in row)]:
        raise InputError(f"{path}, line {wrong[0]}: holds a null byte, as UTF-16 does; save it as UTF-8.")
    return numbered


def finite(path: Path, column: pd.Series, *, optional: bool = False) -> pd.Series:
    """The column as floats; raises InputError, with line numbers, for whatever is not a finite number."""
    blank = column == ""
    values = pd.to_numeric(column.mask(blank), errors="coerce").astype(float)
    good = values.map(math.isfinite) | (blank & optional)
    _refuse(path, ~good, f"the {column.name} is not a finite number")
    return values


def _refuse_two_spellings(path: Path, table: pd.DataFrame, folder: Folder) -> None:
    for column in ("ref", "dist"):
        names = table[column].drop_duplicates()  # the index says where each is named first
        files = pd.Series([folder.identity(name) for name in names], index=names.index, dtype="str")
        twice = files.duplicated(keep=False) & files.notna()
        _refuse(path, twice, f"one file on disk is named in several spellings as {column}: use one spelling")


def _levels(path: Path, column: pd.Series) -> pd.Series:
    integers = column.str.fullmatch(r"-?\d{1,9}") | (column == "")
    _refuse(path, ~integers, "the level is not a whole number")
    return pd.to_numeric(column.mask(column == "")).astype("Int64")


def _refuse(path: Path, bad: pd.Series, what: str) -> None:
    """Raises with the line numbers (the index) where `bad` is true."""
    if bad.any():
        where = first_few([str(line) for line in bad.index[bad.to_numpy(dtype=bool)]])
        raise InputError(f"{path}, line {where}: {what}.")
