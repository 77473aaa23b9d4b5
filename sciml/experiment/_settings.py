"""What many experiment files do with their settings, and how they time a prediction."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Value = TypeVar("Value")


def chosen(what: str, name: str, known: Mapping[str, Value]) -> Value:
    """`known[name]`, for a setting that is one of several names: `chosen("a model", config.model, MODELS)`.

    Raises:
        ValueError: If there is no such name; it lists the known ones.
    """
    if name not in known:
        raise ValueError(f"Expected {what} of {', '.join(known)}, got {name!r}.")
    return known[name]


def float_type(tolerance: float) -> np.dtype:
    """JAX's default floating-point type, in which an equation is to be solved to a relative tolerance.

    Raises:
        ValueError: If the tolerance is below ten roundings of that type.
    """
    dtype = jnp.zeros(()).dtype
    if tolerance < 10 * jnp.finfo(dtype).eps:
        raise ValueError(
            f"A tolerance of {tolerance} is below what {dtype} resolves. Set JAX_ENABLE_X64=1, or use a larger one "
            "such as --tolerance 1e-5."
        )
    return dtype


def timed(call: Callable[[], Value], repeats: int = 9) -> tuple[Value, float]:
    """The result of a call, and the median of the seconds of further calls, which find it compiled."""
    result = jax.block_until_ready(call())
    return result, statistics.median(_seconds(call) for _ in range(repeats))


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start
