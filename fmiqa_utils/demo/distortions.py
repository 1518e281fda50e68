"""TID2013's 24 types of distortion, each with one strength, deterministic from a seed.

Source: Ponomarenko et al., "Image database TID2013: Peculiarities, results and perspectives", Signal
Processing: Image Communication 30, 2015. The database's own programs are not public: these are
only reconstructions from its descriptions and from how its PSNR behaves over images and levels.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from fmiqa_utils.demo import bitstreams
from fmiqa_utils.demo.bitstreams import Pixels, in_blocks

Rng = np.random.Generator

# ITU-R BT.601, full range, without the offset of 128. Rows of the first: Y, Cb, Cr; of the second: R, G, B.
TO_YCBCR = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)
TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], np.float32)

GRIDS = ((0, 0), (4, 2), (2, 6), (6, 4))  # px, down and right: where a denoiser's 8×8 blocks begin
PATCH = 15  # px, side of a displaced patch (type 14)
BLOCKS = (6, 5, 5, 4, 3)  # flat blocks of a level (type 15): fewer and stronger
BLOCK_SHARE = 16  # a block's side is 1/16 of the image's longer side, as 32 px are of TID2013's 512
DRAWS = 8  # sets of transmission errors to choose from: one flipped bit can cost more than a level's 3 dB


class Kind(NamedTuple):
    """One type: how it is made, what its strength counts, and the strengths a calibration searches."""

    apply: Callable[..., Pixels]
    strength: str
    weakest: float
    strongest: float
    step: float = 0  # strengths are multiples of it; 0: any strength
    by_level: bool = False  # apply() also takes the level
    draws: int = 1  # seeds that a calibration may try


def distort(
    image: NDArray[np.uint8], type: int, strength: float, seed: int, level: int = 1
) -> NDArray[np.uint8]:
    """`image` (uint8 [H, W, 3]) with distortion `type` (1..24) at `strength`, both as KINDS has them.

    The same arguments give the same pixels. `level` (1..5) decides the manner of three types only: how many
    blocks (15), and in which direction (16, 17: odd levels darken or flatten, even ones do the opposite).
    Raises KeyError for another type.
    """
    kind = KINDS[type]
    manner = (level,) if kind.by_level else ()
    result = kind.apply(image.astype(np.float32), strength, np.random.default_rng(seed), *manner)
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


def additive_noise(image: Pixels, strength: float, rng: Rng) -> Pixels:
    return image + strength * _noise(image, rng)


def colour_noise(image: Pixels, strength: float, rng: Rng) -> Pixels:
    """Noise in YCbCr, twice as strong in both colour components as in luminance."""
    noise = _noise(image, rng) * np.array((0.5, 1, 1), np.float32)
    return image + strength * _convert(noise, TO_RGB)


def correlated_noise(image: Pixels, strength: float, rng: Rng) -> Pixels:
    noise = gaussian_filter(_noise(image, rng), (1, 1, 0))
    return image + strength * noise / noise.std()


def masked_noise(image: Pixels, strength: float, rng: Rng) -> Pixels:
    """Noise that follows the image's own activity, so that texture hides it and flat areas stay clean."""
    luma = _luma(image)
    mean = gaussian_filter(luma, 3)
    activity = np.sqrt(np.maximum(gaussian_filter(luma**2, 3) - mean**2, 0))
    deviation = strength * activity / (activity.mean() + 1e-9)
    return image + deviation[..., None] * _noise(image, rng)


def high_frequency_noise(image: Pixels, strength: float, rng: Rng) -> Pixels:
    noise = _noise(image, rng)
    noise -= gaussian_filter(noise, (1, 1, 0))
    return image + strength * noise / noise.std()


def impulse_noise(image: Pixels, strength: float, rng: Rng) -> Pixels:
    """A share `strength` of all samples is black or white, channel by channel."""
    hit = rng.random(image.shape, dtype=np.float32) < strength
    return np.where(hit, np.float32(255) * rng.integers(0, 2, size=image.shape, dtype=np.uint8), image)


def quantise(image: Pixels, strength: float, rng: Rng) -> Pixels:
    return strength * np.rint(image / strength) if strength > 0 else image


def blur(image: Pixels, strength: float, rng: Rng) -> Pixels:
    return gaussian_filter(image, (strength, strength, 0))


def denoise(image: Pixels, strength: float, rng: Rng) -> Pixels:
    """Noise of deviation `strength`, then a denoiser: DCT coefficients under 3 deviations go."""
    return _shrink(additive_noise(image, strength, rng), 3 * strength)


def displaced_patches(image: Pixels, strength: float, rng: Rng) -> Pixels:
    """`strength` patches of 15×15 px overwritten by patches from a few pixels beside them."""
    result = image.copy()
    height, width, _ = image.shape
    for _ in range(round(strength)):
        row, column = (int(rng.integers(0, size - PATCH + 1)) for size in (height, width))
        from_row, from_column = (
            int(np.clip(start + rng.integers(-10, 11), 0, size - PATCH))
            for start, size in ((row, height), (column, width))
        )
        patch = image[from_row : from_row + PATCH, from_column : from_column + PATCH]
        result[row : row + PATCH, column : column + PATCH] = patch
    return result


def flat_blocks(image: Pixels, strength: float, rng: Rng, level: int) -> Pixels:
    """Blocks of one colour each, `strength` grey levels away from mid-grey in every channel."""
    result = image.copy()
    height, width, _ = image.shape
    side = max(height, width) // BLOCK_SHARE
    cells = rng.permutation((height // side) * (width // side))[: BLOCKS[level - 1]]
    for cell in cells:
        row, column = (side * int(index) for index in divmod(cell, width // side))
        colour = 127.5 + strength * (2.0 * rng.integers(0, 2, size=3) - 1)
        result[row : row + side, column : column + side] = colour
    return result


def mean_shift(image: Pixels, strength: float, rng: Rng, level: int) -> Pixels:
    return image + strength * _direction(level)


def contrast(image: Pixels, strength: float, rng: Rng, level: int) -> Pixels:
    """Contrast about the image's mean colour times 1 ± strength."""
    mean = image.mean(axis=(0, 1))
    return mean + (1 + strength * _direction(level)) * (image - mean)


def saturation(image: Pixels, strength: float, rng: Rng) -> Pixels:
    """Colour differences to grey times 1 + strength.

    TID2013 reaches 21 dB here on 23 of 25 images, which taking colour away from muted photographs cannot do.
    """
    grey = _luma(image)[..., None]
    return grey + (1 + strength) * (image - grey)


def multiplicative_noise(image: Pixels, strength: float, rng: Rng) -> Pixels:
    return image * (1 + strength * _noise(image, rng))


def comfort_noise(image: Pixels, strength: float, rng: Rng) -> Pixels:
    """Fine texture (DCT coefficients under `strength`) replaced by noise of the same local energy.

    A coder that spends no bits on texture and synthesises it again does this.
    """
    structure = _shrink(image, strength)
    energy = gaussian_filter((image - structure) ** 2, (2, 2, 0))
    noise = _noise(image[..., :1], rng)  # of one hue, like texture
    noise -= gaussian_filter(noise, (2, 2, 0))
    return structure + np.hypot(np.sqrt(energy), strength / 32) * noise / noise.std()


def compressed_noise(image: Pixels, strength: float, rng: Rng) -> Pixels:
    """Noise of deviation `strength`, then a DCT coder with a quantiser step of 3.5 times that."""
    noisy = _convert(additive_noise(image, strength, rng), TO_YCBCR)
    step = 3.5 * strength
    coded = in_blocks(noisy, lambda c: step * np.rint(c / step)) if step > 0 else noisy
    return _convert(coded, TO_RGB)


def chromatic_aberration(image: Pixels, strength: float, rng: Rng) -> Pixels:
    """Red `strength` px to the right and down, blue as much to the left and up, both slightly blurred."""
    red, green, blue = np.moveaxis(image, 2, 0)
    soft = 0.25 * strength
    return np.stack(
        [
            _shifted(gaussian_filter(red, soft), strength),
            green,
            _shifted(gaussian_filter(blue, soft), -strength),
        ],
        2,
    )


def sparse_sampling(image: Pixels, strength: float, rng: Rng) -> Pixels:
    """`strength` pixels are lost for each one kept, and reconstructed by iterated shrinkage of the DCT."""
    kept = (rng.random(image.shape[:2]) < 1 / (1 + strength))[..., None].astype(np.float32)
    known = kept * image
    result = _filled(known, kept)
    for threshold, grids in ((60, GRIDS[:2]), (30, GRIDS[2:]), (15, GRIDS[:2]), (8, GRIDS[2:])):
        result = np.where(kept, image, _shrink(result, threshold, grids))
    return result


def _filled(known: Pixels, kept: Pixels) -> Pixels:
    """Holes filled with the Gaussian mean of known pixels around them, from far to near."""
    result = np.broadcast_to(known.sum(axis=(0, 1)) / max(1, kept.sum()), known.shape)
    for sigma in (9, 3, 1):
        weight, total = (gaussian_filter(a, (sigma, sigma, 0), truncate=2.5) for a in (kept, known))
        near = total / (weight + 1e-9)
        trust = weight / (weight + 0.02)
        result = trust * near + (1 - trust) * result
    return result


def _shrink(image: Pixels, threshold: float, grids: Sequence[tuple[int, int]] = GRIDS) -> Pixels:
    """8×8 DCT coefficients under `threshold` set to zero, averaged over block grids so that no seams show."""

    def keep_strong(coefficients: Pixels) -> Pixels:
        weak = np.abs(coefficients) < threshold
        weak[..., 0, 0] = False
        return np.where(weak, 0, coefficients)

    return np.mean([in_blocks(image, keep_strong, shift) for shift in grids], axis=0)


def _noise(image: Pixels, rng: Rng) -> Pixels:
    return rng.standard_normal(image.shape, dtype=np.float32)


def _convert(image: Pixels, matrix: Pixels) -> Pixels:
    return np.einsum("hwc,kc->hwk", image, matrix)


def _luma(image: Pixels) -> Pixels:
    return np.einsum("hwc,c->hw", image, TO_YCBCR[0])


def _shifted(channel: Pixels, distance: float) -> Pixels:
    """`channel` [H, W] shifted by `distance` px along both axes, linear between pixels, edges repeated."""
    for axis in (0, 1):
        size = channel.shape[axis]
        source = np.clip(np.arange(size) - distance, 0, size - 1)
        below = np.floor(source).astype(int)
        share = np.expand_dims((source - below).astype(np.float32), 1 - axis)
        above = np.minimum(below + 1, size - 1)
        channel = (1 - share) * channel.take(below, axis) + share * channel.take(above, axis)
    return channel


def _direction(level: int) -> int:
    return 1 if level % 2 == 0 else -1


KINDS: dict[int, Kind] = {
    1: Kind(additive_noise, "standard deviation, grey levels", 0.5, 120),
    2: Kind(colour_noise, "standard deviation, grey levels", 0.5, 120),
    3: Kind(correlated_noise, "standard deviation, grey levels", 0.5, 120),
    4: Kind(masked_noise, "mean standard deviation, grey levels", 0.5, 200),
    5: Kind(high_frequency_noise, "standard deviation, grey levels", 0.5, 200),
    6: Kind(impulse_noise, "share of samples", 1e-5, 0.3),
    7: Kind(quantise, "step, grey levels", 2, 200),
    8: Kind(blur, "standard deviation, px", 0.2, 10),
    9: Kind(denoise, "deviation of the noise removed, grey levels", 0.5, 120),
    10: Kind(bitstreams.jpeg, "100 − quality", 1, 99, step=1),
    11: Kind(bitstreams.jpeg2000, "compression ratio", 3, 2000),
    12: Kind(bitstreams.jpeg_errors, "bits flipped", 1, 400, step=1, draws=DRAWS),
    13: Kind(
        bitstreams.jpeg2000_errors,
        "bits flipped",
        1,
        20000,
        step=1,
        draws=DRAWS,
    ),
    14: Kind(displaced_patches, "patches", 1, 1000, step=1),
    15: Kind(flat_blocks, "grey levels from mid-grey", 1, 127.5, by_level=True),
    16: Kind(mean_shift, "grey levels", 1, 120, step=1, by_level=True),
    17: Kind(contrast, "share of contrast", 0.01, 1, by_level=True),
    18: Kind(saturation, "share of saturation", 0.01, 30),
    19: Kind(multiplicative_noise, "relative standard deviation", 0.005, 2),
    20: Kind(comfort_noise, "largest coefficient replaced, grey levels", 1, 2000),
    21: Kind(compressed_noise, "standard deviation, grey levels", 0.5, 200),
    22: Kind(bitstreams.palette, "256 − colours", 1, 254, step=1),
    23: Kind(chromatic_aberration, "shift, px", 0.05, 60),
    24: Kind(sparse_sampling, "pixels lost for each one kept", 0.02, 500),
}
