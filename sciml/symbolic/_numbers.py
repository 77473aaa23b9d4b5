"""Floating-point numbers as three tokens: sign, mantissa, exponent."""

import dataclasses
import functools
import math
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class NumberCodec:
    """v ~ s m 10^k as the tokens s in {+, -}, m = `N` and `digits` digits, k = `E-largest` to `E+largest`.

    The mantissa is v in scientific notation, rounded to `digits` digits; k is the printed exponent less `digits - 1`,
    so that m is an integer: 2.667 -> `+ N267 E-2`. Numbers with k below the range are written `N000 E0` and keep
    their sign. The defaults are those of PROSE (Liu, Zhang, Schaeffer 2024).
    """

    digits: int = 3
    largest_exponent: int = 10

    def __post_init__(self) -> None:
        if self.digits < 1 or self.largest_exponent < self.digits - 1:
            raise ValueError(
                f"Expected at least 1 digit and exponents up to digits - 1 or more, which 1.0 needs, "
                f"got {self.digits} digits and exponents up to {self.largest_exponent}."
            )

    @functools.cached_property
    def words(self) -> tuple[str, ...]:
        """All tokens in the order of their ids: signs, exponents, mantissas, each sorted as text."""
        exponents = sorted(f"E{k}" for k in range(-self.largest_exponent, self.largest_exponent + 1))
        return ("+", "-", *exponents, *(f"N{m:0{self.digits}d}" for m in range(10**self.digits)))

    @functools.cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.words)

    def owns(self, token: str) -> bool:
        """Whether the token is part of a number."""
        return token in self._known

    def encode(self, value: float) -> list[str]:
        """The three tokens of a number.

        Raises:
            ValueError: If the number is too large or not finite.
        """
        if not math.isfinite(value):
            raise ValueError(f"Expected a finite number, got {value}.")
        sign = "-" if value < 0 else "+"
        mantissa, _, exponent = f"{abs(value):.{self.digits - 1}e}".partition("e")
        k = int(exponent) - (self.digits - 1)
        if k > self.largest_exponent:
            limit = f"{'9' * self.digits}e{self.largest_exponent}"
            raise ValueError(f"{value} has no tokens: the largest number is {limit}. Reject the sample or rescale it.")
        if k < -self.largest_exponent:
            return [sign, "N" + "0" * self.digits, "E0"]
        return [sign, "N" + mantissa.replace(".", ""), f"E{k}"]

    def decode(self, tokens: Sequence[str]) -> float:
        """The number of three tokens, s * m * 10**k in double precision as the published code multiplies it.

        Raises:
            ValueError: If the tokens are not a sign, a mantissa and an exponent, in this order.
        """
        order = [token[:1] for token in tokens]
        known = len(order) == 3 and order[0] in ("+", "-") and order[1:] == ["N", "E"] and all(map(self.owns, tokens))
        if not known:
            raise ValueError(
                f"Expected a sign, a mantissa and an exponent such as ['+', 'N{'1' * self.digits}', 'E-2'], "
                f"got {list(tokens)}."
            )
        return float((-1 if tokens[0] == "-" else 1) * int(tokens[1][1:]) * 10 ** int(tokens[2][1:]))

    def rounded(self, value: float) -> float:
        """The number that the tokens of `value` stand for.

        Raises:
            ValueError: As `encode`.
        """
        return self.decode(self.encode(value))


THREE_DIGITS = NumberCodec()
