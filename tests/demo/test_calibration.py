"""Calibration: the level table, PSNR, the search for a strength, and all 24 types at their table's PSNR."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from math import inf, log10

import numpy as np
import pytest

from fmiqa_utils.datasets.layouts import TID2013_TYPES
from fmiqa_utils.demo.calibration import calibrate, levels, matched_per_image, psnr, search
from fmiqa_utils.demo.distortions import KINDS, Kind, additive_noise, distort
from fmiqa_utils.demo.photographs import PHOTOGRAPHS, reference

PAIR = [(photograph.name, reference(photograph)) for photograph in PHOTOGRAPHS[:2]]


def test_table_is_complete():
    assert set(levels()) == {(type, level) for type in range(1, 25) for level in range(1, 6)}
    assert levels()[1, 1] == (5.674, 0.183, 33.162, 0.181)


def test_types_matched_by_their_mean():
    assert [type for type in TID2013_TYPES if not matched_per_image(type)] == [8, 9, 10, 14, 15, 17]


def test_psnr_of_a_known_error():
    grey = np.full((4, 4, 3), 100, np.uint8)
    assert psnr(grey, grey + np.uint8(5)) == pytest.approx(20 * log10(255 / 5))
    assert psnr(grey, grey - np.uint8(5)) == pytest.approx(20 * log10(255 / 5))  # no wrap-around
    assert psnr(grey, grey) == inf


def test_search_finds_the_strength_of_a_continuous_kind():
    kind = Kind(additive_noise, "", 0.5, 200)
    calls = []

    def attempt(strength):
        calls.append(strength)
        return 20 * log10(7 / strength) + 0.3 * (7 - strength), []

    assert search(attempt, kind)[0] == pytest.approx(0, abs=0.05)
    assert len(calls) < 15


@pytest.mark.parametrize(("goal", "nearest"), [(7.2, 7), (7.8, 8), (0.1, 1), (99, 50)])
def test_search_takes_the_nearest_step_or_the_nearer_end(goal, nearest):
    kind = Kind(additive_noise, "", 1, 50, step=1)
    tried = {}

    def attempt(strength):
        assert strength == round(strength)
        tried[goal - strength] = strength
        return goal - strength, []

    assert tried[search(attempt, kind)[0]] == nearest


def test_calibrated_images_can_be_made_again():
    for type in (1, 12):
        for (_, image), made in zip(PAIR, calibrate(PAIR, type, 3), strict=True):
            assert np.array_equal(made.image, distort(image, type, made.strength, made.seed, 3))


def test_calibration_is_deterministic():
    first, again = calibrate(PAIR, 3, 2), calibrate(PAIR, 3, 2)
    assert all(np.array_equal(a.image, b.image) and a[1:] == b[1:] for a, b in zip(first, again, strict=True))


@pytest.mark.slow
def test_every_type_reaches_the_tables_psnr():
    """Within 0.3 dB where the strength is continuous; half a step (mean shift: 0.7 dB from 6 to 7) elsewhere."""
    jobs = [(type, level) for type in TID2013_TYPES for level in (1, 3, 5)]
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda job: calibrate(PAIR, *job), jobs))
    worst: Counter[int] = Counter()
    for (type, level), images in zip(jobs, made, strict=True):
        reached = [psnr(image, one.image) for (_, image), one in zip(PAIR, images, strict=True)]
        if not matched_per_image(type):
            reached = [float(np.mean(reached))]
        misses = [np.abs(db - levels()[type, level].psnr) for db in reached]
        worst[type] = max(worst[type], *misses)
    assert {type: miss for type, miss in worst.items() if miss > (0.7 if KINDS[type].step else 0.3)} == {}
