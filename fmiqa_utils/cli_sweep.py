"""`fmiqa sweep`: many datasets and backbones, on one machine or a cluster."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from fmiqa_utils.console import out, say, short, table, warn_untrained
from fmiqa_utils.errors import InputError
from fmiqa_utils.options import Precision, Small, Weights, chosen_distances, chosen_variants
from fmiqa_utils.progress import progress_bar

app = typer.Typer()
Names = Annotated[str, typer.Option(help="Names by commas.")]


@app.command()
def sweep(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(help="A YAML file with the same names; options win over it.")
    ] = None,
    datasets: Names = "",
    backbones: Names = "",
    weights: Weights = "pretrained",
    normalize: Annotated[str, typer.Option(help="none, model, or both by commas.")] = "none",
    transforms: Annotated[
        str, typer.Option(help="none, and any of tra-1, sca-1, rot-1 … by commas.")
    ] = "none",
    distance: Annotated[
        str, typer.Option(help="all, or some of l2, cos, skld, jsd, wsd, swd.")
    ] = "l2,cos,skld,jsd,wsd",
    variant: Annotated[str, typer.Option(help="published, corrected, or both.")] = "published",
    precision: Precision = "fp32",
    small_images: Small = "error",
    direction: Annotated[str, typer.Option(help="Of csv: datasets: higher or lower, what is better.")] = "",
    engine: Annotated[str, typer.Option(help="local (one process per GPU) or ray.")] = "local",
    workers: Annotated[
        int, typer.Option(help="Processes or actors; 0: one per GPU, else this process or an actor per CPU.")
    ] = 0,
    address: Annotated[str | None, typer.Option(help="Of a running Ray cluster, such as auto.")] = None,
    num_gpus: Annotated[
        float | None,
        typer.Option(help="GPUs for each Ray actor, 1 where there are any; fractions share one."),
    ] = None,
    output: Annotated[
        str, typer.Option(help="Where the scores go instead of $FMIQA_SCORES: a folder, s3://… or gs://….")
    ] = "",
    reports: Annotated[bool, typer.Option(help="Write a report for each dataset at the end.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Score datasets × backbones × normalizations × transforms; a stopped sweep goes on where it stopped."""
    from fmiqa_utils.runs import split_names
    from fmiqa_utils.sweep import Sweep, estimate, jobs_of, read_sweep, run_sweep, workers_of

    given: dict[str, Any] = {
        "datasets": split_names(datasets),
        "backbones": split_names(backbones),
        "weights": weights,
        "normalize": split_names(normalize),
        "transforms": split_names(transforms),
        "distances": chosen_distances(distance),
        "variants": chosen_variants(variant),
        "precision": precision,
        "small_images": small_images,
        "direction": direction,
    }
    wanted = Sweep(**_merged(context, given, read_sweep(file) if file else {}))
    if not wanted.datasets or not wanted.backbones:
        raise InputError("a sweep needs --datasets and --backbones, or a YAML file that names them.")
    if output:
        _send_to(output)
    if "demo" in wanted.datasets:
        from fmiqa_utils.demo import build_demo

        build_demo()
    jobs = jobs_of(wanted)
    warn_untrained([(j.spec.backbone, j.spec.weights) for j in jobs])
    planned = estimate(wanted, jobs)
    if dry_run:
        out.print(table(planned.round(3), f"{len(jobs)} jobs, {planned['chunks'].sum():,} chunks"))
        hours = (
            f"about {planned['hours'].sum():.2f} h"
            if planned["hours"].notna().all()
            else "unknown hours (run fmiqa bench)"
        )
        out.print(
            f"{planned['windows'].sum():,} window forwards, {hours}, {planned['gigabytes'].sum():.3f} GB to be written."
        )
        return
    _try_to_write()
    with (
        workers_of(engine, workers=workers, address=address, num_gpus=num_gpus, say=say) as group,
        progress_bar("pairs") as update,
    ):
        names = run_sweep(wanted, jobs, group, progress=update, say=say)
    _finish(names, reports)


def _send_to(output: str) -> None:
    """Scores go to `output`, here and in the notebooks of the report."""
    os.environ["FMIQA_SCORES"] = output if "://" in output else str(Path(output).resolve())


def _try_to_write() -> None:
    """Raises InputError where the scores could not be written, before hours are spent."""
    from fmiqa_utils.paths import scores_root
    from fmiqa_utils.storage import remove, write_atomically

    remove(write_atomically(scores_root() / f"trial-{os.getpid()}", b""))


def _merged(context: typer.Context, given: dict[str, Any], from_file: dict[str, Any]) -> dict[str, Any]:
    """The file's values, and over them what was said on the command line."""
    words = {"distances": "distance", "variants": "variant"}
    sources = {name: context.get_parameter_source(words.get(name, name)) for name in given}
    said = {name: given[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"}
    return {**given, **from_file, **said}


def _finish(names: list[str], reports: bool) -> None:
    from fmiqa_utils.compare import leaderboard, save_leaderboard, side_by_side
    from fmiqa_utils.paths import figures_root
    from fmiqa_utils.pipeline import report_run
    from fmiqa_utils.runs import load_run, run_backbones

    # a backbone at a time: thirty of them on one dataset are a hundred million rows
    board = leaderboard(load_run(n, [backbone]) for n in names for backbone in run_backbones(n))
    out.print(table(side_by_side(board, bold="[bold]{}[/]"), "SRCC with 95 % interval over references"))
    for path in save_leaderboard(board, figures_root() / "sweep"):
        out.print(f"Saved {short(path)}")
    for name in names if reports else []:
        with progress_bar("done") as update:
            page, _ = report_run(name, progress=update)
        out.print(f"Report: {short(page)}")
