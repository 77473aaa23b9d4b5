import dataclasses
import json

import equinox as eqx
import jax
import numpy as np
import pytest
import scipy.integrate
from test_families import fixture_system

from sciml.symbolic import (
    Variable,
    VectorField,
    evaluate_system,
    ode_vocabulary,
    parameters,
    programs,
    sqrt,
    states,
    system_from_tokens,
    walk,
)
from sciml.systems import (
    FAMILIES,
    Accuracy,
    Mixture,
    RandomSystems,
    Solutions,
    Trajectories,
    draw_trajectories,
    integrate,
)

MIXTURE = Mixture(
    families=("fabrikant", "lorenz_96_5d"),
    solutions=Solutions(initial_conditions=3, candidates=12, points=121, end=3.0),
)
RANDOM = Solutions(initial_conditions=3, candidates=6, points=121, end=3.0, accuracy=Accuracy(steps=500))
LANES = 8
TIMES = np.linspace(0.0, 2.0, 11)


def solved(systems, starts, *, rtol=1e-8, **settings):
    """Three systems of two states, in the same program each time."""
    fields = programs(systems, ["u_0", "u_1"], length=9, components=2, operators=("sub", "mul", "sqrt"))
    accuracy = Accuracy(rtol=rtol, atol=rtol / 100, steps=300)
    return integrate(fields, np.array(starts), settings.pop("times", TIMES), accuracy=accuracy, **settings)


def test_rotations_are_exact_to_the_tolerance():
    frequencies = np.array([0.5, 1.0, 3.0])
    starts = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
    x, y = states(2)
    turned = np.exp(-1j * frequencies.reshape(-1, 1) * TIMES.reshape(1, -1)) * (starts @ [1, 1j]).reshape(-1, 1)
    errors = []
    for rtol in (1e-4, 1e-6, 1e-8):
        u, good = solved([(w * y, -w * x) for w in frequencies], starts, rtol=rtol, largest=10.0)
        assert u.dtype == np.float64
        assert good.all()
        errors.append(np.abs(u - np.stack([turned.real, turned.imag], axis=2)).max())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-6  # some tens of steps of 1e-8


def test_solutions_that_blow_up_or_are_not_numbers_are_not_good():
    x, y = states(2)
    starts = np.array([[-1.0, 0.0], [0.4, 0.0], [0.6, 0.0]])  # x' = x^2 is at infinity at time 1 / start
    u, good = solved([(x * x, y - y)] * 3, starts, largest=1e3)
    assert good.tolist() == [True, True, False]
    np.testing.assert_allclose(u[:2, :, 0], 1 / (1 / starts[:2, :1] - TIMES.reshape(1, -1)), rtol=1e-6)
    assert solved([(x * x, y - y)] * 3, starts, largest=1.5)[1].tolist() == [True, False, False]
    assert solved([(sqrt(x), y - y)] * 3, starts, largest=1e3)[1].tolist() == [False, True, True]  # NaN


def test_times_increase():
    with pytest.raises(ValueError, match=r"Expected at least 2 times that increase, got \[0\. 2\. 1\.\] .*Sort them"):
        solved([states(2)] * 3, np.ones((3, 2)), largest=1.0, times=np.array([0.0, 2.0, 1.0]))


def stacked(systems):
    constants = np.stack([parameters(system) for system in systems])
    with jax.enable_x64(True):
        return eqx.tree_at(lambda field: field.constants, VectorField(systems[0]), constants)


@pytest.fixture(scope="module")
def official(reference):
    """Times, and of each family the system, two solutions, and their errors against a solver with rtol 1e-11."""
    rows = json.loads((reference / "prose" / "ode_rhs.json").read_text())
    with np.load(reference / "prose" / "ode_trajectories.npz") as file:
        found = {
            name: (fixture_system(name, row), file[name].astype(float), row["solver_rel_err_vs_tight_2_6"][:2])
            for name, row in rows.items()
        }
        return file["t"], found


def assert_official(u, expected, errors):
    """The difference on [2, 6], where targets are, is the known error of the official solver."""
    norm = lambda a: np.linalg.norm(a[:, 64:], axis=(1, 2))
    # 2e-6 is twice our own largest error against rtol 1e-11, of the chaotic Lorenz-96.
    np.testing.assert_allclose(norm(u - expected) / norm(expected), errors, rtol=0.01, atol=2e-6)


@pytest.mark.slow  # the next test does the same with one compilation
@pytest.mark.parametrize("name", FAMILIES)
def test_official_trajectories(name, official):
    times, (system, expected, errors) = official[0], official[1][name]
    u, good = integrate(stacked([system] * 2), expected[:, 0], times, largest=FAMILIES[name].largest)
    assert good.all()
    assert_official(u, expected, errors)


def test_one_program_solves_all_families(official):
    times, found = official
    systems = [system for system, _, _ in found.values() for _ in range(2)]
    starts = np.zeros((len(systems), 5))
    for i, (_, expected, _) in enumerate(found.values()):
        starts[2 * i : 2 * i + 2, : expected.shape[2]] = expected[:, 0]
    fields = programs(systems, [f"u_{i}" for i in range(5)])
    u, good = integrate(fields, starts, times, largest=1e3)
    assert good.all()
    for i, (_, expected, errors) in enumerate(found.values()):
        assert_official(u[2 * i : 2 * i + 2, :, : expected.shape[2]], expected, errors)
        assert (u[2 * i, :, expected.shape[2] :] == 0).all()


def test_draws():
    found = draw_trajectories(MIXTURE, range(5), seed=1, lanes=LANES)
    assert found.states.shape == (5, 3, 121, 5)
    assert found.states.dtype == np.float32
    assert len(found) == 15
    assert found.families == (*MIXTURE.families * 2, "fabrikant")
    assert (found.states[::2, ..., 3:] == 0).all()
    assert (found.states[1::2] != 0).all()
    assert (np.abs(found.states[:, :, 0]) <= 2).all()
    assert len(np.unique(found.states[:, :, 0, 0])) == 15
    step = MIXTURE.solutions.end / 120
    for equations, u in zip(found.equations, found.states.astype(float), strict=True):
        # The stored states satisfy the stored equations: central differences against the right-hand side.
        system = system_from_tokens(equations.split())
        rates = np.moveaxis(evaluate_system(system, {f"u_{i}": u[..., i] for i in range(5)}, np), 0, -1)
        slopes = (u[:, 2:, : len(system)] - u[:, :-2, : len(system)]) / (2 * step)
        assert np.linalg.norm(slopes - rates[:, 1:-1]) < 0.02 * np.linalg.norm(rates)
    assert found.attributes["seed"] == 1
    assert found.attributes["settings"]["solutions"]["points"] == 121


def test_a_system_depends_on_seed_family_and_number_only():
    found = draw_trajectories(MIXTURE, range(4), seed=1, lanes=LANES)
    again = draw_trajectories(MIXTURE, [3, 0], seed=1, lanes=LANES)
    np.testing.assert_allclose(again.states, found.states[[3, 0]], rtol=1e-6, atol=1e-6)  # rounding to float32
    assert again.equations == (found.equations[3], found.equations[0])
    alone = dataclasses.replace(MIXTURE, families=("lorenz_96_5d",))
    assert draw_trajectories(alone, [1], seed=1, lanes=LANES).equations[0] == found.equations[3]
    assert draw_trajectories(MIXTURE, [0], seed=2, lanes=LANES).equations[0] != found.equations[0]


def test_bad_initial_conditions_are_replaced_by_the_next_good_ones():
    family = dataclasses.replace(MIXTURE, families=("fabrikant",))
    found = draw_trajectories(family, range(4), seed=1, lanes=LANES)
    number = int(np.argmax(found.tried))
    moment = dataclasses.replace(family.solutions, initial_conditions=12, end=1e-3)  # nothing is rejected so early
    every = draw_trajectories(dataclasses.replace(family, solutions=moment), [number], seed=1, lanes=LANES)
    assert every.equations == found.equations[number : number + 1]
    g, a = parameters(system_from_tokens(every.equations[0].split()))[[0, 3]]
    rate = lambda t, u: (
        u[1] * (u[2] - 1 + u[0] ** 2) + g * u[0],
        u[0] * (3 * u[2] + 1 - u[0] ** 2) + g * u[1],
        u[2] * (a - 2 * u[0] * u[1]),
    )
    escaped = lambda t, u: np.abs(u).max() - 1e5
    escaped.terminal = True
    starts = every.states[0, :, 0]
    good = [scipy.integrate.solve_ivp(rate, (0, 3), u, events=escaped, rtol=1e-5).status == 0 for u in starts]
    chosen = np.flatnonzero(good)[:3]
    assert found.tried[number] == chosen[-1] + 1 > 3
    np.testing.assert_allclose(found.states[number, :, 0], starts[chosen], rtol=1e-6)


def test_systems_without_good_solutions():
    short = dataclasses.replace(MIXTURE.solutions, candidates=3)
    hopeless = dataclasses.replace(RandomSystems(solutions=short, states=1, operators=1), bound=1e-6)
    with pytest.raises(RuntimeError, match=r"None of 100 drawn systems of random has 3 good solutions from 3 initial"):
        draw_trajectories(hopeless, [0], seed=0, lanes=LANES)


def test_random_systems():
    source = RandomSystems(solutions=RANDOM, states=3, operators=4)
    found = draw_trajectories(source, range(8), seed=0, lanes=LANES)
    vocabulary = ode_vocabulary(3)
    dimensions, heads = set(), set()
    for equations, u in zip(found.equations, found.states.astype(float), strict=True):
        tokens = equations.split()
        assert vocabulary.decode(vocabulary.encode(tokens)) == tokens
        system = system_from_tokens(tokens)
        dimensions.add(len(system))
        heads |= {node.head for tree in system for node in walk(tree)}
        for tree in system:
            assert any(isinstance(node, Variable) for node in walk(tree))
        assert (u[..., len(system) :] == 0).all()
        rates = np.moveaxis(evaluate_system(system, {f"u_{i}": u[..., i] for i in range(len(system))}, np), 0, -1)
        # The integral of the rates by the trapezoidal rule; some systems are too fast for a tighter bound.
        change = (rates[:, 1:] + rates[:, :-1]).sum(axis=1) * source.solutions.end / 240
        known = u[:, -1, : len(system)] - u[:, 0, : len(system)]
        assert np.linalg.norm(change - known) < 0.05 * np.linalg.norm(known) + 1e-3
    assert dimensions == {1, 2, 3}
    assert len(set(found.equations)) == 8
    assert len(heads & {"add", "sub", "mul", "neg", "sin", "cos", "pow2"}) > 4
    assert np.abs(found.states).max() < 100
    assert draw_trajectories(source, [5], seed=0, lanes=LANES).equations == found.equations[5:6]


def test_bad_random_systems():
    for settings in ({"states": 0}, {"operators": 0}, {"constants": 1.0}, {"unary": ()}):
        with pytest.raises(ValueError, match="Expected states >= 1, operators >= 1, constants from 0 to less than 1"):
            RandomSystems(**settings)


@pytest.mark.parametrize(("numbers", "seed", "lanes"), [([0], -1, 8), ([], 0, 8), ([0, -1], 0, 8), ([0], 0, 0)])
def test_bad_numbers_of_systems(numbers, seed, lanes):
    with pytest.raises(ValueError, match="Expected seed >= 0, lanes >= 1 and at least one system"):
        draw_trajectories(MIXTURE, numbers, seed=seed, lanes=lanes)


def trajectories(**changes):
    whole = {
        "times": np.linspace(0, 1, 4),
        "states": np.ones((2, 3, 4, 1), np.float32),
        "equations": ("sin u_0", "cos u_0"),
        "families": ("a", "b"),
        "tried": np.array([3, 3]),
    } | changes
    return Trajectories(whole.pop("times"), whole.pop("states"), **whole)


def spoiled():
    array = np.ones((2, 3, 4, 1))
    array[1, 2, 3, 0] = np.nan
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"times": np.array([0.0, 2.0, 1.0, 3.0])}, "Expected at least 2 times that increase"),
        (
            {"states": np.ones((2, 4, 1))},
            r"Expected floating-point states .* at 4 times, got float64 of shape \(2, 4, 1\)",
        ),
        ({"states": np.ones((2, 3, 5, 1))}, r"at 4 times, got float64 of shape \(2, 3, 5, 1\)"),
        ({"states": np.ones((2, 3, 4, 1), int)}, "got int64"),
        ({"families": ("a",)}, r"one entry for each of 2 systems, got \{'equations': 2, 'families': 1, 'tried': 2\}"),
        ({"states": spoiled()}, r"Trajectory 2 of system 1 \(b\) has NaN or infinite states\. Remove it"),
        ({"states": spoiled()[..., None] * np.ones(2)}, r"Trajectory 2 of system 1 \(b\) has NaN"),  # fields
    ],
)
def test_bad_trajectories(changes, message):
    assert len(trajectories()) == 6
    with pytest.raises(ValueError, match=message):
        trajectories(**changes)
