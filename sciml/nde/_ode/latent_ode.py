"""Latent ordinary differential equation: a generative model of irregularly sampled time series."""

import math
from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from sciml.nde._solve.integrals import Field
from sciml.nde._solve.solve import AbstractSolve, Aux, Solve, regularised


@final
class ELBO(eqx.Module):
    """The evidence lower bound (ELBO) and its parts; the bound is log_likelihood - kl.

    Attributes:
        loss: kl_weight * kl - log_likelihood, to be minimised.
        log_likelihood: Sum over the observed values, for one sample of the latent state or path.
        kl: Kullback-Leibler divergence of the approximate posterior from the prior.
        squared_error: Mean squared error over the observed values.
        aux: Penalty, integrals and statistics of the solve.
    """

    loss: Float[Array, "*batch"]
    log_likelihood: Float[Array, "*batch"]
    kl: Float[Array, "*batch"]
    squared_error: Float[Array, "*batch"]
    aux: Aux


def gaussian_elbo(
    xs: Float[Array, "*batch times size"],
    predicted: Float[Array, "*batch times size"],
    kl: Float[Array, "*batch"],
    *,
    noise: float,
    kl_weight: float | Float[Array, ""],
    aux: Aux,
) -> ELBO:
    """The ELBO for normal observation errors of standard deviation `noise`; NaN in `xs` marks missing values."""
    seen = ~jnp.isnan(xs)
    squares = jnp.sum((jnp.where(seen, xs, 0) - jnp.where(seen, predicted, 0)) ** 2, axis=(-2, -1))
    count = jnp.sum(seen, axis=(-2, -1))
    log_likelihood = -0.5 * squares / noise**2 - count * (math.log(noise) + 0.5 * math.log(2 * math.pi))
    return ELBO(kl_weight * kl - log_likelihood, log_likelihood, kl, squares / count, aux)


@final
class LatentODE(eqx.Module):
    """A time series as noisy observations of a latent state that follows an ODE.

    z(t0) ~ N(0, 1), dz/dt = field(t, z), x(t_i) ~ N(decoder(z(t_i)), noise^2). The encoder gives the approximate
    posterior of z(t0). t0 is the first time of a series.

    With `Jointly` in `solve`, a batch of series of shape `(batch, times, size)` at the same times is one solve, and
    results have one value per series. Series at different times share the union of their times, with NaN where a series
    was not observed.

    Source: Rubanova, Chen, Duvenaud 2019, arXiv:1907.03907.

    Attributes:
        encoder: `(ts, xs) -> (mean, log standard deviation)` of z(t0), such as `GRUEncoder`.
        field: Vector field of the latent state, such as `MLPField`.
        decoder: Maps a latent state to the means of the values at that time, such as `equinox.nn.Linear`.
        solve: Solve configuration.
        noise: Standard deviation of an observation; 0.01 in the source.
    """

    encoder: Callable[..., Any]
    field: Field
    decoder: Callable[[Array], Array]
    solve: AbstractSolve = Solve()
    noise: float = eqx.field(static=True, default=0.01)

    def decode(
        self, z0: Float[Array, "*batch latent"], ts: Float[Array, " times"], *, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "*batch times size"], Aux]:
        """The means of the values at the times `ts` given the latent state `z0` at `ts[0]`, and the `Aux`."""
        zs, aux = self.solve(self.field, z0, ts, key=key)
        return jnp.moveaxis(_mapped(self.decoder, zs.ndim - 1)(zs), 0, -2), aux

    def predict(
        self,
        ts: Float[Array, " times"],
        xs: Float[Array, "*batch times size"],
        at: Float[Array, " queries"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "*batch queries size"]:
        """The means of the values at the times `at`, from the posterior mean of z(t0) or, with a key, a sample of it.

        Args:
            ts: Times of the observations.
            xs: Observations, NaN where missing.
            at: Increasing times, not before `ts[0]`.
            key: Random key for the posterior sample.

        Raises:
            ValueError: In the cases of the encoder.
        """
        z0, log_deviation = self.encode(ts, xs)
        solve_key = None
        if key is not None:
            draw_key, solve_key = jax.random.split(key)
            z0 = z0 + jnp.exp(log_deviation) * jax.random.normal(draw_key, z0.shape, z0.dtype)
        values, _ = regularised(self, None).decode(z0, jnp.concatenate((ts[:1], at)), key=solve_key)
        return values[..., 1:, :]

    def elbo(
        self,
        ts: Float[Array, " times"],
        xs: Float[Array, "*batch times size"],
        *,
        observed: Bool[Array, "*batch times size"] | None = None,
        kl_weight: float | Float[Array, ""] = 1.0,
        key: PRNGKeyArray,
    ) -> ELBO:
        """The ELBO, with one sample of the latent state per series.

        The log likelihood is a sum over the values that are not NaN; divide the loss by their number if it should not
        grow with the length of the series.

        Args:
            ts: Times of the observations.
            xs: Observations, NaN where missing; their values there have no influence.
            observed: Which values the encoder sees; all by default. The likelihood includes the hidden values, so that
                the model learns to impute them.
            kl_weight: Weight of `kl` in the loss, such as 1 - 0.99^epoch.
            key: Random key for the sample, and for a regulariser that needs one.

        Raises:
            ValueError: In the cases of the encoder.
        """
        draw_key, solve_key = jax.random.split(key)
        mean, log_deviation = self.encode(ts, xs if observed is None else jnp.where(observed, xs, jnp.nan))
        z0 = mean + jnp.exp(log_deviation) * jax.random.normal(draw_key, mean.shape, mean.dtype)
        predicted, aux = self.decode(z0, ts, key=solve_key)
        kl = 0.5 * jnp.sum(mean**2 + jnp.exp(2 * log_deviation) - 1 - 2 * log_deviation, axis=-1)
        return gaussian_elbo(xs, predicted, kl, noise=self.noise, kl_weight=kl_weight, aux=aux)

    def log_predictive(
        self,
        ts: Float[Array, " times"],
        xs: Float[Array, "batch times size"],
        observed: Bool[Array, "batch times size"],
        *,
        draws: int,
        key: PRNGKeyArray,
    ) -> Float[Array, "batch times size"]:
        """Log predictive density of each value: the log of the mean density over posterior samples of the latent state.

        Args:
            ts: Times of the values.
            xs: Values of a batch of series; `solve` must accept a batch, such as `Jointly`.
            observed: Which values the encoder sees.
            draws: Number of posterior samples for each series.
            key: Random key for the samples.

        Raises:
            ValueError: In the cases of the encoder.
        """
        mean, log_deviation = self.encode(ts, jnp.where(observed, xs, jnp.nan))
        noise = jax.random.normal(key, (draws, *mean.shape), mean.dtype)
        z0 = mean[None] + jnp.exp(log_deviation)[None] * noise
        predicted, _ = regularised(self, None).decode(z0.reshape(-1, mean.shape[1]), ts)
        each = jax.scipy.stats.norm.logpdf(xs[None], predicted.reshape(draws, *xs.shape), self.noise)
        return jax.scipy.special.logsumexp(each, axis=0) - jnp.log(draws)

    def sample(
        self, ts: Float[Array, " times"], size: int, *, key: PRNGKeyArray, shape: tuple[int, ...] = ()
    ) -> Float[Array, "*batch times size"]:
        """The means of the values of a series sampled from the prior; `size` is the size of the latent state."""
        draw_key, solve_key = jax.random.split(key)
        z0 = jax.random.normal(draw_key, (*shape, size), ts.dtype)
        return regularised(self, None).decode(z0, ts, key=solve_key)[0]

    def encode(
        self, ts: Float[Array, " times"], xs: Float[Array, "*batch times size"]
    ) -> tuple[Float[Array, "*batch latent"], Float[Array, "*batch latent"]]:
        """Mean and log standard deviation of the posterior at `ts[0]`. Raises the errors of the encoder."""
        return _mapped(lambda xs: self.encoder(ts, xs), xs.ndim - 2)(xs)


def _mapped(function: Callable[..., Any], times: int) -> Callable[..., Any]:
    for _ in range(times):
        function = jax.vmap(function)
    return function
