"""Captions for the figures of the published results; every number comes from the same table as the figure."""

import numpy as np
import pandas as pd

from fmiqa_utils.datasets.registry import DATASETS
from fmiqa_utils.published.figures import (
    CLIMB,
    SHOWN_TRANSFORMS,
    dataset_title,
    datasets_of,
    main_methods,
    print_name,
    robustness_rows,
    within_ranks,
)
from fmiqa_utils.statistics.bootstrap import interval
from fmiqa_utils.statistics.coefficients import FloatArray, srcc
from fmiqa_utils.statistics.wording import highest

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
        f"{models.sum()} of {len(models)} models on {dataset_title(str(d))}"
        for d, models in ahead.groupby(level=0)
    ]
    return (
        f"SRCC with human judgements; bars across a row are other distances. With the cosine distance, intermediate "
        f"features agree better than the embedding for {', '.join(counts)}. {left_out(table, rows)} {_facts(rows)}"
    )


def rank_slopes_caption(table: pd.DataFrame, dataset: str = "pipal") -> str:
    """For `rank_slopes`: who leads either ranking, how alike the two are, and what the figure leaves out."""
    ranks = within_ranks(table, dataset)
    pooled, within = ranks.iloc[0], ranks.sort_values("rank_within").iloc[0]
    alike = srcc(ranks[["srcc"]], ranks["srcc_within"])[0]
    shown = main_methods(table[table["dataset"] == dataset])
    shown = shown[shown["kind"] != "embedding"]
    return (
        f"Ranking of {len(ranks)} methods on {dataset_title(dataset)} by SRCC over all images (left) and by the mean SRCC within "
        f"each of {ranks['n_refs'].iloc[0]} references (right); a thick line is a change of {CLIMB} ranks or more. Each foundation model "
        f"is shown with the distance that is best for that ranking. Among these methods {pooled['name']} is first over all images "
        f"({pooled['srcc']:.3f}) and its model number {pooled['rank_within']} within references ({pooled['name_within']}, "
        f"{pooled['srcc_within']:.3f}); {within['name_within']} is first within references ({within['srcc_within']:.3f}), number "
        f"{within['rank_pooled']} over all images ({within['srcc']:.3f}). Spearman correlation of the two rankings: "
        f"{alike:.2f}. {left_out(table, shown, 'srcc_within')} {_facts(ranks)}"
    )


def left_out(table: pd.DataFrame, rows: pd.DataFrame, statistic: str = "srcc") -> str:
    """Which methods of `table` are not in `rows` (what a figure chooses from), and whether one of them would be first."""
    plain = table[(table["transform"] == "none") & table["dataset"].isin(rows["dataset"])]
    plain = plain.assign(name=[print_name(m) for m in plain["method"]])
    absent = plain[~plain["name"].isin(rows["name"])]
    names = _short_list(absent, rows)
    if not names:
        return ""
    ahead = []
    for dataset in datasets_of(rows):
        shown, others = (t[t["dataset"] == dataset].dropna(subset=[statistic]) for t in (rows, absent))
        if len(others) and others[statistic].max() > shown[statistic].max():
            top = highest(others, statistic)
            ahead.append(f"{top['name']} on {dataset_title(dataset)} ({top[statistic]:.3f})")
    where = " within references" if statistic == "srcc_within" else ""
    lead = f" Of these, {' and '.join(ahead)} would be first{where}." if ahead else ""
    return f"Not shown: {'; '.join(names)}.{lead}"


def _short_list(absent: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """Names of methods that are not shown; methods that belong together are named once, as a group."""
    deep = absent["name"].str.startswith("deep_")
    embeddings = absent["kind"] == "embedding"
    unknown = ~absent["model"].isin(rows["model"])
    models = set(absent["model"][unknown & ~deep])
    single = set(absent["name"][~unknown & ~embeddings])
    names = sorted(models | single, key=str.lower)
    if not (rows["kind"] == "embedding").any() and embeddings.any():
        names.insert(0, "embeddings")
    return [*names, f"{absent['name'][deep].nunique()} deep_* metrics"] if deep.any() else names


def published_finding(table: pd.DataFrame, dataset: str = "pipal") -> str:
    """The notebook's finding: which published method leads on each dataset, and on `dataset` also within references."""
    plain = table[table["transform"] == "none"]
    methods = plain[plain["dataset"] == dataset]
    pooled, within = highest(methods, "srcc"), highest(methods, "srcc_within")
    models = methods[methods["kind"] != "baseline"]
    model = highest(models, "srcc_within")
    rank = int((methods["srcc_within"] > model["srcc_within"]).sum()) + 1
    text = (
        f"Published scores of all {len(methods)} methods on {dataset_title(dataset)} ({methods['n'].iloc[0]:,} images of "
        f"{methods['n_refs'].iloc[0]} references): **over all images {print_name(pooled['method'])} agrees best with people "
        f"(SRCC {pooled['srcc']:.3f}), within references {print_name(within['method'])} ({within['srcc_within']:.3f})**."
    )
    if within["kind"] == "baseline":
        text += (
            f" The best foundation model within references, {print_name(model['method'])}, is number {rank} "
            f"({model['srcc_within']:.3f})."
        )
    others = [_leader(plain[plain["dataset"] == d], d) for d in datasets_of(plain) if d != dataset]
    return f"{' '.join([text, *others])} {_ahead_of_embedding(plain)} The weights are the authors' pretrained ones."


def _leader(methods: pd.DataFrame, dataset: str) -> str:
    """ "On LIVE R2 … is first (0.968); the best other metric is … (0.965).": the best of each kind."""
    first = highest(methods, "srcc")
    other = methods[(methods["kind"] == "baseline") != (first["kind"] == "baseline")]
    text = f"On {dataset_title(dataset)} {print_name(first['method'])} is first ({first['srcc']:.3f})"
    if other.empty:
        return f"{text}."
    second, kind = (
        highest(other, "srcc"),
        "other metric" if first["kind"] != "baseline" else "foundation model",
    )
    return f"{text}; the best {kind} is {print_name(second['method'])} ({second['srcc']:.3f})."


def _ahead_of_embedding(plain: pd.DataFrame) -> str:
    """In how many cases intermediate features agree better than the embedding of the same model."""
    cosine = plain[plain["distance"] == "cos"]
    wide = cosine.pivot_table(index=["dataset", "model"], columns="kind", values="srcc")
    wide = wide.reindex(columns=["intermediate", "embedding"]).dropna()
    ahead = int((wide["intermediate"] > wide["embedding"]).sum())
    return f"By cosine, intermediate features agree better than the embedding in {ahead} of {len(wide)} cases (models × datasets)."


def resampling_difference_caption(
    samples: dict[str, dict[str, FloatArray]], control: str = "embed_dinov1_cos", dataset: str = "tid2013"
) -> str:
    """For `resampling_difference`: each interval, and whether it contains zero."""
    drawn = len(next(iter(samples.values()))["images"])
    findings = [
        f"{print_name(method)}: {resamples['all'][0]:+.4f}, {_verdict(resamples, 'images')}, {_verdict(resamples, 'references')}."
        for method, resamples in samples.items()
    ]
    return (
        f"Difference in SRCC from {print_name(control)} on {dataset_title(dataset)} in {drawn:,} bootstrap resamples; "
        f"bars are 95 % intervals. {' '.join(findings)} Images of one reference are not independent, so an interval "
        f"from resampled images is too narrow for a claim about new references. {SOURCE}"
    )


def resampling_intervals_caption(table: pd.DataFrame) -> str:
    """For an interval plot of `resampling_intervals`: every difference and its interval under both resamplings."""
    rows = [
        f"{print_name(str(r.method))}, {r.drawn} resampled: {r.difference:+.4f} [{r.lower:+.4f}, {r.upper:+.4f}]"
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
        f"PLCC before and after fitting a logistic with 5 parameters (Sheikh et al., 2006). The fit changes the number, so "
        f"compare raw with raw and fitted with fitted. The largest differences: {', '.join(parts)}. {left_out(table, rows)} "
        f"{_facts(rows)}"
    )


def robustness_dots_caption(table: pd.DataFrame) -> str:
    """For `robustness_dots`: which methods lose least and most under their worst transform."""
    rows = robustness_rows(table)
    rows = rows.assign(change=rows[list(SHOWN_TRANSFORMS)].min(axis=1) - rows["srcc"]).sort_values("change")
    shown = main_methods(table)
    shown = shown[shown["dataset"].isin(rows["dataset"])]
    parts = []
    for dataset, changes in rows.groupby("dataset"):
        most, least = changes.iloc[0], changes.iloc[-1]
        parts.append(
            f"on {dataset_title(str(dataset))} {least['name']} changes least ({least['change']:+.3f}) and "
            f"{most['name']} most ({most['change']:+.3f})"
        )
    return (
        f"SRCC when the distorted image is shifted or scaled by 1 % or rotated by 1° against its reference. In the worst "
        f"of the three, {'; '.join(parts)}. Foundation models by cosine. {left_out(table, shown)} {_facts(rows)}"
    )


def _verdict(resamples: dict[str, FloatArray], name: str) -> str:
    lower, upper = np.ravel(interval(resamples[name][:, None]))
    holds = "with" if lower <= 0 <= upper else "without"
    return f"resampling {name} [{lower:+.4f}, {upper:+.4f}], {holds} zero"


def _facts(rows: pd.DataFrame) -> str:
    """n and label of each dataset, weights and source."""
    parts = []
    for dataset in datasets_of(rows):
        kind = DATASETS[dataset].label_kind if dataset in DATASETS else "labels"
        n = rows["n"][rows["dataset"] == dataset].iloc[0]
        parts.append(f"{dataset_title(dataset)} n = {n:,} ({'Elo' if kind == 'elo' else kind.upper()})")
    return f"{', '.join(parts)}; the authors' pretrained weights. {SOURCE}"
