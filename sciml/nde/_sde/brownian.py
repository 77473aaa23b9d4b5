"""Brownian motions: a virtual Brownian tree, values on a time grid, or independent increments per step."""

import abc
from typing import Any, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


class AbstractBrownian(eqx.Module):
    """A factory for the Brownian motion of one solve."""

    @abc.abstractmethod
    def __call__(self, t0: Any, t1: Any, shape: jax.ShapeDtypeStruct, *, key: PRNGKeyArray) -> dfx.AbstractBrownianPath:
        """A Brownian path on [t0, t1] whose values have this shape and dtype."""


@final
class BrownianTree(AbstractBrownian):
    """A path that depends on the key only, not on the steps of the solver: `diffrax.VirtualBrownianTree`.

    Attributes:
        tol: Time scale below which the path is interpolated. Choose it smaller than every step, such as dt0 / 2 for
            constant steps.
        levy_area: What is sampled in addition to the increments. The default suits all solvers for the noises of this
            package. `diffrax.BrownianIncrement` costs half as much and suits all solvers except stochastic Runge-Kutta
            methods (SPaRK, ShARK, GeneralShARK, SlowRK, SRA1, SEA).
    """

    tol: float = eqx.field(static=True)
    levy_area: Any = eqx.field(static=True, default=dfx.SpaceTimeLevyArea)

    def __call__(self, t0: Any, t1: Any, shape: jax.ShapeDtypeStruct, *, key: PRNGKeyArray) -> dfx.AbstractBrownianPath:
        """The tree on [t0, t1]."""
        return dfx.VirtualBrownianTree(t0, t1, self.tol, shape, key, self.levy_area)


@final
class IndependentIncrements(AbstractBrownian):
    """Independent normal increments for each step: `diffrax.UnsafeBrownianPath`, the fastest choice for simulation.

    It supports constant steps only and no reverse-mode gradients: use `Solve(adjoint=diffrax.ForwardMode())`. Otherwise
    diffrax raises an error.

    Attributes:
        levy_area: As for `BrownianTree`.
    """

    levy_area: Any = eqx.field(static=True, default=dfx.SpaceTimeLevyArea)

    def __call__(self, t0: Any, t1: Any, shape: jax.ShapeDtypeStruct, *, key: PRNGKeyArray) -> dfx.AbstractBrownianPath:
        """The path; the times are not used."""
        return dfx.UnsafeBrownianPath(shape, key, self.levy_area)


@final
class BrownianGrid(AbstractBrownian):
    """A path that is sampled at equally spaced times before the solve, and linear between them.

    It is meant for constant steps on the grid, `Solve(solver, diffrax.ConstantStepSize(), dt0=(t1 - t0) / steps)`:
    the increments then have the exact distribution, and reverse-mode gradients work. All values are kept in memory. The
    path has no space-time Levy area, so that diffrax raises an error for stochastic Runge-Kutta methods (SPaRK, ShARK,
    GeneralShARK, SlowRK, SRA1, SEA).

    Attributes:
        steps: Number of intervals of the grid. Steps of the solver that are shorter than an interval see a piecewise
            linear path; longer steps sum the increments of the intervals.
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
        start = jnp.zeros(shape.shape, shape.dtype)
        # Sums in turn: on CPUs cumsum, a tree of sums, takes far longer.
        _, sums = jax.lax.scan(lambda value, change: (value + change, value + change), start, increments)
        values = jnp.concatenate((start[None], sums))
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
