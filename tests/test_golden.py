"""Our numbers against those of the released procedure, with stand-in weights (skipped where the shared values are absent)."""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fmiqa_utils.backbones import Backbone, load_backbone
from fmiqa_utils.distances import distance, embedding_cos
from fmiqa_utils.features import cut_windows, to_input, window_boxes, window_starts
from fmiqa_utils.readers import Features
from fmiqa_utils.transforms import apply_transform

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"
pytestmark = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the golden values (../shared/golden) are not here"
)
NAMES = {"vit_tiny": "timm:vit_tiny_patch16_224"}


def read(name: str) -> np.ndarray:
    return np.asarray(Image.open(GOLDEN / "images" / name).convert("RGB"))


def golden_backbone(model: str, folder: Path) -> Backbone:
    """The golden model, with its weights going through a file as a user's would."""
    spec = importlib.util.spec_from_file_location("seeded_weights", GOLDEN / "seeded_weights.py")
    assert spec
    assert spec.loader
    seeded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeded)
    name = NAMES.get(model, model)
    state = load_backbone(name, "untrained").model.state_dict()
    drawn = {
        k: torch.from_numpy(seeded.seeded_array(k, tuple(v.shape), 0))
        for k, v in state.items()
        if v.is_floating_point()
    }
    save_file(drawn, folder / "weights.safetensors")
    return load_backbone(name, str(folder / "weights.safetensors"))


def close(ours: float, theirs: float, cosine: bool) -> bool:
    return abs(ours - theirs) <= max(1e-3 * abs(theirs), 1e-6 if cosine else 0)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vit_tiny", "clip_vitb32", "clip_rn50", "openclip_convnext_base_w"])
def test_scores_are_the_released_ones(model: str, tmp_path: Path) -> None:
    rows = [r for r in json.loads((GOLDEN / "scores.json").read_text()) if r["model"] == model]
    backbone, seen = golden_backbone(model, tmp_path), {}

    def features(name: str) -> Features:
        if name not in seen:
            image = read(name)
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
    for n, starts in json.loads((GOLDEN / "windows.json").read_text()).items():
        assert window_starts(int(n)) == starts


def test_transforms_are_the_released_ones() -> None:
    rows = json.loads((GOLDEN / "transforms.json").read_text())
    for row in rows:
        image = read(row["image"])
        ref, dist = apply_transform(image, image, f"{row['transform']}-{row['amount']}")
        moved = np.ascontiguousarray(ref if row["role"] == "ref" else dist)
        assert list(moved.shape) == row["shape"]
        assert hashlib.sha256(moved.tobytes()).hexdigest() == row["sha256"]
    assert len(rows) == 180
