"""The captions of the figures of the published results, every number in them from the same table as the figure."""

import numpy as np
import pandas as pd

from fmiqa_utils.bootstrap import interval
from fmiqa_utils.coefficients import FloatArray, srcc
from fmiqa_utils.dataset_registry import DATASETS
from fmiqa_utils.published_figures import (
    CLIMB,
    MOVES,
    dataset_title,
    datasets_of,
    main_methods,
    print_name,
    robustness_rows,
    within_ranks,
)

SOURCE = (
    "Computed from the per-image scores that Ghildyal, Barman and Zadtootaghaj released (arXiv 2409.07650)."
)


def srcc_dots_caption(table: pd.DataFrame) -> str:
    """For `srcc_dots`: for how many models the intermediate features are ahead of the embedding."""
    rows = main_methods(table)
    cosine = rows[rows["distance"] == "cos"].pivot_table(
        index=["dataset", "model"], columns="kind", values="srcc"
    )
    cosine = cosine.reindex(columns=["intermediate", "embedding"]).dropna()
    ahead = cosine["intermediate"] > cosine["embedding"]
    counts = [
        f"{own.sum()} of {len(own)} models on {dataset_title(str(d))}" for d, own in ahead.groupby(level=0)
    ]
    return (
        f"SRCC with human judgements; bars across a row are other distances. With the cosine distance, intermediate "
        f"features agree better than the embedding for {', '.join(counts)}. {_facts(rows)}"
    )


def rank_slopes_caption(table: pd.DataFrame, dataset: str = "pipal") -> str:
    """For `rank_slopes`: who leads either ranking, and how alike the two are."""
    ranks = within_ranks(table, dataset)
    pooled, within = ranks.iloc[0], ranks.sort_values("rank_within").iloc[0]
    alike = srcc(ranks[["srcc"]], ranks["srcc_within"])[0]
    return (
        f"Ranking of {len(ranks)} methods on {dataset_title(dataset)} by SRCC over all images and by the mean SRCC within "
        f"each of {ranks['n_refs'].iloc[0]} references; a thick line moves by {CLIMB} ranks or more. Over all images "
        f"{pooled['name']} is first ({pooled['srcc']:.3f}) and within references number {pooled['rank_within']} "
        f"({pooled['srcc_within']:.3f}); there {within['name']} is first ({within['srcc_within']:.3f}), number "
        f"{within['rank_pooled']} over all images ({within['srcc']:.3f}). Spearman correlation of the two rankings: "
        f"{alike:.2f}. Each foundation model with its best distance over all images. {_facts(ranks)}"
    )


def resampling_difference_caption(
    samples: dict[str, dict[str, FloatArray]], baseline: str = "embed_dinov1_cos", dataset: str = "tid2013"
) -> str:
    """For `resampling_difference`: each interval, and whether it contains zero."""
    drawn = len(next(iter(samples.values()))["images"])
    findings = [
        f"{print_name(method)}: {own['all'][0]:+.4f}, {_verdict(own, 'images')}, {_verdict(own, 'references')}."
        for method, own in samples.items()
    ]
    return (
        f"Difference in SRCC from {print_name(baseline)} on {dataset_title(dataset)} in {drawn:,} bootstrap resamples; "
        f"bars are 95 % intervals. {' '.join(findings)} Images of one reference are not independent, so an interval "
        f"over images is too narrow for a claim about new references. {SOURCE}"
    )


def resampling_intervals_caption(table: pd.DataFrame) -> str:
    """For an interval plot of `resampling_intervals`: which differences are sure under which resampling."""
    rows = [
        f"{print_name(str(r.method))}, {r.drawn} drawn: {r.difference:+.4f} [{r.lower:+.4f}, {r.upper:+.4f}]"
        for r in table.itertuples()
    ]
    return f"Difference in SRCC to the embedding's cosine with 95 % bootstrap intervals. {'; '.join(rows)}. {SOURCE}"


def fitted_dumbbells_caption(table: pd.DataFrame) -> str:
    """For `fitted_dumbbells`: the largest gap on each dataset."""
    rows = main_methods(table)
    gap = rows["plcc_fit5"] - rows["plcc"]
    largest = rows.assign(gap=gap).sort_values("gap", ascending=False).drop_duplicates("dataset")
    parts = [
        f"{r['name']} on {dataset_title(r['dataset'])} ({r['plcc']:.3f}, {r['plcc_fit5']:.3f})"
        for _, r in largest.iterrows()
    ]
    return (
        f"PLCC before and after a logistic with 5 parameters (Sheikh et al., 2006), two numbers that must not share a "
        f"column. The largest differences: {', '.join(parts)}. {_facts(rows)}"
    )


def robustness_dots_caption(table: pd.DataFrame) -> str:
    """For `robustness_dots`: who loses least and most in the worst of the transforms."""
    rows = robustness_rows(table)
    rows = rows.assign(change=rows[list(MOVES)].min(axis=1) - rows["srcc"]).sort_values("change")
    parts = []
    for dataset, own in rows.groupby("dataset"):
        most, least = own.iloc[0], own.iloc[-1]
        parts.append(
            f"on {dataset_title(str(dataset))} {least['name']} changes least ({least['change']:+.3f}) and "
            f"{most['name']} most ({most['change']:+.3f})"
        )
    return (
        f"SRCC when the distorted image is shifted or scaled by 1 % or rotated by 1° against its reference. In the worst "
        f"of the three, {'; '.join(parts)}. {_facts(rows)}"
    )


def _verdict(own: dict[str, FloatArray], name: str) -> str:
    lower, upper = np.ravel(interval(own[name][:, None]))
    holds = "with" if lower <= 0 <= upper else "without"
    return f"drawing {name} [{lower:+.4f}, {upper:+.4f}], {holds} zero"


def _facts(rows: pd.DataFrame) -> str:
    """n and label of each dataset, weights and source."""
    parts = []
    for dataset in datasets_of(rows):
        kind = DATASETS[dataset].label_kind if dataset in DATASETS else "labels"
        n = rows["n"][rows["dataset"] == dataset].iloc[0]
        parts.append(f"{dataset_title(dataset)} n = {n:,} ({'Elo' if kind == 'elo' else kind.upper()})")
    return f"{', '.join(parts)}; the authors' pretrained weights. {SOURCE}"
