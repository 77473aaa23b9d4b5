"""Latent stochastic differential equation: a generative model of irregularly sampled time series."""

import dataclasses
from collections.abc import Callable
from typing import Any, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.nde._cde.control import check_series
from sciml.nde._ode.latent_ode import ELBO, gaussian_elbo
from sciml.nde._sde.brownian import AbstractBrownian
from sciml.nde._sde.sde import DiagonalNoise, noise_term
from sciml.nde._solve.integrals import Field, Integrand
from sciml.nde._solve.solve import Aux, Solve, regularised


@final
class _KLPath(eqx.Module):
    prior_drift: Field
    diffusion: Callable[..., Any]

    def __call__(self, t: Any, y: PyTree, dy: PyTree, args: PyTree, field: Field) -> Float[Array, ""]:
        difference = dy - self.prior_drift(t, y, args)
        noise = self.diffusion(t, y, args)
        if isinstance(noise, lx.AbstractLinearOperator):
            return 0.5 * jnp.sum(_solve(noise, difference) ** 2)
        if noise.ndim == 2:
            return 0.5 * jnp.sum(_solve(lx.MatrixLinearOperator(noise), difference) ** 2)
        return 0.5 * jnp.sum((difference / noise) ** 2)


def _solve(noise: lx.AbstractLinearOperator, difference: Array) -> Array:
    if noise.in_size() < noise.out_size():
        raise ValueError(
            f"A diffusion of {noise.out_size()} states by {noise.in_size()} noises leaves directions without noise, in "
            "which the divergence is infinite. Give at least as many noises as states."
        )
    return lx.linear_solve(noise, difference, lx.AutoLinearSolver(well_posed=None)).value


def kl_path(prior_drift: Field, diffusion: Callable[..., Any]) -> Integrand:
    r"""The integrand :math:`\frac12 |g^{-1} (f - h)|^2` of dy = f dt + g dW against dy = h dt + g dW.

    The mean of its integral over paths of the first equation is the Kullback-Leibler divergence of the first from the
    second. f is the drift that `with_integrals` extends. The noise of the extended equation must act on the state only,
    not on the integral.

    Sources: Li, Wong, Chen, Duvenaud, "Scalable gradients for stochastic differential equations", 2020,
    arXiv:2001.01328; Girsanov's theorem.

    Args:
        prior_drift: h, `(t, y, args) -> dy/dt`.
        diffusion: g, `(t, y, args)` to a vector (diagonal noise), a scalar (for all states), a matrix (states, noises),
            or a `lineax` operator, whose structure is used. With more noises than states, the minimum-norm solution is
            taken, as the theorem requires.

    Raises:
        ValueError: When called, if there are fewer noises than states.
    """
    return _KLPath(prior_drift, diffusion)


@final
class ContextEncoder(eqx.Module):
    """A GRU that reads a time series backwards and returns a context vector for each time.

    The input at each time is [x, mask, gap]: the values with 0 where missing, 1 where observed and 0 where missing, and
    the time to the next row.

    Attributes:
        cell: The recurrent cell.
        context: Maps the GRU state at one time to the context of that time.
        start: Maps the GRU state at the first time to mean and log standard deviation of the latent state.
    """

    cell: eqx.nn.GRUCell
    context: eqx.nn.Linear
    start: eqx.nn.Linear

    def __init__(self, size: int, latent: int, *, context: int = 16, hidden: int = 40, key: PRNGKeyArray) -> None:
        """Initialises the weights.

        Args:
            size: Number of values at each time.
            latent: Size of the latent state.
            context: Size of the context.
            hidden: Size of the GRU state.
            key: Random key for the weights.
        """
        cell_key, context_key, start_key = jax.random.split(key, 3)
        self.cell = eqx.nn.GRUCell(2 * size + 1, hidden, key=cell_key)
        self.context = eqx.nn.Linear(hidden, context, key=context_key)
        self.start = eqx.nn.Linear(hidden, 2 * latent, key=start_key)

    def __call__(
        self, ts: Float[Array, " times"], xs: Float[Array, "times size"]
    ) -> tuple[Float[Array, "times context"], Float[Array, " latent"], Float[Array, " latent"]]:
        """Contexts, whose row i depends on rows i, i + 1, ... of `xs`; mean and log standard deviation at `ts[0]`.

        Raises:
            ValueError: If there are fewer than two times or they do not increase (a runtime error if traced).
        """
        ts, xs = check_series(ts, xs)
        seen = ~jnp.isnan(xs)
        gaps = jnp.append(jnp.diff(ts), 0).astype(xs.dtype)[:, None]
        rows = jnp.concatenate([jnp.where(seen, xs, 0), seen.astype(xs.dtype), gaps], axis=1)

        def read(state: Array, row: Array) -> tuple[Array, Array]:
            new = self.cell(row, state)
            return new, new

        first, states = jax.lax.scan(read, jnp.zeros(self.cell.hidden_size, xs.dtype), rows, reverse=True)
        mean, log_deviation = jnp.split(self.start(first), 2)
        return jax.vmap(self.context)(states), mean, log_deviation


@final
class _Contexts(eqx.Module):
    ts: Float[Array, " times"]
    values: Float[Array, "times context"]

    def __call__(self, t: Any) -> Array:
        """The context of the first time after t (of the last time if there is none)."""
        return self.values[jnp.minimum(jnp.searchsorted(self.ts, t, side="right"), self.ts.shape[0] - 1)]


@final
class _WithContext(eqx.Module):
    field: Field

    def __call__(self, t: Any, z: Array, args: _Contexts) -> Array:
        return self.field(t, jnp.concatenate([z, args(t)]), None)


@final
class LatentSDE(eqx.Module):
    r"""A time series as noisy observations of a latent state that follows an SDE.

    .. math::  z(t_0) \sim N(0, 1), \qquad dz = h(t, z) \, dt + \sigma(t, z) \, dW, \qquad x(t_i) \sim N(d(z(t_i)), s^2)

    The approximate posterior has a normal distribution at t_0, the same diffusion, and another drift f, whose input
    includes a context of the observations after t. Its Kullback-Leibler divergence from the prior is that at t_0
    plus the mean of :math:`\int \frac12 |(f - h) / \sigma|^2 dt` over paths of the posterior, estimated by one
    path. The solver determines the Ito or Stratonovich sense, see `NeuralSDE`; the divergence is the same in both,
    since prior and posterior drift have the same correction.

    Source: Li, Wong, Chen, Duvenaud 2020, arXiv:2001.01328, section 5. There the prior at t_0 is a trained normal
    distribution, here the standard normal one; decoder and drifts can absorb the difference.

    Attributes:
        encoder: `(ts, xs) -> (contexts, mean, log standard deviation)`, such as `ContextEncoder`.
        prior: Prior drift h, `(t, z, args) -> (latent,)`, such as `MLPField(latent)`.
        posterior: Posterior drift f, with [z, context] in place of z, such as `MLPField(latent + context, latent)`.
        diffusion: sigma, `(t, z, args) -> (latent,)`, nonzero everywhere.
        decoder: d, maps one latent state to the means of the values.
        solve: Solver, step size controller, adjoint and regulariser. Adaptive controllers step exactly to all times of
            the series, where the context changes. The integral does not influence the steps.
        brownian: `BrownianTree(tol)` or `BrownianGrid(steps)`.
        noise: Standard deviation s of an observation.
    """

    encoder: Callable[..., Any]
    prior: Field
    posterior: Field
    diffusion: Field
    decoder: Callable[[Array], Array]
    solve: Solve
    brownian: AbstractBrownian
    noise: float = eqx.field(static=True, default=0.01)

    def infer(
        self, ts: Float[Array, " times"], xs: Float[Array, "times size"], *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "times latent"], Float[Array, ""], Aux]:
        """One path of the posterior, the estimate of its divergence from the prior, and the `Aux` of the solve.

        `aux.integrals["kl"]` is the part of the divergence from the path up to each time, without the initial state.

        Args:
            ts: Increasing times.
            xs: Observations, NaN where they are missing.
            key: Random key for the initial state, the Brownian motion and a regulariser that needs one.

        Raises:
            ValueError: In the cases of the encoder.
        """
        start_key, path_key, penalty_key = jax.random.split(key, 3)
        contexts, mean, log_deviation = self.encoder(ts, xs)
        z0 = mean + jnp.exp(log_deviation) * jax.random.normal(start_key, mean.shape, mean.dtype)
        noise = lambda ts: noise_term(self.diffusion, DiagonalNoise(), self.brownian, ts, z0, key=path_key)
        terms = lambda ts: dfx.MultiTerm(dfx.ODETerm(_WithContext(self.posterior)), noise(ts))
        solve = self.solve
        if isinstance(solve.controller, dfx.AbstractAdaptiveStepSizeController):
            controller = dfx.ClipStepSizeController(solve.controller, step_ts=ts)
            solve = dataclasses.replace(solve, controller=controller)
        kl_path_of = {"kl": kl_path(self.prior, self.diffusion)}
        zs, aux = solve.run(terms, z0, ts, _Contexts(ts, contexts), integrands=kl_path_of, key=penalty_key)
        kl_start = 0.5 * jnp.sum(mean**2 + jnp.exp(2 * log_deviation) - 1 - 2 * log_deviation)
        return zs, kl_start + aux.integrals["kl"][-1], aux

    def elbo(
        self,
        ts: Float[Array, " times"],
        xs: Float[Array, "times size"],
        *,
        kl_weight: float | Float[Array, ""] = 1.0,
        key: PRNGKeyArray,
    ) -> ELBO:
        """The evidence lower bound for one series, with one path of the posterior.

        Args:
            ts: Increasing times.
            xs: Observations, NaN where they are missing; their values there have no influence.
            kl_weight: Weight of the divergence in the loss.
            key: As for `infer`.

        Raises:
            ValueError: In the cases of the encoder.
        """
        zs, kl, aux = self.infer(ts, xs, key=key)
        predicted = jax.vmap(self.decoder)(zs)
        return gaussian_elbo(xs, predicted, kl, noise=self.noise, kl_weight=kl_weight, aux=aux)

    def sample(self, ts: Float[Array, " times"], size: int, *, key: PRNGKeyArray) -> Float[Array, "times size"]:
        """The means of the values of a series sampled from the prior; `size` is the size of the latent state."""
        start_key, path_key, penalty_key = jax.random.split(key, 3)
        z0 = jax.random.normal(start_key, (size,), ts.dtype)
        noise = noise_term(self.diffusion, DiagonalNoise(), self.brownian, ts, z0, key=path_key)
        terms = dfx.MultiTerm(dfx.ODETerm(self.prior), noise)
        zs, _ = regularised(self.solve, None).run(terms, z0, ts, key=penalty_key)
        return jax.vmap(self.decoder)(zs)
