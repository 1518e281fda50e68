"""The options that several commands of `fmiqa` share: what each may hold, checked as it is read, and how the shell completes it.

Nothing here needs torch or pandas: a wrong word is refused at once, before weights are looked for or a dataset is opened.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from fmiqa_utils.backbones.catalogue import (
    BACKBONES,
    NORMALIZE,
    OTHERS,
    PRECISIONS,
    SMALL_IMAGES,
    WEIGHTS,
    refuse_unknown,
)
from fmiqa_utils.datasets.registry import DATASETS, DIRECTIONS, OWN_TABLE, known, table_of
from fmiqa_utils.datasets.registry import refuse_kind as refuse_kind
from fmiqa_utils.datasets.registry import refuse_label_options as refuse_label_options
from fmiqa_utils.datasets.transforms import TRANSFORM_EXAMPLES, chosen_transforms, parse_transform
from fmiqa_utils.distances.table import (
    BASELINES,
    DISTANCES,
    THROUGH_PYIQA,
    USUAL_BASELINES,
    VARIANTS,
    chosen_baselines,
    chosen_distances,
    chosen_variants,
    without_pyiqa,
)
from fmiqa_utils.errors import InputError, near
from fmiqa_utils.files.regular import check_regular
from fmiqa_utils.loda.options import FROZEN_WEIGHTS
from fmiqa_utils.scores.run_names import known_runs, refuse_unknown_run
from fmiqa_utils.words import once, one_of, some_of, split_names

V = TypeVar("V", str, Path)
N = TypeVar("N", int, float)
LABELS = tuple(dict.fromkeys(choice for dataset in DATASETS.values() for choice in dataset.choices))
DEVICES = ("auto", "cpu", "cuda", "cuda:0", "cuda:1")


def checked(check: Callable[[V], object]) -> Callable[[V | None], V | None]:
    """A callback that raises what `check` raises, for a value that was given."""

    def callback(value: V | None) -> V | None:
        if value is not None:
            check(value)
        return value

    return callback


def each(check: Callable[[str], object], what: str) -> Callable[[str], object]:
    """A check of names by commas: at least one, none twice, each as `check` wants it."""

    def check_all(words: str) -> None:
        for name in once(split_names(words), what):
            check(name)

    return check_all


def at_least(
    least: float, most: float = math.inf, *, above: bool = False
) -> Callable[[typer.CallbackParam, N | None], N | None]:
    """A callback that refuses numbers under `least` (with `above` also `least` itself), over `most`, and what is no finite number."""

    def callback(param: typer.CallbackParam, value: N | None) -> N | None:
        if value is None:
            return value
        fits = math.isfinite(value) and least <= value <= most and not (above and value == least)
        if not fits:
            low = f"more than {least:g}" if above else f"{least:g} or more"
            high = f" and at most {most:,.0f}" if most < math.inf else ""
            raise InputError(f"{param.opts[0]} {value:g}: it must be {low}{high}.")
        return value

    return callback


def words(*known_words: str) -> Callable[[str], list[str]]:
    """Completion of one word."""

    def complete(incomplete: str) -> list[str]:
        return [w for w in known_words if w.startswith(incomplete)]

    return complete


def by_commas(*known_words: str) -> Callable[[str], list[str]]:
    """Completion of the last of several words by commas; what is there already is not offered again."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [
            f"{before}{comma}{w}" for w in known_words if w.startswith(last) and w not in split_names(before)
        ]

    return complete


def run_names(incomplete: str) -> list[str]:
    """Completion of the name of a run that is there; none where the scores cannot be listed."""
    try:
        return [name for name in known_runs() if name.startswith(incomplete)]
    except (InputError, OSError):
        return []


def check_word(value: str) -> None:
    """Raises InputError for an empty word."""
    if not value.strip():
        raise InputError("an option is given without a value (an empty word).")


def check_dataset(name: str) -> None:
    """Raises InputError for an unknown dataset and for a csv:PATH that is no file."""
    check_word(name)
    if table_of(name) is None:
        known(name)


def check_datasets(words: str) -> None:
    """`check_dataset` of names by commas; says the way out for the path of a csv:PATH that has a comma itself."""
    try:
        each(check_dataset, "dataset")(words)
    except InputError as error:
        if OWN_TABLE not in words or "," not in words:
            raise
        raise InputError(
            f"{error} (A path with a comma cannot stand in a list by commas: name it in a sweep's YAML file, "
            f"datasets: ['csv:PATH'].)"
        ) from error


def check_backbone(name: str) -> None:
    """Raises InputError unless `name` is "auto", a named backbone, timm:NAME or openclip:NAME."""
    if name != "auto":
        refuse_unknown(name)


def check_one_backbone(name: str) -> None:
    """Raises InputError unless `name` is one backbone by name."""
    check_word(name)
    if "," in name:
        raise InputError(f"{name} names several backbones where one is measured at a time.")
    refuse_unknown(name)


def check_weights(value: str) -> None:
    """Raises InputError unless `value` is one of `WEIGHTS` or a file."""
    check_word(value)
    if value not in WEIGHTS and not Path(value).is_file():
        hint = near(value, WEIGHTS)
        raise InputError(
            f"there is no weights file {value}: give a file, or pretrained, untrained or auto"
            f"{f' ({hint})' if hint.startswith('did') else '.'}"
        )


def check_baselines(value: str) -> None:
    """Raises InputError for an unknown baseline, and for one that needs pyiqa where that is not installed."""
    for name in chosen_baselines(value):
        if name in THROUGH_PYIQA and "pyiqa" not in sys.modules and find_spec("pyiqa") is None:
            raise without_pyiqa(name)


def check_device(value: str) -> None:
    """Raises InputError unless `value` is auto, cpu, cuda or cuda:N; whether the GPU is there is seen when work begins."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise InputError(
            f"there is no device {value!r}: write auto, cpu, cuda, or cuda:1 for the second GPU."
        )


def check_folder(value: str) -> None:
    """Raises InputError unless `value` is a folder that exists."""
    check_word(value)
    if not Path(value).is_dir():
        raise InputError(
            f"the folder {value} does not exist." if not Path(value).exists() else f"{value} is no folder."
        )


def check_file(value: Path) -> None:
    """Raises InputError unless `value` is a regular file that may be read."""
    check_regular(value, "a file", sys.maxsize)


def check_exists(value: Path) -> None:
    """Raises InputError unless `value` is there."""
    if not value.exists():
        raise InputError(f"{value} does not exist.")


def choice(known_words: Iterable[str], what: str, text: str) -> Any:
    """An option that holds one of a few words: shown in the help, completed by the shell, refused with near matches."""
    known = tuple(known_words)
    return typer.Option(
        help=text,
        metavar="|".join(known),
        callback=checked(lambda value: one_of(value, known, what)),
        autocompletion=words(*known),
    )


_DATASET = typer.Option(
    help="A name from `fmiqa datasets`, or csv:PATH for your own pairs.",
    callback=checked(check_dataset),
    autocompletion=words(*DATASETS, OWN_TABLE),
)
_BACKBONE = typer.Option(
    help="A name from `fmiqa backbones`, timm:NAME, openclip:NAME, or several by commas; auto chooses.",
    callback=checked(each(check_backbone, "backbone")),
    autocompletion=by_commas("auto", *BACKBONES, *(o.removesuffix("NAME") for o in OTHERS)),
)
_ONE_BACKBONE = typer.Option(
    help="A name from `fmiqa backbones`, timm:NAME or openclip:NAME.",
    callback=checked(check_one_backbone),
    autocompletion=words(*BACKBONES, *(o.removesuffix("NAME") for o in OTHERS)),
)
_DISTANCE = typer.Option(
    help=f"all, or some of {', '.join(DISTANCES)} by commas.",
    callback=checked(chosen_distances),
    autocompletion=by_commas("all", *DISTANCES),
)
_VARIANT = typer.Option(
    help="published (what the released code computes), corrected, or both.",
    callback=checked(chosen_variants),
    autocompletion=words(*VARIANTS, "both"),
)
_TRANSFORM = typer.Option(
    help="none, and any of tra-1, sca-1, rot-1 … by commas.",
    callback=checked(chosen_transforms),
    autocompletion=by_commas(*TRANSFORM_EXAMPLES),
)
_TRANSFORM_PAIRS = typer.Option(
    help="Pairs scored under the transforms, evenly spaced; 0: all.", callback=at_least(0)
)
_BASELINES = typer.Option(
    help=f"{' and '.join(USUAL_BASELINES)} always; all, or any of {', '.join(THROUGH_PYIQA)} (extra baselines: pyiqa).",
    callback=checked(check_baselines),
    autocompletion=by_commas("all", *BASELINES),
)
_NORMALIZE = choice(
    NORMALIZE, "normalization", "none (as published) or model (the model's own mean and std)."
)
_PRECISION = choice(
    PRECISIONS,
    "precision",
    f"{', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}; distances are always computed in fp32.",
)
_SMALL = choice(
    SMALL_IMAGES, "treatment of small images", "What to do with images under 224 px: error, resize or pad."
)
_RUN = typer.Option(
    help="Name of the run; the dataset's by default.", callback=checked(check_word), autocompletion=run_names
)

Dataset = Annotated[str, _DATASET]
Datasets = Annotated[
    str | None,
    typer.Option(
        help="Names from `fmiqa datasets` by commas, csv:PATH among them.",
        callback=checked(check_datasets),
        autocompletion=by_commas(*DATASETS),
    ),
]
Root = Annotated[
    str | None,
    typer.Option(
        help="The dataset's folder, if not data/NAME or $FMIQA_DATA/NAME.", callback=checked(check_folder)
    ),
]
Labels = Annotated[
    str | None,
    choice(LABELS, "choice of labels", "LIVE only: dmos or realigned, the two label files it ships."),
]
Direction = Annotated[
    str | None,
    choice(
        DIRECTIONS,
        "direction of labels",
        "csv: only, needed there: higher or lower, what a better image's label is.",
    ),
]
Backbone = Annotated[str, _BACKBONE]
Backbones = Annotated[str | None, _BACKBONE]
OneBackbone = Annotated[str, _ONE_BACKBONE]
Weights = Annotated[
    str,
    typer.Option(
        help="pretrained, untrained (a stand-in for trying things out), auto, or a state-dict file.",
        callback=checked(check_weights),
        autocompletion=words(*WEIGHTS),
    ),
]
FrozenWeights = Annotated[
    str,
    choice(
        FROZEN_WEIGHTS, "kind of weights", "Of the frozen ViT and CNN: pretrained, or untrained (a stand-in)."
    ),
]
Normalize = Annotated[str, _NORMALIZE]
Normalizations = Annotated[
    str,
    typer.Option(
        help="none, model, or both by commas.",
        callback=checked(lambda value: some_of(value, NORMALIZE, "normalization")),
        autocompletion=by_commas(*NORMALIZE),
    ),
]
Precision = Annotated[str, _PRECISION]
Distance = Annotated[str, _DISTANCE]
Variant = Annotated[str, _VARIANT]
Transforms = Annotated[str, _TRANSFORM]
OneTransform = Annotated[
    str,
    typer.Option(
        help="none, tra-1, sca-1, rot-1, …",
        callback=checked(parse_transform),
        autocompletion=words(*TRANSFORM_EXAMPLES),
    ),
]
TransformPairs = Annotated[int, _TRANSFORM_PAIRS]
Baselines = Annotated[str, _BASELINES]
Small = Annotated[str, _SMALL]
Device = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:1, …", callback=checked(check_device), autocompletion=words(*DEVICES)
    ),
]
RunName = Annotated[str | None, _RUN]
KnownRun = Annotated[
    str | None,
    typer.Option(
        help="Also compare pair by pair with this run of ours on the same dataset.",
        callback=checked(refuse_unknown_run),
        autocompletion=run_names,
    ),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Hash every image again instead of trusting its size and time.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first pair that cannot be scored.")]

# `fmiqa report` hands on only what was said: the notebooks have defaults of their own.
DistanceSaid = Annotated[str | None, _DISTANCE]
VariantSaid = Annotated[str | None, _VARIANT]
TransformSaid = Annotated[str | None, _TRANSFORM]
TransformPairsSaid = Annotated[int | None, _TRANSFORM_PAIRS]
BaselinesSaid = Annotated[str | None, _BASELINES]
NormalizeSaid = Annotated[str | None, _NORMALIZE]
PrecisionSaid = Annotated[str | None, _PRECISION]
SmallSaid = Annotated[str | None, _SMALL]


def refuse_dataset(
    dataset: str, labels: str | None, direction: str | None, kinds: Sequence[str] = ("pairs",)
) -> None:
    """Raises InputError for a dataset of another kind, and for labels or a direction that do not go with it."""
    refuse_kind(dataset, kinds)
    refuse_label_options(dataset, labels, direction)


def refuse_models(backbones: str) -> None:
    """Raises InputError for a timm:NAME or openclip:NAME that its library does not know; imports it only if one is named."""
    others = [name for name in split_names(backbones) if ":" in name]
    if not others:
        return
    from fmiqa_utils.backbones.load import backbone_info

    for name in others:
        backbone_info(name)
