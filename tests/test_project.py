"""The project's own files agree with one another: one version, dependencies that are declared and locked, checks that exist."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

import fmiqa_utils

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
INDIRECT = {
    "jupyterlab",
    "tensorboard",
    "openpyxl",
    "scikit-image",
    "scikit-learn",
    "fsspec",
    "torchvision",
}  # why: below


def plain(name: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", name)[0].lower().replace("_", "-")


def imported(folder: str) -> set[str]:
    """Distributions that the code in `folder` imports by name."""
    modules: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add((node.module or "").split(".")[0])
    own = {p.stem for p in (ROOT / "tests").glob("*.py")} | {"fmiqa_utils"}
    homes = packages_distributions()
    return {plain(homes[m][0]) for m in modules - own - sys.stdlib_module_names if m in homes}


def locked(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {plain(line): line.split(" ;")[0] for line in lines if line}


def test_there_is_one_version() -> None:
    version = fmiqa_utils.__version__
    assert "version" in PROJECT["dynamic"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    newest = re.search(r"^## (\S+),", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version
    assert f"fmiqa-{version}-py3-none-any.whl" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_import_is_declared_and_every_declaration_has_its_use() -> None:
    """`INDIRECT`: the lab itself; what Lightning and pandas import for us; photographs and models that come with a package."""
    declared = {plain(d) for d in PROJECT["dependencies"]}
    optional = {plain(d) for extra in ("baselines", "cloud", "ray") for d in EXTRAS[extra]}
    used = imported("fmiqa_utils")
    assert used <= declared | optional
    assert declared - used == INDIRECT


def test_what_tests_import_is_declared() -> None:
    declared = {plain(d) for d in (*PROJECT["dependencies"], *EXTRAS["dev"])}
    assert imported("tests") <= declared | {"click"}  # Typer's own parser, asked what it knows


def test_what_runs_is_locked_apart_from_what_develops() -> None:
    runs, develops = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {plain(d) for d in PROJECT["dependencies"]} <= set(runs)
    assert {plain(d) for d in EXTRAS["dev"]} <= set(develops)
    assert {name: develops.get(name) for name in runs} == runs
    only_develop = {
        "pytest",
        "moto",
        "flask",
        "ray",
        "playwright",
        "mypy",
        "ruff",
        "pre-commit",
        "pyiqa",
        "s3fs",
    }
    assert only_develop <= set(develops) - set(runs)


WITHOUT = """
import importlib, sys
from importlib.machinery import PathFinder

class Present(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {absent!r} else PathFinder.find_spec(name, path, target)

sys.meta_path = [Present if finder is PathFinder else finder for finder in sys.meta_path]
for name in {modules!r}:
    importlib.import_module(name)
import timm, open_clip, papermill, nbconvert, lightning, skimage, sklearn
print("all")
"""


def test_what_runs_needs_nothing_of_what_develops() -> None:
    """Every module can be imported where only requirements.lock is installed."""
    declared = {plain(d) for extra in EXTRAS.values() for d in extra}
    only_develop = declared - set(locked("requirements.lock"))
    absent = {m for m, homes in packages_distributions().items() if {plain(h) for h in homes} <= only_develop}
    assert {"pytest", "ray", "pyiqa", "moto", "flask", "s3fs"} <= absent
    package = ROOT / "fmiqa_utils"
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in package.rglob("*.py")]
    modules = [m.removesuffix(".__init__") for m in modules if not m.endswith("__main__")]
    code = WITHOUT.format(absent=absent, modules=sorted(modules))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "all", done.stderr[-2000:]


def test_hooks_run_what_ci_runs() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0][
        "hooks"
    ]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for hook in hooks:
        verb = hook["entry"].split()[1]
        assert re.search(rf"^{verb}:", makefile, re.MULTILINE), hook
        for path in re.findall(r"tests/[\w/]+\.py", hook["entry"]):
            assert (ROOT / path).is_file(), path
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^make (\S+)", ci, re.MULTILINE) == ["lint", "test"]
    assert hooks[0]["entry"] == "make lint"


def test_types_travel_with_the_package() -> None:
    assert (ROOT / "fmiqa_utils" / "py.typed").is_file()
    mypy = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert mypy["strict"] is True
    assert "ignore_missing_imports" not in mypy


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md"])
def test_files_that_a_page_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:fmiqa_utils|tests|docs|data|notebooks)/[\w./]+)`", text))
    assert page == "README.md" or len(named) > 10
    assert {n for n in named if "NAME" not in n and "NN_" not in n and not (ROOT / n).exists()} == set()


def test_contributing_answers_for_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = {p.parent.name for p in (ROOT / "fmiqa_utils").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)) == rooms
    for word in ("distance", "backbone", "dataset", "figure", "notebook"):
        assert f"**a {word}?**" in text
