"""The captions of the published results: every number is the table's, whatever the table."""

import numpy as np

from fmiqa_utils.published import published_table, robustness_table
from fmiqa_utils.published_captions import (
    fitted_dumbbells_caption,
    rank_slopes_caption,
    resampling_difference_caption,
    robustness_dots_caption,
    srcc_dots_caption,
)
from fmiqa_utils.published_figures import MOVES

TABLE = published_table()


def test_captions_are_computed() -> None:
    text = srcc_dots_caption(TABLE)
    assert "5 of 5 models on LIVE R2, 5 of 5 models on PIPAL, 4 of 5 models on TID2013" in text
    assert "LIVE R2 n = 779 (DMOS), TID2013 n = 3,000 (MOS), PIPAL n = 23,200 (Elo)" in text
    turned = TABLE.assign(srcc=np.where(TABLE["kind"] == "embedding", 0.99, TABLE["srcc"]))
    assert "0 of 5 models on LIVE R2" in srcc_dots_caption(turned)
    text = rank_slopes_caption(TABLE)
    assert "DINOv1 ViT-B/16, WSD is first (0.641) and within references number 6 (0.663)" in text
    assert "ST-LPIPS-Alex is first (0.690), number 2 over all images (0.631)" in text
    assert "200 references" in text
    assert "DINOv1 ViT-B/16, SWD on LIVE R2 (0.654, 0.895)" in fitted_dumbbells_caption(TABLE)
    loss = robustness_table(TABLE).set_index(["dataset", "method"]).loc[("tid2013", "psnr")]
    change = loss[list(MOVES)].min() - loss["none"]
    assert f"PSNR most ({change:+.3f})" in robustness_dots_caption(TABLE)
    assert "PIPAL" not in robustness_dots_caption(TABLE)


def test_interval_and_its_verdict() -> None:
    drawn = np.linspace(-0.01, 0.03, 401)  # 95 % of it: −0.009 to 0.029
    own = {"all": np.array([0.01]), "images": drawn + 0.02, "references": drawn}
    text = resampling_difference_caption({"dinov1_l2": own})
    assert (
        "DINOv1 ViT-B/16, l2: +0.0100, drawing images [+0.0110, +0.0490], without zero, "
        "drawing references [-0.0090, +0.0290], with zero."
    ) in text
    assert "from DINOv1 ViT-B/16, embedding on TID2013 in 401 bootstrap resamples" in text
