"""Coded distortions: streams are damaged where intended, and blocks of the DCT are where they should be."""

from itertools import pairwise

import numpy as np
import pytest

from fmiqa_utils.demo import bitstreams
from fmiqa_utils.demo.photographs import PHOTOGRAPHS, reference

IMAGE = reference(PHOTOGRAPHS[0]).astype(np.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def mse(one, other) -> float:
    return float(np.mean((one - other) ** 2))


@pytest.mark.parametrize("coder", [bitstreams.jpeg, bitstreams.jpeg2000, bitstreams.palette])
def test_more_strength_more_error(coder):
    errors = [mse(IMAGE, coder(IMAGE, strength, rng())) for strength in (10, 60, 98)]
    assert errors[0] < errors[1] < errors[2]


def test_palette_has_that_many_colours():
    colours = np.unique(bitstreams.palette(IMAGE, 250, rng()).reshape(-1, 3), axis=0)
    assert len(colours) == 6


@pytest.mark.parametrize("errors", [bitstreams.jpeg_errors, bitstreams.jpeg2000_errors])
def test_errors_damage_the_decoded_image_only_when_there_are_any(errors):
    clean = errors(IMAGE, 0, rng())
    assert mse(IMAGE, clean) < 20
    assert mse(clean, errors(IMAGE, 200, rng())) > 50


def test_a_jpeg_error_stays_in_its_segment():
    """One flipped bit changes at most the 4 coded units, 64×16 px, between two restart markers."""
    clean = bitstreams.jpeg_errors(IMAGE, 0, rng())
    for seed in range(8):
        damaged = bitstreams.jpeg_errors(IMAGE, 1, np.random.default_rng(seed))
        rows, columns = np.nonzero((clean != damaged).any(axis=2))
        if len(rows):
            # Halved chroma is interpolated into one pixel of the neighbouring units.
            assert rows.max() - rows.min() < 16 + 2
            assert columns.max() - columns.min() < 64 + 2


def test_jpeg2000_bodies_are_inside_their_packets():
    stream = bytearray(bitstreams._jpeg2000_stream(IMAGE, 4.0, codeblock_size=(16, 16), plt=True))
    bodies = list(bitstreams._jpeg2000_bodies(stream))
    assert len(bodies) == 6 * 3  # resolutions × components, one layer
    assert all(begin <= end for begin, end in bodies)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(bodies))
    assert bodies[-1][1] == len(stream) - 2  # all but the end-of-codestream marker


@pytest.mark.parametrize("shift", [(0, 0), (4, 2)])
@pytest.mark.parametrize("shape", [(32, 48, 3), (29, 43, 3)])
def test_unchanged_blocks_give_the_image_back(shape, shift):
    image = rng().uniform(0, 255, shape).astype(np.float32)
    same = bitstreams.in_blocks(image, lambda coefficients: coefficients, shift)
    assert np.allclose(same, image, atol=1e-3)


def test_first_coefficient_is_eight_times_the_mean():
    seen = []
    bitstreams.in_blocks(np.full((16, 8, 3), 100, np.float32), lambda c: seen.append(c) or c)
    assert seen[0].shape == (2, 1, 3, 8, 8)
    assert np.allclose(seen[0][..., 0, 0], 800)
    assert np.allclose(seen[0][..., 1:, :], 0, atol=1e-3)
