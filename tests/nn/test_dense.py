import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import MLP, Dense, unit_coordinates

BATCH, NX, NY, IN, EXTRA, OUT = 2, 5, 7, 3, 4, 6


def test_rows_beside_are_those_of_the_concatenation(getkey):
    with jax.enable_x64(True):
        network = MLP((IN + EXTRA, 9, OUT), activation=jnp.sin, key=getkey())
        x, beside = jax.random.normal(getkey(), (BATCH, NX, NY, IN)), jax.random.normal(getkey(), (NX, NY, EXTRA))
        joined = np.concatenate([x, np.broadcast_to(beside, (BATCH, NX, NY, EXTRA))], axis=-1)
        first, second = ((np.asarray(layer.weight), np.asarray(layer.bias)) for layer in network.layers)
        expected = np.sin(joined @ first[0] + first[1]) @ second[0] + second[1]
        np.testing.assert_allclose(network(x, beside), expected, atol=1e-13)  # float64, sums in another order
        np.testing.assert_allclose(network(jnp.asarray(joined)), expected, atol=1e-13)


def test_initial_values(getkey):
    layer = Dense(100, 50, key=getkey())
    for array in (layer.weight, layer.bias):
        assert 0.08 < np.abs(array).max() <= 0.1  # 1 / sqrt(100)
    layer = Dense(100, 50, init=jax.nn.initializers.glorot_normal(), key=getkey())
    assert float(layer.weight.std()) == pytest.approx((2 / 150) ** 0.5, rel=0.05)  # 5000 numbers: 1 %
    assert not np.any(layer.bias)
    assert Dense(3, 4, bias=False, key=getkey()).bias is None


def test_coordinates_are_those_of_the_boundary_in_units_of_the_extent():
    walls = (Dirichlet(), Neumann())  # the first node lies beside the wall, the last on it
    grid = Grid((9, 9), extent=(2.0, 5.0), boundary=(Periodic(), walls))
    places = unit_coordinates(grid, (4, 3))
    expected = np.meshgrid([0, 0.25, 0.5, 0.75], [1 / 3, 2 / 3, 1], indexing="ij")
    np.testing.assert_allclose(places, np.stack(expected, -1), rtol=1e-15)
