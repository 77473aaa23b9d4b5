"""Encoder of irregular series with missing values."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from sciml.nde._solve.checks import require


@final
class GRUEncoder(eqx.Module):
    """A GRU that reads a time series backwards and returns a normal distribution of the latent state at `ts[0]`.

    The input at each time is [x, mask, gap]: the values with 0 where missing, 1 where observed and 0 where missing, and
    the time to the next observation. Times without any observation are skipped: adding one after the first time changes
    nothing. The head gets the last GRU state and the time from `ts[0]` to the first observation.

    Source: Rubanova, Chen, Duvenaud, "Latent ODEs for irregularly-sampled time series", 2019, arXiv:1907.03907, where
    this encoder is the alternative to the ODE-RNN.

    Attributes:
        cell: The recurrent cell.
        head: Maps [GRU state, time] to the means and the logarithms of the standard deviations.
    """

    cell: eqx.nn.GRUCell
    head: eqx.nn.MLP

    def __init__(self, size: int, latent: int, *, hidden: int = 40, units: int = 50, key: PRNGKeyArray) -> None:
        """Initialises the weights.

        Args:
            size: Number of values at each time.
            latent: Size of the latent state.
            hidden: Size of the GRU state.
            units: Width of the head's hidden layer.
            key: Random key for the weights.
        """
        cell_key, head_key = jax.random.split(key)
        self.cell = eqx.nn.GRUCell(2 * size + 1, hidden, key=cell_key)
        self.head = eqx.nn.MLP(hidden + 1, 2 * latent, units, 1, activation=jnp.tanh, key=head_key)

    def __call__(
        self, ts: Float[Array, " times"], xs: Float[Array, "times size"]
    ) -> tuple[Float[Array, " latent"], Float[Array, " latent"]]:
        """Mean and logarithm of the standard deviation of the state at `ts[0]`; NaN in `xs` marks missing values.

        Raises:
            ValueError: If the times do not increase or nothing was observed (a runtime error where they are traced).
        """
        seen = ~jnp.isnan(xs)
        ts = require(
            ts,
            jnp.all(jnp.diff(ts) > 0),
            "Expected increasing times. Sort the series and join what was observed at the same time into one row.",
        )
        xs = require(
            jnp.where(seen, xs, 0),
            jnp.any(seen),
            "All values of the series are missing (NaN), so that it has no encoding. Leave it out of the data.",
        )

        def read(carry: tuple[Array, Array, Array], row: tuple[Array, Array, Array]) -> tuple[tuple, None]:
            state, after, any_after = carry
            t, x, mask = row
            gap = jnp.where(any_after, after - t, 0).astype(x.dtype)
            new = self.cell(jnp.concatenate((x, mask.astype(x.dtype), gap[None])), state)
            here = jnp.any(mask)
            return (jnp.where(here, new, state), jnp.where(here, t, after), any_after | here), None

        start: tuple[Array, Array, Bool[Array, ""]] = (
            jnp.zeros(self.cell.hidden_size, xs.dtype),
            ts[-1],
            jnp.asarray(False),
        )
        (state, first, _), _ = jax.lax.scan(read, start, (ts, xs, seen), reverse=True)
        mean, log_deviation = jnp.split(self.head(jnp.append(state, (first - ts[0]).astype(xs.dtype))), 2)
        return mean, log_deviation
