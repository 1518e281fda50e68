"""SSIM against scikit-image's, over sizes and contents; and what it needs."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from fmiqa_utils.distances.baselines import Reference, psnr, ssim
from fmiqa_utils.distances.ssim import LUMA, Ssim
from fmiqa_utils.errors import InputError


def scikit_image(ref: np.ndarray, dist: np.ndarray) -> float:
    """In double precision, which scikit-image keeps."""
    luma = [image.astype(np.float64) @ LUMA.astype(np.float64) for image in (ref, dist)]
    how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(*luma, data_range=255, **how))


def contents(rng: np.random.Generator, height: int, width: int) -> dict[str, np.ndarray]:
    rows, columns = np.mgrid[:height, :width]
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    return {
        "noise": rng.integers(0, 256, (height, width, 3)),
        "blocks": np.kron(coarse, np.ones((8, 8, 1)))[:height, :width],
        "ramp": np.stack([rows % 256, columns % 256, (rows + columns) // 2 % 256], -1),
        "flat": np.full((height, width, 3), int(rng.integers(0, 256))),
        "black": np.zeros((height, width, 3)),
        "white": np.full((height, width, 3), 255),
    }


@pytest.mark.parametrize("seed", range(12))
def test_the_values_are_those_of_scikit_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(11, 300, 2))
    for name, content in contents(rng, height, width).items():
        ref = content.astype(np.uint8)
        reference = Ssim(ref)
        for amount in (0, 1, 8, 60, 400):
            dist = np.clip(ref + rng.normal(0, amount, ref.shape), 0, 255).round().astype(np.uint8)
            assert reference.of(dist) == pytest.approx(scikit_image(ref, dist), abs=2e-5), (name, amount)


def test_of_two_contents_that_have_nothing_in_common() -> None:
    images = contents(np.random.default_rng(0), 64, 80)
    for first in images.values():
        for second in images.values():
            ref, dist = first.astype(np.uint8), second.astype(np.uint8)
            assert Ssim(ref).of(dist) == pytest.approx(scikit_image(ref, dist), abs=2e-5)


def test_equal_images_give_one_and_order_does_not_matter() -> None:
    images = contents(np.random.default_rng(1), 40, 60)
    ref, dist = images["noise"].astype(np.uint8), images["blocks"].astype(np.uint8)
    assert Ssim(ref).of(ref) == pytest.approx(1, abs=1e-6)
    assert Ssim(ref).of(dist) == pytest.approx(Ssim(dist).of(ref), abs=1e-6)
    assert -1 <= Ssim(ref).of(255 - ref) < 0


def test_a_reference_gives_the_same_values_again_and_again() -> None:
    images = contents(np.random.default_rng(2), 40, 60)
    ref, dist = images["noise"].astype(np.uint8), images["blocks"].astype(np.uint8)
    reference = Reference(ref, ("ssim", "psnr"))
    first = reference.values(dist).tolist()
    reference.values(ref)
    assert reference.values(dist).tolist() == first == [ssim(ref, dist), psnr(ref, dist)]
    assert Reference(ref, ("psnr",)).values(dist).tolist() == [psnr(ref, dist)]


def test_an_image_smaller_than_the_window_is_named() -> None:
    assert Ssim(np.zeros((11, 11, 3), np.uint8)).of(np.zeros((11, 11, 3), np.uint8)) == pytest.approx(1)
    with pytest.raises(InputError, match=r"SSIM needs 11 px on each side, but an image has 40×10"):
        Ssim(np.zeros((10, 40, 3), np.uint8))
