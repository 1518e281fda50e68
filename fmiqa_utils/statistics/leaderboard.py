"""A leaderboard over runs: datasets side by side, one row per backbone and distance, grouped by the label of its weights.

A dataset is identified by its contents (`dataset_identity`), not by its name. Two datasets of the same name are two columns with
different names.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from fmiqa_utils.console import BOLD
from fmiqa_utils.datasets.folder import first_few
from fmiqa_utils.datasets.registry import OWN_TABLE
from fmiqa_utils.errors import InputError, printable
from fmiqa_utils.files.csv_export import csv_text
from fmiqa_utils.files.storage import write_atomically
from fmiqa_utils.keys import digest
from fmiqa_utils.scores.names import GROUP
from fmiqa_utils.scores.runs import UNREADABLE, Run, load_run, short_name
from fmiqa_utils.scores.shards import digest_rows
from fmiqa_utils.statistics.against_embedding import layer_choice
from fmiqa_utils.statistics.correlation import correlation_table

STATISTICS = ["srcc", "srcc_lo", "srcc_hi", "plcc", "plcc_fit4", "krcc", "srcc_within"]
COLUMNS = [
    "dataset",
    "dataset_id",
    "runs",
    "weights",
    "backbone",
    "normalize",
    "precision",
    "features",
    "distance",
    "variant",
    "feature",
    "n",
    "n_refs",
    "n_failed",
]
KEYS = ["weights", "backbone", "normalize", "precision", "features", "distance", "variant"]
EQUAL = 6  # decimals to which two runs must agree to count as one
LEARNED = ("lpips", "dists")  # baselines with learned weights
MARKDOWN = str.maketrans(
    {c: f"\\{c}" for c in "\\`*|"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\x02": "**", "\x03": "**"}
)
CAPTION = (
    "SRCC with 95 % interval over references. Best in bold, per dataset and weights. "
    "The best block (#, from 0) was chosen on the same images; "
    "its lead over the embedding for references that had no part in the choice is in the CSV file."
)
T = TypeVar("T")


class _Held(NamedTuple):
    """Which dataset a run holds."""

    identity: str
    dataset: str
    source: str  # of its labels
    run: str


def leaderboard(runs: Iterable[Run], *, n_resamples: int = 1000) -> pd.DataFrame:
    """Every whole-model value, embedding, best block and baseline of `runs`, best first within dataset and weights.

    Columns: `COLUMNS` (dataset: a different name for each content; dataset_id: `dataset_identity`; runs: the runs with this result;
    features: all layers, best block, embedding or image; feature: the column of the score table), `STATISTICS`, and for best blocks
    apparent_lead and held_out_lead with lead_lo, lead_hi (`layer_choice`). Runs that agree to `EQUAL` decimals share a row; others have
    one row each. Raises InputError if there is no run.
    """
    return joined([rows_of(run, n_resamples=n_resamples) for run in runs])


def joined(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The leaderboard of several runs from the `rows_of` each run. Raises InputError if there is no table."""
    if not tables:
        raise InputError("there is no run to compare: fmiqa extract makes one.")
    table = pd.concat(tables, ignore_index=True)
    held = table[["dataset_id", "dataset", "label_source", "runs"]].drop_duplicates()
    names = _dataset_names([_Held(*row) for row in held.itertuples(index=False)])
    table = table.assign(dataset=table["dataset_id"].map(names)).drop(columns="label_source")
    table = _agreed(table)
    order = table.assign(untrained=table["weights"] == "untrained", top=-table["srcc"])
    order = order.sort_values(["dataset", "untrained", "weights", "top"], kind="stable")
    return table.loc[order.index].reset_index(drop=True)


def _agreed(table: pd.DataFrame) -> pd.DataFrame:
    """Equal rows of several runs become one row that names all of these runs.

    Every run repeats the baselines: of these rows, those with the most pairs count.
    """
    keys = ["dataset", *KEYS]
    most = table.groupby(keys)["n"].transform("max")
    table = table[(table["backbone"] != "baseline") | (table["n"] == most)]
    rounded = table.assign(srcc=table["srcc"].round(EQUAL), plcc=table["plcc"].round(EQUAL))
    same = [*keys, "n", "srcc", "plcc"]
    runs = rounded.groupby(same, dropna=False)["runs"].transform(
        lambda names: ", ".join(dict.fromkeys(names))
    )
    return table.assign(runs=runs)[~rounded.duplicated(same)]


def dataset_identity(run: Run) -> str:
    """A hash of a run's dataset, twelve hexadecimal digits: of its name, pairs, references and labels as quality.

    For a table of the user (csv:PATH) also of the paths of the images, since file names repeat. Not hashed: the order of the rows,
    distortions and levels, and the folder of a published dataset.
    """
    columns = ["pair_id", "ref", "quality"]
    if run.dataset.startswith(OWN_TABLE):
        columns += [c for c in ("ref_path", "dist_path") if c in run.pairs]
    rows = run.pairs[columns].sort_values("pair_id", kind="stable")
    return digest(run.dataset, digest_rows(rows))[:12]


def _dataset_names(held: Sequence[_Held]) -> dict[str, str]:
    """{identity: unique name}: the dataset's name; where datasets share it, also the source of the labels, or else the runs."""
    names: dict[str, str] = {}
    for dataset in dict.fromkeys(h.dataset for h in held):
        runs: dict[str, list[str]] = {}
        for h in held:
            if h.dataset == dataset:
                runs.setdefault(h.identity, []).append(h.run)
        sources = {h.identity: h.source for h in held if h.dataset == dataset}
        by_source = len(set(sources.values())) == len(sources)
        for identity, run_names in runs.items():
            word = (
                sources[identity] if by_source else f"run{'s' * (len(run_names) > 1)} {first_few(run_names)}"
            )
            name = dataset if len(runs) == 1 else f"{dataset} ({word})"
            names[identity] = name if name not in names.values() else f"{name} #{identity}"
    return names


def read_each(names: Sequence[str], use: Callable[[Run], T]) -> tuple[list[T], list[str]]:
    """(`use` of every run that can be read, a sentence for every run that cannot): one damaged run does not stop an overview."""
    results: list[T] = []
    left_out: list[str] = []
    for name in names:
        try:
            results.append(use(load_run(name)))
        except UNREADABLE as error:
            reason = (
                str(error)
                if isinstance(error, InputError | OSError)
                else f"its files are damaged ({error!r})."
            )
            left_out.append(printable(f"The run {name} is left out: {reason}"))
    return results, left_out


def rows_of(run: Run, *, n_resamples: int = 1000) -> pd.DataFrame:
    """The leaderboard's rows of one run, for `joined`: its columns and label_source; `dataset` and `runs` hold the run's own names."""
    sources = run.pairs["label_source"].iloc[0] if "label_source" in run.pairs else ""
    table = _rows(run, n_resamples).assign(
        dataset=printable(run.dataset),
        dataset_id=dataset_identity(run),
        label_source=printable(str(sources)),
        runs=printable(run.name),
    )
    precisions = {tuple(m[k] for k in GROUP): m["precision"] for m in run.manifests}
    groups = table[GROUP].itertuples(index=False, name=None)
    table["precision"] = [precisions.get(tuple(map(str, group)), "none") for group in groups]
    for key in KEYS:
        table[key] = table[key].astype(str).map(printable)
    baseline, learned = table["features"] == "image", table["distance"].isin(LEARNED)
    table.loc[baseline & ~learned, "weights"] = "none (classic metric)"
    table.loc[baseline & learned, "weights"] = "learned metric"
    return table


def _rows(run: Run, n_resamples: int) -> pd.DataFrame:
    scores = run.scores[run.scores["transform"] == "none"]
    table = correlation_table(scores, run.pairs, n_resamples=n_resamples)
    table = table.assign(is_block=[isinstance(f, int) for f in table["feature"]])
    not_blocks = table[~table["is_block"]]
    names = {"joint": "all layers", "embedding": "embedding", "image": "image"}
    not_blocks = not_blocks.assign(features=not_blocks["feature"].map(names))
    blocks = table[table["is_block"]].dropna(subset="srcc")  # undefined where all labels are equal
    chosen = blocks.groupby([*GROUP, "distance", "variant"], observed=True)["srcc"].idxmax()
    best = table.loc[chosen].assign(features="best block")
    best = best.merge(_leads(run, best), on=[*GROUP, "distance", "variant"], how="left")
    leads = ["apparent_lead", "held_out_lead", "lead_lo", "lead_hi"]
    both = pd.concat([not_blocks.reindex(columns=[*not_blocks.columns, *leads]), best], ignore_index=True)
    return both.reindex(columns=[*COLUMNS, *STATISTICS, *leads])


def _leads(run: Run, best: pd.DataFrame) -> pd.DataFrame:
    """`layer_choice` of every distance and form that has a best block."""
    forms = sorted(set(zip(best["distance"].astype(str), best["variant"].astype(str), strict=True)))
    if run.pairs["ref"].nunique() < 2:  # no reference is left to judge the choice on
        forms = []
    tables = [layer_choice(run, d, v).assign(distance=d, variant=v) for d, v in forms]
    columns = [
        *GROUP,
        "distance",
        "variant",
        "apparent_lead",
        "held_out_lead",
        "lead_lo",
        "lead_hi",
    ]
    if not tables:
        return pd.DataFrame(columns=columns)
    return pd.concat(tables).rename(columns={"lower": "lead_lo", "upper": "lead_hi"})[columns]


def side_by_side(table: pd.DataFrame, bold: str = "**{}**") -> pd.DataFrame:
    """The leaderboard with a column of "SRCC [lo, hi]" per dataset, the best per dataset and weights put into `bold`.

    The column precision is there if precisions differ, the column runs if two runs give different results for the same row.
    """
    best = table.groupby(["dataset", "weights"])["srcc"].transform("max")
    cells = [
        _cell(row, bold if row["srcc"] == top else "{}")
        for (_, row), top in zip(table.iterrows(), best, strict=True)
    ]
    # Ranks count only rows that are compared with each other.
    rank = table.groupby(["dataset", "weights"])["srcc"].rank(ascending=False)
    keys = [*KEYS, "runs"]
    table = table.assign(rank=rank, cell=cells, runs=_where_they_differ(table))
    wide = table.assign(mean=-table.groupby(keys)["rank"].transform("mean"))
    wide = wide.pivot(index=[*keys, "mean"], columns="dataset", values="cell").fillna("–").reset_index()
    wide = wide.assign(untrained=wide["weights"] == "untrained", top=-wide["mean"])
    wide = wide.sort_values(["untrained", "weights", "top"]).drop(columns=["untrained", "top", "mean"])
    shown = wide.assign(backbone=wide["backbone"].map(short_name)).rename_axis(columns=None)
    needless = [] if (wide["runs"] != "").any() else ["runs"]
    if wide.loc[wide["backbone"] != "baseline", "precision"].nunique() < 2:
        needless.append("precision")
    return shown.drop(columns=needless).reset_index(drop=True)


def _where_they_differ(table: pd.DataFrame) -> pd.Series:
    """The runs of every row that shares its dataset and keys with another, made unique; "" for all other rows."""
    keys = ["dataset", *KEYS]
    runs = table["runs"].where(table.duplicated(keys, keep=False), "")
    again = table.assign(runs=runs).groupby([*keys, "runs"]).cumcount()
    return runs + np.where(again > 0, " (" + (again + 1).astype(str) + ")", "")


def _cell(row: pd.Series, bold: str) -> str:
    number = bold.format(f"{row['srcc']:.3f}")
    known = row["srcc_lo"] == row["srcc_lo"]  # NaN: one reference has no interval
    interval = f" [{row['srcc_lo']:.3f}, {row['srcc_hi']:.3f}]" if known else ""
    block = f" #{row['feature']}" if row["features"] == "best block" else ""
    return number + interval + block


def to_markdown(table: pd.DataFrame) -> str:
    """The leaderboard as a Markdown table; markup and HTML in names are escaped."""
    wide = side_by_side(table, bold=BOLD)
    lines = [
        [_markdown(c) for c in line] for line in [list(wide.columns), *wide.astype(str).to_numpy().tolist()]
    ]
    lines.insert(1, ["---"] * wide.shape[1])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{CAPTION}\n"


def _markdown(text: str) -> str:
    return text.translate(MARKDOWN).replace("](", "]\\(")


def to_latex(table: pd.DataFrame) -> str:
    """The leaderboard as a LaTeX table (package booktabs), a rule between labels of weights; commands in names are escaped."""
    wide = side_by_side(table, bold=BOLD)
    styled = wide.style.hide(axis="index").format(escape="latex").format_index(escape="latex", axis="columns")
    lines = styled.to_latex(hrules=True, column_format="l" * wide.shape[1]).splitlines()
    # LaTeX would read "[" or "*" at the start of a row as an option of the \\ before it.
    lines = [re.sub(r"^([\[*])", r"{\1}", line) for line in lines]
    first = lines.index(r"\midrule") + 1
    weights = wide["weights"].to_list()
    for row in reversed(range(1, len(weights))):
        if weights[row] != weights[row - 1]:
            lines.insert(first + row, r"\midrule")
    text = "\n".join([f"% {CAPTION}", *lines, ""])
    return text.translate({ord("\x02"): r"\textbf{", ord("\x03"): "}"})


def save_leaderboard(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Write leaderboard.csv (everything), .md and .tex (side by side) into `folder`; returns their paths."""
    texts = {"csv": csv_text(table), "md": to_markdown(table), "tex": to_latex(table)}
    return [write_atomically(folder / f"leaderboard.{kind}", text.encode()) for kind, text in texts.items()]
