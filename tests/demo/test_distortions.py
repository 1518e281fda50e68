"""The 24 distortions: identity at zero, known values, the same seed the same pixels."""

import hashlib

import numpy as np
import pytest

from fmiqa_utils.datasets.layouts import TID2013_TYPES
from fmiqa_utils.demo.distortions import BLOCKS, KINDS, distort
from fmiqa_utils.demo.photographs import PHOTOGRAPHS, reference

IMAGE = reference(PHOTOGRAPHS[0])[:96, 100:228]
# Types that draw nothing at random, and types whose coder leaves its mark even at zero strength.
SEEDLESS = {7, 8, 10, 11, 16, 17, 18, 22, 23}
CODED = {10, 11, 12, 13, 15, 22}


def digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def middling(type: int) -> float:
    """The middle of the searched strengths on a logarithmic scale, rounded to a step."""
    kind = KINDS[type]
    strength = (kind.weakest * kind.strongest) ** 0.5
    return round(strength / kind.step) * kind.step if kind.step else strength


def test_types_are_tid2013s():
    assert list(TID2013_TYPES) == list(range(1, 25))
    assert TID2013_TYPES[1] == "additive Gaussian noise"
    assert TID2013_TYPES[24] == "sparse sampling and reconstruction"
    assert len(set(TID2013_TYPES.values())) == 24


@pytest.mark.parametrize("type", sorted(set(TID2013_TYPES) - CODED))
def test_zero_strength_changes_nothing(type):
    assert np.array_equal(distort(IMAGE, type, 0, seed=3), IMAGE)


@pytest.mark.parametrize("type", TID2013_TYPES)
def test_same_seed_same_pixels(type):
    strength = middling(type)
    before = IMAGE.copy()
    first, again = (distort(IMAGE, type, strength, seed=3) for _ in range(2))
    other = distort(IMAGE, type, strength, seed=4)
    assert first.shape == IMAGE.shape
    assert first.dtype == np.uint8
    assert digest(first) == digest(again) != digest(IMAGE)
    assert (digest(first) == digest(other)) == (type in SEEDLESS)
    assert np.array_equal(IMAGE, before)


@pytest.mark.parametrize("type", sorted(set(TID2013_TYPES) - {15, 22}))
def test_more_strength_more_error(type):
    kind = KINDS[type]
    errors = [
        np.mean((distort(IMAGE, type, strength, seed=3).astype(float) - IMAGE) ** 2)
        for strength in (kind.weakest, middling(type), kind.strongest)
    ]
    assert errors[0] < errors[1] < errors[2]


def test_unknown_type():
    with pytest.raises(KeyError):
        distort(IMAGE, 25, 1, seed=0)


def test_mean_shift_goes_down_on_odd_and_up_on_even_levels():
    grey = np.full((8, 8, 3), 100, np.uint8)
    assert np.unique(distort(grey, 16, 20, seed=0, level=3)).tolist() == [80]
    assert np.unique(distort(grey, 16, 30, seed=0, level=4)).tolist() == [130]
    assert np.unique(distort(grey, 16, 120, seed=0, level=5)).tolist() == [0]  # clipped, not wrapped


def test_contrast_about_the_mean():
    halves = np.repeat(np.uint8([[80, 120]]), 4, axis=0)[..., None].repeat(3, axis=2)  # mean 100
    assert distort(halves, 17, 0.5, seed=0, level=1)[0, :, 0].tolist() == [90, 110]
    assert distort(halves, 17, 0.5, seed=0, level=2)[0, :, 0].tolist() == [70, 130]


def test_saturation_keeps_greys_and_luminance():
    grey = np.full((4, 4, 3), 90, np.uint8)
    assert np.array_equal(distort(grey, 18, 2, seed=0), grey)
    more = distort(np.full((1, 1, 3), (120, 100, 80), np.uint8), 18, 1, seed=0)[0, 0]
    # Luminance .299·120 + .587·100 + .114·80 = 103.7, distances to it doubled.
    assert more.tolist() == [136, 96, 56]


def test_quantisation_leaves_multiples_of_the_step():
    assert np.unique(distort(IMAGE, 7, 60, seed=0)).tolist() == [0, 60, 120, 180, 240]


def test_noise_has_its_deviation():
    grey = np.full((200, 200, 3), 128, np.uint8)
    for type in (1, 3, 5):
        assert distort(grey, type, 10, seed=1).astype(float).std() == pytest.approx(10, rel=0.02)
    assert distort(grey, 19, 0.1, seed=1).astype(float).std() == pytest.approx(12.8, rel=0.02)


def test_noise_spectra_are_in_order():
    """Correlation of neighbouring pixels: positive for low-pass noise, none for white, negative for high-pass."""
    grey = np.full((200, 200, 3), 128, np.uint8)

    def neighbours(type: int) -> float:
        noise = distort(grey, type, 20, seed=1).astype(float) - 128
        return float(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1])

    # A Gaussian of σ = 1 px correlates neighbours by exp(−1/4) = 0.78.
    assert neighbours(3) == pytest.approx(0.78, abs=0.02)
    assert neighbours(1) == pytest.approx(0, abs=0.01)
    assert neighbours(5) < -0.1


def test_colour_noise_is_stronger_in_colour_than_in_luminance():
    grey = np.full((200, 200, 3), 128, np.uint8)
    noise = distort(grey, 2, 10, seed=1).astype(float) - 128
    luma = noise @ (0.299, 0.587, 0.114)
    assert luma.std() == pytest.approx(5, rel=0.02)
    assert ((noise[..., 2] - luma) / 1.772).std() == pytest.approx(10, rel=0.02)


def test_masked_noise_spares_flat_areas():
    half = np.full((64, 128, 3), 128, np.uint8)
    half[:, 64:] += np.random.default_rng(0).integers(0, 60, size=(64, 64, 1), dtype=np.uint8)
    changed = distort(half, 4, 10, seed=1) != half
    assert changed[:, :40].mean() == 0
    assert changed[:, 80:].mean() > 0.8


def test_impulses_are_black_or_white_and_as_many_as_asked():
    grey = np.full((200, 200, 3), 128, np.uint8)
    noisy = distort(grey, 6, 0.05, seed=1)
    assert np.unique(noisy).tolist() == [0, 128, 255]
    assert (noisy != 128).mean() == pytest.approx(0.05, abs=0.003)


def test_displaced_patches_come_from_nearby():
    """On a ramp of one grey level per column, a patch taken from 10 px away is wrong by at most 10."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (100, 200, 3))
    difference = distort(ramp, 14, 5, seed=1).astype(int) - ramp
    assert 0 < np.abs(difference).max() <= 10
    assert 15 * 15 <= (difference[..., 0] != 0).sum() <= 5 * 15 * 15


@pytest.mark.parametrize("level", [1, 3, 5])
def test_flat_blocks_number_size_and_colour(level):
    """All channels of a block are 127.5 ± 50, so pixels at the image's grey level of 10 lie in no block."""
    dark = np.full((288, 384, 3), 10, np.uint8)
    changed = distort(dark, 15, 50, seed=1, level=level)
    assert (changed[..., 0] != 10).sum() == BLOCKS[level - 1] * 24 * 24
    assert set(np.unique(changed)) <= {10, 77, 78, 177, 178}


def test_chromatic_aberration_moves_red_and_blue_apart():
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[20, 20] = 255
    centres = []
    for channel in np.moveaxis(distort(dot, 23, 4, seed=0).astype(float), 2, 0):
        rows, columns = np.indices(channel.shape)
        centres.append((np.average(rows, weights=channel), np.average(columns, weights=channel)))
    assert np.allclose(centres, [(24, 24), (20, 20), (16, 16)], atol=0.1)


def test_sparse_sampling_keeps_its_samples():
    """With one pixel lost for each one kept, at least half of all pixels stay exactly the same."""
    kept = (distort(IMAGE, 24, 1, seed=1) == IMAGE).all(axis=2).mean()
    assert 0.47 < kept < 0.7


def test_denoising_takes_away_noise_it_added_itself():
    """Of noise alone, a block's mean (1/64 of the energy) and what exceeds 3 deviations (0.029 of it) may stay."""
    grey = np.full((160, 160, 3), 128, np.uint8)
    assert distort(grey, 9, 24, seed=1).astype(float).std() < 24 * (1 / 64 + 0.029) ** 0.5
