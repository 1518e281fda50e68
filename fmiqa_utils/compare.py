"""A leaderboard over runs: datasets side by side, one row per backbone and distance, grouped by the label of its weights."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from fmiqa_utils.contrasts import GROUP, layer_choice
from fmiqa_utils.correlation import correlation_table
from fmiqa_utils.errors import InputError
from fmiqa_utils.runs import Run, short_name
from fmiqa_utils.storage import write_atomically

STATISTICS = ["srcc", "srcc_lo", "srcc_hi", "plcc", "plcc_fit4", "krcc", "srcc_within"]
COLUMNS = [
    "dataset",
    "weights",
    "backbone",
    "normalize",
    "features",
    "distance",
    "variant",
    "feature",
    "n",
    "n_refs",
    "n_failed",
]
KEYS = ["weights", "backbone", "normalize", "features", "distance", "variant"]
LEARNED = ("lpips", "dists")  # baselines with weights of their own
LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)
CAPTION = (
    "SRCC with 95 % interval over references. Best in bold, per dataset and weights. "
    "The best block (#, from 0) was chosen on the same images; "
    "its lead over the embedding for references that had no part in the choice is in the CSV file."
)


def leaderboard(runs: Iterable[Run], *, n_resamples: int = 1000) -> pd.DataFrame:
    """Every whole-model value, embedding, best block and baseline of `runs`, best first within dataset and weights.

    Columns: `COLUMNS` (features: all layers, best block, embedding or image; feature: the column of the score table), `STATISTICS`, and
    for best blocks apparent_lead and held_out_lead with lead_lo, lead_hi (`contrasts.layer_choice`). Raises InputError for no run, and
    where two runs hold the same column of the same dataset.
    """
    tables = [_rows(run, n_resamples) for run in runs]
    if not tables:
        raise InputError("there is no run to compare: fmiqa extract makes one.")
    table = pd.concat(tables, ignore_index=True)
    baseline = (
        table["backbone"] == "baseline"
    )  # beside every backbone; where one lost pairs, the fullest counts
    fullest = (
        table[baseline].sort_values("n", ascending=False, kind="stable").drop_duplicates(["dataset", *KEYS])
    )
    table = pd.concat([table[~baseline].drop_duplicates(["dataset", *KEYS, "srcc"]), fullest])
    twice = table[table.duplicated(["dataset", *KEYS])]
    if len(twice):
        first = twice.iloc[0]
        raise InputError(
            f"two runs hold {first['backbone']} ({first['weights']}, normalize={first['normalize']}) on {first['dataset']} with different "
            f"results: compare one of them."
        )
    order = table.assign(untrained=table["weights"] == "untrained", top=-table["srcc"])
    order = order.sort_values(["dataset", "untrained", "weights", "top"], kind="stable")
    return table.loc[order.index].reset_index(drop=True)


def _rows(run: Run, n_resamples: int) -> pd.DataFrame:
    scores = run.scores[run.scores["transform"] == "none"]
    table = correlation_table(scores, run.pairs, n_resamples=n_resamples)
    table = table.assign(dataset=run.dataset, is_block=[isinstance(f, int) for f in table["feature"]])
    whole = table[~table["is_block"]]
    names = {"joint": "all layers", "embedding": "embedding", "image": "image"}
    whole = whole.assign(features=whole["feature"].map(names))
    learned = whole["distance"].isin(LEARNED)
    whole.loc[(whole["features"] == "image") & ~learned, "weights"] = "none (classic metric)"
    whole.loc[(whole["features"] == "image") & learned, "weights"] = "learned metric"
    blocks = table[table["is_block"]].groupby(KEYS[:3] + KEYS[4:], observed=True)["srcc"].idxmax()
    best = table.loc[blocks.dropna()].assign(features="best block")
    best = best.merge(_leads(run, best), on=[*GROUP, "distance", "variant"], how="left")
    leads = ["apparent_lead", "held_out_lead", "lead_lo", "lead_hi"]
    both = pd.concat([whole.reindex(columns=[*whole.columns, *leads]), best], ignore_index=True)
    return both[[*COLUMNS, *STATISTICS, *leads]]


def _leads(run: Run, best: pd.DataFrame) -> pd.DataFrame:
    """`layer_choice` of every distance and form that has a best block."""
    forms = sorted(set(zip(best["distance"].astype(str), best["variant"].astype(str), strict=True)))
    if run.pairs["ref"].nunique() < 2:  # nothing is left to judge a choice on
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
    """The leaderboard with a column of "SRCC [lo, hi]" per dataset, the best per dataset and weights put into `bold`."""
    best = table.groupby(["dataset", "weights"])["srcc"].transform("max")
    cells = [
        _cell(row, bold if row["srcc"] == top else "{}")
        for (_, row), top in zip(table.iterrows(), best, strict=True)
    ]
    place = table.groupby(["dataset", "weights"])["srcc"].rank(
        ascending=False
    )  # within what is compared at all
    table = table.assign(place=place)
    wide = table.assign(cell=cells, mean=-table.groupby(KEYS)["place"].transform("mean"))
    wide = wide.pivot(index=[*KEYS, "mean"], columns="dataset", values="cell").fillna("–").reset_index()
    wide = wide.assign(untrained=wide["weights"] == "untrained", top=-wide["mean"])
    wide = wide.sort_values(["untrained", "weights", "top"]).drop(columns=["untrained", "top", "mean"])
    shown = wide.assign(backbone=wide["backbone"].map(short_name))
    return shown.rename_axis(columns=None).reset_index(drop=True)


def _cell(row: pd.Series, bold: str) -> str:
    number = bold.format(f"{row['srcc']:.3f}")
    known = row["srcc_lo"] == row["srcc_lo"]  # NaN: one reference has no interval
    interval = f" [{row['srcc_lo']:.3f}, {row['srcc_hi']:.3f}]" if known else ""
    block = f" #{row['feature']}" if row["features"] == "best block" else ""
    return number + interval + block


def to_markdown(table: pd.DataFrame) -> str:
    """The leaderboard as a Markdown table."""
    wide = side_by_side(table)
    lines = [list(wide.columns), ["---"] * wide.shape[1], *wide.astype(str).to_numpy().tolist()]
    return (
        "\n".join("| " + " | ".join(v.replace("|", "\\|") for v in line) + " |" for line in lines)
        + f"\n\n{CAPTION}\n"
    )


def to_latex(table: pd.DataFrame) -> str:
    """The leaderboard as a LaTeX table (package booktabs), a rule between labels of weights."""
    wide = side_by_side(table, bold="<<{}>>")
    lines, weights = [], wide["weights"].iloc[0]
    for row in wide.astype(str).to_numpy().tolist():
        if row[0] != weights:
            lines.append(r"\midrule")
            weights = row[0]
        lines.append(" & ".join(_escape(v) for v in row) + r" \\")
    head = " & ".join(_escape(str(c)) for c in wide.columns)
    body = "\n".join(lines)
    columns = "l" * wide.shape[1]
    return f"% {CAPTION}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n{head} \\\\\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}\n"


def _escape(text: str) -> str:
    return text.translate(LATEX).replace("<<", r"\textbf{").replace(">>", "}").replace("–", "--")


def save_leaderboard(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Write leaderboard.csv (everything), .md and .tex (side by side) into `folder`; returns their paths."""
    texts = {"csv": table.to_csv(index=False), "md": to_markdown(table), "tex": to_latex(table)}
    return [write_atomically(folder / f"leaderboard.{kind}", text.encode()) for kind, text in texts.items()]
