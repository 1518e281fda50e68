"""A sweep: datasets × backbones × normalizations, planned, estimated, scored by one engine, compared at the end."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pandas as pd

from fmiqa_utils.backbones.catalogue import NORMALIZE, PRECISIONS, SMALL_IMAGES, WINDOW
from fmiqa_utils.backbones.device import pick_device
from fmiqa_utils.backbones.load import backbone_info, load_backbone, window_flops
from fmiqa_utils.backbones.windows import fitted_size, window_boxes
from fmiqa_utils.datasets.images import read_size
from fmiqa_utils.datasets.tables import load_pairs
from fmiqa_utils.datasets.transforms import parse_transform
from fmiqa_utils.distances.table import DISTANCES, USUAL_DISTANCES, VARIANTS
from fmiqa_utils.errors import InputError, near
from fmiqa_utils.extraction.choices import choose
from fmiqa_utils.extraction.engines.base import Spec, Trials, Workers
from fmiqa_utils.extraction.engines.choice import ENGINES, refuse_gpus
from fmiqa_utils.extraction.engines.pool import process_pool
from fmiqa_utils.extraction.engines.ray import ray_actors
from fmiqa_utils.extraction.extract import run_folder, score_pairs
from fmiqa_utils.extraction.plan import evenly_spaced
from fmiqa_utils.extraction.scorer import Scorer, Settings
from fmiqa_utils.paths import machine_root
from fmiqa_utils.scores.run_names import default_run
from fmiqa_utils.scores.runs import save_run

BYTES_PER_VALUE = 9.0  # of a shard, measured on the demo dataset: a value and its share of the keys
SEVERAL = {"several": True}  # a field that may hold several names, and one name in a YAML file
Validator = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def _word(known: Iterable[str] = ()) -> Validator:
    """A name, one of `known` where that says something."""

    def check(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if not isinstance(value, str):
            raise InputError(f"{field.name} must be a name, not {value!r}.")
        if known and value not in known:
            raise InputError(f"{field.name}: {value!r} is unknown; {near(value, known)}")

    return check


def _names(known: Iterable[str] = (), *, least: int = 1) -> Validator:
    """`least` names or more, none of them twice, each one of `known` where that says something."""

    def check(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise InputError(f"{field.name} must be names, not {value!r}.")
        if len(value) < least:
            raise InputError(f"{field.name} must name something.")
        if len(set(value)) < len(value):
            raise InputError(f"{field.name} names one thing twice: {', '.join(value)}.")
        for word in value if known else ():
            _word(known)(None, field, word)

    return check


def _count(_: object, field: "attrs.Attribute[Any]", value: object) -> None:
    if type(value) is not int or value < 0:
        raise InputError(f"{field.name} must be a whole number, not {value!r}.")


def _transforms(_: object, field: "attrs.Attribute[Any]", value: list[str]) -> None:
    for transform in value:
        parse_transform(transform)
    if "none" not in value:
        raise InputError(
            f"{field.name} must include none: what an image loses by a transform is measured against it."
        )


@attrs.frozen
class Sweep:
    """What to score; every field may stand in a YAML file under the same name. Raises InputError for a value that cannot be meant."""

    # How to give datasets and backbones the command says itself, where there are none.
    datasets: list[str] = attrs.field(validator=_names(least=0), metadata=SEVERAL)
    backbones: list[str] = attrs.field(validator=_names(least=0), metadata=SEVERAL)
    weights: str = attrs.field(default="pretrained", validator=_word())
    normalize: list[str] = attrs.field(
        validator=_names(NORMALIZE), factory=lambda: ["none"], metadata=SEVERAL
    )
    transforms: list[str] = attrs.field(
        validator=[_names(), _transforms], factory=lambda: ["none"], metadata=SEVERAL
    )
    transform_pairs: int = attrs.field(default=0, validator=_count)
    distances: tuple[str, ...] = attrs.field(
        validator=_names(DISTANCES), default=USUAL_DISTANCES, metadata=SEVERAL
    )
    variants: tuple[str, ...] = attrs.field(
        validator=_names(VARIANTS), default=("published",), metadata=SEVERAL
    )
    precision: str = attrs.field(default="fp32", validator=_word(PRECISIONS))
    small_images: str = attrs.field(default="error", validator=_word(SMALL_IMAGES))
    batch: int = attrs.field(default=0, validator=_count)
    direction: str = attrs.field(default="", validator=_word())  # of csv: datasets


@dataclass(frozen=True)
class Job:
    """One dataset with one backbone and one normalization."""

    dataset: str
    spec: Spec
    pairs: pd.DataFrame


def read_sweep(path: Path) -> dict[str, Any]:
    """The fields of a `Sweep` in a YAML file. Raises InputError for an unknown field and as `sweep_file.read_yaml` does."""
    from fmiqa_utils.extraction.sweep_file import read_yaml

    content = read_yaml(path)
    known = [field.name for field in attrs.fields(Sweep)]
    several = [field.name for field in attrs.fields(Sweep) if "several" in field.metadata]
    for name in content:
        if name not in known:
            raise InputError(f"{path.name} has an unknown field {name!r}; {near(str(name), known)}")
    short = {"distances": {"all": list(DISTANCES)}, "variants": {"both": list(VARIANTS)}}
    content = {k: short.get(k, {}).get(v, v) if isinstance(v, str) else v for k, v in content.items()}
    return {k: [v] if k in several and isinstance(v, str) else v for k, v in content.items()}


def jobs_of(sweep: Sweep) -> list[Job]:
    """Every combination, datasets first. Raises InputError for a name that is unknown or a dataset that is incomplete."""
    settings = Settings(tuple(sweep.distances), tuple(sweep.variants), small_images=sweep.small_images)
    _refuse_one_run_for_two(sweep.datasets)
    jobs = []
    for dataset in sweep.datasets:
        own = {"direction": sweep.direction or None} if dataset.startswith("csv:") else {}
        pairs = load_pairs(dataset, **own)
        for backbone, weights in choose(",".join(sweep.backbones), sweep.weights, dataset):
            for normalize in sweep.normalize:
                spec = Spec(backbone, weights, normalize, sweep.precision, settings, sweep.batch)
                jobs.append(Job(dataset, spec, pairs))
    return jobs


def _refuse_one_run_for_two(datasets: list[str]) -> None:
    """Raises InputError where two datasets would be saved as one run."""
    names: dict[str, str] = {}
    for dataset in datasets:
        first = names.setdefault(sweep_name(dataset), dataset)
        if first != dataset:
            raise InputError(
                f"{first} and {dataset} would both be saved as the run {sweep_name(dataset)}: "
                f"rename a file or its folder, or sweep over one at a time."
            )


def estimate(sweep: Sweep, jobs: list[Job]) -> pd.DataFrame:
    """A row per job: pairs, chunks, window forwards, hours at this machine's last bench, gigabytes to be written, licence.

    Sizes are read from the headers of the references; hours are NaN before `fmiqa bench`, and scaled by the operations of the
    backbone's forward where another one was benched.
    """
    flops_per_s = _benched_flops_per_s()
    counts: dict[str, tuple[int, int, int]] = {}
    rows = []
    for job in jobs:
        if job.dataset not in counts:
            counts[job.dataset] = _counts(job.pairs, sweep)
        pairs, chunks, windows = counts[job.dataset]
        info = backbone_info(job.spec.backbone)
        values = pairs * (info.layers or 12) * len(sweep.distances) * len(sweep.variants)
        rows.append(
            {
                "dataset": job.dataset,
                "backbone": job.spec.backbone,
                "weights": job.spec.weights,
                "normalize": job.spec.normalize,
                "pairs": pairs,
                "chunks": chunks,
                "windows": windows,
                "hours": windows * window_flops(info) / flops_per_s / 3600 if flops_per_s else float("nan"),
                "gigabytes": values * BYTES_PER_VALUE / 1e9,
                "licence": info.licence,
            }
        )
    return pd.DataFrame(rows)


def _counts(pairs: pd.DataFrame, sweep: Sweep) -> tuple[int, int, int]:
    """(pairs, chunks, window forwards) of one backbone over all transforms."""
    boxes = {path: _windows(*read_size(path), sweep.small_images) for path in pairs["ref_path"].unique()}
    n_pairs = n_chunks = windows = 0
    for transform in sweep.transforms:
        rows = pairs if transform == "none" else evenly_spaced(pairs, sweep.transform_pairs)
        n_pairs += len(rows)
        n_chunks += rows["ref"].nunique()
        windows += int(rows["ref_path"].map(boxes).sum()) + sum(boxes[p] for p in rows["ref_path"].unique())
    return n_pairs, n_chunks, windows


def _windows(height: int, width: int, small_images: str) -> int:
    if min(height, width) < WINDOW and small_images == "error":
        return 0  # its pairs become failure rows
    return len(window_boxes(*fitted_size(height, width, small_images)))


def _benched_flops_per_s() -> float:
    """What the last `fmiqa bench` here reached, end to end; 0 where there was none."""
    path = machine_root() / "bench.json"
    if not path.is_file():
        return 0.0
    bench = json.loads(path.read_text(encoding="utf-8"))
    return float(bench["windows_per_s"]) * window_flops(backbone_info(bench["backbone"]))


def run_sweep(
    sweep: Sweep,
    jobs: list[Job],
    workers: Workers | None = None,
    *,
    progress: Callable[[str, float, int, int], object] = lambda *_: None,
    say: Callable[[str], object] = lambda _: None,
) -> list[str]:
    """Score every job, skipping what is done; saves a run per dataset and returns the runs' names.

    `workers`: who scores; None is this process. One backbone scores all its datasets before the next is loaded. A job whose backbone
    cannot be loaded stops the sweep; what is finished stays.
    """
    names = {dataset: sweep_name(dataset) for dataset in dict.fromkeys(job.dataset for job in jobs)}
    folders: dict[int, Path] = {}
    manifests: dict[int, dict[str, Any]] = {}
    device = "cpu" if workers else pick_device()  # with workers this process only plans
    for spec in dict.fromkeys(job.spec for job in jobs):
        own = [i for i, job in enumerate(jobs) if job.spec == spec]
        progress(_label(jobs[own[0]]), 0, 0, 0)  # loading takes seconds
        model = load_backbone(
            spec.backbone, spec.weights, normalize=spec.normalize, precision=spec.precision, device=device
        )
        scorer = Scorer(model, spec.settings, batch=spec.batch)
        engine, trials = (workers(spec), None) if workers else (None, Trials(say))
        for i, job in ((i, jobs[i]) for i in own):
            folders[i] = run_folder(job.pairs, scorer, sweep.transforms, sweep.transform_pairs)
            manifests[i] = score_pairs(
                job.pairs,
                scorer,
                folders[i],
                transforms=sweep.transforms,
                transform_pairs=sweep.transform_pairs,
                engine=engine,
                trials=trials,
                progress=partial(progress, _label(job)),
                say=say,
            )
    for dataset, name in names.items():
        own = [i for i, job in enumerate(jobs) if job.dataset == dataset]
        save_run(name, [folders[i] for i in own], [manifests[i] for i in own])
    return list(names.values())


def _label(job: Job) -> str:
    return f"{job.dataset} · {job.spec.backbone} · {job.spec.normalize}"


def sweep_name(dataset: str) -> str:
    """The name of the run that a sweep saves for a dataset; of csv:/data/mine/pairs.csv it is mine-pairs-sweep."""
    return f"{default_run(dataset)}-sweep"


@contextmanager
def workers_of(
    engine: str, *, workers: int, address: str | None, num_gpus: float | None, say: Callable[[str], object]
) -> Iterator[Workers | None]:
    """So many workers of the engine; None, this process itself, for a local one on one device. Raises InputError for another name."""
    import torch

    if engine not in ENGINES:
        raise InputError(f"there is no engine {engine!r}; {near(engine, ENGINES)}")
    if workers < 0:
        raise InputError(f"--workers {workers}: it must be 0 or more.")
    refuse_gpus(num_gpus)
    if engine == "ray":
        with ray_actors(workers, address=address, num_gpus=num_gpus, say=say) as group:
            yield group
        return
    gpus = torch.cuda.device_count()
    devices = [f"cuda:{i}" for i in range(gpus)] if gpus else ["cpu"] * (workers or 1)
    if len(devices) == 1:
        yield None
        return
    with process_pool(devices, say=say) as group:
        yield group
