"""The findings of the notebooks: the numbers are the planted ones, and the words follow from them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted import BACKBONE, Column, noisy, planted, quality, usual

from fmiqa_utils.report import findings
from fmiqa_utils.scores.runs import Run
from fmiqa_utils.statistics.against_embedding import corrected_vs_published
from fmiqa_utils.statistics.correlation import correlation_table

REFS = 8
LABELS = quality(REFS)


def table_of(run: Run) -> pd.DataFrame:
    return correlation_table(run.scores, run.pairs, n_resamples=200)


def of_layers(run: Run) -> str:
    table = table_of(run)
    return findings.best_layer(run, table, findings.choices(run, "cos", "published"), "cos")


def a_run(labels: np.ndarray = LABELS, refs: int = REFS, **options: object) -> Run:
    return planted(usual(labels, 0.5, 1, 0.2, 3), labels=labels, refs=refs, **options)  # type: ignore[arg-type]


# ---- layers ----------------------------------------------------------------------------------------------------------


def test_best_layer_with_its_interval_its_rivals_and_its_choice() -> None:
    run = a_run()
    text, table = of_layers(run), table_of(run)
    row = table[table["feature"] == 1].iloc[0]
    values = table.set_index(["feature", "distance"])["srcc"]
    assert text.startswith(
        f"**By cosine, block 1 of vit_tiny_patch16_224 (untrained) agrees best with people: SRCC {row['srcc']:.3f} "
        f"[{row['srcc_lo']:.3f}, {row['srcc_hi']:.3f}]** (mean within references {row['srcc_within']:.3f})."
    )
    assert (
        f"higher: PSNR ({values['image', 'psnr']:.3f}); lower: the embedding ({values['embedding', 'cos']:.3f}) and SSIM"
        in text
    )
    lead = values[1, "cos"] - values["embedding", "cos"]
    assert f"its lead over the embedding is {lead:+.3f} here and" in text
    assert text.endswith("n = 48 pairs of 8 references; untrained weights.")


def test_two_normalizations_and_two_backbones_are_told_apart() -> None:
    better = {k: v for k, v in usual(LABELS, 0.1, 1, 0, 0).items() if k[0] != "image"}
    worse = {k: v for k, v in usual(LABELS, 2, 1, 0, 0).items() if k[0] != "image"}
    groups = {(BACKBONE, "untrained", "model"): better, ("dino_vits16", "pretrained", "none"): worse}
    run = a_run(others=groups)
    text = of_layers(run)
    assert "block 1 of vit_tiny_patch16_224 (untrained, normalize=model)" in text.split("**")[1]
    assert "Best of the other models: vit_tiny_patch16_224 (untrained, normalize=none) block 1 (" in text
    assert "and dino_vits16 (pretrained, normalize=none) block" in text
    assert text.endswith("untrained weights: vit_tiny_patch16_224.")
    choice = findings.choices(run, "cos", "published")
    own = choice[choice["normalize"] == "model"].iloc[0]
    assert f"is {own['apparent_lead']:+.3f} here and {own['held_out_lead']:+.3f} [" in text


def test_few_pairs_have_no_interval_and_no_bold() -> None:
    labels = quality(3, 4)
    text = of_layers(a_run(labels, 3))
    assert text.startswith(
        "Only 12 pairs of 3 references: with so few, intervals mean little and none is given"
    )
    assert "**" not in text
    assert "[" not in text
    assert "The block was chosen on these same images, so it looks better than it is." in text
    assert "nan" not in text


def test_nineteen_pairs_are_few_and_twenty_of_five_references_are_not() -> None:
    assert "Only 15 pairs" in of_layers(a_run(quality(5, 3), 5))
    assert of_layers(a_run(quality(5, 4), 5)).startswith("**")


def test_degenerate_runs_are_sentences() -> None:
    flat = a_run()
    flat = replace(flat, pairs=flat.pairs.assign(quality=2.0))
    assert of_layers(flat) == "All 48 labels are the same, so no correlation with them is defined."
    assert findings.curves(table_of(flat), flat, "cos") == of_layers(flat)
    one = a_run(np.array([2.0]), 1)
    assert of_layers(one) == "Only one pair was scored, and a correlation needs at least two."
    reason = {f"p{i:03}": "cannot be read." for i in range(48)}
    assert of_layers(a_run(failures=reason)).startswith(
        "No pair could be scored, so nothing can be compared with people."
    )
    assert of_layers(a_run(quality(1, 30), 1)).startswith("Only 30 pairs of 1 reference:")


def test_curves_count_the_blocks_above_the_embedding() -> None:
    run = a_run()
    values = table_of(run).set_index(["feature", "distance"])["srcc"]
    assert findings.curves(table_of(run), run, "cos") == (
        f"vit_tiny_patch16_224 (untrained): SRCC {values[0, 'cos']:.3f} in the first block, {values[1, 'cos']:.3f} in the last, highest "
        f"in block 1 ({values[1, 'cos']:.3f}); 1 of 2 blocks lie above the embedding."
    )


# ---- distances -------------------------------------------------------------------------------------------------------


def forms(labels: np.ndarray = LABELS, refs: int = REFS) -> Run:
    columns: dict[Column, np.ndarray] = {
        ("joint", "cos", "published"): noisy(labels, 1, 1),
        ("joint", "l2", "published"): noisy(labels, 2, 2),
        ("joint", "l2", "corrected"): noisy(labels, 2, 2),
        ("joint", "cos", "corrected"): noisy(labels, 1, 1),
        ("joint", "wsd", "published"): noisy(labels, 3, 3),
        ("joint", "wsd", "corrected"): noisy(labels, 0.05, 4),
        ("embedding", "cos", "published"): noisy(labels, 4, 5),
        ("image", "psnr", "published"): -noisy(labels, 0.4, 6),
    }
    return planted(columns, labels=labels, refs=refs)


def test_distances_say_which_is_best_and_whether_that_is_chance() -> None:
    run = forms()
    table = table_of(run)
    text = findings.distances(run, table, corrected_vs_published(run, n_resamples=500), 500)
    values = table.set_index(["feature", "distance", "variant"])["srcc"]
    best, cosine = values["joint", "wsd", "corrected"], values["joint", "cos", "published"]
    assert text.startswith(
        f"**Over all layers, corrected WSD of vit_tiny_patch16_224 (untrained) agrees best with people: SRCC {best:.3f} ["
    )
    assert f"agrees least ({values['joint', 'wsd', 'published']:.3f})" in text
    assert (
        f"The best statistical distance, corrected WSD, and the better of l2 and cosine, cosine, differ by {best - cosine:+.3f} ["
    ) in text
    assert "more than chance" in text
    assert "Of 1 corrected form, 1 agree significantly better than the published form and 0 worse." in text
    assert "On the same pairs, lower: " in text


def test_distances_of_few_pairs_and_of_one_distance() -> None:
    small = forms(quality(2, 5), 2)
    text = findings.distances(small, table_of(small), pd.DataFrame())
    assert text.startswith("Only 10 pairs of 2 references")
    assert "[" not in text
    single = a_run()
    text = findings.distances(single, table_of(single), pd.DataFrame())
    assert "Over all layers, cosine of" in text
    assert "least" not in text


def test_types() -> None:
    grid = pd.DataFrame({"a": [0.9, 0.1, np.nan], "b": [0.7, 0.3, np.nan]}, index=["noise", "blur", "none"])
    assert (
        findings.types(grid)
        == "Over the columns, measures agree best with people on noise (mean SRCC 0.80) and least on blur (0.20)."
    )
    assert "fewer than two" in findings.types(grid.tail(2))


# ---- robustness ------------------------------------------------------------------------------------------------------


def moved_table(change: float) -> pd.DataFrame:
    rows = [
        ("all layers, cos", BACKBONE, "tra-1", 0.8, 0.8 + change, change, change - 0.05, change + 0.05, True),
        ("all layers, cos", BACKBONE, "rot-2.5", 0.8, 0.85, 0.05, 0.01, 0.09, False),
        ("PSNR", "baseline", "tra-1", 0.7, 0.2, -0.5, -0.6, -0.4, True),
    ]
    names = [
        "series",
        "backbone",
        "transform",
        "unmoved",
        "srcc",
        "difference",
        "lower",
        "upper",
        "significant",
    ]
    return pd.DataFrame(rows, columns=names)


def test_the_costliest_transform_is_named_and_the_others_under_it() -> None:
    text = findings.moved(a_run(), moved_table(-0.3))
    assert text.startswith(
        "**A shift by 1 % costs the foundation model most: SRCC of “all layers, cos” goes from 0.800 to 0.500 "
        "(-0.300 [-0.350, -0.250], significant)**."
    )
    assert "Under the same transform: PSNR -0.500." in text
    own = moved_table(-0.3).head(1)
    others = [own.assign(series=name, difference=change) for name, change in (("a", -0.2), ("b", -0.1))]
    text = findings.moved(a_run(), pd.concat([moved_table(-0.3), *others], ignore_index=True))
    assert (
        "Under the same transform: b -0.100; PSNR -0.500; of the foundation models' other measures only the least"
        in text
    )


def test_a_run_in_which_nothing_is_lost_says_so_and_few_pairs_have_no_interval() -> None:
    text = findings.moved(a_run(), moved_table(0.01))
    assert (
        "No transform lowers the SRCC of a foundation model; the smallest change is +0.010 [-0.040, +0.060]"
        in text
    )
    small = findings.moved(a_run(quality(3, 4), 3), moved_table(-0.3))
    assert small.startswith("Only 12 pairs")
    assert "[" not in small
    without = moved_table(-0.3).query("series != 'PSNR'")
    assert "Under the same" not in findings.moved(a_run(), without)
    assert "is defined" in findings.moved(
        a_run(), moved_table(np.nan).query("transform == 'tra-1' and series != 'PSNR'")
    )


def test_the_largest_ratio() -> None:
    ratios = pd.DataFrame(
        {
            "series": ["a", "a", "a", "b"],
            "transform": ["tra-1", "tra-1", "sca-3", "sca-3"],
            "ratio": [2.0, 4.0, 1.0, np.nan],
        }
    )
    assert (
        findings.changed(ratios)
        == "The largest change: a shift by 1 % multiplies the distance of the median pair by 3 (a)."
    )
    assert "No pair has a distance" in findings.changed(ratios.tail(1))


def test_without_transforms_the_published_loss_is_told() -> None:
    published = pd.DataFrame(
        {
            "dataset": ["live", "live"],
            "method": ["msssim", "dinov1_cos"],
            "none": [0.9, 0.9],
            "tra-1": [0.3, 0.8],
        }
    )
    assert (
        "a shift by 1 % costs MS-SSIM on LIVE R2 most: SRCC 0.900 without and 0.300 with it."
        in findings.unmoved(published)
    )
    assert "no shift" in findings.unmoved(published.assign(**{"tra-1": np.nan}))


# ---- LoDa ------------------------------------------------------------------------------------------------------------


def beside(loda: float) -> pd.DataFrame:
    rows = [("PSNR", "FR", 0.7, 0.6, 0.8), ("LoDa", "NR", loda, loda - 0.1, loda + 0.1)]
    return pd.DataFrame(rows, columns=["method", "kind", "srcc", "srcc_lo", "srcc_hi"])


def test_loda_on_its_test_images() -> None:
    run = a_run()
    tested = pd.DataFrame({"pair_id": run.pairs["pair_id"], "split": 0})
    text = findings.trained(run, beside(0.4), tested)
    assert text.startswith(
        "**LoDa, which sees no reference, reaches SRCC 0.400 [0.300, 0.500] on the test images of split 0**."
    )
    assert "The best metric that sees the reference has 0.700 (PSNR)." in text
    few = findings.trained(run, beside(0.4), tested.head(10))
    assert few.startswith("Only 10 pairs of 2 references")
    assert "[" not in few
    assert "are all the same" in findings.trained(run, beside(np.nan), tested)


def test_learning_counts_epochs_from_one() -> None:
    history = pd.DataFrame({"epoch": [0, 1, 2], "train_loss": [1, 1, 1], "val_srcc": [0.1, 0.5, 0.3]})
    assert findings.learned({"split 0": history}) == (
        "Split 0: validation SRCC 0.100 after the first epoch and 0.300 after the last; epoch 2 is the best (0.500)."
    )
    assert "not defined" in findings.learned({"split 0": history.assign(val_srcc=np.nan)})


# ---- the first screen ------------------------------------------------------------------------------------------------


def test_what_is_real_is_the_published_finding_and_a_command() -> None:
    text = findings.what_is_real(a_run())
    assert "within references deep_wsd_vgg (0.694)" in text
    assert "`fmiqa report --dataset planted --backbone dino_vits16 --weights pretrained`" in text
    assert "--weights FILE`" in text


@pytest.mark.parametrize(
    ("dataset", "kind", "option"),
    [
        ("demo", "mos", ""),
        ("csv:mine", "dmos", " --dataset csv:mine.csv --direction lower"),
        ("csv:mine", "mos", " --dataset csv:mine.csv --direction higher"),
    ],
)
def test_the_command_is_for_the_same_dataset(dataset: str, kind: str, option: str) -> None:
    run = a_run()
    manifest = run.manifests[0] | {"dataset": dataset, "label_kind": kind, "backbone": "clip_rn50"}
    assert f"`fmiqa report{option} --backbone clip_rn50 --weights pretrained`" in findings.what_is_real(
        replace(run, manifests=[manifest])
    )


def test_nothing_is_offered_for_trained_weights() -> None:
    run = a_run()
    trained = replace(run, manifests=[run.manifests[0] | {"weights": "pretrained"}])
    assert findings.what_is_real(trained) == ""
    assert trained.tag == trained.warning == ""
    assert (run.tag, run.warning.split(":")[0]) == ("untrained weights", "UNTRAINED stand-in weights")
