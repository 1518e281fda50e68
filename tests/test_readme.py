"""Every command of README.md and data/README.md, read from the files, is run on small trees or accounted for."""

import ast
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from safetensors.torch import save_file
from trees import (
    PER_REF,
    REFS,
    SHRINK,
    images,
    own_table,
    tree_of_demo,
    tree_of_live,
    tree_of_pipal,
    tree_of_tid2013,
)
from typer.main import get_command
from typer.testing import CliRunner

from fmiqa_utils.cli.main import app
from fmiqa_utils.datasets import layouts as dataset_readers
from fmiqa_utils.datasets import registry as dataset_registry
from fmiqa_utils.scores.runs import load_run

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "data/README.md", "docs/methods.md", "figures/README.md")
PAIRS = REFS * PER_REF

# ---- the rule by which a command of the page becomes one that runs here ------------------------------------------------
# Named backbones need downloads: each becomes a tiny model of timm, with `--weights untrained` unless the command names a file.
TINY = {
    "dino_vitb16": "timm:test_vit",
    "dino_vits16": "timm:test_vit2",
    "dinov2_vitb14": "timm:test_vit3",
    "clip_vitb32": "timm:test_resnet",
    "timm:vit_small_patch16_224.dino": "timm:test_vit4",
}
MODEL_VERBS = ("extract", "report", "score", "sweep", "bench")
# LoDa's parts become small ones, one epoch, few crops; all ten splits become two.
LODA = ["--cnn", "resnet10t", "--weights", "untrained", "--epochs", "1", "--batch", "8", "--crops", "1"]
LODA += ["--test-crops", "1", "--device", "cpu", "--workers", "0"]
MORE = {
    "report": ["--set", "n_resamples=20", "--distance", "l2,cos"],
    "bench": ["--windows", "2"],
    "compare": ["--resamples", "20"],
    "loda train": [*LODA, "--vit", "vit_tiny_patch16_224"],
    "loda ablate": [*LODA, "--vits", "vit_tiny_patch16_224"],
    "loda evaluate": ["--test-crops", "1", "--device", "cpu"],
    "loda predict": ["--crops", "1", "--device", "cpu"],
}
LESS = {
    "--splits": "0,1",
    "--baselines": "ms_ssim,fsim",
}  # in place of all: LPIPS and DISTS have weights to download
# A sweep writes no reports here; one on a cluster is planned, not run: the engines have tests of their own (test_engines.py).
# Programs that are not run, and why. Their options that are ours are tried where a fmiqa command stands in them.
NOT_RUN = {
    "make": "installs the environment; the verbs behind it are run here, and its recipe is checked by make -n",
    "conda": "installs the environment",
    "pip": "installs packages",
    "srun": "needs Slurm",
    "ray": "needs a cluster",
    "sleep": "waits",
    "cat": "writes a file, whose text is read here",
    "export": "sets a variable",
    "$(": "asks the machine for its address",
    "#!/bin/bash": "the first line of a script",
}


class Line(NamedTuple):
    """One command of a page."""

    page: str
    section: str
    text: str

    @property
    def words(self) -> list[str]:
        """Its words without comments and variables before it."""
        if re.match(r"\w+=\$\(", self.text):
            return ["$("]
        words = shlex.split(self.text, comments=not self.text.startswith("#!"))
        while words and re.fullmatch(r"\w+=\S*", words[0]):
            words = words[1:]
        return words


def blocks(page: str) -> Iterator[tuple[str, str, str]]:
    """(language, section, text) of the code blocks of a page."""
    section = ""
    inside: list[str] | None = None
    language = ""
    for line in (ROOT / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("```") and inside is None:
            inside, language = [], line.removeprefix("```").strip()
        elif line.startswith("```"):
            yield language, section, "\n".join(inside or [])
            inside = None
        elif inside is not None:
            inside.append(line)
        elif line.startswith("#"):
            section = line.lstrip("# ")


def commands() -> list[Line]:
    """The commands in all blocks that hold commands, and those between backquotes."""
    found = []
    for page in PAGES:
        for language, section, text in blocks(page):
            if language == "sh":
                body = re.sub(r"<<'END'\n.*?\nEND", "", text, flags=re.DOTALL)
                found += [
                    Line(page, section, line)
                    for line in body.splitlines()
                    if line.strip() and (line.startswith("#!") or not line.startswith("#"))
                ]
        inline = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
        found += [
            Line(page, "inline", t)
            for t in re.findall(r"`((?:\w+=\w+ )?(?:fmiqa|make|conda|pip|papermill) [^`]+)`", inline)
        ]
    return found


def inner(line: Line) -> list[str]:
    """The fmiqa command that another program is told to run."""
    text = re.search(r"\bfmiqa (?:sweep|report|extract|compare)[^'\"]*(?:\"[^\"]*\"[^'\"]*)*", line.text)
    return shlex.split(text.group(), comments=True) if text and line.words[0] != "fmiqa" else []


def test_the_pages_are_read() -> None:
    words = [line.words[0] for line in commands()]
    assert words.count("fmiqa") > 20
    assert {"make", "ray", "srun"} <= set(words)
    assert {lang for page in PAGES for lang, _, _ in blocks(page)} <= {"sh", "python", "text", "yaml"}


def test_every_program_is_run_or_accounted_for() -> None:
    for line in commands():
        assert line.words[0] in {"fmiqa", "papermill", *NOT_RUN}, f"{line.text}: run it, or say why not"
    assert set(NOT_RUN) <= {line.words[0] for line in commands()}  # nothing is excused that no page holds


# ---- where they run ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with everything that the pages name, and datasets that are found and read as if they were whole."""
    root = tmp_path_factory.mktemp("readme") / "Ordner für alles"
    data, code = root / "data", root.parent / "code"
    code.mkdir()
    (code / "sitecustomize.py").write_text(SHRINK)
    for build in (tree_of_live, tree_of_tid2013, tree_of_pipal, tree_of_demo):
        build(data)
    own_table(root)
    own_table(root / "mine")
    for folder, refs, strength in (
        ("distorted", REFS, 30.0),
        ("photographs", 2, 20.0),
    ):  # refs/ is the table's
        numbers = list(range(1, refs + 1))
        images([root / folder / f"r{r}.png" for r in numbers], numbers, [strength] * refs)
    images([root / "ref.png", root / "distorted.png"], [1, 1], [0.0, 25.0])
    from fmiqa_utils.backbones.load import load_backbone

    state = load_backbone(TINY["clip_vitb32"], "untrained").model.state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, root / "my_state_dict.safetensors")
    (root / "sweep.yaml").write_text(
        f"datasets: [live, tid2013]\nbackbones: [{TINY['dino_vitb16']}]\nweights: untrained\nnormalize: [none, model]\n"
    )
    write_results(root / "results")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("live", "tid2013", "pipal"):  # what SHRINK changes is as it was afterwards
            patch.setitem(dataset_registry.DATASETS, name, dataset_registry.DATASETS[name])
        for name in ("LIVE_FOLDERS", "LIVE_COPIES"):
            patch.setattr(dataset_readers, name, getattr(dataset_readers, name))
        exec(SHRINK, {})
        patch.setenv("PYTHONPATH", os.pathsep.join([str(code), str(ROOT)]))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("FMIQA_HOME", str(root))
        for name in ("DATA", "SCORES", "FIGURES", "REPORTS"):
            patch.delenv(f"FMIQA_{name}", raising=False)
        patch.chdir(root)
        yield root


def write_results(folder: Path) -> None:
    """Per-image results of the small LIVE in the authors' form."""
    folder.mkdir()
    names = [f"jp2k/img{i}.bmp" for i in range(1, PAIRS + 1)]
    refs = [f"ref{(i - 1) // PER_REF + 1}.bmp" for i in range(1, PAIRS + 1)]
    rows = pd.DataFrame({"dis": names, "ref": refs, "mos": range(PAIRS), "pred": range(PAIRS)})
    for method in ("dinov1_l2", "psnr"):
        rows.to_csv(folder / f"live_{method}.csv", index=False)


def adapted(words: list[str]) -> list[str]:
    """The command by the rule above."""
    words = [",".join(TINY.get(name, name) for name in word.split(",")) for word in words]
    words = [word.replace("s3://BUCKET", "bucket") for word in words]
    if "RUN" in " ".join(words):
        run_folder = next(Path("data/scores/loda").glob("*/split-0")).parent
        words = [word.replace("data/scores/loda/RUN", str(run_folder)) for word in words]
    verb = " ".join(words[1:3]) if words[1] == "loda" else words[1]
    if verb in MODEL_VERBS and "--weights" not in words and "sweep.yaml" not in words:
        words += ["--weights", "untrained"]
    if "ray" in words and "--dry-run" not in words:
        words.append("--dry-run")
    elif verb == "sweep" and "--dry-run" not in words:
        words.append("--no-reports")
    for option, less in LESS.items():
        if option in words and words[words.index(option) + 1] == "all":
            words[words.index(option) + 1] = less
    return words + MORE.get(verb, [])


def run(line: str | list[str]) -> str:
    """What a `fmiqa` command prints; it must end with 0."""
    words = adapted(shlex.split(line, comments=True) if isinstance(line, str) else line)
    done = CliRunner().invoke(app, words[1:], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def of_section(title: str, page: str = "README.md") -> list[list[str]]:
    """The fmiqa commands of a section, those that stand inside another program's among them."""
    lines = [line for line in commands() if (line.page, line.section) == (page, title)]
    return [
        line.words if line.words[0] == "fmiqa" else inner(line)
        for line in lines
        if line.words[0] == "fmiqa" or inner(line)
    ]


# ---- the commands, section by section ----------------------------------------------------------------------------------


def test_make_hands_its_variables_on() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = set(re.findall(r"(?:^|`|or: )(make [a-z]+(?: [A-Z]+=\w+)*)", text, re.MULTILINE))
    assert {
        "make report",
        "make test",
        "make lab",
        "make report DATASET=tid2013 BACKBONE=dino_vitb16",
    } <= found
    for command in sorted(found):
        done = subprocess.run(
            [*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        if command.startswith("make report"):
            dataset, backbone = ("tid2013", "dino_vitb16") if "DATASET" in command else ("demo", "auto")
            wanted = f"report --dataset '{dataset}' --backbone '{backbone}' --weights 'auto'"
            (said,) = [line for line in done.stdout.splitlines() if "fmiqa report" in line]
            assert said.endswith(wanted)
            parsed("fmiqa " + said.partition("fmiqa ")[2])


def parsed(line: str) -> dict[str, Any]:
    """The options of a command as they are read, without doing anything."""
    command, words = get_command(app), shlex.split(line, comments=True)[1:]
    while hasattr(command, "commands") and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    return dict(command.make_context("x", words).params)


def test_what_is_named_within_a_sentence_exists() -> None:
    for line in commands():
        if line.section != "inline" or line.words[0] != "fmiqa":
            continue
        command, words = get_command(app), line.words[1:]
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command, words = command.commands[words[0]], words[1:]
        options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        known = options | {"--no-browser", "--port", "--allow-root"} if command.name == "lab" else options
        assert {w.split("=")[0] for w in words if w.startswith("--")} <= known, line.text


def test_papermill_lists_a_notebooks_parameters() -> None:
    (line,) = {line.text for line in commands() if line.words[:1] == ["papermill"]}
    from click.testing import CliRunner as ClickRunner
    from papermill.cli import papermill

    done = ClickRunner().invoke(papermill, [*shlex.split(line)[1:-1], str(ROOT / shlex.split(line)[-1])])
    assert done.exit_code == 0
    assert "n_resamples: int (default 1000)" in done.output


@pytest.fixture
def few_chapters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report has two chapters: all of them are run in test_notebooks.py and test_installed.py."""
    monkeypatch.setattr("fmiqa_utils.report.pipeline.READERS", ("02_layer_curves.ipynb",))


@pytest.mark.slow
def test_your_own_data(place: Path, few_chapters: None) -> None:
    said = {" ".join(words[1:3]): run(words) for words in of_section("Your own data")}
    verbs = {"datasets", "datasets check", "report --dataset", "extract --dataset", "compare mine-pairs"}
    assert set(said) == verbs
    assert str(place / "data" / "tid2013") in said["datasets"].replace("\n", "")
    assert f"rows: {PAIRS}" in said["datasets check"]
    for name in ("tid2013", "mine-pairs"):
        page = (place / "reports" / name / "index.html").read_text(encoding="utf-8")
        assert "UNTRAINED" in page
        assert load_run(name).scores["value"].notna().all()
    assert (load_run("mine-pairs").pairs["quality"] > 0).all()


@pytest.mark.slow
def test_command_line(place: Path) -> None:
    run(
        [
            "fmiqa",
            "extract",
            "--dataset",
            "tid2013",
            "--backbone",
            TINY["dino_vitb16"],
            "--distance",
            "l2,cos",
        ]
    )
    said = [(words, run(words)) for words in of_section("Command line and Python")]
    verbs = [words[1] for words, _ in said]
    assert {"score", "extract", "compare", "published", "backbones", "bench"} == set(verbs)
    for words, output in said:
        if words[1] == "score" and "--json" in words:
            assert '"distance"' in output or '"score"' in output
        if words[1] == "compare":
            assert "live" in output
            assert "tid2013" in output
        if words[1] == "published":
            assert "psnr" in output
    live = load_run("live")
    assert set(live.scores["transform"]) == {"none", "tra-1", "sca-1", "rot-1"}
    assert set(LESS["--baselines"].split(",")) < set(live.scores["distance"])
    assert set(live.pairs["label_source"]) == {"dmos.mat"}


@pytest.mark.slow
def test_loda(place: Path) -> None:
    title = next(
        line.section for line in commands() if "loda train" in line.text and line.section != "inline"
    )
    said = {words[2]: run(words) for words in of_section(title)}
    assert list(said) == ["train", "predict", "evaluate", "ablate", "info"]
    assert len(pd.read_csv(place / "quality.csv")) == 2
    comment = re.search(
        r"fmiqa loda info\s+# ([\d,]+) trainable", (ROOT / "README.md").read_text(encoding="utf-8")
    )
    assert comment
    assert f"{comment.group(1)}" in said["info"]


@pytest.mark.slow
def test_laptop_to_cluster(place: Path) -> None:
    lines = of_section("From a laptop to a cluster")
    assert [words[1] for words in lines] == ["extract", "sweep", "sweep", "sweep", "sweep", "compare"]
    said = [run(words) for words in lines[:3]]
    assert f"{3 * 3} jobs" in said[1]
    for name in ("live", "tid2013", "pipal"):
        assert len(load_run(f"{name}-sweep").manifests) == 3
    for words in lines[3:5]:
        assert {"sweep.yaml", "--engine", "ray", "--address"} <= set(words)
        parsed(shlex.join(words))  # its options are read and fit together
        assert "4 jobs" in run(words)
    shutil.copytree(place / "data" / "scores", place / "bucket" / "scores", dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMIQA_SCORES", "bucket/scores")
        said.append(run(lines[5]))
    for name in ("live", "tid2013", "pipal"):
        assert name in said[-1]


def test_the_cluster_file_is_yaml_and_the_script_is_bash() -> None:
    import yaml

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (cluster,) = re.findall(r"cat > cluster.yaml <<'END'\n(.*?)\nEND", text, re.DOTALL)
    assert set(yaml.safe_load(cluster)) >= {
        "cluster_name",
        "provider",
        "available_node_types",
        "head_node_type",
    }
    for language, _, block in blocks("README.md"):
        if language == "sh":
            done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def test_conda_users_get_what_make_installs() -> None:
    import yaml

    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    (from_pip,) = [entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict)]
    assert from_pip == ["-r requirements.lock", "-e ."]
    assert "python=3.12" in content["dependencies"]
    for place in ("README.md", "environment.yml"):  # the lock leaves out what pip would add
        assert "PIP_NO_DEPS=1 conda env create -f environment.yml" in (ROOT / place).read_text(
            encoding="utf-8"
        )
    assert "install --quiet --no-deps --requirement requirements.lock" in (ROOT / "Makefile").read_text()


def test_commands_of_the_page_on_datasets(place: Path) -> None:
    words = [
        line.words for line in commands() if line.page == "data/README.md" and line.words[:1] == ["fmiqa"]
    ]
    said = [run(w) for w in words if w[1] == "datasets"]
    assert len(said) >= 2
    assert {w[1] for w in words} <= {"datasets", "demo", "report", "extract"}


def test_python_snippets(place: Path) -> None:
    import torch

    ran = 0
    for page in PAGES:
        for language, _, text in blocks(page):
            if language != "python":
                continue
            for name, tiny in TINY.items():
                text = text.replace(
                    f'FeatureDistance("{name}"', f'FeatureDistance("{tiny}", weights="untrained"'
                ).replace(f'"{name}", direction', f'"{tiny}", "untrained", direction')
            torch.manual_seed(0)
            space: dict[str, Any] = {"ref": torch.rand(1, 3, 224, 224), "dist": torch.rand(1, 3, 224, 224)}
            exec(compile(ast.parse(text), page, "exec"), space)
            ran += 1
            if "value" in space:
                assert space["value"].shape == (1,)
                assert space["value"].item() > 0
                assert space["where"].shape == (1, 224, 224)
            if "table" in space:
                assert {"joint", "embedding", "image"} <= set(space["table"]["feature"])
                assert len(space["run"].pairs) == PAIRS
            if "pairs" in space:
                assert len(space["pairs"]) == PAIRS
    assert ran >= 3
