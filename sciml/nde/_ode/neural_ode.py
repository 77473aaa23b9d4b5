"""Neural ordinary differential equations: first order, second order and Hamiltonian."""

from collections.abc import Callable, Mapping
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.nde._solve.integrals import Field, Integrand
from sciml.nde._solve.solve import AbstractSolve, Aux, Solve, regularised


@final
class NeuralODE(eqx.Module):
    """The solution of dy/dt = field(t, y, args) as a function of its initial state.

    With `augment` > 0, that many zeros are appended to the initial state, and the extra entries are dropped from the
    solution. The field then acts on `size + augment` entries, in which trajectories can pass each other without
    crossing.

    Sources: Chen, Rubanova, Bettencourt, Duvenaud, "Neural ordinary differential equations", 2018, arXiv:1806.07366;
    augmentation: Dupont, Doucet, Teh, "Augmented neural ODEs", 2019, arXiv:1904.01681.

    Attributes:
        field: `(t, y, args) -> dy/dt`, such as `MLPField`.
        solve: Solve configuration; `Jointly` solves a batch as one joint state.
        augment: Number of appended zeros.
    """

    field: Field
    solve: AbstractSolve = Solve()
    augment: int = eqx.field(static=True, default=0)

    def __call__(self, y0: PyTree, ts: Float[Array, " times"], args: PyTree = None) -> PyTree:
        """The states at the times `ts`; `ts[0]` is the time of `y0`. Raises the errors of `solution`."""
        return regularised(self, None).solution(y0, ts, args)[0]

    def solution(
        self,
        y0: PyTree,
        ts: Float[Array, " times"],
        args: PyTree = None,
        *,
        integrands: Mapping[str, Integrand] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[PyTree, Aux]:
        """The states, and the penalty, running integrals and statistics of the solve.

        Args:
            y0: Initial state: a vector, or any pytree of arrays if nothing is augmented.
            ts: Times, increasing or decreasing.
            args: Passed to the field.
            integrands: Running integrals, for example `{"energy": kinetic_energy}`.
            key: Random key for a regulariser that needs one.

        Raises:
            ValueError: If there are fewer than two times, or `augment` > 0 and `y0` is not an array.
        """
        if not self.augment:
            return self.solve(self.field, y0, ts, args, integrands=integrands, key=key)
        if not eqx.is_array(y0):
            raise ValueError(
                f"Expected an array to append {self.augment} zeros to, got a {type(y0).__name__}. "
                "Join the state into one vector, or set augment=0."
            )
        zeros = jnp.zeros((*y0.shape[:-1], self.augment), y0.dtype)
        start = jnp.concatenate((y0, zeros), axis=-1)
        ys, aux = self.solve(self.field, start, ts, args, integrands=integrands, key=key)
        return ys[..., : y0.shape[-1]], aux


@final
class SecondOrderODE(eqx.Module):
    """The solution of the second-order equation x'' = acceleration(t, [x, x'], args).

    Source: Norcliffe, Bodnar, Day, Simidjievski, Lio, "On second order behaviour in augmented neural ODEs", 2020,
    arXiv:2006.07220.

    Attributes:
        acceleration: Maps the 2 n entries [x, x'] to the n entries of x'', such as `MLPField(2 * n, n, key=key)`.
        solve: Solve configuration.
    """

    acceleration: Field
    solve: AbstractSolve = Solve()

    def dynamics(self, t: Array, y: Float[Array, " twice"], args: PyTree = None) -> Float[Array, " twice"]:
        """The field of the first-order system, d[x, v]/dt = [v, acceleration]."""
        half = y.shape[0] // 2
        return jnp.concatenate((y[half:], self.acceleration(t, y, args)))

    def __call__(
        self,
        x0: Float[Array, "*batch size"],
        v0: Float[Array, "*batch size"],
        ts: Float[Array, " times"],
        args: PyTree = None,
    ) -> tuple[Float[Array, "times *batch size"], Float[Array, "times *batch size"]]:
        """Positions and velocities at the times `ts`."""
        return regularised(self, None).solution(x0, v0, ts, args)[0]

    def solution(
        self,
        x0: Float[Array, "*batch size"],
        v0: Float[Array, "*batch size"],
        ts: Float[Array, " times"],
        args: PyTree = None,
        *,
        integrands: Mapping[str, Integrand] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[tuple[Float[Array, "times *batch size"], Float[Array, "times *batch size"]], Aux]:
        """Positions and velocities, and the `Aux`; integrands get the state [x, v] of the first-order system."""
        start = jnp.concatenate((x0, v0), axis=-1)
        ys, aux = self.solve(self.dynamics, start, ts, args, integrands=integrands, key=key)
        size = x0.shape[-1]
        return (ys[..., :size], ys[..., size:]), aux


@final
class HamiltonianODE(eqx.Module):
    """Hamiltonian dynamics of a learned energy H: dq/dt = dH/dp, dp/dt = -dH/dq for the state y = [q, p].

    The exact solution conserves H; the numerical solution conserves H up to the solver's errors.

    Source: Greydanus, Dzamba, Yosinski, "Hamiltonian neural networks", 2019, arXiv:1906.01563. The source fits
    derivatives; here the solution can be fitted.

    Attributes:
        energy: H, maps y to a scalar, such as `equinox.nn.MLP(2 * n, "scalar", 64, 2, jnp.tanh, key=key)`. Its
            derivatives must be smooth: no ReLU.
        solve: Solve configuration.
    """

    energy: Callable[[Array], Array]
    solve: AbstractSolve = Solve()

    def dynamics(self, t: Array, y: Float[Array, " twice"], args: PyTree = None) -> Float[Array, " twice"]:
        """The symplectic gradient [dH/dp, -dH/dq]."""
        half = y.shape[0] // 2
        slope = jax.grad(self.energy)(y)
        return jnp.concatenate((slope[half:], -slope[:half]))

    def __call__(
        self, y0: Float[Array, "*batch twice"], ts: Float[Array, " times"]
    ) -> Float[Array, "times *batch twice"]:
        """The states [q, p] at the times `ts`. Raises the errors of `solution`."""
        return regularised(self, None).solution(y0, ts)[0]

    def solution(
        self,
        y0: Float[Array, "*batch twice"],
        ts: Float[Array, " times"],
        *,
        integrands: Mapping[str, Integrand] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "times *batch twice"], Aux]:
        """The states [q, p] at the times `ts`, and the `Aux`.

        Raises:
            ValueError: If the state has an odd number of entries.
        """
        if y0.shape[-1] % 2:
            raise ValueError(f"Expected as many positions as momenta in [q, p], got {y0.shape[-1]} entries.")
        return self.solve(self.dynamics, y0, ts, integrands=integrands, key=key)
