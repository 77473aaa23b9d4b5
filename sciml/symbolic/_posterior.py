"""How well data determine the constants of a system, and a forecast by it: the Laplace approximation at the fit."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float

from sciml.symbolic._evaluate import with_parameters
from sciml.symbolic._refine import refine
from sciml.symbolic._shooting import Pieces, Prior, cut, fit_constants, linearised, solution
from sciml.symbolic._tree import AbstractExpression, System
from sciml.symbolic._vector_field import VectorField


class Posterior(NamedTuple):
    """A normal distribution of the constants of a system and of its initial state, and the noise of the data.

    Attributes:
        system: The system with the most probable constants.
        initial_condition: The most probable state at the first time.
        covariance: Of the constants, then of the initial state.
        noise: Standard deviation of the noise of each component.
        freedom: Degrees of freedom of an estimated noise: number of data minus number of unknowns. Infinite if the
            noise was given. Intervals are those of Student's t distribution.
        start: The first time.
        variables: Names of the components of a state.
    """

    system: System
    initial_condition: Float[np.ndarray, " size"]
    covariance: Float[np.ndarray, "unknowns unknowns"]
    noise: Float[np.ndarray, " size"]
    freedom: float
    start: float
    variables: tuple[str, ...]

    @property
    def constants(self) -> Float[np.ndarray, " constants"]:
        """The most probable constants."""
        return np.asarray(self._field.constants, np.float64)

    @property
    def deviations(self) -> Float[np.ndarray, " constants"]:
        """Standard deviation of each constant."""
        return np.sqrt(np.diagonal(self.covariance))[: len(self.constants)]

    @property
    def _field(self) -> VectorField:
        return VectorField(self.system, self.variables)

    def interval(self, level: float = 0.9) -> tuple[Float[np.ndarray, " constants"], Float[np.ndarray, " constants"]]:
        """Lower and upper ends of the interval that contains each constant with a probability."""
        half = self.quantile(level) * self.deviations
        return self.constants - half, self.constants + half

    def quantile(self, level: float) -> float:
        """How many standard deviations on either side contain a probability.

        Raises:
            ValueError: If the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise ValueError(f"Expected a level between 0 and 1, such as 0.9, got {level}.")
        return float(scipy.stats.t.ppf((1 + level) / 2, self.freedom))


class Band(NamedTuple):
    """A forecast with intervals, at each time and for each component.

    Attributes:
        states: The solution with the most probable constants and initial state.
        low: Lower end of the interval of the true solution.
        high: Upper end of it.
        observed_low: Lower end of the interval of a new observation, with its noise.
        observed_high: Upper end of it.
    """

    states: Float[np.ndarray, "times size"]
    low: Float[np.ndarray, "times size"]
    high: Float[np.ndarray, "times size"]
    observed_low: Float[np.ndarray, "times size"]
    observed_high: Float[np.ndarray, "times size"]


def posterior(
    system: Sequence[AbstractExpression],
    ts: Float[Array | np.ndarray, " times"],
    ys: Float[Array | np.ndarray, "*axes size"],
    *,
    noise: float | Float[np.ndarray, " size"] | None = None,
    variables: Sequence[str] | None = None,
    segments: int = 1,
    spread: float | None = None,
) -> Posterior:
    """The Laplace approximation of the constants and the initial state at their fit to a trajectory.

    The noise is additive, normal and independent, with one deviation s for each component. After `refine`, the squares
    are weighted by 1 / s^2 and minimised again; there the covariance is `(J^T S^-1 J + P)^-1`, the inverse Gauss-Newton
    Hessian, with J the derivatives of the solution through the solver and P the prior of `spread`. Nonlinearity in the
    range of the deviations, other noise, and a wrong structure of the equations are not in it. Use float64.

    Args:
        system: As in `refine`; its constants are the first guess.
        ts: Increasing times.
        ys: One trajectory at these times.
        noise: Standard deviation of the noise, one for all components or one for each; None estimates it.
        variables: As in `refine`.
        segments: As in `refine`.
        spread: As in `refine`: a normal prior around the given constants.

    Raises:
        ValueError: As `refine`, or if there are several trajectories, the noise is not positive, there are no more data
            than unknowns, or the system cannot be solved.
    """
    states = np.asarray(ys, np.float64)
    if states.ndim != 2:
        raise ValueError(f"Expected one trajectory (times, size), got {states.shape}. Call once for each trajectory.")
    if noise is not None and not np.all(np.asarray(noise) > 0):
        raise ValueError(f"Expected noise with a positive standard deviation, got {noise}. Use None to estimate it.")
    fit = refine(system, ts, states, variables=variables, segments=segments, spread=spread)
    given, field = np.asarray(VectorField(system, variables).constants, np.float64), VectorField(fit.system, variables)
    freedom = states.size - len(given) - states.shape[1]
    if noise is None and freedom < 1:
        raise ValueError(
            f"Expected more data than unknowns, got {states.size} numbers for {states.size - freedom}. Give the noise."
        )
    estimated = lambda rms: np.maximum(rms * np.sqrt(states.size / freedom), 1e-12 * np.abs(states).max())
    level = np.broadcast_to(np.asarray(estimated(fit.noise) if noise is None else noise, np.float64), states.shape[1:])
    weights = np.zeros(len(given)) if spread is None else 1 / (spread * np.where(given == 0, 1, np.abs(given)))
    scaled = lambda pieces: eqx.tree_at(lambda one: one.scale, pieces, jnp.asarray(level, pieces.ys.dtype))
    found = fit_constants(field, scaled(cut(ts, states, segments)), prior=Prior(given, weights))
    initial = found.initial_states[0]
    here = eqx.tree_at(lambda one: one.constants, field, jnp.asarray(found.constants, field.constants.dtype))
    jacobian = _slopes(here, initial, scaled(cut(ts, states, 1)))[1]
    if not (np.isfinite(found.squares) and np.isfinite(jacobian).all()):
        raise ValueError(
            "Expected a system that can be solved over all times, got one that cannot be. Use others, or fewer times."
        )
    rows = np.concatenate((jacobian, np.pad(np.diag(weights), ((0, 0), (0, len(initial))))))
    level = estimated(found.noise) if noise is None else level
    new = with_parameters(fit.system, found.constants)
    start = float(np.asarray(ts)[0])
    degrees = np.inf if noise is not None else float(freedom)
    return Posterior(new, initial, _inverse_square(rows), np.asarray(level), degrees, start, field.variables)


def _slopes(field: VectorField, initial: np.ndarray, pieces: Pieces) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the solution at all times, in units of the scale, and their derivatives in the unknowns."""
    size = len(initial)
    rows, slopes = linearised(field, jnp.asarray(initial, pieces.ys.dtype)[None], pieces)
    return np.asarray(rows[0, :-size], np.float64), np.asarray(slopes[0, :-size], np.float64)


def _inverse_square(rows: np.ndarray) -> np.ndarray:
    """`(rows^T rows)^-1`; large numbers, not an error, for what the rows do not determine."""
    lengths = np.linalg.norm(rows, axis=0)
    lengths = np.where(lengths > 0, lengths, np.finfo(float).tiny ** 0.25)
    _, values, vectors = np.linalg.svd(rows / lengths, full_matrices=False)
    scaled = vectors.T / np.maximum(values, np.finfo(float).eps) / lengths[:, None]
    return scaled @ scaled.T


def linearised_band(found: Posterior, times: Float[Array | np.ndarray, " times"], *, level: float = 0.9) -> Band:
    """A forecast whose intervals come from the solution's derivatives in constants and initial state.

    Exact where the solution is linear in them over the range of their deviations; `sampled_band` needs no such range.

    Raises:
        ValueError: If times do not increase from the first time of the data, the level is not between 0 and 1.
    """
    field, whole, initial = found._field, _times(found, times), found.initial_condition
    pieces = cut(whole, np.zeros((len(whole), len(initial))), 1)
    rows, slopes = _slopes(field, initial, pieces)
    states = rows.reshape(len(whole), -1)
    variances = np.einsum("ri,ij,rj->r", slopes, found.covariance, slopes).reshape(states.shape)
    variances = np.maximum(variances, 0)  # rounding, where constants are hardly determined
    half = found.quantile(level) * np.sqrt(variances)
    observed = found.quantile(level) * np.sqrt(variances + found.noise**2)
    band = (states, states - half, states + half, states - observed, states + observed)
    return Band(*(one[-len(times) :] for one in band))


def sampled_band(
    found: Posterior, times: Float[Array | np.ndarray, " times"], *, level: float = 0.9, draws: int = 500, seed: int = 0
) -> Band:
    """A forecast whose intervals are quantiles of the solutions for draws of constants and initial state.

    A draw whose solution does not exist counts as infinite, on either side, so that an end may be infinite.

    Args:
        found: The posterior.
        times: Increasing times after the first one of the data.
        level: Probability of an interval.
        draws: Number of draws.
        seed: Of the draws.

    Raises:
        ValueError: If times do not increase from the first time of the data, the level is not between 0 and 1.
    """
    found.quantile(level)  # refuses a wrong level
    field, whole, rng = found._field, _times(found, times), np.random.default_rng(seed)
    centre = np.concatenate((found.constants, found.initial_condition))
    wider = 1.0 if np.isinf(found.freedom) else np.sqrt(found.freedom / rng.chisquare(found.freedom, (draws, 1)))
    noisy = wider * rng.multivariate_normal(np.zeros(len(centre)), found.covariance, draws, method="svd")
    paths = np.array(_paths(field, jnp.asarray(np.vstack((centre, centre + noisy))), jnp.asarray(whole)))[
        :, -len(times) :
    ]
    states, paths = paths[0], paths[1:]
    observed = paths + found.noise * np.reshape(wider, (-1, 1, 1)) * rng.normal(size=paths.shape)

    def ends(values: np.ndarray) -> list[np.ndarray]:
        below, above = (np.where(np.isfinite(values), values, end) for end in (-np.inf, np.inf))
        shares = (1 - level) / 2, (1 + level) / 2
        return [np.quantile(one, q, axis=0, method="nearest") for one, q in zip((below, above), shares, strict=True)]

    return Band(states, *ends(paths), *ends(observed))


def _times(found: Posterior, times: Float[Array | np.ndarray, " times"]) -> np.ndarray:
    """The times, with the first one of the data in front."""
    given = np.asarray(times, np.float64)
    whole = given if len(given) > 1 and given[0] == found.start else np.concatenate(([found.start], given))
    if len(whole) < 2 or not np.all(np.diff(whole) > 0):
        raise ValueError(f"Expected times that increase from {found.start:g}, the first one of the data, got {given}.")
    return whole


@eqx.filter_jit
def _paths(field: VectorField, unknowns: Array, ts: Array) -> Array:
    count, scale = field.constants.shape[0], jnp.ones(unknowns.shape[1] - field.constants.shape[0], unknowns.dtype)

    def path(one: Array) -> Array:
        here = eqx.tree_at(lambda field: field.constants, field, one[:count])
        return solution(here, one[count:], ts, scale)

    return jax.vmap(path)(unknowns)
