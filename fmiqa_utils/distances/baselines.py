"""The classic metrics computed beside the foundation models: PSNR and SSIM always, others through pyiqa."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from fmiqa_utils.distances.ssim import Ssim
from fmiqa_utils.distances.table import THROUGH_PYIQA, USUAL_BASELINES, chosen_baselines, without_pyiqa
from fmiqa_utils.errors import InputError

PSNR_OF_EQUAL = 100.0  # dB, in place of infinity


def choose_baselines(words: str) -> tuple[str, ...]:
    """ "all" or comma-separated names → names, PSNR and SSIM always among them.

    Raises InputError for an unknown name, if pyiqa is not installed, and if the weights of a metric are out of reach.
    """
    names = chosen_baselines(words)
    for name in names:
        if name in THROUGH_PYIQA:
            _pyiqa_metric(name)
    return names


def baseline_values(ref: np.ndarray, dist: np.ndarray, names: Sequence[str] = USUAL_BASELINES) -> np.ndarray:
    """The metrics `names` of uint8 images [H, W, 3]: PSNR in dB over R, G and B together, the others without unit."""
    return Reference(ref, names).values(dist)


class Reference:
    """A reference, uint8 [H, W, 3], with which distorted images are compared: what the metrics need of it is computed once.

    Raises InputError for an image that is too small for SSIM.
    """

    def __init__(self, image: np.ndarray, names: Sequence[str] = USUAL_BASELINES) -> None:
        self.image, self.names = image, names
        self._ssim = Ssim(image) if "ssim" in names else None

    def values(self, dist: np.ndarray) -> np.ndarray:
        """The metrics of `dist`, uint8 [H, W, 3], in the order of `names`."""
        return np.array([self._value(name, dist) for name in self.names])

    def _value(self, name: str, dist: np.ndarray) -> float:
        if name == "ssim" and self._ssim is not None:
            return self._ssim.of(dist)
        return psnr(self.image, dist) if name == "psnr" else _through_pyiqa(name, self.image, dist)


def psnr(ref: np.ndarray, dist: np.ndarray) -> float:
    """10 log10(255² / MSE) in dB over all channels; 100 dB for equal images."""
    mse = float(np.square(ref.astype(np.float32) - dist.astype(np.float32)).mean(dtype=np.float64))
    return PSNR_OF_EQUAL if mse == 0 else float(10 * np.log10(255**2 / mse))


def ssim(ref: np.ndarray, dist: np.ndarray) -> float:
    """SSIM of the luma with the Gaussian window (σ 1.5) of Wang et al., 2004; in [−1, 1]."""
    return Ssim(ref).of(dist)


def _through_pyiqa(name: str, ref: np.ndarray, dist: np.ndarray) -> float:
    x, y = (torch.from_numpy(i.copy()).permute(2, 0, 1)[None].float() / 255 for i in (dist, ref))
    with torch.no_grad():
        return float(_pyiqa_metric(name)(x, y))


@cache
def _pyiqa_metric(name: str) -> Any:
    """pyiqa's implementation, which the authors of ZS-IQA used; on the CPU, in the threads that decode."""
    try:
        import pyiqa
    except ImportError:
        raise without_pyiqa(name) from None
    try:
        return pyiqa.create_metric(name, device="cpu")
    except OSError as error:  # the download of a network's weights
        raise InputError(
            f"the weights of the baseline {name} could not be fetched ({error}): leave it out, or run once with a network."
        ) from error
