"""CSV files read strictly: a cut or malformed row is an error with its line number, never a missing value."""

import csv
import math
from pathlib import Path

import pandas as pd

from fmiqa_utils.dataset_files import first_few
from fmiqa_utils.errors import InputError

PAIR_REQUIRED = ("ref", "dist", "label")
PAIR_OPTIONAL = ("distortion", "level", "label_std")


def read_pairs_csv(path: Path) -> pd.DataFrame:
    """Your own pairs: pair_id, ref, dist, label (float) and, where given, distortion, level, label_std.

    pair_id is `dist`, or "ref|dist" in all rows if any distorted image has several references. Raises
    InputError, with line numbers, for missing columns, rows of another length, labels that are not finite
    numbers, empty names and duplicate rows.
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
    several = table["dist"].duplicated().any()
    table.insert(0, "pair_id", table["ref"] + "|" + table["dist"] if several else table["dist"])
    return table.reset_index(drop=True)


def read_rows(path: Path, required: tuple[str, ...]) -> pd.DataFrame:
    """All cells as text, indexed by line number; raises InputError unless every row fits the header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            numbered = [([cell.strip() for cell in row], reader.line_num) for row in reader if row]
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8 ({error}).") from error
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


def finite(path: Path, column: pd.Series, *, optional: bool = False) -> pd.Series:
    """The column as floats; raises InputError, with line numbers, for whatever is not a finite number."""
    blank = column == ""
    values = pd.to_numeric(column.mask(blank), errors="coerce").astype(float)
    good = values.map(math.isfinite) | (blank & optional)
    _refuse(path, ~good, f"the {column.name} is not a finite number")
    return values


def _levels(path: Path, column: pd.Series) -> pd.Series:
    whole = column.str.fullmatch(r"-?\d{1,9}") | (column == "")
    _refuse(path, ~whole, "the level is not a whole number")
    return pd.to_numeric(column.mask(column == "")).astype("Int64")


def _refuse(path: Path, bad: pd.Series, what: str) -> None:
    """Raises with the line numbers (the index) where `bad` is true."""
    if bad.any():
        where = first_few([str(line) for line in bad.index[bad.to_numpy(dtype=bool)]])
        raise InputError(f"{path}, line {where}: {what}.")
