"""The report page: executed notebooks become chapters of one HTML file that asks nothing of the network."""

import datetime
import html
import re
from collections.abc import Sequence
from pathlib import Path

import nbformat

from fmiqa_utils.report import findings
from fmiqa_utils.runs import Run, short_name
from fmiqa_utils.scores import write_atomically

TEMPLATES = Path(__file__).parent / "templates"


def write_page(path: Path, run: Run, executed: Sequence[Path]) -> str:
    """Write the page of `run` from its executed notebooks to `path`, atomically; returns the headline, the last finding."""
    from jinja2 import Environment

    chapters = [chapter(p) for p in executed]
    found = [
        {"text": text, "html": inline(text), "anchor": c["anchor"], "title": c["title"]}
        for c, p in zip(chapters, executed, strict=True)
        for text in findings(p)
    ]
    m = run.manifests[0]
    environment = Environment(autoescape=True)
    page = environment.from_string((TEMPLATES / "page.html.j2").read_text()).render(
        title=f"What foundation models see in {run.dataset}",
        run=run.name,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        warning=run.warning,
        failures=sum(x["failures"] for x in run.manifests),
        pairs=len(run.pairs),
        facts=facts(run),
        findings=found,
        chapters=chapters,
        versions=list((m["versions"] | m["hardware"]).items()),
        css=_raw("page.css"),
        js=_raw("page.js"),
    )
    write_atomically(path, page.encode())
    return str(found[-1]["text"]) if found else "no finding"


def facts(run: Run) -> list[tuple[str, str]]:
    """Name and value of the summary's cards."""
    ms = run.manifests
    return [
        ("dataset", run.dataset),
        ("pairs", f"{len(run.pairs):,} of {run.pairs['ref'].nunique()} references"),
        ("failed pairs", str(sum(m["failures"] for m in ms))),
        ("backbones", ", ".join(short_name(m["backbone"]) for m in ms)),
        ("weights", ", ".join(dict.fromkeys(m["weights"] for m in ms))),
        ("normalize · precision", f"{ms[0]['normalize']} · {ms[0]['precision']}"),
        ("labels", f"{ms[0]['label_kind']}, {ms[0]['label_source'] or 'the dataset'}"),
    ]


def chapter(executed: Path) -> dict[str, str]:
    """An executed notebook as {title, anchor, html}."""
    from nbconvert import HTMLExporter

    notebook = nbformat.read(executed, as_version=4)
    exporter = HTMLExporter(template_name="fmiqa", extra_template_basedirs=[str(TEMPLATES)])
    notebook.cells = [c for c in notebook.cells if "setup" not in c.metadata.get("tags", [])]
    body, _ = exporter.from_notebook_node(notebook)
    heading = next((c.source for c in notebook.cells if c.source.startswith("# ")), executed.stem)
    title = heading.splitlines()[0].removeprefix("# ")
    return {"title": title, "anchor": f"n{executed.stem}", "html": _without_scripts(body)}


def inline(markdown: str) -> str:
    """A finding's Markdown as HTML: everything is escaped, **bold** kept."""
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(markdown))


def _without_scripts(body: str) -> str:
    """Our notebooks need none; what slipped in through an output goes."""
    return re.sub(r"<script\b.*?(</script>|$)", "", body, flags=re.DOTALL | re.IGNORECASE)


def _raw(name: str):  # type: ignore[no-untyped-def]
    from markupsafe import Markup

    return Markup((TEMPLATES / name).read_text())
