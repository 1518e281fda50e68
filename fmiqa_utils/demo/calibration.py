"""The strength at which a distortion has the PSNR that TID2013 measured for its type and level."""

import csv
from collections.abc import Callable, Sequence
from functools import cache
from math import exp, inf, log, log10
from pathlib import Path
from statistics import median
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from fmiqa_utils.demo.distortions import KINDS, Kind, distort

TABLE = Path(__file__).parent / "tid2013_levels.csv"  # what TID2013 measured
TOLERANCE = 0.05  # dB: a search ends here
CLOSE = 0.2  # dB: near enough that no other draw of errors is tried
PER_IMAGE_UNDER = 1.0  # dB

Rgb = NDArray[np.uint8]


class Distorted(NamedTuple):
    """One calibrated image, and what distort() needs to make it again."""

    image: Rgb
    strength: float
    seed: int


Attempt = tuple[float, list[Distorted]]  # dB that the mean PSNR is above its target, and the images


class Level(NamedTuple):
    """Means and deviations over TID2013's 25 references: opinion score (0..9, higher is better), PSNR (dB)."""

    mos: float
    mos_sd: float
    psnr: float
    psnr_sd: float


@cache
def levels() -> dict[tuple[int, int], Level]:
    """The Level of each of TID2013's 24 types and 5 levels, by (type, level)."""
    rows = csv.DictReader(TABLE.read_text(encoding="utf-8").splitlines())
    return {
        (int(row["type"]), int(row["level"])): Level(*(float(row[name]) for name in Level._fields))
        for row in rows
    }


def matched_per_image(type: int) -> bool:
    """True if every single image of this type is brought to the table's PSNR, and not only their mean.

    This holds where the PSNR of TID2013's own images spreads by less than 1 dB (median over the five levels).
    """
    return (
        median(level.psnr_sd for (number, _), level in levels().items() if number == type) < PER_IMAGE_UNDER
    )


def psnr(ref: Rgb, dist: Rgb) -> float:
    """Peak signal-to-noise ratio in dB of uint8 RGB images: one mean squared error over pixels and channels.

    The table's PSNR is of this kind: a luminance PSNR would hardly see a change of saturation (type 18),
    which the table has at 33 to 21 dB. Infinite for equal images.
    """
    error = ref.astype(np.int64) - dist
    total = int((error * error).sum())  # an integer, so that no order of summation can change it
    return 10 * log10(255**2 * error.size / total) if total else inf


def calibrate(photographs: Sequence[tuple[str, Rgb]], type: int, level: int) -> list[Distorted]:
    """Each named photograph (uint8 [H, W, 3]) distorted to the table's PSNR of that type and level.

    Types that matched_per_image() names get a strength for each photograph, the others one common strength at
    which the mean PSNR over the photographs is the table's.
    """
    groups = [[one] for one in photographs] if matched_per_image(type) else [list(photographs)]
    return [distorted for group in groups for distorted in _calibrate_group(group, type, level)]


def _calibrate_group(group: Sequence[tuple[str, Rgb]], type: int, level: int) -> list[Distorted]:
    target = levels()[type, level].psnr
    best: Attempt = inf, []
    for draw in range(KINDS[type].draws):
        seeds = [crc32(f"{name}/{type}/{level}/{draw}".encode()) for name, _ in group]

        def attempt(strength: float, seeds: list[int] = seeds) -> Attempt:
            made = [
                Distorted(distort(image, type, strength, seed, level), strength, seed)
                for (_, image), seed in zip(group, seeds, strict=True)
            ]
            reached = [psnr(image, one.image) for (_, image), one in zip(group, made, strict=True)]
            return float(np.mean(np.minimum(reached, 99))) - target, made  # 99: so that a mean exists

        best = min(best, search(attempt, KINDS[type]), key=_distance)
        if _distance(best) < CLOSE:
            break
    return best[1]


def search(attempt: Callable[[float], Attempt], kind: Kind) -> Attempt:
    """The attempt nearest to its target, over the strengths of `kind`.

    Bisection on the logarithm of the strength, split where a straight line through the bracket's ends meets
    the target (regula falsi, Illinois rule). A target out of reach gives the nearer end; where PSNR is not
    monotone in the strength, the best attempt counts.
    """
    low, high = kind.weakest, kind.strongest
    at_low, at_high = attempt(low), attempt(high)
    above, below, last = at_low[0], at_high[0], 0  # last: the end that was set last, 1 low or -1 high
    best = min(at_low, at_high, key=_distance)
    while high - low > max(1.5 * kind.step, 1e-5 * high) and _distance(best) > TOLERANCE:
        share = np.clip(above / max(above - below, 1e-9), 0.05, 0.95)
        middle = _snap(low * exp(share * log(high / low)), low, high, kind.step)
        tried = attempt(middle)
        best = min(best, tried, key=_distance)
        # An end that stays twice counts half; otherwise a curved function would keep it there for long.
        if tried[0] > 0:
            low, above, below, last = middle, tried[0], below / (2 if last > 0 else 1), 1
        else:
            high, below, above, last = middle, tried[0], above / (2 if last < 0 else 1), -1
    return best


def _distance(attempt: Attempt) -> float:
    return abs(attempt[0])


def _snap(strength: float, low: float, high: float, step: float) -> float:
    """`strength` as a multiple of `step` inside the bracket."""
    if not step:
        return float(f"{strength:.6g}")  # the strength is recorded with six digits, so it is used with six
    return float(np.clip(round(strength / step) * step, low + step, high - step))
