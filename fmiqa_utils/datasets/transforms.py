"""The three transforms: the distorted image is moved by a few per cent against its reference (docs/methods.md, Transforms)."""

import math

import numpy as np
from PIL import Image

from fmiqa_utils.errors import InputError
from fmiqa_utils.vocabulary import check_transforms, parse_transform

__all__ = ["apply_transform", "check_transforms", "parse_transform"]

TRANSFORMS_VERSION = 1  # part of every shard's key: raise it when a transform gives other pixels


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
