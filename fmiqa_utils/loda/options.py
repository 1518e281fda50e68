"""How LoDa is trained; options are checked before anything else happens. No torch here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fmiqa_utils.backbones.catalogue import PRECISIONS
from fmiqa_utils.errors import InputError, near

FROZEN_WEIGHTS = ("pretrained", "untrained")  # of the ViT and the CNN
PROTOCOLS = ("validated", "published")  # on which part the epoch is chosen
BATCH_NORM = ("frozen", "published")  # whether the CNN's BatchNorm statistics stay fixed in training
N_SPLITS = 10  # of a dataset
VIT = "vit_base_patch16_224.augreg2_in21k_ft_in1k"
CNN = "resnet50"
TEST_CROPS = 15
PRECISION = dict(zip(PRECISIONS, ("32-true", "bf16-mixed", "16-mixed"), strict=True))  # in Lightning's words
# Limits of each number: (least, most). The loss compares the images of a batch, so a batch has at least two.
RANGES = {
    "epochs": (1, 100_000),
    "batch": (2, 100_000),
    "device_batch": (0, 100_000),
    "crops": (0, 1000),
    "test_crops": (1, 1000),
    "seed": (0, 2**63 - 1),
}
WORKERS = (0, 256)
DEVICES = (1, 1024)


@dataclass(frozen=True)
class Options:
    """How to train; the defaults are the published ones."""

    vit: str = VIT
    cnn: str = CNN
    weights: str = "pretrained"  # of the frozen parts: pretrained, or untrained stand-ins
    bn: str = "frozen"
    inject: bool = True
    epochs: int = 10
    batch: int = 128
    # Images in memory at once; 0: the whole batch. The loss is over the whole batch either way.
    device_batch: int = 0
    crops: int = 0  # per image and epoch; 0: the published number for the dataset
    test_crops: int = TEST_CROPS
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    precision: str = "fp32"
    seed: int = 0
    protocol: str = "validated"


def check_options(options: Options) -> None:
    """Raises InputError for an unknown word and for a number out of range."""
    for name, (least, most) in RANGES.items():
        check_number(name, getattr(options, name), least, most)
    check_rate("learning_rate", options.learning_rate, zero=False)
    check_rate("weight_decay", options.weight_decay, zero=True)
    if options.weights not in FROZEN_WEIGHTS:
        raise InputError(
            f"weights={options.weights!r}: the frozen parts of LoDa are pretrained or untrained."
        )
    for name, known in (("precision", tuple(PRECISION)), ("bn", BATCH_NORM), ("protocol", PROTOCOLS)):
        value = getattr(options, name)
        if value not in known:
            raise InputError(f"{name}={value!r} is unknown; {near(str(value), known)}")
    if options.bn == "published" and 0 < options.device_batch < options.batch:
        raise InputError(
            "bn='published' needs the whole batch at once, because its statistics are those of the batch: leave out --device-batch."
        )


def check_number(name: str, value: object, least: int, most: int) -> None:
    """Raises InputError unless `value` is a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(f"{_option(name)} {value}: it must be a whole number from {least} to {most}.")


def check_rate(name: str, value: float, *, zero: bool) -> None:
    """Raises InputError unless `value` is a finite number above 0; with `zero`, 0 is allowed too."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise InputError(
            f"{_option(name)} {value}: it must be a finite number {'of at least' if zero else 'above'} 0."
        )


def check_splits(splits: Sequence[int], known: int) -> None:
    """Raises InputError if no split is chosen, and for a split that is not below `known` or is named twice."""
    if not splits:
        raise InputError(f"no split is chosen: name some of 0 to {known - 1}.")
    wrong = [s for s in splits if not 0 <= s < known]
    if wrong:
        raise InputError(f"there is no split {wrong[0]}: there are splits 0 … {known - 1}.")
    twice = [s for s in splits if list(splits).count(s) > 1]
    if twice:
        raise InputError(f"split {twice[0]} is named twice: name every split once.")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
