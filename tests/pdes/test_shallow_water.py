import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from sciml.data import draw, joined_frames
from sciml.pdes import ShallowWater

SMALL = ShallowWater(resolution=24, frames=3, interval=0.2)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def solve(problem, start, **constants):
    return np.asarray(jax.jit(problem.solve)(jnp.asarray(start), **constants))


def waves(problem, seed=0):
    return np.asarray(jax.jit(problem.waves)(jax.random.key(seed)))


def axes(problem):
    return np.meshgrid(*problem.grid.points(), indexing="ij")


def stoker(x, g, high, low):
    """Heights and velocities one unit of time after a dam at 0 broke, with `high` water at the left (Stoker 1957)."""
    c = lambda h: np.sqrt(g * h)
    shock = lambda h: (h - low) * np.sqrt(g * (h + low) / (2 * h * low))
    middle = scipy.optimize.brentq(lambda h: 2 * (c(high) - c(h)) - shock(h), low, high)
    speed = shock(middle)
    fan = (2 * c(high) - x) / 3
    where = [x < -c(high), x < speed - c(middle), x < middle * speed / (middle - low)]
    return (
        np.select(where, [high, fan**2 / g, middle], low),
        np.select(where, [0 * x, 2 * (c(high) + x) / 3, speed + 0 * x], 0),
    )


@pytest.mark.parametrize("axis", [0, 1])
def test_a_dam_breaks_as_stoker_found(axis):
    # The dam is broken at both sides of the middle half; the waves of the two do not meet within the unit of time.
    errors = []
    for n in (40, 80):
        problem = ShallowWater(resolution=n, length=12.0, frames=1, interval=1.0, gravity=1.3)
        x = axes(problem)[axis]
        start = np.stack((0 * x, 0 * x, np.where(np.abs(x - 6) < 3, 2.0, 0.7)))
        (found,) = solve(problem, start)
        height, speed = stoker(np.abs(x - 6) - 3, 1.3, 2.0, 0.7)
        errors.append([np.abs(found[2] - height).mean(), np.abs(found[axis] - np.sign(x - 6) * speed).mean()])
        np.testing.assert_allclose(found[1 - axis], 0, atol=1e-12)
    errors = np.array(errors)
    assert (errors[1] < 0.55 * errors[0]).all()  # first order at bores
    assert (errors[1] < 0.02).all()  # two bores of height 0.6, a cell of 0.15 each, on a length of 12


def simple_wave(problem, time):
    """A wave that moves along the diagonal into water at rest of height 1, exact until it breaks at time 2.4."""
    g, period = problem.gravity, problem.length / np.sqrt(2)
    c = lambda s: np.sqrt(g) * (1 + 0.1 * np.sin(2 * np.pi / period * s))
    s = sum(axes(problem)) / np.sqrt(2)
    origin = s
    for _ in range(60):  # contracts by 3 t 0.1 sqrt(g) 2 pi / period < 0.3 at each turn
        origin = s - (3 * c(origin) - 2 * np.sqrt(g)) * time
    speed = 2 * (c(origin) - np.sqrt(g)) / np.sqrt(2)
    return np.stack((speed, speed, c(origin) ** 2 / g))


def test_order_for_an_exact_smooth_wave():
    errors = []
    for n in (24, 48):
        problem = ShallowWater(resolution=n, length=5.0, frames=1, interval=0.4, gravity=1.5)
        (found,) = solve(problem, simple_wave(problem, 0.0))
        errors.append(np.abs(found - simple_wave(problem, 0.4)).mean(axis=(1, 2)))
    assert (np.log2(errors[0] / errors[1]) > 1.8).all()  # limiters are first order at crests, which are few points
    assert (errors[1] < 6e-4).all()  # of a wave that moved by 0.1 in the mean over the points


def test_mass_and_momentum_are_conserved():
    start = waves(SMALL)
    frames = solve(SMALL, start)
    assert np.abs(frames[-1] - start).max() > 0.1
    for frame in frames:
        np.testing.assert_allclose(frame[2].mean(), start[2].mean(), rtol=1e-13)  # rounding
        np.testing.assert_allclose(
            (frame[2] * frame[:2]).mean(axis=(1, 2)), (start[2] * start[:2]).mean(axis=(1, 2)), atol=1e-14
        )


def test_energy_falls_in_bores():
    energy = lambda w: (w[2] * (w[0] ** 2 + w[1] ** 2) / 2 + 0.8 * w[2] ** 2 / 2).mean()
    problem = dataclasses.replace(SMALL, gravity=0.8)
    start = np.asarray(problem.dam_break(jax.random.key(0)))
    energies = [energy(start), *map(energy, solve(problem, start))]
    assert (np.diff(energies) < 0).all()


def test_a_flow_that_is_everywhere_the_same_stays():
    start = np.broadcast_to(np.array([0.4, -0.3, 1.2])[:, None, None], (3, 24, 24))
    np.testing.assert_allclose(solve(SMALL, start), np.broadcast_to(start, (3, 3, 24, 24)), rtol=1e-13)
    start = start * np.array([0, 0, 1])[:, None, None]
    np.testing.assert_array_equal(solve(SMALL, start)[:, :2], 0)  # a lake at rest


def test_shear_does_not_smear():
    """Between layers that slide along each other nothing flows, not even by the dissipation of the flux."""
    x, _ = axes(SMALL)
    start = np.stack((0 * x, np.where(x < 2.5, 0.5, -0.5), 1 + 0 * x))
    np.testing.assert_allclose(solve(SMALL, start)[-1], start, atol=1e-14)


def test_exchanged_and_mirrored_axes():
    start = waves(SMALL)
    found = solve(SMALL, start)
    exchanged = solve(SMALL, start[[1, 0, 2]].transpose(0, 2, 1))
    np.testing.assert_allclose(exchanged, found[:, [1, 0, 2]].transpose(0, 1, 3, 2), atol=1e-13)
    sign = np.array([-1, 1, 1])[:, None, None]
    np.testing.assert_allclose(solve(SMALL, sign * start[:, ::-1]), sign * found[:, :, ::-1], atol=1e-13)
    assert np.abs(exchanged - found).max() > 0.05


def test_gravity_may_differ_between_trajectories():
    keys, gravities = jax.random.split(jax.random.key(1)), jnp.array([0.6, 1.7])
    starts = jax.vmap(SMALL.waves)(keys)
    found = jax.jit(jax.vmap(lambda start, g: SMALL.solve(start, gravity=g)))(starts, gravities)
    for one, start, g in zip(found, starts, gravities, strict=True):
        np.testing.assert_allclose(one, solve(dataclasses.replace(SMALL, gravity=float(g)), start), atol=1e-12)
    assert SMALL.solve(starts[0].astype(jnp.float32)).dtype == jnp.float32


def test_water_stays_where_it_nearly_falls_dry():
    x, _ = axes(SMALL)
    frames = solve(SMALL, np.stack((np.where(x < 2.5, -9.0, 9.0), 0 * x, 1e-3 + 0 * x)))
    assert frames[:, 2].min() > 0
    np.testing.assert_allclose(frames[:, 2].mean(axis=(1, 2)), 1e-3, rtol=1e-12)


def test_a_state_that_is_not_finite_ends_the_steps():
    start = np.ones((3, 24, 24))
    for value in (np.nan, np.inf):
        start[0, 3, 4] = value
        assert np.isnan(solve(SMALL, start)).any()


def test_samples_are_the_radial_dam_break():
    problem = ShallowWater(resolution=20, frames=4, interval=0.1)
    pairs = draw(problem, n=3, seed=5)
    states = joined_frames(pairs)
    assert states.shape == (3, 5, 3, 20, 20)
    assert pairs.outputs[:3] == ("velocity x1 t=0.1", "velocity x2 t=0.1", "height t=0.1")
    assert pairs.outputs[-1] == "height t=0.4"
    assert set(np.unique(states[:, 0, 2])) == {1.0, 2.0}
    area = (states[:, 0, 2] == 2).sum(axis=(1, 2)) * 0.25**2
    assert ((area > np.pi * 0.2**2) & (area < np.pi * 0.8**2)).all()  # radii from 0.3 to 0.7, up to half of a cell
    np.testing.assert_allclose(states[:, -1, 2], states[:, -1, 2, ::-1].transpose(0, 2, 1), atol=1e-6)  # float32
    again = problem.solve(jnp.asarray(states[2, 0], float))
    np.testing.assert_allclose(states[2, 1:], again, atol=1e-6)


def test_waves_have_the_heights_and_speeds_that_were_asked_for():
    start = np.asarray(SMALL.waves(jax.random.key(0), height=0.2, speed=0.4))
    np.testing.assert_allclose(np.abs(start - np.array([0, 0, 1])[:, None, None]).max(axis=(1, 2)), [0.4, 0.4, 0.2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resolution": 3}, "at least 4 cells and 1 frame, got resolution 3"),
        ({"frames": 0}, "frames 0"),
        ({"gravity": 0.0}, "positive length, interval, gravity and inner, and courant up to 1/2, got 5.0, 0.05, 0.0"),
        ({"courant": 0.6}, "and 0.6"),
        ({"largest": 2.6}, "circles within a square of length 5.0, smallest <= largest, got 0.3 and 2.6"),
        ({"smallest": 0.8}, "got 0.8 and 0.7"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        ShallowWater(**settings)


def test_bad_fields_and_precision():
    with pytest.raises(ValueError, match=r"24.*got"):
        SMALL.solve(jnp.ones((3, 16, 16)))
    with jax.enable_x64(False), pytest.raises(ValueError, match="computes in float64, got float32"):
        SMALL.sample(jax.random.key(0))
