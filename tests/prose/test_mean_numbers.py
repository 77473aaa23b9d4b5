"""The mean of similar numbers in place of the likeliest: against sums over the values that are meant."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import prose, symbolic

VOCABULARY = symbolic.ode_vocabulary(3)
NUMBERS = prose.MeanNumbers(VOCABULARY)
IDS = np.array([VOCABULARY.word_to_id[f"N{m:03d}"] for m in range(1000)])
merge = jax.jit(NUMBERS)


def logits_of(values):
    """Logits with these mantissas, normal numbers elsewhere."""
    logits = np.random.default_rng(0).normal(size=len(VOCABULARY))
    logits[IDS] = -30.0
    for mantissa, logit in values.items():
        logits[IDS[mantissa]] = logit
    return jnp.asarray(logits, jnp.float32)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({400: 1.0, 410: 1.0, 436: 1.1}, 416),  # 400, 410, 436 with the weights 1, 1, e^0.1
        ({980: 2.0, 990: 1.9, 102: 1.9, 104: 1.8}, 101),  # 0.98, 0.99, 1.02, 1.04: 1.006
        ({104: 2.0, 980: 1.9, 970: 1.9}, 998),  # the same from above: 1.04, 0.98, 0.97
        ({500: 2.0, 200: 1.9, 900: 1.9}, 500),  # others are too far away
        ({100: 3.0}, 100),
        ({999: 3.0}, 999),
    ],
)
def test_all_mantissas_become_the_mean_of_those_nearby(values, expected):
    logits = logits_of(values)
    merged = merge(logits)
    assert int(jnp.argmax(merged[IDS])) == expected
    assert int(jnp.sum(merged[IDS] > -jnp.inf)) == 1
    np.testing.assert_allclose(jnp.max(merged[IDS]), jax.nn.logsumexp(logits[IDS]), rtol=1e-6)
    others = np.setdiff1d(np.arange(len(VOCABULARY)), IDS)
    np.testing.assert_array_equal(merged[others], logits[others])


def test_the_mean_of_a_wide_distribution_is_that_of_its_values():
    values = np.arange(300, 361)
    rng = np.random.default_rng(1)
    weights = rng.uniform(0.2, 1.0, values.size)
    merged = merge(logits_of(dict(zip(values, np.log(weights), strict=True))))
    assert int(jnp.argmax(merged[IDS])) == round(float(np.sum(weights * values) / np.sum(weights)))


def test_the_number_zero_is_left_alone():
    logits = logits_of({0: 2.0, 150: 1.0})
    np.testing.assert_array_equal(merge(logits), logits)


def test_beam_search_writes_means_and_compares_structures():
    """With means no two hypotheses differ in a mantissa alone; otherwise some do."""
    few = symbolic.Vocabulary(("add", "u_0", "|"), ("add",), symbolic.NumberCodec(1, 0))
    sizes = prose.ProseSizes(8, 2, 12, 1, 1, 1, 1, 1, positions=64)

    @eqx.filter_jit
    def encoded(key):
        model = prose.improved_ode(1, symbols_in=len(few), symbols_out=len(few), sizes=sizes, key=key)
        return model, model.encode(jnp.linspace(0, 1, 4), jnp.ones((4, 1)), jnp.zeros(2, int))

    model, memory = encoded(jax.random.key(3))
    grammar, numbers = prose.Grammar(few, 1), prose.MeanNumbers(few)
    mantissa = [few.word_to_id[f"N{m}"] for m in range(10)]
    found = jax.jit(lambda memory: prose.beam(model, memory, grammar, width=4, max_tokens=4, numbers=numbers))(memory)
    plain = [tuple(-1 if token in mantissa else token for token in row) for row in np.asarray(found.tokens).tolist()]
    assert len(set(plain)) == 4
    default = jax.jit(lambda memory: prose.beam(model, memory, grammar, width=4, max_tokens=4))(memory)
    assert len({tuple(-1 if t in mantissa else t for t in row) for row in np.asarray(default.tokens).tolist()}) < 4
