"""Notebooks as a pipeline stage: check their parameters, execute them with papermill, and record that they finished."""

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from fmiqa_utils.errors import InputError, near
from fmiqa_utils.files.storage import write_atomically
from fmiqa_utils.keys import digest
from fmiqa_utils.progress import Update, silent

_TRUE, _FALSE = ("true", "yes", "1"), ("false", "no", "0")


@dataclass(frozen=True)
class Parameter:
    """One annotated literal of a notebook's `parameters` cell."""

    name: str
    type: str
    default: str
    help: str


def notebook_parameters(path: Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares, in order. Raises InputError for a notebook without any."""
    from papermill import inspect_notebook

    parameters = {
        name: Parameter(name, entry["inferred_type_name"], entry["default"], entry["help"])
        for name, entry in inspect_notebook(str(path)).items()
    }
    if not parameters:
        raise InputError(f"{path.name} has no cell tagged `parameters`.")
    return parameters


def check_parameters(path: Path, given: Mapping[str, object]) -> dict[str, object]:
    """`given`, converted to the types of the notebook's annotations.

    Raises InputError for a name that the notebook does not declare, and for a value of another type.
    """
    known = notebook_parameters(path)
    for name in given:
        if name not in known:
            raise InputError(f"{path.name} has no parameter {name!r}; {near(name, list(known))}")
    return {name: _typed(path, known[name], value) for name, value in given.items()}


def _typed(path: Path, parameter: Parameter, value: object) -> object:
    """`value` in the annotated type; a string from the command line is read as that type."""
    kind = parameter.type
    try:
        if kind == "bool" and isinstance(value, str) and value.lower() in _TRUE + _FALSE:
            return value.lower() in _TRUE
        if kind in ("int", "float") and not isinstance(value, bool):
            number = {"int": int, "float": float}[kind](value)
            if isinstance(value, str) or number == value:
                return number
        if (kind == "bool" and isinstance(value, bool)) or (kind == "str" and isinstance(value, str)):
            return value
    except (TypeError, ValueError):
        pass
    raise InputError(f"{path.name}: {parameter.name} must be {kind} ({parameter.help}), not {value!r}.")


def is_finished(destination: Path, key: str, figures: Path | None = None) -> bool:
    """True if `destination` is, to the byte, the result of a finished execution with this `key`.

    Its figures must still be in the folder `figures`, unchanged.
    """
    record = read_record(destination)
    if record.get("key") != key or not destination.is_file():
        return False
    drawn = record.get("figures") or []
    if figures is not None and isinstance(drawn, list) and record.get("drawn") != _drawn(figures, drawn):
        return False
    return record.get("sha256") == sha256_of(destination)


def _drawn(figures: Path, names: Sequence[str]) -> str:
    """A hash of the files that a notebook drew; "" where one is missing."""
    hashes = [sha256_of(figures / name) for name in names]
    return digest(*hashes) if all(hashes) else ""


def read_record(destination: Path) -> dict[str, object]:
    """The record beside a finished notebook: key, sha256, seconds, figures, drawn. {} where there is none."""
    return read_json(destination.with_suffix(".json"))


def read_json(path: Path) -> dict[str, object]:
    """The content of a record; {} where it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def sha256_of(path: Path) -> str:
    """sha256 of a file; "" where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def run_notebook(
    source: Path,
    destination: Path,
    parameters: Mapping[str, object],
    key: str,
    *,
    figures: Path | None = None,
    update: Update = silent,
    timeout: int | None = None,
) -> float:
    """Execute `source` into `destination` in this interpreter's kernel; returns seconds.

    `update` is called for its cells and for the progress inside them. The notebook and its record of completion appear only when every
    cell has run; a failed one is kept as NAME.failed.ipynb. The figures that it draws into the folder `figures` (files that begin with
    its number) are listed in the record. Raises InputError that names the notebook, the cell and the error.
    """
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError

    from fmiqa_utils.report.notebook_engine import execute

    parameters = check_parameters(source, parameters)
    destination.parent.mkdir(parents=True, exist_ok=True)
    failed = destination.with_suffix(".failed.ipynb")
    temporary = destination.with_name(f".running-{os.getpid()}-{destination.name}")
    start = time.time()
    try:
        execute(source, temporary, parameters, update, timeout)
    except PapermillExecutionError as error:
        os.replace(temporary, failed)
        raise InputError(
            f"{source.name} failed in cell {error.cell_index}: {error.ename}: {_first_line(error.evalue)} (kept as {failed.name})"
        ) from error
    except (DeadKernelError, CellTimeoutError, TimeoutError) as error:
        if temporary.exists():
            os.replace(temporary, failed)
        raise InputError(
            f"{source.name} stopped: {type(error).__name__}: {_first_line(str(error))} (kept as {failed.name})"
        ) from error
    except BaseException:  # such as Ctrl-C: no unfinished notebook is left behind
        temporary.unlink(missing_ok=True)
        raise
    seconds = round(time.time() - start, 2)
    drawn = sorted(p.name for p in figures.glob(f"{source.name[:3]}*") if p.is_file()) if figures else []
    record = {
        "key": key,
        "sha256": sha256_of(temporary),
        "seconds": seconds,
        "figures": drawn,
        "drawn": _drawn(figures, drawn) if figures else "",
    }
    os.replace(
        temporary, destination
    )  # if killed before the next line, the record does not match the notebook
    write_atomically(destination.with_suffix(".json"), json.dumps(record).encode())
    failed.unlink(missing_ok=True)
    return seconds


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1 if text.strip().startswith("Traceback") else 0][
        :300
    ]


def findings(executed: Path) -> list[str]:
    """The Markdown that the cells tagged `finding` of an executed notebook printed, in order."""
    notebook = nbformat.read(executed, as_version=4)
    outputs = [
        output["data"]["text/markdown"]
        for cell in notebook.cells
        if "finding" in cell.metadata.get("tags", [])
        for output in cell.get("outputs", [])
        if "text/markdown" in output.get("data", {})
    ]
    return ["".join(o) for o in outputs]
