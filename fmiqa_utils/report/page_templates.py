"""nbconvert with this package's templates and its own, whatever else is installed for Jupyter or lies in the current folder."""

import site
import sys
from pathlib import Path

from nbconvert import HTMLExporter

from fmiqa_utils.errors import InputError

NAME = "fmiqa"


class OwnExporter(HTMLExporter):
    """Templates come from two places alone: the folder that the caller names, and nbconvert's own of this interpreter."""

    def get_prefix_root_dirs(self) -> list[str]:
        """Where nbconvert's templates lie; JUPYTER_PATH, JUPYTER_DATA_DIR and the user's settings do not count."""
        return [str(own_share())]


def exporter_of(templates: Path) -> OwnExporter:
    """An exporter with the template `NAME` in the folder `templates`. Raises InputError where nbconvert is installed without its own."""
    return OwnExporter(template_name=NAME, extra_template_basedirs=[str(templates)], template_data_paths=[])


def own_share() -> Path:
    """`share/jupyter` of this interpreter. Raises InputError where nbconvert's templates are not in it."""
    prefixes = [sys.prefix, sys.base_prefix, site.getuserbase()]
    for prefix in prefixes:
        share = Path(prefix) / "share" / "jupyter"
        if (share / "nbconvert" / "templates" / "base").is_dir():
            return share
    raise InputError(f"nbconvert's templates are not in {sys.prefix}: install nbconvert again.")
