"""Notebooks as a pipeline stage: check their parameters, execute them with papermill, and know for certain that they finished."""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat

from fmiqa_utils.errors import InputError, near
from fmiqa_utils.paths import project_root
from fmiqa_utils.scores import digest
from fmiqa_utils.storage import write_atomically

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

    found = {
        name: Parameter(name, entry["inferred_type_name"], entry["default"], entry["help"])
        for name, entry in inspect_notebook(str(path)).items()
    }
    if not found:
        raise InputError(f"{path.name} has no cell tagged `parameters`.")
    return found


def check_parameters(path: Path, given: Mapping[str, object]) -> dict[str, object]:
    """`given` in the types that the notebook's annotations ask for.

    Raises InputError for a name that the notebook does not declare and for a value of another type.
    """
    known = notebook_parameters(path)
    for name in given:
        if name not in known:
            raise InputError(f"{path.name} has no parameter {name!r}; {near(name, list(known))}")
    return {name: _typed(path, known[name], value) for name, value in given.items()}


def _typed(path: Path, parameter: Parameter, value: object) -> object:
    """`value` as the annotation says; a string from the command line is read as that type."""
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


def package_digest() -> str:
    """sha256 over the package's own source: a changed function makes every notebook run again."""
    folder = Path(__file__).parent
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return digest([(str(p.relative_to(folder)), digest(p.read_bytes().hex())) for p in files])


def notebook_key(source: Path, parameters: Mapping[str, object], material: object) -> str:
    """sha256 of all that a notebook's outputs depend on."""
    return digest(source.read_text(encoding="utf-8"), dict(parameters), package_digest(), material)


def is_finished(destination: Path, key: str) -> bool:
    """True if `destination` was written by a run with this `key` that came to its end."""
    record = destination.with_suffix(".json")
    return (
        destination.is_file()
        and record.is_file()
        and json.loads(record.read_text(encoding="utf-8"))["key"] == key
    )


def run_notebook(
    source: Path, destination: Path, parameters: Mapping[str, object], key: str, timeout: int | None = None
) -> float:
    """Execute `source` into `destination` in this interpreter's kernel; returns seconds.

    The notebook and its record of completion appear only when every cell has run; a failed one is kept as NAME.failed.ipynb. Raises
    InputError that names the notebook, the cell and the error.
    """
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    parameters = check_parameters(source, parameters)
    destination.parent.mkdir(parents=True, exist_ok=True)
    failed = destination.with_suffix(".failed.ipynb")
    temporary = destination.with_name(f".running-{os.getpid()}-{destination.name}")
    start = time.time()
    try:
        papermill.execute_notebook(
            str(source),
            str(temporary),
            parameters=dict(parameters),
            kernel_name="python3",
            progress_bar=False,
            cwd=str(project_root() / "notebooks") if (project_root() / "notebooks").is_dir() else None,
            execution_timeout=timeout,
            extra_arguments=[
                "--log-level=ERROR"
            ],  # not a warning per chapter that the kernel talks on loopback
        )
    except papermill.PapermillExecutionError as error:
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
    except BaseException:  # Ctrl-C and the like: nothing half-run stays behind
        temporary.unlink(missing_ok=True)
        raise
    os.replace(temporary, destination)
    seconds = round(time.time() - start, 2)
    failed.unlink(missing_ok=True)
    write_atomically(destination.with_suffix(".json"), json.dumps({"key": key, "seconds": seconds}).encode())
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
