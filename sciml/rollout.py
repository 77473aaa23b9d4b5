"""Autoregression: the repeated application of a step to its own output."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Conditions(NamedTuple):
    """What does not change during a rollout of one sample; of a batch, with a leading axis.

    Attributes:
        fixed: Fixed fields `(fixed, *space)`, possibly none of them: coefficient, mask, forcing.
        parameters: Parameters `(parameters,)`, possibly none.
        dt: Time between two frames, a scalar.
    """

    fixed: Float[Array | np.ndarray, "..."]
    parameters: Float[Array | np.ndarray, "..."]
    dt: Float[Array | np.ndarray, "..."]

    @staticmethod
    def of(batch: Mapping[str, Float[Array | np.ndarray, "..."]]) -> "Conditions":
        """The conditions among the entries of `data.TrajectoryWindows`."""
        return Conditions(batch["fixed"], batch["parameters"], batch["dt"])


ConditionedStep = Callable[
    [Float[Array, "history channels *space"], Conditions], Float[Array, "bundle channels *space"]
]
"""From the latest frames and the conditions of one sample to the next frames, such as `operators.Conditioned`."""


def followed_by(
    frames: Float[Array, "time channels *space"], new: Float[Array, "new channels *space"]
) -> Float[Array, "time channels *space"]:
    """The latest frames after `new` ones: these are appended, and as many of the oldest are dropped."""
    return jnp.concatenate((frames, new))[new.shape[0] :]


def rollout(
    step: Callable[[Float[Array, "in *space"]], Float[Array, "channels *space"]],
    u0: Float[Array | np.ndarray, "channels *space"],
    n: int,
    *,
    constants: Float[Array | np.ndarray, "constants *space"] | None = None,
) -> Float[Array, "n channels *space"]:
    """The states `step(u0)`, `step(step(u0))`, ... after 1 to `n` applications; `u0` is not among them.

    One `lax.scan`: it compiles once whatever `n` is and can be differentiated.

    Args:
        step: From a field to a field of the same shape and type, such as an operator trained for one step.
        u0: Initial state.
        n: Number of applications.
        constants: Channels that do not change, such as parameters of the equation. `step` sees them after the state
            and returns the state alone.

    Raises:
        ValueError: If `n` is not positive, or `step` changes the shape or the type of the state.
    """
    _check_count(n)
    u0 = jnp.asarray(u0)
    apply = _with_constants(step, constants)
    after = jax.eval_shape(apply, u0)
    if (after.shape, after.dtype) != (u0.shape, u0.dtype):
        raise ValueError(
            f"A step must return what it gets, {u0.dtype} of shape {u0.shape}, got {after.dtype} of shape "
            f"{after.shape}. For a step that sees several frames use rollout_windows, and give channels that the step "
            "does not return as constants."
        )

    def advance(u: Array, _: None) -> tuple[Array, Array]:
        u = apply(u)
        return u, u

    return jax.lax.scan(advance, u0, None, length=n)[1]


def rollout_windows(
    step: Callable[[Float[Array, "in *space"]], Float[Array, "out *space"]],
    frames: Float[Array | np.ndarray, "time channels *space"],
    n: int,
    *,
    constants: Float[Array | np.ndarray, "constants *space"] | None = None,
) -> Float[Array, "predicted channels *space"]:
    """The frames that `n` applications of a step to the latest frames predict; the given ones are not among them.

    The step sees `time` frames as `time * channels` channels, the earliest first, and returns one frame or several in
    the same order, as for a model trained on `sciml.data.Windows`. The returned frames are appended, and as many of the
    oldest are dropped.

    Args:
        step: From `(time * channels, *space)` to `(k * channels, *space)` for some `k`.
        frames: The first window.
        n: Number of applications; `n k` frames are predicted.
        constants: Channels that do not change; the step sees them after the frames.

    Raises:
        ValueError: If `n` is not positive, or `step` returns another space, another type or no whole number of frames.
    """
    _check_count(n)
    frames = jnp.asarray(frames)
    time, channels, *space = frames.shape
    apply = _with_constants(step, constants)
    after = jax.eval_shape(apply, frames.reshape(-1, *space))
    if after.shape[1:] != tuple(space) or after.shape[0] % channels or after.dtype != frames.dtype:
        raise ValueError(
            f"A step must return whole frames, {frames.dtype} of shape (k * {channels}, "
            f"{', '.join(map(str, space))}), got {after.dtype} of shape {after.shape}."
        )

    def advance(window: Array, _: None) -> tuple[Array, Array]:
        new = apply(window.reshape(-1, *space)).reshape(-1, *frames.shape[1:])
        return jnp.concatenate((window, new))[-time:], new

    return jax.lax.scan(advance, frames, None, length=n)[1].reshape(-1, *frames.shape[1:])


def rollout_batch(
    predict: Callable[[np.ndarray], Float[Array | np.ndarray, "samples out *space"]],
    x: Float[np.ndarray, "samples in *space"],
    n: int,
    *,
    constant_channels: int = 0,
) -> Float[np.ndarray, "samples predicted *space"]:
    """The frames of `rollout_windows` for many samples, by a loop outside of JAX.

    Nothing is differentiated and the loop is not compiled, because XLA's CPU compiler makes convolutions slow inside of
    compiled loops.

    Args:
        predict: From inputs of the model to its outputs, one frame or several, with a leading axis of samples:
            `functools.partial(train.predict, model)`.
        x: Inputs of the model as a data set gives them: frames along the channel axis, the latest last, then the
            constants.
        n: Number of applications.
        constant_channels: Number of channels at the end of `x` that do not change, such as parameters of the equation.

    Returns:
        The `n` outputs along the channel axis.

    Raises:
        ValueError: If `n` is not positive, if no channel of `x` can change, or if the changing channels and the output
            do not hold whole frames.
    """
    _check_count(n)
    changing = x.shape[1] - constant_channels
    if not 0 < changing <= x.shape[1]:
        raise ValueError(
            f"Expected constant_channels from 0 to {x.shape[1] - 1} for inputs of {x.shape[1]} channels, "
            f"got {constant_channels}. The other channels hold the frames that the model continues."
        )
    frames, constants = x[:, :changing], x[:, changing:]
    found = []
    for _ in range(n):
        new = np.asarray(predict(np.concatenate((frames, constants), axis=1)))
        if changing % new.shape[1] and new.shape[1] % changing:
            raise ValueError(
                f"{new.shape[1]} predicted channels do not continue {changing} channels of frames. "
                "Give the number of channels at the end of the input that do not change as constant_channels."
            )
        found.append(new)
        frames = np.concatenate((frames, new), axis=1)[:, -changing:]
    return np.concatenate(found, axis=1)


def forecast(
    model: ConditionedStep,
    frames: Float[Array | np.ndarray, "history channels *space"],
    conditions: Conditions,
    n: int,
) -> Float[Array, "n channels *space"]:
    """The `n` frames that follow: the model is applied to the latest frames until there are as many.

    The state alone changes, the conditions stay. One `lax.scan`: it compiles once whatever `n` is and can be
    differentiated. `jax.vmap` forecasts many samples; on a small grid and a CPU this was quicker than `forecast_batch`
    (`benchmarks/results/forecasts.json`).

    Args:
        model: A conditioned step, such as `operators.Conditioned`.
        frames: The latest frames of one sample, as many as the model sees.
        conditions: Fixed fields, parameters and time step of the sample.
        n: Number of frames.

    Raises:
        ValueError: If `n` is not positive, there is no frame to begin with, or the model returns another space, another
            number of channels or another type.
    """
    _check_count(n)
    frames = jnp.asarray(frames)
    conditions = Conditions(*map(jnp.asarray, conditions))
    after = jax.eval_shape(lambda *sample: model(*sample), frames, conditions)
    _check_continued(frames, after, axis=0)

    def advance(seen: Array, _: None) -> tuple[Array, Array]:
        new = model(seen, conditions)
        return followed_by(seen, new), new

    found = jax.lax.scan(advance, frames, None, length=-(-n // after.shape[0]))[1]
    return found.reshape(-1, *frames.shape[1:])[:n]


def forecast_batch(
    predict: Callable[
        [Float[np.ndarray, "samples history channels *space"], Conditions],
        Float[Array | np.ndarray, "samples bundle channels *space"],
    ],
    frames: Float[np.ndarray, "samples history channels *space"],
    conditions: Conditions,
    n: int,
) -> Float[np.ndarray, "samples n channels *space"]:
    """The frames of `forecast` for many samples, by a loop outside of JAX; nothing is differentiated.

    Args:
        predict: The model for many samples: `functools.partial(train.predict, model)`.
        frames: The latest frames of each sample.
        conditions: Those of each sample, with a leading axis.
        n: Number of frames.

    Raises:
        ValueError: As `forecast`.
    """
    _check_count(n)
    found, seen = [], frames
    for _ in range(n):
        new = np.asarray(predict(seen, conditions))
        _check_continued(frames, new, axis=1)
        found.append(new)
        if sum(part.shape[1] for part in found) >= n:
            break
        seen = np.concatenate((seen, new), axis=1)[:, new.shape[1] :]
    return np.concatenate(found, axis=1)[:, :n]


def _check_continued(frames: Array | np.ndarray, new: jax.ShapeDtypeStruct | np.ndarray, axis: int) -> None:
    """Refuses new frames that do not continue `frames`, along an axis of time."""
    others = lambda shape: (*shape[:axis], *shape[axis + 1 :])
    if not frames.shape[axis]:
        raise ValueError("A rollout needs a frame to begin with, maps have none (history 0). Apply the model once.")
    if (others(new.shape), new.dtype) != (others(frames.shape), frames.dtype):
        raise ValueError(
            f"A model must return frames like those that it gets, {frames.dtype} of shape {frames.shape} but for their "
            f"number, got {new.dtype} of shape {new.shape}."
        )


def _with_constants(step: Callable[[Array], Array], constants: Array | np.ndarray | None) -> Callable[[Array], Array]:
    """`step` as a function of its changing channels."""
    if constants is None:
        return step
    return lambda u: step(jnp.concatenate((u, jnp.asarray(constants, u.dtype))))


def _check_count(n: int) -> None:
    if n < 1:
        raise ValueError(f"Expected at least one application of the step, got n {n}.")
