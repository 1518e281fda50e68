"""The page and the index: what a name, a table or a template of others may bring in."""

import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from planted import planted, quality, usual

from fmiqa_utils.figures.output import table
from fmiqa_utils.report import page as pages
from fmiqa_utils.report.page import chapter, write_index, write_page
from fmiqa_utils.report.page_templates import own_share
from fmiqa_utils.scores.runs import Run

HOSTILE = [
    "<script>hacked=1</script>",
    "</script><script>hacked=1</script>",
    "</style><script>hacked=1</script>",
    "</title><img src=x onerror=hacked=1>",
    '"><img src=x onerror=hacked=1>',
    "' onmouseover='hacked=1",
    '" autofocus onfocus="hacked=1',
    "javascript:hacked=1",
    "<a href='javascript:hacked=1'>x</a>",
    "<iframe srcdoc='<script>parent.hacked=1</script>'>",
    "<svg onload=hacked=1>",
    "<!-- --><base href='https://example.org/'>",
    "<meta http-equiv=refresh content='0;url=https://example.org'>",
    "{{ 7 * 7 }}{% raw %}",
    "**<b onclick=hacked=1>bold</b>**",
    "[x](javascript:hacked=1) ![y](https://example.org/y.png)",
    "&lt;script&gt;",
    "\x00\x1b[31m\u202e",
    "a/../../b",
    "%3Cscript%3E",
]


class Seen(HTMLParser):
    """Every tag with its attributes, and the text outside of styles and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if not self.tags or self.tags[-1][0] not in ("style", "script"):
            self.text += data


def kinds(seen: Seen) -> Counter[tuple[str, ...]]:
    """How often each tag stands there with which attributes; bold and coloured words aside."""
    return Counter((tag, *sorted(a)) for tag, a in seen.tags if tag not in ("strong", "span"))


def check(text: str, clean: str) -> Seen:
    """`text` has the tags of `clean`, a page of harmless names, and no attribute that runs or fetches anything."""
    seen, other = Seen(text), Seen(clean)
    assert kinds(seen) == kinds(other)
    for _, attributes in seen.tags:
        for name in ("href", "src"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:image/png;base64,")) or value == "mine/index.html"
    policy = [a["content"] for t, a in seen.tags if t == "meta" and a.get("http-equiv")]
    assert policy == [a["content"] for t, a in other.tags if t == "meta" and a.get("http-equiv")]
    assert "unsafe-inline" not in str(policy[0]).partition("script-src")[2]
    return seen


def a_run(name: str) -> Run:
    """A planted run in which everything that a user may name is called `name`."""
    labels = quality(4, 5)
    run = planted(usual(labels, 0.2, 1.0, 0.5, 0.5), labels=labels, refs=4, failures={"p001": name})
    facts = {
        "dataset": f"csv:{name}",
        "weights": name,
        "weights_sha256": "ab" * 32,
        "labels_sha256": "cd" * 32,
        "label_source": name,
        "label_kind": "mos",
        "versions": {"fmiqa": name, name: name},
        "hardware": {"device": name},
    }
    manifests = [m | facts for m in run.manifests]
    scores = run.scores.assign(
        weights=run.scores["weights"].where(run.scores["backbone"] == "baseline", name), dataset=f"csv:{name}"
    )
    pairs = run.pairs.assign(dataset=f"csv:{name}", distortion=name, label_source=name, dist=name)
    return Run("mine", scores, pairs, run.failures, manifests)


def executed(folder: Path, name: str, run: Run) -> Path:
    """A chapter as a notebook leaves it: parameters, prints, tables, captions and findings with `name` in them."""
    from IPython.display import HTML

    frame = pd.DataFrame({name: [name, "b"], "file": [f"{name}.png", "c"]})
    shown: Any = table(frame)
    assert isinstance(shown, HTML)
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text=f"{name}\n"),
        nbformat.v4.new_output("display_data", {"text/html": shown.data, "text/plain": ""}),
        nbformat.v4.new_output("display_data", {"text/markdown": f"**{name}** {name}", "text/plain": ""}),
        nbformat.v4.new_output("display_data", {"text/plain": name}),
        nbformat.v4.new_output("display_data", {"text/html": figure_of(name), "text/plain": ""}),
    ]
    cell = nbformat.v4.new_code_cell(f"name = {name!r}", metadata={"tags": ["finding"]}, outputs=outputs)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A chapter"), cell])
    path = folder / "04_small.ipynb"
    nbformat.write(notebook, path)
    return path


def figure_of(name: str) -> str:
    """What `figures.show` hands to the notebook for a caption with `name` in it."""
    import matplotlib.pyplot as plt

    from fmiqa_utils.figures import output

    got: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "display", got.append)
        patch.setattr(output, "save_figure", lambda *_: Path(__file__))
        output.show(plt.figure(), "mine", "x", f"**{name}.** {name}")
    return str(got[0].data)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_gets_out_of_its_place_on_the_page(name: str, tmp_path: Path) -> None:
    texts = []
    for word in (name, "plain"):
        file = tmp_path / f"{word == name}.html"
        run = a_run(word)
        write_page(file, run, [executed(tmp_path, word, run)], command=f"fmiqa report --dataset {word}")
        texts.append(file.read_text())
    seen = check(*texts)
    if name.isprintable():
        assert name.replace("**", "") in seen.text


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_gets_out_of_its_place_on_the_index(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(run: str) -> Run:
        if run == "torn":
            raise ValueError(word)
        return a_run(word)

    monkeypatch.setattr("fmiqa_utils.statistics.leaderboard.load_run", load)
    texts = []
    for word in (name, "plain"):
        file = tmp_path / f"{word == name}.html"
        assert len(write_index(file, ["mine", "torn"], n_resamples=10)) == 1
        texts.append(file.read_text())
    check(*texts)


@pytest.mark.parametrize("name", ["live#1", "a+b=c@d", "Prüfung", "x.y"])
def test_the_index_links_to_the_reports_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from urllib.parse import unquote, urlsplit

    run = a_run("plain")
    monkeypatch.setattr(
        "fmiqa_utils.statistics.leaderboard.load_run",
        lambda _: Run(name, run.scores, run.pairs, run.failures, run.manifests),
    )
    write_index(tmp_path / "index.html", [name], n_resamples=10)
    links = [a["href"] for t, a in Seen((tmp_path / "index.html").read_text()).tags if t == "a"]
    (link,) = [str(x) for x in links if not str(x).startswith("#")]
    assert urlsplit(link).scheme == urlsplit(link).netloc == urlsplit(link).fragment == ""
    assert unquote(urlsplit(link).path) == f"{name}/index.html"


def test_an_index_without_a_readable_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMIQA_SCORES", str(tmp_path))
    left_out = write_index(tmp_path / "index.html", ["gone"])
    assert left_out[0].startswith("The run gone is left out: there is no run called 'gone'")
    assert left_out[0][:24] in (tmp_path / "index.html").read_text()


def test_the_pages_script_is_the_one_that_their_policy_names() -> None:
    assert "unsafe-inline" not in pages.script_hash()
    for name in ("page.html.j2", "index.html.j2"):
        text = (pages.TEMPLATES / name).read_text()
        assert "script-src '{{ js_hash }}'" in text
        assert text.count("<script>{{ js }}</script>") == text.count("<script") == 1
        assert not any(f" on{event}=" in text for event in ("click", "load", "error"))


def test_templates_of_others_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = executed(tmp_path, "plain", a_run("plain"))
    expected = chapter(mine)["html"]
    hostile = "<script>hacked=1</script>HOSTILE"
    here = tmp_path / "here"
    for place in (tmp_path / "share", here, here / "share" / "jupyter", tmp_path / "data"):
        for name in ("basic", "fmiqa", "base", "lab", "."):
            for root in (place / "nbconvert" / "templates", place / "templates", place):
                (root / name).mkdir(parents=True, exist_ok=True)
                for file in ("index.html.j2", "base.html.j2", "null.j2"):
                    (root / name / file).write_text(hostile)
                (root / name / "conf.json").write_text(
                    json.dumps(
                        {"base_template": None, "preprocessors": {"0": {"type": "hostile.Preprocessor"}}}
                    )
                )
    config = tmp_path / "config"
    config.mkdir()
    (config / "jupyter_nbconvert_config.py").write_text("raise SystemExit")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(config))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    monkeypatch.chdir(here)
    assert chapter(mine)["html"] == expected
    assert "HOSTILE" not in expected
    assert str(own_share()) not in (str(tmp_path / "share"), str(here))
