"""SSIM of Wang et al. (2004), with the reference's part computed once for all its distorted images.

numpy alone: it runs in the threads that decode, several at once, where torch would start threads of its own for each of them. The values
are those of scikit-image's `structural_similarity` with the same window, up to rounding.
"""

import numpy as np

from fmiqa_utils.errors import InputError

RADIUS = 5  # of the Gaussian window, px: it is cut off at 3.5 σ
SIGMA = 1.5  # px
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of R, G and B
C1, C2 = np.float32((0.01 * 255) ** 2), np.float32((0.03 * 255) ** 2)
MIDDLE = np.float32(
    128
)  # subtracted before squares are taken, which keeps the digits that a variance is made of

_TAPS = np.exp(-0.5 * (np.arange(-RADIUS, 1) / SIGMA) ** 2)
_TAPS = (_TAPS / (2 * _TAPS[:-1].sum() + _TAPS[-1])).astype(
    np.float32
)  # one half of the window and its middle


class Ssim:
    """SSIM against one reference, uint8 [H, W, 3]. Raises InputError for an image smaller than the window of 11 px."""

    def __init__(self, ref: np.ndarray) -> None:
        if min(ref.shape[:2]) <= 2 * RADIUS:
            raise InputError(
                f"SSIM needs {2 * RADIUS + 1} px on each side, but an image has {ref.shape[1]}×{ref.shape[0]}."
            )
        self._luma = _luma(ref)
        self._mean = _blurred(self._luma)
        self._variance = _blurred(self._luma * self._luma) - self._mean * self._mean

    def of(self, dist: np.ndarray) -> float:
        """The mean SSIM of `dist`, uint8 [H, W, 3], over all positions where the window fits; in [−1, 1]."""
        luma = _luma(dist)
        mean = _blurred(luma)
        variance = _blurred(luma * luma)
        variance -= mean * mean
        covariance = _blurred(self._luma * luma)
        covariance -= self._mean * mean
        x, y = self._mean + MIDDLE, mean + MIDDLE
        index = (2 * x * y + C1) * (2 * covariance + C2)
        index /= (x * x + y * y + C1) * (self._variance + variance + C2)
        return float(index.mean(dtype=np.float64))


def _luma(image: np.ndarray) -> np.ndarray:
    """float32 [H, W], around 0."""
    luma: np.ndarray = image.astype(np.float32) @ LUMA
    luma -= MIDDLE
    return luma


def _blurred(x: np.ndarray) -> np.ndarray:
    """[H, W] → [H − 10, W − 10]: the Gaussian window's mean wherever the window fits; the window is symmetric, and so are its sums."""
    return _blurred_rows(_blurred_rows(x).T).T


def _blurred_rows(x: np.ndarray) -> np.ndarray:
    """The window along the first axis."""
    n = len(x) - 2 * RADIUS
    out = x[RADIUS : RADIUS + n] * _TAPS[RADIUS]
    both = np.empty_like(out)
    for i in range(RADIUS):
        np.add(x[i : i + n], x[2 * RADIUS - i : 2 * RADIUS - i + n], out=both)
        both *= _TAPS[i]
        out += both
    return out
