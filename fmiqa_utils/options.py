"""The options that several commands of `fmiqa` share, and what turns their words into values."""

from pathlib import Path
from typing import Annotated

import typer

from fmiqa_utils.errors import InputError, near

Dataset = Annotated[
    str, typer.Option(help="demo, live, tid2013, csiq, kadid10k, pipal, or csv:PATH for your own pairs.")
]
Root = Annotated[
    Path | None, typer.Option(help="The dataset's folder, if not data/NAME or $FMIQA_DATA/NAME.")
]
Labels = Annotated[
    str | None, typer.Option(help="LIVE only: dmos or realigned, the two label files it ships.")
]
Direction = Annotated[
    str | None, typer.Option(help="csv: only: higher or lower, what a better image's label is.")
]
Backbone = Annotated[
    str, typer.Option(help="A name from `fmiqa backbones`, timm:NAME, openclip:NAME, or several by commas.")
]
Weights = Annotated[
    str,
    typer.Option(
        help="pretrained, untrained (a stand-in for trying things out), auto, or a state-dict file."
    ),
]
Normalize = Annotated[str, typer.Option(help="none (as published) or model (the model's own mean and std).")]
Precision = Annotated[str, typer.Option(help="fp32, bf16 or fp16; distances are always computed in fp32.")]
Distance = Annotated[str, typer.Option(help="all, or some of l2, cos, skld, jsd, wsd, swd by commas.")]
Variant = Annotated[
    str, typer.Option(help="published (what the released code computes), corrected, or both.")
]
Baselines = Annotated[
    str,
    typer.Option(
        help="psnr and ssim always; all, or any of ms_ssim, fsim, lpips, dists (extra baselines: pyiqa)."
    ),
]
Small = Annotated[str, typer.Option(help="What to do with images under 224 px: error, resize or pad.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]
RunName = Annotated[str | None, typer.Option(help="Name of the run; the dataset's by default.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first pair that cannot be scored.")]


def chosen_distances(words: str) -> tuple[str, ...]:
    """ "all" or names by commas → names. Raises InputError for an unknown one."""
    from fmiqa_utils.distances import DISTANCES
    from fmiqa_utils.runs import split_names

    names = DISTANCES if words == "all" else tuple(split_names(words))
    for name in names:
        if name not in DISTANCES:
            raise InputError(f"there is no distance called {name!r}; {near(name, DISTANCES)}")
    return names


def chosen_variants(word: str) -> tuple[str, ...]:
    """ "published", "corrected" or "both" → names. Raises InputError for any other word."""
    known = {"published": ("published",), "corrected": ("corrected",), "both": ("published", "corrected")}
    if word not in known:
        raise InputError(f"there is no variant called {word!r}; known: {', '.join(known)}.")
    return known[word]
