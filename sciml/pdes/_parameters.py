"""Constants of a generator that differ from sample to sample: settings that are ranges, and what is drawn from them."""

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Problem = TypeVar("Problem", bound="AbstractParametrised")

Setting = float | tuple[float, float]
"""A constant of an equation: a number, or the ends of a range from which each sample draws its own number."""

_DRAW = 0x70617261  # far from the numbers that `jax.random.split` and the initial fields fold into the same key


def number(setting: Any) -> Any:
    """A constant that is no range; it may be traced.

    Raises:
        ValueError: If it is a range.
    """
    if isinstance(setting, tuple):
        raise ValueError(f"Expected a number, got the range {setting}. Choose one with `problem.at(name=number)`.")
    return setting


class AbstractParametrised:
    """A generator whose constants may be ranges, from which each sample draws. Subclasses are frozen dataclasses.

    Attributes:
        logarithmic: Names of the positive constants; in a range, their logarithms are uniform.
        uniform: Names of the constants that are uniform in a range.
    """

    logarithmic: ClassVar[tuple[str, ...]] = ()
    uniform: ClassVar[tuple[str, ...]] = ()

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the constants that are ranges, in the order of the fields."""
        known = {*self.logarithmic, *self.uniform}
        fields: Any = self  # each subclass is a dataclass
        names = [field.name for field in dataclasses.fields(fields)]
        return tuple(name for name in names if name in known and isinstance(getattr(self, name), tuple))

    def draw_parameters(self, key: Key[Array, ""]) -> Float[Array, " parameters"]:
        """The constants of the sample of a key, in JAX's default precision; each is a number of float32."""
        names = self.parameters
        low, high = (jnp.asarray([self._scaled(name)[end] for name in names], float) for end in (0, 1))
        drawn = jax.random.uniform(jax.random.fold_in(key, _DRAW), (len(names),), float, low, high)
        powers = jnp.asarray([name in self.logarithmic for name in names], bool)
        return jnp.where(powers, jnp.exp(drawn), drawn).astype(jnp.float32).astype(float)

    def _scaled(self, name: str) -> tuple[float, float]:
        low, high = getattr(self, name)
        return (math.log(low), math.log(high)) if name in self.logarithmic else (low, high)

    def at(self: Problem, **numbers: Any) -> Problem:
        """The same problem with other constants, which may be traced and are not checked."""
        made = copy.copy(self)
        for name, value in numbers.items():
            object.__setattr__(made, name, value)
        return made

    def drawn(self: Problem, key: Key[Array, ""]) -> Problem:
        """The problem of the sample of a key, with numbers in place of ranges."""
        names = self.parameters
        if not names:
            return self
        return self.at(**dict(zip(names, self.draw_parameters(key), strict=True)))

    def corners(self: Problem) -> Iterator[Problem]:
        """The problems at the ends of all ranges, whose constants are numbers.

        Raises:
            ValueError: If a range is empty or not finite, or not positive where its logarithm is drawn.
        """
        for name in self.parameters:
            low, high = getattr(self, name)
            if not (0 if name in self.logarithmic else -math.inf) < low < high < math.inf:
                kind = "a range of positive numbers" if name in self.logarithmic else "a range"
                raise ValueError(f"Expected {kind}, smallest first, for {name}, got {(low, high)}.")
        for ends in itertools.product(*(getattr(self, name) for name in self.parameters)):
            yield self.at(**dict(zip(self.parameters, ends, strict=True)))
