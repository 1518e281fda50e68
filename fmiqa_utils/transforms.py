"""The three transforms: the distorted image is moved by a few per cent against its reference (docs/methods.md, Transforms)."""

import math
import re
from collections.abc import Sequence

import numpy as np
from PIL import Image

from fmiqa_utils.errors import InputError, near

KINDS = ("tra", "sca", "rot")
MOST = {"tra": 100, "sca": 100, "rot": 360}  # % or degrees; a scale by more would only ask for memory


def parse_transform(name: str) -> tuple[str, float]:
    """ "none" → ("none", 0); "tra-1", "sca-2.5", "rot-3" → (kind, amount in % or degrees, 0 to `MOST`).

    Raises InputError for anything else.
    """
    if name == "none":
        return "none", 0.0
    match = re.fullmatch(r"([a-z]+)-(\d+(?:\.\d+)?)", name)
    if match is None or match[1] not in KINDS:
        raise InputError(f"there is no transform {name!r}; {near(name, ['none', 'tra-1', 'sca-1', 'rot-1'])}")
    amount = float(match[2])
    if amount > MOST[match[1]]:
        raise InputError(f"the transform {name[:40]} is too large: {match[1]} goes up to {MOST[match[1]]}.")
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


def apply_transform(ref: np.ndarray, dist: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Both uint8 [H, W, 3] images as the transform called `name` leaves them; amount 0 changes nothing.

    Raises InputError for an unknown name and for a translation that leaves no column.
    """
    kind, amount = parse_transform(name)
    if amount == 0:
        return ref, dist
    if kind == "tra":
        return translate(ref, dist, amount)
    return ref, (scale if kind == "sca" else rotate)(dist, amount)


def translate(ref: np.ndarray, dist: np.ndarray, percent: float) -> tuple[np.ndarray, np.ndarray]:
    """o = ⌈percent / 100 · W⌉: the reference keeps columns [0, W − o), the distorted image [o, W)."""
    W = ref.shape[1]
    o = math.ceil(percent / 100 * W)
    if o >= W:
        raise InputError(
            f"a translation by {percent:g} % leaves nothing of an image {W} px wide: use less than 100."
        )
    return ref[:, : W - o], dist[:, o:]


def scale(dist: np.ndarray, percent: float) -> np.ndarray:
    """Enlarged by an even number of pixels (rounded up) per axis, centre-cropped back and resized to its own size; bilinear."""
    H, W = dist.shape[:2]
    new_h, new_w = (n + 2 * math.ceil(percent / 100 * n / 2) for n in (H, W))
    large = Image.fromarray(dist).resize((new_w, new_h), Image.Resampling.BILINEAR)
    left, top = new_w // 2 - math.ceil(W / 2), new_h // 2 - math.ceil(H / 2)
    right, bottom = new_w // 2 + math.ceil(W / 2), new_h // 2 + math.ceil(H / 2)
    cropped = large.crop((left, top, right, bottom))
    return np.asarray(cropped.resize((W, H), Image.Resampling.BILINEAR))


def rotate(dist: np.ndarray, degrees: float) -> np.ndarray:
    """Turned by −`degrees` about the centre, nearest neighbour, black corners."""
    return np.asarray(Image.fromarray(dist).rotate(-degrees))
