import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from sciml.data import draw
from sciml.pdes import Helmholtz


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def wavenumbers(modes):
    """Pairs but (0, 0) by the sum of their squares; of equal ones the smaller first number comes first."""
    return sorted(itertools.product(range(modes), repeat=2), key=lambda k: k[0] ** 2 + k[1] ** 2)[1 : modes + 1]


def speed(theta, x, y):
    g = 0.0
    for coefficient, (k1, k2) in zip(theta, wavenumbers(len(theta)), strict=True):
        mode = np.sqrt(2) ** ((k1 > 0) + (k2 > 0)) * np.cos(np.pi * k1 * x) * np.cos(np.pi * k2 * y)
        g = g + coefficient / (np.pi**2 * (k1**2 + k2**2) + 9) * mode
    return 20 + np.tanh(g)


def load(problem):
    """Flux times hat functions by two-point Gauss rules on a mesh that holds the ends of the source."""
    n = problem.elements
    x = ((np.arange(20 * n)[:, None] + (1 + np.array([-1, 1]) / np.sqrt(3)) / 2) / (20 * n)).ravel()
    end = problem.half_width + max(problem.ramp, 1e-12)
    flux = np.interp(np.abs(x - 0.5), [problem.half_width, end], [1, 0])
    return np.maximum(0, 1 - np.abs(n * x - np.arange(n + 1)[:, None])) @ flux / x.size


def direct(problem, theta):
    """Quadrilaterals numbered anticlockwise, their matrices by quadrature, a sparse factorisation."""
    n, h = problem.elements, 1 / problem.elements
    points, weights = np.polynomial.legendre.leggauss(3)
    x, y = ((1 + grid.ravel()) / 2 for grid in np.meshgrid(points, points))
    shape = np.stack(((1 - x) * (1 - y), x * (1 - y), x * y, (1 - x) * y))
    slope = np.stack((np.stack((y - 1, 1 - y, y, -y)), np.stack((x - 1, -x, x, 1 - x)))) / h
    area = np.outer(weights, weights).ravel() / 4 * h**2
    i, j = (index.ravel() for index in np.meshgrid(np.arange(n), np.arange(n)))
    squares = (problem.omega / speed(theta, (i[:, None] + x) * h, (j[:, None] + y) * h)) ** 2
    elements = np.einsum("dap,dbp,p->ab", slope, slope, area) - np.einsum("ap,bp,ep->eab", shape, shape, area * squares)
    nodes = np.stack((i * (n + 1) + j, (i + 1) * (n + 1) + j, (i + 1) * (n + 1) + j + 1, i * (n + 1) + j + 1), axis=1)
    places = (np.repeat(nodes, 4, axis=1).ravel(), np.tile(nodes, 4).ravel())
    b = np.zeros((n + 1, n + 1))
    b[:, -1] = load(problem)
    u = scipy.sparse.linalg.spsolve(scipy.sparse.coo_array((elements.ravel(), places)).tocsc(), b.ravel())
    return u.reshape(n + 1, n + 1)


DEFAULT = Helmholtz()
SMALL = Helmholtz(omega=170.0, elements=12, modes=17, half_width=0.125, ramp=0.0625)


@pytest.mark.parametrize("problem", [DEFAULT, SMALL], ids=["default", "small"])
def test_wave_agrees_with_a_sparse_direct_solve(problem, x64):
    theta = np.random.default_rng(1).normal(size=problem.modes)
    ours, expected = np.asarray(jax.jit(problem.wave)(theta)), direct(problem, theta)
    # Rounding times the condition number: 2e-14 was measured.
    assert np.linalg.norm(ours - expected) < 1e-11 * np.linalg.norm(expected)
    x, y = np.linspace(0, 1, 4), np.linspace(0, 1, 6)
    np.testing.assert_allclose(problem.speed(jnp.asarray(theta), x, y), speed(theta, x[:, None], y), rtol=1e-14)


def exact(problem, k):
    """Cosine series in x1 of the wave in a medium of the constant wavenumber `k`, at the nodes."""
    w, r = problem.half_width, problem.ramp
    m = np.arange(1, 4000)
    mean = (np.cos(np.pi * m * w) - np.cos(np.pi * m * (w + r))) / (np.pi * m * r)
    flux = np.concatenate(([2 * w + r], 4 * np.cos(np.pi * m / 2) / (np.pi * m) * mean))
    rate = np.sqrt((np.pi * np.arange(4000.0)) ** 2 - k**2 + 0j)
    x, y = problem.grid.points()
    decay = np.exp(np.outer(y - 1, rate)) * (1 + np.exp(-2 * np.outer(y, rate))) / (rate * (1 - np.exp(-2 * rate)))
    return (np.cos(np.pi * np.outer(x, np.arange(4000))) @ (flux[:, None] * decay.T)).real


def test_order_two_in_a_constant_medium(x64):
    errors = []
    for elements in (10, 20, 40):
        problem = Helmholtz(omega=100.0, elements=elements, modes=1, half_width=0.2, ramp=0.1)
        expected = exact(problem, 5.0)
        error = jax.jit(problem.wave)(jnp.zeros(1)) - expected
        errors.append(np.linalg.norm(error) / np.linalg.norm(expected))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert orders == pytest.approx(2, abs=0.15), errors  # the next term is O((k h)^2) relative, 0.25 at first
    assert errors[-1] < 0.02


def test_the_source_drives_the_whole_medium(x64):
    # The equation times 1, integrated: -int k^2 u = length of the source, also if it ends inside an element.
    problem = Helmholtz(omega=130.0, elements=11, modes=1, half_width=0.13, ramp=0.06)
    weights = np.where(np.arange(12) % 11, 1, 0.5) / 11
    total = 6.5**2 * weights @ jax.jit(problem.wave)(jnp.zeros(1)) @ weights
    assert total == pytest.approx(-(2 * 0.13 + 0.06), rel=1e-12)


def test_mirrored_media_have_mirrored_waves(x64):
    theta = np.random.default_rng(2).normal(size=SMALL.modes)
    sign = np.array([(-1.0) ** k1 for k1, _ in wavenumbers(SMALL.modes)])
    wave = jax.jit(SMALL.wave)
    u, mirrored, symmetric = (np.asarray(wave(t)) for t in (theta, theta * sign, theta * (sign > 0)))
    scale = np.abs(u).max()
    assert np.abs(u - u[::-1]).max() > 0.01 * scale
    np.testing.assert_allclose(mirrored, u[::-1], atol=1e-11 * scale)
    np.testing.assert_allclose(symmetric, symmetric[::-1], atol=1e-11 * scale)


def test_statistics():
    # Reference: 12 samples of an independent generator, deviation of u 0.010 to 0.0135 and largest |u| 0.033 to 0.045.
    # Margin 10 %: other samples, and 3 % from the load.
    pairs = draw(DEFAULT, n=12, seed=0, batch=4)
    deviations, largest = pairs.y.std(axis=(1, 2, 3)), np.abs(pairs.y).max(axis=(1, 2, 3))
    assert 0.009 < deviations.min() < deviations.max() < 0.015
    assert 0.030 < largest.min() < largest.max() < 0.050
    # Variance of c: sum of (pi^2 |k|^2 + 9)^-2 up to the tanh; half of it in two modes: 12 samples scatter by 30 %.
    variance = sum((np.pi**2 * (k1**2 + k2**2) + 9) ** -2.0 for k1, k2 in wavenumbers(100))
    assert ((pairs.x - 20) ** 2).mean() == pytest.approx(variance, rel=0.5)
    assert np.abs(pairs.x - 20).max() < 0.5


def test_stored_points():
    pairs, numbers = draw(SMALL, n=2, seed=3), np.arange(13) / 12
    assert pairs.x.shape == pairs.y.shape == (2, 1, 13, 13)
    for points in SMALL.grid.points():
        np.testing.assert_allclose(points, numbers, rtol=1e-14)
    with jax.enable_x64(True):
        theta = jax.random.normal(jax.random.fold_in(jax.random.key(3), 1), (17,), float)
        np.testing.assert_allclose(pairs.x[1, 0], speed(theta, numbers[:, None], numbers), rtol=1e-7)
        np.testing.assert_allclose(pairs.y[1, 0], jax.jit(SMALL.wave)(theta), rtol=1e-6)


def test_a_resonance_is_not_finite(x64):
    singular = Helmholtz(omega=1e-9, elements=4, modes=1)  # constants are nearly in the kernel
    assert jnp.isnan(jax.jit(singular.wave)(jnp.zeros(1))).all()


def test_float64_is_asked_for():
    with pytest.raises(ValueError, match="enable_x64"):
        SMALL.sample(jax.random.key(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"omega": 0.0}, "omega > 0 and modes >= 1, got omega 0.0"),
        ({"modes": 0}, "modes 0"),
        ({"elements": 49}, "wavenumber 50 need at least 50 elements, 6 per wavelength, got 49"),
        ({"half_width": 0.0}, "half_width > 0"),
        ({"ramp": -0.1}, "ramp >= 0"),
        ({"half_width": 0.4, "ramp": 0.2}, "at most 1/2, got half_width 0.4 and ramp 0.2"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Helmholtz(**settings)
