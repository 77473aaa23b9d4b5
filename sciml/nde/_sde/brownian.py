"""Brownian motions: from a tree at any times, on a grid of times, or from fresh numbers."""

import abc
from typing import Any, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class AbstractBrownian(eqx.Module):
    """Makes the Brownian motion of one solve."""

    @abc.abstractmethod
    def __call__(self, t0: Any, t1: Any, shape: jax.ShapeDtypeStruct, *, key: PRNGKeyArray) -> dfx.AbstractBrownianPath:
        """A path on [t0, t1] of that shape."""


@final
class BrownianTree(AbstractBrownian):
    """A path that is the same however it is stepped through, by `diffrax.VirtualBrownianTree`.

    Attributes:
        tol: Time below which the path is interpolated: smaller than every step, dt0 / 2 for constant ones.
        levy_area: What is sampled beside increments. The default suits all solvers of this package's noises;
            `diffrax.BrownianIncrement` costs half as much and suits all but stochastic Runge-Kutta methods (SPaRK,
            ShARK, GeneralShARK, SlowRK, SRA1, SEA).
    """

    tol: float = eqx.field(static=True)
    levy_area: Any = eqx.field(static=True, default=dfx.SpaceTimeLevyArea)

    def __call__(self, t0: Any, t1: Any, shape: jax.ShapeDtypeStruct, *, key: PRNGKeyArray) -> dfx.AbstractBrownianPath:
        """The tree on [t0, t1]."""
        return dfx.VirtualBrownianTree(t0, t1, self.tol, shape, key, self.levy_area)


@final
class IndependentIncrements(AbstractBrownian):
    """A fresh normal number for each step, by `diffrax.UnsafeBrownianPath`: the fastest, for simulation alone.

    Only for constant steps, and without reverse-mode gradients: `Solve(adjoint=diffrax.ForwardMode())`. Diffrax raises
    an error otherwise.

    Attributes:
        levy_area: As for `BrownianTree`.
    """

    levy_area: Any = eqx.field(static=True, default=dfx.SpaceTimeLevyArea)

    def __call__(self, t0: Any, t1: Any, shape: jax.ShapeDtypeStruct, *, key: PRNGKeyArray) -> dfx.AbstractBrownianPath:
        """The path; the times are not used."""
        return dfx.UnsafeBrownianPath(shape, key, self.levy_area)


@final
class BrownianGrid(AbstractBrownian):
    """A path drawn at equally spaced times before the solve, and linear between them.

    Meant for constant steps, `Solve(solver, diffrax.ConstantStepSize(), dt0=(t1 - t0) / steps)`: then its increments
    are exact, and diffrax differentiates it in reverse mode; the numbers of all steps are in memory. Has no space-time
    Levy area: diffrax refuses stochastic Runge-Kutta methods (SPaRK, ShARK, GeneralShARK, SlowRK, SRA1, SEA).

    Attributes:
        steps: Number of intervals of the grid. Shorter steps see a smooth path; longer ones sum whole intervals.
    """

    steps: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Expected at least 1 interval, got {self.steps} steps.")

    def __call__(self, t0: Any, t1: Any, shape: jax.ShapeDtypeStruct, *, key: PRNGKeyArray) -> dfx.AbstractBrownianPath:
        """The path on [t0, t1]."""
        t0, t1 = jnp.asarray(t0, float), jnp.asarray(t1, float)
        step = ((t1 - t0) / self.steps).astype(shape.dtype)
        increments = jnp.sqrt(step) * jax.random.normal(key, (self.steps, *shape.shape), shape.dtype)
        start = jnp.zeros((1, *shape.shape), shape.dtype)
        values = jnp.concatenate((start, jnp.cumsum(increments, axis=0)))
        return _GridPath(values, t0, t1)  # pyright: ignore[reportCallIssue]


@final
class _GridPath(dfx.AbstractBrownianPath):
    """A Brownian motion that is linear between its values at equally spaced times from `t0` to `t1`."""

    values: Float[Array, "times ..."]
    t0: Array  # pyright: ignore[reportIncompatibleVariableOverride]
    t1: Array  # pyright: ignore[reportIncompatibleVariableOverride]
    levy_area: Any = eqx.field(static=True, default=dfx.BrownianIncrement)

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, use_levy: bool = False) -> Any:
        """The value at `t0`, or the increment from `t0` to `t1`."""
        del left
        if t1 is None:
            return self._at(t0)
        increment = self._at(t1) - self._at(t0)
        dt = jnp.asarray(t1 - t0, increment.dtype)
        return dfx.BrownianIncrement(dt=dt, W=increment) if use_levy else increment

    def _at(self, t: Any) -> Array:
        values, steps = jax.lax.stop_gradient(self.values), self.values.shape[0] - 1
        place = jax.lax.stop_gradient(jnp.clip((t - self.t0) / (self.t1 - self.t0), 0, 1) * steps)
        row = jnp.minimum(place.astype(jnp.int32), steps - 1)
        weight = (place - row).astype(values.dtype)
        return values[row] + weight * (values[row + 1] - values[row])
