"""fmiqa: what vision foundation models see when an image is distorted."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmiqa_utils.distances.metric import FeatureDistance
    from fmiqa_utils.errors import InputError
    from fmiqa_utils.figures.explorer import explore

__version__ = "0.1.0"
__all__ = ["FeatureDistance", "InputError", "explore"]
_HOMES = {"FeatureDistance": "distances.metric", "InputError": "errors", "explore": "figures.explorer"}


def __getattr__(name: str) -> Any:
    """The public names, imported when first asked for: torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"fmiqa_utils.{_HOMES[name]}"), name)
