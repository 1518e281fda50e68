"""From a pairs table to a score table: score the chunks of the plan that are not done, write their shards and a manifest."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from fmiqa_utils.backbones.catalogue import NORMALIZE, PRECISIONS, SMALL_IMAGES, WINDOW
from fmiqa_utils.backbones.device import pick_device
from fmiqa_utils.backbones.load import load_backbone
from fmiqa_utils.datasets.check import glance
from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.demo import build as demo
from fmiqa_utils.distances.baselines import choose_baselines
from fmiqa_utils.distances.table import USUAL, chosen_distances, chosen_variants
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.choices import choose, choose_transforms
from fmiqa_utils.extraction.engines.base import Engine, Trials, serial
from fmiqa_utils.extraction.plan import plan, run_key
from fmiqa_utils.extraction.provenance import hardware, versions
from fmiqa_utils.extraction.resume import Kept
from fmiqa_utils.extraction.scorer import Scorer, Settings
from fmiqa_utils.files.storage import write_atomically
from fmiqa_utils.keys import digest
from fmiqa_utils.paths import scores_root
from fmiqa_utils.progress import progress_bar
from fmiqa_utils.scores.run_names import check_run_name, default_run, known_runs, plain, shards_in_use
from fmiqa_utils.scores.runs import Run, load_run, save_run
from fmiqa_utils.scores.shards import (
    labels_digest,
    manifest_bytes,
    manifest_name,
    pairs_bytes,
    read_manifest,
    read_pairs,
    sole_writer,
    write_manifest,
)
from fmiqa_utils.words import one_of


def extract(
    dataset: str = "demo",
    backbone: str = "auto",
    weights: str = "auto",
    *,
    run: str = "",
    root: str = "",
    labels: str = "",
    direction: str = "",
    distances: str = USUAL,
    variants: str = "published",
    baselines: str = "psnr,ssim",
    transforms: str = "none",
    transform_pairs: int = 0,
    small_images: str = "error",
    normalize: str = "none",
    precision: str = "fp32",
    device: str = "auto",
    batch: int = 0,
    strict: bool = False,
    verify: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> Run:
    """Score a dataset with one or more backbones and return the run; pairs that are already scored are not scored again.

    The words are those of `fmiqa extract`, comma-separated names: `dataset` a name from `fmiqa datasets` or csv:PATH (then `direction` says
    whether "higher" or "lower" labels are better), `distances` also "all", `variants` also "both", `transforms` also "auto" (some on the
    demo dataset). `run`: its name, the dataset's by default. `say` is called if pairs cannot be scored. Raises InputError for what the
    command refuses.

    >>> run = extract("csv:pairs.csv", "timm:resnet10t", "untrained", direction="higher", distances="cos")
    >>> run.dataset, len(run.pairs)
    ('csv:pairs', 4)
    """
    settings = Settings(
        chosen_distances(distances),
        chosen_variants(variants),
        small_images=one_of(small_images, SMALL_IMAGES, "treatment of small images"),
        baselines=choose_baselines(baselines),
    )
    pick_device(device)
    if dataset == "demo":
        demo.build_demo()
    pairs = load_pairs(dataset, root or None, labels=labels or None, direction=direction or None)
    name = run or default_run(dataset)
    chosen = choose(backbone, weights, dataset)
    transform_names, pair_count = choose_transforms(transforms, transform_pairs, dataset, chosen)
    with progress_bar("pairs") as update:
        extract_run(
            name,
            pairs,
            chosen,
            settings=settings,
            transforms=transform_names,
            transform_pairs=pair_count,
            normalize=one_of(normalize, NORMALIZE, "normalization"),
            precision=one_of(precision, PRECISIONS, "precision"),
            device=device,
            batch=batch,
            strict=strict,
            verify=verify,
            progress=update,
            say=say,
        )
    return load_run(name)


def extract_run(
    name: str,
    pairs: pd.DataFrame,
    chosen: Sequence[tuple[str, str]],
    *,
    settings: Settings | None = None,
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
) -> list[dict[str, Any]]:
    """Score `pairs` with every chosen (backbone, weights) and remember the result as run `name`; returns the manifests.

    `settings` None means `Settings()`. `progress(backbone, done, total, failed)` counts pairs. The run holds these pairs, labels and
    settings for good: another extraction changes it only under the same name. Raises InputError for a name that cannot be a run's and
    settings of another type, such as a dict, before anything is done, and for pairs that cannot be scored.
    """
    settings = Settings() if settings is None else settings
    if not isinstance(settings, Settings):
        raise InputError(
            f"settings must be a Settings, such as Settings(distances=('l2',)), not a {type(settings).__name__}."
        )
    check_run_name(name)
    if not chosen:
        raise InputError("no backbone is named: `fmiqa backbones` lists them.")
    _look_ahead(pairs, settings.small_images, strict, say)
    folders, manifests = [], []
    for backbone, weights in chosen:
        progress(backbone, 0, 0, 0)  # loading takes seconds
        model = load_backbone(
            backbone, weights, normalize=normalize, precision=precision, device=pick_device(device)
        )
        scorer = Scorer(model, settings, batch=batch)
        folder = run_folder(pairs, scorer, transforms, transform_pairs)
        manifests.append(
            score_pairs(
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
    pairs: pd.DataFrame, scorer: Scorer, transforms: Sequence[str], transform_pairs: int = 0
) -> Path:
    """Where the shards of a dataset and a scorer are kept: scores/DATASET/BACKBONE_WEIGHTS_…-KEY."""
    b = scorer.backbone
    dataset = str(pairs["dataset"].iloc[0])
    # Several user tables may have one name, and one path several spellings: the real path decides.
    is_user_table = dataset.startswith("csv:")
    paths = [os.path.realpath(p) for p in pairs[["ref_path", "dist_path"]].iloc[0]] if is_user_table else []
    key = digest(run_key(scorer), list(transforms), transform_pairs, *paths)[:10]
    name = plain("_".join((b.name, b.weights, b.normalize, b.precision)))
    return scores_root() / plain(dataset) / f"{name}-{key}"


def _look_ahead(pairs: pd.DataFrame, small_images: str, strict: bool, say: Callable[[str], object]) -> None:
    """Say what will fail before hours are spent. Raises InputError if every pair will fail, or with `strict` any."""
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

    if name != "demo" or name in known_runs():
        return
    say(
        "there is no run yet: building the demo dataset and scoring a part of it, about two minutes without a GPU"
    )
    demo.build_demo()
    pairs = load_pairs("demo")
    extract_run(
        name, pairs.iloc[::6], choose("auto", "auto", "demo"), settings=Settings(("l2", "cos")), say=say
    )


def score_pairs(
    pairs: pd.DataFrame,
    scorer: Scorer,
    folder: Path,
    *,
    transforms: Sequence[str] = ("none",),
    transform_pairs: int = 0,
    engine: Engine | None = None,
    trials: Trials | None = None,
    strict: bool = False,
    verify: bool = False,
    progress: Callable[[float, int, int], object] = lambda *_: None,
    say: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Score all `pairs` into `folder`, going on where an earlier run stopped; returns the manifest.

    `progress(done, total, failed)` counts pairs; in this process an unfinished pair counts in part. `engine`: what scores; by default this
    process with `scorer` and `trials`. `strict` turns the first failure into InputError; `verify` hashes every image again instead of
    trusting its size and time. A second run on the same folder waits for the first.

    The manifest is the one commit point: it names the shards and the pairs table, and their names hold checksums.
    """
    chunks = plan(pairs, scorer, transforms, transform_pairs)
    total = sum(chunks.size(i) for i in range(len(chunks)))
    with sole_writer(folder, waiting=say):
        start, windows = time.time(), 0
        kept = Kept(chunks, folder, say, verify=verify)
        kept_before = len(kept.shards)
        progress(kept.pairs, total, 0)
        engine = engine or serial(
            scorer, trials, lambda pairs: progress(kept.pairs + pairs, total, kept.failed)
        )
        for result in engine(kept.to_do(), folder):
            if result.failures and strict:
                raise InputError(f"stopped at the first failure (--strict): {result.failures[0]['reason']}")
            kept.add(result)
            windows += result.windows
            progress(kept.pairs, total, kept.failed)
        if kept_before < len(chunks):
            kept.settle()
        ordered = [kept.shards[key] for key in chunks.keys]
        facts = _manifest(pairs, scorer, transforms, ordered, kept.failed)
        manifest = _latest(folder, facts)
        if manifest is None:
            effort = {
                "seconds": round(time.time() - start, 2),
                "windows": windows,
                "chunks_kept": kept_before,
            }
            stages = {k: round(v, 2) for k, v in scorer.seconds.items()}
            name, table = pairs_bytes(pairs)
            write_atomically(folder / name, table)
            manifest = {**facts, **effort, "stages": stages, "pairs_table": name}
            write_manifest(folder, manifest)
        kept.clean(lambda: shards_in_use(folder))
    return manifest


def _latest(folder: Path, facts: Mapping[str, object]) -> dict[str, Any] | None:
    """The folder's manifest if it states the same facts and its pairs table is undamaged; versions may have changed since."""
    try:
        known = read_manifest(folder)
        read_manifest(folder, manifest_name(manifest_bytes(known)))
        read_pairs(folder, known)
    except InputError:  # none yet, or a damaged one: it is written again
        return None
    written = json.loads(manifest_bytes(facts))
    same = all(known.get(n) == value for n, value in written.items() if n not in ("versions", "hardware"))
    return known if same and "pairs_table" in known else None


def _manifest(
    pairs: pd.DataFrame, scorer: Scorer, transforms: Sequence[str], shards: list[str], failures: int
) -> dict[str, object]:
    """Everything a reader of the numbers must know."""
    b = scorer.backbone
    return {
        "dataset": str(pairs["dataset"].iloc[0]),
        "backbone": b.name,
        "family": b.info.family,
        "weights": b.weights,
        "weights_sha256": b.weights_sha256,
        "normalize": b.normalize,
        "precision": b.precision,
        "settings": asdict(scorer.settings),
        "batch": scorer.batch,
        "transforms": list(transforms),
        "pairs": len(pairs),
        "references": int(pairs["ref"].nunique()),
        "failures": failures,
        "label_kind": str(pairs["label_kind"].iloc[0]),
        "label_source": str(pairs["label_source"].iloc[0]) if "label_source" in pairs else "",
        "labels_sha256": labels_digest(pairs),
        "shards": shards,
        "versions": versions(),
        "hardware": hardware(scorer.device),
    }
