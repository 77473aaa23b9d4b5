"""Norms for the error control of batches."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float, PyTree


@final
class PerSampleMax(eqx.Module):
    """The largest norm of the samples of a batch, whose axis leads every leaf of the state.

    `diffrax.PIDController(rtol, atol, norm=PerSampleMax())` solves a batch as one equation with steps that keep every
    sample within the tolerance. diffrax's default is a mean over the batch as well, in which the error of one hard
    sample among B counts 1 / sqrt(B) of itself. Joint steps suit training: the gradient of shared weights is carried
    once, and not once per sample as under `jax.vmap`, which gives every sample steps of its own and suits prediction
    for samples that differ. The number of steps, and every penalty on them, means something else in the two.

    A penalty takes the norm of the controller unless it has its own; with this one its gradient comes from the worst
    sample of each step, with `LocalError(norm=optimistix.rms_norm)` from all.

    Attributes:
        norm: Norm of one sample.
    """

    norm: Callable[[PyTree], Float[Array, ""]] = optx.rms_norm

    def __call__(self, y: PyTree) -> Float[Array, ""]:
        """The maximum over the leading axis."""
        return jnp.max(jax.vmap(self.norm)(y))
