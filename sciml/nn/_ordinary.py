"""What the primitives of this package stand for, for programs that are read operation by operation."""

import functools
from collections.abc import Callable
from typing import Any

from jax.extend.core import JaxprEqn, Primitive

from sciml.nn import _activations
from sciml.nn._depthwise import depthwise
from sciml.nn._layout import FOLDED, called
from sciml.nn._matmul import PRODUCT, product
from sciml.nn._stencils import correlation

_FORMS: dict[Primitive, Callable[..., Any]] = {
    FOLDED: called,
    PRODUCT: product,
    **correlation.forms(),
    **depthwise.forms(),
}


def ordinary(equation: JaxprEqn) -> Callable[..., Any] | None:
    """The function that an equation of a jaxpr computes, in operations of JAX alone, if its primitive is one of ours.

    The function takes the operands. It may contain further primitives of this package.

    Returns:
        None for a primitive of JAX or of another package.
    """
    form = _FORMS.get(equation.primitive)
    return None if form is None else functools.partial(form, **equation.params)


def is_gelu(equation: JaxprEqn) -> bool:
    """Whether an equation of a jaxpr is the call of `gelu`, for programs that have an operation of their own for it."""
    if equation.primitive.name != "custom_jvp_call":
        return False
    where = equation.params["call_jaxpr"].jaxpr.debug_info.func_src_info or ""
    return where.startswith(f"_gelu at {_activations.__file__}:")
