"""The `fmiqa` command: each verb checks its words, calls one function of the package and prints what it returned."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from fmiqa_utils import cli_lookup, cli_sweep
from fmiqa_utils.console import err, out, say, short, table, warn_untrained
from fmiqa_utils.errors import InputError
from fmiqa_utils.loda.cli import app as loda_app
from fmiqa_utils.notes import UNTRAINED_NOTE
from fmiqa_utils.options import (
    Backbone,
    Baselines,
    Dataset,
    Device,
    Direction,
    Distance,
    Labels,
    Normalize,
    Precision,
    Root,
    RunName,
    Small,
    Strict,
    Variant,
    Weights,
    chosen_distances,
    chosen_variants,
)
from fmiqa_utils.progress import progress_bar

app = typer.Typer(
    help="What vision foundation models see when an image is distorted: extract features, correlate, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def demo(
    force: Annotated[bool, typer.Option("--force", help="Build it again even if it is there.")] = False,
) -> None:
    """Build the demo dataset (seven photographs distorted like TID2013) and show how near to TID2013 it is."""
    from fmiqa_utils.demo import build_demo, deviation_table

    with progress_bar("images") as update:
        root = build_demo(progress=lambda done, total: update("demo dataset", done, total), force=force)
    out.print(
        table(deviation_table(root).round(2), "PSNR of the demo's distortions against TID2013's, in dB")
    )
    out.print(f"The demo dataset is in {short(root)}.")


@app.command()
def extract(
    dataset: Dataset = "demo",
    backbone: Backbone = "auto",
    weights: Weights = "auto",
    run: RunName = None,
    root: Root = None,
    labels: Labels = None,
    direction: Direction = None,
    distance: Distance = "l2,cos,skld,jsd,wsd",
    variant: Variant = "published",
    transform: Annotated[
        str, typer.Option(help="none, and any of tra-1, sca-1, rot-1 … by commas.")
    ] = "none",
    transform_pairs: Annotated[
        int, typer.Option(help="Pairs scored under the transforms, evenly spaced; 0: all.")
    ] = 0,
    baselines: Baselines = "psnr,ssim",
    normalize: Normalize = "none",
    precision: Precision = "fp32",
    small_images: Small = "error",
    device: Device = "auto",
    batch: Annotated[int, typer.Option(help="Windows in one forward pass; 0 lets the device decide.")] = 0,
    strict: Strict = False,
) -> None:
    """Score every pair of a dataset; a stopped run goes on where it stopped."""
    from fmiqa_utils.baselines import choose_baselines
    from fmiqa_utils.datasets import load_pairs
    from fmiqa_utils.runs import choose, extract_run, split_names
    from fmiqa_utils.scorer import Settings

    if dataset == "demo":
        _build_demo()
    pairs = load_pairs(dataset, root, labels=labels, direction=direction)
    settings = Settings(
        chosen_distances(distance),
        chosen_variants(variant),
        small_images=small_images,
        baselines=choose_baselines(baselines),
    )
    chosen = choose(backbone, weights, dataset)
    warn_untrained(chosen)
    with progress_bar("pairs") as update:
        manifests = extract_run(
            run or dataset,
            pairs,
            chosen,
            settings=settings,
            transforms=split_names(transform),
            transform_pairs=transform_pairs,
            normalize=normalize,
            precision=precision,
            device=device,
            batch=batch,
            strict=strict,
            progress=update,
            say=say,
        )
    for m in manifests:
        failed = f", [bold red]{m['failures']} failed[/]" if m["failures"] else ""
        out.print(f"{m['dataset']} · {m['backbone']} ({m['weights']}): {m['pairs']} pairs{failed}")


@app.command()
def report(
    dataset: Dataset = "demo",
    backbone: Backbone = "auto",
    weights: Weights = "auto",
    run: RunName = None,
    root: Root = None,
    labels: Labels = None,
    direction: Direction = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A notebook's parameter, NAME=VALUE; may be repeated.")
    ] = None,
) -> None:
    """Run the notebooks for a dataset and write one HTML page, reports/RUN/index.html; only what changed is run again."""
    from fmiqa_utils.pipeline import make_report
    from fmiqa_utils.runs import choose

    if dataset == "demo":
        _build_demo()
    chosen = choose(backbone, weights, dataset)
    warn_untrained(chosen)
    given = {
        "dataset": dataset,
        "backbone": ",".join(b for b, _ in chosen),
        "weights": chosen[0][1],
    } | _assignments(set_)
    with progress_bar("done") as update:
        page, headline = make_report(run or dataset, given, progress=update)
    out.print(f"Report: {short(page)}")
    out.print(headline, highlight=False)


@app.command()
def lab() -> None:
    """Open JupyterLab on the notebooks."""
    from fmiqa_utils.paths import project_root

    command = [sys.executable, "-m", "jupyter", "lab", "--notebook-dir", str(project_root() / "notebooks")]
    os.execv(sys.executable, command)


@app.command()
def score(
    ref: Annotated[Path, typer.Argument(help="The reference image, or a folder of them.")],
    dist: Annotated[Path, typer.Argument(help="The distorted image, or a folder with the same file names.")],
    backbone: Backbone = "dino_vitb16",
    weights: Weights = "pretrained",
    distance: Distance = "all",
    variant: Variant = "published",
    normalize: Normalize = "none",
    precision: Precision = "fp32",
    transform: Annotated[str, typer.Option(help="none, tra-1, sca-1, rot-1, …")] = "none",
    small_images: Small = "error",
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per pair, one per line.")] = False,
) -> None:
    """Distance between a distorted image and its reference, in every layer of a backbone."""
    from fmiqa_utils.backbones import load_backbone
    from fmiqa_utils.provenance import pick_device
    from fmiqa_utils.scorer import Scorer, Settings
    from fmiqa_utils.single import find_files, score_files

    files = find_files(ref, dist)
    settings = Settings(chosen_distances(distance), chosen_variants(variant), small_images=small_images)
    model = load_backbone(
        backbone, weights, normalize=normalize, precision=precision, device=pick_device(device)
    )
    if model.weights == "untrained":
        err.print(f"[bold red]{UNTRAINED_NOTE}[/]")
    for result in score_files(files, Scorer(model, settings), transform):
        if as_json:
            print(json.dumps(result, allow_nan=False), flush=True)
        else:
            _print_score(result)


app.add_typer(cli_lookup.app)
app.add_typer(cli_sweep.app)
app.add_typer(loda_app, name="loda")


def main() -> None:
    """The entry point: a user's mistake is one line on stderr and exit status 2."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        err.print(f"fmiqa: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        err.print(
            "fmiqa: stopped; finished chunks are kept, the same command goes on from here.", style="red"
        )
        sys.exit(130)


def _build_demo() -> None:
    from fmiqa_utils.demo import build_demo

    with progress_bar("images") as update:
        build_demo(progress=lambda done, total: update("demo dataset", done, total))


def _assignments(words: list[str] | None) -> dict[str, object]:
    pairs = [w.partition("=") for w in words or []]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise InputError(f"--set {wrong[0]} names no value: write --set {wrong[0]}=VALUE.")
    return {name: value for name, _, value in pairs}


def _print_score(result: dict) -> None:
    out.print(
        f"{result['dist']}: {result['backbone']} ({result['weights']}), {result['windows']} windows",
        highlight=False,
    )
    tables = result.get("variants") or {result["variant"]: result}
    for variant, result_of in tables.items():
        for name, value in result_of["score"].items():
            shown = "per layer only" if value is None else f"{value:.6g}"
            out.print(f"  {name:5} {variant:9} {shown}", highlight=False)
    out.print(f"  embedding cos   {result['embedding_cos']:.6g}", highlight=False)
