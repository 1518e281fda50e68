"""Which engines there are, and which of their options are valid; needs neither torch nor Ray."""

import math

from fmiqa_utils.errors import InputError

ENGINES = ("local", "ray")


def refuse_gpus(num_gpus: float | None) -> None:
    """Raises InputError unless `num_gpus` of an actor is None, a fraction up to 1, or a whole number."""
    if num_gpus is not None and not (
        0 <= num_gpus <= 1 or (math.isfinite(num_gpus) and num_gpus > 1 and num_gpus % 1 == 0)
    ):
        raise InputError(f"--num-gpus {num_gpus:g}: it must be a fraction up to 1, or a whole number.")
