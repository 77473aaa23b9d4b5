"""Constants of a system refined on trajectories."""

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
    """A system with other constants, and the error of its solutions before and after.

    Attributes:
        system: The system.
        before: Root mean square error of the given system's solutions in standard deviations of each component, with
            the best initial states; infinite if it could not be solved.
        after: The same of the new system, never above `before`.
        noise: Root mean square error of each component in its own unit.
        starts: The states of the new system's solutions at the first time, one for each trajectory.
        errors: Standard errors of the constants if the errors are independent; not finite for a constant that the
            data do not determine.
    """

    system: System
    before: float
    after: float
    noise: Float[np.ndarray, " size"]
    starts: Float[np.ndarray, "trajectories size"]
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
    """The system with the `Real` constants whose solutions fit the data best, in the sense of least squares.

    Initial states are fitted as well. Long oscillating or chaotic trajectories need several `segments`, short enough
    that the given system follows the data within each; see `fit_constants`. Structure and integers stay as they are.

    Args:
        system: With constants near the right ones.
        ts: Increasing times.
        ys: One trajectory, or several at these times.
        variables: Names of the components of a state; `u_0`, `u_1`, ... unless given.
        segments: Number of pieces of each trajectory that are solved from starts of their own, and joined in the end.
        spread: Standard deviation of the relative errors of the given constants, if they have one: the fit is then the
            most probable one, and constants that the data hardly determine stay near the given ones. The deviation of
            the data's errors is that of the fit without it, for each component. None trusts the data alone, and takes
            errors to be in proportion to the deviations of the components.

    Returns:
        The refined system, or the given one if no better constants were found.

    Raises:
        ValueError: If the data are not finite or not increasing in time, if a trajectory cannot be cut so, if the
            system has placeholders, other variables, or another number of components than the data, or if the spread
            is not positive.
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
    starts = best.starts.reshape(pieces.trajectories, -1, best.starts.shape[1])[:, 0]
    errors = standard_errors(best.jacobian, best.squares, best.count)
    return Refined(new, before, min(before, after), best.noise, starts, errors)


def _rms(fitted: FittedConstants, pieces: Pieces) -> float:
    """Root mean square error in standard deviations of each component, infinite if there is no solution."""
    if not np.isfinite(fitted.squares):
        return np.inf
    return float(np.sqrt(np.mean((fitted.noise / np.asarray(pieces.scale)) ** 2)))


def _deviations(fitted: FittedConstants, pieces: Pieces) -> Float[Array, " size"]:
    """Of the data's errors, from those of a fit; not below a hundredth of the largest, all in units of the scale."""
    scale = np.asarray(pieces.scale, np.float64)
    unknowns = len(fitted.constants) + fitted.starts[:: len(fitted.starts) // pieces.trajectories].size
    relative = fitted.noise / scale * np.sqrt(fitted.count / max(1, fitted.count - unknowns))
    return jnp.asarray(scale * np.maximum(relative, max(1e-2 * relative.max(), tolerance())), pieces.scale.dtype)


def standard_errors(
    jacobian: Float[np.ndarray, "rows constants"], squares: float, count: int
) -> Float[np.ndarray, " constants"]:
    """Roots of the diagonal of s^2 (J^T J)^-1 with s^2 = squares / (count - constants)."""
    lengths = np.linalg.norm(jacobian, axis=0)
    if not np.all(lengths > 0) or not np.isfinite(squares) or count <= len(lengths):
        return np.full(len(lengths), np.inf)
    inverse = np.linalg.pinv(jacobian / lengths)
    return np.linalg.norm(inverse, axis=1) / lengths * np.sqrt(squares / (count - len(lengths)))
