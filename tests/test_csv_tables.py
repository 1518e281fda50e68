"""Your own pairs as a CSV file: read exactly or refused with line numbers."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from layouts import touch

from fmiqa_utils.datasets import load_pairs
from fmiqa_utils.errors import InputError


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], str]:
    """Writes a CSV beside two images and gives its dataset name."""
    touch(tmp_path / "mine" / "images", ["r.PNG", "d.png", "e.png"])

    def write(text: str) -> str:
        (tmp_path / "mine" / "pairs.csv").write_bytes(text.encode())
        return f"csv:{tmp_path / 'mine' / 'pairs.csv'}"

    return write


def test_csv_pairs(table: Callable[[str], str], tmp_path: Path) -> None:
    absolute = tmp_path / "mine" / "images" / "e.png"
    rows = f"images/d.png,images/r.png,2.5,3,x\r\n{absolute},images/../images/r.PNG,1e1,,\n"
    text = "\ufeffdist,ref,label,level,note\r\n" + rows
    pairs = load_pairs(table(text), direction="lower")
    assert pairs["dataset"].tolist() == ["csv:pairs"] * 2
    assert pairs["dist_path"].tolist() == [str(tmp_path / "mine/images/d.png"), str(absolute)]
    assert [Path(path).name for path in pairs["ref_path"]] == ["r.PNG", "r.PNG"]
    assert pairs["label"].tolist() == [2.5, 10]
    assert pairs["quality"].tolist() == [-2.5, -10]
    assert pairs["label_kind"].tolist() == ["dmos"] * 2
    assert pairs["level"].tolist() == [3, pd.NA]
    assert pairs["pair_id"].tolist() == ["images/d.png", str(absolute)]
    assert load_pairs(table(text), direction="higher")["quality"].tolist() == [2.5, 10]


def test_csv_distorted_image_with_two_references(table: Callable[[str], str]) -> None:
    name = table("ref,dist,label\nimages/r.png,images/d.png,1\nimages/e.png,images/d.png,2\n")
    pairs = load_pairs(name, direction="higher")
    assert pairs["pair_id"].tolist() == ["images/r.png|images/d.png", "images/e.png|images/d.png"]


HEADER = "ref,dist,label\n"
FAULTS = {
    "": "has no rows",
    HEADER: "has no rows",
    "ref,dist,mos\na,b,1\n": "has no column label; its header is ref, dist, mos",
    "ref;dist;label\na;b;1\n": "has no column ref, dist, label",
    "ref,dist,label,label\na,b,1,2\n": "names a column twice",
    HEADER + "images/r.png,images/d.png,1\nimages/r.png,ima": "line 3: does not have the header's 3 fields",
    HEADER + "a,b,1,\n\na,c,2\na,d,3,x\n": "line 2, 5: does not have the header's 3 fields",
    HEADER + "a,b,nan\na,c,inf\na,d,\na,e,x\n": "line 2, 3, 4 and 1 more: the label is not a finite number",
    "ref,dist,label,label_std\na,b,1,\na,c,1,-inf\n": "line 3: the label_std is not a finite number",
    "ref,dist,label,level\na,b,1,2.5\n": "line 2: the level is not a whole number",
    HEADER + ",b,1\n": "line 2: the ref or dist name is empty",
    HEADER + "a,b,1\na,c,1\na,b,2\n": "line 4: repeats the ref and dist of an earlier line",
    HEADER + 'a,"b,1\n': "is not a CSV file in UTF-8",
    HEADER + "images/r.png,images/D.PNG,1\nimages/r.png,x.png,1\n": r"1 of its images are not in .*: x\.png",
}


@pytest.mark.parametrize(("text", "sentence"), FAULTS.items())
def test_csv_faults(table: Callable[[str], str], text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        load_pairs(table(text), direction="higher")
    assert "\n" not in str(caught.value)


def test_csv_needs_a_direction_and_a_file(table: Callable[[str], str], tmp_path: Path) -> None:
    name = table("ref,dist,label\nimages/r.png,images/d.png,1\n")
    for direction in (None, "up"):
        with pytest.raises(InputError, match="direction must be higher or lower"):
            load_pairs(name, direction=direction)
    with pytest.raises(InputError, match=r"absent\.csv does not exist"):
        load_pairs(f"csv:{tmp_path / 'absent.csv'}", direction="higher")
    (tmp_path / "mine" / "pairs.csv").write_bytes(b"ref,dist,label\n\xff\xfe,b,1\n")
    with pytest.raises(InputError, match="is not a CSV file in UTF-8"):
        load_pairs(name, direction="higher")
