"""Sparse linear regression for the right-hand side of a differential equation."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import Bool, Float
from scipy.interpolate import CubicSpline

THRESHOLDS = tuple(float(value) for value in np.geomspace(1e-3, 1.0, 31))


def thresholded_least_squares(
    matrix: Float[np.ndarray, "rows terms"], target: Float[np.ndarray, " rows"], threshold: float
) -> Float[np.ndarray, " terms"]:
    """Sequentially thresholded least squares (SINDy): solve, set small terms to zero, and repeat until none is small.

    A term is small if the norm of its column times its coefficient is below `threshold` times the norm of the target,
    so that the result does not depend on the unit of a term.

    Source: Brunton, Proctor, Kutz, "Discovering governing equations from data by sparse identification of nonlinear
    dynamical systems", PNAS 113 (2016), supporting information 2; there the threshold applies to the coefficients.

    Raises:
        ValueError: If there are fewer rows than terms.
    """
    rows, terms = matrix.shape
    if rows < terms:
        raise ValueError(f"{terms} terms cannot be told apart by {rows} equations. Use more data or fewer terms.")
    lengths = np.linalg.norm(matrix, axis=0)
    scaled = matrix / np.where(lengths > 0, lengths, 1.0)
    kept, found = lengths > 0, np.zeros(terms)
    for _ in range(terms + 1):
        found = np.zeros(terms)
        found[kept] = np.linalg.lstsq(scaled[:, kept], target, rcond=None)[0]
        large = kept & (np.abs(found) >= threshold * np.linalg.norm(target)) & (found != 0)
        if np.array_equal(large, kept):
            break
        kept = large
    return found / np.where(lengths > 0, lengths, 1.0)


def information(squares: float, count: int, terms: int, floor: float = 0.0) -> float:
    """Bayesian information criterion (BIC) of a fit with independent normal errors (Schwarz, 1978); lower is better.

    Args:
        squares: Sum of squared errors.
        count: Number of data.
        terms: Number of fitted constants.
        floor: Root mean square error below which errors are ignored, such as rounding errors.
    """
    return count * float(np.log(squares / count + floor**2)) + terms * float(np.log(count))


def sparse_regression(
    matrix: Float[np.ndarray, "rows terms"], target: Float[np.ndarray, " rows"], thresholds: Sequence[float]
) -> Float[np.ndarray, " terms"]:
    """Thresholded least squares with the threshold of the lowest information criterion.

    Raises:
        ValueError: If there are fewer rows than terms, or no threshold.
    """
    if not thresholds:
        raise ValueError("Expected at least one threshold, got none.")
    unit = np.sqrt(np.mean(target**2)) or 1.0
    found = [thresholded_least_squares(matrix, target, threshold) for threshold in thresholds]
    criterion = lambda x: information(
        float(np.sum(((target - matrix @ x) / unit) ** 2)), len(target), int(np.count_nonzero(x)), 1e-8
    )
    return min(found, key=criterion)


def stepwise_regression(
    matrix: Float[np.ndarray, "rows terms"],
    target: Float[np.ndarray, " rows"],
    present: Bool[np.ndarray, " terms"] | None = None,
    *,
    count: int | None = None,
    floor: float = 1e-8,
) -> Float[np.ndarray, " terms"]:
    """Stepwise least squares: single changes of the set of terms, as long as they lower the information criterion.

    A change adds a term, drops a term, or replaces one by another. Replacements are needed because terms may be nearly
    dependent, such as cubic terms on one closed orbit; without them, the two searches ended in different sets. One
    search starts from no terms and one from `present`; the better result is returned.

    Args:
        matrix: One column per term.
        target: Right-hand side.
        present: The terms that the second search starts from; all terms unless given.
        count: Number of independent data; the number of rows unless given.
        floor: Root mean square error below which errors are ignored, relative to that of the target.
    """
    rows, terms = matrix.shape
    number = rows if count is None else count
    triangle = np.asarray(np.linalg.qr(np.concatenate((matrix, target[:, None]), axis=1), mode="r"))
    unit = np.linalg.norm(triangle[:, -1]) / np.sqrt(number) or 1.0

    def criterion(kept: np.ndarray) -> float:
        index = np.append(np.flatnonzero(kept), terms)
        last = np.asarray(np.linalg.qr(triangle[:, index], mode="r"))
        left = last[-1, -1] / unit if len(last) == len(index) else 0.0
        return information(float(left**2), number, int(kept.sum()), floor)

    def descended(kept: np.ndarray) -> tuple[float, np.ndarray]:
        best = criterion(kept)
        while True:
            moves = [kept ^ change for change in _moves(kept)]
            tried = [criterion(move) for move in moves]
            if not min(tried) < best:
                return best, kept
            best, kept = min(tried), moves[int(np.argmin(tried))]

    starts = (np.zeros(terms, bool), np.ones(terms, bool) if present is None else present)
    _, kept = min((descended(start) for start in starts), key=lambda pair: pair[0])
    found = np.zeros(terms)
    found[kept] = np.linalg.lstsq(triangle[:, :-1][:, kept], triangle[:, -1], rcond=None)[0]
    return found


def _moves(kept: np.ndarray) -> list[np.ndarray]:
    """Masks of the terms that each possible change flips: one for an addition or removal, two for a replacement."""
    unit = np.eye(len(kept), dtype=bool)
    swaps = [unit[i] | unit[j] for i in np.flatnonzero(kept) for j in np.flatnonzero(~kept)]
    return [*unit, *swaps]


Times = Float[np.ndarray, " times"]
States = Float[np.ndarray, "trajectories times size"]
Terms = Float[np.ndarray, "trajectories times terms"]
Linear = tuple[Float[np.ndarray, "rows terms"], Float[np.ndarray, "rows size"]]


class AbstractEquations(abc.ABC):
    """Makes linear equations for the coefficients of the terms from the states. Subclasses are frozen dataclasses."""

    @abc.abstractmethod
    def __call__(self, ts: Times, ys: States, terms: Terms) -> Linear:
        """The matrix (rows, terms) and the right-hand sides (rows, size), one column for each component."""


@final
@dataclasses.dataclass(frozen=True)
class WeakForm(AbstractEquations):
    r"""Weak form of the equation: :math:`-\int \varphi' u\,dt = \sum_j \xi_j \int \varphi\,\theta_j(u)\,dt`.

    No derivative of the data is taken. The test functions are :math:`\varphi = (1 - s^2)^p`, with s from -1 to 1 on a
    window of 2 `half_width` + 1 times; neighbouring windows are `half_width` // 4 times apart (at least one). Integrals
    are those of cubic splines, so that times need not be equally spaced.

    Source: Messenger, Bortz, "Weak SINDy: Galerkin-based data-driven model selection", Multiscale Modeling &
    Simulation 19 (2021), arXiv:2005.04339, section 3.

    Attributes:
        half_width: Half of the window length, in sampling intervals; at most a quarter of the trajectory.
        power: Exponent p of the test functions.
    """

    half_width: int = 10
    power: int = 4

    def __call__(self, ts: Times, ys: States, terms: Terms) -> Linear:
        """As in `AbstractEquations`."""
        half = max(2, min(self.half_width, (len(ts) - 1) // 4))
        rows, targets = [], []
        for centre in range(half, len(ts) - half, max(1, half // 4)):
            window = slice(centre - half, centre + half + 1)
            times = ts[window]
            first, last = times[0], times[-1]
            s = (2 * times - first - last) / (last - first)
            bump = (1 - s**2) ** self.power
            slope = -2 * self.power * s * (1 - s**2) ** (self.power - 1) * 2 / (last - first)
            integral = lambda values, times=times: np.asarray(CubicSpline(times, values).integrate(times[0], times[-1]))
            for states, columns in zip(ys, terms, strict=True):
                rows.append(integral(bump[:, None] * columns[window]))
                targets.append(integral(-slope[:, None] * states[window]))
        return np.array(rows).reshape(-1, terms.shape[-1]), np.array(targets).reshape(-1, ys.shape[-1])


WEAK_FORM = WeakForm()


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Derivatives(AbstractEquations):
    """Pointwise equations with given derivatives: the sum of the terms equals dy/dt at the times of the data.

    Attributes:
        values: The derivatives dy/dt, of the same shape as the states.
    """

    values: Float[np.ndarray, "*trajectories times size"]

    def __call__(self, ts: Times, ys: States, terms: Terms) -> Linear:
        """As in `AbstractEquations`.

        Raises:
            ValueError: If the derivatives do not have the size of the states, or are not finite.
        """
        values = np.asarray(self.values, np.float64)
        if values.size != ys.size or values.shape[-1] != ys.shape[-1] or not np.all(np.isfinite(values)):
            raise ValueError(
                f"Expected finite derivatives at all states, that is of shape {ys.shape}, got {values.shape}. "
                "Leave out the times where they are not known."
            )
        return terms.reshape(-1, terms.shape[-1]), values.reshape(-1, ys.shape[-1])
