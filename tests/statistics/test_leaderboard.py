"""The leaderboard over runs: what is best where, who is grouped with whom, and what goes into each file."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmiqa_utils.errors import InputError
from fmiqa_utils.files.csv_export import csv_text
from fmiqa_utils.scores.runs import Run
from fmiqa_utils.scores.shards import SCORE_COLUMNS
from fmiqa_utils.statistics.leaderboard import (
    dataset_identity,
    leaderboard,
    read_each,
    save_leaderboard,
    side_by_side,
    to_latex,
)

N_REFS, PER_REF = 6, 5
QUALITY = np.tile(np.arange(PER_REF, 0, -1.0), N_REFS)


def a_run(
    dataset: str,
    weights: str,
    seed: int,
    backbone: str = "dino_vits16",
    psnr_seed: int = 0,
    precision: str = "fp32",
    name: str = "",
) -> Run:
    """Block 1 is perfect, block 0 and the rest are noisy; PSNR depends on `psnr_seed` alone."""
    rng = np.random.default_rng(seed)
    columns = {
        (backbone, weights, "none", 0, "cos"): -QUALITY + 3 * rng.normal(size=QUALITY.size),
        (backbone, weights, "none", 1, "cos"): -QUALITY,
        (backbone, weights, "none", "joint", "cos"): -QUALITY + rng.normal(size=QUALITY.size),
        (backbone, weights, "none", "embedding", "cos"): -QUALITY + 5 * rng.normal(size=QUALITY.size),
        ("baseline", "none", "none", "image", "psnr"): QUALITY
        + 2 * np.random.default_rng(psnr_seed).normal(size=QUALITY.size),
    }
    rows = [
        (dataset, f"p{i}", b, w, n, "none", feature, distance, "published", value)
        for (b, w, n, feature, distance), values in columns.items()
        for i, value in enumerate(values)
    ]
    pairs = pd.DataFrame(
        {
            "dataset": dataset,
            "pair_id": [f"p{i}" for i in range(QUALITY.size)],
            "ref": np.repeat(range(N_REFS), PER_REF).astype(str),
            "quality": QUALITY,
        }
    )
    how = {"normalize": "none", "precision": precision}
    manifest = {"dataset": dataset, "backbone": backbone, "weights": weights, **how}
    return Run(name or dataset, pd.DataFrame(rows, columns=SCORE_COLUMNS), pairs, pd.DataFrame(), [manifest])


def boards() -> pd.DataFrame:
    runs = [
        a_run("live", "pretrained", 0),
        a_run("live", "untrained", 1),
        a_run("tid2013", "pretrained", 2),
        a_run("tid2013", "pretrained", 3, backbone="dino_vitb16"),
    ]
    return leaderboard(runs, n_resamples=100)


def test_the_best_block_is_found_and_its_lead_is_judged_elsewhere() -> None:
    table = boards()
    best = table[(table["features"] == "best block") & (table["dataset"] == "live")]
    assert best["feature"].tolist() == [1, 1]
    np.testing.assert_allclose(best["srcc"], 1)
    embedding = table[(table["features"] == "embedding") & (table["dataset"] == "live")]
    np.testing.assert_allclose(best["apparent_lead"], 1 - embedding["srcc"])
    assert (best["held_out_lead"] > 0).all()
    assert table[table["features"] == "embedding"]["held_out_lead"].isna().all()


def test_one_baseline_per_dataset_and_untrained_weights_last() -> None:
    table = boards()
    assert (table["features"] == "image").groupby(table["dataset"]).sum().to_dict() == {
        "live": 1,
        "tid2013": 1,
    }
    live = table[table["dataset"] == "live"]
    assert live["weights"].drop_duplicates().tolist() == ["none (classic metric)", "pretrained", "untrained"]
    for _, group in table.groupby(["dataset", "weights"]):
        assert group["srcc"].is_monotonic_decreasing


def test_bold_is_the_best_of_its_dataset_and_weights() -> None:
    wide = side_by_side(boards())
    assert list(wide.columns[-2:]) == ["live", "tid2013"]
    bold = wide[wide["live"].str.startswith("**")]
    assert bold["weights"].tolist() == ["none (classic metric)", "pretrained", "untrained"]
    assert bold["features"].tolist() == ["image", "best block", "best block"]
    chosen = boards().query("features == 'best block' and dataset == 'live'")["feature"].tolist()
    assert bold["live"].iloc[1:].str.rpartition(" #")[2].tolist() == [str(f) for f in chosen]
    only = wide[(wide["weights"] == "untrained")]
    assert (only["tid2013"] == "–").all()


def test_the_three_files(tmp_path: Path) -> None:
    table = boards()
    csv, markdown, latex = save_leaderboard(table, tmp_path)
    pd.testing.assert_series_equal(pd.read_csv(csv)["srcc"], table["srcc"])
    assert len(markdown.read_text().splitlines()) == 2 + len(side_by_side(table)) + 2
    text = latex.read_text()
    assert text.count(r"\midrule") == 3
    assert r"\textbf{1.000} [1.000, 1.000]" in text
    assert "dino\\_vits16" in text
    assert text == to_latex(table)


def test_one_reference_has_neither_interval_nor_held_out_lead() -> None:
    run = a_run("live", "pretrained", 0)
    one = Run(run.name, run.scores, run.pairs.assign(ref="only"), run.failures, run.manifests)
    table = leaderboard([one], n_resamples=20)
    assert table["srcc_lo"].isna().all()
    assert table["held_out_lead"].isna().all()
    assert not side_by_side(table)["live"].str.contains("nan").any()


def test_learned_metrics_stand_apart_from_classic_ones() -> None:
    run = a_run("live", "pretrained", 0)
    lpips = run.scores[run.scores["distance"] == "psnr"].assign(distance="lpips", value=lambda t: -t["value"])
    more = Run(run.name, pd.concat([run.scores, lpips]), run.pairs, run.failures, run.manifests)
    weights = leaderboard([more], n_resamples=20).set_index("distance")["weights"]
    assert weights["lpips"] == "learned metric"
    assert weights["psnr"] == "none (classic metric)"


def test_what_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="there is no run"):
        leaderboard([])


def test_each_normalization_has_leads_of_its_own() -> None:
    runs = [a_run("live", "pretrained", 0), a_run("live", "pretrained", 5)]
    moved = runs[1].scores.assign(
        normalize=lambda t: t["normalize"].where(t["backbone"] == "baseline", "model")
    )
    both = pd.concat([runs[0].scores, moved[moved["backbone"] != "baseline"]], ignore_index=True)
    table = leaderboard([Run("live", both, runs[0].pairs, pd.DataFrame(), runs[0].manifests)], n_resamples=20)
    apart = [
        leaderboard([Run("live", s, runs[0].pairs, pd.DataFrame(), runs[0].manifests)], n_resamples=20)
        for s in (runs[0].scores, moved)
    ]
    for normalize, alone in zip(("none", "model"), apart, strict=True):
        leads = [t[(t["features"] == "best block") & (t["normalize"] == normalize)] for t in (table, alone)]
        assert len(leads[0]) == 1
        for name in ("apparent_lead", "held_out_lead"):
            assert leads[0][name].item() == pytest.approx(leads[1][name].item())
    assert apart[0].dropna(subset="held_out_lead")["apparent_lead"].item() != pytest.approx(
        apart[1].dropna(subset="held_out_lead")["apparent_lead"].item()
    )


def test_a_baseline_that_lost_pairs_beside_one_backbone_gives_way_to_the_full_one() -> None:
    whole, torn = a_run("live", "pretrained", 0), a_run("live", "pretrained", 1, backbone="clip_vitb32")
    lost = torn.scores["pair_id"].isin(["p3", "p4"])
    torn = Run(
        torn.name,
        torn.scores.assign(value=torn.scores["value"].mask(lost)),
        torn.pairs,
        torn.failures,
        torn.manifests,
    )
    for order in ([whole, torn], [torn, whole]):
        psnr = leaderboard(order, n_resamples=20).query("distance == 'psnr'")
        assert psnr["n"].tolist() == [len(QUALITY)]


def turned(run: Run, name: str, **pairs: object) -> Run:
    """The same scores under another name, with other labels or places."""
    return Run(name, run.scores, run.pairs.assign(**pairs), run.failures, run.manifests)


def placed(run: Run, name: str, folder: str) -> Run:
    paths = {c: [f"{folder}/{p}-{c}.png" for p in run.pairs["pair_id"]] for c in ("ref_path", "dist_path")}
    return turned(run, name, **paths)


def test_two_tables_of_one_stem_are_two_datasets() -> None:
    good = a_run("csv:pairs", "pretrained", 0)
    runs = [placed(good, "mine", "a"), turned(placed(good, "yours", "a"), "yours", quality=QUALITY[::-1])]
    table = leaderboard(runs, n_resamples=20)
    assert table["dataset"].drop_duplicates().tolist() == ["csv:pairs (run mine)", "csv:pairs (run yours)"]
    assert table.groupby("dataset")["dataset_id"].nunique().tolist() == [1, 1]
    assert table["dataset_id"].nunique() == 2
    wide = side_by_side(table)
    assert list(wide.columns[-2:]) == ["csv:pairs (run mine)", "csv:pairs (run yours)"]
    for name in wide.columns[
        -2:
    ]:  # each has a best of its own, though the other's correlations are far from it
        assert wide[name].str.startswith("**").sum() == wide["weights"].nunique()
    assert wide["csv:pairs (run yours)"].str.contains(r"-0\.\d").any()


def test_a_table_of_ones_own_is_where_its_images_are_and_a_known_dataset_is_not() -> None:
    own, known = a_run("csv:pairs", "pretrained", 0), a_run("live", "pretrained", 0)
    assert dataset_identity(placed(own, "x", "a")) == dataset_identity(placed(own, "y", "a"))
    assert dataset_identity(placed(own, "x", "a")) != dataset_identity(placed(own, "x", "b"))
    assert dataset_identity(placed(known, "x", "a")) == dataset_identity(placed(known, "x", "b"))
    assert dataset_identity(known) != dataset_identity(turned(known, "x", quality=QUALITY + 1))
    assert dataset_identity(known) != dataset_identity(turned(known, "x", ref="only"))
    shuffled = Run(
        "x", known.scores, known.pairs.sample(frac=1, random_state=0), known.failures, known.manifests
    )
    assert dataset_identity(known) == dataset_identity(shuffled)


def test_the_labels_files_tell_live_from_live() -> None:
    run = a_run("live", "pretrained", 0)
    both = [
        turned(run, "a", label_source="dmos.mat"),
        turned(run, "b", label_source="dmos_realigned.mat", quality=QUALITY + np.arange(QUALITY.size) / 100),
    ]
    names = leaderboard(both, n_resamples=20)["dataset"].drop_duplicates().tolist()
    assert names == ["live (dmos.mat)", "live (dmos_realigned.mat)"]
    third = turned(both[0], "c", quality=-QUALITY)  # now the file alone does not tell them apart
    names = leaderboard([*both, third], n_resamples=20)["dataset"].drop_duplicates().tolist()
    assert names == ["live (run a)", "live (run b)", "live (run c)"]
    assert leaderboard(both[:1], n_resamples=20)["dataset"].unique().tolist() == ["live"]


def test_precision_is_a_column_where_it_differs() -> None:
    runs = [
        a_run("live", "pretrained", 0, name="a"),
        a_run("live", "pretrained", 9, precision="bf16", name="b"),
    ]
    table = leaderboard(runs, n_resamples=20)
    assert set(table["precision"]) == {"fp32", "bf16", "none"}
    wide = side_by_side(table)
    assert wide.loc[wide["backbone"] != "baseline", "precision"].value_counts().to_dict() == {
        "fp32": 3,
        "bf16": 3,
    }
    assert "runs" not in wide
    bold = wide[wide["live"].str.startswith("**")]
    assert bold["features"].tolist() == ["image", "best block", "best block"]  # perfect in both precisions
    assert "precision" not in side_by_side(leaderboard(runs[:1], n_resamples=20))


def test_runs_that_say_different_things_stand_side_by_side() -> None:
    first, second = (
        a_run("live", "pretrained", seed, name=n, psnr_seed=seed) for n, seed in (("a", 0), ("b", 9))
    )
    table = leaderboard([first, second, turned(first, "again")], n_resamples=20)
    joint = table[table["features"] == "all layers"].set_index("runs")
    assert joint["srcc"].to_dict().keys() == {"a, again", "b"}
    for run in (first, second):
        alone = leaderboard([run], n_resamples=20)
        own = joint["srcc"][[run.name in runs.split(", ") for runs in joint.index]]
        assert own.item() == alone.loc[alone["features"] == "all layers", "srcc"].item()
    psnr = table[table["distance"] == "psnr"]
    assert sorted(psnr["runs"]) == ["a, again", "b"]
    assert psnr["srcc"].nunique() == 2
    wide = side_by_side(table)
    assert wide.groupby("features")["runs"].apply(set)["embedding"] == {"a, again", "b"}
    assert wide.groupby("features")["runs"].apply(set)["best block"] == {""}  # perfect in both
    assert (wide["live"] != "–").all()


def test_one_name_for_two_states_of_a_run_is_no_obstacle() -> None:
    states = [a_run("live", "pretrained", seed, name="a") for seed in (0, 9)]
    wide = side_by_side(leaderboard(states, n_resamples=20))
    assert set(wide.loc[wide["features"] == "embedding", "runs"]) == {"a", "a (2)"}
    own = [placed(turned(s, "a", quality=QUALITY * (1 - 2 * i)), "a", "x") for i, s in enumerate(states)]
    assert leaderboard(own, n_resamples=20)["dataset"].nunique() == 2


HOSTILE = [
    '=cmd|"/C calc"!A0',
    "+1+cmd|x",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "a\\input{/etc/passwd}",
    "a|b",
    "a\nb",
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "![x](http://127.0.0.1/x.png)",
    "[1em]",
    "*x",
    "<<bold>>",
    "\x02bold\x03",
    "$\\frac{$",
    "`code`",
    "'quote\"",
    "50%_#&~^{}",
    "é–ü",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_no_formula_no_command_and_no_markup(name: str, tmp_path: Path) -> None:
    run = a_run(f"csv:{name}", name, 0, name="mine")
    runs = [run, turned(run, "other", quality=QUALITY**2), turned(run, "third", quality=QUALITY[::-1])]
    table = leaderboard(runs, n_resamples=20)
    csv_file, markdown, latex = save_leaderboard(table, tmp_path)
    for row in csv.reader(io.StringIO(csv_file.read_text())):
        for cell in row:
            assert not cell.startswith(("=", "+", "@", "\t", "\r"))
            assert not cell.startswith("-") or float(cell) <= 0
    body = markdown.read_text().split("\n\n")[0].splitlines()
    width = side_by_side(table).shape[1]
    assert len(body) == len(side_by_side(table)) + 2
    assert {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in body} == {width + 1}
    assert not re.search(r"<|(?<!\\)\]\(", "\n".join(body))
    tex = latex.read_text()
    commands = {"textbf", "toprule", "midrule", "bottomrule", "begin", "end"}
    commands |= {"textasciitilde", "textasciicircum", "textbackslash", "textless", "textgreater", "textbar"}
    assert set(re.findall(r"\\([A-Za-z]+)", tex)) <= commands
    for line in tex.splitlines()[1:]:
        bare = re.sub(r"\\[&%$#_{}\\]", "", line)
        assert not re.search(r"[%$#_^~]", bare)
        assert bare.count("{") == bare.count("}")
        assert not line.startswith(("[", "*"))
    assert len([line for line in tex.splitlines() if line.endswith(r"\\")]) == len(side_by_side(table)) + 1


def test_numbers_stay_numbers_in_a_table_for_people() -> None:
    table = pd.DataFrame(
        {"=a": [-1.5, 2.0], "text": ["-0.25", "-x"], "flag": [True, False], "gap": [None, "+1e3"]}
    )
    back = list(csv.reader(io.StringIO(csv_text(table))))
    assert back == [
        ["'=a", "text", "flag", "gap"],
        ["-1.5", "-0.25", "True", ""],
        ["2.0", "'-x", "False", "+1e3"],
    ]


def test_labels_that_are_all_the_same_are_ranked_last() -> None:
    run = a_run("live", "pretrained", 0)
    table = leaderboard([run, turned(a_run("tid2013", "pretrained", 1), "flat", quality=1.0)], n_resamples=20)
    assert table.loc[table["dataset"] == "tid2013", "srcc"].isna().all()
    wide = side_by_side(table)
    assert wide["live"].str.startswith("**").sum() == 2
    assert not wide["tid2013"].str.startswith("**").any()


def test_a_run_that_cannot_be_read_is_named_and_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMIQA_SCORES", str(tmp_path))
    good = a_run("live", "pretrained", 0, name="good")
    broken = {
        "gone": InputError("its shard is gone."),
        "shut": PermissionError(13, "Permission denied", "/x/y"),
        "torn": KeyError("labels_sha256"),
    }

    def load(name: str) -> Run:
        if name in broken:
            raise broken[name]
        return good

    monkeypatch.setattr("fmiqa_utils.statistics.leaderboard.load_run", load)
    found, left_out = read_each(["gone", "good", "shut", "torn"], lambda run: run.name)
    assert found == ["good"]
    assert [line.split(" is left out: ")[0] for line in left_out] == [f"The run {name}" for name in broken]
    assert "its shard is gone" in left_out[0]
    assert "Permission denied" in left_out[1]
    assert "damaged" in left_out[2]
