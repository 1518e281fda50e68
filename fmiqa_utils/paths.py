"""Where things are: data, scores, figures, reports. Environment variables move them, nothing else does."""

import os
import shutil
from functools import cache
from pathlib import Path

from fmiqa_utils.storage import is_remote, open_path


def project_root() -> Path:
    """The checkout this package was installed from, or the working directory where there is none."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").is_file() else Path.cwd()


def notebooks_root() -> Path:
    """The notebooks: the checkout's, or those that came with the installed package."""
    package = Path(__file__).resolve().parent
    checkout = package.parent
    return checkout / "notebooks" if (checkout / "pyproject.toml").is_file() else package / "notebooks"


def working_notebooks() -> Path:
    """Notebooks to open and change: the checkout's, or copies in `notebooks/` of the current folder. What lies there already is kept.

    Raises OSError where the copies cannot be written.
    """
    source = notebooks_root()
    if source == project_root() / "notebooks":
        return source
    place = Path.cwd() / "notebooks"
    place.mkdir(exist_ok=True)
    for notebook in sorted(source.glob("*.ipynb")):
        if not (place / notebook.name).exists():
            shutil.copyfile(notebook, place / notebook.name)
    return place


def data_root() -> Path:
    """Datasets live here, one folder each: `$FMIQA_DATA`, else `data/` of the checkout."""
    return _root("FMIQA_DATA", "data")


def scores_root() -> Path:
    """Score tables live here, one folder per run: `$FMIQA_SCORES`, else `data/scores/` of the checkout.

    The variable may name a folder in an object store, such as s3://bucket/scores.
    """
    named = os.environ.get("FMIQA_SCORES", "")
    store = open_path(named) if named else None
    return store if store is not None and is_remote(store) else _root("FMIQA_SCORES", "data/scores")


def machine_root() -> Path:
    """What belongs to this machine (its bench, LoDa's checkpoints): the scores' folder, or the checkout's where that is remote."""
    scores = scores_root()
    return project_root() / "data" / "scores" if is_remote(scores) else scores


def figures_root() -> Path:
    """Figures go here, one folder per run: `$FMIQA_FIGURES`, else `figures/` of the checkout."""
    return _root("FMIQA_FIGURES", "figures")


def reports_root() -> Path:
    """Reports go here, one folder per run: `$FMIQA_REPORTS`, else `reports/` of the checkout."""
    return _root("FMIQA_REPORTS", "reports")


def root_variables() -> dict[str, str]:
    """The variables that name the same folders to a process that stands elsewhere, such as a notebook's kernel."""
    roots = {"DATA": data_root, "SCORES": scores_root, "FIGURES": figures_root, "REPORTS": reports_root}
    return {f"FMIQA_{name}": str(root()) for name, root in roots.items()}


def _root(variable: str, otherwise: str) -> Path:
    """The folder that an environment variable names, absolute; `otherwise` in the checkout where it names none."""
    named = os.environ.get(variable)
    return _settled(str(open_path(named))) if named else project_root() / otherwise


@cache
def _settled(folder: str) -> Path:
    """`folder` as seen from where this process stood when it was first asked for; a later chdir does not move it."""
    return Path(os.path.expanduser(folder)).absolute()
