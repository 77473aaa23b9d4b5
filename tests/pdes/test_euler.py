import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from solved_flows import initial, solve, x64  # noqa: F401

from sciml.data import draw, joined_frames
from sciml.pdes import Euler
from sciml.pdes._euler import _rate

SMALL = Euler(resolution=14, frames=2, interval=0.1)


def slow(*values):
    """A case that repeats another one in more dimensions."""
    return pytest.param(*values, marks=pytest.mark.slow)


def axes(problem):
    return np.meshgrid(*problem.grid.points(), indexing="ij")


def riemann(x, left, right, gamma):
    """The exact solution at time 1 of gas at rest with a jump of density and pressure at 0, `left` having the larger.

    Toro (2009), section 4: a rarefaction to the left, a contact, a shock to the right. Returns density, pressure and
    velocity.
    """
    (r0, p0), (r1, p1) = left, right
    c0 = np.sqrt(gamma * p0 / r0)
    shock = lambda p: (p - p1) * np.sqrt(2 / (r1 * ((gamma + 1) * p + (gamma - 1) * p1)))
    fan = lambda p: 2 * c0 / (gamma - 1) * (1 - (p / p0) ** ((gamma - 1) / (2 * gamma)))
    p = scipy.optimize.brentq(lambda p: shock(p) - fan(p), p1, p0)
    v, weak = shock(p), (gamma - 1) / (gamma + 1)
    behind = r1 * (p / p1 + weak) / (weak * p / p1 + 1)
    front = v * behind / (behind - r1)  # mass passes the shock at one rate on both sides
    inner, tail = r0 * (p / p0) ** (1 / gamma), v - c0 * (p / p0) ** ((gamma - 1) / (2 * gamma))
    within = 2 / (gamma + 1) + weak / c0 * (0 - x)
    where = [x < -c0, x < tail, x < v, x < front]
    return (
        np.select(where, [r0 + 0 * x, r0 * np.abs(within) ** (2 / (gamma - 1)), inner, behind], r1),
        np.select(where, [p0 + 0 * x, p0 * np.abs(within) ** (2 * gamma / (gamma - 1)), p, p], p1),
        np.select(where, [0 * x, 2 / (gamma + 1) * (c0 + x), v, v], 0),
    )


@pytest.mark.parametrize(("dimensions", "axis"), [(1, 0), slow(2, 0), (2, 1), slow(3, 1)])
def test_sods_shock_tube(dimensions, axis):
    # The diaphragms are at both sides of the middle half; the waves of the two do not meet within the unit of time.
    errors = []
    for n in (64, 128) if dimensions == 1 else (64,) if dimensions == 2 else (16,):
        problem = Euler(dimensions=dimensions, resolution=n, length=12.0, frames=1, interval=1.0, gamma=1.4)
        line = np.abs(problem.grid.points()[0] - 6) - 3
        exact = np.stack(riemann(line, (1.0, 1.0), (0.125, 0.1), 1.4))
        exact[2] *= np.sign(problem.grid.points()[0] - 6)
        shape = [n if i == axis else 1 for i in range(dimensions)]
        start = np.zeros((2 + dimensions, *(n,) * dimensions))
        start[0] = np.where(line < 0, 1.0, 0.125).reshape(shape)
        start[1] = np.where(line < 0, 1.0, 0.1).reshape(shape)
        (found,) = solve(problem, start)
        others = [2 + i for i in range(dimensions) if i != axis]
        np.testing.assert_allclose(found[others], 0, atol=1e-13)
        one = tuple(slice(None) if i == axis else 0 for i in range(dimensions))
        lines = found[[0, 1, 2 + axis]][(slice(None), *one)]
        np.testing.assert_allclose(
            found[[0, 1, 2 + axis]], np.broadcast_to(lines.reshape(3, *shape), (3, *found.shape[1:]))
        )
        errors.append(np.abs(lines - exact).mean(axis=1))
    assert (errors[-1] < 0.05 * np.array([1, 1, 2]) * 32 / n).all()  # jumps of 1 and a velocity of 0.9 over few cells
    if dimensions == 1:
        assert (
            errors[1] < 0.65 * errors[0]
        ).all()  # first order at shocks, 2/3 at contacts (LeVeque 2002, section 8.7)


def simple_wave(problem, time):
    """A wave along the diagonal into gas at rest of density and pressure 1, exact until it breaks at time 2.

    With `v - 2 c / (gamma - 1)` and the entropy constant, each value moves at the speed `v + c`.
    """
    gamma, d = problem.gamma, problem.dimensions
    rest, period = np.sqrt(gamma), problem.length / np.sqrt(d)
    c = lambda s: rest * (1 + 0.05 * np.sin(2 * np.pi / period * s))
    speed = lambda s: 2 * (c(s) - rest) / (gamma - 1)
    s = sum(axes(problem)) / np.sqrt(d)
    origin = s
    for _ in range(60):  # contracts at each turn
        origin = s - (speed(origin) + c(origin)) * time
    density = (c(origin) / rest) ** (2 / (gamma - 1))
    return np.stack((density, density**gamma, *[speed(origin) / np.sqrt(d)] * d))


@pytest.mark.parametrize("dimensions", [1, slow(2)])
def test_order_for_an_exact_smooth_wave(dimensions):
    errors = []
    for n in (32, 64):
        problem = Euler(dimensions=dimensions, resolution=n, length=3.0, frames=1, interval=0.4, gamma=1.5)
        (found,) = solve(problem, simple_wave(problem, 0.0))
        errors.append(np.abs(found - simple_wave(problem, 0.4)).mean(axis=tuple(range(1, dimensions + 1))))
        assert np.abs(found - simple_wave(problem, 0.0)).mean() > 0.1
    assert (np.log2(errors[0] / errors[1]) > 1.8).all()  # limiters are first order at crests, which are few points
    assert (errors[1] < 2e-3).all()


def vortex(problem, time):
    """The isentropic vortex that the flow carries along (Yee, Sandham & Djomehri, J. Comput. Phys. 150, 1999)."""
    gamma, strength, length = problem.gamma, 4.0, problem.length
    x, y = ((one - v * time) % length - length / 2 for one, v in zip(axes(problem), (0.8, -0.5), strict=True))
    bell = np.exp((1 - x**2 - y**2) / 2) * strength / (2 * np.pi)
    temperature = 1 - (gamma - 1) / (2 * gamma) * bell**2
    density = temperature ** (1 / (gamma - 1))
    return np.stack((density, density * temperature, 0.8 - y * bell, -0.5 + x * bell))


@pytest.mark.slow  # two resolutions in two dimensions
def test_order_for_the_isentropic_vortex():
    errors = []
    for n in (40, 80):
        problem = Euler(resolution=n, length=10.0, frames=1, interval=1.0, gamma=1.4)
        (found,) = solve(problem, vortex(problem, 0.0))
        errors.append(np.abs(found - vortex(problem, 1.0)).mean(axis=(1, 2)))
        assert np.abs(found - vortex(problem, 0.0)).mean() > 0.02
    assert (np.log2(errors[0] / errors[1]) > 1.6).all()  # measured 1.8 to 2: four to eight cells across the core
    assert (errors[1] < 2e-3).all()


@pytest.mark.parametrize("dimensions", [1, slow(2), slow(3)])
def test_mass_momentum_and_energy_are_conserved(dimensions):
    problem = dataclasses.replace(SMALL, dimensions=dimensions, resolution=10, mach=1.5)
    start = initial(problem)

    def totals(w):
        energy = w[1] / (problem.gamma - 1) + w[0] * (w[2:] ** 2).sum(axis=0) / 2
        return [w[0].mean(), energy.mean(), *(w[0] * w[2:]).reshape(dimensions, -1).mean(axis=1)]

    frames = solve(problem, start)
    assert np.abs(frames[-1] - start).max() > 0.1
    for frame in frames:
        np.testing.assert_allclose(totals(frame), totals(start), atol=1e-13)  # rounding


def test_entropy_grows_in_shocks_alone():
    problem = Euler(dimensions=1, resolution=200, frames=8, interval=0.1, mach=1.0, variation=0.0, tau=5.0)
    start = initial(problem)  # of the same entropy everywhere
    entropy = lambda w: (w[0] * np.log(w[1] / w[0] ** (5 / 3))).mean()
    entropies = np.array([entropy(start), *map(entropy, solve(problem, start))])
    assert (np.diff(entropies) > -1e-7).all()
    assert abs(entropies[1]) < 1e-2 * entropies[-1]  # before the first shock


def test_a_uniform_flow_stays():
    start = np.broadcast_to(np.array([1.2, 0.7, 0.4, -0.3])[:, None, None], (4, 14, 14))
    np.testing.assert_allclose(solve(SMALL, start), np.broadcast_to(start, (2, 4, 14, 14)), rtol=1e-13)


def test_contacts_and_shear_at_rest_do_not_smear():
    x, _ = axes(SMALL)
    left = x < 0.5
    start = np.stack((np.where(left, 1.0, 3.0), 1 + 0 * x, 0 * x, np.where(left, 0.5, -0.5)))
    np.testing.assert_allclose(solve(SMALL, start)[-1], start, atol=1e-13)


def test_exchanged_and_mirrored_axes():
    start = initial(SMALL)
    found = solve(SMALL, start)
    exchanged = solve(SMALL, start[[0, 1, 3, 2]].transpose(0, 2, 1))
    np.testing.assert_allclose(exchanged, found[:, [0, 1, 3, 2]].transpose(0, 1, 3, 2), atol=1e-12)
    sign = np.array([1, 1, -1, 1])[:, None, None]
    np.testing.assert_allclose(solve(SMALL, sign * start[:, ::-1]), sign * found[:, :, ::-1], atol=1e-12)
    assert np.abs(exchanged - found).max() > 0.05


@pytest.mark.parametrize("axis", [slow(0), slow(1), 2])
def test_a_box_that_is_constant_along_an_axis_moves_as_a_square(axis):
    """Compared before the steps, which are shorter in the box."""
    square, gamma = dataclasses.replace(SMALL, resolution=10), jnp.asarray(1.4)
    state = initial(square)  # positive enough to stand for density, energy and momenta
    state = np.stack((state[0], 3 + state[1], state[2], state[3]))

    def wide(u):
        return np.repeat(np.expand_dims(np.insert(u, 2 + axis, 0, axis=0), 1 + axis), 5, axis=1 + axis)

    flat, boxed = (jax.jit(functools.partial(_rate, dx=0.1))(jnp.asarray(u), gamma) for u in (state, wide(state)))
    assert np.abs(flat).max() > 1
    np.testing.assert_allclose(boxed, wide(flat), atol=1e-12)


def test_density_and_pressure_stay_positive_where_gas_is_torn_apart():
    """Two rarefactions that leave nearly nothing between them: Toro's test 2 (section 4.3.3), at both signs of x."""
    problem = Euler(dimensions=1, resolution=200, length=4.0, frames=4, interval=0.1, gamma=1.4)
    (x,) = axes(problem)
    frames = solve(problem, np.stack((1 + 0 * x, 0.4 + 0 * x, np.where(x < 2, -2.0, 2.0))))
    assert 0 < frames[:, :2].min() < 0.02
    np.testing.assert_allclose(frames[:, 0].mean(axis=1), 1, rtol=1e-13)


def test_states_that_are_not_possible_become_nan():
    for channel, value in ((0, 0.0), (0, -1.0), (1, -1e-3), (2, np.inf), (3, np.nan)):
        start = np.array(initial(SMALL))
        start[channel, 3, 4] = value
        assert np.isnan(solve(SMALL, start)).any(axis=(1, 2, 3)).all()


def test_samples_are_trajectories():
    problem = Euler(resolution=10, frames=3, interval=0.1, mach=(0.2, 0.6), gamma=(1.3, 1.7))
    pairs = draw(problem, n=3, seed=5)
    states = joined_frames(pairs)
    assert states.shape == (3, 4, 4, 10, 10)
    assert pairs.outputs[:4] == ("density t=0.1", "pressure t=0.1", "velocity x1 t=0.1", "velocity x2 t=0.1")
    assert pairs.parameter_names == ("gamma", "mach")
    at = jax.jit(lambda start, gamma: problem.at(gamma=gamma).solve(start))
    for state, (gamma, mach) in zip(states, pairs.parameters, strict=True):
        assert 1.3 < gamma < 1.7
        assert 0.2 < mach < 0.6
        np.testing.assert_allclose(np.abs(state[0, :2] - 1).max(axis=(1, 2)), 0.3, atol=1e-6)
        np.testing.assert_allclose(np.abs(state[0, 2:]).max(axis=(1, 2)), mach * np.sqrt(gamma), rtol=1e-6)
        again = at(jnp.asarray(state[0], float), jnp.asarray(gamma, float))
        np.testing.assert_allclose(state[1:], again, atol=3e-6)  # float32
    assert Euler(dimensions=1).inputs == ("density t=0", "pressure t=0", "velocity x1 t=0")
    single = dataclasses.replace(problem, gamma=1.4)
    assert single.solve(jnp.ones((4, 10, 10), jnp.float32)).dtype == jnp.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dimensions": 4}, "Expected 1, 2 or 3 dimensions, got 4"),
        ({"resolution": 7}, "at least 8 cells and 1 frame, got resolution 7"),
        ({"interval": 0.0}, "positive length and interval, got length 1.0 and interval 0.0"),
        ({"courant": 0.6}, r"courant up to 1/2, got variation 0\.3 and courant 0\.6"),
        ({"variation": 1.0}, r"a variation in \[0, 1\)"),
        ({"gamma": 1.0}, "gamma > 1 and mach >= 0, got gamma 1.0"),
        ({"gamma": (1.0, 1.4)}, r"gamma > 1 and mach >= 0, got gamma \(1\.0, 1\.4\)"),
        ({"alpha": 1.0}, "alpha > 1 and tau > 0, got alpha 1.0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Euler(**settings)


def test_bad_fields_and_precision():
    with pytest.raises(ValueError, match=r"14.*got"):
        SMALL.solve(jnp.ones((4, 16, 16)))
    with jax.enable_x64(False), pytest.raises(ValueError, match="computes in float64, got float32"):
        SMALL.sample(jax.random.key(0))
