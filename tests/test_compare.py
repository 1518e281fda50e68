"""The leaderboard over runs: what is best where, who is grouped with whom, and what goes into each file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmiqa_utils.compare import leaderboard, save_leaderboard, side_by_side, to_latex
from fmiqa_utils.errors import InputError
from fmiqa_utils.runs import Run
from fmiqa_utils.scores import SCORE_COLUMNS

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
