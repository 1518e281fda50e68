"""Where results go, made sure of before the work that they are the result of."""

import os
import tempfile
from pathlib import Path

from fmiqa_utils.errors import InputError
from fmiqa_utils.storage import TEMPORARY


def prepare_folder(folder: Path) -> Path:
    """Make the folder and write into it once. Raises InputError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, probe = tempfile.mkstemp(dir=folder, prefix=TEMPORARY)
        os.close(handle)
        os.unlink(probe)
    except OSError as error:
        raise InputError(
            f"{folder} cannot hold the results ({error.strerror}): choose another --output."
        ) from error
    return folder


def prepare_file(path: Path) -> Path:
    """Make the file's folder. Raises InputError for a folder in the file's place, or one that cannot be written."""
    if path.is_dir():
        raise InputError(
            f"{path} is a folder: name a file in it with --output, such as {path / 'predictions.csv'}."
        )
    prepare_folder(path.parent)
    return path
