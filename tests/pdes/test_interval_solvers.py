"""What the solvers for one field on a periodic interval share, over a table of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import pdes
from sciml.pdes import BalanceLaw, Bistable, LinearDiffusion, PorousMedium, SineFlux

N, FRAMES = 20, 3
SETTINGS = {"length": 1.7, "time": 0.3, "frames": FRAMES}


def balance(u, k, viscosity, rate, threshold, **settings):
    law = BalanceLaw(SineFlux(k), LinearDiffusion(viscosity), Bistable(rate, threshold))
    return pdes.solve_balance_law(u, law, **settings)


def porous(u, m, **settings):
    return pdes.solve_balance_law(u, BalanceLaw(diffusion=PorousMedium(m)), **settings)


def brownian(u, amplitude, diffusivity, **settings):
    x = jnp.linspace(0, 2 * jnp.pi, N, endpoint=False)
    return pdes.solve_fokker_planck(u, amplitude * jnp.cos(x), diffusivity, **settings)


SOLVERS = {
    "heat": (pdes.solve_heat, (0.2,)),
    "advection": (pdes.solve_advection, (0.7,)),
    "wave": (pdes.solve_wave, (0.6,)),
    "klein_gordon": (pdes.solve_klein_gordon, (0.6, 1.2)),
    "sine_gordon": (pdes.solve_sine_gordon, (0.8,)),
    "kdv": (pdes.solve_kdv, (0.001,)),
    "cahn_hilliard": (pdes.solve_cahn_hilliard, (0.03,)),
    "porous_medium": (porous, (2.0,)),
    "balance_law": (balance, (0.9, 0.01, 1.1, 0.3)),
    "fokker_planck": (brownian, (0.7, 0.1)),
}


def mapped(solve):
    return jax.jit(jax.vmap(functools.partial(solve, **SETTINGS)))


@pytest.mark.parametrize("name", SOLVERS)
def test_mapping_over_fields_and_constants(name):
    solve, constants = SOLVERS[name]
    with jax.enable_x64(True):
        u = jax.random.uniform(jax.random.key(0), (2, N), minval=0.2)
        factors = jnp.array([1.0, 1.1])
        both = mapped(solve)(u, *(c * factors for c in constants))
        assert both.shape == (2, FRAMES, N)
        assert both.dtype == jnp.float64
        np.testing.assert_array_equal(both[:, 0], u)
        assert np.abs(both[:, 1:] - both[:, :-1]).max(axis=(1, 2)).min() > 0.01  # the field changes
        alone = jax.jit(functools.partial(solve, **SETTINGS))(u[1], *(1.1 * c for c in constants))
        np.testing.assert_allclose(both[1], alone, atol=1e-12)  # rounding of up to 500 steps
        if name == "fokker_planck":
            return  # the potential has a place
        moved = jax.jit(functools.partial(solve, **SETTINGS))(jnp.roll(u[1], 3), *(1.1 * c for c in constants))
        np.testing.assert_allclose(moved, np.roll(alone, 3, axis=1), atol=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
def test_single_precision(name):
    solve, constants = SOLVERS[name]
    u = jax.random.uniform(jax.random.key(0), (2, N), minval=0.2)
    both = mapped(solve)(u, *(jnp.full(2, c) for c in constants))
    assert both.dtype == jnp.float32
    with jax.enable_x64(True):
        assert jax.eval_shape(mapped(solve), u, *(jnp.full(2, c) for c in constants)).dtype == jnp.float32
        exact = mapped(solve)(u.astype(jnp.float64), *(jnp.full(2, c) for c in constants))
    np.testing.assert_allclose(both, exact, atol=2e-5)  # hundreds of roundings of 6e-8


@pytest.mark.parametrize("name", SOLVERS)
def test_one_frame(name):
    solve, constants = SOLVERS[name]
    one = functools.partial(solve, length=1.0, time=1.0, frames=1)
    assert jax.eval_shape(one, jnp.ones(N), *constants).shape == (1, N)


@pytest.mark.parametrize("name", ["heat", "kdv", "cahn_hilliard", "porous_medium"])
@pytest.mark.parametrize(
    ("change", "message"),
    [({"frames": 0}, "frames 0"), ({"length": -1.0}, "got length -1.0"), ({"time": 0.0}, "time 0.0")],
)
def test_bad_settings(name, change, message):
    solve, constants = SOLVERS[name]
    with pytest.raises(ValueError, match=f"Expected positive length, time, frames and steps, .*{message}"):
        solve(jnp.ones(N), *constants, **(SETTINGS | change))


@pytest.mark.parametrize("solve", [pdes.solve_sine_gordon, pdes.solve_kdv, pdes.solve_cahn_hilliard])
def test_bad_steps(solve):
    with pytest.raises(ValueError, match=r"Expected positive length, time, frames and steps, .* steps 0"):
        solve(jnp.ones(N), 1.0, **SETTINGS, steps=0)


@pytest.mark.parametrize(
    "solve", [pdes.solve_advection, pdes.solve_sine_gordon, pdes.solve_kdv, pdes.solve_cahn_hilliard, porous]
)
def test_small_fields(solve):
    with pytest.raises(ValueError, match=r"need at least 4 values, got 3\. Use a finer grid"):
        solve(jnp.ones(3), 1.0, **SETTINGS)
