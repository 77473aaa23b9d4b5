import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import stirred

from sciml.nn import LayerNorm, MultiHeadAttention, TransformerBlock, attention, head_size, merge_heads, split_heads

BATCH, N, M, WIDTH, HEADS = 2, 5, 7, 6, 3
TOLERANCE = {"atol": 1e-12}  # float64, sums in another order


def softmax(scores):
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def loop_attention(query, key, value, mask):
    """Row by row, for arrays (n, size), (m, size), (m, out) and a mask (n, m)."""
    rows = []
    for row, seen in zip(query, mask, strict=True):
        weights = softmax(key[seen] @ row / np.sqrt(len(row)))
        rows.append(weights @ value[seen])
    return np.stack(rows)


def dense(layer, x):
    return x @ np.asarray(layer.weight) + (0 if layer.bias is None else np.asarray(layer.bias))


def test_layer_norm_and_its_derivatives(getkey):
    with jax.enable_x64(True):
        norm = stirred(lambda: LayerNorm(HEADS, 4, epsilon=0.01))
        x = jax.random.normal(getkey(), (BATCH, N, HEADS, 4)) * 3 + 1

        def plain(x):
            y = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 0.01)
            return y * norm.scale[None, None] + norm.shift[None, None]

        first = lambda f: jax.grad(lambda x: jnp.sum(jnp.sin(f(x))))
        second = lambda f: jax.grad(lambda x: jnp.sum(first(f)(x) ** 2))
        np.testing.assert_allclose(norm(x), plain(x), **TOLERANCE)
        for derivative in (first, second):
            expected = jax.jit(derivative(plain))(x)
            np.testing.assert_allclose(jax.jit(derivative(norm))(x), expected, **TOLERANCE)


def test_attention_equals_a_loop_over_rows(getkey):
    with jax.enable_x64(True):
        query, key, value = (
            jax.random.normal(getkey(), (BATCH, rows, size)) for rows, size in ((N, 4), (M, 4), (M, 3))
        )
        mask = np.array(jax.random.bernoulli(getkey(), 0.6, (BATCH, N, M)))
        mask[..., 2] = True  # every row sees something
        y = jax.jit(attention)(query, key, value, jnp.asarray(mask))
        expected = [loop_attention(*one) for one in zip(*map(np.asarray, (query, key, value)), mask, strict=True)]
        np.testing.assert_allclose(y, np.stack(expected), **TOLERANCE)
        blind = attention(query, key, value, jnp.zeros((N, M), bool))
        mean = np.broadcast_to(np.asarray(value).mean(1, keepdims=True), blind.shape)
        np.testing.assert_allclose(blind, mean, **TOLERANCE)


def test_multi_head_attention_equals_a_loop_over_heads(getkey):
    with jax.enable_x64(True):
        layer = stirred(lambda: MultiHeadAttention(WIDTH, heads=HEADS, key=jax.random.key(0)))
        x, context = (np.array(jax.random.normal(getkey(), (BATCH, rows, WIDTH))) for rows in (N, M))
        mask = np.arange(M) < np.array([[M], [4]])  # the second context is shorter
        seen = np.broadcast_to(mask[:, None], (BATCH, N, M))
        y = eqx.filter_jit(layer)(jnp.asarray(x), jnp.asarray(context), jnp.asarray(seen))
        size = WIDTH // HEADS
        for i in range(BATCH):
            query, key, value = dense(layer.query, x[i]), dense(layer.key, context[i]), dense(layer.value, context[i])
            parts = [slice(h * size, (h + 1) * size) for h in range(HEADS)]
            heads = [loop_attention(query[:, p], key[:, p], value[:, p], seen[i]) for p in parts]
            np.testing.assert_allclose(y[i], dense(layer.out, np.concatenate(heads, axis=1)), **TOLERANCE)


def block():
    key = jax.random.key(0)
    make = lambda: TransformerBlock(MultiHeadAttention(WIDTH, heads=HEADS, key=key), width=WIDTH, hidden=8, key=key)
    return eqx.filter_jit(stirred(make))


def test_a_block_commutes_with_permutations_of_the_rows(getkey):
    with jax.enable_x64(True):
        apply, x = block(), jax.random.normal(getkey(), (BATCH, N, WIDTH))
        order = np.array([3, 0, 4, 1, 2])
        np.testing.assert_allclose(apply(x[:, order]), apply(x)[:, order], **TOLERANCE)


def test_a_block_with_a_causal_mask_does_not_see_later_rows(getkey):
    with jax.enable_x64(True):
        apply, x = block(), jax.random.normal(getkey(), (BATCH, N, WIDTH))
        causal = jnp.tril(jnp.ones((N, N), bool))
        changed = x.at[:, 3].multiply(jnp.arange(WIDTH) - 2.5)  # a norm would hide a common factor or constant
        before, after = (apply(rows, None, causal) for rows in (x, changed))
        np.testing.assert_array_equal(after[:, :3], before[:, :3])
        assert np.abs(after[:, 3:] - before[:, 3:]).min() > 0


def test_heads_are_cut_and_joined(getkey):
    x = jnp.arange(24.0).reshape(2, 12)
    heads = split_heads(x, 3)
    np.testing.assert_array_equal(heads[1], x[:, 4:8])
    np.testing.assert_array_equal(merge_heads(heads), x)
    with pytest.raises(ValueError, match=r"4 heads do not divide the width 6.*a multiple of the heads"):
        MultiHeadAttention(WIDTH, heads=4, key=getkey())
    with pytest.raises(ValueError, match="0 heads do not divide"):
        head_size(8, 0)
