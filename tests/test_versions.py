"""A stage that gives other numbers must have another version, for the version is in every shard's key.

`python tests/test_versions.py` writes tests/golden/stages.json anew, after a version was raised.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fmiqa_utils.backbones.load import load_backbone
from fmiqa_utils.backbones.windows import cut_windows, fit_small, window_boxes
from fmiqa_utils.datasets.images import read_rgb
from fmiqa_utils.datasets.transforms import apply_transform
from fmiqa_utils.demo.calibration import calibrate
from fmiqa_utils.demo.distortions import KINDS, distort
from fmiqa_utils.distances.baselines import baseline_values
from fmiqa_utils.distances.forms import DISTANCES, VARIANTS, distances
from fmiqa_utils.keys import DEMO_PIXELS, STAGES

RECORDED = Path(__file__).parent / "golden" / "stages.json"
RNG = np.random.RandomState  # numpy keeps its numbers for good


def smooth(height: int, width: int, seed: int) -> np.ndarray:
    """A uint8 image without fine detail, the same on every machine."""
    grid = RNG(seed).randint(0, 256, (height // 16 + 1, width // 16 + 1, 3)).astype(np.uint8)
    return np.kron(grid, np.ones((16, 16, 1), np.uint8))[:height, :width]


def summary(values: np.ndarray) -> list[float]:
    """Mean, spread and a few values of an array, whatever its shape."""
    flat = np.asarray(values, dtype=float).ravel()
    return [float(v) for v in (len(flat), flat.mean(), flat.std(), *flat[:: max(1, len(flat) // 5)][:6])]


def decoding(folder: Path) -> list[float]:
    image = Image.fromarray(smooth(40, 60, 0))
    kinds = {
        "rgb.png": image,
        "grey.png": image.convert("L"),
        "palette.gif": image.convert("P"),
        "bilevel.tif": image.convert("1"),
    }
    kinds["opaque.png"] = image.convert("RGBA")
    values = []
    for name, stored in kinds.items():
        stored.save(folder / name)
        values += summary(read_rgb(folder / name))
    return values


def windows(_: Path) -> list[float]:
    boxes = [b for size in ((224, 224), (384, 512), (500, 768), (225, 1023)) for b in window_boxes(*size)]
    cut = cut_windows(smooth(384, 512, 1), window_boxes(384, 512))
    fitted = [fit_small(smooth(100, 300, 2), how, "x") for how in ("resize", "pad")]
    return [v for values in (np.array(boxes), cut, *fitted) for v in summary(values)]


def transforms(_: Path) -> list[float]:
    ref, dist = smooth(120, 160, 3), smooth(120, 160, 4)
    moved = [
        apply_transform(ref, dist, name) for name in ("tra-1", "tra-3", "sca-1", "sca-3", "rot-1", "rot-3")
    ]
    return [v for pair in moved for image in pair for v in summary(image)]


def features(_: Path) -> list[float]:
    x = torch.from_numpy(smooth(224, 224, 5)).permute(2, 0, 1)[None].float() / 255
    values = []
    for name in ("timm:vit_tiny_patch16_224", "timm:resnet10t"):
        with torch.inference_mode():
            found = load_backbone(name, "untrained")(x)
        values += [v for layer in (*found.layers, found.embedding) for v in summary(layer.numpy())[:3]]
    return values


def distance(_: Path) -> list[float]:
    f, g = (torch.from_numpy(RNG(seed).standard_normal((1, 3, 17, 24)).astype(np.float32)) for seed in (6, 7))
    found = distances(DISTANCES, f, g, VARIANTS, num_prefix_tokens=1)
    return [  # in the table's order, so that a new distance comes last
        float(v)
        for name in DISTANCES
        for variant in VARIANTS
        for t in (found[name, variant].joint, found[name, variant].layers)
        if t is not None
        for v in t.ravel()
    ]


def baselines(_: Path) -> list[float]:
    ref = smooth(120, 160, 8)
    noisy = np.clip(ref + RNG(9).normal(0, 12, ref.shape), 0, 255).astype(np.uint8)
    return [float(v) for v in baseline_values(ref, noisy)]


def demo(_: Path) -> list[float]:
    photograph = smooth(96, 128, 10)
    made = [distort(photograph, type, (k.weakest * k.strongest) ** 0.5, 11, 3) for type, k in KINDS.items()]
    made += [one.image for type in (3, 8, 10) for one in calibrate([("x", photograph)], type, 2)]
    return [v for image in made for v in summary(image)]


COMPUTED: dict[str, Callable[[Path], list[float]]] = {
    "decoding": decoding,
    "windows": windows,
    "transforms": transforms,
    "features": features,
    "distances": distance,
    "baselines": baselines,
    "demo": demo,
}
VERSIONS = STAGES | {"demo": DEMO_PIXELS}


@pytest.mark.parametrize("stage", list(VERSIONS))
def test_other_numbers_need_another_version(stage: str, tmp_path: Path) -> None:
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))[stage]
    assert VERSIONS[stage] == recorded["version"], f"run python {Path(__file__).name} after raising a version"
    found = COMPUTED[stage](tmp_path)
    if len(found) > len(recorded["values"]):
        assert found[: len(recorded["values"])] == pytest.approx(recorded["values"], rel=2e-4, abs=1e-6)
        pytest.fail(
            f"{stage} has something new at its end, and its version may stay: run python {Path(__file__).name}"
        )
    assert found == pytest.approx(recorded["values"], rel=2e-4, abs=1e-6), f"raise the version of {stage}"


def test_a_changed_stage_is_noticed() -> None:
    """The comparison above is finer than noise that is stronger by one per cent."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))["baselines"]["values"]
    ref = smooth(120, 160, 8)
    noisy = np.clip(ref + RNG(9).normal(0, 12.1, ref.shape), 0, 255).astype(np.uint8)
    assert [float(v) for v in baseline_values(ref, noisy)] != pytest.approx(recorded, rel=2e-4)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        table = {
            s: {"version": VERSIONS[s], "values": compute(Path(folder))} for s, compute in COMPUTED.items()
        }
    RECORDED.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
