"""CSV files for people, safe to open in a spreadsheet: no cell is run as a formula."""

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # first characters of a cell that a spreadsheet would run


def csv_text(table: pd.DataFrame) -> str:
    """`table` as CSV without its index; text that a spreadsheet would take for a formula gets a leading apostrophe.

    Numbers stay as they are, also negative numbers kept as text. Column names are treated as text.
    """
    shown = table.rename(columns=lambda name: _harmless(str(name)))
    text_columns = [i for i, kind in enumerate(shown.dtypes) if not pd.api.types.is_numeric_dtype(kind)]
    for i in text_columns:
        shown.isetitem(i, [_harmless(value) for value in shown.iloc[:, i]])
    return str(shown.to_csv(index=False))


def _harmless(value: object) -> object:
    return (
        f"'{value}"
        if isinstance(value, str) and value.startswith(FORMULA) and not _is_number(value)
        else value
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text[0] not in FORMULA[4:]  # float() also takes a leading tab or line break
