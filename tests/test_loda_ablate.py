"""The ablation: which models are trained, and what the figure shows."""

import pandas as pd
import pytest

from fmiqa_utils.loda import ablate
from fmiqa_utils.loda.train import Options

SRCC = {
    ("small", True): [0.5, 0.7],
    ("small", False): [0.4, 0.2],
    ("large", True): [0.9, 0.7],
    ("large", False): [0.3, 0.3],
}


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    def trained(_table: pd.DataFrame, options: Options, *, splits: list[int], **how: object) -> list[dict]:
        assert how == {"device": "cpu"}
        values = SRCC[options.vit, options.inject]
        return [{"split": s, "folder": "f", "weights": options.weights, "srcc": values[s]} for s in splits]

    monkeypatch.setattr(ablate, "train", trained)
    said: list[str] = []
    options = Options(weights="untrained")
    rows = ablate.ablate_vits(
        pd.DataFrame(), options, ["small", "large"], [0, 1], say=said.append, device="cpu"
    )
    assert said[0] == "small, with injection"
    return rows


def test_every_vit_is_trained_with_and_without_injection(result: pd.DataFrame) -> None:
    assert len(result) == 8
    one = result[(result["vit"] == "large") & (result["injection"] == "with injection")]
    assert one["srcc"].tolist() == [0.9, 0.7]


def test_the_figure_shows_medians_and_ranges(
    result: pd.DataFrame,
) -> None:
    (ax,) = ablate.ablation_figure(result, "title").axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.6, 0.8], [pytest.approx(0.3), 0.3]]
    ranges = [segment[:, 1].tolist() for segment in ax.collections[0].get_segments()]
    assert ranges == [[0.5, 0.7], [0.7, 0.9]]
    picture, table = ablate.save_ablation(result, "demo")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert pd.read_csv(table)["srcc"].tolist() == result["srcc"].tolist()
