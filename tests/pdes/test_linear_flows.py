import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from solved_flows import solve, x64  # noqa: F401

from sciml.data import draw, joined_frames
from sciml.pdes import Advection, Heat, Wave

PROBLEMS = [Advection, Heat, Wave]
WAVES = {1: (3,), 2: (3, -2), 3: (2, -1, 3)}  # of unequal numbers along the axes


def phase(problem):
    """`k . x` and `k` of a wave on the grid."""
    k = 2 * np.pi * np.array(WAVES[problem.dimensions]) / problem.length
    return np.tensordot(k, np.meshgrid(*problem.grid.points(), indexing="ij"), 1), k


def times(problem):
    return problem.interval * np.arange(1, problem.frames + 1)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_waves_are_advected_exactly(dimensions):
    problem = Advection(dimensions=dimensions, resolution=9, length=1.5, frames=3, interval=0.7, speed=-0.8)
    x, k = phase(problem)
    for frame, t in zip(solve(problem, 2 + np.sin(x)[None]), times(problem), strict=True):
        np.testing.assert_allclose(frame[0], 2 + np.sin(x + 0.8 * k.sum() * t), atol=1e-13)  # rounding


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_waves_of_heat_decay_exactly(dimensions):
    problem = Heat(dimensions=dimensions, resolution=8, length=1.5, frames=3, interval=0.7, diffusivity=0.01)
    x, k = phase(problem)
    for frame, t in zip(solve(problem, 2 + np.sin(x)[None]), times(problem), strict=True):
        np.testing.assert_allclose(frame[0], 2 + np.exp(-0.01 * (k**2).sum() * t) * np.sin(x), atol=1e-13)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_waves_travel_exactly(dimensions):
    problem = Wave(dimensions=dimensions, resolution=8, length=1.5, frames=3, interval=0.7, speed=1.3)
    x, k = phase(problem)
    frequency = 1.3 * np.sqrt((k**2).sum())
    drift = 0.2  # of the mean, which no force holds
    exact = lambda t: np.stack((np.sin(x - frequency * t) + drift * t, drift - frequency * np.cos(x - frequency * t)))
    for frame, t in zip(solve(problem, exact(0.0)), times(problem), strict=True):
        np.testing.assert_allclose(frame, exact(t), atol=1e-12)  # rounding of velocities up to 25


def test_a_bell_spreads_as_the_heat_kernel():
    """Summed over its periods; spectral: on twice as many points the error is that of rounding."""
    errors = []
    for n in (16, 64):
        problem = Heat(dimensions=2, resolution=n, length=2.0, frames=1, interval=0.5, diffusivity=0.02)
        x, y = np.meshgrid(*problem.grid.points(), indexing="ij")

        def bell(t, x=x, y=y):
            squared = 0.15**2 + 2 * 0.02 * t
            at = [np.exp(-((x - 0.7 - 2 * i) ** 2 + (y - 1.1 - 2 * j) ** 2) / (2 * squared)) for i, j in CELLS]
            return sum(at) * 0.15**2 / squared

        errors.append(np.abs(solve(problem, bell(0.0)[None])[0, 0] - bell(0.5)).max())
    assert errors[0] < 1e-3  # the mode 8 of the bell is exp(-(8 pi 0.15)^2 / 2) = 8e-4
    assert errors[1] < 1e-14


CELLS = [(i, j) for i in range(-2, 3) for j in range(-2, 3)]


def test_what_is_conserved():
    heat, wave = Heat(dimensions=2, resolution=12, frames=4), Wave(dimensions=2, resolution=12, frames=4, speed=0.7)
    start = np.asarray(jax.jit(heat.initial)(jax.random.key(0))) + 0.3
    np.testing.assert_allclose(solve(heat, start).mean(axis=(1, 2, 3)), 0.3, rtol=1e-13)

    def energy(state):
        k = 2 * np.pi * np.fft.fftfreq(12, 1 / 12)
        u, v = np.fft.fft2(state)
        return ((0.7**2) * (k[:, None] ** 2 + k**2) * np.abs(u) ** 2 + np.abs(v) ** 2).sum()

    start = np.asarray(jax.jit(wave.initial)(jax.random.key(1)))
    np.testing.assert_allclose([energy(frame) for frame in solve(wave, start)], energy(start), rtol=1e-12)


@pytest.mark.parametrize("kind", PROBLEMS)
@pytest.mark.parametrize("dimensions", [1, 3])
def test_samples_are_trajectories(kind, dimensions):
    problem = kind(dimensions=dimensions, resolution=10, length=0.8, frames=3, interval=0.2)
    pairs = draw(problem, n=2, seed=1)
    fields = problem.names
    assert pairs.inputs == tuple(f"{name} t=0" for name in fields)
    assert pairs.outputs[-1] == f"{fields[-1]} t=0.6"
    states = joined_frames(pairs)
    assert states.shape == (2, 4, len(fields), *(10,) * dimensions)
    np.testing.assert_allclose(np.abs(states[:, 0, 0]).reshape(2, -1).max(axis=1), 1, atol=1e-6)
    again = solve(problem, states[1, 0].astype(float))
    np.testing.assert_allclose(states[1, 1:], again, atol=1e-6 * np.abs(again).max())  # float32
    assert pairs.parameters is None


@pytest.mark.parametrize(("kind", "name"), [(Advection, "speed"), (Heat, "diffusivity"), (Wave, "speed")])
def test_constants_may_be_ranges(kind, name):
    problem = kind(resolution=12, frames=2, **{name: (0.01, 2.0)})
    pairs = draw(problem, n=3, seed=3)
    assert pairs.parameter_names == (name,)
    constants = pairs.parameters[:, 0]
    assert ((constants > 0.01) & (constants < 2)).all()
    assert len(set(constants)) == 3
    for state, constant in zip(joined_frames(pairs), constants, strict=True):
        one = dataclasses.replace(problem, **{name: float(constant)})
        found = solve(one, state[0].astype(float))
        np.testing.assert_allclose(state[1:], found, atol=2e-6 * np.abs(found).max())  # float32
    with pytest.raises(ValueError, match=r"Expected a number, got the range \(0\.01, 2\.0\)"):
        problem.solve(jnp.zeros((len(problem.names), 12)))


def test_speeds_are_uniform_and_diffusivities_uniform_in_the_logarithm():
    keys = jax.random.split(jax.random.key(0), 4000)
    speeds = jax.vmap(Advection(speed=(-1.0, 3.0)).draw_parameters)(keys)
    powers = np.log10(jax.vmap(Heat(diffusivity=(1e-4, 1e-2)).draw_parameters)(keys))
    # quartiles; five standard deviations of a share, sqrt(3 / 16 / 4000), times the range
    np.testing.assert_allclose(np.quantile(speeds, [0.25, 0.5, 0.75]), [0, 1, 2], atol=0.16)
    np.testing.assert_allclose(np.quantile(powers, [0.25, 0.5, 0.75]), [-3.5, -3, -2.5], atol=0.08)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Heat(dimensions=4), "Expected 1, 2 or 3 dimensions, got 4"),
        (lambda: Heat(resolution=7), "at least 8 points and 1 frame, got resolution 7"),
        (lambda: Heat(interval=0.0), "positive length and interval, got length 1.0 and interval 0.0"),
        (lambda: Heat(dimensions=3, alpha=1.5), "three dimensions needs alpha > 3/2 and tau > 0, got alpha 1.5"),
        (lambda: Heat(diffusivity=-0.1), "diffusivity >= 0, got -0.1"),
        (lambda: Wave(speed=0.0), "a positive speed, got 0.0"),
        (
            lambda: Heat(diffusivity=(0.0, 0.1)),
            r"a range of positive numbers, .* for diffusivity, got \(0",
        ),
        (lambda: Advection(speed=(1.0, 1.0)), r"a range, smallest first, for speed, got \(1\.0, 1\.0\)"),
        (lambda: Advection(speed=(1.0, float("inf"))), r"for speed, got \(1\.0, inf\)"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_fields_and_precision():
    with pytest.raises(ValueError, match=r"8.*got"):
        Heat(resolution=8).solve(jnp.ones((1, 9)))
    assert jax.eval_shape(Wave(resolution=8).solve, jnp.ones((2, 8), jnp.float32)).dtype == jnp.float32
    with jax.enable_x64(False), pytest.raises(ValueError, match="computes in float64, got float32"):
        Heat(resolution=8).sample(jax.random.key(0))
