"""`fmiqa report`: the notebooks in order, if their inputs changed, then the page."""

import json
import math
import os
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fmiqa_utils.datasets.images import file_facts
from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.errors import InputError, near
from fmiqa_utils.files.storage import check_room, read_whole, write_atomically
from fmiqa_utils.keys import digest, notebook_key, page_key
from fmiqa_utils.paths import figures_root, notebooks_root, reports_root
from fmiqa_utils.progress import Update, silent
from fmiqa_utils.report.notebooks import (
    check_parameters,
    is_finished,
    notebook_parameters,
    read_json,
    read_record,
    run_notebook,
    sha256_of,
)
from fmiqa_utils.scores.run_names import PINNED, check_run_name, known_runs, saved_record, unknown_run
from fmiqa_utils.scores.runs import UNREADABLE, run_material, run_pairs
from fmiqa_utils.scores.shards import sole_writer

PAGE_MODULES = ("fmiqa_utils.report.page",)
TEMPLATES = Path(__file__).parent / "templates"
EXTRACT = "01_extract.ipynb"
READERS = (
    "02_layer_curves.ipynb",
    "03_distances.ipynb",
    "04_intermediate_vs_embedding.ipynb",
    "05_robustness.ipynb",
    "06_published_results.ipynb",
)
TRAIN = "07_loda.ipynb"  # takes hours on a real dataset, so it is run there only with --set loda_preset=…
OPEN_FILES = (
    128  # at once, most of them sockets of a kernel: with 48 no kernel started, with 96 a report finished
)
TRIES = 3  # extractions of a dataset that changes while it is read
FOLDERS = ("root", "results")  # parameters that name a folder or a file
Say = Callable[[str], object]


def make_report(
    run: str,
    given: Mapping[str, object],
    *,
    notebooks: Path | None = None,
    command: str = "",
    progress: Update = silent,
    say: Say = lambda _: None,
) -> tuple[Path, str]:
    """Execute what changed and write reports/RUN/index.html; returns its path and the headline.

    `given` are notebook parameters by name; each notebook gets those it declares. Paths in them are relative to the current folder.
    `progress` is called for notebooks, cells, and what is counted inside them. `command` is shown on the page as the command that made
    it. Raises InputError for a parameter that no notebook declares or of a wrong type, before anything runs, and for a notebook that
    fails; the last good page is kept.

    >>> make_report("own", {"blocks": 3})
    Traceback (most recent call last):
        ...
    fmiqa_utils.errors.InputError: no notebook has a parameter 'blocks'; ...
    """
    check_run_name(run)
    given = absolute_paths(given)
    trained = (TRAIN,) if given.get("dataset", "demo") == "demo" or "loda_preset" in given else ()
    return _executed(_Job(run, given, (EXTRACT, *READERS, *trained), notebooks, command, progress, say))


def report_run(
    run: str, *, command: str = "", progress: Update = silent, say: Say = lambda _: None
) -> tuple[Path, str]:
    """The report of a run that is already scored, such as a sweep's: every chapter except extraction and training.

    Raises InputError as `make_report` does, and for a run with one pair or one label.
    """
    refuse_uniform(run_pairs(run))
    return _executed(_Job(run, {}, READERS, None, command, progress, say))


def absolute_paths(given: Mapping[str, object]) -> dict[str, object]:
    """`given` with every path made absolute, because a notebook's kernel works in another folder than the user.

    Paths are the PATH of a `csv:` dataset, a weights file, and the parameters `FOLDERS`.
    """
    absolute = dict(given)
    for name in FOLDERS:
        if absolute.get(name):
            absolute[name] = _absolute(str(absolute[name]))
    dataset, weights = str(absolute.get("dataset", "")), str(absolute.get("weights", ""))
    if dataset.startswith("csv:"):
        absolute["dataset"] = "csv:" + _absolute(dataset.removeprefix("csv:"))
    if weights and Path(weights).expanduser().is_file():
        absolute["weights"] = _absolute(weights)
    return absolute


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


@dataclass(frozen=True)
class _Job:
    """A report to be made: its run, parameters, notebooks, and the callbacks for progress and sentences."""

    run: str
    given: Mapping[str, object]
    names: Sequence[str]
    notebooks: Path | None
    command: str
    progress: Update
    say: Say

    @property
    def folder(self) -> Path:
        return reports_root() / self.run

    @property
    def pinned(self) -> Path:
        """The report's copy of the run's record: what notebook 01 saved, even if the same name is extracted again meanwhile."""
        return self.folder / "run" / f"{self.run}.json"

    @property
    def figures(self) -> Path:
        return figures_root() / self.run


def _executed(job: _Job) -> tuple[Path, str]:
    sources = [p for p in ((job.notebooks or notebooks_root()) / name for name in job.names) if p.is_file()]
    given = {**job.given, "run": job.run}
    parameters = _parameters_by_notebook(sources, given)
    _check_open_files()
    check_room(job.folder, "The report")
    check_room(job.figures, "The figures")
    with _alone(job.folder, job.say):
        with _pinned(job):
            for done, source in enumerate(sources):
                job.progress("report", done, len(sources), unit="notebooks")
                if source.name == EXTRACT:
                    _extraction(job, source, given, parameters[source])
                elif not done:  # this report extracts nothing: it reads the run as it is now
                    _take_over(job)
                if source.name != EXTRACT:
                    _one_notebook(job, source, parameters[source], run_material(job.run))
            job.progress("report", len(sources), len(sources), unit="notebooks")
            headline = _page(job, [_executed_copy(job, source) for source in sources])
        _index(job.say)
    return job.folder / "index.html", headline


@contextmanager
def _pinned(job: _Job) -> Iterator[None]:
    """All chapters and the page read and write the report's copy of the run's record."""
    job.pinned.parent.mkdir(parents=True, exist_ok=True)
    os.environ[PINNED] = str(job.pinned)
    try:
        yield
    finally:
        del os.environ[PINNED]


def _take_over(job: _Job) -> None:
    """Copy the record of the run as it is now for the report. Raises InputError where there is no run of this name."""
    try:
        write_atomically(job.pinned, read_whole(saved_record(job.run)))
    except FileNotFoundError:
        raise unknown_run(job.run) from None


def _extraction(
    job: _Job, source: Path, given: Mapping[str, object], parameters: Mapping[str, object]
) -> None:
    """Execute notebook 01, unless it was executed with the same inputs and the run is still what it saved then.

    Raises InputError if labels or images keep changing while it runs.
    """
    for _ in range(TRIES):
        before = _dataset_material(given)
        same_run = _content(job.pinned) == _content(saved_record(job.run)) != b""
        if not same_run:  # extracted again since then, or not yet extracted
            job.pinned.unlink(missing_ok=True)
            _executed_copy(job, source).with_suffix(".json").unlink(missing_ok=True)
        executed = _one_notebook(job, source, parameters, before)
        if not job.pinned.is_file():
            _take_over(job)
        if not executed or _dataset_material(given) == before:
            return
        _executed_copy(job, source).with_suffix(".json").unlink(missing_ok=True)
    raise InputError(
        f"the labels or images of {given.get('dataset', 'demo')} changed each time they were read: "
        f"start the report again when nothing writes to them."
    )


def _content(path: Path) -> bytes:
    """The content of a file; b"" where there is none."""
    try:
        return read_whole(path)
    except FileNotFoundError:
        return b""


def _check_open_files() -> None:
    """Let this process open as many files as a kernel needs. Raises InputError where the system forbids it."""
    soft, hard = (
        math.inf if n == resource.RLIM_INFINITY else n for n in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    if soft >= OPEN_FILES:
        return
    if hard < OPEN_FILES:
        raise InputError(
            f"only {soft} files may be open at once here, but a notebook's kernel needs {OPEN_FILES}: "
            f"run ulimit -n {OPEN_FILES} in the shell first."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def _executed_copy(job: _Job, source: Path) -> Path:
    return job.folder / "notebooks" / source.name


def _one_notebook(job: _Job, source: Path, parameters: Mapping[str, object], inputs: object) -> bool:
    """Execute `source`, unless it was executed with the same `inputs` and parameters; True if it was executed now."""
    destination = _executed_copy(job, source)
    material: list[object] = [inputs]
    if results := str(parameters.get("results") or ""):
        material.append(_facts_below(Path(results)))
    key = notebook_key(source, parameters, material)
    if is_finished(destination, key, job.figures):
        return False
    run_notebook(source, destination, parameters, key, figures=job.figures, update=job.progress)
    return True


@contextmanager
def _alone(folder: Path, say: Say) -> Iterator[None]:
    """Hold the report's lock, and remove what a killed report left behind."""
    with sole_writer(folder, waiting=say):
        for name in (".running-*", ".progress-*"):
            for leftover in (folder / "notebooks").glob(name):
                leftover.unlink(missing_ok=True)
        yield


def _parameters_by_notebook(
    sources: list[Path], given: Mapping[str, object]
) -> dict[Path, dict[str, object]]:
    """For every notebook its parameters from `given`, checked."""
    declared = {p: set(notebook_parameters(p)) for p in sources}
    everything = sorted(set().union(*declared.values()))
    for name in given:
        if name not in everything:
            raise InputError(f"no notebook has a parameter {name!r}; {near(name, everything)}")
    return {
        p: check_parameters(p, {k: v for k, v in given.items() if k in names})
        for p, names in declared.items()
    }


def _page(job: _Job, executed: Sequence[Path]) -> str:
    """Write the page if anything that it shows has changed; returns the headline."""
    page, record = job.folder / "index.html", job.folder / "page.json"
    chapters = [read_record(p) for p in executed]
    key = page_key(chapters, run_material(job.run), PAGE_MODULES, TEMPLATES)
    known = read_json(record)
    if known.get("key") == key and known.get("sha256") == sha256_of(page):
        return str(known["headline"])
    from fmiqa_utils.report.page import write_page
    from fmiqa_utils.scores.runs import load_run

    job.progress("page", 0, 0, unit="chapters")
    headline = write_page(page, load_run(job.run), executed, command=job.command)
    job.progress("page", len(executed), len(executed), unit="chapters")
    facts = {"key": key, "sha256": sha256_of(page), "headline": headline}
    write_atomically(record, json.dumps(facts).encode())
    return headline


def _index(say: Say) -> None:
    """Write the page over all reports, if there are several and one of them has changed; unreadable runs are left out of it."""
    names = [name for name in known_runs() if (reports_root() / name / "index.html").is_file()]
    if len(names) < 2:
        return
    from fmiqa_utils.report.page import write_index

    with sole_writer(reports_root(), waiting=say):  # reports made at the same time share one index
        page, record = reports_root() / "index.html", reports_root() / "index.json"
        key = page_key([], {name: _material_or_reason(name) for name in names}, PAGE_MODULES, TEMPLATES)
        known = read_json(record)
        if known.get("key") == key and known.get("sha256") == sha256_of(page):
            return
        for sentence in write_index(page, names):
            say(sentence)
        write_atomically(record, json.dumps({"key": key, "sha256": sha256_of(page)}).encode())


def _material_or_reason(name: str) -> object:
    """`run_material`, or the reason why it cannot be read."""
    try:
        return run_material(name)
    except UNREADABLE as error:
        return repr(error)


def refuse_uniform(pairs: pd.DataFrame) -> None:
    """Raises InputError for pairs without a defined correlation: fewer than two, or all with one label."""
    name, labels = pairs["dataset"].iloc[0], pairs["label"]
    what = "has one pair" if len(pairs) < 2 else f"gives all its pairs the label {labels.iloc[0]:g}"
    if labels.nunique() < 2:
        raise InputError(
            f"{name} {what}, so no correlation is defined: use `fmiqa extract` to score such pairs without a report."
        )


def _pairs(given: Mapping[str, object]) -> pd.DataFrame:
    options = {k: str(given[k]) for k in ("labels", "direction") if given.get(k)}
    root = str(given["root"]) if given.get("root") else None
    return load_pairs(str(given.get("dataset", "demo")), root, **options)


def _dataset_material(given: Mapping[str, object]) -> str:
    """A hash of the dataset's labels and of the sizes and times of its images."""
    pairs = _pairs(given)
    refuse_uniform(pairs)
    files = sorted({*pairs["ref_path"], *pairs["dist_path"]})
    weights = Path(str(given.get("weights", "")))
    facts = [tuple(file_facts(f)) for f in files] + (
        [tuple(file_facts(weights))] if weights.is_file() else []
    )
    return digest(pairs.astype(str).values.tolist(), facts)


def _facts_below(path: Path) -> list[tuple[str, ...]]:
    """Name, size and time of a file, or of the files in a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [(str(p), *map(str, file_facts(p))) for p in files]
