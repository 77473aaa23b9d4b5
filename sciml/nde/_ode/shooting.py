"""Multiple shooting: a long trajectory is fitted in short segments whose ends are joined by a penalty."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Solution = Callable[..., Array]
"""`(y0, ts) -> states at ts`, such as a `NeuralODE`."""


def multiple_shooting(
    model: Solution,
    ts: Float[Array, " times"],
    ys: Float[Array, "times size"],
    *,
    segments: int,
    continuity: float | Float[Array, ""] = 1.0,
    initial: Float[Array, "segments size"] | None = None,
    key: PRNGKeyArray | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    r"""Multiple-shooting loss: mean squared error over the segments plus `continuity` times the mean squared gap.

    Segment k starts in the state :math:`s_k` at time :math:`t_k` and ends at :math:`t_{k+1}`, where its gap to the next
    segment is :math:`y(t_{k+1}; s_k) - s_{k+1}`. For chaotic or oscillating data, short segments keep the loss smooth
    in the parameters, which one solve over the whole trajectory does not. All segments are solved in parallel.

    Sources: Bock, Plitt, "A multiple shooting algorithm for direct solution of optimal control problems", IFAC 1984;
    with neural ODEs: Turan, Jäschke, IEEE Control Systems Letters 6 (2021), arXiv:2109.06786.

    Args:
        model: `(y0, ts) -> states at ts`.
        ts: Increasing times.
        ys: The data at these times.
        segments: Number of segments; a divisor of the number of intervals, `times - 1`.
        continuity: Weight of the gaps; increase it during training, for example by an `optax` schedule.
        initial: The states s_k, to be trained together with the model. The default, the data at the starts of the
            segments, is meant for data without noise.
        key: If given, the model is called as `model(y0, ts, key=key)`, with a different key for each segment.

    Returns:
        The loss, and a dictionary of its parts `error` and `gap`.

    Raises:
        ValueError: If `segments` does not divide the number of intervals.
    """
    intervals = ts.shape[0] - 1
    if segments < 1 or intervals < 1 or intervals % segments:
        raise ValueError(
            f"{intervals} intervals between {ts.shape[0]} times cannot be cut into {segments} equal segments. "
            "Choose a divisor, or leave out times at the end."
        )
    length = intervals // segments
    rows = jnp.arange(segments)[:, None] * length + jnp.arange(length + 1)[None]
    states = ys[:-1:length] if initial is None else initial
    if key is None:
        predicted = jax.vmap(model)(states, ts[rows])
    else:
        solve = lambda state, ts, key: model(state, ts, key=key)
        predicted = jax.vmap(solve)(states, ts[rows], jax.random.split(key, segments))
    error = jnp.mean((predicted - ys[rows]) ** 2)
    gaps = predicted[:-1, -1] - states[1:]
    gap = jnp.mean(gaps**2) if segments > 1 else jnp.zeros_like(error)
    return error + continuity * gap, {"error": error, "gap": gap}
