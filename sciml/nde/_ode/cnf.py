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
        """The integrand that computes the divergence during one solve from `x`."""


@final
class ExactTrace(AbstractTrace):
    """The trace of the full Jacobian: one forward-mode derivative per dimension in each evaluation of the field."""

    def integrand(self, x: Array, key: PRNGKeyArray | None) -> Integrand:
        """As in `AbstractTrace`; the key is not used."""
        return divergence


@final
class HutchinsonTrace(AbstractTrace):
    """Hutchinson's unbiased estimate with one random probe per solve: one vector-Jacobian product per evaluation.

    The estimate of the log density is unbiased; the density itself, its exponential, is biased.

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
    r"""Continuous normalising flow: an ODE that transports the density of the data to the standard normal density.

    .. math::  \log p(x) = \log N(y(t_1); 0, 1) + \int_0^{t_1} \mathrm{div} f(t, y) \, dt, \qquad y(0) = x

    Time runs from the data at 0 to the normal variable at t1, so that running integrals of positive integrands are
    positive in training. With `Jointly` in `solve`, `x` may be a batch, and results have one value per sample.

    Sources: Chen et al. 2018, arXiv:1806.07366, theorem 1; Grathwohl et al., "FFJORD", 2019, arXiv:1810.01367. Unlike
    in FFJORD's code, the error norm of the step size controller ignores the log density, and also the integrals of
    regularisers, so that neither changes the steps.

    Attributes:
        field: `(t, y, args) -> dy/dt`, such as `MLPField`.
        size: Dimension of a sample.
        solve: Solve configuration.
        trace: How the divergence is computed.
        t1: Time at which the density is standard normal.
    """

    field: Field
    size: int = eqx.field(static=True)
    solve: AbstractSolve = Solve()
    trace: AbstractTrace = ExactTrace()
    t1: float = eqx.field(static=True, default=1.0)

    def log_prob(self, x: Float[Array, "*batch size"], *, key: PRNGKeyArray | None = None) -> Float[Array, "*batch"]:
        """The log density at `x`, without a regulariser. Raises the errors of `solution`."""
        return regularised(self, None).solution(x, key=key)[0]

    def solution(
        self,
        x: Float[Array, "*batch size"],
        *,
        integrands: Mapping[str, Integrand] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Float[Array, "*batch"], Aux]:
        """The log density and the `Aux` of the solve, for training with a regulariser in `solve`.

        The loss of RNODE is the mean over samples of `-log_prob + 0.01 * aux.penalty` with
        `Solve(regulariser=RNODE())` (Finlay et al. 2020, arXiv:2002.02798).

        Args:
            x: The sample.
            integrands: Running integrals in addition to that of the divergence, which is named `divergence`.
            key: Random key for the probe of `HutchinsonTrace` and for a regulariser that needs one.

        Raises:
            ValueError: If the last axis of `x` is not `size` long, or a probe is needed and there is no key.
        """
        probe_key, solve_key = (None, None) if key is None else jax.random.split(key)
        every = {"divergence": self.trace.integrand(self._checked(x), probe_key), **(integrands or {})}
        ts = jnp.array([0.0, self.t1], x.dtype)
        ys, aux = self.solve(self.field, x, ts, integrands=every, key=solve_key)
        normal = jnp.sum(jax.scipy.stats.norm.logpdf(ys[-1]), axis=-1)
        return normal + aux.integrals["divergence"][-1], aux

    def sample(self, *, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "*batch size"]:
        """A sample from the model; with `Jointly` in `solve`, a batch of samples of batch shape `shape`."""
        noise_key, solve_key = jax.random.split(key)
        noise = jax.random.normal(noise_key, (*shape, self.size))
        solve = regularised(self.solve, None)
        ys, _ = solve(self.field, noise, jnp.array([self.t1, 0.0], noise.dtype), key=solve_key)
        return ys[-1]

    def _checked(self, x: Array) -> Array:
        if x.shape[-1] != self.size:
            raise ValueError(f"Expected samples of {self.size} numbers, got an array of shape {x.shape}.")
        return x
