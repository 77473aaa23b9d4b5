"""Continuous paths through irregularly sampled series with missing values: the controls of neural CDEs."""

import functools
from collections.abc import Callable
from typing import final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from sciml.nde._solve.checks import require


@final
class Control(eqx.Module):
    """A path that drives a controlled differential equation, with the data that its solver needs.

    Attributes:
        path: The path. Its first channel is time, unless it is a path of log-signatures.
        start: The first row (t, x) of the series, from which a neural CDE computes its initial state.
        knots: Increasing parameter values of the path at which the states are returned, such as the observation times.
        corners: Parameter values at which the derivative of a piecewise linear path jumps; None for smooth paths.
    """

    path: dfx.AbstractPath
    start: Float[Array, " row"]
    knots: Float[Array, " knots"]
    corners: Float[Array, " corners"] | None


Interpolation = Callable[[Float[Array, " times"], Float[Array, "times channels"]], Control]
"""`(ts, xs) -> Control`; NaN in `xs` means missing."""


def linear_control(ts: Float[Array, " times"], xs: Float[Array, "times channels"]) -> Control:
    """Linear interpolation between the observations of each channel.

    A channel is constant before its first and after its last observation. A row of NaN only does not change the path.

    Raises:
        ValueError: If there are fewer than two times, if they do not increase, or if a channel has no observation
            (a runtime error where the arrays are traced).
    """
    ts, rows = _rows(ts, xs)
    return Control(dfx.LinearInterpolation(ts, dfx.linear_interpolation(ts, rows)), rows[0], ts, ts)


def hermite_control(ts: Float[Array, " times"], xs: Float[Array, "times channels"]) -> Control:
    """Cubic Hermite splines with backward differences: the slope at an observation is that of the chord before it.

    The path up to a time depends only on the observations up to the next one. A channel that is missing at the first
    (last) time takes its first (last) observation there. Other missing values do not add a knot to the spline of their
    channel; `diffrax.backward_hermite_coefficients` adds one, so that its slope jumps at the end of a gap.

    Source: Morrill, Kidger, Yang, Lyons 2021, arXiv:2106.11028.

    Raises:
        ValueError: As for `linear_control`.
    """
    return _spline(_backward, ts, xs)


def natural_cubic_control(ts: Float[Array, " times"], xs: Float[Array, "times channels"]) -> Control:
    r"""Natural cubic splines through the observations of each channel: C^2, with zero curvature at both ends.

    With spacings :math:`h_j`, slopes :math:`s_j` of the chords and second derivatives :math:`M_j` at the observations,

    .. math::  h_{j-1} M_{j-1} + 2 (h_{j-1} + h_j) M_j + h_j M_{j+1} = 6 (s_j - s_{j-1}), \qquad M_0 = M_m = 0.

    Each channel has its own system, since the missing values differ between channels. The whole path depends on every
    observation. A channel that is missing at the first (last) time takes its first (last) observation there.

    Raises:
        ValueError: As for `linear_control`.
    """
    return _spline(_natural, ts, xs)


def rectilinear_control(ts: Float[Array, " times"], xs: Float[Array, "times channels"]) -> Control:
    """Rectilinear path for online prediction: time advances with the data held constant, then the data are updated.

    No value is used before it was observed. The path is parametrised by 0, 1, ..., 2 n - 2 for n rows, not by time;
    row i is reached at parameter 2 i. A channel keeps its last observation until its next one. Source: Morrill,
    Kidger, Yang, Lyons 2021, arXiv:2106.11028.

    Raises:
        ValueError: In the cases of `linear_control`, and if the first row has a NaN (a runtime error if traced).
    """
    ts, xs = _complete(*check_series(ts, xs))
    message = (
        "Expected a complete first row, since a rectilinear path does not look ahead, got NaN in it. "
        "Put a value known in advance there, such as the mean over the data set."
    )
    xs = require(xs, ~jnp.any(jnp.isnan(xs[0])), message)
    times, values = dfx.rectilinear_interpolation(ts, xs)
    rows = _with_time(times, values)
    parameter = jnp.arange(rows.shape[0], dtype=ts.dtype)
    return Control(dfx.LinearInterpolation(parameter, rows), rows[0], parameter[::2], parameter)


def filled(ts: Float[Array, " times"], xs: Float[Array, "times channels"]) -> Float[Array, "times row"]:
    """The rows (t, x) of a series, with missing values filled as in `linear_control`.

    Raises:
        ValueError: As for `linear_control`.
    """
    ts, rows = _rows(ts, xs)
    return dfx.linear_interpolation(ts, rows)


def _rows(ts: Array, xs: Array) -> tuple[Array, Array]:
    """Times and rows (t, x), with missing values of the first and last row filled by the nearest observation."""
    ts, xs = _complete(*check_series(ts, xs))
    seen = ~jnp.isnan(xs)
    first = jnp.argmax(seen, axis=0)
    last = xs.shape[0] - 1 - jnp.argmax(seen[::-1], axis=0)
    ends = [jnp.take_along_axis(xs, index[None], axis=0)[0] for index in (first, last)]
    return ts, _with_time(ts, xs.at[0].set(ends[0]).at[-1].set(ends[1]))


def _with_time(ts: Array, xs: Array) -> Array:
    return jnp.concatenate([ts.astype(xs.dtype)[:, None], xs], axis=1)


def check_series(
    ts: Float[Array, " times"], xs: Float[Array, "rows channels"]
) -> tuple[Float[Array, " times"], Float[Array, "rows channels"]]:
    """Times and rows of a series, if its times increase.

    Raises:
        ValueError: If there are fewer than two times, not one row for each, or times that do not increase (a runtime
            error if traced).
    """
    if ts.shape[0] < 2 or xs.shape[0] != ts.shape[0]:
        raise ValueError(
            f"Expected at least two times and one row for each, got {ts.shape[0]} times and rows of shape {xs.shape}. "
            "A series is (times, channels); map batches by jax.vmap."
        )
    order = "Expected strictly increasing times, got a time not after the one before it. Sort the rows and join equals."
    return require(ts, jnp.all(ts[1:] > ts[:-1]), order), xs


def _complete(ts: Array, xs: Array) -> tuple[Array, Array]:
    empty = (
        "Expected an observation in each channel, got a channel of nothing but NaN. "
        "Drop the channel, or put a value such as the mean over the data set into its first row."
    )
    return ts, require(xs, jnp.all(jnp.any(~jnp.isnan(xs), axis=0)), empty)


def _spline(fit: Callable[[Array, Array, Array], tuple[Array, Array, Array]], ts: Array, xs: Array) -> Control:
    ts, rows = _rows(ts, xs)
    coefficients = jax.vmap(functools.partial(_coefficients, fit), in_axes=(None, 1), out_axes=1)(ts, rows)
    return Control(dfx.CubicInterpolation(ts, coefficients), rows[0], ts, None)


def _coefficients(
    fit: Callable[[Array, Array, Array], tuple[Array, Array, Array]], ts: Array, values: Array
) -> tuple[Array, Array, Array, Array]:
    """Coefficients of the powers 3, 2, 1, 0 of t - ts[i] on each interval of `ts`, for one channel with gaps.

    `fit` computes the coefficients of the powers 1, 2, 3 between observations from the spacings, the slopes of the
    chords and the number of observations; entries of spacings and slopes beyond that number are padding.
    """
    seen = ~jnp.isnan(values)
    count = jnp.sum(seen)
    # Sorting the observations to the front keeps array sizes fixed under jit.
    order = jnp.argsort(~seen, stable=True)
    index = jnp.arange(ts.shape[0])
    t, y = ts[order], jnp.where(index < count, values[order], 0)
    between = index[1:] < count
    h = jnp.where(between, t[1:] - t[:-1], 1)
    slope = jnp.where(between, (y[1:] - y[:-1]) / h, 0)
    # Take the cubic of the observed interval that contains each interval of ts, expanded about the start of the latter.
    piece = jnp.cumsum(seen)[:-1] - 1
    a, b, c, d = (values[piece] for values in (y[:-1], *fit(h, slope, count)))
    x = ts[:-1] - t[piece]
    return d, c + 3 * d * x, b + x * (2 * c + 3 * d * x), a + x * (b + x * (c + d * x))


def _backward(h: Array, slope: Array, count: Array) -> tuple[Array, Array, Array]:
    start = jnp.concatenate([slope[:1], slope[:-1]])
    return start, 2 * (slope - start) / h, (start - slope) / h**2


def _natural(h: Array, slope: Array, count: Array) -> tuple[Array, Array, Array]:
    index = jnp.arange(h.shape[0] + 1)
    inner = (index > 0) & (index < count - 1)  # all other rows of the system are rows of the identity
    pad = jnp.zeros(1, h.dtype)
    left, right = jnp.concatenate([pad, h]), jnp.concatenate([h, pad])
    bend = jnp.concatenate([slope, pad]) - jnp.concatenate([pad, slope])
    system = lx.TridiagonalLinearOperator(
        jnp.where(inner, 2 * (left + right), 1), jnp.where(inner[1:], h, 0), jnp.where(inner[:-1], h, 0)
    )
    curve = lx.linear_solve(system, jnp.where(inner, 6 * bend, 0), lx.Tridiagonal()).value
    return slope - h * (2 * curve[:-1] + curve[1:]) / 6, curve[:-1] / 2, (curve[1:] - curve[:-1]) / (6 * h)
