"""Datasets in miniature that fmiqa reads as if they were whole: the authors' layouts with a few small images in them."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
from layouts import touch
from PIL import Image
from scipy.io import savemat

SIDE = 226  # px, room to be cropped by 1 %
REFS = 4
KINDS = {1: "noise", 8: "blur"}  # numbers of TID2013's types
LEVELS = (1, 2)
PER_REF = len(KINDS) * len(LEVELS)

# What a process with this on its PYTHONPATH takes for the size of LIVE, TID2013 and PIPAL; notebooks' kernels are such processes.
SHRINK = f"""
from dataclasses import replace
from fmiqa_utils.datasets import layouts as dataset_readers
from fmiqa_utils.datasets import registry as dataset_registry
sizes = {{"live": {REFS * PER_REF}, "tid2013": {REFS * PER_REF}, "pipal": {REFS * PER_REF}}}
for name, rows in sizes.items():
    dataset_registry.DATASETS[name] = replace(dataset_registry.DATASETS[name], rows=rows, references={REFS})
folders = dataset_readers.LIVE_FOLDERS
dataset_readers.LIVE_FOLDERS = {{
    folder: (words, {REFS * PER_REF + REFS} if i == 0 else 0) for i, (folder, (words, _)) in enumerate(folders.items())
}}
dataset_readers.LIVE_COPIES = {REFS}
"""


def images(names: list[Path], refs: list[int], strengths: list[float]) -> None:
    """Write one image per name: reference number `refs` with noise of so many grey levels; 0 is the reference itself."""
    for path, ref, strength in zip(names, refs, strengths, strict=True):
        coarse = Image.fromarray(np.random.default_rng(ref).integers(0, 256, (8, 8, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), float)
        seed = int(hashlib.sha256(path.name.encode()).hexdigest()[:8], 16)
        noisy = pixels + strength * np.random.default_rng(seed).normal(size=pixels.shape)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)


def _distorted() -> list[tuple[int, int, int]]:
    """(reference, type, level), references from 1 on."""
    return [(r, k, level) for r in range(1, REFS + 1) for k in KINDS for level in LEVELS]


def strength(kind: int, level: int) -> float:
    """Noise in grey levels."""
    return 15.0 * level + kind


def tree_of_live(data: Path) -> Path:
    """LIVE R2 as in data/README.md, all of it JPEG 2000."""
    root = data / "databaserelease2"
    rows = _distorted()
    files = [root / "jp2k" / f"img{i}.bmp" for i in range(1, len(rows) + REFS + 1)]
    refs = [r for r, _, _ in rows] + list(range(1, REFS + 1))
    strengths = [strength(k, level) for _, k, level in rows] + [0.0] * REFS
    images(files, refs, strengths)
    images(
        [root / "refimgs" / f"ref{r}.bmp" for r in range(1, REFS + 1)], list(range(1, REFS + 1)), [0.0] * REFS
    )
    for folder in ("jpeg", "wn", "gblur", "fastfading"):
        touch(root / folder, [])
    marks = np.array([[0] * len(rows) + [1] * REFS], dtype=np.uint8)
    label = np.array([strengths]) + np.array([refs]) / 7
    cell = np.empty((1, len(files)), dtype=object)
    cell[0] = [f"ref{r}.bmp" for r in refs]
    savemat(root / "dmos.mat", {"dmos": label, "orgs": marks})
    savemat(root / "dmos_realigned.mat", {"dmos_new": label * 2, "dmos_std": label / 100, "orgs": marks})
    savemat(root / "refnames_all.mat", {"refnames_all": cell})
    return root


def tree_of_tid2013(data: Path) -> Path:
    """TID2013 as in data/README.md."""
    root = data / "tid2013"
    rows = _distorted()
    names = [f"i{r:02d}_{k:02d}_{level}.bmp" for r, k, level in rows]
    files = [root / "distorted_images" / n for n in names]
    images(files, [r for r, _, _ in rows], [strength(k, level) for _, k, level in rows])
    refs = list(range(1, REFS + 1))
    images([root / "reference_images" / f"I{r:02d}.BMP" for r in refs], refs, [0.0] * REFS)
    lines = [f"{8 - strength(k, v) / 10 - r / 9:.5f} {n}" for (r, k, v), n in zip(rows, names, strict=True)]
    (root / "mos_with_names.txt").write_text("\r\n".join(lines) + "\r\n")
    return root


def tree_of_pipal(data: Path) -> Path:
    """PIPAL's training part as in data/README.md."""
    root = data / "pipal"
    (root / "Train_Label").mkdir(parents=True)
    for r in range(1, REFS + 1):
        rows = [row for row in _distorted() if row[0] == r]
        names = [f"A{r:04d}_{i % 2:02d}_{i:02d}.bmp" for i in range(len(rows))]
        strengths = [strength(k, level) for _, k, level in rows]
        images([root / "Train_Dist" / n for n in names], [r] * len(rows), strengths)
        images([root / "Train_Ref" / f"A{r:04d}.bmp"], [r], [0.0])
        lines = [f"{n},{1600 - s - r:.4f}" for n, s in zip(names, strengths, strict=True)]
        (root / "Train_Label" / f"A{r:04d}.txt").write_text("\n".join(lines) + "\n")
    return root


def own_table(folder: Path, *, torn: bool = False) -> Path:
    """A user's own pairs.csv with relative names, whose path is returned; with `torn`, one image is cut short."""
    rows = _distorted()
    names = [f"coded/r{r} {KINDS[k]} {level}.png" for r, k, level in rows]
    images([folder / n for n in names], [r for r, _, _ in rows], [strength(k, level) for _, k, level in rows])
    refs = list(range(1, REFS + 1))
    images([folder / "refs" / f"r{r}.png" for r in refs], refs, [0.0] * REFS)
    if torn:
        path = folder / names[5]
        path.write_bytes(path.read_bytes()[:5000])
    table = pd.DataFrame(
        {
            "ref": [f"refs/r{r}.png" for r, _, _ in rows],
            "dist": names,
            "label": [5 - strength(k, level) / 20 - r / 9 for r, k, level in rows],
            "distortion": [KINDS[k] for _, k, _ in rows],
            "level": [level for _, _, level in rows],
        }
    )
    table.to_csv(folder / "pairs.csv", index=False)
    return folder / "pairs.csv"


def tree_of_demo(data: Path) -> Path:
    """The demo dataset with other images, so small that `fmiqa demo` finds it whole at once."""
    from fmiqa_utils.demo.build import _recipe

    root = data / "demo"
    own_table(root)
    table = pd.read_csv(root / "pairs.csv")
    table.assign(type=[k for _, k, _ in _distorted()]).to_csv(root / "pairs.csv", index=False)
    deviations = {
        "type": list(KINDS),
        "level": 1,
        "matched": "each image",
        "continuous": True,
        "deviation": 0.25,
    }
    pd.DataFrame(deviations).to_csv(root / "deviations.csv", index=False)
    files = {str(p.relative_to(root)): p.stat().st_size for p in root.rglob("*") if p.is_file()}
    (root / "manifest.json").write_text(json.dumps({"recipe": _recipe(), "files": files}))
    return root
