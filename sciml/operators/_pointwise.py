"""The frame of Fourier networks: the networks P and Q at each point, between them layers of any kind."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml import cut
from sciml.grid import Grid, Periodic, Sides
from sciml.nn import (
    Dense,
    along_last,
    apply_layer,
    bare,
    check_field,
    fold_vmap,
    gelu,
    matmul,
)
from sciml.operators._base import AbstractOperator, takes_any_field


@dataclasses.dataclass(frozen=True)
class Pointwise:
    """The parts of a Fourier network that act on each point alone. Sizes are multiples of the width, 0 for no layer.

    Attributes:
        lifting: Hidden layer of the first network, P; 0 makes it linear.
        mixing: Hidden layer of the network that follows each Fourier layer; 0 leaves the network and its gate out.
        projection: Hidden layer of the last network, Q; 0 makes it linear.
        activation: The nonlinearity, elementwise.
    """

    lifting: float | int = 2.0
    mixing: float | int = 0.5
    projection: float | int = 2.0
    activation: Callable[[Array], Array] = gelu


NEURALOPERATOR = Pointwise()


class AbstractFourierNetwork(AbstractOperator):
    """u = Q(B(P(a, x))): networks P and Q at each point and Fourier layers B, on a uniform grid of any size.

    Attributes:
        lifting: P.
        projection: Q.
        grid: Grid whose coordinates x are appended to the input, or None.
        activation: Nonlinearity of P and Q.
    """

    lifting: tuple[Dense, ...]
    projection: tuple[Dense, ...]
    grid: Grid | None = eqx.field(static=True)
    activation: Callable[[Array], Array] = eqx.field(static=True)

    @property
    @abc.abstractmethod
    def dimensions(self) -> int:
        """Number of axes of the fields."""

    @abc.abstractmethod
    def body(self, v: Float[Array, "*space batch in"]) -> Float[Array, "*other batch out"]:
        """The Fourier layers B, for a batch with the channels last and the batch beside them."""

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *other"]:
        """The output fields, of the size of the input unless the layers change it.

        Raises:
            ValueError: If the number of axes or channels differs from the operator's.
        """
        check_input(self, x)
        return fold_vmap(_apply, self, x)


@final
class Padded(AbstractOperator):
    """A Fourier network whose layers act on a larger grid, for domains that are not periodic: u = Q(crop B(pad P(a))).

    Behind the high end of each axis that is not periodic, zeros are appended to the lifted field before the Fourier
    layers and cut off after them, so that what leaves the domain at one wall does not enter at the other. Periodic axes
    stay as they are. The padded length also sets the frequencies of the kept modes.

    Source: code of the first FNO (Li et al. 2021, arXiv:2010.08895), which appends 9 points to 85 of Darcy flow, and
    the one-sided `domain_padding` of neuraloperator; both lift, pad, crop and project in this order.

    Attributes:
        operator: The network. Its coordinates, if it has any, are those of the domain without the padding.
        grid: Tells which axes are periodic.
        fraction: Number of appended points over that of an axis, rounded.
    """

    operator: AbstractFourierNetwork
    grid: Grid = eqx.field(static=True)
    fraction: float = eqx.field(static=True)

    def __init__(self, operator: AbstractFourierNetwork, grid: Grid, fraction: float) -> None:
        """Wraps the network.

        Raises:
            ValueError: If the fraction is negative or the grid has another number of axes than the network.
        """
        if fraction < 0:
            raise ValueError(f"Expected a fraction of at least 0, got {fraction}. Use 0.1 for 10 % more points.")
        count_coordinates(grid, (0,) * operator.dimensions)
        self.operator, self.grid, self.fraction = operator, grid, float(fraction)

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields.

        Raises:
            ValueError: If the number of axes or channels differs from the network's.
        """
        check_input(self.operator, x)
        return fold_vmap(_apply_padded, self, x)

    def body(self, v: Float[Array, "*space batch in"]) -> Float[Array, "*space batch out"]:
        """The network's Fourier layers on the larger grid, cut to the size of `v`."""
        cut.refuse(v, self.operator.dimensions, "A field that is padded")
        space = v.shape[: self.operator.dimensions]
        more = [
            0 if isinstance(low, Periodic) else round(self.fraction * n)
            for n, (low, _) in zip(space, self.grid.sides, strict=True)
        ]
        y = self.operator.body(jnp.pad(v, [*((0, n) for n in more), (0, 0), (0, 0)]))
        return y[tuple(slice(n) for n in space)]


def check_input(model: AbstractFourierNetwork, x: Array) -> None:
    """Raises ValueError unless `x` is a field with the network's number of axes and channels."""
    appended = 0 if model.grid is None else model.dimensions
    check_field(x, bare(model.lifting)[0].weight.shape[0] - appended, model.dimensions)


def _apply(model: AbstractFourierNetwork, x: Float[Array, "batch in *space"]) -> Float[Array, "batch out *other"]:
    return _between(model, model.body, x)


def _apply_padded(model: Padded, x: Float[Array, "batch in *space"]) -> Float[Array, "batch out *space"]:
    return _between(model.operator, model.body, x)


def _between(model: AbstractFourierNetwork, body: Callable[[Array], Array], x: Array) -> Array:
    # Channels last, the batch beside them: every product at a point is a GEMM without a transposition.
    v = apply_layer(run, model.lifting, jnp.moveaxis(x, (0, 1), (-2, -1)), model.activation, model.grid)
    y = apply_layer(run, model.projection, body(v), model.activation)
    return jnp.moveaxis(y, (-2, -1), (0, 1))


def network(sizes: tuple[int, int, int], key: PRNGKeyArray) -> tuple[Dense, ...]:
    """One hidden layer between input and output, none if its size is 0."""
    size_in, hidden, size_out = sizes
    if hidden == 0:
        return (Dense(size_in, size_out, key=key),)
    first, second = jax.random.split(key)
    return Dense(size_in, hidden, key=first), Dense(hidden, size_out, key=second)


def ends(
    in_channels: int, out_channels: int, width: int, pointwise: Pointwise, keys: tuple[PRNGKeyArray, PRNGKeyArray]
) -> tuple[tuple[Dense, ...], tuple[Dense, ...]]:
    """The networks P and Q of a Fourier network whose layers all have one width."""
    first = network((in_channels, int(pointwise.lifting * width), width), keys[0])
    return first, network((width, int(pointwise.projection * width), out_channels), keys[1])


def run(
    layers: tuple[Dense, ...],
    x: Float[Array, "*space batch in"],
    activation: Callable[[Array], Array],
    grid: Grid | None = None,
) -> Float[Array, "*space batch out"]:
    """Applies a `network`, whose last inputs are the coordinates of the points if a grid is given."""
    first, *rest = layers
    if grid is None:
        x = first(x)
    else:  # the coordinates' share is the same for the whole batch
        share = _coordinates(grid, x) @ first.weight[x.shape[-1] :]
        share = share if first.bias is None else share + along_last(first.bias, share.ndim)
        own = matmul(x.reshape(-1, x.shape[-1]), first.weight[: x.shape[-1]])
        x = own.reshape(*x.shape[:-1], -1) + jnp.expand_dims(share, -2)
    for layer in rest:
        x = layer(activation(x))
    return x


def count_coordinates(grid: Grid | None, modes: tuple[int, ...]) -> int:
    """Number of coordinates that the grid appends to the input.

    Raises:
        ValueError: If the grid's number of axes differs from that of `modes`.
    """
    if grid is not None and len(grid.shape) != len(modes):
        raise ValueError(
            f"modes={modes} is for {len(modes)} axes, the grid has {len(grid.shape)}: {grid.shape}. "
            "Give one number of modes for each axis of the grid."
        )
    return 0 if grid is None else len(grid.shape)


def _coordinates(grid: Grid, x: Float[Array, "*space batch in"]) -> Float[Array, "*space axes"]:
    """Coordinates of the points of `x` in units of the extent, on a grid of its size.

    They are computed from those of each axis: as a constant they would be a part of the program, of large fields the
    largest.
    """
    names = cut.axes(x, len(grid.shape))
    shape = cut.whole_shape(x.shape[: len(names)], names)
    if all(isinstance(n, int) for n in shape):
        each = zip(grid.with_shape(shape).points(), grid.lengths, names, strict=True)
        own = [cut.own_part(jnp.asarray(at / length, x.dtype), (name,)) for at, length, name in each]
    else:
        own = [_open_axis(n, sides).astype(x.dtype) for n, sides in zip(shape, grid.sides, strict=True)]
    return jnp.stack(jnp.meshgrid(*own, indexing="ij"), axis=-1)


def _open_axis(n: Any, sides: Sides) -> Float[Array, " points"]:
    """Coordinates along an axis whose size is chosen when the program runs, as in programs that are exported."""
    low, high = sides
    spacings = jnp.asarray(n, jnp.float32) + (0.0 if isinstance(low, Periodic) else low.gap + high.gap - 1)
    return (jnp.arange(n) + low.gap) / spacings
