"""The bench: what it reports, how its estimates are counted; and the distance kernels alone, for pytest-benchmark."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from fmiqa_utils.cli.main import app
from fmiqa_utils.distances.forms import distances
from fmiqa_utils.extraction.bench import dataset_forwards, window_forwards

TINY = "timm:vit_tiny_patch16_224"


def test_window_forwards_are_those_of_the_datasets() -> None:
    found = dataset_forwards()
    assert found["TID2013"] == 18_150
    assert found["PIPAL (training part)"] == 4 * 23_400
    assert len(found) == 4
    assert window_forwards(1, 1, (224, 224)) == 2


@pytest.mark.slow
def test_bench_reports_and_saves(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["bench", "--backbone", TINY, "--windows", "4", "--device", "cpu"]
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.exception
    result = json.loads(done.stdout)
    assert result == json.loads((folders / "scores" / "bench.json").read_text())
    assert result["ratio_published"] == pytest.approx(result["published_s"] / result["bare_s"])
    assert 1 < result["ratio_published"] < result["ratio_everything"]
    assert result["weights"] == "untrained"
    assert result["windows_per_s"] == pytest.approx(
        result["pairs_per_s"] * 4 * 3 / 2
    )  # two images and their reference
    assert sum(result["stages"].values()) < 1.01
    assert 0.1 < result["peak_rss_gb"] < 32
    assert result["hours"]["PIPAL (training part)"] == pytest.approx(93_600 / result["windows_per_s"] / 3600)
    assert {"torch", "python"} <= result["versions"].keys()
    monkeypatch.setattr(
        "fmiqa_utils.extraction.bench.bench", lambda *_, **__: result
    )  # measured once is enough
    shown = CliRunner().invoke(app, words)
    assert "published sweep" in shown.stdout
    assert "TID2013" in shown.stdout


@pytest.mark.parametrize("name", ["l2", "cos", "skld", "jsd", "wsd", "skld+jsd+wsd"])
@pytest.mark.parametrize("variant", ["published", "corrected"])
def test_kernel(benchmark, name: str, variant: str) -> None:  # type: ignore[no-untyped-def]
    g = torch.Generator().manual_seed(0)
    f, ref = torch.randn(1, 12, 197, 192, generator=g), torch.randn(1, 12, 197, 192, generator=g)
    with torch.inference_mode():
        values = benchmark.pedantic(
            distances,
            (name.split("+"), f, ref, (variant,)),
            {"num_prefix_tokens": 1, "per_layer": False},
            rounds=2,
        )
    assert all(torch.isfinite(v.layers).all() for v in values.values())
