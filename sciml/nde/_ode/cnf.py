"""Continuous normalising flow."""

import abc
from collections.abc import Callable, Mapping
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.nde._solve.integrals import Field, HutchinsonDivergence, Integrand, divergence, probe
from sciml.nde._solve.solve import AbstractSolve, Aux, Solve, regularised


class AbstractTrace(eqx.Module):
    """How the divergence of a flow's field is computed."""

    @abc.abstractmethod
    def integrand(self, x: Array, key: PRNGKeyArray | None) -> Integrand:
        """The divergence, for one solve from `x`."""


@final
class ExactTrace(AbstractTrace):
    """The whole Jacobian: one forward derivative per dimension in each evaluation of the field."""

    def integrand(self, x: Array, key: PRNGKeyArray | None) -> Integrand:
        """As in `AbstractTrace`; the key is not used."""
        return divergence


@final
class HutchinsonTrace(AbstractTrace):
    """Unbiased estimates by one random probe per solve, at the cost of one reverse derivative.

    The log density is then unbiased, its exponential is not.

    Attributes:
        draw: Distribution of the probe's entries, `jax.random.rademacher` or `jax.random.normal`.
    """

    draw: Callable[..., Array] = eqx.field(static=True, default=jax.random.rademacher)

    def integrand(self, x: Array, key: PRNGKeyArray | None) -> Integrand:
        """As in `AbstractTrace`.

        Raises:
            ValueError: If there is no key.
        """
        if key is None:
            raise ValueError("Hutchinson's estimate needs a random probe: give key=..., or use trace=ExactTrace().")
        return HutchinsonDivergence(probe(x, draw=self.draw, key=key))


@final
class CNF(eqx.Module):
    r"""Continuous normalising flow: a density that an ODE carries from the data to the standard normal one.

    .. math::  \log p(x) = \log N(y(t_1); 0, 1) + \int_0^{t_1} \mathrm{div} f(t, y) \, dt, \qquad y(0) = x

    Time runs from the data at 0 to the normal variable at t1, so that running integrals of a training step are
    positive. With `Jointly` in `solve`, `x` may be a batch and results have one value per sample.

    Sources: Chen et al. 2018, arXiv:1806.07366, theorem 1; Grathwohl et al., "FFJORD", 2019, arXiv:1810.01367. Unlike
    FFJORD's code, the log density is kept out of the error norm of the step sizes, so that regularisers do not change
    the steps.

    Attributes:
        field: `(t, y, args) -> dy/dt`, such as `MLPField`.
        size: Length of a sample.
        solve: How it is solved.
        trace: How the divergence is computed.
        t1: Time at which the density is normal.
    """

    field: Field
    size: int = eqx.field(static=True)
    solve: AbstractSolve = Solve()
    trace: AbstractTrace = ExactTrace()
    t1: float = eqx.field(static=True, default=1.0)

    def log_prob(self, x: Float[Array, "*batch size"], *, key: PRNGKeyArray | None = None) -> Float[Array, "*batch"]:
        """The logarithm of the density at `x`. Raises as `solution`."""
        return regularised(self, None).solution(x, key=key)[0]

    def solution(
        self,
        x: Float[Array, "*batch size"],
        *,
        integrands: Mapping[str, Integrand] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "*batch"], Aux]:
        """The log density, and what came with it: for training, with a regulariser in `solve`.

        The loss of RNODE is `-log_prob + 0.01 * aux.penalty` with `Solve(regulariser=RNODE())`, in the mean over
        samples (Finlay et al. 2020, arXiv:2002.02798).

        Args:
            x: The sample.
            integrands: Running integrals in addition to that of the divergence, which is named `divergence`.
            key: For the probe of `HutchinsonTrace` and a regulariser that draws at random.

        Raises:
            ValueError: If a sample has another size, or a probe is needed and there is no key.
        """
        probe_key, solve_key = (None, None) if key is None else jax.random.split(key)
        every = {"divergence": self.trace.integrand(self._checked(x), probe_key), **(integrands or {})}
        ts = jnp.array([0.0, self.t1], x.dtype)
        ys, aux = self.solve(self.field, x, ts, integrands=every, key=solve_key)
        normal = jnp.sum(jax.scipy.stats.norm.logpdf(ys[-1]), axis=-1)
        return normal + aux.integrals["divergence"][-1], aux

    def sample(self, *, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "*batch size"]:
        """A sample; a batch of that shape with `Jointly` in `solve`."""
        noise_key, solve_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, (*shape, self.size))
        solve = regularised(self.solve, None)
        ys, _ = solve(self.field, noise, jnp.array([self.t1, 0.0], noise.dtype), key=solve_key)
        return ys[-1]

    def _checked(self, x: Array) -> Array:
        if x.shape[-1] != self.size:
            raise ValueError(f"Expected samples of {self.size} numbers, got an array of shape {x.shape}.")
        return x
