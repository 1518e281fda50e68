"""Does any layer or distance agree better with people than PSNR, SSIM and the embedding? Every comparison is on the same pairs."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmiqa_utils.report.scope import nothing_to_say, scored_pairs
from fmiqa_utils.scores.names import GROUP
from fmiqa_utils.scores.runs import Run
from fmiqa_utils.statistics.against_embedding import FOLDS
from fmiqa_utils.statistics.bootstrap import bootstrap_srcc, encode, weighted_srcc
from fmiqa_utils.statistics.coefficients import FloatArray, srcc
from fmiqa_utils.statistics.correlation import wide_scores
from fmiqa_utils.statistics.layer_selection import corrected_interval, held_out_splits
from fmiqa_utils.statistics.paired_tests import paired_difference
from fmiqa_utils.statistics.wording import (
    count,
    distance_name,
    facts,
    few,
    form,
    is_few,
    listed,
    measure,
    same_series,
    series,
    span,
)

REPEATS = 20  # random partitions into five folds; each choice uses four fifths of the references
REFERENCES = ("image", "embedding")  # features that layers are compared with
HELD_OUT = ("held_out_lead", "held_out_lower", "held_out_upper")
COLUMNS = [
    *GROUP,
    "candidate",
    "feature",
    "distance",
    "variant",
    "choices",
    "n",
    "n_refs",
    "srcc",
    "against",
    "srcc_against",
    "difference",
    "lower",
    "upper",
    *HELD_OUT,
]
LEVELS = ("feature", "distance", "variant")
Name = tuple[object, str, str]  # a value of each of LEVELS


class _Series(NamedTuple):
    """One backbone with its weights and normalization: oriented predictions of the pairs that have every value."""

    group: dict[str, str]
    names: list[Name]
    values: FloatArray  # [n, k]
    quality: FloatArray  # [n]
    refs: NDArray[np.object_]  # [n]


def verdict_table(run: Run, *, n_resamples: int = 10_000, seed: int = 0) -> pd.DataFrame:
    """The best single block and the best value of all layers together of each series, against each baseline and the embedding.

    A series is a backbone with its weights and normalization. "Best" is over all distances and forms of the run, chosen on
    the same images (`choices`: among how many). A row per series, candidate ("best block" or "all layers") and control
    (`against`: a baseline's name such as "psnr", or "embedding"), the largest SRCC first:

    - srcc, srcc_against, difference, and its 95 % interval lower, upper (paired bootstrap over references);
    - held_out_lead with its interval: the mean difference on references that had no part in the choice (`against_embedding.layer_choice`
      does the same for one distance). NaN with one reference.

    Pairs without a value in any column are left out (n counts those used). Empty where no correlation is defined.
    """
    rows = [row for series in _each_series(run) for row in _contests(series, n_resamples, seed)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values(["srcc", "srcc_against"], ascending=False, kind="stable", ignore_index=True)


def _each_series(run: Run) -> Iterator[_Series]:
    scores = run.scores[run.scores["transform"] == "none"]
    of_model = scores["backbone"] != "baseline"
    for key, part in scores[of_model].groupby(GROUP, observed=True, sort=False):
        wide = wide_scores(pd.concat([part, scores[~of_model]]), run.pairs)
        wide = wide.dropna(axis=1, how="all").dropna()
        names = list(zip(*(wide.columns.get_level_values(c) for c in LEVELS), strict=True))
        kept = _distinct(wide.to_numpy(), names)
        pairs = run.pairs.set_index("pair_id").loc[wide.index]
        yield _Series(
            dict(zip(GROUP, map(str, key), strict=True)),
            [names[k] for k in kept],
            wide.to_numpy()[:, kept],
            pairs["quality"].to_numpy(dtype=float),
            pairs["ref"].to_numpy(dtype=object),
        )


def _distinct(values: FloatArray, names: list[Name]) -> list[int]:
    """Columns without duplicates (l2 is the same in both forms); the published form is kept."""
    seen: dict[bytes, int] = {}
    for k in sorted(range(len(names)), key=lambda k: names[k][2] != "published"):
        seen.setdefault(np.ascontiguousarray(values[:, k]).tobytes(), k)
    return sorted(seen.values())


def _contests(series: _Series, n_resamples: int, seed: int) -> list[dict[str, object]]:
    """The rows of one series."""
    estimate = srcc(series.values, series.quality)
    known = np.flatnonzero(np.isfinite(estimate)).tolist()
    others = [k for k in known if series.names[k][0] in REFERENCES]
    candidates = {
        "best block": [k for k in known if isinstance(series.names[k][0], int | np.integer)],
        "all layers": [k for k in known if series.names[k][0] == "joint"],
    }
    return [
        row
        for candidate, choices in candidates.items()
        if choices and others
        for row in _contest(series, estimate, candidate, choices, others, n_resamples, seed)
    ]


def _contest(
    series: _Series,
    estimate: FloatArray,
    candidate: str,
    choices: list[int],
    others: list[int],
    n_resamples: int,
    seed: int,
) -> list[dict[str, object]]:
    """The best of the columns `choices` against each of the columns `others`."""
    best = max(choices, key=lambda k: estimate[k])
    # [resamples, 1 + others].
    samples = bootstrap_srcc(
        series.values[:, [best, *others]], series.quality, series.refs, n_resamples, seed
    )
    chosen = {
        **series.group,
        "candidate": candidate,
        **dict(zip(LEVELS, series.names[best], strict=True)),
        "choices": len(choices),
        "n": len(series.quality),
        "n_refs": len(set(series.refs)),
        "srcc": estimate[best],
    }
    rows = []
    for i, (other, held_out) in enumerate(
        zip(others, _held_out_leads(series, choices, others), strict=True), 1
    ):
        lower, upper, _ = paired_difference(samples, i)
        feature, distance, _ = series.names[other]
        against = {
            "against": "embedding" if feature == "embedding" else distance,
            "srcc_against": estimate[other],
            "difference": estimate[best] - estimate[other],
            "lower": lower[0],
            "upper": upper[0],
        }
        rows.append(chosen | against | dict(zip(HELD_OUT, held_out, strict=True)))
    return rows


def _held_out_leads(
    series: _Series, choices: list[int], others: list[int]
) -> list[tuple[float, float, float]]:
    """For each of `others`: the lead, with its interval, on one fifth of the references, of the column chosen on the other four fifths."""
    codes, n_refs = encode(series.refs)
    folds = min(FOLDS, n_refs)
    if folds < 2:
        return [(np.nan, np.nan, np.nan)] * len(others)
    held_out = held_out_splits(n_refs, folds, REPEATS, seed=0)
    training = weighted_srcc(series.values[:, choices], series.quality, codes, 1 - held_out)
    columns = [*choices, *others]
    testing = weighted_srcc(series.values[:, columns], series.quality, codes, held_out)
    choice = np.where(np.isnan(training), -np.inf, training).argmax(axis=1)
    leads = testing[np.arange(len(choice)), choice][:, None] - testing[:, len(choices) :]
    return [_lead(lead[np.isfinite(lead)], folds) for lead in leads.T]


def _lead(splits: FloatArray, folds: int) -> tuple[float, float, float]:
    """Mean and interval over the splits in which both sides are defined; NaN for fewer than two."""
    if len(splits) < 2:
        return np.nan, np.nan, np.nan
    return float(splits.mean()), *corrected_interval(splits, folds, 0.95)


# ---- in words ---------------------------------------------------------------------------------------------------------


def verdict(run: Run, table: pd.DataFrame) -> str:
    """Notebook 04: does any layer or distance beat PSNR, SSIM and the embedding? table: `verdict_table`."""
    reason = nothing_to_say(run)
    if table.empty:
        return reason or "No layer has a defined correlation, so there is nothing to compare."
    top = table[_of_one_contest(table, table.iloc[0])].sort_values("srcc_against", ascending=False)
    pairs, small = scored_pairs(run), is_few(scored_pairs(run))
    sentences = [
        few(pairs),
        _headline(top, run, small),
        _each(top, small),
        _honest(top, len(table.drop_duplicates(GROUP)), small),
    ]
    sentences += [_second(table, top, small), _other_series(table, run), _missing(table)]
    return f"{' '.join(s for s in sentences if s)} {facts(pairs, run)}."


def _of_one_contest(table: pd.DataFrame, row: pd.Series) -> pd.Series:
    return same_series(table, row) & (table["candidate"] == row["candidate"])


def _headline(top: pd.DataFrame, run: Run, small: bool) -> str:
    """The first sentence; `top`: the best candidate against each control, the strongest control first."""
    best = top.iloc[0]
    rival, what = distance_name(best["against"]), f"{measure(best)} of {series(best, run)}"
    if small:
        return f"The best of {best['choices']} is {what}, SRCC {best['srcc']:.3f}."
    values = f"SRCC {best['srcc_against']:.3f} against {best['srcc']:.3f} for the best of them, {what}"
    gap = span(best["difference"], best["lower"], best["upper"], signed=True)
    if best["upper"] < 0:
        text = f"{rival} agrees better with people than every layer and every distance of this run: {values} ({gap})"
    elif best["difference"] < 0:
        text = (
            f"No layer and no distance of this run agrees better with people than {rival}: {values}; "
            f"the difference of {gap} may be chance"
        )
    elif (top["held_out_lower"] > 0).all() and (top["lower"] > 0).all():
        others = listed([distance_name(a) for a in top["against"]])
        text = f"{what} agrees better with people than {others}: SRCC {best['srcc']:.3f}, {gap} to {rival}"
    else:
        text = (
            f"No layer and no distance of this run is clearly better than {rival} ({best['srcc_against']:.3f}): the best of "
            f"them, {what}, has SRCC {best['srcc']:.3f} ({gap})"
        )
    return f"**{text[0].upper()}{text[1:]}.**"


def _each(top: pd.DataFrame, small: bool) -> str:
    """The values of all controls (small runs), or the differences to all but the strongest, which the headline has."""
    rows = [row for _, row in top.iterrows()]
    if small:
        values = [f"{distance_name(r['against'])} {r['srcc_against']:.3f}" for r in rows]
        return f"On the same pairs: {listed(values)}."
    return f"Its difference is {listed([_difference(r, small) for r in rows[1:]])}." if rows[1:] else ""


def _difference(row: pd.Series, small: bool) -> str:
    """ "-0.020 [-0.031, +0.004] to PSNR"."""
    lower, upper = (np.nan, np.nan) if small else (row["lower"], row["upper"])
    return f"{span(row['difference'], lower, upper, signed=True)} to {distance_name(row['against'])}"


def _honest(top: pd.DataFrame, models: int, small: bool) -> str:
    """That the best was chosen on the same images, and its lead where the choice within its model was made on other references."""
    best = top.iloc[0]
    if best["choices"] * models == 1:
        return ""
    words = f"It is the best of {count(best['choices'], 'choice')}"
    words += f" within its model, which is the best of {models}; all were" if models > 1 else ","
    words += " chosen on these same images"
    lead, lower, upper = (float(best[name]) for name in HELD_OUT)
    if small or np.isnan(lead):
        return f"{words}, so it looks better than it is."
    what = "this choice" if models == 1 else "the choice within the model"
    return (
        f"{words}. Where four fifths of the references make {what} and the rest judge it, the difference is "
        f"{span(lead, lower, upper, signed=True)} to {distance_name(best['against'])}."
    )


def _second(table: pd.DataFrame, top: pd.DataFrame, small: bool) -> str:
    """The other candidate of the same series: all layers together, or the best block."""
    rest = table[same_series(table, top.iloc[0]) & (table["candidate"] != top.iloc[0]["candidate"])]
    if rest.empty:
        return ""
    row = rest.iloc[0]
    name = "All layers together" if row["candidate"] == "all layers" else "The best single block"
    what = form(row) if row["candidate"] == "all layers" else measure(row)
    return f"{name} ({what}): SRCC {row['srcc']:.3f}; the difference is {_difference(row, small)}."


def _other_series(table: pd.DataFrame, run: Run) -> str:
    firsts = table.drop_duplicates(GROUP).iloc[1:]
    parts = [f"{series(r, run)} {r['srcc']:.3f} ({measure(r)})" for _, r in firsts.iterrows()]
    return f"Best of the other models: {listed(parts)}." if parts else ""


def _missing(table: pd.DataFrame) -> str:
    absent = [distance_name(n) for n in ("psnr", "ssim", "embedding") if n not in set(table["against"])]
    return f"Not compared, because the run has no values: {listed(absent)}." if absent else ""
