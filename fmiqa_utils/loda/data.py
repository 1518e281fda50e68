"""LoDa's images: labelled, resized once and cached, cropped and flipped by seeds that depend on epoch and image alone."""

import hashlib
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from fmiqa_utils.dataset_registry import DATASETS
from fmiqa_utils.datasets import load_images, load_pairs
from fmiqa_utils.errors import InputError
from fmiqa_utils.images import file_facts, read_rgb
from fmiqa_utils.loda.model import MEAN, SIZE, STD
from fmiqa_utils.paths import data_root
from fmiqa_utils.storage import write_atomically

SHORT_SIDE = 384  # px
LEAST = 10  # images
TRAIN_CROPS = {"live": 5, "tid2013": 10, "kadid10k": 3, "koniq10k": 3, "spaq": 3, "livec": 5, "flive": 1}
TEST_CROPS = 15
COLUMNS = ["dataset", "pair_id", "ref", "dist_path", "quality", "label_kind"]


def load_labelled(
    dataset: str, root: str | Path | None = None, *, labels: str | None = None, direction: str | None = None
) -> pd.DataFrame:
    """Distorted images with their labels: `COLUMNS`; `ref` groups what a split must keep together.

    An image without a reference is a group of its own. Raises InputError for a dataset of fewer than ten images or of one group.
    """
    if dataset in DATASETS and DATASETS[dataset].kind == "images":
        table = load_images(dataset, root).assign(ref=lambda t: t["dist"])
    else:
        table = load_pairs(dataset, root, labels=labels, direction=direction)
    if len(table) < LEAST or table["ref"].nunique() < 4:
        raise InputError(
            f"{dataset} has {len(table)} images of {table['ref'].nunique()} references: LoDa needs at least {LEAST} images of four, "
            f"two to test, one to validate and one to train on."
        )
    return table[COLUMNS].reset_index(drop=True)


def cache_folder() -> Path:
    """Where resized images are kept."""
    return data_root() / "cache" / f"short{SHORT_SIDE}"


def resized(path: str | Path) -> np.ndarray:
    """The image with its short side at 384 px (bicubic), uint8 [H, W, 3], from the cache if it is there."""
    facts = file_facts(path)
    name = hashlib.sha256(f"{Path(path).resolve()}|{facts.size}|{facts.mtime_ns}".encode()).hexdigest()
    cached = cache_folder() / name[:2] / f"{name}.npy"
    if not cached.is_file():
        image = Image.fromarray(read_rgb(path))
        factor = SHORT_SIDE / min(image.size)
        size = (max(SHORT_SIDE, round(image.width * factor)), max(SHORT_SIDE, round(image.height * factor)))
        small = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
        buffer = io.BytesIO()
        np.save(buffer, small)
        write_atomically(cached, buffer.getvalue())
    return np.load(cached, mmap_mode="r")


def fill_cache(
    paths: list[str], progress: Callable[[int, int], object] = lambda *_: None, workers: int = 2
) -> None:
    """Resize every image once. Raises InputError for the first that cannot be read."""
    with ThreadPoolExecutor(workers) as pool:
        for done, _ in enumerate(pool.map(resized, paths), 1):
            progress(done, len(paths))


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


class TrainingCrops(Dataset[tuple[Tensor, Tensor]]):
    """`crops` random crops of every image per epoch; item i of an epoch is the same in every process and after a resume."""

    def __init__(self, table: pd.DataFrame, crops: int, seed: int) -> None:
        self.paths, self.labels = list(table["dist_path"]), table["quality"].to_numpy(np.float32)
        self.crops, self.seed = crops, seed

    def __len__(self) -> int:
        return len(self.paths) * self.crops

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, i = key
        rng = np.random.default_rng([self.seed, epoch, i])
        image = resized(self.paths[i % len(self.paths)])
        return normalized(crop(image, rng, flips=True)), torch.tensor(self.labels[i % len(self.paths)])


class EpochSampler(Sampler[tuple[int, int]]):
    """(epoch, item) in an order that depends on seed and epoch alone; process `rank` of `world` takes every `world`-th."""

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
        self.crops, self.seed = crops, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return evaluation_crops(self.paths[i], self.crops, self.seed), torch.tensor(self.labels[i])


def evaluation_crops(path: str | Path, crops: int = TEST_CROPS, seed: int = 0) -> Tensor:
    """`crops` random crops of one image, [crops, 3, 224, 224]; they depend on its size and `seed`, not on its place in a list."""
    image = resized(path)
    rng = np.random.default_rng([seed, *image.shape[:2]])
    return normalized(np.stack([crop(image, rng, flips=False) for _ in range(crops)]))
