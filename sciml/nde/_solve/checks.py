"""Checks of values that may or may not be known while a model is traced."""

import equinox as eqx
from jax.core import Tracer
from jaxtyping import Array, Bool


def require(value: Array, condition: Bool[Array, ""], message: str) -> Array:
    """`value`, if the condition holds.

    Raises:
        ValueError: With the message, if it does not and its value is known.
        EqxRuntimeError: With the message, when the traced program runs.
    """
    if isinstance(condition, Tracer):
        return eqx.error_if(value, ~condition, message)
    if not condition:
        raise ValueError(message)
    return value
