"""What a run holds: counts, reasons for failures, and what looks suspicious."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from planted import planted, quality, usual

from fmiqa_utils.report.scope import explored, extraction, nothing_to_say
from fmiqa_utils.scores.runs import Run

LABELS = quality(8)


def a_run(**options: object) -> Run:
    return planted(usual(LABELS, 0.5, 1, 0.2, 3), labels=LABELS, refs=8, **options)  # type: ignore[arg-type]


def test_a_clean_run() -> None:
    text = extraction(a_run())
    assert text == (
        "**48 of 48 pairs of planted were scored with vit_tiny_patch16_224 (untrained)**: cosine in the published form in every "
        "block and over all layers; the embedding; PSNR and SSIM. No pair failed. Nothing looks suspicious."
    )
    assert nothing_to_say(a_run()) == ""


def test_the_most_frequent_reason_is_counted_over_files_and_sizes() -> None:
    size = "data/planted/dist_{0}.png and its reference differ in size: {1}×100 and 300×100 px."
    lost = {
        "p001": size.format("p001", 200),
        "p002": size.format("p002", 250),
        "p009": "data/planted/dist_p009.png is damaged.",
    }
    text = extraction(a_run(failures=lost))
    assert text.startswith("**45 of 48 pairs of planted were scored")
    assert (
        "**3 pairs failed.** Most frequent reason (2 of 3): the distorted image and its reference differ in size: 200×100 and 300×100 px."
    ) in text


def test_zero_distances_and_equal_images_are_told_apart() -> None:
    columns = usual(LABELS, 0.5, 1, 0.2, 3)
    columns[0, "cos", "published"][[3, 4]] = 0
    columns[1, "cos", "published"][3] = 0
    columns["image", "psnr", "published"][4] = 100
    text = extraction(planted(columns, labels=LABELS, refs=8))
    assert text.endswith(
        "Look at these first: 1 pair in which the distorted image equals its reference exactly; 1 pair with a distance of exactly 0 "
        "although the images differ (most often cosine)."
    )


def test_enlarged_images_are_counted(tmp_path: Path) -> None:
    run = a_run()
    for name, side in (("small", 100), ("large", 230)):
        Image.fromarray(np.zeros((side, 240, 3), np.uint8)).save(tmp_path / f"{name}.png")
    paths = [str(tmp_path / ("small.png" if i < 5 else "large.png")) for i in range(48)]
    settings = run.manifests[0]["settings"] | {"small_images": "resize"}
    moved = replace(
        run,
        pairs=run.pairs.assign(ref_path=paths, dist_path=paths),
        manifests=[run.manifests[0] | {"settings": settings}],
    )
    assert extraction(moved).endswith(
        "Look at these first: 5 pairs with images under 224 px, which were enlarged (resize)."
    )


def test_transforms_are_counted_and_constant_labels_noted() -> None:
    run = a_run()
    moved = run.scores.assign(transform="tra-1")
    run = replace(run, scores=pd.concat([run.scores, moved]), pairs=run.pairs.assign(quality=3.0))
    text = extraction(run)
    assert "PSNR and SSIM; 1 transform of the distorted image." in text
    assert text.endswith("Look at these first: labels that are all the same.")
    assert nothing_to_say(run) == "All 48 labels are the same, so no correlation with them is defined."


def test_notebook_00_names_the_block_that_differs_most_and_survives_a_run_of_failures() -> None:
    columns = usual(LABELS, 0.5, 1, 0.2, 3)
    columns[0, "cos", "published"] = columns[1, "cos", "published"] + 5
    assert explored(planted(columns, labels=LABELS, refs=8)) == (
        "Run planted holds 48 pairs of 8 references from planted (untrained weights). The cosine distance of the median pair is "
        "largest in block 0."
    )
    lost = {f"p{i:03}": f"data/planted/ref_p{i:03}.png is damaged." for i in range(48)}
    text = explored(a_run(failures=lost))
    assert text.endswith("No pair could be scored. **48 pairs failed.** Reason: the reference is damaged.")
