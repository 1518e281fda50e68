"""How an option of `fmiqa` is checked as it is read, and how the shell completes it.

Nothing here needs torch or pandas: a wrong word is refused at once, before weights are looked for or a dataset is opened.
"""

import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import typer

from fmiqa_utils.backbones.catalogue import (
    WEIGHTS,
    refuse_unknown,
)
from fmiqa_utils.datasets.registry import OWN_TABLE, known, refuse_kind, refuse_label_options, table_of
from fmiqa_utils.distances.table import (
    THROUGH_PYIQA,
    chosen_baselines,
    without_pyiqa,
)
from fmiqa_utils.errors import InputError, near
from fmiqa_utils.files.regular import check_regular
from fmiqa_utils.scores.run_names import known_runs
from fmiqa_utils.words import once, one_of, split_names

V = TypeVar("V", str, Path)
N = TypeVar("N", int, float)


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
