"""The public face: what `from fmiqa_utils import` offers, found by tab, imported when used, shown by an example that runs."""

import doctest
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from trees import tree_of_demo

import fmiqa_utils
from fmiqa_utils import FeatureDistance, Run, extract, load_run
from fmiqa_utils.errors import InputError

TINY = "timm:resnet10t"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four pairs of two references; the second version of each is noisier, and people like it less."""
    folder = tmp_path_factory.mktemp("face")
    rng, rows = np.random.default_rng(0), []
    for r, ref in enumerate("ab"):
        image = rng.integers(60, 196, (224, 240, 3))
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{ref}.png")
        for level in (1, 2):
            noisy = np.clip(image + rng.normal(0, 10 * (level + r / 2), image.shape), 0, 255)
            Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{ref}_{level}.png")
            rows.append((f"{ref}.png", f"{ref}_{level}.png", 5 - level - r / 2))
    pd.DataFrame(rows, columns=["ref", "dist", "label"]).to_csv(folder / "pairs.csv", index=False)
    tree_of_demo(folder / "data")
    return folder


@pytest.fixture(autouse=True)
def at_home(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("FMIQA_HOME", str(place))


@pytest.fixture
def run(at_home: None) -> Run:
    return extract("csv:pairs.csv", TINY, "untrained", run="own", direction="higher", distances="l2,cos")


def test_the_names_are_found_by_tab() -> None:
    face = {"FeatureDistance", "InputError", "Run", "build_demo", "correlation_table", "explore", "extract"}
    face |= {"figures", "load_pairs", "load_run", "make_report"}
    assert set(fmiqa_utils.__all__) == face <= set(dir(fmiqa_utils))
    assert {"layer_curves", "show", "caption"} <= set(dir(fmiqa_utils.figures))
    with pytest.raises(AttributeError):
        fmiqa_utils.load_pears  # noqa: B018


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, fmiqa_utils; print({'torch', 'pandas', 'numpy', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", [n for n in fmiqa_utils.__all__ if n != "figures"])
def test_every_public_name_has_an_example_that_runs(name: str, run: Run) -> None:
    thing = getattr(fmiqa_utils, name)
    module = inspect.getmodule(thing)
    assert isinstance(module, ModuleType)
    found = doctest.DocTestFinder(recurse=False).find(thing, name, module, extraglobs={"load_run": load_run})
    assert sum(len(test.examples) for test in found) > 0, (
        f"{name} has no example: {thing!r} of {module.__name__}"
    )
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in found:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


def test_the_example_of_the_package_runs() -> None:
    assert doctest.testmod(fmiqa_utils).attempted == 2
    assert doctest.testmod(fmiqa_utils).failed == 0


def test_extract_scores_once_and_returns_the_run(run: Run) -> None:
    again = extract("csv:pairs.csv", TINY, "untrained", run="own", direction="higher", distances="l2,cos")
    pd.testing.assert_frame_equal(again.scores, run.scores)
    assert again.manifests[0]["seconds"] == run.manifests[0]["seconds"]  # nothing was written anew
    assert set(run.scores["distance"]) == {"l2", "cos", "psnr", "ssim"}
    assert run.pairs["dist_path"].iloc[0] == str(Path("a_1.png").absolute())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"distances": "l3"}, "there is no distance called 'l3'"),
        ({"variants": "correct"}, "there is no variant called 'correct'"),
        ({"transforms": "tra-1,tra-1"}, "named twice"),
        ({"normalize": "yes"}, "there is no normalization called 'yes'"),
        ({"precision": "fp8"}, "there is no precision called 'fp8'"),
        ({"small_images": "crop"}, "there is no treatment of small images called 'crop'"),
        ({"direction": "up"}, "direction must be higher or lower"),
        ({"device": "gpu"}, "there is no device 'gpu'"),
    ],
)
def test_extract_refuses_what_the_command_refuses(words: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        extract("csv:pairs.csv", TINY, "untrained", **{"direction": "higher", **words})


def test_a_run_shows_itself_in_a_few_lines(run: Run) -> None:
    text, page = repr(run), run._repr_html_()
    assert text.splitlines()[0] == "Run 'own'"
    assert len(text.splitlines()) <= 10
    for fact in (
        "csv:pairs",
        "4 of 2 references, labels mos",
        f"{TINY} (untrained, normalize=none)",
        "UNTRAINED",
    ):
        assert fact in text
        assert fact in page
    assert page.count("<tr>") == len(run.summary())


def test_a_metric_shows_itself_in_a_few_lines() -> None:
    metric = FeatureDistance(TINY, weights="untrained", distance="jsd", variant="corrected", layers=[0, 2])
    text = repr(metric)
    assert text.splitlines()[0] == "FeatureDistance"
    assert len(text.splitlines()) == 6
    for fact in (f"{TINY} (untrained)", "jsd, corrected form", "0, 2", "normalize=none, fp32", "UNTRAINED"):
        assert fact in text
        assert fact in metric._repr_html_()


def test_what_a_name_holds_is_no_html(run: Run) -> None:
    from dataclasses import replace

    assert "<b>" not in replace(run, name="<b>x</b>")._repr_html_()
