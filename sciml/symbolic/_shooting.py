"""Constants of a right-hand side from trajectories: least squares over the solutions, by Levenberg-Marquardt."""

from typing import NamedTuple, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from sciml.symbolic._vector_field import VectorField

MAX_STEPS = 4096  # of the solver on one piece
_MAX_ITERATIONS = 50
_LEAST_DAMPING, _MAX_DAMPING = 1e-8, 1e8
_CONVERGED = 1e-9  # decrease of the sum of squares that the linearised problem promises, relative to it
# Weights of the gaps between pieces against errors of data, one after the other: with the last one alone, Lorenz'
# equations with constants wrong by 10 to 20 % were not found from pieces of half a time unit, with all three they were.
_CONTINUITY = (1.0, 30.0, 1000.0)


@final
class Pieces(eqx.Module):
    """Trajectories in pieces that are solved from starts of their own; each ends where the next one starts.

    Attributes:
        ts: Times; a shorter piece repeats its last.
        ys: Data.
        weights: 1 for the data that count in this piece, 0 for those of the next one.
        scale: Standard deviation of each component over all data, 1 for a constant one: the unit of residuals.
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

    With the starts eliminated, the sum of squares at constants c + d is |residual + jacobian @ d|^2 to second order.

    Attributes:
        constants: The constants c.
        starts: The first state of each piece.
        squares: Sum of squares of the errors in units of `Pieces.scale` and of the weighted gaps; infinite if the first
            constants could not be solved with.
        residual: Its rows without what the starts can change.
        jacobian: Their derivatives in all constants, those that were held fixed among them.
        noise: Root mean square of the errors of each component, in its own unit.
        count: Number of data.
    """

    constants: Float[np.ndarray, " constants"]
    starts: Float[np.ndarray, "pieces size"]
    squares: float
    residual: Float[np.ndarray, " rows"]
    jacobian: Float[np.ndarray, "rows constants"]
    noise: Float[np.ndarray, " size"]
    count: int


class Prior(NamedTuple):
    """What is known of the constants: the sum of `(weights (constants - centre))^2` is added to that of the squares.

    `weights` is the deviation of the data's errors in units of `Pieces.scale`, divided by that of each constant.
    """

    centre: Float[np.ndarray, " constants"]
    weights: Float[np.ndarray, " constants"]

    def rows(self, constants: Float[np.ndarray, " constants"]) -> Float[np.ndarray, " constants"]:
        """Its residual."""
        return self.weights * (constants - self.centre)


def check_trajectories(
    ts: Float[Array | np.ndarray, " times"], ys: Float[Array | np.ndarray, "*axes size"]
) -> tuple[Float[np.ndarray, " times"], Float[np.ndarray, "trajectories times size"]]:
    """The times and the trajectories in double precision, with an axis for several of them.

    Raises:
        ValueError: If the times do not increase, or anything is not finite or of another length.
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
    """Trajectories cut into pieces whose lengths differ by one interval at most.

    Args:
        ts: Increasing times, the same for all trajectories.
        ys: One trajectory or several.
        segments: Number of pieces of each trajectory.

    Raises:
        ValueError: If the data are not such, or if a piece would be empty.
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
    """Relative tolerance of the solves, and with the scale the absolute one: 1e-8 in float64, 1e-5 in float32."""
    return 1e-8 if jnp.zeros(()).dtype == jnp.float64 else 1e-5


@eqx.filter_jit
def _linearised(field: VectorField, starts: Array, pieces: Pieces) -> tuple[Array, Array]:
    """Residuals of all pieces and their ends in units of the scale, and the derivatives in constants and start."""
    count = field.constants.shape[0]
    controller = dfx.PIDController(rtol=tolerance(), atol=tolerance() * pieces.scale)

    def residual(unknowns: Array, ts: Array, ys: Array, weights: Array) -> tuple[Array, Array]:
        term = dfx.ODETerm(eqx.tree_at(lambda one: one.constants, field, unknowns[:count]))
        path = dfx.diffeqsolve(
            term,
            dfx.Tsit5(),
            ts[0],
            ts[-1],
            None,
            unknowns[count:],
            saveat=dfx.SaveAt(ts=ts),
            stepsize_controller=controller,
            adjoint=dfx.ForwardMode(),
            max_steps=MAX_STEPS,
            throw=False,
        ).ys
        assert path is not None
        errors = (path - ys) / pieces.scale[None] * weights[:, None]
        rows = jnp.concatenate((errors.reshape(-1), path[-1] / pieces.scale))
        return rows, rows

    def one(start: Array, ts: Array, ys: Array, weights: Array) -> tuple[Array, Array]:
        unknowns = jnp.concatenate((field.constants, start))
        slopes, value = jax.jacfwd(residual, has_aux=True)(unknowns, ts, ys, weights)
        return value, slopes

    return jax.vmap(one)(starts, pieces.ts, pieces.ys, pieces.weights)


class _Point:
    """The least-squares problem linearised at constants and starts."""

    def __init__(self, field: VectorField, constants: np.ndarray, starts: np.ndarray, pieces: Pieces, weight: float):
        """Solves all pieces."""
        dtype, size = pieces.ys.dtype, starts.shape[1]
        here = eqx.tree_at(lambda one: one.constants, field, jnp.asarray(constants, dtype))
        found = _linearised(here, jnp.asarray(starts, dtype), pieces)
        rows, slopes = (np.asarray(part, np.float64) for part in found)
        self.constants, self.starts, self._scale = constants, starts, np.asarray(pieces.scale, np.float64)
        self.weight = weight
        self._last = np.arange(1, len(starts) + 1) % (len(starts) // pieces.trajectories) == 0
        self.errors, self._slopes = rows[:, :-size], np.where(np.isfinite(slopes), slopes, 0.0)
        following = np.roll(starts, -1, axis=0) / self._scale
        self._gaps = np.where(self._last[:, None], 0.0, weight * (rows[:, -size:] - following))
        squares = float(np.sum(self.errors**2) + np.sum(self._gaps**2))
        self.squares = squares if np.isfinite(squares) else np.inf

    def reduced(self) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Residual and derivatives in the constants with the starts eliminated, and what brings the starts back.

        Starts are eliminated one after the other by orthogonal triangulation of the rows that contain them, columns
        in the order: this start, the next start, the constants, the residual.
        """
        size, count = self.starts.shape[1], len(self.constants)
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

    def starts_for(self, step: np.ndarray, triangles: list[np.ndarray]) -> np.ndarray:
        """The starts at the minimum of the linearised problem when the constants have moved by `step`."""
        size = self.starts.shape[1]
        starts, change = self.starts.copy(), np.zeros(size)
        for k in reversed(range(len(triangles))):
            one = triangles[k]
            right = one[:, size : 2 * size] @ change + one[:, 2 * size : -1] @ step + one[:, -1]
            change = -np.linalg.lstsq(one[:, :size], right, rcond=None)[0]
            starts[k] += change  # and enters the equations of the piece before
        return starts


def fit_constants(
    field: VectorField,
    pieces: Pieces,
    *,
    free: Bool[np.ndarray, " constants"] | None = None,
    starts: Float[np.ndarray, "pieces size"] | None = None,
    prior: Prior | None = None,
) -> FittedConstants:
    """The constants of a field, and the starts, with the least squares between its solutions and the data.

    Multiple shooting (Bock, 1983) by Levenberg-Marquardt: the squares are those of the errors and of the gaps between
    pieces, with a weight that grows until the pieces are one solution. Derivatives are exact, by forward mode through
    the solver. Steps with which the equation cannot be solved are refused as those are that do not lower the sum.

    Args:
        field: With first values of its constants.
        pieces: The data.
        free: Which constants may change; all unless given.
        starts: Those of an earlier fit, that is of pieces that join already; the data unless given.
        prior: What the constants are held to; nothing unless given.
    """
    constants = np.asarray(field.constants, np.float64)
    prior = prior or Prior(constants, np.zeros(len(constants)))
    free = np.ones(len(constants), bool) if free is None else free
    apart = starts is None and len(pieces.ts) > pieces.trajectories
    starts = np.asarray(pieces.ys[:, 0], np.float64) if starts is None else starts
    *softer, last = _CONTINUITY
    for weight in softer if apart else ():
        point = _descended(_Point(field, constants, starts, pieces, weight), field, pieces, free, prior)
        constants, starts = point.constants, point.starts
    point = _descended(_Point(field, constants, starts, pieces, last), field, pieces, free, prior)
    residual, jacobian, _ = point.reduced()
    size = starts.shape[1]
    times = int(np.sum(np.asarray(pieces.weights)))
    noise = np.sqrt(np.sum(point.errors.reshape(-1, size) ** 2, axis=0) / times) * np.asarray(pieces.scale, np.float64)
    return FittedConstants(point.constants, point.starts, point.squares, residual, jacobian, noise, times * size)


def _descended(point: _Point, field: VectorField, pieces: Pieces, free: np.ndarray, prior: Prior) -> _Point:
    """The point at the end of Levenberg-Marquardt's steps, with damping in proportion to the columns' lengths."""
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
        trial = _Point(field, point.constants + step, point.starts_for(step, triangles), pieces, point.weight)
        further = np.sum(prior.rows(trial.constants) ** 2)
        if trial.squares + further < squares:
            point, held, damping = trial, further, max(damping / 10, _LEAST_DAMPING)
        else:
            damping *= 10
    return point
