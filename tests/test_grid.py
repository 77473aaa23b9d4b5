"""Grids: points against hand-written formulas, padding against numpy.pad, errors."""

import jax.numpy as jnp
import numpy as np
import pytest

from sciml.grid import Dirichlet, Grid, Neumann, Periodic, pad, per_side

POINTS = [
    (Periodic(), np.arange(8) / 8),
    (Periodic(gap=0.5), (np.arange(8) + 0.5) / 8),
    (Dirichlet(), np.arange(1, 9) / 9),
    (Dirichlet(gap=0.0), np.arange(8) / 7),
    (Neumann(), np.arange(8) / 7),
    (Neumann(gap=0.5), (np.arange(8) + 0.5) / 8),
    ((Dirichlet(gap=0.0), Dirichlet()), np.arange(8) / 8),
    ((Neumann(), Dirichlet()), np.arange(8) / 8),
]


@pytest.mark.parametrize(("sides", "expected"), POINTS)
def test_points_are_where_the_boundary_says(sides, expected):
    grid = Grid((8, 5), extent=(3.0, 1.0), boundary=(sides, Periodic()))
    np.testing.assert_allclose(grid.points()[0], 3 * expected, rtol=1e-15, atol=1e-15)
    assert grid.spacing[0] == pytest.approx(3 * (expected[1] - expected[0]), rel=1e-14)


@pytest.mark.parametrize(
    ("boundary", "mode"),
    [(Periodic(), "wrap"), (Dirichlet(), "constant"), (Neumann(), "reflect"), (Neumann(gap=0.5), "symmetric")],
)
@pytest.mark.parametrize("width", [1, 2])
def test_padding_equals_numpy(boundary, mode, width):
    x = np.random.default_rng(0).normal(size=(5, 7, 3))
    padded = pad(jnp.asarray(x, jnp.float32), per_side(boundary, 2), width)
    np.testing.assert_array_equal(padded, np.pad(x.astype(np.float32), [(width, width)] * 2 + [(0, 0)], mode=mode))


def test_padding_takes_each_side_by_its_own_boundary():
    x = jnp.arange(1.0, 5.0)
    np.testing.assert_array_equal(pad(x, per_side([(Dirichlet(), Neumann())], 1), 2), [0, 0, 1, 2, 3, 4, 3, 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid((8, 8), boundary=(Periodic(),)), "one for each of 2 axes, got 1"),
        (lambda: Grid((8,), boundary=((Periodic(), Dirichlet()),)), "periodic on one side only"),
        (lambda: Grid((8, 8), extent=(1.0,)), "one for each of 2 axes, got 1"),
        (lambda: Grid((0, 8)), "must be positive"),
        (lambda: Grid((8, 6)).check(jnp.zeros((1, 8, 5))), r"Expected a field \(channels, 8, 6\), got \(1, 8, 5\)"),
        (lambda: pad(jnp.ones((1, 2)), per_side(Neumann(), 1), 1), "needs at least 2 values, got 1"),
    ],
)
def test_errors_say_what_was_expected(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_grid_is_static():
    assert hash(Grid((4, 4))) == hash(Grid((4, 4), extent=1.0, boundary=Periodic()))
    assert Grid((4, 4)).with_shape((8, 6)) == Grid((8, 6))
