"""The three transforms: the distorted image is shifted, scaled or rotated against its reference (docs/methods.md, Transforms).

A new transform: a function and an entry in `TRANSFORMS`, and its row in docs/methods.md. Option parsing reads the table too, so numpy
and Pillow are imported only when an image is transformed.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fmiqa_utils.errors import InputError, near
from fmiqa_utils.words import split_names

if TYPE_CHECKING:
    import numpy as np

    ImagePair = tuple[np.ndarray, np.ndarray]  # reference and distorted image, uint8 [H, W, 3]


def translate(ref: "np.ndarray", dist: "np.ndarray", percent: float) -> "ImagePair":
    """o = ⌈percent / 100 · W⌉: the reference keeps columns [0, W − o), the distorted image [o, W)."""
    W = ref.shape[1]
    o = math.ceil(percent / 100 * W)
    if o >= W:
        raise InputError(
            f"a translation by {percent:g} % leaves nothing of an image {W} px wide: use less than 100."
        )
    return ref[:, : W - o], dist[:, o:]


def scale(ref: "np.ndarray", dist: "np.ndarray", percent: float) -> "ImagePair":
    """`dist` enlarged by an even number of pixels (rounded up) per axis, centre-cropped back and resized to its own size; bilinear."""
    import numpy as np
    from PIL import Image

    H, W = dist.shape[:2]
    new_h, new_w = (n + 2 * math.ceil(percent / 100 * n / 2) for n in (H, W))
    large = Image.fromarray(dist).resize((new_w, new_h), Image.Resampling.BILINEAR)
    left, top = new_w // 2 - math.ceil(W / 2), new_h // 2 - math.ceil(H / 2)
    right, bottom = new_w // 2 + math.ceil(W / 2), new_h // 2 + math.ceil(H / 2)
    cropped = large.crop((left, top, right, bottom))
    return ref, np.asarray(cropped.resize((W, H), Image.Resampling.BILINEAR))


def rotate(ref: "np.ndarray", dist: "np.ndarray", degrees: float) -> "ImagePair":
    """`dist` turned by −`degrees` about the centre, nearest neighbour, black corners."""
    import numpy as np
    from PIL import Image

    return ref, np.asarray(Image.fromarray(dist).rotate(-degrees))


@dataclass(frozen=True, kw_only=True)
class Transform:
    """A kind of transform; its name in options and score tables is KIND-AMOUNT, such as "tra-1"."""

    kind: str
    title: str  # on an axis
    unit: str  # as written behind a number
    sentence: str  # what it does, with a place for the amount
    most: float  # a larger amount would only need more memory
    apply: "Callable[[np.ndarray, np.ndarray, float], ImagePair]"


TRANSFORMS: dict[str, Transform] = {
    entry.kind: entry
    for entry in (
        Transform(
            kind="tra",
            title="translation",
            unit=" %",
            sentence="a shift by {:g} %",
            most=100,
            apply=translate,
        ),
        Transform(
            kind="sca", title="scale", unit=" %", sentence="a scaling by {:g} %", most=100, apply=scale
        ),
        Transform(
            kind="rot", title="rotation", unit="°", sentence="a rotation by {:g}°", most=360, apply=rotate
        ),
    )
}
TRANSFORM_EXAMPLES = ("none", *(f"{kind}-1" for kind in TRANSFORMS))


def apply_transform(ref: "np.ndarray", dist: "np.ndarray", name: str) -> "ImagePair":
    """Both uint8 [H, W, 3] images after the transform called `name`; amount 0 changes nothing.

    Raises InputError for an unknown name and for a translation that leaves no column.
    """
    kind, amount = parse_transform(name)
    return (ref, dist) if amount == 0 else TRANSFORMS[kind].apply(ref, dist, amount)


def parse_transform(name: str) -> tuple[str, float]:
    """ "none" → ("none", 0); "tra-1", "sca-2.5", "rot-3" → (kind, amount in % or degrees, 0 to the kind's `most`).

    Raises InputError for anything else.
    """
    if name == "none":
        return "none", 0.0
    match = re.fullmatch(r"([a-z]+)-(\d+(?:\.\d+)?)", name)
    if match is None or match[1] not in TRANSFORMS:
        raise InputError(f"there is no transform {name!r}; {near(name, TRANSFORM_EXAMPLES)}")
    amount, most = float(match[2]), TRANSFORMS[match[1]].most
    if amount > most:
        raise InputError(f"the transform {name[:40]} is too large: {match[1]} goes up to {most:g}.")
    return match[1], amount


def check_transforms(names: Sequence[str]) -> None:
    """Raises InputError for no name, an unknown name, and one transform named twice (also as "tra-1" and "tra-1.0")."""
    if not names:
        raise InputError("no transform is named: name none for the images as they are.")
    seen: dict[tuple[str, float], str] = {}
    for name in names:
        parsed = parse_transform(name)
        if parsed in seen:
            spellings = "" if seen[parsed] == name else f" (as {seen[parsed]} and {name})"
            raise InputError(f"the transform {name} is named twice{spellings}: name it once.")
        seen[parsed] = name


def chosen_transforms(words: str) -> tuple[str, ...]:
    """Comma-separated names → names such as "none" and "tra-1". Raises InputError as `check_transforms` does."""
    names = tuple(split_names(words))
    check_transforms(names)
    return names
