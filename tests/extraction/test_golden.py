"""Our numbers against those of the released procedure, measured on the images and weights of `released`."""

from pathlib import Path

import pytest
import released
import torch
from safetensors.torch import save_file

from fmiqa_utils.backbones.features import Features
from fmiqa_utils.backbones.load import Backbone, load_backbone
from fmiqa_utils.backbones.windows import cut_windows, to_input, window_boxes, window_starts
from fmiqa_utils.distances.forms import distance, embedding_cos

NAMES = {"vit_tiny": "timm:vit_tiny_patch16_224"}


def golden_backbone(model: str, folder: Path) -> Backbone:
    """The golden model, with its weights going through a file as a user's would."""
    name = NAMES.get(model, model)
    state = load_backbone(name, "untrained").model.state_dict()
    save_file(released.seeded_state(state), folder / "weights.safetensors")
    return load_backbone(name, str(folder / "weights.safetensors"))


def close(ours: float, theirs: float, cosine: bool) -> bool:
    return abs(ours - theirs) <= max(1e-3 * abs(theirs), 1e-6 if cosine else 0)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vit_tiny", "clip_vitb32", "clip_rn50", "openclip_convnext_base_w"])
def test_scores_are_the_released_ones(model: str, tmp_path: Path) -> None:
    rows = [r for r in released.table("scores") if r["model"] == model]
    assert rows
    backbone, seen = golden_backbone(model, tmp_path), {}

    def features(name: str) -> Features:
        if name not in seen:
            image = released.image(name)
            with torch.inference_mode():
                seen[name] = backbone(
                    to_input(cut_windows(image, window_boxes(*image.shape[:2])), torch.device("cpu"))
                )
        return seen[name]

    for row in rows:
        f, g = features(row["dis"]), features(row["ref"])
        cosine = row["distance"] in ("cos", "embedding_cos")
        if row["distance"] == "embedding_cos":
            assert close(float(embedding_cos(f.embedding, g.embedding).mean()), row["score"], cosine), row
            continue
        value = distance(
            row["distance"],
            f.layers,
            g.layers,
            num_prefix_tokens=f.num_prefix_tokens,
            skip_nan=f.cos_skips_nan,
        )
        assert value.joint is not None
        assert close(float(value.joint.mean()), row["score"], cosine), row
        for ours, theirs in zip(value.layers.mean(0).tolist(), row.get("per_layer", []), strict=False):
            assert close(ours, theirs, cosine), row


def test_windows_are_the_released_ones() -> None:
    for n, starts in released.table("windows").items():
        assert window_starts(int(n)) == starts
