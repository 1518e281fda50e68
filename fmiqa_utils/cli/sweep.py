"""`fmiqa sweep`: many datasets and backbones, on one machine or a cluster."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fmiqa_utils.cli.checks import (
    at_least,
    check_file,
    check_word,
    checked,
    choice,
    refuse_dataset,
    refuse_models,
)
from fmiqa_utils.cli.options import (
    Backbones,
    Datasets,
    Direction,
    Distance,
    Normalizations,
    Precision,
    Small,
    Transforms,
    Variant,
    Weights,
)
from fmiqa_utils.console import BOLD, say, short, show, tell, warn_untrained
from fmiqa_utils.datasets.registry import OWN_TABLE
from fmiqa_utils.distances.table import USUAL, chosen_distances, chosen_variants
from fmiqa_utils.errors import InputError
from fmiqa_utils.extraction.engines.choice import ENGINES, refuse_gpus
from fmiqa_utils.words import split_names

app = typer.Typer()


def _gpus(value: float | None) -> float | None:
    """Raises InputError for a number of GPUs that an actor cannot have."""
    refuse_gpus(value)
    return value


@app.command()
def sweep(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A YAML file with the same names; options on the command line win.",
            callback=checked(check_file),
        ),
    ] = None,
    datasets: Datasets = None,
    backbones: Backbones = None,
    weights: Weights = "pretrained",
    normalize: Normalizations = "none",
    transforms: Transforms = "none",
    distance: Distance = USUAL,
    variant: Variant = "published",
    precision: Precision = "fp32",
    small_images: Small = "error",
    direction: Direction = None,
    engine: Annotated[
        str,
        choice(ENGINES, "engine", "local (one process per GPU) or ray."),
    ] = "local",
    workers: Annotated[
        int,
        typer.Option(
            help="Processes or actors; 0: one per GPU; without a GPU this process, or one actor per CPU.",
            callback=at_least(0),
        ),
    ] = 0,
    address: Annotated[
        str | None,
        typer.Option(help="Address of a running Ray cluster, such as auto.", callback=checked(check_word)),
    ] = None,
    num_gpus: Annotated[
        float | None,
        typer.Option(
            help="GPUs for each Ray actor, 1 if there are any; with a fraction, actors share a GPU.",
            callback=_gpus,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Where the scores go instead of $FMIQA_SCORES: a folder, s3://… or gs://….",
            callback=checked(check_word),
        ),
    ] = None,
    reports: Annotated[bool, typer.Option(help="Write a report for each dataset at the end.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
) -> None:
    """Score datasets × backbones × normalizations × transforms; a stopped sweep goes on where it stopped."""
    _refuse_early(file, datasets, backbones, direction, engine, address, num_gpus)

    from fmiqa_utils.extraction.sweep import Sweep, estimate, jobs_of, read_sweep, run_sweep, workers_of
    from fmiqa_utils.progress import progress_bar

    given: dict[str, Any] = {
        "datasets": split_names(datasets or ""),
        "backbones": split_names(backbones or ""),
        "weights": weights,
        "normalize": split_names(normalize),
        "transforms": split_names(transforms),
        "distances": chosen_distances(distance),
        "variants": chosen_variants(variant),
        "precision": precision,
        "small_images": small_images,
        "direction": direction or "",
    }
    wanted = Sweep(**_merged(context, given, read_sweep(file) if file else {}))
    _refuse_nothing(wanted.datasets, wanted.backbones)
    for name in wanted.datasets:
        refuse_dataset(name, None, wanted.direction if name.startswith(OWN_TABLE) else None)
    refuse_models(",".join(wanted.backbones))
    if output:
        _send_to(output)
    if "demo" in wanted.datasets:
        from fmiqa_utils.demo.build import build_demo

        build_demo()
    jobs = jobs_of(wanted)
    warn_untrained([(j.spec.backbone, j.spec.weights) for j in jobs])
    planned = estimate(wanted, jobs)
    if dry_run:
        show(planned.round(3), f"{len(jobs)} jobs, {planned['chunks'].sum():,} chunks")
        hours = (
            f"about {planned['hours'].sum():.2f} h"
            if planned["hours"].notna().all()
            else "unknown hours (run fmiqa bench)"
        )
        tell(
            f"{planned['windows'].sum():,} window forwards, {hours}, {planned['gigabytes'].sum():.3f} GB to be written."
        )
        return
    _try_to_write(reports)
    with (
        workers_of(engine, workers=workers, address=address, num_gpus=num_gpus, say=say) as group,
        progress_bar("pairs") as update,
    ):
        names = run_sweep(wanted, jobs, group, progress=update, say=say)
    _finish(names, reports)


def _refuse_early(
    file: Path | None,
    datasets: str | None,
    backbones: str | None,
    direction: str | None,
    engine: str,
    address: str | None,
    num_gpus: float | None,
) -> None:
    """Raises InputError for options that do not go together, before anything is loaded or read."""
    if file is None:
        _refuse_nothing(datasets, backbones)
    names = split_names(datasets or "")
    are_tables = [name.startswith(OWN_TABLE) for name in names]
    if direction and names and not any(are_tables):
        raise InputError("--direction is for csv:PATH only, and --datasets has no csv:PATH: leave it out.")
    for name, is_table in zip(names, are_tables, strict=True):
        if file is None or direction or not is_table:  # the file may give the direction
            refuse_dataset(name, None, direction if is_table else None)
    if engine != "ray" and (address or num_gpus is not None):
        raise InputError(f"--{'address' if address else 'num-gpus'} is for --engine ray only.")


def _refuse_nothing(datasets: object, backbones: object) -> None:
    if not datasets or not backbones:
        raise InputError("a sweep needs --datasets and --backbones, or a YAML file that names them.")


def _send_to(output: str) -> None:
    """Scores go to `output`, here and in the notebooks of the report."""
    os.environ["FMIQA_SCORES"] = output if "://" in output else str(Path(output).resolve())


def _try_to_write(reports: bool) -> None:
    """Raises InputError if the scores, figures or reports cannot be written, before hours of work are spent."""
    from fmiqa_utils.files.storage import check_room, remove, write_atomically
    from fmiqa_utils.paths import figures_root, reports_root, scores_root

    check_room(figures_root() / "sweep", "The leaderboard")
    if reports:
        check_room(reports_root(), "The reports")

    remove(write_atomically(scores_root() / f"trial-{os.getpid()}", b""))


def _merged(context: typer.Context, given: dict[str, Any], from_file: dict[str, Any]) -> dict[str, Any]:
    """The values of the file, overridden by the options on the command line."""
    words = {"distances": "distance", "variants": "variant"}
    sources = {name: context.get_parameter_source(words.get(name, name)) for name in given}
    from_options = {
        name: given[name] for name, source in sources.items() if source and source.name == "COMMANDLINE"
    }
    return {**given, **from_file, **from_options}


def _finish(names: list[str], reports: bool) -> None:
    from fmiqa_utils.paths import figures_root
    from fmiqa_utils.progress import progress_bar, track
    from fmiqa_utils.report.pipeline import report_run
    from fmiqa_utils.scores.runs import load_run, run_backbones
    from fmiqa_utils.statistics.leaderboard import leaderboard, save_leaderboard, side_by_side

    # one backbone at a time: thirty backbones on one dataset are a hundred million rows
    held = [(name, backbone) for name in names for backbone in run_backbones(name)]
    with progress_bar("runs"):
        board = leaderboard(track((load_run(n, [b]) for n, b in held), "leaderboard", "runs", len(held)))
    leaders = side_by_side(board, bold=BOLD)
    leaders.insert(0, "backbone", leaders.pop("backbone"))
    show(leaders, "SRCC with 95 % interval over references")
    for path in save_leaderboard(board, figures_root() / "sweep"):
        tell(f"Saved {short(path)}")
    for name in names if reports else []:
        with progress_bar("notebooks") as update:
            command = shlex.join(["fmiqa", *sys.argv[1:]])
            try:
                page, _ = report_run(name, command=command, progress=update, say=say)
            except InputError as error:  # the scores are kept, and the next dataset may still get a report
                say(f"no report for {name}: {error}")
                continue
        tell(f"Report: {short(page)}")
