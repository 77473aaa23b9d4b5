import dataclasses
import json

import numpy as np
import pytest

from sciml.prose import skeleton_equations
from sciml.symbolic import (
    NumberCodec,
    evaluate_system,
    ode_vocabulary,
    parameters,
    skeleton,
    states,
    system_from_tokens,
    system_to_tokens,
)
from sciml.systems import FAMILIES, Mixture, Solutions

# The names of the constants in the fixtures, in the order of our equations' arguments.
ARGUMENTS = {
    "thomas": "b",
    "lorenz_3d": "sigma beta rho",
    "aizawa": "a b c d f",
    "chen_lee": "a d",
    "dadras": "a b c d e",
    "rossler": "a b c",
    "halvorsen": "a",
    "fabrikant": "alpha gamma",
    "sprott_B": "a b c",
    "sprott_linz_F": "a",
    "four_wing": "a b c",
    "duffing": "alpha beta gamma delta omega",
    "lorenz_96_4d": "F",
    "lorenz_96_5d": "F",
    "double_pendulum": "a b c",
}


def fixture_system(name, row):
    constants = [row["params"][argument] for argument in ARGUMENTS[name].split()]
    return FAMILIES[name].equations(*states(row["dim"]), *constants)


@pytest.fixture(scope="module")
def official(reference):
    return json.loads((reference / "prose" / "ode_rhs.json").read_text())


@pytest.fixture(scope="module")
def cases(reference):
    return json.loads((reference / "prose" / "tokenisation.json").read_text())["cases"]


def test_there_is_a_family_for_each_official_one(official, cases):
    assert set(official) == set(FAMILIES) == {case["note"] for case in cases if case["kind"] == "system_target"}
    assert {name: row["dim"] for name, row in official.items()} == {f.name: f.dimension for f in FAMILIES.values()}


@pytest.mark.parametrize("name", FAMILIES)
def test_right_hand_sides_and_tokens_are_the_official_ones(name, official):
    row = official[name]
    system = fixture_system(name, row)
    assert system_to_tokens(system) == row["tokens"]
    u = {f"u_{i}": component for i, component in enumerate(np.array(row["u"]).T)}
    # Sums of a few terms, which the official closure adds in another order.
    scale = np.abs(row["rhs_closure"]).max()
    np.testing.assert_allclose(evaluate_system(system, u, np).T, row["rhs_closure"], rtol=1e-12, atol=1e-15 * scale)


@pytest.mark.parametrize("name", FAMILIES)
def test_all_official_token_sequences_come_from_constants(name, cases):
    family, count = FAMILIES[name], len(ARGUMENTS[name].split())
    marks = [111.0 + i for i in range(count)]  # no structural constant is as large
    marked = parameters(family.equations(*states(family.dimension), *marks))
    seen = 0
    for case in cases:
        if case["kind"] == "system_target" and case["note"] == name:
            seen += 1
            found = parameters(system_from_tokens(case["tokens"]))
            where = [int(np.flatnonzero(np.abs(marked) == mark)[0]) for mark in marks]
            constants = [float(found[i] * np.sign(marked[i])) for i in where]
            assert system_to_tokens(family.equations(*states(family.dimension), *constants)) == case["tokens"]
            assert list(skeleton_equations(case["tokens"])) == system_to_tokens(skeleton(family.system()))
        elif case["kind"] == "skeleton_mode_0" and case["note"] == name:
            seen += 1
            assert system_to_tokens(skeleton(family.system())) == case["tokens"]
    assert seen == 6


@pytest.mark.parametrize("name", FAMILIES)
def test_constants_fill_their_interval_and_have_exact_tokens(name):
    family, codec = FAMILIES[name], NumberCodec()
    mixture = Mixture(families=(name,), spread=0.2)
    vocabulary = ode_vocabulary(family.dimension)
    nominal = parameters(family.system())
    drawn = np.stack([parameters(mixture.system(name, (3, i, 0))) for i in range(80)])
    assert all(codec.decode(codec.encode(value)) == value for value in drawn[:20].ravel())
    assert vocabulary.encode(system_to_tokens(mixture.system(name, (3, 0, 0)))).size == len(
        system_to_tokens(family.system())
    )
    ratio = drawn / nominal
    changing = np.ptp(ratio, axis=0) > 0
    # Two drawn numbers divided span [0.8 / 1.2, 1.2 / 0.8]; half a unit of the third digit is up to 0.5 %.
    low, high = (0.8 / 1.2, 1.2 / 0.8) if name == "double_pendulum" else (0.8, 1.2)
    assert ratio.min() >= low * 0.995
    assert ratio.max() <= high * 1.005
    assert changing.any()
    assert (np.ptp(ratio[:, changing], axis=0) > 0.3).all()  # 80 numbers in [0.8, 1.2]


def test_the_nominal_pendulum_has_length_one():
    system = FAMILIES["double_pendulum"].system((9.81, 1.0))
    np.testing.assert_allclose(sorted(set(parameters(system)))[:2], [-29.4, -9.81])
    heavy = FAMILIES["double_pendulum"].system((2 * 9.81, 2.0))
    assert heavy == system


def test_families_by_name():
    with pytest.raises(ValueError, match=r"There is no family lorenz, 7\. Choose from thomas, lorenz_3d, "):
        Mixture(families=("lorenz", "rossler", "7"))
    with pytest.raises(ValueError, match="at least one family, got none"):
        Mixture(families=())


def test_bad_constants():
    with pytest.raises(ValueError, match=r"rossler is drawn from 3 numbers, got 2\. Give as many"):
        FAMILIES["rossler"].system((0.1, 0.2))
    with pytest.raises(ValueError, match=r"100000000000000\.0 has no tokens"):
        FAMILIES["thomas"].system((1e14,))


@pytest.mark.parametrize("spread", [-0.1, 1.0])
def test_bad_spread(spread):
    with pytest.raises(ValueError, match="Expected a spread from 0 to less than 1"):
        Mixture(spread=spread)


@pytest.mark.parametrize(
    "settings",
    [
        {"initial_conditions": 0},
        {"initial_conditions": 3, "candidates": 2},
        {"points": 1},
        {"end": 0.0},
        {"radius": -1.0},
    ],
)
def test_bad_solutions(settings):
    with pytest.raises(ValueError, match="Expected 1 <= initial_conditions <= candidates"):
        Solutions(**settings)
    assert dataclasses.replace(Solutions(), points=7).times.tolist() == [0, 1, 2, 3, 4, 5, 6]
