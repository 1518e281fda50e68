"""A named run: one dataset scored by one or more backbones, extracted once and read by every notebook after that."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from fmiqa_utils.backbones.catalogue import BACKBONES
from fmiqa_utils.backbones.hub import resolve_weights
from fmiqa_utils.errors import InputError, near
from fmiqa_utils.notes import UNTRAINED_NOTE, UNTRAINED_TAG
from fmiqa_utils.paths import scores_root
from fmiqa_utils.scores.run_names import Part, check_run_name, known_runs, plain, run_parts, save_parts
from fmiqa_utils.scores.shards import (
    SCORE_COLUMNS,
    digest,
    manifest_bytes,
    manifest_name,
    read_failures,
    read_manifest,
    read_pairs,
    read_scores,
)
from fmiqa_utils.vocabulary import WINDOW, chosen_transforms, split_names

if TYPE_CHECKING:
    from fmiqa_utils.extraction.scorer import Scorer, Settings

DEMO_MOVES = ["none", "tra-1", "tra-3", "sca-1", "sca-3", "rot-1", "rot-3"]
DEMO_MOVES_UNTRAINED = [
    "none",
    "tra-1",
    "sca-1",
    "rot-1",
]  # as published; the larger amounts add nothing there
DEMO_MOVED = 120  # pairs of the demo dataset: enough for a curve, few enough for a laptop
BEST_SMALL = "dino_vits16"  # what `auto` is with pretrained weights
UNREADABLE = (
    OSError,
    KeyError,
    TypeError,
    ValueError,
)  # what reading a damaged run may raise, InputError among them
SMALL = "timm:vit_tiny_patch16_224"  # what `auto` falls back to without the hub


@dataclass(frozen=True)
class Run:
    """The tables of a run: scores (long), pairs, failures, and one manifest per backbone."""

    name: str
    scores: pd.DataFrame
    pairs: pd.DataFrame
    failures: pd.DataFrame
    manifests: list[dict]

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return str(self.manifests[0]["dataset"])

    @property
    def warning(self) -> str:
        """The full sentence that no reader may miss: untrained weights; "" where all weights are trained."""
        return UNTRAINED_NOTE if self.tag else ""

    @property
    def tag(self) -> str:
        """`warning` in two words, for captions and findings: "untrained weights", with the backbones where others are trained."""
        untrained = [short_name(m["backbone"]) for m in self.manifests if m["weights"] == "untrained"]
        if not untrained:
            return ""
        names = ", ".join(dict.fromkeys(untrained))
        return UNTRAINED_TAG if len(untrained) == len(self.manifests) else f"{UNTRAINED_TAG}: {names}"


def choose(backbone: str, weights: str, dataset: str) -> list[tuple[str, str]]:
    """(backbone, weights) with every "auto" decided.

    backbone "auto": dino_vits16 with pretrained weights if the hub or its cache answers within seconds, otherwise a small untrained ViT.
    weights "auto": on the demo dataset pretrained if they are in reach, otherwise untrained; on any other dataset pretrained.
    """
    wanted = "pretrained" if weights == "auto" and dataset != "demo" else weights
    return [_chosen(name, wanted, dataset) for name in split_names(backbone)]


def _chosen(name: str, weights: str, dataset: str) -> tuple[str, str]:
    """One backbone with its weights; timm is asked of models only that have no name here."""
    if name == "auto":
        found = resolve_weights(weights, BACKBONES[BEST_SMALL].hub)
        return (SMALL, found) if found == "untrained" and dataset == "demo" else (BEST_SMALL, found)
    if name in BACKBONES:
        return name, resolve_weights(weights, BACKBONES[name].hub)
    from fmiqa_utils.backbones.load import backbone_info, hub_id

    return name, resolve_weights(weights, hub_id(backbone_info(name)))


def choose_transforms(
    transforms: str, transform_pairs: int, dataset: str, chosen: Sequence[tuple[str, str]] = ()
) -> tuple[list[str], int]:
    """Transforms by commas, and how many pairs to move; "auto": two amounts of each on the demo dataset, none elsewhere.

    Where none of the `chosen` (backbone, weights) is trained, one amount of each: it shows how it works, and that is all it can.
    """
    if transforms != "auto":
        return list(chosen_transforms(transforms)), transform_pairs
    if dataset != "demo":
        return ["none"], 0
    untrained = bool(chosen) and all(weights == "untrained" for _, weights in chosen)
    return DEMO_MOVES_UNTRAINED if untrained else DEMO_MOVES, transform_pairs or DEMO_MOVED


def extract_run(
    name: str,
    pairs: pd.DataFrame,
    chosen: Sequence[tuple[str, str]],
    *,
    settings: "Settings | None" = None,
    transforms: Sequence[str] = ("none",),
    transform_pairs: int = 0,
    normalize: str = "none",
    precision: str = "fp32",
    device: str = "auto",
    batch: int = 0,
    strict: bool = False,
    verify: bool = False,
    progress: Callable[[str, float, int, int], object] = lambda *_: None,
    say: Callable[[str], object] = lambda _: None,
) -> list[dict]:
    """Score `pairs` with every chosen (backbone, weights) and remember the result as run `name`; returns the manifests.

    `settings` None means `Settings()`. `progress(backbone, done, total, failed)` counts pairs. The run holds these pairs, labels and
    settings for good: another extraction changes it only under the same name. Raises InputError for a name that cannot be a run's and
    settings of another type, such as a dict, before anything is done, and for pairs that cannot be scored.
    """
    from fmiqa_utils.backbones.load import load_backbone
    from fmiqa_utils.extraction.provenance import pick_device
    from fmiqa_utils.extraction.run import run
    from fmiqa_utils.extraction.scorer import Scorer, Settings

    settings = Settings() if settings is None else settings
    if not isinstance(settings, Settings):
        raise InputError(
            f"settings must be a Settings, such as Settings(distances=('l2',)), and not a {type(settings).__name__}."
        )
    check_run_name(name)
    if not chosen:
        raise InputError("no backbone is named: `fmiqa backbones` lists them.")
    _look_before(pairs, settings.small_images, strict, say)
    folders, manifests = [], []
    for backbone, weights in chosen:
        progress(backbone, 0, 0, 0)  # loading takes seconds
        model = load_backbone(
            backbone, weights, normalize=normalize, precision=precision, device=pick_device(device)
        )
        scorer = Scorer(model, settings, batch=batch)
        folder = run_folder(pairs, scorer, transforms, transform_pairs)
        manifests.append(
            run(
                pairs,
                scorer,
                folder,
                transforms=transforms,
                transform_pairs=transform_pairs,
                strict=strict,
                verify=verify,
                progress=partial(progress, backbone),
                say=say,
            )
        )
        folders.append(folder)
    save_run(name, folders, manifests)
    return manifests


def run_folder(
    pairs: pd.DataFrame, scorer: "Scorer", transforms: Sequence[str], transform_pairs: int = 0
) -> Path:
    """Where the shards of a dataset and a scorer are kept: scores/DATASET/BACKBONE_WEIGHTS_…-KEY."""
    from fmiqa_utils.extraction.plan import run_key

    b = scorer.backbone
    dataset = str(pairs["dataset"].iloc[0])
    own = dataset.startswith("csv:")  # names of own tables recur; one path may be written in several ways
    place = [os.path.realpath(p) for p in pairs[["ref_path", "dist_path"]].iloc[0]] if own else []
    key = digest(run_key(scorer), list(transforms), transform_pairs, *place)[:10]
    name = plain("_".join((b.name, b.weights, b.normalize, b.precision)))
    return scores_root() / plain(dataset) / f"{name}-{key}"


def _look_before(pairs: pd.DataFrame, small_images: str, strict: bool, say: Callable[[str], object]) -> None:
    """Say what will fail before hours are spent. Raises InputError if every pair will, or any and `strict`."""
    from fmiqa_utils.datasets.check import glance

    problems = glance(pairs, WINDOW if small_images == "error" else 0)
    if not problems:
        return
    first = next(iter(problems.values()))
    count = f"{len(problems)} of {len(pairs)} pairs cannot be scored; the first: {first}"
    if strict or len(problems) == len(pairs):
        way_out = " Use --small-images resize or pad." if "px window" in first else ""
        raise InputError(count + way_out)
    say(f"{count} They become rows without a value, each with its reason.")


def ensure_demo(name: str = "demo", *, say: Callable[[str], object] = lambda _: None) -> None:
    """Make a small run of the demo dataset if `name` is "demo" and no such run is there: one pair in six, l2 and cosine."""
    from fmiqa_utils.datasets.tables import load_pairs
    from fmiqa_utils.demo.build import build_demo
    from fmiqa_utils.extraction.scorer import Settings

    if name != "demo" or name in known_runs():
        return
    say(
        "there is no run yet: building the demo dataset and scoring a part of it, about two minutes without a GPU"
    )
    build_demo()
    pairs = load_pairs("demo")
    extract_run(
        name, pairs.iloc[::6], choose("auto", "auto", "demo"), settings=Settings(("l2", "cos")), say=say
    )


def save_run(name: str, folders: Sequence[Path], manifests: Sequence[dict] | None = None) -> Path:
    """Remember which score folders make up run `name`, with the manifests that they have now or had when they were scored."""
    held = manifests or [read_manifest(f) for f in folders]
    parts = [Part(f, manifest_name(manifest_bytes(m))) for f, m in zip(folders, held, strict=True)]
    return save_parts(name, parts)


def _manifests(name: str) -> dict[Path, dict]:
    """The manifest of each score folder of run `name`, as it was when the run was saved."""
    return {part.folder: read_manifest(part.folder, part.manifest) for part in run_parts(name)}


def load_run(
    name: str, backbones: Sequence[str] | None = None, distances: Sequence[str] | None = None
) -> Run:
    """What run `name` holds, or only some `backbones` and `distances` of it; the shards of other backbones are not opened.

    Raises InputError for an unknown or unfinished run and for a backbone that it does not hold.
    """
    manifests = _manifests(name)
    held = {m["backbone"] for m in manifests.values()}
    for backbone in backbones or ():
        if backbone not in held:
            raise InputError(f"run {name} does not hold {backbone!r}; {near(backbone, sorted(held))}")
    folders = [f for f, m in manifests.items() if backbones is None or m["backbone"] in backbones]
    if len({manifests[f]["labels_sha256"] for f in folders}) > 1:
        raise InputError(f"the backbones of run {name} were scored with different labels: extract it again.")
    scores = _joined([read_scores(f, distances, manifest=manifests[f]) for f in folders])
    failures = [read_failures(f, manifests[f]).assign(folder=f.name) for f in folders]
    pairs = read_pairs(folders[0], manifests[folders[0]])
    return Run(name, scores, pairs, pd.concat(failures, ignore_index=True), [manifests[f] for f in folders])


def run_pairs(name: str) -> pd.DataFrame:
    """The pairs table of run `name`. Raises InputError for an unknown or unfinished run."""
    folder, manifest = next(iter(_manifests(name).items()))
    return read_pairs(folder, manifest)


def run_backbones(name: str) -> list[str]:
    """The backbones that run `name` holds. Raises InputError for an unknown or unfinished run."""
    return list(dict.fromkeys(m["backbone"] for m in _manifests(name).values()))


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Score tables below one another; baselines, which stand beside every backbone, once. Categoricals stay categoricals."""
    kept: list[pd.DataFrame] = []
    baselines: list[pd.DataFrame] = []
    for table in tables:
        image = (table["feature"] == "image").to_numpy()
        if kept and image.any():
            baselines.append(table[image])
            table = table[~image]
        kept.append(table)
    kept += baselines
    columns: dict[str, object] = {}
    for column in SCORE_COLUMNS:
        parts = [t[column] for t in kept]
        columns[column] = (
            np.concatenate([p.to_numpy() for p in parts]) if column == "value" else union_categoricals(parts)
        )
    rows = pd.DataFrame(columns)
    image = (rows["feature"] == "image").to_numpy()
    if baselines:  # a pair that failed beside one backbone may have its value beside another
        full = rows[image].sort_values("value", kind="stable", na_position="last")
        again = full.drop(columns="value").duplicated()
        rows = rows.drop(index=again.index[again]).reset_index(drop=True)
    return rows


def run_material(name: str) -> dict[str, str]:
    """A hash per score folder: what a notebook's result depends on."""
    return {
        folder.name: digest([m["shards"], m["labels_sha256"], m["weights_sha256"]])
        for folder, m in _manifests(name).items()
    }


def short_name(backbone: str) -> str:
    """A backbone's name without its library."""
    return backbone.removeprefix("timm:").removeprefix("openclip:")
