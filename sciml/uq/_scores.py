"""How good an ensemble is as a forecast of probabilities: CRPS, spread against error, ranks of the truth."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.uq._conformal import checked

Members = Float[np.ndarray | Array, "samples members ..."]
Truth = Float[np.ndarray | Array, "samples ..."]


def crps(members: Float[Array, "members *shape"], truth: Float[Array, "..."]) -> Float[Array, "*shape"]:
    """Continuous ranked probability score of an ensemble, for one sample: E|X - y| - E|X - X'| / 2, each value alone.

    X and X' are drawn from the members with repetition, so that it is the score of the empirical distribution. It is in
    the units of the field, zero at best, and |x - y| for one member. It can be differentiated.

    Source: Gneiting, Raftery, "Strictly proper scoring rules, prediction, and estimation", JASA 2007, equation (21).
    """
    return _crps(members, truth, members.shape[0] ** 2)


def fair_crps(members: Float[Array, "members *shape"], truth: Float[Array, "..."]) -> Float[Array, "*shape"]:
    """As `crps`, with pairs of different members in E|X - X'|.

    Its mean does not depend on the number of members if these are draws from one distribution; it may be negative.

    Source: Ferro, "Fair scores for ensemble forecasts", 2014, equation (4).

    Raises:
        ValueError: If there is one member alone.
    """
    count = members.shape[0]
    if count < 2:
        raise ValueError("Expected 2 members or more for the fair CRPS, got 1. Use crps.")
    return _crps(members, truth, count * (count - 1))


def _crps(members: Array, truth: Array, pairs: int) -> Array:
    """The sum of |x_i - x_j| over all pairs is 2 sum_i (2 i - K + 1) x_(i) of the sorted members, i from 0."""
    members, truth = jnp.asarray(members), jnp.asarray(truth)
    if members.shape[1:] != truth.shape:
        raise ValueError(
            f"Expected members (members, *shape) of the truth's shape {truth.shape}, got {members.shape}. "
            "Use jax.vmap for a batch."
        )
    count = members.shape[0]
    weights = (2.0 * jnp.arange(count, dtype=members.dtype) - (count - 1)).reshape(-1, *(1,) * truth.ndim)
    between = 2 * jnp.sum(weights * jnp.sort(members, axis=0), axis=0) / pairs
    return jnp.mean(jnp.abs(members - truth[None]), axis=0) - between / 2


def spread(members: Members, *, floor: float = 0.0) -> Float[np.ndarray, "samples ..."]:
    """Standard deviation over the members (n - 1), the scale of `conformal` for ensembles.

    Args:
        members: Predictions of each member.
        floor: Part of the root mean square of the deviation over a sample that is added at all of its values, so that
            the scale is nowhere zero. Any floor keeps the coverage; it changes the width.

    Raises:
        ValueError: If there are fewer than 2 members, or one is not finite; it names sample and member.
    """
    found = checked_members(members)
    deviation = found.std(axis=1, ddof=1)
    size = np.sqrt(np.mean(deviation**2, axis=tuple(range(1, deviation.ndim)), keepdims=True))
    return deviation + floor * size


def spread_skill(members: Members, truth: Truth) -> float:
    """sqrt((K + 1) / K mean variance) / RMSE of the mean of K members: 1 for members that are drawn as the truth is.

    Below 1 the ensemble is too sure of itself.

    Source: Fortin et al., "Why should ensemble spread match the RMSE of the ensemble mean?", 2014, equation (15).

    Raises:
        ValueError: As `spread`.
    """
    found, true = _both(members, truth)
    count = found.shape[1]
    variance = (count + 1) / count * found.var(axis=1, ddof=1).mean()
    return float(np.sqrt(variance / np.mean((found.mean(axis=1) - true) ** 2)))


def rank_histogram(members: Members, truth: Truth) -> Float[np.ndarray, " ranks"]:
    """Part of all values at which the truth has so many members below it, 0 to K: flat if it is drawn as they are.

    Ends that are high belong to an ensemble that is too narrow. A tie with e members counts equally to the e + 1 ranks
    that are possible.

    Source: Hamill, "Interpretation of rank histograms for verifying ensemble forecasts", 2001.

    Raises:
        ValueError: As `spread`.
    """
    found, true = _both(members, truth)
    below = (found < true[:, None]).sum(axis=1)
    ties = (found == true[:, None]).sum(axis=1)
    counts = np.zeros(found.shape[1] + 1)
    for more in range(int(ties.max()) + 1):
        here = ties >= more
        counts += np.bincount(below[here] + more, 1 / (ties[here] + 1), minlength=len(counts))
    return counts / true.size


def checked_members(members: Members) -> np.ndarray:
    """Members as float64, two or more of each sample, all finite.

    Raises:
        ValueError: If there are too few, or one is not finite; it names sample and member.
    """
    found = np.asarray(members, np.float64)
    if found.ndim < 3 or found.shape[1] < 2:
        raise ValueError(
            f"Expected members (samples, members, ...), 2 of each sample or more, got the shape {found.shape}. "
            "train.predict(ensemble.members, x) has this layout."
        )
    bad = np.argwhere(~np.isfinite(found.reshape(*found.shape[:2], -1)).all(axis=2))
    if bad.size:
        raise ValueError(
            f"Expected finite members, got NaN or infinity in member {bad[0][1]} of sample {bad[0][0]}, "
            f"{len(bad)} in all. Leave a member that diverges out for all samples."
        )
    return found


def _both(members: Members, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    found, true = checked_members(members), checked(truth, "true fields")
    if (len(found), *found.shape[2:]) != true.shape:
        raise ValueError(
            f"Expected true fields (samples, ...) of the members' shape without members, got {true.shape} for "
            f"{found.shape}."
        )
    return found, true


def coverage(low: Truth, high: Truth, truth: Truth) -> float:
    """Part of all values that lie between two bounds: the coverage of single values, not of whole fields.

    Of a band that holds at all values at once it is larger than its level.

    Raises:
        ValueError: If a bound or the truth is not finite; it names the sample.
    """
    below, above, true = checked(low, "lower bounds"), checked(high, "upper bounds"), checked(truth, "true fields")
    return float(np.mean((below <= true) & (true <= above)))
