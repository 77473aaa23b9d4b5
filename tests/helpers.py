"""Tables and comparisons that several tests share."""

import dataclasses
import os
import pathlib
from collections.abc import Callable

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sciml.grid import Grid
from sciml.operators import FNO, AbstractOperator, FlaxOperator, MgNO, Normalised, Resampled, per_channel

ROOT = pathlib.Path(__file__).resolve().parent.parent
REFERENCE = pathlib.Path(os.environ.get("SCIML_REFERENCE", ROOT.parent / "shared" / "reference"))


@dataclasses.dataclass(frozen=True)
class OperatorCase:
    """One row of the shared suite.

    Attributes:
        make: `(in_channels, out_channels, grid, key) -> operator`.
        any_resolution: Whether the operator acts at resolutions that it was not built for.
        shift: By how many points along each axis a shift commutes with the operator on a periodic grid; 0 if none does.
    """

    make: Callable[[int, int, Grid, jax.Array], AbstractOperator]
    any_resolution: bool
    shift: int


class _Network(linen.Module):
    out: int

    @linen.compact
    def __call__(self, x):
        x = jax.nn.gelu(linen.Conv(6, (3,) * (x.ndim - 2), padding="CIRCULAR")(x))
        return linen.Dense(self.out)(x)


def _flax(into, out, grid, key):
    return FlaxOperator(_Network(out), jax.ShapeDtypeStruct((into, *grid.shape), jnp.float32), key=key)


def _normalised(into, out, grid, key):
    rng = np.random.default_rng(0)
    x, y = (rng.normal(2, 3, (7, channels, *grid.shape)).astype(np.float32) for channels in (into, out))
    return Normalised(_flax(into, out, grid, key), per_channel(x), per_channel(y))


OPERATORS = {
    "mgno": OperatorCase(
        lambda into, out, grid, key: MgNO(into, out, grid=grid, width=6, depth=2, levels=3, key=key), False, 0
    ),
    "fno": OperatorCase(
        lambda into, out, grid, key: FNO(into, out, modes=(6,) * len(grid.shape), width=8, depth=2, key=key), True, 1
    ),
    "flax": OperatorCase(_flax, True, 1),
    "normalised": OperatorCase(_normalised, True, 1),
    "resampled": OperatorCase(
        lambda into, out, grid, key: Resampled(
            MgNO(into, out, grid=grid, width=6, depth=1, levels=2, key=key), grid
        ),
        True,
        0,
    ),
}  # fmt: skip


def assert_trees_close(actual: PyTree, expected: PyTree, **tolerance: float) -> None:
    """Asserts equal structure and close leaves, naming the first leaf that differs."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for path, leaf in jax.tree_util.tree_leaves_with_path(actual):
        other = dict(jax.tree_util.tree_leaves_with_path(expected))[path]
        np.testing.assert_allclose(leaf, other, err_msg=jax.tree_util.keystr(path), **tolerance)
