"""Sliding windows: an image of any size becomes 224 px windows, and their scores are averaged (docs/methods.md, Windows)."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fmiqa_utils.backbones.catalogue import SMALL_IMAGES, WINDOW
from fmiqa_utils.errors import InputError

STRIDE = 200  # px


def window_starts(n: int, window: int = WINDOW, stride: int = STRIDE) -> list[int]:
    """Starts of the windows along an axis of `n` px, as the released procedure places them.

    Raises InputError for n < window, where that procedure is undefined.
    """
    if n < window:
        raise InputError(f"an axis of {n} px is shorter than the {window} px window.")
    starts = list(range(0, n - window, stride))
    if not starts:
        return [n - window]
    last = starts[-1]
    if last + 2 * window > n:
        return [*starts, n - window]
    return [*starts, last + window, n - window]


def window_boxes(height: int, width: int) -> list[tuple[int, int]]:
    """(top, left) of every window of an image, row by row."""
    return [(top, left) for top in window_starts(height) for left in window_starts(width)]


def fit_small(image: np.ndarray, small_images: str, name: str) -> np.ndarray:
    """`image` uint8 [H, W, 3] with both sides ≥ 224 px; smaller ones are an error unless "resize" or "pad" is asked for.

    "resize": bicubic, both sides by one factor; "pad": mirrored at the bottom and right. Raises InputError naming the image.
    """
    H, W = image.shape[:2]
    if min(H, W) >= WINDOW:
        return image
    if small_images in ("resize", "pad"):
        h, w = fitted_size(H, W, small_images)
        if small_images == "resize":
            return np.asarray(Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC))
        return np.pad(image, ((0, h - H), (0, w - W), (0, 0)), mode="symmetric")
    if small_images != "error":
        raise InputError(f"small_images={small_images!r} is unknown; known: {', '.join(SMALL_IMAGES)}.")
    raise InputError(
        f"{name} is {W}×{H} px, under the {WINDOW} px window: use --small-images resize or pad, which the results record."
    )


def fitted_size(height: int, width: int, small_images: str) -> tuple[int, int]:
    """(height, width) in px after `fit_small` with "resize" or "pad"."""
    factor = max(1.0, WINDOW / min(height, width)) if small_images == "resize" else 1.0
    return max(WINDOW, round(height * factor)), max(WINDOW, round(width * factor))


def cut_windows(image: np.ndarray, boxes: list[tuple[int, int]]) -> np.ndarray:
    """uint8 [H, W, 3] → uint8 [N, 224, 224, 3]."""
    return np.stack([image[top : top + WINDOW, left : left + WINDOW] for top, left in boxes])


def to_input(windows: np.ndarray, device: torch.device) -> Tensor:
    """uint8 [N, 224, 224, 3] → float [N, 3, 224, 224] in [0, 1] on `device`; transferred as bytes, not floats."""
    batch = torch.from_numpy(windows)
    if device.type == "cuda":
        batch = batch.pin_memory().to(device, non_blocking=True)
    return batch.permute(0, 3, 1, 2).contiguous().float().div_(255)
