"""LoDa, the second system: a no-reference model that is trained."""

from fmiqa_utils.loda.model import LoDa, plcc_loss

__all__ = ["LoDa", "plcc_loss"]
