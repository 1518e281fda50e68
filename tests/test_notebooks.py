"""Every notebook on one small run that has everything, and every value that the comments of its parameters offer."""

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image
from safetensors.torch import save_file
from shared_run import IMAGES, KINDS, LEVELS, MODELS, NAME, NORMALIZE, SCORES, SIZES, TRANSFORMS, UNREADABLE

from fmiqa_utils.backbones import catalogue
from fmiqa_utils.backbones.load import load_backbone
from fmiqa_utils.datasets.registry import DATASETS, DIRECTIONS
from fmiqa_utils.datasets.transforms import TRANSFORM_EXAMPLES
from fmiqa_utils.distances import table as measures
from fmiqa_utils.errors import InputError
from fmiqa_utils.loda.chapter import preset
from fmiqa_utils.paths import notebooks_root
from fmiqa_utils.published.results import published_table
from fmiqa_utils.report.notebooks import findings, notebook_parameters, run_notebook
from fmiqa_utils.scores.run_names import run_parts
from fmiqa_utils.scores.runs import load_run, save_run

CNN = "timm:test_resnet"  # for what is tried many times
PAIRS = len(SIZES) * len(KINDS) * len(LEVELS)
NOTEBOOKS = {p.name[:2]: p for p in sorted(notebooks_root().glob("*.ipynb"))}
FAST = {"02": 20, "03": 20, "04": 20, "05": 20}  # n_resamples: fewer than Holm's correction would take
FIGURES = {
    "00": set(),
    "01": {"examples"},
    "02": {"srcc", "statistics", "scatter"},
    "03": {"distances", "forms", "types", "types_models"},
    "04": {"difference", "joint_scatter", "embedding_scatter"},
    "05": {"correlation", "change"},
    "06": {"srcc", "within", "resampling", "intervals", "plcc", "robustness"},
    "07": {"architecture", "learning", "scatter", "strength", "attention", "beside"},
}


# ---- the run and the notebooks, each executed once ---------------------------------------------------------------------


class Place(NamedTuple):
    """Where the run lies."""

    root: Path
    table: Path  # its pairs.csv
    results: Path  # per-image results of TID2013, made up


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, everything: Path) -> Iterator[Place]:
    """A copy of the shared run's scores, in folders whose names have spaces and a letter that is not ASCII; the images where they are."""
    root = tmp_path_factory.mktemp("notebooks") / "Bilder für alle"
    results = root / "results"
    results.mkdir(parents=True)
    shutil.copytree(everything / SCORES, root / "scores")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SCORES", "FIGURES", "REPORTS", "DATA"):
            patch.setenv(f"FMIQA_{name}", str(root / name.lower()))
        patch.setenv("HF_HUB_OFFLINE", "1")
        write_results(results)
        yield Place(root, everything / IMAGES / "pairs.csv", results)


def write_results(folder: Path) -> None:
    """Per-image results of four references in the authors' layout."""
    rng = np.random.default_rng(0)
    names = [
        f"I{ref:02d}_{kind:02d}_{level}.bmp" for ref in range(1, 5) for kind in (1, 2) for level in (1, 2, 3)
    ]
    rows = pd.DataFrame(
        {"dis": names, "ref": [n[:3] + ".BMP" for n in names], "mos": -rng.normal(size=len(names))}
    )
    for method in ("dinov1_l2", "dinov1_cos", "embed_dinov1_cos"):
        rows.assign(pred=rng.random(len(names))).to_csv(folder / f"tid2013_{method}.csv", index=False)


def parameters(number: str, place: Place) -> dict[str, object]:
    """What a notebook is run with."""
    own = {"dataset": f"csv:{place.table}", "direction": "higher"}
    again = {"backbone": ",".join(MODELS), "weights": "untrained", "transforms": ",".join(TRANSFORMS)}
    baselines = ",".join(load_run(NAME).manifests[0]["settings"]["baselines"])
    return {
        "01": {**own, **again, "transform_pairs": 6, "baselines": baselines, "run": "again"},
        "06": {"run": NAME, "results": str(place.results)},
        "07": {**own, "run": NAME, "loda_preset": "small"},
    }.get(number, {"run": NAME} | ({"n_resamples": FAST[number]} if number in FAST else {}))


@pytest.fixture(scope="module")
def executed(place: Place) -> Callable[[str], Path]:
    """The executed copy of a notebook, run when it is asked for the first time."""

    def run(number: str) -> Path:
        copy = place.root / "executed" / NOTEBOOKS[number].name
        if not copy.is_file():
            run_notebook(NOTEBOOKS[number], copy, parameters(number, place), "key", timeout=500)
        return copy

    return run


def outputs(path: Path) -> Iterator[tuple[Any, Any]]:
    """(cell, output) of an executed notebook."""
    for cell in nbformat.read(path, as_version=4).cells:
        for output in cell.get("outputs", []):
            yield cell, output


def markdown(path: Path) -> list[str]:
    """What the cells printed as Markdown."""
    return [o["data"]["text/markdown"] for _, o in outputs(path) if "text/markdown" in o.get("data", {})]


@pytest.mark.slow
@pytest.mark.parametrize("number", NOTEBOOKS)
def test_a_notebook_runs_draws_and_says_what_it_found(
    number: str, place: Place, executed: Callable[[str], Path]
) -> None:
    path = executed(number)
    assert [o for _, o in outputs(path) if o.output_type == "error"] == []
    assert [o.text for _, o in outputs(path) if o.output_type == "stream" and "Warning" in o.text] == []
    run = "again" if number == "01" else NAME
    drawn = {p.name for p in (place.root / "figures" / run).glob(f"{number}_*")}
    assert drawn == {f"{number}_{name}.{kind}" for name in FIGURES[number] for kind in ("png", "svg")}
    assert all((place.root / "figures" / run / name).stat().st_size > 3000 for name in drawn)
    said = findings(path)
    tagged = [c for c in nbformat.read(path, as_version=4).cells if "finding" in c.metadata.get("tags", [])]
    assert len(said) == len(tagged) >= 1  # each of them printed Markdown
    for text in markdown(path):
        assert len(text) > 20
        assert not re.search(r"\bnan\b|\bNone\b|<NA>|\binf\b", text), text


@pytest.mark.slow
def test_the_chapters_say_what_the_run_holds(place: Place, executed: Callable[[str], Path]) -> None:
    run = load_run(NAME)
    assert list(run.failures["pair_id"].unique()) == [UNREADABLE]
    assert f"{PAIRS} pairs of {len(SIZES)} references" in findings(executed("00"))[0]
    extraction = findings(executed("01"))[0]
    assert f"{PAIRS - 1} of {PAIRS} pairs" in extraction
    assert "**1 pair failed.**" in extraction
    assert "damaged or cut short" in extraction
    for number in ("02", "03", "04"):
        assert f"Only {PAIRS - 1} pairs of {len(SIZES)} references" in findings(executed(number))[0]
    assert "1 %" in findings(executed("05"))[0]
    best = published_table().query("dataset == 'pipal' and transform == 'none'")["srcc"].max()
    assert f"{best:.3f}" in findings(executed("06"))[0]
    assert (
        f"{PAIRS - 1} of {PAIRS} images" in markdown(executed("07"))[0]
    )  # LoDa cannot read the torn one either


def tables(path: Path) -> Iterator[pd.DataFrame]:
    """The tables that an executed notebook shows, as text."""
    for _, output in outputs(path):
        page = BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser")
        for shown in page.find_all("table"):
            head, *rows = [[c.get_text() for c in row.find_all(["th", "td"])] for row in shown.find_all("tr")]
            yield pd.DataFrame(rows, columns=head)


@pytest.mark.slow
def test_two_normalizations_are_two_rows_in_every_table_and_the_failed_pair_is_counted(
    executed: Callable[[str], Path],
) -> None:
    four = {(model.removeprefix("timm:"), normalize) for model in MODELS for normalize in NORMALIZE}
    for number in ("02", "03", "04"):
        found = [t for t in tables(executed(number)) if "normalize" in t]
        assert found
        for table in found:
            own = table[table["backbone"] != "baseline"]
            models = own["backbone"].str.removeprefix("timm:")
            assert set(zip(models, own["normalize"], strict=True)) == four
    (moves,) = [t for t in tables(executed("05")) if "unmoved" in t]
    for name, _ in four:
        for label in ("unnormalized", "mean/std"):
            assert moves["series"].str.startswith(f"{name} · {label}").any()
    for number in ("02", "03", "04", "05"):
        captions = " ".join(
            o["data"].get("text/html", "") for _, o in outputs(executed(number)) if "data" in o
        )
        assert f"n = {PAIRS} pairs of {len(SIZES)} references, 1 failed" in captions


@pytest.mark.slow
def test_what_is_read_is_not_computed_again(place: Place, executed: Callable[[str], Path]) -> None:
    shards = sorted(place.root.glob("scores/csv-*/*/*.parquet"))
    assert shards
    times = [p.stat().st_mtime_ns for p in shards]
    executed("01")  # extracts under another name what the shared run has: the same shards
    again = load_run("again")
    whole = load_run(NAME)
    assert {m["normalize"] for m in again.manifests} == {"none"}
    assert len(whole.manifests) == 4
    assert [p.stat().st_mtime_ns for p in shards] == times
    assert sorted(place.root.glob("scores/csv-*/*/*.parquet")) == shards


# ---- what the comments offer -------------------------------------------------------------------------------------------


class Offer(NamedTuple):
    """One parameter's comment, word for word, and the values that it offers, each of which is tried."""

    comment: str
    values: tuple[object, ...]
    also: tuple[str, ...] = ()  # known words in the comment that are no values of this parameter


OWN = "csv:PATH"
MOVES = "none,tra-1,sca-1,rot-1"
RUN = "name of the run, as notebook 01_extract or `fmiqa extract --run` wrote it"
DISTANCES = ("l2", "cos", "skld", "jsd", "wsd")
FORMS = ("published", "corrected")
NAMES = ("demo", "live", "tid2013", "csiq", "kadid10k", "pipal", OWN)
ROOT = Offer("the dataset's folder; empty: data/NAME or $FMIQA_DATA/NAME", ("", "FOLDER"))
LABELS = Offer("for live only: dmos or realigned", ("", "dmos", "realigned"), ("live",))
DIRECTION = Offer("for csv:PATH only: higher or lower, which label is better", ("higher", "lower"), (OWN,))
RESAMPLES = "bootstrap resamples over references"
HOLM = f"{RESAMPLES}; more where Holm's correction needs them"
OFFERS: dict[str, dict[str, Offer]] = {
    "00": {
        "run": Offer("name of a saved run", (NAME,)),
        "device": Offer("auto, cpu, cuda: where the maps are computed", ("auto", "cpu", "cuda")),
    },
    "01": {
        "dataset": Offer(f"{', '.join(NAMES[:-1])}, or {OWN}", NAMES),
        "root": ROOT,
        "labels": LABELS,
        "direction": DIRECTION,
        "backbone": Offer(
            "names by commas; auto: DINO ViT-S/16 if it can be downloaded, else a small ViT",
            ("auto", CNN, ",".join(MODELS)),
            ("small",),
        ),
        "weights": Offer(
            "pretrained, untrained, auto, or the path of a state-dict file",
            ("pretrained", "untrained", "auto", "FILE"),
        ),
        "run": Offer("name under which the other notebooks find the result", ("tried",)),
        "distances": Offer(
            "all, or any of l2, cos, skld, jsd, wsd, swd by commas", ("all", *DISTANCES, "swd", "l2,cos")
        ),
        "variants": Offer("published, corrected or both", (*FORMS, "both")),
        "baselines": Offer(
            "psnr and ssim always; all, or any of ms_ssim, fsim, lpips, dists (pyiqa)",
            ("psnr", "ssim", "psnr,ssim", "all", "ms_ssim", "fsim", "lpips", "dists"),
        ),
        "transforms": Offer(
            "none, or none,tra-1,sca-1,rot-1 with any amounts (%, degrees); auto: some on demo",
            ("none", MOVES, "none,tra-0.5,rot-2", "auto"),
            ("demo", "tra-1", "sca-1", "rot-1"),
        ),
        "transform_pairs": Offer(
            "pairs that are moved, evenly spaced; 0: all, on demo 120",
            (0, 2),
            ("all", "demo", "120"),
        ),
        "normalize": Offer("none (as published) or model (the model's own mean and std)", ("none", "model")),
        "precision": Offer("fp32, bf16 or fp16", ("fp32", "bf16", "fp16")),
        "small_images": Offer(
            "error, resize or pad: what to do with images under 224 px", ("error", "resize", "pad"), ("224",)
        ),
        "strict": Offer("True: stop at the first pair that cannot be scored", (True, False)),
    },
    "02": {
        "run": Offer(RUN, (NAME,)),
        "distance": Offer("l2, cos, skld, jsd or wsd", DISTANCES),
        "variant": Offer("published or corrected", FORMS),
        "n_resamples": Offer(RESAMPLES, (1, 50)),
    },
    "03": {"run": Offer(RUN, (NAME,)), "n_resamples": Offer(RESAMPLES, (20,))},
    "04": {
        "run": Offer(RUN, (NAME,)),
        "distance": Offer("l2, cos, skld, jsd or wsd: the distance between intermediate features", DISTANCES),
        "variant": Offer("published or corrected", FORMS),
        "n_resamples": Offer(HOLM, (20,)),
    },
    "05": {
        "run": Offer(RUN, (NAME,)),
        "distance": Offer("l2, cos, skld, jsd or wsd: the joint distance to follow", DISTANCES, ("joint",)),
        "variant": Offer("published or corrected", FORMS),
        "n_resamples": Offer(HOLM, (20,)),
    },
    "06": {
        "run": Offer("name of the run to compare with the published numbers", (NAME,), ("published",)),
        "results": Offer(
            "folder of per-image results, to compare pair by pair; empty: only the packaged table",
            ("", "FOLDER"),
        ),
    },
    "07": {
        "run": Offer("name of the run that LoDa is compared with", (NAME,)),
        "dataset": Offer(f"the run's dataset: {', '.join(NAMES[:-1])}, or {OWN}", NAMES),
        "root": ROOT,
        "labels": LABELS,
        "direction": DIRECTION,
        "loda_preset": Offer(
            "published (ViT-B/16, ResNet-50), small, or auto: small on demo, else published",
            ("published", "small", "auto"),
            ("demo",),
        ),
        "loda_splits": Offer("how many of the ten splits, 1 to 10", (1, 10)),
    },
}
WORDS = {  # what a comment may offer: every word that an option of the package may hold
    *measures.DISTANCES,
    *measures.VARIANTS,
    *catalogue.NORMALIZE,
    *catalogue.PRECISIONS,
    *catalogue.SMALL_IMAGES,
    *measures.BASELINES,
    *TRANSFORM_EXAMPLES,
    *catalogue.WEIGHTS,
    *DATASETS,
    *DIRECTIONS,
    *(
        choice
        for dataset in DATASETS.values()
        for choice in dataset.choices
        if choice not in ("val", "train")
    ),
    *("all", "both", "auto", "cpu", "cuda", "small", "joint", OWN, "True", "False"),
}
EXECUTED_ABOVE = {("00", "run"), ("02", "run"), ("03", "run"), ("03", "n_resamples"), ("04", "run")}
EXECUTED_ABOVE |= {("04", "n_resamples"), ("05", "run"), ("05", "n_resamples"), ("06", "run"), ("07", "run")}


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_every_parameter_and_its_comment_is_known_here(number: str) -> None:
    """A new parameter or a new word in a comment fails here: write down what it offers, so that it is tried."""
    declared = notebook_parameters(NOTEBOOKS[number])
    assert {name: p.help for name, p in declared.items()} == {n: o.comment for n, o in OFFERS[number].items()}
    for name, offer in OFFERS[number].items():
        comment = re.sub(r"\([^)]*\)", " ", offer.comment)
        words = {w for w in re.split(r"[,;\s]+|: ", comment.replace(": ", " ")) if w in WORDS or w.isdigit()}
        tried = {part for value in offer.values for part in re.split(r",", str(value))}
        assert words <= tried | set(offer.also), f"{number} {name}: the comment offers {words - tried}"


CASES = [
    (number, name, value)
    for number, offers in OFFERS.items()
    for name, offer in offers.items()
    for value in offer.values
    if (number, name) not in EXECUTED_ABOVE
]


def cells(number: str, **given: object) -> list[str]:
    """Run the cells of a notebook here, with parameters; returns what they would print as Markdown."""
    space: dict[str, Any] = {"__name__": "__main__"}
    said = []
    for cell in nbformat.read(NOTEBOOKS[number], as_version=4).cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, cell.source, "exec"), space)
        if "parameters" in cell.metadata.get("tags", []):
            assert set(given) <= set(space)
            space.update(given)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), cell.source, "eval"), space)
            said += [value.data] if type(value).__name__ == "Markdown" else []
    return said


@pytest.fixture(scope="module")
def small(place: Place) -> dict[str, Any]:
    """What notebook 01 is tried with: two references of one window, a table with an image under 224 px, one with a torn image."""
    folder = place.root / "few"
    folder.mkdir()
    rng, rows = np.random.default_rng(1), []
    for r in range(2):
        ref = rng.integers(0, 256, (230, 230, 3))
        Image.fromarray(ref.astype(np.uint8)).save(folder / f"r{r}.png")
        for level in (1, 2):
            noisy = np.clip(ref + rng.normal(0, 30 * level, ref.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"r{r}_{level}.png")
            rows.append((f"r{r}.png", f"r{r}_{level}.png", 5 - level - r / 4))
    table = pd.DataFrame(rows, columns=["ref", "dist", "label"])
    table.to_csv(folder / "pairs.csv", index=False)
    for name in ("r", "d"):
        Image.fromarray(rng.integers(0, 256, (200, 230, 3), dtype=np.uint8)).save(
            folder / f"small_{name}.png"
        )
    table.loc[4] = ("small_r.png", "small_d.png", 1.0)
    table.to_csv(folder / "with_small.csv", index=False)
    (folder / "torn.png").write_bytes((folder / "r0_1.png").read_bytes()[:9000])
    table.loc[4] = ("r0.png", "torn.png", 1.0)
    table.to_csv(folder / "with_torn.csv", index=False)
    demo = place.root / "data" / "demo"
    shutil.copytree(place.table.parent, demo)
    state = load_backbone(CNN, "untrained").model.state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, place.root / "eigene gewichte.safetensors")
    return {"folder": folder, "weights": place.root / "eigene gewichte.safetensors", "demo": demo}


MISSING = {"live", "tid2013", "csiq", "kadid10k", "pipal"}
NO_WEIGHTS = "are not in the hub's cache and the hub does not answer|could not be fetched"


@pytest.fixture
def drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn but not written: that is checked above."""
    import matplotlib.pyplot as plt

    monkeypatch.setattr("fmiqa_utils.figures.output.show", lambda figure, *_, **__: plt.close(figure))
    monkeypatch.setattr("fmiqa_utils.figures.pairs.example_grid", lambda _: plt.figure())


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, small: dict[str, Any]) -> None:
    """No download is tried, and the demo dataset is a few images."""
    import pyiqa

    def create_metric(name: str, **options: Any) -> Any:
        if name in ("lpips", "dists"):
            raise OSError("no network")
        return create(name, **options)

    create = pyiqa.create_metric
    monkeypatch.setattr(pyiqa, "create_metric", create_metric)
    monkeypatch.setattr("fmiqa_utils.backbones.hub.hub_has", lambda _: False)
    for place in (
        "fmiqa_utils.build_demo",
        "fmiqa_utils.demo.build.build_demo",
    ):  # the face keeps what it was asked for
        monkeypatch.setattr(place, lambda **_: small["demo"])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [(n, v) for number, n, v in CASES if number == "01"])
def test_what_notebook_01_offers_is_accepted(
    name: str, value: object, place: Place, small: dict[str, Any], offline: None, drawn_once: None
) -> None:
    folder = small["folder"]
    given: dict[str, Any] = {
        "dataset": f"csv:{folder / 'pairs.csv'}",
        "direction": "higher",
        "backbone": CNN,
        "weights": "untrained",
        "run": "tried",
        "distances": "l2",
        "variants": "published",
        "transforms": "none",
    }
    refusal = ""
    if name in ("transforms",):
        given["transform_pairs"] = 2
    if name == "transform_pairs":
        given["transforms"] = "none,tra-1"
    if name == "dataset":
        given["direction"] = "" if value != OWN else "higher"
        value = given["dataset"] if value == OWN else value
        refusal = "is not in" if value in MISSING else ""
    elif name == "root":
        value = str(folder) if value else ""
    elif name == "labels" and value:
        given |= {"dataset": "live", "direction": ""}
        refusal = "is not in"
    elif name == "backbone" and value == "auto":
        given |= {"dataset": "demo", "direction": "", "weights": "auto"}
    elif name == "weights":
        refusal = NO_WEIGHTS if value in ("pretrained", "auto") else ""
        value = str(small["weights"]) if value == "FILE" else value
    elif name == "baselines" and {"all", "lpips", "dists"} & {value}:
        refusal = NO_WEIGHTS
    elif name == "small_images" and value != "error":
        given["dataset"] = f"csv:{folder / 'with_small.csv'}"
    elif name == "strict":
        given["dataset"] = f"csv:{folder / 'with_torn.csv'}"
        refusal = "damaged or cut short" if value else ""
    if refusal:
        with pytest.raises(InputError, match=refusal):
            cells("01", **{**given, name: value})
        return
    said = cells("01", **{**given, name: value})
    run = load_run(str(given["run"] if name != "run" else value))
    scored, whole = {
        ("dataset", "demo"): (PAIRS - 1, PAIRS),
        ("backbone", "auto"): (PAIRS - 1, PAIRS),
        ("small_images", "resize"): (5, 5),
        ("small_images", "pad"): (5, 5),
        ("strict", False): (4, 5),
    }.get((name, value), (4, 4))
    assert said[-1].startswith(f"**{scored} of {whole} pairs of")
    check_arrived(run, name, value)


def check_arrived(run: Any, name: str, value: object) -> None:
    """The value is in the run's rows or in its manifest."""
    manifest, scores = run.manifests[0], run.scores
    settings = manifest["settings"]
    if name in ("precision", "normalize"):
        assert manifest[name] == value
    elif name == "distances":
        wanted = measures.chosen_distances(str(value))
        assert set(wanted) <= set(scores["distance"]) <= {*wanted, "cos", "psnr", "ssim"}
    elif name == "variants":
        assert tuple(settings["variants"]) == measures.chosen_variants(str(value))
    elif name == "baselines":
        assert set(settings["baselines"]) == {"psnr", "ssim", *str(value).split(",")}
    elif name == "transforms":
        moves = {"none"} if value == "auto" else set(str(value).split(","))
        assert set(scores["transform"]) == moves
    elif name == "transform_pairs":
        moved = scores[scores["transform"] == "tra-1"]["pair_id"].nunique()
        assert moved == (value or len(run.pairs))
    elif name == "direction":
        assert np.sign(run.pairs["quality"].iloc[0]) == (1 if value == "higher" else -1)
    elif name == "weights":
        assert manifest["weights"].startswith("untrained" if value == "untrained" else "eigene")
    elif name == "small_images":
        assert settings["small_images"] == value
    elif name == "backbone" and value != "auto":
        assert {m["backbone"] for m in run.manifests} == set(str(value).split(","))


@pytest.fixture
def tables_once(monkeypatch: pytest.MonkeyPatch, computed: dict[Any, Any]) -> None:
    """A correlation table that was computed is not computed again for another distance of the same run."""
    from fmiqa_utils.statistics import correlation

    compute = correlation.correlation_table

    def remembered(scores: pd.DataFrame, pairs: pd.DataFrame, **options: Any) -> pd.DataFrame:
        key = (len(scores), len(pairs), *sorted(options.items()))
        if key not in computed:
            computed[key] = compute(scores, pairs, **options)
        return computed[key].copy()

    monkeypatch.setattr(correlation, "correlation_table", remembered)


@pytest.fixture(scope="module")
def computed() -> dict[Any, Any]:
    """The tables of `tables_once`."""
    return {}


@pytest.fixture(scope="module")
def plain_run(place: Place) -> str:
    """Of the shared run the two models without normalization, for what is tried many times."""
    save_run("plain", [part.folder for part in run_parts(NAME) if "_none_" in part.folder.name])
    assert len(load_run("plain").manifests) == len(MODELS)
    return "plain"


@pytest.mark.slow
@pytest.mark.parametrize(("number", "name", "value"), [c for c in CASES if c[0] in ("02", "04", "05")])
def test_every_distance_and_form_is_drawn(
    number: str, name: str, value: object, plain_run: str, tables_once: None, drawn_once: None
) -> None:
    said = cells(number, **{"run": plain_run, "n_resamples": 20, name: value})
    assert len(said[-1]) > 100
    assert not re.search(r"\bnan\b", " ".join(said))


@pytest.mark.slow
@pytest.mark.parametrize("value", OFFERS["00"]["device"].values)
def test_every_device_of_the_explorer(value: str, place: Place) -> None:
    import torch

    if value == "cuda" and not torch.cuda.is_available():
        with pytest.raises(InputError, match="the device cuda is not there: this machine has no GPU"):
            cells("00", run=NAME, device=value)
        return
    assert f"{PAIRS} pairs" in cells("00", run=NAME, device=value)[-1]


@pytest.mark.slow
def test_published_results_without_a_folder(plain_run: str, drawn_once: None) -> None:
    said = cells("06", run=plain_run, results="")
    assert sum(text.startswith("No per-image results for csv:pairs were given") for text in said) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "value"), [(n, v) for number, n, v in CASES if number == "07"])
def test_what_notebook_07_offers_is_accepted(
    name: str, value: object, place: Place, offline: None, monkeypatch: pytest.MonkeyPatch, drawn_once: None
) -> None:
    """Up to the training, which the chapter itself shows once: what would be trained on which images, over how many splits."""
    asked: dict[str, Any] = {}

    def instead(table: pd.DataFrame, options: Any, *, splits: range, **_: Any) -> None:
        asked.update(table=table, options=options, splits=list(splits))
        raise StopIteration

    monkeypatch.setattr("fmiqa_utils.loda.run.train", instead)
    given: dict[str, Any] = {
        "run": NAME,
        "dataset": f"csv:{place.table}",
        "direction": "higher",
        "loda_preset": "small",
    }
    refusal = ""
    if name == "dataset" and value != OWN:
        given["direction"], refusal = "", "is not in" if value in MISSING else ""
    elif name == "dataset":
        value = given["dataset"]
    elif name == "root":
        value = str(place.table.parent) if value else ""
    elif name == "labels" and value:
        given |= {"dataset": "live", "direction": ""}
        refusal = "is not in"
    elif name == "loda_preset":
        monkeypatch.setattr("fmiqa_utils.loda.train.build", lambda _: None)
        monkeypatch.setattr("fmiqa_utils.loda.figures.architecture", lambda _: None)
    if refusal:
        with pytest.raises(InputError, match=refusal):
            cells("07", **{**given, name: value})
        return
    with pytest.raises(StopIteration):
        cells("07", **{**given, name: value})
    assert len(asked["table"]) == PAIRS - 1
    assert asked["splits"] == list(range(int(str(value)) if name == "loda_splits" else 1))
    if name == "loda_preset":
        assert asked["options"] == preset(str(value), load_run(NAME))
        assert asked["options"].vit.startswith("vit_tiny" if value == "small" else "vit_base")
