"""Contrasts of one run whose scores are known by construction."""

import numpy as np
import pandas as pd
import pytest

from fmiqa_utils.errors import InputError
from fmiqa_utils.scores.runs import Run
from fmiqa_utils.scores.shards import SCORE_COLUMNS
from fmiqa_utils.statistics.against_embedding import (
    corrected_vs_published,
    intermediate_vs_embedding,
    layer_choice,
)

REFS, PER_REF = 8, 6
QUALITY = np.tile(np.arange(PER_REF, 0, -1.0), REFS)
NOISE = np.random.default_rng(3).normal(size=REFS * PER_REF)


def a_run(columns: dict[tuple[object, str, str], np.ndarray]) -> Run:
    """Distances by (feature, distance, variant); the label is `QUALITY`, six levels in each of eight references."""
    ids = [f"p{i}" for i in range(len(QUALITY))]
    pairs = pd.DataFrame(
        {
            "dataset": "d",
            "pair_id": ids,
            "ref": np.repeat(range(REFS), PER_REF).astype(str),
            "quality": QUALITY,
        }
    )
    rows = [
        ("d", pair, "b", "untrained", "none", "none", *key, value)
        for key, values in columns.items()
        for pair, value in zip(ids, values, strict=True)
    ]
    return Run("d", pd.DataFrame(rows, columns=SCORE_COLUMNS), pairs, pd.DataFrame(), [])


PERFECT = {
    (0, "cos", "published"): -QUALITY,
    (1, "cos", "published"): QUALITY,
    ("joint", "cos", "published"): -QUALITY,
    ("joint", "cos", "corrected"): -QUALITY + 3 * NOISE,
    ("joint", "l2", "published"): NOISE,
    ("joint", "l2", "corrected"): NOISE,
    ("embedding", "cos", "published"): QUALITY,
}


def test_blocks_are_compared_with_the_embedding_signed() -> None:
    table = intermediate_vs_embedding(a_run(PERFECT), n_resamples=400).set_index("feature")
    assert table["difference"].round(9).to_dict() == {0: 2.0, 1: 0.0, "joint": 2.0}
    assert table["control"].round(9).eq(-1).all()
    assert table["significant"].to_dict() == {0: True, 1: False, "joint": True}


def test_forms_are_compared_and_equal_ones_left_out() -> None:
    table = corrected_vs_published(a_run(PERFECT), n_resamples=400)
    assert table["distance"].tolist() == ["cos"]
    expected = pd.Series(QUALITY - 3 * NOISE).corr(pd.Series(QUALITY), method="spearman")
    assert table["value"].item() == pytest.approx(expected)
    assert table["control"].item() == pytest.approx(1)
    assert table["difference"].item() == pytest.approx(expected - 1)


def test_a_run_of_one_form_has_no_contrast() -> None:
    run = a_run({k: v for k, v in PERFECT.items() if k[2] == "published"})
    assert corrected_vs_published(run).empty


def test_a_true_lead_survives_the_choice_and_the_joint_value_is_no_block() -> None:
    row = layer_choice(a_run(PERFECT)).iloc[0]
    assert row["best"] == 0
    assert row["apparent_lead"] == pytest.approx(2)
    assert row["held_out_lead"] == pytest.approx(2)
    assert row["agreement"] == 1


def test_a_lead_by_chance_shrinks_on_references_that_did_not_choose() -> None:
    rows = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        noise = {(i, "cos", "published"): rng.normal(size=len(QUALITY)) for i in range(12)}
        run = a_run(noise | {("embedding", "cos", "published"): rng.normal(size=len(QUALITY))})
        rows.append(layer_choice(run).iloc[0][["apparent_lead", "held_out_lead", "optimism"]])
    mean = pd.DataFrame(rows).astype(float).mean()
    assert mean["held_out_lead"] < 0.8 * mean["apparent_lead"]
    assert mean["optimism"] > 0


def test_a_distance_that_was_not_extracted_is_named() -> None:
    with pytest.raises(InputError, match=r"has no skld in the published form; it has cos \(corrected\), cos"):
        layer_choice(a_run(PERFECT), "skld")
