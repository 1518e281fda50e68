"""Ten deterministic 80/20 splits of a dataset, disjoint by reference, stored as a file (docs/methods.md, LoDa splits)."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from fmiqa_utils.errors import InputError
from fmiqa_utils.files.storage import write_atomically
from fmiqa_utils.keys import digest
from fmiqa_utils.loda.options import N_SPLITS, PROTOCOLS

TEST_SHARE, VALIDATION_SHARE = (
    0.2,
    0.1,
)  # of the references; the validation share is taken from the training part
Parts = dict[str, list[str]]  # part: references


def make_splits(table: pd.DataFrame, seed: int = 0) -> list[Parts]:
    """Ten splits {"train", "validation", "test"} of the table's references; they depend only on the names and `seed`."""
    refs = np.array(sorted(table["ref"].astype(str).unique()))
    n_test = max(2, round(TEST_SHARE * len(refs)))  # with one reference there is no interval
    n_validation = max(1, round(VALIDATION_SHARE * len(refs)))
    splits = []
    for number in range(N_SPLITS):
        order = refs[np.random.default_rng([seed, number]).permutation(len(refs))].tolist()
        test, rest = order[:n_test], order[n_test:]
        splits.append(
            {
                "train": sorted(rest[n_validation:]),
                "validation": sorted(rest[:n_validation]),
                "test": sorted(test),
            }
        )
    return splits


def save_splits(path: Path, table: pd.DataFrame, seed: int = 0) -> Path:
    """Write the splits with the dataset, references and seed that they were made from."""
    content = {
        "dataset": str(table["dataset"].iloc[0]),
        "references_sha256": digest(sorted(table["ref"].astype(str).unique())),
        "seed": seed,
        "splits": make_splits(table, seed),
    }
    return write_atomically(path, json.dumps(content, indent=1).encode())


def read_splits(path: Path, table: pd.DataFrame) -> list[Parts]:
    """The splits in a file, checked against the table.

    Raises InputError for a file that is not a split file, a split with a reference in two parts, or references that the table lacks.
    """
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a split file ({error}): `fmiqa loda train` writes one.") from error
    if not isinstance(splits, list) or not splits:
        raise InputError(f"{path} is not a split file (it lists no splits): `fmiqa loda train` writes one.")
    known = set(table["ref"].astype(str))
    for number, parts in enumerate(splits):
        _check(number, parts, known, path)
    return list(splits)


def _check(number: int, parts: Parts, known: set[str], path: Path) -> None:
    names = ("train", "validation", "test")
    lists = isinstance(parts, dict) and set(parts) == set(names)
    if not lists or not all(isinstance(parts[n], list) and parts[n] for n in names):
        raise InputError(
            f"split {number} of {path.name} needs references in each of train, validation and test."
        )
    if not all(isinstance(ref, str) for n in names for ref in parts[n]):
        raise InputError(f"split {number} of {path.name} holds a reference that is not text.")
    for a, b in (("train", "test"), ("train", "validation"), ("validation", "test")):
        shared = sorted(set(parts[a]) & set(parts[b]))
        if shared:
            raise InputError(
                f"split {number} of {path.name} has {', '.join(shared[:3])} in both {a} and {b}: parts must not share a reference."
            )
    strange = sorted(set().union(*parts.values()) - known)
    if strange:
        raise InputError(
            f"split {number} of {path.name} names references that the dataset lacks: {', '.join(strange[:3])}."
        )


def parts_of(table: pd.DataFrame, parts: Parts, protocol: str = "validated") -> dict[str, pd.DataFrame]:
    """The rows of each part. "validated": the best epoch is chosen on validation references.

    "published": the released protocol, which trains on train and validation together and chooses the epoch on the test part.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol={protocol!r} is unknown; known: {', '.join(PROTOCOLS)}.")
    refs = table["ref"].astype(str)
    rows = {name: table[refs.isin(chosen)].reset_index(drop=True) for name, chosen in parts.items()}
    if protocol == "published":
        rows["train"] = pd.concat([rows["train"], rows["validation"]], ignore_index=True)
        rows["validation"] = rows["test"]
    return rows
