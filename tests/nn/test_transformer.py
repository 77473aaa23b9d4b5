import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import drawn

from sciml.nn import LayerNorm, MultiHeadAttention, PostNorm, PreNorm, RMSNorm, Rotary, TransformerConfig

N, M, WIDTH, HEADS, DEPTH = 5, 7, 12, 3, 2
EXACT = {"atol": 1e-12}  # float64, sums in another order


def form(join, **ends):
    attention = functools.partial(MultiHeadAttention, heads=HEADS, key_bias=True, norm=RMSNorm)
    return TransformerConfig(10, attention, LayerNorm, join, **ends)


POST, PRE = form(PostNorm, first=LayerNorm), form(PreNorm, last=RMSNorm)
by_order = pytest.mark.parametrize("made", [POST, PRE], ids=["post", "pre"])


def rows(key, n):
    return jax.random.normal(key, (n, WIDTH))


def test_root_mean_square_norm(getkey):
    with jax.enable_x64(True):
        norm = drawn(lambda: RMSNorm(WIDTH, epsilon=0.3))
        x = np.array(rows(getkey(), N))
        expected = np.asarray(norm.scale) * x / np.sqrt((x**2).mean(1, keepdims=True) + 0.3)
        np.testing.assert_allclose(norm(jnp.asarray(x)), expected, **EXACT)


@by_order
def test_joins_around_the_parts_of_a_layer(made, getkey):
    with jax.enable_x64(True):
        layer = drawn(lambda: made.decoder(WIDTH, 1, key=jax.random.key(0))).layers[0]
        x, memory = rows(getkey(), N), rows(getkey(), M)
        parts = lambda x: layer.own[1](x), lambda x: layer.other[1](x, memory), layer.network[1]

        @jax.jit
        def both(x):
            expected = x
            for part, (join, _) in zip(parts, (layer.own, layer.other, layer.network), strict=True):
                if made is POST:
                    expected = join.norm(expected + part(expected))
                else:
                    expected = expected + part(join.norm(expected))
            return layer(x, None, memory), expected

        np.testing.assert_allclose(*both(x), **EXACT)


def test_layers_that_begin_as_the_identity(getkey):
    with jax.enable_x64(True):
        keys = jax.random.split(getkey(), 3)
        x, memory = rows(keys[0], N), rows(keys[1], M)
        made = dataclasses.replace(form(PreNorm), identity=True)
        layers = made.decoder(WIDTH, DEPTH, rotation=Rotary(), key=keys[2])
        np.testing.assert_array_equal(eqx.filter_jit(layers)(x, memory=memory), x)
        assert np.any(eqx.filter_jit(form(PreNorm).decoder(WIDTH, DEPTH, key=keys[2]))(x, memory=memory) != x)
        slopes = eqx.filter_jit(eqx.filter_grad(lambda layers: jnp.sum(layers(x, memory=memory) ** 2)))(layers)
        first = slopes.layers[0]
        for dense in (first.own[1].out, first.other[1].out, first.network[1].layers[-1]):
            assert np.all(dense.weight != 0)  # they leave it with the first step of an optimiser


@by_order
def test_row_by_row_equals_all_at_once(made, getkey):
    with jax.enable_x64(True):
        stack = drawn(lambda: made.decoder(WIDTH, DEPTH, rotation=Rotary(), key=jax.random.key(0)))
        x, memory, mask = rows(getkey(), N), rows(getkey(), M), jnp.arange(M) != 3

        @eqx.filter_jit
        def both(stack):
            step = lambda caches, at: stack.step(at[0][None], caches, at[1], mask[None])[::-1]
            one_by_one = jax.lax.scan(step, stack.start(memory, N + 2), (x, jnp.arange(N)))[1][:, 0]
            return one_by_one, stack(x, jnp.tril(jnp.ones((N, N), bool)), memory, mask[None])

        np.testing.assert_allclose(*both(stack), **EXACT)


def test_a_reader_keeps_no_rows(getkey):
    with jax.enable_x64(True):
        stack = drawn(lambda: PRE.reader(WIDTH, DEPTH, key=jax.random.key(0)))
        x, memory = rows(getkey(), N), rows(getkey(), M)
        caches = stack.start(memory, 1)
        assert all(written is None for written, _ in caches)
        row, _ = eqx.filter_jit(stack.step)(x[2:3], caches, jnp.array(0))
        np.testing.assert_allclose(row, stack(x, None, memory)[2:3], **EXACT)


def test_rotation_tells_rows_apart(getkey):
    with jax.enable_x64(True):
        order = jnp.array([3, 0, 4, 1, 2])
        x = rows(getkey(), N)
        for rotation, equal in ((None, True), (Rotary(), False)):
            stack = drawn(lambda rotation=rotation: PRE.encoder(WIDTH, 1, rotation=rotation, key=jax.random.key(0)))
            difference = np.abs(stack(x[order]) - stack(x)[order]).max()
            assert (difference < 1e-12) == equal


def test_norms_and_softmax_of_16_bits_are_computed_in_32(getkey):
    norm = LayerNorm(WIDTH)
    x = 100 + rows(getkey(), N)  # the mean of bfloat16 numbers near 100 would be rounded by up to 0.25
    low = x.astype(jnp.bfloat16)
    lowered = jax.tree.map(lambda a: a.astype(jnp.bfloat16), norm)
    exact = norm(low.astype(jnp.float32))
    np.testing.assert_allclose(lowered(low).astype(jnp.float32), exact, atol=2**-8 * 3)  # rounding of the result
    slope = lambda norm, x: jax.jit(jax.grad(lambda x: jnp.sum(norm(x).astype(jnp.float32)[:, 0] ** 2)))(x)
    error = slope(lowered, low).astype(jnp.float32) - slope(norm, low.astype(jnp.float32))
    assert np.abs(error).max() < 0.05
    assert lowered(low).dtype == slope(lowered, low).dtype == jnp.bfloat16


def test_a_layer_that_reads_needs_something_to_read(getkey):
    with jax.enable_x64(True):
        stack = eqx.filter_eval_shape(lambda: PRE.decoder(WIDTH, 1, key=jax.random.key(0)))
        with pytest.raises(ValueError, match=r"attends to a memory, but got none. Give its tokens"):
            eqx.filter_eval_shape(stack, rows(getkey(), N))
