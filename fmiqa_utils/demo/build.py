"""The embedded demo dataset: seven photographs distorted like TID2013, built from a recipe, not shipped."""

import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from PIL import Image, features

from fmiqa_utils.datasets.layouts import TID2013_TYPES
from fmiqa_utils.demo import calibration
from fmiqa_utils.demo.calibration import Distorted, Rgb
from fmiqa_utils.demo.distortions import KINDS
from fmiqa_utils.demo.photographs import PHOTOGRAPHS, SIZE, reference, source
from fmiqa_utils.errors import InputError
from fmiqa_utils.keys import recipe_key
from fmiqa_utils.paths import data_root
from fmiqa_utils.progress import progress_bar

LEVELS = range(1, 6)
SPACE = 400e6  # bytes; a whole demo takes about half
FORMAT = 1  # of the folder
# Earlier recipes, hashes of the source code then, that gave the same pixels.
SAME_PIXELS = ("73c040f2f637be3d889eeba8e4babf72fab7e4c51d6605f0fe65959177aa9c4a",)


def build_demo(
    root: Path | None = None, progress: Callable[[int, int], None] | None = None, force: bool = False
) -> Path:
    """The folder of the demo dataset, built first unless a complete one of the current recipe is there.

    `root` is data/demo by default; `progress(done, total)` counts distorted images, by default on a progress bar. If another process
    builds the same folder, this one waits. The folder appears at once, when all of it is written. Raises InputError if
    it cannot be written, if `root` holds something else, or if a photograph is missing.

    >>> build_demo().name
    'demo'
    """
    root = (Path(root) if root is not None else data_root() / "demo").resolve()
    recipe = _recipe()
    if not force and _is_complete(root, recipe):
        return root
    with _disk_errors(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(root.parent / f".{root.name}.lock"):
            if force or not _is_complete(root, recipe):  # another process may have built it meanwhile
                _replace(root, recipe, progress)
    return root


def deviation_table(root: Path) -> pd.DataFrame:
    """How near the demo's types came to TID2013's PSNR, from its deviations.csv: one row per type, in dB.

    Columns type, distortion, matched ("each image" or "mean of images"), continuous, mean_deviation (of its
    amount) and worst_deviation (signed). Where the mean over images was matched, it is the deviation of that mean.
    """
    rows = pd.read_csv(Path(root) / "deviations.csv")
    means = rows.groupby(["type", "level", "matched", "continuous"], as_index=False)["deviation"].mean()
    matched = pd.concat([rows[rows.matched == "each image"], means[means.matched == "mean of images"]])
    table = matched.groupby("type").agg(
        matched=("matched", "first"),
        continuous=("continuous", "first"),
        mean_deviation=("deviation", lambda d: d.abs().mean()),
        worst_deviation=("deviation", lambda d: d.loc[d.abs().idxmax()]),
    )
    table.insert(0, "distortion", [TID2013_TYPES[number] for number in table.index])
    return table.reset_index()


def _recipe() -> str:
    """A hash of everything that decides the pixels, but for the versions of the libraries."""
    return recipe_key(FORMAT, (calibration.TABLE, *map(source, PHOTOGRAPHS)))


def _is_complete(root: Path, recipe: str) -> bool:
    """True if `root` was built from this recipe and every file is there in its recorded size."""
    manifest = _manifest(root)
    try:
        return manifest.get("recipe") in (recipe, *SAME_PIXELS) and all(
            (root / name).stat().st_size == size for name, size in manifest["files"].items()
        )
    except FileNotFoundError:
        return False


def _manifest(root: Path) -> dict[str, Any]:
    """The folder's manifest; empty if it is not a demo dataset."""
    try:
        manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) and {"recipe", "files"} <= manifest.keys() else {}


def _check_room(root: Path) -> None:
    if not _manifest(root) and root.exists() and (root.is_file() or any(root.iterdir())):
        raise InputError(f"{root} exists and is not a demo dataset; name another folder or remove it.")
    if shutil.disk_usage(root.parent).free < SPACE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def _disk_errors(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise InputError(
            f"the demo dataset needs {SPACE / 1e6:.0f} MB in {root.parent}, which cannot be written "
            f"({(error.strerror or str(error)).lower()}); make room or set FMIQA_DATA to another folder."
        ) from error


def _replace(root: Path, recipe: str, progress: Callable[[int, int], None] | None) -> None:
    if progress is None:
        with progress_bar("images") as update:
            return _replace(root, recipe, partial(update, "demo dataset"))
    _check_room(root)
    for leftover in root.parent.glob(f".{root.name}.building-*"):  # its process is gone: the lock is ours
        shutil.rmtree(leftover)
    building = Path(tempfile.mkdtemp(prefix=f".{root.name}.building-", dir=root.parent))
    try:
        _build(building / "new", recipe, progress)
        if root.exists():
            os.replace(root, building / "old")
        os.replace(building / "new", root)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _build(root: Path, recipe: str, progress: Callable[[int, int], None]) -> None:
    started = time.perf_counter()
    for folder in ("reference_images", "distorted_images"):
        (root / folder).mkdir(parents=True)
    references = [(photograph.name, reference(photograph)) for photograph in PHOTOGRAPHS]
    for name, image in references:
        _save(image, root / "reference_images" / f"{name}.png")
    rows = _distort_all(root, references, progress)
    table = pd.DataFrame(rows).sort_values(["ref", "type", "level"])
    pair_columns = ["ref", "dist", "label", "distortion", "level", "type"]
    table[pair_columns].to_csv(root / "pairs.csv", index=False)
    table.drop(columns=pair_columns[1:4]).to_csv(root / "deviations.csv", index=False)
    _write_manifest(root, recipe, time.perf_counter() - started)


def _distort_all(
    root: Path, references: list[tuple[str, Rgb]], progress: Callable[[int, int], None]
) -> list[dict[str, object]]:
    """Writes every distorted image; one row for each, with the columns of both tables."""
    rows: list[dict[str, object]] = []
    kinds = list(product(TID2013_TYPES, LEVELS))
    total = len(references) * len(kinds)
    progress(0, total)
    # Threads: Pillow's codecs hold the interpreter lock, but processes would run the caller's script again.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        jobs = [pool.submit(_distort_level, root, references, *kind) for kind in kinds]
        try:
            for job in as_completed(jobs):
                rows += job.result()
                progress(len(rows), total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return rows


def _distort_level(
    root: Path, references: list[tuple[str, Rgb]], type: int, level: int
) -> list[dict[str, object]]:
    rows = []
    made = calibration.calibrate(references, type, level)
    for (name, image), distorted in zip(references, made, strict=True):
        rows.append(_row(name, image, distorted, type, level))
        _save(distorted.image, root / str(rows[-1]["dist"]))
    return rows


def _row(name: str, image: Rgb, distorted: Distorted, type: int, level: int) -> dict[str, object]:
    tid2013, reached = calibration.levels()[type, level], calibration.psnr(image, distorted.image)
    return {
        "ref": f"reference_images/{name}.png",
        "dist": f"distorted_images/{name}_{type:02d}_{level}.png",
        "label": tid2013.mos,
        "distortion": TID2013_TYPES[type],
        "level": level,
        "type": type,
        "target_psnr": tid2013.psnr,
        "psnr": round(reached, 4),
        "deviation": round(reached - tid2013.psnr, 4),
        "strength": distorted.strength,
        "unit": KINDS[type].strength,
        "continuous": KINDS[type].step == 0,
        "matched": "each image" if calibration.matched_per_image(type) else "mean of images",
        "seed": distorted.seed,
    }


def _save(image: Rgb, path: Path) -> None:
    Image.fromarray(image).save(path, compress_level=1)  # noise does not compress, so speed is worth more


def _write_manifest(root: Path, recipe: str, seconds: float) -> None:
    files = {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}
    packages = ("numpy", "scipy", "pillow", "scikit-image", "scikit-learn")
    codecs = {name: features.version(name) for name in ("jpg", "jpg_2000", "zlib")}
    manifest = {
        "recipe": recipe,
        "format": FORMAT,
        "label": "TID2013 population mean opinion score (0..9, higher is better) of the same type and level",
        "references": len(PHOTOGRAPHS),
        "types": len(TID2013_TYPES),
        "levels": len(LEVELS),
        "size": SIZE,
        "resize": "centre crop to 4:3, Pillow LANCZOS",
        "photographs": [photograph._asdict() for photograph in PHOTOGRAPHS],
        "libraries": {name: version(name) for name in packages} | codecs,
        "seconds": round(seconds, 1),
        "files": {name: path.stat().st_size for name, path in files.items()},
    }
    (root / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
