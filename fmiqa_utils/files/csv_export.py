"""CSV files for people: a spreadsheet that opens one runs nothing that a name holds."""

import pandas as pd

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # with which a cell begins that a spreadsheet would run


def csv_text(table: pd.DataFrame) -> str:
    """`table` as CSV without its index: a text that a spreadsheet would take for a formula gets an apostrophe before it.

    Numbers stay, also negative ones that are kept as text. Columns' names count as texts.
    """
    shown = table.rename(columns=lambda name: _harmless(str(name)))
    texts = [i for i, kind in enumerate(shown.dtypes) if not pd.api.types.is_numeric_dtype(kind)]
    for i in texts:
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
    return text[0] not in FORMULA[4:]
