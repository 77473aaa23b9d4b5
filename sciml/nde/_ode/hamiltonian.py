"""Hamiltonian neural network as a differential equation."""

from collections.abc import Callable, Mapping
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.nde._solve.integrals import Integrand
from sciml.nde._solve.solve import AbstractSolve, Aux, Solve


@final
class HamiltonianODE(eqx.Module):
    """Motion by an energy: dq/dt = dH/dp, dp/dt = -dH/dq for the state y = [q, p].

    H is conserved by the equation, and by the solution to the solver's tolerance.

    Source: Greydanus, Dzamba, Yosinski, "Hamiltonian neural networks", 2019, arXiv:1906.01563. The source fits the
    derivatives, here the solution can be fitted.

    Attributes:
        energy: H, from y to a scalar, such as `equinox.nn.MLP(2 * n, "scalar", 64, 2, jnp.tanh, key=key)`. It must have
            smooth derivatives: no relu.
        solve: How it is solved.
    """

    energy: Callable[[Array], Array]
    solve: AbstractSolve = Solve()

    def dynamics(self, t: Array, y: Float[Array, " twice"], args: PyTree = None) -> Float[Array, " twice"]:
        """The symplectic gradient [dH/dp, -dH/dq]."""
        half = y.shape[0] // 2
        slope = jax.grad(self.energy)(y)
        return jnp.concatenate((slope[half:], -slope[:half]))

    def __call__(
        self, y0: Float[Array, "*batch twice"], ts: Float[Array, " times"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "times *batch twice"]:
        """The states [q, p] at the times `ts`. Raises as `solution`."""
        return self.solution(y0, ts, key=key)[0]

    def solution(
        self,
        y0: Float[Array, "*batch twice"],
        ts: Float[Array, " times"],
        *,
        integrands: Mapping[str, Integrand] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "times *batch twice"], Aux]:
        """The states, and what came with them.

        Raises:
            ValueError: If the state has an odd number of entries.
        """
        if y0.shape[-1] % 2:
            raise ValueError(f"Expected as many positions as momenta in [q, p], got {y0.shape[-1]} entries.")
        return self.solve(self.dynamics, y0, ts, integrands=integrands, key=key)
