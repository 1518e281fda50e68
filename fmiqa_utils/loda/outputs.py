"""Where results go, checked before the work starts."""

from pathlib import Path

from fmiqa_utils.errors import InputError
from fmiqa_utils.files.storage import check_room


def prepare_folder(folder: Path) -> Path:
    """Make the folder and test that it can be written to. Raises InputError where it cannot."""
    check_room(folder, "The results")
    return folder


def prepare_file(path: Path) -> Path:
    """Make the file's folder. Raises InputError if `path` is a folder or cannot be written."""
    if path.is_dir():
        raise InputError(
            f"{path} is a folder: name a file in it with --output, such as {path / 'predictions.csv'}."
        )
    return prepare_folder(path.parent) / path.name
