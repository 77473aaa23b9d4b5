"""Neural rough differential equations: the log-ODE method on windows of a series."""

from collections.abc import Callable
from typing import Any, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml.nde._cde.control import Control, filled
from sciml.nde._cde.logsignature import Word, factors, logsignature_size, lyndon_words, window_logsignatures


@final
class LogSignatureControl(eqx.Module):
    """Interpolation for `NeuralCDE`: a piecewise linear path whose increments are log-signatures over windows.

    On each window the path is a straight line, whose increment is the log-signature of (t, x) with missing values
    filled linearly. The solver thus takes few steps over many observations. The knots are the first time and the ends
    of the windows.

    With any field of shape (hidden, `channels`) this is the neural rough differential equation of Morrill, Salvi,
    Kidger, Foster, Lyons 2021, arXiv:2009.08295. With a `LieBracketField` it is the log-ODE method for a field that has
    one column for each channel of (t, x).

    Attributes:
        depth: Depth at which log-signatures are truncated; depth 1 gives the increments of (t, x).
        window: Number of increments of the series in one window.
    """

    depth: int = eqx.field(static=True)
    window: int = eqx.field(static=True)

    def channels(self, series: int) -> int:
        """Number of channels of the path for a series with `series` channels, time not counted."""
        return logsignature_size(series + 1, self.depth)

    def __call__(self, ts: Float[Array, " times"], xs: Float[Array, "times channels"]) -> Control:
        """The path of the series.

        Raises:
            ValueError: In the cases of `linear_control`, and if depth or window is not positive.
        """
        rows = filled(ts, xs)
        increments = window_logsignatures(rows, self.depth, self.window)
        ends = np.minimum(np.arange(increments.shape[0] + 1) * self.window, ts.shape[0] - 1)
        start = jnp.zeros((1, increments.shape[1]), rows.dtype)
        path = jnp.concatenate([start, jnp.cumsum(increments, axis=0)])
        return Control(dfx.LinearInterpolation(ts[ends], path), rows[0], ts[ends], ts[ends])


@final
class LieBracketField(eqx.Module):
    r"""The columns of a matrix field and their iterated Lie brackets, in the order of `lyndon_words`.

    The columns :math:`f_1, \ldots, f_c` of the field are vector fields. The column of a Lyndon word is the bracket of
    the columns of its two `factors`, with :math:`[g, h] = Dh \, g - Dg \, h`. The matrix times a log-signature is the
    vector field whose flow over unit time is the log-ODE step of :math:`dz = f(z) \, dX`. Derivatives are computed in
    forward mode, nested depth - 1 times. Source: Walker, McLeod, Qin, Cheng, Li, Lyons 2024 (Log-NCDE),
    arXiv:2402.18512, for depths up to 2 and with a regularised network; here regularisation is left to the caller.

    Attributes:
        field: `(t, z, args) -> (hidden, channels)`; twice differentiable for depth 3, once for depth 2.
        channels: Number of columns of the field: the channels of (t, x).
        depth: Depth of the log-signatures.
    """

    field: Callable[[Any, Array, Any], Array]
    channels: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)

    def __call__(self, t: Any, z: Float[Array, " hidden"], args: Any) -> Float[Array, "hidden size"]:
        """The matrix with one column for each Lyndon word.

        Raises:
            ValueError: If the field has another number of columns.
        """
        columns = self.field(t, z, args)
        if columns.shape[1:] != (self.channels,):
            raise ValueError(
                f"Expected a field of shape (hidden, {self.channels}), got {columns.shape}. "
                "Give it one column for each channel of the series and one for time."
            )
        brackets = [self._level(k, t, z, args) for k in range(2, self.depth + 1)]
        return jnp.concatenate([columns, *brackets], axis=1)

    def _level(self, length: int, t: Any, z: Array, args: Any) -> Array:
        """Columns of the words of one length."""
        if length == 1:
            return self.field(t, z, args)
        pairs = [factors(word) for word in _words(self.channels, length)]
        brackets, order = [], []
        for cut in sorted({len(u) for u, _ in pairs}):
            here = [i for i, (u, _) in enumerate(pairs) if len(u) == cut]
            left, right = _words(self.channels, cut), _words(self.channels, length - cut)
            us = np.array([left.index(pairs[i][0]) for i in here])
            vs = np.array([right.index(pairs[i][1]) for i in here])
            g, h = (lambda z, k=k: self._level(k, t, z, args) for k in (cut, length - cut))
            brackets.append(_along(h, z, g(z))[:, vs, us] - _along(g, z, h(z))[:, us, vs])
            order += here
        return jnp.concatenate(brackets, axis=1)[:, np.argsort(order)]


def _words(channels: int, length: int) -> list[Word]:
    return [word for word in lyndon_words(channels, length) if len(word) == length]


def _along(field: Callable[[Array], Array], z: Array, directions: Array) -> Array:
    """Derivatives of a matrix field along the columns of `directions`; the last axis of the result is the column."""
    return jax.vmap(lambda d: jax.jvp(field, (z,), (d,))[1], in_axes=1, out_axes=2)(directions)
