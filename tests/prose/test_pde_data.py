"""Drawn solutions of PROSE-PDE: in memory, in files, as samples; the loss on them."""

import dataclasses

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import prose, systems
from sciml.prose._model.losses import applied
from sciml.symbolic import pde_vocabulary, skeleton, system_from_tokens, system_to_tokens

SYSTEMS, STARTS, FRAMES, POINTS, INPUTS = 5, 2, 10, 24, 4
MIXTURE = systems.PdeMixture(
    families=("heat", "inviscid_cubic"),
    evolutions=systems.Evolutions(initial_conditions=STARTS, candidates=4, frames=FRAMES, points=POINTS),
)
LANES = 4
VOCABULARY = pde_vocabulary()


@pytest.fixture(scope="module")
def found():
    return systems.draw_trajectories(MIXTURE, range(SYSTEMS), seed=1, lanes=LANES)


def test_draws(found):
    assert found.states.shape == (SYSTEMS, STARTS, FRAMES, 1, POINTS)
    assert found.states.dtype == np.float32
    np.testing.assert_allclose(found.times, np.arange(FRAMES) / 5, rtol=1e-15)
    assert found.families == ("heat", "inviscid_cubic", "heat", "inviscid_cubic", "heat")
    assert len(set(found.equations)) == SYSTEMS
    assert len(np.unique(found.states[:, :, 0, 0], axis=1).reshape(-1, POINTS)) == SYSTEMS * STARTS
    for name, equation, states in zip(found.families, found.equations, found.states, strict=True):
        # The stored frames are those of the constants that the tokens hold.
        family = systems.PDE_FAMILIES[name]
        fields = np.array([family.constants_of(system_from_tokens(equation.split()))] * LANES)
        starts = states[np.minimum(np.arange(LANES), STARTS - 1), 0].astype(float)
        again, good = MIXTURE.solve(name, fields, starts)
        assert good.all()
        np.testing.assert_allclose(again[:STARTS], states, atol=1e-6)  # of fields up to 1, started in float32


def test_a_system_depends_on_seed_family_and_number_only(found):
    again = systems.draw_trajectories(MIXTURE, [3, 0], seed=1, lanes=LANES)
    np.testing.assert_allclose(again.states, found.states[[3, 0]], atol=1e-6)
    assert again.equations == (found.equations[3], found.equations[0])
    alone = dataclasses.replace(MIXTURE, families=("heat",))
    one = systems.draw_trajectories(alone, [1], seed=1, lanes=LANES)
    np.testing.assert_allclose(one.states[0], found.states[2], atol=1e-6)
    other = systems.draw_trajectories(alone, [1], seed=2, lanes=LANES)
    assert other.equations != one.equations
    assert np.abs(other.states[:, :, 0] - one.states[:, :, 0]).max() > 0.1


def test_solutions_that_are_not_finite_or_of_another_size_are_not_good():
    fields = np.full((4, 1), 1.0)
    starts = np.stack([level * np.ones((1, POINTS)) for level in (0.5, 0.1, 30.0, np.nan)])
    states, good = MIXTURE.solve("inviscid_cubic", fields, starts)
    # 64 frames of 128 points of 0.5 have the norm 45, of 0.1 the norm 9, of 30 the norm 2715.
    assert good.tolist() == [True, False, False, False]
    np.testing.assert_array_equal(states[0], np.full((FRAMES, 1, POINTS), 0.5))
    thin = np.full((4, 1), 1e-3)
    assert MIXTURE.solve("heat", thin, starts)[1].tolist() == [True, True, True, False]


def test_files_and_samples(found, tmp_path):
    data = prose.EquationData(
        systems.stored_trajectories(MIXTURE, tmp_path, count=SYSTEMS, seed=1),
        VOCABULARY,
        guess=prose.skeleton_equations,
    )
    (folder,) = tmp_path.iterdir()
    before = [path.stat().st_mtime_ns for path in folder.iterdir()]
    with h5py.File(next(folder.iterdir())) as file:
        assert [axis.label for axis in file["states"].dims] == ["system", "start", "time", "state", "x"]
    systems.stored_trajectories(MIXTURE, tmp_path, count=SYSTEMS, seed=1)
    assert [path.stat().st_mtime_ns for path in folder.iterdir()] == before  # nothing is made twice
    assert len(data) == SYSTEMS * STARTS
    sample = data[np.array([7, 0])]
    np.testing.assert_allclose(sample.states, found.states[[3, 0], [1, 0]], atol=1e-6)
    np.testing.assert_array_equal(sample.components, np.ones((2, 1), bool))
    for row, system in enumerate((3, 0)):
        words = found.equations[system].split()
        written = VOCABULARY.decode(sample.equation[row][sample.equation_mask[row]])
        assert written == ["<BOS>", *words, "<EOS>"]
        told = VOCABULARY.decode(sample.tokens[row][sample.tokens_mask[row]])
        assert told == system_to_tokens(skeleton(system_from_tokens(words)))
    some = prose.thinned(sample, np.arange(1, FRAMES, 3))
    np.testing.assert_array_equal(some.states, sample.states[:, [1, 4, 7]])
    np.testing.assert_array_equal(some.times, sample.times[:, [1, 4, 7]])


SIZES = prose.ProseSizes(8, 2, 12, 1, 1, 1, 1, 1)


@pytest.fixture(scope="module")
def batch(found):
    data = prose.EquationData((found,), VOCABULARY, guess=prose.known_equations)
    return jax.tree.map(jnp.asarray, data[np.array([0, 3, 4])])


@pytest.fixture(scope="module")
def model():
    words, key = len(VOCABULARY), jax.random.key(0)
    return prose.prose_pde(POINTS, symbols_in=words, symbols_out=words, sizes=SIZES, key=key)


@pytest.fixture(scope="module")
def results(model, batch):
    """Predictions and logits, the loss, and forecasts, in one compilation."""
    loss = prose.prose_loss(history=INPUTS, data=5.0, squares=prose.relative_to_inputs)

    @eqx.filter_jit
    def apply(model):
        pairs = jax.vmap(lambda sample: applied(model, sample, INPUTS))(batch)
        return (
            pairs,
            loss(model, batch, jax.random.split(jax.random.key(0), 1)),
            jax.vmap(prose.SampleForecast(model, INPUTS))(batch),
        )

    return apply(model)


def test_the_loss_is_in_units_of_the_deviation_of_the_given_frames(results, batch):
    (predictions, _), (value, logs), _ = results
    states = np.asarray(batch.states, np.float64)
    squares = []
    for prediction, own in zip(np.asarray(predictions), states, strict=True):
        deviation = own[:INPUTS].std(ddof=1) + 1e-6
        squares.append(np.mean(((prediction - own[INPUTS:]) / deviation) ** 2))
    np.testing.assert_allclose(logs["data"], np.mean(squares), rtol=1e-5)  # float32
    np.testing.assert_allclose(value, 5 * logs["data"] + logs["symbols"], rtol=1e-6)


def test_components_that_a_system_lacks_do_not_count():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(5, 2, 3))
    sample = prose.Sample(None, states, np.array([True, False]), *[None] * 7)
    prediction = rng.normal(size=(3, 2, 3))
    with jax.enable_x64(True):
        found = jax.jit(prose.relative_to_inputs, static_argnums=2)
        error = found(jnp.asarray(prediction), jax.tree.map(jnp.asarray, sample), 2)
    deviation = states[:2, 0].std(ddof=1) + 1e-6
    expected = np.mean((prediction[:, 0] - states[2:, 0]) ** 2) / deviation**2
    np.testing.assert_allclose(error, expected, rtol=1e-13)


def test_noise_of_fields(batch):
    noisy = jax.jit(lambda batch: prose.with_fixed_noise(prose.Noise(prose.Additive(0.02)), batch, seed=0))(batch)
    norm = lambda states: np.linalg.norm(np.asarray(states, np.float64).reshape(len(states), -1), axis=1)
    np.testing.assert_allclose(norm(noisy.states - batch.states) / norm(batch.states), 0.02, rtol=1e-4)


def test_written_residuals_can_be_read(model, batch):
    leaves = {"x", "t", "u_0", "ut_0", "utt_0", "ux_0", "uxx_0", "uxxx_0", "uxxxx_0"}
    writer = prose.SampleEquations(model, INPUTS, VOCABULARY, prose.residual_grammar, 12, 3)
    tokens = jax.jit(jax.vmap(writer))(batch)
    found = prose.equations(tokens, VOCABULARY)
    assert len(found) == 9
    assert all(system is not None and len(system) == 1 for system in found)
    grammar = prose.residual_grammar(VOCABULARY, jnp.asarray(1))
    first = np.asarray(grammar.mask(grammar.start(), 12))
    allowed = {VOCABULARY.id_to_word[i] for i in np.flatnonzero(first)}
    assert leaves <= allowed
    assert not allowed & {"|", "<EOS>", "u_0(x,t)", "Derivative", "rand", "(", "N100", "E-2"}
    assert {"pow3", "-20", "+"} <= allowed


def test_a_forecast_holds_the_states_and_the_wrong_tokens(results, batch):
    (states, logits), _, found = results
    np.testing.assert_allclose(found["states"], states, rtol=1e-5, atol=1e-6)
    mask = np.asarray(batch.equation_mask)[:, 1:]
    wrong = (np.argmax(logits, axis=2) != np.asarray(batch.equation)[:, 1:]) & mask
    np.testing.assert_array_equal(found["wrong"], wrong.sum(axis=1))
    np.testing.assert_array_equal(found["tokens"], mask.sum(axis=1))
