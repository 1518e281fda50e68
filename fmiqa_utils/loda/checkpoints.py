"""Reading a checkpoint: ours or a released one, checked before a model is built."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fmiqa_utils.errors import InputError, first_line

FACTS = {
    "vit": str,
    "cnn": str,
    "weights": str,
    "bn": str,
    "inject": bool,
}  # what our checkpoints record about the model


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint of ours or a released one {"learner", "bn_buffer"}; nothing in it is executed.

    Raises InputError for a missing or damaged file, and if its learner is not made of plain tensors.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"there is no checkpoint {path}: `fmiqa loda train` writes best.ckpt.") from None
    except Exception as error:  # torch raises a dozen kinds of errors for a file that is not a checkpoint
        raise InputError(f"{path} is not a readable checkpoint ({first_line(error)[:120]}).") from error
    if not isinstance(checkpoint, dict) or "learner" not in checkpoint:
        raise InputError(f"{path} is not a LoDa checkpoint: it has no part called learner.")
    for part in ("learner", "bn_buffer"):
        _check_tensors(checkpoint.get(part) or {}, part, path)
    facts = checkpoint.get("fmiqa", {})
    wrong = [
        k
        for k, kind in FACTS.items()
        if not isinstance(facts, dict) or not isinstance(facts.get(k, kind()), kind)
    ]
    if wrong:
        raise InputError(
            f"{path} is damaged: its entry {wrong[0]} is not of type {FACTS[wrong[0]].__name__}."
        )
    return checkpoint


def check_finite(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Raises InputError for a NaN or an infinity in the trained weights: predictions would be NaN."""
    for part in ("learner", "bn_buffer"):
        for name, value in (checkpoint.get(part) or {}).items():
            if not torch.isfinite(value).all():
                raise InputError(
                    f"{path} cannot predict: {name} holds values that are not finite. Train again with a lower --learning-rate."
                )


def _check_tensors(values: Any, part: str, path: str | Path) -> None:
    if not isinstance(values, dict) or not all(isinstance(k, str) for k in values):
        raise InputError(f"{path} is not a LoDa checkpoint: its part {part} does not map names to tensors.")
    for name, value in values.items():
        plain = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta
        if not plain or not (value.is_floating_point() or name.endswith("num_batches_tracked")):
            raise InputError(
                f"{path} is not a LoDa checkpoint: {name} is not a tensor of floating-point numbers."
            )
