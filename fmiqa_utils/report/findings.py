"""What each notebook found, in sentences: every number and every comparison in them is computed from the tables.

Agreement with people is always SRCC; intervals are 95 % bootstrap intervals over references. A run that is too small or too uniform
for a conclusion gets a sentence that says so. `scope` says what a run holds, `verdict` answers the main question.
"""

import numpy as np
import pandas as pd

from fmiqa_utils.datasets.transforms import TRANSFORMS, parse_transform
from fmiqa_utils.distances.table import DISTANCES, measure_name
from fmiqa_utils.extraction.choices import SMALL
from fmiqa_utils.figures.layers import block_rows
from fmiqa_utils.published.captions import published_finding
from fmiqa_utils.published.figures import dataset_title, print_name
from fmiqa_utils.published.results import published_table
from fmiqa_utils.report.scope import nothing_to_say, scored_pairs
from fmiqa_utils.scores.names import GROUP
from fmiqa_utils.scores.runs import Run
from fmiqa_utils.statistics.against_embedding import layer_choice
from fmiqa_utils.statistics.correlation import wide_scores
from fmiqa_utils.statistics.paired_tests import difference_table
from fmiqa_utils.statistics.wording import (
    count,
    distance_name,
    facts,
    few,
    form,
    highest,
    is_few,
    listed,
    lowest,
    same_series,
    series,
    span,
)

# ---- layers: notebook 02 ---------------------------------------------------------------------------------------------


def choices(run: Run, distance: str, variant: str) -> pd.DataFrame:
    """`against_embedding.layer_choice`; empty where the run is too uniform, or has one reference and so none to judge the choice on."""
    if nothing_to_say(run) or scored_pairs(run)["ref"].nunique() < 2:
        return pd.DataFrame()
    return layer_choice(run, distance, variant)


def best_layer(
    run: Run, table: pd.DataFrame, choice: pd.DataFrame, distance: str, variant: str = "published"
) -> str:
    """Notebook 02: the best block of a `correlation_table`, how it was chosen, and what is still better."""
    blocks = block_rows(table[(table["distance"] == distance) & (table["variant"] == variant)])
    blocks = blocks.dropna(subset=["srcc"]).sort_values("srcc", ascending=False)
    if blocks.empty:
        return nothing_to_say(run) or f"No block has a defined correlation by {distance_name(distance)}."
    pairs, best = scored_pairs(run), blocks.iloc[0]
    small = is_few(pairs)
    value = f"{best['srcc']:.3f}" if small else span(best["srcc"], best["srcc_lo"], best["srcc_hi"])
    head = f"By {form(best)}, block {best['feature']} of {series(best, run)} agrees best with people: SRCC {value}"
    within = "" if np.isnan(best["srcc_within"]) else f" (mean within references {best['srcc_within']:.3f})"
    sentences = [few(pairs), f"{head if small else f'**{head}**'}{within}."]
    sentences += [_beside(table, best), _chosen(choice, best, small), _others(blocks, run)]
    return f"{' '.join(s for s in sentences if s)} {facts(pairs, run)}."


def _beside(table: pd.DataFrame, best: pd.Series) -> str:
    """The embedding of the same series and the baselines, sorted into higher and lower than a block's value."""
    embedding = table[(table["feature"] == "embedding") & same_series(table, best)]
    others = pd.concat([embedding, table[table["feature"] == "image"]]).dropna(subset=["srcc"])
    is_image = others["feature"] == "image"
    names = others["distance"].astype(str).where(is_image, "embedding").map(distance_name)
    entries = (names + others["srcc"].map(" ({:.3f})".format)).to_numpy()
    above = (others["srcc"] > best["srcc"]).to_numpy()
    sides = [("higher", list(entries[above])), ("lower", list(entries[~above]))]
    text = "; ".join(f"{side}: {listed(who)}" for side, who in sides if who)
    return f"On the same pairs, {text}." if text else ""


def _chosen(choice: pd.DataFrame, best: pd.Series, small: bool) -> str:
    """That the block was chosen on the same images, and its lead where it is chosen on other references."""
    rows = choice[same_series(choice, best)] if len(choice) else choice
    if rows.empty or small:
        return "The block was chosen on these same images, so it looks better than it is."
    row = rows.iloc[0]
    lead = span(row["held_out_lead"], row["lower"], row["upper"], signed=True)
    return (
        f"The block was chosen on these same images: its lead over the embedding is {row['apparent_lead']:+.3f} here and "
        f"{lead} where the block is chosen on other references."
    )


def _others(blocks: pd.DataFrame, run: Run) -> str:
    """The best block of every other series."""
    firsts = blocks.drop_duplicates(GROUP).iloc[1:]
    parts = [f"{series(r, run)} block {r['feature']} ({r['srcc']:.3f})" for _, r in firsts.iterrows()]
    return f"Best of the other models: {listed(parts)}." if parts else ""


def curves(table: pd.DataFrame, run: Run, distance: str, variant: str = "published") -> str:
    """Below the layer curves: the first, last and best block of each curve, and how many blocks lie above the embedding."""
    blocks = block_rows(table[(table["distance"] == distance) & (table["variant"] == variant)])
    sentences = []
    for _, line in blocks.dropna(subset=["srcc"]).groupby(GROUP, observed=True, sort=False):
        line = line.sort_values("feature")
        first, last, best = line.iloc[0], line.iloc[-1], highest(line, "srcc")
        embedding = table[(table["feature"] == "embedding") & same_series(table, first)]["srcc"]
        above = (
            f"; {(line['srcc'] > embedding.iloc[0]).sum()} of {len(line)} blocks lie above the embedding"
            if len(embedding)
            else ""
        )
        sentences.append(
            f"{series(first, run)}: SRCC {first['srcc']:.3f} in the first block, {last['srcc']:.3f} in the last, highest in block "
            f"{best['feature']} ({best['srcc']:.3f}){above}."
        )
    return " ".join(sentences) or nothing_to_say(run)


# ---- distances: notebook 03 ------------------------------------------------------------------------------------------


def distances(run: Run, table: pd.DataFrame, forms: pd.DataFrame, n_resamples: int = 2000) -> str:
    """Notebook 03: best and worst distance over all layers, statistical against simple ones, corrected against published forms.

    table: `correlation_table` of joint values, embeddings and baselines; forms: `against_embedding.corrected_vs_published`.
    """
    joint = table[table["feature"] == "joint"].dropna(subset=["srcc"])
    joint = joint.sort_values(["srcc", "variant"], ascending=False)
    joint = joint.drop_duplicates([*GROUP, "distance", "srcc"])  # of equal forms the published one is kept
    if joint.empty:
        return nothing_to_say(run) or "No distance over all layers has a defined correlation."
    pairs, best, worst = scored_pairs(run), joint.iloc[0], joint.iloc[-1]
    small = is_few(pairs)
    value = f"{best['srcc']:.3f}" if small else span(best["srcc"], best["srcc_lo"], best["srcc_hi"])
    head = f"Over all layers, {form(best)} of {series(best, run)} agrees best with people: SRCC {value}"
    last = f"{form(worst)} of {series(worst, run)}" if len(joint) > 1 else ""
    rest = f"; {last} agrees least ({worst['srcc']:.3f})" if last else ""
    sentences = [few(pairs), f"{head if small else f'**{head}**'}{rest}."]
    sentences += [
        _beside(table, best),
        _statistical(run, joint, small, n_resamples),
        _corrected(forms, small),
    ]
    return f"{' '.join(s for s in sentences if s)} {facts(pairs, run)}."


def _statistical(run: Run, joint: pd.DataFrame, small: bool, n_resamples: int) -> str:
    """The best statistical distance of the best series against the best of the others, such as l2 and cosine."""
    rows = joint[same_series(joint, joint.iloc[0])]
    statistical = rows["distance"].map(lambda name: DISTANCES[name].statistical).astype(bool)
    ours, theirs = rows[statistical], rows[~statistical]
    if ours.empty or theirs.empty:
        return ""
    first, second = ours.iloc[0], theirs.iloc[0]
    others = [measure_name(name) for name in DISTANCES if name in set(theirs["distance"])]
    best = (
        f"the {'better' if len(others) == 2 else 'best'} of {listed(others)}"
        if len(others) > 1
        else "the other"
    )
    words = f"The best statistical distance, {form(first)}, and {best}, {form(second)}, differ by"
    if small:
        return f"{words} {first['srcc'] - second['srcc']:+.3f}."
    scores = run.scores[(run.scores["transform"] == "none") & (run.scores["feature"] == "joint")]
    wide = wide_scores(scores[same_series(scores, first)], run.pairs)
    wide.columns = list(
        zip(wide.columns.get_level_values("distance"), wide.columns.get_level_values("variant"), strict=True)
    )
    names = [(r["distance"], r["variant"]) for r in (first, second)]
    test = difference_table(
        wide[names], run.pairs["quality"], run.pairs["ref"], names[1], n_resamples=n_resamples
    ).iloc[0]
    sure = "more than chance" if test["lower"] > 0 or test["upper"] < 0 else "which may be chance"
    return f"{words} {span(test['difference'], test['lower'], test['upper'], signed=True)}, {sure}."


def _corrected(forms: pd.DataFrame, small: bool) -> str:
    """How many corrected forms are better, and worse, than the published ones."""
    if forms.empty or small:
        return ""
    better, worse = (int((forms["significant"] & (sign * forms["difference"] > 0)).sum()) for sign in (1, -1))
    return f"Of {count(len(forms), 'corrected form')}, {better} agree significantly better than the published form and {worse} worse."


def types(grid: pd.DataFrame) -> str:
    """Below the heat map of notebook 03: the easiest and the hardest distortion type; grid: types × measures, SRCC."""
    mean = grid.mean(axis=1).dropna().sort_values()
    if len(mean) < 2:
        return "The correlation is defined for fewer than two distortion types."
    return (
        f"Over the columns, measures agree best with people on {mean.index[-1]} (mean SRCC {mean.iloc[-1]:.2f}) and least on "
        f"{mean.index[0]} ({mean.iloc[0]:.2f})."
    )


# ---- robustness: notebook 05 -----------------------------------------------------------------------------------------


def moved(run: Run, table: pd.DataFrame) -> str:
    """Notebook 05: the transform that lowers a foundation model most, and what it does to the others. table: `robustness_table`."""
    known = table.dropna(subset=["difference"])
    foundation = known[known["backbone"] != "baseline"]
    if foundation.empty:
        return nothing_to_say(run) or "No correlation under a transform is defined."
    pairs = run.pairs[run.pairs["pair_id"].isin(_moved_ids(run))]
    worst, small = lowest(foundation, "difference"), is_few(pairs)
    change = (
        f"{worst['difference']:+.3f}"
        if small
        else span(worst["difference"], worst["lower"], worst["upper"], signed=True)
    )
    words = transform_words(worst["transform"])
    if worst["difference"] >= 0:
        head = f"No transform lowers the SRCC of a foundation model; the smallest change is {change} ({words}, {worst['series']})"
    else:
        sure = "" if small else ", significant" if worst["significant"] else ", not significant"
        head = (
            f"{words[0].upper()}{words[1:]} costs the foundation model most: SRCC of “{worst['series']}” goes from "
            f"{worst['unmoved']:.3f} to {worst['srcc']:.3f} ({change}{sure})"
        )
    same = known[(known["transform"] == worst["transform"]) & (known["series"] != worst["series"])]
    models = same[same["backbone"] != "baseline"].sort_values("difference", ascending=False)
    mildest = pd.concat([models.head(1), same[same["backbone"] == "baseline"]])
    parts = [f"{r['series']} {r['difference']:+.3f}" for _, r in mildest.iterrows()]
    least = (
        "; of the foundation models' other measures only the least changed is named"
        if len(models) > 1
        else ""
    )
    rest = f"Under the same transform: {'; '.join(parts)}{least}." if parts else ""
    sentences = [few(pairs), f"{head if small else f'**{head}**'}.", rest]
    return f"{' '.join(s for s in sentences if s)} {facts(pairs, run)}."


def _moved_ids(run: Run) -> set[str]:
    rows = run.scores[run.scores["value"].notna()]
    return set.intersection(*rows.groupby("transform", observed=True)["pair_id"].agg(set))


def transform_words(name: str) -> str:
    """ "tra-1" → "a shift by 1 %"."""
    kind, amount = parse_transform(name)
    return TRANSFORMS[kind].sentence.format(amount) if kind in TRANSFORMS else "no transform"


def changed(ratios: pd.DataFrame) -> str:
    """Below the boxes of notebook 05: the largest median ratio of moved to unmoved distance. ratios: `robustness.relative_change`."""
    known = ratios.dropna(subset=["ratio"])
    if known.empty:
        return "No pair has a distance both with and without a transform."
    median = known.groupby(["series", "transform"], observed=True)["ratio"].median().reset_index()
    row = highest(median, "ratio")
    return (
        f"The largest change: {transform_words(row['transform'])} multiplies the distance of the median pair by "
        f"{row['ratio']:.2g} ({row['series']})."
    )


def unmoved(published: pd.DataFrame) -> str:
    """Notebook 05 for a run without transforms: what the published results say. published: `results.moved_table`."""
    losses = published.assign(loss=published["tra-1"] - published["none"]).dropna(subset=["loss"])
    if losses.empty:
        return "This run has no transforms, and the published table has no shift by 1 % to report instead."
    row = lowest(losses, "loss")
    return (
        f"This run has no transforms. In the published results a shift by 1 % costs {print_name(row['method'])} on "
        f"{dataset_title(row['dataset'])} most: SRCC {row['none']:.3f} without and {row['tra-1']:.3f} with it."
    )


# ---- LoDa: notebook 07 -----------------------------------------------------------------------------------------------


def trained(run: Run, beside: pd.DataFrame, predictions: pd.DataFrame) -> str:
    """Notebook 07: LoDa on its test images, and the best full-reference value there. beside: `loda.chapter.beside_distances`."""
    tested = predictions["pair_id"][predictions["split"] == 0]
    pairs = run.pairs[run.pairs["pair_id"].isin(tested)]
    ours, theirs = (beside[beside["kind"] == kind].dropna(subset=["srcc"]) for kind in ("NR", "FR"))
    small = is_few(pairs)
    if ours.empty:
        return f"LoDa's predictions for the {len(pairs)} test images are all the same, so no correlation is defined."
    row = ours.iloc[0]
    value = f"{row['srcc']:.3f}" if small else span(row["srcc"], row["srcc_lo"], row["srcc_hi"])
    head = f"LoDa, which sees no reference, reaches SRCC {value} on the test images of split 0"
    best = (
        f"The best metric that sees the reference has {theirs.iloc[0]['srcc']:.3f} ({theirs.iloc[0]['method']})."
        if len(theirs)
        else ""
    )
    sentences = [few(pairs), f"{head if small else f'**{head}**'}.", best]
    return f"{' '.join(s for s in sentences if s)} {facts(pairs, run)}."


def learned(histories: dict[str, pd.DataFrame]) -> str:
    """Below the learning curves of notebook 07: validation SRCC of the first split at the start, at the end and at its best."""
    name, history = next(iter(histories.items()))
    known = history.dropna(subset=["val_srcc"])
    if known.empty:
        return f"The validation SRCC of {name} is not defined."
    best = highest(known, "val_srcc")
    return (
        f"{name[0].upper()}{name[1:]}: validation SRCC {known['val_srcc'].iloc[0]:.3f} after the first epoch and "
        f"{known['val_srcc'].iloc[-1]:.3f} after the last; epoch {int(best['epoch']) + 1} is the best ({best['val_srcc']:.3f})."
    )


# ---- the first screen of a report ------------------------------------------------------------------------------------


def what_is_real(run: Run) -> str:
    """Markdown for a run with untrained weights: the published results, and the command for real weights; "" for others."""
    if not run.tag:
        return ""
    untrained = next(m["backbone"] for m in run.manifests if m["weights"] == "untrained")
    name = "dino_vits16" if untrained == SMALL else untrained
    command = f"fmiqa report{_dataset_option(run)} --backbone {name} --weights"
    return (
        f"{published_finding(published_table())}\n\n**For results with real weights:** `{command} pretrained` downloads them; "
        f"without internet, `{command} FILE` reads a state-dict file."
    )


def _dataset_option(run: Run) -> str:
    if run.dataset == "demo":
        return ""
    if not run.dataset.startswith("csv:"):
        return f" --dataset {run.dataset}"
    direction = "lower" if run.manifests[0]["label_kind"] == "dmos" else "higher"
    return f" --dataset {run.dataset}.csv --direction {direction}"
