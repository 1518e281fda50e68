"""The published results: the printed table to its last digit, names, signs, and the packaged table."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import released

from fmiqa_utils.distances.table import orientation
from fmiqa_utils.published.results import (
    CORRELATIONS,
    SOURCE,
    Method,
    Published,
    aggregate,
    moved_table,
    oriented,
    parse_method,
    published_correlations,
    published_table,
    read_published,
)
from fmiqa_utils.statistics.coefficients import plcc

DISTANCES = ["l2", "cos", "skld", "jsd", "wsd", "swd"]
PRINTED = {  # of the authors' per-image files (docs/methods.md, Published results): SRCC in thousandths on LIVE, TID2013, PIPAL
    **{
        f"dinov1_{d}": v
        for d, v in zip(
            DISTANCES,
            zip(
                (964, 965, 964, 964, 965, 898),
                (792, 786, 768, 768, 765, 678),
                (639, 637, 639, 638, 641, 601),
                strict=True,
            ),
            strict=True,
        )
    },
    **{
        f"clip_vitb32_{d}": v
        for d, v in zip(
            DISTANCES,
            zip(
                (968, 965, 965, 959, 964, 938),
                (793, 758, 765, 764, 744, 726),
                (619, 623, 616, 610, 627, 592),
                strict=True,
            ),
            strict=True,
        )
    },
    "dinov2_cos": (946, 722, 573),
    "openclip_convnext_base_cos": (949, 604, 581),
    "clip_rn50_cos": (959, 658, 598),
    "embed_dinov1_cos": (959, 783, 622),
    "embed_clip_vitb32_cos": (936, 693, 531),
    "embed_dinov2_cos": (931, 727, 514),
    "embed_openclip_convnext_base_cos": (875, 518, 320),
    "embed_clip_rn50_cos": (913, 632, 479),
    "psnr": (873, 687, 407),
    "msssim": (951, 786, 562),
    "fsim": (965, 851, 589),
    "lpips": (922, 769, 588),
    "lpips_vgg": (941, 679, 588),
    "dists": (948, 708, 579),
    "stlpips_alex": (883, 737, 631),
}


@pytest.mark.parametrize("method", PRINTED)
def test_every_printed_figure_to_its_last_digit(method: str) -> None:
    table = published_table()
    rows = table[(table["method"] == method) & (table["transform"] == "none")].set_index("dataset")["srcc"]
    ours = [1000 * rows[d] for d in ("live", "tid2013", "pipal")]
    assert ours == pytest.approx(PRINTED[method], rel=0, abs=0.5 + 1e-3)  # the table has six decimals


def test_tables_in_the_released_layout_become_the_packaged_table(tmp_path: Path) -> None:
    results = released.write_per_image_tables(tmp_path)
    table = aggregate(read_published(tmp_path))
    assert list(table) == list(published_table())
    assert set(table["source"]) == {SOURCE}
    rows = table.set_index(["dataset", "method", "transform"])
    assert len(rows) == 18
    for dataset, (n, n_refs, direction) in {
        "live": (779, 29, -1),
        "tid2013": (3000, 25, -1),
        "pipal": (2320, 20, 1),
    }.items():
        assert rows.loc[dataset][["n", "n_refs"]].drop_duplicates().to_numpy().tolist() == [[n, n_refs]]
        for method, transform in (
            ("dinov1_cos", "none"),
            ("dinov1_cos", "tra-1"),
            ("psnr", "none"),
            ("fsim", "none"),
        ):
            column = method if transform == "none" else f"{method}_{transform}"
            sign = direction if method == "psnr" else -direction
            own = results[dataset]
            wanted = sign * own[column].corr(own["mos"], method="spearman")
            assert rows.loc[(dataset, method, transform), "srcc"] == pytest.approx(wanted, abs=1e-6)
    assert (table["srcc"] > 0.5).all()
    assert (table["plcc_fit4"] >= table["plcc"]).all()
    swd = rows.loc[("tid2013", "dinov1_swd", "none")]
    assert swd["plcc_fit5"] > swd["plcc"] + 0.3  # a long tail


def test_packaged_table_by_itself() -> None:
    table = published_table()
    assert len((files("fmiqa_utils.published") / "tables" / "published.csv").read_bytes()) < 100_000
    assert set(table["source"]) == {SOURCE}
    assert table.groupby("dataset")["n"].unique().map(list).to_dict() == {
        "live": [779],
        "pipal": [23200],
        "tid2013": [3000],
    }
    assert not table[CORRELATIONS].isna().any(axis=None)
    assert not table.duplicated(["dataset", "method", "transform"]).any()
    assert set(table["kind"]) == {"intermediate", "embedding", "baseline"}
    assert (table["plcc_fit5"] >= table["plcc_fit4"] - 1e-3).all()
    assert (table["plcc_fit4"] >= table["plcc"]).all()


def test_positive_by_themselves_but_for_psnr_on_moved_images_within_references() -> None:
    table = published_table()
    assert (table[["srcc", "plcc", "plcc_fit4", "plcc_fit5", "krcc"]] > 0).all(axis=None)
    negative = table[table["srcc_within"] < 0]
    assert negative[["dataset", "method", "transform"]].to_numpy().tolist() == [
        ["live", "psnr", "rot-1"],
        ["live", "psnr", "tra-1"],
    ]


def test_second_look_at_the_same_files() -> None:
    table = published_table().query("transform == 'none'").set_index(["dataset", "method"])
    pipal, live = table.loc["pipal"], table.loc["live"]
    within = pipal.loc[["dinov1_l2", "stlpips_alex", "lpips"], "srcc_within"]
    assert within.round(3).tolist() == [0.660, 0.690, 0.689]  # pooled, DINO is ahead: .639, .631, .588
    assert live.loc["dinov1_swd", ["plcc", "plcc_fit5"]].astype(float).round(3).tolist() == [0.654, 0.895]


def test_names() -> None:
    assert parse_method("dinov1_cos") == Method(
        "dinov1_cos", "intermediate", "dino", "DINOv1 ViT-B/16", "dino_vitb16", "cos", "none"
    )
    assert parse_method("embed_openclip_convnext_base_cos_tra-1") == Method(
        "embed_openclip_convnext_base_cos",
        "embedding",
        "convnext",
        "OpenCLIP ConvNeXt-B",
        "openclip_convnext_base_w",
        "cos",
        "tra-1",
    )
    assert parse_method("clip_rn50_l2_rot-0.5")[4:] == ("clip_rn50", "l2", "rot-0.5")
    assert parse_method("dinov2_cos").backbone == "dinov2_vitb14"
    assert parse_method("openclip_vitb32_laion_tecoa4_cos")[1:6] == (
        "intermediate",
        "other",
        "OpenCLIP ViT-B/32, TeCoA",
        "",
        "cos",
    )
    assert parse_method("imagenet_vit_cos_copy")[3:6] == (
        "ImageNet ViT-B/16",
        "timm:vit_base_patch16_224.orig_in21k_ft_in1k",
        "cos",
    )
    assert parse_method("stlpips_vgg_kadid_sca-1")[:3] == ("stlpips_vgg_kadid", "baseline", "baseline")
    assert parse_method("clip_vitb32_new") == Method(
        "clip_vitb32_new", "baseline", "baseline", "clip_vitb32_new", "", "", "none"
    )


def test_every_foundation_model_of_the_table_is_known() -> None:
    table = published_table()
    baselines = set(table[table["kind"] == "baseline"]["method"])
    deep = {f"deep_{distance}_{net}" for distance in ("jsd", "kld", "wsd") for net in ("eff", "vgg")}
    lpips = {"lpips", "lpips_vgg", "lpips_vgg_kadid", "stlpips_alex", "stlpips_vgg", "stlpips_vgg_kadid"}
    assert baselines == {"psnr", "fsim", "msssim", "dists"} | lpips | deep


@pytest.fixture
def toy() -> Published:
    """Two references. PSNR follows quality exactly; the distance does but for the pair of quality 3 and 4."""
    table = pd.DataFrame(
        {
            "dis": [f"d{i}" for i in range(6)],
            "ref": ["a", "A", "a", "b", "b", "b"],
            "mos": [-1.0, -2, -3, -4, -5, -6],
            "quality": [1.0, 2, 3, 4, 5, 6],
            "psnr": [10.0, 20, 30, 40, 50, 60],
            "mine": [6.0, 5, 3, 4, 2, 1],
            "mine_tra-1": [1.0, 2, 3, 4, 5, 6],
        }
    )
    return Published({"toy": table}, pd.DataFrame())


def test_signs_and_hand_checked_row(toy: Published) -> None:
    seen = []
    table = published_correlations(toy, progress=lambda *state: seen.append(state))
    rows = table.set_index(["method", "transform"])
    assert (table["n"].tolist(), table["n_refs"].tolist()) == ([6] * 3, [2] * 3)
    assert rows.loc[("psnr", "none"), ["srcc", "plcc", "krcc", "srcc_within"]].tolist() == pytest.approx(
        [1] * 4
    )
    # ranks 1 2 4 3 5 6: Σd² = 2, SRCC = 1 − 12/210; one of 15 pairs discordant; each reference in order.
    assert rows.loc[("mine", "none"), ["srcc", "krcc", "srcc_within"]].tolist() == pytest.approx(
        [1 - 12 / 210, 13 / 15, 1]
    )
    assert rows.loc[("mine", "tra-1"), ["srcc", "krcc"]].tolist() == pytest.approx([-1, -1])
    assert seen == [("toy", 1, 3), ("toy", 2, 3), ("toy", 3, 3)]
    assert published_correlations(toy, fit=False)["plcc_fit4"].isna().all()
    unfitted = plcc(-toy.tables["toy"][["mine"]], toy.tables["toy"]["quality"])[0]
    assert rows.loc[("mine", "none"), "plcc"] == unfitted
    assert rows.loc[("mine", "none"), "plcc_fit4"] >= unfitted - 1e-9


def test_files_and_score_tables_differ_in_fsim(toy: Published) -> None:
    assert orientation("fsim") == 1
    table = toy.tables["toy"].assign(fsim=1.0, msssim=1.0)
    assert oriented(table, ["fsim", "msssim", "psnr", "psnr_tra-1"][:3])[0].tolist() == [-1, -1, 10]


def test_robustness_table(toy: Published) -> None:
    wide = moved_table(published_correlations(toy, fit=False))
    assert wide[["method", "none", "tra-1"]].to_numpy().tolist() == [
        ["mine", pytest.approx(1 - 12 / 210), -1]
    ]
    wide = moved_table(published_table()).set_index(["dataset", "method"])
    assert set(wide.index.get_level_values(0)) == {"live", "tid2013"}
    assert wide.loc[("live", "dinov1_l2"), "none"] == pytest.approx(0.964, abs=5e-4)
    only_moved = Published({"toy": toy.tables["toy"].drop(columns=["psnr", "mine"])}, pd.DataFrame())
    assert moved_table(published_correlations(only_moved, fit=False)).empty


def test_constant_prediction_has_no_correlation(toy: Published) -> None:
    toy.tables["toy"]["flat"] = 1.0
    row = published_correlations(toy).set_index("method").loc["flat"]
    assert np.isnan(row[CORRELATIONS].astype(float)).all()
