"""What every test stands on: folders of its own, no hub, a tiny backbone, a browser; and which tests share a process."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

# Before anything reads them: the hub is not asked, and what a user has downloaded is not seen.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = str(Path(tempfile.gettempdir()) / "fmiqa-tests-no-hub")

from shared_run import IMAGES, SCORES, make_run

from fmiqa_utils.backbones.load import Backbone, load_backbone
from fmiqa_utils.extraction.scorer import Scorer, Settings
from fmiqa_utils.paths import project_root

# A shell without job control starts what runs in the background deaf to Ctrl-C, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

TINY = "timm:vit_tiny_patch16_224"
FOLDERS = ("data", "scores", "figures", "reports")
NOWHERE = str(
    Path(tempfile.gettempdir()) / "fmiqa-tests-nowhere"
)  # a test that has no folder of its own fails


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files first, so that no process of pytest-xdist ends with one alone; `--dist loadfile` keeps a file's tests together."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the shared run's images and scores (`shared_run`): made by the first process that asks, only read after that.

    Its name has spaces and a letter that is not ASCII.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "Bilder für alle"
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "made").exists():
            (folder / IMAGES).mkdir(parents=True)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("FMIQA_SCORES", str(folder / SCORES))
                make_run(folder / IMAGES)
            (folder / "made").touch()
    return folder


@pytest.fixture(scope="session", autouse=True)
def _checkout_stays_as_it_is() -> Iterator[None]:
    """No test writes under data/, figures/ or reports/ of the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        for name in FOLDERS:
            patch.setenv(f"FMIQA_{name.upper()}", NOWHERE)
        before = _written()
        yield
        assert _written() == before, "a test wrote under data/, figures/ or reports/ of the checkout"


def _written() -> dict[str, int]:
    """When the folders in which tests could write were last changed, to a depth of three."""
    found = [p for top in ("data", "figures", "reports") for p in [project_root() / top]]
    for _ in range(3):
        found += [p for folder in found if folder.is_dir() for p in folder.iterdir() if p.is_dir()]
    return {str(p): p.stat().st_mtime_ns for p in found if p.is_dir()}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path) -> Iterator[Path]:
    """The folder that holds this test's own data, scores, figures and reports; FMIQA_DATA and its kin say so.

    What a fixture of the file has set stays.
    """
    own = tmp_path.with_name(f"{tmp_path.name}-fmiqa")
    with pytest.MonkeyPatch.context() as patch:  # its own: a test may undo what it has patched
        for name in FOLDERS:
            if os.environ.get(f"FMIQA_{name.upper()}") == NOWHERE:
                patch.setenv(f"FMIQA_{name.upper()}", str(own / name))
        yield own


@pytest.fixture
def data(folders: Path) -> Path:
    """An empty data folder, where a test builds its datasets and where they are searched for."""
    (folders / "data").mkdir(parents=True)
    return folders / "data"


@pytest.fixture(scope="module")
def file_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Like `folders`, for all tests of a file together."""
    own = tmp_path_factory.mktemp("file")
    with pytest.MonkeyPatch.context() as patch:
        for name in FOLDERS:
            patch.setenv(f"FMIQA_{name.upper()}", str(own / name))
        yield own


@pytest.fixture(scope="session")
def tiny() -> Backbone:
    """The smallest ViT, with stand-in weights. A test that changes a model builds its own."""
    return load_backbone(TINY, "untrained")


@pytest.fixture(scope="module")
def scorer(tiny: Backbone) -> Iterator[Scorer]:
    """`tiny` with l2 and cosine. One thread, as workers have: how a sum is split over threads may change its last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Scorer(tiny, Settings(("l2", "cos")))
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium. Tests that use it have the marker `browser`."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as p:
        found = p.chromium.launch(executable_path=chromium, args=flags)
        yield found
        found.close()
