"""Every image that a dataset's label file lists, against the disk: there, readable, of the right size."""

import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fmiqa_utils.datasets.images import read_rgb, read_size
from fmiqa_utils.datasets.registry import MIN_SIDE, known
from fmiqa_utils.datasets.tables import read_labels
from fmiqa_utils.errors import InputError

Progress = Callable[[int, int], None]  # files done, files in all


@dataclass(frozen=True)
class CheckResult:
    """What `check_dataset` found; a dataset is fit to run if `ok`."""

    name: str
    title: str
    root: Path
    rows: int
    references: int  # 0 where the dataset has none
    files: int
    label_kind: str
    label_source: str
    label_min: float
    label_max: float
    dropped: str  # what the dataset's specification leaves out, "" if nothing
    sizes: dict[tuple[int, int], int]  # (width, height): files, most frequent first
    missing: list[str]  # names as in the label file
    unreadable: dict[str, str]  # path: reason, one sentence
    mismatched: list[str]  # pair_id of rows with images of different sizes
    small: list[str]  # paths of images with a side under the minimum

    @property
    def ok(self) -> bool:
        return not (self.missing or self.unreadable or self.mismatched or self.small)


def check_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    labels: str | None = None,
    direction: str | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> CheckResult:
    """Decodes every image once and reports what is missing, unreadable, too small or of another size than its reference.

    Arguments as in `tables.load_pairs`, for every kind of dataset; progress(done, all) is called after each
    file. Raises InputError where the label file itself is missing, damaged or incomplete.
    """
    table = read_labels(name, root, labels=labels, direction=direction)
    dataset = None if name.startswith("csv:") else known(name)
    paths = table.paths()
    files = sorted(set(table.rows[paths].stack().dropna()))
    sizes, unreadable = _decode_all(files, progress, workers or os.cpu_count() or 1)
    min_side = dataset.min_side if dataset else MIN_SIDE
    return CheckResult(
        name=name,
        title=table.title,
        root=table.root,
        rows=len(table.rows),
        references=table.rows["ref_path"].nunique() if "ref_path" in paths else 0,
        files=len(files),
        label_kind=table.rows["label_kind"].iloc[0],
        label_source=table.rows["label_source"].iloc[0],
        label_min=float(table.rows["label"].min()),
        label_max=float(table.rows["label"].max()),
        dropped=dataset.dropped if dataset else "",
        sizes=dict(Counter(sizes.values()).most_common()),
        missing=table.missing(),
        unreadable=unreadable,
        mismatched=_mismatched(table.rows, paths, sizes),
        small=[path for path, size in sizes.items() if min(size) < min_side],
    )


def glance(pairs: pd.DataFrame, window: int = 0) -> dict[str, str]:
    """The pairs that will fail, as far as the headers of their images tell: {pair_id: reason}.

    `window`: images with a side under so many px fail too (0: none). Damage behind the header shows only when an image is decoded.
    """
    paths = sorted({*pairs["ref_path"], *pairs["dist_path"]})
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        headers = dict(zip(paths, pool.map(_header_size, paths), strict=True))
    problems = {}
    for pair in pairs.itertuples():
        sizes = [headers[str(pair.ref_path)], headers[str(pair.dist_path)]]
        reasons = [s for s in sizes if isinstance(s, str)]
        if not reasons and sizes[0] != sizes[1]:
            reasons = [f"{pair.dist_path} and its reference differ in size."]
        if not reasons and min(sizes[0]) < window:
            height, width = sizes[0]
            reasons = [f"{pair.dist_path} is {width}×{height} px, under the {window} px window."]
        if reasons:
            problems[str(pair.pair_id)] = reasons[0]
    return problems


def _header_size(path: str) -> tuple[int, int] | str:
    try:
        return read_size(path)
    except InputError as error:
        return str(error)


def _decode_all(
    files: list[str], progress: Progress | None, workers: int
) -> tuple[dict[str, tuple[int, int]], dict[str, str]]:
    """Size (width, height) of every readable file, and the reason for every other."""
    sizes: dict[str, tuple[int, int]] = {}
    unreadable: dict[str, str] = {}
    pool = ThreadPoolExecutor(workers)  # Pillow's decoders release the interpreter lock
    try:
        for done, (path, result) in enumerate(zip(files, pool.map(_size, files), strict=True), start=1):
            if isinstance(result, str):
                unreadable[path] = result
            else:
                sizes[path] = result
            if progress is not None:
                progress(done, len(files))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted check stops at once
    return sizes, unreadable


def _size(path: str) -> tuple[int, int] | str:
    try:
        height, width = read_rgb(path).shape[:2]
    except InputError as error:
        return str(error)
    return width, height


def _mismatched(rows: pd.DataFrame, paths: list[str], sizes: dict[str, tuple[int, int]]) -> list[str]:
    """pair_id of rows where all images were read and not all are of one size."""
    row_sizes = zip(*([sizes.get(path) for path in rows[column]] for column in paths), strict=True)
    differ = [None not in row and len(set(row)) > 1 for row in row_sizes]
    return rows["pair_id"][differ].tolist()
