"""Your own pairs as a CSV file: read exactly or refused with line numbers."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from layouts import touch

from fmiqa_utils.datasets.csv_tables import MAX_BYTES
from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.errors import InputError


@pytest.fixture
def table(tmp_path: Path) -> Callable[[str], str]:
    """Writes a CSV beside two images and gives its dataset name."""
    touch(tmp_path / "mine" / "images", ["r.PNG", "d.png", "e.png"])
    (tmp_path / "mine" / "link").symlink_to("images")

    def write(text: str) -> str:
        (tmp_path / "mine" / "pairs.csv").write_bytes(text.encode())
        return f"csv:{tmp_path / 'mine' / 'pairs.csv'}"

    return write


def test_csv_pairs(table: Callable[[str], str], tmp_path: Path) -> None:
    absolute = tmp_path / "mine" / "images" / "e.png"
    rows = f"images/d.png,images/../IMAGES/r.png,2.5,3,x\r\n{absolute},images/../IMAGES/r.png,1e1,,\n"
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
    HEADER + 'a,"b,1\n': "is not a CSV file \\(unexpected end of data",
    HEADER + "images/r.png,images/d.png,1\nimages/e.png,images/d.png,2\nimages/r.png,./images/D.PNG,3\n": (
        "line 2, 4: one file on disk is named in several spellings as dist: use one spelling"
    ),
    HEADER + "images/r.png,images/d.png,1\nimages/../images/r.PNG,images/e.png,2\n": (
        "line 2, 3: one file on disk is named in several spellings as ref"
    ),
    HEADER + "link/r.png,images/d.png,1\nimages/r.png,images/e.png,2\n": "line 2, 3: one file on disk",
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


def test_a_link_to_a_file_is_a_file_of_its_own_as_a_copy_is(
    table: Callable[[str], str], tmp_path: Path
) -> None:
    (tmp_path / "mine" / "images" / "f.png").symlink_to("d.png")
    text = "ref,dist,label\nimages/r.png,images/d.png,1\nimages/r.png,images/f.png,2\n"
    assert len(load_pairs(table(text), direction="higher")) == 2


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le", "utf-32"])
def test_another_encoding_is_one_sentence(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes("ref,dist,label\nräf.png,d.png,1\n".encode(encoding))
    with pytest.raises(InputError, match=r"pairs\.csv.*save it (again )?as UTF-8\.$") as caught:
        load_pairs(f"csv:{path}", direction="higher")
    assert str(caught.value).isprintable()


@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_no_csv_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    cases = {
        tmp_path / "pipe.csv": "is a named pipe, not a CSV file",
        Path("/dev/zero"): "is a device, not a CSV file",
        tmp_path / "folder.csv": "is a folder, not a CSV file",
        tmp_path / "huge.csv": "has 1,024 MiB, and a CSV file may have at most 1,024 MiB",
        Path("~nobody-of-this-name/pairs.csv"): "begins with the home folder of an unknown user",
    }
    for path, sentence in cases.items():
        with pytest.raises(InputError, match=sentence):
            load_pairs(f"csv:{path}", direction="higher")


def test_names_that_are_not_utf8_are_refused_where_no_table_could_hold_them(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    try:
        touch(folder, ["r.png", "d.png"])
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    (folder / "pairs.csv").write_text("ref,dist,label\nr.png,d.png,1\n", encoding="utf-8")
    for name, root in ((f"csv:{folder / 'pairs.csv'}", None), (f"csv:{tmp_path / 'pairs.csv'}", folder)):
        (tmp_path / "pairs.csv").write_bytes((folder / "pairs.csv").read_bytes())
        with pytest.raises(InputError, match=r"\\udcff.*: the name is not UTF-8 text") as caught:
            load_pairs(name, root, direction="higher")
        assert str(caught.value).isprintable()


ASCII = """
import sys
from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.errors import InputError
from fmiqa_utils.published.results import published_table, resampling_table
assert sys.getfilesystemencoding() == "ascii" or sys.exit(77)
print(len(published_table()) > 100, len(resampling_table()) > 0)
print(ascii(load_pairs("csv:plain.csv", direction="higher")["distortion"].tolist()))
try:
    load_pairs("csv:pairs.csv", direction="higher")
except InputError as error:
    print(ascii(str(error)))
"""


def test_an_ascii_locale_reads_utf8_files_and_says_what_it_cannot_find(tmp_path: Path) -> None:
    touch(tmp_path, ["r.png", "d.png", "dä.png"])
    for name, dist in (("plain.csv", "d.png"), ("pairs.csv", "dä.png")):
        (tmp_path / name).write_text(
            f"ref,dist,label,distortion\nr.png,{dist},1,Unschärfe\n", encoding="utf-8"
        )
    locale = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    found = subprocess.run(
        [sys.executable, "-c", ASCII], cwd=tmp_path, env=os.environ | locale, capture_output=True, text=True
    )
    if found.returncode == 77:
        pytest.skip("this system has no ASCII locale")
    first, second, third = found.stdout.splitlines()
    assert first == "True True"
    assert second == r"['Unsch\xe4rfe']"
    assert "set PYTHONUTF8=1" in third
    assert r"d\xe4.png" in third
