"""The options that several commands of `fmiqa` share; `cli.checks` says what each may hold."""

from typing import Annotated

import typer

from fmiqa_utils.backbones.catalogue import (
    BACKBONES,
    NORMALIZE,
    OTHERS,
    PRECISIONS,
    SMALL_IMAGES,
    WEIGHTS,
)
from fmiqa_utils.cli.checks import (
    at_least,
    by_commas,
    check_backbone,
    check_baselines,
    check_dataset,
    check_datasets,
    check_device,
    check_folder,
    check_one_backbone,
    check_weights,
    check_word,
    checked,
    choice,
    each,
    run_names,
    words,
)
from fmiqa_utils.datasets.registry import DATASETS, DIRECTIONS, OWN_TABLE
from fmiqa_utils.datasets.transforms import TRANSFORM_EXAMPLES, chosen_transforms, parse_transform
from fmiqa_utils.distances.table import (
    BASELINES,
    DISTANCES,
    THROUGH_PYIQA,
    USUAL_BASELINES,
    VARIANTS,
    chosen_distances,
    chosen_variants,
)
from fmiqa_utils.loda.options import FROZEN_WEIGHTS
from fmiqa_utils.scores.run_names import refuse_unknown_run
from fmiqa_utils.words import some_of

LABELS = tuple(dict.fromkeys(choice for dataset in DATASETS.values() for choice in dataset.choices))
DEVICES = ("auto", "cpu", "cuda", "cuda:0", "cuda:1")

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
