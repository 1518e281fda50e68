"""Selection's share of a lead: all of it among equals, none of it for a clear winner."""

import numpy as np
import pytest

from fmiqa_utils.errors import InputError
from fmiqa_utils.statistics.layer_selection import corrected_interval, held_out_splits, nested_selection


def test_two_references_by_hand() -> None:
    # Quality 1 2 3 4 in both references. A is in order in the first and reversed in the second, B the other way
    # round, the control 2 4 1 3 has SRCC 0 in each (Σd² = 10, 1 − 60/60). Trained on the first, A leads by 1
    # and is −1 on the second; trained on the second, B likewise: training lead 1, held out −1. A falls by 2
    # where it is chosen and rises by 2 where it is not, so none of it is fold size: optimism 2, no spread.
    order, reverse, zero = [1, 2, 3, 4], [4, 3, 2, 1], [2, 4, 1, 3]
    values = np.column_stack([order + reverse, reverse + order, zero + zero])
    result = nested_selection(values, order + order, [0] * 4 + [1] * 4, control=2, n_folds=2, n_repeats=3)
    assert (result.training_lead, result.held_out_lead, result.optimism, result.share) == pytest.approx(
        (1, -1, 2, 2)
    )
    assert result.optimism_interval == pytest.approx((2, 2))
    assert result.chosen.tolist() == [0.5, 0.5, 0]


def test_a_clear_winner_owes_nothing_to_selection() -> None:
    rng = np.random.default_rng(0)
    quality = rng.normal(size=300)
    values = np.column_stack([rng.normal(size=300), quality, -quality])
    result = nested_selection(values, quality, np.arange(300) % 20, control=2)
    assert (result.best, result.chosen.tolist()) == (1, [0, 1, 0])
    assert (result.apparent_lead, result.training_lead, result.held_out_lead) == pytest.approx((2, 2, 2))
    assert result.optimism == pytest.approx(0)


def test_a_column_that_is_always_chosen_has_no_optimism_whatever_the_folds_do() -> None:
    # Each reference shifts the winner's predictions: pooling more references lowers its SRCC, so folds of two
    # show a larger lead than training sets of eighteen, and none of that is selection.
    rng = np.random.default_rng(5)
    refs = np.repeat(np.arange(20), 10)
    quality = rng.normal(size=200)
    values = np.column_stack([quality + rng.normal(size=20)[refs], rng.normal(size=200), -quality])
    result = nested_selection(values, quality, refs, control=2, n_folds=10)
    assert result.chosen.tolist() == [1, 0, 0]
    assert result.held_out_lead > result.training_lead + 0.01
    assert result.optimism == pytest.approx(0, abs=1e-12)


def test_among_equals_the_lead_is_all_selection() -> None:
    rng = np.random.default_rng(1)
    leads = []
    for trial in range(20):
        quality = rng.normal(size=200)
        values = quality[:, None] + rng.normal(size=(200, 13))
        result = nested_selection(values, quality, np.arange(200) % 20, control=0, n_repeats=2, seed=trial)
        leads.append((result.training_lead, result.held_out_lead, result.optimism))
    training, held_out, optimism = np.mean(leads, axis=0)
    assert training > 0.03
    assert held_out == pytest.approx(0, abs=0.02)
    assert optimism == pytest.approx(training, rel=0.25)


def test_every_repeat_leaves_each_reference_out_once() -> None:
    held_out = held_out_splits(11, 5, 4, seed=0)
    assert held_out.shape == (11, 20)
    for repeat in range(4):
        folds = held_out[:, 5 * repeat : 5 * repeat + 5]
        assert (folds.sum(axis=1) == 1).all()
        assert sorted(folds.sum(axis=0)) == [2, 2, 2, 2, 3]
    assert not (held_out[:, :5] == held_out[:, 5:10]).all()


def test_corrected_interval_by_hand() -> None:
    # Splits 1 2 3 of two folds: mean 2, s = 1, √(1/3 + 1) = 1.1547, t(.975; 2) = 4.3027: 2 ± 4.9683.
    assert corrected_interval(np.array([1.0, 2, 3]), 2, 0.95) == pytest.approx((-2.9683, 6.9683), abs=1e-4)


def test_failed_columns_are_never_chosen() -> None:
    rng = np.random.default_rng(0)
    quality = rng.normal(size=60)
    values = np.column_stack([np.full(60, np.nan), quality + rng.normal(size=60), rng.normal(size=60)])
    result = nested_selection(values, quality, np.arange(60) % 6, control=2)
    assert result.best == 1
    assert result.chosen.tolist() == [0, 1, 0]


def test_more_folds_than_references_are_refused() -> None:
    with pytest.raises(InputError, match="n_folds=5 with 3 references"):
        nested_selection(np.ones((6, 2)), range(6), [0, 0, 1, 1, 2, 2], control=0)
