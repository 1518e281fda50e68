"""Readers of datasets without references or with choices: one function per dataset, called by name from the registry."""

from pathlib import Path

import numpy as np
import pandas as pd

from fmiqa_utils.datasets.csv_tables import finite, read_rows
from fmiqa_utils.datasets.folder import Folder, first_few
from fmiqa_utils.datasets.label_files import mat, workbook
from fmiqa_utils.errors import InputError

LIVEC_TRAINING = 7  # the first images of the list only taught observers the task


def read_koniq10k(folder: Folder) -> pd.DataFrame:
    """KonIQ-10k: MOS_zscore (1–100) where the score file has it, else its MOS; label_source says which."""
    path = folder.need(
        "koniq10k_scores_and_distributions.csv",
        "koniq10k_scores_and_distributions/koniq10k_scores_and_distributions.csv",
        "koniq10k_scores.csv",
        "koniq10k_distributions_sets.csv",
    )
    rows = read_rows(path, ("image_name", "MOS"))
    column = "MOS_zscore" if "MOS_zscore" in rows else "MOS"
    table = _images(rows["image_name"], "1024x768/", finite(path, rows[column]), f"{path.name}: {column}")
    if "SD" in rows:
        table["label_std"] = finite(path, rows["SD"])
    return table.reset_index(drop=True)


def read_spaq(folder: Folder) -> pd.DataFrame:
    """SPAQ: the first sheet of the workbook of mean opinion scores."""
    name = "MOS and Image attribute scores.xlsx"
    path = folder.need(f"Annotations/{name}", name)
    sheet = workbook(path, ("Image name", "MOS"))
    return _images(sheet["Image name"], "TestImage/", sheet["MOS"], name)


def read_livec(folder: Folder) -> pd.DataFrame:
    """LIVE In the Wild: the list of names without its first 7, which only taught observers the task."""
    names = mat(folder.need("Data/AllImages_release.mat"), "AllImages_release")
    scores = mat(folder.need("Data/AllMOS_release.mat"), "AllMOS_release")
    deviations = mat(folder.need("Data/AllStdDev_release.mat"), "AllStdDev_release")
    if not len(names) == len(scores) == len(deviations):
        raise InputError(f"{folder.root}/Data: names, scores and deviations differ in number.")
    table = _images(pd.Series(names, dtype="str"), "Images/", pd.Series(scores), "AllMOS_release.mat")
    return table.assign(label_std=deviations)[LIVEC_TRAINING:].reset_index(drop=True)


def read_2afc(folder: Folder, split: str | None) -> pd.DataFrame:
    """BAPPS 2AFC triplets: judge is the share of people who found p1 closer to the reference than p0."""
    return _judged(folder, f"2afc/{split or 'val'}", ("ref", "p0", "p1"), "judge")


def read_jnd(folder: Folder, split: str | None) -> pd.DataFrame:
    """BAPPS JND pairs: same is the share of people who took the two patches for the same."""
    return _judged(folder, f"jnd/{split or 'val'}", ("p0", "p1"), "same")


def _judged(folder: Folder, top: str, parts: tuple[str, ...], answer: str) -> pd.DataFrame:
    folder.need(top)
    tables = []
    for kind in (name for name in folder.names(top) if "." not in name):
        stems = _stems(folder, f"{top}/{kind}/{answer}", ".npy")
        shown = {stem for part in parts for stem in _stems(folder, f"{top}/{kind}/{part}", ".png")}
        if unjudged := sorted(shown - set(stems)):
            raise InputError(f"{folder.root}/{top}/{kind} has no {answer} for {first_few(unjudged)}.")
        columns = {f"{part}_file": [f"{top}/{kind}/{part}/{stem}.png" for stem in stems] for part in parts}
        shares = [_share(folder.need(f"{top}/{kind}/{answer}/{stem}.npy")) for stem in stems]
        ids = [f"{top.split('/')[1]}/{kind}/{stem}" for stem in stems]
        tables.append(pd.DataFrame({"pair_id": ids, "distortion": kind, **columns, "label": shares}))
    if not tables:
        raise InputError(f"{folder.root / top} is empty: data/README.md shows the expected layout.")
    return pd.concat(tables, ignore_index=True).assign(label_source=answer)


def _stems(folder: Folder, name: str, suffix: str) -> list[str]:
    return [entry.removesuffix(suffix) for entry in folder.names(name) if entry.endswith(suffix)]


def _share(path: Path) -> float:
    try:
        value = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a NumPy array ({error}).") from error
    if value.size != 1 or not 0 <= value.item() <= 1:
        raise InputError(f"{path} does not hold one share between 0 and 1.")
    return float(value.item())


def _images(names: pd.Series, folder: str, label: pd.Series, source: str) -> pd.DataFrame:
    return pd.DataFrame(
        {"pair_id": names, "dist": names, "dist_file": folder + names, "label": label, "label_source": source}
    )
