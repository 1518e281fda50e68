"""Where results go, made sure of before the work that they are the result of."""

from pathlib import Path

from fmiqa_utils.errors import InputError
from fmiqa_utils.files.storage import check_room


def prepare_folder(folder: Path) -> Path:
    """Make the folder and write into it once. Raises InputError where that is not possible."""
    check_room(folder, "The results")
    return folder


def prepare_file(path: Path) -> Path:
    """Make the file's folder. Raises InputError for a folder in the file's place, or one that cannot be written."""
    if path.is_dir():
        raise InputError(
            f"{path} is a folder: name a file in it with --output, such as {path / 'predictions.csv'}."
        )
    return prepare_folder(path.parent) / path.name
