"""The table of backbones against the models themselves, and what a reader reads against hooks on the blocks."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed

from fmiqa_utils.backbones.catalogue import BACKBONES
from fmiqa_utils.backbones.features import outputs_of, reader_for
from fmiqa_utils.backbones.load import (
    Backbone,
    backbone_info,
    library_hub_id,
    load_backbone,
    normalization,
    window_flops,
)
from fmiqa_utils.errors import InputError

OF_TIMM = [b for b in BACKBONES.values() if b.source == "timm"]
TOKENS = {
    "dino_vits16": 197,
    "dino_vitb16": 197,
    "dinov2_vits14": 257,
    "dinov2_vitb14": 257,
    "imagenet_vitb16": 197,
}


def image(seed: int = 0, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, 3, 224, 224, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("info", OF_TIMM, ids=lambda b: b.name)
def test_the_table_says_what_the_model_is(info) -> None:  # type: ignore[no-untyped-def]
    with torch.device("meta"), torch.inference_mode():  # shapes without numbers
        model = timm.create_model(info.model, num_classes=0, img_size=224)
        features = reader_for(model)(model, torch.zeros(1, 3, 224, 224))
    assert isinstance(features.layers, torch.Tensor)
    assert features.layers.shape == (1, info.layers, TOKENS[info.name], int(info.width))
    assert features.embedding.shape == (1, TOKENS[info.name], int(info.width))
    assert features.num_prefix_tokens == 1
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(info.parameters_m, abs=0.05)
    assert normalization(info) == (model.pretrained_cfg["mean"], model.pretrained_cfg["std"])


def test_clip_is_normalised_with_clips_own_moments() -> None:
    mean, std = normalization(backbone_info("clip_vitb32"))
    assert mean == (0.48145466, 0.4578275, 0.40821073)
    assert std == (0.26862954, 0.26130258, 0.27577711)


def test_a_layer_is_the_output_of_its_block_with_every_token(tiny: Backbone) -> None:
    x = image()
    with torch.inference_mode(), outputs_of(list(tiny.model.blocks)) as blocks:  # type: ignore[arg-type]
        features = tiny(x)
        everything = tiny.model.norm(blocks[-1])  # type: ignore[operator]
    assert isinstance(features.layers, torch.Tensor)
    for layer, block in zip(features.layers.unbind(1), blocks, strict=True):
        torch.testing.assert_close(layer, block)
    torch.testing.assert_close(features.embedding, everything)


def test_normalize_model_applies_mean_and_std(tiny: Backbone) -> None:
    normalized = load_backbone("timm:vit_tiny_patch16_224", "untrained", normalize="model")
    x = image()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in normalization(tiny.info))
    with torch.inference_mode():
        ours, by_hand, raw = normalized(x), tiny((x - mean) / std), tiny(x)
    torch.testing.assert_close(ours.layers, by_hand.layers, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(ours.embedding, raw.embedding, atol=1e-2)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_gives_nearly_the_same_features_in_fp32(tiny: Backbone, precision: str) -> None:
    reduced = load_backbone("timm:vit_tiny_patch16_224", "untrained", precision=precision)
    with torch.inference_mode():
        a, b = reduced(image()).embedding, tiny(image()).embedding
    assert a.dtype == torch.float32
    assert 0 < float((a - b).norm() / b.norm()) < 0.02


def test_position_embeddings_of_another_input_size_are_resampled(tmp_path: Path) -> None:
    small = load_backbone("dinov2_vits14", "untrained")
    assert small.model.pos_embed.shape == (1, 257, 384)  # type: ignore[union-attr]
    state = small.model.state_dict()
    native = torch.randn(1, 1 + 37**2, 384, generator=torch.Generator().manual_seed(1))  # 518 px / 14
    save_file(state | {"pos_embed": native}, tmp_path / "native.safetensors")
    resampled = load_backbone("dinov2_vits14", str(tmp_path / "native.safetensors")).model.pos_embed
    wanted = resample_abs_pos_embed(native, new_size=[16, 16], num_prefix_tokens=1)
    torch.testing.assert_close(resampled, wanted)
    assert torch.equal(resampled[:, :1], native[:, :1])  # type: ignore[index]


def test_a_network_of_maps_is_read_stage_by_stage() -> None:
    backbone = load_backbone("timm:resnet10t", "untrained")
    with torch.inference_mode():
        features = backbone(image(batch=1))
        pooled = backbone.model.forward_head(backbone.model.forward_features(image(batch=1)), pre_logits=True)  # type: ignore[operator]
    assert isinstance(features.layers, list)
    assert [tuple(m.shape[1:]) for m in features.layers] == [
        (64, 112, 112),
        (64, 56, 56),
        (128, 28, 28),
        (256, 14, 14),
        (512, 7, 7),
    ]
    torch.testing.assert_close(features.embedding, pooled)


def test_unknown_names_and_settings() -> None:
    with pytest.raises(InputError, match="timm has no model called 'vit_tinny'"):
        backbone_info("timm:vit_tinny")
    with pytest.raises(InputError, match="open_clip has no model called"):
        backbone_info("openclip:nothing")
    for wrong in ({"normalize": "imagenet"}, {"precision": "fp8"}):
        with pytest.raises(InputError, match="is unknown"):
            load_backbone("timm:vit_tiny_patch16_224", "untrained", **wrong)


def test_a_timm_model_has_the_licence_that_timm_states() -> None:
    assert backbone_info("timm:vit_small_patch16_dinov3.lvd1689m").licence == "dinov3-license"
    assert backbone_info("timm:vit_tiny_patch16_224").licence == "apache-2.0"
    with pytest.raises(
        InputError, match=r"no weights called 'vit_tiny_patch16_224.dinov2'; .*vit_tiny_patch16_224.aug"
    ):
        backbone_info("timm:vit_tiny_patch16_224.dinov2")


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [("dino_vitb16", 17.56), ("clip_vitb32", 4.41), ("timm:convnext_tiny", 4.46)],
)
def test_operations_are_those_of_the_literature(name: str, gmacs: float) -> None:
    """The model tables of timm and open_clip give multiply-adds, for the image tower without a classifier."""
    assert window_flops(backbone_info(name)) / 2e9 == pytest.approx(gmacs, rel=0.03)


@pytest.mark.parametrize("name", list(BACKBONES))
def test_the_hub_is_asked_for_what_the_library_would_load(name: str) -> None:
    assert BACKBONES[name].hub == library_hub_id(BACKBONES[name])
