"""Weights from files and stand-in weights, and images under the window: each mistake in one sentence."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fmiqa_utils.backbones.load import load_backbone
from fmiqa_utils.backbones.weights import adopt_weights, read_state
from fmiqa_utils.backbones.windows import fit_small, window_starts
from fmiqa_utils.errors import InputError

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


STEM = "patch_embed.proj.weight"
FAULTS = {
    "int8": (lambda t: t.to(torch.int8), f"{STEM} is int8, where real numbers belong"),
    "bool": (lambda t: t > 0, f"{STEM} is bool, where real numbers belong"),
    "complex": (lambda t: t.to(torch.complex64), f"{STEM} is complex64, where real numbers belong"),
    "nan": (lambda t: t.index_fill(0, torch.tensor(3), torch.nan), f"{STEM} holds NaN or infinite values"),
    "infinity": (
        lambda t: t.index_fill(0, torch.tensor(3), torch.inf),
        f"{STEM} holds NaN or infinite values",
    ),
    "beyond fp32": (lambda t: t.double() + 1e300, f"{STEM} holds NaN or infinite values"),
    "meta": (lambda t: t.to("meta"), f"{STEM} is a meta tensor"),
    "sparse": (lambda t: t.to_sparse(), f"{STEM} is a sparse tensor"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_weights_that_are_no_weights_are_refused_by_name(fault: str, tmp_path: Path) -> None:
    damage, sentence = FAULTS[fault]
    state = load_backbone(TINY, "untrained").model.state_dict()
    torch.save(state | {STEM: damage(state[STEM])}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=f"^w\\.pth: {re.escape(sentence)}"):
        load_backbone(TINY, str(tmp_path / "w.pth"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_real_types_are_taken(dtype: torch.dtype, tmp_path: Path) -> None:
    own = load_backbone(TINY, "untrained").model.state_dict()
    torch.save({k: v.to(dtype) for k, v in own.items()}, tmp_path / "w.pth")
    loaded = load_backbone(TINY, str(tmp_path / "w.pth")).model.state_dict()
    torch.testing.assert_close(loaded[STEM], own[STEM].to(dtype).float(), rtol=0, atol=0)


class WithBuffers(nn.Module):
    """An index that the shape fixes, a counter that training changes, a mask, and an infinite bound."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("relative_position_index", torch.arange(3))
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("num_batches_tracked", torch.tensor(0))
        self.register_buffer("input_max", torch.tensor(torch.inf))


def test_buffers_are_taken_where_they_are_the_models_own(tmp_path: Path) -> None:
    state = {"weight": torch.ones(3), "relative_position_index": torch.arange(3, dtype=torch.int32)}
    state |= {"mask": torch.tensor([False, False, True]), "num_batches_tracked": torch.tensor(7)}
    state |= {"input_max": torch.tensor(torch.inf)}
    file = str(tmp_path / "w.pth")
    torch.save(state, file)
    model = WithBuffers()
    adopt_weights(model, file)
    assert model.num_batches_tracked == 7
    assert model.mask.tolist() == [False, False, True]
    for name, wrong, sentence in (
        (
            "relative_position_index",
            torch.tensor([0, 1, 99]),
            "is an index that differs from the model's",
        ),
        ("relative_position_index", torch.ones(3), "is float32, where int64 belongs"),
        ("num_batches_tracked", torch.tensor(True), "is bool, where int64 belongs"),
        ("input_max", torch.tensor(-torch.inf), "holds NaN or infinite values"),
    ):
        torch.save(state | {name: wrong}, file)
        with pytest.raises(InputError, match=f"{name} {sentence}"):
            adopt_weights(WithBuffers(), file)


def test_keys_must_be_words(tmp_path: Path) -> None:
    torch.save({0: torch.ones(3)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth names a tensor 0: the keys of a state dict must be text"):
        read_state(str(tmp_path / "w.pth"))


def test_position_embeddings_that_cannot_be_resampled_are_one_sentence(tmp_path: Path) -> None:
    state = load_backbone(TINY, "untrained").model.state_dict()
    torch.save(state | {"pos_embed": torch.ones(1, 1, 5)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"pos_embed is \[1, 1, 5\]|shapes differ"):
        load_backbone(TINY, str(tmp_path / "w.pth"))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_is_no_regular_file_is_no_weights_file(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"pipe.{suffix}")
    (tmp_path / f"zero.{suffix}").symlink_to("/dev/zero")
    (tmp_path / f"folder.{suffix}").mkdir()
    for name, kind in (("pipe", "a named pipe"), ("zero", "a device"), ("folder", "a folder")):
        with pytest.raises(InputError, match=f"{name}.{suffix} is {kind}, not a weights file"):
            read_state(str(tmp_path / f"{name}.{suffix}"))
