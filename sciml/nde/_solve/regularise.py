"""How a solve in training differs from the plain one, so that the learned equation is cheap to solve."""

import abc
import dataclasses
from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.nde._solve.integrals import (
    Field,
    HutchinsonFrobenius,
    Integrand,
    kinetic_energy,
    per_dimension,
    probe,
)
from sciml.nde._solve.integrating import Integrating
from sciml.nde._solve.jointly import Jointly
from sciml.nde._solve.solve import AbstractSolve, Solve
from sciml.nde._solve.steer import steer, steer_times


class AbstractRegulariser(eqx.Module):
    """A solve for training: the states, and a number that the loss adds with a coefficient.

    Training takes `states, value = regulariser(solve, field, y0, ts, key=key)` and the loss
    `task(states) + coefficient * value`, prediction `solve(field, y0, ts)`. The coefficient is a number or an optax
    schedule of the step; choose it on validation data. A regulariser changes which equation is learned: it suits maps
    from a first to a last state, and biases an equation that is to be identified.
    """

    @abc.abstractmethod
    def __call__(
        self,
        solve: AbstractSolve,
        field: Field,
        y0: PyTree,
        ts: Float[Array, " times"],
        args: PyTree = None,
        *,
        key: PRNGKeyArray,
    ) -> tuple[PyTree, Float[Array, ""]]:
        """States at the times `ts`, time first, and the number to add.

        Args:
            solve: A `Solve`, `Jointly` of one for a batch, or `Integrating` of either for losses of integrals.
            field: Derivative of the state, `(t, y, args) -> dy/dt`.
            y0: State at `ts[0]`.
            ts: Times, increasing or decreasing.
            args: Passed to the field.
            key: Of what is drawn at random.
        """


@final
class Unregularised(AbstractRegulariser):
    """The plain solve, and 0."""

    def __call__(
        self,
        solve: AbstractSolve,
        field: Field,
        y0: PyTree,
        ts: Float[Array, " times"],
        args: PyTree = None,
        *,
        key: PRNGKeyArray,
    ) -> tuple[PyTree, Float[Array, ""]]:
        """As in `AbstractRegulariser`."""
        return solve(field, y0, ts, args)[0], jnp.zeros((), ts.dtype)


@final
class Penalised(AbstractRegulariser):
    """A penalty of the solver's own estimates: `Penalised(ErrorPenalty())`.

    Attributes:
        penalty: As for `nde.diffeqsolve`.
    """

    penalty: Any

    def __call__(
        self,
        solve: AbstractSolve,
        field: Field,
        y0: PyTree,
        ts: Float[Array, " times"],
        args: PyTree = None,
        *,
        key: PRNGKeyArray,
    ) -> tuple[PyTree, Float[Array, ""]]:
        """As in `AbstractRegulariser`.

        Raises:
            ValueError: If the solve is neither a `Solve` nor `Jointly` of one, or cannot have the penalty.
        """
        states, aux = with_penalty(solve, self.penalty)(field, y0, ts, args, key=key)
        return states, aux.penalty


@final
class Steered(AbstractRegulariser):
    """Random times (STEER), and 0. With two times the end is drawn within `reach`; more are drawn around themselves.

    Source: Ghosh et al. 2020, arXiv:2006.10711; see `steer` and `steer_times`.

    Attributes:
        reach: Largest shift of the end.
    """

    reach: float = 0.5

    def __call__(
        self,
        solve: AbstractSolve,
        field: Field,
        y0: PyTree,
        ts: Float[Array, " times"],
        args: PyTree = None,
        *,
        key: PRNGKeyArray,
    ) -> tuple[PyTree, Float[Array, ""]]:
        """As in `AbstractRegulariser`; the states are those at the drawn times."""
        moved = steer_times(key, ts) if ts.shape[0] > 2 else ts.at[-1].set(steer(key, ts[-1], self.reach))
        return solve(field, y0, moved, args)[0], jnp.zeros((), ts.dtype)


@final
class Integrated(AbstractRegulariser):
    """An integral along the solution, such as `Integrated(per_dimension(taylor(2)))`, TayNODE; the mean of a batch.

    Attributes:
        integrand: As for `with_integrals`.
    """

    integrand: Integrand

    def __call__(
        self,
        solve: AbstractSolve,
        field: Field,
        y0: PyTree,
        ts: Float[Array, " times"],
        args: PyTree = None,
        *,
        key: PRNGKeyArray,
    ) -> tuple[PyTree, Float[Array, ""]]:
        """As in `AbstractRegulariser`."""
        states, aux = solve(field, y0, ts, args, integrands={"value": self.integrand})
        return states, jnp.mean(aux.integrals["value"][-1])


@final
class KineticJacobian(AbstractRegulariser):
    """RNODE: the integral of |f|^2 + |e^T df/dy|^2, each divided by the dimension, for a random probe e.

    Source: Finlay et al. 2020, arXiv:2002.02798, equation (9), with equal coefficients as there.
    """

    def __call__(
        self,
        solve: AbstractSolve,
        field: Field,
        y0: PyTree,
        ts: Float[Array, " times"],
        args: PyTree = None,
        *,
        key: PRNGKeyArray,
    ) -> tuple[PyTree, Float[Array, ""]]:
        """As in `AbstractRegulariser`."""
        jacobian = HutchinsonFrobenius(probe(y0, key=key))
        integrands = {"kinetic": per_dimension(kinetic_energy), "jacobian": per_dimension(jacobian)}
        states, aux = solve(field, y0, ts, args, integrands=integrands)
        return states, jnp.mean(aux.integrals["kinetic"][-1] + aux.integrals["jacobian"][-1])


def with_penalty(solve: AbstractSolve, penalty: Any) -> AbstractSolve:
    """The solve with another penalty.

    Raises:
        ValueError: If it is neither a `Solve` nor `Jointly` or `Integrating` of one.
    """
    if isinstance(solve, Jointly | Integrating):
        return dataclasses.replace(solve, solve=with_penalty(solve.solve, penalty))
    if isinstance(solve, Solve):
        return dataclasses.replace(solve, penalty=penalty)
    raise ValueError(f"Expected a Solve, or Jointly of one, to add a penalty to, got {type(solve).__name__}.")
