"""A solve that returns running integrals beside the states."""

from collections.abc import Mapping
from typing import final

from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.nde._solve.integrals import Field, Integrand
from sciml.nde._solve.solve import AbstractSolve, Aux


@final
class Integrating(AbstractSolve):
    """A solve whose states are the pair of the states and the running integrals of its own `integrands`.

    What takes a solve and returns states, such as an `AbstractRegulariser`, then serves losses of integrals as well.
    The log density of a `CNF` with any of them, of samples x `(batch, size)` and with `solve = Jointly(Solve())`::

        along = Integrating(solve, {"divergence": divergence})
        (ys, integrals), value = regulariser(along, field, x, ts, key=key)
        log_prob = jax.scipy.stats.norm.logpdf(ys[-1]).sum(axis=-1) + integrals["divergence"][-1]

    The steps are those of `solve` alone.

    Attributes:
        solve: Solves the equation; `Jointly` goes inside.
        integrands: As for `with_integrals`.
    """

    solve: AbstractSolve
    integrands: dict[str, Integrand]

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
        """As in `AbstractSolve`; `Aux` holds the integrals of the argument `integrands` alone.

        Raises:
            ValueError: If an integral of the argument is named as one of its own.
        """
        more = {} if integrands is None else dict(integrands)
        both = sorted(self.integrands.keys() & more.keys())
        if both:
            raise ValueError(
                f"Expected integrals of other names than those of Integrating, got {', '.join(both)} again. "
                "Rename one of them."
            )
        ys, aux = self.solve(field, y0, ts, args, integrands=self.integrands | more, key=key)
        own = {name: aux.integrals[name] for name in self.integrands}
        return (ys, own), Aux(aux.penalty, {name: aux.integrals[name] for name in more}, aux.stats)
