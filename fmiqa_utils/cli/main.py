"""The `fmiqa` command: each verb checks its options, calls one function of the package and prints the result."""

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fmiqa_utils.cli import lookup as cli_lookup
from fmiqa_utils.cli import stopping
from fmiqa_utils.cli import sweep as cli_sweep
from fmiqa_utils.cli.checks import at_least, check_exists, checked, refuse_dataset, refuse_models
from fmiqa_utils.cli.loda import app as loda_app
from fmiqa_utils.cli.options import (
    Backbone,
    Baselines,
    BaselinesSaid,
    Dataset,
    Device,
    Direction,
    Distance,
    DistanceSaid,
    Labels,
    Normalize,
    NormalizeSaid,
    OneBackbone,
    OneTransform,
    Precision,
    PrecisionSaid,
    Root,
    RunName,
    Small,
    SmallSaid,
    Strict,
    TransformPairs,
    TransformPairsSaid,
    Transforms,
    TransformSaid,
    Variant,
    VariantSaid,
    Verify,
    Weights,
)
from fmiqa_utils.console import (
    UNTRAINED_NOTE,
    readable_anywhere,
    say,
    short,
    show,
    tell,
    warn,
    warn_untrained,
)
from fmiqa_utils.distances.table import USUAL, chosen_distances, chosen_variants
from fmiqa_utils.errors import InputError
from fmiqa_utils.scores.run_names import default_run
from fmiqa_utils.words import split_names

app = typer.Typer(
    help="What vision foundation models see when an image is distorted: extract features, correlate, report.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


@app.command()
def demo(
    force: Annotated[bool, typer.Option("--force", help="Build it again even if it is there.")] = False,
) -> None:
    """Build the demo dataset (seven photographs distorted like TID2013) and show how close to TID2013 it is."""
    from fmiqa_utils.demo.build import build_demo, deviation_table

    root = build_demo(force=force)
    show(deviation_table(root).round(2), "PSNR of the demo's distortions against TID2013's, in dB")
    tell(f"The demo dataset is in {short(root)}.")


@app.command()
def extract(
    dataset: Dataset = "demo",
    backbone: Backbone = "auto",
    weights: Weights = "auto",
    run: RunName = None,
    root: Root = None,
    labels: Labels = None,
    direction: Direction = None,
    distance: Distance = USUAL,
    variant: Variant = "published",
    transform: Transforms = "none",
    transform_pairs: TransformPairs = 0,
    baselines: Baselines = "psnr,ssim",
    normalize: Normalize = "none",
    precision: Precision = "fp32",
    small_images: Small = "error",
    device: Device = "auto",
    batch: Annotated[
        int,
        typer.Option(help="Windows in one forward pass; 0 lets the device decide.", callback=at_least(0)),
    ] = 0,
    strict: Strict = False,
    verify: Verify = False,
) -> None:
    """Score every pair of a dataset; a stopped run goes on where it stopped."""
    refuse_dataset(dataset, labels, direction)
    refuse_models(backbone)

    from fmiqa_utils.backbones.device import pick_device
    from fmiqa_utils.datasets.tables import load_pairs
    from fmiqa_utils.demo.build import build_demo
    from fmiqa_utils.distances.baselines import choose_baselines
    from fmiqa_utils.extraction.choices import choose
    from fmiqa_utils.extraction.extract import extract_run
    from fmiqa_utils.extraction.scorer import Settings
    from fmiqa_utils.progress import progress_bar

    pick_device(device)
    settings = Settings(
        chosen_distances(distance),
        chosen_variants(variant),
        small_images=small_images,
        baselines=choose_baselines(baselines),
    )
    if dataset == "demo":
        build_demo()
    pairs = load_pairs(dataset, root, labels=labels, direction=direction)
    chosen = choose(backbone, weights, dataset)
    warn_untrained(chosen)
    with progress_bar("pairs") as update:
        manifests = extract_run(
            run or default_run(dataset),
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
            verify=verify,
            progress=update,
            say=say,
        )
    for m in manifests:
        failed = f", {m['failures']} failed" if m["failures"] else ""
        line = f"{m['dataset']} · {m['backbone']} ({m['weights']}): {m['pairs']} pairs{failed}"
        tell(line, "bold red" if failed else None)


@app.command()
def report(
    dataset: Dataset = "demo",
    backbone: Backbone = "auto",
    weights: Weights = "auto",
    run: RunName = None,
    root: Root = None,
    labels: Labels = None,
    direction: Direction = None,
    distance: DistanceSaid = None,
    variant: VariantSaid = None,
    transform: TransformSaid = None,
    transform_pairs: TransformPairsSaid = None,
    baselines: BaselinesSaid = None,
    normalize: NormalizeSaid = None,
    precision: PrecisionSaid = None,
    small_images: SmallSaid = None,
    strict: Strict = False,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A notebook's parameter, NAME=VALUE; may be repeated.")
    ] = None,
) -> None:
    """Run the notebooks for a dataset and write one HTML page, reports/RUN/index.html; only what changed is run again."""
    given: dict[str, object] = {
        "root": root,
        "labels": labels,
        "direction": direction,
        "distances": distance and ",".join(chosen_distances(distance)),
        "variants": variant and ",".join(chosen_variants(variant)),
        "transforms": transform,
        "transform_pairs": transform_pairs,
        "baselines": baselines,
        "normalize": normalize,
        "precision": precision,
        "small_images": small_images,
        "strict": strict or None,
    }
    options = {name: value for name, value in given.items() if value is not None}
    assigned = _assignments(set_, options)
    refuse_dataset(dataset, labels, direction)
    refuse_models(backbone)

    from fmiqa_utils.progress import progress_bar

    with progress_bar("notebooks") as update:
        update("report", 0, 0)
        from fmiqa_utils.demo.build import build_demo
        from fmiqa_utils.extraction.choices import choose
        from fmiqa_utils.report.pipeline import make_report

        if dataset == "demo":
            build_demo()
        chosen = choose(backbone, weights, dataset)
        warn_untrained(chosen)
        models = {"backbone": ",".join(b for b, _ in chosen), "weights": chosen[0][1]}
        page, headline = make_report(
            run or default_run(dataset),
            {"dataset": dataset} | models | options | assigned,
            command=shlex.join(["fmiqa", *sys.argv[1:]]),
            progress=update,
            say=say,
        )
    tell(f"Report: {short(page)}")
    tell(headline)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Open JupyterLab on the notebooks; JupyterLab's options, such as --no-browser --port 9999, are passed on to it."""
    from fmiqa_utils.paths import root_variables, working_notebooks

    if os.geteuid() == 0 and not any("allow" in word and "root" in word for word in context.args):
        say("fmiqa: you are root, and JupyterLab refuses root: start it with fmiqa lab --allow-root.")
    command = [sys.executable, "-m", "jupyterlab", "--notebook-dir", str(working_notebooks())]
    os.execve(sys.executable, [*command, *context.args], os.environ | root_variables())


@app.command()
def score(
    ref: Annotated[
        Path, typer.Argument(help="The reference image, or a folder of them.", callback=checked(check_exists))
    ],
    dist: Annotated[
        Path,
        typer.Argument(
            help="The distorted image, or a folder with the same file names.", callback=checked(check_exists)
        ),
    ],
    backbone: OneBackbone = "dino_vitb16",
    weights: Weights = "pretrained",
    distance: Distance = "all",
    variant: Variant = "published",
    normalize: Normalize = "none",
    precision: Precision = "fp32",
    transform: OneTransform = "none",
    small_images: Small = "error",
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per pair, one per line.")] = False,
) -> None:
    """Distance between a distorted image and its reference, in every layer of a backbone."""
    from fmiqa_utils.backbones.device import pick_device
    from fmiqa_utils.backbones.load import load_backbone
    from fmiqa_utils.extraction.scorer import Scorer, Settings
    from fmiqa_utils.extraction.single import find_files, score_files

    files = find_files(ref, dist)
    settings = Settings(chosen_distances(distance), chosen_variants(variant), small_images=small_images)
    model = load_backbone(
        backbone, weights, normalize=normalize, precision=precision, device=pick_device(device)
    )
    if model.weights == "untrained":
        warn(UNTRAINED_NOTE)
    for result in score_files(files, Scorer(model, settings), transform):
        if as_json:
            print(json.dumps(result, allow_nan=False), flush=True)
        else:
            _print_score(result)


app.add_typer(cli_lookup.app)
app.add_typer(cli_sweep.app)
app.add_typer(loda_app, name="loda")


def main() -> None:
    """The entry point: a user's mistake gives one line on stderr and exit status 2, a stop one line and 128 plus the signal's number."""
    readable_anywhere()
    stopping.listen()
    try:
        status, sentence = _outcome()
    except BaseException:
        if not stopping.stopped_by():
            raise
        status, sentence = 1, ""
    if number := stopping.stopped_by():
        status, sentence = 128 + number, stopping.sentence(sys.argv[1:])
    if sentence:
        say(f"fmiqa: {sentence}")
    sys.exit(status)


def _outcome() -> tuple[int, str]:
    """Run the command line; returns its exit status, and the sentence for a mistake in it."""
    try:
        return app(prog_name="fmiqa", standalone_mode=False) or 0, ""
    except InputError as error:
        return 2, str(error)
    except Exception as error:
        if not hasattr(
            error, "format_message"
        ):  # Typer's exceptions have it, in whichever module its version defines them
            raise
        return 2, _mistake(error)


def _mistake(error: Any) -> str:
    """Typer's message about words that it cannot read, on one line, with the command that lists the right ones."""
    message = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{message} ({context.command_path} --help says more)." if message and context else message


def _assignments(words: list[str] | None, options: Mapping[str, object]) -> dict[str, object]:
    """The parameters that --set assigns. Raises InputError for a word without "=", and for a name that an option sets."""
    assigned: dict[str, object] = {}
    for name, equals, value in (w.partition("=") for w in words or []):
        if not equals or not name:
            raise InputError(f"--set {name} has no value: write --set {name or 'NAME'}=VALUE.")
        if name in ("dataset", "backbone", "weights", "run"):
            raise InputError(f"--set {name}={value}: write --{name} {value} instead.")
        if name in options or name in assigned:
            raise InputError(f"{name} is given twice, the second time by --set {name}={value}.")
        assigned[name] = value
    return assigned


def _print_score(result: dict[str, Any]) -> None:
    tell(f"{result['dist']}: {result['backbone']} ({result['weights']}), {result['windows']} windows")
    tables = result.get("variants") or {result["variant"]: result}
    for variant, result_of in tables.items():
        for name, value in result_of["score"].items():
            shown = "per layer only" if value is None else f"{value:.6g}"
            tell(f"  {name:5} {variant:9} {shown}")
    tell(f"  embedding cos   {result['embedding_cos']:.6g}")
