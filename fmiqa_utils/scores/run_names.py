"""The names of runs: which names are allowed, which runs there are, and their score folders. No table is opened."""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from fmiqa_utils.datasets.folder import readable
from fmiqa_utils.errors import InputError, near
from fmiqa_utils.files.storage import listing, read_whole, write_atomically
from fmiqa_utils.paths import reports_root, scores_root

PINNED = "FMIQA_RUN"  # path of a record to use instead of the saved one of its run: a report reads one state of its run
LONGEST = 120  # bytes of a run's name: it becomes part of file names
_UNFIT = re.compile(r"[^\w.#@+=-]")


class Part(NamedTuple):
    """One backbone of a run: its score folder, and the name of the manifest that it had when the run was saved."""

    folder: Path
    manifest: str


def check_run_name(name: str) -> str:
    """`name` if it can be a run's: letters, digits and . _ - # @ + =, not beginning with a dot or a dash.

    Raises InputError, which suggests a name; also for a name that is not UTF-8.
    """
    readable(name)
    if name and not _UNFIT.search(name) and name[0] not in ".-" and len(name.encode()) <= LONGEST:
        return name
    if len(name.encode()) > LONGEST:
        raise InputError(
            f"the run's name {name[:20]}… has {len(name.encode())} bytes; at most {LONGEST} are allowed."
        )
    suggestion = plain(name)
    way_out = f"use {suggestion}" if suggestion.strip("-") else "use letters, digits, dots and dashes"
    raise InputError(f"{name!r} cannot be the name of a run, because a folder gets that name: {way_out}.")


def plain(name: str) -> str:
    """`name` with dashes in place of characters that a run's name cannot have."""
    return _UNFIT.sub("-", name).lstrip(".-")[:LONGEST]


def default_run(dataset: str) -> str:
    """The name of a dataset's run where none is given; of csv:/data/mine/pairs.csv it is mine-pairs."""
    if not dataset.startswith("csv:"):
        return dataset
    table = Path(os.path.abspath(Path(dataset.removeprefix("csv:")).expanduser()))  # without ".."
    return plain(f"{table.parent.name}-{table.stem}")


def known_runs() -> list[str]:
    """Names of the runs that were saved here."""
    return [n.removesuffix(".json") for n in listing(scores_root() / "runs") if n.endswith(".json")]


def run_index(name: str) -> Path:
    """The record that says which score folders make up run `name`; inside a report, the copy that the report made of it."""
    pinned = os.environ.get(PINNED, "")
    if pinned and Path(pinned).stem == name:
        return Path(pinned)
    return saved_record(name)


def saved_record(name: str) -> Path:
    """The record that says what run `name` is now. Raises InputError for a name that cannot be a run's."""
    return scores_root() / "runs" / f"{check_run_name(name)}.json"


def run_parts(name: str) -> list[Part]:
    """The parts of run `name`. Raises InputError for an unknown name and a damaged record."""
    return _parts(run_index(name), name)


def save_parts(name: str, parts: list[Part]) -> Path:
    """Remember what makes up run `name`: from here on it holds these manifests, whatever is extracted later."""
    root = scores_root()
    content = {
        "scores": [str(p.folder.relative_to(root)) for p in parts],
        "manifests": [p.manifest for p in parts],
    }
    data = json.dumps(content, indent=1).encode()
    for record in dict.fromkeys((saved_record(name), run_index(name))):  # in a report also the report's copy
        if not _has_content(record, data):
            write_atomically(record, data)
    return saved_record(name)


def _has_content(record: Path, data: bytes) -> bool:
    try:
        return read_whole(record) == data
    except FileNotFoundError:
        return False


def shards_in_use(folder: Path) -> set[str]:
    """The shards of `folder` that a saved run or a report that was begun here holds; all of them if that cannot be known."""
    records = {scores_root() / "runs" / f"{name}.json" for name in known_runs()}
    held: set[str] = set()
    for record in sorted(records | set(reports_root().glob("*/run/*.json"))):
        try:
            for part in _parts(record, record.stem):
                if part.folder == folder:
                    held |= set(json.loads(read_whole(part.folder / part.manifest))["shards"])
        except (InputError, FileNotFoundError, ValueError, KeyError, TypeError):
            return set(listing(folder))  # a damaged record: it may be mended, and then needs its shards
    return held


def _parts(record: Path, name: str) -> list[Part]:
    try:
        content = json.loads(read_whole(record))
        folders = [scores_root() / f for f in content["scores"]]
        # The record of an older version names no manifests.
        manifests = content.get("manifests") or ["manifest.json"] * len(folders)
        return [Part(f, str(m)) for f, m in zip(folders, manifests, strict=True)]
    except FileNotFoundError:
        raise unknown_run(name) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"the record of run {name} ({record}) is damaged: run the same extraction again to mend it."
        ) from None


def unknown_run(name: str) -> InputError:
    """The error for a run that is not there."""
    known = known_runs()
    hint = near(name, known) if known else "no run is saved yet."
    return InputError(
        f"there is no run called {name!r} ({hint}) Extract it first: notebook 01_extract or `fmiqa extract --run {name}`."
    )


def refuse_unknown_run(name: str) -> None:
    """Raises InputError with near matches unless run `name` is there."""
    if name not in known_runs():
        raise unknown_run(name)
