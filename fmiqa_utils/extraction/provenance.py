"""What was used: versions and hardware, as they go into manifests and reports."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from fmiqa_utils.errors import InputError
from fmiqa_utils.paths import checkout

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "fmiqa",
    "torch",
    "torchvision",
    "timm",
    "open_clip_torch",
    "numpy",
    "scipy",
    "pandas",
    "pillow",
    "scikit-image",
)


def versions() -> dict[str, str]:
    """Python's and the packages' versions."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """The checkout's commit, with "+ changes" where files differ from it; "" where the package is not in a checkout."""
    root = checkout()
    if root is None or not (root / ".git").exists():
        return ""
    try:
        words = [
            "git",
            "-C",
            str(root),
            "describe",
            "--always",
            "--abbrev=12",
            "--exclude=*",
            "--dirty= + changes",
        ]
        found = subprocess.run(words, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):  # no git here, or not for this user
        return ""
    return found.stdout.strip()


def hardware(device: "torch.device") -> dict[str, object]:
    """The device that ran the model, the machine's processor and the threads used."""
    import torch

    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


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
    there = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= there:
        found = f"{there} GPU{'s' * (there > 1)}" if there else "no GPU that torch can use"
        raise InputError(f"the device {name} is not there: this machine has {found}; write auto or cpu.")
    return device
