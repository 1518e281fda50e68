"""Comma-separated names, checked against the known ones: how options, parameters and sweep files name things."""

from collections.abc import Iterable, Sequence

from fmiqa_utils.errors import InputError, near


def split_names(names: str) -> list[str]:
    """ "a, b" → ["a", "b"]."""
    return [n.strip() for n in names.split(",") if n.strip()]


def one_of(word: str, known: Iterable[str], what: str) -> str:
    """`word` if it is one of `known`. Raises InputError with near matches."""
    if word not in (known := tuple(known)):
        raise InputError(f"there is no {what} called {word!r}; {near(word, known)}")
    return word


def some_of(words: str, known: Iterable[str], what: str) -> tuple[str, ...]:
    """Comma-separated names → names, each one of `known`. Raises InputError for an unknown name, a repeated one, and no name."""
    names, known = tuple(split_names(words)), tuple(known)
    for name in names:
        one_of(name, known, what)
    return once(names, what)


def once(names: Sequence[str], what: str) -> tuple[str, ...]:
    """`names` as a tuple. Raises InputError if there is none or one is given twice."""
    if not names:
        raise InputError(f"no {what} is named.")
    twice = [n for n in names if names.count(n) > 1]
    if twice:
        raise InputError(f"the {what} {twice[0]} is named twice.")
    return tuple(names)
