"""Builds every official layout at full size: the authors' names and label files, empty files for images."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
from scipy.io import savemat

from fmiqa_utils.datasets.layouts import CSIQ_TYPES, LIVE_FOLDERS, PIPAL_FAMILIES

PIPAL_COUNTS = dict(
    zip(PIPAL_FAMILIES, (12, 16, 10, 24, 13, 14, 27), strict=True)
)  # images a family and reference


def touch(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        os.close(os.open(folder / name, os.O_CREAT | os.O_WRONLY))


def build_live(data: Path) -> Path:
    """LIVE R2 with made-up labels: every reference's copy sits at the end of each distortion's series."""
    root = data / "databaserelease2"
    copies = {"jp2k": 58, "jpeg": 58, "wn": 29, "gblur": 29, "fastfading": 29}
    orgs, refs = [], []
    for folder, (_, count) in LIVE_FOLDERS.items():
        touch(root / folder, [f"img{i}.bmp" for i in range(1, count + 1)])
        orgs += [0] * (count - copies[folder]) + [1] * copies[folder]
        refs += [f"ref{i % 29:02d}.bmp" for i in range(count)]
    touch(root / "refimgs", sorted(set(refs)))
    marks = np.array([orgs], dtype=np.uint8)
    index = np.arange(982, dtype=float)[None]
    cell = np.empty((1, 982), dtype=object)
    cell[0] = refs
    savemat(root / "dmos.mat", {"dmos": index, "orgs": marks})
    savemat(root / "dmos_realigned.mat", {"dmos_new": 1000 - index, "dmos_std": index / 100, "orgs": marks})
    savemat(root / "refnames_all.mat", {"refnames_all": cell})
    return root


def build_tid2013(data: Path) -> Path:
    """TID2013 with the case mix of the real list, and a disk whose names are all in capitals."""
    root = data / "TID2013"
    names, lines = [], []
    for ref in range(1, 26):
        for kind in range(1, 25):
            for level in range(1, 6):
                first = "I" if level == 1 else "i"
                names.append(f"{first}{ref:02d}_{kind:02d}_{level}.bmp")
                lines.append(f"{ref / 5 + kind / 100 + level / 1000:.5f} {names[-1]}")
    touch(root / "distorted_images", [name.upper() for name in names])
    touch(root / "reference_images", [f"I{i:02d}.BMP" for i in range(1, 25)] + ["i25.bmp"])
    (root / "mos_with_names.txt").write_text("\r\n".join(lines) + "\r\n")
    (root / "mos_std.txt").write_text("".join(f"{i / 10000:.5f}\n" for i in range(3000)))
    return root


def build_csiq(data: Path) -> Path:
    """CSIQ with its workbook: header in row 4 from column D, an image named 1600, blank rows between."""
    root = data / "CSIQ"
    images = ["1600", *(f"image{i:02d}" for i in range(1, 30))]
    book = openpyxl.Workbook()
    book.active.title = "all_by_distortion"
    sheet = book.create_sheet("all_by_image")
    sheet.cell(row=1, column=1, value="CSIQ")
    header = ("image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos")
    rows: list[tuple[object, ...]] = [header]
    touch(root / "src_imgs", [f"{image}.png" for image in images])
    for i, image in enumerate(images):
        for j, (kind, (folder, spelled, _)) in enumerate(CSIQ_TYPES.items(), start=1):
            levels = range(1, 5 if kind == "contrast" and i < 26 else 4 if kind == "contrast" else 6)
            touch(root / "dst_imgs" / folder, [f"{image}.{spelled}.{level}.png" for level in levels])
            name: object = 1600 if image == "1600" else image
            rows += [
                (name, j, kind, level, 0.1 * level, i / 30 + j / 1000 + level / 5000) for level in levels
            ]
        rows.append((None,) * 6)
    for number, row in enumerate(rows, start=4):
        for column, value in enumerate(row, start=4):
            sheet.cell(row=number, column=column, value=value)
    book.save(root / "csiq.DMOS.xlsx")
    return root


def build_kadid10k(data: Path) -> Path:
    root = data / "kadid10k"
    names = [
        (f"I{r:02d}_{t:02d}_{v:02d}.png", r, v)
        for r in range(1, 82)
        for t in range(1, 26)
        for v in range(1, 6)
    ]
    touch(root / "images", [name for name, _, _ in names] + [f"I{r:02d}.png" for r in range(1, 82)])
    lines = [f"{name},I{r:02d}.png,{5 - v * 0.8:.2f},0.496\n" for name, r, v in names]
    (root / "dmos.csv").write_text("dist_img,ref_img,dmos,var\n" + "".join(lines))
    return root


def build_pipal(data: Path, variant: str = "Train_Dist") -> Path:
    root = data / "PIPAL"
    refs = [f"A{i:04d}" for i in range(200)]
    touch(root / "Train_Ref", [f"{ref}.bmp" for ref in refs])
    (root / "Train_Label").mkdir()
    for i, ref in enumerate(refs):
        names = [f"{ref}_{family}_{k:02d}.bmp" for family, n in PIPAL_COUNTS.items() for k in range(n)]
        part = {"split": f"Distortion_{i // 50 + 1}", "nested": f"Train_Dist/Distortion_{i // 50 + 1}"}
        touch(root / part.get(variant, variant), names)
        lines = [f"{name},{1400 + i + k / 10:.4f}\n" for k, name in enumerate(names)]
        (root / "Train_Label" / f"{ref}.txt").write_text("".join(lines))
    return root


def build_bapps(data: Path) -> Path:
    root = data / "bapps" / "dataset"
    for split, kinds in {"val": ("cnn", "traditional"), "train": ("mix",)}.items():
        for kind in kinds:
            for part in ("ref", "p0", "p1"):
                touch(root / "2afc" / split / kind / part, [f"{i:06d}.png" for i in range(4)])
            (root / "2afc" / split / kind / "judge").mkdir()
            for i in range(4):
                np.save(
                    root / "2afc" / split / kind / "judge" / f"{i:06d}.npy", np.array([i / 4], np.float32)
                )
    for part in ("p0", "p1"):
        touch(root / "jnd" / "val" / "cnn" / part, [f"{i:06d}.png" for i in range(3)])
    (root / "jnd" / "val" / "cnn" / "same").mkdir()
    for i in range(3):
        np.save(root / "jnd" / "val" / "cnn" / "same" / f"{i:06d}.npy", np.array([i / 3]))
    return root


def build_koniq10k(data: Path) -> Path:
    root = data / "koniq-10k"
    names = [f"{i}.jpg" for i in range(10_073)]
    touch(root / "1024x768", names)
    header = '"image_name","c1","c2","c3","c4","c5","c_total","MOS","SD","MOS_zscore"\n'
    lines = [f'"{name}",0,0,25,73,7,105,3.8,0.5,{i / 110:.4f}\n' for i, name in enumerate(names)]
    (root / "koniq10k_scores_and_distributions.csv").write_text(header + "".join(lines))
    return root


def build_spaq(data: Path) -> Path:
    root = data / "SPAQ"
    names = [f"{i:05d}.jpg" for i in range(1, 11_126)]
    touch(root / "TestImage", names)
    table = pd.DataFrame({"Image name": names, "MOS": np.linspace(0, 100, 11_125), "Brightness": 50.0})
    (root / "Annotations").mkdir()
    table.to_excel(root / "Annotations" / "MOS and Image attribute scores.xlsx", index=False)
    return root


def build_livec(data: Path) -> Path:
    root = data / "ChallengeDB_release"
    names = [f"t{i}.bmp" for i in range(1, 8)] + [f"{i}.bmp" for i in range(3, 1165)]
    touch(root / "Images", names[7:])
    touch(root / "Images" / "trainingImages", names[:7])
    cell = np.empty((1169, 1), dtype=object)
    cell[:, 0] = names
    (root / "Data").mkdir()
    savemat(root / "Data" / "AllImages_release.mat", {"AllImages_release": cell})
    savemat(root / "Data" / "AllMOS_release.mat", {"AllMOS_release": np.arange(1169.0)[None] / 20})
    savemat(root / "Data" / "AllStdDev_release.mat", {"AllStdDev_release": np.arange(1169.0)[None] / 100})
    return root


PAIRS: dict[str, Callable[[Path], Path]] = {
    "live": build_live,
    "tid2013": build_tid2013,
    "csiq": build_csiq,
    "kadid10k": build_kadid10k,
    "pipal": build_pipal,
}
