import dataclasses

import numpy as np
import pytest

from sciml import train
from sciml.data import Dataset, rows
from sciml.prose import EquationData, known_equations, skeleton_equations
from sciml.symbolic import ode_vocabulary, skeleton, system_from_tokens, system_to_tokens
from sciml.systems import FAMILIES, Trajectories

STARTS = 3


def part(names, first, times=4):
    """States that tell their system, start, time and component; the first constant tells the system."""
    systems = [FAMILIES[name].system() for name in names]
    states = np.zeros((len(names), STARTS, times, 5), np.float32)
    for i, system in enumerate(systems):
        shape = (STARTS, times, len(system))
        states[i, ..., : len(system)] = 1000 * (first + i) + 1 + np.arange(np.prod(shape)).reshape(shape)
    return Trajectories(
        np.linspace(0, 1, times),
        states,
        equations=tuple(" ".join(system_to_tokens(system)) for system in systems),
        families=tuple(names),
        tried=np.full(len(names), STARTS),
    )


PARTS = (part(("rossler", "lorenz_96_5d"), 0), part(("double_pendulum", "rossler", "thomas"), 2))
NAMES = ("rossler", "lorenz_96_5d", "double_pendulum", "rossler", "thomas")
VOCABULARY = ode_vocabulary(5)


def test_samples():
    data = EquationData(PARTS, VOCABULARY, guess=skeleton_equations)
    assert isinstance(data, Dataset)
    assert len(data) == 15
    assert data.families == ("rossler", "lorenz_96_5d", "double_pendulum", "thomas")
    for row in (0, 5, 8, 11, 14):
        sample = data[np.array([row])]
        name, start = NAMES[row // STARTS], row % STARTS
        family = FAMILIES[name]
        words = system_to_tokens(family.system())
        assert sample.components[0].tolist() == [i < family.dimension for i in range(5)]
        assert VOCABULARY.decode(sample.equation[0][sample.equation_mask[0]]) == ["<BOS>", *words, "<EOS>"]
        assert VOCABULARY.decode(sample.tokens[0][sample.tokens_mask[0]]) == system_to_tokens(skeleton(family.system()))
        for ids, mask in ((sample.equation[0], sample.equation_mask[0]), (sample.tokens[0], sample.tokens_mask[0])):
            assert (ids[~mask] == VOCABULARY.pad).all()
            assert mask.tolist() == sorted(mask.tolist(), reverse=True)
        expected = [*PARTS[0].states, *PARTS[1].states][row // STARTS][start]
        np.testing.assert_array_equal(sample.states[0], expected)
        np.testing.assert_allclose(sample.times[0], [0, 1 / 3, 2 / 3, 1], rtol=1e-7)
        assert data.families[sample.family[0]] == name
        assert data.structures[sample.system[0]] == (name, skeleton(family.system()))
        assert sample.index.tolist() == [row]
    assert data[np.array([0])].equation.shape[1] == 102  # of the pendulum: 100, and two more


def test_rows_in_any_order_and_the_engine():
    data = EquationData(PARTS, VOCABULARY, guess=known_equations)
    every = data[np.arange(15)]
    assert all(len(leaf) == 15 for leaf in every)
    for chosen in (np.array([14, 0, 7, 7]), slice(1, 15, 4), np.array([-1])):
        for leaf, whole in zip(data[chosen], every, strict=True):
            np.testing.assert_array_equal(leaf, whole[chosen])
    with pytest.raises(IndexError):
        data[np.array([15])]
    # The known equations are the true ones without the words at the ends.
    lengths = every.tokens_mask.sum(axis=1)
    np.testing.assert_array_equal(lengths, every.equation_mask.sum(axis=1) - 2)
    np.testing.assert_array_equal(every.tokens[every.tokens_mask], every.equation[:, 1:-1][every.tokens_mask])
    for limit in (0, None):
        batches = train.batches(data, lambda k: rows(15, 4, 0, k), limit=limit)
        fetched = batches.fetch(batches.source, batches.item(1))
        for leaf, whole in zip(fetched, data[rows(15, 4, 0, 1)], strict=True):
            np.testing.assert_array_equal(leaf, whole)


def test_bad_parts():
    with pytest.raises(ValueError, match="Expected at least one part, got none"):
        EquationData((), VOCABULARY, guess=known_equations)
    with pytest.raises(ValueError, match=r"same times .* shapes \(2, 3, 4, 5\) and \(1, 3, 5, 5\)\. Generate them"):
        EquationData((PARTS[0], part(("thomas",), 2, times=5)), VOCABULARY, guess=known_equations)
    with pytest.raises(ValueError, match="'u_4' is not in the vocabulary"):
        EquationData(PARTS, ode_vocabulary(3), guess=known_equations)
    large = dataclasses.replace(PARTS[0], equations=("mul + N100 E11 u_0", "u_0"))
    with pytest.raises(ValueError, match="'E11' is not in the vocabulary"):
        EquationData((large,), VOCABULARY, guess=known_equations)
    assert system_from_tokens(skeleton_equations(["mul", "-", "N100", "E9", "u_0"])) == skeleton(
        system_from_tokens(["mul", "+", "N123", "E0", "u_0"])
    )
