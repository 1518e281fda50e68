"""Every figure of a run with one, three and twelve models: what is drawn, what it is called, and that it can be read."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from figure_checks import assert_readable, drawn_texts, legend_entries
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from shared_run import MODELS as SHARED_MODELS
from shared_run import NAME, SCORES, UNREADABLE

from fmiqa_utils import figures
from fmiqa_utils.errors import InputError
from fmiqa_utils.figures.explorer_view import pair_view
from fmiqa_utils.figures.robustness import change_boxes, robustness_curves
from fmiqa_utils.figures.style import looks, plain_text, spread, wrapped
from fmiqa_utils.loda import figures as loda_figures
from fmiqa_utils.loda.chapter import beside_distances
from fmiqa_utils.scores import names
from fmiqa_utils.scores.runs import Run, load_run
from fmiqa_utils.scores.shards import SCORE_COLUMNS
from fmiqa_utils.statistics.against_embedding import (
    best_blocks,
    intermediate_vs_embedding,
    same_forms_once,
    strongest_block,
)
from fmiqa_utils.statistics.correlation import correlation_table
from fmiqa_utils.statistics.robustness import is_moved, relative_change, robustness_table

Model = tuple[str, str, str, int]  # backbone, weights, normalize, blocks
BASELINES = ("psnr", "ssim", "ms_ssim", "fsim", "lpips", "dists")
VITS: list[Model] = [("timm:vit_tiny_patch16_224", "untrained", "none", 12)]
THREE: list[Model] = [
    ("dino_vits16", "pretrained", "none", 12),
    ("dino_vits16", "pretrained", "model", 12),
    ("clip_rn50", "pretrained", "none", 5),
]
TWELVE: list[Model] = [
    *THREE,
    ("dino_vitb16", "pretrained", "none", 12),
    ("dinov2_vits14", "pretrained", "none", 12),
    ("dinov2_vitb14", "untrained", "none", 12),
    ("clip_vitb32", "pretrained", "none", 12),
    ("openclip_convnext_base_w", "pretrained", "none", 36),
    ("imagenet_vitb16", "pretrained", "none", 12),
    ("timm:vit_base_patch16_clip_224.laion2b_ft_in12k_in1k", "pretrained", "none", 12),
    ("timm:vit_base_patch16_clip_224.laion400m_e32_ft_in1k", "pretrained", "none", 12),
    ("timm:resnet10t", "local_weights_$\\frac{$.pt#0a1b2c3d", "none", 5),
]
SIZES = {1: VITS, 3: THREE, 12: TWELVE}
TYPES = (
    "Gaussian blur",
    "JPEG",
    r"$\frac{$ noise",
    "sparse sampling and reconstruction with a long name",
    "模糊 é_^",
)
REFS, LEVELS = 4, 2


def a_run(
    models: list[Model], *, transforms: tuple[str, ...] = ("none", "tra-1", "tra-3", "rot-1"), seed: int = 0
) -> Run:
    """Noisy distances that agree with people the better the deeper the block; l2 has one form for both names, and one pair failed."""
    rng = np.random.default_rng(seed)
    rows = [(f"r{r}", kind, level) for r in range(REFS) for kind in TYPES for level in range(1, LEVELS + 1)]
    pairs = pd.DataFrame(rows, columns=["ref", "distortion", "level"])
    pairs.insert(0, "dataset", "csv:mine")
    pairs.insert(1, "pair_id", [f"p{i}" for i in range(len(pairs))])
    pairs["label"] = pairs["quality"] = 5.0 - pairs["level"] + rng.normal(0, 0.4, len(pairs))
    pairs["label_kind"] = "mos"
    tables = []
    for backbone, weights, normalize, blocks in models:
        for transform in transforms:
            harm = 0.0 if transform == "none" else 1.0
            for feature in (*range(blocks if transform == "none" else 0), "joint", "embedding"):
                for distance in ("cos",) if feature == "embedding" else ("cos", "l2"):
                    noise = rng.normal(0, 0.5 + harm, len(pairs))
                    values = np.exp(-pairs["quality"] + noise) * (1 + harm)
                    for variant in ("published", "corrected") if feature != "embedding" else ("published",):
                        other = (
                            np.exp(rng.normal(0, 0.2, len(pairs)))
                            if variant == "corrected" and distance == "cos"
                            else 1
                        )
                        key = (backbone, weights, normalize, transform, feature, distance, variant)
                        tables.append(column(pairs, key, values * other))
    for transform in transforms:
        for i, baseline in enumerate(BASELINES):
            values = pairs["quality"] + rng.normal(0, 0.3 + 0.1 * i, len(pairs))
            sign = -1 if baseline in ("lpips", "dists") else 1
            key = ("baseline", "none", "none", transform, "image", baseline, "published")
            tables.append(column(pairs, key, sign * values))
    scores = pd.concat(tables, ignore_index=True)
    scores.loc[scores["pair_id"] == "p3", "value"] = np.nan
    manifests = [
        {
            "dataset": "csv:mine",
            "backbone": b,
            "weights": w,
            "normalize": n,
            "precision": "fp32",
            "failures": 1,
        }
        for b, w, n, _ in models
    ]
    failures = pd.DataFrame({"pair_id": ["p3"], "reason": ["damaged"]})
    return Run("mine", scores, pairs, failures, manifests)


def column(pairs: pd.DataFrame, key: tuple[object, ...], values: object) -> pd.DataFrame:
    names_ = SCORE_COLUMNS[2:-1]
    table = pd.DataFrame(
        {"dataset": "csv:mine", "pair_id": pairs["pair_id"], **dict(zip(names_, key, strict=True))}
    )
    return table.astype({"feature": object}).assign(value=np.asarray(values, dtype=float))


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with plt.rc_context():
        figures.use_style()
        yield
        plt.close("all")


@pytest.fixture(scope="session")
def runs() -> dict[int, Run]:
    return {size: a_run(models) for size, models in SIZES.items()}


def correlations(run: Run, **how: object) -> pd.DataFrame:
    base = run.scores[run.scores["transform"] == "none"]
    table = correlation_table(base, run.pairs, n_resamples=20, fit=False, **how)  # type: ignore[arg-type]
    return table.assign(plcc_fit4=table["plcc"])


@pytest.fixture(scope="session")
def tables(runs: dict[int, Run]) -> dict[int, pd.DataFrame]:
    return {size: correlations(run) for size, run in runs.items()}


def lines_of(ax: Axes) -> dict[str, object]:
    return {
        str(line.get_label()): line for line in ax.get_lines() if not str(line.get_label()).startswith("_")
    }


def written(figure: Figure) -> list[str]:
    return [text for text, _ in drawn_texts(figure)]


# ---- names -----------------------------------------------------------------------------------------------------------


def test_a_series_is_named_by_what_differs() -> None:
    one, three = (
        names.series_names(pd.DataFrame(a_run(m, transforms=("none",)).manifests)) for m in (VITS, THREE)
    )
    assert list(one.values()) == ["vit_tiny_patch16_224"]
    assert three == {
        ("clip_rn50", "pretrained", "none"): "clip_rn50 · unnormalized",
        ("dino_vits16", "pretrained", "none"): "dino_vits16 · unnormalized",
        ("dino_vits16", "pretrained", "model"): "dino_vits16 · mean/std",
    }
    two = pd.DataFrame({"backbone": ["a", "a"], "weights": ["pretrained", "mine.pt#1"], "normalize": "none"})
    assert sorted(names.series_names(two).values()) == ["a · mine.pt#1", "a · pretrained"]


def test_long_names_lose_their_middle_unless_two_would_be_alike() -> None:
    long = [
        "timm:vit_base_patch16_clip_224.laion2b_ft_in12k_in1k",
        "timm:" + "x" * 20 + "a" + "y" * 20,
        "timm:" + "x" * 20 + "b" + "y" * 20,
    ]
    table = pd.DataFrame({"backbone": long, "weights": "pretrained", "normalize": "none"})
    found = names.series_names(table)
    assert found[long[0], "pretrained", "none"] == "vit_base_patch16_…2b_ft_in12k_in1k"
    assert len(found[long[0], "pretrained", "none"]) == names.LONGEST
    assert [found[b, "pretrained", "none"] for b in long[1:]] == long[1:]


def test_every_measure_has_a_name(tables: dict[int, pd.DataFrame]) -> None:
    table = tables[3]
    images = table[table["feature"] == "image"]
    assert set(names.measure_labels(images)) == {"PSNR", "SSIM", "MS-SSIM", "FSIM", "LPIPS", "DISTS"}
    joint = table[(table["feature"] == "joint") & (table["backbone"] == "clip_rn50")]
    assert sorted(names.measure_labels(joint)) == [
        "cosine, corrected",
        "cosine, published",
        "l2, corrected",
        "l2, published",
    ]
    assert not any("nan" in label for label in names.row_names(table, names.series_names(table)))
    assert names.measure_name("new_metric") == "NEW-METRIC"


def test_models_of_one_family_share_the_hue_and_nothing_else() -> None:
    found = looks([(f"timm:thing{i}", "untrained", "none") for i in range(12)])
    assert {look.color for look in found.values()} == {figures.FAMILY_COLOURS["other"]}
    assert len({look.marker for look in found.values()}) == 12
    assert len(set(looks([(f"m{i}", "", "") for i in range(40)]).values())) == 40


def test_forms_that_agree_are_one_row(tables: dict[int, pd.DataFrame]) -> None:
    joint = tables[3][tables[3]["feature"] == "joint"]
    once = same_forms_once(joint)
    assert len(once) == 9  # of each of three models: cosine twice, l2 once
    assert once["variant"].value_counts().to_dict() == {"published": 3, "corrected": 3, "both": 3}
    assert set(once[once["variant"] == "both"]["distance"]) == {"l2"}
    by_type = same_forms_once(correlations(a_run(VITS), by="distortion"))
    both = by_type[by_type["variant"] == "both"]
    assert set(both["distance"]) == {"l2"}
    assert both["distortion"].nunique() == len(TYPES)


# ---- layer curves ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_layer_curves(size: int, tables: dict[int, pd.DataFrame]) -> None:
    table, series = tables[size], names.series_names(tables[size])
    figure = figures.layer_curves(table, "cos")
    ax = figure.axes[0]
    lines = lines_of(ax)
    assert list(lines) == list(series.values())
    assert legend_entries(figure) == [*map(plain_text, series.values()), "best block", "embedding (cosine)"]
    blocks = figures.block_rows(table)
    for key, name in series.items():
        own = blocks[(blocks["distance"] == "cos") & (blocks["variant"] == "published")]
        own = own[(own[names.GROUP].astype(str) == list(key)).all(axis=1)].sort_values("feature")
        x, y = np.asarray(lines[name].get_xydata()).T  # type: ignore[attr-defined]
        np.testing.assert_allclose(y, own["srcc"].astype(float))
        last = 1 if size > 1 else 11
        np.testing.assert_allclose(x, np.linspace(0, last, len(own)))
    assert ax.get_xlabel().startswith("relative depth" if size > 1 else "block")
    low, high = ax.get_ylim()
    assert table.loc[table["feature"] == "embedding", "srcc"].between(low, high).all()
    assert len(ax.collections) == (
        2 * size if size <= figures.BANDS else 0
    )  # a band and an embedding's bar each
    assert {"PSNR", "SSIM", "MS-SSIM", "FSIM", "LPIPS", "DISTS"} <= set(written(figure))
    large = [line for line in ax.get_lines() if len(line.get_xdata()) == 1 and line.get_markersize() > 6]
    tops = best_blocks(table[(table["distance"] == "cos") & (table["variant"] == "published")])["srcc"]
    assert sorted(float(line.get_ydata()[0]) for line in large) == pytest.approx(sorted(tops))
    assert_readable(figure)
    assert ("No bands" in figures.curves_note(table, "cos")) == (size > figures.BANDS)


@pytest.mark.parametrize("size", SIZES)
def test_statistics_grid(size: int, tables: dict[int, pd.DataFrame]) -> None:
    figure = figures.statistics_grid(tables[size], "cos")
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "PLCC, raw",
        "PLCC, logistic",
        "KRCC",
        "SRCC within refs",
    ]
    series = list(names.series_names(tables[size]).values())
    for ax in figure.axes:
        assert list(lines_of(ax)) == series
    assert legend_entries(figure)[: len(series)] == [plain_text(s) for s in series]
    krcc = tables[size][
        (tables[size]["feature"] == 0)
        & (tables[size]["distance"] == "cos")
        & (tables[size]["variant"] == "published")
    ]
    drawn = [np.asarray(line.get_ydata())[0] for line in lines_of(figure.axes[2]).values()]  # type: ignore[attr-defined]
    assert sorted(drawn) == pytest.approx(sorted(krcc["krcc"]))
    assert_readable(figure)


def test_two_normalizations_are_two_lines_with_values_of_their_own() -> None:
    run = a_run(THREE[:2], transforms=("none",))
    lines = lines_of(figures.layer_curves(correlations(run), "cos").axes[0])
    assert list(lines) == ["dino_vits16 · unnormalized", "dino_vits16 · mean/std"]
    first, second = (np.asarray(line.get_ydata()) for line in lines.values())  # type: ignore[attr-defined]
    assert not np.allclose(first, second)
    assert len(first) == len(second) == 12


def test_an_absent_form_is_named(tables: dict[int, pd.DataFrame]) -> None:
    with pytest.raises(
        InputError,
        match=r"no block with swd in the corrected form; it has cos \(corrected\), cos \(published\), l2",
    ):
        figures.layer_curves(tables[1], "swd", variant="corrected")


def test_a_name_that_is_too_long_for_a_line_is_cut_after_an_underscore() -> None:
    assert wrapped("vit_tiny_patch16_224 · mean/std", 20 / 11.5) == "vit_tiny_patch16_224\n· mean/std"
    assert wrapped("vit_tiny_patch16_224", 18 / 11.5) == "vit_tiny_patch16_\n224"
    assert wrapped("x" * 25 + " $", 10 / 11.5) == "x" * 10 + "\n" + "x" * 10 + "\n" + "xxxxx " + r"\$"


def test_baselines_close_together_keep_their_names_apart() -> None:
    assert spread([0.5, 0.5, 0.9], 0.1) == pytest.approx([0.45, 0.55, 0.9])
    assert spread([3.0, 1.0, 1.05], 0.1) == pytest.approx([3.0, 0.975, 1.075])
    assert spread([0.0, 0.01, 0.12], 0.1) == pytest.approx([-0.0567, 0.0433, 0.1433], abs=1e-3)
    assert spread([], 1) == []


# ---- intervals and types ---------------------------------------------------------------------------------------------


def interval_marks(figure: Figure) -> list[float]:
    """The x of every dot."""
    lines = [line for ax in figure.axes for line in ax.get_lines() if len(line.get_xdata()) == 1]
    return [float(line.get_xdata()[0]) for line in lines]


@pytest.mark.parametrize("size", SIZES)
def test_interval_rows_of_all_distances(
    size: int, runs: dict[int, Run], tables: dict[int, pd.DataFrame]
) -> None:
    whole = tables[size][tables[size]["feature"].isin(["joint", "embedding", "image"])].sort_values(
        "srcc", ascending=False
    )
    shown = same_forms_once(whole)
    labels, series = names.measure_labels(shown), names.series_labels(shown)
    figure = figures.interval_plot(shown, labels, figures.model_names(runs[size]), groups=series)
    assert sorted(interval_marks(figure)) == pytest.approx(sorted(shown["srcc"]))
    assert len(figure.axes) == {1: 1, 3: 1, 12: 13}[size]  # in panels where one would be too long
    assert not [text for text in written(figure) if "nan" in text]
    assert_readable(figure)
    for ax in figure.axes:
        assert ax.get_xlim()[0] <= whole["srcc_lo"].min() or len(figure.axes) > 1
    if size == 3:
        texts = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        first = f"{series[0]} · {labels[0]}" if series[0] else labels[0]
        assert texts[0] == plain_text(first)
        hollow = [line for line in figure.axes[0].get_lines() if line.get_markerfacecolor() == "white"]
        assert len(hollow) == (shown["variant"] == "corrected").sum()


@pytest.mark.parametrize("size", SIZES)
def test_differences_of_every_block(size: int, runs: dict[int, Run]) -> None:
    table = intermediate_vs_embedding(runs[size], n_resamples=1500)
    shown = table.rename(columns={"difference": "srcc", "lower": "srcc_lo", "upper": "srcc_hi"})
    labels = [names.feature_name(f) for f in table["feature"]]
    zero = "right of zero: intermediate features are better"
    figure = figures.interval_plot(shown, labels, "differences", zero=zero, groups=names.series_labels(table))
    assert sorted(interval_marks(figure)) == pytest.approx(sorted(table["difference"]))
    assert zero in " ".join(written(figure))
    assert_readable(figure)
    for ax in figure.axes:
        assert ax.get_xlim()[0] <= min(0, shown["srcc"].min())


def test_an_interval_that_is_not_defined_is_said() -> None:
    table = pd.DataFrame(
        {
            "backbone": ["dino_vits16", "dino_vits16"],
            "srcc": [np.nan, 0.5],
            "srcc_lo": np.nan,
            "srcc_hi": np.nan,
        }
    )
    figure = figures.interval_plot(table, ["a", "b"], "title")
    assert "not defined" in written(figure)
    assert interval_marks(figure) == [0.5]
    with pytest.raises(InputError, match="no row to draw"):
        figures.interval_plot(table.head(0), [], "title")


@pytest.mark.parametrize("size", SIZES)
def test_types(size: int, runs: dict[int, Run]) -> None:
    table = same_forms_once(correlations(runs[size], by="distortion"))
    table = table[(table["feature"] == "joint") | (table["feature"] == "image")]
    table = table[(table["distance"] != "l2") & (table["variant"] == "published")]
    grid = table.assign(column=names.row_names(table)).pivot(
        index="distortion", columns="column", values="srcc"
    )
    figure = figures.type_heatmap(grid, "SRCC by type")
    ax = figure.axes[0]
    drawn = np.ma.getdata(ax.collections[0].get_array()).reshape(grid.shape)
    order = grid.mean(axis=1).sort_values(ascending=False, kind="stable").index
    columns = grid.mean().sort_values(ascending=False, kind="stable").index
    np.testing.assert_allclose(drawn, grid.loc[order, columns])
    assert (np.diff(grid.loc[order].mean(axis=1)) <= 0).all()
    assert [t.get_text().replace("\n", " ") for t in ax.get_yticklabels()] == [plain_text(i) for i in order]
    assert_readable(figure)


def test_colours_span_the_values_and_part_at_zero_for_both_signs_alone() -> None:
    positive = pd.DataFrame([[0.4, 0.5], [0.9, 0.6]], index=["a", "b"], columns=["x", "y"])
    assert figures.type_heatmap(positive, "t").axes[0].collections[0].get_clim() == (0.4, 0.9)
    assert figures.type_heatmap(positive - 0.6, "t").axes[0].collections[0].get_clim() == pytest.approx(
        (-0.3, 0.3)
    )
    figure = figures.type_heatmap(positive * np.nan, "t")
    assert "No correlation is defined" in " ".join(written(figure)).replace("\n", " ")
    assert_readable(figure)


# ---- scatters and examples -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_scatters(size: int, runs: dict[int, Run], tables: dict[int, pd.DataFrame]) -> None:
    run, series = runs[size], names.series_names(tables[size])
    figure = figures.label_scatter(run, "joint", "cos")
    assert len(figure.axes) == len(series)
    table = tables[size].set_index(names.GROUP)
    for ax, key in zip(figure.axes, series, strict=True):
        points = np.asarray(ax.collections[0].get_offsets())
        assert len(points) == len(run.pairs) - 1  # one pair failed
        (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
        assert ((points >= [x0, y0]) & (points <= [x1, y1])).all()
        own = table.loc[[key]]
        value = own[
            (own["feature"] == "joint") & (own["distance"] == "cos") & (own["variant"] == "published")
        ]["srcc"].item()
        assert f"SRCC {value:.3f}" in [text.get_text() for text in ax.texts]
    assert_readable(figure)


def test_scatters_have_titles_of_their_own_and_each_series_its_block(runs: dict[int, Run]) -> None:
    titles = [
        figures.label_scatter(runs[3], feature, "cos").get_suptitle() for feature in ("joint", "embedding", 3)
    ]
    assert titles == ["All layers, cosine", "Embedding, cosine", "Block 3, cosine"]
    keys = names.series_keys(runs[3].scores)
    figure = figures.label_scatter(runs[3], dict(zip(keys, (4, 0, 2), strict=True)), "cos")
    heads = [ax.get_title(loc="left").replace("\n", " ") for ax in figure.axes]
    assert heads == [
        "clip_rn50 · unnormalized, block 4",
        "dino_vits16 · unnormalized, block 0",
        "dino_vits16 · mean/std, block 2",
    ]
    shown = figures.label_scatter(runs[3], 11, "cos")
    assert len(shown.axes) == 2  # the CNN has five blocks
    assert figures.missing_series(runs[3], 11, "cos").endswith("block 11: clip_rn50 · unnormalized.")
    assert figures.missing_series(runs[3], "joint", "cos") == ""
    assert "No model has SWD" in " ".join(written(figures.label_scatter(runs[3], "joint", "swd"))).replace(
        "\n", " "
    )


def test_the_line_of_a_scatter_is_the_median_of_equally_large_bins() -> None:
    run = a_run(VITS, transforms=("none",))
    ax = figures.label_scatter(run, "joint", "cos").axes[0]
    (line,) = ax.get_lines()
    rows = run.scores[
        (run.scores["feature"] == "joint")
        & (run.scores["distance"] == "cos")
        & (run.scores["variant"] == "published")
    ]
    rows = rows.merge(run.pairs[["pair_id", "label"]]).dropna(subset=["value"]).sort_values("value")
    parts = np.array_split(rows[["value", "label"]].to_numpy(), len(rows) // 8)
    np.testing.assert_allclose(line.get_xydata(), [np.median(part, axis=0) for part in parts])


def example_pairs(folder: Path, sizes: list[tuple[int, int]], kinds: tuple[str, ...]) -> pd.DataFrame:
    rows = []
    for r, (width, height) in enumerate(sizes):
        path = folder / f"r{r}.png"
        Image.new("RGB", (width, height), (40 * r, 90, 120)).save(path)
        for i, kind in enumerate(kinds):
            rows.append((f"r{r}", str(path), str(path), kind, i + 1, 5.0 - i))
    columns = ["ref", "ref_path", "dist_path", "distortion", "level", "quality"]
    return pd.DataFrame(rows, columns=columns).assign(label=lambda t: t["quality"], dist="d.png")


def test_examples(tmp_path: Path) -> None:
    pairs = example_pairs(tmp_path, [(240, 320), (640, 240), (300, 300), (240, 240), (240, 240)], TYPES * 2)
    figure = figures.example_grid(pairs)
    assert len(figure.axes) == 4 * 5
    assert_readable(figure)
    few = figures.example_grid(pairs.iloc[[0, 1]])
    titles = [ax.get_title(loc="center") for ax in few.axes]
    assert titles == ["reference", "Gaussian blur\nlevel 1, label 5", "JPEG\nlevel 2, label 4", "", ""]
    (tmp_path / "r1.png").write_bytes(b"no image")
    assert "cannot be read" in written(figures.example_grid(pairs))


# ---- robustness ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def moved(runs: dict[int, Run]) -> dict[int, tuple[pd.DataFrame, pd.DataFrame]]:
    return {
        size: (robustness_table(run, n_resamples=250), relative_change(run)) for size, run in runs.items()
    }


@pytest.mark.parametrize("size", SIZES)
def test_robustness_curves(size: int, moved: dict[int, tuple[pd.DataFrame, pd.DataFrame]]) -> None:
    table, _ = moved[size]
    assert len(table["series"].unique()) == 2 * size + len(BASELINES)
    figure = robustness_curves(table, "moves")
    several = size > 3
    assert len(figure.axes) == (4 if several else 2)  # translation and rotation
    for ax, kind in zip(figure.axes, ("tra", "rot") * 2, strict=False):
        lines = [line for line in ax.get_lines() if len(line.get_xdata()) > 1]
        part = table[table["kind"] == kind]
        if several:
            feature = "joint" if ax in figure.axes[:2] else "embedding"
            part = part[part["feature"].isin([feature, "image"])]
        assert len(lines) == part["series"].nunique()
        ends = {(round(float(y[0]), 9), round(float(y[-1]), 9)) for y in (line.get_ydata() for line in lines)}
        last = part.sort_values("amount").groupby("series").last()
        assert ends == set(zip(last["unmoved"].round(9), last["srcc"].round(9), strict=True))
        for line in lines:  # the whole line is moved sideways: no kink
            steps = np.diff(np.asarray(line.get_xdata(), dtype=float))
            np.testing.assert_allclose(steps, np.diff([0, *sorted(part["amount"].unique())]))
    entries = legend_entries(figure)
    wanted = size + len(BASELINES) if several else 2 * size + len(BASELINES)
    assert len(entries) == len(set(entries)) == wanted
    assert_readable(figure)


@pytest.mark.parametrize("size", SIZES)
def test_change_boxes(size: int, moved: dict[int, tuple[pd.DataFrame, pd.DataFrame]]) -> None:
    _, ratios = moved[size]
    figure = change_boxes(ratios, "moves")
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "translation\n1 %",
        "translation\n3 %",
        "rotation\n1°",
    ]
    rows = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(rows) == ratios["series"].nunique() == 2 * size
    for ax in figure.axes:
        assert len(ax.patches) == 2 * size
    first = ratios[(ratios["transform"] == "tra-1") & (ratios["series"].map(plain_text) == rows[0])]["ratio"]
    middles = [line.get_xdata() for line in figure.axes[0].get_lines() if line.get_color() == "black"]
    assert middles[0] == pytest.approx([first.median()] * 2)
    assert_readable(figure)


def test_only_moved_series_are_compared() -> None:
    run = a_run(THREE)
    still = (run.scores["backbone"] == "clip_rn50") & (run.scores["transform"] != "none")
    part = Run(run.name, run.scores[~still], run.pairs, run.failures, run.manifests)
    assert is_moved(part)
    assert set(robustness_table(part, n_resamples=250)["backbone"]) == {"dino_vits16", "baseline"}


# ---- hostile names and thin data -------------------------------------------------------------------------------------


HOSTILE: list[Model] = [
    (r"timm:$\frac{$", "untrained", "none", 3),
    ("timm:a_b^c", "untrained", "none", 3),
    ("timm:_hidden", "untrained", "none", 3),
    ("timm:Größe_é_" + "x" * 80, "untrained", "none", 3),
]


def test_hostile_names_are_drawn_as_they_are() -> None:
    run = a_run(HOSTILE)
    table = correlations(run)
    whole = table[table["feature"] == "joint"]
    drawn = [
        figures.layer_curves(table, "cos"),
        figures.statistics_grid(table, "cos"),
        figures.label_scatter(run, "joint", "cos"),
        figures.interval_plot(
            whole, names.measure_labels(whole), figures.model_names(run), groups=names.series_labels(whole)
        ),
        robustness_curves(robustness_table(run, n_resamples=250), r"$\frac{$"),
        change_boxes(relative_change(run), r"$\frac{$"),
    ]
    for figure in drawn:
        assert_readable(figure)
        shown = " ".join(written(figure))
        for name in (r"\$\frac{\$", "a_b^c", "_hidden", "Größe"):
            assert name in shown


def thin(what: str) -> Run:
    run = a_run(THREE)
    scores, pairs = run.scores, run.pairs
    if what == "constant labels":
        pairs = pairs.assign(label=3.0, quality=3.0)
    elif what == "one pair":
        pairs = pairs.iloc[[0]]
    elif what == "one reference":
        pairs = pairs[pairs["ref"] == "r0"]
    elif what == "no value":
        scores = scores.assign(value=np.nan)
    scores = scores[scores["pair_id"].isin(pairs["pair_id"])]
    return Run(run.name, scores, pairs, run.failures, run.manifests)


@pytest.mark.parametrize("what", ["constant labels", "one pair", "one reference", "no value"])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_thin_data_draws_or_says_so(what: str) -> None:
    run = thin(what)
    table = correlations(run)
    whole = table[table["feature"] == "joint"]
    for figure in (
        figures.layer_curves(table, "cos"),
        figures.statistics_grid(table, "cos"),
        figures.label_scatter(run, "joint", "cos"),
        figures.interval_plot(whole, names.measure_labels(whole), "title", groups=names.series_labels(whole)),
    ):
        assert_readable(figure)
        said = " ".join(written(figure)).replace("\n", " ")
        if what != "one reference":
            assert any(s in said for s in ("not defined", "No correlation is defined", "No pair has a value"))
    if what == "one reference":
        assert len(lines_of(figures.layer_curves(table, "cos").axes[0])) == 3
    else:
        with pytest.raises(InputError, match="no block has a defined srcc"):
            best_blocks(table)
    assert_readable(change_boxes(relative_change(run), "title"))
    assert_readable(robustness_curves(robustness_table(run, n_resamples=250), "title"))


def test_captions_count_pairs_and_name_models() -> None:
    text = figures.caption(a_run(THREE), "What.")
    assert "n = 40 pairs of 4 references, 1 failed" in text
    assert (
        "dino_vits16, clip_rn50 (pretrained, normalize=none, fp32); dino_vits16 (pretrained, normalize=model, fp32)"
        in text
    )
    assert figures.model_names(a_run(THREE)) == "dino_vits16, clip_rn50 (pretrained)"
    assert figures.model_names(a_run(TWELVE, transforms=("none",))).startswith(
        "11 models (pretrained, untrained, "
    )


# ---- LoDa and the Explorer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 12])
def test_learning_curves(count: int) -> None:
    history = pd.DataFrame(
        {"epoch": range(4), "train_loss": [0.5, 0.4, 0.3, 0.2], "val_srcc": [0.1, 0.2, 0.3, 0.4]}
    )
    histories = {f"split {i}": history + 0.01 * i for i in range(count)}
    figure = loda_figures.learning_curves(histories, "LoDa on demo")
    for ax, column_ in zip(figure.axes, ("train_loss", "val_srcc"), strict=True):
        lines = [line for line in ax.get_lines() if len(line.get_xdata()) == 4]
        assert len(lines) == count
        np.testing.assert_allclose(lines[-1].get_ydata(), history[column_] + 0.01 * (count - 1))
    assert legend_entries(figure)[-1] == "loss without any correlation"
    assert len(legend_entries(figure)) == count + 1
    assert_readable(figure)


def test_the_fitted_logistic_is_a_smooth_curve() -> None:
    rng = np.random.default_rng(2)
    x = np.r_[
        rng.normal(-3, 0.1, 30), rng.normal(3, 0.1, 30)
    ]  # nothing between: a polyline would be one straight step
    quality = 1 / (1 + np.exp(-2 * (x - 1))) + rng.normal(0, 0.01, 60)
    rows = pd.DataFrame({"prediction": x, "quality": quality, "spread": 0.1})
    figure = loda_figures.prediction_scatter(rows, "LoDa")
    (curve,) = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) >= 200]
    dense, drawn = np.asarray(curve.get_xydata()).T
    np.testing.assert_allclose(np.diff(dense), (x.max() - x.min()) / (len(dense) - 1))
    assert (np.diff(drawn) >= -1e-9).all()
    from fmiqa_utils.statistics.logistic import fit_logistic

    fit = fit_logistic(x, quality, 4)
    np.testing.assert_allclose(fit.curve(x), fit.fitted, atol=1e-6)
    np.testing.assert_allclose(drawn, fit.curve(dense))
    assert legend_entries(figure) == [f"4-parameter logistic, PLCC {fit.plcc:.3f}"]
    assert_readable(figure)
    constant = rows.assign(quality=1.0)
    assert_readable(loda_figures.prediction_scatter(constant, "LoDa"))


@pytest.mark.parametrize("parameters", [4, 5])
def test_the_curve_of_a_fit_goes_on_beside_its_data(parameters: int) -> None:
    from fmiqa_utils.statistics.logistic import fit_logistic

    x = np.linspace(-3, 3, 80)
    truth = 2 + 3 / (1 + np.exp(-(x - 0.4) / 0.7))
    fit = fit_logistic(x, truth, parameters)  # type: ignore[arg-type]
    at = np.array([-2.9, 0.123, 2.5])
    np.testing.assert_allclose(fit.curve(at), 2 + 3 / (1 + np.exp(-(at - 0.4) / 0.7)), atol=1e-3)
    line = fit_logistic(x, 1 - 2 * x, parameters)  # type: ignore[arg-type]
    np.testing.assert_allclose(line.curve([10.0]), [-19], atol=1e-3)
    assert np.isnan(fit_logistic([1, 1], [1, 1], parameters).curve([0.0])).all()  # type: ignore[arg-type]


def test_injected_strength_draws_every_entry() -> None:
    rows = pd.DataFrame({"block": range(12), "relative": np.linspace(0, 0.3, 12)})
    figure = loda_figures.strength_figure(
        {f"state {i}": rows * (i + 1) for i in range(5)}, "How much is injected"
    )
    assert len(figure.axes[0].get_lines()) == 5
    assert legend_entries(figure) == [f"state {i}" for i in range(5)]
    assert_readable(figure)


def test_loda_stands_beside_every_series(runs: dict[int, Run]) -> None:
    run = runs[3]
    predictions = pd.DataFrame(
        {"split": 0, "pair_id": run.pairs["pair_id"], "prediction": run.pairs["quality"]}
    )
    table = beside_distances(run, predictions, n_resamples=20)
    assert len(table) == 3 * 3 + len(BASELINES) + 1
    assert table["method"].is_unique
    assert table.iloc[0]["method"] == "LoDa"
    assert {"dino_vits16 · mean/std · all layers, cosine", "MS-SSIM"} <= set(table["method"])
    labels = [r.method.removeprefix(r.series + " · ") for r in table.itertuples()]
    figure = figures.interval_plot(table, labels, "Test images", groups=table["series"])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == list(table["method"])
    assert_readable(figure)


def test_the_view_of_one_pair_can_be_read() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (240, 430, 3), dtype=np.uint8)
    curves = pd.DataFrame(np.exp(rng.normal(-4, 1, (60, 12))), index=[f"p{i}" for i in range(60)])
    labels = pd.Series(rng.normal(size=60), index=curves.index)
    figure = pair_view(
        (image, image),
        rng.random((12, 240, 430)),
        curves,
        labels,
        "p7",
        3,
        backbone="dino_vits16",
        distance="skld",
    )
    assert_readable(figure)
    assert any("SKLD distance in block 3" in text for text in written(figure))


# ---- the shared run --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(everything: Path) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMIQA_SCORES", str(everything / SCORES))
        yield load_run(NAME)


def test_the_shared_run_has_everything(shared: Run) -> None:
    assert {(m["backbone"], m["normalize"]) for m in shared.manifests} == {
        (b, n) for b in SHARED_MODELS for n in ("none", "model")
    }
    failed = shared.scores[shared.scores["value"].isna()]["pair_id"].unique()
    assert list(failed) == [UNREADABLE] == list(shared.failures["pair_id"].unique())
    assert set(shared.scores["transform"]) == {"none", "tra-1", "sca-1", "rot-1"}
    assert set(shared.scores["variant"]) == {"published", "corrected"}
    joint = shared.scores[(shared.scores["feature"] == "joint") & (shared.scores["distance"] == "jsd")]
    assert set(joint[joint["variant"] == "published"]["backbone"]) == {
        SHARED_MODELS[0]
    }  # none of a CNN's maps


def test_every_figure_of_the_shared_run(shared: Run) -> None:
    table = correlations(shared)
    whole = same_forms_once(table[table["feature"].isin(["joint", "embedding", "image"])])
    labels, series = names.measure_labels(whole), names.series_labels(whole)
    keys = {
        names.key_of(r[:3]): r[3]
        for r in best_blocks(table)[[*names.GROUP, "feature"]].itertuples(index=False)
    }
    for figure in (
        figures.example_grid(shared.pairs),
        figures.layer_curves(table, "jsd"),
        figures.statistics_grid(table, "cos"),
        figures.label_scatter(shared, keys, "cos"),
        figures.label_scatter(shared, "joint", "jsd"),
        figures.interval_plot(whole, labels, figures.model_names(shared), groups=series),
        robustness_curves(robustness_table(shared, n_resamples=250), "moves"),
        change_boxes(relative_change(shared), "moves"),
    ):
        assert_readable(figure)
    assert "resnet10t · mean/std" in figures.missing_series(shared, "joint", "jsd")
    assert len(figures.label_scatter(shared, "joint", "jsd").axes) == 2
    assert to_hex(figures.family_colour(SHARED_MODELS[1])) == figures.FAMILY_COLOURS["other"].lower()
    for key in names.series_keys(shared.scores):
        assert strongest_block(shared, key)[0] == "cos"
    assert strongest_block(shared) == strongest_block(shared, names.series_keys(shared.scores)[0])
