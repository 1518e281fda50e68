"""Your own pairs: a CSV file with the columns ref, dist, label, read strictly.

A cut or malformed file is an error with line numbers: pandas would read half a row as one without a label.
"""

import csv
import math
from pathlib import Path

import pandas as pd

from fmiqa_utils.dataset_files import first_few
from fmiqa_utils.errors import InputError

REQUIRED = ("ref", "dist", "label")
OPTIONAL = ("distortion", "level", "label_std")


def read_pairs_csv(path: Path) -> pd.DataFrame:
    """Columns pair_id, ref, dist, label (float) and, where the file has them, distortion, level, label_std.

    pair_id is `dist`, or "ref|dist" in all rows if any distorted image is compared with several references.
    Raises InputError, with line numbers, for missing columns, rows of another length, labels that are not
    finite numbers, empty names and duplicate rows.
    """
    header, rows, lines = _split(path)
    table = pd.DataFrame(rows, columns=header, dtype="str")
    table = table[[column for column in (*REQUIRED, *OPTIONAL) if column in header]]
    _refuse(path, lines, (table["ref"] == "") | (table["dist"] == ""), "the ref or dist name is empty")
    table["label"] = _numbers(path, lines, table["label"], "label", empty=False)
    if "label_std" in table:
        table["label_std"] = _numbers(path, lines, table["label_std"], "label_std", empty=True)
    if "level" in table:
        table["level"] = _levels(path, lines, table["level"])
    _refuse(path, lines, table.duplicated(["ref", "dist"]), "repeats the ref and dist of an earlier line")
    several = table["dist"].duplicated().any()
    table.insert(0, "pair_id", table["ref"] + "|" + table["dist"] if several else table["dist"])
    return table


def _split(path: Path) -> tuple[list[str], list[list[str]], pd.Series]:
    """Header, rows and the line number at which each row ends."""
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
        raise InputError(
            f"{path} has no rows: it needs a header with {', '.join(REQUIRED)} and a row per pair."
        )
    (header, _), *body = numbered
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}; its header is {', '.join(header)}.")
    if len(set(header)) < len(header):
        raise InputError(f"{path} names a column twice; its header is {', '.join(header)}.")
    lines = pd.Series([line for _, line in body])
    length = pd.Series([len(row) for row, _ in body])
    _refuse(path, lines, length != len(header), f"does not have the header's {len(header)} fields")
    return header, [row for row, _ in body], lines


def _refuse(path: Path, lines: pd.Series, bad: pd.Series, what: str) -> None:
    if bad.any():
        where = first_few([str(line) for line in lines[bad.to_numpy()]])
        raise InputError(f"{path}, line {where}: {what}.")


def _numbers(path: Path, lines: pd.Series, column: pd.Series, name: str, *, empty: bool) -> pd.Series:
    blank = column == ""
    values = pd.to_numeric(column.mask(blank), errors="coerce").astype(float)
    finite = values.map(math.isfinite) | (blank & empty)
    _refuse(path, lines, ~finite, f"the {name} is not a finite number")
    return values


def _levels(path: Path, lines: pd.Series, column: pd.Series) -> pd.Series:
    whole = column.str.fullmatch(r"-?\d{1,9}") | (column == "")
    _refuse(path, lines, ~whole, "the level is not a whole number")
    return pd.to_numeric(column.mask(column == "")).astype("Int64")
