"""One reader per official layout: the authors' label files as a table, with the file names they stand for.

Every reader takes the dataset's folder, and the choice of label file where there are several, and returns pair_id, dist, label,
label_source, `*_file` columns (names relative to the folder, to be found on disk) and what else the authors
give: ref, distortion in words, level, label_std. Labels are as shipped, never rescaled or reversed.
"""

import numpy as np
import pandas as pd

from fmiqa_utils.datasets.csv_tables import finite, read_pairs_csv, read_rows
from fmiqa_utils.datasets.folder import Folder, first_few
from fmiqa_utils.datasets.label_files import mat, text_table, workbook
from fmiqa_utils.errors import InputError

LIVE_FOLDERS = {  # in the order of the label files' 982 columns
    "jp2k": ("JPEG 2000", 227),
    "jpeg": ("JPEG", 233),
    "wn": ("white noise", 174),
    "gblur": ("Gaussian blur", 174),
    "fastfading": ("fast fading", 174),
}
LIVE_LABELS = {"dmos": ("dmos.mat", "dmos"), "realigned": ("dmos_realigned.mat", "dmos_new")}
LIVE_COPIES = 203  # of references among the 982

CSIQ_TYPES = {  # dst_type in the workbook: folder, its spelling in file names, in words
    "noise": ("awgn", "AWGN", "white noise"),
    "blur": ("blur", "BLUR", "Gaussian blur"),
    "contrast": ("contrast", "contrast", "contrast decrements"),
    "fnoise": ("fnoise", "fnoise", "pink noise"),
    "jpeg": ("jpeg", "JPEG", "JPEG"),
    "jpeg 2000": ("jpeg2000", "jpeg2000", "JPEG 2000"),
}

TID2013_TYPES = dict(
    enumerate(
        [
            "additive Gaussian noise",
            "noise stronger in colour",
            "spatially correlated noise",
            "masked noise",
            "high-frequency noise",
            "impulse noise",
            "quantisation",
            "Gaussian blur",
            "denoising",
            "JPEG",
            "JPEG 2000",
            "JPEG transmission errors",
            "JPEG 2000 transmission errors",
            "non-eccentricity pattern noise",
            "local block-wise distortion",
            "mean shift",
            "contrast change",
            "colour saturation change",
            "multiplicative Gaussian noise",
            "comfort noise",
            "lossy compression of noisy images",
            "colour quantisation with dither",
            "chromatic aberration",
            "sparse sampling and reconstruction",
        ],
        start=1,
    )
)

KADID_TYPES = [  # types 01 … 25
    "Gaussian blur",
    "lens blur",
    "motion blur",
    "colour diffusion",
    "colour shift",
    "colour quantisation",
    "colour saturation in HSV",
    "colour saturation in Lab",
    "JPEG 2000",
    "JPEG",
    "white noise",
    "white noise in colour components",
    "impulse noise",
    "multiplicative noise",
    "denoising",
    "brightening",
    "darkening",
    "mean shift",
    "jitter",
    "non-eccentricity patches",
    "pixelation",
    "quantisation",
    "colour blocks",
    "sharpening",
    "contrast change",
]

PIPAL_FAMILIES = {  # arXiv 2011.15002; the per-family results of the published scores agree with this order
    "00": "traditional super-resolution",
    "01": "PSNR-oriented super-resolution",
    "02": "super-resolution with kernel mismatch",
    "03": "GAN-based super-resolution",
    "04": "denoising",
    "05": "super-resolution and denoising",
    "06": "traditional distortion",
}
PIPAL_DISTORTED = ["Train_Dist", "Train_Dis", "Dist_Imgs", "Distortion"]
PIPAL_DISTORTED += [f"Distortion_{part}" for part in range(1, 5)]


def read_demo(folder: Folder) -> pd.DataFrame:
    """The embedded demo dataset: pairs.csv with names relative to its folder."""
    table = read_pairs_csv(folder.need("pairs.csv"), folder)
    return table.assign(ref_file=table["ref"], dist_file=table["dist"], label_source="pairs.csv")


def read_live(folder: Folder, labels: str | None) -> pd.DataFrame:
    """LIVE R2: 982 columns in the order of `LIVE_FOLDERS`, without the 203 that are references themselves."""
    name, variable = LIVE_LABELS[labels or "dmos"]
    table = _live_images()
    table["label"] = _live_vector(folder, name, variable)
    table["ref"] = pd.Series(_live_vector(folder, "refnames_all.mat", "refnames_all"), dtype="str")
    if name == "dmos_realigned.mat":
        table["label_std"] = _live_vector(folder, name, "dmos_std")
    copies = _live_vector(folder, name, "orgs").astype(int) == 1
    if copies.sum() != LIVE_COPIES:
        raise InputError(f"{folder.root}/{name} marks {copies.sum()} references, not {LIVE_COPIES}.")
    table = table[~copies].reset_index(drop=True)
    return table.assign(
        pair_id=table["dist"], ref_file="refimgs/" + table["ref"], dist_file=table["dist"], label_source=name
    )


def _live_images() -> pd.DataFrame:
    """dist and distortion of all 982 images, in the label files' order."""
    images = [
        (f"{folder}/img{number}.bmp", words)
        for folder, (words, count) in LIVE_FOLDERS.items()
        for number in range(1, count + 1)
    ]
    return pd.DataFrame(images, columns=["dist", "distortion"], dtype="str")


def _live_vector(folder: Folder, name: str, variable: str) -> np.ndarray:
    values = mat(folder.need(name), variable)
    expected = sum(count for _, count in LIVE_FOLDERS.values())
    if len(values) != expected:
        raise InputError(f"{folder.root}/{name}: {variable} has {len(values)} values, not {expected}.")
    return values


def read_tid2013(folder: Folder) -> pd.DataFrame:
    """TID2013: mos_with_names.txt ("mos name"), with the deviations of mos_std.txt if there is one."""
    table = text_table(folder.need("mos_with_names.txt"), ("label", "dist"), None)
    parts = _parts(table["dist"], r"[iI](\d\d)_(\d\d)_(\d)\.\w+", "mos_with_names.txt")
    table["ref"] = parts[0].map(lambda number: "i25.bmp" if number == "25" else f"I{number}.BMP")
    table["distortion"] = parts[1].astype(int).map(TID2013_TYPES)
    table["level"] = parts[2].astype("Int64")
    if folder.find("mos_std.txt"):
        deviations = text_table(folder.need("mos_std.txt"), ("label_std",), None)["label_std"]
        if len(deviations) != len(table):
            raise InputError(f"{folder.root}/mos_std.txt has {len(deviations)} lines, not {len(table)}.")
        table["label_std"] = deviations
    return table.assign(
        pair_id=table["dist"],
        ref_file="reference_images/" + table["ref"],
        dist_file="distorted_images/" + table["dist"],
        label_source="mos_with_names.txt",
    )


def read_csiq(folder: Folder) -> pd.DataFrame:
    """CSIQ: sheet all_by_image of the official workbook, header in row 4 from column D."""
    path = folder.need("csiq.DMOS.xlsx")
    columns = ("image", "dst_type", "dst_lev", "dmos_std", "dmos")
    sheet = workbook(path, columns, sheet_name="all_by_image", header=3, usecols="D:I")
    sheet = sheet.dropna(subset="image").reset_index(drop=True)  # blank rows separate the images
    kinds = sheet["dst_type"].str.strip().map(CSIQ_TYPES)
    if kinds.isna().any():
        raise InputError(f"{path} has the unknown dst_type {sheet['dst_type'][kinds.isna()].iloc[0]}.")
    image = sheet["image"].map(lambda name: str(int(name)) if isinstance(name, int | float) else name.strip())
    level = sheet["dst_lev"].astype("Int64")
    dist = image + "." + kinds.str[1] + "." + level.astype(str) + ".png"
    return pd.DataFrame(
        {
            "pair_id": dist,
            "ref": image + ".png",
            "dist": dist,
            "ref_file": "src_imgs/" + image + ".png",
            "dist_file": "dst_imgs/" + kinds.str[0] + "/" + dist,
            "label": sheet["dmos"],
            "label_std": sheet["dmos_std"],
            "distortion": kinds.str[2],
            "level": level,
            "label_source": "csiq.DMOS.xlsx",
        }
    )


def read_kadid10k(folder: Folder) -> pd.DataFrame:
    """KADID-10k: dmos.csv. Its "dmos" is a mean opinion score, its "var" a standard deviation."""
    path = folder.need("dmos.csv")
    rows = read_rows(path, ("dist_img", "ref_img", "dmos", "var"))
    parts = _parts(rows["dist_img"], r"[iI]\d\d_(\d\d)_(\d\d)\.\w+", "dmos.csv")
    return pd.DataFrame(
        {
            "pair_id": rows["dist_img"],
            "ref": rows["ref_img"],
            "dist": rows["dist_img"],
            "ref_file": "images/" + rows["ref_img"],
            "dist_file": "images/" + rows["dist_img"],
            "label": finite(path, rows["dmos"]),
            "label_std": finite(path, rows["var"]),
            "distortion": parts[0].map(lambda number: KADID_TYPES[int(number) - 1]),
            "level": parts[1].astype("Int64"),
            "label_source": "dmos.csv",
        }
    ).reset_index(drop=True)


def read_pipal(folder: Folder) -> pd.DataFrame:
    """PIPAL's training part: Train_Label/*.txt ("name,score"); distorted images in one or several folders."""
    label_folder = folder.need("Train_Label", "MOS_Scores_train").name
    label_files = [name for name in folder.names(label_folder) if name.lower().endswith(".txt")]
    tables = [
        text_table(folder.need(f"{label_folder}/{name}"), ("dist", "label"), ",") for name in label_files
    ]
    if not tables:
        raise InputError(f"{folder.root / label_folder} has no label files (A0001.txt …).")
    table = pd.concat(tables, ignore_index=True)
    parts = _parts(table["dist"], r"(A\d{4})_(\d\d)_\d\d\.\w+", label_folder)
    files = _bmp_files(folder, PIPAL_DISTORTED)
    references = folder.need("Train_Ref", "Reference_train").name
    table["ref"] = parts[0] + ".bmp"
    return table.assign(
        pair_id=table["dist"],
        ref_file=references + "/" + table["ref"],
        dist_file=[files.get(name.lower(), f"Train_Dist/{name}") for name in table["dist"]],
        distortion=parts[1].map(PIPAL_FAMILIES),
        label_source=label_folder,
    )


def _parts(names: pd.Series, pattern: str, source: str) -> pd.DataFrame:
    """A column for each group of `pattern`: what it matches in each name."""
    parts = names.str.extract(f"^{pattern}$")
    if parts.isna().to_numpy().any():
        raise InputError(
            f"{source} has names that do not fit its layout: {first_few(names[parts[0].isna()].tolist())}."
        )
    return parts


def _bmp_files(folder: Folder, tops: list[str]) -> dict[str, str]:
    """Lower-case file name → name relative to the folder, of the .bmp files in the folders `tops` and one level below."""
    files: dict[str, str] = {}
    searched = [top for top in tops if folder.find(top)]
    searched += [f"{top}/{sub}" for top in searched for sub in folder.names(top) if "." not in sub]
    for part in searched:
        for name in (name for name in folder.names(part) if name.lower().endswith(".bmp")):
            earlier = files.setdefault(name.lower(), f"{part}/{name}")
            if earlier != f"{part}/{name}":
                raise InputError(f"{folder.root} has {name} twice: as {earlier} and in {part}.")
    return files
