"""Convolutions against NumPy, explicit loops and JAX's own derivatives; sizes differ so that no axis can be swapped."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.grid import Dirichlet, Neumann, Periodic
from sciml.nn import Conv, Prolongation

MODES = {Dirichlet(): "constant", Neumann(): "reflect", Neumann(gap=0.5): "symmetric", Periodic(): "wrap"}
MIXED = ((Neumann(), Dirichlet()), Periodic(), (Dirichlet(), Neumann(gap=0.5)))


def pad_with_numpy(x, sides, before, after):
    for axis, ((low, high), lower, upper) in enumerate(zip(sides, before, after, strict=True), start=1):
        none = [(0, 0)] * x.ndim
        width = list(none)
        width[axis] = (lower, 0)
        left = np.take(np.pad(x, width, mode=MODES[low]), range(lower), axis)
        width[axis] = (0, upper)
        right = np.take(np.pad(x, width, mode=MODES[high]), range(x.shape[axis], x.shape[axis] + upper), axis)
        x = np.concatenate((left, x, right), axis)
    return x


def correlate_with_loops(x, weight, stride):
    """y[o, i] = sum over a, c of w[a, c, o] x[c, stride i + a] on the points where the kernel fits."""
    kernel = weight.shape[:-2]
    shape = tuple((n - k) // stride + 1 for n, k in zip(x.shape[1:], kernel, strict=True))
    y = np.zeros((weight.shape[-1], *shape))
    for at in np.ndindex(*kernel):
        window = tuple(slice(a, a + stride * (m - 1) + 1, stride) for a, m in zip(at, shape, strict=True))
        y += np.einsum("c...,co->o...", x[(slice(None), *window)], weight[at])
    return y


CONVS = [
    ((8,), (3,), 1),
    ((9,), (5,), 2),
    ((6, 7), (3, 3), 1),
    ((6, 10), (3, 3), 2),
    ((6, 8), (4, 2), 2),
    ((4, 6, 8), (3, 3, 3), 2),
]


@pytest.mark.parametrize(("shape", "kernel", "stride"), CONVS)
@pytest.mark.parametrize("boundary", [Dirichlet(), Neumann(), Periodic(), MIXED], ids=str)
def test_conv_equals_padding_and_loops(shape, kernel, stride, boundary, getkey):
    boundary = boundary[: len(shape)] if isinstance(boundary, tuple) else boundary
    with jax.enable_x64(True):
        conv = Conv(3, 4, kernel=kernel, stride=stride, boundary=boundary, key=getkey())
        x = jax.random.normal(getkey(), (3, *shape))
        before, after = tuple((k - 1) // 2 for k in kernel), tuple(k // 2 for k in kernel)
        padded = pad_with_numpy(np.asarray(x), conv.sides, before, after)
        expected = correlate_with_loops(padded, np.asarray(conv.weight), stride)
        expected += np.asarray(conv.bias).reshape(-1, *(1,) * len(shape))
        np.testing.assert_allclose(conv(x), expected, rtol=0, atol=1e-13)  # rounding of sums of 81 terms of size 1


def _each(boundary, dimensions):
    return boundary if isinstance(boundary, tuple) else (boundary,) * dimensions


@pytest.mark.parametrize("fine", [(8,), (7,), (5, 8), (6, 10), (7, 5), (4, 5, 6)])
def test_prolongation_equals_loops(fine, getkey):
    with jax.enable_x64(True):
        prolong = Prolongation(3, 2, fine=fine, key=getkey())
        x = jax.random.normal(getkey(), (3, *((n + 1) // 2 for n in fine)))
        w = np.asarray(prolong.weight)
        y = np.zeros((2, *fine))
        for node in np.ndindex(*x.shape[1:]):
            for at in np.ndindex(*w.shape[:-2]):
                to = tuple(2 * i + a - 1 for i, a in zip(node, at, strict=True))
                if all(0 <= t < n for t, n in zip(to, fine, strict=True)):
                    y[(slice(None), *to)] += w[at] @ np.asarray(x[(slice(None), *node)])
        np.testing.assert_allclose(prolong(x), y, rtol=0, atol=1e-13)


def test_prolongation_has_three_points_on_odd_and_four_on_even_axes(getkey):
    assert Prolongation(2, 3, fine=(9, 8), key=getkey()).weight.shape == (3, 4, 3, 2)


def test_linear_interpolation_is_a_prolongation_to_an_odd_grid(getkey):
    prolong = Prolongation(1, 1, fine=(9, 13), key=getkey())
    line = jnp.array([0.5, 1.0, 0.5])
    prolong = eqx.tree_at(lambda p: p.weight, prolong, jnp.outer(line, line)[..., None, None])
    plane = lambda n, m: jnp.linspace(0, 1, n)[:, None] + 2 * jnp.linspace(0, 1, m)[None, :] + jnp.ones((n, m))
    # float32: 4 terms of size up to 4
    np.testing.assert_allclose(prolong(plane(5, 7)[None])[0], plane(9, 13), rtol=0, atol=2e-6)


@pytest.mark.parametrize("axis", [1, 2])
def test_periodic_maps_commute_with_shifts(axis, getkey):
    """A shift by a node under a convolution; of a prolongation a shift by one coarse node is one by two fine nodes."""
    conv = Conv(2, 3, kernel=(3, 3), boundary=Periodic(), key=getkey())
    prolong = Prolongation(2, 3, fine=(12, 16), boundary=Periodic(), key=getkey())
    x = jax.random.normal(getkey(), (2, 6, 8))
    np.testing.assert_allclose(conv(jnp.roll(x, 1, axis)), jnp.roll(conv(x), 1, axis), atol=1e-6)
    np.testing.assert_allclose(prolong(jnp.roll(x, 1, axis)), jnp.roll(prolong(x), 2, axis), atol=1e-6)


def test_initial_weights_have_the_variance_of_their_fan_in(getkey):
    conv = Conv(16, 24, kernel=(3, 3), key=getkey())
    prolong = Prolongation(16, 24, fine=(8, 9), key=getkey())
    for weight, fan_in in ((conv.weight, 16 * 9), (prolong.weight, 24 * 12)):
        bound = fan_in**-0.5
        assert jnp.max(jnp.abs(weight)) <= bound
        assert jnp.max(jnp.abs(weight)) > 0.99 * bound
        # relative deviation of the variance of n uniform numbers: sqrt(0.8 / n); five of them
        np.testing.assert_allclose(jnp.var(weight), bound**2 / 3, rtol=5 * (0.8 / weight.size) ** 0.5)


def test_errors_name_the_remedy(getkey):
    conv = Conv(2, 3, kernel=(3, 3), stride=2, boundary=Periodic(), key=getkey())
    with pytest.raises(ValueError, match="Expected 2 channels on a grid of 2 dimensions, got 3 channels"):
        conv(jnp.ones((3, 8, 8)))
    with pytest.raises(ValueError, match=r"got 5 channels on a grid of shape \(2, 8, 8\).*jax.vmap"):
        conv(jnp.ones((5, 2, 8, 8)))
    with pytest.raises(ValueError, match=r"kernels of 3 points along each axis, got \(3, 4\)"):
        Conv(2, 3, kernel=(3, 4), inner=True, key=getkey())
    with pytest.raises(ValueError, match=r"expects the coarse shape \(4, 5\), got \(5, 4\)"):
        Prolongation(2, 3, fine=(8, 9), key=getkey())(jnp.ones((2, 5, 4)))
