import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.pdes._etd import crank_nicolson_euler, dealias_mask, etdrk4, evolve, wavenumbers


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("shape", [(9,), (8, 10), (7, 6, 8)])
def test_wavenumbers_differentiate(shape):
    lengths = (1.5, 2.0, 0.7)[: len(shape)]
    points = np.meshgrid(*[np.arange(n) * h / n for n, h in zip(shape, lengths, strict=True)], indexing="ij")
    waves = [2 * np.pi * m / h for m, h in zip((2, -1, 3), lengths, strict=False)]
    phase = sum(k * x for k, x in zip(waves, points, strict=True))
    for k, found in zip(waves, wavenumbers(shape, lengths), strict=True):
        derivative = np.fft.irfftn(1j * found * np.fft.rfftn(np.sin(phase)), shape, range(len(shape)))
        np.testing.assert_allclose(derivative, k * np.cos(phase), atol=1e-12)  # rounding of values up to 27


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("shape", [(24,), (9, 14), (8, 12, 9)])
def test_products_of_alias_free_modes_are_exact(shape, degree):
    keep = dealias_mask(shape, degree)
    u = np.fft.irfftn(keep * np.fft.rfftn(np.random.default_rng(0).normal(size=shape)), shape, range(len(shape)))
    fine = tuple(4 * n for n in shape)
    wide = np.zeros(fine, complex)
    index = np.ix_(*[np.fft.fftfreq(n, 1 / n).astype(int) % (4 * n) for n in shape])
    wide[index] = np.fft.fftn(u) * 4 ** len(shape)
    exact = np.fft.fftn(np.fft.ifftn(wide).real ** degree)[index] / 4 ** len(shape)
    half = shape[-1] // 2 + 1
    np.testing.assert_allclose((keep * np.fft.rfftn(u**degree)), keep * exact[..., :half], atol=1e-12)
    one_more = dealias_mask(tuple(n + degree + 1 for n in shape), degree)[tuple(slice(n // 2 + 1) for n in shape)]
    assert np.count_nonzero(one_more) > np.count_nonzero(keep[tuple(slice(n // 2 + 1) for n in shape)])


def plane_wave(shape, t, nu=0.4, a=0.3):
    """Cole-Hopf solution of `u_t + sum_i (u^2 / 2)_i = nu Laplace u` on the box of length 2 pi, of x + y - z."""
    axes = np.meshgrid(*[2 * np.pi * np.arange(n) / n for n in shape], indexing="ij")
    directions = np.array([1, 1, -1])[: len(shape)]
    phase = sum(m * x for m, x in zip(directions, axes, strict=True))
    decay = a * np.exp(-nu * len(shape) * t)
    return 2 * nu * len(shape) * decay * np.sin(phase) / (1 + decay * np.cos(phase)) / directions.sum()


@pytest.mark.parametrize(("rule", "order"), [(etdrk4, 4), (crank_nicolson_euler, 1)])
@pytest.mark.parametrize("shape", [(36,), (30, 36), (24, 27, 30)])
def test_order_for_the_exact_solution_of_burgers(rule, order, shape):
    waves, keep = wavenumbers(shape, [2 * np.pi] * len(shape)), dealias_mask(shape, 2)
    linear, factor = -0.4 * sum(k**2 for k in waves), jnp.asarray(-0.5j * sum(waves) * keep)
    nonlinear = lambda v: factor * jnp.fft.rfftn(jnp.fft.irfftn(v, shape) ** 2)
    errors = []
    for steps in (2, 4, 8):
        step = rule(linear, nonlinear, 1 / steps)
        modes = jnp.fft.rfftn(jnp.asarray(plane_wave(shape, 0.0)))
        (final,) = jax.jit(functools.partial(evolve, step, frames=1, steps=steps))(modes)
        errors.append(np.abs(np.fft.irfftn(final, shape, range(len(shape))) - plane_wave(shape, 1.0)).max())
    # The modes beyond the eighth are below 0.15^8 = 3e-7, 1e-9 in 1 D; coarse steps see higher orders too.
    assert np.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.35)
    assert errors[2] < (1e-4 if order == 4 else 0.1)


@pytest.mark.parametrize("array", [np.array, jnp.array])
@pytest.mark.parametrize("linear", [0.0, 1e-9, -1e-4, -1.3, -0.4 + 2j, 30j, -1e7])
def test_etdrk4_is_exact_for_a_constant_force(linear, array):
    v, force, dt, steps = 1.5 - 0.5j, 0.7 + 0.2j, 0.3, 3
    step = etdrk4(array([linear]), lambda v: jnp.full_like(v, force), dt)
    (found,) = evolve(step, jnp.array([v]), frames=1, steps=steps)
    z = linear * dt * steps
    phi = np.expm1(z) / z if z else 1.0
    # Contour means are exact to rounding of the terms on the circle, which have size 1.
    np.testing.assert_allclose(found[0], np.exp(z) * v + dt * steps * phi * force, rtol=3e-14)


def test_evolve_repeats_the_step():
    step = etdrk4(np.array([-1.0, -2j, 0.5]), lambda v: v**2 / 4, 0.1)
    v = jnp.array([0.3 + 0.1j, -0.2j, 0.5])
    seen, expected = evolve(step, v, frames=4, steps=3, observe=lambda v: v.real[:2]), []
    for count in range(1, 13):
        v = step(v)
        expected += [v.real[:2]] if count % 3 == 0 else []
    np.testing.assert_allclose(seen, np.stack(expected), rtol=1e-14)


@pytest.mark.parametrize("rule", [etdrk4, crank_nicolson_euler])
def test_precision_follows_the_state(rule):
    step = rule(np.array([-1.0, -2.0]), lambda v: v**2, 0.1)
    assert step(jnp.ones(2, jnp.complex64)).dtype == jnp.complex64
    assert step(jnp.ones(2, jnp.complex128)).dtype == jnp.complex128
