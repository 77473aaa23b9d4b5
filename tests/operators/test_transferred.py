"""MgNO on grids that it was not built for."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import CycleConfig, FieldNorm
from sciml.operators import NAVIER_STOKES, MgNO, MgNOConfig, Transferred
from sciml.operators._transferred import _stretch

GRID = Grid((8, 12), extent=(1.0, 2.0), boundary=((Neumann(), Dirichlet()), Periodic()))
PINNED = MgNOConfig(cycle=dataclasses.replace(NAVIER_STOKES.cycle, inner=True), norm=FieldNorm, cycle_head=True)


@pytest.mark.parametrize("config", [MgNOConfig(), PINNED], ids=["published", "norms per point"])
def test_on_its_own_grid_it_is_the_operator_itself(config, getkey):
    steps = ((2, 1), (1, 1))
    with jax.enable_x64(True):
        mgno = MgNO(2, 3, grid=GRID, width=4, depth=2, levels=steps, config=config, key=getkey())
        x = jax.random.normal(getkey(), (2, *GRID.shape))
        both = jax.jit(lambda m, x: (Transferred(m, GRID)(x), m(x)))
        np.testing.assert_allclose(*both(mgno, x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("shape", [(16, 24), (20, 30), (4, 6)], ids=str)
def test_other_resolutions_are_taken(shape, getkey):
    mgno = MgNO(2, 3, grid=Grid((8, 12)), width=4, depth=2, levels=2, config=NAVIER_STOKES, key=getkey())
    x = jax.random.normal(getkey(), (2, *shape))
    y = jax.jit(lambda x: Transferred(mgno, Grid(shape))(x))(x)
    assert y.shape == (3, *shape)
    assert np.isfinite(y).all()


def test_it_agrees_at_common_points_on_a_finer_ring(getkey):
    """Two trigonometric waves on a ring are restricted exactly, and stencils keep their physical reach."""
    config = MgNOConfig(cycle=CycleConfig(extension=Periodic()), activation=lambda u: u)
    with jax.enable_x64(True):
        coarse, fine = Grid((12,)), Grid((36,))
        mgno = MgNO(2, 1, grid=coarse, width=3, depth=1, levels=2, config=config, key=getkey())
        x = np.stack([np.cos(2 * np.pi * fine.points()[0]), np.sin(4 * np.pi * fine.points()[0])])
        y = jax.jit(lambda x: Transferred(mgno, fine)(x))(jnp.asarray(x))
        np.testing.assert_allclose(y[:, ::3], mgno(jnp.asarray(x[:, ::3])), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("ratio", "at_one"),
    [(1.0, {1: 1.0}), (2.0, {2: 1.0}), (1.5, {1: 0.5, 2: 0.5}), (0.5, {0: 0.5, 1: 0.5}), (2.25, {2: 0.75, 3: 0.25})],
)
def test_weights_are_shared_out_between_the_points_around_their_place(ratio, at_one):
    matrix = _stretch(ratio)
    reach = matrix.shape[0] // 2
    expected = np.zeros(2 * reach + 1)
    for at, share in at_one.items():
        expected[reach + at] = share
    np.testing.assert_allclose(matrix[:, 2], expected, atol=1e-15)
    np.testing.assert_allclose(matrix[:, 0], expected[::-1], atol=1e-15)
    np.testing.assert_array_equal(np.flatnonzero(matrix[:, 1]), [reach])


def test_gradients_reach_every_parameter_through_another_grid(getkey):
    mgno = MgNO(1, 1, grid=GRID, width=3, depth=1, levels=((1, 1), (1, 0)), key=getkey())
    fine = GRID.with_shape((16, 24))
    x = jax.random.normal(getkey(), (1, 16, 24))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(Transferred(m, fine)(x) ** 2)))(mgno)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient))


def test_errors_name_the_remedy(getkey):
    moved = Transferred(MgNO(2, 1, grid=GRID, width=3, depth=1, levels=2, key=getkey()), GRID.with_shape((16, 24)))
    with pytest.raises(ValueError, match=r"Expected a field \(channels, 16, 24\), got \(2, 8, 12\)"):
        moved(jnp.ones((2, 8, 12)))
    with pytest.raises(ValueError, match="Expected 2 input channels, got 3"):
        moved(jnp.ones((3, 16, 24)))
    other = dataclasses.replace(moved, grid=Grid((16, 24), extent=3.0))
    with pytest.raises(ValueError, match="same box"):
        other(jnp.ones((2, 16, 24)))
