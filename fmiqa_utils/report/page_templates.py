"""nbconvert with this package's templates and nbconvert's own; other Jupyter templates and the current folder are ignored."""

import site
import sys
from pathlib import Path

from nbconvert import HTMLExporter

from fmiqa_utils.errors import InputError

NAME = "fmiqa"


class OwnExporter(HTMLExporter):
    """Templates come only from the folder that the caller names and from this interpreter's nbconvert."""

    def get_prefix_root_dirs(self) -> list[str]:
        """Where nbconvert's templates are; JUPYTER_PATH, JUPYTER_DATA_DIR and the user's settings are ignored."""
        return [str(own_share())]


def exporter_of(templates: Path) -> OwnExporter:
    """An exporter with the template `NAME` in the folder `templates`. Raises InputError where nbconvert's templates are missing."""
    return OwnExporter(template_name=NAME, extra_template_basedirs=[str(templates)], template_data_paths=[])


def own_share() -> Path:
    """`share/jupyter` of this interpreter. Raises InputError where it does not hold nbconvert's templates."""
    prefixes = [sys.prefix, sys.base_prefix, site.getuserbase()]
    for prefix in prefixes:
        share = Path(prefix) / "share" / "jupyter"
        if (share / "nbconvert" / "templates" / "base").is_dir():
            return share
    raise InputError(f"nbconvert's templates are not in {sys.prefix}: install nbconvert again.")
