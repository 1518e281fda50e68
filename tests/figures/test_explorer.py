"""The Explorer without a browser: what each control does to the picture and to the message."""

import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pictures import blocks, pairs_of
from PIL import Image

from fmiqa_utils import explore
from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.extract import extract_run
from fmiqa_utils.extraction.scorer import Settings
from fmiqa_utils.figures.explorer import Explorer
from fmiqa_utils.figures.explorer_view import pair_view
from fmiqa_utils.scores.runs import load_run
from fmiqa_utils.statistics.against_embedding import strongest_block

TINY = "timm:vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def images(file_folders: Path) -> Path:
    """A saved run "seen": two references, two distortions at two levels each; the distortion is in the top left corner."""
    folder = file_folders / "images"
    folder.mkdir()
    rng, rows = np.random.default_rng(0), []
    for r in range(2):
        ref = blocks(240, 270, 30, rng)
        Image.fromarray(ref).save(folder / f"r{r}.png")
        for kind in ("dark", "noise"):
            for level in (1, 2):
                dist = ref.astype(float)
                corner = dist[:96, :96]
                corner[:] = (
                    corner / (1 + level)
                    if kind == "dark"
                    else corner + rng.normal(0, 30 * level, corner.shape)
                )
                name = f"r{r}_{kind}_{level}.png"
                Image.fromarray(dist.clip(0, 255).astype(np.uint8)).save(folder / name)
                rows.append((f"r{r}.png", name, 5.0 - level, kind, level))
    columns = ["ref", "dist", "label", "distortion", "level"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "pairs.csv", index=False)
    pairs = pairs_of(folder / "pairs.csv")
    extract_run("seen", pairs, [(TINY, "untrained")], settings=Settings(("l2", "cos", "jsd")), device="cpu")
    return folder


def choices(explorer: Explorer, name: str) -> list[str]:
    return (
        [label for label, _ in explorer.controls[name].options]
        if name in ("ref", "pair")
        else list(explorer.controls[name].options)
    )


@pytest.mark.usefixtures("images")
def test_the_controls_offer_what_the_run_holds() -> None:
    explorer = Explorer("seen", device="cpu")
    assert choices(explorer, "ref") == ["r0.png", "r1.png"]
    assert choices(explorer, "distortion") == ["dark", "noise"]
    assert choices(explorer, "pair") == ["1", "2"]
    assert choices(explorer, "distance") == ["l2", "cos", "jsd"]
    assert explorer.controls["layer"].max == 11
    assert explorer.pair["dist"] == "r0_dark_1.png"
    explorer.controls["distortion"].value = "noise"
    explorer.controls["pair"].value = "r0_noise_2.png"
    assert explorer.pair["dist"] == "r0_noise_2.png"
    explorer.controls["ref"].value = "r1.png"
    assert explorer.pair["ref"] == "r1.png"
    assert explorer.pair["distortion"] == "noise"  # kept, for r1 has it too


@pytest.mark.usefixtures("images")
def test_every_control_changes_the_picture() -> None:
    explorer = Explorer("seen", device="cpu")
    assert explore("seen", device="cpu").children[2].value == explorer.image.value
    for name, value in (
        ("layer", 5),
        ("same_scale", True),
        ("distance", "cos"),
        ("distance", "l2"),
        ("layer", 2),
    ):
        before, start = explorer.image.value, time.perf_counter()
        explorer.controls[name].value = value
        taken = time.perf_counter() - start
        assert explorer.image.value != before
        assert taken < 5  # a second on a quiet machine; this one may be busy
    assert explorer.image.value[:4] == b"\x89PNG"


@pytest.mark.usefixtures("images")
def test_maps_are_kept_and_see_the_corner() -> None:
    explorer = Explorer("seen", device="cpu")
    (kinds,) = explorer._maps.values()
    first = kinds["l2"]
    assert first.shape == (12, 240, 270)
    assert first[0, :80, :80].mean() > 5 * first[0, 120:, 120:].mean()
    explorer.controls["layer"].value = 7
    explorer.controls["distance"].value = "cos"
    assert len(explorer._maps) == 1  # neither another block nor the other distance needs the model again
    explorer.controls["pair"].value = "r0_dark_2.png"
    assert len(explorer._maps) == 2


def test_what_must_be_said_is_said(images: Path) -> None:
    explorer = Explorer("seen", device="cpu")
    assert "UNTRAINED" in explorer.message.value
    explorer.controls["distance"].value = "jsd"
    assert "has no value per position" in explorer.message.value
    hidden = images / "r0_dark_2.png"
    hidden.rename(images / "hidden")
    explorer.controls["pair"].value = "r0_dark_2.png"
    (images / "hidden").rename(hidden)
    assert "r0_dark_2.png does not exist" in explorer.message.value
    assert explorer.image.value[:4] == b"\x89PNG"
    with pytest.raises(InputError, match="did you mean seen"):
        explore("sean")


def test_runs_of_the_same_names_keep_their_own_scores_and_maps(images: Path, tmp_path: Path) -> None:
    for name in ("r0.png", "r0_dark_1.png", "r0_dark_2.png"):
        Image.fromarray(255 - np.asarray(Image.open(images / name))).save(tmp_path / name)
    rows = [("r0.png", f"r0_dark_{level}.png", 5.0 - level, "dark", level) for level in (1, 2)]
    columns = ["ref", "dist", "label", "distortion", "level"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "pairs.csv", index=False)
    pairs = load_pairs(f"csv:{tmp_path / 'pairs.csv'}", direction="higher")
    before = load_run("seen").scores
    extract_run(
        "inverted", pairs, [(TINY, "untrained")], settings=Settings(("l2", "cos", "jsd")), device="cpu"
    )
    pd.testing.assert_frame_equal(load_run("seen").scores, before)
    explorer = Explorer("seen", device="cpu")
    first = explorer.image.value
    explorer.controls["run"].value = "inverted"
    assert explorer.pair["dist"] == "r0_dark_1.png"
    assert explorer.image.value != first
    a, b = explorer._maps.values()
    assert not np.allclose(a["cos"], b["cos"])


def test_a_failed_pair_and_a_run_of_corrected_forms_are_shown(images: Path, tmp_path: Path) -> None:
    for name in ("r0.png", "r0_dark_1.png", "r0_dark_2.png"):
        (tmp_path / name).write_bytes((images / name).read_bytes())
    whole = (tmp_path / "r0_dark_1.png").read_bytes()
    (tmp_path / "r0_dark_1.png").write_bytes(whole[: len(whole) // 2])
    rows = [("r0.png", f"r0_dark_{level}.png", 5.0 - level, "dark", level) for level in (1, 2)]
    columns = ["ref", "dist", "label", "distortion", "level"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "pairs.csv", index=False)
    pairs = load_pairs(f"csv:{tmp_path / 'pairs.csv'}", direction="higher")
    extract_run(
        "hurt", pairs, [(TINY, "untrained")], settings=Settings(("l2",), ("corrected",)), device="cpu"
    )
    explorer = Explorer("hurt", device="cpu")
    assert "could not be scored" in explorer.message.value
    assert explorer.image.value[:4] == b"\x89PNG"
    assert strongest_block(load_run("hurt"))[0] == "l2"


SCRIPT = "<img src=x onerror=alert(1)>.png"


def test_names_of_files_are_no_markup(images: Path, tmp_path: Path) -> None:
    (tmp_path / "r0.png").write_bytes((images / "r0.png").read_bytes())
    whole = (images / "r0_dark_1.png").read_bytes()
    (tmp_path / "good.png").write_bytes(whole)
    (tmp_path / SCRIPT).write_bytes(whole[: len(whole) // 2])
    rows = [("r0.png", SCRIPT, 4.0, SCRIPT, 1), ("r0.png", "good.png", 3.0, "dark", 1)]
    columns = ["ref", "dist", "label", "distortion", "level"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "pairs.csv", index=False)
    pairs = load_pairs(f"csv:{tmp_path / 'pairs.csv'}", direction="higher")
    extract_run("hostile", pairs, [(TINY, "untrained")], settings=Settings(("cos",)), device="cpu")
    explorer = Explorer("hostile", device="cpu")
    shown = explorer.message.value
    assert explorer.controls["pair"].value == SCRIPT
    for sentence in ("could not be scored", "cannot be shown", "UNTRAINED", "(mos)"):
        assert sentence in shown
    assert shown.count("&lt;img src=x onerror=alert(1)&gt;.png") >= 3  # the label, the image and the failure
    tags = re.findall(r"<[^>]*>", shown)
    assert set(tags) == {"<strong style='color:#b00020'>", "</strong>", "<br>"}


def test_the_view_draws_the_windows_and_ranks_the_pair() -> None:
    image = np.zeros((240, 430, 3), np.uint8)
    curves = pd.DataFrame([[1.0, 2.0], [3.0, 1.0], [2.0, 9.0]], index=["a", "b", "c"])
    labels = pd.Series([3.0, 1.0, 2.0], index=["a", "b", "c"])
    maps = np.stack([np.full((240, 430), v) for v in (1.0, 4.0)])
    figure = pair_view((image, image), maps, curves, labels, "c", 0, backbone="dino_vits16", distance="l2")
    axes = figure.axes
    assert len(axes[0].patches) == 6  # window starts 0, 200, 206 by 0, 16
    assert "distance ranks 2 of 3" in axes[5].get_title(loc="left")
    assert axes[2].images[1].get_clim() == (0, 1)
    same = pair_view(
        (image, image), maps, curves, labels, "c", 0, backbone="dino_vits16", distance="l2", same_scale=True
    )
    assert same.axes[2].images[1].get_clim() == (0, 4)
    curve = axes[4].lines[1].get_ydata()
    np.testing.assert_array_equal(curve, [2.0, 9.0])
