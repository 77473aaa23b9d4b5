"""A model as a function of named arrays of one sample, which is what all formats write."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from sciml.operators import Conditioned, members_of
from sciml.rollout import Conditions

Shape = tuple[int | str, ...]
"""Sizes of an array without the axis of the batch; a text names a size that is chosen when the program runs."""


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A function of one sample and what it takes.

    Attributes:
        function: From the arrays of `inputs`, in this order, to one array.
        inputs: Shapes by name.
    """

    function: Callable[..., Float[Array, "..."]]
    inputs: dict[str, Shape]

    def batched(self, *arrays: Float[Array, "..."]) -> Float[Array, "..."]:
        """The function of arrays with a leading axis of the batch."""
        return jax.vmap(self.function)(*arrays)

    def arguments(self, batch: str | int, smallest: int = 1) -> list[jax.ShapeDtypeStruct]:
        """Shapes of the arrays with the batch in float32, as JAX traces them.

        Args:
            batch: Size of the batch, or its name.
            smallest: Least value of the sizes that have names, other than the batch.
        """
        names = sorted({name for shape in self.inputs.values() for size in shape for name in _names(size)})
        scope = jax.export.SymbolicScope([f"{name} >= {smallest}" for name in names])
        shapes = [", ".join(map(str, (batch, *shape, ""))) for shape in self.inputs.values()]
        return [jax.ShapeDtypeStruct(jax.export.symbolic_shape(shape, scope=scope), jnp.float32) for shape in shapes]


def _names(size: int | str) -> set[str]:
    """The names in a size such as `2*n`."""
    text = "".join(one if one.isalnum() or one == "_" else " " for one in str(size))
    return {part for part in text.split() if not part.isdigit()}


def program_of(model: PyTree, shape: Shape = ()) -> Program:
    """The function of a model.

    An operator has the input `x`. An `operators.Conditioned` has those of `frames`, `fixed`, `parameters` and `dt` that
    it looks at. Of an ensemble the result is the mean of its members.

    Args:
        model: An operator, an `operators.Conditioned`, or any function of one field.
        shape: Of a field of one sample, `(channels, *space)`; for an `operators.Conditioned` of one frame. Without it
            the shapes of the program's inputs are not complete, its function is.

    Raises:
        ValueError: If the model does not take fields of this shape.
    """
    members = [_program_of_one(jax.tree.map(_single, member), shape) for member in members_of(model)]
    if len(members) == 1:
        return members[0]

    def mean(*arrays: Float[Array, "..."]) -> Float[Array, "..."]:
        results = [member.function(*arrays) for member in members]
        return sum(results[1:], results[0]) / len(results)

    return Program(mean, members[0].inputs)


def _single(leaf: Any) -> Any:
    """Numbers of double precision in float32."""
    return leaf.astype(jnp.float32) if eqx.is_inexact_array(leaf) and leaf.dtype == jnp.float64 else leaf


def _program_of_one(model: Any, shape: Shape) -> Program:
    if not isinstance(model, Conditioned):
        function: Any = model
        if not callable(model):
            raise ValueError(
                f"Expected an operator or an operators.Conditioned, got {type(model).__name__}, which is no function "
                "of a field. Export a function that takes one."
            )
        return Program(function, {"x": tuple(shape)})
    channels, space = model.frames.mean.value.shape[0], tuple(shape[1:])
    if shape and shape[0] != channels:
        raise ValueError(f"Expected frames of {channels} channels as in the statistics, got {shape[0]}. Correct shape.")
    numbers = model.numbers
    sizes: dict[str, Shape] = {
        "frames": (model.history, channels, *space) if model.history else (),
        "fixed": () if model.fixed is None else (model.fixed.mean.value.shape[0], *space),
        "parameters": () if numbers.parameters is None else numbers.parameters.mean.value.shape,
    }
    inputs = {name: size for name, size in sizes.items() if size} | ({} if numbers.log_dt is None else {"dt": ()})

    def call(*arrays: Float[Array, "..."]) -> Float[Array, "..."]:
        given = dict(zip(inputs, arrays, strict=True))
        like = next(given[name] for name in ("frames", "fixed") if name in given)
        points = like.shape[2:] if "frames" in given else like.shape[1:]
        frames = given.get("frames", jnp.zeros((0, channels, *points), like.dtype))
        fixed = given.get("fixed", jnp.zeros((0, *points), like.dtype))
        dt = given.get("dt", jnp.ones((), like.dtype))
        return model(frames, Conditions(fixed, given.get("parameters", jnp.zeros(0)), dt))

    return Program(call, inputs)
