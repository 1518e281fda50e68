"""Small datasets of made-up pictures: a CSV of pairs beside its PNG files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fmiqa_utils.datasets.tables import load_pairs


def blocks(height: int, width: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 [H, W, 3]: squares of `side` px in random colours; 1 is noise."""
    small = rng.integers(0, 256, (-(-height // side), -(-width // side), 3))
    return np.kron(small, np.ones((side, side, 1)))[:height, :width].astype(np.uint8)


def write_pairs(
    folder: Path,
    refs: int = 2,
    noise: Sequence[float] = (10, 20),
    size: tuple[int, int] = (224, 240),
    side: int = 1,
) -> Path:
    """References r0.png, r1.png, … of `size`, for each r0_0.png, … with noise of these standard deviations; returns their CSV.

    Columns ref, dist, label (5 − level, less a tenth for each reference, so higher is better), distortion, level (from 1).
    """
    rng, rows = np.random.default_rng(0), []
    folder.mkdir(parents=True, exist_ok=True)
    for r in range(refs):
        ref = blocks(*size, side, rng)
        Image.fromarray(ref).save(folder / f"r{r}.png")
        for d, std in enumerate(noise):
            noisy = np.clip(ref + rng.normal(0, std, ref.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"r{r}_{d}.png")
            rows.append((f"r{r}.png", f"r{r}_{d}.png", 4.0 - d - r / 10, "noise", d + 1))
    table = folder / "pairs.csv"
    pd.DataFrame(rows, columns=["ref", "dist", "label", "distortion", "level"]).to_csv(table, index=False)
    return table


def pairs_of(table: Path) -> pd.DataFrame:
    """The pairs of a CSV of `write_pairs`."""
    return load_pairs(f"csv:{table}", direction="higher")
