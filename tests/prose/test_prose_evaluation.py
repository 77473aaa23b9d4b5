"""Errors of one forecast against the formulas in NumPy; written equations against greedy decoding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import drawn

from sciml import prose, symbolic
from sciml.prose._model.losses import applied

SIZES = prose.ProseSizes(8, 2, 12, 1, 1, 1, 1, 1)
SAMPLES, TIMES, INPUTS, STATES, GUESS, EQUATION, LENGTH = 2, 11, 4, 3, 5, 9, 16
VOCABULARY = symbolic.ode_vocabulary(STATES)


@pytest.fixture(autouse=True, scope="module")
def _double_precision():
    with jax.enable_x64(True):
        yield


def made(words):
    key = jax.random.key(1)
    return drawn(lambda: prose.improved_ode(STATES, symbols_in=words, symbols_out=words, sizes=SIZES, key=key))


@pytest.fixture(scope="module")
def model():
    return made(len(VOCABULARY))


@pytest.fixture(scope="module")
def batch():
    """Two systems, of 3 and of 2 components, with equations of 7 and 4 tokens."""
    rng = np.random.default_rng(0)
    components = np.array([[True, True, True], [True, True, False]])
    states = rng.normal(size=(SAMPLES, TIMES, STATES)) * components[:, None]
    sample = prose.Sample(
        times=np.tile(np.linspace(0, 2, TIMES), (SAMPLES, 1)),
        states=states,
        components=components,
        tokens=rng.integers(4, 20, (SAMPLES, GUESS), np.int32),
        tokens_mask=np.ones((SAMPLES, GUESS), bool),
        equation=rng.integers(0, len(VOCABULARY), (SAMPLES, EQUATION), np.int32),
        equation_mask=np.arange(EQUATION) < np.array([[8], [5]]),
        system=np.zeros(SAMPLES, int),
        family=np.zeros(SAMPLES, int),
        index=np.arange(SAMPLES),
    )
    return jax.tree.map(jnp.asarray, sample), jnp.asarray(states + 0.1 * rng.normal(size=states.shape))


def test_errors_are_those_of_the_predicted_times_and_existing_components(model, batch):
    sample, clean = batch
    apply = jax.jit(jax.vmap(lambda one: applied(model, one, INPUTS)))
    prediction, logits = map(np.asarray, apply(sample))
    found = jax.jit(jax.vmap(prose.SampleErrors(model, INPUTS)))((sample, clean))
    for i, size in enumerate((3, 2)):
        one, noisy, exact = (np.asarray(a)[i][-7:, :size] for a in (prediction, sample.states, clean))
        for name, states, truth in (("", one, noisy), ("clean_", one, exact), ("floor_", exact, noisy)):
            windows = {"relative_l2": slice(None), "first_half": slice(3), "second_half": slice(3, None)}
            for part, rows in windows.items():
                expected = np.linalg.norm(states[rows] - truth[rows]) / np.linalg.norm(truth[rows])
                np.testing.assert_allclose(found[f"{name}{part}"][i], expected, rtol=1e-5)  # 1e-6 below the root
        count = (7, 4)[i]  # the first token is the one that begins
        likeliest = logits[i, :count].argmax(1)
        assert found["wrong"][i] == np.sum(likeliest != np.asarray(sample.equation)[i, 1 : 1 + count])
        assert found["tokens"][i] == count


def test_a_model_that_writes_no_equation_has_no_tokens(batch):
    sample, clean = batch
    found = jax.jit(jax.vmap(prose.SampleErrors(made(None), INPUTS)))((sample, clean))
    assert not np.any(found["tokens"])
    assert not np.any(found["wrong"])


def test_written_equations(model, batch):
    sample, _ = batch
    write = lambda constraint, width: jax.jit(
        jax.vmap(prose.SampleEquations(model, INPUTS, VOCABULARY, constraint, LENGTH, width))
    )
    free = write(prose.unconstrained, 1)(sample)
    assert free.shape == (SAMPLES, 1, LENGTH)

    def greedy(one):
        memory = model.encode(one.times[:INPUTS], one.states[:INPUTS], one.tokens, tokens_mask=one.tokens_mask)
        return prose.greedy(model, memory, bos=VOCABULARY.bos, eos=VOCABULARY.eos, max_tokens=LENGTH)

    np.testing.assert_array_equal(free[:, 0], jax.jit(jax.vmap(greedy))(sample))
    several = write(prose.system_grammar, 2)
    found = several(sample)
    assert [len(one) for one in prose.equations(found, VOCABULARY)] == [3, 3, 2, 2]
    other = sample._replace(equation=sample.equation + 1, states=sample.states.at[:, INPUTS:].add(1.0))
    np.testing.assert_array_equal(several(other), found)  # neither the answer nor the later states are looked at
