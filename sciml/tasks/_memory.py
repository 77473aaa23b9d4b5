"""Models that are too large for any machine, noticed before they are made."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax

from sciml.train import host_memory

_REMEDY = "Use smaller sizes, such as those of a preset."


def within_memory(make: Callable[[], Any]) -> Any:
    """`make()`, an untrained model, if its arrays fit into the memory that this process may use.

    XLA ends the process, without an error that could be caught, if it is asked for arrays of sizes beyond 64 bits.

    Raises:
        ValueError: If they do not fit, or if no model has these sizes.
    """
    try:
        shapes = jax.tree.leaves(eqx.filter_eval_shape(make))
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        return make()  # it looks at values that it has drawn
    except (ValueError, RuntimeError, NotImplementedError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise ValueError(f"There is no model of these sizes ({type(error).__name__}: {text}). {_REMEDY}") from error
    numbers = sum(math.prod(one.shape) for one in shapes if isinstance(one, jax.ShapeDtypeStruct))
    if 4 * numbers > host_memory():
        raise ValueError(
            f"These settings make a model of {numbers:.3g} numbers, which do not fit into the memory that this process "
            f"may use, {host_memory() / 2**30:.0f} GiB. {_REMEDY}"
        )
    return make()


def check_amount(samples: int, values: int) -> None:
    """Refuses data that no machine holds: more than 2^38 values, a terabyte, or 2^27 in a sample.

    Raises:
        ValueError: If there are more.
    """
    if samples * values > 2**38 or values > 2**27:
        raise ValueError(
            f"{samples} samples of {values} values do not fit into any machine. Use fewer samples, times or points."
        )
