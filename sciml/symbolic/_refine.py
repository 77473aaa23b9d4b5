"""Constants of a system refined on trajectories."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from sciml.symbolic._evaluate import with_parameters
from sciml.symbolic._shooting import Prior, cut, fit_constants
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
        errors: Standard errors of the constants if the errors are independent; not finite for a constant that the
            data do not determine.
    """

    system: System
    before: float
    after: float
    noise: Float[np.ndarray, " size"]
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
            the data's errors is that of the fit without it. None trusts the data alone.

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
        deviation = np.sqrt(found.squares / max(1, found.count - len(centre) - found.starts.size))
        known = Prior(centre, deviation / (spread * np.where(centre == 0, 1.0, np.abs(centre))))
        found = fit_constants(field, pieces, prior=known)
    best = found if found.squares < given.squares else given
    rms = lambda fitted: float(np.sqrt(fitted.squares / fitted.count))
    new = with_parameters(system, best.constants) if best is found else tuple(system)
    return Refined(new, rms(given), rms(best), best.noise, standard_errors(best.jacobian, best.squares, best.count))


def standard_errors(
    jacobian: Float[np.ndarray, "rows constants"], squares: float, count: int
) -> Float[np.ndarray, " constants"]:
    """Roots of the diagonal of s^2 (J^T J)^-1 with s^2 = squares / (count - constants)."""
    lengths = np.linalg.norm(jacobian, axis=0)
    if not np.all(lengths > 0) or not np.isfinite(squares) or count <= len(lengths):
        return np.full(len(lengths), np.inf)
    inverse = np.linalg.pinv(jacobian / lengths)
    return np.linalg.norm(inverse, axis=1) / lengths * np.sqrt(squares / (count - len(lengths)))
