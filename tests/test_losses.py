"""Losses against what they are made of."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import losses, metrics
from sciml.pdes import Burgers


class Scale(eqx.Module):
    factor: jax.Array

    def __call__(self, x):
        return self.factor * x


def test_supervised_is_the_scaled_mean_over_the_batch():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 1, 4, 6)).astype(np.float32)
    value, logs = losses.supervised(metrics.relative_l2, scale=5.0)(Scale(jnp.array(2.0)), (x, y), jax.random.key(0))
    expected = sum(np.linalg.norm(2 * a - b) / np.linalg.norm(b) for a, b in zip(x, y, strict=True))
    assert float(value) == pytest.approx(expected, rel=1e-6)
    assert logs == {}


def test_the_residual_of_predictions_is_added_and_logged():
    """A steady field u: the residual of Burgers' equation of 2u is 4 u u_x - 2 nu u_xx."""
    problem = Burgers(resolution=32, length=2 * np.pi, viscosity=0.3)
    x = np.arange(32) * 2 * np.pi / 32
    u = np.float32(np.broadcast_to(np.stack([np.sin(x), np.cos(2 * x)])[:, None, None], (2, 1, 5, 32)))
    data = losses.supervised(metrics.relative_l2)
    both = losses.informed(data, lambda x, u: problem.residual(u), weight=0.25)
    value, logs = both(Scale(jnp.array(2.0)), (u, u), jax.random.key(0))
    squares = [
        np.mean((4 * np.sin(x) * np.cos(x) + 0.6 * np.sin(x)) ** 2),
        np.mean((-8 * np.cos(2 * x) * np.sin(2 * x) + 2.4 * np.cos(2 * x)) ** 2),
    ]
    assert float(logs["residual"]) == pytest.approx(np.mean(squares), rel=1e-4)  # float32 derivatives of 32 points
    assert float(value) == pytest.approx(1.0 + 0.25 * np.mean(squares), rel=1e-4)
    gradient = jax.grad(lambda m: both(m, (u, u), jax.random.key(0))[0])(Scale(jnp.array(2.0)))
    assert float(gradient.factor) > 0
