"""The formats of label files besides CSV: MATLAB, Excel and plain text, each read completely or refused."""

import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from fmiqa_utils.errors import InputError


def mat(path: Path, variable: str) -> np.ndarray:
    """A vector, or a cell of strings, from a MATLAB file as a flat array."""
    try:
        content = loadmat(path, squeeze_me=True)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError, zlib.error) as error:
        raise InputError(f"{path} is not a MATLAB file that can be read ({error}).") from error
    if variable not in content:
        raise InputError(f"{path} has no variable {variable}.")
    return np.atleast_1d(content[variable])


def workbook(path: Path, columns: tuple[str, ...], **options: object) -> pd.DataFrame:
    """A sheet of an Excel workbook with at least `columns`; `options`: further arguments of pandas.read_excel."""
    try:
        sheet = pd.read_excel(path, **options)  # type: ignore[call-overload]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise InputError(f"{path} is not the official workbook ({error}).") from error
    if missing := [column for column in columns if column not in sheet]:
        raise InputError(f"{path} has no column {', '.join(missing)} where the official workbook has it.")
    return sheet


def text_table(path: Path, columns: tuple[str, ...], separator: str | None) -> pd.DataFrame:
    """Lines of fields, separated by `separator` (None: blanks); the columns label and label_std are numbers."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a text file that can be read ({error}).") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        fields = [field.strip() for field in line.split(separator)]
        if fields in ([], [""]):
            continue
        try:
            named = zip(columns, fields, strict=True)
            rows.append([float(field) if name.startswith("label") else field for name, field in named])
        except ValueError as error:
            raise InputError(f"{path}, line {number}: {line!r} is not {' and '.join(columns)}.") from error
    return pd.DataFrame(rows, columns=list(columns))
