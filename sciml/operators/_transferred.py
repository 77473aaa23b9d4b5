"""An MgNO on grids that it was not built for."""

import functools
import math
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.grid import Grid
from sciml.nn import Conv, FieldNorm, VCycle, apply_layer, resample
from sciml.operators._base import AbstractOperator, takes_any_field
from sciml.operators._mgno import MgNO, MultigridLayer


@final
class Transferred(AbstractOperator):
    """A trained `MgNO` on another grid of the same box: its finest level there, all coarser ones where it was trained.

    On every level but the finest a multigrid cycle works with data that no fine grid changes. So each layer restricts
    its input to the grid of training, runs the cycle there and interpolates only the *correction* of the coarse levels
    back; matrices of the channels, activations, normalisations and the smoothing steps of the finest level act on the
    new grid. Its stencils keep their physical reach: S u(x) = sum_a w_a u(x + a h) with the spacing h of training,
    values between two points of the new grid by linear interpolation. On a grid that holds the points of training this
    agrees there with the trained operator wherever interpolation is exact; `Resampled` interpolates the whole operator.

    Attributes:
        operator: The operator.
        grid: Grid of input and output.
    """

    operator: MgNO
    grid: Grid = eqx.field(static=True)

    @takes_any_field
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields on `grid`.

        Raises:
            ValueError: If the input has another number of channels or lives on another grid, or the two grids do not
                cover the same box.
        """
        self.operator.check_channels(x)
        self.grid.check(x)
        u = jnp.moveaxis(x, 0, -1)[None]
        for layer in self.operator.layers:
            u = apply_layer(lambda layer, u: self.operator.activation(self._layer(layer, u)), layer, u)
        head = self.operator.head
        u = self._cycle(head, u) if isinstance(head, VCycle) else head.channels_last(u)
        return jnp.moveaxis(u[0], -1, 0)

    def _layer(self, layer: MultigridLayer, u: Array) -> Array:
        norm = layer.norm if layer.norm is None else self._moved_norm(layer.norm)
        return MultigridLayer(layer.cycle, layer.local, norm).complete(u, self._cycle(layer.cycle, u))

    def _cycle(self, cycle: VCycle, data: Array) -> Array:
        coarse = _between(cycle.coarse_part(_between(data, self.grid, cycle.grid)), cycle.grid, self.grid)
        here = {id(part) for part in _finest(cycle)}
        move = lambda part: self._moved(part) if id(part) in here else part
        moved = jax.tree.map(move, cycle, is_leaf=lambda node: isinstance(node, Conv | FieldNorm))
        return moved.finest(data, lambda state, data: coarse)

    def _moved(self, part: Conv | FieldNorm) -> Conv | FieldNorm:
        """What acts on the grid of training, for the new grid."""
        return self._moved_norm(part) if isinstance(part, FieldNorm) else self._moved_stencil(part)

    def _moved_stencil(self, conv: Conv) -> Conv:
        kernel = conv.weight
        for axis, (old, new) in enumerate(zip(self.operator.grid.spacing, self.grid.spacing, strict=True)):
            matrix = jnp.asarray(_stretch(old / new), kernel.dtype)
            kernel = jnp.moveaxis(jnp.tensordot(matrix, kernel, axes=(1, axis)), 0, axis)
        return eqx.tree_at(lambda conv: conv.weight, conv, kernel)

    def _moved_norm(self, norm: FieldNorm) -> FieldNorm:
        if norm.gain.ndim == 1:
            return norm
        fields = (_between(field[None], self.operator.grid, self.grid)[0] for field in (norm.gain, norm.shift))
        return eqx.tree_at(lambda norm: (norm.gain, norm.shift), norm, tuple(fields))


def _finest(cycle: VCycle) -> list[Conv | FieldNorm]:
    """What acts on the finest level of a cycle."""
    steps = [part for step in cycle.pre[0] + cycle.post[0] for part in (step.smoother, step.operator)]
    return [part for part in (*steps, cycle.operator[0], *cycle.norm[:1]) if part is not None]


def _between(x: Float[Array, "batch *space channels"], source: Grid, target: Grid) -> Array:
    """`resample` for fields with a leading batch axis and the channels last."""
    return jnp.moveaxis(jax.vmap(lambda u: resample(u, source, target))(jnp.moveaxis(x, -1, 1)), 1, -1)


@functools.lru_cache(maxsize=64)
def _stretch(ratio: float) -> np.ndarray:
    """Weights at -1, 0, 1 as weights at the whole numbers around -ratio, 0, ratio, shared out linearly: a matrix."""
    reach = max(1, math.ceil(ratio - 1e-9))
    at = np.arange(-reach, reach + 1.0)[:, None]
    return np.maximum(0.0, 1.0 - np.abs(at - ratio * np.array([-1.0, 0.0, 1.0])))
