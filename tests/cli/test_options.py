"""Every option of every verb arrives where the work is done: a distinct value goes in, the recorded call holds it."""

import inspect
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from fmiqa_utils.cli.main import app

OF_TYPER = {"help", "install_completion", "show_completion"}
ONE_ROW = pd.DataFrame({"backbone": ["b"], "chunks": [1], "hours": [1.0], "windows": [1], "gigabytes": [1.0]})
ONE_ROW["dist_path"] = "a.png"
WORKER = "fmiqa_utils."


class Case(NamedTuple):
    """Words to add to a verb's own ("= …": instead of them), and what then stands where.

    where: "function.argument.attribute" of the recorded call, or a function of all calls and of what was printed.
    """

    words: str
    where: "str | Callable[[Calls, str], object]"
    value: object


Calls = dict[str, dict[str, Any]]


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Stand-ins for the functions that do the work; what each was called with, argument by argument."""
    monkeypatch.chdir(tmp_path)
    for name in ("SCORES", "FIGURES", "REPORTS", "DATA"):
        monkeypatch.setenv(f"FMIQA_{name}", str(tmp_path / name.lower()))
    for name in (
        "pairs.csv",
        "a.png",
        "b.png",
        "w.safetensors",
        "best.ckpt",
        "other.ckpt",
        "splits.json",
        "sweep.yaml",
    ):
        (tmp_path / name).write_text("precision: fp16\n" if "yaml" in name else "")
    (tmp_path / "folder" / "deeper").mkdir(parents=True)
    (tmp_path / "scores" / "runs").mkdir(parents=True)
    for name in ("mine", "other"):
        (tmp_path / "scores" / "runs" / f"{name}.json").write_text("{}")
    found: Calls = {}

    def stand_in(place: str, answer: Callable[..., Any]) -> None:
        module, _, name = place.rpartition(".")
        original = getattr(import_module(WORKER + module), name)
        signature = inspect.signature(original)

        def record(*args: Any, **options: Any) -> Any:
            bound = signature.bind(*args, **options)
            bound.apply_defaults()
            found[name] = dict(bound.arguments)
            return answer(*args, **options)

        monkeypatch.setattr(f"{WORKER}{place}", record)

    for place, answer in ANSWERS.items():
        stand_in(place, answer)
    execve = lambda path, words, _: found.update(execv={"path": path, "words": " ".join(words)})  # noqa: E731
    monkeypatch.setattr("os.execve", execve)
    return found


@contextmanager
def no_workers(*_: object, **__: object) -> Iterator[None]:
    yield None


def a_model(*_: object, **__: object) -> SimpleNamespace:
    return SimpleNamespace(weights="trained")


def a_loda() -> SimpleNamespace:
    part = SimpleNamespace(parameters=lambda: [SimpleNamespace(numel=lambda: 5)])
    return SimpleNamespace(vit=part, feature_model=None, learner=part)


def is_json(_: Calls, printed: str) -> bool:
    return printed.startswith("{") and isinstance(json.loads(printed), dict)


BENCH = {f"{k}_s": 1.0 for k in ("bare", "published", "everything", "swd", "windows_per", "pairs_per")}
BENCH |= {"backbone": "b", "device": "d", "stages": {}, "hours": {}, "peak_rss_gb": 1.0, "peak_gpu_gb": 0.0}
SCORED = {"dist": "d", "backbone": "b", "weights": "w", "windows": 1, "variant": "published"}
SCORED |= {"score": {"cos": 0.5}, "embedding_cos": 0.5}
CHECKED = SimpleNamespace(ok=True, rows=1)
ANSWERS: dict[str, Callable[..., Any]] = {
    "demo.build.build_demo": lambda *_, **__: Path("demo"),
    "demo.build.deviation_table": lambda *_: ONE_ROW,
    "datasets.tables.load_pairs": lambda *_, **__: ONE_ROW,
    "extraction.choices.choose": lambda backbone, weights, dataset: [
        (b, weights) for b in backbone.split(",")
    ],
    "extraction.extract.extract_run": lambda *_, **__: [],
    "scores.runs.load_run": lambda *_: SimpleNamespace(warning=""),
    "distances.baselines.choose_baselines": lambda words: tuple(words.split(",")),
    "backbones.device.pick_device": lambda name="auto": name,
    "report.pipeline.make_report": lambda *_, **__: (Path("index.html"), "headline"),
    "backbones.load.load_backbone": a_model,
    "extraction.scorer.Scorer": lambda model, settings: (model, settings),
    "extraction.single.find_files": lambda ref, dist: [(ref, dist)],
    "extraction.single.score_files": lambda *_: [SCORED],
    "published.results.read_published": lambda *_: SimpleNamespace(problems=ONE_ROW.head(0)),
    "published.results.published_correlations": lambda *_, **__: ONE_ROW,
    "published.agreement.agreement": lambda *_: (ONE_ROW, ONE_ROW.assign(normalize="none", feature="0")),
    "statistics.leaderboard.leaderboard": lambda runs, **_: list(runs),
    "statistics.leaderboard.side_by_side": lambda *_, **__: ONE_ROW.copy(),
    "statistics.leaderboard.save_leaderboard": lambda *_: [],
    "extraction.bench.bench": lambda *_, **__: BENCH,
    "extraction.bench.save_bench": lambda *_: Path("bench.json"),
    "datasets.check.check_dataset": lambda *_, **__: CHECKED,
    "extraction.sweep.jobs_of": lambda *_: [],
    "extraction.sweep.estimate": lambda *_: ONE_ROW,
    "extraction.sweep.run_sweep": lambda *_, **__: ["mine"],
    "extraction.sweep.workers_of": no_workers,
    "cli.sweep._finish": lambda *_: None,
    "loda.data.load_labelled": lambda *_, **__: ONE_ROW,
    "loda.data.fill_cache": lambda *_, **__: None,
    "loda.run.run_folder": lambda *_: Path("made"),
    "loda.run.train": lambda *_, **__: [],
    "loda.evaluate.load_checkpoint": a_model,
    "loda.evaluate.find_images": lambda paths: paths,
    "loda.evaluate.evaluate": lambda *_, **__: (ONE_ROW, {"srcc": 1.0}),
    "loda.evaluate.predict": lambda *_, **__: ONE_ROW,
    "loda.ablate.ablate_vits": lambda *_, **__: ONE_ROW,
    "loda.ablate.save_ablation": lambda *_: [],
    "loda.model.LoDa": lambda *_, **__: a_loda(),
    "extraction.plan.evenly_spaced": lambda rows, images: rows,
}
LABELS = {
    "root": Case("--root folder", "{}.root", "folder"),
    "labels": Case("--dataset live --labels realigned", "{}.labels", "realigned"),
    "direction": Case("--dataset csv:pairs.csv --direction lower", "{}.direction", "lower"),
}


def labels_in(function: str) -> dict[str, Case]:
    return {name: case._replace(where=case.where.format(function)) for name, case in LABELS.items()}


OPTIONS = {
    "extract": {
        "dataset": Case("--dataset tid2013", "load_pairs.name", "tid2013"),
        "backbone": Case("--backbone clip_rn50", "choose.backbone", "clip_rn50"),
        "weights": Case("--weights w.safetensors", "choose.weights", "w.safetensors"),
        "run": Case("--run mine", "extract_run.name", "mine"),
        **labels_in("load_pairs"),
        "distance": Case("--distance cos,swd", "extract_run.settings.distances", ("cos", "swd")),
        "variant": Case("--variant both", "extract_run.settings.variants", ("published", "corrected")),
        "transform": Case("--transform none,rot-2", "extract_run.transforms", ["none", "rot-2"]),
        "transform_pairs": Case("--transform-pairs 7", "extract_run.transform_pairs", 7),
        "baselines": Case("--baselines psnr", "extract_run.settings.baselines", ("psnr",)),
        "normalize": Case("--normalize model", "extract_run.normalize", "model"),
        "precision": Case("--precision bf16", "extract_run.precision", "bf16"),
        "small_images": Case("--small-images pad", "extract_run.settings.small_images", "pad"),
        "device": Case("--device cuda:1", "extract_run.device", "cuda:1"),
        "batch": Case("--batch 5", "extract_run.batch", 5),
        "strict": Case("--strict", "extract_run.strict", True),
        "verify": Case("--verify", "extract_run.verify", True),
    },
    "report": {
        "dataset": Case("--dataset tid2013", "make_report.given.dataset", "tid2013"),
        "backbone": Case("--backbone clip_rn50", "make_report.given.backbone", "clip_rn50"),
        "weights": Case("--weights w.safetensors", "make_report.given.weights", "w.safetensors"),
        "run": Case("--run mine", "make_report.run", "mine"),
        **labels_in("make_report.given"),
        "distance": Case("--distance cos,swd", "make_report.given.distances", "cos,swd"),
        "variant": Case("--variant both", "make_report.given.variants", "published,corrected"),
        "transform": Case("--transform none,rot-2", "make_report.given.transforms", "none,rot-2"),
        "transform_pairs": Case("--transform-pairs 0", "make_report.given.transform_pairs", 0),
        "baselines": Case("--baselines psnr", "make_report.given.baselines", "psnr"),
        "normalize": Case("--normalize model", "make_report.given.normalize", "model"),
        "precision": Case("--precision bf16", "make_report.given.precision", "bf16"),
        "small_images": Case("--small-images pad", "make_report.given.small_images", "pad"),
        "strict": Case("--strict", "make_report.given.strict", True),
        "set_": Case("--set loda_preset=published", "make_report.given.loda_preset", "published"),
    },
    "demo": {"force": Case("--force", "build_demo.force", True)},
    "score": {
        "ref": Case("= folder b.png", "find_files.ref", Path("folder")),
        "dist": Case("= a.png folder", "find_files.dist", Path("folder")),
        "backbone": Case("--backbone clip_rn50", "load_backbone.name", "clip_rn50"),
        "weights": Case("--weights w.safetensors", "load_backbone.weights", "w.safetensors"),
        "normalize": Case("--normalize model", "load_backbone.normalize", "model"),
        "precision": Case("--precision bf16", "load_backbone.precision", "bf16"),
        "device": Case("--device cuda:1", "load_backbone.device", "cuda:1"),
        "distance": Case("--distance cos,swd", "Scorer.settings.distances", ("cos", "swd")),
        "variant": Case("--variant corrected", "Scorer.settings.variants", ("corrected",)),
        "small_images": Case("--small-images pad", "Scorer.settings.small_images", "pad"),
        "transform": Case("--transform rot-2", "score_files.transform", "rot-2"),
        "as_json": Case("--json", is_json, True),
    },
    "published": {
        "path": Case("= folder", "read_published.path", Path("folder")),
        "fit": Case("--fit", "published_correlations.fit", True),
        "run": Case("--run mine", "load_run.name", "mine"),
    },
    "compare": {
        "runs": Case("mine", "load_run.name", "mine"),
        "output": Case("--output folder", "save_leaderboard.folder", Path("folder")),
        "resamples": Case("--resamples 17", "leaderboard.n_resamples", 17),
    },
    "bench": {
        "backbone": Case("--backbone clip_rn50", "bench.backbone", "clip_rn50"),
        "weights": Case("--weights w.safetensors", "bench.weights", "w.safetensors"),
        "windows": Case("--windows 3", "bench.windows", 3),
        "precision": Case("--precision bf16", "bench.precision", "bf16"),
        "device": Case("--device cuda:1", "bench.device", "cuda:1"),
        "as_json": Case("--json", is_json, True),
    },
    "backbones": {},
    "distances": {},
    "lab": {},
    "datasets": {},
    "datasets check": {
        "name": Case("= tid2013", "check_dataset.name", "tid2013"),
        "root": Case("= demo --root folder", "check_dataset.root", "folder"),
        "labels": Case("= live --labels realigned", "check_dataset.labels", "realigned"),
        "direction": Case("= csv:pairs.csv --direction lower", "check_dataset.direction", "lower"),
    },
    "sweep": {
        "file": Case("sweep.yaml", "run_sweep.sweep.precision", "fp16"),
        "datasets": Case("--datasets live,csiq", "run_sweep.sweep.datasets", ["live", "csiq"]),
        "backbones": Case("--backbones clip_rn50", "run_sweep.sweep.backbones", ["clip_rn50"]),
        "weights": Case("--weights w.safetensors", "run_sweep.sweep.weights", "w.safetensors"),
        "normalize": Case("--normalize none,model", "run_sweep.sweep.normalize", ["none", "model"]),
        "transforms": Case("--transforms none,rot-2", "run_sweep.sweep.transforms", ["none", "rot-2"]),
        "distance": Case("--distance cos,swd", "run_sweep.sweep.distances", ("cos", "swd")),
        "variant": Case("--variant both", "run_sweep.sweep.variants", ("published", "corrected")),
        "precision": Case("--precision bf16", "run_sweep.sweep.precision", "bf16"),
        "small_images": Case("--small-images pad", "run_sweep.sweep.small_images", "pad"),
        "direction": Case("--datasets csv:pairs.csv --direction lower", "run_sweep.sweep.direction", "lower"),
        "engine": Case("--engine ray", "workers_of.engine", "ray"),
        "workers": Case("--workers 3", "workers_of.workers", 3),
        "address": Case("--engine ray --address auto", "workers_of.address", "auto"),
        "num_gpus": Case("--engine ray --num-gpus 0.5", "workers_of.num_gpus", 0.5),
        "output": Case("--output folder", lambda *_: Path(os.environ["FMIQA_SCORES"]).name, "folder"),
        "reports": Case("--no-reports", "_finish.reports", False),
        "dry_run": Case("--dry-run", lambda calls, _: "run_sweep" in calls, False),
    },
    "loda train": {
        "dataset": Case("--dataset koniq10k", "load_labelled.dataset", "koniq10k"),
        **labels_in("load_labelled"),
        "vit": Case("--vit v", "train.options.vit", "v"),
        "cnn": Case("--cnn c", "train.options.cnn", "c"),
        "weights": Case("--weights untrained", "train.options.weights", "untrained"),
        "splits": Case("--splits 3,5", "train.splits", [3, 5]),
        "split_file": Case("--split-file splits.json", "train.split_file", Path("splits.json")),
        "protocol": Case("--protocol published", "train.options.protocol", "published"),
        "epochs": Case("--epochs 3", "train.options.epochs", 3),
        "batch": Case("--batch 5", "train.options.batch", 5),
        "device_batch": Case("--device-batch 2", "train.options.device_batch", 2),
        "crops": Case("--crops 4", "train.options.crops", 4),
        "test_crops": Case("--test-crops 6", "train.options.test_crops", 6),
        "learning_rate": Case("--learning-rate 0.5", "train.options.learning_rate", 0.5),
        "precision": Case("--precision bf16", "train.options.precision", "bf16"),
        "bn": Case("--bn published", "train.options.bn", "published"),
        "inject": Case("--no-inject", "train.options.inject", False),
        "seed": Case("--seed 9", "train.options.seed", 9),
        "images": Case("--images 11", "evenly_spaced.count", 11),
        "device": Case("--device cuda:1", "train.how.device", "cuda:1"),
        "devices": Case("--devices 3", "train.how.devices", 3),
        "workers": Case("--workers 4", "train.how.workers", 4),
        "output": Case("--output folder", "train.folder", Path("folder")),
    },
    "loda evaluate": {
        "checkpoint": Case("= other.ckpt", "load_checkpoint.path", Path("other.ckpt")),
        "dataset": Case("--dataset koniq10k", "load_labelled.dataset", "koniq10k"),
        **labels_in("load_labelled"),
        "vit": Case("--vit v", "load_checkpoint.vit", "v"),
        "cnn": Case("--cnn c", "load_checkpoint.cnn", "c"),
        "test_crops": Case("--test-crops 6", "evaluate.options.crops", 6),
        "images": Case("--images 11", "evenly_spaced.count", 11),
        "device": Case("--device cuda:1", "evaluate.options.device", "cuda:1"),
        "output": Case("--output out.csv", lambda *_: Path("out.csv").is_file(), True),
    },
    "loda predict": {
        "checkpoint": Case("= other.ckpt a.png", "load_checkpoint.path", Path("other.ckpt")),
        "paths": Case("b.png", "find_images.paths", [Path("a.png"), Path("b.png")]),
        "output": Case("--output out.csv", lambda *_: Path("out.csv").is_file(), True),
        "vit": Case("--vit v", "load_checkpoint.vit", "v"),
        "cnn": Case("--cnn c", "load_checkpoint.cnn", "c"),
        "crops": Case("--crops 6", "predict.crops", 6),
        "device": Case("--device cuda:1", "predict.device", "cuda:1"),
    },
    "loda ablate": {
        "dataset": Case("--dataset koniq10k", "load_labelled.dataset", "koniq10k"),
        **labels_in("load_labelled"),
        "vits": Case("--vits a,b", "ablate_vits.vits", ["a", "b"]),
        "cnn": Case("--cnn c", "ablate_vits.options.cnn", "c"),
        "weights": Case("--weights untrained", "ablate_vits.options.weights", "untrained"),
        "splits": Case("--splits 3,5", "ablate_vits.splits", [3, 5]),
        "epochs": Case("--epochs 3", "ablate_vits.options.epochs", 3),
        "batch": Case("--batch 5", "ablate_vits.options.batch", 5),
        "device_batch": Case("--device-batch 2", "ablate_vits.options.device_batch", 2),
        "crops": Case("--crops 4", "ablate_vits.options.crops", 4),
        "test_crops": Case("--test-crops 6", "ablate_vits.options.test_crops", 6),
        "learning_rate": Case("--learning-rate 0.5", "ablate_vits.options.learning_rate", 0.5),
        "precision": Case("--precision bf16", "ablate_vits.options.precision", "bf16"),
        "seed": Case("--seed 9", "ablate_vits.options.seed", 9),
        "images": Case("--images 11", "evenly_spaced.count", 11),
        "device": Case("--device cuda:1", "ablate_vits.how.device", "cuda:1"),
        "workers": Case("--workers 4", "ablate_vits.how.workers", 4),
    },
    "loda info": {
        "vit": Case("--vit v", "LoDa.vit", "v"),
        "cnn": Case("--cnn c", "LoDa.cnn", "c"),
    },
}

OWN_WORDS = {  # that a verb needs to run at all
    "score": "a.png b.png",
    "published": "folder/deeper",
    "datasets check": "demo",
    "sweep": "--datasets live --backbones dino_vitb16",
    "loda evaluate": "best.ckpt",
    "loda predict": "best.ckpt a.png",
}
CASES = [(verb, name, case) for verb, cases in OPTIONS.items() for name, case in cases.items()]


def verbs(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every command of the tree by its words."""
    for name, below in getattr(command, "commands", {}).items():
        if not hasattr(below, "commands") or below.invoke_without_command:
            yield f"{path}{name}", below
        yield from verbs(below, f"{path}{name} ")


TREE = dict(verbs(typer.main.get_command(app)))


def test_every_option_of_every_verb_has_a_case() -> None:
    declared = {verb: {p.name for p in command.params} - OF_TYPER for verb, command in TREE.items()}
    assert declared == {verb: set(cases) for verb, cases in OPTIONS.items()}
    assert sum(map(len, declared.values())) > 100


def arrived(calls: Calls, printed: str, where: str | Callable[[Calls, str], object]) -> object:
    if callable(where):
        return where(calls, printed)
    found: Any = calls
    for step in where.split("."):
        if isinstance(found, dict) and step not in found:
            return "nothing"
        found = found[step] if isinstance(found, dict) else getattr(found, step)
    return found


@pytest.mark.parametrize(("verb", "name", "case"), CASES, ids=[f"{v}-{n}" for v, n, _ in CASES])
def test_what_is_said_arrives(verb: str, name: str, case: Case, calls: Calls) -> None:
    own = OWN_WORDS.get(verb, "")
    words = case.words.removeprefix("= ") if case.words.startswith("= ") else f"{own} {case.words}"
    done = CliRunner().invoke(app, [*verb.split(), *words.split()], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert arrived(calls, done.stdout, case.where) == case.value

    calls.clear()
    Path("out.csv").unlink(missing_ok=True)
    os.environ["FMIQA_SCORES"] = str(Path("scores").resolve())
    unsaid = CliRunner().invoke(app, [*verb.split(), *own.split()], catch_exceptions=False)
    assert arrived(calls, unsaid.stdout, case.where) != case.value, (
        "the value stands there without being said"
    )


def test_jupyters_own_options_reach_it(calls: Calls) -> None:
    done = CliRunner().invoke(
        app, ["lab", "--no-browser", "--port", "9999", "--ServerApp.token=t", "x.ipynb"]
    )
    assert done.exit_code == 0, done.output
    assert calls["execv"]["words"].endswith(" --no-browser --port 9999 --ServerApp.token=t x.ipynb")
    assert " -m jupyterlab " in calls["execv"]["words"]


def test_root_is_told_what_jupyter_wants(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "fmiqa lab --allow-root" in CliRunner().invoke(app, ["lab"]).stderr
    assert CliRunner().invoke(app, ["lab", "--allow-root"]).stderr == ""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert CliRunner().invoke(app, ["lab"]).stderr == ""


def test_report_says_only_what_was_said(calls: Calls) -> None:
    done = CliRunner().invoke(app, ["report", "--dataset", "live", "--weights", "untrained"])
    assert done.exit_code == 0, done.output
    assert calls["make_report"]["given"] == {"dataset": "live", "backbone": "auto", "weights": "untrained"}
