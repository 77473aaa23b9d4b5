import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_prose_data import PARTS, VOCABULARY

from sciml.prose import (
    Additive,
    EquationData,
    Multiplicative,
    Noise,
    TermNoise,
    noisy,
    skeleton_equations,
    with_fixed_noise,
)
from sciml.symbolic import ode_vocabulary, skeleton, system_to_tokens
from sciml.systems import FAMILIES

STRUCTURES = tuple((name, skeleton(family.system())) for name, family in FAMILIES.items())


@pytest.fixture(scope="module")
def terms():
    return TermNoise(STRUCTURES, VOCABULARY)


@pytest.fixture(scope="module")
def batch():
    return EquationData(PARTS, VOCABULARY, guess=skeleton_equations)[np.arange(15)]


def sequences(noise, system):
    """All structures that may be made of one, as words: unchanged, added, deleted."""
    first, added, deleted = (int(counts[system]) for counts in (noise.first, noise.added, noise.deleted))
    chosen = range(first, first + 1 + added + deleted)
    tokens, mask = np.asarray(noise.tokens), np.asarray(noise.mask)
    words = [" ".join(VOCABULARY.decode(tokens[i][mask[i]])) for i in chosen]
    return words[0], words[1 : 1 + added], words[1 + added :]


def test_additive_noise_has_its_share_of_the_norm():
    u = np.random.default_rng(0).normal(3, 10, (192, 5)).astype(np.float32)
    components = np.array([True, True, False, True, False])
    u[:, ~components] = 0
    key = jax.random.key(3)
    noise = np.asarray(Additive(0.02)(jnp.asarray(u), jnp.asarray(components), key=key)) - u
    np.testing.assert_allclose(np.linalg.norm(noise) / np.linalg.norm(u), 0.02, rtol=1e-5)  # float32
    assert (noise[:, ~components] == 0).all()
    # One amplitude for all components: each has about a third of the energy, to a few of sqrt(2 / 192).
    energy = (noise**2).sum(axis=0)[components] / (noise**2).sum()
    np.testing.assert_allclose(energy, 1 / 3, rtol=0.4)
    relative = np.asarray(Multiplicative(0.05)(jnp.asarray(u), jnp.asarray(components), key=key)) - u
    np.testing.assert_allclose(np.std(relative[:, components] / u[:, components]), 0.05, rtol=0.1)
    assert (relative[:, ~components] == 0).all()


def test_term_noise_can_make_every_official_example(terms, reference):
    cases = json.loads((reference / "prose" / "tokenisation.json").read_text())["cases"]
    possible = {name: sequences(terms, i) for i, (name, _) in enumerate(STRUCTURES)}
    seen = 0
    for case in cases:
        kind, found = case["kind"], " ".join(case["tokens"])
        if kind == "skeleton_mode_0":
            assert found == possible[case["note"]][0]
        elif kind == "skeleton_mode_1":
            assert found in possible[case["note"]][1]
        elif kind == "skeleton_mode_-1":
            assert found in possible[case["note"]][2]
        else:
            continue
        seen += 1
    assert seen == 75


def test_counts_of_changed_structures(terms):
    sizes = zip(terms.added.tolist(), terms.deleted.tolist(), STRUCTURES, strict=True)
    counts = {name: (added, deleted, len(structure)) for added, deleted, (name, structure) in sizes}
    # Terms are P, P u_i and P u_i u_j; a sum of n terms has n + 1 places.
    assert counts["thomas"] == ((2 + 1) * 3 * 10, 6, 3)
    assert counts["lorenz_96_5d"] == (5 * (4 + 1) * 21, 20, 5)
    assert counts["sprott_B"] == ((2 + 3 + 3) * 10, 4, 3)  # the single term of the first equation cannot go
    assert counts["double_pendulum"] == (2 * (3 + 1) * 15, 6, 4)  # its two numerators alone


def test_term_noise_has_its_probabilities(terms):
    draws = 20_000
    names = [name for name, _ in STRUCTURES]
    system = names.index("sprott_B")
    keys = jax.random.split(jax.random.key(5), draws)
    drawn = jax.jit(jax.vmap(lambda key: terms(jnp.int32(system), key=key)))(keys)
    unchanged, added, deleted = sequences(terms, system)
    found = [tuple(row) for row in np.where(*map(np.asarray, (drawn[1], drawn[0])), -1).tolist()]
    first = int(terms.first[system])
    table = np.where(terms.mask, terms.tokens, -1)
    count = lambda i: found.count(tuple(table[i].tolist()))
    # Binomial: four deviations. Some of the added structures are equal, so that only sums are compared.
    close = lambda p: 4 * np.sqrt(draws * p * (1 - p))
    assert abs(count(first) - 0.7 * draws) < close(0.7)
    for i in range(len(deleted)):
        assert abs(count(first + 1 + len(added) + i) - 0.15 * draws / 4) < close(0.15 / 4)
    assert unchanged == " ".join(system_to_tokens(STRUCTURES[system][1]))
    always = TermNoise(STRUCTURES[:1], VOCABULARY, adding=1.0, deleting=0.0)
    tokens, mask = jax.jit(jax.vmap(lambda key: always(jnp.int32(0), key=key)))(keys[:300])
    words = {" ".join(VOCABULARY.decode(t[m])) for t, m in zip(np.asarray(tokens), np.asarray(mask), strict=True)}
    assert words <= set(sequences(terms, 0)[1])
    assert len(words) > 60  # of 90


def test_bad_probabilities():
    with pytest.raises(ValueError, match="Expected probabilities of at most 1 together, got 0"):
        TermNoise(STRUCTURES[:1], ode_vocabulary(3), adding=0.6, deleting=0.5)


def test_noise_in_a_loss_is_a_function_of_its_key(batch, terms):
    order = [[name for name, _ in STRUCTURES].index(name) for name in ("rossler", "lorenz_96_5d", "double_pendulum")]
    chosen = TermNoise([STRUCTURES[i] for i in (*order, 0)], VOCABULARY)

    def loss(model, batch, keys):
        return jnp.sum(batch.states), {"tokens": batch.tokens, "mask": batch.tokens_mask, "states": batch.states}

    step = jax.jit(noisy(loss, Noise(Additive(), chosen)))
    arrays = jax.tree.map(jnp.asarray, batch)
    one, same, other = (step(None, arrays, jax.random.split(jax.random.key(seed), 15))[1] for seed in (1, 1, 2))
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
        assert not np.array_equal(one[name], other[name])
    norms = np.linalg.norm(one["states"] - batch.states, axis=(1, 2)) / np.linalg.norm(batch.states, axis=(1, 2))
    np.testing.assert_allclose(norms, 0.02, rtol=1e-3)  # the states are numbers of thousands in float32
    for i in range(15):
        assert (one["states"][i][:, ~batch.components[i]] == 0).all()
        words = " ".join(VOCABULARY.decode(np.asarray(one["tokens"][i])[np.asarray(one["mask"][i])]))
        unchanged, added, deleted = sequences(chosen, int(batch.system[i]))
        assert words in {unchanged, *added, *deleted}


def test_fixed_noise_is_a_function_of_seed_and_sample(batch):
    noise = Noise(Additive(0.1))
    every = with_fixed_noise(noise, batch, seed=4)
    part = with_fixed_noise(noise, jax.tree.map(lambda leaf: leaf[[6, 2]], batch), seed=4)
    np.testing.assert_allclose(part.states, every.states[jnp.array([6, 2])], rtol=1e-6)
    np.testing.assert_array_equal(every.tokens, batch.tokens)
    assert np.abs(with_fixed_noise(noise, batch, seed=5).states - every.states).max() > 1
