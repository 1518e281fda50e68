"""LoDa, the second system: a no-reference model that is trained."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fmiqa_utils.loda.model import LoDa, plcc_loss

__all__ = ["LoDa", "plcc_loss"]


def __getattr__(name: str) -> Any:
    """torch is imported when the model is asked for, not by `fmiqa --help`."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fmiqa_utils.loda import model

    return getattr(model, name)
