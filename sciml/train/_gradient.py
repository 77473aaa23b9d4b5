"""The gradient of the loss of one batch, in one piece or in parts of the batch."""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from sciml import cut
from sciml.losses import Loss
from sciml.train._phases import Logs, Scheduled

Gradient = Callable[..., tuple[tuple[Array, PyTree], PyTree]]
"""`(trainable, rest, step, key, source, item) -> ((loss, logs), gradient)` of one batch."""


def gradient_of(loss: Loss | Scheduled, fetch: Callable[[PyTree, PyTree], PyTree], accumulate: int) -> Gradient:
    """The loss of one batch, its logs and its gradient, of a part of them on several devices.

    Args:
        loss: As in `make_step`.
        fetch: As in `make_step`.
        accumulate: Number of parts of the batch that are computed one after another.
    """

    def gradient(
        trainable: PyTree,
        rest: PyTree,
        step: Int[Array, ""],
        key: PRNGKeyArray,
        source: PyTree,
        item: PyTree,
        *,
        whole: Callable[[PyTree], PyTree] = lambda own: own,
    ) -> tuple[tuple[Float[Array, ""], Logs], PyTree]:
        now = loss.at(step) if isinstance(loss, Scheduled) else loss
        batch = fetch(source, item)
        model, back = jax.vjp(whole, trainable)
        of_part = jax.value_and_grad(lambda model, part: now(eqx.combine(model, rest), *part), has_aux=True)
        found, slopes = _mean(functools.partial(of_part, model), (batch, cut.sample_keys(key, batch)), accumulate)
        return found, back(slopes)[0]

    return gradient


def _mean(function: Callable[[PyTree], PyTree], samples: PyTree, parts: int) -> PyTree:
    """The mean of a function over parts of some samples, of which one after another is computed."""
    if parts == 1:
        return function(samples)
    counts = {leaf.shape[:1] for leaf in jax.tree.leaves(samples)}
    if len(counts) != 1 or () in counts or max(counts)[0] % parts:
        raise ValueError(
            f"Expected batches whose arrays have a leading axis of samples that {parts} parts (accumulate) divide, got "
            f"the leading axes {', '.join(map(str, sorted(counts)))} on a device."
        )
    # A part has every n-th sample and not n samples in a row, which may all be on one device.
    each = jax.tree.map(lambda leaf: jnp.moveaxis(leaf.reshape(-1, parts, *leaf.shape[1:]), 1, 0), samples)
    first = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], each))
    add = lambda total, part: (jax.tree.map(jnp.add, total, function(part)), None)
    # On CPUs convolutions are slow inside of loops.
    unroll = parts if jax.default_backend() == "cpu" else 1
    total, _ = jax.lax.scan(add, jax.tree.map(cut.zeros, first), each, unroll=unroll)
    return jax.tree.map(lambda leaf: leaf / parts, total)
