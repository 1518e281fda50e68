"""What the released per-image results and the authors' label files say. They are not in this repository: one skip where they are absent.

The same code is tested on made-up tables of the same layout beside each module.
"""

import math
from functools import cache
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest

from fmiqa_utils.datasets.layouts import CSIQ_TYPES, LIVE_FOLDERS, PIPAL_FAMILIES
from fmiqa_utils.datasets.registry import DATASETS
from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.demo.calibration import levels
from fmiqa_utils.published.agreement import compare_with_ours
from fmiqa_utils.published.captions import resampling_difference_caption
from fmiqa_utils.published.figures import difference_samples, resampling_intervals
from fmiqa_utils.published.results import (
    Published,
    aggregate,
    oriented,
    published_table,
    read_published,
    resampling_table,
)
from fmiqa_utils.statistics.coefficients import plcc, srcc
from fmiqa_utils.statistics.logistic import fit_logistic
from fmiqa_utils.statistics.paired_tests import difference_table

pytestmark = pytest.mark.slow
SHARED = Path(__file__).resolve().parents[3] / "shared"
PUBLISHED = SHARED / "published"
if not (PUBLISHED.is_dir() and (SHARED / "labels").is_dir()):
    pytest.skip(
        "the released per-image results and label files (../shared/published, ../shared/labels) are not here",
        allow_module_level=True,
    )


@cache
def released() -> Published:
    return read_published(PUBLISHED)


def labels(name: str) -> pd.DataFrame:
    return pd.read_csv(SHARED / "labels" / name, dtype={"ref_name": str})


def wide(dataset: str) -> pd.DataFrame:
    """The released table of one dataset as it is on disk."""
    return pd.read_parquet(PUBLISHED / f"{dataset}.parquet")


def test_live_labels_of_the_published_results_are_dmos_mat() -> None:
    """Published: dmos.mat, which goes below 0; pyiqa's table: the realigned labels. Both: lower is better."""
    ours = labels("LIVEIQA.csv")
    published = wide("live")
    assert len(ours) == len(published) == DATASETS["live"].rows
    assert (ours["dist_name"].str.split("/").str[1].to_numpy() == published["dis"].to_numpy()).all()
    assert (ours["ref_name"].str.split("/").str[1].to_numpy() == published["ref"].to_numpy()).all()
    assert ours["mos"].corr(published["mos"], method="spearman") == pytest.approx(0.957, abs=0.001)
    assert published["mos"].min() < 0 < ours["mos"].min()
    assert published["psnr"].corr(published["mos"], method="spearman") < -0.8
    order = ours["dist_name"].str.split("/").str[0]
    assert order.drop_duplicates().tolist() == list(LIVE_FOLDERS)
    assert order.value_counts()[list(LIVE_FOLDERS)].tolist() == [169, 175, 145, 145, 145]


def test_tid2013_round_trip_of_the_real_labels(tmp_path: Path) -> None:
    real = labels("TID2013.csv")
    published = wide("tid2013")
    root = layouts.build_tid2013(tmp_path)
    lines = [f"{mos} {name}\n" for mos, name in zip(real["mos"], real["dist_name"], strict=True)]
    (root / "mos_with_names.txt").write_text("".join(lines))
    (root / "mos_std.txt").write_text("".join(f"{std}\n" for std in real["std"]))
    pairs = load_pairs("tid2013", root)
    assert (pairs["dist"].to_numpy() == real["dist_name"].to_numpy()).all()
    assert (pairs["ref"].to_numpy() == real["ref_name"].to_numpy()).all()
    np.testing.assert_array_equal(pairs["label"], real["mos"])
    np.testing.assert_array_equal(pairs["label_std"], real["std"])
    np.testing.assert_allclose(
        published["mos"], 100 - pairs["label"], atol=1e-9
    )  # published: lower is better
    by_level = pairs.groupby(["distortion", "level"])["label"].agg(["mean", "size"])
    assert len(by_level) == 120
    assert set(by_level["size"]) == {25}
    assert by_level.loc[("Gaussian blur", 1), "mean"] > by_level.loc[("Gaussian blur", 5), "mean"] + 2


def test_kadid10k_round_trip_of_the_real_labels(tmp_path: Path) -> None:
    real = labels("KADID10k.csv")
    root = layouts.build_kadid10k(tmp_path)
    columns = {"dist_name": "dist_img", "ref_name": "ref_img", "std": "var"}
    renamed = real.rename(columns=columns)[["dist_img", "ref_img", "dmos", "var"]]
    renamed.to_csv(root / "dmos.csv", index=False)
    pairs = load_pairs("kadid10k", root)
    np.testing.assert_array_equal(pairs["label"], real["dmos"])
    means = pairs.groupby("level")["quality"].mean()
    assert (means.diff().dropna() < 0).all()  # a stronger distortion is worse: the "dmos" rises with quality
    low = pairs[pairs["label"] < 1.2]  # ratings of 1 and 2 only: the spread follows from the mean
    share = low["label"] - 1
    binomial = (share * (1 - share)).map(math.sqrt)
    assert (low["label_std"] - binomial).abs().median() < 0.005  # "var" is a deviation, not a variance


def test_csiq_and_pipal_labels_have_the_registered_shape() -> None:
    csiq, pipal = labels("CSIQ.csv"), labels("PIPAL.csv")
    assert len(csiq) == DATASETS["csiq"].rows
    assert csiq["ref_name"].nunique() == DATASETS["csiq"].references
    spelled = set(csiq["dist_name"].str.split(".").str[1])
    assert spelled == {file for _, file, _ in CSIQ_TYPES.values()}
    levels = csiq["dist_name"].str.split(".").str[2].astype(int)
    assert csiq["dmos"].corr(levels, method="spearman") > 0.5  # a stronger distortion has the higher label
    assert len(pipal) == DATASETS["pipal"].rows
    assert pipal["hq_name"].nunique() == DATASETS["pipal"].references
    families = pipal["dist_name"].str[6:8].value_counts() / 200
    assert families[list(layouts.PIPAL_COUNTS)].tolist() == list(layouts.PIPAL_COUNTS.values())


def test_pipal_published_labels_are_the_authors_and_families_behave_as_named() -> None:
    pipal = labels("PIPAL.csv").set_index("dist_name")["elo_score"]
    published = wide("pipal").set_index("dis")
    pd.testing.assert_series_equal(published["mos"], pipal.loc[published.index], check_names=False)
    assert published["psnr"].corr(published["mos"], method="spearman") > 0.4  # higher is better
    family = published.index.str[6:8]
    psnr = {
        f: published["psnr"][family == f].corr(published["mos"][family == f], method="spearman")
        for f in PIPAL_FAMILIES
    }
    assert (
        psnr["03"] < psnr["00"] - 0.15 < psnr["01"]
    )  # the paper: PSNR does worst on GAN-based super-resolution
    noise = published[published.index.str[6:11] == "06_09"]["psnr"]
    assert (
        noise.std() < 0.3
    )  # noise of one strength: only a traditional distortion has the same PSNR everywhere


def test_packaged_table_is_what_the_files_give() -> None:
    again = aggregate(released(), fit=False)
    unfitted = [column for column in again if "fit" not in column]
    assert list(published_table()) == list(again)
    pd.testing.assert_frame_equal(published_table()[unfitted], again[unfitted], atol=2e-6, rtol=0)


def test_packaged_fits_are_what_the_files_give() -> None:
    table = published_table().set_index(["dataset", "method", "transform"])
    names = [
        ("live", "dinov1_swd", "none"),
        ("tid2013", "clip_vitb32_jsd", "sca-1"),
        ("live", "psnr", "tra-1"),
    ]
    for dataset, method, transform in names:
        name = method if transform == "none" else f"{method}_{transform}"
        rows = released().tables[dataset]
        for parameters in (4, 5):
            fit = fit_logistic(oriented(rows, [name])[:, 0], rows["quality"], parameters)
            assert table.loc[(dataset, method, transform), f"plcc_fit{parameters}"] == pytest.approx(
                fit.plcc, abs=1e-4
            )


def test_dino_is_weak_on_two_distortion_types() -> None:
    table = released().tables["tid2013"]
    kind = table["dis"].str.split("_").str[1].astype(int)
    own = {k: srcc(-part[["dinov1_cos"]], part["quality"])[0] for k, part in table.groupby(kind)}
    assert sorted(own, key=own.__getitem__)[:2] == [17, 15]
    assert (own[17], own[15]) == pytest.approx((0.415, 0.559), abs=5e-4)


def test_the_released_live_scores_as_if_they_were_ours() -> None:
    live = released().tables["live"].sample(frac=1, random_state=1).reset_index(drop=True)
    pairs = live[["ref", "quality"]].assign(dataset="live", pair_id=live["dis"], dist=live["dis"].str.upper())
    kind = {
        "normalize": "none",
        "transform": "none",
        "feature": "joint",
        "distance": "cos",
        "variant": "published",
    }
    scores = pairs[["dataset", "pair_id"]].assign(
        backbone="dino_vitb16", weights="pretrained", **kind, value=live["dinov1_cos"]
    )
    comparison = compare_with_ours(released(), scores, pairs)
    row = comparison.agreement.iloc[0]
    assert (row["n_matched"], row["n_unmatched_ours"], row["worst_relative"]) == (779, 0, 0)
    both = comparison.side_by_side.iloc[0]
    assert both["srcc_ours"] == both["srcc_published"] == pytest.approx(0.965, abs=5e-4)


def test_dino_against_its_embedding_on_tid2013() -> None:
    """Cosine: sure if images are resampled, not if references are. l2: sure in both."""
    samples = {m: difference_samples(released(), m, n_resamples=1000) for m in ("dinov1_cos", "dinov1_l2")}
    text = resampling_difference_caption(samples)
    cosine, l2 = text.split("DINOv1 ViT-B/16, ")[2:]
    assert cosine.startswith("cosine: +0.0027, resampling images")
    assert cosine.index("without zero") < cosine.index("with zero")
    assert l2.startswith("l2: +0.0089")
    assert "with zero" not in l2


def test_the_released_tables() -> None:
    published = released()
    counts = {name: (len(t), len(published.methods(name))) for name, t in published.tables.items()}
    assert counts == {"live": (779, 168), "tid2013": (3000, 168), "pipal": (23200, 45)}
    assert sorted(published.problems["file"]) == ["pyiqa_fr_benchmark.csv", "tid2013_levels.csv"]
    listed = labels("LIVEIQA.csv")
    live = published.tables["live"]
    assert live["dis"].tolist() == listed["dist_name"].tolist()  # the folders put back are the right ones
    assert ("refimgs/" + live["ref"]).tolist() == listed["ref_name"].tolist()


@pytest.mark.parametrize(("dataset", "direction"), [("live", -1), ("tid2013", -1), ("pipal", 1)])
def test_every_published_column(dataset: str, direction: int) -> None:
    table = wide(dataset)
    methods = table.columns.drop(["dis", "ref", "mos"])
    quality = direction * table["mos"].to_numpy()
    values = table[methods].to_numpy() * np.where(methods.str.startswith("psnr"), 1, -1)
    raw = plcc(values, quality)
    for method, column, linear in zip(methods, values.T, raw, strict=True):
        for parameters in (4, 5):
            fit = fit_logistic(column, quality, parameters)
            assert fit.converged, (method, parameters)
            assert linear - 1e-12 <= fit.plcc <= 1, (method, parameters)
    if dataset == "live":
        swd = list(methods).index("dinov1_swd")
        assert raw[swd] == pytest.approx(0.654, abs=5e-4)
        assert fit_logistic(values[:, swd], quality, 5).plcc == pytest.approx(0.895, abs=5e-4)


def test_table_is_the_mean_of_tid2013s_own_images() -> None:
    images = wide("tid2013")
    names = images["dis"].str.extract(r"_(?P<type>\d+)_(?P<level>\d)").astype(int)
    means = images["psnr"].groupby([names["type"], names["level"]]).mean()
    assert {key: round(mean, 3) for key, mean in means.items()} == {
        key: level.psnr for key, level in levels().items()
    }


def test_packaged_intervals_are_those_of_the_released_scores() -> None:
    made = resampling_intervals(read_published(PUBLISHED / "tid2013.parquet")).round(6)
    pd.testing.assert_frame_equal(made, resampling_table().drop(columns="source"), atol=2e-6)


def sample_of(
    dataset: str, direction: int, methods: list[str]
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    table = wide(dataset)
    return -table[methods], direction * table["mos"].to_numpy(), table["ref"].str.upper().to_numpy()


def test_tid2013_embedding_depends_on_what_is_resampled() -> None:
    sample = sample_of("tid2013", -1, ["embed_dinov1_cos", "dinov1_cos"])
    by_image = difference_table(*sample, "embed_dinov1_cos", resample="image", n_resamples=1000).iloc[0]
    by_ref = difference_table(*sample, "embed_dinov1_cos", n_resamples=1000).iloc[0]
    assert by_image["difference"] == pytest.approx(0.786 - 0.783, abs=1e-3)
    assert by_image["lower"] > 0
    assert by_image["significant"]
    assert by_ref["lower"] < 0
    assert not by_ref["significant"]


def test_pipal_reverses_within_references() -> None:
    sample = sample_of("pipal", 1, ["dinov1_l2", "stlpips_alex", "lpips"])
    within = difference_table(*sample, "dinov1_l2", statistic="srcc_within")
    assert within["control"].iloc[0] == pytest.approx(0.660, abs=5e-4)
    assert within["value"].tolist() == pytest.approx([0.690, 0.689], abs=5e-4)
    assert (within["lower"] > 0).all()
    assert within["significant"].all()
    pooled = difference_table(*sample, "dinov1_l2", n_resamples=200)
    assert pooled["value"].tolist() == pytest.approx([0.631, 0.588], abs=5e-4)
    assert (pooled["difference"] < 0).all()
    assert pooled["significant"].tolist() == [False, True]
