"""`fmiqa report`: the notebooks in order, only those whose inputs changed, then the page."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fmiqa_utils.datasets import load_pairs
from fmiqa_utils.errors import InputError, near
from fmiqa_utils.images import file_facts
from fmiqa_utils.page import write_index, write_page
from fmiqa_utils.paths import figures_root, project_root, reports_root
from fmiqa_utils.report import check_parameters, is_finished, notebook_key, notebook_parameters, run_notebook
from fmiqa_utils.runs import known_runs, load_run, plain, run_material
from fmiqa_utils.scores import digest

EXTRACT = "01_extract.ipynb"
READERS = (
    "02_layer_curves.ipynb",
    "03_distances.ipynb",
    "04_intermediate_vs_embedding.ipynb",
    "05_robustness.ipynb",
    "06_published_results.ipynb",
)
TRAIN = "07_loda.ipynb"  # hours on a real dataset: there only with --set loda_preset=…


def make_report(
    run: str,
    given: Mapping[str, object],
    *,
    notebooks: Path | None = None,
    progress: Callable[[str, int, int], object] = lambda *_: None,
) -> tuple[Path, str]:
    """Execute what changed and write reports/RUN/index.html; returns its path and the headline.

    `given` are notebook parameters by name; each notebook gets those it declares. Raises InputError for a parameter that no notebook
    declares or of a wrong type, before anything runs, and for a notebook that fails; the last good page stays.
    """
    trained = (TRAIN,) if given.get("dataset", "demo") == "demo" or "loda_preset" in given else ()
    return _executed(run, given, (EXTRACT, *READERS, *trained), notebooks, progress)


def report_run(
    run: str, *, progress: Callable[[str, int, int], object] = lambda *_: None
) -> tuple[Path, str]:
    """The report of a run that is scored already, such as a sweep's: every chapter but extraction and training."""
    return _executed(run, {}, READERS, None, progress)


def _executed(
    run: str,
    given: Mapping[str, object],
    names: Sequence[str],
    notebooks: Path | None,
    progress: Callable[[str, int, int], object],
) -> tuple[Path, str]:
    folder = notebooks or project_root() / "notebooks"
    sources = [p for p in (folder / name for name in names) if p.is_file()]
    given = {**given, "run": run}
    own = _shares(sources, given)
    executed = []
    for done, source in enumerate(sources):
        progress("notebooks", done, len(sources))
        destination = reports_root() / plain(run) / "notebooks" / source.name
        material = _dataset_material(given) if source.name == EXTRACT else run_material(run)
        key = notebook_key(source, own[source], material)
        if not (is_finished(destination, key) and _figures_exist(run, source)):
            run_notebook(source, destination, own[source], key)
        executed.append(destination)
    progress("notebooks", len(sources), len(sources))
    page = reports_root() / plain(run) / "index.html"
    headline = write_page(page, load_run(run), executed)
    reported = [name for name in known_runs() if (reports_root() / plain(name) / "index.html").is_file()]
    if len(reported) > 1:
        write_index(reports_root() / "index.html", reported)
    return page, headline


def _shares(sources: list[Path], given: Mapping[str, object]) -> dict[Path, dict[str, object]]:
    """Every notebook's own parameters out of `given`, checked."""
    declared = {p: set(notebook_parameters(p)) for p in sources}
    everything = sorted(set().union(*declared.values()))
    for name in given:
        if name not in everything:
            raise InputError(f"no notebook has a parameter {name!r}; {near(name, everything)}")
    return {
        p: check_parameters(p, {k: v for k, v in given.items() if k in names})
        for p, names in declared.items()
    }


def _dataset_material(given: Mapping[str, object]) -> str:
    """A hash of the dataset's labels and of the sizes and times of its images."""
    options = {k: str(given[k]) for k in ("labels", "direction") if given.get(k)}
    pairs = load_pairs(str(given["dataset"]), given.get("root") or None, **options)  # type: ignore[arg-type]
    files = sorted({*pairs["ref_path"], *pairs["dist_path"]})
    weights = Path(str(given.get("weights", "")))
    facts = [tuple(file_facts(f)) for f in files] + (
        [tuple(file_facts(weights))] if weights.is_file() else []
    )
    return digest(pairs.astype(str).values.tolist(), facts)


def _figures_exist(run: str, source: Path) -> bool:
    """False if a notebook that draws has no figure on disk."""
    drawn = (figures_root() / plain(run)).glob(f"{source.stem[:2]}_*.svg")
    return source.name == EXTRACT or any(drawn)
