"""What the solvers for one field on an interval share: their constants, and a check of their settings."""

from jaxtyping import Array, Num

Constant = float | int | Num[Array, ""]
"""A coefficient of an equation: a number, or a scalar that may be traced, mapped over and differentiated."""


def check_interval(u: Array, *, length: float, time: float, frames: int, steps: int = 1) -> None:
    """Raises ValueError unless a field has 4 values and all settings are positive."""
    if u.shape[0] < 4:
        raise ValueError(f"Stencils on an interval need at least 4 values, got {u.shape[0]}. Use a finer grid.")
    if min(length, time, frames, steps) <= 0:
        raise ValueError(
            "Expected positive length, time, frames and steps, "
            f"got length {length}, time {time}, frames {frames} and steps {steps}."
        )


MOST_STEPS = 1e6
"""A frame that would take more steps is given up: the field grows without bound, or the settings are not meant."""
