"""The state of a training run and the compiled step that advances it."""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Int, PRNGKeyArray, PyTree

from sciml.losses import Curriculum, Loss
from sciml.nn import partition
from sciml.parallel import Placement
from sciml.train._gradient import Gradient, gradient_of
from sciml.train._phases import CompiledStep, Form, Logs, Scheduled, copied
from sciml.train._sharding import shared

Optimiser = optax.GradientTransformation | optax.MultiSteps


class TrainState(eqx.Module):
    """Everything that changes during a run, hence everything that a checkpoint holds.

    Attributes:
        model: The model with all of its arrays, trained or not.
        opt_state: State of the optimiser, which sees only `nn.partition(model)[0]`.
        step: Number of optimiser steps done.
    """

    model: PyTree
    opt_state: PyTree
    step: Int[Array, ""]


def init(model: PyTree, optimiser: Optimiser) -> TrainState:
    """State before the first step.

    All arrays are copied, because a step donates the arrays of its state: the caller's model stays valid.

    Raises:
        ValueError: If a trainable array is complex. `jax.grad` returns the conjugate of the descent direction, so that
            Adam diverges, and weight decay and averages act on other quantities than on the real and imaginary part.
    """
    trainable = partition(model)[0]
    for path, leaf in jax.tree_util.tree_leaves_with_path(trainable):
        if jnp.iscomplexobj(leaf):
            raise ValueError(
                f"Expected real parameters, got {leaf.dtype} at model{jax.tree_util.keystr(path)}. Store the real and "
                "imaginary part as two real arrays and join them inside the layer, or put the array into nn.Frozen."
            )
    state = TrainState(model, optimiser.init(trainable), jnp.zeros((), jnp.int32))
    return jax.tree.map(copied, state)


def parameters(model: PyTree) -> int:
    """Number of trainable scalars."""
    return sum(leaf.size for leaf in jax.tree.leaves(partition(model)[0]))


def make_step(
    loss: Loss | Scheduled | Curriculum,
    optimiser: Optimiser,
    *,
    seed: int = 0,
    fetch: Callable[[PyTree, PyTree], PyTree] = lambda source, item: item,
    placement: Placement | None = None,
    accumulate: int = 1,
) -> CompiledStep:
    """Compiles `step(state, source, items) -> (state, logs)`, which does one optimiser step for each of `items`.

    Several steps run in one dispatch by `jax.lax.scan` over the leading axis of `items`; `fetch(source, item)` turns an
    item into a batch inside the compiled step (see `resident` and `streamed`). The arrays of `state` are donated. Step
    k gets the key `fold_in(key(seed), k)`, so that a resumed run repeats exactly what an uninterrupted one does.

    Gradient clipping, schedules and EMAs are part of the optimiser: `optax.chain(optax.clip_by_global_norm(1.0),
    optax.adam(schedule), ema(0.999))`; so is accumulation over several batches, `optax.MultiSteps(optimiser, 4)`.
    Optimisers that need the loss (`optax.contrib.reduce_on_plateau`) or its function (`optax.lbfgs`) get them.

    Args:
        loss: `(model, batch, keys) -> (scalar, logs)`, or such a loss for each step. The phases of a curriculum are
            compiled one by one, all at the first call: in one program that chooses among them, convolutions on CPUs are
            slow.
        optimiser: Any optax optimiser; its learning rate is logged if it is wrapped in `optax.inject_hyperparams`. On
            several devices its update also gets `mesh`.
        seed: Seed of the keys, which is not compiled into the step. A loss gets a key for each sample of its batch,
            which is the same on every mesh.
        fetch: `(source, item) -> batch`, traced.
        placement: Devices that share each batch along its leading axis, fields where these are cut, and the state where
            it is. Each device computes the loss of its part and the gradients are averaged, hence the loss and its logs
            must be means over the samples.
        accumulate: Number of parts of the batch, or of what a device has of it, that are computed one after another, so
            that the memory is that of one part. The gradients are summed before devices exchange them.

    Raises:
        ValueError: When it compiles, if the loss is not one of whole fields, a layer refuses parts, or a batch is not
            divided by the number of its parts.

    Returns:
        The step. Its logs hold one entry for each step: `loss`, the loss function's own logs, `gradient_norm`, and
        `learning_rate` if known.
    """
    compiled = functools.partial(_jitted, optimiser=optimiser, fetch=fetch, placement=placement, accumulate=accumulate)
    if isinstance(loss, Curriculum):
        return CompiledStep([compiled(one) for _, one in loss.phases], loss.starts, jax.random.key(seed))
    return CompiledStep([compiled(loss)], (0,), jax.random.key(seed))


def _jitted(
    loss: Loss | Scheduled,
    optimiser: Optimiser,
    fetch: Callable[[PyTree, PyTree], PyTree],
    placement: Placement | None,
    accumulate: int,
) -> Callable[[tuple[Form, PRNGKeyArray, PyTree, PyTree], list[Array]], tuple[list[Array], Logs]]:
    """`((form, key, source, items), arrays) -> (arrays, logs)`, which donates the arrays of the state."""
    gradient = gradient_of(loss, fetch, accumulate)
    mesh = None if placement is None else placement.mesh
    if placement is not None and placement.mesh.size > 1:
        gradient = shared(gradient, placement)
    one = _one_step(optimiser, gradient, mesh)

    @eqx.filter_jit(donate="all-except-first")
    def step(data: tuple[Form, PRNGKeyArray, PyTree, PyTree], arrays: list[Array]) -> tuple[list[Array], Logs]:
        form, key, source, items = data

        def body(carry: list[Array], item: PyTree) -> tuple[list[Array], Logs]:
            new, logs = one(form.state(carry), key, source, item)
            return _kept(form.arrays(new), placement), logs

        if jax.tree.leaves(items)[0].shape[0] > 1:
            return jax.lax.scan(body, arrays, items)
        arrays, logs = body(arrays, jax.tree.map(lambda item: item[0], items))
        return arrays, jax.tree.map(lambda log: log[None], logs)

    return step


def _kept(arrays: list[Array], placement: Placement | None) -> list[Array]:
    """The arrays of a state, cut as those before."""
    if placement is None or placement.smallest is None:
        return arrays
    return placement.held(arrays, placement.of_state(arrays))


def _one_step(
    optimiser: Optimiser, gradient: Gradient, mesh: Mesh | None
) -> Callable[[TrainState, PRNGKeyArray, PyTree, PyTree], tuple[TrainState, Logs]]:
    """One optimiser step on one batch."""
    if isinstance(optimiser, optax.MultiSteps):
        optimiser = optimiser.gradient_transformation()
    update = optax.with_extra_args_support(optimiser).update

    def one(state: TrainState, key: PRNGKeyArray, source: PyTree, item: PyTree) -> tuple[TrainState, Logs]:
        trainable, rest = partition(state.model)
        of_model = lambda model: gradient(model, rest, state.step, jax.random.fold_in(key, state.step), source, item)
        (value, logs), found = of_model(trainable)
        value_fn = lambda model, mesh=None: of_model(model)[0][0]  # gets what the update gets
        more = {"value": value, "grad": found, "value_fn": value_fn, "mesh": mesh}
        updates, opt_state = update(found, state.opt_state, trainable, **more)
        model = eqx.combine(optax.apply_updates(trainable, updates), rest)
        logs = {**logs, "loss": value, "gradient_norm": optax.tree.norm(found), **_learning_rate(opt_state)}
        return TrainState(model, opt_state, state.step + 1), logs

    return one


def _learning_rate(opt_state: PyTree) -> Logs:
    found = optax.tree_utils.tree_get_all_with_path(opt_state, "learning_rate")
    return {"learning_rate": jnp.asarray(found[0][1], jnp.float32).ravel()[0]} if found else {}  # one for all members
