"""The rooms of the package stand in one order, and imports go one way, down that order; lazy ones and those for types included."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fmiqa_utils

PACKAGE = Path(fmiqa_utils.__file__).parent
TESTS = Path(__file__).parent
# A room may use those above it, and of them only these.
USES: dict[str, set[str]] = {
    "files": set(),
    "datasets": {"files"},
    "demo": {"datasets"},
    "backbones": {"files"},
    "distances": {"backbones"},
    "scores": {"files", "datasets", "distances"},
    "extraction": {"files", "datasets", "demo", "backbones", "distances", "scores"},
    "statistics": {"files", "datasets", "distances", "scores"},
    "figures": {"datasets", "backbones", "distances", "scores", "statistics"},
    "published": {"files", "datasets", "distances", "scores", "statistics", "figures"},
    "loda": {"files", "datasets", "backbones", "scores", "extraction", "statistics", "figures"},
}
USES["report"] = set(USES) - {"loda"}
USES["cli"] = {*USES}
ROOMS = list(USES)
BESIDE = {"console", "errors", "keys", "paths", "progress", "summary", "words"}  # what every room needs
HEAVY = {"torch", "timm", "open_clip", "lightning"}


def modules() -> list[Path]:
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def imported(path: Path) -> set[str]:
    """The parts below the package of everything that a module imports from it: ("scores.runs", "errors", …)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
            found.add(node.value)  # import_module("fmiqa_utils.…")
    return {name.removeprefix("fmiqa_utils.") for name in found if name.startswith("fmiqa_utils.")}


def test_every_module_is_in_a_room() -> None:
    assert {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"} == set(ROOMS)
    assert {p.stem for p in PACKAGE.glob("*.py")} - {"__init__"} == BESIDE


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_go_one_way(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imported(path):
        target = name.split(".")[0]
        if target in ROOMS and target != room:
            allowed = {"files"} if room in BESIDE else USES[room]
            assert target in allowed, f"{room} imports {name}"


def test_the_order_has_no_way_back() -> None:
    for place, room in enumerate(ROOMS):
        assert USES[room] <= set(ROOMS[:place]), room
    assert "report" not in {t.split(".")[0] for p in (PACKAGE / "loda").glob("*.py") for t in imported(p)}


def test_what_stands_beside_the_rooms_does_not_go_round_in_a_circle() -> None:
    arrows = {name: {t.split(".")[0] for t in imported(PACKAGE / f"{name}.py")} & BESIDE for name in BESIDE}
    done: set[str] = set()
    while left := {name for name in arrows if name not in done}:
        ready = {name for name in left if arrows[name] <= done}
        assert ready, left
        done |= ready


@pytest.mark.parametrize("room", ["files", "datasets", "demo", "scores", "statistics"])
def test_rooms_without_torch(room: str) -> None:
    names = [
        ".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts) for p in (PACKAGE / room).rglob("*.py")
    ]
    lines = [f"import {name.removesuffix('.__init__')}" for name in names]
    code = "\n".join([*lines, "import sys", f"print(sorted({HEAVY!r} & set(sys.modules)))"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_room_says_what_happens_there() -> None:
    for room in ROOMS:
        tree = ast.parse((PACKAGE / room / "__init__.py").read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), room


def test_tests_stand_in_the_same_rooms() -> None:
    rooms = {p.name for p in TESTS.iterdir() if p.is_dir() and any(p.glob("test_*.py"))}
    assert rooms == set(ROOMS)


def test_no_module_is_larger_than_a_stage() -> None:
    sizes = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in modules()}
    large = {str(p.relative_to(PACKAGE)): n for p, n in sizes.items() if n > 350}
    assert set(large) <= {"loda/train.py"}  # Lightning's hooks, whose class names stand in checkpoints
