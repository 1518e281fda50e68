"""What each dataset is: size, labels, licence, where to request it, and which function reads its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fmiqa_utils.errors import InputError, near

if TYPE_CHECKING:
    import pandas as pd

    from fmiqa_utils.datasets.folder import Folder

PAIR_LAYOUTS, OTHER_LAYOUTS = "fmiqa_utils.datasets.layouts", "fmiqa_utils.datasets.image_layouts"
MIN_SIDE = 224  # px, the window of the backbones
DIRECTIONS = {"higher": "mos", "lower": "dmos"}  # which labels of a CSV are better: their label_kind
OWN_TABLE = "csv:"  # before the path of a user's own table


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One dataset as its authors ship it."""

    name: str
    title: str
    kind: Literal["pairs", "images", "2afc", "jnd"]
    reader: str  # the function that reads its folder: in `datasets.layouts` for pairs, else in `datasets.image_layouts`
    markers: tuple[str, ...]  # its root holds one of these files or folders
    folders: tuple[str, ...]  # accepted names of its folder; letter case, spaces, - and _ do not count
    rows: int | None  # exact number of labelled rows, None where it is not fixed
    references: int | None
    label_kind: str
    direction: Literal["higher", "lower"]  # which label is better
    note: str  # one sentence for captions: what the labels are
    licence: str
    url: str  # where to request it
    citation: str
    choices: tuple[str, ...] = ()  # label files or parts to choose from; the first is the default
    dropped: str = ""  # rows of the label file that the dataset's own specification leaves out
    min_side: int = MIN_SIDE  # px; smaller images are a fault
    size: tuple[int, int] | None = None  # height and width in px of nearly all images

    def read(self, folder: "Folder", labels: str | None) -> "pd.DataFrame":
        """The authors' label file as a table; `labels` is one of `choices`, None for the first."""
        module = PAIR_LAYOUTS if self.kind == "pairs" else OTHER_LAYOUTS
        read = getattr(import_module(module), self.reader)
        table: pd.DataFrame = read(folder, labels) if self.choices else read(folder)
        return table


_ALL = (
    Dataset(
        name="demo",
        title="Demo",
        kind="pairs",
        reader="read_demo",
        markers=("pairs.csv",),
        folders=("demo",),
        rows=None,
        references=7,
        label_kind="mos",
        direction="higher",
        note="Labels are TID2013 population mean opinion scores of the same distortion type and level, "
        "not ratings of these images.",
        licence="photographs from scikit-image and scikit-learn, under their licences",
        url="fmiqa demo",
        citation="Levels and labels after Ponomarenko et al., Signal Process. Image Commun. 30, 2015",
    ),
    Dataset(
        name="live",
        title="LIVE R2",
        kind="pairs",
        reader="read_live",
        markers=("refnames_all.mat",),
        folders=("live", "databaserelease2", "liver2", "liveiqa"),
        rows=779,
        size=(512, 768),
        references=29,
        label_kind="dmos",
        direction="lower",
        note="Labels are difference mean opinion scores (lower is better) of LIVE release 2.",
        licence="free use with the copyright notice and citation",
        url="https://live.ece.utexas.edu/research/quality/subjective.htm",
        citation="Sheikh, Sabir and Bovik, IEEE Trans. Image Process. 15(11), 2006",
        choices=("dmos", "realigned"),
        dropped="203 rows with orgs = 1, the references themselves",
    ),
    Dataset(
        name="tid2013",
        title="TID2013",
        kind="pairs",
        reader="read_tid2013",
        markers=("mos_with_names.txt",),
        folders=("tid2013",),
        rows=3000,
        size=(384, 512),
        references=25,
        label_kind="mos",
        direction="higher",
        note="Labels are mean opinion scores (0–9, higher is better) of TID2013.",
        licence="education and research only",
        url="https://www.ponomarenko.info/tid2013.htm",
        citation="Ponomarenko et al., Signal Process. Image Commun. 30, 2015",
    ),
    Dataset(
        name="csiq",
        title="CSIQ",
        kind="pairs",
        reader="read_csiq",
        markers=("csiq.DMOS.xlsx",),
        folders=("csiq",),
        rows=866,
        references=30,
        label_kind="dmos",
        direction="lower",
        note="Labels are difference mean opinion scores (0–1, lower is better) of CSIQ.",
        licence="none stated; ask the authors",
        url="https://s2.smu.edu/~eclarson/csiq.html",
        citation="Larson and Chandler, J. Electron. Imaging 19(1), 2010",
    ),
    Dataset(
        name="kadid10k",
        title="KADID-10k",
        kind="pairs",
        reader="read_kadid10k",
        markers=("dmos.csv",),
        folders=("kadid10k",),
        rows=10_125,
        size=(384, 512),
        references=81,
        label_kind="mos",
        direction="higher",
        note='Labels are mean opinion scores (1–5, higher is better) of KADID-10k; its file says "dmos".',
        licence="photographs under the Pixabay licence; for research",
        url="https://database.mmsp-kn.de/kadid-10k-database.html",
        citation="Lin, Hosu and Saupe, QoMEX 2019",
    ),
    Dataset(
        name="pipal",
        title="PIPAL (training part)",
        kind="pairs",
        reader="read_pipal",
        markers=("Train_Label", "MOS_Scores_train"),
        folders=("pipal", "pipaltrain"),
        rows=23_200,
        size=(288, 288),
        references=200,
        label_kind="elo",
        direction="higher",
        note="Labels are Elo scores (higher is better) of PIPAL's training part, the only labels released.",
        licence="none stated; released for research",
        url="https://www.jasongt.com/projectpages/pipal.html",
        citation="Gu et al., ECCV 2020; arXiv 2011.15002",
    ),
    Dataset(
        name="bapps_2afc",
        title="BAPPS 2AFC",
        kind="2afc",
        reader="read_2afc",
        markers=("2afc",),
        folders=("bapps", "dataset"),
        rows=None,
        references=None,
        label_kind="2afc",
        direction="higher",
        note="Labels are the shares of people who found patch p1 closer to the reference than p0.",
        licence="repository under BSD-2-Clause",
        url="https://github.com/richzhang/PerceptualSimilarity",
        citation="Zhang et al., CVPR 2018",
        choices=("val", "train"),
        min_side=64,
    ),
    Dataset(
        name="bapps_jnd",
        title="BAPPS JND",
        kind="jnd",
        reader="read_jnd",
        markers=("jnd",),
        folders=("bapps", "dataset"),
        rows=None,
        references=None,
        label_kind="jnd",
        direction="higher",
        note="Labels are the shares of people who took the two patches for the same.",
        licence="repository under BSD-2-Clause",
        url="https://github.com/richzhang/PerceptualSimilarity",
        citation="Zhang et al., CVPR 2018",
        choices=("val",),
        min_side=64,
    ),
    Dataset(
        name="koniq10k",
        title="KonIQ-10k",
        kind="images",
        reader="read_koniq10k",
        markers=("1024x768",),
        folders=("koniq10k",),
        rows=10_073,
        references=None,
        label_kind="mos",
        direction="higher",
        note="Labels are mean opinion scores (1–100, from z-scores, higher is better) of KonIQ-10k.",
        licence="photographs under Creative Commons licences (YFCC100M)",
        url="https://database.mmsp-kn.de/koniq-10k-database.html",
        citation="Hosu, Lin, Sziranyi and Saupe, IEEE Trans. Image Process. 29, 2020",
    ),
    Dataset(
        name="spaq",
        title="SPAQ",
        kind="images",
        reader="read_spaq",
        markers=("TestImage",),
        folders=("spaq",),
        rows=11_125,
        references=None,
        label_kind="mos",
        direction="higher",
        note="Labels are mean opinion scores (0–100, higher is better) of SPAQ.",
        licence="education and research only",
        url="https://github.com/h4nwei/SPAQ",
        citation="Fang, Zhu, Zeng, Ma and Wang, CVPR 2020",
    ),
    Dataset(
        name="livec",
        title="LIVE In the Wild",
        kind="images",
        reader="read_livec",
        markers=("Data/AllMOS_release.mat",),
        folders=("livec", "livechallenge", "challengedbrelease", "clive", "liveitw"),
        rows=1162,
        references=None,
        label_kind="mos",
        direction="higher",
        note="Labels are mean opinion scores (0–100, higher is better) of LIVE In the Wild.",
        licence="free use with the copyright notice and citation",
        url="https://live.ece.utexas.edu/research/ChallengeDB/index.html",
        citation="Ghadiyaram and Bovik, IEEE Trans. Image Process. 25(1), 2016",
        dropped="the first 7 images of the list, which only taught observers the task",
    ),
)
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _ALL}


def known(name: str) -> Dataset:
    """The dataset called `name`; raises InputError with near matches."""
    if name not in DATASETS:
        raise InputError(f"There is no dataset {name}: {near(name, [*DATASETS, 'csv:PATH'])}")
    return DATASETS[name]


def table_of(name: str) -> Path | None:
    """The user's own table that "csv:PATH" names, None for a dataset of `DATASETS`. Raises InputError if PATH is not a file."""
    if not name.startswith(OWN_TABLE):
        return None
    path = Path(name.removeprefix(OWN_TABLE)).expanduser()
    if not path.is_file():
        raise InputError(
            f"{path} does not exist." if not path.is_dir() else f"{path} is a folder, not a CSV file."
        )
    return path


def refuse_kind(name: str, kinds: Sequence[str]) -> None:
    """Raises InputError unless dataset `name` is of one of `kinds`; a user's own table holds pairs."""
    if name.startswith(OWN_TABLE) or known(name).kind in kinds:
        return
    fitting = [dataset.name for dataset in DATASETS.values() if dataset.kind in kinds]
    raise InputError(f"{name} is not a table of {' or '.join(kinds)}; these are: {', '.join(fitting)}.")


def refuse_label_options(name: str, labels: str | None, direction: str | None) -> None:
    """Raises InputError for a choice of labels that dataset `name` does not offer, and for a direction that is missing or wrong."""
    if name.startswith(OWN_TABLE):
        if direction not in DIRECTIONS:
            path = name.removeprefix(OWN_TABLE)
            raise InputError(f"Say which labels of {path} are better: direction must be higher or lower.")
        if labels is not None:
            raise InputError(
                f"A table of your own has one column of labels: labels={labels} is for LIVE only."
            )
        return
    dataset = known(name)
    if direction not in (None, dataset.direction):
        raise InputError(f"In {name} {dataset.direction} labels are better; direction is for csv:PATH only.")
    if labels is not None and labels not in dataset.choices:
        way_out = f"choose {' or '.join(dataset.choices)}" if dataset.choices else "it has only one kind"
        raise InputError(f"{name} has no labels {labels}: {way_out}.")
