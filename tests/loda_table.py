"""The small dataset and options that LoDa's tests train on."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fmiqa_utils.loda.data import load_labelled
from fmiqa_utils.loda.options import Options

SMALL = Options(
    "vit_tiny_patch16_224",
    "resnet10t",
    "untrained",
    epochs=2,
    batch=4,
    crops=1,
    test_crops=2,
    learning_rate=1e-3,
)
HOW = {"device": "cpu", "workers": 0}


def write_images(folder: Path, seed: int = 0) -> Path:
    """pairs.csv and its images: five references with three noisy images each; `seed` changes what they show, not what they are called."""
    rng, rows = np.random.default_rng(seed), []
    folder.mkdir(parents=True, exist_ok=True)
    for r in range(5):
        ref = np.kron(rng.integers(0, 256, (8, 10, 3)), np.ones((30, 30, 1)))
        Image.fromarray(ref.astype(np.uint8)).save(folder / f"r{r}.png")
        for d in range(3):
            noisy = np.clip(ref + rng.normal(0, 5 + 40 * d, ref.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"r{r}_{d}.png")
            rows.append((f"r{r}.png", f"r{r}_{d}.png", 5.0 - 2 * d))
    pd.DataFrame(rows, columns=["ref", "dist", "label"]).to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


def small_table(folder: Path, seed: int = 0) -> pd.DataFrame:
    """The labelled images of `write_images`."""
    return load_labelled(f"csv:{write_images(folder, seed)}", direction="higher")
