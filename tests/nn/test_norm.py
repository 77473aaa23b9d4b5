"""Normalisation of whole fields against NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.nn import FieldNorm, per_channel_norm


@pytest.mark.parametrize("shape", [(), (6, 8)], ids=["per channel", "per point"])
def test_equals_numpy(shape, getkey):
    with jax.enable_x64(True):
        norm = FieldNorm(3, shape, epsilon=1e-3)
        gain, shift = (jax.random.normal(getkey(), (*shape, 3)) for _ in range(2))
        norm = eqx.tree_at(lambda n: (n.gain, n.shift), norm, (gain, shift))
        x = 5 + 2 * jax.random.normal(getkey(), (2, 3, 6, 8))
        expected = []
        for one in np.asarray(x):
            normal = (one - one.mean()) / np.sqrt(one.var() + 1e-3)
            spread = [np.moveaxis(np.asarray(a), -1, 0).reshape(3, *(shape or (1, 1))) for a in (gain, shift)]
            expected.append(normal * spread[0] + spread[1])
        np.testing.assert_allclose(jax.vmap(norm)(x), np.stack(expected), rtol=0, atol=1e-13)


def test_a_gain_per_point_pins_the_grid(getkey):
    with pytest.raises(ValueError, match=r"belongs to \(6, 8, 3\).*got \(8, 6, 3\).*Normalise per channel"):
        FieldNorm(3, (6, 8))(jnp.ones((3, 8, 6)))
    assert per_channel_norm(3, (6, 8))(jnp.ones((3, 8, 6))).shape == (3, 8, 6)
