"""fmiqa: what vision foundation models see when an image is distorted."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmiqa_utils.errors import InputError
    from fmiqa_utils.metric import FeatureDistance

__version__ = "0.1.0"
__all__ = ["FeatureDistance", "InputError"]


def __getattr__(name: str) -> Any:
    """The public names, imported when first asked for: torch takes seconds."""
    if name == "FeatureDistance":
        from fmiqa_utils.metric import FeatureDistance

        return FeatureDistance
    if name == "InputError":
        from fmiqa_utils.errors import InputError

        return InputError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
