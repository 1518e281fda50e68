"""A report reads one state of its run, whatever happens around it. Its notebooks are fakes that say what they read."""

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_runs import chapter, extract, sign_of, source, write_table

from fmiqa_utils.errors import InputError
from fmiqa_utils.paths import figures_root, reports_root
from fmiqa_utils.report.pipeline import make_report
from fmiqa_utils.scores.runs import load_run
from fmiqa_utils.statistics.leaderboard import rows_of

CHAPTERS = ("01_extract.ipynb", "02_layer_curves.ipynb", "03_distances.ipynb")
FIRST = (
    'run: str = "demo"  # the run\ndataset: str = "demo"  # its pairs\ndirection: str = "higher"  # of labels'
)
Hook = Callable[[str, str], None]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Roots, three fake notebooks in notebooks/, and pairs.csv with labels that rise."""
    for name in ("SCORES", "FIGURES", "REPORTS"):
        monkeypatch.setenv(f"FMIQA_{name}", str(tmp_path / name.lower()))
    (tmp_path / "notebooks").mkdir()
    for name in CHAPTERS:
        source(
            tmp_path / "notebooks" / name, FIRST if name == CHAPTERS[0] else 'run: str = "demo"  # the run'
        )
    write_table(tmp_path)
    return tmp_path


@pytest.fixture
def ran(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the chapters that were executed, in order; `hooks` may interfere."""
    done: list[str] = []

    def execute(notebook: Path, destination: Path, parameters: Any, *_: object) -> None:
        hook("before", notebook.name)
        chapter(notebook.name, destination, parameters)
        hook("after", notebook.name)
        done.append(notebook.name[:2])

    monkeypatch.setattr("fmiqa_utils.report.notebook_engine.execute", execute)
    return done


hooks: dict[tuple[str, str], Callable[[], object]] = {}


def hook(when: str, name: str) -> None:
    act = hooks.pop((when, name[:2]), None)
    if act:
        act()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hook of another test, and few resamples in the index."""
    hooks.clear()
    monkeypatch.setattr("fmiqa_utils.report.page.rows_of", partial(rows_of, n_resamples=10))


def report(place: Path, direction: str = "higher", run: str = "a") -> tuple[str, set[str]]:
    """Make a report; returns its page and what its chapters say of the labels."""
    given = {"dataset": f"csv:{place / 'pairs.csv'}", "direction": direction}
    page, _ = make_report(run, given, notebooks=place / "notebooks")
    return told(page)


def told(page: Path) -> tuple[str, set[str]]:
    text = page.read_text()
    said = re.findall(r"<p>(0\d) (RISES|FALLS)</p>", text)
    assert [number for number, _ in said] == ["01", "02", "03"]
    return text, {word for _, word in said}


def other_labels(place: Path, direction: int = -1, run: str = "a") -> None:
    """What another person does: edit the labels and extract under the same name."""
    write_table(place, direction)
    env = os.environ.pop("FMIQA_RUN", None)  # in a process of its own
    extract(place / "pairs.csv", run)
    if env is not None:
        os.environ["FMIQA_RUN"] = env


def test_nothing_changed_nothing_is_run_again(place: Path, ran: list[str]) -> None:
    assert report(place)[1] == {"RISES"}
    assert ran == ["01", "02", "03"]
    before = (reports_root() / "a" / "index.html").stat().st_mtime_ns
    assert report(place)[1] == {"RISES"}
    assert ran == ["01", "02", "03"]
    assert (reports_root() / "a" / "index.html").stat().st_mtime_ns == before


@pytest.mark.parametrize("when", ["after 01", "before 02", "after 02", "before 03", "after 03"])
def test_labels_flipped_and_extracted_in_mid_report_do_not_mix(
    when: str, place: Path, ran: list[str]
) -> None:
    moment, number = when.split()
    hooks[moment, number] = lambda: other_labels(place)
    _, words = report(place)
    assert len(words) == 1
    assert sign_of(load_run("a")) == "FALLS"  # the run itself is what was extracted last
    assert report(place)[1] == {"FALLS"}
    write_table(place)
    assert report(place)[1] == {"RISES"}


def test_labels_flipped_before_they_are_read_are_the_reports(place: Path, ran: list[str]) -> None:
    hooks["before", "01"] = lambda: write_table(place, -1)
    assert report(place)[1] == {"FALLS"}
    write_table(place)
    assert report(place)[1] == {"RISES"}


def test_labels_that_never_rest_are_refused(place: Path, ran: list[str]) -> None:
    turns = iter([-1, 1] * 10)

    def turn() -> None:
        write_table(place, next(turns))
        hooks["after", "01"] = turn

    hooks["after", "01"] = turn
    with pytest.raises(InputError, match=r"pairs\.csv changed each time they were read"):
        report(place)
    assert not (reports_root() / "a" / "index.html").exists()


def test_a_run_extracted_otherwise_since_is_what_the_report_asks_for(place: Path, ran: list[str]) -> None:
    assert report(place)[1] == {"RISES"}
    extract(place / "pairs.csv", "a", direction="lower")
    assert sign_of(load_run("a")) == "FALLS"
    assert report(place)[1] == {"RISES"}
    assert sign_of(load_run("a")) == "RISES"
    assert report(place, "lower")[1] == {"FALLS"}


class Killed(BaseException):
    """As if the process had ended here."""


def killed_at(monkeypatch: pytest.MonkeyPatch, module: str, file: str) -> None:
    """The next write of `file` by `module` is never made, nor anything after it."""
    from fmiqa_utils.files.storage import write_atomically

    def write(path: Path, data: bytes) -> Path:
        if path.name == file:
            monkeypatch.setattr(f"fmiqa_utils.{module}.write_atomically", write_atomically)
            raise Killed
        return write_atomically(path, data)

    monkeypatch.setattr(f"fmiqa_utils.{module}.write_atomically", write)


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("report.notebooks", "01_extract.json"),
        ("report.notebooks", "02_layer_curves.json"),
        ("report.page", "index.html"),
        ("report.pipeline", "page.json"),
        ("scores.run_names", "a.json"),
    ],
)
def test_a_kill_between_a_thing_and_its_record_leaves_no_old_key_on_new_data(
    module: str, file: str, place: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report(place)[1] == {"RISES"}
    write_table(place, -1)
    killed_at(monkeypatch, module, file)
    with pytest.raises(Killed):
        report(place)
    write_table(place)  # the labels are as they were, and so are all keys
    text, words = report(place)
    assert words == {"RISES"}
    assert "FALLS" not in text
    assert json.loads((reports_root() / "a" / "page.json").read_text())["headline"] != ""


def test_figures_that_a_killed_report_drew_over_are_drawn_again(
    place: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(notebook: Path, destination: Path, parameters: Any, *_: object) -> None:
        chapter(notebook.name, destination, parameters)
        figures_root().joinpath("a").mkdir(parents=True, exist_ok=True)
        (figures_root() / "a" / f"{notebook.name[:2]}_x.svg").write_text(sign_of(load_run("a")))
        hook("drawn", notebook.name)

    def kill() -> None:
        raise Killed

    monkeypatch.setattr("fmiqa_utils.report.notebook_engine.execute", draw)
    report(place)
    write_table(place, -1)
    hooks["drawn", "02"] = kill
    with pytest.raises(Killed):
        report(place)
    assert (figures_root() / "a" / "02_x.svg").read_text() == "FALLS"
    write_table(place)
    report(place)
    assert {p.read_text() for p in (figures_root() / "a").iterdir()} == {"RISES"}


SCRIPT = """
import sys, time
from pathlib import Path
from fake_runs import chapter
from fmiqa_utils.report import notebook_engine
def execute(notebook, destination, parameters, *_):
    time.sleep(0.3)
    chapter(notebook.name, destination, parameters)
    time.sleep(0.3)
notebook_engine.execute = execute
from fmiqa_utils.report.pipeline import make_report
place, direction = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
while not (place / "go").exists():
    time.sleep(0.01)
given = {"dataset": f"csv:{place / 'pairs.csv'}", "direction": direction}
page, headline = make_report("a", given, notebooks=place / "notebooks", say=lambda s: print(s, flush=True))
print(page.read_text().count("RISES"), page.read_text().count("FALLS"), flush=True)
"""


def test_two_reports_of_one_run_at_once_do_not_mix(place: Path) -> None:
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(place), direction],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for direction in ("higher", "lower")
    ]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    (place / "go").touch()
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("waiting for it to finish" in text for text in printed) == 1
    _, words = told(reports_root() / "a" / "index.html")
    assert len(words) == 1
    assert words == {sign_of(load_run("a"))}


# ---- what other runs may do to a report: nothing -------------------------------------------------------------------------


def the_index() -> str:
    return (reports_root() / "index.html").read_text()


def test_runs_that_differ_in_precision_or_numbers_stand_side_by_side(place: Path, ran: list[str]) -> None:
    report(place)
    for name, how in (("b", {"precision": "bf16"}), ("c", {"seed": 7})):
        extract(place / "pairs.csv", name, **how)  # type: ignore[arg-type]
        (reports_root() / name).mkdir()
        (reports_root() / name / "index.html").write_text("")
    report(place)
    index = the_index()
    for word in ("<th>precision</th>", "<td>bf16</td>", "<th>runs</th>", "<td>c</td>"):
        assert word in index
    assert index.count('<a href="') == 3 + 2


@pytest.mark.parametrize("damage", ["record", "manifest", "shard", "pairs", "folder"])
def test_a_damaged_run_is_left_out_of_the_index_with_a_sentence(
    damage: str, place: Path, ran: list[str]
) -> None:
    extract(place / "pairs.csv", "torn")
    (reports_root() / "torn").mkdir(parents=True)
    (reports_root() / "torn" / "index.html").write_text("")
    report(place)
    assert "left out" not in the_index()
    scores = place / "scores"
    patterns = {"record": "runs/torn.json", "manifest": "fake/torn*/manifest-*.json"}
    patterns |= {"shard": "fake/torn*/*.parquet", "pairs": "fake/torn*/pairs-*"}
    if damage == "folder":
        (scores / "fake" / "torn-fp32").rename(place / "moved")
    else:
        (file,) = scores.glob(patterns[damage])
        file.write_bytes(file.read_bytes()[:-9])
    heard: list[str] = []
    given = {"dataset": f"csv:{place / 'pairs.csv'}", "direction": "higher"}
    make_report("a", given, notebooks=place / "notebooks", say=heard.append)
    if damage not in (
        "shard",
        "pairs",
    ):  # the page of that run has no other key: what is in it was read before
        assert heard[0].startswith("The run torn is left out: ")
        assert "The run torn is left out: " in the_index()
    write_table(place, -1)
    assert report(place)[1] == {"FALLS"}
    assert "The run torn is left out: " in the_index()


def test_an_index_that_was_replaced_is_made_again(place: Path, ran: list[str]) -> None:
    report(place)
    extract(place / "pairs.csv", "b")
    report(place, run="b")
    good = the_index()
    (reports_root() / "index.html").write_text("another state of the runs")
    report(place)
    assert re.sub(r"\d\d:\d\d", "", the_index()) == re.sub(r"\d\d:\d\d", "", good)


# ---- what is wrong is said before the work -----------------------------------------------------------------------------


def test_no_room_is_said_before_the_work(place: Path, ran: list[str]) -> None:
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, most[1]))
    try:
        with pytest.raises(
            InputError, match=r"^The report cannot be written into .*/reports/a \(file too large\)"
        ):
            report(place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    assert ran == []
    assert list((place / "reports" / "a").iterdir()) == []


@pytest.mark.parametrize("name", ["reports", "figures"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(
    name: str, place: Path, ran: list[str]
) -> None:
    (place / name).write_text("a file")
    with pytest.raises(
        InputError, match=rf"cannot be written into .*/{name}/a \((not a directory|file exists)\)"
    ):
        report(place)
    assert ran == []
