"""Which device a model runs on: named by the user, and refused in one sentence if it is not there."""

from typing import TYPE_CHECKING

from fmiqa_utils.errors import InputError

if TYPE_CHECKING:
    import torch


def pick_device(name: str = "auto") -> "torch.device":
    """ "auto": a GPU if there is one, else the CPU; any other name is torch's. Raises InputError for a GPU that is not there."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(
            f"there is no device {name!r}: write auto, cpu, cuda, or cuda:1 for the second GPU."
        ) from None
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        available = f"{count} GPU{'s' * (count > 1)}" if count else "no GPU that torch can use"
        raise InputError(f"the device {name} is not there: this machine has {available}; write auto or cpu.")
    return device
