"""`fmiqa loda`: train, evaluate, predict, ablate, info."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmiqa_utils.cli.checks import (
    checked,
    refuse_dataset,
)
from fmiqa_utils.cli.loda_options import (
    Batch,
    Bn,
    Checkpoint,
    Cnn,
    Crops,
    DeviceBatch,
    Devices,
    Epochs,
    Frozen,
    Images,
    Precision,
    Protocol,
    Rate,
    Released,
    Seed,
    SplitFile,
    Splits,
    TestCrops,
    Vit,
    Workers,
    check_paths,
    check_vits,
)
from fmiqa_utils.cli.options import Dataset, Device, Direction, Labels, Root
from fmiqa_utils.console import UNTRAINED_NOTE, short, show, tell, warn
from fmiqa_utils.errors import InputError
from fmiqa_utils.files.storage import write_atomically
from fmiqa_utils.loda.options import N_SPLITS
from fmiqa_utils.progress import progress_bar
from fmiqa_utils.words import split_names

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    help="LoDa, the no-reference model that is trained: train, evaluate, predict, ablate.",
    no_args_is_help=True,
)
KINDS = ("pairs", "images")  # the kinds of datasets that LoDa is trained on


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
        bool, typer.Option(help="Inject local distortion features; --no-inject: a probe of the ViT.")
    ] = True,
    seed: Seed = 0,
    images: Images = 0,
    device: Device = "auto",
    devices: Devices = 1,
    workers: Workers = 2,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run; one under data/scores/loda by default.")
    ] = None,
) -> None:
    """Train on a dataset's splits and test; a stopped run goes on where it stopped."""
    refuse_dataset(dataset, labels, direction, KINDS)
    if ":" in device and devices > 1:
        raise InputError(
            f"--device {device} is one GPU, but --devices asks for {devices}: leave one of them out."
        )

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
    with progress_bar("images") as update:
        update("resize", 0, 0)  # shown while torch and Lightning are imported
        from fmiqa_utils.loda.run import run_folder
        from fmiqa_utils.loda.run import train as train_splits

        chosen = _device(device) if devices == 1 else device
        rows = _images(dataset, root, labels, direction, images)
        _warn(weights)
        results = train_splits(
            rows,
            options,
            splits=_numbers(splits),
            split_file=split_file,
            folder=output,
            device=chosen,
            devices=devices,
            workers=workers,
            progress=update,
        )
    if not results:  # a further process of DistributedDataParallel
        return
    import pandas as pd

    from fmiqa_utils.loda.evaluate import summary

    show(
        pd.DataFrame(results).round(4),
        f"LoDa on {dataset}, test part of each split ({weights} frozen parts)",
    )
    show(summary(results).round(4), "Over splits")
    folder = output or run_folder(rows, options)
    tell(f"Run: {short(folder)}; each split's best.ckpt works with fmiqa loda predict.")


@app.command()
def evaluate(
    checkpoint: Checkpoint,
    dataset: Dataset = "demo",
    root: Root = None,
    labels: Labels = None,
    direction: Direction = None,
    vit: Released = None,
    cnn: Released = None,
    test_crops: TestCrops = 15,
    images: Images = 0,
    device: Device = "auto",
    output: Annotated[Path | None, typer.Option(help="CSV for the predictions.")] = None,
) -> None:
    """Agreement of a trained model with the labels of a whole dataset, for example one it was not trained on."""
    refuse_dataset(dataset, labels, direction, KINDS)

    from fmiqa_utils.loda.outputs import prepare_file

    if output:
        prepare_file(output)
    with progress_bar("images") as update:
        update(dataset, 0, 0)  # shown while torch is imported and the model is made
        import pandas as pd

        from fmiqa_utils.loda.evaluate import evaluate as evaluate_on
        from fmiqa_utils.loda.evaluate import load_checkpoint

        chosen = _device(device)
        rows = _images(dataset, root, labels, direction, images)
        update(dataset, 0, len(rows))
        model = load_checkpoint(checkpoint, vit, cnn)
        _warn(model.weights)
        predictions, values = evaluate_on(
            model,
            rows,
            crops=test_crops,
            device=chosen,
            progress=lambda done, total: update(dataset, done, total),
        )
    if output:
        _write(output, predictions)
    show(pd.DataFrame([values]).round(4), f"{checkpoint.name} on all of {dataset}")
    if output:
        tell(f"Predictions: {short(output)}")


@app.command()
def predict(
    checkpoint: Checkpoint,
    paths: Annotated[
        list[Path], typer.Argument(help="Image files, or folders of them.", callback=check_paths)
    ],
    output: Annotated[
        Path, typer.Option(help="CSV: file, prediction, spread over the crops, crops, weights.")
    ] = Path("predictions.csv"),
    vit: Released = None,
    cnn: Released = None,
    crops: TestCrops = 15,
    device: Device = "auto",
) -> None:
    """Quality of your own images, higher is better, with the spread over random crops."""
    from fmiqa_utils.loda.outputs import prepare_file

    prepare_file(output)
    with progress_bar("images") as update:
        update("predict", 0, 0)  # shown while torch is imported
        from fmiqa_utils.loda.evaluate import find_images, load_checkpoint
        from fmiqa_utils.loda.evaluate import predict as predict_images

        chosen, files = _device(device), find_images(paths)
        update("predict", 0, len(files))
        model = load_checkpoint(checkpoint, vit, cnn)
        _warn(model.weights)
        rows = predict_images(
            model,
            files,
            crops=crops,
            device=chosen,
            progress=lambda done, total: update("predict", done, total),
        )
    _write(output, rows)
    show(rows.head(20).round(4), f"{len(rows)} images")
    tell(f"Predictions: {short(output)}")


@app.command()
def ablate(
    dataset: Dataset = "demo",
    root: Root = None,
    labels: Labels = None,
    direction: Direction = None,
    vits: Annotated[
        str | None,
        typer.Option(help="Frozen ViTs by commas, small to large.", callback=checked(check_vits)),
    ] = None,
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
    refuse_dataset(dataset, labels, direction, KINDS)

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
    with progress_bar("images") as update:
        update("resize", 0, 0)  # shown while torch and Lightning are imported
        from fmiqa_utils.loda.ablate import VITS, ablate_vits, ablation_folder, save_ablation
        from fmiqa_utils.loda.outputs import prepare_folder

        prepare_folder(ablation_folder(dataset))
        on = _device(device)
        rows = _images(dataset, root, labels, direction, images)
        _warn(weights)
        chosen = split_names(vits or "") or list(VITS)
        numbers = _numbers(splits)
        result = ablate_vits(rows, options, chosen, numbers, device=on, workers=workers, progress=update)
    show(result.round(4), f"Frozen ViT with and without injection, {dataset} ({weights})")
    for path in save_ablation(result, dataset):
        tell(f"Saved {short(path)}")


@app.command()
def info(vit: Vit = "vit_base_patch16_224.augreg2_in21k_ft_in1k", cnn: Cnn = "resnet50") -> None:
    """Trainable and total parameters, part by part."""
    import pandas as pd

    from fmiqa_utils.loda.model import LoDa

    model = LoDa(vit, cnn, pretrained=False)
    parts = {"ViT, frozen": model.vit, "CNN, frozen": model.feature_model, "learner, trained": model.learner}
    rows = [
        (name, sum(p.numel() for p in part.parameters())) for name, part in parts.items() if part is not None
    ]
    rows += [("trainable", rows[-1][1]), ("total", sum(n for _, n in rows))]
    shown = pd.DataFrame(rows, columns=["part", "parameters"])
    show(shown.assign(parameters=shown["parameters"].map("{:,}".format)), f"LoDa: {vit} and {cnn}")


def _images(
    dataset: str, root: str | None, labels: str | None, direction: str | None, images: int
) -> "pd.DataFrame":
    if dataset == "demo":
        from fmiqa_utils.demo.build import build_demo

        build_demo()
    from fmiqa_utils.extraction.plan import evenly_spaced
    from fmiqa_utils.loda.data import load_labelled

    rows = load_labelled(dataset, root, labels=labels, direction=direction)
    return evenly_spaced(rows, images).reset_index(drop=True)


def _device(name: str) -> str:
    """The name of the device as torch writes it. Raises InputError for a device that is not there."""
    from fmiqa_utils.backbones.device import pick_device

    return str(pick_device(name))


def _write(path: Path, rows: "pd.DataFrame") -> None:
    from fmiqa_utils.files.csv_export import csv_text

    write_atomically(path, csv_text(rows).encode())


def _numbers(splits: str) -> list[int]:
    return list(range(N_SPLITS)) if splits == "all" else [int(s) for s in split_names(splits)]


def _warn(weights: str) -> None:
    if weights == "untrained":
        warn(f"The frozen ViT and CNN: {UNTRAINED_NOTE}")
