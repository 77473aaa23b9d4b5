"""Drawn flows, their files, and windows of them as samples."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import prose, symbolic, systems

FAMILIES = ("vortices", "waves")
FRAMES, POINTS, WINDOW = 5, 8, 3
MIXTURE = systems.FluidMixture(families=FAMILIES, resolution=POINTS, frames=FRAMES)
VOCABULARY = symbolic.fluid_vocabulary()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("flows")


@pytest.fixture(scope="module")
def parts(folder):
    """Five flows in files of two: vortices, waves, vortices, waves, vortices."""
    return systems.stored_trajectories(MIXTURE, folder, count=5, seed=3, per_shard=2, lanes=2)


@pytest.fixture(scope="module")
def joined(parts):
    """All states `(flows, frames, channels, x, y)`."""
    return np.concatenate([part.states[:, 0] for part in parts])


def numbers(text):
    words, codec = text.split(), symbolic.NumberCodec()
    return [codec.decode(words[at : at + 3]) for at, word in enumerate(words) if word in "+-"]


def test_flows_are_the_solutions_of_their_equations(parts, joined):
    assert [len(part.states) for part in parts] == [2, 2, 1]
    assert joined.shape == (5, FRAMES, 4, POINTS, POINTS)
    names = [name for part in parts for name in part.families]
    assert names == ["vortices", "waves", "vortices", "waves", "vortices"]
    assert not joined[::2, :, 2:].any()  # velocities alone
    assert not joined[1::2, :, 3:].any()
    texts = [text for part in parts for text in part.equations]
    assert len(set(texts)) == 5
    flow = MIXTURE.system("waves", (3, 1, 1))
    (start,) = MIXTURE.initial_conditions("waves", flow, (3, 1, 2))
    family = systems.FLUID_FAMILIES["waves"]
    assert MIXTURE.tokens(flow) == family.tokens(flow.constants)
    states, good = MIXTURE.solve("waves", MIXTURE.fields("waves", [flow]), start[None])
    with jax.enable_x64(True):
        solve = jax.jit(functools.partial(family.solve, resolution=POINTS, frames=FRAMES))
        expected = solve(jnp.asarray(start), jnp.asarray(numbers(" ".join(family.tokens(flow.constants)))[1:]))
    np.testing.assert_allclose(states[0], expected, atol=1e-6)  # float32 of values up to 1.3
    assert good.tolist() == [True]


def test_water_is_stored_as_means_so_that_its_mass_is_kept(joined):
    mass = joined[1::2, :, 2].mean(axis=(2, 3))
    np.testing.assert_allclose(mass, np.repeat(mass[:, :1], FRAMES, axis=1), rtol=1e-6)
    assert (joined[1::2, 0, 2] != joined[1::2, -1, 2]).any()


def test_a_flow_depends_on_its_number_alone(parts, folder):
    few = systems.draw_trajectories(MIXTURE, [3, 0], seed=3, lanes=1)
    np.testing.assert_allclose(few.states[0], parts[1].states[1], atol=1e-6)
    np.testing.assert_allclose(few.states[1], parts[0].states[0], atol=1e-6)
    assert few.equations == (parts[1].equations[1], parts[0].equations[0])
    other = systems.draw_trajectories(MIXTURE, [0], seed=4, lanes=1)
    assert np.abs(other.states - few.states[1:]).max() > 0.1
    again = systems.stored_trajectories(MIXTURE, folder, count=5, seed=3, per_shard=2, lanes=2)
    np.testing.assert_array_equal(again[2].states, parts[2].states)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"families": ()}, "at least one family, got none. Choose from dam_break, waves, vortices, reaction"),
        ({"families": ("smoke",)}, "There is no family smoke. Choose from dam_break, waves"),
        ({"resolution": 7}, "a resolution of at least 8 and 2 frames, got 7 and 60"),
        ({"frames": 1}, "got 128 and 1"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        systems.FluidMixture(**settings)


def data_of(parts, guess=prose.known_equations, **settings):
    return prose.FluidData(parts, VOCABULARY, window=WINDOW, guess=guess, **settings)


def test_samples_are_the_windows(parts, joined):
    data = data_of(parts)
    assert len(data) == 5 * (FRAMES - WINDOW + 1)
    rows = np.array([[14, 0], [7, 4]])
    sample = data[rows]
    for place in np.ndindex(2, 2):
        flow, begin = divmod(int(rows[place]), 3)
        np.testing.assert_array_equal(sample.states[place], joined[flow, begin : begin + WINDOW])
        np.testing.assert_array_equal(sample.components[place], [True, True, flow % 2 == 1, False])
        assert data.families[sample.family[place]] == FAMILIES[flow % 2]
        words = VOCABULARY.decode(sample.tokens[place][sample.tokens_mask[place]])
        text = [text for part in parts for text in part.equations][flow]
        assert " ".join(words) == text
        assert VOCABULARY.decode(sample.equation[place][sample.equation_mask[place]])[1:-1] == words
        assert (sample.tokens[place][~sample.tokens_mask[place]] == VOCABULARY.pad).all()
    np.testing.assert_array_equal(sample.index, rows)
    np.testing.assert_array_equal(sample.times, np.broadcast_to(np.arange(3.0), (2, 2, 3)))
    np.testing.assert_array_equal(data[4:6].states, data[np.array([4, 5])].states)


def test_weights_and_first_windows(parts):
    data = data_of(parts, weights={"waves": 3}, begins=2)
    assert len(data) == 3 * 2 + 3 * 2 * 2
    counts = np.bincount(data[:].family)
    assert dict(zip(data.families, counts, strict=True)) == {"vortices": 6, "waves": 12}
    assert np.bincount(data[:].index).tolist() == [1, 1, 3, 3, 1, 1, 3, 3, 1, 1]
    np.testing.assert_array_equal(data_of(parts, begins=1)[:].index, np.arange(5))


def test_skeletons_have_placeholders_for_numbers(parts):
    sample = data_of(parts, prose.skeleton_equations)[:]
    skeletons = {" ".join(VOCABULARY.decode(t[m])) for t, m in zip(sample.tokens, sample.tokens_mask, strict=True)}
    assert len(skeletons) == 2  # one for each family
    assert all("<PLACEHOLDER>" in text and " N" not in text for text in skeletons)


def test_windows_that_do_not_fit_are_refused(parts):
    with pytest.raises(ValueError, match=r"at least 6 frames for windows of 3 that begin at 4 of them, got 5\. Use"):
        data_of(parts, begins=4)
    with pytest.raises(ValueError, match=r"at least 6 frames for windows of 6 that begin at 1 of them, got 5"):
        prose.FluidData(parts, VOCABULARY, window=6, guess=prose.known_equations)
    with pytest.raises(ValueError, match=r"weights of at least 1, got \{'waves': 0\}. Leave families out"):
        data_of(parts, weights={"waves": 0})
