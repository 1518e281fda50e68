"""The `fmiqa` command: each verb checks its words, calls one function of the package and prints what it returned."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from fmiqa_utils.errors import InputError
from fmiqa_utils.weights import UNTRAINED_NOTE

app = typer.Typer(
    help="What vision foundation models see when an image is distorted: extract features, correlate, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
datasets_app = typer.Typer(help="The image-quality datasets this suite reads.", invoke_without_command=True)
app.add_typer(datasets_app, name="datasets")
WIDE = None if sys.stdout.isatty() else 200  # a pipe or a file has no width to wrap to
out, err = Console(width=WIDE), Console(stderr=True, soft_wrap=True)

Dataset = Annotated[
    str, typer.Option(help="demo, live, tid2013, csiq, kadid10k, pipal, or csv:PATH for your own pairs.")
]
Root = Annotated[
    Path | None, typer.Option(help="The dataset's folder, if not data/NAME or $FMIQA_DATA/NAME.")
]
Labels = Annotated[
    str | None, typer.Option(help="LIVE only: dmos or realigned, the two label files it ships.")
]
Direction = Annotated[
    str | None, typer.Option(help="csv: only: higher or lower, what a better image's label is.")
]
Backbone = Annotated[
    str, typer.Option(help="A name from `fmiqa backbones`, timm:NAME, openclip:NAME, or several by commas.")
]
Weights = Annotated[
    str,
    typer.Option(
        help="pretrained, untrained (a stand-in for trying things out), auto, or a state-dict file."
    ),
]
Normalize = Annotated[str, typer.Option(help="none (as published) or model (the model's own mean and std).")]
Precision = Annotated[str, typer.Option(help="fp32, bf16 or fp16; distances are always computed in fp32.")]
Distance = Annotated[str, typer.Option(help="all, or some of l2, cos, skld, jsd, wsd, swd by commas.")]
Variant = Annotated[
    str, typer.Option(help="published (what the released code computes), corrected, or both.")
]
Small = Annotated[str, typer.Option(help="What to do with images under 224 px: error, resize or pad.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, …")]
RunName = Annotated[str | None, typer.Option(help="Name of the run; the dataset's by default.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first pair that cannot be scored.")]


@contextmanager
def progress_bar(unit: str) -> Iterator[Callable[..., None]]:
    """A bar with count, rate and ETA on stderr; yields update(text, done, total, failed=0)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn(unit + " · {task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=not err.is_terminal) as bar:
        tasks: dict[str, object] = {}

        def update(text: str, done: int, total: int, failed: int = 0) -> None:
            label = f"{text} ({failed} failed)" if failed else text
            task = tasks.setdefault(text, bar.add_task(label, total=total, rate=""))
            speed = bar.tasks[bar.task_ids.index(task)].speed  # type: ignore[arg-type]
            rate = f"{speed:.1f}/s" if speed else ""
            bar.update(task, completed=done, description=label, rate=rate)  # type: ignore[arg-type]

        yield update


@app.command()
def demo(
    force: Annotated[bool, typer.Option("--force", help="Build it again even if it is there.")] = False,
) -> None:
    """Build the demo dataset (seven photographs distorted like TID2013) and show how near to TID2013 it is."""
    from fmiqa_utils.demo import build_demo, deviation_table

    with progress_bar("images") as update:
        root = build_demo(progress=lambda done, total: update("demo dataset", done, total), force=force)
    out.print(
        _table(deviation_table(root).round(2), "PSNR of the demo's distortions against TID2013's, in dB")
    )
    out.print(f"The demo dataset is in {_short(root)}.")


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
    normalize: Normalize = "none",
    precision: Precision = "fp32",
    small_images: Small = "error",
    device: Device = "auto",
    batch: Annotated[int, typer.Option(help="Windows in one forward pass; 0 lets the device decide.")] = 0,
    strict: Strict = False,
) -> None:
    """Score every pair of a dataset; a stopped run goes on where it stopped."""
    from fmiqa_utils.datasets import load_pairs
    from fmiqa_utils.runs import choose, extract_run, split_names
    from fmiqa_utils.scorer import Settings

    if dataset == "demo":
        _build_demo()
    pairs = load_pairs(dataset, root, labels=labels, direction=direction)
    settings = Settings(_distances(distance), _variants(variant), small_images=small_images)
    chosen = choose(backbone, weights, dataset)
    warn_untrained(chosen)
    with progress_bar("pairs") as update:
        manifests = extract_run(
            run or dataset,
            pairs,
            chosen,
            settings=settings,
            transforms=split_names(transform),
            normalize=normalize,
            precision=precision,
            device=device,
            batch=batch,
            strict=strict,
            progress=update,
            say=err.print,
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
    with progress_bar("cells") as update:
        page, headline = make_report(run or dataset, given, progress=update)
    out.print(f"Report: {_short(page)}")
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
    settings = Settings(_distances(distance), _variants(variant), small_images=small_images)
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


@app.command()
def published(
    path: Annotated[
        Path | None,
        typer.Argument(help="Per-image results: a folder or file, CSV or Parquet; none: the packaged table."),
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Also PLCC after the logistics (minutes for PIPAL).")
    ] = False,
) -> None:
    """Correlations of other people's per-image results, pooled and within reference."""
    from fmiqa_utils.published import published_correlations, published_table, read_published

    if path is None:
        out.print(_table(published_table().round(3), "Published results (arXiv 2409.07650)"))
        return
    results = read_published(path)
    out.print(_table(published_correlations(results, fit=fit).round(3), f"Results in {path.name}"))
    for problem in results.problems.itertuples():
        err.print(f"{problem.file}: {problem.problem}", style="red", markup=False)


@app.command()
def backbones() -> None:
    """List the named backbones."""
    from fmiqa_utils.backbones import BACKBONES

    table = Table(
        "name", "model", "layers", "width", "input", "M parameters", "licence", "download", title="Backbones"
    )
    for b in BACKBONES.values():
        model = f"{b.source}:{b.model}" + (f"/{b.tag}" if b.tag else "")
        size = f"{b.parameters_m:.1f}"
        table.add_row(b.name, model, str(b.layers), b.width, "224 px", size, b.licence, f"{b.download_mb} MB")
    out.print(table)
    out.print("Any other: timm:NAME (with forward_intermediates) or openclip:NAME/TAG.")


@datasets_app.callback()
def datasets(context: typer.Context) -> None:
    """List the datasets: size, labels, licence, where to request them, and whether they are found."""
    if context.invoked_subcommand is None:
        from fmiqa_utils.datasets import dataset_overview

        out.print(_table(dataset_overview().drop(columns=["citation", "choices", "dropped"]), "Datasets"))


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
            out.print(f"[bold]{key}[/]: {_brief(value)}")
    if not result.ok:
        raise typer.Exit(1)


def warn_untrained(chosen: list[tuple[str, str]]) -> None:
    """Say on the console, so that nobody misses it, that weights are untrained."""
    if any(w == "untrained" for _, w in chosen):
        names = ", ".join(b for b, w in chosen if w == "untrained")
        err.print(f"[bold white on red] {names}: {UNTRAINED_NOTE} [/]")


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


def _distances(words: str) -> tuple[str, ...]:
    from fmiqa_utils.distances import DISTANCES
    from fmiqa_utils.errors import near
    from fmiqa_utils.runs import split_names

    names = DISTANCES if words == "all" else tuple(split_names(words))
    for name in names:
        if name not in DISTANCES:
            raise InputError(f"there is no distance called {name!r}; {near(name, DISTANCES)}")
    return names


def _variants(word: str) -> tuple[str, ...]:
    known = {"published": ("published",), "corrected": ("corrected",), "both": ("published", "corrected")}
    if word not in known:
        raise InputError(f"there is no variant called {word!r}; known: {', '.join(known)}.")
    return known[word]


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
    for variant, table in tables.items():
        for name, value in table["score"].items():
            shown = "per layer only" if value is None else f"{value:.6g}"
            out.print(f"  {name:5} {variant:9} {shown}", highlight=False)
    out.print(f"  embedding cos   {result['embedding_cos']:.6g}", highlight=False)


def _table(frame: object, title: str) -> Table:
    import pandas as pd

    assert isinstance(frame, pd.DataFrame)
    table = Table(*map(str, frame.columns), title=title)
    for row in frame.itertuples(index=False):
        table.add_row(*("" if v is None else str(v) for v in row))
    return table


def _brief(value: object, most: int = 5) -> str:
    if isinstance(value, dict | list | tuple | set):
        items = (
            [f"{k}: {v}" for k, v in value.items()] if isinstance(value, dict) else [str(v) for v in value]
        )
        return f"{len(items)}" + (
            f" ({'; '.join(items[:most])}{'; …' if len(items) > most else ''})" if items else ""
        )
    return str(value)


def _short(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
