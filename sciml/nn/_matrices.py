"""What layers say of their arrays: which are matrices, for optimisers, and which act on Fourier modes."""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree


@dataclasses.dataclass(frozen=True)
class MatrixAxes:
    """How an array is a matrix, or many of them: one for each index of the axes that are not named.

    Axes are negative, counted from the last, so that they stay the same where layers are stacked along a first axis.

    Attributes:
        rows: Axes over which the layer sums.
        columns: Axes of the layer's output.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def join(self, array: Float[Array, "..."]) -> Float[Array, "count rows columns"]:
        """The matrices in an array."""
        order = self._order(array.ndim)
        sizes = [np.prod([array.shape[axis] for axis in axes], dtype=int) for axes in (self.rows, self.columns)]
        return jnp.transpose(array, order).reshape(-1, *sizes)

    def split(self, matrices: Float[Array, "count rows columns"], shape: tuple[int, ...]) -> Float[Array, "..."]:
        """The array of a shape that holds the matrices: the inverse of `join`."""
        order = self._order(len(shape))
        return jnp.transpose(matrices.reshape([shape[axis] for axis in order]), np.argsort(order).tolist())

    def _order(self, ndim: int) -> tuple[int, ...]:
        named = [axis % ndim for axis in (*self.rows, *self.columns)]
        return (*(axis for axis in range(ndim) if axis not in named), *named)


@runtime_checkable
class HasMatrices(Protocol):
    """A layer that says which of its arrays are matrices, any layer with this method."""

    def matrices(self) -> dict[str, MatrixAxes]:
        """Axes of the arrays by attribute, or of all arrays in an attribute that is a tuple of them."""
        ...


def matrix_axes(model: PyTree) -> list[MatrixAxes | None]:
    """For each leaf of a model, in the order of `jax.tree.leaves`, how it is a matrix; None where no layer says so."""
    known: list[MatrixAxes | None] = []
    for node in jax.tree.leaves(model, is_leaf=_is_layer):
        if _is_layer(node):
            axes = node.matrices()
            paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(node)]
            known.extend(axes.get(getattr(path[0], "name", "")) for path in paths)
        else:
            known.append(None)
    return known


@runtime_checkable
class HasModes(Protocol):
    """A layer that says which of its arrays act on Fourier modes, any layer with this method."""

    def on_modes(self) -> tuple[str, ...]:
        """Attributes that hold such arrays, which see sums over all points of a field, on whatever device these are."""
        ...


def acts_on_modes(model: PyTree) -> list[bool]:
    """For each leaf of a model, in the order of `jax.tree.leaves`, whether it acts on Fourier modes."""
    known: list[bool] = []
    is_layer = lambda node: isinstance(node, HasModes)
    for node in jax.tree.leaves(model, is_leaf=is_layer):
        names = node.on_modes() if is_layer(node) else ()
        paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(node)]
        known.extend(bool(path) and getattr(path[0], "name", "") in names for path in paths)
    return known


def kernel_axes(dimensions: int) -> MatrixAxes:
    """Axes of a kernel `(*space, in, out)`: the stencil and the input against the output."""
    return MatrixAxes(tuple(range(-dimensions - 2, -1)), (-1,))


def _is_layer(node: Any) -> bool:
    return isinstance(node, HasMatrices)
