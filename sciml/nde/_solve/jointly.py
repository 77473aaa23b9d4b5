"""A batch as one state: all samples share the steps of one solve."""

from collections.abc import Mapping
from typing import Any, final

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.nde._solve.integrals import AbstractHutchinson, Field, Integrand
from sciml.nde._solve.solve import AbstractSolve, Aux


@final
class _JointField(eqx.Module):
    single: Field

    def __call__(self, t: Any, y: PyTree, args: PyTree = None) -> PyTree:
        return jax.vmap(lambda y: self.single(t, y, args))(y)


@final
class _JointIntegrand(eqx.Module):
    integrand: Integrand

    def __call__(self, t: Any, y: PyTree, dy: PyTree, args: PyTree, field: Field) -> Array:
        probes, rest = eqx.partition(self.integrand, _probes(self.integrand))
        one = lambda probes, y, dy: eqx.combine(probes, rest)(t, y, dy, args, field.single)  # pyright: ignore
        return jax.vmap(one)(probes, y, dy)


def _probes(integrand: Integrand) -> PyTree:
    is_probe = lambda node: isinstance(node, AbstractHutchinson)
    return jax.tree.map(is_probe, integrand, is_leaf=is_probe)


@final
class Jointly(AbstractSolve):
    """Solves for a batch of initial states as for a single state, with the field mapped over the batch inside.

    `NeuralODE(field, Jointly(Solve()))` takes `y0` of shape `(batch, size)` and returns `(time, batch, size)`.
    `jax.vmap(NeuralODE(field, Solve()), (0, None))` returns `(batch, time, size)`, by steps of each sample's own.
    The joint solve is faster to differentiate in the field's parameters, because their gradient is carried through the
    backward pass once and not once per sample. But the default norm is a mean over the batch too, in which a hard
    sample may exceed the tolerance: give the controller a norm that takes the maximum over samples where that matters.

    Integrals and log densities have one value per sample, and a probe of Hutchinson's has the shape of the batch. The
    times and `args` are shared. The penalty and the statistics are those of the one solve.

    Attributes:
        solve: Solves the joint equation.
    """

    solve: AbstractSolve

    def __call__(
        self,
        field: Field,
        y0: PyTree,
        ts: Float[Array, " times"],
        args: PyTree = None,
        *,
        integrands: Mapping[str, Integrand] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[PyTree, Aux]:
        """As in `AbstractSolve`; every leaf of `y0` leads with the batch."""
        joint = {name: _JointIntegrand(integrand) for name, integrand in (integrands or {}).items()}
        return self.solve(_JointField(field), y0, ts, args, integrands=joint, key=key)


def jointly(model: Any) -> Any:
    """The model with its `solve` replaced by `Jointly(solve)`: a model of batches with the same parameters."""
    return eqx.tree_at(lambda model: model.solve, model, Jointly(model.solve))
