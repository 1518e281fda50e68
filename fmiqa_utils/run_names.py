"""The names of the runs that are there: listed without reading a table."""

from pathlib import Path

from fmiqa_utils.errors import InputError, near
from fmiqa_utils.paths import scores_root
from fmiqa_utils.storage import listing


def known_runs() -> list[str]:
    """Names of the runs that were saved here."""
    return [n.removesuffix(".json") for n in listing(scores_root() / "runs") if n.endswith(".json")]


def plain(name: str) -> str:
    """A name that is safe as a folder's."""
    return "".join(c if c.isalnum() or c in "._#" else "-" for c in name)


def run_index(name: str) -> Path:
    """The file that says which score folders make up run `name`."""
    return scores_root() / "runs" / f"{plain(name)}.json"


def unknown_run(name: str) -> InputError:
    """The sentence for a run that is not there."""
    known = known_runs()
    hint = near(name, known) if known else "none is there yet."
    return InputError(
        f"there is no run called {name!r} ({hint}) Extract it first: notebook 01_extract or `fmiqa extract --run {name}`."
    )


def refuse_unknown_run(name: str) -> None:
    """Raises InputError with near matches unless run `name` is there."""
    if plain(name) not in known_runs():
        raise unknown_run(name)
