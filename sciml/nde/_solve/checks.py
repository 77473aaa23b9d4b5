"""Checks of values that may be concrete or traced."""

import equinox as eqx
from jax.core import Tracer
from jaxtyping import Array, Bool


def require(value: Array, condition: Bool[Array, ""], message: str) -> Array:
    """Returns `value` if the condition holds, and raises an error with the message otherwise.

    Raises:
        ValueError: If the condition is concrete and false.
        EqxRuntimeError: If the condition is traced and false when the program runs.
    """
    if isinstance(condition, Tracer):
        return eqx.error_if(value, ~condition, message)
    if not condition:
        raise ValueError(message)
    return value
