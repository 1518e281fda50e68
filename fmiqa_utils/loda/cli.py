"""`fmiqa loda`: train, evaluate, predict, ablate, info."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from fmiqa_utils.console import err, out, say, short, table
from fmiqa_utils.errors import InputError
from fmiqa_utils.notes import UNTRAINED_NOTE
from fmiqa_utils.options import Dataset, Device, Direction, Labels, Root
from fmiqa_utils.progress import progress_bar
from fmiqa_utils.storage import write_atomically

app = typer.Typer(
    help="LoDa, the no-reference model that is trained: train, evaluate, predict, ablate.",
    no_args_is_help=True,
)

Vit = Annotated[str, typer.Option(help="Any plain timm ViT with 224 px input.")]
Cnn = Annotated[str, typer.Option(help="Any timm CNN with features_only and four stages.")]
Frozen = Annotated[
    str, typer.Option(help="Of the frozen ViT and CNN: pretrained, or untrained (a stand-in).")
]
Epochs = Annotated[int, typer.Option(help="Passes over the training part.")]
Batch = Annotated[
    int, typer.Option(help="Images in one step; the loss couples all of them, on several devices each share.")
]
DeviceBatch = Annotated[
    int, typer.Option(help="Images in memory at once; 0: the whole batch. Less changes nothing but time.")
]
Crops = Annotated[int, typer.Option(help="Random crops per image and epoch; 0: the published number.")]
TestCrops = Annotated[int, typer.Option(help="Random crops averaged for a prediction.")]
Rate = Annotated[float, typer.Option(help="AdamW's learning rate at the start of the cosine.")]
Seed = Annotated[int, typer.Option(help="Of the learner's start, the crops, their order and the dropout.")]
Precision = Annotated[str, typer.Option(help="fp32, bf16 or fp16 (mixed).")]
Splits = Annotated[str, typer.Option(help="Numbers by commas, or all (the published ten).")]
SplitFile = Annotated[Path | None, typer.Option(help="A splits.json to use instead of making one.")]
Protocol = Annotated[
    str,
    typer.Option(help="validated (epoch chosen on validation references) or published (on the test part)."),
]
Bn = Annotated[
    str, typer.Option(help="frozen, or published: the CNN's BatchNorm statistics move while training.")
]
Update = Callable[[str, int, int], None]  # text, done, total
Images = Annotated[int, typer.Option(help="Use only so many images, evenly spaced; 0: all.")]
Workers = Annotated[int, typer.Option(help="Processes that load images.")]


@app.command()
def train(
    dataset: Dataset = "demo",
    root: Root = None,
    labels: Labels = None,
    direction: Direction = None,
    vit: Vit = "vit_base_patch16_224.augreg2_in21k_ft_in1k",
    cnn: Cnn = "resnet50",
    weights: Frozen = "pretrained",
    splits: Splits = "0",
    split_file: SplitFile = None,
    protocol: Protocol = "validated",
    epochs: Epochs = 10,
    batch: Batch = 128,
    device_batch: DeviceBatch = 0,
    crops: Crops = 0,
    test_crops: TestCrops = 15,
    learning_rate: Rate = 3e-4,
    precision: Precision = "fp32",
    bn: Bn = "frozen",
    inject: Annotated[
        bool, typer.Option(help="Inject local distortion features; without: a probe of the ViT.")
    ] = True,
    seed: Seed = 0,
    images: Images = 0,
    device: Device = "auto",
    devices: Annotated[int, typer.Option(help="GPUs to train on, by DistributedDataParallel.")] = 1,
    workers: Workers = 2,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run; one under data/scores/loda by default.")
    ] = None,
) -> None:
    """Train on a dataset's splits and test; a stopped run goes on where it stopped."""
    from fmiqa_utils.loda.options import Options, check_options

    options = Options(
        vit=vit,
        cnn=cnn,
        weights=weights,
        bn=bn,
        inject=inject,
        epochs=epochs,
        batch=batch,
        device_batch=device_batch,
        crops=crops,
        test_crops=test_crops,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
        protocol=protocol,
    )
    check_options(options)
    numbers = _numbers(splits)
    with _kept("Finished epochs and splits are kept"), progress_bar("images") as update:
        update("resize", 0, 0)  # a sign of life while torch and Lightning are imported
        rows = _images(dataset, root, labels, direction, images, update)
        from fmiqa_utils.loda.run import run_folder
        from fmiqa_utils.loda.run import train as run

        _warn(weights)
        results = run(
            rows,
            options,
            splits=numbers,
            split_file=split_file,
            folder=output,
            device=device,
            devices=devices,
            workers=workers,
            progress=update,
        )
    folder = output or run_folder(rows, options)
    if not results:  # a further process of DistributedDataParallel
        return
    from fmiqa_utils.loda.evaluate import summary

    out.print(
        table(
            pd.DataFrame(results).round(4),
            f"LoDa on {dataset}, test part of each split ({weights} frozen parts)",
        )
    )
    out.print(table(summary(results).round(4), "Over splits"))
    out.print(f"Run: {short(folder)}; each split's best.ckpt works with fmiqa loda predict.")


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="best.ckpt of a split, or a released checkpoint.")],
    dataset: Dataset = "demo",
    root: Root = None,
    labels: Labels = None,
    direction: Direction = None,
    vit: Annotated[str | None, typer.Option(help="For a released checkpoint, which does not say.")] = None,
    cnn: Annotated[str | None, typer.Option(help="For a released checkpoint, which does not say.")] = None,
    test_crops: TestCrops = 15,
    images: Images = 0,
    device: Device = "auto",
    output: Annotated[Path | None, typer.Option(help="CSV for the predictions.")] = None,
) -> None:
    """Agreement of a trained model with the labels of a whole dataset, such as another than it was trained on."""
    from fmiqa_utils.loda.outputs import prepare_file

    _check_crops("test_crops", test_crops)
    if output:
        prepare_file(output)
    with progress_bar("images") as update:
        update(dataset, 0, 0)  # a sign of life while torch is imported and the model is made
        rows = _images(dataset, root, labels, direction, images, update)
        update(dataset, 0, len(rows))
        from fmiqa_utils.loda.evaluate import evaluate as run
        from fmiqa_utils.loda.evaluate import load_checkpoint

        chosen = _device(device)
        model = load_checkpoint(checkpoint, vit, cnn)
        _warn(model.weights)
        predictions, values = run(
            model,
            rows,
            crops=test_crops,
            device=chosen,
            progress=lambda done, total: update(dataset, done, total),
        )
    if output:
        _write(output, predictions)
    out.print(table(pd.DataFrame([values]).round(4), f"{checkpoint.name} on all of {dataset}"))
    if output:
        out.print(f"Predictions: {short(output)}")


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="best.ckpt of a split, or a released checkpoint.")],
    paths: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    output: Annotated[
        Path, typer.Option(help="CSV: file, prediction, spread over the crops, crops, weights.")
    ] = Path("predictions.csv"),
    vit: Annotated[str | None, typer.Option(help="For a released checkpoint, which does not say.")] = None,
    cnn: Annotated[str | None, typer.Option(help="For a released checkpoint, which does not say.")] = None,
    crops: TestCrops = 15,
    device: Device = "auto",
) -> None:
    """Quality of your own images, higher is better, with the spread over random crops."""
    from fmiqa_utils.loda.outputs import prepare_file

    _check_crops("crops", crops)
    prepare_file(output)
    with progress_bar("images") as update:
        update("predict", 0, 0)  # a sign of life while torch is imported
        from fmiqa_utils.loda.evaluate import find_images, load_checkpoint
        from fmiqa_utils.loda.evaluate import predict as run

        chosen, files = _device(device), find_images(paths)
        update("predict", 0, len(files))
        model = load_checkpoint(checkpoint, vit, cnn)
        _warn(model.weights)
        rows = run(
            model,
            files,
            crops=crops,
            device=chosen,
            progress=lambda done, total: update("predict", done, total),
        )
    _write(output, rows)
    out.print(table(rows.head(20).round(4), f"{len(rows)} images"))
    out.print(f"Predictions: {short(output)}")


@app.command()
def ablate(
    dataset: Dataset = "demo",
    root: Root = None,
    labels: Labels = None,
    direction: Direction = None,
    vits: Annotated[str, typer.Option(help="Frozen ViTs by commas, small to large.")] = "",
    cnn: Cnn = "resnet50",
    weights: Frozen = "pretrained",
    splits: Splits = "0",
    epochs: Epochs = 10,
    batch: Batch = 128,
    device_batch: DeviceBatch = 0,
    crops: Crops = 0,
    test_crops: TestCrops = 15,
    learning_rate: Rate = 3e-4,
    precision: Precision = "fp32",
    seed: Seed = 0,
    images: Images = 0,
    device: Device = "auto",
    workers: Workers = 2,
) -> None:
    """Does a larger frozen ViT help, and does it without local features? {ViT-Ti, S, B} × {with, without injection}."""
    from fmiqa_utils.loda.options import Options, check_options

    options = Options(
        cnn=cnn,
        weights=weights,
        epochs=epochs,
        batch=batch,
        device_batch=device_batch,
        crops=crops,
        test_crops=test_crops,
        learning_rate=learning_rate,
        precision=precision,
        seed=seed,
    )
    check_options(options)
    numbers = _numbers(splits)
    with _kept("Finished epochs and models are kept"), progress_bar("images") as update:
        update("resize", 0, 0)
        rows = _images(dataset, root, labels, direction, images, update)
        from fmiqa_utils.loda.ablate import VITS, ablate_vits, ablation_folder, save_ablation
        from fmiqa_utils.loda.outputs import prepare_folder

        prepare_folder(ablation_folder(dataset))
        _warn(weights)
        chosen = [v.strip() for v in vits.split(",") if v.strip()] or list(VITS)
        result = ablate_vits(rows, options, chosen, numbers, device=device, workers=workers, progress=update)
    out.print(table(result.round(4), f"Frozen ViT with and without injection, {dataset} ({weights})"))
    for path in save_ablation(result, dataset):
        out.print(f"Saved {short(path)}")


@app.command()
def info(vit: Vit = "vit_base_patch16_224.augreg2_in21k_ft_in1k", cnn: Cnn = "resnet50") -> None:
    """Trainable and total parameters, part by part."""
    from fmiqa_utils.loda.model import LoDa

    model = LoDa(vit, cnn, pretrained=False)
    parts = {"ViT, frozen": model.vit, "CNN, frozen": model.feature_model, "learner, trained": model.learner}
    rows = [
        (name, sum(p.numel() for p in part.parameters())) for name, part in parts.items() if part is not None
    ]
    rows += [("trainable", rows[-1][1]), ("total", sum(n for _, n in rows))]
    shown = pd.DataFrame(rows, columns=["part", "parameters"])
    out.print(
        table(shown.assign(parameters=shown["parameters"].map("{:,}".format)), f"LoDa: {vit} and {cnn}")
    )


def _images(
    dataset: str, root: Path | None, labels: str | None, direction: str | None, images: int, update: Update
) -> pd.DataFrame:
    from fmiqa_utils.loda.options import check_number

    check_number("images", images, 0, 10**9)
    if dataset == "demo":
        from fmiqa_utils.demo import build_demo

        build_demo(progress=lambda done, total: update("demo dataset", done, total))
    from fmiqa_utils.loda.data import load_labelled
    from fmiqa_utils.plan import evenly_spaced

    rows = load_labelled(dataset, root, labels=labels, direction=direction)
    return evenly_spaced(rows, images).reset_index(drop=True)


def _check_crops(name: str, crops: int) -> None:
    from fmiqa_utils.loda.options import RANGES, check_number

    check_number(name, crops, *RANGES["test_crops"])


def _device(name: str) -> str:
    from fmiqa_utils.loda.train import check_device
    from fmiqa_utils.provenance import pick_device

    check_device(name)
    return str(pick_device(name))


def _write(path: Path, rows: pd.DataFrame) -> None:
    write_atomically(path, rows.to_csv(index=False).encode())


@contextmanager
def _kept(what: str) -> Iterator[None]:
    """Say what a Ctrl-C or SIGTERM leaves."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        say(f"LoDa: stopped. {what}; the same command goes on from there.")
        raise


def _numbers(splits: str) -> list[int]:
    from fmiqa_utils.loda.splits import N_SPLITS

    if splits == "all":
        return list(range(N_SPLITS))
    try:
        return [int(s) for s in splits.split(",")]
    except ValueError:
        raise InputError(f"--splits {splits}: write numbers by commas, such as 0,1,2, or all.") from None


def _warn(weights: str) -> None:
    if weights == "untrained":
        err.print(f"[bold white on red] The frozen ViT and CNN: {UNTRAINED_NOTE} [/]")
