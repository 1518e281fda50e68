"""The reference photographs: all are in installed packages, none is downloaded."""

import socket

import numpy as np
import pytest
from PIL import Image

from fmiqa_utils.demo.photographs import PHOTOGRAPHS, Photograph, reference, source
from fmiqa_utils.errors import InputError


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a download was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.usefixtures("no_network")
def test_seven_photographs_of_one_size():
    images = [reference(photograph) for photograph in PHOTOGRAPHS]
    assert len({photograph.name for photograph in PHOTOGRAPHS}) == 7
    assert {(image.shape, image.dtype) for image in images} == {((288, 384, 3), np.dtype(np.uint8))}
    assert all(image.std() > 20 for image in images)  # a photograph, not a blank


def test_crop_is_centred():
    """A 4:3 window of 512×384 px in the middle of the square astronaut, so rows 64 to 448."""
    astronaut = PHOTOGRAPHS[0]
    with Image.open(source(astronaut)) as picture:
        middle = picture.convert("RGB").resize((384, 288), Image.Resampling.LANCZOS, box=(0, 64, 512, 448))
    # Filtering with or without the pixels beyond the cut differs in the outermost rows only.
    assert np.array_equal(reference(astronaut)[4:-4], np.asarray(middle)[4:-4])


def test_missing_photograph_names_file_and_remedy():
    with pytest.raises(InputError, match=r"scikit-image has no skimage/data/nothing\.png.*pip install"):
        source(Photograph("nothing", "scikit-image", "skimage/data/nothing.png", "", ""))
    with pytest.raises(InputError, match="no-such-package"):
        source(Photograph("nothing", "no-such-package", "no_such_package/nothing.png", "", ""))
