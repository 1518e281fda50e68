"""Weights from files and from nowhere, and images under the window: each mistake in one sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fmiqa_utils.backbones import load_backbone
from fmiqa_utils.errors import InputError
from fmiqa_utils.features import fit_small, window_starts
from fmiqa_utils.weights import read_state

TINY = "timm:vit_tiny_patch16_224"


def test_stand_in_weights_are_the_same_every_time() -> None:
    first, second = (load_backbone(TINY, "untrained") for _ in range(2))
    assert first.weights_sha256 == second.weights_sha256
    assert first.weights == "untrained"
    assert not first.model.training
    assert not first.train().model.training
    assert float(first.model.state_dict()["blocks.0.attn.qkv.weight"].std()) == pytest.approx(
        192**-0.5, rel=0.01
    )


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_file_is_loaded_and_named_with_its_hash(name: str, tmp_path: Path) -> None:
    state = {k: v + 1 for k, v in load_backbone(TINY, "untrained").model.state_dict().items()}
    file = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(state, file)
    backbone = load_backbone(TINY, str(file))
    assert backbone.weights.startswith(f"{name}#")
    assert torch.equal(backbone.model.state_dict()["norm.bias"], torch.ones(192))


def test_a_file_that_does_not_fit_names_the_keys(tmp_path: Path) -> None:
    state = load_backbone(TINY, "untrained").model.state_dict()
    state["extra.weight"] = state.pop("norm.bias").clone()
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"missing 1 keys \(norm.bias\); unexpected 1 keys \(extra.weight\)"):
        load_backbone(TINY, str(tmp_path / "w.safetensors"))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"a": Trap()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="would run its code"):
        read_state(str(tmp_path / "w.pth"))
    assert not (tmp_path / "sprung").exists()


def test_a_damaged_file_and_an_unknown_name() -> None:
    with pytest.raises(InputError, match="did you mean dino_vitb16"):
        load_backbone("dino_vitb61", "untrained")
    with pytest.raises(InputError, match="no weights file"):
        load_backbone(TINY, "nowhere.pth")


def test_images_under_the_window() -> None:
    small = np.zeros((100, 300, 3), np.uint8)
    with pytest.raises(InputError, match=r"a\.png is 300×100 px, under the 224 px window"):
        fit_small(small, "error", "a.png")
    assert fit_small(small, "resize", "a.png").shape == (224, 672, 3)
    assert fit_small(small, "pad", "a.png").shape == (224, 300, 3)
    assert window_starts(500) == [0, 200, 276]
