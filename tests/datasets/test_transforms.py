"""The robustness transforms: hand-checked pixels, names, and the released pixels by their hash."""

import hashlib

import numpy as np
import pytest
import released

from fmiqa_utils.datasets.transforms import (
    apply_transform,
    check_transforms,
    parse_transform,
    rotate,
    scale,
    translate,
)
from fmiqa_utils.errors import InputError

# sha256 (first 12 digits) of the distorted image that the rules make of `seeded_image` (docs/methods.md, Transforms), odd sizes included.
OWN_GOLDEN = {
    "tra-1": "6fdcb1ddff3f",
    "tra-2.5": "e9ee8a4c78bb",
    "sca-1": "300f832a70f7",
    "sca-4": "52d875e2b525",
    "rot-0.5": "5e06cf0e6f76",
    "rot-3": "99adc62fd63b",
}


def seeded_image(height: int = 61, width: int = 90) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def sha(image: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def test_every_released_image_to_the_pixel() -> None:
    rows = released.table("transforms")
    wrong = []
    for row in rows:
        image = released.image(row["image"])
        pair = apply_transform(image, image, f"{row['transform']}-{row['amount']}")
        moved = pair[0 if row["role"] == "ref" else 1]
        if (moved.dtype, list(moved.shape), sha(moved)) != (np.uint8, row["shape"], row["sha256"]):
            wrong.append(row)
    assert len(rows) == 180
    assert wrong == []


@pytest.mark.parametrize("name", OWN_GOLDEN)
def test_seeded_image_to_the_pixel(name: str) -> None:
    image = seeded_image()
    assert sha(apply_transform(image, image, name)[1])[:12] == OWN_GOLDEN[name]


def test_translation_gives_each_image_its_own_columns() -> None:
    ref, dist = seeded_image(), seeded_image()[::-1]
    moved_ref, moved_dist = translate(ref, dist, 2.5)  # ⌈2.25⌉ = 3 of 90 columns
    assert np.array_equal(moved_ref, ref[:, :87])
    assert np.array_equal(moved_dist, dist[:, 3:])


def test_rotation_turns_the_distorted_image_clockwise_with_black_corners() -> None:
    square = seeded_image(33, 33)
    assert np.array_equal(rotate(square, square, 90)[1], np.rot90(square, -1))
    white = np.full((64, 64, 3), 255, dtype=np.uint8)
    turned = rotate(white, white, 45)[1]
    assert set(np.unique(turned)) == {0, 255}  # nearest neighbour: nothing between
    assert turned[0, 0].tolist() == [0, 0, 0]
    assert turned[32, 32].tolist() == [255, 255, 255]


def test_scaling_keeps_size_and_centre_and_pushes_the_border_out() -> None:
    image = np.zeros((100, 100, 3), dtype=np.uint8)
    image[48:52, 48:52] = 255  # around the centre
    image[:, :2] = 255  # a border of two pixels: cropped away by 10 %
    large = scale(image, image, 10)[1]
    assert large.shape == image.shape
    assert large[50, 50, 0] == 255
    assert large[:, 0].max() == 0
    flat = np.full((31, 45, 3), 77, dtype=np.uint8)
    assert large.mean() < image.mean()
    assert np.unique(scale(flat, flat[:30, :44], 5)[1]).tolist() == [77]


def test_only_the_distorted_image_is_scaled_or_rotated() -> None:
    ref, dist = seeded_image(), seeded_image()[:, ::-1]
    for name, moved in (("sca-3", scale(ref, dist, 3)[1]), ("rot-3", rotate(ref, dist, 3)[1])):
        result = apply_transform(ref, dist, name)
        assert np.array_equal(result[0], ref)
        assert np.array_equal(result[1], moved)
        assert not np.array_equal(result[1], dist)


@pytest.mark.parametrize("name", ["none", "tra-0", "sca-0", "rot-0", "rot-0.0"])
def test_amount_zero_changes_nothing(name: str) -> None:
    ref, dist = seeded_image(), seeded_image()[::-1]
    for before, after in zip((ref, dist), apply_transform(ref, dist, name), strict=True):
        assert np.array_equal(before, after)


def test_inputs_stay_as_they_were() -> None:
    image = seeded_image()
    before = image.copy()
    for name in OWN_GOLDEN:
        apply_transform(image, image, name)
    assert np.array_equal(image, before)


def test_names() -> None:
    assert parse_transform("none") == ("none", 0)
    assert parse_transform("tra-1") == ("tra", 1)
    assert parse_transform("rot-0.5") == ("rot", 0.5)
    for wrong in (
        "",
        "tra",
        "tra--1",
        "tra-",
        "tra-x",
        "tra-1e2",
        "tra-nan",
        "shift-1",
        "sca3",
        "TRA-1",
        "tra-1\n",
    ):
        with pytest.raises(InputError, match="there is no transform"):
            parse_transform(wrong)
    with pytest.raises(InputError, match="did you mean tra-1"):
        parse_transform("tra--1")


def test_translation_by_everything_is_an_error() -> None:
    image = seeded_image()
    assert translate(image, image, 98)[0].shape == (61, 1, 3)
    with pytest.raises(InputError, match="90 px wide"):
        apply_transform(image, image, "tra-100")


def test_a_list_of_transforms_names_each_once() -> None:
    check_transforms(["none", "tra-1", "tra-2", "sca-1", "rot-0.5"])
    for names, sentence in {
        ("none", "none"): "the transform none is named twice: name it once",
        ("tra-1", "none", "tra-1.0"): r"tra-1\.0 is named twice \(as tra-1 and tra-1\.0\)",
        ("none", "tra1"): "there is no transform 'tra1'",
        (): "no transform is named: name none",
    }.items():
        with pytest.raises(InputError, match=sentence):
            check_transforms(names)


@pytest.mark.parametrize("name", ["sca-101", "rot-360.5", "tra-1000", "sca-" + "9" * 400])
def test_amounts_that_would_only_ask_for_memory_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"is too large: (sca|rot|tra) goes up to"):
        parse_transform(name)
