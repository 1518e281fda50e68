"""What was used: versions and hardware, as they go into manifests and reports."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

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
    packages = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "not installed"
    return packages


def commit() -> str:
    """The checkout's commit, with "+ changes" where files differ from it; "" where the package is not in a checkout."""
    root = checkout()
    if root is None or not (root / ".git").exists():
        return ""
    try:
        command = [
            "git",
            "-C",
            str(root),
            "describe",
            "--always",
            "--abbrev=12",
            "--exclude=*",
            "--dirty= + changes",
        ]
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):  # no git here, or not for this user
        return ""
    return result.stdout.strip()


def hardware(device: "torch.device") -> dict[str, object]:
    """The device that ran the model, the machine's processor and the threads used."""
    import torch

    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
