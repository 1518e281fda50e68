"""fmiqa installed from its wheel, used by a stranger: an empty folder, an empty home, own images, a stop in the middle."""

import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import pandas as pd
import pytest
from jupyter_client import BlockingKernelClient
from trees import PER_REF, REFS, own_table, tree_of_demo

from fmiqa_utils.paths import checkout

ROOT = Path(__file__).resolve().parents[1]
PAIRS = REFS * PER_REF
MODELS = "timm:test_vit,timm:test_resnet"
FAST = ["--set", "n_resamples=20", "--distance", "l2,cos"]
HOSTILE = "open({!r}, 'w').close()"


class Installed(NamedTuple):
    """A fresh environment with the wheel in it, and an empty home."""

    bin: Path
    home: Path
    base: Path

    def environment(self, **more: str) -> dict[str, str]:
        """Nothing of this process's own environment."""
        path = f"{self.bin}:/usr/bin:/bin"
        return {"HOME": str(self.home), "PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}

    def run(self, folder: Path, *words: str, status: int = 0, **more: str) -> str:
        """What `fmiqa words` says, standing in `folder`; stdout, then stderr."""
        done = subprocess.run(
            [self.bin / "fmiqa", *words],
            cwd=folder,
            env=self.environment(**more),
            capture_output=True,
            text=True,
            timeout=500,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def python(self, folder: Path, code: str) -> str:
        """What a line of Python prints."""
        done = subprocess.run(
            [self.bin / "python", "-c", code],
            cwd=folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, built from a copy of the checkout without a network, beside the packages that are installed here."""
    base = tmp_path_factory.mktemp("installed")
    source, wheels, environment = base / "source", base / "wheels", base / "environment"
    source.mkdir()
    for name in ("fmiqa_utils", "notebooks"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(wheels),
        str(source),
    ]
    subprocess.run([*pip, *build], check=True, timeout=200)
    shutil.rmtree(source)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=200)
    python = environment / "bin" / "python"
    (wheel,) = wheels.glob("fmiqa-*.whl")
    packages = environment / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    theirs = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (packages / "beside.pth").write_text("".join(f"{p}\n" for p in theirs))
    install = ["--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True, timeout=200)
    for name in ("share", "etc"):  # JupyterLab's pages and settings lie beside its packages
        if (Path(sys.prefix) / name).is_dir():
            (environment / name).symlink_to(Path(sys.prefix) / name)
    (base / "home").mkdir()
    return Installed(environment / "bin", base / "home", base)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """An empty folder to stand in, whose name has a space and a letter that is not ASCII."""
    folder = tmp_path / "Arbeit für mich"
    folder.mkdir()
    return folder


def files(folder: Path, pattern: str) -> dict[str, int]:
    """Relative names and times of files."""
    return {
        str(p.relative_to(folder)): p.stat().st_mtime_ns for p in sorted(folder.glob(pattern)) if p.is_file()
    }


def hostile_notebook(path: Path, marker: Path) -> bytes:
    """A notebook that leaves a trace when it is run."""
    parameters = nbformat.v4.new_code_cell(
        'run: str = "demo"  # the run\ndistance: str = "cos"  # d\nvariant: str = "published"  # v\nn_resamples: int = 9  # n',
        metadata={"tags": ["parameters"]},
    )
    cells = [parameters, nbformat.v4.new_code_cell(HOSTILE.format(str(marker)))]
    path.parent.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path.read_bytes()


# ---- what was installed --------------------------------------------------------------------------------------------------


def test_the_package_is_the_wheels_and_complete(installed: Installed, empty: Path) -> None:
    place = Path(installed.python(empty, "import fmiqa_utils; print(fmiqa_utils.__file__)")).parent
    assert installed.base in place.parents
    assert checkout() == ROOT
    assert installed.python(empty, "from fmiqa_utils.paths import checkout; print(checkout())") == "None"
    for kind in (
        "notebooks/*.ipynb",
        "fmiqa_utils/**/*.py",
        "fmiqa_utils/**/*.csv",
        "fmiqa_utils/report/templates/**/*",
    ):
        for path in ROOT.glob(kind):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(ROOT / "fmiqa_utils" if "fmiqa_utils" in kind else ROOT)
                assert (place / name).read_bytes() == path.read_bytes()
    other = installed.python(
        empty, "from fmiqa_utils.extraction.provenance import commit; print(repr(commit()))"
    )
    assert other == "''"


def test_a_users_own_git_repository_is_not_taken_for_fmiqas(installed: Installed, empty: Path) -> None:
    (empty / "pyproject.toml").write_text("[project]\nname = 'mine'\n")
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x", "--allow-empty"],
    ):
        subprocess.run(["git", *words], cwd=empty, check=True)
    assert (
        installed.python(empty, "from fmiqa_utils.extraction.provenance import commit; print(repr(commit()))")
        == "''"
    )


def test_datasets_and_demo(installed: Installed, empty: Path) -> None:
    said = installed.run(empty, "datasets")
    for name in ("demo", "live", "tid2013", "pipal", "koniq10k"):
        assert name in said
    tree_of_demo(empty / "data")  # building it takes a minute and is tested elsewhere
    before = files(empty, "**/*")
    assert "The demo dataset is in data/demo." in installed.run(empty, "demo")
    assert str(empty / "data" / "demo") in installed.run(empty, "datasets").replace("\n", "")
    assert {n: t for n, t in files(empty, "**/*").items() if "lock" not in n} == before
    said = installed.run(empty, "report", "--dataset", "tid2103", status=2)
    assert "did you mean tid2013" in said


# ---- a stranger with own images ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_stranger_with_own_images(installed: Installed, tmp_path: Path, empty: Path) -> None:
    """Two backbones, two normalizations, a torn image, a hostile notebook and kernel, Ctrl-C, then the same command again."""
    table = own_table(tmp_path / "meine Bilder", torn=True)
    marker = tmp_path / "was run"
    theirs = hostile_notebook(empty / "notebooks" / "02_layer_curves.ipynb", marker)
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    spec = {"argv": ["/bin/false"], "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    more = {"JUPYTER_PATH": str(tmp_path / "jupyter"), "JUPYTER_PREFER_ENV_PATH": "0", "FMIQA_DATA": "data"}
    own = ["--dataset", f"csv:../{table.parent.name}/pairs.csv", "--direction", "higher"]
    models = ["--backbone", MODELS, "--weights", "untrained"]
    words = ["report", *own, *models, *FAST]

    told = stopped(installed, empty, words, more)
    assert "stopped" in told
    assert "the same command goes on from there" in told
    shards = files(empty, "data/scores/**/*.parquet")
    assert len(shards) == 2 * REFS  # a chunk per reference and backbone, finished before the stop
    first = files(empty, "reports/*/notebooks/01_extract.ipynb")
    assert len(first) == 1
    assert not files(empty, "reports/*/index.html")

    told = installed.run(empty, *words, **more)
    page = empty / "reports" / "meine-Bilder-pairs" / "index.html"
    assert f"Report: {page.relative_to(empty)}" in told
    assert files(empty, "data/scores/**/*.parquet") == shards
    assert files(empty, "reports/*/notebooks/01_extract.ipynb") == first
    text = page.read_text(encoding="utf-8")
    assert "1 failed" in text
    assert "UNTRAINED" in text
    assert len(list(page.parent.glob("notebooks/0*.ipynb"))) == 6
    assert len(list((empty / "figures" / "meine-Bilder-pairs").glob("02_srcc.*"))) == 2
    assert sorted(p.name for p in empty.iterdir()) == ["data", "figures", "notebooks", "reports"]
    assert not marker.exists()
    assert (empty / "notebooks" / "02_layer_curves.ipynb").read_bytes() == theirs

    made = files(empty, "reports/*/notebooks/*.ipynb") | files(empty, "reports/*/index.html")
    installed.run(empty, *words, **more)  # nothing has changed, and nothing is made again
    assert files(empty, "reports/*/notebooks/*.ipynb") | files(empty, "reports/*/index.html") == made

    whole = f"csv:{table}"  # the same table by another name, in another run: nothing is scored twice
    names = ["--distance", "l2,cos", "--variant", "both", "--transform", "none"]
    installed.run(empty, "extract", "--dataset", whole, *own[2:], *models, *names, "--run", "twice", **more)
    after = files(empty, "data/scores/**/*.parquet")
    assert after.items() >= shards.items()
    assert {Path(name).name[:2] for name in set(after) - set(shards)} <= {
        "r2"
    }  # with the torn image: tried again
    normal = ["--normalize", "model", "--run", "normal"]
    installed.run(empty, "extract", *own, *models, *names, *normal, **more)
    assert len(files(empty, "data/scores/**/*.parquet")) == len(after) + len(shards)

    told = installed.run(empty, "compare", "meine-Bilder-pairs", "normal", "--resamples", "20", **more)
    assert "UNTRAINED" in told
    board = pd.read_csv(empty / "figures" / "compare" / "leaderboard.csv")
    rows = board[board["backbone"] != "baseline"]
    assert set(zip(rows["backbone"], rows["normalize"], strict=True)) == {
        (model, normalize) for model in MODELS.split(",") for normalize in ("none", "model")
    }
    assert board["n"].max() == PAIRS - 1


def stopped(installed: Installed, folder: Path, words: list[str], more: dict[str, str]) -> str:
    """What `fmiqa words` says when Ctrl-C comes while the second chapter runs; its kernels end as well."""
    running = subprocess.Popen(
        [installed.bin / "fmiqa", *words],
        cwd=folder,
        env=installed.environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    said = ""
    assert running.stdout is not None
    for line in running.stdout:
        said += line
        if line.startswith("02_layer_curves: 0 of"):
            break
    else:
        raise AssertionError(said)
    begun = time.monotonic()
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: the kernel hears it too
    rest, _ = running.communicate(timeout=60)
    assert time.monotonic() - begun < 20
    assert running.returncode == 128 + signal.SIGINT, said + rest
    assert "Traceback" not in rest
    assert not list(folder.glob("reports/*/notebooks/.*"))
    deadline = time.monotonic() + 20
    while (alive := in_session(running.pid)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert alive == []
    return rest


def in_session(session: int) -> list[int]:
    """The processes of a session."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, ProcessLookupError):
            continue
    return found


# ---- JupyterLab --------------------------------------------------------------------------------------------------------


@pytest.fixture
def lab(installed: Installed, empty: Path) -> Iterator[str]:
    """`fmiqa lab` in an empty folder; yields its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root", "--ServerApp.port_retries=0"]
    log = (empty.parent / "lab.log").open("w")
    server = subprocess.Popen(
        [installed.bin / "fmiqa", "lab", *words, "--IdentityProvider.token=t"],
        cwd=empty,
        env=installed.environment(),
        stdout=log,
        stderr=log,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(180):
            try:
                asked(f"{address}/api")
                break
            except OSError:
                assert server.poll() is None, (empty.parent / "lab.log").read_text()
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def asked(address: str, post: dict[str, str] | None = None) -> dict:
    """What the server answers."""
    data = json.dumps(post).encode() if post is not None else None
    request = urllib.request.Request(address, data=data, headers={"Authorization": "token t"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return dict(json.loads(answer.read()))


@pytest.mark.slow
def test_lab_opens_copies_whose_kernels_find_what_the_command_wrote(
    installed: Installed, empty: Path, lab: str
) -> None:
    originals = {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (ROOT / "notebooks").glob("*.ipynb")
    }
    copies = {
        p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (empty / "notebooks").glob("*.ipynb")
    }
    assert copies == originals
    listed = {entry["name"] for entry in asked(f"{lab}/api/contents")["content"]}
    assert set(originals) <= listed
    page = urllib.request.urlopen(
        urllib.request.Request(f"{lab}/lab", headers={"Authorization": "token t"}), timeout=30
    )
    assert "JupyterLab" in page.read().decode()
    kernel = asked(f"{lab}/api/kernels", {"name": "python3", "path": "00_start_here.ipynb"})["id"]
    client = BlockingKernelClient()
    client.load_connection_file(str(next(installed.home.rglob(f"kernel-{kernel}.json"))))
    client.start_channels()
    client.wait_for_ready(timeout=60)
    said: list[str] = []
    code = "import sys\nfrom fmiqa_utils import paths\nprint(sys.prefix)\nprint(paths.scores_root())\nprint(paths.figures_root())"
    client.execute_interactive(
        code, timeout=60, output_hook=lambda m: said.append(m["content"].get("text", ""))
    )
    client.stop_channels()
    prefix, scores, figures = "".join(said).split("\n")[:3]
    assert Path(prefix).resolve() == installed.bin.parent.resolve()
    assert Path(scores) == empty / "data" / "scores"
    assert Path(figures) == empty / "figures"


@pytest.mark.slow
def test_lab_passes_its_options_on_and_keeps_what_lies_there(installed: Installed, empty: Path) -> None:
    mine = hostile_notebook(empty / "notebooks" / "03_distances.ipynb", empty / "marker")
    said = installed.run(empty, "lab", "--version")
    assert any(re.fullmatch(r"4\.\d+\.\d+", line) for line in said.splitlines())
    assert (empty / "notebooks" / "03_distances.ipynb").read_bytes() == mine
    assert len(list((empty / "notebooks").glob("*.ipynb"))) == len(list((ROOT / "notebooks").glob("*.ipynb")))
