"""Patches as channels, against explicit loops."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.grid import Dirichlet, Grid
from sciml.operators import AbstractOperator, MgNO, Patched, patched


class Scaled(AbstractOperator):
    """Multiplies each channel by its number, starting with 1."""

    def __call__(self, x):
        return x * jnp.arange(1, len(x) + 1).reshape(-1, *[1] * (x.ndim - 1))


@pytest.mark.parametrize(("shape", "patch"), [((12,), (3,)), ((6, 8), (3, 2)), ((4, 6, 2), (2, 3, 1))])
def test_each_point_of_a_patch_is_a_channel(shape, patch):
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    y = np.asarray(Patched(Scaled(), 2, patch)(jnp.asarray(x)))
    expected = np.zeros_like(x)
    for channel, place in itertools.product(range(2), itertools.product(*map(range, shape))):
        number = channel
        for i, p in zip(place, patch, strict=True):
            number = number * p + i % p
        expected[(channel, *place)] = x[(channel, *place)] * (number + 1)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


def test_an_operator_on_the_coarse_grid_with_more_channels():
    grid = Grid((32, 18, 7), extent=(1.0, 2.0, 3.0), boundary=Dirichlet())
    seen = []

    def make(into, out, *, grid, key):
        seen.append((into, out, grid))
        return Scaled()

    assert patched(make, 2, 3, patch=2, grid=grid, key=jax.random.key(0)).patch == (2, 2, 1)  # 7 points are not cut
    assert seen == [(8, 12, grid.with_shape((16, 9, 7)))]


def test_a_patched_operator_commutes_with_shifts_by_a_patch():
    make = lambda into, out, *, grid, key: MgNO(into, out, grid=grid, width=4, depth=1, levels=1, key=key)
    model = patched(make, 1, 2, patch=2, grid=Grid((8, 12)), key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (1, 8, 12))
    shifted = model(jnp.roll(x, (2, -4), (1, 2)))
    np.testing.assert_allclose(shifted, jnp.roll(model(x), (2, -4), (1, 2)), atol=1e-5)
    assert shifted.shape == (2, 8, 12)


@pytest.mark.parametrize("shape", [(1, 7, 8), (1, 8)])
def test_fields_that_cannot_be_cut_are_refused(shape):
    with pytest.raises(ValueError, match=r"multiples of the patches \(2, 2\), got .*Resampled"):
        Patched(Scaled(), 1, (2, 2))(jnp.ones(shape))
