"""The classic metrics that every table shows beside the foundation models: PSNR and SSIM (scikit-image)."""

import numpy as np
from skimage.metrics import structural_similarity

BASELINES = ("psnr", "ssim")  # higher is better, unlike every distance
PSNR_OF_EQUAL = 100.0  # dB, in place of infinity


def baseline_values(ref: np.ndarray, dist: np.ndarray) -> np.ndarray:
    """PSNR (dB over R, G and B together) and SSIM of uint8 images [H, W, 3], in the order of `BASELINES`."""
    return np.array([psnr(ref, dist), ssim(ref, dist)])


def psnr(ref: np.ndarray, dist: np.ndarray) -> float:
    """10 log10(255² / MSE) in dB over all channels; 100 dB for equal images."""
    mse = float(np.square(ref.astype(np.float32) - dist.astype(np.float32)).mean(dtype=np.float64))
    return PSNR_OF_EQUAL if mse == 0 else float(10 * np.log10(255**2 / mse))


def ssim(ref: np.ndarray, dist: np.ndarray) -> float:
    """SSIM of the luma with the Gaussian window (σ 1.5) of Wang et al., 2004; in [−1, 1]."""
    luma = [np.asarray(i, np.float32) @ np.array([0.299, 0.587, 0.114], np.float32) for i in (ref, dist)]
    return float(
        structural_similarity(
            *luma, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )
