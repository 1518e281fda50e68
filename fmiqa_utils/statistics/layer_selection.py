"""How much of the best layer's lead is selection: a layer chosen on some references, judged on the others."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from fmiqa_utils.errors import InputError
from fmiqa_utils.statistics.bootstrap import encode, weighted_srcc
from fmiqa_utils.statistics.coefficients import FloatArray, IntArray, srcc


class Selection(NamedTuple):
    """Result of `nested_selection`; leads are differences of SRCC from the control.

    `apparent_lead` is the lead of the best candidate on all references: what the maximum of a table suggests.
    In every split the best candidate of the training references is chosen: `training_lead` is its mean lead
    on those references, `held_out_lead` on the references left out. `optimism` is the part of the difference
    that comes from choosing: the column's mean difference over all splits, chosen or not, comes from the
    smaller sample and is subtracted.
    """

    best: int
    apparent_lead: float
    training_lead: float
    held_out_lead: float
    held_out_interval: tuple[float, float]
    optimism: float
    optimism_interval: tuple[float, float]
    chosen: FloatArray  # [k], share of the splits that chose each column

    @property
    def share(self) -> float:
        """Share of the training lead that selection made up; above 1 where the lead changes its sign."""
        return self.optimism / self.training_lead


def nested_selection(
    values: ArrayLike,
    quality: ArrayLike,
    refs: ArrayLike,
    control: int,
    *,
    n_folds: int = 5,
    n_repeats: int = 20,
    ci: float = 0.95,
    seed: int = 0,
) -> Selection:
    """Choose among all columns except `control` by repeated cross-validation over references.

    `values` [n, k]: oriented predictions, `quality` and `refs` [n]. A layer has nothing to train, so the
    inner loop is its SRCC on the training references. Intervals are the corrected resampled t of Nadeau and
    Bengio (2003): its variance allows for the overlap of the training sets. Raises InputError for more folds
    than references.
    """
    matrix, target = np.asarray(values, dtype=float), np.asarray(quality, dtype=float)
    codes, n_refs = encode(refs)
    if not 2 <= n_folds <= n_refs:
        raise InputError(
            f"n_folds={n_folds} with {n_refs} references: n_folds must be between 2 and the number of references."
        )
    held_out = held_out_splits(n_refs, n_folds, n_repeats, seed)
    training = _leads(weighted_srcc(matrix, target, codes, 1 - held_out), control)
    testing = _leads(weighted_srcc(matrix, target, codes, held_out), control)
    apparent = _leads(srcc(matrix, target)[None], control)[0]
    choice = _best(training, control)  # [splits]
    split = np.arange(len(choice))
    seen, honest = training[split, choice], testing[split, choice]
    drop = training - testing
    optimism = drop[split, choice] - drop.mean(axis=0)[choice]
    best = int(_best(apparent[None], control)[0])
    return Selection(
        best=best,
        apparent_lead=float(apparent[best]),
        training_lead=float(seen.mean()),
        held_out_lead=float(honest.mean()),
        held_out_interval=corrected_interval(honest, n_folds, ci),
        optimism=float(optimism.mean()),
        optimism_interval=corrected_interval(optimism, n_folds, ci),
        chosen=np.bincount(choice, minlength=matrix.shape[1]) / len(choice),
    )


def held_out_splits(n_refs: int, n_folds: int, n_repeats: int, seed: int) -> NDArray[np.int_]:
    """1 where a reference is left out of a split, [references, repeats · folds]; a repeat is a partition."""
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random((n_repeats, n_refs)), axis=1)
    fold = np.empty_like(order)
    np.put_along_axis(fold, order, np.broadcast_to(np.arange(n_refs) % n_folds, order.shape), axis=1)
    return (fold[:, None] == np.arange(n_folds)[:, None]).astype(int).reshape(-1, n_refs).T


def _leads(correlations: FloatArray, control: int) -> FloatArray:
    return correlations - correlations[:, [control]]


def _best(leads: FloatArray, control: int) -> IntArray:
    """Column of the largest lead in each row; never the control or an undefined column."""
    candidates = np.where(np.isnan(leads), -np.inf, leads)
    candidates[:, control] = -np.inf
    return candidates.argmax(axis=1)


def corrected_interval(splits: FloatArray, n_folds: int, ci: float) -> tuple[float, float]:
    """t interval of the mean over splits with variance s² (1 / splits + tested / trained references)."""
    spread = splits.std(ddof=1) * np.sqrt(1 / len(splits) + 1 / (n_folds - 1))
    half = float(student.ppf((1 + ci) / 2, len(splits) - 1) * spread)
    return float(splits.mean() - half), float(splits.mean() + half)
