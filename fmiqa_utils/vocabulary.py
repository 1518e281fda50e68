"""The words that options and parameters may hold: known without torch, numpy or pandas, listed here and nowhere else."""

import math
import re
from collections.abc import Sequence

from fmiqa_utils.errors import InputError, near

WINDOW = 224  # px, the input of every backbone and the least side of an image
DISTANCES = ("l2", "cos", "skld", "jsd", "wsd", "swd")
USUAL_DISTANCES = ("l2", "cos", "skld", "jsd", "wsd")  # what is computed unless asked otherwise
USUAL = ",".join(USUAL_DISTANCES)
VARIANTS = ("published", "corrected")
NORMALIZE = ("none", "model")
PRECISIONS = ("fp32", "bf16", "fp16")
SMALL_IMAGES = ("error", "resize", "pad")
BASELINES = ("psnr", "ssim")  # always there; higher is better, unlike every distance
THROUGH_PYIQA = ("ms_ssim", "fsim", "lpips", "dists")
TRANSFORM_KINDS = ("tra", "sca", "rot")
LARGEST = {"tra": 100, "sca": 100, "rot": 360}  # % or degrees; a scale by more would only ask for memory
TRANSFORM_EXAMPLES = ("none", "tra-1", "sca-1", "rot-1")
ENGINES = ("local", "ray")
WEIGHTS = ("pretrained", "untrained", "auto")  # or a state-dict file
FROZEN_WEIGHTS = ("pretrained", "untrained")  # of LoDa's ViT and CNN
PROTOCOLS = ("validated", "published")  # where LoDa's epoch is chosen
BATCH_NORM = ("frozen", "published")  # what the CNN's BatchNorm statistics do while LoDa trains
N_SPLITS = 10  # of a dataset, for LoDa


def split_names(names: str) -> list[str]:
    """ "a, b" → ["a", "b"]."""
    return [n.strip() for n in names.split(",") if n.strip()]


def one_of(word: str, known: Sequence[str], what: str) -> str:
    """`word` if it is one of `known`. Raises InputError with near matches."""
    if word not in known:
        raise InputError(f"there is no {what} called {word!r}; {near(word, known)}")
    return word


def some_of(words: str, known: Sequence[str], what: str) -> tuple[str, ...]:
    """Names by commas → names, each one of `known`. Raises InputError for an unknown name, one said twice, and for none."""
    names = tuple(split_names(words))
    for name in names:
        one_of(name, known, what)
    return once(names, what)


def once(names: Sequence[str], what: str) -> tuple[str, ...]:
    """`names` if there are any and each stands there once. Raises InputError."""
    if not names:
        raise InputError(f"no {what} is named.")
    twice = [n for n in names if names.count(n) > 1]
    if twice:
        raise InputError(f"the {what} {twice[0]} is named twice.")
    return tuple(names)


def chosen_distances(words: str) -> tuple[str, ...]:
    """ "all" or names by commas → names. Raises InputError for an unknown one."""
    return DISTANCES if words == "all" else some_of(words, DISTANCES, "distance")


def chosen_variants(words: str) -> tuple[str, ...]:
    """ "published", "corrected" or "both" (or both by a comma) → names. Raises InputError for any other word."""
    if words == "both":
        return VARIANTS
    names = split_names(words)
    for name in names:
        one_of(name, (*VARIANTS, "both"), "variant")
    return some_of(words, VARIANTS, "variant")


def chosen_baselines(words: str) -> tuple[str, ...]:
    """ "all" or names by commas → names, PSNR and SSIM always among them.

    Raises InputError for an unknown name.
    """
    known = (*BASELINES, *THROUGH_PYIQA)
    names = known if words == "all" else tuple(dict.fromkeys((*BASELINES, *split_names(words))))
    for name in names:
        if name not in known:
            raise InputError(f"there is no baseline {name!r}; {near(name, [*known, 'all'])}")
    return names


def without_pyiqa(name: str) -> InputError:
    """The sentence for the baseline `name` where pyiqa is not installed."""
    return InputError(
        f"the baseline {name} needs pyiqa: install the extra with pip install 'fmiqa[baselines]', or leave it out."
    )


def chosen_transforms(words: str) -> tuple[str, ...]:
    """Names by commas → names such as "none" and "tra-1". Raises InputError as `parse_transform` does, and for one said twice."""
    names = tuple(split_names(words))
    check_transforms(names)
    return names


def refuse_gpus(num_gpus: float | None) -> None:
    """Raises InputError unless `num_gpus` of an actor is None, a fraction up to 1, or a whole number."""
    if num_gpus is not None and not (
        0 <= num_gpus <= 1 or (math.isfinite(num_gpus) and num_gpus > 1 and num_gpus % 1 == 0)
    ):
        raise InputError(f"--num-gpus {num_gpus:g}: it must be a fraction up to 1, or a whole number.")


def parse_transform(name: str) -> tuple[str, float]:
    """ "none" → ("none", 0); "tra-1", "sca-2.5", "rot-3" → (kind, amount in % or degrees, 0 to `LARGEST`).

    Raises InputError for anything else.
    """
    if name == "none":
        return "none", 0.0
    match = re.fullmatch(r"([a-z]+)-(\d+(?:\.\d+)?)", name)
    if match is None or match[1] not in TRANSFORM_KINDS:
        raise InputError(f"there is no transform {name!r}; {near(name, TRANSFORM_EXAMPLES)}")
    amount = float(match[2])
    if amount > LARGEST[match[1]]:
        raise InputError(
            f"the transform {name[:40]} is too large: {match[1]} goes up to {LARGEST[match[1]]}."
        )
    return match[1], amount


def check_transforms(names: Sequence[str]) -> None:
    """Raises InputError for no name, an unknown one, and one transform named twice (also as "tra-1" and "tra-1.0")."""
    if not names:
        raise InputError("no transform is named: name none for the images as they are.")
    seen: dict[tuple[str, float], str] = {}
    for name in names:
        parsed = parse_transform(name)
        if parsed in seen:
            again = "" if seen[parsed] == name else f" (as {seen[parsed]} and {name})"
            raise InputError(f"the transform {name} is named twice{again}: name it once.")
        seen[parsed] = name
