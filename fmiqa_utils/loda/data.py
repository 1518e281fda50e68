"""LoDa's images: labelled, resized once and cached, cropped and flipped with seeds that depend only on epoch and image."""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import PIL
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from fmiqa_utils.datasets.images import FileFacts, file_facts, read_bytes_rgb
from fmiqa_utils.datasets.registry import DATASETS
from fmiqa_utils.datasets.tables import load_images, load_pairs
from fmiqa_utils.errors import InputError
from fmiqa_utils.files.storage import TEMPORARY, write_atomically
from fmiqa_utils.loda.model import MEAN, SIZE, STD
from fmiqa_utils.loda.options import TEST_CROPS
from fmiqa_utils.paths import data_root

SHORT_SIDE = 384  # px
RESIZING = (
    f"2|Pillow {PIL.__version__}"  # raise the number when the code that reads or resizes an image changes
)
INDEX = "contents.json"
LEFTOVER_AGE = 3600.0  # s
LEAST, LEAST_REFERENCES = 10, 4
TRAIN_CROPS = {"live": 5, "tid2013": 10, "kadid10k": 3, "koniq10k": 3, "spaq": 3, "livec": 5, "flive": 1}
COLUMNS = ["dataset", "pair_id", "ref", "dist_path", "quality", "label_kind"]


def load_labelled(
    dataset: str, root: str | Path | None = None, *, labels: str | None = None, direction: str | None = None
) -> pd.DataFrame:
    """Distorted images with their labels: `COLUMNS`; a split keeps images with the same `ref` together.

    An image without a reference is a group by itself. Raises InputError as `check_enough` does.
    """
    if dataset in DATASETS and DATASETS[dataset].kind == "images":
        table = load_images(dataset, root).assign(ref=lambda t: t["dist"])
    else:
        table = load_pairs(dataset, root, labels=labels, direction=direction)
    check_enough(table)
    return table[COLUMNS].reset_index(drop=True)


def check_enough(table: pd.DataFrame) -> None:
    """Raises InputError for fewer than ten images or four references, and for labels that are all the same."""
    dataset, references = table["dataset"].iloc[0] if len(table) else "the dataset", table["ref"].nunique()
    if len(table) < LEAST or references < LEAST_REFERENCES:
        raise InputError(
            f"{dataset} has {len(table)} images of {references} references: LoDa needs at least {LEAST} images of four, "
            f"two to test, one to validate and one to train on."
        )
    if table["quality"].nunique() < 2:
        raise InputError(
            f"all {len(table)} images of {dataset} have the same label: LoDa needs labels that differ."
        )


def cache_folder() -> Path:
    """Where resized images are kept, and the index of the images' contents."""
    return data_root() / "cache" / f"short{SHORT_SIDE}"


def resized(path: str | Path, facts: FileFacts | None = None) -> np.ndarray:
    """The image with its short side at 384 px (bicubic), uint8 [H, W, 3], from the cache if it is there.

    facts: of the version of the file that is wanted; by default the present one. Raises InputError if this version is no longer in the
    cache or on the disk.
    """
    facts = facts or file_facts(path)
    cached = _cached_file(path, facts)
    try:
        return np.load(cached, mmap_mode="r")
    except FileNotFoundError:
        return _resize(path, facts)[0]
    except (ValueError, EOFError, OSError):  # damaged on the disk: resized again
        return _resize(path, facts)[0]


def _cached_file(path: str | Path, facts: FileFacts) -> Path:
    """The name depends on path, size and time of change, and on the resizing; these are trusted, see `fill_cache`."""
    what = f"{Path(path).resolve()}|{facts.size}|{facts.mtime_ns}|{RESIZING}"
    name = hashlib.sha256(what.encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder() / name[:2] / f"{name}.npy"


def _resize(path: str | Path, facts: FileFacts) -> tuple[np.ndarray, str]:
    """Resize the image and put it into the cache; returns it and the sha256 of the file's bytes."""
    pixels, sha = read_bytes_rgb(path)
    if file_facts(path) != facts:
        raise InputError(f"{path} changed while it was in use: run the same command again.")
    image = Image.fromarray(pixels)
    factor = SHORT_SIDE / min(image.size)
    size = (max(SHORT_SIDE, round(image.width * factor)), max(SHORT_SIDE, round(image.height * factor)))
    small = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    buffer = io.BytesIO()
    np.save(buffer, small)
    write_atomically(_cached_file(path, facts), buffer.getvalue())
    return small, sha


def fill_cache(
    paths: Sequence[str], progress: Callable[[int, int], object] = lambda *_: None, workers: int = 2
) -> list[str]:
    """Resize every image once; returns the sha256 of each file's bytes.

    A file is read if its path, size or time of change is new; otherwise its content is assumed to be unchanged. Raises InputError for
    the first file that cannot be read.
    """
    _clear_temporary(cache_folder())
    index, entries = _read_index(), []
    pool = ThreadPoolExecutor(workers)
    try:
        for done, entry in enumerate(pool.map(lambda path: _content(path, index), paths), 1):
            entries.append(entry)
            progress(done, len(paths))
    finally:  # also after Ctrl-C: images that have not started are not waited for
        pool.shutdown(cancel_futures=True)
        if new := {name: sha for name, sha in entries if name not in index}:
            _write_index(_read_index() | new)
    return [sha for _, sha in entries]


def _content(path: str, index: dict[str, str]) -> tuple[str, str]:
    """(name in the index, sha256) of an image that is in the cache from now on."""
    facts = file_facts(path)
    cached = _cached_file(path, facts)
    if cached.stem in index and cached.is_file():
        return cached.stem, index[cached.stem]
    return cached.stem, _resize(path, facts)[1]


def _read_index() -> dict[str, str]:
    """{name of the cached file: sha256 of the image}; {} where the index is missing or damaged, so that it is made again."""
    try:
        content = json.loads((cache_folder() / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_index(index: dict[str, str]) -> None:
    write_atomically(cache_folder() / INDEX, json.dumps(index, sort_keys=True).encode())


def _clear_temporary(folder: Path) -> None:
    """Delete temporary files of killed runs; those of a run that is writing now are younger than `LEFTOVER_AGE`."""
    for leftover in [*folder.glob(f"{TEMPORARY}*"), *folder.glob(f"*/{TEMPORARY}*")]:
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > LEFTOVER_AGE:
                leftover.unlink()


def crop(image: np.ndarray, rng: np.random.Generator, flips: bool) -> np.ndarray:
    """A random 224 px crop of [H, W, 3], flipped at random along both axes if asked."""
    top, left = (int(rng.integers(0, n - SIZE + 1)) for n in image.shape[:2])
    part = image[top : top + SIZE, left : left + SIZE]
    if flips:
        part = part[:: rng.choice([1, -1]), :: rng.choice([1, -1])]
    return part


def normalized(window: np.ndarray) -> Tensor:
    """uint8 [..., H, W, 3] → float [..., 3, H, W] with ImageNet's mean and std."""
    x = torch.from_numpy(np.ascontiguousarray(window)).float().div_(255)
    return ((x - torch.tensor(MEAN)) / torch.tensor(STD)).movedim(-1, -3)


class TrainingCrops(Dataset[tuple[Tensor, Tensor, int]]):
    """`crops` random crops of every image per epoch, with label and epoch; an item is the same in every process and after a resume."""

    def __init__(self, table: pd.DataFrame, crops: int, seed: int) -> None:
        self.paths, self.labels = list(table["dist_path"]), table["quality"].to_numpy(np.float32)
        self.facts = [file_facts(path) for path in self.paths]  # an image that changes later is not used
        self.crops, self.seed = crops, seed

    def __len__(self) -> int:
        return len(self.paths) * self.crops

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor, int]:
        epoch, i = key
        rng = np.random.default_rng([self.seed, epoch, i])
        number = i % len(self.paths)
        image = resized(self.paths[number], self.facts[number])
        return normalized(crop(image, rng, flips=True)), torch.tensor(self.labels[number]), epoch


class EpochSampler(Sampler[tuple[int, int]]):
    """(epoch, item) in an order that depends only on seed and epoch; process `rank` of `world` takes every `world`-th."""

    def __init__(self, length: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.length, self.seed, self.rank, self.world, self.epoch = length, seed, rank, world, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before every epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return iter([(self.epoch, int(i)) for i in order[self.rank :: self.world]][: len(self)])

    def __len__(self) -> int:
        return self.length // self.world


class EvaluationCrops(Dataset[tuple[Tensor, Tensor]]):
    """All `crops` crops of an image as one item [crops, 3, 224, 224], the same whenever they are drawn."""

    def __init__(self, table: pd.DataFrame, crops: int = TEST_CROPS, seed: int = 0) -> None:
        self.paths, self.labels = list(table["dist_path"]), table["quality"].to_numpy(np.float32)
        self.facts = [file_facts(path) for path in self.paths]
        self.crops, self.seed = crops, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        crops = evaluation_crops(self.paths[i], self.crops, self.seed, self.facts[i])
        # The same memory layout in a worker and in this process, because the rounding of convolutions depends on it.
        return crops.contiguous(), torch.tensor(self.labels[i])


def evaluation_crops(
    path: str | Path, crops: int = TEST_CROPS, seed: int = 0, facts: FileFacts | None = None
) -> Tensor:
    """`crops` random crops of one image, [crops, 3, 224, 224]; they depend on the image's size and `seed`, not on its position."""
    image = resized(path, facts)
    rng = np.random.default_rng([seed, *image.shape[:2]])
    return normalized(np.stack([crop(image, rng, flips=False) for _ in range(crops)]))
