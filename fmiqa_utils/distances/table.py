"""Every distance and every classic metric, one entry each: command line, checks, figures, notebooks and tests read them from here.

A new distance: an entry in `DISTANCES`, its function in `distances.forms`, its section in docs/methods.md. A new classic metric: an
entry in `BASELINES` (and its function in `distances.baselines`, unless pyiqa computes it) and its row in docs/methods.md.
Nothing here needs torch.
"""

from dataclasses import dataclass

from fmiqa_utils.errors import InputError, near
from fmiqa_utils.words import one_of, some_of, split_names

VARIANTS = ("published", "corrected")


@dataclass(frozen=True, kw_only=True)
class Distance:
    """A distance between the features of two windows; 0 for equal features, and a larger value is a larger difference."""

    name: str  # in options and score tables
    title: str  # in print
    help: str  # what it measures, in a few words
    function: str  # in `distances.forms`, computes both forms; distances with the same function are computed together
    usual: bool = True  # computed unless other distances are named
    # Where the published form is also the corrected one: "never", "tokens" or "always".
    one_form: str = "never"
    map: str = ""  # "l2" or "cos": the value per position that a map of it shows; "": it has none
    statistical: bool = False  # compares distributions of samples, not values position by position


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A classic full-reference metric, computed from pixels beside the foundation models."""

    name: str
    title: str
    help: str
    higher_is_better: bool = True
    library: str = "pyiqa"  # "fmiqa" (always there) or "pyiqa" (the extra `baselines`)


DISTANCES: dict[str, Distance] = {
    entry.name: entry
    for entry in (
        Distance(
            name="l2",
            title="l2",
            help="mean squared difference",
            function="l2_of_layers",
            one_form="always",
            map="l2",
        ),
        Distance(
            name="cos",
            title="cosine",
            help="1 − cosine similarity",
            function="cos_of_layers",
            one_form="tokens",
            map="cos",
        ),
        Distance(
            name="skld",
            title="SKLD",
            help="symmetric Kullback-Leibler divergence in windows of 64 samples",
            function="windows_of_64",
            statistical=True,
        ),
        Distance(
            name="jsd",
            title="JSD",
            help="Jensen-Shannon divergence in windows of 64 samples",
            function="windows_of_64",
            statistical=True,
        ),
        Distance(
            name="wsd",
            title="WSD",
            help="Wasserstein distance in windows of 64 samples",
            function="windows_of_64",
            statistical=True,
        ),
        Distance(
            name="swd",
            title="SWD",
            help="sliced Wasserstein distance along fixed random directions",
            function="sliced_wasserstein",
            usual=False,
            statistical=True,
        ),
    )
}
USUAL_DISTANCES = tuple(name for name, entry in DISTANCES.items() if entry.usual)
USUAL = ",".join(USUAL_DISTANCES)

BASELINES: dict[str, Baseline] = {
    entry.name: entry
    for entry in (
        Baseline(name="psnr", title="PSNR", help="peak signal-to-noise ratio, dB", library="fmiqa"),
        Baseline(name="ssim", title="SSIM", help="structural similarity of the luma", library="fmiqa"),
        Baseline(name="ms_ssim", title="MS-SSIM", help="SSIM over five scales"),
        Baseline(name="fsim", title="FSIM", help="phase congruency and gradient similarity"),
        Baseline(
            name="lpips", title="LPIPS", help="trained distance of AlexNet's features", higher_is_better=False
        ),
        Baseline(
            name="dists",
            title="DISTS",
            help="structure and texture of VGG's features",
            higher_is_better=False,
        ),
    )
}
USUAL_BASELINES = tuple(name for name, entry in BASELINES.items() if entry.library == "fmiqa")
THROUGH_PYIQA = tuple(name for name in BASELINES if name not in USUAL_BASELINES)

TITLES = {n: d.title for n, d in DISTANCES.items()} | {n: b.title for n, b in BASELINES.items()}
TITLES["loda"] = "LoDa"


def measure_name(distance: str) -> str:
    """The name of a distance or baseline in print: "cosine", "MS-SSIM"; an unknown one in capitals."""
    return TITLES.get(distance, distance.upper().replace("_", "-"))


def map_kind(distance: str) -> str:
    """Which map shows where two images differ, "l2" or "cos"; the cosine for a distance without a value per position."""
    return (DISTANCES[distance].map if distance in DISTANCES else "") or "cos"


def orientation(distance: str) -> int:
    """+1 for a measure that grows with quality, −1 for a distance."""
    return 1 if distance in BASELINES and BASELINES[distance].higher_is_better else -1


def chosen_distances(words: str) -> tuple[str, ...]:
    """ "all" or comma-separated names → names. Raises InputError for an unknown one."""
    return tuple(DISTANCES) if words == "all" else some_of(words, DISTANCES, "distance")


def chosen_variants(words: str) -> tuple[str, ...]:
    """ "published", "corrected" or "both" (or the two, comma-separated) → names. Raises InputError for any other word."""
    if words == "both":
        return VARIANTS
    for name in split_names(words):
        one_of(name, (*VARIANTS, "both"), "variant")
    return some_of(words, VARIANTS, "variant")


def chosen_baselines(words: str) -> tuple[str, ...]:
    """ "all" or comma-separated names → names, PSNR and SSIM always among them. Raises InputError for an unknown name."""
    names = tuple(BASELINES) if words == "all" else dict.fromkeys((*USUAL_BASELINES, *split_names(words)))
    for name in names:
        if name not in BASELINES:
            raise InputError(f"there is no baseline {name!r}; {near(name, [*BASELINES, 'all'])}")
    return tuple(names)


def without_pyiqa(name: str) -> InputError:
    """The error for the baseline `name` if pyiqa is not installed."""
    return InputError(
        f"the baseline {name} needs pyiqa: install the extra with pip install 'fmiqa[baselines]', or leave it out."
    )
