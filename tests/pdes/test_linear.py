import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.pdes import solve_advection, solve_heat, solve_klein_gordon, solve_wave

LENGTH, TIME, FRAMES = 2.6, 1.4, 5
SETTINGS = {"length": LENGTH, "time": TIME, "frames": FRAMES}
T = TIME / FRAMES * np.arange(FRAMES).reshape(-1, 1)
WAVE = 2 * np.pi / LENGTH


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def centres(n):
    return (np.arange(n) + 0.5) * LENGTH / n


def profile(x):
    return 0.4 + np.cos(2 * WAVE * x - 0.3) - 0.7 * np.sin(5 * WAVE * x)


def decayed(x):
    slow, fast = (np.exp(-0.013 * (m * WAVE) ** 2 * T) for m in (2, 5))
    return 0.4 + slow * np.cos(2 * WAVE * x - 0.3) - 0.7 * fast * np.sin(5 * WAVE * x)


def oscillating(x):
    mean, slow, fast = (np.cos(0.9 * np.sqrt((m * WAVE) ** 2 + (1.7 * 0.9) ** 2) * T) for m in (0, 2, 5))
    return 0.4 * mean + slow * np.cos(2 * WAVE * x - 0.3) - 0.7 * fast * np.sin(5 * WAVE * x)


EXACT = [
    (solve_heat, (0.013,), decayed),
    (solve_advection, (-0.8,), lambda x: profile(x + 0.8 * T)),
    (solve_wave, (0.9,), lambda x: (profile(x + 0.9 * T) + profile(x - 0.9 * T)) / 2),  # d'Alembert
    (solve_klein_gordon, (0.9, 1.7), oscillating),
]


@pytest.mark.parametrize("n", [15, 32])
@pytest.mark.parametrize(("solve", "constants", "exact"), EXACT)
def test_exact_solutions(solve, constants, exact, n):
    x = centres(n)
    found = jax.jit(functools.partial(solve, **SETTINGS))(jnp.asarray(profile(x)), *constants)
    np.testing.assert_allclose(found, exact(x), atol=1e-13)  # rounding


def test_a_massive_field_that_is_constant_oscillates():
    found = jax.jit(functools.partial(solve_klein_gordon, **SETTINGS))(jnp.full(6, 2.0), 1.3, 0.8)
    np.testing.assert_allclose(found, np.repeat(2 * np.cos(0.8 * 1.3**2 * T), 6, axis=1), atol=1e-14)


def test_the_shortest_wave_keeps_the_part_that_the_points_see():
    zigzag = np.cos(np.pi * np.arange(6))
    found = jax.jit(functools.partial(solve_advection, **SETTINGS))(jnp.asarray(zigzag), 0.5)
    np.testing.assert_allclose(found, np.cos(3 * WAVE * 0.5 * T) * zigzag, atol=1e-14)
