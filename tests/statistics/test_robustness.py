"""Robustness: correlations and ratios of a run whose moved distances are known by construction."""

import numpy as np
import pandas as pd
import pytest

from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.plan import evenly_spaced
from fmiqa_utils.scores.runs import Run
from fmiqa_utils.scores.shards import SCORE_COLUMNS
from fmiqa_utils.statistics.robustness import is_moved, moved_pairs, relative_change, robustness_table

REFS, PER_REF = 5, 4


def a_run(moved: str = "tra-1") -> Run:
    """Distances that follow the label exactly; moved ones are three times as large and in the opposite order."""
    n = REFS * PER_REF
    ids = [f"p{i}" for i in range(n)]
    quality = np.linspace(5, 1, n)
    pairs = pd.DataFrame(
        {"dataset": "d", "pair_id": ids, "ref": [f"r{i % REFS}" for i in range(n)], "quality": quality}
    )
    rows = []
    for i in range(n):
        for transform, value in (("none", i + 1.0), (moved, 3.0 * (n - i))):
            for feature, distance in (("joint", "cos"), ("embedding", "cos")):
                key = (
                    "timm:vit_tiny_patch16_224",
                    "untrained",
                    "none",
                    transform,
                    feature,
                    distance,
                    "published",
                )
                rows.append(("d", ids[i], *key, value))
    scores = pd.DataFrame(rows, columns=SCORE_COLUMNS)
    manifest = {"dataset": "d", "backbone": "timm:vit_tiny_patch16_224", "weights": "untrained"}
    return Run("d", scores, pairs, pd.DataFrame(), [manifest])


def test_a_move_that_reverses_the_order_reverses_the_correlation() -> None:
    table = robustness_table(a_run(), n_resamples=400)
    assert list(table["series"]) == ["all layers, cosine", "embedding, cosine"]
    assert list(table["kind"]) == ["tra", "tra"]
    assert list(table["amount"]) == [1, 1]
    np.testing.assert_allclose(table["unmoved"], 1)
    np.testing.assert_allclose(table["srcc"], -1)
    np.testing.assert_allclose(table[["difference", "lower", "upper"]], -2)
    assert table["significant"].all()


def test_the_ratio_is_moved_over_unmoved_pair_by_pair() -> None:
    ratios = relative_change(a_run("rot-2.5")).set_index(["series", "pair_id"])["ratio"]
    assert ratios["all layers, cosine", "p0"] == pytest.approx(60)
    assert ratios["embedding, cosine", "p19"] == pytest.approx(3 / 20)


def test_only_pairs_scored_under_every_transform_are_compared() -> None:
    run = a_run()
    half = run.scores[
        (run.scores["transform"] == "none") | run.scores["pair_id"].isin(["p0", "p1", "p2", "p3", "p7"])
    ]
    smaller = Run(run.name, half, run.pairs, run.failures, run.manifests)
    assert list(moved_pairs(smaller)["pair_id"]) == ["p0", "p1", "p2", "p3", "p7"]
    assert set(robustness_table(smaller, n_resamples=200)["n"]) == {5}


def test_a_run_without_moves_says_how_to_get_them() -> None:
    run = a_run()
    still = Run(
        run.name, run.scores[run.scores["transform"] == "none"], run.pairs, run.failures, run.manifests
    )
    assert not is_moved(still)
    with pytest.raises(InputError, match="--transform none,tra-1,sca-1,rot-1"):
        moved_pairs(still)


def test_pairs_are_thinned_evenly() -> None:
    pairs = pd.DataFrame({"pair_id": range(100)})
    assert list(evenly_spaced(pairs, 4)["pair_id"]) == [0, 33, 66, 99]
    assert len(evenly_spaced(pairs, 0)) == len(evenly_spaced(pairs, 500)) == 100
