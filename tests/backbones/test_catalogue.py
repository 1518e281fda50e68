"""The table of named backbones against the libraries that hold the models; the values of options against those that are accepted."""

import open_clip
import pytest
import timm
import torch

from fmiqa_utils.backbones.catalogue import (
    BACKBONES,
    PRECISIONS,
    WINDOW,
    BackboneInfo,
    family_of,
    refuse_unknown,
)
from fmiqa_utils.backbones.load import DTYPES, backbone_info, normalization
from fmiqa_utils.datasets.registry import DATASETS, MIN_SIDE
from fmiqa_utils.datasets.transforms import chosen_transforms
from fmiqa_utils.distances.baselines import choose_baselines
from fmiqa_utils.distances.table import (
    DISTANCES,
    USUAL_BASELINES,
    chosen_baselines,
    chosen_distances,
    chosen_variants,
)
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.engines.choice import refuse_gpus
from fmiqa_utils.loda.train import PRECISION


@pytest.mark.parametrize("info", BACKBONES.values(), ids=lambda b: b.name)
def test_mean_and_std_are_the_librarys_own(info: BackboneInfo) -> None:
    if info.source == "timm":
        config = timm.get_pretrained_cfg(info.model)
        theirs = config.mean, config.std
    else:
        config = open_clip.get_pretrained_cfg(info.model, info.tag)
        default = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        theirs = tuple(config.get("mean") or default[0]), tuple(config.get("std") or default[1])
    assert (info.mean, info.std) == theirs
    assert normalization(info) == theirs
    assert all(0 < value < 1 for values in theirs for value in values)


def test_a_backbone_outside_the_table_is_normalised_as_its_library_says() -> None:
    info = backbone_info("timm:vit_tiny_patch16_224")
    assert (info.mean, info.std) == (None, None)
    assert normalization(info) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (info.name, info.source, info.model) == (
        "timm:vit_tiny_patch16_224",
        "timm",
        "vit_tiny_patch16_224",
    )
    other = backbone_info("openclip:ViT-B-32/laion2b_s34b_b79k")
    assert (other.source, other.model, other.tag) == ("openclip", "ViT-B-32", "laion2b_s34b_b79k")
    assert other.family == "clip"


def test_every_backbone_is_under_its_name_and_in_its_family() -> None:
    assert all(name == info.name for name, info in BACKBONES.items())
    assert {name: b.family for name, b in BACKBONES.items() if family_of(b.model) != b.family} == {}
    for name in BACKBONES:
        refuse_unknown(name)
    for name in ("dino", "timm:", "openclip:", "hub:dino", ""):
        with pytest.raises(InputError, match="no backbone called"):
            refuse_unknown(name)


def test_the_least_side_of_an_image_is_the_window() -> None:
    assert MIN_SIDE == WINDOW == 224


def test_every_word_of_the_vocabulary_has_its_work() -> None:
    assert {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16} == DTYPES
    assert PRECISION == {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
    assert list(DTYPES) == list(PRECISIONS)
    assert choose_baselines("psnr") == USUAL_BASELINES


def test_words_become_names() -> None:
    assert chosen_distances("all") == tuple(DISTANCES)
    assert chosen_distances(" swd, l2 ") == ("swd", "l2")
    assert chosen_variants("both") == chosen_variants("published,corrected") == ("published", "corrected")
    assert chosen_baselines("lpips") == ("psnr", "ssim", "lpips")
    assert chosen_transforms("none,tra-1,rot-2.5") == ("none", "tra-1", "rot-2.5")
    for number in (None, 0, 0.25, 1, 4):
        refuse_gpus(number)
    for number in (-1, 1.5, float("nan"), float("inf")):
        with pytest.raises(InputError, match="fraction up to 1"):
            refuse_gpus(number)


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_names_a_reader_that_is_there(name: str) -> None:
    from fmiqa_utils.datasets import image_layouts, layouts

    reader = getattr(layouts if DATASETS[name].kind == "pairs" else image_layouts, DATASETS[name].reader)
    assert reader.__doc__
    assert reader.__code__.co_argcount == (2 if DATASETS[name].choices else 1)
