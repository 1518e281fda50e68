"""What decides that something is computed again: shards, LoDa's runs, the demo dataset, notebooks and pages (docs/recomputation.md).

A key is a hash of everything that a result depends on. A result whose recorded key is another one is computed again.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

# Raise a stage's number by hand when it gives other numbers; tests/test_versions.py notices when that was forgotten.
STAGES = {
    "decoding": 1,  # a file is read to pixels: datasets.images
    "windows": 1,  # windows are cut, resized or padded: backbones.windows
    "transforms": 1,  # images are moved: datasets.transforms
    "features": 1,  # features are read from a model: backbones.features
    "distances": 2,  # distances.forms
    "baselines": 1,  # distances.baselines
}
DEMO_PIXELS = 1  # a photograph is distorted: demo.distortions and demo.calibration
LODA_TRAINING = 2  # images, labels and options become a trained injector: loda
LIBRARIES = ("torch", "pillow", "scikit-image")  # beside the one that the backbone comes from
# What a chunk's key covers of a pairs table; labels are not in it.
IDENTITY = [
    "dataset",
    "pair_id",
    "ref",
    "dist",
]

PACKAGE = Path(__file__).parent


def digest(*parts: object) -> str:
    """sha256 of `parts` as canonical JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


# ---- scores ----------------------------------------------------------------------------------------------------------


def scores_key(
    settings: Mapping[str, object],
    *,
    backbone: str,
    source: str,
    weights_sha256: str,
    normalize: str,
    precision: str,
    windows: Sequence[int],
    pyiqa: bool = False,
) -> str:
    """What every chunk of a folder of shards shares: settings, backbone and weights, windows, versions of stages and libraries.

    `source`: "timm" or "openclip"; `windows`: side and stride in px; `pyiqa`: whether a baseline comes from it.
    """
    how = (normalize, precision, list(windows), STAGES, library_versions(source, pyiqa))
    return digest(dict(settings), backbone, weights_sha256, *how)


def library_versions(source: str, pyiqa: bool = False) -> dict[str, str]:
    """Major and minor versions of what decodes, embeds and compares: a patch release changes no number."""
    from PIL import features

    names = [
        *LIBRARIES,
        {"timm": "timm", "openclip": "open_clip_torch"}[source],
        *(["pyiqa"] if pyiqa else []),
    ]
    found = {name: ".".join(version(name).split(".")[:2]) for name in names}
    return found | {"jpeg": features.version("jpg") or ""}


def chunk_key(common: str, transform: str, identity: Sequence[Sequence[str]]) -> str:
    """The key of one chunk: `scores_key`, the transform, and the `IDENTITY` of its pairs, row by row."""
    return digest(common, transform, identity)


# ---- LoDa and the demo dataset -----------------------------------------------------------------------------------------


def training_key(options: Mapping[str, object], labels: str, images: str) -> str:
    """The key of a LoDa run: options, and the hashes of the labels and of the images' contents."""
    return digest(LODA_TRAINING, dict(options), labels, images)


def recipe_key(layout: int, files: Iterable[Path]) -> str:
    """The key of the demo dataset: the layout of its folder, `DEMO_PIXELS`, and the `files` it is made from."""
    found = hashlib.sha256(f"{layout} {DEMO_PIXELS}".encode())
    for path in files:
        found.update(path.read_bytes())
    return found.hexdigest()


# ---- notebooks and pages -----------------------------------------------------------------------------------------------


def notebook_key(source: Path, parameters: Mapping[str, object], material: object) -> str:
    """The key of an executed notebook: its text, its parameters, the code it uses (`code_behind`), and what it reads.

    `material`: hashes of the run, the dataset or the files that the notebook reads.
    """
    text = source.read_text(encoding="utf-8")
    return digest(text, dict(parameters), code_behind(_cells(text)), material)


def page_key(chapters: object, material: object, modules: Sequence[str], templates: Path) -> str:
    """The key of a report's page or of the index: the chapters' records, the run, the code of `modules`, the templates."""
    files = sorted(p for p in templates.rglob("*") if p.is_file())
    looks = [(str(p.relative_to(templates)), _file_digest(p)) for p in files]
    return digest(chapters, material, code_behind("\n".join(f"import {m}" for m in modules)), looks)


def code_behind(code: str) -> str:
    """A hash of the modules of this package that `code` imports, of those that they import in turn, and of the tables beside them."""
    files = modules_behind(code)
    tables = {table for file in files if file.parent != PACKAGE for table in file.parent.rglob("*.csv")}
    return digest([(str(f.relative_to(PACKAGE)), _file_digest(f)) for f in sorted({*files, *tables})])


def modules_behind(code: str) -> set[Path]:
    """The files of this package that `code` needs, through imports at any depth, also inside functions."""
    found: set[Path] = set()
    ahead = list(_imported(code))
    while ahead:
        file = ahead.pop()
        if file not in found:
            found.add(file)
            ahead += _imported_by(file, file.stat().st_mtime_ns)
    return found


@cache
def _imported_by(file: Path, changed: int) -> tuple[Path, ...]:  # noqa: ARG001  # part of the cache's key
    """`_imported` of a module; `changed`: its time in ns, so that a changed file is read again."""
    return tuple(_imported(file.read_text(encoding="utf-8"), file))


def _imported(code: str, file: Path | None = None) -> Iterator[Path]:
    """Files of the modules that `code` (of `file`) imports from this package, and of those it names in full in a string."""
    try:
        tree = compile(code, "", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError:  # somebody's own notebook, whose cell will say so: it may need anything
        yield from PACKAGE.rglob("*.py")
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files_of(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level and file is not None:  # in an __init__.pyi
                module = ".".join(("fmiqa_utils", *file.parent.relative_to(PACKAGE).parts, module))
            for alias in node.names:
                yield from _files_of(module, alias.name)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"fmiqa_utils(\.\w+)+", str(node.value)):
            yield from _files_of(str(node.value))


def _files_of(module: str, name: str = "") -> list[Path]:
    """The files behind `from module import name`: a module, or one that a room's `__init__.pyi` takes the name from."""
    parts = module.split(".")
    if parts[0] != "fmiqa_utils":
        return []
    place = PACKAGE.joinpath(*parts[1:])
    if not place.is_dir():
        file = place.with_suffix(".py")
        return [file] if file.is_file() else []
    if name and ((place / name).is_dir() or (place / f"{name}.py").is_file()):
        return _files_of(f"{module}.{name}")
    face = place / "__init__.pyi"
    inside = _sources(face, module).get(name) if face.is_file() and name else None
    if inside is not None:
        return _files_of(inside)
    # Of the package itself only the list of public names: its version alone changes no result.
    return [file for file in (face, *([] if place == PACKAGE else [place / "__init__.py"])) if file.is_file()]


def _sources(face: Path, module: str) -> dict[str, str]:
    """Name → the module that `face`, the `__init__.pyi` of `module`, takes it from."""
    tree = ast.parse(face.read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"{module}.{node.module}" for node in imports for alias in node.names}


def _cells(notebook: str) -> str:
    """The code of a notebook's cells as Python: what only IPython understands is translated by itself."""
    from IPython.core.inputtransformer2 import TransformerManager

    plain = TransformerManager().transform_cell
    cells = json.loads(notebook)["cells"]
    return "\n".join(plain("".join(c["source"])) for c in cells if c["cell_type"] == "code")


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
