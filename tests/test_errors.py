"""The sentence that an InputError says: one line, fit for a terminal."""

import pickle

import pytest

from fmiqa_utils.errors import InputError, near, printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two\nlines.png", r"two\nlines.png"),
        ("\x1b[2Jgone.png", r"\x1b[2Jgone.png"),
        ("\udcff.png", r"\udcff.png"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("Straße 8×8 ….png", "Straße 8×8 ….png"),
        (r"C:\new.png", r"C:\new.png"),
    ],
)
def test_hostile_names_are_shown_as_escapes(name: str, shown: str) -> None:
    error = InputError(f"{name} does not exist.")
    assert str(error) == f"{shown} does not exist."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert printable(str(error)) == str(error)
    str(error).encode()


def test_near() -> None:
    assert near("tid2103", ["tid2013", "live"]) == "did you mean tid2013?"
    assert near("x", ["tid2013", "live"]) == "known: tid2013, live."
