"""The report page: executed notebooks become chapters of one HTML file that loads nothing from the network."""

import base64
import datetime
import hashlib
import html
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import nbformat
import pandas as pd

from fmiqa_utils.console import BOLD
from fmiqa_utils.extraction.provenance import commit
from fmiqa_utils.files.storage import write_atomically
from fmiqa_utils.report.findings import what_is_real
from fmiqa_utils.report.notebooks import findings
from fmiqa_utils.scores.run_names import plain
from fmiqa_utils.scores.runs import Run, short_name
from fmiqa_utils.statistics.leaderboard import CAPTION, joined, read_each, rows_of, side_by_side

TEMPLATES = Path(__file__).parent / "templates"
HEADLINE = "n04"  # the chapter whose finding is the headline
TAGS = {
    "div",
    "figure",
    "figcaption",
    "img",
    "p",
    "strong",
    "em",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "br",
}
ATTRIBUTES = {"img": ["src", "alt", "width"], "table": ["class"], "th": ["scope"], "td": ["colspan"]}


def write_page(path: Path, run: Run, executed: Sequence[Path], *, command: str = "") -> str:
    """Write the page of `run` from its executed notebooks to `path`, atomically; returns the headline.

    `command`: what the user typed, for the page's provenance.
    """
    from jinja2 import Environment

    chapters = [chapter(p) for p in executed]
    all_findings = [
        {"text": text, "html": inline(text), "anchor": c["anchor"], "title": c["title"]}
        for c, p in zip(chapters, executed, strict=True)
        for text in findings(p)
    ]
    leads = [f for f in all_findings if f["anchor"].startswith(HEADLINE)]
    environment = Environment(autoescape=True)
    page = environment.from_string((TEMPLATES / "page.html.j2").read_text(encoding="utf-8")).render(
        title=f"What foundation models see in {run.dataset}",
        run=run.name,
        date=_now(),
        warning=run.warning,
        real=[inline(paragraph) for paragraph in what_is_real(run).split("\n\n") if paragraph],
        failures=failed_pairs(run),
        pairs=len(run.pairs),
        facts=facts(run),
        lead=leads[0] if leads else None,
        findings=[f for f in all_findings if f not in leads],
        chapters=chapters,
        provenance=provenance(run, command),
        css=_raw("page.css"),
        js=_raw("page.js"),
        js_hash=script_hash(),
    )
    write_atomically(path, page.encode())
    return str(leads[0]["text"]) if leads else "no finding"


def write_index(path: Path, names: Sequence[str], *, n_resamples: int = 1000) -> list[str]:
    """One page over several runs, atomically: a line with a link for each, and their leaderboard.

    Runs that cannot be read are left out; returns a sentence for each, which the page shows too.
    """
    from jinja2 import Environment

    entries, left_out = read_each(
        names, lambda run: (_index_line(run), run.warning, rows_of(run, n_resamples=n_resamples))
    )
    board = side_by_side(joined([rows for _, _, rows in entries]), bold=BOLD) if entries else pd.DataFrame()
    page = (
        Environment(autoescape=True)
        .from_string((TEMPLATES / "index.html.j2").read_text(encoding="utf-8"))
        .render(
            date=_now(),
            runs=[line for line, _, _ in entries],
            left_out=left_out,
            warning=next((warning for _, warning, _ in entries if warning), ""),
            caption=CAPTION.replace("is in the CSV file", "is in the file of `fmiqa compare`"),
            columns=list(board.columns),
            board=[[_cell(str(cell)) for cell in row] for row in board.to_numpy().tolist()],
            css=_raw("page.css"),
            js=_raw("page.js"),
            js_hash=script_hash(),
        )
    )
    write_atomically(path, page.encode())
    return left_out


def _cell(text: str) -> str:
    """A cell of the leaderboard as HTML: everything is escaped, text marked with `BOLD` is strong."""
    first, last = BOLD.split("{}")
    return html.escape(text).replace(first, "<strong>").replace(last, "</strong>")


def _index_line(run: Run) -> dict[str, str]:
    return dict(facts(run)) | {
        "name": run.name,
        "href": f"{quote(plain(run.name))}/index.html",
        "failures": str(failed_pairs(run)),
    }


def failed_pairs(run: Run) -> int:
    """Pairs that at least one backbone could not score under at least one transform."""
    return int(run.failures["pair_id"].nunique())


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def facts(run: Run) -> list[tuple[str, str]]:
    """Name and value of each card in the summary."""
    ms = run.manifests
    return [
        ("dataset", run.dataset),
        ("pairs", f"{len(run.pairs):,} of {run.pairs['ref'].nunique()} references"),
        ("failed pairs", str(failed_pairs(run))),
        ("backbones", ", ".join(short_name(m["backbone"]) for m in ms)),
        ("weights", ", ".join(dict.fromkeys(m["weights"] for m in ms))),
        ("normalize · precision", f"{ms[0]['normalize']} · {ms[0]['precision']}"),
        ("labels", f"{ms[0]['label_kind']}, {ms[0]['label_source'] or 'the dataset'}"),
    ]


def provenance(run: Run, command: str = "") -> list[tuple[str, str]]:
    """Where the numbers of `run` come from: command, code, labels, weights of every backbone, versions, machine."""
    first = run.manifests[0]
    code = " ".join(filter(None, (str(first["versions"].get("fmiqa", "")), commit())))
    labels = f"{first['label_source'] or run.dataset}, sha256 of the table {first['labels_sha256'][:16]}"
    rows = [("command", command)] if command else []
    rows += [("fmiqa", code), ("labels", labels)]
    rows += [
        (
            short_name(m["backbone"]),
            f"weights {m['weights']}, sha256 {m['weights_sha256'][:16]}; normalize {m['normalize']}, {m['precision']}",
        )
        for m in run.manifests
    ]
    facts = {**first["versions"], **first["hardware"]}
    return rows + [(name, str(value)) for name, value in facts.items() if name != "fmiqa"]


def chapter(executed: Path) -> dict[str, str]:
    """An executed notebook as {title, anchor, html}."""
    from fmiqa_utils.report.page_templates import exporter_of

    notebook = nbformat.read(executed, as_version=4)
    exporter = exporter_of(TEMPLATES)
    exporter.register_filter("inline", inline)
    exporter.register_filter("allowed", allowed)
    notebook.cells = [c for c in notebook.cells if "setup" not in c.metadata.get("tags", [])]
    body, _ = exporter.from_notebook_node(notebook)
    heading = next((c.source for c in notebook.cells if c.source.startswith("# ")), executed.stem)
    title = heading.splitlines()[0].removeprefix("# ")
    anchor = f"n{executed.stem}"
    body = re.sub(r'<a class="anchor-link".*?</a>', "", body, flags=re.DOTALL)
    body = re.sub(
        r'<h(\d) id="([^"]+)"', rf'<h\1 id="{anchor}-\2"', body
    )  # several chapters have the heading "The numbers"
    return {"title": title, "anchor": anchor, "html": body}


def inline(markdown: str) -> str:
    """A finding's Markdown as HTML: everything is escaped, **bold** and `code` kept."""
    bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(markdown))
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", bold)


def allowed(output: str) -> str:
    """An output's HTML with only tables, figures and text: anything else, for example from a file name or a CSV, is removed."""
    import bleach

    body = re.sub(r"<style\b.*?</style>", "", output, flags=re.DOTALL)
    return str(bleach.clean(body, TAGS, ATTRIBUTES, protocols=["data"], strip=True))


def script_hash() -> str:
    """The hash of the page's script, the only one that its content policy allows to run."""
    digest = hashlib.sha256(_raw("page.js").encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _raw(name: str):  # type: ignore[no-untyped-def]
    from markupsafe import Markup

    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))
