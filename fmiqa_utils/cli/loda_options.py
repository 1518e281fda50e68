"""The options of `fmiqa loda`, and what each may hold."""

from pathlib import Path
from typing import Annotated

import typer

from fmiqa_utils.backbones.catalogue import PRECISIONS
from fmiqa_utils.cli.checks import (
    at_least,
    check_exists,
    check_file,
    check_word,
    checked,
    choice,
    words,
)
from fmiqa_utils.cli.options import FrozenWeights
from fmiqa_utils.errors import InputError
from fmiqa_utils.loda.options import BATCH_NORM, N_SPLITS, PROTOCOLS
from fmiqa_utils.words import once, split_names


def check_splits(value: str) -> None:
    """Raises InputError unless `value` is "all" or numbers separated by commas, each once; `loda.options.check_splits` checks the range."""
    if value == "all":
        return
    if not all(word.isdecimal() for word in once(split_names(value), "split")):
        raise InputError(f"--splits {value}: write numbers by commas, such as 0,1,2, or all.")


Vit = Annotated[str, typer.Option(help="Any plain timm ViT with 224 px input.", callback=checked(check_word))]
Cnn = Annotated[
    str,
    typer.Option(help="Any timm CNN with features_only and four stages.", callback=checked(check_word)),
]
Released = Annotated[
    str | None,
    typer.Option(
        help="Only for a released checkpoint, which does not record it.", callback=checked(check_word)
    ),
]
Frozen = FrozenWeights
Epochs = Annotated[int, typer.Option(help="Passes over the training part.", callback=at_least(1))]
Batch = Annotated[
    int,
    typer.Option(
        help="Images in one step; the loss couples all of them, or on several devices those of each device.",
        callback=at_least(2),
    ),
]
DeviceBatch = Annotated[
    int,
    typer.Option(
        help="Images in memory at once; 0: the whole batch. A smaller number gives the same result, more slowly.",
        callback=at_least(0),
    ),
]
Crops = Annotated[
    int,
    typer.Option(help="Random crops per image and epoch; 0: the published number.", callback=at_least(0)),
]
TestCrops = Annotated[int, typer.Option(help="Random crops averaged for a prediction.", callback=at_least(1))]
Rate = Annotated[
    float,
    typer.Option(help="AdamW's learning rate at the start of the cosine.", callback=at_least(0, above=True)),
]
Seed = Annotated[
    int,
    typer.Option(
        help="Seed for the learner's initial weights, the crops, their order and the dropout.",
        callback=at_least(0, 2**32 - 1),
    ),
]
Precision = Annotated[
    str,
    choice(PRECISIONS, "precision", "fp32, bf16 or fp16 (mixed)."),
]
Splits = Annotated[
    str,
    typer.Option(
        help="Numbers by commas, or all (the published ten).",
        callback=checked(check_splits),
        autocompletion=words("all", *map(str, range(N_SPLITS))),
    ),
]
SplitFile = Annotated[
    Path | None,
    typer.Option(help="A splits.json to use instead of making one.", callback=checked(check_file)),
]
Protocol = Annotated[
    str,
    choice(
        PROTOCOLS,
        "protocol",
        "validated (epoch chosen on validation references) or published (on the test part).",
    ),
]
Bn = Annotated[
    str,
    choice(
        BATCH_NORM,
        "treatment of BatchNorm",
        "frozen, or published: the CNN's BatchNorm statistics change in training.",
    ),
]
Images = Annotated[
    int, typer.Option(help="Use only this many images, evenly spaced; 0: all.", callback=at_least(0))
]
Workers = Annotated[int, typer.Option(help="Processes that load images.", callback=at_least(0))]
Devices = Annotated[
    int, typer.Option(help="GPUs to train on, by DistributedDataParallel.", callback=at_least(1))
]
Checkpoint = Annotated[
    Path,
    typer.Argument(help="best.ckpt of a split, or a released checkpoint.", callback=checked(check_file)),
]


def check_paths(values: list[Path]) -> list[Path]:
    """Raises InputError for a path that does not exist."""
    for value in values:
        check_exists(value)
    return values


def check_vits(value: str) -> None:
    """Raises InputError for a ViT that is named twice."""
    once(split_names(value), "ViT")
