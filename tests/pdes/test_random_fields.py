import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft
import scipy.stats

from sciml.pdes import neumann_field, periodic_field

SAMPLES = 3000
SHAPES = [(12,), (6, 9), (4, 5, 6)]


def fields(field, shape, alpha, tau, samples=SAMPLES):
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(7), samples)
        return np.asarray(jax.jit(jax.vmap(lambda key: field(key, shape, alpha=alpha, tau=tau)))(keys))


def assert_chi_square(squares, degrees):
    """Sums of squares of standard normals; the bound is left by chance once in 10^6 keys, over all modes together."""
    tail = 0.5e-6 / squares.size
    low, high = scipy.stats.chi2.ppf([tail, 1 - tail], np.reshape(degrees, (-1, 1))).T
    assert (squares.ravel() > low).all()
    assert (squares.ravel() < high).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_neumann_spectrum(shape):
    alpha, tau, d = 1.7, 3.0, len(shape)
    axes = tuple(range(1, d + 1))
    x = fields(neumann_field, shape, alpha, tau)
    amplitudes = scipy.fft.dctn(x, axes=axes, norm="ortho") / np.sqrt(np.prod(shape))  # of L2-orthonormal cosines
    squares = functools.reduce(np.add.outer, [(np.pi * np.arange(n)) ** 2 for n in shape])
    variance = tau ** (2 * alpha - d) * (squares + tau**2) ** -alpha
    normal = (amplitudes / np.sqrt(variance)).reshape(SAMPLES, -1)[:, 1:]
    assert_chi_square((normal**2).sum(0), np.full(normal.shape[1], SAMPLES))
    assert np.abs(x.mean(axes)).max() < 1e-14  # rounding: the constant mode is absent


@pytest.mark.parametrize("shape", SHAPES)
def test_periodic_spectrum(shape):
    alpha, tau, d = 2.5, 7.0, len(shape)
    axes = tuple(range(1, d + 1))
    x = fields(periodic_field, shape, alpha, tau)
    amplitudes = np.fft.fftn(x, axes=axes) / np.prod(shape)
    waves = [np.fft.fftfreq(n, 1 / n) for n in shape]
    squares = functools.reduce(np.add.outer, [(2 * np.pi * k) ** 2 for k in waves])
    variance = tau ** (2 * alpha - d) * (squares + tau**2) ** -alpha
    own_mirror = functools.reduce(np.logical_and.outer, [(2 * k) % len(k) == 0 for k in waves])  # real amplitudes
    degrees = np.where(own_mirror, 1, 2)
    normal = (np.abs(amplitudes) ** 2 * degrees / variance).reshape(SAMPLES, -1)[:, 1:]
    assert_chi_square(normal.sum(0), degrees.ravel()[1:] * SAMPLES)
    assert np.abs(x.mean(axes)).max() < 1e-14


def test_periodic_field_is_the_published_initial_vorticity():
    s, key = 8, jax.random.key(3)
    with jax.enable_x64(True):
        z = np.asarray(jax.random.normal(key, (s, s), complex))
        ours = np.asarray(periodic_field(key, (s, s), alpha=2.5, tau=7.0))
    k = np.fft.fftfreq(s, 1 / s)
    modes = s**2 * np.sqrt(2) * 7**1.5 * (4 * np.pi**2 * (k[:, None] ** 2 + k**2) + 49) ** -1.25 * z
    modes[0, 0] = 0
    np.testing.assert_allclose(ours, np.fft.ifft2(modes).real, rtol=0, atol=1e-14)


def expected_interfaces(n, alpha, tau):
    """Chance that neighbours along axis 0 differ in sign, `arccos(correlation) / pi`, averaged over the grid."""
    k = np.arange(n)
    basis = scipy.fft.idct(np.eye(n), axis=0, norm="ortho")
    variance = (np.pi**2 * (k[:, None] ** 2 + k**2) + tau**2) ** -alpha
    variance[0, 0] = 0
    spread = basis**2 @ variance @ (basis**2).T
    shared = (basis[1:] * basis[:-1]) @ variance @ (basis**2).T
    return (np.arccos(shared / np.sqrt(spread[1:] * spread[:-1])) / np.pi).mean()


@pytest.mark.parametrize(("tau", "at_256"), [(3.0, 0.00903), (5.0, 0.01272), (20.0, 0.04162)])
def test_interface_density(tau, at_256):
    n = 64
    phase = fields(neumann_field, (n, n), 2.0, tau, samples=300) >= 0
    density = (phase[:, 1:] != phase[:, :-1]).mean(axis=(1, 2))
    error = density.std() / np.sqrt(len(density))
    assert abs(density.mean() - expected_interfaces(n, 2.0, tau)) < 4 * error  # left by chance once in 16000 keys
    assert expected_interfaces(256, 2.0, tau) == pytest.approx(at_256, rel=1e-3)  # four digits are stored


def test_fields_follow_the_default_precision():
    key = jax.random.key(0)
    assert neumann_field(key, (4, 5), alpha=2.0, tau=3.0).dtype == jnp.float32
    assert periodic_field(key, (4, 5), alpha=2.0, tau=3.0).dtype == jnp.float32
    with jax.enable_x64(True):
        assert neumann_field(key, (4, 5), alpha=2.0, tau=3.0).dtype == jnp.float64
