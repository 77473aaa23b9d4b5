"""Features of numbers, with which tokens of similar numbers have similar rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import prose, symbolic
from sciml.prose._model.variants import normalised_queries

VOCABULARY = symbolic.ode_vocabulary(3)
FEATURES = prose.mantissa_features(VOCABULARY)
KEY = jax.random.key(0)


def row(values, m):
    return np.asarray(values[VOCABULARY.word_to_id[f"N{m:03d}"]])


def test_features_are_waves_of_the_logarithm():
    angles = 2 * np.pi * np.log10(1.37) * np.array([1, 2, 4, 8, 16, 32, 64])
    np.testing.assert_allclose(row(FEATURES, 137), np.concatenate((np.sin(angles), np.cos(angles))), atol=1e-4)
    assert FEATURES.shape == (len(VOCABULARY), 14)
    mantissas = [VOCABULARY.word_to_id[f"N{m:03d}"] for m in range(1, 1000)]
    assert not np.any(np.delete(FEATURES, mantissas, axis=0))  # of N000 and of all that are no mantissas


@pytest.mark.parametrize(("first", "second"), [(540, 541), (999, 100)])
def test_neighbours_are_alike_where_a_new_decade_begins_too(first, second):
    unlike = np.linalg.norm(row(FEATURES, first) - row(FEATURES, 300))
    assert np.linalg.norm(row(FEATURES, first) - row(FEATURES, second)) < unlike / 5


def test_rows_and_logits_of_tokens_with_features():
    embedding = prose.TokenEmbedding(len(VOCABULARY), 8, positions=0, features=FEATURES, key=KEY)
    tokens = jnp.asarray(VOCABULARY.encode(["N540", "add", "N000"]))
    plain = prose.TokenEmbedding(len(VOCABULARY), 8, positions=0, key=KEY)
    expected = np.stack([row(FEATURES, 540) @ embedding.weights, *plain.table[tokens[1:]]])
    np.testing.assert_allclose(embedding(tokens), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.std(embedding.rows()), 1 / np.sqrt(8), rtol=0.1)


def test_what_is_learned_of_a_number_holds_for_its_neighbours():
    """A step on the row of 540 alone moves that of 541 the same way, and that of 300 less."""
    embedding = prose.TokenEmbedding(len(VOCABULARY), 8, positions=0, features=FEATURES, key=KEY)
    one = jnp.asarray(VOCABULARY.encode(["N540"]))
    slopes = jax.grad(lambda embedding: jnp.sum(embedding(one)))(embedding)
    moved = FEATURES @ slopes.weights
    assert row(moved, 541).min() > 0.9 * row(moved, 540).max() > 0
    assert np.abs(row(moved, 300)).max() < row(moved, 540).min() / 2


def test_features_of_another_vocabulary_are_refused():
    with pytest.raises(ValueError, match=r"Expected features of 20 tokens, got those of 1072"):
        prose.TokenEmbedding(20, 8, positions=0, features=FEATURES, key=KEY)


def test_a_model_that_reads_and_writes_with_features():
    variant = prose.ProseVariant(normalised_queries, prose.PerTrajectory(), rotation=None, features=FEATURES)
    words, sizes = len(VOCABULARY), prose.ProseSizes(8, 2, 8, 1, 1, 1, 1, 1)
    tokens = jnp.asarray(VOCABULARY.encode(["mul", "+", "N540", "E-2", "u_0"]))

    @jax.jit
    def found(key):
        model = prose.improved_ode(1, symbols_in=words, symbols_out=words, sizes=sizes, variant=variant, key=key)
        memory = model.encode(jnp.linspace(0, 1, 4), jnp.ones((4, 1)), tokens)
        hidden = model.symbol_decoder.hidden(tokens, *model.symbol_decoder.sees(memory))
        expected = hidden @ model.symbol_decoder.embedding.rows().T + model.symbol_decoder.bias[None]
        _, cache = model.step(model.start(memory, 8), tokens[0])
        return model.logits(memory, tokens), expected, model.step(cache, tokens[1])[0]

    logits, expected, second = found(KEY)
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    np.testing.assert_allclose(second, logits[1], rtol=1e-4, atol=1e-5)
