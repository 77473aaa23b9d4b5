"""Latent stochastic differential equation: a generative model of irregular series with a random path."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.nde._cde.cde import with_statistics
from sciml.nde._cde.control import check_series
from sciml.nde._ode.latent_ode import ELBO
from sciml.nde._sde.brownian import AbstractBrownian
from sciml.nde._sde.kl_path import kl_path
from sciml.nde._sde.sde import DiagonalNoise, noise_term
from sciml.nde._solve.integrals import Field, with_integrals
from sciml.nde._solve.solve import Aux, Solve, ignoring_integrals


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
class _NoiseBesideIntegral(dfx.AbstractTerm):
    """The noise of a state that has the integral of `with_integrals` beside it, which has none."""

    term: dfx.ControlTerm

    def vf(self, t: Any, y: PyTree, args: PyTree) -> Any:
        return self.term.vf(t, y[0], args)

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Any:
        return self.term.contr(t0, t1, **kwargs)

    def prod(self, vf: Any, control: Any) -> PyTree:
        noise = self.term.prod(vf, control)
        return noise, {"kl": jnp.zeros((), noise.dtype)}


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
        solve: Solver, step sizes, adjoint and penalty. Adaptive controllers also step to all times of the series, where
            the context changes, and do not see the integral.
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
            key: Of the first state and the Brownian motion, and of a penalty that draws at random.

        Raises:
            ValueError: As the encoder.
        """
        start_key, path_key, penalty_key = jax.random.split(key, 3)
        contexts, mean, log_deviation = self.encoder(ts, xs)
        z0 = mean + jnp.exp(log_deviation) * jax.random.normal(start_key, mean.shape, mean.dtype)
        field = with_integrals(_WithContext(self.posterior), {"kl": kl_path(self.prior, self.diffusion)})
        noise = noise_term(self.diffusion, DiagonalNoise(), self.brownian, ts, z0, key=path_key)
        controller = ignoring_integrals(self.solve.controller)
        if isinstance(controller, dfx.AbstractAdaptiveStepSizeController):
            controller = dfx.ClipStepSizeController(controller, step_ts=ts)
        terms = dfx.MultiTerm(dfx.ODETerm(field), _NoiseBesideIntegral(noise))
        state = (z0, {"kl": jnp.zeros((), z0.dtype)})
        solve = dataclasses.replace(self.solve, controller=controller)
        run = solve.run(terms, state, ts, _Contexts(ts, contexts), key=penalty_key)
        (zs, integrals), aux = with_statistics(*run)
        kl_start = 0.5 * jnp.sum(mean**2 + jnp.exp(2 * log_deviation) - 1 - 2 * log_deviation)
        return zs, kl_start + integrals["kl"][-1], dataclasses.replace(aux, integrals=integrals)

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
        seen = ~jnp.isnan(xs)
        errors = jnp.where(seen, jnp.where(seen, xs, 0) - jax.vmap(self.decoder)(zs), 0)
        squares, count = jnp.sum(errors**2), jnp.sum(seen)
        log_likelihood = -0.5 * squares / self.noise**2 - count * (math.log(self.noise) + 0.5 * math.log(2 * math.pi))
        return ELBO(kl_weight * kl - log_likelihood, log_likelihood, kl, squares / count, aux)

    def sample(self, ts: Float[Array, " times"], size: int, *, key: PRNGKeyArray) -> Float[Array, "times size"]:
        """The means of the values of a series drawn from the prior; `size` is that of the latent state."""
        start_key, path_key, penalty_key = jax.random.split(key, 3)
        z0 = jax.random.normal(start_key, (size,), ts.dtype)
        noise = noise_term(self.diffusion, DiagonalNoise(), self.brownian, ts, z0, key=path_key)
        terms = dfx.MultiTerm(dfx.ODETerm(self.prior), noise)
        zs, _ = with_statistics(*self.solve.run(terms, z0, ts, key=penalty_key))
        return jax.vmap(self.decoder)(zs)
