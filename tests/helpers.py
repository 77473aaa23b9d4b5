"""Tables and comparisons that several tests share."""

import dataclasses
import os
import pathlib
from collections.abc import Callable

import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sciml import zoo
from sciml.grid import Grid
from sciml.nn import Frozen
from sciml.operators import (
    CNO,
    FFNO,
    FNO,
    TFNO,
    UNO,
    AbstractOperator,
    ConvNet,
    ConvNeXtUNet,
    DeepONet,
    DilatedResNet,
    FlaxOperator,
    GalerkinTransformer,
    GlobalResNet,
    MgNO,
    ModernResNet,
    Normalised,
    Padded,
    Patched,
    Resampled,
    ResidualUNet,
    Slicing,
    SpectralHead,
    Stage,
    Transolver,
    UNet,
    per_channel,
    rematerialised,
)

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


def _patched(into, out, grid, key):
    d = len(grid.shape)
    return Patched(FNO(2**d * into, 2**d * out, modes=(4,) * d, width=8, depth=2, key=key), into, (2,) * d)


def _uno(into, out, grid, key):
    halves, whole = (0.5,) * len(grid.shape), (1,) * len(grid.shape)
    stages = tuple(Stage(c, (m,) * len(grid.shape), s) for c, m, s in [(7, 6, halves), (9, 4, halves), (8, 6, whole)])
    return UNO(into, out, width=6, stages=stages, key=key)


OPERATORS = {
    "mgno": OperatorCase(
        lambda into, out, grid, key: MgNO(into, out, grid=grid, width=6, depth=2, levels=3, key=key), False, 0
    ),
    "fno": OperatorCase(
        lambda into, out, grid, key: FNO(into, out, modes=(6,) * len(grid.shape), width=8, depth=2, key=key), True, 1
    ),
    "residual mgno": OperatorCase(
        lambda into, out, grid, key: zoo.residual_mgno(into, out, grid=grid, width=6, depth=2, levels=2, key=key),
        False,
        2,
    ),
    "tfno": OperatorCase(
        lambda into, out, grid, key: TFNO(
            into, out, modes=(6,) * len(grid.shape), width=8, ranks=(0.3,) * 2, key=key
        ),
        True,
        1,
    ),
    "ffno": OperatorCase(
        lambda into, out, grid, key: FFNO(
            into, out, modes=(6,) * len(grid.shape), width=8, kernels=(0, 0, 1), key=key
        ),
        True,
        1,
    ),
    "uno": OperatorCase(_uno, True, 2),
    "deeponet": OperatorCase(
        lambda into, out, grid, key: DeepONet(
            into, out, grid=grid, branch=(12,), trunk=(10,), basis=6, key=key
        ),
        False,
        0,
    ),
    "galerkin": OperatorCase(
        lambda into, out, grid, key: GalerkinTransformer(
            into, out, head=SpectralHead((6,) * len(grid.shape), 5, 1), width=8, depth=1, heads=2, grid=grid, key=key
        ),
        True,
        0,
    ),
    "transolver": OperatorCase(
        lambda into, out, grid, key: Transolver(
            into, out, grid=grid, width=8, depth=1, slicing=Slicing(heads=2, slices=5), references=3, key=key
        ),
        False,
        0,
    ),
    "unet": OperatorCase(
        lambda into, out, grid, key: UNet(into, out, grid=grid, widths=(4, 6), key=key), True, 2
    ),
    "residual unet": OperatorCase(
        lambda into, out, grid, key: ResidualUNet(into, out, grid=grid, widths=(4, 6), blocks=1, key=key), True, 2
    ),
    "dilated resnet": OperatorCase(
        lambda into, out, grid, key: DilatedResNet(into, out, grid=grid, width=6, dilations=((1, 2, 4),), key=key),
        True,
        1,
    ),
    "cno": OperatorCase(
        lambda into, out, grid, key: CNO(into, out, grid=grid, width=4, levels=1, blocks=(1, 1), key=key), True, 2
    ),
    "convnext unet": OperatorCase(
        lambda into, out, grid, key: ConvNeXtUNet(
            into, out, grid=grid, widths=(4, 6), blocks=1, layer_scale=0.5, key=key
        ),
        True,
        2,
    ),
    "convnet": OperatorCase(
        lambda into, out, grid, key: ConvNet(into, out, grid=grid, width=6, depth=2, key=key), True, 1
    ),
    "modern resnet": OperatorCase(
        lambda into, out, grid, key: ModernResNet(into, out, grid=grid, width=6, blocks=2, key=key), True, 1
    ),
    "global resnet": OperatorCase(
        lambda into, out, grid, key: GlobalResNet(into, out, grid=grid, width=6, blocks=2, kernel=3, key=key), True, 1
    ),
    "padded": OperatorCase(
        lambda into, out, grid, key: Padded(
            FNO(into, out, modes=(6,) * len(grid.shape), width=8, depth=2, key=key), grid, 0.25
        ),
        True,
        1,
    ),
    "patched": OperatorCase(_patched, True, 2),
    "rematerialised": OperatorCase(
        lambda into, out, grid, key: rematerialised(OPERATORS["fno"].make(into, out, grid, key)), True, 1
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


def stirred(make: Callable[[], PyTree]) -> PyTree:
    """What `make` builds with random numbers in all arrays, so that no 0 or 1 hides a fault; nothing is compiled."""
    rng = np.random.default_rng(0)
    fill = lambda leaf: jnp.asarray(rng.normal(0, 0.5, leaf.shape), leaf.dtype)
    is_array = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
    return jax.tree.map(lambda leaf: fill(leaf) if is_array(leaf) else leaf, eqx.filter_eval_shape(make))


def size_of(make: Callable[[], PyTree]) -> int:
    """Number of parameters of what `make` builds, without building it."""
    leaves = jax.tree.leaves(eqx.filter_eval_shape(make), is_leaf=lambda node: isinstance(node, Frozen))
    return sum(leaf.size for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct))


def drawn(make: Callable[[], PyTree], seed: int = 0) -> PyTree:
    """The module that `make()` builds, with normal weights of variance 1 / inputs in double precision.

    Its own initialisation is not compiled, which takes longer than most tests.
    """
    rng = np.random.default_rng(seed)

    def draw(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        return jnp.asarray(rng.standard_normal(leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1])), jnp.float64)

    return jax.tree.map(draw, eqx.filter_eval_shape(make))


def assert_trees_close(actual: PyTree, expected: PyTree, **tolerance: float) -> None:
    """Asserts equal structure and close leaves, naming the first leaf that differs."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for path, leaf in jax.tree_util.tree_leaves_with_path(actual):
        other = dict(jax.tree_util.tree_leaves_with_path(expected))[path]
        np.testing.assert_allclose(leaf, other, err_msg=jax.tree_util.keystr(path), **tolerance)
