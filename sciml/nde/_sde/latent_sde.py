"""Latent stochastic differential equation: a generative model of irregular series with a random path."""

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

    Its integral along a path of the first equation has the Kullback-Leibler divergence of the two as its mean. f is the
    drift that `with_integrals` extends. The extended equation's noise acts on the state alone: the integral has none.

    Sources: Li, Wong, Chen, Duvenaud, "Scalable gradients for stochastic differential equations", 2020,
    arXiv:2001.01328; Girsanov's theorem.

    Args:
        prior_drift: h, `(t, y, args) -> dy/dt`.
        diffusion: g, `(t, y, args)` to a vector (diagonal noise, or a number for all states), a matrix states x noises,
            or a `lineax` operator, which is solved by its structure. With more noises than states the solution of least
            norm is taken, as the theorem demands.

    Raises:
        ValueError: When called, if there are fewer noises than states.
    """
    return _KLPath(prior_drift, diffusion)


@final
class ContextEncoder(eqx.Module):
    """A recurrent network that reads a series backwards and keeps what it knows at each time.

    Each step reads [x, mask, gap]: the values with 0 for the missing, which were observed, and the time to the row
    after.

    Attributes:
        cell: The recurrent cell.
        context: From its state to the context of one time.
        start: From its state at the first time to mean and logarithm of deviation of the latent state.
    """

    cell: eqx.nn.GRUCell
    context: eqx.nn.Linear
    start: eqx.nn.Linear

    def __init__(self, size: int, latent: int, *, context: int = 16, hidden: int = 40, key: PRNGKeyArray) -> None:
        """Draws the weights.

        Args:
            size: Number of values at each time.
            latent: Size of the latent state.
            context: Size of the context.
            hidden: Size of the recurrent state.
            key: Of the random initial values.
        """
        cell_key, context_key, start_key = jax.random.split(key, 3)
        self.cell = eqx.nn.GRUCell(2 * size + 1, hidden, key=cell_key)
        self.context = eqx.nn.Linear(hidden, context, key=context_key)
        self.start = eqx.nn.Linear(hidden, 2 * latent, key=start_key)

    def __call__(
        self, ts: Float[Array, " times"], xs: Float[Array, "times size"]
    ) -> tuple[Float[Array, "times context"], Float[Array, " latent"], Float[Array, " latent"]]:
        """Contexts, of which row i knows the rows i, i + 1, ..., and mean and logarithm of deviation at `ts[0]`.

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
        """The context of the next time after t."""
        return self.values[jnp.minimum(jnp.searchsorted(self.ts, t, side="right"), self.ts.shape[0] - 1)]


@final
class _WithContext(eqx.Module):
    field: Field

    def __call__(self, t: Any, z: Array, args: _Contexts) -> Array:
        return self.field(t, jnp.concatenate([z, args(t)]), None)


@final
class LatentSDE(eqx.Module):
    r"""A series as noisy observations of a latent state that moves by an SDE.

    .. math::  z(t_0) \sim N(0, 1), \qquad dz = h(t, z) \, dt + \sigma(t, z) \, dW, \qquad x(t_i) \sim N(d(z(t_i)), s^2)

    The approximate posterior has the same diffusion, another drift f that sees a context of the observations after t,
    and a normal distribution at t_0. Its divergence from the prior is that of the initial states plus the mean of
    :math:`\int \frac12 |(f - h) / \sigma|^2 dt` along its paths, one of which is drawn. The solver decides between Ito
    and Stratonovich, see `NeuralSDE`; the divergence is the same, since both drifts have the same correction.

    Source: Li, Wong, Chen, Duvenaud 2020, arXiv:2001.01328, section 5. There the prior at t_0 is a trained normal
    distribution, here the standard one; decoder and drifts can express the same.

    Attributes:
        encoder: `(ts, xs) -> (contexts, mean, log deviation)`, such as `ContextEncoder`.
        prior: h, `(t, z, args) -> (latent,)`, such as `MLPField(latent)`.
        posterior: f, of [z, context]: `MLPField(latent + context, latent)`.
        diffusion: sigma, `(t, z, args) -> (latent,)`, without zeros.
        decoder: d, of one state.
        solve: Solver, step sizes, adjoint and regulariser. Adaptive controllers also step to all times of the series,
            where the context changes, and do not see the integral.
        brownian: `BrownianTree(tol)` or `BrownianGrid(steps)`.
        noise: Deviation s of an observation.
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
        """One path of the posterior, its divergence from the prior, and what came with the solve.

        The part of the divergence up to each time that stems from the path is `aux.integrals["kl"]`.

        Args:
            ts: Increasing times.
            xs: Observations, NaN where they are missing.
            key: Of the first state and the Brownian motion, and of a regulariser that draws at random.

        Raises:
            ValueError: As the encoder.
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
            kl_weight: Factor of the divergence in the loss.
            key: As for `infer`.

        Raises:
            ValueError: As the encoder.
        """
        zs, kl, aux = self.infer(ts, xs, key=key)
        predicted = jax.vmap(self.decoder)(zs)
        return gaussian_elbo(xs, predicted, kl, noise=self.noise, kl_weight=kl_weight, aux=aux)

    def sample(self, ts: Float[Array, " times"], size: int, *, key: PRNGKeyArray) -> Float[Array, "times size"]:
        """The means of the values of a series drawn from the prior; `size` is that of the latent state."""
        start_key, path_key, penalty_key = jax.random.split(key, 3)
        z0 = jax.random.normal(start_key, (size,), ts.dtype)
        noise = noise_term(self.diffusion, DiagonalNoise(), self.brownian, ts, z0, key=path_key)
        terms = dfx.MultiTerm(dfx.ODETerm(self.prior), noise)
        zs, _ = regularised(self.solve, None).run(terms, z0, ts, key=penalty_key)
        return jax.vmap(self.decoder)(zs)
