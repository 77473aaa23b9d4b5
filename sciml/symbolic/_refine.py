"""Fits the constants of a system to trajectories."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.symbolic._evaluate import with_parameters
from sciml.symbolic._shooting import FittedConstants, Pieces, Prior, cut, fit_constants, tolerance
from sciml.symbolic._tree import AbstractExpression, System
from sciml.symbolic._vector_field import VectorField


class Refined(NamedTuple):
    """A system with fitted constants, and the errors of its solutions before and after the fit.

    Attributes:
        system: The system with fitted constants.
        before: Root mean square error of the given system's solutions, in standard deviations of each component, with
            the best initial conditions; infinite if the given system could not be solved.
        after: The same error of the fitted system, never above `before`.
        noise: Root mean square error of each component, in the unit of the component.
        initial_conditions: The states of the fitted system's solutions at the first time, one for each trajectory.
        errors: Standard errors of the constants, if the errors of the data are independent; not finite for a constant
            that the data do not determine.
    """

    system: System
    before: float
    after: float
    noise: Float[np.ndarray, " size"]
    initial_conditions: Float[np.ndarray, "trajectories size"]
    errors: Float[np.ndarray, " constants"]


def refine(
    system: Sequence[AbstractExpression],
    ts: Float[Array | np.ndarray, " times"],
    ys: Float[Array | np.ndarray, "*axes size"],
    *,
    variables: Sequence[str] | None = None,
    segments: int = 1,
    spread: float | None = None,
) -> Refined:
    """Fits the `Real` constants of a system and the initial conditions to trajectories, by least squares.

    Long oscillating or chaotic trajectories need several `segments`: each must be so short that the solution of the
    given system stays near the data. See `fit_constants`. Structure and integers stay as they are.

    Args:
        system: The system, whose constants are the first guess.
        ts: Increasing times.
        ys: One trajectory, or several, at these times.
        variables: Names of the components of a state; `u_0`, `u_1`, ... unless given.
        segments: Number of pieces of each trajectory. Each piece first has its own initial state; at the end of the fit
            the pieces join to one solution.
        spread: Standard deviation of the relative errors of the given constants, or None. With a number the fit has a
            normal prior around the given constants, so that constants that the data hardly determine stay near them;
            a first fit without the prior estimates the noise of each component. With None there is no prior, and the
            noise of each component is taken to be proportional to its standard deviation.

    Returns:
        The fitted system, or the given one if the fit finds no better constants.

    Raises:
        ValueError: If states are not finite or times do not increase, if there are more segments than intervals between
            times, if the system has placeholders, unknown variables, or another number of components than the data, or
            if the spread is not positive.
    """
    if spread is not None and not spread > 0:
        raise ValueError(f"Expected a positive spread or None, got {spread}.")
    field = VectorField(system, variables)
    pieces = cut(ts, ys, segments)
    if len(field.structure) != pieces.ys.shape[-1]:
        raise ValueError(
            f"Expected states of {len(field.structure)} components, one per equation, got {pieces.ys.shape[-1]}."
        )
    given = fit_constants(field, pieces, free=np.zeros(field.constants.shape[0], bool))
    found = fit_constants(field, pieces)
    if spread is not None and np.isfinite(found.squares):
        centre = np.asarray(field.constants, np.float64)
        weighted = eqx.tree_at(lambda one: one.scale, pieces, _deviations(found, pieces))
        known = Prior(centre, 1 / (spread * np.where(centre == 0, 1.0, np.abs(centre))))
        found = fit_constants(field, weighted, prior=known)
    before, after = _rms(given, pieces), _rms(found, pieces)
    best = found if after < before else given
    new = with_parameters(system, best.constants) if best is found else tuple(system)
    states = best.initial_states
    initial_conditions = states.reshape(pieces.trajectories, -1, states.shape[1])[:, 0]
    errors = standard_errors(best.jacobian, best.squares, best.count)
    return Refined(new, before, min(before, after), best.noise, initial_conditions, errors)


def _rms(fitted: FittedConstants, pieces: Pieces) -> float:
    """Root mean square error in standard deviations of each component, infinite if there is no solution."""
    if not np.isfinite(fitted.squares):
        return np.inf
    return float(np.sqrt(np.mean((fitted.noise / np.asarray(pieces.scale)) ** 2)))


def _deviations(fitted: FittedConstants, pieces: Pieces) -> Float[Array, " size"]:
    """Standard deviation of the noise of each component, estimated from the errors of a fit.

    At least a hundredth of the largest deviation, both relative to the scale.
    """
    scale = np.asarray(pieces.scale, np.float64)
    unknowns = len(fitted.constants) + pieces.trajectories * fitted.initial_states.shape[1]
    relative = fitted.noise / scale * np.sqrt(fitted.count / max(1, fitted.count - unknowns))
    return jnp.asarray(scale * np.maximum(relative, max(1e-2 * relative.max(), tolerance())), pieces.scale.dtype)


def standard_errors(
    jacobian: Float[np.ndarray, "rows constants"], squares: float, count: int
) -> Float[np.ndarray, " constants"]:
    """Square roots of the diagonal of s^2 (J^T J)^-1 with s^2 = squares / (count - constants)."""
    lengths = np.linalg.norm(jacobian, axis=0)
    if not np.all(lengths > 0) or not np.isfinite(squares) or count <= len(lengths):
        return np.full(len(lengths), np.inf)
    inverse = np.linalg.pinv(jacobian / lengths)
    return np.linalg.norm(inverse, axis=1) / lengths * np.sqrt(squares / (count - len(lengths)))
