"""docs/methods.md keeps up with the code: everything that has a name there has its entry, and its numbers are the code's."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fmiqa_utils.backbones.windows import window_boxes, window_starts
from fmiqa_utils.datasets import transforms
from fmiqa_utils.datasets.layouts import TID2013_TYPES
from fmiqa_utils.datasets.registry import DATASETS
from fmiqa_utils.datasets.tables import PAIR_COLUMNS
from fmiqa_utils.datasets.transforms import TRANSFORMS
from fmiqa_utils.demo.photographs import PHOTOGRAPHS
from fmiqa_utils.distances.baselines import psnr
from fmiqa_utils.distances.forms import DIRECTIONS, DISTANCES, VARIANTS, distances, pad_to_eight
from fmiqa_utils.distances.kernels import l2_weight
from fmiqa_utils.distances.table import BASELINES, orientation
from fmiqa_utils.extraction import extract
from fmiqa_utils.loda.data import TEST_CROPS, TRAIN_CROPS
from fmiqa_utils.loda.evaluate import correlations_of
from fmiqa_utils.loda.model import Learner, plcc_loss
from fmiqa_utils.loda.splits import N_SPLITS, make_splits
from fmiqa_utils.loda.train import Options
from fmiqa_utils.published.results import published_table
from fmiqa_utils.scores import shards as scores
from fmiqa_utils.scores.runs import Run
from fmiqa_utils.statistics import against_embedding as contrasts
from fmiqa_utils.statistics import leaderboard as compare
from fmiqa_utils.statistics import psychometrics
from fmiqa_utils.statistics.correlation import KEYS, correlation_table
from fmiqa_utils.statistics.layer_selection import nested_selection
from fmiqa_utils.statistics.paired_tests import difference_table
from fmiqa_utils.statistics.robustness import relative_change, robustness_table

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
RECOMPUTATION = (ROOT / "docs" / "recomputation.md").read_text(encoding="utf-8")
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("data/*.md"), *ROOT.glob("figures/*.md"), *ROOT.glob("docs/*.md")]
)
SOURCES = sorted(
    [*ROOT.glob("fmiqa_utils/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("notebooks/*.ipynb")]
)
CITATION = re.compile(r"docs/([\w-]+\.md), ([\w][\w &-]*)")
FILES = (".csv", ".md", ".json")  # what has a dot in backticks and is no code


def headings(page: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", page, re.MULTILINE)


def anchor(heading: str) -> str:
    """A heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def section(title: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    level, start = next(
        (len(m[1]), m.end()) for m in re.finditer(r"^(#+) (.+)$", TEXT, re.MULTILINE) if m[2] == title
    )
    end = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE).search(TEXT, start)
    return TEXT[start : end.start() if end else None]


def named(title: str) -> set[str]:
    """Everything in backticks under a heading."""
    return set(re.findall(r"`([^`\n]+)`", section(title)))


def rows(title: str) -> list[list[str]]:
    """The cells of the tables under a heading, without their heads."""
    lines = re.findall(r"^\|(.+)\|$", section(title), re.MULTILINE)
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    rules = [i for i, row in enumerate(cells) if set(row[0]) <= set("-:")]
    return [row for i, row in enumerate(cells) if i not in rules and i + 1 not in rules]


@pytest.fixture(scope="module")
def run() -> Run:
    """Six references with three pairs each: two blocks, joint, embedding and PSNR, unmoved and moved."""
    rng = np.random.default_rng(0)
    pairs = pd.DataFrame({"pair_id": [f"p{i}" for i in range(18)], "quality": rng.normal(size=18)})
    pairs = pairs.assign(dataset="made", ref=[f"r{i // 3}" for i in range(18)])
    table = []
    columns = [(f, "cos", "model") for f in (0, 1, "joint", "embedding")] + [("image", "psnr", "baseline")]
    for feature, distance, backbone in columns:
        for transform in ("none", "tra-1"):
            own = pairs[["dataset", "pair_id"]].assign(value=rng.uniform(1, 2, 18), weights="untrained")
            own = own.assign(backbone=backbone, normalize="none", transform=transform, variant="published")
            table.append(own.assign(feature=feature, distance=distance))
    failures = pd.DataFrame(columns=scores.FAILURE_COLUMNS)
    model = {"backbone": "model", "weights": "untrained", "normalize": "none", "precision": "fp32"}
    manifests = [{**model, "dataset": "made", "labels_sha256": "0", "label_source": "made.csv"}]
    return Run("made", pd.concat(table, ignore_index=True), pairs, failures, manifests)


# ---- links and citations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, place = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if place:
            known = [anchor(heading) for heading in headings(file.read_text(encoding="utf-8"))]
            assert place in known, f"{page.name} links to {target}"


def test_anchors_are_unambiguous() -> None:
    anchors = [anchor(heading) for heading in headings(TEXT)]
    assert len(anchors) == len(set(anchors)) > 30


def test_every_citation_names_a_heading() -> None:
    cited = 0
    for source in SOURCES:
        for name, title in CITATION.findall(source.read_text(encoding="utf-8")):
            known = headings((ROOT / "docs" / name).read_text(encoding="utf-8"))
            assert title in known, f"{source.name} cites {name}, {title}"
            cited += 1
    assert cited >= 9


def test_nothing_cites_a_page_that_is_not_here() -> None:
    word = re.compile(r"\b" + "METH" + r"ODS\b")
    assert len(SOURCES) > 100
    found = [source.name for source in [*SOURCES, *PAGES] if word.search(source.read_text(encoding="utf-8"))]
    assert found == []


def test_the_code_that_is_named_is_there() -> None:
    paths = [p for p in re.findall(r"`([a-z_]+(?:\.\w+)+)`", TEXT + RECOMPUTATION) if not p.endswith(FILES)]
    assert len(paths) > 50
    for path in paths:
        thing = import_module(f"fmiqa_utils.{path.split('.')[0]}")
        for place, name in enumerate(path.split(".")[1:], start=2):
            if inspect.ismodule(thing) and not hasattr(thing, name):
                thing = import_module(f"fmiqa_utils.{'.'.join(path.split('.')[:place])}")
            else:
                assert hasattr(thing, name), path
                thing = getattr(thing, name)


# ---- everything that has a name has its entry ------------------------------------------------------------------------


def test_every_distance_and_variant_has_its_entry() -> None:
    assert set(DISTANCES) <= set(headings(section("Distances")))
    assert set(VARIANTS) <= named("Score table")
    for name in DISTANCES:
        assert "$" in section(name) or "sorted" in section(name)  # a formula, or the procedure in words


def test_every_baseline_has_its_entry_and_orientation() -> None:
    better = {row[0].strip("`"): row[2] for row in rows("Baselines")}
    assert better == {name: "higher" if orientation(name) > 0 else "lower" for name in BASELINES}
    assert all(orientation(name) < 0 for name in DISTANCES)
    assert {name for name in better if orientation(name) > 0} <= named("Signs and orientation")


def test_every_transform_has_its_entry() -> None:
    assert {row[0].strip("`") for row in rows("Transforms")} == {f"{kind}-p" for kind in TRANSFORMS}
    assert "0 to 100 % and 0 to 360 degrees" in section("Transforms")
    assert {kind: entry.most for kind, entry in TRANSFORMS.items()} == {"tra": 100, "sca": 100, "rot": 360}


def test_every_dataset_has_its_entry() -> None:
    kinds = {"mos": "MOS", "dmos": "DMOS", "elo": "Elo", "2afc": "share", "jnd": "share"}
    table = {row[0].strip("`"): row[1:] for row in rows("Datasets")}
    assert list(table) == list(DATASETS)
    for name, (count, label, better, *_) in table.items():
        known = DATASETS[name]
        size = len(PHOTOGRAPHS) * len(TID2013_TYPES) * 5 if name == "demo" else known.rows
        assert count == ("not fixed" if size is None else f"{size:,}")
        assert (label.split()[0], better) == (kinds[known.label_kind], known.direction)
        bounds = re.search(r"\d+–\d+", label)
        assert bounds is None or name == "demo" or bounds[0] in known.note
        assert set(known.choices) <= named("Datasets") or known.kind != "pairs"
    assert set(PAIR_COLUMNS) <= named("Datasets")


def test_every_statistic_has_its_entry(run: Run) -> None:
    unmoved = run.scores[run.scores["transform"] == "none"]
    table = correlation_table(unmoved, run.pairs, n_resamples=20)
    assert {*table.columns} - {*KEYS, "dataset"} <= named("Correlations")
    wide = pd.DataFrame(np.random.default_rng(0).normal(size=(18, 2)), columns=["a", "b"])
    test = difference_table(wide, run.pairs["quality"], run.pairs["ref"], "b", n_resamples=200)
    assert {*test.columns} <= named("Paired differences")
    choice = contrasts.layer_choice(run)
    assert {*choice.columns} - {*contrasts.GROUP} <= named("Choice of a layer")
    moved = robustness_table(run, n_resamples=200)
    assert {*moved.columns} <= named("Robustness")
    assert "ratio" in relative_change(run)
    assert "ratio" in named("Robustness")
    board = compare.leaderboard(
        [Run(run.name, unmoved, run.pairs, run.failures, run.manifests)], n_resamples=20
    )
    places = set.union(*map(named, ("Leaderboard", "Correlations", "Score table")))
    assert {*board.columns} <= places
    assert set(board["features"]) <= named("Leaderboard")
    rows = run.pairs.assign(prediction=np.arange(18.0))
    assert set(correlations_of(rows)) <= named("LoDa evaluation")


def test_every_score_of_choices_has_its_entry() -> None:
    own = [
        n
        for n, f in inspect.getmembers(psychometrics, inspect.isfunction)
        if f.__module__ == psychometrics.__name__
    ]
    public = {f"statistics.psychometrics.{name}" for name in own if not name.startswith("_")}
    assert len(public) >= 4
    assert public <= named("Choices between two")
    table = psychometrics.krasula([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [0.1, 0.1, 5.0])
    assert set(table.columns) <= named("Choices between two")


def test_every_entry_of_a_row_and_of_a_manifest_is_explained() -> None:
    assert {*scores.SCORE_COLUMNS, *scores.FAILURE_COLUMNS} <= named("Score table")
    tree = ast.parse(inspect.getsource(extract))
    dicts = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    keys = {key.value for node in dicts for key in node.keys if isinstance(key, ast.Constant)}
    assert {"shards", "seconds", "stages", "versions"} <= keys
    assert keys <= named("Manifest")


# ---- numbers ---------------------------------------------------------------------------------------------------------------


def test_windows() -> None:
    table = rows("Windows")
    assert len(table) >= 6
    for axis, starts in table:
        assert window_starts(int(axis)) == [int(start) for start in starts.split(", ")]
    assert "768 × 512 px has 12 windows, one of 512 × 384 px has 6" in section("Windows")
    assert (len(window_boxes(512, 768)), len(window_boxes(384, 512))) == (12, 6)
    for n in range(225, 5000):  # starts a stride apart and one at the border: the further case never occurs
        assert window_starts(n) == [*range(0, n - 224, 200), n - 224]


def test_rounding_to_multiples_of_eight() -> None:
    examples = re.findall(r"(\d+) → (\d+)", section("Windows of 64 samples"))
    assert {("197", "200"), ("50", "48"), ("257", "256")} <= set(examples)
    for before, after in examples:
        assert pad_to_eight(torch.zeros(int(before), 8)).shape == (int(after), 8)


def test_constants_of_the_distances() -> None:
    assert "0.0105" in section("Windows of 64 samples")
    assert float(l2_weight(torch.tensor(0.0))) == pytest.approx(0.0105, abs=5e-5)
    assert "[0, 0.852]" in section("jsd")
    assert np.log1p(np.log(2)) ** 0.25 == pytest.approx(0.852, abs=5e-4)
    far = torch.zeros(1, 1, 64, 8)
    far[:, :, ::2] = 200.0  # disjoint masses in every column
    value = distances(("jsd",), far, 200 - far)["jsd", "published"].joint
    assert float(value) == pytest.approx(0.852, abs=1e-3)
    assert f"{DIRECTIONS} directions" in section("swd")


def test_joint_values_are_sums_or_means_as_said() -> None:
    rng = torch.Generator().manual_seed(0)
    f, g = (torch.randn(1, 3, 17, 24, generator=rng) for _ in range(2))
    values = distances(DISTANCES, f, g, VARIANTS, num_prefix_tokens=1)
    for (name, variant), value in values.items():
        if not DISTANCES[name].statistical:
            torch.testing.assert_close(value.joint, value.layers.sum(1))
        elif variant == "corrected":
            torch.testing.assert_close(value.joint, value.layers.mean(1))
        else:
            assert not torch.allclose(value.joint, value.layers.sum(1), rtol=1e-3)
    maps = [torch.randn(1, 5, n, n, generator=rng) for n in (16, 8)]
    joint = {k: v.joint for k, v in distances(DISTANCES, maps, [m + 1 for m in maps], VARIANTS).items()}
    missing = {key for key, value in joint.items() if value is None}
    assert missing == {(name, "published") for name in ("skld", "jsd", "wsd", "swd")}


def test_psnr_of_equal_images() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    assert "100 for equal images" in section("Baselines")
    assert psnr(image, image) == 100


def test_amounts_of_the_transforms(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((512, 512, 3), np.uint8)
    ref, dist = transforms.translate(image, image, 1)
    assert "At 1 % of 512 px: 6 columns, 506 left" in section("Transforms")
    assert ref.shape == dist.shape == (512, 506, 3)
    sizes: list[tuple[int, int]] = []
    really = Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, size, *how: sizes.append(size) or really(self, size, *how)
    )
    transforms.scale(image, image, 1)
    assert "512 → 518 at 1 %" in section("Transforms")
    assert sizes == [(518, 518), (512, 512)]


def test_defaults_of_the_statistics() -> None:
    def default(function: object, name: str) -> object:
        return inspect.signature(function).parameters[name].default  # type: ignore[arg-type]

    assert "1000 resamples with seed 0" in section("Bootstrap")
    assert (default(correlation_table, "n_resamples"), default(correlation_table, "seed")) == (1000, 0)
    assert "10,000 by default" in section("Paired differences")
    assert default(difference_table, "n_resamples") == 10_000
    assert "below 0.05" in section("Paired differences")
    assert default(difference_table, "alpha") == 0.05
    assert "5 folds, 20 times" in section("Choice of a layer")
    assert (contrasts.FOLDS, default(nested_selection, "n_repeats")) == (5, 20)
    assert "2000 by default" in section("Robustness")
    assert default(robustness_table, "n_resamples") == 2000


def test_raw_and_fitted_plcc_differ_by_what_is_said() -> None:
    table = published_table()
    gap = (table["plcc_fit5"] - table["plcc"]).abs().max()
    assert f"up to {gap:.3f}".replace("0.", ".") in section("Correlations")


def test_numbers_of_loda() -> None:
    with torch.device("meta"):
        learner = Learner(768, 12, [256, 512, 1024, 2048], True)
    count = sum(p.numel() for p in learner.parameters())
    assert f"{count:,} trained parameters" in section("LoDa model")
    assert count == 8_927_488
    training = section("LoDa training")
    o = Options()
    for fact in (
        f"rate {o.learning_rate:.0e}".replace("e-0", "e-"),
        f"batch {o.batch}",
        f"{o.epochs} epochs",
    ):
        assert fact in training
    assert f"decay {o.weight_decay:.0e}".replace("e-0", "e-") in training
    for name, crops in TRAIN_CROPS.items():
        assert f"`{name}` {crops}" in " ".join(training.split())
    assert f"{TEST_CROPS} random crops" in section("LoDa evaluation")


def test_the_loss_of_loda_is_what_is_said() -> None:
    rng = torch.Generator().manual_seed(0)
    p = torch.randn(64, generator=rng)
    for t in (p, -p, torch.randn(64, generator=rng)):
        rho = float(torch.corrcoef(torch.stack([p, t]))[0, 1])
        loss = float(plcc_loss(p, t))
        assert loss == pytest.approx((1 - rho) / 4 + (1 - rho**2) / 8, abs=1e-5)
        assert -1e-6 <= loss <= 0.5 + 1e-6


def test_the_splits_of_loda_are_what_is_said() -> None:
    splits = make_splits(pd.DataFrame({"ref": [f"r{i}" for i in range(30)]}))
    assert len(splits) == N_SPLITS == 10
    assert {len(parts["test"]) for parts in splits} == {6}
    assert {len(parts["validation"]) for parts in splits} == {3}
    few = make_splits(pd.DataFrame({"ref": list("abcd")}))[0]
    assert (len(few["test"]), len(few["validation"])) == (2, 1)


def test_numbers_of_the_demo() -> None:
    text = f"{len(PHOTOGRAPHS)} photographs × {len(TID2013_TYPES)} types × 5 levels = 840 pairs"
    assert text in section("Demo labels")
    assert len(PHOTOGRAPHS) * len(TID2013_TYPES) * 5 == 840
