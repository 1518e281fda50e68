"""Which chunks a run has, and the keys that say when one is done."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from fmiqa_utils.backbones.catalogue import WINDOW
from fmiqa_utils.backbones.windows import STRIDE
from fmiqa_utils.datasets.transforms import check_transforms
from fmiqa_utils.distances.table import THROUGH_PYIQA
from fmiqa_utils.extraction.chunk import Chunk
from fmiqa_utils.extraction.scorer import Scorer
from fmiqa_utils.keys import IDENTITY, chunk_key, scores_key

BLOCK = 256  # chunks for which names are turned to text at the same time


@dataclass(frozen=True)
class Plan:
    """The chunks of a run in order. A `Chunk` is built on demand, so a million pairs stay one table."""

    pairs: pd.DataFrame
    keys: list[str]
    parts: list[tuple[str, str, np.ndarray]]  # ref, transform, rows of the pairs table

    def __len__(self) -> int:
        return len(self.keys)

    def size(self, i: int) -> int:
        """Pairs of chunk number `i`."""
        return len(self.parts[i][2])

    def chunk(self, i: int) -> Chunk:
        """Chunk number `i`."""
        ref, transform, rows = self.parts[i]
        return Chunk(ref, transform, self.pairs.iloc[rows], self.keys[i])


def plan(
    pairs: pd.DataFrame, scorer: Scorer, transforms: Sequence[str] = ("none",), transform_pairs: int = 0
) -> Plan:
    """One chunk per reference and transform; its key (`keys.chunk_key`) covers everything that changes a number.

    `transform_pairs`: how many pairs, evenly spaced, are scored under the transforms other than "none"; 0: all.
    """
    check_transforms(transforms)
    common = run_key(scorer)
    parts = []
    for transform in transforms:
        rows = _spaced(len(pairs), 0 if transform == "none" else transform_pairs)
        codes, refs = pd.factorize(pairs["ref"].iloc[rows])
        groups = np.split(rows[np.argsort(codes, kind="stable")], np.bincount(codes).cumsum()[:-1])
        parts += [(str(ref), transform, group) for ref, group in zip(refs, groups, strict=True)]
    texts = _texts(pairs[IDENTITY], [rows for *_, rows in parts])
    keys = [
        chunk_key(common, transform, names) for (_, transform, _), names in zip(parts, texts, strict=True)
    ]
    return Plan(pairs, keys, parts)


def run_key(scorer: Scorer) -> str:
    """`keys.scores_key` of a backbone with the settings it scores with."""
    b = scorer.backbone
    return scores_key(
        asdict(scorer.settings),
        backbone=b.name,
        source=b.info.source,
        weights_sha256=b.weights_sha256,
        normalize=b.normalize,
        precision=b.precision,
        windows=(WINDOW, STRIDE),
        pyiqa=bool(set(scorer.settings.baselines) & set(THROUGH_PYIQA)),
    )


def _texts(names: pd.DataFrame, groups: list[np.ndarray]) -> Iterator[list[list[str]]]:
    """The cells of each group of rows as text; a block of groups is turned to text at a time."""
    for start in range(0, len(groups), BLOCK):
        block = groups[start : start + BLOCK]
        text = names.iloc[np.concatenate(block)].astype(str).to_numpy().tolist()
        ends = np.cumsum([len(g) for g in block]).tolist()
        yield from (text[a:b] for a, b in pairwise([0, *ends]))


def evenly_spaced(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` rows of `table`, evenly spaced; all of them if `count` is 0 or not smaller than the table."""
    return table.iloc[_spaced(len(table), count)]


def _spaced(total: int, count: int) -> np.ndarray:
    """Indices of `count` evenly spaced rows out of `total`."""
    if not 0 < count < total:
        return np.arange(total)
    return np.linspace(0, total - 1, count).round().astype(int)
