import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from solved_flows import initial, solve, x64  # noqa: F401

from sciml.data import draw, joined_frames
from sciml.pdes import FisherKPP, GrayScott, SwiftHohenberg

SHORT = {"frames": 3, "alpha": 4.0}
SMALL = {
    "fisher": FisherKPP(resolution=14, length=1.5, interval=0.4, rate=1.7, diffusivity=0.02, step=0.05, **SHORT),
    "gray_scott": GrayScott(resolution=14, length=0.2, interval=40.0, tau=8.0, step=1.0, **SHORT),
    "swift_hohenberg": SwiftHohenberg(resolution=14, length=9.0, quadratic=0.6, step=0.05, tau=10.0, **SHORT),
}


def test_fronts_of_fisher_move_as_ablowitz_and_zeppetella_found():
    d, r = 0.02, 3.0
    problem = FisherKPP(resolution=512, length=12.0, frames=3, interval=0.5, step=5e-3, diffusivity=d, rate=r)
    speed = 5 * np.sqrt(d * r / 6)
    place = lambda t: np.abs(problem.grid.points()[0] - 6.0) - 3.0 - speed * t
    exact = lambda t: (1 + np.exp(place(t) * np.sqrt(r / (6 * d)))) ** -2
    found = solve(problem, exact(0.0)[None])
    for frame, t in zip(found, (0.5, 1.0, 1.5), strict=True):
        # A kink of 2 exp(-15) = 6e-7 at the centre. Steeper waves would be faster than 2 sqrt(d r), this one is stable.
        np.testing.assert_allclose(frame[0], exact(t), atol=2e-6)
    assert np.abs(found[-1] - exact(0.0)).max() > 0.8


def reactions(name):
    """Multipliers of the Laplacian's and the constant linear terms, and all other terms."""
    if name == "fisher":
        return [0.02], lambda u: 1.7 * u * (1 - u)
    if name == "gray_scott":
        f, k = 0.029, 0.057
        return [2e-5, 1e-5], lambda w: np.stack((-w[0] * w[1] ** 2 + f * (1 - w[0]), w[0] * w[1] ** 2 - (f + k) * w[1]))
    return None, lambda u: 0.7 * u + 0.6 * u**2 - u**3


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("name", SMALL)
def test_the_method_of_lines_of_scipy(name, dimensions):
    n = 14 if dimensions < 3 else 10
    problem = dataclasses.replace(SMALL[name], dimensions=dimensions, resolution=n)
    m = np.abs(np.fft.fftfreq(n, 1 / n))
    every = np.meshgrid(*[m] * dimensions, indexing="ij")
    keep = np.all([one * (problem.degree + 1) < n for one in every], axis=0)
    squared = (2 * np.pi / problem.length) ** 2 * sum(one**2 for one in every)
    axes = tuple(range(1, dimensions + 1))
    spectral = lambda fields, factor: np.fft.ifftn(factor * np.fft.fftn(fields, axes=axes), axes=axes).real
    diffusivities, reaction = reactions(name)
    if diffusivities is None:
        linear = -((1 - squared) ** 2)[None]
    else:
        linear = -np.array(diffusivities).reshape(-1, *(1,) * dimensions) * squared
    start = initial(problem)

    def rate(_, y):
        fields = y.reshape(start.shape)
        return (spectral(fields, linear * keep) + spectral(reaction(fields), keep)).ravel()

    times = problem.interval * np.arange(1, 4)
    exact = scipy.integrate.solve_ivp(rate, (0, times[-1]), start.ravel(), "DOP853", times, rtol=1e-9, atol=1e-11)
    found = solve(problem, start)
    assert np.abs(found[-1] - start).max() > 0.02
    # fourth order in steps of 0.05, or 1 with rates of 0.1, of terms whose derivatives are about 1
    np.testing.assert_allclose(found, exact.y.T.reshape(found.shape), atol=2e-5)


@pytest.mark.parametrize("name", SMALL)
def test_order_in_time(name):
    start = initial(SMALL[name])
    interval = SMALL[name].interval
    steps = (interval / 64, interval / 8, interval / 16)
    exact, coarse, fine = (solve(dataclasses.replace(SMALL[name], step=step), start)[-1] for step in steps)
    ratio = np.linalg.norm(coarse - exact) / np.linalg.norm(fine - exact)
    assert np.log2(ratio) == pytest.approx(4, abs=0.7)  # higher orders of the coarser step


@pytest.mark.parametrize(
    ("problem", "rest", "rate"),
    [
        (FisherKPP(diffusivity=0.01, rate=0.9), [0.0], lambda k2: [0.9 - 0.01 * k2]),
        (SwiftHohenberg(length=9.0, control=0.4, quadratic=0.3), [0.0], lambda k2: [0.4 - (1 - k2) ** 2]),
        (GrayScott(feed=0.03, kill=0.06), [1.0, 0.0], lambda k2: [-0.03 - 2e-5 * k2, -0.09 - 1e-5 * k2]),
    ],
)
def test_small_waves_grow_at_the_linear_rates(problem, rest, rate):
    small = 1e-6
    problem = dataclasses.replace(problem, dimensions=2, resolution=20, frames=2, interval=0.5)
    x, y = np.meshgrid(*problem.grid.points(), indexing="ij")
    wave = np.cos(2 * np.pi / problem.length * (x - 2 * y))
    rates = np.array(rate(5 * (2 * np.pi / problem.length) ** 2))
    rest = np.array(rest)[:, None, None]
    for frame, t in zip(solve(problem, rest + small * wave), (0.5, 1.0), strict=True):
        expected = np.exp(rates * t)[:, None, None] * wave
        np.testing.assert_allclose((frame - rest) / small, expected, atol=1e-5)  # squares of 1e-6 over 1e-6, and dt^4


@pytest.mark.parametrize("name", SMALL)
def test_fields_that_are_constant_along_axes(name):
    line = dataclasses.replace(SMALL[name], dimensions=1, resolution=10)
    start = initial(line)
    found = solve(line, start)
    for dimensions, axis in ((2, 0), (2, 1), (3, 1)):
        box = dataclasses.replace(line, dimensions=dimensions)
        shape = [10 if i == axis else 1 for i in range(dimensions)]

        def wide(fields, shape=shape):
            return fields.reshape(*fields.shape[:-1], *shape) * np.ones((10,) * len(shape))

        np.testing.assert_allclose(solve(box, wide(start)), wide(found), atol=1e-12)


def test_swift_hohenberg_lowers_its_potential():
    problem = dataclasses.replace(SMALL["swift_hohenberg"], frames=8, quadratic=0.0)
    start = initial(problem)
    m = np.fft.fftfreq(14, 1 / 14)
    squared = (2 * np.pi / problem.length) ** 2 * (m[:, None] ** 2 + m**2)

    def potential(u):
        operated = np.fft.ifft2((1 - squared) * np.fft.fft2(u)).real
        return (operated**2 / 2 - 0.7 * u**2 / 2 + u**4 / 4).mean()

    assert (np.diff([potential(state[0]) for state in (start, *solve(problem, start))]) < 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "coarse", [FisherKPP(), FisherKPP(dimensions=2), SwiftHohenberg(), GrayScott()], ids=lambda one: type(one).__name__
)
def test_the_default_resolution_and_step_suffice(coarse):
    n, d = coarse.resolution, coarse.dimensions
    fine = dataclasses.replace(coarse, resolution=2 * n, step=coarse.step / 2)
    u = initial(coarse)
    axes = tuple(range(1, d + 1))
    modes = np.fft.fftshift(np.fft.fftn(u, axes=axes), axes)
    modes = np.fft.ifftshift(np.pad(modes, [(0, 0), *[(n // 2, n // 2)] * d]), axes)
    expected = solve(fine, np.fft.ifftn(modes, axes=axes).real * 2**d)
    found = solve(coarse, u)
    error = np.linalg.norm(found - expected[(..., *[slice(None, None, 2)] * d)]) / np.linalg.norm(found)
    # Measured 1e-8, 1e-8, 1e-5 and 1e-4; errors of the models to be trained are above 1e-3 here.
    assert error < 3e-4
    if d > 1:
        assert found[-1].std() > 0.05  # patterns, not rest


def test_samples_are_trajectories():
    pairs = draw(SMALL["gray_scott"], n=2, seed=3)
    states = joined_frames(pairs)
    assert states.shape == (2, 4, 2, 14, 14)
    assert pairs.inputs == ("substrate t=0", "activator t=0")
    assert pairs.outputs[2:4] == ("substrate t=80", "activator t=80")
    np.testing.assert_allclose(states[1, 1:], solve(SMALL["gray_scott"], states[1, 0].astype(float)), atol=1e-6)
    density = draw(SMALL["fisher"], n=2, seed=0).x[:, 0]
    np.testing.assert_allclose([density.min(axis=1), density.max(axis=1)], [[0, 0], [1, 1]], atol=1e-6)
    field = joined_frames(draw(SMALL["swift_hohenberg"], n=2, seed=0))[:, 0]
    np.testing.assert_allclose(np.abs(field).max(axis=(1, 2, 3)), 0.5, rtol=1e-6)


RANGES = [
    ("fisher", {"diffusivity": (0.01, 0.05), "rate": (0.5, 2.0)}),
    ("gray_scott", {"feed": (0.02, 0.06), "kill": (0.05, 0.065)}),
    ("swift_hohenberg", {"control": (-0.2, 0.7), "quadratic": (0.0, 1.0)}),
]


@pytest.mark.parametrize(("name", "ranges"), RANGES)
def test_constants_may_be_ranges(name, ranges):
    problem = dataclasses.replace(SMALL[name], **ranges)
    pairs = draw(problem, n=2, seed=3)
    assert set(pairs.parameter_names) == set(ranges)
    for state, constants in zip(joined_frames(pairs), pairs.parameters, strict=True):
        chosen = dict(zip(pairs.parameter_names, map(float, constants), strict=True))
        assert all(low < chosen[key] < high for key, (low, high) in ranges.items())
        found = solve(dataclasses.replace(problem, **chosen), state[0].astype(float))
        np.testing.assert_allclose(state[1:], found, atol=3e-6)  # float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FisherKPP(step=0.0), "positive interval and step, got interval 0.05 and step 0.0"),
        (lambda: FisherKPP(diffusivity=-1.0), r"The shortest wave, .* grows at the linear rate"),
        (lambda: FisherKPP(diffusivity=(1e-9, 1e-3)), r"shortest wave, 0\.0238, grows .* or more points"),
        (lambda: GrayScott(activator_diffusivity=-1.0), "grows at the linear rate"),
        (lambda: SwiftHohenberg(length=250.0), "grows at the linear rate"),
        (lambda: SwiftHohenberg(dimensions=0), "Expected 1, 2 or 3 dimensions, got 0"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_fields_and_precision():
    problem = SMALL["gray_scott"]
    with pytest.raises(ValueError, match=r"14.*got"):
        problem.solve(jnp.ones((2, 8, 8)))
    for one in SMALL.values():
        start = jnp.ones((len(one.names), *one.grid.shape), jnp.float32)
        assert jax.eval_shape(one.solve, start).dtype == jnp.float32
    with jax.enable_x64(False), pytest.raises(ValueError, match="computes in float64, got float32"):
        problem.sample(jax.random.key(0))
