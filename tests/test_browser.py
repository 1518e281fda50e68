"""What a person sees in a browser: JupyterLab with the Explorer, and the report page. Screenshots go to test-artifacts/."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from pictures import pairs_of, write_pairs

from fmiqa_utils.extraction.extract import extract_run
from fmiqa_utils.extraction.scorer import Settings
from fmiqa_utils.paths import project_root
from fmiqa_utils.report.page import write_index, write_page
from fmiqa_utils.scores.runs import load_run

pytestmark = pytest.mark.browser
ARTIFACTS = project_root() / "test-artifacts"
TINY = "timm:vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def run(file_folders: Path) -> Path:
    """A saved run "seen" of two references with three distorted images each."""
    ARTIFACTS.mkdir(exist_ok=True)
    pairs = pairs_of(write_pairs(file_folders / "images", 2, (20, 40, 60), (224, 224), side=28))
    extract_run("seen", pairs, [(TINY, "untrained")], settings=Settings(("l2", "cos")), device="cpu")
    return file_folders


def executed(folder: Path) -> Path:
    """A small executed notebook with a figure and a table that is out of order."""
    from matplotlib.figure import Figure

    from fmiqa_utils import figures

    figure = Figure(figsize=(6.4, 2))
    figure.subplots().plot([1, 2, 3])
    data = figures.table(
        pd.DataFrame({"name": ["b", "a", "c"], "srcc": [0.5, -0.25, 0.75], "n": ["10", "9", "1,200"]})
    )._repr_html_()
    import base64
    import io

    png = io.BytesIO()
    figure.savefig(png)
    image = f'<figure><img width="700" alt="A line." src="data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"></figure>'
    cell = nbformat.v4.new_code_cell("")
    cell.outputs = [
        nbformat.v4.new_output("display_data", {"text/html": h, "text/plain": ""}) for h in (image, data)
    ]
    path = folder / "04_small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A chapter"), cell]), path)
    return path


@pytest.mark.usefixtures("run")
def test_the_report_page(browser, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    page_file = tmp_path / "index.html"
    write_page(page_file, load_run("seen"), [executed(tmp_path)])
    page = browser.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    requests: list[str] = []
    page.on("request", lambda r: requests.append(r.url))
    page.goto(page_file.as_uri())
    assert [u for u in requests if not u.startswith(("file:", "data:"))] == []
    images = page.evaluate("[...document.images].map(i => [i.complete && i.naturalWidth > 0, i.alt])")
    assert images == [[True, "A line."]]
    assert "UNTRAINED" in page.inner_text("[role=alert]")
    table = page.locator("section table").first

    def column(i: int) -> list[str]:
        cells = "t => [...t.tBodies[0].rows].map(r => [...r.cells].map(c => c.textContent))"
        return [row[i] for row in table.evaluate(cells)]

    assert column(0) == ["b", "a", "c"]
    table.locator("th button").nth(1).click()
    assert column(1) == ["-0.25", "0.50", "0.75"]
    table.locator("th button").nth(2).click()
    assert column(2) == ["9", "10", "1,200"]  # as numbers, not as words
    table.locator("th button").nth(2).click()
    assert column(2) == ["1,200", "10", "9"]
    with page.expect_download() as download:
        page.get_by_role("button", name="download as CSV").first.click()
    saved = pd.read_csv(download.value.path())
    assert saved["name"].tolist() == ["c", "b", "a"]
    assert saved["srcc"].tolist() == [0.75, 0.5, -0.25]
    page.screenshot(path=ARTIFACTS / "report_wide.png")
    for name, options in (("narrow", {"width": 390, "height": 800}),):
        page.set_viewport_size(options)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.screenshot(path=ARTIFACTS / f"report_{name}.png")
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(int(v) for v in dark[4:-1].split(",")[:3]) < 200
    page.screenshot(path=ARTIFACTS / "report_dark.png")
    page.close()


FORMULAS = {
    "=1+1": "'=1+1",
    "+1+cmd|' /C calc'!A0": "'+1+cmd|' /C calc'!A0",
    "-2-cmd": "'-2-cmd",
    "@SUM(A1)": "'@SUM(A1)",
    "-0.25": "-0.25",
    "+1e-3": "+1e-3",
    "-1,200": "-1,200",
    'a "b", c': 'a "b", c',
    "<script>hacked=1</script>": "<script>hacked=1</script>",
    "<img src=x onerror=hacked=1>": "<img src=x onerror=hacked=1>",
}


@pytest.mark.usefixtures("run")
def test_a_table_of_hostile_names(browser, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Nothing in a name runs, neither in the browser nor in the spreadsheet that opens the download."""
    from fmiqa_utils import figures

    cell = nbformat.v4.new_code_cell("")
    shown = figures.table(pd.DataFrame({"name": list(FORMULAS), "value": "x"})).data
    cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": shown, "text/plain": ""})]
    path = tmp_path / "04_small.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A chapter"), cell]), path)
    write_page(tmp_path / "index.html", load_run("seen"), [path])
    text = (tmp_path / "index.html").read_text()
    (tmp_path / "index.html").write_text(text.replace("</main>", "<script>window.hacked=1</script></main>"))
    page = browser.new_page(accept_downloads=True)
    page.goto((tmp_path / "index.html").as_uri())
    with page.expect_download() as download:
        page.get_by_role("button", name="download as CSV").first.click()
    saved = pd.read_csv(download.value.path(), dtype=str)
    assert saved["name"].tolist() == list(FORMULAS.values())
    assert page.evaluate("window.hacked") is None  # a script beside the page's own is refused by its policy
    page.close()


@pytest.mark.usefixtures("run")
def test_the_index_of_several_runs(browser, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "seen").mkdir()
    write_page(tmp_path / "seen" / "index.html", load_run("seen"), [executed(tmp_path)])
    index = tmp_path / "index.html"
    assert write_index(index, ["seen"], n_resamples=50) == []
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(index.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    rows = page.evaluate(
        "[...document.querySelectorAll('table.leaderboard tbody tr')].map(r => r.cells[1].textContent)"
    )
    assert "vit_tiny_patch16_224" in rows
    page.click("a[href='seen/index.html']")
    assert "run seen" in page.inner_text(".kicker").lower()
    page.close()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


COUNTING = """import time
from fmiqa_utils.progress import progress_bar
with progress_bar("pairs") as update:
    update("demo", 0, 0)
    time.sleep(2)
    update("demo", 20, 100)
    time.sleep(2)
    update("demo", 60, 100)
    time.sleep(4)  # nothing is heard, the time goes on
    update("demo", 100, 100)"""


@pytest.fixture
def lab(run: Path, tmp_path: Path) -> Iterator[str]:
    """JupyterLab on a copy of notebook 00 and on one that counts; yields the address of a notebook without its name."""
    assert (run / "scores" / "runs" / "seen.json").is_file()
    port = free_port()
    notebook = nbformat.read(project_root() / "notebooks" / "00_start_here.ipynb", 4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = cell.source.replace('run: str = "demo"', 'run: str = "seen"')
    nbformat.write(notebook, tmp_path / "00_start_here.ipynb")
    counting = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(COUNTING)], metadata=notebook.metadata
    )
    nbformat.write(counting, tmp_path / "counting.ipynb")
    settings = tmp_path / "config" / "labconfig"
    settings.mkdir(parents=True)
    disabled = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (settings / "page_config.json").write_text(json.dumps(disabled))
    command = [
        sys.executable,
        "-m",
        "jupyter",
        "lab",
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--allow-root",
    ]
    command += [
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=t",
        "--LabApp.expose_app_in_browser=True",
    ]
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "HOME": str(tmp_path),
    }
    log = (tmp_path / "lab.log").open("w")
    server = subprocess.Popen(
        [*command, f"--notebook-dir={tmp_path}"], env=environment, stderr=log, stdout=log
    )
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=t", timeout=2).read()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/lab/tree/NAME?reset&token=t"
    finally:
        server.terminate()
        server.wait(20)


READY = """() => {
  const widget = window.jupyterapp?.shell?.currentWidget, context = widget?.context?.sessionContext;
  return context?.isReady && context.session?.kernel?.connectionStatus === "connected"
      && context.session.kernel.status === "idle";
}"""


def run_all(page, address: str) -> None:  # type: ignore[no-untyped-def]
    """Open a notebook in JupyterLab and run its cells."""
    page.goto(address)
    page.wait_for_function(READY, timeout=120_000)
    page.click("text=Run >> nth=0")
    page.click("text=Run All Cells")


@pytest.mark.slow
def test_jupyterlab_runs_the_explorer(browser, lab: str) -> None:  # type: ignore[no-untyped-def]
    page = browser.new_page(viewport={"width": 1400, "height": 1500})
    run_all(page, lab.replace("NAME", "00_start_here.ipynb"))
    picture = page.locator("img.widget-image")
    picture.wait_for(timeout=120_000)
    page.wait_for_function(READY, timeout=60_000)
    assert page.evaluate("document.querySelector('img.widget-image').naturalWidth") > 400
    before = picture.get_attribute("src")
    chooser = page.locator(".widget-dropdown select")
    levels = [s for s in chooser.all() if s.locator("option").all_inner_texts() == ["1", "2", "3"]]
    levels[0].select_option("3")
    page.wait_for_function(
        "b => document.querySelector('img.widget-image').src !== b", arg=before, timeout=30_000
    )
    assert page.locator(".jp-OutputArea-output:has-text('Traceback')").count() == 0
    page.screenshot(path=ARTIFACTS / "lab_explorer.png")
    page.close()


@pytest.mark.slow
def test_jupyterlab_shows_progress_that_ticks(browser, lab: str) -> None:  # type: ignore[no-untyped-def]
    page = browser.new_page(viewport={"width": 1200, "height": 700})
    run_all(page, lab.replace("NAME", "counting.ipynb"))
    bar = page.locator(".jp-OutputArea-output progress")
    bar.wait_for(timeout=60_000)
    seen: list[tuple[float, str]] = []
    begun = time.monotonic()
    while (not seen or "100 of 100" not in seen[-1][1]) and time.monotonic() - begun < 60:
        text = page.locator(".jp-OutputArea-output").first.inner_text()
        if not seen or text != seen[-1][1]:
            seen.append((time.monotonic(), text))
        if "60 of 100" in text:
            page.screenshot(path=ARTIFACTS / "lab_progress.png")
        time.sleep(0.1)
    words = " | ".join(text for _, text in seen)
    for part in ("starting", "20 of 100 pairs", "60 of 100 pairs", "left", "100 of 100 pairs"):
        assert part in words
    pauses = [after - before for (before, _), (after, _) in pairwise(seen)]
    assert max(pauses) < 2.5  # once a second, on a machine that may be busy
    assert bar.count() == 1
    page.close()
