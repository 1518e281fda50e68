"""The commands of `fmiqa` that look things up: published results, backbones, datasets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fmiqa_utils.backbones.catalogue import BACKBONES, WINDOW
from fmiqa_utils.cli.checks import (
    at_least,
    check_dataset,
    check_exists,
    checked,
    refuse_models,
    run_names,
    words,
)
from fmiqa_utils.cli.options import (
    Device,
    Direction,
    KnownRun,
    Labels,
    OneBackbone,
    Precision,
    Root,
    Weights,
)
from fmiqa_utils.console import BOLD, brief, say, short, show, show_rows, tell, warn
from fmiqa_utils.datasets.registry import DATASETS, OWN_TABLE, refuse_label_options
from fmiqa_utils.distances.table import BASELINES, DISTANCES
from fmiqa_utils.errors import InputError
from fmiqa_utils.scores.run_names import refuse_unknown_run

app = typer.Typer()
datasets_app = typer.Typer(help="The image-quality datasets this suite reads.", invoke_without_command=True)
app.add_typer(datasets_app, name="datasets")


def _known(names: list[str] | None) -> list[str] | None:
    """Raises InputError for a run that does not exist."""
    for name in names or []:
        refuse_unknown_run(name)
    return names


def _numbers(values: Sequence[float] | None) -> str:
    return " ".join(f"{v:.3f}" for v in values or ())


@app.command()
def published(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="Per-image results: a folder or file, CSV or Parquet. Without it: the packaged table.",
            callback=checked(check_exists),
        ),
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Also PLCC after the logistics (minutes for PIPAL).")
    ] = False,
    run: KnownRun = None,
) -> None:
    """Correlations of published per-image results with people, over all images and within references."""
    if path is None and (run or fit):
        given = "--run compares with" if run else "--fit fits"
        raise InputError(f"{given} per-image results: name their file or folder too.")

    from fmiqa_utils.progress import progress_bar

    with progress_bar("methods") as update:
        update("published", 0, 0)
        from fmiqa_utils.published.results import published_correlations, published_table, read_published

        if path is not None:
            results = read_published(path)
            correlations = published_correlations(results, fit=fit, progress=update)
    if path is None:
        show(published_table().round(3), "Published results (arXiv 2409.07650)")
        return
    show(correlations.round(3), f"Results in {path.name}")
    for problem in results.problems.itertuples():
        say(f"{problem.file}: {problem.problem}")
    if run:
        from fmiqa_utils.published.agreement import agreement
        from fmiqa_utils.scores.runs import load_run

        same, correlations_of_both = agreement(results, load_run(run))
        show(same.round(6), f"Pair by pair: run {run} against {path.name}")
        show(
            correlations_of_both.drop(columns=["normalize", "feature"]).round(4),
            "Correlations with the published labels",
        )


@app.command()
def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names of runs. Without names: every run.", callback=_known, autocompletion=run_names
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for leaderboard.csv, .md and .tex; figures/compare by default."),
    ] = None,
    resamples: Annotated[
        int, typer.Option(help="Bootstrap resamples over references.", callback=at_least(1))
    ] = 1000,
) -> None:
    """A leaderboard across the datasets and backbones of several runs, printed and saved as CSV, Markdown and LaTeX."""
    from fmiqa_utils.paths import figures_root
    from fmiqa_utils.progress import progress_bar, track

    with progress_bar("runs") as update:
        update("leaderboard", 0, 0)
        from fmiqa_utils.files.storage import check_room
        from fmiqa_utils.scores.run_names import known_runs
        from fmiqa_utils.scores.runs import load_run
        from fmiqa_utils.statistics.leaderboard import leaderboard, read_each, save_leaderboard, side_by_side

        folder = output or figures_root() / "compare"
        check_room(folder, "The leaderboard", 2**20)
        if runs:
            loaded = [load_run(name) for name in runs]
        else:  # all runs that can be read
            loaded, left_out = read_each(known_runs(), lambda run: run)
            for sentence in left_out:
                say(sentence)
        board = leaderboard(track(loaded, "leaderboard", "runs"), n_resamples=resamples)
    leaders = side_by_side(board, bold=BOLD)
    leaders.insert(0, "backbone", leaders.pop("backbone"))
    show(leaders, "SRCC with 95 % interval over references")
    for warning in dict.fromkeys(run.warning for run in loaded if run.warning):
        warn(warning)
    for path in save_leaderboard(board, folder):
        tell(f"Saved {short(path)}")


@app.command()
def bench(
    backbone: OneBackbone = "dino_vitb16",
    weights: Weights = "untrained",
    windows: Annotated[int, typer.Option(help="Windows to measure on.", callback=at_least(1))] = 16,
    precision: Precision = "fp32",
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON object instead of tables.")] = False,
) -> None:
    """Time of the sweep against the bare model on this machine, and how long the datasets would take."""
    refuse_models(backbone)

    from fmiqa_utils.backbones.device import pick_device
    from fmiqa_utils.extraction.bench import bench as measure
    from fmiqa_utils.extraction.bench import save_bench

    result = measure(
        backbone,
        weights,
        windows=windows,
        precision=precision,
        device=pick_device(device),
        progress=lambda stage: None if as_json else say(f"measuring {stage} …"),
    )
    path = save_bench(result)
    if as_json:
        print(json.dumps(result))
        return
    names = {
        "bare": "bare forward",
        "published": "published sweep",
        "everything": "both forms, all curves",
        "swd": "published and swd",
    }
    rows = [
        {
            "work": name,
            "ms per window": f"{1000 * result[f'{k}_s']:.1f}",
            "ratio": f"{result[f'{k}_s'] / result['bare_s']:.2f}",
        }
        for k, name in names.items()
    ]
    show_rows(rows, f"{result['backbone']}, {result['device']}")
    stages = ", ".join(f"{k} {v:.0%}" for k, v in result["stages"].items())
    tell(
        f"End to end {result['windows_per_s']:.1f} windows/s, {result['pairs_per_s']:.2f} pairs/s ({stages})."
    )
    tell(f"Peak memory {result['peak_rss_gb']:.2f} GB, on the GPU {result['peak_gpu_gb']:.2f} GB.")
    hours = ", ".join(f"{k} {v:.1f} h" for k, v in result["hours"].items())
    tell(f"At this rate: {hours}.")
    tell(f"Saved {short(path)}")


@app.command()
def backbones() -> None:
    """List the named backbones."""
    rows = [
        {
            "name": b.name,
            "model": f"{b.source}:{b.model}" + (f"/{b.tag}" if b.tag else ""),
            "layers": b.layers,
            "width": b.width,
            "input": f"{WINDOW} px",
            "mean": _numbers(b.mean),
            "std": _numbers(b.std),
            "M parameters": f"{b.parameters_m:.1f}",
            "licence": b.licence,
            "download": f"{b.download_mb} MB",
        }
        for b in BACKBONES.values()
    ]
    show_rows(rows, "Backbones")
    tell("Any other backbone: timm:NAME (with forward_intermediates) or openclip:NAME/TAG.")


@app.command()
def distances() -> None:
    """List the distances between features and the classic metrics beside them."""
    both = [
        {"name": d.name, "in print": d.title, "what it measures": d.help, "usual": "yes" if d.usual else "no"}
        for d in DISTANCES.values()
    ]
    show_rows(both, "Distances between features (0: equal), each in a published and a corrected form")
    classic = [
        {
            "name": b.name,
            "in print": b.title,
            "what it measures": b.help,
            "better": "higher" if b.higher_is_better else "lower",
            "computed by": b.library,
        }
        for b in BASELINES.values()
    ]
    show_rows(classic, "Baselines, computed from pixels")


@datasets_app.callback()
def datasets(context: typer.Context) -> None:
    """List the datasets: size, labels, licence, where to request them, and whether they are found."""
    if context.invoked_subcommand is None:
        from fmiqa_utils.datasets.tables import dataset_overview

        overview = dataset_overview().drop(columns=["citation", "choices", "dropped"])
        show(overview.rename(columns={"label_kind": "labels"}), "Datasets")


@datasets_app.command("check")
def check(
    name: Annotated[
        str,
        typer.Argument(
            help="The dataset, or csv:PATH.",
            callback=checked(check_dataset),
            autocompletion=words(*DATASETS, OWN_TABLE),
        ),
    ],
    root: Root = None,
    labels: Labels = None,
    direction: Direction = None,
) -> None:
    """Verify every row of a dataset against the disk; exits with 1 if anything is wrong."""
    refuse_label_options(name, labels, direction)

    from fmiqa_utils.datasets.check import check_dataset as check_files
    from fmiqa_utils.progress import progress_bar

    with progress_bar("files") as update:
        result = check_files(
            name,
            root,
            labels=labels,
            direction=direction,
            progress=lambda d, t: update(f"checking {name}", d, t),
        )
    for key, value in vars(result).items():
        if value or key in ("missing", "unreadable", "mismatched", "small"):
            tell(f"{key}: {brief(value)}")
    if not result.ok:
        raise typer.Exit(1)
