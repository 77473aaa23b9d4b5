import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from sciml.data import draw, joined_frames
from sciml.pdes import FitzHughNagumo

SMALL = FitzHughNagumo(resolution=14, length=1.5, frames=3, interval=0.5, threshold=0.1)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def solve(problem, start, **constants):
    return np.asarray(jax.jit(problem.solve)(jnp.asarray(start), **constants))


def initial(problem, seed=0):
    """Fields of size 1, so that the cube matters."""
    start = np.asarray(jax.jit(problem.initial)(jax.random.key(seed)))
    return start / np.abs(start).max(axis=(1, 2), keepdims=True)


def test_the_method_of_lines_of_scipy():
    n, start = SMALL.resolution, initial(SMALL)
    m = np.abs(np.fft.fftfreq(n, 1 / n))
    keep = (m[:, None] < n / 4) & (m < n / 4)
    squared = (2 * np.pi / SMALL.length) ** 2 * (m[:, None] ** 2 + m**2)
    spectral = lambda field, factor: np.fft.ifft2(factor * np.fft.fft2(field)).real

    def rate(_, y):
        u, v = y.reshape(2, n, n)
        du = spectral(u, -SMALL.activator_diffusivity * squared) + spectral(u - u**3 - 0.1 - v, keep)
        dv = spectral(v, -SMALL.inhibitor_diffusivity * squared) + spectral(u - v, keep)
        return np.concatenate((du.ravel(), dv.ravel()))

    times = 0.5 * np.arange(1, 4)
    exact = scipy.integrate.solve_ivp(rate, (0, 1.5), start.ravel(), "DOP853", times, rtol=1e-10, atol=1e-12)
    found = solve(SMALL, start)
    assert np.abs(found[-1] - start).max() > 0.3
    # fourth order in steps of 0.05 of terms whose derivatives are about 1
    np.testing.assert_allclose(found, exact.y.T.reshape(found.shape), atol=2e-6)


def test_order_in_time():
    start = initial(SMALL)
    exact, coarse, fine = (solve(dataclasses.replace(SMALL, step=step), start)[-1] for step in (0.01, 0.5, 0.25))
    ratio = np.linalg.norm(coarse - exact) / np.linalg.norm(fine - exact)
    assert np.log2(ratio) == pytest.approx(4, abs=0.4)  # higher orders of the coarser step


def test_diffusion_alone_is_exact():
    """Of small fields the part that differs from the linear solution is cubic."""
    problem = FitzHughNagumo(resolution=20, length=3.0, frames=2, interval=0.3, threshold=0.0, step=0.01)
    x, y = np.meshgrid(*problem.grid.points(), indexing="ij")
    wave = np.cos(2 * np.pi * (x / 3 - 2 * y / 3))
    squared = 5 * (2 * np.pi / 3) ** 2
    matrix = np.array([[1 - 1e-3 * squared, -1], [1, -1 - 5e-3 * squared]])
    amplitudes = np.array([1e-4, -5e-5])
    found = solve(problem, amplitudes[:, None, None] * wave)
    for frame, t in zip(found, (0.3, 0.6), strict=True):
        expected = scipy.linalg.expm(matrix * t) @ amplitudes
        np.testing.assert_allclose(frame, expected[:, None, None] * wave, atol=1e-11)  # the cube of 1e-4, and dt^4


def test_constants_may_differ_between_trajectories():
    starts = jnp.stack([initial(SMALL, seed) for seed in (1, 2)])
    diffusivities, thresholds = jnp.array([[2e-3, 7e-3], [5e-3, 1e-3]]), jnp.array([0.0, 0.2])
    apply = jax.vmap(lambda start, d, k: SMALL.solve(start, diffusivities=d, threshold=k))
    found = jax.jit(apply)(starts, diffusivities, thresholds)
    for one, start, (du, dv), k in zip(found, starts, diffusivities, thresholds, strict=True):
        problem = dataclasses.replace(
            SMALL, activator_diffusivity=float(du), inhibitor_diffusivity=float(dv), threshold=float(k)
        )
        np.testing.assert_allclose(one, solve(problem, start), atol=1e-12)
    single = jax.eval_shape(SMALL.solve, jnp.ones((2, 14, 14), jnp.float32))
    assert single.dtype == jnp.float32


def test_exchanged_axes():
    start = initial(SMALL)
    found = solve(SMALL, start)
    np.testing.assert_allclose(solve(SMALL, start.transpose(0, 2, 1)), found.transpose(0, 1, 3, 2), atol=1e-13)
    assert np.abs(found - found.transpose(0, 1, 3, 2)).max() > 0.1


def test_samples_are_trajectories():
    pairs = draw(SMALL, n=2, seed=3)
    states = joined_frames(pairs)
    assert states.shape == (2, 4, 2, 14, 14)
    assert pairs.inputs == ("activator t=0", "inhibitor t=0")
    assert pairs.outputs[2:4] == ("activator t=1", "inhibitor t=1")
    np.testing.assert_allclose(states[1, 1:], solve(SMALL, states[1, 0].astype(float)), atol=1e-6)  # float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 7}, "at least 8 points and 1 frame, got resolution 7"),
        ({"frames": 0}, "frames 0"),
        ({"step": 0.0}, "positive length, interval and step, got length 2.0, interval 0.25 and step 0.0"),
        ({"inhibitor_diffusivity": -1.0}, "diffusivities >= 0, got 0.001 and -1.0"),
        ({"alpha": 1.0}, "alpha > 1 and tau > 0, got alpha 1.0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        FitzHughNagumo(**settings)


def test_bad_fields_and_precision():
    with pytest.raises(ValueError, match=r"14.*got"):
        SMALL.solve(jnp.ones((2, 8, 8)))
    with jax.enable_x64(False), pytest.raises(ValueError, match="computes in float64, got float32"):
        SMALL.sample(jax.random.key(0))
