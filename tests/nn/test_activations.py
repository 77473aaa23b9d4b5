import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from sciml.nn import gelu

X = np.concatenate([np.linspace(-12, 12, 4001), [0.0, 1e-30, -1e-30, 5.3, -5.3, 50.0, -50.0]])


def cdf(x):
    return 0.5 * (1 + erf(x / np.sqrt(2)))


def density(x):
    return np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)


EXACT = [
    lambda x: x * cdf(x),
    lambda x: cdf(x) + x * density(x),
    lambda x: (2 - x * x) * density(x),
    lambda x: (x**3 - 4 * x) * density(x),
]


@pytest.mark.parametrize("order", range(4))
def test_value_and_derivatives_in_float64(order):
    function = lambda x: gelu(x)
    for _ in range(order):
        function = jax.grad(function)
    with jax.enable_x64(True):
        np.testing.assert_allclose(jax.jit(jax.vmap(function))(jnp.asarray(X)), EXACT[order](X), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("order", range(3))
def test_value_and_derivatives_in_float32(order):
    function = lambda x: gelu(x)
    for _ in range(order):
        function = jax.grad(function)
    x = X.astype(np.float32)
    exact = EXACT[order](x.astype(np.float64))
    # 3 units in the last place of the largest intermediate, x / 2 and 1
    np.testing.assert_allclose(jax.jit(jax.vmap(function))(jnp.asarray(x)), exact, rtol=4e-7, atol=1.5e-6)


def test_agrees_with_jax_to_rounding():
    x = jnp.linspace(-6, 6, 1001)
    np.testing.assert_allclose(gelu(x), jax.nn.gelu(x, approximate=False), atol=1.5e-6)


def test_forward_and_reverse_mode_agree_under_vmap():
    x = jnp.linspace(-3, 3, 24).reshape(4, 6)
    tangent = jax.vmap(lambda x: jax.jvp(gelu, (x,), (jnp.ones_like(x),))[1])(x)
    np.testing.assert_allclose(tangent, jax.vmap(jax.grad(lambda x: jnp.sum(gelu(x))))(x), rtol=1e-6)


def test_low_precision_keeps_its_type():
    x = jnp.linspace(-3, 3, 7, dtype=jnp.bfloat16)
    assert gelu(x).dtype == jnp.bfloat16
    assert jax.vmap(jax.grad(gelu))(x).dtype == jnp.bfloat16
    np.testing.assert_allclose(gelu(x).astype(jnp.float32), EXACT[0](np.asarray(x, np.float64)), atol=0.01)
