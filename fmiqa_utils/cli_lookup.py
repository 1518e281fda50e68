"""The commands of `fmiqa` that look things up: published results, backbones, datasets."""

import json
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.table import Table

from fmiqa_utils.console import brief, err, out, short, table
from fmiqa_utils.errors import InputError
from fmiqa_utils.options import Backbone, Device, Direction, Labels, Precision, Root, Weights
from fmiqa_utils.progress import progress_bar

app = typer.Typer()
datasets_app = typer.Typer(help="The image-quality datasets this suite reads.", invoke_without_command=True)
app.add_typer(datasets_app, name="datasets")


@app.command()
def published(
    path: Annotated[
        Path | None,
        typer.Argument(help="Per-image results: a folder or file, CSV or Parquet; none: the packaged table."),
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Also PLCC after the logistics (minutes for PIPAL).")
    ] = False,
    run: Annotated[
        str | None, typer.Option(help="Also compare pair by pair with this run of ours on the same dataset.")
    ] = None,
) -> None:
    """Correlations of other people's per-image results, pooled and within reference."""
    from fmiqa_utils.published import published_correlations, published_table, read_published

    if path is None:
        if run:
            raise InputError("--run compares with per-image results: name their folder too.")
        out.print(table(published_table().round(3), "Published results (arXiv 2409.07650)"))
        return
    results = read_published(path)
    out.print(table(published_correlations(results, fit=fit).round(3), f"Results in {path.name}"))
    for problem in results.problems.itertuples():
        err.print(f"{problem.file}: {problem.problem}", style="red", markup=False)
    if run:
        from fmiqa_utils.published_agreement import agreement
        from fmiqa_utils.runs import load_run

        same, beside = agreement(results, load_run(run))
        out.print(table(same.round(6), f"Pair by pair: run {run} against {path.name}"))
        out.print(
            table(
                beside.drop(columns=["normalize", "feature"]).round(4),
                "Correlations with the published labels",
            )
        )


@app.command()
def compare(
    runs: Annotated[list[str] | None, typer.Argument(help="Names of runs; none: every run there is.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for leaderboard.csv, .md and .tex; figures/compare by default."),
    ] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples over references.")] = 1000,
) -> None:
    """A leaderboard across the datasets and backbones of several runs, printed and saved as CSV, Markdown and LaTeX."""
    from fmiqa_utils.compare import leaderboard, save_leaderboard, side_by_side
    from fmiqa_utils.paths import figures_root
    from fmiqa_utils.runs import known_runs, load_run

    loaded = [load_run(name) for name in runs or known_runs()]
    board = leaderboard(loaded, n_resamples=resamples)
    out.print(table(side_by_side(board, bold="[bold]{}[/]"), "SRCC with 95 % interval over references"))
    for warning in dict.fromkeys(run.warning for run in loaded if run.warning):
        err.print(f"[bold red]{warning}[/]")
    for path in save_leaderboard(board, output or figures_root() / "compare"):
        out.print(f"Saved {short(path)}")


@app.command()
def bench(
    backbone: Backbone = "dino_vitb16",
    weights: Weights = "untrained",
    windows: Annotated[int, typer.Option(help="Windows to measure on.")] = 16,
    precision: Precision = "fp32",
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON object instead of tables.")] = False,
) -> None:
    """What the sweep costs beside the bare model on this machine, and how long the datasets would take."""
    from fmiqa_utils.bench import bench as run
    from fmiqa_utils.bench import save_bench
    from fmiqa_utils.provenance import pick_device

    say = (lambda _: None) if as_json else (lambda stage: err.print(f"measuring {stage} …"))
    result = run(
        backbone, weights, windows=windows, precision=precision, device=pick_device(device), progress=say
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
        (names[k], f"{1000 * result[f'{k}_s']:.1f}", f"{result[f'{k}_s'] / result['bare_s']:.2f}")
        for k in names
    ]
    out.print(
        table(
            pd.DataFrame(rows, columns=["work", "ms per window", "ratio"]),
            f"{result['backbone']}, {result['device']}",
        )
    )
    stages = ", ".join(f"{k} {v:.0%}" for k, v in result["stages"].items())
    out.print(
        f"End to end {result['windows_per_s']:.1f} windows/s, {result['pairs_per_s']:.2f} pairs/s ({stages})."
    )
    out.print(f"Peak memory {result['peak_rss_gb']:.2f} GB, on the GPU {result['peak_gpu_gb']:.2f} GB.")
    hours = ", ".join(f"{k} {v:.1f} h" for k, v in result["hours"].items())
    out.print(f"At this rate: {hours}.")
    out.print(f"Saved {short(path)}")


@app.command()
def backbones() -> None:
    """List the named backbones."""
    from fmiqa_utils.backbones import BACKBONES, normalization

    columns = (
        "name",
        "model",
        "layers",
        "width",
        "input",
        "mean / std",
        "M parameters",
        "licence",
        "download",
    )
    listed = Table(*columns, title="Backbones")
    for b in BACKBONES.values():
        model = f"{b.source}:{b.model}" + (f"/{b.tag}" if b.tag else "")
        moments = " / ".join(" ".join(f"{v:.3f}" for v in values) for values in normalization(b))
        size, download = f"{b.parameters_m:.1f}", f"{b.download_mb} MB"
        listed.add_row(b.name, model, str(b.layers), b.width, "224 px", moments, size, b.licence, download)
    out.print(listed)
    out.print("Any other: timm:NAME (with forward_intermediates) or openclip:NAME/TAG.")


@datasets_app.callback()
def datasets(context: typer.Context) -> None:
    """List the datasets: size, labels, licence, where to request them, and whether they are found."""
    if context.invoked_subcommand is None:
        from fmiqa_utils.datasets import dataset_overview

        out.print(table(dataset_overview().drop(columns=["citation", "choices", "dropped"]), "Datasets"))


@datasets_app.command("check")
def check(
    name: Annotated[str, typer.Argument(help="The dataset, or csv:PATH.")],
    root: Root = None,
    labels: Labels = None,
    direction: Direction = None,
) -> None:
    """Verify every row of a dataset against the disk; exits with 1 if anything is wrong."""
    from fmiqa_utils.dataset_check import check_dataset

    with progress_bar("files") as update:
        result = check_dataset(
            name,
            root,
            labels=labels,
            direction=direction,
            progress=lambda d, t: update(f"checking {name}", d, t),
        )
    for key, value in vars(result).items():
        if value or key in ("missing", "unreadable", "mismatched", "small"):
            out.print(f"[bold]{key}[/]: {brief(value)}")
    if not result.ok:
        raise typer.Exit(1)
