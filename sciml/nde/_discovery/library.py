"""Libraries of terms that an unknown equation may have."""

import itertools
from collections.abc import Sequence

from sciml import symbolic


def polynomials(variables: Sequence[symbolic.AbstractExpression], degree: int) -> symbolic.System:
    """1 and all products of up to `degree` variables, the lower degrees first: `polynomials(symbolic.states(3), 2)`.

    Raises:
        ValueError: If the degree is negative.
    """
    if degree < 0:
        raise ValueError(f"Expected a degree of 0 or more, got {degree}.")
    terms = [symbolic.as_expression(1)]
    for order in range(1, degree + 1):
        terms += [_monomial(factors) for factors in itertools.combinations_with_replacement(variables, order)]
    return tuple(terms)


def _monomial(factors: Sequence[symbolic.AbstractExpression]) -> symbolic.AbstractExpression:
    powers = [(base, len(list(same))) for base, same in itertools.groupby(factors)]
    return symbolic.product(*(base if exponent == 1 else base**exponent for base, exponent in powers))


def sines(variables: Sequence[symbolic.AbstractExpression]) -> symbolic.System:
    """Sine and cosine of each variable."""
    return tuple(function(variable) for variable in variables for function in (symbolic.sin, symbolic.cos))
