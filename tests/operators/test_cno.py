"""What the CNO's filters keep and drop, and that the operator acts on band-limited functions rather than on grids."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import filtered_activation, gelu
from sciml.nn._filtered import _matrix
from sciml.operators import CNO, UNet

N, OTHER = 12, 17


def identity(x):
    return x


def filtered(activation, x, source, target):
    """For one field without channels."""
    call = jax.jit(lambda x: filtered_activation(activation, x[None, ..., None], source, target)[0, ..., 0])
    return call(jnp.asarray(x))


def trigonometric(n, coefficients):
    """Sum of the real parts of c exp(i (k x + q y)) over the frequencies (k, q) on a grid of n points."""
    x, y = (2 * np.pi * np.arange(m) / m for m in n)
    waves = [(c * np.exp(1j * (k * x[:, None] + q * y[None, :]))).real for (k, q), c in coefficients.items()]
    return np.sum(waves, axis=0)


def random_coefficients(highest):
    rng = np.random.default_rng(0)
    span = range(-highest, highest + 1)
    return {(k, q): complex(*rng.normal(size=2)) / len(span) for k in span for q in span}


@pytest.mark.parametrize("to", [(N, OTHER), (6, 9), (7, 30)])
def test_the_filtered_square_is_the_projected_square(to):
    """Exact, as the doubled grid holds all of a square; the filter keeps what both grids hold."""
    source, half = Grid((N, OTHER)), random_coefficients(5)
    with jax.enable_x64(True):
        y = filtered(jnp.square, trigonometric((N, OTHER), half), source, source.with_shape(to))
        fine = trigonometric((64, 96), half) ** 2
        spectrum = np.fft.fft2(fine) / fine.size
        kept = [[k for k in range(-30, 31) if 2 * abs(k) < min(n, m)] for n, m in zip((N, OTHER), to, strict=True)]
        expected = trigonometric(to, {(k, q): spectrum[k, q] for k in kept[0] for q in kept[1]})
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-11 * np.abs(fine).max())


def shifted(x, by):
    """The trigonometric interpolant of a field with an odd number of points, moved by a part of the spacing."""
    phase = np.exp(-2j * np.pi * np.fft.fftfreq(len(x)) * by)
    return np.fft.ifft(np.fft.fft(x, axis=0) * phase.reshape(-1, *(1,) * (x.ndim - 1)), axis=0).real


def defect(function, x, by=0.3):
    y = np.asarray(function(x))
    return np.abs(np.asarray(function(shifted(x, by))) - shifted(y, by)).max() / np.abs(y).max()


def test_shifts_by_a_part_of_the_spacing_commute_with_the_activation():
    """Against the same activation on the points themselves, which makes aliases."""
    grid = Grid((OTHER,))
    x = trigonometric((OTHER, 1), random_coefficients(4))[:, 0]
    with jax.enable_x64(True):
        clean = defect(lambda x: filtered(gelu, x, grid, grid), x)
        plain = defect(lambda x: gelu(jnp.asarray(x)), x)
    assert clean < 0.1 * plain


def test_shifts_by_a_part_of_the_spacing_commute_with_the_operator(getkey):
    """Against a network of the same kind with plain activations; stencils and normalisations commute with shifts."""
    grid = Grid((25,))
    cno = eqx.filter_jit(CNO(1, 1, grid=grid, width=4, levels=1, blocks=(1, 1), key=getkey()))
    unet = eqx.filter_jit(UNet(1, 1, grid=grid, widths=(4, 8), key=getkey()))
    x = trigonometric((25, 1), random_coefficients(4))[:, 0]
    clean, plain = (defect(lambda x, m=m: m(jnp.asarray(x, jnp.float32)[None])[0], x) for m in (cno, unet))
    assert clean < 0.1 * plain


@pytest.mark.parametrize("boundary", [Periodic(), Neumann(), Neumann(gap=0.5)], ids=str)
@pytest.mark.parametrize("to", [2, 5, N, 23])
def test_constants_remain_constants(boundary, to):
    grid = Grid((N,), boundary=boundary)
    with jax.enable_x64(True):
        y = filtered(identity, np.full(N, 3.0), grid, grid.with_shape((to,)))
    np.testing.assert_allclose(y, np.full(to, 3.0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("boundary", [Neumann(), Neumann(gap=0.5)], ids=str)
@pytest.mark.parametrize("to", [20, 80])
def test_waves_pass_a_wall_filter_below_its_limit_and_no_others(boundary, to):
    """The window's attenuation is 60 dB, each of the two interpolations adds 1e-3."""
    grid = Grid((40,), boundary=boundary)
    target = grid.with_shape((to,))
    at = lambda grid, k: np.cos(np.pi * k * grid.points()[0])
    limit = min(40, to)  # half waves on the axis
    with jax.enable_x64(True):
        low, high = (filtered(identity, at(grid, k), grid, target) for k in (int(0.7 * limit), int(1.4 * limit)))
    np.testing.assert_allclose(low, at(target, int(0.7 * limit)), rtol=0, atol=4e-3)
    if to < 40:
        assert np.abs(high).max() < 4e-3


def test_a_field_continues_with_zeros_beyond_a_dirichlet_wall():
    """As on a grid that has them stored, and is as wide on each side as the window."""
    pad = 16
    grid = Grid((N,), boundary=Dirichlet())
    h = grid.spacing[0]
    wide = Grid((N + 2 * pad,), extent=(N + 2 * pad + 1) * h, boundary=Dirichlet())
    x = np.random.default_rng(0).normal(size=N)
    # With 2 n + 1 points between the walls both grids are halved, so that their points agree.
    matrix, around = (_matrix(g, g.with_shape((2 * g.shape[0] + 1,)), g, 0) for g in (grid, wide))
    np.testing.assert_allclose(matrix @ x, (around @ np.pad(x, pad))[2 * pad : -2 * pad], rtol=0, atol=1e-13)


def test_errors_name_the_remedy(getkey):
    grid = Grid((8, 4), boundary=(Dirichlet(), Neumann()))
    with pytest.raises(ValueError, match=r"Expected a field on \(8, 4\), got one on \(4, 8\)"):
        filtered_activation(gelu, jnp.ones((1, 4, 8, 2)), grid, grid)
    with pytest.raises(ValueError, match=r"at least 2 points along each axis.*Use fewer levels or a finer grid"):
        eqx.filter_eval_shape(
            lambda key, x: CNO(2, 3, grid=grid, width=4, levels=2, blocks=(0, 0), key=key)(x),
            getkey(),
            jnp.ones((2, 8, 4)),
        )
