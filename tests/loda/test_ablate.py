"""The ablation: which models are trained, and what the figure shows."""

import pandas as pd
import pytest

from fmiqa_utils.errors import InputError
from fmiqa_utils.loda import ablate
from fmiqa_utils.loda.counting import Progress
from fmiqa_utils.loda.options import Options
from fmiqa_utils.paths import figures_root

SRCC = {
    ("small", True): [0.5, 0.7],
    ("small", False): [0.4, 0.2],
    ("large", True): [0.9, 0.7],
    ("large", False): [0.3, 0.3],
}


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    def trained(
        _table: pd.DataFrame, options: Options, *, splits: list[int], progress: Progress, **how: object
    ) -> list[dict]:
        assert how == {"device": "cpu"}
        progress("resize", 1, 2)
        progress("LoDa, split 0, test", 3, 4)
        values = SRCC[options.vit, options.inject]
        return [{"split": s, "folder": "f", "weights": options.weights, "srcc": values[s]} for s in splits]

    monkeypatch.setattr(ablate, "train", trained)
    monkeypatch.setattr(ablate, "check_names", lambda *names: None)
    said: list[tuple[str, int, int]] = []
    options = Options(weights="untrained")
    rows = ablate.ablate_vits(
        pd.DataFrame(),
        options,
        ["small", "large"],
        [0, 1],
        progress=lambda *values: said.append(values),
        device="cpu",
    )
    assert said[:2] == [("resize", 1, 2), ("small with injection, split 0, test", 3, 4)]
    return rows


def test_every_vit_is_trained_with_and_without_injection(result: pd.DataFrame) -> None:
    assert len(result) == 8
    one = result[(result["vit"] == "large") & (result["injection"] == "with injection")]
    assert one["srcc"].tolist() == [0.9, 0.7]


def test_a_wrong_list_of_vits_is_refused_before_the_first_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablate, "train", lambda *a, **k: pytest.fail("trained"))
    tiny = "vit_tiny_patch16_224"
    for vits, said in (
        ([tiny, "vit_tinny"], "timm has no model called 'vit_tinny'"),
        ([tiny, tiny], "twice"),
    ):
        with pytest.raises(InputError, match=said):
            ablate.ablate_vits(pd.DataFrame(), Options(), vits)


def test_the_figure_shows_medians_and_ranges(
    result: pd.DataFrame,
) -> None:
    (ax,) = ablate.ablation_figure(result, "title").axes
    assert [line.get_ydata().tolist() for line in ax.lines] == [[0.6, 0.8], [pytest.approx(0.3), 0.3]]
    ranges = [segment[:, 1].tolist() for segment in ax.collections[0].get_segments()]
    assert ranges == [[0.5, 0.7], [0.7, 0.9]]
    picture, table = ablate.save_ablation(result, "csv:own/pairs.csv")
    assert picture.parent == table.parent == ablate.ablation_folder("csv:own/pairs.csv")
    assert table.parent.parent == figures_root()
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert pd.read_csv(table)["srcc"].tolist() == result["srcc"].tolist()
