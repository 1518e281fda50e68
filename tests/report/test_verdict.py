"""The verdict: who is compared with whom, by how much, and in which words."""

import numpy as np
import pandas as pd
import pytest
from planted import BACKBONE, planted, quality, usual

from fmiqa_utils.report.verdict import verdict, verdict_table
from fmiqa_utils.statistics.against_embedding import layer_choice
from fmiqa_utils.statistics.coefficients import srcc

REFS = 8
LABELS = quality(REFS)
N = 500


def said(amounts: tuple[float, float, float, float]) -> tuple[str, pd.DataFrame]:
    run = planted(usual(LABELS, *amounts), labels=LABELS, refs=REFS)
    table = verdict_table(run, n_resamples=N)
    return verdict(run, table), table


def test_the_table_holds_the_planted_correlations() -> None:
    columns = usual(LABELS, 0.5, 1, 0.2, 3)
    table = verdict_table(planted(columns, labels=LABELS, refs=REFS), n_resamples=N)
    rows = table[table["candidate"] == "best block"].set_index("against")
    ours = srcc(-columns[1, "cos", "published"][:, None], LABELS)[0]
    psnr = srcc(columns["image", "psnr", "published"][:, None], LABELS)[0]
    assert rows.index.tolist() == ["psnr", "embedding", "ssim"]
    assert rows["feature"].eq(1).all()
    assert rows["srcc"].to_numpy() == pytest.approx(ours)
    assert rows.loc["psnr", "srcc_against"] == pytest.approx(psnr)
    assert rows.loc["psnr", "difference"] == pytest.approx(ours - psnr)
    assert rows.loc["psnr", "upper"] < 0 < rows.loc["ssim", "lower"]
    assert (table["n"].eq(48) & table["n_refs"].eq(8)).all()
    assert table.groupby("candidate")["choices"].first().to_dict() == {"all layers": 1, "best block": 2}


def test_the_held_out_lead_is_that_of_layer_choice() -> None:
    run = planted(usual(LABELS, 0.5, 1, 0.2, 3), labels=LABELS, refs=REFS)
    table = verdict_table(run, n_resamples=N).set_index(["candidate", "against"])
    row = table.loc[("best block", "embedding")]
    known = layer_choice(run).iloc[0]
    assert row["held_out_lead"] == pytest.approx(known["held_out_lead"])
    assert (row["held_out_lower"], row["held_out_upper"]) == pytest.approx((known["lower"], known["upper"]))


def test_psnr_beats_everything_and_the_first_sentence_says_so() -> None:
    text, table = said((1, 1.5, 0.1, 3))
    top = table.iloc[0]
    assert text.startswith(
        "**PSNR agrees better with people than every layer and every distance of this run: SRCC "
    )
    first = text.split("**")[1]
    assert f"SRCC {top['srcc_against']:.3f} against {top['srcc']:.3f}" in first
    assert f"({top['difference']:+.3f} [{top['lower']:+.3f}, {top['upper']:+.3f}])" in first
    assert "block 1 by cosine of vit_tiny_patch16_224 (untrained)" in first
    assert "It is the best of 2 choices, chosen on these same images." in text
    assert text.endswith("n = 48 pairs of 8 references; untrained weights.")


def test_a_clear_lead_is_named_with_everyone_it_beats() -> None:
    text, table = said((0.05, 3, 2, 4))
    assert text.startswith(
        "**Block 1 by cosine of vit_tiny_patch16_224 (untrained) agrees better with people than PSNR, the embedding and SSIM: "
        f"SRCC {table['srcc'].max():.3f}"
    )
    assert (table["held_out_lower"] > 0).all()


def test_a_lead_within_chance_is_no_lead() -> None:
    text, table = said((0.5, 3, 0.5, 4))
    top = table[table["candidate"] == "best block"].set_index("against").loc["psnr"]
    assert top["lower"] < 0 < top["upper"]
    expected = (
        "No layer and no distance of this run is clearly better than PSNR"
        if top["difference"] > 0
        else "may be chance"
    )
    assert expected in text.split("**")[1]


def test_embedding_may_be_the_one_to_beat() -> None:
    text, _ = said((2, 0.05, 3, 3))
    assert text.startswith("**The embedding agrees better with people than every layer")


def test_best_is_over_all_distances_and_forms_and_twins_count_once() -> None:
    columns = usual(LABELS, 0.5, 1, 0.2, 3)
    columns[1, "cos", "corrected"] = columns[1, "cos", "published"]
    columns[0, "wsd", "corrected"] = -LABELS
    run = planted(columns, labels=LABELS, refs=REFS)
    table = verdict_table(run, n_resamples=N)
    top = table.iloc[0]
    assert (top["feature"], top["distance"], top["variant"], top["choices"]) == (0, "wsd", "corrected", 3)
    assert "lock 0 by corrected WSD of" in verdict(run, table).split("**")[1]


def test_two_normalizations_are_two_series() -> None:
    better, worse = usual(LABELS, 0.1, 1, 2, 3), usual(LABELS, 1, 1.5, 2, 3)
    own = {k: v for k, v in better.items() if k[0] != "image"}
    run = planted(worse, labels=LABELS, refs=REFS, others={(BACKBONE, "untrained", "model"): own})
    table = verdict_table(run, n_resamples=N)
    assert table["normalize"].unique().tolist() == ["model", "none"]
    text = verdict(run, table)
    assert "(untrained, normalize=model)" in text.split("**")[1]
    assert (
        "It is the best of 2 choices within its model, which is the best of 2; all were chosen on these same images."
        in text
    )
    second = table[table["normalize"] == "none"].iloc[0]
    assert (
        f"Best of the other models: vit_tiny_patch16_224 (untrained, normalize=none) {second['srcc']:.3f} (block 1 by cosine)"
        in text
    )


def test_few_references_get_no_interval_and_no_bold() -> None:
    labels = quality(3, 4)
    run = planted(usual(labels, 0.5, 1, 0.2, 3), labels=labels, refs=3)
    text = verdict(run, verdict_table(run, n_resamples=N))
    assert text.startswith(
        "Only 12 pairs of 3 references: with so few, intervals mean little and none is given"
    )
    assert "**" not in text
    assert "[" not in text
    assert "PSNR 0." in text


@pytest.mark.parametrize("refs", [1, 2])
def test_one_or_two_references_are_no_traceback(refs: int) -> None:
    labels = quality(refs, 30)
    run = planted(usual(labels, 0.5, 1, 0.2, 3), labels=labels, refs=refs)
    text = verdict(run, verdict_table(run, n_resamples=N))
    assert text.startswith(f"Only {30 * refs} pairs of {refs} reference")
    assert "nan" not in text


def test_constant_labels_one_pair_and_no_pair_are_sentences() -> None:
    flat = np.full(48, 3.0)
    run = planted(usual(LABELS, 0.5, 1, 0.2, 3), labels=flat, refs=REFS)
    assert verdict(run, verdict_table(run, n_resamples=N)) == (
        "All 48 labels are the same, so no correlation with them is defined."
    )
    one = planted(usual(np.array([3.0]), 0, 0, 0, 0), labels=np.array([3.0]), refs=1)
    assert "Only one pair was scored" in verdict(one, verdict_table(one, n_resamples=N))
    lost = {f"p{i:03}": f"data/planted/dist_p{i:03}.png is damaged." for i in range(48)}
    none = planted(usual(LABELS, 0.5, 1, 0.2, 3), labels=LABELS, refs=REFS, failures=lost)
    text = verdict(none, verdict_table(none, n_resamples=N))
    assert text == (
        "No pair could be scored, so nothing can be compared with people. **48 pairs failed.** Reason: the distorted image is damaged."
    )


def test_a_run_without_psnr_says_so() -> None:
    columns = usual(LABELS, 0.05, 3, 1, 4)
    del columns["image", "psnr", "published"]
    run = planted(columns, labels=LABELS, refs=REFS)
    text = verdict(run, verdict_table(run, n_resamples=N))
    assert "Not compared, because the run has no values: PSNR." in text
    assert "than the embedding and SSIM" in text or "than SSIM and the embedding" in text


def test_failed_pairs_are_left_out_on_both_sides() -> None:
    lost = {
        "p000": "data/planted/dist_p000.png is damaged.",
        "p017": "data/planted/dist_p017.png is damaged.",
    }
    columns = usual(LABELS, 0.5, 1, 0.2, 3)
    run = planted(columns, labels=LABELS, refs=REFS, failures=lost)
    table = verdict_table(run, n_resamples=N)
    kept = np.setdiff1d(np.arange(48), [0, 17])
    psnr = srcc(columns["image", "psnr", "published"][kept, None], LABELS[kept])[0]
    assert table["n"].eq(46).all()
    assert table.set_index("against").loc["psnr", "srcc_against"].iloc[0] == pytest.approx(psnr)
    assert "n = 46 pairs" in verdict(run, table)
