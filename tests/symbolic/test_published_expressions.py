"""The published code's tokens, ids, decoded expressions and values, all cases of the fixtures."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from expression_strategies import from_published_prefix, numbers, read_json, to_published_prefix

from sciml.symbolic import (
    RightNested,
    Sum,
    VectorField,
    candidate_terms,
    delete_term,
    evaluate_system,
    insert_term,
    ode_vocabulary,
    perturb_terms,
    programs,
    skeleton,
    states,
    system_from_tokens,
    system_from_tokens_as_published,
    system_to_tokens,
    whole_components,
)

VOCABULARY = ode_vocabulary(5)
NAMES = tuple(variable.name for variable in states(5))
PENDULUM = (Sum(2, (0,), RightNested()), Sum(3, (0, 1), RightNested()))


@pytest.fixture(scope="module")
def cases(reference):
    return read_json(reference, "tokenisation.json")["cases"]


def of_kind(cases, kind):
    return [case for case in cases if case["kind"].startswith(kind)]


def values_of(system, u):
    return evaluate_system(system, dict(zip(NAMES, np.array(u).T, strict=False)), np).T


def test_trees_tokens_ids_and_values(cases):
    written = [case for case in cases if case["tree_prefix"] is not None]
    assert len(written) == 75 + 40 + 23
    for case in written:
        system = from_published_prefix(case["tree_prefix"])
        assert system_to_tokens(system) == case["tokens"], case["tree_prefix"]
        assert VOCABULARY.encode(case["tokens"]).tolist() == case["ids"]
        decoded = system_from_tokens(VOCABULARY.decode(case["ids"]))
        assert to_published_prefix(decoded) == case["decoded_prefix"]
        assert system_from_tokens_as_published(case["tokens"], VOCABULARY) == decoded
        # both are NumPy: only the last digit of sine and cosine may differ, which cancellation magnifies
        np.testing.assert_allclose(values_of(decoded, case["u"]), numbers(case["value"]), rtol=1e-12)


def test_malformed_sequences(cases):
    malformed = of_kind(cases, "malformed")
    assert len(malformed) == 12
    for case in malformed:
        system = system_from_tokens_as_published(case["tokens"], VOCABULARY)
        if case["decoded_prefix"] is None:
            assert system is None, case["note"]
            continue
        assert to_published_prefix(system) == case["decoded_prefix"]
        if case["value"] is None:
            with pytest.raises(ValueError, match="'pow' has none"):
                values_of(system, case["u"])
        else:
            np.testing.assert_allclose(values_of(system, case["u"]), numbers(case["value"]), rtol=1e-15)


def test_skeletons(cases):
    numbered = {case["note"]: case for case in of_kind(cases, "system_target")}
    bare = of_kind(cases, "skeleton_mode_0")
    assert len(bare) == len(numbered) == 15
    for case in bare:
        system = system_from_tokens(numbered[case["note"]]["tokens"])
        assert system_to_tokens(skeleton(system)) == case["tokens"]
        assert system_from_tokens(VOCABULARY.decode(case["ids"])) == skeleton(system)
        assert system_from_tokens_as_published(case["tokens"], VOCABULARY) is None


def sums_of(case, system):
    return PENDULUM if case["note"] == "double_pendulum" else whole_components(system)


def test_term_noise_of_the_published_code_is_one_of_ours(cases):
    bare = {case["note"]: case for case in of_kind(cases, "skeleton_mode_0")}
    noisy = of_kind(cases, "skeleton_mode_1") + of_kind(cases, "skeleton_mode_-1")
    assert len(noisy) == 60
    for case in noisy:
        system = system_from_tokens(bare[case["note"]]["tokens"])
        edited = set()
        for place in sums_of(case, system):
            count = len(place.terms(system))
            if case["kind"] == "skeleton_mode_1":
                slots = itertools.product(range(count + 1), candidate_terms(case["dim"]))
                edited |= {insert_term(system, place, position, term) for position, term in slots}
            elif count > 1:
                edited |= {delete_term(system, place, position) for position in range(count)}
        assert system_from_tokens(case["tokens"]) in edited, case


def test_term_noise_has_the_published_frequencies_and_reaches_every_edit(cases):
    rng, terms = np.random.default_rng(0), candidate_terms(4)
    case = next(case for case in of_kind(cases, "skeleton_mode_0") if case["note"] == "double_pendulum")
    system = system_from_tokens(case["tokens"])
    draws = [perturb_terms(system, rng, candidates=terms, sums=PENDULUM) for _ in range(1000)]
    lengths = np.array([len(system_to_tokens(draw)) for draw in draws])
    for found in (np.mean(lengths > len(case["tokens"])), np.mean(lengths < len(case["tokens"]))):
        assert abs(found - 0.15) < 4 * np.sqrt(0.15 * 0.85 / 1000)  # four standard deviations
    assert len({draw for draw in draws if len(system_to_tokens(draw)) < len(case["tokens"])}) == 6  # 3 + 3 terms
    one_component = (states(3)[0],)
    assert {perturb_terms(one_component, rng, candidates=(), adding=0.0, deleting=1.0)} == {one_component}
    again = [perturb_terms(system, np.random.default_rng(5), candidates=terms) for _ in range(2)]
    assert again[0] == again[1]


def test_right_hand_sides(reference):
    families = read_json(reference, "ode_rhs.json")
    assert len(families) == 15
    for family in families.values():
        system = system_from_tokens(family["tokens"])
        assert to_published_prefix(system) == family["prefix"]
        # rhs_closure is the solver's own function; fixtures differ from their own trees by up to 4e-15
        found, size = values_of(system, family["u"]), np.abs(family["rhs_tree"]).max()
        np.testing.assert_allclose(found, family["rhs_tree"], rtol=1e-14, atol=1e-15 * size)
        np.testing.assert_allclose(found, family["rhs_closure"], rtol=0, atol=4e-15 * max(size, 1))


def test_the_fields_of_two_families_in_jax(reference):
    families = read_json(reference, "ode_rhs.json")
    with jax.enable_x64(True):
        for name in ("lorenz_3d", "double_pendulum"):
            family = families[name]
            field = VectorField(system_from_tokens(family["tokens"]))
            found = jax.jit(lambda field, u: jax.vmap(field, (None, 0))(0.0, u))(field, jnp.array(family["u"]))
            np.testing.assert_allclose(found, family["rhs_tree"], rtol=1e-12)


def test_one_program_computes_all_published_systems(cases):
    chosen = [case for case in cases if case.get("value") is not None]
    systems = [system_from_tokens_as_published(case["tokens"], VOCABULARY) for case in chosen]
    u = np.stack([np.pad(np.array(case["u"]), ((0, 0), (0, 5 - case["dim"]))) for case in chosen])
    with jax.enable_x64(True):
        stack = programs(systems, NAMES)
        over_points = lambda program, points: jax.vmap(program, (None, 0))(0.0, points)
        found = np.asarray(jax.jit(jax.vmap(over_points))(stack, u))
    assert len(systems) == 75 + 40 + 23 + 6
    for case, rows in zip(chosen, found, strict=True):
        expected = numbers(case["value"])
        assert not rows[:, expected.shape[1] :].any()
        np.testing.assert_allclose(rows[:, : expected.shape[1]], expected, rtol=1e-9, atol=1e-12, err_msg=str(case))


def test_published_expression_error(reference):
    """sqrt(sum (f' - f)^2 / (sum f^2 + 1e-6)) over 50 points and all components."""
    example = read_json(reference, "misc.json")["symbolic_error"]
    target, generated = (
        values_of(from_published_prefix(example[name]), example["points"]) for name in ("target", "generated")
    )
    error = np.sqrt(np.sum((generated - target) ** 2) / (np.sum(target**2) + 1e-6))
    np.testing.assert_allclose(error, example["value"], rtol=1e-12)
