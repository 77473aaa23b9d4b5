"""Learning rates that rise and fall once, of which peak and number of steps are values in the optimiser's state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

Part = Callable[[Float[Array, ""]], Float[Array, ""]]
"""The rate divided by its peak, as a function of the part of the rise, or of the fall, that is done: 0 to 1."""


class Cycle(NamedTuple):
    """State of `scale_by_cycle`: steps done, until the peak and in total, the peak, and the rate of the last step."""

    done: Int[Array, ""]
    rising: Int[Array, ""]
    steps: Int[Array, ""]
    peak: Float[Array, ""]
    learning_rate: Float[Array, ""]


def scale_by_cycle(peak: float, *, steps: int, rising: int, up: Part, down: Part) -> optax.GradientTransformation:
    """Multiplies updates by minus a rate that goes `up` to its peak and `down` to the end, and then stays.

    Nothing that depends on `peak`, `steps` or `rising` is compiled: runs that differ in these alone share one compiled
    step, and a restored state goes on with the cycle that it was begun with.

    Args:
        peak: Highest learning rate.
        steps: Number of steps of the run.
        rising: Number of steps until the peak, fewer than `steps`; with 0 the run begins at the peak.
        up: Factor of the peak during the rise.
        down: Factor of the peak during the fall.
    """

    def init(params: Any) -> Cycle:
        count, rate = lambda n: jnp.asarray(n, jnp.int32), lambda value: jnp.asarray(value, jnp.float32)
        return Cycle(count(0), count(rising), count(steps), rate(peak), rate(0.0))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Cycle]:
        done, rising, steps = state.done, state.rising, state.steps
        part = jnp.clip((done - rising) / (steps - rising), 0.0, 1.0)
        factor = jnp.where(done < rising, up(done / jnp.maximum(rising, 1)), down(part))
        rate = (state.peak * factor).astype(jnp.float32)
        moved = jax.tree.map(lambda u: -rate.astype(u.dtype) * u, updates)
        return moved, state._replace(done=done + 1, learning_rate=rate)

    return optax.GradientTransformation(init, update)
