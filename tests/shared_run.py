"""One small run that has everything a real one may have, made once for all processes of pytest (`everything` of conftest)."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter

from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.extraction.extract import extract_run
from fmiqa_utils.extraction.scorer import Settings
from fmiqa_utils.scores.run_names import run_parts
from fmiqa_utils.scores.runs import save_run

NAME = "everything"
IMAGES, SCORES = "own images", "scores"  # in the folder that `everything` returns
MODELS = ("timm:vit_tiny_patch16_224", "timm:resnet10t")  # twelve blocks, and five maps
NORMALIZE = ("none", "model")
TRANSFORMS = ("none", "tra-1", "sca-1", "rot-1")
KINDS = ("blur", "noise")
LEVELS = (1, 2)
SIZES = (  # width and height in px, one reference each: 2, 2, 4 and 2 windows, moved or not; LoDa needs four
    (230, 224),
    (300, 224),
    (230, 240),
    (230, 224),
)
MOVED = 6  # pairs scored under the transforms
UNREADABLE = "r1_noise_2.png"


def make_run(folder: Path) -> str:
    """Write images and labels into `folder`, score them, and return the run's name.

    A ViT and a CNN, both with and without normalization; both forms of the usual five distances; PSNR, SSIM and, where pyiqa is
    installed, MS-SSIM and FSIM; unmoved, and a part of the pairs moved; 4 references with 4
    distorted images each, one of which cannot be read.
    """
    pairs = load_pairs(f"csv:{write_dataset(folder)}", direction="higher")
    baselines = ("psnr", "ssim", *(("ms_ssim", "fsim") if find_spec("pyiqa") else ()))
    settings = Settings(variants=("published", "corrected"), baselines=baselines)
    folders: list[Path] = []
    for normalize in NORMALIZE:
        chosen = [(model, "untrained") for model in MODELS]
        extract_run(
            NAME,
            pairs,
            chosen,
            settings=settings,
            transforms=TRANSFORMS,
            transform_pairs=MOVED,
            normalize=normalize,
            device="cpu",
        )
        folders += [part.folder for part in run_parts(NAME)]
    save_run(NAME, folders)
    return NAME


def write_dataset(folder: Path) -> Path:
    """The images and pairs.csv, whose path is returned."""
    rng, rows = np.random.default_rng(0), []
    for r, size in enumerate(SIZES):
        coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        ref = coarse.resize(size, Image.Resampling.BICUBIC)
        ref.save(folder / f"r{r}.png")
        for kind in KINDS:
            for level in LEVELS:
                name = f"r{r}_{kind}_{level}.png"
                _distorted(ref, kind, level, rng).save(folder / name)
                label = 5 - level - 0.25 * r - 0.5 * (kind == "noise")
                rows.append((f"r{r}.png", name, label, kind, level))
    torn = (folder / UNREADABLE).read_bytes()
    (folder / UNREADABLE).write_bytes(torn[: len(torn) // 2])
    table = pd.DataFrame(rows, columns=["ref", "dist", "label", "distortion", "level"])
    table.to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


def _distorted(ref: Image.Image, kind: str, level: int, rng: np.random.Generator) -> Image.Image:
    if kind == "blur":
        return ref.filter(ImageFilter.GaussianBlur(3 * level))
    values = np.asarray(ref) + rng.normal(0, 20 * level, (ref.height, ref.width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))
