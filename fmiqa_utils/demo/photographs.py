"""The reference photographs of the demo dataset, read from packages that contain them: nothing is downloaded."""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fmiqa_utils.errors import InputError

SIZE = (384, 288)  # px, width and height: four windows of 224 px, fast on a laptop


class Photograph(NamedTuple):
    """A file in an installed package; credit and licence are as that package states them."""

    name: str
    package: str
    file: str  # from site-packages on
    credit: str
    licence: str


SKIMAGE, SKLEARN = "scikit-image", "scikit-learn"
PHOTOGRAPHS = (
    Photograph("astronaut", SKIMAGE, "skimage/data/astronaut.png", "NASA", "public domain"),
    Photograph("chelsea", SKIMAGE, "skimage/data/chelsea.png", "Stefan van der Walt", "CC0"),
    Photograph("coffee", SKIMAGE, "skimage/data/coffee.png", "Rachel Michetti, Pikolo Espresso Bar", "CC0"),
    Photograph(
        "motorcycle_left",
        SKIMAGE,
        "skimage/data/motorcycle_left.png",
        "Middlebury 2014 stereo benchmark (Nesic, Westling, Wang, Kitajima, Krathwohl, Scharstein)",
        "not stated",
    ),
    Photograph("rocket", SKIMAGE, "skimage/data/rocket.jpg", "SpaceX", "public domain"),
    # scikit-learn's README names danielbuechele for both, but links the flower to the account of vultilion.
    Photograph("china", SKLEARN, "sklearn/datasets/images/china.jpg", "danielbuechele, Flickr", "CC BY 2.0"),
    Photograph("flower", SKLEARN, "sklearn/datasets/images/flower.jpg", "vultilion, Flickr", "CC BY 2.0"),
)


def source(photograph: Photograph) -> Path:
    """The installed file, found without importing its package; raises InputError if it is missing."""
    package, _, rest = photograph.file.partition("/")
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / rest).is_file():
            return path
    raise InputError(
        f"the installed {photograph.package} has no {photograph.file}, which the demo dataset is made from; "
        f"repair it with pip install --force-reinstall {photograph.package}."
    )


def reference(photograph: Photograph) -> NDArray[np.uint8]:
    """The photograph's centre at 4:3, resized with Pillow's Lanczos filter: uint8 [288, 384, 3]."""
    with Image.open(source(photograph)) as picture:
        width, height = picture.size
        crop = min(width, height * 4 // 3), min(height, width * 3 // 4)
        left, top = (width - crop[0]) // 2, (height - crop[1]) // 2
        centre = picture.convert("RGB").crop((left, top, left + crop[0], top + crop[1]))
        return np.asarray(centre.resize(SIZE, Image.Resampling.LANCZOS))
