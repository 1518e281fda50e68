"""What the released procedure was measured on: ten images and the weights of its models, drawn anew by their recipe.

The numbers that it gave are in tests/golden/released_*.json. Its per-image results are not here: made-up ones have their layout.
"""

import hashlib
import io
import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageFilter
from skimage import data

from fmiqa_utils.published.files import LIVE_DISTORTED

GOLDEN = Path(__file__).parent / "golden"
REFERENCES = {  # photograph of scikit-image and the slice that is cut out of it
    "astro288": (data.astronaut, np.s_[20:308, 100:388]),
    "cat224": (data.chelsea, np.s_[30:254, 100:324]),
    "coffee384x512": (data.coffee, np.s_[8:392, 40:552]),
}
PIXELS = {  # sha256 (first 12 digits) of each image's bytes
    "astro288_blur.png": "3105f15b93d6",
    "astro288_jpeg.png": "6b9ca6f58928",
    "astro288_noise.png": "5082e4658f46",
    "astro288_ref.png": "18e3d07df824",
    "cat224_blur.png": "80038632b5bf",
    "cat224_noise.png": "ac05a649d5a9",
    "cat224_ref.png": "cf8979be7e6c",
    "coffee384x512_blur.png": "42eaf9f91818",
    "coffee384x512_noise.png": "b2b20f9bef6c",
    "coffee384x512_ref.png": "8e1ba1f30ef4",
}


def table(name: str) -> Any:
    """The stored numbers called `name`."""
    return json.loads((GOLDEN / f"released_{name}.json").read_text())


@cache
def image(name: str) -> np.ndarray:
    """uint8 [H, W, 3] of the image called `name`, such as "cat224_blur.png", the same to the pixel as when it was measured."""
    reference, kind = name.removesuffix(".png").split("_")
    photograph, cut = REFERENCES[reference]
    pixels = distorted(np.ascontiguousarray(photograph()[cut]), kind)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:12] == PIXELS[name], f"{name} is another image"
    return pixels


def distorted(ref: np.ndarray, kind: str) -> np.ndarray:
    """The reference itself, blurred, with noise, or through JPEG."""
    if kind == "noise":
        noisy = ref + np.random.RandomState(1).normal(0, 12, ref.shape)
        return np.clip(noisy.round(), 0, 255).astype(np.uint8)
    picture = Image.fromarray(ref)
    if kind == "blur":
        picture = picture.filter(ImageFilter.GaussianBlur(2))
    if kind == "jpeg":
        coded = io.BytesIO()
        picture.save(coded, "JPEG", quality=15)
        picture = Image.open(coded)
    return np.asarray(picture)


def seeded_state(state: dict[str, torch.Tensor], seed: int = 0) -> dict[str, torch.Tensor]:
    """The float tensors of `state` with the values that the released procedure was measured with."""
    return {
        name: torch.from_numpy(seeded_array(name, tuple(t.shape), seed))
        for name, t in state.items()
        if t.is_floating_point()
    }


def seeded_array(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """float32 array for the parameter or buffer `name`, from numpy's frozen legacy generator."""
    rng = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32)
    x = rng.standard_normal(shape)
    last = name.rsplit(".", 1)[-1]
    if last == "running_var":
        x = 1 + 0.1 * np.abs(x)
    elif last == "running_mean":
        x = 0.1 * x
    elif last in ("pos_embed", "cls_token", "positional_embedding", "class_embedding"):
        x = 0.2 * x
    elif last == "weight" and len(shape) == 1:
        x = 1 + 0.1 * x
    elif last == "proj" and len(shape) == 2:
        x = x / np.sqrt(shape[0])
    elif len(shape) == 4:
        x = x * np.sqrt(2 / np.prod(shape[1:]))
    elif len(shape) >= 2:
        x = x / np.sqrt(np.prod(shape[1:]))
    else:
        x = 0.05 * x
    return x.astype(np.float32)


def write_per_image_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Made-up per-image results in the layout of the released ones, one Parquet file per dataset; returns the tables.

    LIVE in full, without its folders; TID2013 in full, as 100 − MOS; a tenth of PIPAL, where higher labels are better.
    """
    live = [f"img{2 * i + 1}.bmp" for count in LIVE_DISTORTED.values() for i in range(count)]
    tid = [
        f"{'Ii'[lv > 1]}{r:02}_{k:02}_{lv}.bmp"
        for r in range(1, 26)
        for k in range(1, 25)
        for lv in range(1, 6)
    ]
    pipal = [f"A{r:04}_{k:02}_{n:02}.bmp" for r in range(20) for k in range(4) for n in range(29)]
    tables = {
        "live": _results(live, [f"ref{i % 29}.bmp" for i in range(len(live))], -1, 30),
        "tid2013": _results(tid, [f"I{name[1:3]}.BMP" for name in tid], -1, 95),
        "pipal": _results(pipal, [f"{name[:5]}.bmp" for name in pipal], 1, 1400),
    }
    for dataset, rows in tables.items():
        rows.to_parquet(folder / f"{dataset}.parquet")
    return tables


def _results(dis: list[str], ref: list[str], direction: int, middle: float) -> pd.DataFrame:
    rng = np.random.default_rng(len(dis))
    quality = rng.normal(size=len(dis))

    def distance(noise: float) -> np.ndarray:
        return np.exp(-quality + noise * rng.normal(size=len(dis)))

    methods = {
        "dinov1_cos": distance(0.3),
        "dinov1_swd": distance(0.5) ** 3,  # a long tail: its raw PLCC is far below its SRCC
        "embed_dinov1_cos": 1e-3 * distance(0.8),
        "dinov1_cos_tra-1": distance(0.4),
        "psnr": 30 + 5 * quality + rng.normal(size=len(dis)),
        "fsim": 0.01 * distance(0.6),
    }
    return pd.DataFrame({"dis": dis, "ref": ref, "mos": middle + direction * quality, **methods})
