"""Fits the constants of a right-hand side to trajectories: multiple shooting with Levenberg-Marquardt steps."""

from typing import NamedTuple, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sciml.symbolic._vector_field import VectorField

MAX_STEPS = 4096  # largest number of solver steps on one piece
_MAX_ITERATIONS = 50
_LEAST_DAMPING, _MAX_DAMPING = 1e-8, 1e8
_CONVERGED = 1e-9  # the fit stops if the linearised problem predicts a smaller relative decrease of the sum of squares
# Weights of the gaps between pieces relative to the errors of the data, used one after the other. With the last weight
# alone, a fit of the Lorenz system failed from constants wrong by 10 to 20 % and pieces of half a time unit; with all
# three it succeeded.
_CONTINUITY = (1.0, 30.0, 1000.0)


@final
class Pieces(eqx.Module):
    """Trajectories cut into pieces, each with its own initial state; the last time of a piece is the first of the next.

    Attributes:
        ts: Times; a shorter piece repeats its last time.
        ys: Data at these times.
        weights: 1 for data that count in this piece, 0 for its last time, which counts in the next piece, and for
            repeated times.
        scale: The unit of residuals: standard deviation of each component over all data, 1 for a constant component.
        trajectories: Number of trajectories, each of the same number of pieces.
    """

    ts: Float[Array, "pieces times"]
    ys: Float[Array, "pieces times size"]
    weights: Float[Array, "pieces times"]
    scale: Float[Array, " size"]
    trajectories: int = eqx.field(static=True)


@final
class FittedConstants(eqx.Module):
    """Constants at the minimum, and the least-squares problem linearised there.

    With the initial states eliminated, the sum of squares at constants c + d is |residual + jacobian @ d|^2 to second
    order.

    Attributes:
        constants: The constants c.
        initial_states: The initial state of each piece.
        squares: Sum of the squared errors in units of `Pieces.scale` and of the squared weighted gaps between pieces;
            infinite if the equation could not be solved with the first constants.
        residual: The residual after elimination of the initial states.
        jacobian: Derivatives of the residual in all constants, including those that are not free.
        noise: Root mean square error of each component, in the unit of the component.
        count: Number of data.
    """

    constants: Float[np.ndarray, " constants"]
    initial_states: Float[np.ndarray, "pieces size"]
    squares: float
    residual: Float[np.ndarray, " rows"]
    jacobian: Float[np.ndarray, "rows constants"]
    noise: Float[np.ndarray, " size"]
    count: int


class Prior(NamedTuple):
    """Normal prior of the constants: the fit adds sum (weights (constants - centre))^2 to the sum of squares.

    Each weight is the standard deviation of the data's errors, in units of `Pieces.scale`, over that of the constant.
    """

    centre: Float[np.ndarray, " constants"]
    weights: Float[np.ndarray, " constants"]

    def rows(self, constants: Float[np.ndarray, " constants"]) -> Float[np.ndarray, " constants"]:
        """The residual of the prior."""
        return self.weights * (constants - self.centre)


def check_trajectories(
    ts: Float[Array | np.ndarray, " times"], ys: Float[Array | np.ndarray, "*axes size"]
) -> tuple[Float[np.ndarray, " times"], Float[np.ndarray, "trajectories times size"]]:
    """Checks trajectories and returns them in double precision, with a leading axis even for a single one.

    Raises:
        ValueError: If the shapes do not match, there are fewer than 2 times, the times do not increase, or a state is
            not finite.
    """
    times, states = np.asarray(ts, np.float64), np.asarray(ys, np.float64)
    if states.ndim not in (2, 3) or times.ndim != 1 or states.shape[-2] != times.shape[0] or len(times) < 2:
        raise ValueError(
            f"Expected at least 2 times and states (times, size) or (trajectories, times, size) at them, got "
            f"{times.shape} and {states.shape}."
        )
    if not np.all(np.diff(times) > 0):
        raise ValueError("Expected increasing times. Sort the data by time, and average those of equal times.")
    if not np.all(np.isfinite(states)):
        raise ValueError(
            f"Expected finite states, got {np.sum(~np.isfinite(states))} that are not. Leave their times out."
        )
    return times, states.reshape(-1, *states.shape[-2:])


def cut(
    ts: Float[Array | np.ndarray, " times"],
    ys: Float[Array | np.ndarray, "*axes size"],
    segments: int,
) -> Pieces:
    """Cuts trajectories into pieces whose numbers of time intervals differ by at most one.

    Args:
        ts: Increasing times, the same for all trajectories.
        ys: One trajectory (times, size) or several (trajectories, times, size).
        segments: Number of pieces of each trajectory.

    Raises:
        ValueError: As `check_trajectories`, or if there are more segments than intervals between times.
    """
    times, states = check_trajectories(ts, ys)
    intervals = len(times) - 1
    if not 1 <= segments <= intervals:
        raise ValueError(
            f"{len(times)} times cannot be cut into {segments} segments. Use between 1 and {intervals} segments."
        )
    ends = np.arange(segments + 1) * intervals // segments
    length = np.diff(ends).max()
    rows = np.minimum(ends[:-1, None] + np.arange(length + 1), ends[1:, None])
    weights = ends[:-1, None] + np.arange(length + 1) < ends[1:, None]
    weights[-1, ends[-1] - ends[-2]] = True
    deviation = states.std((0, 1))
    return Pieces(
        ts=jnp.asarray(np.tile(times[rows], (len(states), 1)), float),
        ys=jnp.asarray(states[:, rows].reshape(-1, length + 1, states.shape[-1]), float),
        weights=jnp.asarray(np.tile(weights, (len(states), 1)), float),
        scale=jnp.asarray(np.where(deviation > 0, deviation, 1.0), float),
        trajectories=len(states),
    )


def tolerance() -> float:
    """Relative tolerance of the ODE solver: 1e-8 in float64, 1e-5 in float32.

    The absolute tolerance is the relative one times `Pieces.scale`.
    """
    return 1e-8 if jnp.zeros(()).dtype == jnp.float64 else 1e-5


def solution(field: VectorField, initial: Array, ts: Array, scale: Array) -> Array:
    """The states at the times, from the initial state at the first of them; not finite where there is no solution."""
    path = dfx.diffeqsolve(
        dfx.ODETerm(field),
        dfx.Tsit5(),
        ts[0],
        ts[-1],
        None,
        initial,
        saveat=dfx.SaveAt(ts=ts),
        stepsize_controller=dfx.PIDController(rtol=tolerance(), atol=tolerance() * scale),
        adjoint=dfx.ForwardMode(),
        max_steps=MAX_STEPS,
        throw=False,
    ).ys
    assert path is not None
    return path


@eqx.filter_jit
def linearised(field: VectorField, initial_states: Array, pieces: Pieces) -> tuple[Array, Array]:
    """Residuals and last state of each piece, divided by the scale, and their derivatives.

    The derivatives are with respect to the constants, then the initial state of the piece.
    """
    count = field.constants.shape[0]

    def residual(unknowns: Array, ts: Array, ys: Array, weights: Array) -> tuple[Array, Array]:
        here = eqx.tree_at(lambda one: one.constants, field, unknowns[:count])
        path = solution(here, unknowns[count:], ts, pieces.scale)
        errors = (path - ys) / pieces.scale[None] * weights[:, None]
        rows = jnp.concatenate((errors.reshape(-1), path[-1] / pieces.scale))
        return rows, rows

    def one(initial: Array, ts: Array, ys: Array, weights: Array) -> tuple[Array, Array]:
        unknowns = jnp.concatenate((field.constants, initial))
        slopes, value = jax.jacfwd(residual, has_aux=True)(unknowns, ts, ys, weights)
        return value, slopes

    return jax.vmap(one)(initial_states, pieces.ts, pieces.ys, pieces.weights)


class _Point:
    """The least-squares problem linearised at given constants and initial states."""

    def __init__(self, field: VectorField, constants: np.ndarray, states: np.ndarray, pieces: Pieces, weight: float):
        """Solves all pieces."""
        dtype, size = pieces.ys.dtype, states.shape[1]
        here = eqx.tree_at(lambda one: one.constants, field, jnp.asarray(constants, dtype))
        found = linearised(here, jnp.asarray(states, dtype), pieces)
        rows, slopes = (np.asarray(part, np.float64) for part in found)
        self.constants, self.initial_states, self._scale = constants, states, np.asarray(pieces.scale, np.float64)
        self.weight = weight
        self._last = np.arange(1, len(states) + 1) % (len(states) // pieces.trajectories) == 0
        self.errors, self._slopes = rows[:, :-size], np.where(np.isfinite(slopes), slopes, 0.0)
        following = np.roll(states, -1, axis=0) / self._scale
        self._gaps = np.where(self._last[:, None], 0.0, weight * (rows[:, -size:] - following))
        squares = float(np.sum(self.errors**2) + np.sum(self._gaps**2))
        self.squares = squares if np.isfinite(squares) else np.inf

    def reduced(self) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Residual, its derivatives in the constants, and the triangular blocks for `initial_states_for`.

        The initial states are eliminated one after the other. Each elimination is a QR decomposition of the rows that
        contain the state, with columns in the order (this state, next state, constants, residual). The first rows of R
        are the triangular block of the state.
        """
        size, count = self.initial_states.shape[1], len(self.constants)
        rest, triangles = [], []
        carried = np.zeros((0, size + count + 1))
        for rows, gaps, slopes, last in zip(self.errors, self._gaps, self._slopes, self._last, strict=True):
            by_constants, by_start = slopes[:, :count], slopes[:, count:]
            block = np.zeros((len(rows) + len(gaps) + len(carried), 2 * size + count + 1))
            block[: len(rows), :size], block[: len(rows), 2 * size : -1] = by_start[:-size], by_constants[:-size]
            block[: len(rows), -1] = rows
            if not last:
                link = slice(len(rows), len(rows) + size)
                block[link, :size] = self.weight * by_start[-size:]
                block[link, 2 * size : -1] = self.weight * by_constants[-size:]
                block[link, size : 2 * size], block[link, -1] = -self.weight * np.diag(1 / self._scale), gaps
            below = block[len(rows) + size :]
            below[:, :size], below[:, 2 * size :] = carried[:, :size], carried[:, size:]
            triangle = np.asarray(np.linalg.qr(block, mode="r"))
            triangles.append(triangle[:size])
            triangle = triangle[size:]
            kept = 0 if last else size
            carried = triangle[:kept, size:]
            rest.append(triangle[kept:, 2 * size :])
        rows = np.concatenate(rest)
        return rows[:, -1], rows[:, :-1], triangles

    def initial_states_for(self, step: np.ndarray, triangles: list[np.ndarray]) -> np.ndarray:
        """The initial states that minimise the linearised problem when the constants change by `step`."""
        size = self.initial_states.shape[1]
        initial_states, change = self.initial_states.copy(), np.zeros(size)
        for k in reversed(range(len(triangles))):
            one = triangles[k]
            right = one[:, size : 2 * size] @ change + one[:, 2 * size : -1] @ step + one[:, -1]
            change = -np.linalg.lstsq(one[:, :size], right, rcond=None)[0]
            initial_states[k] += change  # the gap of the previous piece contains this change
        return initial_states


def fit_constants(
    field: VectorField,
    pieces: Pieces,
    *,
    free: Bool[np.ndarray, " constants"] | None = None,
    initial_states: Float[np.ndarray, "pieces size"] | None = None,
    prior: Prior | None = None,
) -> FittedConstants:
    """Fits the constants of a field and the initial states of the pieces to data by least squares.

    Multiple shooting (Bock, 1983) with Levenberg-Marquardt steps. The sum of squares contains the errors and the gaps
    between pieces; the weight of the gaps grows until the pieces join to one solution. Derivatives are exact, by
    forward mode through the solver. A step is rejected if it does not lower the sum of squares, or if the equation
    cannot be solved after it.

    Args:
        field: The right-hand side, whose constants are the first guess.
        pieces: The data.
        free: Which constants may change; by default all.
        initial_states: The initial states of an earlier fit, whose pieces already join; by default those of the data.
        prior: The prior of the constants; by default none.
    """
    constants = np.asarray(field.constants, np.float64)
    prior = prior or Prior(constants, np.zeros(len(constants)))
    free = np.ones(len(constants), bool) if free is None else free
    apart = initial_states is None and len(pieces.ts) > pieces.trajectories
    initial_states = np.asarray(pieces.ys[:, 0], np.float64) if initial_states is None else initial_states
    *softer, last = _CONTINUITY
    for weight in softer if apart else ():
        point = _descended(_Point(field, constants, initial_states, pieces, weight), field, pieces, free, prior)
        constants, initial_states = point.constants, point.initial_states
    point = _descended(_Point(field, constants, initial_states, pieces, last), field, pieces, free, prior)
    residual, jacobian, _ = point.reduced()
    size = initial_states.shape[1]
    times = int(np.sum(np.asarray(pieces.weights)))
    noise = np.sqrt(np.sum(point.errors.reshape(-1, size) ** 2, axis=0) / times) * np.asarray(pieces.scale, np.float64)
    fitted = (point.constants, point.initial_states, point.squares)
    return FittedConstants(*fitted, residual, jacobian, noise, times * size)


def _descended(point: _Point, field: VectorField, pieces: Pieces, free: np.ndarray, prior: Prior) -> _Point:
    """Levenberg-Marquardt steps from a point. The damping of each constant is scaled by the norm of its column."""
    damping, iteration = 1e-3, 0
    held = np.sum(prior.rows(point.constants) ** 2)
    while iteration < _MAX_ITERATIONS and damping < _MAX_DAMPING and 0 < point.squares < np.inf:
        iteration += 1
        residual, jacobian, triangles = point.reduced()
        residual = np.concatenate((residual, prior.rows(point.constants)))
        jacobian = np.concatenate((jacobian, np.diag(prior.weights)))
        active, squares = jacobian[:, free], point.squares + held
        lengths = np.linalg.norm(active, axis=0)
        rows = np.concatenate((active, np.diag(np.sqrt(damping) * np.where(lengths > 0, lengths, 1.0))))
        step = np.zeros(len(free))
        step[free] = np.linalg.lstsq(rows, -np.concatenate((residual, np.zeros(len(lengths)))), rcond=None)[0]
        if squares - np.sum((residual + jacobian @ step) ** 2) < _CONVERGED * squares:
            break
        trial = _Point(field, point.constants + step, point.initial_states_for(step, triangles), pieces, point.weight)
        further = np.sum(prior.rows(trial.constants) ** 2)
        if trial.squares + further < squares:
            point, held, damping = trial, further, max(damping / 10, _LEAST_DAMPING)
        else:
            damping *= 10
    return point
