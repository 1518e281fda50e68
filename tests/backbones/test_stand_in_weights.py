"""Stand-in weights over the families of timm and open_clip: no block is the identity, nothing overflows or dies away."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from fmiqa_utils.backbones.catalogue import BACKBONES
from fmiqa_utils.backbones.features import reader_for
from fmiqa_utils.backbones.load import _build, backbone_info
from fmiqa_utils.backbones.weights import _stand_in, stand_in_weights

# name: blocks to build, where the smallest member is too large for a test; None: all of it
TIMM: dict[str, int | None] = {
    "vit_tiny_patch16_224": None,
    "deit3_small_patch16_224": 3,
    "vit_base_patch16_224.mae": 2,
    "vit_small_patch14_reg4_dinov2": 3,
    "vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m": None,
    "vit_small_patch16_dinov3": 3,
    "vit_base_patch16_siglip_224": 2,
    "vit_pe_core_tiny_patch16_384": None,
    "vit_pe_spatial_tiny_patch16_512": None,
    "aimv2_large_patch14_224": 2,
    "vit_base_patch16_rope_mixed_224": 2,
    "vit_base_patch16_xp_224": 2,
    "vit_dpwee_patch16_reg1_gap_256": 2,
    "samvit_base_patch16_224": 2,
    "naflexvit_base_patch16_gap": 2,
    "beit_base_patch16_224": 2,
    "beit3_base_patch16_224": 2,
    "eva02_tiny_patch14_224": None,
    "cait_xxs24_224": 3,
    "xcit_nano_12_p16_224": None,
    "convit_tiny": None,
    "swin_tiny_patch4_window7_224": None,
    "swinv2_tiny_window8_256": None,
    "swinv2_cr_tiny_224": None,
    "hiera_tiny_224": None,
    "caformer_s18": None,
    "efficientformerv2_s0": None,
    "efficientvim_m1": None,
    "coat_lite_tiny": None,
    "resmlp_12_224": None,
    "mixer_s32_224": None,
    "convnext_atto": None,
    "convnextv2_atto": None,
    "inception_next_atto": None,
    "edgenext_xx_small": None,
    "mambaout_femto": None,
    "mobilevit_xxs": None,
    "test_maxvit": None,
    "test_coatnet": None,
    "test_nfnet": None,
    "resnet10t": None,
    "resnetv2_18": None,
    "regnety_002": None,
    "densenet121": None,
    "ghostnet_050": None,
    "starnet_s050": None,
}
OPEN_CLIP = ["ViT-S-16", "RN50", "convnext_tiny", "PE-Core-T-16-384"]
LARGER = re.compile(r"openclip:|timm:(swin|aimv2|hiera|caformer)")  # a second or two each
WALKED = [
    pytest.param(name, marks=[pytest.mark.slow] if LARGER.match(name) else [])
    for name in (*(f"timm:{n}" for n in TIMM), *(f"openclip:{n}" for n in OPEN_CLIP))
]
FROZEN = {  # sha256 (first 12 digits) over the arrays of models whose scores are stored in tests/golden
    "timm:vit_tiny_patch16_224": "1e8b0bd6059f",
    "timm:resnet10t": "56480e63add8",
}


def build(name: str) -> nn.Module:
    """The image tower with the initial values of its library."""
    depth = TIMM.get(name.removeprefix("timm:"))
    info = backbone_info(name)
    if depth is None:
        return _build(info, pretrained=False)[0].eval()
    size = {"img_size": 224} if timm.get_pretrained_cfg(info.model).input_size[-1] != 224 else {}
    more = {"depth_token_only": 1} if "cait" in name else {}
    return timm.create_model(info.model, num_classes=0, depth=depth, **size, **more).eval()


def two_images() -> Tensor:
    """[2, 3, 224, 224]: a coarse picture, and the same with noise."""
    g = torch.Generator().manual_seed(0)
    coarse = nn.functional.interpolate(torch.rand(1, 3, 7, 7, generator=g), size=(224, 224))
    return torch.cat([coarse, (coarse + 0.1 * torch.randn(coarse.shape, generator=g)).clamp(0, 1)])


def change(before: Tensor, after: Tensor) -> float:
    """‖after − before‖ / ‖before‖."""
    return float((after - before).norm() / before.norm())


@contextmanager
def changes_of_blocks(model: nn.Module) -> Iterator[dict[str, float]]:
    """How much each numbered module changes its input, among those that have a matrix and keep the shape."""
    changes: dict[str, float] = {}

    def record(name: str) -> Any:
        def hook(_module: nn.Module, given: tuple, out: Any) -> None:
            x = given[0] if given else None
            if isinstance(x, Tensor) and isinstance(out, Tensor) and x.shape == out.shape:
                changes[name] = min(change(x, out), changes.get(name, torch.inf))

        return hook

    handles = [
        module.register_forward_hook(record(name))
        for name, module in model.named_modules()
        if re.search(r"(^|\.)\d+$", name)
        and any(sum(n > 1 for n in p.shape) >= 2 for p in module.parameters())
    ]
    try:
        yield changes
    finally:
        for handle in handles:
            handle.remove()


def is_constant(t: Tensor) -> bool:
    """True for one number, or one for each channel, that are all the same and neither 0 nor infinite."""
    per_channel = t.is_floating_point() and sum(n > 1 for n in t.shape) <= 1
    return per_channel and bool((t == t.flatten()[0]).all()) and 0 < abs(float(t.flatten()[0])) < torch.inf


@pytest.mark.parametrize("name", WALKED)
def test_no_block_is_the_identity(name: str) -> None:
    model = build(name)
    multipliers = [k for k, t in model.state_dict().items() if "bias" not in k and is_constant(t)]
    assert multipliers
    stand_in_weights(model)
    state = model.state_dict()
    assert [k for k in multipliers if not state[k].all()] == []  # what multiplies does not become 0
    with torch.inference_mode(), changes_of_blocks(model) as changes:
        features = reader_for(model)(model, two_images())
    assert {k: v for k, v in changes.items() if not v > 0.05} == {}
    layers = list(features.layers.unbind(1) if isinstance(features.layers, Tensor) else features.layers)
    assert len(changes) >= 2 or len(layers) >= 4
    for before, after in pairwise(layers):
        if before.shape == after.shape:
            assert change(before, after) > 0.05
    for layer in [*layers, features.embedding]:
        assert torch.isfinite(layer).all()
        assert 1e-3 < float(layer.std()) < 1e3
        assert change(layer[0], layer[1]) > 1e-3  # the noise is seen


def test_a_scale_of_zero_would_be_noticed() -> None:
    """Why all models are walked through: DINOv3 with its layer scales at 0 would be found."""
    model = build("timm:vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m")
    stand_in_weights(model)
    for name, parameter in model.named_parameters():
        if re.search(r"gamma_\d$", name):
            nn.init.zeros_(parameter)
    with torch.inference_mode(), changes_of_blocks(model) as changes:
        reader_for(model)(model, two_images())
    assert len(changes) == 12
    assert set(changes.values()) == {0}


@pytest.mark.parametrize("name", FROZEN)
def test_the_arrays_behind_stored_scores_do_not_move(name: str) -> None:
    model = build(name)
    stand_in_weights(model)
    digest = hashlib.sha256()
    for key, tensor in model.state_dict().items():
        digest.update(key.encode() + tensor.numpy().tobytes())
    assert digest.hexdigest()[:12] == FROZEN[name]


@pytest.mark.parametrize("name", BACKBONES)
def test_a_named_backbones_vectors_are_ones_and_zeros_by_its_norms(name: str) -> None:
    """Weights of norms, layer scales and running variances 1, other vectors 0, OpenAI's class embedding drawn."""
    with torch.device("meta"):
        state = _build(backbone_info(name), pretrained=False)[0].state_dict()
    vectors = {k: tuple(t.shape) for k, t in state.items() if t.is_floating_point() and t.ndim == 1}
    assert len(vectors) > 50
    for key, shape in vectors.items():
        last = key.rsplit(".", 1)[-1]
        if last != "class_embedding":
            assert set(_stand_in(key, shape, 0)) == {float(last in ("weight", "gamma", "running_var"))}, key


def test_clipping_bounds_are_infinite() -> None:
    bounds = {
        k: float(_stand_in(f"q.{k}", (), 0)) for k in ("input_min", "input_max", "output_min", "output_max")
    }
    assert bounds == {
        "input_min": -torch.inf,
        "input_max": torch.inf,
        "output_min": -torch.inf,
        "output_max": torch.inf,
    }
