"""Training LoDa with Lightning: exact loss over the whole batch on any memory, exact resume, the last good checkpoint is never lost."""

import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from fmiqa_utils.backbones.device import pick_device
from fmiqa_utils.backbones.weights import stand_in_weights
from fmiqa_utils.console import say
from fmiqa_utils.errors import InputError
from fmiqa_utils.files.storage import write_atomically
from fmiqa_utils.loda.checkpoints import read_checkpoint
from fmiqa_utils.loda.counting import Count, Progress
from fmiqa_utils.loda.data import TRAIN_CROPS, EpochSampler, EvaluationCrops, TrainingCrops
from fmiqa_utils.loda.model import LoDa, plcc_loss
from fmiqa_utils.loda.options import DEVICES, PRECISION, Options, check_number, check_options
from fmiqa_utils.loda.signals import Signals
from fmiqa_utils.progress import silent
from fmiqa_utils.statistics.coefficients import plcc, srcc

BEST, LAST = "best.ckpt", "last.ckpt"


@torch.no_grad()
def build(options: Options) -> LoDa:
    """The model to train; the learner's initial weights depend only on the seed. Raises InputError as `check_options` does."""
    check_options(options)
    torch.manual_seed(options.seed)
    model = LoDa(
        options.vit,
        options.cnn,
        pretrained=options.weights == "pretrained",
        bn=options.bn,  # type: ignore[arg-type]
        inject=options.inject,
    )
    if options.weights == "untrained":
        stand_in_weights(model.vit)
        if model.feature_model is not None:
            stand_in_weights(model.feature_model)
            for kernel in (p for p in model.feature_model.parameters() if p.dim() == 4):
                # Every ReLU halves the variance, and an untrained BatchNorm does not restore it.
                kernel.mul_(2**0.5)
    return model


class Training(L.LightningModule):
    """AdamW with a cosine per step; the loss is over the whole batch, however few images fit into memory."""

    strict_loading = False  # checkpoints hold the trained weights, not the frozen models
    automatic_optimization = False

    def __init__(
        self, model: LoDa, options: Options, steps: int, facts: dict[str, Any], count: Count | None = None
    ) -> None:
        super().__init__()
        self.model, self.options, self.steps, self.facts = model, options, steps, facts
        self.count = count or Count(0)
        self.history: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.seen: list[tuple[Tensor, Tensor]] = []

    def configure_optimizers(self) -> Any:
        o = self.options
        optimizer = torch.optim.AdamW(self.model.trainable(), lr=o.learning_rate, weight_decay=o.weight_decay)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)]

    def on_train_epoch_start(self) -> None:
        """Switches on dropout, and BatchNorm as `bn` says: Lightning leaves the model in the mode in which it was built."""
        self.model.train()

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], index: int) -> None:
        """One optimizer step on one batch; raises InputError for a loss that is not finite, before any weight changes."""
        x, y, epoch = batch
        if int(epoch[0]) != self.current_epoch:
            raise RuntimeError(f"crops of epoch {int(epoch[0])} were drawn for epoch {self.current_epoch}")
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        optimizer.zero_grad()  # type: ignore[union-attr]
        size = self.options.device_batch or len(x)
        with self.count.step(self._epoch_text, len(x) * self.trainer.world_size, self._passes(len(x) > size)):
            loss = self._backward(x, y, size)
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss is not finite in epoch {self.current_epoch}, step {self.global_step}: lower --learning-rate or use "
                f"--precision bf16; the last good checkpoint is kept."
            )
        optimizer.step()  # type: ignore[union-attr]
        schedule.step()  # type: ignore[union-attr]
        self.losses.append(float(loss))

    @property
    def _epoch_text(self) -> str:
        return f"epoch {self.current_epoch + 1} of {self.options.epochs}"

    def _passes(self, in_parts: bool) -> float:
        """Cost of an image of a batch in forward passes of the ViT: a gradient costs two; if computed in parts, one more."""
        return (3 if self.options.inject else 1) + in_parts

    def _backward(self, x: Tensor, y: Tensor, size: int) -> Tensor:
        """Gradients of the loss over all of x, `size` images at a time.

        The loss couples all images of a batch, so its average over parts would be a different loss. First all predictions are computed
        without gradients; then each part is computed again with the gradient of the whole loss with respect to its predictions.
        """
        parts, seed = list(zip(x.split(size), range(len(x)), strict=False)), self.options.seed
        step = self.global_step
        if len(parts) == 1:
            torch.manual_seed(_mixed(seed, step, 0))
            loss = plcc_loss(self.model(x), y)
            self.manual_backward(loss)
            return loss.detach()
        predictions = []
        with torch.no_grad():
            for part, number in parts:
                torch.manual_seed(_mixed(seed, step, number))  # the same dropout in both computations
                predictions.append(self.model(part))
        leaf = torch.cat(predictions).float().requires_grad_(True)
        with torch.enable_grad():
            loss = plcc_loss(leaf, y)
        (gradient,) = torch.autograd.grad(loss, leaf)
        for (part, number), g in zip(parts, gradient.split(size), strict=True):
            torch.manual_seed(_mixed(seed, step, number))
            self.manual_backward((self.model(part).float() * g).sum())
        return loss.detach()

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """Keeps the mean prediction over the crops of each image."""
        with self.count.step(self._epoch_text, batch[0].shape[0] * batch[0].shape[1]):
            self.seen.append((predict_crops(self.model, batch[0]).mean(1), batch[1]))

    def on_validation_epoch_end(self) -> None:
        """Correlations on the validation part; `val_srcc` decides which epoch is best."""
        pairs = [torch.cat([s[i] for s in self.seen]) for i in (0, 1)]
        gathered = [torch.as_tensor(self.all_gather(p)) for p in pairs]
        predicted, quality = (p.flatten().double().cpu().numpy() for p in gathered)
        self.seen = []
        value = float(srcc(predicted[:, None], quality)[0])
        row = {"val_srcc": value, "val_plcc": float(plcc(predicted[:, None], quality)[0])}
        if self.trainer.sanity_checking:
            return
        loss = float(np.mean(self.losses)) if self.losses else float("nan")
        lr = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.losses = []
        self.history.append({"epoch": self.current_epoch, "train_loss": loss, **row, "lr": lr})
        # Constant predictions have no SRCC; they count as the worst value.
        self.log("val_srcc", value if np.isfinite(value) else -1.0)
        self.log_dict({"train_loss": loss, "val_plcc": row["val_plcc"], "lr": lr})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Writes the released layout, and what is needed to resume and to identify the model."""
        released = self.model.checkpoint()
        trained = {k for k in checkpoint["state_dict"] if k.startswith("model.learner.")}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}
        checkpoint |= {**released, "fmiqa": self.facts, "history": self.history}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restores the history and, with bn="published", the BatchNorm statistics."""
        self.history = list(checkpoint["history"])
        self.model.load_released(checkpoint)


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@torch.no_grad()
def predict_crops(model: LoDa, crops: Tensor, size: int = 32) -> Tensor:
    """Crops [B, C, 3, 224, 224] → predictions [B, C]."""
    flat = crops.flatten(0, 1)
    values = torch.cat([model(part).float() for part in flat.split(size)])
    return values.view(crops.shape[:2])


class AtomicIO(TorchCheckpointIO):
    """Writes each checkpoint completely or not at all: a full disk leaves the last one as it was."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Raises InputError where the file cannot be written."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_atomically(Path(path), buffer.getvalue())


class History(L.Callback):
    """history.csv after every epoch: epoch, train_loss, val_srcc, val_plcc, lr."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Writes the whole file again, so that a resumed run has every epoch once."""
        assert isinstance(module, Training)
        if trainer.is_global_zero and module.history:
            write_atomically(self.path, pd.DataFrame(module.history).to_csv(index=False).encode())


def fit(
    parts: dict[str, pd.DataFrame],
    options: Options,
    folder: Path,
    *,
    device: str = "auto",
    devices: int = 1,
    workers: int = 2,
    progress: Progress = silent,
) -> Path:
    """Train on parts["train"], choose the epoch on parts["validation"]; returns the best checkpoint, folder/best.ckpt.

    A stopped training resumes from folder/last.ckpt with the same result for any `workers`; if one of the two checkpoints cannot be
    read, it starts again. `progress` gets the number of crops done, over all epochs. Ctrl-C raises KeyboardInterrupt; SIGTERM raises
    what the program's handler raises, or SystemExit(143) without one. Raises InputError for a loss that is not finite and for a full
    disk; the last good checkpoint is kept.
    """
    before = _resumed(folder)
    data = TrainingCrops(parts["train"], crops_of(parts["train"], options), options.seed)
    signals = Signals()

    def tell(text: str, done: int, total: int) -> None:
        signals.check()
        if trainer.is_global_zero:
            progress(text, done, total)

    with signals.heard():
        # On several devices each process has a share of the batch: the loss is over the share, gradients are averaged.
        trainer = _trainer(folder, options, device, devices)
        world = trainer.world_size
        sampler = EpochSampler(len(data), options.seed, trainer.global_rank, world)
        # Workers fetch the first epoch ahead, before Lightning tells the sampler which epoch that is.
        sampler.set_epoch(before)
        batch, steps = _steps(len(data), options, world)
        sizes = images_of(parts, options, world)
        count = Count(sizes.total, tell)
        count.done = before * sizes.epoch
        tell(f"epoch {min(before + 1, options.epochs)} of {options.epochs}", count.done, sizes.total)
        training = Training(build(options), options, options.epochs * steps, _facts(parts, options), count)
        loaders = (
            DataLoader(data, batch, sampler=sampler, num_workers=workers, drop_last=True),
            DataLoader(EvaluationCrops(parts["validation"], options.test_crops), 4, num_workers=workers),
        )
        with warnings.catch_warnings(), count.attached(training.model):
            for known in _KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", known)
            _fit(trainer, training, loaders, folder / LAST if before else None)
    return folder / BEST


def _fit(trainer: L.Trainer, training: Training, loaders: tuple[Any, Any], checkpoint: Path | None) -> None:
    """Lightning's fit, but Ctrl-C stays a KeyboardInterrupt; Lightning turns it into an exit with status 1."""
    try:
        trainer.fit(training, *loaders, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)
    except SystemExit as leaving:
        if isinstance(leaving.__context__, KeyboardInterrupt):
            raise leaving.__context__ from None
        raise


def _resumed(folder: Path) -> int:
    """How many epochs are done. If a checkpoint cannot be read, both are deleted and training starts again."""
    if not (folder / LAST).is_file():
        return 0
    try:
        read_checkpoint(folder / BEST)
        return len(read_checkpoint(folder / LAST)["history"])
    except (InputError, KeyError, TypeError):
        say(f"a checkpoint in {folder} is missing or damaged: this split is trained again from the start")
        for name in (LAST, BEST):
            (folder / name).unlink(missing_ok=True)
        return 0


class Images(NamedTuple):
    """How many crops a split computes: of the training and the validation part in each epoch, and of the test part at the end."""

    train: int
    validation: int
    test: int
    epochs: int

    @property
    def epoch(self) -> int:
        """Crops of one epoch."""
        return self.train + self.validation

    @property
    def total(self) -> int:
        """Crops of all epochs, without the test."""
        return self.epochs * self.epoch


def images_of(parts: dict[str, pd.DataFrame], options: Options, world: int = 1) -> Images:
    """The crops that `fit` on `world` devices, and the test after it, will compute."""
    rows = {name: len(part) for name, part in parts.items()}
    batch, steps = _steps(rows["train"] * crops_of(parts["train"], options), options, world)
    tested = rows.get("test", 0) * options.test_crops
    return Images(batch * steps * world, rows["validation"] * options.test_crops, tested, options.epochs)


def crops_of(train: pd.DataFrame, options: Options) -> int:
    """Crops per training image and epoch: the option, or the published number for the dataset."""
    return options.crops or TRAIN_CROPS.get(str(train["dataset"].iloc[0]), 1)


def _steps(items: int, options: Options, world: int) -> tuple[int, int]:
    """(images in a step of one process, steps in an epoch)."""
    share = items // world
    batch = max(2, min(options.batch // world, share))
    return batch, share // batch


# Lightning's warnings about what is intended here: frozen modules in eval mode, a folder that holds the run to resume, few workers,
# values that are already gathered from all processes.
_KNOWN_WARNINGS = (
    r".*eval mode at the start",
    r"Checkpoint directory .* exists",
    r".*does not have many workers",
    r".*LeafSpec",
    r".*sync_dist=True",
    r".*all_gather is deprecated",
)


def _facts(parts: dict[str, pd.DataFrame], options: Options) -> dict[str, Any]:
    return {
        **asdict(options),
        "dataset": str(parts["train"]["dataset"].iloc[0]),
        "label_kind": str(parts["train"]["label_kind"].iloc[0]),
        "images": {name: len(rows) for name, rows in parts.items()},
    }


def check_device(device: str, devices: int = 1) -> None:
    """Raises InputError for a device that is unknown or not there, and if the machine has fewer than `devices` of its kind."""
    check_number("devices", devices, *DEVICES)
    if ":" in device and devices > 1:
        raise InputError(
            f"--device {device} names one device: leave out the number after the colon, or --devices {devices}."
        )
    if pick_device(device).type == "cuda" and devices > torch.cuda.device_count():
        raise InputError(
            f"--devices {devices}: this machine has {torch.cuda.device_count()} GPUs; ask for no more."
        )


class _Kept(ModelCheckpoint):
    """Keeps track of the best epoch so far, even after the run's folder was moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Like Lightning's, with the present paths of the files."""
        state = {k: self._here(v) if k.endswith("_path") else v for k, v in state_dict.items()}
        best = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state, "best_k_models": best, "dirpath": self.dirpath})

    def _here(self, path: str) -> str:
        return str(Path(str(self.dirpath)) / Path(path).name) if path else path


def _trainer(folder: Path, options: Options, device: str, devices: int) -> L.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    kept: Sequence[L.Callback] = [
        _Kept(folder, Path(BEST).stem, monitor="val_srcc", mode="max", enable_version_counter=False),
        # The last checkpoint keeps track of the best epoch so far, too.
        _Kept(folder, Path(LAST).stem, every_n_epochs=1, enable_version_counter=False),
        History(folder / "history.csv"),
    ]
    plugins: list[Any] = [AtomicIO()]
    if SLURMEnvironment.detect():  # a training resumes from its own checkpoint, not from one of Lightning's
        plugins.append(SLURMEnvironment(auto_requeue=False))
    kind, _, number = device.partition(":")
    return L.Trainer(
        accelerator={"cuda": "gpu"}.get(kind, kind),
        devices=[int(number)] if number and kind != "cpu" else devices,
        precision=PRECISION[options.precision],  # type: ignore[arg-type]
        max_epochs=options.epochs,
        callbacks=list(kept),
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        default_root_dir=folder,
        plugins=plugins,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
    )
