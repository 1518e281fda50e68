"""Where things are: data, scores, figures, reports. Only environment variables change these folders."""

import os
import shutil
from functools import cache
from pathlib import Path

from fmiqa_utils.files.storage import is_remote, open_path


def checkout() -> Path | None:
    """The checkout that this package is used from, None where it was installed from a wheel."""
    above = Path(__file__).resolve().parent.parent
    return above if (above / "pyproject.toml").is_file() else None


def project_root() -> Path:
    """Where data, figures and reports go: `$FMIQA_HOME`, else the checkout, else the current folder."""
    return Path(os.environ.get("FMIQA_HOME") or checkout() or Path.cwd()).absolute()


def notebooks_root() -> Path:
    """The notebooks: the checkout's, or those that came with the installed package."""
    return (checkout() or Path(__file__).resolve().parent) / "notebooks"


def working_notebooks() -> Path:
    """Notebooks to open and change: the checkout's, or copies in `notebooks/` of `project_root()`. Files already there are kept.

    Raises OSError where the copies cannot be written.
    """
    source = notebooks_root()
    if checkout():
        return source
    copies = project_root() / "notebooks"
    copies.mkdir(parents=True, exist_ok=True)
    for notebook in sorted(source.glob("*.ipynb")):
        if not (copies / notebook.name).exists():
            shutil.copyfile(notebook, copies / notebook.name)
    return copies


def data_root() -> Path:
    """Datasets live here, one folder each: `$FMIQA_DATA`, else `data/` of `project_root()`."""
    return _root("FMIQA_DATA", "data")


def scores_root() -> Path:
    """Score tables live here, one folder per run: `$FMIQA_SCORES`, else `data/scores/` of `project_root()`.

    The variable may name a folder in an object store, such as s3://bucket/scores.
    """
    named = os.environ.get("FMIQA_SCORES", "")
    store = open_path(named) if named else None
    return store if store is not None and is_remote(store) else _root("FMIQA_SCORES", "data/scores")


def machine_root() -> Path:
    """Files that belong to this machine (its bench, LoDa's checkpoints) live here.

    The scores' folder, or `data/scores/` of `project_root()` where that is remote.
    """
    scores = scores_root()
    return project_root() / "data" / "scores" if is_remote(scores) else scores


def figures_root() -> Path:
    """Figures go here, one folder per run: `$FMIQA_FIGURES`, else `figures/` of `project_root()`."""
    return _root("FMIQA_FIGURES", "figures")


def reports_root() -> Path:
    """Reports go here, one folder per run: `$FMIQA_REPORTS`, else `reports/` of `project_root()`."""
    return _root("FMIQA_REPORTS", "reports")


def root_variables() -> dict[str, str]:
    """The variables that name the same folders to a process in another working folder, such as a notebook's kernel."""
    roots = {"DATA": data_root, "SCORES": scores_root, "FIGURES": figures_root, "REPORTS": reports_root}
    return {f"FMIQA_{name}": str(root()) for name, root in {**roots, "HOME": project_root}.items()}


def _root(variable: str, otherwise: str) -> Path:
    """The folder that an environment variable names, absolute; `otherwise` in the checkout where it names none."""
    named = os.environ.get(variable)
    return _fixed(str(open_path(named))) if named else project_root() / otherwise


@cache
def _fixed(folder: str) -> Path:
    """`folder` made absolute when it is first asked for; a later chdir does not change it."""
    return Path(os.path.expanduser(folder)).absolute()
