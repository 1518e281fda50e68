"""A small golden set of our own: the whole path from pixels to every distance, frozen.

The values are those of this package when it agreed with all values of the released procedure (test_golden.py); the stand-in
weights and the images depend on numpy's frozen legacy generator alone. `python tests/test_golden_subset.py` writes them again; only a
change of a formula justifies that.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from fmiqa_utils.backbones.load import load_backbone
from fmiqa_utils.extraction.scorer import Scorer, Settings
from fmiqa_utils.extraction.single import score_files

GOLDEN = Path(__file__).parents[1] / "golden" / "scores.json"
MODELS = ("timm:vit_tiny_patch16_224", "timm:resnet10t")
SETTINGS = Settings(("l2", "cos", "skld", "jsd", "wsd", "swd"), ("published", "corrected"))


def write_images(folder: Path) -> list[tuple[Path, Path]]:
    """A smooth reference of 288 × 260 px, and the same with noise and a darker corner."""
    from PIL import Image

    rng = np.random.RandomState(7)
    coarse = rng.uniform(0, 255, (9, 10, 3)).astype(np.uint8)
    ref = np.kron(coarse, np.ones((29, 29, 1)))[:260, :288]
    dist = ref + 12 * rng.standard_normal(ref.shape)
    dist[:120, :120] *= 0.7
    for name, image in (("ref", ref), ("dist", dist)):
        Image.fromarray(np.clip(image, 0, 255).round().astype(np.uint8)).save(folder / f"{name}.png")
    return [(folder / "ref.png", folder / "dist.png")]


def scores(model: str, folder: Path) -> dict:
    scorer = Scorer(load_backbone(model, "untrained"), SETTINGS)
    result = next(iter(score_files(write_images(folder), scorer)))
    return {k: result[k] for k in ("windows", "variants", "embedding_cos")}


def flat(value: object, path: str = "") -> dict[str, float]:
    """Every number in a nested result by its path."""
    items = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    if items is None:
        return {} if value is None else {path: float(value)}  # type: ignore[arg-type]
    return {k: v for key, part in items for k, v in flat(part, f"{path}/{key}").items()}


@pytest.mark.parametrize("model", MODELS)
def test_every_number_is_the_frozen_one(model: str, tmp_path: Path) -> None:
    ours, golden = flat(scores(model, tmp_path)), flat(json.loads(GOLDEN.read_text())[model])
    assert ours.keys() == golden.keys()
    assert len(golden) > 50
    for path, value in golden.items():
        assert ours[path] == pytest.approx(value, rel=1e-3, abs=2e-7), path


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        table = {m: scores(m, Path(folder)) for m in MODELS}
    rounded = json.loads(json.dumps(table), parse_float=lambda text: float(f"{float(text):.6g}"))
    GOLDEN.write_text(json.dumps(rounded, indent=1, sort_keys=True) + "\n")
