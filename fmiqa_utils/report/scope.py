"""What a run holds, in sentences: what was scored, what failed and why, what looks suspicious, and what cannot be computed."""

import re
from collections import Counter

import pandas as pd

from fmiqa_utils.distances.baselines import PSNR_OF_EQUAL
from fmiqa_utils.scores.runs import Run
from fmiqa_utils.statistics.against_embedding import strongest_block
from fmiqa_utils.statistics.wording import count, distance_name, listed, series


def scored_pairs(run: Run) -> pd.DataFrame:
    """The pairs of `run` that have a value without a transform."""
    rows = run.scores[(run.scores["transform"] == "none") & (run.scores["backbone"] != "baseline")]
    return run.pairs[run.pairs["pair_id"].isin(rows["pair_id"][rows["value"].notna()])]


def nothing_to_say(run: Run) -> str:
    """Why no correlation of `run` is defined, in a sentence; "" where there is one."""
    pairs = scored_pairs(run)
    if pairs.empty:
        return f"No pair could be scored, so nothing can be compared with people. {_failures(run)}".strip()
    if len(pairs) == 1:
        return "Only one pair was scored, and a correlation needs at least two."
    if pairs["quality"].nunique() == 1:
        return f"All {len(pairs)} labels are the same, so no correlation with them is defined."
    return ""


def explored(run: Run) -> str:
    """Notebook 00: what the run holds, and in which block the median pair differs most."""
    size = f"{count(len(run.pairs), 'pair')} of {count(run.pairs['ref'].nunique(), 'reference')}"
    tag = f" ({run.tag})" if run.tag else ""
    text = f"Run {run.name} holds {size} from {run.dataset}{tag}."
    if scored_pairs(run).empty:
        return f"{text} No pair could be scored. {_failures(run)}".strip()
    distance, block = strongest_block(run)
    return f"{text} The {distance_name(distance)} distance of the median pair is largest in block {block}."


def extraction(run: Run) -> str:
    """Notebook 01: what was scored, what failed and why, and what looks suspicious."""
    settings = run.manifests[0]["settings"]
    models = listed([series(pd.Series(m), run) for m in run.manifests])
    forms = " in both forms" if len(settings["variants"]) > 1 else f" in the {settings['variants'][0]} form"
    distances = listed([distance_name(d) for d in settings["distances"]]) + forms
    transforms = [t for t in run.scores["transform"].unique() if t != "none"]
    moved = f"; {count(len(transforms), 'transform')} of the distorted image" if transforms else ""
    metrics = listed([distance_name(b) for b in settings["baselines"]])
    head = f"{len(scored_pairs(run)):,} of {count(len(run.pairs), 'pair')} of {run.dataset} were scored with {models}"
    return (
        f"**{head}**: {distances} in every block and over all layers; the embedding; {metrics}{moved}. "
        f"{_failures(run) or 'No pair failed.'} {_suspicious(run)}"
    )


def _failures(run: Run) -> str:
    """How many pairs failed, and the most frequent reason; "" for none."""
    if run.failures.empty:
        return ""
    places = run.pairs.set_index("pair_id")[["dist_path", "ref_path"]]
    rows = run.failures.drop_duplicates(["pair_id", "reason"])
    reasons = [_without_paths(r["reason"], *places.loc[r["pair_id"]]) for _, r in rows.iterrows()]
    kinds = [
        re.sub(r"\d+", "#", reason) for reason in reasons
    ]  # reasons that differ in a number only count as one
    common, times = Counter(kinds).most_common(1)[0]
    label = f"Most frequent reason ({times} of {len(reasons)})" if times < len(reasons) else "Reason"
    failed = count(run.failures["pair_id"].nunique(), "pair")
    return f"**{failed} failed.** {label}: {reasons[kinds.index(common)].rstrip('.')}."


def _without_paths(reason: str, dist: str, ref: str) -> str:
    """A reason in words that are the same for every file."""
    return reason.replace(dist, "the distorted image").replace(ref, "the reference")


def _suspicious(run: Run) -> str:
    """What to look at before trusting the numbers."""
    rows = run.scores[run.scores["transform"] == "none"]
    equal = set(rows["pair_id"][(rows["distance"] == "psnr") & (rows["value"] >= PSNR_OF_EQUAL)])
    zero = rows[(rows["backbone"] != "baseline") & (rows["value"] == 0) & ~rows["pair_id"].isin(equal)]
    remarks = []
    if equal:
        remarks.append(
            f"{count(len(equal), 'pair')} in which the distorted image equals its reference exactly"
        )
    if len(zero):
        most = distance_name(zero["distance"].astype(str).mode()[0])
        n = count(zero["pair_id"].nunique(), "pair")
        remarks.append(f"{n} with a distance of exactly 0 although the images differ (most often {most})")
    treatment = run.manifests[0]["settings"]["small_images"]
    small = _small_pairs(run) if treatment != "error" else 0
    if small:
        remarks.append(f"{count(small, 'pair')} with images under 224 px, which were enlarged ({treatment})")
    if run.pairs["quality"].nunique() == 1 and len(run.pairs) > 1:
        remarks.append("labels that are all the same")
    return f"Look at these first: {'; '.join(remarks)}." if remarks else "Nothing looks suspicious."


def _small_pairs(run: Run) -> int:
    """Pairs of readable images with a side under the window."""
    from fmiqa_utils.backbones.catalogue import WINDOW
    from fmiqa_utils.datasets.check import glance

    return len(set(glance(run.pairs, WINDOW)) - set(glance(run.pairs)))
