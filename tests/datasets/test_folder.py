"""Finding names on disk whatever their letter case."""

import os
from pathlib import Path

import pytest
from layouts import touch

from fmiqa_utils.datasets.folder import MAX_BYTES, Folder, first_few, readable
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.single import find_files


def test_two_names_that_differ_only_in_case_are_told_apart(tmp_path: Path) -> None:
    touch(tmp_path, ["a.png", "A.png", "b.PNG"])
    if len(os.listdir(tmp_path)) < 3:
        pytest.skip("this disk does not tell letter case apart")
    folder = Folder(tmp_path)
    assert folder.find("A.png") == str(tmp_path / "A.png")
    assert folder.find("B.png") == str(tmp_path / "b.PNG")
    assert folder.find("c.png") is None
    with pytest.raises(InputError, match=r"holds A\.png and a\.png, and either may be A\.PNG: rename one"):
        folder.find("A.PNG")


def test_names_resolve_below_through_dots_and_from_the_root(tmp_path: Path) -> None:
    touch(tmp_path / "Set" / "Inner", ["x.BMP"])
    folder = Folder(tmp_path / "Set")
    expected = str(tmp_path / "Set" / "Inner" / "x.BMP")
    assert folder.find("inner/X.bmp") == expected
    assert folder.find(f"{tmp_path}/set/INNER/x.bmp") == expected
    assert Path(folder.find("../set/inner/x.bmp") or "").samefile(expected)
    assert folder.find("inner/x.bmp/y") is None
    assert folder.names("INNER") == ["x.BMP"]
    assert folder.names("outer") == []
    assert Folder(tmp_path / "absent").find("x") is None
    assert Folder(tmp_path / "absent").names() == []
    assert folder.need("other", "inner") == tmp_path / "Set" / "Inner"
    with pytest.raises(InputError, match=r"Set has no other or further: data/README\.md shows"):
        folder.need("other", "further")


def test_forbidden_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", forbidden)
    with pytest.raises(InputError, match=f"{tmp_path} cannot be listed: Permission denied"):
        Folder(tmp_path).find("x")


@pytest.mark.timeout(20)
def test_a_label_file_must_be_a_regular_file_of_bounded_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dmos.mat")
    with (tmp_path / "dmos.csv").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(InputError, match=r"dmos\.mat is a named pipe, not a label file"):
        Folder(tmp_path).need("dmos.mat")
    with pytest.raises(InputError, match=r"dmos\.csv has 1,024 MiB"):
        Folder(tmp_path).need("dmos.csv")


def test_every_spelling_of_a_file_has_one_identity(tmp_path: Path) -> None:
    touch(tmp_path / "Set" / "Inner", ["x.BMP", "y.bmp"])
    (tmp_path / "Set" / "again").symlink_to("Inner")
    folder = Folder(tmp_path / "Set")
    spellings = [
        "inner/X.bmp",
        "./Inner/x.BMP",
        "Inner/../INNER/x.bmp",
        "again/x.BMP",
        f"{tmp_path}/set/inner/x.bmp",
    ]
    assert {folder.identity(name) for name in spellings} == {
        str(tmp_path.resolve() / "Set" / "Inner" / "x.BMP")
    }
    assert folder.identity("inner/y.bmp") != folder.identity("inner/x.bmp")
    assert folder.identity("inner/z.bmp") is None


def test_names_that_no_table_can_hold_are_refused(tmp_path: Path) -> None:
    odd = os.fsdecode(b"d\xff.png")
    try:
        touch(tmp_path / "ref", [odd])
        touch(tmp_path / "dist", [odd])
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    with pytest.raises(InputError, match=r"d\\udcff\.png: the name is not UTF-8 text"):
        Folder(tmp_path).find(f"ref/{odd}")
    for pair in ((tmp_path / "ref", tmp_path / "dist"), (tmp_path / "ref" / odd, tmp_path / "dist" / odd)):
        with pytest.raises(
            InputError, match=r"the name is not UTF-8 text, so no table can hold it: rename it"
        ):
            find_files(*pair)
    assert readable("ordinary ä.png") == "ordinary ä.png"


@pytest.mark.timeout(20)
def test_a_pipe_is_one_file_to_score_and_no_folder(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    touch(tmp_path, ["r.png"])
    assert find_files(tmp_path / "pipe.png", tmp_path / "r.png") == [
        (tmp_path / "pipe.png", tmp_path / "r.png")
    ]


def test_first_few() -> None:
    assert first_few(["a", "b", "c"]) == "a, b, c"
    assert first_few([str(i) for i in range(1003)]) == "0, 1, 2 and 1,000 more"
