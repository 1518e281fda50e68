"""The captions of the published results: every number is the table's, whatever the table."""

import numpy as np
import pytest

from fmiqa_utils.published.captions import (
    fitted_dumbbells_caption,
    left_out,
    published_finding,
    rank_slopes_caption,
    resampling_difference_caption,
    robustness_dots_caption,
    srcc_dots_caption,
)
from fmiqa_utils.published.figures import SHOWN_TRANSFORMS, main_methods, within_ranks
from fmiqa_utils.published.results import moved_table, published_table

TABLE = published_table()


def test_captions_are_computed() -> None:
    text = srcc_dots_caption(TABLE)
    assert "5 of 5 models on LIVE R2, 5 of 5 models on PIPAL, 4 of 5 models on TID2013" in text
    assert "LIVE R2 n = 779 (DMOS), TID2013 n = 3,000 (MOS), PIPAL n = 23,200 (Elo)" in text
    turned = TABLE.assign(srcc=np.where(TABLE["kind"] == "embedding", 0.99, TABLE["srcc"]))
    assert "0 of 5 models on LIVE R2" in srcc_dots_caption(turned)
    text = rank_slopes_caption(TABLE)
    assert (
        "DINOv1 ViT-B/16, WSD is first over all images (0.641) and its model number 5 within references "
        "(DINOv1 ViT-B/16, cosine, 0.667)"
    ) in text
    assert "ST-LPIPS-Alex is first within references (0.690), number 2 over all images (0.631)" in text
    assert "200 references" in text
    assert "DINOv1 ViT-B/16, SWD on LIVE R2 (0.654, 0.895)" in fitted_dumbbells_caption(TABLE)
    loss = moved_table(TABLE).set_index(["dataset", "method"]).loc[("tid2013", "psnr")]
    change = loss[list(SHOWN_TRANSFORMS)].min() - loss["none"]
    assert f"PSNR most ({change:+.3f})" in robustness_dots_caption(TABLE)
    assert "PIPAL" not in robustness_dots_caption(TABLE)


def test_what_a_figure_leaves_out_is_said_and_whether_it_would_lead() -> None:
    text = rank_slopes_caption(TABLE)
    assert (
        "Not shown: embeddings; LPIPS-VGG (KADID); OpenCLIP ConvNeXt-B, TeCoA; OpenCLIP ViT-B/32, TeCoA; ST-LPIPS-VGG; "
        "ST-LPIPS-VGG (KADID); 6 deep_* metrics. Of these, deep_wsd_vgg on PIPAL (0.694) would be first within references."
    ) in text
    assert "Not shown: CLIP RN50, l2; DINOv2 ViT-B/14, l2;" in srcc_dots_caption(
        TABLE
    )  # measured on PIPAL alone
    assert "would be first" not in srcc_dots_caption(TABLE)
    shown = main_methods(TABLE)
    assert left_out(shown, shown) == ""
    best = TABLE.assign(srcc=np.where(TABLE["method"] == "stlpips_vgg", 0.99, TABLE["srcc"]))
    assert (
        "Of these, ST-LPIPS-VGG on LIVE R2 (0.990) and ST-LPIPS-VGG on TID2013 (0.990) and ST-LPIPS-VGG on PIPAL (0.990) would be first."
    ) in srcc_dots_caption(best)


def test_the_finding_is_a_maximum_over_the_whole_table() -> None:
    plain = TABLE[TABLE["transform"] == "none"]
    pipal = plain[plain["dataset"] == "pipal"].set_index("method")
    assert pipal["srcc_within"].idxmax() == "deep_wsd_vgg"
    assert pipal["srcc"].idxmax() == "dinov1_wsd"
    text = published_finding(TABLE)
    assert text.startswith(
        f"Published scores of all {len(pipal)} methods on PIPAL (23,200 images of 200 references): **over all images "
        "DINOv1 ViT-B/16, WSD agrees best with people (SRCC 0.641), within references deep_wsd_vgg (0.694)**."
    )
    models = pipal[pipal["kind"] != "baseline"]["srcc_within"]
    rank = pipal["srcc_within"].rank(ascending=False)[models.idxmax()]
    assert models.idxmax() == "clip_vitb32_cos"
    assert (
        f"The best foundation model within references, CLIP ViT-B/32, cosine, is number {rank:.0f} (0.682)."
        in text
    )
    for dataset, words in (
        (
            "tid2013",
            "On TID2013 FSIM is first (0.851); the best foundation model is CLIP ViT-B/32, l2 (0.793).",
        ),
        ("live", "On LIVE R2 CLIP ViT-B/32, l2 is first (0.968); the best other metric is FSIM (0.965)."),
    ):
        own = plain[plain["dataset"] == dataset]
        assert f"({own['srcc'].max():.3f})" in words
        assert words in text
    assert "in 20 of 21 cases" in text
    turned = TABLE.assign(srcc_within=np.where(TABLE["method"] == "dinov1_cos", 0.9, TABLE["srcc_within"]))
    assert "within references DINOv1 ViT-B/16, cosine (0.900)**" in published_finding(turned)
    assert "is number" not in published_finding(turned)


def test_each_model_stands_with_the_distance_that_is_best_for_the_ranking() -> None:
    ranks = within_ranks(TABLE, "pipal").set_index("model")
    pipal = TABLE[
        (TABLE["dataset"] == "pipal") & (TABLE["transform"] == "none") & (TABLE["kind"] == "intermediate")
    ]
    for statistic in ("srcc", "srcc_within"):
        best = pipal.groupby("model")[statistic].max()
        own = ranks[ranks["kind"] == "intermediate"]
        assert own[statistic].to_dict() == best[own.index].to_dict()
    clip = ranks.loc["CLIP ViT-B/32"]
    assert (clip["name"], clip["name_within"]) == ("CLIP ViT-B/32, WSD", "CLIP ViT-B/32, cosine")
    assert clip["srcc_within"] == pytest.approx(0.681869)


def test_interval_and_its_verdict() -> None:
    drawn = np.linspace(-0.01, 0.03, 401)  # 95 % of it: −0.009 to 0.029
    own = {"all": np.array([0.01]), "images": drawn + 0.02, "references": drawn}
    text = resampling_difference_caption({"dinov1_l2": own})
    assert (
        "DINOv1 ViT-B/16, l2: +0.0100, resampling images [+0.0110, +0.0490], without zero, "
        "resampling references [-0.0090, +0.0290], with zero."
    ) in text
    assert "from DINOv1 ViT-B/16, embedding on TID2013 in 401 bootstrap resamples" in text
