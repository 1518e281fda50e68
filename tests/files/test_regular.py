"""Files that the user names must be regular and of bounded size; text is read and written as UTF-8 in every locale."""

import ast
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import fmiqa_utils
from fmiqa_utils.errors import InputError
from fmiqa_utils.files.regular import check_regular, open_regular

PACKAGE = Path(fmiqa_utils.__file__).parent


@pytest.mark.timeout(20)
def test_only_regular_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may be short only
    Path("file").write_bytes(b"abc")
    Path("link").symlink_to("file")
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("socket")
        for name, kind in (
            ("pipe", "a named pipe"),
            ("socket", "a socket"),
            (".", "a folder"),
            ("/dev/null", "a device"),
        ):
            with pytest.raises(InputError, match=f"^{name} is {kind}, not a table: name a regular file"):
                check_regular(name, "a table", 10)
    for name in ("file", "link"):
        with open_regular(name, "a table", 3) as file:
            assert file.read() == b"abc"
    with pytest.raises(
        InputError, match="link has 0 MiB, and a table may have at most 0 MiB: name a smaller file"
    ):
        check_regular("link", "a table", 2)
    with pytest.raises(InputError, match="absent does not exist"):
        check_regular("absent", "a table", 2)


@pytest.mark.timeout(20)
def test_a_file_that_turns_into_a_pipe_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, pipe = tmp_path / "file", tmp_path / "pipe"
    file.touch()
    os.mkfifo(pipe)
    facts = file.stat()
    opened: list[int] = []
    really = os.open
    monkeypatch.setattr(os, "stat", lambda path: facts)
    monkeypatch.setattr(os, "open", lambda path, flags: opened.append(really(pipe, flags)) or opened[-1])
    with pytest.raises(InputError, match="file is a named pipe"):
        open_regular(file, "a table", 10)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])  # and is closed


def text_without_encoding(source: str) -> Iterator[tuple[int, str]]:
    """(line, call) of every read or write of text in `source` that does not name its encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(k.arg == "encoding" for k in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        modes = [
            a.value for a in (*node.args, *(k.value for k in node.keywords)) if isinstance(a, ast.Constant)
        ]
        binary = any(isinstance(m, str) and "b" in m and len(m) < 4 for m in modes)
        owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        if name in ("read_text", "write_text") or (
            name == "open" and not binary and owner not in ("Image", "os")
        ):
            yield node.lineno, ast.unparse(node)


def test_the_search_for_calls_without_encoding_finds_them() -> None:
    calls = "p.read_text()\np.write_text(x)\nopen(p)\np.open()\np.open('w')\n"
    fine = "p.read_text(encoding='utf-8')\nopen(p, 'rb')\np.open('wb')\nImage.open(p)\nos.open(p, 0)\np.read_bytes()\n"
    assert [line for line, _ in text_without_encoding(calls + fine)] == [1, 2, 3, 4, 5]


def test_all_text_is_utf8_whatever_the_locale() -> None:
    modules = sorted(PACKAGE.rglob("*.py"))
    found = [
        f"{module.relative_to(PACKAGE)}:{line}: {call}"
        for module in modules
        for line, call in text_without_encoding(module.read_text(encoding="utf-8"))
    ]
    assert len(modules) > 50
    assert found == []
