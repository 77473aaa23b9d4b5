"""The truncated Karhunen-Loeve expansion, and Darcy flow through its exponential."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.data import draw
from sciml.pdes import LogNormalDarcy, neumann_field, neumann_modes, solve_diffusion

CENTRES = [(np.arange(n) + 0.5) / n for n in (14, 17)]


def test_modes_are_orthogonal_and_fall_as_the_covariance_operator_says():
    modes = neumann_modes(12, CENTRES, alpha=2.0, tau=3.0)
    products = np.einsum("ixy,jxy->ij", modes, modes) / (14 * 17)  # exact for cosines below the highest frequency
    np.testing.assert_allclose(products, np.diag(np.diag(products)), atol=1e-14)
    frequencies = sorted(i**2 + j**2 for i in range(14) for j in range(14))[1:13]  # no mean
    expected = 9.0 * (np.pi**2 * np.asarray(frequencies) + 9.0) ** -2
    np.testing.assert_allclose(np.diag(products), expected, rtol=1e-12)


def test_all_modes_give_the_field():
    with jax.enable_x64(True):
        shape, key = (5, 5), jax.random.key(0)
        points = [(np.arange(5) + 0.5) / 5] * 2
        field = neumann_field(key, shape, alpha=2.0, tau=3.0)
        modes = neumann_modes(35, points, alpha=2.0, tau=3.0)  # some of them have frequencies above those of the grid
        variances = np.einsum("ixy,ixy->xy", modes, modes)
        keys = jax.random.split(key, 20_000)
        draws = jax.vmap(lambda key: neumann_field(key, shape, alpha=2.0, tau=3.0))(keys)
        assert field.shape == shape
        # The sample variance errs by 1 %; frequencies that one of the two sets lacks hold 2 % of the variance
        np.testing.assert_allclose(draws.var(0), variances, rtol=0.06)


def test_the_coefficients_of_a_key_are_those_of_every_resolution():
    coarse, fine = (draw(LogNormalDarcy(resolution=n, terms=6), n=2, seed=3) for n in (9, 17))
    np.testing.assert_allclose(coarse.x, fine.x[..., ::2, ::2], rtol=1e-5, atol=1e-6)  # float32
    np.testing.assert_allclose(coarse.y, fine.y[..., ::2, ::2], atol=0.06 * fine.y.max())  # second order, h = 1/8
    assert LogNormalDarcy(resolution=9, terms=6).at(17) == LogNormalDarcy(resolution=17, terms=6)


def test_the_pressure_is_that_of_the_solver():
    darcy = LogNormalDarcy(resolution=10, terms=5, amplitude=2.0, forcing=3.0)
    with jax.enable_x64(True):
        coefficients = jnp.array([1.0, -1.0, 0.5, 0.2, 2.0])
        modes = neumann_modes(5, [np.linspace(0, 1, 10)] * 2, alpha=2.0, tau=3.0)
        field = darcy.log_permeability(coefficients)
        np.testing.assert_allclose(field, 2.0 * np.tensordot(coefficients, modes, 1), rtol=1e-12)
        pressure = darcy.pressure(field)
        np.testing.assert_array_equal(pressure, solve_diffusion(jnp.exp(field), jnp.full((10, 10), 3.0)))
        residual = darcy.residual(field[None], pressure[None])
        assert float(jnp.abs(residual).max()) < 1e-8  # the tolerance of the solver over the square of the spacing
        slope = jax.grad(lambda c: darcy.pressure(darcy.log_permeability(c))[4, 6])(coefficients)
        value = lambda c: darcy.pressure(darcy.log_permeability(c))[4, 6]
        step = 1e-4 * jnp.eye(5)
        expected = [(value(coefficients + one) - value(coefficients - one)) / 2e-4 for one in step]
        np.testing.assert_allclose(slope, jnp.stack(expected), rtol=1e-6, atol=1e-9)
    assert darcy.grid.points()[0][-1] == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 2}, "at least 3 nodes along each axis and 1 term, got resolution 2 and terms 16"),
        ({"terms": 0}, "got resolution 32 and terms 0"),
        ({"amplitude": -1.0}, "positive amplitude, got -1.0"),
        ({"alpha": 1.0}, "alpha > 1"),
    ],
)
def test_refused_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        LogNormalDarcy(**settings)


def test_no_modes_are_refused():
    with pytest.raises(ValueError, match="at least 1 term, got 0"):
        neumann_modes(0, CENTRES, alpha=2.0, tau=3.0)
    with pytest.raises(ValueError, match="Sample within"):
        LogNormalDarcy(resolution=5).sample(jax.random.key(0))
