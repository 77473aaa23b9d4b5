import numpy as np
import pytest
from expression_strategies import (
    beartype_draws,
    integers,
    placeholders,
    read_json,
    repeatable,
    rounded_reals,
    systems,
    variables,
)
from hypothesis import given
from hypothesis import strategies as st

from sciml.symbolic import (
    NumberCodec,
    Real,
    Vocabulary,
    fluid_vocabulary,
    from_tokens,
    ode_vocabulary,
    pde_vocabulary,
    states,
    system_from_tokens,
    system_from_tokens_as_published,
    system_to_tokens,
    to_tokens,
    walk,
)

pytestmark = beartype_draws

ALL = pde_vocabulary()
PDE_OPERATORS = tuple(ALL.operators)


@given(systems(rounded_reals, integers, placeholders, variables, operators=PDE_OPERATORS))
@repeatable
def test_systems_go_through_tokens_and_ids(system):
    vocabulary = Vocabulary((*ALL.words, "u_1", "u_2"), ALL.operators)
    tokens = system_to_tokens(system)
    ids = vocabulary.encode(tokens)
    assert ids.dtype == np.int32
    assert system_from_tokens(vocabulary.decode(ids)) == system
    if "<PLACEHOLDER>" not in tokens:
        assert system_from_tokens_as_published(tokens, vocabulary) == system
    else:
        assert system_from_tokens_as_published(tokens, vocabulary) is None


def test_published_numbers(reference):
    codec, cases = NumberCodec(), read_json(reference, "floats.json")
    assert len(cases) == 40
    for case in cases:
        assert codec.encode(case["value"]) == case["tokens"], case
        assert codec.decode(case["tokens"]) == case["decoded"], case  # the same products in double precision


@given(st.floats(1e-6, 1e9) | st.floats(-1e9, -1e-6), st.integers(1, 5))
@repeatable
def test_numbers_are_rounded_to_their_digits(value, digits):
    codec = NumberCodec(digits, 12)
    tokens = codec.encode(value)
    assert all(map(codec.owns, tokens))
    assert len(tokens[1]) == 1 + digits
    assert abs(codec.rounded(value) - value) <= (0.5 + 1e-9) * 10.0 ** (1 - digits) * abs(value)
    assert codec.encode(codec.rounded(value)) == tokens


@pytest.mark.parametrize("value", [1e13, -9.999e12])
def test_numbers_beyond_the_exponents_have_no_tokens(value):
    with pytest.raises(ValueError, match=r"has no tokens: the largest number is 999e10. Reject the sample"):
        NumberCodec().encode(value)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_numbers_that_are_not_finite_have_no_tokens(value):
    with pytest.raises(ValueError, match="Expected a finite number, got"):
        to_tokens(Real(value))


def test_codecs_that_cannot_write_one():
    with pytest.raises(ValueError, match=r"at least 1 digit and exponents .* got 0 digits"):
        NumberCodec(0)
    with pytest.raises(ValueError, match="got 5 digits and exponents up to 3"):
        NumberCodec(5, 3)


@pytest.mark.parametrize("tokens", [["N100", "+", "E1"], ["+", "N10", "E1"], ["+", "N100", "E11"], ["+", "N100"]])
def test_tokens_that_are_no_number(tokens):
    with pytest.raises(ValueError, match=r"Expected a sign, a mantissa and an exponent such as"):
        NumberCodec().decode(tokens)


def test_published_vocabularies(reference):
    ode, pde = read_json(reference, "vocab.json"), read_json(reference, "vocab_pde.json")["pde_v1"]
    for dimension, name in ((3, "3d"), (5, "multi_d")):
        vocabulary, published = ode_vocabulary(dimension), ode[name]
        assert list(vocabulary.id_to_word) == published["id_to_word"]
        assert len(vocabulary) == published["n_words"]
        assert vocabulary.bos == published["bos"]
        assert vocabulary.eos == published["eos"]
        assert vocabulary.pad == published["pad_used_by_model"]
        assert vocabulary.pad_in_batches == published["pad_written_in_batches"]
        assert vocabulary.placeholder == published["placeholder"]
    assert list(pde_vocabulary().id_to_word) == pde["id_to_word"]
    assert (ALL.bos, ALL.eos, ALL.pad, ALL.pad_in_batches) == tuple(
        pde[name] for name in ("bos", "eos", "model_pad", "batch_pad")
    )
    fluids = read_json(reference, "vocab_fd.json")["fd"]
    assert list(fluid_vocabulary().id_to_word) == fluids["id_to_word"]
    assert (fluid_vocabulary().bos, fluid_vocabulary().pad) == (fluids["bos"], fluids["pad"])


def test_words_and_ids_that_are_not_in_the_vocabulary():
    with pytest.raises(ValueError, match=r"Position 1: 'u_3' is not in the vocabulary of 1072 ids.* reject the sample"):
        ode_vocabulary(3).encode(["sin", "u_3"])
    with pytest.raises(ValueError, match="Position 2: expected an id from 0 to 1071, got 1072"):
        ode_vocabulary(3).decode([0, 1, 1072])
    with pytest.raises(ValueError, match="Position 0: expected an id from 0 to 1071, got -1"):
        ode_vocabulary(3).decode([-1])


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("", "Position 0: expected an expression, the tokens end"),
        ("add u_0", "Position 2: expected an expression as argument 2 of 'add', the tokens end"),
        ("u_0 |", "Position 2: expected an expression, the tokens end"),
        ("u_0 | | u_1", r"Position 2: expected an operator, a variable, .* got '\|'"),
        ("sin u_0 u_1", r"Position 2: the expression is complete, expected '\|' or no further token, got 'u_1'. Cut"),
        ("mul + N500", r"Position 1: Expected a sign, a mantissa .* got \['\+', 'N500'\]"),
        ("mul + E1 N100 u_0", "Position 1: Expected a sign, a mantissa"),
        ("add u_0 N100", "Position 2: expected an operator, a variable, .* got 'N100'.$"),
        ("add u_0 <EOS> <PAD>", "Position 2: expected .* got '<EOS>'. Strip special words first."),
    ],
)
def test_malformed_tokens_are_located(tokens, message):
    with pytest.raises(ValueError, match=message):
        system_from_tokens(tokens.split())


def test_one_expression_is_not_a_system():
    x, y = states(2)
    assert from_tokens(["mul", "u_0", "u_1"]) == x * y
    with pytest.raises(ValueError, match=r"Expected one expression, got 2 components\. Use system_from_tokens"):
        from_tokens(["u_0", "|", "u_1"])


# A sign takes two tokens with it, whatever they are, so that the operators around it may lack an argument.
@pytest.mark.parametrize(
    ("tokens", "heads"),
    [
        ("mul + u_0 u_1 u_2", ["mul", "nan", "u_2"]),
        ("add + N100 u_0", None),
        ("add - -7 E1 u_0", ["add", "-70.0", "u_0"]),
        ("+ N100 N999", ["nan"]),
        ("+ N100 E-10 cos", ["1e-08"]),
        ("+ + E1", ["nan"]),
        ("CONSTANT u_0", ["CONSTANT"]),
        ("N100", None),
        ("INT+", None),
    ],
)
def test_the_published_parser_takes_three_tokens_for_a_number(tokens, heads):
    system = system_from_tokens_as_published(tokens.split(), ode_vocabulary(3))
    assert (system and [node.head for node in walk(system[0])]) == heads
