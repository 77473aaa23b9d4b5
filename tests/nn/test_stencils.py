"""The forms of a correlation and of its gradients against those that JAX derives, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sciml.nn import _stencils
from sciml.nn._stencils import Stencil, correlation

BATCH, IN, OUT = 3, 2, 5
TOLERANCE = {"rtol": 0, "atol": 2e-12}  # rounding of sums of some hundred terms of size 1

STENCILS = [
    Stencil((3, 3), (1, 1), (1, 1), (8, 6), (8, 6)),
    Stencil((3, 3), (2, 2), (1, 1), (8, 6), (4, 3)),
    Stencil((3, 3), (2, 2), (0, 0), (10, 11), (4, 5)),
    Stencil((3, 4), (2, 2), (1, 1), (7, 6), (4, 3)),
    Stencil((4, 3), (2, 2), (3, 3), (8, 5), (6, 5)),
    Stencil((3, 3), (3, 3), (1, 1), (9, 6), (3, 2)),
    Stencil((5,), (2,), (2,), (9,), (5,)),
    Stencil((4, 3, 4), (2, 2, 2), (1, 1, 1), (6, 7, 4), (3, 4, 2)),
    Stencil((3, 3, 3), (1, 1, 1), (1, 1, 1), (4, 5, 6), (4, 5, 6)),
]


@pytest.fixture(params=STENCILS, ids=lambda s: f"{s.kernel}-{s.stride}-{s.fine}")
def stencil(request, monkeypatch):
    monkeypatch.setattr(_stencils, "_POINTS_PER_PRODUCT", 40)  # several blocks of rows, the last one shorter
    with jax.enable_x64(True):
        yield request.param


def plain(x, w, stencil):
    axes = "DHW"[-len(stencil.kernel) :]
    layout = (f"N{axes}C", f"{axes}IO", f"N{axes}C")
    return lax.conv_general_dilated(x, w, stencil.stride, stencil.padding, None, None, layout)


def operands(stencil, getkey, leading=(BATCH,)):
    x = jax.random.normal(getkey(), (*leading, *stencil.fine, IN))
    w = jax.random.normal(getkey(), (*stencil.kernel, IN, OUT))
    y = jax.random.normal(getkey(), (*leading, *stencil.coarse, OUT))
    return x, w, y


def close(actual, expected):
    jax.tree.map(functools.partial(np.testing.assert_allclose, **TOLERANCE), actual, expected)


def test_values_and_gradients_of_first_and_second_order(stencil, getkey):
    x, w, y = operands(stencil, getkey)
    dx, dw, _ = operands(stencil, getkey)
    ours, theirs = (functools.partial(f, stencil) for f in (_forward, lambda s, x, w: plain(x, w, s)))

    @functools.partial(jax.jit, static_argnums=0)
    def everything(f, x, w, y, dx, dw):
        gradient = jax.grad(lambda x, w: jnp.sum(f(x, w) ** 2 * y), (0, 1))
        return jax.jvp(f, (x, w), (dx, dw)), jax.jvp(gradient, (x, w), (dx, dw))

    close(everything(ours, x, w, y, dx, dw), everything(theirs, x, w, y, dx, dw))


def _forward(stencil, x, w):
    return correlation.forward(x, w, stencil)


@pytest.mark.parametrize("stencil", [STENCILS[0], STENCILS[3]], indirect=True, ids=str)
def test_every_order_of_vmap_and_grad(stencil, getkey):
    """Gradient of a batch, batch of gradients, and batches of weights, against the plain convolution."""
    x, w, y = operands(stencil, getkey, leading=(4, 1))
    several = jnp.stack((w, 2 * w + 1, w**2, -w))

    def everything(f):
        loss = lambda w, x, y: jnp.sum(f(x, w) ** 2 * y)
        batched = lambda w: jnp.sum(jax.vmap(loss, (None, 0, 0))(w, x, y))
        return (
            jax.vmap(f, (0, None))(x, w),
            jax.vmap(f, (1, None), 1)(jnp.swapaxes(x, 0, 1), w),
            jax.vmap(f)(x, several),
            jax.vmap(f, (None, 0))(x[0], several),
            jax.grad(batched)(w),
            jax.vmap(jax.grad(loss), (None, 0, 0))(w, x, y),
            jax.vmap(jax.grad(loss))(several, x, y),
            jax.grad(lambda several: jnp.sum(jax.vmap(loss)(several, x, y)))(several),
        )

    ours = jax.jit(lambda: everything(lambda x, w: correlation.forward(x, w, stencil)))()
    close(ours, jax.jit(lambda: everything(lambda x, w: plain(x, w, stencil)))())
    np.testing.assert_allclose(ours[4], jnp.sum(ours[5], 0), **TOLERANCE)


def test_gradient_of_a_batch_is_one_product_and_not_one_per_sample(getkey):
    stencil = STENCILS[0]
    x, w, _ = operands(stencil, getkey, leading=(4, 1))
    loss = lambda w: jnp.sum(jax.vmap(lambda x: correlation.forward(x, w, stencil))(x) ** 2)
    text = str(jax.make_jaxpr(jax.grad(loss))(w))
    assert text.count("correlation_weight_gradient") == 1
    assert "conv_general_dilated" not in text


def test_jacobians_of_the_input_gradient(getkey):
    stencil = STENCILS[3]
    with jax.enable_x64(True):
        _, w, y = operands(stencil, getkey)
        f = lambda w: correlation.input_gradient(y, w, stencil)
        close(jax.jacrev(f)(w), jax.jacfwd(f)(w))


def test_large_weight_gradients_are_summed_over_blocks_of_rows(monkeypatch):
    monkeypatch.setattr(_stencils, "_POINTS_PER_PRODUCT", 40)
    x, y = jnp.ones((BATCH, 8, 6, IN)), jnp.ones((BATCH, 8, 6, OUT))
    text = jax.jit(lambda x, y: correlation.weight_gradient(x, y, STENCILS[0])).lower(x, y).as_text()
    assert text.count("stablehlo.convolution") == (4 if jax.default_backend() == "cpu" else 1)


def test_forms_in_float32(getkey):
    """5e-6: single precision rounding of 1500 products of size 1 in a sum of size 40."""
    stencil = Stencil((3, 3), (1, 1), (1, 1), (48, 32), (48, 32))
    x, w, y = operands(stencil, getkey)
    with jax.enable_x64(True):
        x64, w64, y64 = (jnp.asarray(np.asarray(a, np.float64)) for a in (x, w, y))
        exact = jax.vjp(functools.partial(plain, stencil=stencil), x64, w64)[1](y64)
        exact = [np.asarray(a) for a in exact]
    ours = correlation.input_gradient(y, w, stencil), correlation.weight_gradient(x, y, stencil)
    for actual, expected in zip(ours, exact, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-6 * np.max(np.abs(expected)))


def test_export_with_a_symbolic_batch(getkey):
    stencil = STENCILS[2]
    x, w, _ = operands(stencil, getkey)
    gradient = jax.jit(jax.grad(lambda w, x: jnp.sum(correlation.forward(x, w, stencil) ** 2)))
    (batch,) = jax.export.symbolic_shape("b")
    spec = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    exported = jax.export.export(gradient)(w, spec)
    np.testing.assert_allclose(exported.call(w, x), gradient(w, x), rtol=1e-5)


def test_gradients_inside_shard_map(getkey):
    """The replicated weights are typed as such, and their gradient is summed over the devices."""
    stencil = STENCILS[1]
    x, w, _ = operands(stencil, getkey, leading=(4, 1))
    mesh = jax.make_mesh((len(jax.devices()),), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    everywhere, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("batch")
    loss = lambda w, x: jnp.sum(jax.vmap(correlation.forward, (0, None, None))(x, w, stencil) ** 2)
    gradient = jax.shard_map(
        jax.grad(lambda w, x: jax.lax.psum(loss(w, x), "batch")),
        mesh=mesh,
        in_specs=(everywhere, split),
        out_specs=everywhere,
    )
    np.testing.assert_allclose(jax.jit(gradient)(w, x), jax.jit(jax.grad(loss))(w, x), rtol=1e-5, atol=1e-4)


def test_mixed_precision_is_promoted(getkey):
    with jax.enable_x64(True):
        x, w, _ = operands(STENCILS[0], getkey)
        assert correlation.forward(x, w.astype(jnp.float32), STENCILS[0]).dtype == jnp.float64
