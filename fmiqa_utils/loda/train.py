"""Training LoDa with Lightning: exact loss over the whole batch on any memory, exact resume, the last good checkpoint always intact."""

import io
import logging
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from fmiqa_utils.coefficients import plcc, srcc
from fmiqa_utils.errors import InputError, near
from fmiqa_utils.loda.data import TEST_CROPS, TRAIN_CROPS, EpochSampler, EvaluationCrops, TrainingCrops
from fmiqa_utils.loda.model import CNN, VIT, LoDa, plcc_loss
from fmiqa_utils.storage import write_atomically
from fmiqa_utils.vocabulary import FROZEN_WEIGHTS, PRECISIONS
from fmiqa_utils.weights import stand_in_weights

PRECISION = dict(zip(PRECISIONS, ("32-true", "bf16-mixed", "16-mixed"), strict=True))


@dataclass(frozen=True)
class Options:
    """How to train; the defaults are the published ones."""

    vit: str = VIT
    cnn: str = CNN
    weights: str = "pretrained"  # of the frozen parts: pretrained, or untrained stand-ins
    bn: str = "frozen"
    inject: bool = True
    epochs: int = 10
    batch: int = 128
    device_batch: int = (
        0  # images in memory at once; 0: the whole batch. The loss is over the whole batch either way
    )
    crops: int = 0  # per image and epoch; 0: the published number for the dataset
    test_crops: int = TEST_CROPS
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    precision: str = "fp32"
    seed: int = 0
    protocol: str = "validated"


@torch.no_grad()
def build(options: Options) -> LoDa:
    """The model to train; the learner's start depends on the seed alone."""
    torch.manual_seed(options.seed)
    if options.weights not in FROZEN_WEIGHTS:
        raise InputError(
            f"weights={options.weights!r}: the frozen parts of LoDa are pretrained or untrained."
        )
    if options.bn == "published" and 0 < options.device_batch < options.batch:
        raise InputError(
            "bn='published' needs the whole batch at once, for its statistics are the batch's: leave out --device-batch."
        )
    if options.precision not in PRECISION:
        raise InputError(
            f"precision={options.precision!r} is unknown; {near(options.precision, list(PRECISION))}"
        )
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
                kernel.mul_(
                    2**0.5
                )  # every ReLU halves the variance, and BatchNorm at its start does not mend it
    return model


class Training(L.LightningModule):
    """AdamW with a cosine per step; the loss is over the whole batch, however few images fit into memory."""

    strict_loading = False  # checkpoints hold what was trained, not the frozen models
    automatic_optimization = False

    def __init__(self, model: LoDa, options: Options, steps: int, facts: dict[str, Any]) -> None:
        super().__init__()
        self.model, self.options, self.steps, self.facts = model, options, steps, facts
        self.history: list[dict[str, float]] = []
        self.losses: list[float] = []
        self.seen: list[tuple[Tensor, Tensor]] = []

    def configure_optimizers(self) -> Any:
        o = self.options
        optimizer = torch.optim.AdamW(self.model.trainable(), lr=o.learning_rate, weight_decay=o.weight_decay)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)]

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        """One optimizer step on one batch; raises InputError for a loss that is not finite, before any weight changes."""
        x, y = batch
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        optimizer.zero_grad()  # type: ignore[union-attr]
        loss = self._backward(x, y, self.options.device_batch or len(x))
        if not torch.isfinite(loss):
            raise InputError(
                f"the loss is not finite in epoch {self.current_epoch}, step {self.global_step}: lower --learning-rate or use "
                f"--precision bf16; the last good checkpoint is kept."
            )
        optimizer.step()  # type: ignore[union-attr]
        schedule.step()  # type: ignore[union-attr]
        self.losses.append(float(loss))

    def _backward(self, x: Tensor, y: Tensor, size: int) -> Tensor:
        """Gradients of the loss over all of x, `size` images at a time.

        The loss couples all images of a batch, so that averaging it over parts would be another loss. Predictions come first, without
        gradients; then each part is computed again with the gradient of the whole loss with respect to its own predictions.
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
                torch.manual_seed(_mixed(seed, step, number))  # the same dropout both times
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
        self.log(
            "val_srcc", value if np.isfinite(value) else -1.0
        )  # constant predictions have no rank: the worst there is
        self.log_dict({"train_loss": loss, "val_plcc": row["val_plcc"], "lr": lr})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The released layout, and beside it what is needed to go on and to know what this is."""
        own = self.model.checkpoint()
        trained = {k for k in checkpoint["state_dict"] if k.startswith("model.learner.")}
        checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}
        checkpoint |= {**own, "fmiqa": self.facts, "history": self.history}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on with the history and, as published, with the BatchNorm statistics."""
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
    """A checkpoint is on the disk whole or not at all: a full disk leaves the last one as it was."""

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
        """Written anew as a whole, so that a resumed run has every epoch once."""
        assert isinstance(module, Training)
        if trainer.is_global_zero and module.history:
            write_atomically(self.path, pd.DataFrame(module.history).to_csv(index=False).encode())


def fit(
    parts: dict[str, pd.DataFrame],
    options: Options,
    folder: Path,
    *,
    device: str = "auto",
    devices: int | str = 1,
    workers: int = 2,
    progress: bool = True,
) -> Path:
    """Train on parts["train"], choose the epoch on parts["validation"]; returns the best checkpoint, folder/best.ckpt.

    A run that was stopped goes on from folder/last.ckpt to the same result. Raises InputError for a loss that is not finite and a full
    disk; the last good checkpoint stays.
    """
    dataset = str(parts["train"]["dataset"].iloc[0])
    data = TrainingCrops(parts["train"], options.crops or TRAIN_CROPS.get(dataset, 1), options.seed)
    # On several devices each process has its share of the batch: the loss is over the share, gradients are averaged.
    trainer = _trainer(folder, options, device, devices, progress)
    world = trainer.world_size
    sampler = EpochSampler(len(data), options.seed, trainer.global_rank, world)
    batch = max(2, min(options.batch // world, len(sampler)))
    own = Training(build(options), options, options.epochs * (len(sampler) // batch), _facts(parts, options))
    loaders = (
        DataLoader(data, batch, sampler=sampler, num_workers=workers, drop_last=True),
        DataLoader(EvaluationCrops(parts["validation"], options.test_crops), 4, num_workers=workers),
    )
    last = folder / "last.ckpt"
    with warnings.catch_warnings():
        for known in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", known)
        trainer.fit(own, *loaders, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    return folder / "best.ckpt"


# Lightning's remarks on what is meant: frozen modules in eval mode, a folder that holds the run it goes on with, few workers,
# values that are gathered from all processes already.
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


def _trainer(folder: Path, options: Options, device: str, devices: int | str, progress: bool) -> L.Trainer:
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    kept: Sequence[L.Callback] = [
        ModelCheckpoint(folder, "best", monitor="val_srcc", mode="max", enable_version_counter=False),
        ModelCheckpoint(
            folder, "last", every_n_epochs=1, enable_version_counter=False
        ),  # knows the best so far
        History(folder / "history.csv"),
    ]
    kind, _, number = device.partition(":")
    return L.Trainer(
        accelerator={"cuda": "gpu"}.get(kind, kind),
        devices=[int(number)] if number else devices,
        precision=PRECISION[options.precision],  # type: ignore[arg-type]
        max_epochs=options.epochs,
        callbacks=list(kept),
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        plugins=[AtomicIO()],
        num_sanity_val_steps=0,
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
    )
