"""The figures of the published results: what is drawn where, in which colour, and that nothing is cut."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from fmiqa_utils.errors import InputError
from fmiqa_utils.figures.style import COLUMN, FULL, family_colour, use_style
from fmiqa_utils.published.figures import (
    SHOWN_TRANSFORMS,
    difference_samples,
    fitted_dumbbells,
    main_methods,
    print_name,
    rank_slopes,
    resampling_difference,
    resampling_intervals,
    robustness_dots,
    srcc_dots,
    within_ranks,
)
from fmiqa_utils.published.results import (
    Published,
    published_correlations,
    published_table,
    resampling_table,
)

TABLE = published_table()


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with plt.rc_context():
        use_style()
        yield
        plt.close("all")


def row_names(ax: Axes) -> dict[float, str]:
    """Height → name of the row; the first panel carries the names."""
    first = ax.figure.axes[0]
    return dict(zip(first.get_yticks(), (t.get_text() for t in first.get_yticklabels()), strict=True))


def dots(ax: Axes, label: str) -> dict[str, tuple[float, str]]:
    """Row name → (x, colour) of the dots called `label`."""
    names = row_names(ax)
    (found,) = [c for c in ax.collections if c.get_label() == label]
    edges = [to_hex(colour) for colour in found.get_edgecolors()]
    return {names[y]: (x, edge) for (x, y), edge in zip(found.get_offsets(), edges, strict=True)}


def value(dataset: str, method: str, column: str, transform: str = "none") -> float:
    rows = TABLE.set_index(["dataset", "method", "transform"])
    return float(rows.loc[(dataset, method, transform), column])


def all_inside(figure: Figure) -> bool:
    """Whether nothing that is drawn is cut at the figure's border (in inches)."""
    figure.canvas.draw()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return min(box.x0, box.y0, width - box.x1, height - box.y1) > -0.01


def test_srcc_dots() -> None:
    figure = srcc_dots(TABLE)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["LIVE R2", "TID2013", "PIPAL"]
    pipal = figure.axes[2]
    inner, outer = dots(pipal, "intermediate features, cosine"), dots(pipal, "embedding, cosine")
    assert inner["DINOv1 ViT-B/16"] == (value("pipal", "dinov1_cos", "srcc"), family_colour("dino").lower())
    assert inner["ImageNet ViT-B/16"][0] == value("pipal", "imagenet_vit_cos_copy", "srcc")
    assert outer["OpenCLIP ConvNeXt-B"] == (
        value("pipal", "embed_openclip_convnext_base_cos", "srcc"),
        family_colour("convnext").lower(),
    )
    assert dots(pipal, "baseline")["PSNR"][0] == value("pipal", "psnr", "srcc")
    assert len(inner) == 6
    assert len(outer) == 5
    names = list(row_names(pipal).values())
    assert names[:2] + names[6:7] + names[-1:] == [
        "DINOv1 ViT-B/16",
        "CLIP ViT-B/32",
        "ST-LPIPS-Alex",
        "PSNR",
    ]
    (others,) = [c for c in pipal.collections if c.get_label() == "other distances"]
    assert sorted(x for x, y in others.get_offsets() if y == 0) == sorted(
        value("pipal", f"dinov1_{d}", "srcc") for d in ("l2", "skld", "jsd", "wsd", "swd")
    )
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["other distances", "embedding, cosine", "intermediate features, cosine", "baseline"]


def test_rank_slopes() -> None:
    ranks = within_ranks(TABLE, "pipal").set_index("name")
    lpips = ranks.loc["LPIPS-Alex"]
    assert (lpips["rank_pooled"], lpips["rank_within"]) == (7, 2)
    assert ranks.loc["DINOv1 ViT-B/16, WSD", ["rank_pooled", "rank_within"]].tolist() == [1, 5]
    assert ranks["rank_within"].is_unique
    ax = rank_slopes(TABLE).axes[0]
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert lines.keys() == set(ranks.index)
    for name, line in lines.items():
        ends = ranks.loc[name, ["rank_pooled", "rank_within"]].tolist()
        assert line.get_ydata().tolist() == ends
        assert (line.get_linewidth() > 1) == (abs(ends[0] - ends[1]) >= 3)
        assert line.get_color() == family_colour(ranks.loc[name, "family"])
    texts = [text.get_text() for text in ax.texts]
    assert "DINOv1 ViT-B/16, WSD  0.641" in texts
    assert "0.690  ST-LPIPS-Alex" in texts
    assert {"CLIP ViT-B/32, WSD  0.627", "0.682  CLIP ViT-B/32, cosine"} <= set(texts)
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first on top


def test_fitted_dumbbells() -> None:
    live = fitted_dumbbells(TABLE).axes[0]
    raw, fitted = dots(live, "raw"), dots(live, "after a 5-parameter logistic")
    name = "DINOv1 ViT-B/16, SWD"
    assert (raw[name][0], fitted[name][0]) == (
        value("live", "dinov1_swd", "plcc"),
        value("live", "dinov1_swd", "plcc_fit5"),
    )
    assert raw.keys() == fitted.keys() == set(main_methods(TABLE)["name"])
    spans = [segment[:, 0].tolist() for segment in live.collections[0].get_segments()]
    assert [raw[name][0], fitted[name][0]] in spans


def test_robustness_dots() -> None:
    figure = robustness_dots(TABLE)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["LIVE R2", "TID2013"]
    tid = figure.axes[1]
    for transform, (_, label) in SHOWN_TRANSFORMS.items():
        moved = dots(tid, label)
        assert moved["DINOv1 ViT-B/16, cosine"][0] == value("tid2013", "dinov1_cos", "srcc", transform)
        assert moved["PSNR"][0] == value("tid2013", "psnr", "srcc", transform)
    assert dots(tid, "not moved")["PSNR"][0] == value("tid2013", "psnr", "srcc")
    assert not [name for name in dots(tid, "not moved") if "l2" in name]


@pytest.fixture(scope="module")
def two_refs() -> Published:
    """Two references that contradict each other: a difference that holds for images, not for references."""
    rng = np.random.default_rng(5)
    n = 400
    quality = rng.normal(size=n)
    ref = np.repeat(["a", "b"], n // 2)
    noise = {name: rng.normal(size=n) for name in ("good", "bad")}
    strength = {"good": np.where(ref == "a", 0.2, 0.5), "bad": np.where(ref == "a", 0.25, 1.2)}
    methods = {name: -(quality + strength[name] * noise[name]) for name in strength}
    table = pd.DataFrame({"dis": [f"d{i}" for i in range(n)], "ref": ref, "mos": quality, "quality": quality})
    table = table.assign(dinov1_l2=methods["good"], embed_dinov1_cos=methods["bad"])
    return Published({"tid2013": table}, pd.DataFrame())


def test_resampling_difference(two_refs: Published) -> None:
    samples = {"dinov1_l2": difference_samples(two_refs, "dinov1_l2", n_resamples=200)}
    own = samples["dinov1_l2"]
    correlations = published_correlations(two_refs, fit=False).set_index("method")["srcc"]
    assert own["all"][0] == pytest.approx(correlations["dinov1_l2"] - correlations["embed_dinov1_cos"])
    assert len(np.unique(own["references"].round(12))) == 3  # aa, ab, bb
    assert own["images"].min() > 0
    assert own["references"].min() < own["images"].min()
    figure = resampling_difference(samples)
    ax = figure.axes[0]
    assert ax.get_title(loc="left") == "DINOv1 ViT-B/16, l2"
    for patch, name in zip(ax.patches, ("images", "references"), strict=True):
        assert patch.get_label() == f"{name} drawn"
        assert patch.get_data().values.sum() == 200
    images, references, zero, triangle = ax.get_lines()
    assert images.get_xdata() == pytest.approx(np.quantile(own["images"], [0.025, 0.975]))
    assert references.get_xdata() == pytest.approx(np.quantile(own["references"], [0.025, 0.975]))
    assert list(zero.get_xdata()) == [0, 0]
    assert triangle.get_xdata()[0] == own["all"][0]


def test_what_is_left_out() -> None:
    names = set(main_methods(TABLE)["name"])
    assert print_name("embed_clip_rn50_cos") in names
    assert not [name for name in names if "TeCoA" in name or "KADID" in name or "deep" in name]
    assert "CLIP RN50, l2" not in names  # PIPAL alone
    assert "CLIP RN50, l2" in set(main_methods(TABLE[TABLE["dataset"] == "pipal"])["name"])
    with pytest.raises(InputError, match="no published result"):
        srcc_dots(TABLE[TABLE["dataset"] == "absent"])


def test_one_dataset_fits_a_column_and_nothing_is_cut() -> None:
    tid = TABLE[TABLE["dataset"] == "tid2013"]
    for draw in (srcc_dots, fitted_dumbbells, robustness_dots):
        full, column = draw(TABLE), draw(tid)
        assert full.get_figwidth() == FULL
        assert column.get_figwidth() == COLUMN
        assert all_inside(full)
        assert all_inside(column)
    assert all_inside(rank_slopes(TABLE))


def test_only_embeddings_or_only_one_distance_can_be_drawn() -> None:
    embeddings = TABLE[TABLE["kind"] == "embedding"]
    assert len(dots(srcc_dots(embeddings).axes[0], "embedding, cosine")) == 5
    l2 = TABLE[TABLE["distance"] == "l2"]
    assert srcc_dots(l2).axes[0].get_title(loc="left") == "LIVE R2"


def test_packaged_intervals_are_those_of_the_released_scores() -> None:
    packaged = resampling_table().drop(columns="source")
    assert packaged["difference"].round(4).tolist() == [0.0027, 0.0027, 0.0089, 0.0089]
    sure = (packaged["lower"] > 0).tolist()
    assert sure == [True, False, True, True]  # cosine: by images only; l2: by references too


def test_intervals_are_those_of_their_samples(two_refs: Published) -> None:
    made = resampling_intervals(two_refs, ("dinov1_l2",))
    assert list(made) == list(resampling_table().drop(columns="source"))
    samples = difference_samples(two_refs, "dinov1_l2")
    for row in made.itertuples():
        assert row.difference == samples["all"][0]
        assert (row.lower, row.upper) == pytest.approx(
            np.quantile(samples[row.drawn], [0.025, 0.975]), abs=1e-9
        )
